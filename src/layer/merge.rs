//! A layer put onto a tree of files, as overlayfs would show it: without mounting anything.
//!
//! Whiteouts and opaque directories take away what is there; directories keep what is in them and get the
//! layer's metadata; everything else replaces what is there. Files are linked, for a tree that is only read,
//! or cloned: blocks shared where the file system can, else copied by the kernel, holes kept; with owner,
//! mode, attributes and times. Several names of a file stay one file. The walk makes everything, a few
//! threads fill regular files. Not here: where trees lie and which layers they hold (`store`).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::sys::copy::{Cloner, set_times, set_times_at};
use crate::sys::dir::{DirStack, empty_dir, remove_tree};
use crate::sys::root_dir::{fstat, open_no_follow, read_link_at, stat_at};
use crate::sys::upper::{WHITEOUT_FILE, is_opaque, read_layer_dir};
use crate::sys::xattr::{self, Target};
use crate::sys::{OverlayXattrs, RootDir, Stat};

use super::LayerError;

/// How files get into a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Become {
    /// The layer's own, under one more name: nobody may ever write to them.
    Links,
    /// Files of the tree's own.
    Copies,
}

/// The most threads that fill files.
const MOST_THREADS: usize = 4;
/// How many files may wait for one; each has two descriptors.
const WAITING: usize = 32;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// Puts a layer, whose marks are in `form`, onto a tree.
pub fn merge_layer(
    layer: &RootDir,
    form: OverlayXattrs,
    tree: &RootDir,
    how: Become,
) -> Result<(), LayerError> {
    let filler = Filler::default();
    let path = Mutex::new(Vec::new());
    let walked = std::thread::scope(|scope| {
        let (files, jobs) = sync_channel(WAITING);
        let jobs = Mutex::new(jobs);
        if how == Become::Copies {
            let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
            let jobs = std::sync::Arc::new(jobs);
            for _ in 0..threads {
                let (jobs, filler) = (jobs.clone(), &filler);
                let work = move || filler.work(&jobs);
                std::thread::Builder::new().name("merge".into()).spawn_scoped(scope, work)?;
            }
        }
        let mut merge = Merge { form, how, tree, files, first_names: HashMap::new(), path: Vec::new() };
        let result = merge.walk(layer, &filler);
        *path.lock().unwrap_or_else(PoisonError::into_inner) = merge.path;
        result
    });
    let path = path.into_inner().unwrap_or_else(PoisonError::into_inner);
    // What filling a file failed with is the cause of the walk's end.
    let failed = filler.failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    match failed.map_or(walked, Err) {
        Ok(()) => Ok(()),
        Err(error) => Err(LayerError::file("merge", &path)(error)),
    }
}

/// A regular file whose content is still missing.
struct File {
    from: OwnedFd,
    to: OwnedFd,
    stat: Stat,
}

/// Fills files, on threads.
#[derive(Default)]
struct Filler {
    failed: Mutex<Option<io::Error>>,
}

impl Filler {
    fn work(&self, jobs: &Mutex<Receiver<File>>) {
        let mut cloner = Cloner::default();
        loop {
            let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(File { from, to, stat }) = next else { return };
            if self.has_failed() {
                continue;
            }
            if let Err(error) = fill(&mut cloner, &from, &to, &stat) {
                *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        }
    }

    fn has_failed(&self) -> bool {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

/// Gives a new file the content and metadata of another.
pub(super) fn fill(cloner: &mut Cloner, from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> io::Result<()> {
    if stat.size > 0 {
        let copied = cloner.copy(from, to, stat.size, stat.blocks, |_| {})?;
        if copied != stat.size {
            return Err(io::Error::other("a file changed while it was read"));
        }
    }
    own(rustix::fs::fchown(to, Some(Uid::from_raw(stat.uid)), Some(Gid::from_raw(stat.gid))))?;
    xattr::copy_xattrs(xattr::of(from), xattr::of(to))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.mode))?;
    set_times(to, stat.mtime_seconds, stat.mtime_nanos)
}

/// Gives an open directory the metadata of another, after all that is written into it.
pub(super) fn like_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
    own(rustix::fs::fchown(to, Some(Uid::from_raw(stat.uid)), Some(Gid::from_raw(stat.gid))))?;
    let (from, target) = (Target::Fd(from), Target::Fd(to));
    let wanted = xattr::list(from)?;
    for name in xattr::list(target)? {
        if !wanted.contains(&name) && !xattr::is_overlay(&name) && !xattr::is_of_host(&name) {
            xattr::remove(target, &name)?;
        }
    }
    xattr::copy_xattrs(from, target)?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.mode))?;
    set_times(to, stat.mtime_seconds, stat.mtime_nanos)
}

/// Makes what is neither a directory nor a regular file; false for a device that may not be made here.
pub(super) fn make_special(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &OsStr,
    stat: &Stat,
) -> io::Result<bool> {
    if stat.kind == FileType::Symlink {
        rustix::fs::symlinkat(read_link_at(from, name)?.as_os_str(), to, name)?;
    } else {
        match rustix::fs::mknodat(to, name, stat.kind, Mode::RUSR | Mode::WUSR, stat.rdev) {
            Ok(()) => {}
            // No user namespace may make devices.
            Err(Errno::PERM) if matches!(stat.kind, FileType::CharacterDevice | FileType::BlockDevice) => {
                return Ok(false);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    let owner = (Some(Uid::from_raw(stat.uid)), Some(Gid::from_raw(stat.gid)));
    own(rustix::fs::chownat(to, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW))?;
    xattr::copy_xattrs(Target::Name(from, name), Target::Name(to, name))?;
    if stat.kind != FileType::Symlink {
        rustix::fs::chmodat(to, name, Mode::from_raw_mode(stat.mode), AtFlags::empty())?;
    }
    set_times_at(to, name, stat.mtime_seconds, stat.mtime_nanos)?;
    Ok(true)
}

/// An owner that the user namespace does not have, or that this user may not give, is left as it is.
fn own(changed: rustix::io::Result<()>) -> io::Result<()> {
    match changed {
        Ok(()) | Err(Errno::INVAL | Errno::PERM) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

struct Merge<'a> {
    form: OverlayXattrs,
    how: Become,
    tree: &'a RootDir,
    files: SyncSender<File>,
    /// What a file with several names became first, by device and inode of the layer's.
    first_names: HashMap<(u64, u64), PathBuf>,
    path: Vec<u8>,
}

/// A directory of the layer whose entries are being merged.
struct Level {
    entries: std::vec::IntoIter<(std::ffi::OsString, FileType)>,
    stat: Stat,
    path_length: usize,
}

impl Merge<'_> {
    fn walk(&mut self, layer: &RootDir, filler: &Filler) -> io::Result<()> {
        let from = open_no_follow(layer.fd(), ".", DIRECTORY, Mode::empty())?;
        let to = open_no_follow(self.tree.fd(), ".", DIRECTORY, Mode::empty())?;
        let mut levels = vec![self.level(&from, &to)?];
        let (mut froms, mut tos) = (DirStack::new(from)?, DirStack::new(to)?);
        while let Some(level) = levels.last_mut() {
            if filler.has_failed() {
                return Ok(());
            }
            self.path.truncate(level.path_length);
            let Some((name, kind)) = level.entries.next() else {
                like_directory(froms.current(), tos.current(), &level.stat)?;
                levels.pop();
                froms.pop()?;
                tos.pop()?;
                continue;
            };
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.as_bytes());
            let (from, to) = (froms.current(), tos.current());
            if kind == FileType::Directory {
                let below = open_no_follow(from, &name, DIRECTORY, Mode::empty())?;
                let made = enter(to, &name)?;
                levels.push(self.level(&below, &made)?);
                froms.push(below)?;
                tos.push(made)?;
            } else {
                self.file(from, to, &name, kind)?;
            }
        }
        Ok(())
    }

    fn level(&self, from: &OwnedFd, to: &OwnedFd) -> io::Result<Level> {
        if is_opaque(from, self.form)? {
            empty_dir(open_no_follow(to, ".", DIRECTORY, Mode::empty())?)?;
        }
        let entries = read_layer_dir(from, self.form)?.into_iter();
        Ok(Level { entries, stat: fstat(from)?, path_length: self.path.len() })
    }

    fn file(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &OsStr,
        kind: FileType,
    ) -> io::Result<()> {
        if kind == WHITEOUT_FILE {
            return remove(to, name);
        }
        let stat = stat_at(from, name)?;
        if stat.is_whiteout() {
            return remove(to, name);
        }
        if self.how == Become::Links {
            let link = || rustix::fs::linkat(from, name, to, name, AtFlags::empty());
            match replacing(to, name, link) {
                Ok(()) => return Ok(()),
                // Too many names, or a file system that has no second ones.
                Err(Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP | Errno::XDEV) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        if stat.nlink > 1 && self.further_name(to, name, &stat)? {
            return Ok(());
        }
        if !stat.is_file() {
            remove(to, name)?;
            make_special(from, to, name, &stat)?;
            return Ok(());
        }
        let source = open_no_follow(from, name, OFlags::RDONLY, Mode::empty())?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let make = || open_no_follow(to, name, flags, Mode::RUSR | Mode::WUSR);
        let made = match make() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                remove(to, name)?;
                make()?
            }
            other => other?,
        };
        if self.how == Become::Links {
            return fill(&mut Cloner::default(), &source, &made, &stat);
        }
        self.files
            .send(File { from: source, to: made, stat })
            .map_err(|_| io::Error::other("the threads that copy have ended"))
    }

    /// Makes a further name of a file that is in the tree already; false where it is the first.
    fn further_name(&mut self, to: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> io::Result<bool> {
        let key = (stat.dev, stat.ino);
        let Some(first) = self.first_names.get(&key) else {
            self.first_names.insert(key, PathBuf::from(OsStr::from_bytes(&self.path)));
            return Ok(false);
        };
        let (folder, first) = self.tree.parent_and_name(first)?;
        let link = || rustix::fs::linkat(&folder, &first, to, name, AtFlags::empty());
        match replacing(to, name, link) {
            Ok(()) => Ok(true),
            // Then it is a file of its own.
            Err(Errno::MLINK | Errno::PERM) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Opens a directory, made where there is none.
fn enter(to: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(to, name, Mode::RWXU) {
        Ok(()) => {}
        Err(Errno::EXIST) if stat_at(to, name)?.is_dir() => {}
        Err(Errno::EXIST) => {
            remove_tree(to, name)?;
            rustix::fs::mkdirat(to, name, Mode::RWXU)?;
        }
        Err(errno) => return Err(errno.into()),
    }
    open_no_follow(to, name, DIRECTORY, Mode::empty())
}

fn remove(to: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match remove_tree(to.as_fd(), name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes a name, after what has it is removed.
fn replacing(
    to: BorrowedFd<'_>,
    name: &OsStr,
    make: impl Fn() -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    match make() {
        Err(Errno::EXIST) => {
            remove(to, name).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            make()
        }
        other => other,
    }
}
