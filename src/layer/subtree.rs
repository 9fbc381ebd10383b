//! One file or directory, wherever it is, as a tar: what `cp` moves between containers and the host.
//!
//! The same walk and the same form of tar as a layer's; the entries are below a name of the caller's choice.
//! Everything is opened relative to the directory it is in, never through a link. Not here: which file is
//! meant, and where the tar goes.

use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Mode, OFlags};

use crate::sys::dir::{DirStack, read_dir};
use crate::sys::root_dir::{fstat, open_no_follow, stat_at};
use crate::sys::{OverlayXattrs, Stat};

use super::LayerError;
use super::entry::{Entry, Kind, Sink};
use super::error::shown;
use super::tar_write::TarSink;
use super::walk::{Walk, has_gone, read_xattrs};

/// What a tar of a subtree has of its files.
#[derive(Debug, Clone, Default)]
pub struct SubtreeOptions {
    /// Leaves out what gives files rights beyond their content: devices, set-user-ID, set-group-ID, attributes
    /// of the kernel's security (`security.*`).
    pub harmless: bool,
    /// Paths below the one that is written, without leading `/`, that are written as empty directories.
    pub empty: Vec<Vec<u8>>,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Subtree {
    /// The bytes of the regular files.
    pub bytes: u64,
    /// How many devices were left out.
    pub devices: u64,
}

/// Writes `name` in the open directory `dir` as a tar, as `rename`.
///
/// A link stands for itself. `rename` is one name, or `.` for a directory whose entries are to have none above: theirs
/// begin with `./`, as tar(1) and docker have them.
pub fn write_subtree(
    dir: &OwnedFd,
    name: &OsStr,
    rename: &[u8],
    options: &SubtreeOptions,
    out: &mut impl Write,
) -> Result<Subtree, LayerError> {
    let stat = stat_at(dir, name).map_err(LayerError::file("read", name.as_bytes()))?;
    let mut sink = Renamed { tar: TarSink::new(out), options, done: Subtree::default(), pass: false };
    // No marks of layers are here: that form is the one of which the host can have none.
    let mut walk = Walk::new(OverlayXattrs::Trusted, &mut sink);
    walk.path = rename.to_vec();
    walk.changing = true;
    if stat.is_dir() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = open_no_follow(dir, name, flags, Mode::empty());
        let top = opened.map_err(LayerError::file("open", rename))?;
        tree(&mut walk, top, rename, options)?;
    } else {
        walk.file(std::os::fd::AsFd::as_fd(dir), name, stat.kind)?;
    }
    sink.tar.finish()?;
    Ok(sink.done)
}

/// A directory whose names are being written.
struct Level {
    names: std::vec::IntoIter<(std::ffi::OsString, FileType)>,
    path_length: usize,
}

fn tree<S: Sink>(
    walk: &mut Walk<'_, S>,
    top: OwnedFd,
    rename: &[u8],
    options: &SubtreeOptions,
) -> Result<(), LayerError> {
    let stat = fstat(&top).map_err(LayerError::file("read", rename))?;
    directory(walk, &top, &stat)?;
    walk.path = rename.to_vec();
    let start = rename.len() + 1;
    let level = |dir: &OwnedFd, path: &[u8]| -> Result<Level, LayerError> {
        let is_empty = options.empty.iter().any(|empty| path.get(start..) == Some(empty.as_slice()));
        let names =
            if is_empty { Vec::new() } else { read_dir(dir).map_err(LayerError::file("read", path))? };
        Ok(Level { names: names.into_iter(), path_length: path.len() })
    };
    let whole_is_empty = options.empty.iter().any(Vec::is_empty);
    let names = if whole_is_empty { Vec::new() } else { names_in(&top, rename)? };
    let mut levels = vec![Level { names: names.into_iter(), path_length: walk.path.len() }];
    let mut dirs = DirStack::new(top).map_err(LayerError::file("read", rename))?;
    while let Some(current) = levels.last_mut() {
        walk.path.truncate(current.path_length);
        let Some((name, kind)) = current.names.next() else {
            levels.pop();
            dirs.pop().map_err(LayerError::file("leave", &walk.path))?;
            continue;
        };
        walk.path.push(b'/');
        walk.path.extend_from_slice(name.as_bytes());
        if kind != FileType::Directory {
            let hidden = options.empty.iter().any(|empty| walk.path.get(start..) == Some(empty.as_slice()));
            if hidden {
                continue;
            }
            match walk.file(dirs.current(), &name, kind) {
                // It went while the directory was read.
                Err(LayerError::File { source, .. }) if has_gone(&source) => {}
                Err(LayerError::Changed { .. }) => {}
                other => drop(other?),
            }
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let below = match open_no_follow(dirs.current(), &name, flags, Mode::empty()) {
            Ok(below) => below,
            Err(error) if has_gone(&error) => continue,
            Err(error) => return Err(LayerError::file("open", &walk.path)(error)),
        };
        let stat = fstat(&below).map_err(LayerError::file("read", &walk.path))?;
        directory(walk, &below, &stat)?;
        levels.push(level(&below, &walk.path)?);
        dirs.push(below).map_err(LayerError::file("read", &walk.path))?;
    }
    Ok(())
}

/// Lists a directory; one that was removed meanwhile has nothing in it.
fn names_in(dir: &OwnedFd, path: &[u8]) -> Result<Vec<(std::ffi::OsString, FileType)>, LayerError> {
    match read_dir(dir) {
        Err(error) if has_gone(&error) => Ok(Vec::new()),
        other => other.map_err(LayerError::file("read", path)),
    }
}

fn directory<S: Sink>(walk: &mut Walk<'_, S>, dir: &OwnedFd, stat: &Stat) -> Result<(), LayerError> {
    if !stat.is_dir() {
        return Err(LayerError::Changed { path: shown(&walk.path) });
    }
    let xattrs = read_xattrs(crate::sys::xattr::of(dir), OverlayXattrs::Trusted, &walk.path)?;
    walk.emit(Kind::Directory, stat, b"", &xattrs.portable)
}

/// Writes entries, without what is not to be in the tar.
struct Renamed<'o, W> {
    tar: TarSink<W>,
    options: &'o SubtreeOptions,
    done: Subtree,
    /// Whether the current entry is left out.
    pass: bool,
}

impl<W: Write> Sink for Renamed<'_, W> {
    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), LayerError> {
        self.done.bytes += entry.size;
        let harmless = self.options.harmless;
        self.pass = harmless && matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice);
        if self.pass {
            self.done.devices += 1;
            return Ok(());
        }
        if !harmless {
            return self.tar.entry(entry);
        }
        let xattrs: Vec<_> =
            entry.xattrs.iter().filter(|(name, _)| !name.starts_with(b"security.")).cloned().collect();
        self.tar.entry(&Entry { mode: entry.mode & 0o1777, xattrs: &xattrs, ..*entry })
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        if self.pass { Ok(()) } else { self.tar.data(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn names(bytes: &[u8]) -> Vec<String> {
        let mut archive = tar::Archive::new(bytes);
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let link = entry.link_name().unwrap().map(|to| format!(" -> {}", to.display()));
            let mode = entry.header().mode().unwrap();
            format!("{} {mode:o}{}", entry.path().unwrap().display(), link.unwrap_or_default())
        });
        entries.collect()
    }

    fn check(name: &str, rename: &str, options: &SubtreeOptions, expect: &[&str]) {
        let outer = tempfile::tempdir().unwrap();
        let at = |name: &str| outer.path().join(name);
        fs::create_dir_all(at("d/sub/in")).unwrap();
        fs::write(at("d/f"), "12345").unwrap();
        fs::write(at("d/sub/g"), "1").unwrap();
        fs::hard_link(at("d/f"), at("d/sub/h")).unwrap();
        symlink("/etc/passwd", at("d/l")).unwrap();
        for (name, mode) in
            [("d", 0o755), ("d/sub", 0o755), ("d/sub/in", 0o700), ("d/f", 0o4755), ("d/sub/g", 0o600)]
        {
            fs::set_permissions(at(name), PermissionsExt::from_mode(mode)).unwrap();
        }
        let (dir, name) = match name.rsplit_once('/') {
            Some((dir, name)) => (at(dir), name),
            None => (at("."), name),
        };
        let dir = OwnedFd::from(fs::File::open(dir).unwrap());
        let mut out = Vec::new();
        write_subtree(&dir, OsStr::new(name), rename.as_bytes(), options, &mut out).unwrap();
        assert_eq!(names(&out), expect);
    }

    #[test]
    fn a_tree_is_written_under_another_name() {
        let all = SubtreeOptions::default();
        let below = [
            "x/f 4755",
            "x/l 777 -> /etc/passwd",
            "x/sub/ 755",
            "x/sub/g 600",
            "x/sub/h 4755 -> x/f",
            "x/sub/in/ 700",
        ];
        check("d", "x", &all, &[&["x/ 755"][..], &below].concat());
        let bare = [
            "./ 755",
            "./f 4755",
            "./l 777 -> /etc/passwd",
            "./sub/ 755",
            "./sub/g 600",
            "./sub/h 4755 -> ./f",
            "./sub/in/ 700",
        ];
        check("d", ".", &all, &bare);
        check("d/f", "y", &all, &["y 4755"]);
        check("d/l", "y", &all, &["y 777 -> /etc/passwd"]);
    }

    #[test]
    fn what_is_harmless_has_no_rights_of_its_own() {
        let harmless = SubtreeOptions { harmless: true, empty: vec![b"sub".to_vec()] };
        check("d", "x", &harmless, &["x/ 755", "x/f 755", "x/l 777 -> /etc/passwd", "x/sub/ 755"]);
        check("d/f", "y", &harmless, &["y 755"]);
    }
}
