//! A tree copied as it is: bytes, owners, modes, times, attributes, links.
//!
//! No link is followed; names of one file stay that; a FIFO is not copied but named once more. Not here: which tree (`covers`).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::sys::copy::{clone_file, set_times, set_times_at};
use crate::sys::dir::read_dir;
use crate::sys::root_dir::{Stat, fstat, open_no_follow, read_link_at, reopen};
use crate::sys::xattr;

/// How many directories deep a copied tree may be.
const DEEPEST: usize = 1000;

/// Copies an open file or directory to a new name in a directory.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    Copy { top: to, first: HashMap::new() }.copy_at(from, to, name, Path::new(name))
}

/// A copy that is being made.
struct Copy<'a> {
    top: BorrowedFd<'a>,
    /// Where files with several names are, by inode.
    first: HashMap<(u64, u64), PathBuf>,
}

impl Copy<'_> {
    fn copy_at(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
    ) -> io::Result<()> {
        let stat = fstat(from)?;
        if stat.is_dir() || stat.nlink < 2 {
            return self.copy_one(from, to, name, path, &stat);
        }
        if let Some(first) = self.first.get(&(stat.dev, stat.ino)) {
            // All names on the way were made here, and nobody else knows them yet.
            return Ok(rustix::fs::linkat(self.top, first, to, name, AtFlags::empty())?);
        }
        self.copy_one(from, to, name, path, &stat)?;
        self.first.insert((stat.dev, stat.ino), path.to_owned());
        Ok(())
    }

    fn copy_one(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        stat: &Stat,
    ) -> io::Result<()> {
        let mode = Mode::from_raw_mode(stat.mode & 0o7777);
        if stat.is_symlink() {
            rustix::fs::symlinkat(read_link_at(from, "")?, to, name)?;
            own(to, name, stat)?;
            return set_times_at(to, name, stat.mtime_seconds, stat.mtime_nanos);
        }
        if stat.is_file() {
            let source = reopen(from, OFlags::RDONLY)?;
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
            let file = open_no_follow(to, name, flags, Mode::from_raw_mode(0o600))?;
            clone_file(&source, &file)?;
            own(to, name, stat)?;
            xattr::copy_xattrs(xattr::of(&source), xattr::of(&file))?;
            rustix::fs::fchmod(&file, mode)?;
            return set_times(&file, stat.mtime_seconds, stat.mtime_nanos);
        }
        if stat.kind == FileType::Fifo {
            // Whoever reads from it, or writes to it, has the one that is there: it is another name of that.
            let path = format!("/proc/self/fd/{}", from.as_raw_fd());
            match rustix::fs::linkat(rustix::fs::CWD, path, to, name, AtFlags::SYMLINK_FOLLOW) {
                Err(Errno::XDEV | Errno::MLINK | Errno::PERM) => {}
                other => return Ok(other?),
            }
        }
        if !stat.is_dir() {
            rustix::fs::mknodat(to, name, stat.kind, mode, stat.rdev)?;
            own(to, name, stat)?;
            rustix::fs::chmodat(to, name, mode, AtFlags::empty())?;
            return set_times_at(to, name, stat.mtime_seconds, stat.mtime_nanos);
        }
        if path.components().count() > DEEPEST {
            return Err(io::Error::other("the tree is too deep to be copied"));
        }
        let source = reopen(from, OFlags::RDONLY | OFlags::DIRECTORY)?;
        rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
        let target = open_no_follow(to, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        for (name, _) in read_dir(&source)? {
            let below = open_no_follow(&source, &name, OFlags::PATH, Mode::empty())?;
            self.copy_at(below.as_fd(), target.as_fd(), &name, &path.join(&name))?;
        }
        own(to, name, stat)?;
        xattr::copy_xattrs(xattr::of(&source), xattr::of(&target))?;
        rustix::fs::fchmod(&target, mode)?;
        set_times(&target, stat.mtime_seconds, stat.mtime_nanos)
    }
}

fn own(to: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.uid), Gid::from_raw(stat.gid));
    Ok(rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    use super::*;
    use crate::sys::RootDir;

    #[test]
    fn fifos_are_the_same_and_sockets_are_there() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        std::fs::create_dir(&from).unwrap();
        std::fs::create_dir(&to).unwrap();
        let fifo = from.join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        drop(std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap());
        let source = rustix::fs::open(&from, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let target = RootDir::open(&to).unwrap();
        copy(source.as_fd(), target.fd(), OsStr::new("copy")).unwrap();
        let copied = std::fs::symlink_metadata(to.join("copy/fifo")).unwrap();
        assert_eq!(copied.ino(), std::fs::symlink_metadata(&fifo).unwrap().ino());
        let copied = std::fs::symlink_metadata(to.join("copy/socket")).unwrap();
        assert!(copied.file_type().is_socket());
    }
}
