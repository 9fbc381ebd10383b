//! How layers are merged on this machine, for `rbuild doctor`.
//!
//! Not here: what is tried of overlayfs (`facts`), and choosing (`store::roots`).

use std::path::Path;

use super::facts::Fact;
use crate::sys::Snapshotter;
use crate::sys::snapshotter::{find_fuse_overlayfs, is_on_overlay, takes_whiteouts};

/// Says which snapshotter builds take, and what would be faster.
///
/// `overlay_works` is what a trial on `directory`, which is on the file system of the store, came to;
/// `path` is the PATH that programs are looked for in.
pub fn snapshotter(overlay_works: bool, directory: &Path, path: &str) -> Fact {
    let fuse = find_fuse_overlayfs(path);
    let taken = match (overlay_works, &fuse) {
        (true, _) => Snapshotter::Overlay,
        (false, Ok(_)) => Snapshotter::FuseOverlayfs,
        (false, Err(_)) => Snapshotter::Copy,
    };
    let also = match &fuse {
        Ok(program) => format!("{} is there, too", program.display()),
        Err(why) => format!("no fuse-overlayfs: {why}"),
    };
    let detail = match taken {
        Snapshotter::Overlay => format!("overlay ({also})"),
        Snapshotter::FuseOverlayfs => format!("fuse-overlayfs, slower than overlay{}", because(directory)),
        Snapshotter::Copy => format!("copy, slow for large images{}; {also}", because(directory)),
    };
    let fix = match (taken, overlay_works) {
        (Snapshotter::Overlay, _) => "",
        (Snapshotter::FuseOverlayfs, _) => {
            "put the store on a volume or a local disk (`--root`, RBUILD_ROOT)"
        }
        (Snapshotter::Copy, _) => {
            "put the store on a volume or a local disk (`--root`, RBUILD_ROOT); or install the package \
             `fuse-overlayfs` and give the container the device /dev/fuse"
        }
    };
    Fact { name: "snapshotter", ok: overlay_works, detail, fix: fix.to_owned() }
}

/// Tells what is known of why overlayfs does not work.
fn because(directory: &Path) -> &'static str {
    match (is_on_overlay(directory), takes_whiteouts(directory)) {
        (true, _) => ": the store is itself on overlayfs",
        (false, Ok(false)) => ": the file system of the store takes no whiteouts",
        (false, _) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_slower_comes_with_a_fix() {
        let directory = tempfile::tempdir().unwrap();
        let check = |works: bool, word: &str| {
            let fact = snapshotter(works, directory.path(), "/no/such/path");
            assert!(fact.detail.starts_with(word), "{fact:?}");
            assert_eq!((fact.ok, fact.fix.is_empty()), (works, works), "{fact:?}");
        };
        check(true, "overlay (no fuse-overlayfs: `fuse-overlayfs` is not installed)");
        check(false, "copy, ");
    }
}
