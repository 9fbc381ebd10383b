//! The thread that reads what was announced.
//!
//! It believes the order of the announcements only as far as it can check it: names of a directory
//! must come sorted, and at the end each directory must hold as many names as were announced and
//! have the metadata it was read with. A file that was replaced would have been announced again.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

use rustix::fs::{Mode, OFlags};

use crate::sys::dir::{DirStack, count_names};
use crate::sys::root_dir::{fstat, open_no_follow};
use crate::sys::xattr;
use crate::sys::{OverlayXattrs, RootDir, Stat};

use super::progress::Ended;
use super::{Batch, Becomes, Item, Metadata, Progress};
use crate::layer::entry::{Kind, Sink};
use crate::layer::root::root_changed;
use crate::layer::walk::{Walk, Xattrs, read_xattrs};
use crate::layer::{LayerDigests, LayerHasher, Times};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// Reads all that is announced; `None` where anything did not fit.
pub(super) fn read(
    upper: &RootDir,
    marks: OverlayXattrs,
    times: Times,
    batches: &Receiver<Batch>,
) -> Option<LayerDigests> {
    let mut hasher = LayerHasher::new(times, None);
    let top = open_no_follow(upper.fd(), ".", DIRECTORY, Mode::empty()).ok()?;
    let mut reader = Reader {
        marks,
        walk: Walk::new(marks, &mut hasher),
        dirs: DirStack::new(top).ok()?,
        levels: vec![Level::default()],
        left: Vec::new(),
    };
    let mut ended = false;
    for batch in batches {
        ended = reader.take(&batch)?;
    }
    if !ended {
        return None;
    }
    let (levels, left) = (std::mem::take(&mut reader.levels), std::mem::take(&mut reader.left));
    root_is_as_it_started(upper, marks, levels.first()?)?;
    left.iter().try_for_each(|directory| directory.is_as_read(upper, marks))?;
    hasher.finish().ok()
}

struct Reader<'s, S> {
    marks: OverlayXattrs,
    walk: Walk<'s, S>,
    dirs: DirStack,
    /// The directories from the top to the current one.
    levels: Vec<Level>,
    /// Those that were left; they are looked at once more at the end.
    left: Vec<Directory>,
}

/// A directory whose entries are being announced.
#[derive(Default)]
struct Level {
    /// `None` for the top.
    claim: Option<(Metadata, (i64, u32))>,
    last: Vec<u8>,
    names: u64,
    /// How long the path is without a name of this level.
    path_length: usize,
}

/// A directory as it went into the digests.
struct Directory {
    path: PathBuf,
    metadata: Metadata,
    mtime: (i64, u32),
    names: u64,
}

impl<S: Sink> Reader<'_, S> {
    /// Reads what a batch announces; tells whether it was the last.
    fn take(&mut self, batch: &Batch) -> Option<bool> {
        let mut names = batch.names.as_slice();
        let mut next = |length: usize| {
            let (name, rest) = names.split_at_checked(length)?;
            names = rest;
            Some(OsStr::from_bytes(name))
        };
        for item in &batch.items {
            match item {
                Item::Enter { name, becomes } => self.enter(next(*name)?, becomes)?,
                Item::Leave => self.leave()?,
                Item::File { name, kind, several, digest } => {
                    let name = next(*name)?;
                    self.step_to(name)?;
                    self.walk.several = *several;
                    self.walk.known = *digest;
                    let directory = self.walk.file(self.dirs.current(), name, *kind).ok()?;
                    self.walk.several = false;
                    self.walk.known = None;
                    if directory.is_some() {
                        return None;
                    }
                }
                Item::Large { name, size, digest, becomes, progress } => {
                    self.walk.known = *digest;
                    self.large(next(*name)?, *size, becomes, progress)?;
                }
                Item::End => return (self.levels.len() == 1).then_some(true),
            }
        }
        Some(false)
    }

    /// Makes the path that of a name in the current directory, which must come after those before.
    fn step_to(&mut self, name: &OsStr) -> Option<()> {
        let level = self.levels.last_mut()?;
        if level.last.as_slice() >= name.as_bytes() {
            return None;
        }
        level.last.clear();
        level.last.extend_from_slice(name.as_bytes());
        level.names += 1;
        self.walk.path.truncate(level.path_length);
        if !self.walk.path.is_empty() {
            self.walk.path.push(b'/');
        }
        self.walk.path.extend_from_slice(name.as_bytes());
        Some(())
    }

    fn enter(&mut self, name: &OsStr, becomes: &Becomes) -> Option<()> {
        self.step_to(name)?;
        let fd = open_no_follow(self.dirs.current(), name, DIRECTORY, Mode::empty()).ok()?;
        let now = fstat(&fd).ok()?;
        let metadata = match &becomes.rest {
            Some(metadata) => metadata.clone(),
            None => metadata_of(&now, plain(&fd, self.marks, &self.walk.path)?),
        };
        let stat = becoming(&now, &metadata, becomes.mtime);
        self.walk.emit(Kind::Directory, &stat, b"", &metadata.xattrs).ok()?;
        self.dirs.push(fd).ok()?;
        self.levels.push(Level {
            claim: Some((metadata, becomes.mtime)),
            path_length: self.walk.path.len(),
            ..Level::default()
        });
        Some(())
    }

    fn leave(&mut self) -> Option<()> {
        let level = self.levels.pop()?;
        let (metadata, mtime) = level.claim?;
        self.walk.path.truncate(level.path_length);
        let path = PathBuf::from(OsStr::from_bytes(&self.walk.path));
        self.left.push(Directory { path, metadata, mtime, names: level.names });
        self.dirs.pop().ok()?.then_some(())
    }

    /// Reads a file while it is written, behind the one who writes.
    fn large(&mut self, name: &OsStr, size: u64, becomes: &Becomes, progress: &Progress) -> Option<()> {
        self.step_to(name)?;
        let metadata = becomes.rest.as_ref()?;
        let fd = open_no_follow(self.dirs.current(), name, OFlags::RDONLY, Mode::empty()).ok()?;
        let mut stat = becoming(&fstat(&fd).ok()?, metadata, becomes.mtime);
        stat.size = size;
        self.walk.emit(Kind::File, &stat, b"", &metadata.xattrs).ok()?;
        let mut read = 0;
        let ended = loop {
            match progress.wait(read) {
                Ok(written) if written <= size => {
                    self.walk.data(&fd, written - read).ok()?;
                    read = written;
                }
                Ok(_) => return None,
                Err(ended) => break ended,
            }
        };
        let now = fstat(&fd).ok()?;
        let right = ended == Ended::Complete
            && read == size
            && now.is_file()
            && now.size == size
            && now.nlink == 1
            && is_as(&fd, &now, self.marks, metadata, becomes.mtime);
        right.then_some(())
    }
}

impl Directory {
    fn is_as_read(&self, upper: &RootDir, marks: OverlayXattrs) -> Option<()> {
        let fd = upper.open_at(&self.path, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()).ok()?;
        let stat = fstat(&fd).ok()?;
        let right = is_as(&fd, &stat, marks, &self.metadata, self.mtime)
            && count_names(&fd).is_ok_and(|names| names == self.names);
        right.then_some(())
    }
}

/// Tells that the top of the layer is no entry of it, and holds no more than was announced.
fn root_is_as_it_started(upper: &RootDir, marks: OverlayXattrs, level: &Level) -> Option<()> {
    let fd = upper.open_at(Path::new("."), DIRECTORY, Mode::empty()).ok()?;
    let xattrs = read_xattrs(xattr::of(&fd), marks, b".").ok()?;
    let right = !root_changed(&fstat(&fd).ok()?, &xattrs)
        && !xattrs.opaque
        && count_names(&fd).is_ok_and(|names| names == level.names);
    right.then_some(())
}

/// Returns the attributes of something that is no opaque directory.
fn plain(fd: &OwnedFd, marks: OverlayXattrs, path: &[u8]) -> Option<Xattrs> {
    let xattrs = read_xattrs(xattr::of(&fd.as_fd()), marks, path).ok()?;
    (!xattrs.opaque).then_some(xattrs)
}

fn metadata_of(stat: &Stat, xattrs: Xattrs) -> Metadata {
    Metadata { mode: stat.mode, uid: stat.uid, gid: stat.gid, xattrs: xattrs.portable }
}

fn is_as(fd: &OwnedFd, stat: &Stat, marks: OverlayXattrs, metadata: &Metadata, mtime: (i64, u32)) -> bool {
    (stat.mtime_seconds, stat.mtime_nanos) == mtime
        && plain(fd, marks, b".").is_some_and(|xattrs| metadata_of(stat, xattrs) == *metadata)
}

fn becoming(stat: &Stat, metadata: &Metadata, mtime: (i64, u32)) -> Stat {
    let Metadata { mode, uid, gid, .. } = *metadata;
    Stat { mode, uid, gid, mtime_seconds: mtime.0, mtime_nanos: mtime.1, ..*stat }
}
