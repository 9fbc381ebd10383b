//! A tree copied as it is: bytes, owners, modes, times, attributes, links.
//!
//! No link is followed. Names of one file become files of their own. Not here: which tree (`covers`).

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};

use crate::sys::copy::{clone_file, set_times, set_times_at};
use crate::sys::dir::read_dir;
use crate::sys::root_dir::{Stat, fstat, open_no_follow, read_link_at, reopen};
use crate::sys::xattr;

/// How many directories deep a copied tree may be.
const DEEPEST: usize = 1000;

/// Copies an open file or directory to a new name in a directory.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    copy_at(from, to, name, 0)
}

fn copy_at(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &OsStr, depth: usize) -> io::Result<()> {
    let stat = fstat(from)?;
    let mode = Mode::from_raw_mode(stat.mode & 0o7777);
    if stat.is_symlink() {
        rustix::fs::symlinkat(read_link_at(from, "")?, to, name)?;
        own(to, name, &stat)?;
        return set_times_at(to, name, stat.mtime_seconds, stat.mtime_nanos);
    }
    if stat.is_file() {
        let source = reopen(from, OFlags::RDONLY)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let file = open_no_follow(to, name, flags, Mode::from_raw_mode(0o600))?;
        clone_file(&source, &file)?;
        own(to, name, &stat)?;
        xattr::copy_xattrs(xattr::of(&source), xattr::of(&file))?;
        rustix::fs::fchmod(&file, mode)?;
        return set_times(&file, stat.mtime_seconds, stat.mtime_nanos);
    }
    if !stat.is_dir() {
        rustix::fs::mknodat(to, name, FileType::from_raw_mode(stat.mode), mode, stat.rdev)?;
        own(to, name, &stat)?;
        rustix::fs::chmodat(to, name, mode, AtFlags::empty())?;
        return set_times_at(to, name, stat.mtime_seconds, stat.mtime_nanos);
    }
    if depth == DEEPEST {
        return Err(io::Error::other("the tree is too deep to be copied"));
    }
    let source = reopen(from, OFlags::RDONLY | OFlags::DIRECTORY)?;
    rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
    let target = open_no_follow(to, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
    for (name, _) in read_dir(&source)? {
        let below = open_no_follow(&source, &name, OFlags::PATH, Mode::empty())?;
        copy_at(below.as_fd(), target.as_fd(), &name, depth + 1)?;
    }
    own(to, name, &stat)?;
    xattr::copy_xattrs(xattr::of(&source), xattr::of(&target))?;
    rustix::fs::fchmod(&target, mode)?;
    set_times(&target, stat.mtime_seconds, stat.mtime_nanos)
}

fn own(to: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.uid), Gid::from_raw(stat.gid));
    Ok(rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}
