//! What the files of a tree looked like at one moment, to tell later which were touched.
//!
//! A file is the same where inode, birth and change time are: every write, and every change of metadata,
//! links or name, moves the change time (inode(7)). Since that moves by ticks of a few milliseconds, reading
//! stamps ends only once the tick of the last change is over.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use crate::sys::clock::file_clock;
use crate::sys::dir::{DirStack, read_dir};
use crate::sys::root_dir::{open_no_follow, stat_at};
use crate::sys::{RootDir, Stat};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// One file as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    pub stat: Stat,
    /// Its birth, where the file system knows.
    born: Option<(i64, u32)>,
    /// Of a directory: what was in it, sorted.
    pub names: Vec<Box<[u8]>>,
}

impl Stamp {
    /// Tells whether another is of the very same file, whatever became of it.
    pub fn is_same_file(&self, other: &Stamp) -> bool {
        let identity = |stamp: &Stamp| (stamp.stat.kind, stamp.stat.dev, stamp.stat.ino);
        identity(self) == identity(other) && (self.born == other.born)
    }

    /// Tells whether nothing was done to it.
    pub fn is_untouched(&self, other: &Stamp) -> bool {
        let change = |stat: &Stat| (stat.ctime_seconds, stat.ctime_nanos, stat.size);
        self.is_same_file(other) && change(&self.stat) == change(&other.stat)
    }

    /// Tells whether its metadata, less the number of its names, are the same.
    pub fn has_same_metadata(&self, other: &Stamp) -> bool {
        let metadata = |s: &Stat| (s.kind, s.mode, s.uid, s.gid, s.mtime_seconds, s.mtime_nanos);
        metadata(&self.stat) == metadata(&other.stat)
            && (self.stat.is_dir() || self.stat.size == other.stat.size)
    }
}

/// The files of a tree by path, without leading `/`; its top is the empty path.
#[derive(Debug, Default)]
pub struct Stamps {
    pub(super) files: HashMap<Box<[u8]>, Stamp>,
    /// The last change of any of them.
    last: (i64, u32),
}

impl Stamps {
    /// Looks at every file of a tree that nobody changes.
    pub fn read(tree: &RootDir) -> io::Result<Stamps> {
        let mut stamps = Stamps::default();
        let top = open_no_follow(tree.fd(), ".", DIRECTORY, Mode::empty())?;
        let mut path: Vec<u8> = Vec::new();
        let stamp = stamp_of(tree.fd(), OsStr::new("."))?;
        let mut levels = vec![(stamps.enter(&path, stamp, &top)?, 0)];
        let mut stack = DirStack::new(top)?;
        while let Some((entries, length)) = levels.last_mut() {
            path.truncate(*length);
            let Some((name, kind)) = entries.next() else {
                levels.pop();
                stack.pop()?;
                continue;
            };
            push_name(&mut path, &name);
            let stamp = stamp_of(stack.current(), &name)?;
            if kind == FileType::Directory {
                let below = open_no_follow(stack.current(), &name, DIRECTORY, Mode::empty())?;
                levels.push((stamps.enter(&path, stamp, &below)?, path.len()));
                stack.push(below)?;
            } else {
                stamps.insert(&path, stamp);
            }
        }
        stamps.settle();
        Ok(stamps)
    }

    /// Waits until a change of any of the files would be seen.
    pub(super) fn settle(&self) {
        // A clock that was set back must not hold anybody up for longer than ticks take.
        for _ in 0..50 {
            if file_clock() > self.last {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Adds a directory; returns what is in it.
    pub(super) fn enter(
        &mut self,
        path: &[u8],
        mut stamp: Stamp,
        dir: &std::os::fd::OwnedFd,
    ) -> io::Result<std::vec::IntoIter<(std::ffi::OsString, FileType)>> {
        let entries = read_dir(dir)?;
        stamp.names = entries.iter().map(|(name, _)| name.as_bytes().into()).collect();
        self.insert(path, stamp);
        Ok(entries.into_iter())
    }

    pub(super) fn insert(&mut self, path: &[u8], stamp: Stamp) {
        self.last = self.last.max((stamp.stat.ctime_seconds, stamp.stat.ctime_nanos));
        self.files.insert(path.into(), stamp);
    }
}

/// Adds a name to a path.
pub(super) fn push_name(path: &mut Vec<u8>, name: &OsStr) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name.as_bytes());
}

/// Looks at one file of a directory; a link stands for itself.
pub(super) fn stamp_of(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Stamp> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let stat = stat_at(dir, name)?;
    // Birth times tell a directory from one that was made anew, with the number of the old one.
    let born = match (stat.kind, stat.is_dir()) {
        (_, false) => None,
        _ => match rustix::fs::statx(dir, name, flags, StatxFlags::BTIME) {
            Ok(found) if found.stx_mask & StatxFlags::BTIME.bits() != 0 => {
                Some((found.stx_btime.tv_sec, found.stx_btime.tv_nsec))
            }
            Ok(_) | Err(Errno::NOSYS | Errno::PERM) => None,
            Err(errno) => return Err(errno.into()),
        },
    };
    Ok(Stamp { stat, born, names: Vec::new() })
}
