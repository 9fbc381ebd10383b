//! A directory that fuse-overlayfs wrote its changes to, brought into the form of layers.
//!
//! It marks opaque directories by files (`.wh..wh..opq`, and a whiteout of that name), whiteouts by
//! character devices or, where it may not make those, by files (`.wh.NAME`), and keeps notes in
//! attributes of its own. It also marks directories as opaque that hide nothing; layers of equal steps
//! are to be equal bytes, so those marks are only taken off.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::sys::copy::set_times;
use crate::sys::dir::{DirStack, read_dir};
use crate::sys::root_dir::{fstat, open_no_follow, stat_at};
use crate::sys::upper::{MARK_PREFIX, make_opaque, make_whiteout};
use crate::sys::xattr::{self, Target};
use crate::sys::{OverlayXattrs, RootDir, Stat};

use super::LayerError;
use super::points::take_off;
use super::root::mark_name;
use super::stamps::push_name;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);
/// What the names of its marks of opaque directories start with, after which comes `opq`.
const OPAQUE: [&[u8]; 2] = [b".wh..wh..opq", b".wh..opq"];
/// What the names of its own attributes start with.
const OWN_XATTRS: &[u8] = b"user.fuseoverlayfs.";

/// Brings an upper directory of fuse-overlayfs, which has ended, into the form of a layer.
///
/// `base` is a view of the layers beneath. Mount points (`points`, outer ones first) that were made
/// through it are taken off, and the directories that are there for their sake alone.
pub fn from_fuse_overlayfs(
    upper: &RootDir,
    base: &RootDir,
    form: OverlayXattrs,
    points: &[PathBuf],
) -> Result<(), LayerError> {
    let mut path = Vec::new();
    let marks = Marks { base, form };
    marks.walk(upper, &mut path).map_err(|error| LayerError::file("read", &path)(error))?;
    // Only now: a mark in a mount point would have it look used.
    let folders = take_off(upper, points)?;
    for folder in folders {
        let mut at = Path::new(OsStr::from_bytes(&folder));
        while !at.as_os_str().is_empty() {
            let taken = marks.leave_out(upper, at);
            if !taken.map_err(LayerError::file("leave out", at.as_os_str().as_bytes()))? {
                break;
            }
            at = at.parent().unwrap_or(Path::new(""));
        }
    }
    Ok(())
}

struct Marks<'a> {
    base: &'a RootDir,
    form: OverlayXattrs,
}

struct Level {
    entries: std::vec::IntoIter<(OsString, FileType)>,
    stat: Stat,
    /// Whether lower layers have it, and show in it.
    merged: bool,
    path_length: usize,
}

impl Marks<'_> {
    fn walk(&self, upper: &RootDir, path: &mut Vec<u8>) -> io::Result<()> {
        let top = open_no_follow(upper.fd(), ".", DIRECTORY, Mode::empty())?;
        let mut levels = vec![self.level(&top, None, path)?];
        let mut stack = DirStack::new(top)?;
        while let Some(level) = levels.last_mut() {
            path.truncate(level.path_length);
            let Some((name, kind)) = level.entries.next() else {
                // Taking marks off and putting others on moved it.
                set_times(stack.current(), level.stat.mtime_seconds, level.stat.mtime_nanos)?;
                levels.pop();
                stack.pop()?;
                continue;
            };
            push_name(path, &name);
            let parent_is_merged = level.merged;
            if kind == FileType::Directory {
                let below = open_no_follow(stack.current(), &name, DIRECTORY, Mode::empty())?;
                levels.push(self.level(&below, Some(parent_is_merged), path)?);
                stack.push(below)?;
            } else {
                self.file(stack.current(), &name, kind)?;
            }
        }
        Ok(())
    }

    /// Enters a directory, whose parent is merged or not; the top has none.
    fn level(&self, dir: &OwnedFd, parent_is_merged: Option<bool>, path: &[u8]) -> io::Result<Level> {
        let stat = fstat(dir)?;
        let mut entries = read_dir(dir)?;
        let mut opaque = self.take_xattrs(xattr::of(dir), parent_is_merged.is_none())?;
        for mark in OPAQUE.map(OsStr::from_bytes) {
            match rustix::fs::unlinkat(dir, mark, AtFlags::empty()) {
                Ok(()) => opaque = true,
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        entries.retain(|(name, _)| !OPAQUE.contains(&name.as_bytes()));
        let merged = match parent_is_merged {
            None => true,
            Some(false) => false,
            Some(true) => {
                let below = self.base.try_stat(Path::new(OsStr::from_bytes(path)), false)?;
                let merged = !opaque && below.is_some_and(|stat| stat.is_dir());
                if below.is_some() && !merged {
                    make_opaque(dir, self.form)?;
                }
                merged
            }
        };
        Ok(Level { entries: entries.into_iter(), stat, merged, path_length: path.len() })
    }

    /// Takes its own attributes off; tells whether one marked an opaque directory.
    fn take_xattrs(&self, of: Target<'_>, is_top: bool) -> io::Result<bool> {
        let mut opaque = false;
        for name in xattr::list(of)? {
            let ours = is_top && name == mark_name(self.form).as_bytes();
            if ours || !(name.starts_with(OWN_XATTRS) || xattr::is_overlay(&name)) {
                continue;
            }
            opaque |= name.ends_with(b".opaque") && xattr::get(of, &name)?.is_some_and(|v| v == b"y");
            xattr::remove(of, &name)?;
        }
        Ok(opaque)
    }

    fn file(&self, dir: BorrowedFd<'_>, name: &OsStr, kind: FileType) -> io::Result<()> {
        if name.as_bytes().starts_with(MARK_PREFIX) {
            let hidden = OsStr::from_bytes(&name.as_bytes()[MARK_PREFIX.len()..]);
            rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
            return match make_whiteout(dir, hidden, self.form) {
                // A file of the name is there again.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                other => other,
            };
        }
        if kind == FileType::RegularFile {
            let file = open_no_follow(dir, name, OFlags::RDONLY, Mode::empty())?;
            self.take_xattrs(Target::Fd(file.as_fd()), false)?;
        }
        Ok(())
    }

    /// Removes an empty directory that is as the one beneath; tells whether it did.
    fn leave_out(&self, upper: &RootDir, path: &Path) -> io::Result<bool> {
        let metadata = |s: &Stat| (s.mode, s.uid, s.gid, s.mtime_seconds, s.mtime_nanos);
        let (Some(here), Some(below)) = (upper.try_stat(path, false)?, self.base.try_stat(path, false)?)
        else {
            return Ok(false);
        };
        if !here.is_dir() || !below.is_dir() || metadata(&here) != metadata(&below) {
            return Ok(false);
        }
        let (folder, name) = upper.parent_and_name(path)?;
        let folder = open_no_follow(&folder, ".", DIRECTORY, Mode::empty())?;
        let times = stat_at(&folder, ".")?;
        match rustix::fs::unlinkat(&folder, &name, AtFlags::REMOVEDIR) {
            Ok(()) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
        set_times(&folder, times.mtime_seconds, times.mtime_nanos)?;
        Ok(true)
    }
}
