//! An image's files, as the layers make them together, in a directory of the user's own.
//!
//! Everything there belongs to whoever runs this, as with BuildKit's local exporter; modes,
//! times, links and attributes stay. Nothing follows a link that lies in the destination: what is in
//! the way of a file goes. `place` makes single files there. Not here: the same files as one tar (`rootfs`).

mod place;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use crate::image::SnapshotId;
use crate::store::{Store, StoreError};
use crate::sys::dir::{DirStack, read_dir, remove_tree};
use crate::sys::root_dir::{fstat, open_no_follow, reopen};
use crate::sys::{OverlayXattrs, RootDir};

use super::ArchiveError;
use place::{Copies, Place};

/// How files are written to a directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LocalOptions {
    /// Whether what the image does not have is removed.
    pub delete: bool,
    /// The latest time a file may have, in seconds since 1970; later ones become it.
    pub latest: Option<i64>,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LocalResult {
    /// All but directories.
    pub files: u64,
    /// Of regular files.
    pub bytes: u64,
    /// Device nodes that an ordinary user may not make.
    pub left_out_devices: u64,
    /// Attributes that the place does not take.
    pub left_out_xattrs: u64,
}

/// Writes the files of layers (lowest first) into a directory, which is made, or added to.
pub fn write_local(
    store: &Store,
    layers: &[SnapshotId],
    dest: &Path,
    options: LocalOptions,
    cancel: &dyn Fn() -> bool,
) -> Result<LocalResult, ArchiveError> {
    let failed = |source| ArchiveError::WriteFile { path: dest.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o755).create(dest).map_err(failed)?;
    let root = RootDir::open(dest).map_err(failed)?;
    let source = match layers {
        // A layer alone needs no overlay, and its file system may share blocks with the destination's.
        [layer] if store.options().xattrs != OverlayXattrs::Files => {
            store.hold()?;
            RootDir::open(&store.snapshot_dir(layer)).map_err(StoreError::View)?
        }
        layers => store.view(layers)?,
    };
    let copies = Copies::new(options.latest);
    let walked = std::thread::scope(|scope| {
        let files = copies.start(scope);
        let mut walk = Walk {
            dest,
            options,
            path: PathBuf::new(),
            place: Place::new(&root, options.latest),
            files,
            copies: &copies,
        };
        walk.tree(&source, &root, cancel)
    });
    // What a copy failed with is the cause of the walk's end.
    let copied = copies.finish().map_err(|(path, source)| {
        let path = dest.join(path);
        ArchiveError::WriteFile { path, source }
    })?;
    let mut result = walked?;
    result.bytes = copied.bytes;
    result.left_out_xattrs += copied.left_out_xattrs;
    Ok(result)
}

/// One directory of the source whose entries are being written.
struct Level {
    entries: std::vec::IntoIter<(OsString, FileType)>,
    stat: crate::sys::Stat,
}

struct Walk<'a> {
    dest: &'a Path,
    options: LocalOptions,
    /// Of the current directory, from the root.
    path: PathBuf,
    place: Place<'a>,
    files: place::Queue,
    copies: &'a Copies,
}

impl Walk<'_> {
    fn tree(
        &mut self,
        source: &RootDir,
        root: &RootDir,
        cancel: &dyn Fn() -> bool,
    ) -> Result<LocalResult, ArchiveError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let open = |root: &RootDir| reopen(root.fd(), flags).map_err(self.failed("."));
        let (from, to) = (open(source)?, open(root)?);
        let mut levels = vec![self.level(&from, &to)?];
        let mut sources = DirStack::new(from).map_err(self.failed("."))?;
        let mut dests = DirStack::new(to).map_err(self.failed("."))?;
        while let Some(level) = levels.last_mut() {
            if cancel() || self.copies.have_failed() {
                return Err(ArchiveError::Stopped);
            }
            let Some((name, kind)) = level.entries.next() else {
                // The destination itself is the user's own: only what is in it is written.
                if levels.len() > 1 {
                    let stat = levels.last().expect("it was just there").stat;
                    let done = self.place.directory(&sources, &dests, &stat);
                    done.map_err(self.failed("."))?;
                }
                levels.pop();
                sources.pop().map_err(self.failed("."))?;
                dests.pop().map_err(self.failed("."))?;
                self.path.pop();
                continue;
            };
            if kind == FileType::Directory {
                let shown = name.to_string_lossy().into_owned();
                let below = open_no_follow(sources.current(), &name, flags, Mode::empty());
                let below = below.map_err(self.failed(&shown))?;
                let made = self.place.enter(dests.current(), &name).map_err(self.failed(&shown))?;
                self.path.push(&name);
                levels.push(self.level(&below, &made)?);
                sources.push(below).map_err(self.failed("."))?;
                dests.push(made).map_err(self.failed("."))?;
            } else {
                let entry = place::Entry { name: &name, kind, folder: &self.path };
                let done = self.place.entry(sources.current(), dests.current(), &entry, &mut self.files);
                done.map_err(self.failed(&name.to_string_lossy()))?;
            }
        }
        Ok(self.place.done)
    }

    /// Reads a directory of the source, and empties its counterpart of what is not in it, if asked to.
    fn level(&self, from: &std::os::fd::OwnedFd, to: &std::os::fd::OwnedFd) -> Result<Level, ArchiveError> {
        let stat = fstat(from).map_err(self.failed("."))?;
        let entries = read_dir(from).map_err(self.failed("."))?;
        if self.options.delete {
            let wanted: BTreeSet<&OsString> = entries.iter().map(|(name, _)| name).collect();
            for (name, _) in read_dir(to).map_err(self.failed("."))? {
                if !wanted.contains(&name) {
                    remove_tree(std::os::fd::AsFd::as_fd(to), &name)
                        .map_err(self.failed(&name.to_string_lossy()))?;
                }
            }
        }
        Ok(Level { entries: entries.into_iter(), stat })
    }

    fn failed(&self, name: &str) -> impl FnOnce(std::io::Error) -> ArchiveError + use<> {
        let path = match name {
            "." => self.dest.join(&self.path),
            name => self.dest.join(&self.path).join(name),
        };
        move |source| ArchiveError::WriteFile { path, source }
    }
}
