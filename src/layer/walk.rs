//! Reads an overlay upper directory in one fixed order.
//!
//! Entries of a directory come sorted by bytes, each directory before what is
//! in it. Everything is opened relative to the directory it is in, never
//! through a link, a few calls a file; depth is bounded by nothing but the
//! disk. Sockets are not part of layers. Not here: what becomes of the
//! entries (`tar_write`, `digest`).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::image::FileDigest;
use crate::sys::dir::DirStack;
use crate::sys::root_dir::{fstat, open_no_follow, read_link_at, stat_at};
use crate::sys::upper::{self, WHITEOUT_FILE, read_layer_dir};
use crate::sys::xattr::{self, Target};
use crate::sys::{OverlayXattrs, RootDir, Stat};

use super::LayerError;
use super::entry::{Entry, Kind, Sink, WHITEOUT_PREFIX};
use super::error::shown;
use super::root::{mark_name, root_changed};

/// How many bytes of a file are read at once.
const CHUNK: usize = 256 * 1024;

/// The attributes of one file: those a layer carries, and overlayfs's.
#[derive(Debug, Default)]
pub(super) struct Xattrs {
    /// Sorted by name.
    pub portable: Vec<(Vec<u8>, Vec<u8>)>,
    pub opaque: bool,
    /// What `inherit_root` remembers; on the top directory only.
    pub root_mark: Option<Vec<u8>>,
}

/// Reads a file's attributes; `path` is for messages.
pub(super) fn read_xattrs(
    target: Target<'_>,
    marks: OverlayXattrs,
    path: &[u8],
) -> Result<Xattrs, LayerError> {
    let failed = || LayerError::file("read the attributes of", path);
    let mut found = Xattrs::default();
    if marks == OverlayXattrs::Files
        && let Target::Fd(fd) = target
    {
        found.opaque = upper::is_opaque(fd, marks).map_err(failed())?;
    }
    for name in xattr::list(target).map_err(failed())? {
        let own = xattr::is_overlay(&name);
        let is_mark = own && name == mark_name(marks).as_bytes();
        let is_opaque = own && marks != OverlayXattrs::Files && name == marks.opaque().as_bytes();
        if (own || xattr::is_of_host(&name)) && !is_mark && !is_opaque {
            continue;
        }
        let Some(value) = xattr::get(target, &name).map_err(failed())? else { continue };
        if is_opaque {
            found.opaque = value == b"y";
        } else if is_mark {
            found.root_mark = Some(value);
        } else {
            let value = if name == b"security.capability" { outer_capability(value) } else { value };
            found.portable.push((name, value));
        }
    }
    Ok(found)
}

/// Turns file capabilities bound to a user namespace (revision 3) into those that hold anywhere (revision 2).
///
/// capabilities(7), "File capability extended attribute versioning"; the
/// layout is `struct vfs_ns_cap_data` of linux/capability.h.
fn outer_capability(value: Vec<u8>) -> Vec<u8> {
    const REVISION_MASK: u32 = 0xff00_0000;
    const REVISION_2: u32 = 0x0200_0000;
    const REVISION_3: u32 = 0x0300_0000;
    match value.first_chunk::<4>().map(|magic| u32::from_le_bytes(*magic)) {
        Some(magic) if magic & REVISION_MASK == REVISION_3 && value.len() == 24 => {
            let mut outer = ((magic & !REVISION_MASK) | REVISION_2).to_le_bytes().to_vec();
            outer.extend_from_slice(&value[4..20]);
            outer
        }
        _ => value,
    }
}

/// Gives every entry of the layer to `sink`.
pub(super) fn walk(root: &RootDir, marks: OverlayXattrs, sink: &mut impl Sink) -> Result<(), LayerError> {
    walk_with(root, marks, false, sink)
}

/// Does the same; `changing`: names that go while they are read are left out.
pub(super) fn walk_with(
    root: &RootDir,
    marks: OverlayXattrs,
    changing: bool,
    sink: &mut impl Sink,
) -> Result<(), LayerError> {
    let top = open_no_follow(root.fd(), ".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
        .map_err(LayerError::file("open", b"."))?;
    let mut walk = Walk::new(marks, sink);
    walk.changing = changing;
    let stat = fstat(&top).map_err(LayerError::file("read", b"."))?;
    let xattrs = read_xattrs(xattr::of(&top), marks, b".")?;
    walk.path.extend_from_slice(b".");
    if root_changed(&stat, &xattrs) {
        walk.emit(Kind::Directory, &stat, b"", &xattrs.portable)?;
    }
    if xattrs.opaque {
        walk.emit_bare(Kind::Opaque)?;
    }
    walk.path.clear();
    walk.tree(top)
}

/// Tells whether what was listed a moment ago is not there any more, or is another kind of file now.
pub(super) fn has_gone(error: &io::Error) -> bool {
    let other_kind = [Errno::NOTDIR, Errno::LOOP].map(Errno::raw_os_error);
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error().is_some_and(|number| other_kind.contains(&number))
}

/// A directory whose entries are being read.
struct Level {
    entries: std::vec::IntoIter<(OsString, FileType)>,
    /// How long the walk's path is without a name of this level.
    path_length: usize,
}

/// Gives entries to a sink, one after the other.
pub(super) struct Walk<'s, S> {
    marks: OverlayXattrs,
    sink: &'s mut S,
    /// Of the entry that is looked at; names are added and taken off by who walks.
    pub path: Vec<u8>,
    /// The first path of each file with several names, by device and inode.
    first_names: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    /// Whether somebody else changes the files meanwhile: what goes is passed over, and what a file has lost of its
    /// length is zeros.
    pub changing: bool,
    /// Whether the next file gets further names, although it may not have them yet.
    pub several: bool,
    /// The digest of the next regular file, where that is known.
    pub known: Option<FileDigest>,
}

impl<'s, S: Sink> Walk<'s, S> {
    pub fn new(marks: OverlayXattrs, sink: &'s mut S) -> Walk<'s, S> {
        Walk {
            marks,
            sink,
            path: Vec::new(),
            first_names: HashMap::new(),
            buffer: Vec::new(),
            changing: false,
            several: false,
            known: None,
        }
    }

    fn tree(&mut self, top: OwnedFd) -> Result<(), LayerError> {
        let mut levels = vec![self.level(&top)?];
        let mut dirs = DirStack::new(top).map_err(LayerError::file("read", b"."))?;
        while let Some(level) = levels.last_mut() {
            self.path.truncate(level.path_length);
            let Some((name, kind)) = level.entries.next() else {
                levels.pop();
                dirs.pop().map_err(LayerError::file("leave", &self.path))?;
                continue;
            };
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.as_bytes());
            if name.as_bytes().starts_with(WHITEOUT_PREFIX) {
                return Err(LayerError::ReservedName { path: shown(&self.path) });
            }
            let below = match self.file(dirs.current(), &name, kind) {
                Err(LayerError::File { source, .. }) if self.changing && has_gone(&source) => None,
                // Before any of it was given on: its bytes never are the reason.
                Err(LayerError::Changed { .. }) if self.changing => None,
                other => other?,
            };
            if let Some(below) = below {
                levels.push(self.level(&below)?);
                dirs.push(below).map_err(LayerError::file("read", &self.path))?;
            }
        }
        Ok(())
    }

    fn level(&self, dir: &OwnedFd) -> Result<Level, LayerError> {
        let entries = match read_layer_dir(dir, self.marks) {
            Err(error) if self.changing && has_gone(&error) => Vec::new(),
            other => other.map_err(LayerError::file("read", &self.path))?,
        };
        Ok(Level { entries: entries.into_iter(), path_length: self.path.len() })
    }

    /// Gives one entry to the sink; returns the directory to go into, if it is one.
    pub fn file(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        kind: FileType,
    ) -> Result<Option<OwnedFd>, LayerError> {
        match kind {
            FileType::Socket => Ok(None),
            WHITEOUT_FILE => self.emit_bare(Kind::Whiteout).map(|()| None),
            FileType::RegularFile | FileType::Directory => {
                let directory = match kind {
                    FileType::Directory => OFlags::DIRECTORY,
                    _ => OFlags::empty(),
                };
                let open = open_no_follow(dir, name, OFlags::RDONLY | directory, Mode::empty());
                let fd = open.map_err(LayerError::file("open", &self.path))?;
                let stat = fstat(&fd).map_err(LayerError::file("read", &self.path))?;
                if stat.kind != kind {
                    return Err(LayerError::Changed { path: shown(&self.path) });
                }
                if kind == FileType::RegularFile {
                    self.regular(&fd, &stat)?;
                    return Ok(None);
                }
                let xattrs = read_xattrs(xattr::of(&fd), self.marks, &self.path)?;
                self.emit(Kind::Directory, &stat, b"", &xattrs.portable)?;
                if xattrs.opaque {
                    self.emit_bare(Kind::Opaque)?;
                }
                Ok(Some(fd))
            }
            _ => {
                let stat = stat_at(dir, name).map_err(LayerError::file("read", &self.path))?;
                if stat.is_whiteout() {
                    self.emit_bare(Kind::Whiteout)?;
                    return Ok(None);
                }
                let kind = match stat.kind {
                    FileType::Symlink => Kind::Symlink,
                    FileType::CharacterDevice => Kind::CharDevice,
                    FileType::BlockDevice => Kind::BlockDevice,
                    FileType::Fifo => Kind::Fifo,
                    _ => return Err(LayerError::Changed { path: shown(&self.path) }),
                };
                if self.further_name(&stat)? {
                    return Ok(None);
                }
                let link = match kind {
                    Kind::Symlink => read_link_at(dir, name).map_err(LayerError::file("read", &self.path))?,
                    _ => OsString::new(),
                };
                let xattrs = read_xattrs(Target::Name(dir, name), self.marks, &self.path)?;
                self.emit(kind, &stat, link.as_bytes(), &xattrs.portable)?;
                Ok(None)
            }
        }
    }

    fn regular(&mut self, fd: &OwnedFd, stat: &Stat) -> Result<(), LayerError> {
        if self.further_name(stat)? {
            return Ok(());
        }
        let xattrs = read_xattrs(xattr::of(fd), self.marks, &self.path)?;
        self.emit(Kind::File, stat, b"", &xattrs.portable)?;
        self.data(fd, stat.size)
    }

    /// Gives the next bytes of an open file to the sink.
    pub fn data(&mut self, fd: &OwnedFd, size: u64) -> Result<(), LayerError> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; CHUNK];
        }
        let mut left = size;
        while left > 0 {
            let want = CHUNK.min(usize::try_from(left).unwrap_or(CHUNK));
            match rustix::io::read(fd, &mut self.buffer[..want]) {
                Ok(0) if self.changing => {
                    self.buffer[..want].fill(0);
                    self.sink.data(&self.buffer[..want])?;
                    left -= want as u64;
                }
                Ok(0) => return Err(LayerError::Changed { path: shown(&self.path) }),
                Ok(n) => {
                    self.sink.data(&self.buffer[..n])?;
                    left -= n as u64;
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(LayerError::file("read", &self.path)(io::Error::from(e))),
            }
        }
        Ok(())
    }

    /// Emits a hard link where the file was seen under another name.
    ///
    /// Identity is device and inode: inode numbers alone repeat across filesystems.
    fn further_name(&mut self, stat: &Stat) -> Result<bool, LayerError> {
        if stat.nlink < 2 && !self.several {
            return Ok(false);
        }
        match self.first_names.get(&(stat.dev, stat.ino)) {
            None => {
                self.first_names.insert((stat.dev, stat.ino), self.path.clone());
                Ok(false)
            }
            Some(first) => {
                let first = first.clone();
                self.emit(Kind::HardLink, stat, &first, &[])?;
                Ok(true)
            }
        }
    }

    pub fn emit(
        &mut self,
        kind: Kind,
        stat: &Stat,
        link: &[u8],
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<(), LayerError> {
        let device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
        let entry = Entry {
            kind,
            path: &self.path,
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            mtime_seconds: stat.mtime_seconds,
            mtime_nanos: stat.mtime_nanos,
            size: if kind == Kind::File { stat.size } else { 0 },
            link,
            major: if device { rustix::fs::major(stat.rdev) } else { 0 },
            minor: if device { rustix::fs::minor(stat.rdev) } else { 0 },
            xattrs,
        };
        match self.known.take() {
            Some(digest) if kind == Kind::File => self.sink.known_file(&entry, &digest),
            _ => self.sink.entry(&entry),
        }
    }

    fn emit_bare(&mut self, kind: Kind) -> Result<(), LayerError> {
        self.sink.entry(&Entry::bare(kind, &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::outer_capability;

    #[test]
    fn capabilities_lose_the_user_namespace() {
        let mut inner = 0x0300_0001u32.to_le_bytes().to_vec();
        inner.extend((0..16).collect::<Vec<u8>>());
        inner.extend(100_000u32.to_le_bytes());
        let mut outer = 0x0200_0001u32.to_le_bytes().to_vec();
        outer.extend((0..16).collect::<Vec<u8>>());
        assert_eq!(outer_capability(inner), outer);
        assert_eq!(outer_capability(outer.clone()), outer);
        assert_eq!(outer_capability(b"odd".to_vec()), b"odd");
    }
}
