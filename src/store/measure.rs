//! How many bytes and inodes files take: each regular file once, however many names it has.
//!
//! What is counted is the length of regular files, as layers count it; directories and the
//! rounding to blocks are not. No link is followed, and what vanishes meanwhile counts nothing.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

use crate::sys::Stat;
use crate::sys::dir::{DirStack, read_dir};
use crate::sys::root_dir::{open_no_follow, stat_at};

/// Adds up files and trees.
#[derive(Debug, Default)]
pub(super) struct Measure {
    single: u64,
    /// Files of several names by device and inode: names not yet seen, bytes.
    linked: HashMap<(u64, u64), (u64, u64)>,
    /// Whatever is not a file of several names.
    others: u64,
}

/// A file that has names elsewhere, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Linked {
    /// Device and inode.
    pub file: (u64, u64),
    pub bytes: u64,
}

impl Measure {
    /// Adds a file, or a directory with all that is below it, as far as it can be read.
    pub fn add(&mut self, path: &Path) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
        let Ok(parent) = File::open(parent) else { return };
        let Ok(stat) = stat_at(&parent, name) else { return };
        match stat.kind {
            FileType::Directory => {
                self.others += 1;
                self.tree(parent.as_fd(), name);
            }
            _ => self.file(&stat),
        }
    }

    /// Returns how many inodes all that was added has.
    pub fn inodes(&self) -> u64 {
        self.others.saturating_add(self.linked.len() as u64)
    }

    /// Returns the files that have further names elsewhere, sorted.
    pub fn linked(&self) -> Vec<Linked> {
        let out = self.linked.iter().filter(|(_, (left, _))| *left > 0);
        let mut linked: Vec<Linked> =
            out.map(|(file, (_, bytes))| Linked { file: *file, bytes: *bytes }).collect();
        linked.sort_unstable();
        linked
    }

    /// Returns the bytes of all files added.
    pub fn all(&self) -> u64 {
        self.linked.values().fold(self.single, |sum, (_, size)| sum.saturating_add(*size))
    }

    /// Returns the bytes that are free once all that was added is deleted: those of files that
    /// have no further name elsewhere.
    pub fn freed(&self) -> u64 {
        let gone = self.linked.values().filter(|(left, _)| *left == 0);
        gone.fold(self.single, |sum, (_, size)| sum.saturating_add(*size))
    }

    fn file(&mut self, stat: &Stat) {
        if !stat.is_file() || stat.nlink < 2 {
            let bytes = if stat.is_file() { stat.size } else { 0 };
            self.single = self.single.saturating_add(bytes);
            self.others += 1;
            return;
        }
        let (left, _) = self.linked.entry((stat.dev, stat.ino)).or_insert((stat.nlink, stat.size));
        *left = left.saturating_sub(1);
    }

    fn tree(&mut self, parent: BorrowedFd<'_>, name: &OsStr) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let open = |dir: BorrowedFd<'_>, name: &OsStr| open_no_follow(dir, name, flags, Mode::empty()).ok();
        let Some(top) = open(parent, name) else { return };
        let mut pending: Vec<Vec<(OsString, FileType)>> = vec![read_dir(&top).unwrap_or_default()];
        let Ok(mut stack) = DirStack::new(top) else { return };
        while let Some(entries) = pending.last_mut() {
            let Some((name, kind)) = entries.pop() else {
                pending.pop();
                match stack.pop() {
                    Ok(true) => continue,
                    // The start was left, or a directory was moved away underneath.
                    Ok(false) | Err(_) => return,
                }
            };
            if kind != FileType::Directory {
                match kind {
                    FileType::RegularFile => {
                        if let Ok(stat) = stat_at(stack.current(), &name) {
                            self.file(&stat);
                        }
                    }
                    _ => self.others += 1,
                }
                continue;
            }
            self.others += 1;
            let Some(below) = open(stack.current(), &name) else { continue };
            let entries = read_dir(&below).unwrap_or_default();
            if stack.push(below).is_ok() {
                pending.push(entries);
            }
        }
    }
}

/// Measures a file, or a directory and all below it.
pub(super) fn measured(path: &Path) -> Measure {
    let mut measure = Measure::default();
    measure.add(path);
    measure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_file_once_and_what_deleting_frees() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(path("a/b/c")).unwrap();
        std::fs::write(path("a/one"), "12345").unwrap();
        std::fs::write(path("a/b/c/two"), "123").unwrap();
        std::fs::hard_link(path("a/one"), path("a/b/again")).unwrap();
        std::fs::hard_link(path("a/b/c/two"), path("elsewhere")).unwrap();
        std::os::unix::fs::symlink("/", path("a/link")).unwrap();
        let mut measure = Measure::default();
        measure.add(&path("a"));
        assert_eq!((measure.all(), measure.freed(), measure.inodes()), (8, 5, 6));
        assert_eq!(measure.linked().iter().map(|linked| linked.bytes).collect::<Vec<_>>(), [3]);
        measure.add(&path("elsewhere"));
        assert_eq!((measure.all(), measure.freed(), measure.inodes()), (8, 8, 6));
        assert!(measure.linked().is_empty());
        measure.add(&path("not there"));
        assert_eq!((measure.all(), measured(&path("a/one")).all()), (8, 5));
    }

    #[test]
    fn depth_is_no_limit() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().join("deep");
        std::fs::create_dir(&top).unwrap();
        let mut fd = std::os::fd::OwnedFd::from(File::open(&top).unwrap());
        for _ in 0..3000 {
            rustix::fs::mkdirat(&fd, "d", Mode::RWXU).unwrap();
            fd = open_no_follow(&fd, "d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        let file = rustix::fs::openat(&fd, "f", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
        rustix::io::write(&file, b"bytes").unwrap();
        assert_eq!((measured(&top).all(), measured(&top).inodes()), (5, 3002));
        super::super::temporary::remove_tree(&top).unwrap();
    }
}
