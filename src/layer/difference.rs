//! What a step changed in a tree that held layers, written as a layer: an overlay upper directory.
//!
//! The outcome is what overlayfs would have left there. A file that was touched is in it whole; a directory
//! as soon as it or something in it was; what is gone as a whiteout; a directory that took the place
//! of something is opaque. Two things cannot be told from outside: that a file was opened
//! for writing and not written to, which overlayfs copies up all the same, and through which of several
//! names a file was written to, so all of them are in the layer. Files are cloned into the upper directory:
//! the tree stays what it is, for the next step. Not here: making the tree (`merge`).

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::sys::copy::Cloner;
use crate::sys::dir::{DirStack, remove_tree};
use crate::sys::root_dir::{open_no_follow, stat_at};
use crate::sys::upper::{MARK_PREFIX, make_opaque, make_whiteout};
use crate::sys::xattr::{self, Target};
use crate::sys::{OverlayXattrs, RootDir};

use super::LayerError;
use super::error::shown;
use super::merge::{fill, like_directory, make_special};
use super::points::take_off;
use super::stamps::{Stamp, Stamps, push_name, stamp_of};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// Writes what differs in `tree` from what `before` says into `upper`; returns how the tree is now.
///
/// `base` is a view of what the tree was made of. Mount points (`points`, outer ones first) that were made
/// in the tree are taken off first. The upper directory may hold what the tree was given besides its layers.
pub fn write_difference(
    tree: &RootDir,
    before: &Stamps,
    base: &RootDir,
    upper: &RootDir,
    form: OverlayXattrs,
    points: &[PathBuf],
) -> Result<Stamps, LayerError> {
    let doubtful = take_off(tree, points)?;
    let mut difference = Difference {
        before,
        base,
        upper,
        form,
        doubtful,
        now: Stamps::default(),
        names: Vec::new(),
        path: Vec::new(),
        written: HashMap::new(),
        linked: HashSet::new(),
        cloner: Cloner::default(),
    };
    match difference.walk(tree) {
        Ok(()) => {
            difference.now.settle();
            Ok(difference.now)
        }
        Err(Failed::Io(error)) => Err(LayerError::file("compare", &difference.path)(error)),
        Err(Failed::Layer(error)) => Err(error),
    }
}

enum Failed {
    Io(io::Error),
    Layer(LayerError),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Failed {
        Failed::Io(error)
    }
}

impl From<Errno> for Failed {
    fn from(errno: Errno) -> Failed {
        Failed::Io(errno.into())
    }
}

struct Difference<'a> {
    before: &'a Stamps,
    base: &'a RootDir,
    upper: &'a RootDir,
    form: OverlayXattrs,
    /// Directories that were touched for mount points, and what was moved aside and back for them.
    doubtful: HashSet<Vec<u8>>,
    now: Stamps,
    /// Those of the directories on the way, without the top.
    names: Vec<OsString>,
    path: Vec<u8>,
    /// The first names of files with several, in the upper directory, by inode.
    written: HashMap<u64, PathBuf>,
    /// Lower files with several names that got further ones.
    linked: HashSet<u64>,
    cloner: Cloner,
}

/// A directory of the tree that is being compared.
struct Level {
    entries: std::vec::IntoIter<(OsString, FileType)>,
    stamp: Stamp,
    /// Whether the lower layers have it, and show in it.
    merged: bool,
    path_length: usize,
}

impl Difference<'_> {
    fn walk(&mut self, tree: &RootDir) -> Result<(), Failed> {
        let top = open_no_follow(tree.fd(), ".", DIRECTORY, Mode::empty())?;
        let mut targets = DirStack::new(open_no_follow(self.upper.fd(), ".", DIRECTORY, Mode::empty())?)?;
        let stamp = stamp_of(tree.fd(), OsStr::new("."))?;
        let first = self.level(&top, stamp, true)?;
        let mut sources = DirStack::new(top)?;
        let mut levels = vec![first];
        self.gone(&levels, &sources, &mut targets)?;
        while let Some(level) = levels.last_mut() {
            self.path.truncate(level.path_length);
            let Some((name, kind)) = level.entries.next() else {
                // The top always is in the layer, and says what it started with.
                if targets.depth() == sources.depth() {
                    like_directory(sources.current(), targets.current(), &level.stamp.stat)?;
                    targets.pop()?;
                }
                levels.pop();
                sources.pop()?;
                self.names.pop();
                continue;
            };
            push_name(&mut self.path, &name);
            let merged_parent = level.merged;
            let stamp = stamp_of(sources.current(), &name)?;
            let old = if merged_parent { self.before.files.get(self.path.as_slice()) } else { None };
            if kind != FileType::Directory {
                if self.is_touched(old, &stamp, sources.current(), &name)? {
                    self.target(&levels, &sources, &mut targets)?;
                    self.write(sources.current(), targets.current(), &name, old, &stamp)?;
                }
                self.now.insert(&self.path, stamp);
                continue;
            }
            let merged = old.is_some_and(|old| old.is_same_file(&stamp));
            let touched = match old.filter(|_| merged) {
                None => true,
                Some(old) if self.doubtful.contains(&self.path) => !old.has_same_metadata(&stamp),
                Some(old) => self.differs(old, &stamp),
            };
            let below = open_no_follow(sources.current(), &name, DIRECTORY, Mode::empty())?;
            let next = self.level(&below, stamp, merged)?;
            self.names.push(name);
            sources.push(below)?;
            levels.push(next);
            if touched {
                self.target(&levels, &sources, &mut targets)?;
            }
            self.gone(&levels, &sources, &mut targets)?;
        }
        Ok(())
    }

    /// A directory whose change time moved; its size says nothing.
    fn differs(&self, old: &Stamp, now: &Stamp) -> bool {
        let change = |stamp: &Stamp| (stamp.stat.ctime_seconds, stamp.stat.ctime_nanos);
        change(old) != change(now)
    }

    fn level(&mut self, dir: &OwnedFd, stamp: Stamp, merged: bool) -> Result<Level, Failed> {
        let entries = self.now.enter(&self.path, stamp.clone(), dir)?;
        Ok(Level { entries, stamp, merged, path_length: self.path.len() })
    }

    /// Hides what the lower layers have in the directory that was just entered, and the tree no more.
    fn gone(&mut self, levels: &[Level], sources: &DirStack, targets: &mut DirStack) -> Result<(), Failed> {
        let Some(level) = levels.last().filter(|level| level.merged) else { return Ok(()) };
        let Some(old) = self.before.files.get(self.path.as_slice()) else { return Ok(()) };
        let there: HashSet<&[u8]> =
            level.entries.as_slice().iter().map(|(name, _)| name.as_bytes()).collect();
        for name in old.names.iter().filter(|name| !there.contains(&name[..])) {
            self.target(levels, sources, targets)?;
            let name = OsStr::from_bytes(name);
            match make_whiteout(targets.current(), name, self.form) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    remove_tree(targets.current(), name)?;
                    make_whiteout(targets.current(), name, self.form)?;
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// Makes the current directory in the upper one, with those above it.
    fn target(&mut self, levels: &[Level], sources: &DirStack, targets: &mut DirStack) -> Result<(), Failed> {
        while targets.depth() < sources.depth() {
            let at = targets.depth();
            let name = &self.names[at - 1];
            self.check_name(name)?;
            let made = match rustix::fs::mkdirat(targets.current(), name, Mode::RWXU) {
                Ok(()) => true,
                Err(Errno::EXIST) if stat_at(targets.current(), name)?.is_dir() => false,
                Err(Errno::EXIST) => {
                    remove_tree(targets.current(), name)?;
                    rustix::fs::mkdirat(targets.current(), name, Mode::RWXU)?;
                    true
                }
                Err(errno) => return Err(errno.into()),
            };
            let fd = open_no_follow(targets.current(), name, DIRECTORY, Mode::empty())?;
            let path = &self.path[..levels[at].path_length];
            let hides = levels[at - 1].merged && !levels[at].merged && self.before.files.contains_key(path);
            if made && hides {
                make_opaque(&fd, self.form)?;
            }
            targets.push(fd)?;
        }
        Ok(())
    }

    fn check_name(&self, name: &OsStr) -> Result<(), Failed> {
        if name.as_bytes().starts_with(MARK_PREFIX) {
            return Err(Failed::Layer(LayerError::ReservedName { path: shown(&self.path) }));
        }
        Ok(())
    }

    fn is_touched(
        &mut self,
        old: Option<&Stamp>,
        now: &Stamp,
        dir: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<bool, Failed> {
        let Some(old) = old.filter(|old| old.is_same_file(now)) else { return Ok(true) };
        if old.is_untouched(now) {
            return Ok(false);
        }
        // Nobody could reach it where it was.
        if self.doubtful.contains(&self.path) && old.has_same_metadata(now) {
            return Ok(false);
        }
        // Names that are given or taken away move the change time of all, too. Overlayfs copies up
        // the one name that a new one was made of.
        if old.stat.nlink < 2 || !old.has_same_metadata(now) || !self.is_as_below(dir, name)? {
            return Ok(true);
        }
        Ok(now.stat.nlink > old.stat.nlink && self.linked.insert(now.stat.ino))
    }

    /// Compares a file's content and attributes with those that the layers have at its path.
    fn is_as_below(&self, dir: BorrowedFd<'_>, name: &OsStr) -> Result<bool, Failed> {
        let path = Path::new(OsStr::from_bytes(&self.path));
        let Some(stat) = self.base.try_stat(path, false)? else { return Ok(false) };
        if !stat.is_file() {
            return Ok(true);
        }
        let (below, below_name) = self.base.parent_and_name(path)?;
        let read = |dir: BorrowedFd<'_>, name: &OsStr| -> io::Result<_> {
            let file = open_no_follow(dir, name, OFlags::RDONLY, Mode::empty())?;
            let target = Target::Fd(file.as_fd());
            let names = xattr::list(target)?.into_iter();
            let names = names.filter(|name| !xattr::is_overlay(name) && !xattr::is_of_host(name));
            let xattrs = names.map(|name| Ok((xattr::get(target, &name)?, name)));
            let xattrs = xattrs.collect::<io::Result<Vec<_>>>()?;
            Ok((std::fs::File::from(file), xattrs))
        };
        let ((mut a, a_xattrs), (mut b, b_xattrs)) = (read(dir, name)?, read(below.as_fd(), &below_name)?);
        Ok(a_xattrs == b_xattrs && same_bytes(&mut a, &mut b)?)
    }

    /// Writes what is no directory.
    fn write(
        &mut self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        name: &OsStr,
        old: Option<&Stamp>,
        now: &Stamp,
    ) -> Result<(), Failed> {
        self.check_name(name)?;
        let stat = &now.stat;
        if stat.is_whiteout() {
            return Err(Failed::Layer(LayerError::Whiteout { path: shown(&self.path) }));
        }
        match remove_tree(target, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
        // Overlayfs copies up one name of a lower file with several; those that are new are one file.
        let was = old.filter(|old| old.is_same_file(now)).map_or(1, |old| old.stat.nlink);
        if stat.nlink > 1 && (was == 1 || stat.nlink > was) {
            if let Some(first) = self.written.get(&stat.ino) {
                let (folder, first) = self.upper.parent_and_name(first)?;
                rustix::fs::linkat(&folder, &first, target, name, AtFlags::empty())?;
                return Ok(());
            }
            self.written.insert(stat.ino, PathBuf::from(OsStr::from_bytes(&self.path)));
        }
        if !stat.is_file() {
            make_special(source, target, name, stat)?;
            return Ok(());
        }
        let from = open_no_follow(source, name, OFlags::RDONLY, Mode::empty())?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let to = open_no_follow(target, name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(fill(&mut self.cloner, &from, &to, stat)?)
    }
}

fn same_bytes(a: &mut impl io::Read, b: &mut impl io::Read) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0u8; 64 * 1024], vec![0u8; 64 * 1024]);
    loop {
        let n = a.read(&mut left)?;
        if n == 0 {
            return Ok(b.read(&mut right)? == 0);
        }
        match b.read_exact(&mut right[..n]) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            other => other?,
        }
        if left[..n] != right[..n] {
            return Ok(false);
        }
    }
}
