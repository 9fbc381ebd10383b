//! Directories read and removed through descriptors, however deep they are.
//!
//! Nothing here joins paths, follows links or recurses: a tree deeper than
//! PATH_MAX or than the limit of open files is walked all the same.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RawDir;
use rustix::io::Errno;

use crate::sys::root_dir::fstat;
use crate::sys::root_dir::open_no_follow;
use crate::sys::root_dir::stat_at;

/// How many descriptors a [`DirStack`] keeps open; those further up are opened again through `..`.
const KEEP_OPEN: usize = 64;

/// Returns the names in an open directory with their types, sorted by bytes, without `.` and `..`.
///
/// The descriptor's own position is used: it must be at the start.
pub fn read_dir(dir: impl AsFd) -> io::Result<Vec<(OsString, FileType)>> {
    let mut entries = Vec::new();
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut raw = RawDir::new(dir.as_fd(), buffer.spare_capacity_mut());
    while let Some(entry) = raw.next() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            // Some filesystems do not keep the type in the directory.
            FileType::Unknown => stat_at(dir.as_fd(), name)?.kind,
            kind => kind,
        };
        entries.push((name.to_owned(), kind));
    }
    entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(entries)
}

/// Counts the names in an open directory, without `.` and `..`; reads on from the descriptor's position.
pub fn count_names(dir: impl AsFd) -> io::Result<u64> {
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut raw = RawDir::new(dir.as_fd(), buffer.spare_capacity_mut());
    let mut count = 0;
    while let Some(entry) = raw.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        count += u64::from(name != b"." && name != b"..");
    }
    Ok(count)
}

/// The open directories from the start of a walk down to where it is.
///
/// Only the lowest 64 stay open. The others are opened again through `..`
/// and compared by device and inode, so a directory that was moved away
/// during the walk is an error, never a way out.
#[derive(Debug, Default)]
pub struct DirStack {
    frames: Vec<Frame>,
}

#[derive(Debug)]
struct Frame {
    fd: Option<OwnedFd>,
    dev: u64,
    ino: u64,
}

impl DirStack {
    /// Starts at an open directory.
    pub fn new(start: OwnedFd) -> io::Result<DirStack> {
        let mut stack = DirStack::default();
        stack.push(start)?;
        Ok(stack)
    }

    /// Goes down into an open directory that is in the current one.
    pub fn push(&mut self, fd: OwnedFd) -> io::Result<()> {
        let stat = fstat(&fd)?;
        self.frames.push(Frame { fd: Some(fd), dev: stat.dev, ino: stat.ino });
        if let Some(far) = self.frames.len().checked_sub(KEEP_OPEN + 1) {
            self.frames[far].fd = None;
        }
        Ok(())
    }

    /// Goes up one directory; false when that leaves the start.
    pub fn pop(&mut self) -> io::Result<bool> {
        let left = self.frames.pop();
        let Some(top) = self.frames.last_mut() else { return Ok(false) };
        if top.fd.is_none() {
            let below = left.and_then(|frame| frame.fd).expect("the lowest directory is open");
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let fd = open_no_follow(&below, "..", flags, Mode::empty())?;
            let stat = fstat(&fd)?;
            if (stat.dev, stat.ino) != (top.dev, top.ino) {
                return Err(io::Error::other("a directory was moved while the tree was read"));
            }
            top.fd = Some(fd);
        }
        Ok(true)
    }

    /// Returns the current directory.
    ///
    /// Panics when the stack was popped past its start, which is the caller's own bug.
    pub fn current(&self) -> BorrowedFd<'_> {
        let frame = self.frames.last().expect("the walk has not left its start");
        frame.fd.as_ref().expect("the lowest directory is open").as_fd()
    }

    /// Returns how many directories deep the walk is; the start is 1.
    pub fn depth(&self) -> usize {
        self.frames.len()
    }
}

/// Removes `name` in the directory `parent` (O_PATH will do): a file, or a directory with all that is in it.
///
/// No link is followed. Nothing there is an error of kind `NotFound`.
pub fn remove_tree(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    if unlink(parent, name)? {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let top = open_no_follow(parent, name, flags, Mode::empty())?;
    empty_dir(top)?;
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

/// Removes all that is in an open directory, and leaves the directory itself.
pub fn empty_dir(dir: OwnedFd) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut pending = vec![(read_dir(&dir)?, OsString::new())];
    let mut stack = DirStack::new(dir)?;
    while let Some((entries, own_name)) = pending.last_mut() {
        match entries.pop() {
            Some((name, kind)) => {
                if kind != FileType::Directory && unlink(stack.current(), &name)? {
                    continue;
                }
                let below = open_no_follow(stack.current(), &name, flags, Mode::empty())?;
                pending.push((read_dir(&below)?, name));
                stack.push(below)?;
            }
            None => {
                let name = std::mem::take(own_name);
                pending.pop();
                if stack.pop()? {
                    rustix::fs::unlinkat(stack.current(), &name, AtFlags::REMOVEDIR)?;
                }
            }
        }
    }
    Ok(())
}

/// Removes a file; false where it is a directory.
fn unlink(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        // POSIX's word for the same; EPERM also has other causes.
        Err(Errno::PERM) if stat_at(dir, name)?.is_dir() => Ok(false),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn removes_a_tree_deeper_than_a_path_can_say() {
        let outer = tempfile::tempdir().unwrap();
        let root = crate::sys::RootDir::open(outer.path()).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut at = root.open_dir(Path::new(".")).unwrap();
        for _ in 0..2500 {
            at.create_dir(Path::new("dd"), 0o755).unwrap();
            at.create_file(Path::new("file"), 0o644).unwrap();
            let below = open_no_follow(at.fd(), "dd", flags, Mode::empty()).unwrap();
            at = crate::sys::RootDir::from_fd(below);
        }
        drop(at);
        root.remove_all(Path::new("dd")).unwrap();
        assert_eq!(root.entries(Path::new("")).unwrap(), [("file".into(), FileType::RegularFile)]);
    }
}
