//! Facts about the store's place: whether it can be written, its file system, what is free in it.

use std::path::Path;

use rustix::fs::{StatVfs, statfs, statvfs};

use crate::cli::units;
use crate::sandbox::facts::{Fact, Group};

/// Below this a base image alone may not fit.
const LITTLE_SPACE: u64 = 2 << 30;
/// A base image has some thousand files.
const FEW_INODES: u64 = 20_000;

/// File systems by the numbers of statfs(2), and why a store cannot be on one or goes slowly.
const FILE_SYSTEMS: [(u64, &str, Option<&str>); 12] = [
    (0xEF53, "ext4", None),
    (0x5846_5342, "xfs", None),
    (0x9123_683E, "btrfs", None),
    (0x0102_1994, "tmpfs", None),
    (0xF2F5_2010, "f2fs", None),
    (0x2FC1_2FC1, "zfs", None),
    (0xCA45_1A4E, "bcachefs", None),
    (
        0x794C_7630,
        "overlayfs",
        Some("overlays cannot lie on overlays; in a container, put the store on a volume"),
    ),
    (0x6969, "nfs", Some("overlays cannot be written over a network; name a local directory with --root")),
    (
        0xFF53_4D42,
        "cifs",
        Some("overlays cannot be written over a network; name a local directory with --root"),
    ),
    (0x6573_5546, "fuse", Some("overlays seldom work on it; name a local directory with --root")),
    (0x0102_1997, "9p", Some("overlays cannot be written over it; name a local directory with --root")),
];

/// Looks at where the store is or will be; `scratch` is the nearest directory that is there.
pub fn facts(root: &Path, scratch: &Path) -> Vec<Fact> {
    let mut facts =
        vec![directory(root, scratch).of(Group::Store, "images, layers and the cache").required()];
    if let Ok(stat) = statfs(scratch) {
        facts.push(
            file_system(stat.f_type as u64).of(Group::Store, "layers that are mounted rather than copied"),
        );
    }
    if let Ok(stat) = statvfs(scratch) {
        facts.push(space(&stat).of(Group::Store, "images, layers and the cache"));
        facts.push(inodes(&stat).of(Group::Store, "the files of images"));
    }
    facts
}

fn directory(root: &Path, scratch: &Path) -> Fact {
    let there = root == scratch;
    let detail = format!(
        "`{}`{}",
        root.display(),
        if there { "" } else { ", made by the first command that needs it" }
    );
    match tempfile::Builder::new().prefix("doctor-").tempdir_in(scratch) {
        Ok(_) => Fact::new("directory", true, detail, ""),
        Err(error) => {
            let fix = "name a directory you can write with --root, RBUILD_ROOT or `root` of `[store]` in config.toml";
            let detail = format!("`{}`: cannot write in `{}`: {error}", root.display(), scratch.display());
            Fact::new("directory", false, detail, fix)
        }
    }
}

fn file_system(number: u64) -> Fact {
    let known = FILE_SYSTEMS.iter().find(|(known, ..)| *known == number & 0xFFFF_FFFF);
    match known {
        Some((_, name, None)) => Fact::new("file system", true, *name, ""),
        Some((_, name, Some(why))) => Fact::new("file system", false, *name, *why),
        None => Fact::new(
            "file system",
            true,
            format!("of kind {number:#x}; overlayfs above says whether it will do"),
            "",
        ),
    }
}

fn space(stat: &StatVfs) -> Fact {
    let (free, all) =
        (stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize));
    if all == 0 {
        return Fact::new("free space", true, "not told by this file system", "");
    }
    let detail = format!("{} of {}", units::size(free), units::size(all));
    let fix = "make room with `rbuild system prune`, or name another place with --root";
    Fact::new("free space", free >= LITTLE_SPACE, detail, fix)
}

fn inodes(stat: &StatVfs) -> Fact {
    // btrfs and others have none to count.
    if stat.f_files == 0 {
        return Fact::new("free inodes", true, "no limit", "");
    }
    let fix = "remove small files, as those of unused images: `rbuild system prune`";
    let detail = format!("{} of {}", stat.f_favail, stat.f_files);
    Fact::new("free inodes", stat.f_favail >= FEW_INODES, detail, fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_cannot_be_written_is_missing() {
        let found = facts(Path::new("/proc/self/nothing"), Path::new("/proc/self"));
        assert!(!found[0].ok && found[0].required && found[0].fix.contains("--root"), "{found:?}");
        let here = tempfile::tempdir().unwrap();
        let found = facts(here.path(), here.path());
        assert!(found[0].ok && found[0].detail.ends_with('`'), "{found:?}");
        assert_eq!(std::fs::read_dir(here.path()).unwrap().count(), 0);
        assert_eq!(
            found.iter().map(|fact| fact.name).collect::<Vec<_>>(),
            ["directory", "file system", "free space", "free inodes"]
        );
    }

    #[test]
    fn file_systems_are_told_apart() {
        assert!(file_system(0xEF53).ok);
        assert!(file_system(0x1234_5678).ok);
        let overlay = file_system(0x794C_7630);
        assert!(!overlay.ok && overlay.fix.contains("volume"));
        assert!(!file_system(0x6969).ok);
    }
}
