//! Puts an archive's files on disk, inside one directory and nowhere else.
//!
//! Nothing in an archive is trusted. Names are cleaned to stay below the root;
//! the directory a file goes into is opened by the kernel with openat2(2)
//! beneath the root, so a link that leads out is an error and not a way;
//! everything is made relative to that descriptor and never through a link.
//! Whiteouts of image layers become overlayfs's own form; archives that are
//! not layers must not hold any. Not here: decompression (`compress`), the
//! archive's format (`tar_read`).

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Uid};
use rustix::io::Errno;

use crate::sys::copy::{set_times, set_times_at, write_all};
use crate::sys::dir::remove_tree;
use crate::sys::root_dir::{Escape, open_no_follow, stat_at};
use crate::sys::upper::{make_opaque, make_whiteout, remove_whiteout};
use crate::sys::users::Owner;
use crate::sys::xattr::{self, Target};
use crate::sys::{OverlayXattrs, RootDir};

use super::LayerError;
use super::entry::{OPAQUE_NAME, WHITEOUT_PREFIX};
use super::error::shown;
use super::tar_read::{EntryKind, Limits, TarEntry, TarReader};

/// The longest name an entry may have: the kernel takes no longer path (PATH_MAX with its NUL).
const MAX_NAME: usize = 4095;

/// The prefix of names that aufs kept its own files under; docker skips them too.
const AUFS_PREFIX: &[u8] = b".wh..wh.";

/// What names that start with `.wh.` mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whiteouts {
    /// An image layer: files of lower layers are deleted.
    Apply,
    /// Any other archive: an error, since such a file would delete others once it is in a layer.
    Refuse,
}

/// What becomes of files that are where an archive's go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// They make room, a directory with all that is in it for a file; directories get the entry's metadata.
    Replaced,
    /// The same, but a directory never makes room for anything else, nor anything else for a directory.
    SameKind,
    /// The same again, and a directory keeps its own metadata.
    DirectoriesKept,
}

/// How an archive is unpacked.
#[derive(Debug, Clone, Copy)]
pub struct UnpackOptions {
    /// Where overlayfs keeps its marks in this directory.
    pub xattrs: OverlayXattrs,
    pub whiteouts: Whiteouts,
    pub existing: Existing,
    /// The owner of everything, instead of the archive's (`ADD --chown`).
    pub owner: Option<Owner>,
    /// Whether the archive must have an end marker: not where its length and digest are known.
    pub end_marker: bool,
    pub limits: Limits,
}

impl UnpackOptions {
    /// Returns the options for an image layer.
    pub fn layer(xattrs: OverlayXattrs) -> UnpackOptions {
        UnpackOptions {
            xattrs,
            whiteouts: Whiteouts::Apply,
            existing: Existing::Replaced,
            owner: None,
            end_marker: true,
            limits: Limits::default(),
        }
    }

    /// Returns the options for an archive that is no layer (ADD, import).
    pub fn files(xattrs: OverlayXattrs) -> UnpackOptions {
        UnpackOptions { whiteouts: Whiteouts::Refuse, ..UnpackOptions::layer(xattrs) }
    }
}

/// What a user namespace or filesystem did not permit and was left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Device nodes that were not made, and hard links to them.
    pub devices: u64,
    /// Files that kept the owner they were made with; set-user-ID and set-group-ID were not given to them.
    pub owners: u64,
    /// Extended attributes.
    pub xattrs: u64,
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    pub left_out: LeftOut,
    /// Entries of the archive, whiteouts included.
    pub entries: u64,
    /// The sum of the lengths of the regular files, holes included.
    pub bytes: u64,
    /// The layer hides all layers below it. Overlayfs has no mark for that: the caller must not stack it on them.
    pub opaque_root: bool,
}

/// Unpacks an uncompressed archive into a directory; the reader is read to its end.
///
/// Files that are there are replaced, directories are kept and get the
/// entry's metadata; missing directories are made 0755 and owned by 0:0 (or
/// `owner`). The top directory changes only where the archive has an entry
/// for it. After an error the directory holds part of the archive.
pub fn unpack(reader: impl Read, into: &RootDir, options: &UnpackOptions) -> Result<Unpacked, LayerError> {
    let mut tar = TarReader::new(reader, options.limits);
    if !options.end_marker {
        tar = tar.may_just_end();
    }
    let mut unpacker = Unpacker {
        root: into,
        options,
        parent: None,
        directories: Vec::new(),
        missing_devices: HashSet::new(),
        buffer: Vec::new(),
        done: Unpacked::default(),
    };
    while let Some(entry) = tar.next_entry()? {
        unpacker.done.entries += 1;
        unpacker.done.bytes += entry.size;
        unpacker.entry(&entry, &mut tar)?;
    }
    unpacker.finish()
}

struct Unpacker<'a> {
    root: &'a RootDir,
    options: &'a UnpackOptions,
    /// The directory that was used last, by its cleaned name.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// The times of directories, set when nothing is put into them any more.
    directories: Vec<(Vec<u8>, i64, u32)>,
    /// Names of devices that could not be made.
    missing_devices: HashSet<Vec<u8>>,
    buffer: Vec<u8>,
    done: Unpacked,
}

/// Cleans a name: no `.`, no empty part, `..` takes one part back. Tells whether `..` went above the root.
pub(super) fn clean(name: &[u8]) -> (Vec<&[u8]>, bool) {
    let mut parts = Vec::new();
    let mut above = false;
    for part in name.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => above |= parts.pop().is_none(),
            part => parts.push(part),
        }
    }
    (parts, above)
}

fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn is_errno(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

impl Unpacker<'_> {
    fn entry<R: Read>(&mut self, entry: &TarEntry, tar: &mut TarReader<R>) -> Result<(), LayerError> {
        let fail = |why: &str| LayerError::entry(&entry.name, why);
        if entry.name.len() > MAX_NAME || entry.link.len() > MAX_NAME {
            return Err(fail("its name or link is longer than 4095 bytes"));
        }
        if entry.name.contains(&0) || entry.link.contains(&0) {
            return Err(fail("its name or link holds a NUL"));
        }
        if entry.name.is_empty() {
            return Err(fail("it has no name"));
        }
        // A name that climbs above the root stays at the root, as in a chroot.
        let (parts, _) = clean(&entry.name);
        let Some((&name, above)) = parts.split_last() else { return self.top(entry) };
        let special = parts.iter().position(|part| part.starts_with(WHITEOUT_PREFIX));
        let parent_name = above.join(&b'/');
        match (special, self.options.whiteouts) {
            (None, _) => {}
            (Some(_), Whiteouts::Refuse) => {
                return Err(fail(
                    "names that start with `.wh.` mean deleted files and are allowed in image layers only",
                ));
            }
            (Some(_), Whiteouts::Apply) if name == OPAQUE_NAME => return self.opaque(&parent_name, entry),
            (Some(i), Whiteouts::Apply) if parts[i].starts_with(AUFS_PREFIX) => return Ok(()),
            (Some(i), Whiteouts::Apply) if i + 1 < parts.len() => {
                return Err(fail("a whiteout holds no files"));
            }
            (Some(_), Whiteouts::Apply) => {
                return self.whiteout(&parent_name, &name[WHITEOUT_PREFIX.len()..], entry);
            }
        }
        let full = parts.join(&b'/');
        let parent = self.take_parent(&parent_name, entry)?;
        let name = OsStr::from_bytes(name);
        match entry.kind {
            EntryKind::Directory => {
                let (fd, is_entrys) = self.directory(&parent, name, entry)?;
                if is_entrys {
                    self.directories.push((full.clone(), entry.mtime_seconds, entry.mtime_nanos));
                }
                // What follows a directory mostly goes into it.
                self.parent = Some((full, fd));
                return Ok(());
            }
            EntryKind::File => self.file(&parent, name, entry, tar)?,
            EntryKind::Symlink => self.symlink(&parent, name, entry)?,
            EntryKind::HardLink => self.hard_link(&parent, name, full, entry)?,
            EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => {
                self.node(&parent, name, full, entry)?;
            }
        }
        if self.parent.is_none() {
            self.parent = Some((parent_name, parent));
        }
        Ok(())
    }

    /// Gives the top directory the metadata of an entry `./`.
    fn top(&mut self, entry: &TarEntry) -> Result<(), LayerError> {
        if entry.kind != EntryKind::Directory {
            return Err(LayerError::entry(&entry.name, "the top of an archive can only be a directory"));
        }
        if self.options.existing == Existing::DirectoriesKept {
            return Ok(());
        }
        let fd = open_no_follow(self.root.fd(), ".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
            .map_err(LayerError::file("open", b"."))?;
        self.metadata(&fd, entry)?;
        self.directories.push((Vec::new(), entry.mtime_seconds, entry.mtime_nanos));
        Ok(())
    }

    /// Returns the directory a file goes into, and makes it where it is missing.
    fn take_parent(&mut self, path: &[u8], entry: &TarEntry) -> Result<OwnedFd, LayerError> {
        if let Some((cached, fd)) = self.parent.take()
            && cached == path
        {
            return Ok(fd);
        }
        match self.root.open_dir_beneath(path_of(path)) {
            Ok(fd) => Ok(fd),
            Err(e) if is_errno(&e, Errno::XDEV) => {
                Err(LayerError::entry(&entry.name, "it goes through a link that leads out of the archive"))
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                self.make_parents(path, entry)
            }
            Err(e) => Err(LayerError::file("open", path)(e)),
        }
    }

    fn make_parents(&mut self, path: &[u8], entry: &TarEntry) -> Result<OwnedFd, LayerError> {
        let real = self.root.resolve(path_of(path), Escape::Refuse);
        let real = real.map_err(LayerError::file("resolve", path))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut dir = open_no_follow(self.root.fd(), ".", flags, Mode::empty())
            .map_err(LayerError::file("open", b"."))?;
        for component in real.components() {
            let name = component.as_os_str();
            let made = match rustix::fs::mkdirat(&dir, name, Mode::RWXU) {
                Ok(()) => {
                    self.uncovered(&dir, name)?;
                    true
                }
                Err(Errno::EXIST) => self.uncover(&dir, name)?,
                Err(e) => return Err(LayerError::file("create", path)(e.into())),
            };
            dir = match open_no_follow(&dir, name, flags, Mode::empty()) {
                Ok(fd) => fd,
                Err(e) if e.kind() == io::ErrorKind::NotADirectory || is_errno(&e, Errno::LOOP) => {
                    return Err(LayerError::entry(&entry.name, "a file is where its directory should be"));
                }
                Err(e) => return Err(LayerError::file("open", path)(e)),
            };
            if made {
                let owner = self.options.owner.unwrap_or(Owner { uid: 0, gid: 0 });
                self.chown(&dir, owner, path)?;
                rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o755))
                    .map_err(|e| LayerError::file("change the mode of", path)(e.into()))?;
            }
        }
        Ok(dir)
    }

    /// Replaces a whiteout of this layer by an empty directory; false where something else is there.
    fn uncover(&mut self, dir: &OwnedFd, name: &OsStr) -> Result<bool, LayerError> {
        let failed = |e: io::Error| LayerError::file("replace", name.as_bytes())(e);
        if self.options.whiteouts != Whiteouts::Apply || !stat_at(dir, name).map_err(failed)?.is_whiteout() {
            return Ok(false);
        }
        rustix::fs::unlinkat(dir, name, AtFlags::empty()).map_err(|e| failed(e.into()))?;
        rustix::fs::mkdirat(dir, name, Mode::RWXU).map_err(|e| failed(e.into()))?;
        self.hide_below(dir, name)?;
        Ok(true)
    }

    /// Does the same where a directory was made beside a whiteout that is a file.
    fn uncovered(&mut self, dir: &OwnedFd, name: &OsStr) -> Result<(), LayerError> {
        if self.options.whiteouts == Whiteouts::Apply && self.options.xattrs == OverlayXattrs::Files {
            let there = remove_whiteout(dir, name, self.options.xattrs);
            if there.map_err(LayerError::file("replace", name.as_bytes()))? {
                self.hide_below(dir, name)?;
            }
        }
        Ok(())
    }

    /// Makes a new directory opaque: the lower one was deleted, and must not shine through it.
    fn hide_below(&mut self, dir: &OwnedFd, name: &OsStr) -> Result<(), LayerError> {
        let fd = open_no_follow(dir, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
            .map_err(LayerError::file("replace", name.as_bytes()))?;
        self.mark_opaque(&fd, name.as_bytes())
    }

    /// Makes a directory; tells whether it has the entry's metadata.
    fn directory(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        entry: &TarEntry,
    ) -> Result<(OwnedFd, bool), LayerError> {
        let failed = |e: Errno| LayerError::file("create", &entry.name)(e.into());
        let mut is_entrys = true;
        match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => self.uncovered(parent, name)?,
            Err(Errno::EXIST) => {
                let there = stat_at(parent, name).map_err(LayerError::file("read", &entry.name))?;
                is_entrys = !there.is_dir() || self.options.existing != Existing::DirectoriesKept;
                if !there.is_dir() && self.options.existing != Existing::Replaced {
                    let why = format!(
                        "cannot overwrite non-directory \"{0}\" with directory \"{0}\"",
                        shown(&entry.name)
                    );
                    return Err(LayerError::entry(&entry.name, why));
                }
                if !there.is_dir() && !self.uncover(parent, name)? {
                    self.remove(parent, name, entry)?;
                    rustix::fs::mkdirat(parent, name, Mode::RWXU).map_err(failed)?;
                }
            }
            Err(e) => return Err(failed(e)),
        }
        let fd = open_no_follow(parent, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
            .map_err(LayerError::file("open", &entry.name))?;
        if is_entrys {
            self.metadata(&fd, entry)?;
        }
        Ok((fd, is_entrys))
    }

    fn file<R: Read>(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        entry: &TarEntry,
        tar: &mut TarReader<R>,
    ) -> Result<(), LayerError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let create = || open_no_follow(parent, name, flags, Mode::RUSR | Mode::WUSR);
        let fd = match create() {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                self.remove(parent, name, entry)?;
                create()
            }
            other => other,
        };
        let fd = fd.map_err(LayerError::file("create", &entry.name))?;
        self.contents(&fd, entry, tar)?;
        self.metadata(&fd, entry)?;
        set_times(&fd, entry.mtime_seconds, entry.mtime_nanos)
            .map_err(LayerError::file("set the times of", &entry.name))
    }

    fn contents<R: Read>(
        &mut self,
        fd: &OwnedFd,
        entry: &TarEntry,
        tar: &mut TarReader<R>,
    ) -> Result<(), LayerError> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; 256 * 1024];
        }
        let failed = || LayerError::file("write", &entry.name);
        let whole = [(0, entry.size)];
        for &(offset, length) in entry.sparse.as_deref().unwrap_or(&whole) {
            if entry.sparse.is_some() {
                rustix::fs::seek(fd, SeekFrom::Start(offset)).map_err(|e| failed()(e.into()))?;
            }
            let mut left = length;
            while left > 0 {
                let want = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let n = fill(tar, &mut self.buffer[..want])?;
                if n == 0 {
                    return Err(LayerError::entry(&entry.name, "its data is shorter than its length"));
                }
                write_all(fd, &self.buffer[..n]).map_err(failed())?;
                left -= n as u64;
            }
        }
        if entry.sparse.is_some() {
            rustix::fs::ftruncate(fd, entry.size).map_err(|e| failed()(e.into()))?;
        }
        Ok(())
    }

    fn symlink(&mut self, parent: &OwnedFd, name: &OsStr, entry: &TarEntry) -> Result<(), LayerError> {
        if entry.link.is_empty() {
            return Err(LayerError::entry(&entry.name, "the symbolic link has no target"));
        }
        let target = OsStr::from_bytes(&entry.link);
        let made = match rustix::fs::symlinkat(target, parent, name) {
            Err(Errno::EXIST) => {
                self.remove(parent, name, entry)?;
                rustix::fs::symlinkat(target, parent, name)
            }
            other => other,
        };
        made.map_err(|e| LayerError::file("create", &entry.name)(e.into()))?;
        self.metadata_at(parent, name, entry)
    }

    fn node(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        full: Vec<u8>,
        entry: &TarEntry,
    ) -> Result<(), LayerError> {
        let kind = match entry.kind {
            EntryKind::CharDevice if (entry.major, entry.minor) == (0, 0) => {
                return Err(LayerError::entry(
                    &entry.name,
                    "a character device 0:0 means a deleted file to overlayfs and is not allowed",
                ));
            }
            EntryKind::CharDevice => FileType::CharacterDevice,
            EntryKind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        // What Linux can say: 12 bits and 20 bits (mknod(2)).
        if entry.major >= 1 << 12 || entry.minor >= 1 << 20 {
            return Err(LayerError::entry(&entry.name, "the device's number is too large"));
        }
        let device = match entry.kind {
            EntryKind::Fifo => 0,
            _ => rustix::fs::makedev(entry.major, entry.minor),
        };
        let make = || rustix::fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device);
        let made = match make() {
            Err(Errno::EXIST) => {
                self.remove(parent, name, entry)?;
                make()
            }
            other => other,
        };
        match made {
            Ok(()) => self.metadata_at(parent, name, entry),
            Err(Errno::PERM) if kind != FileType::Fifo => {
                self.done.left_out.devices += 1;
                self.missing_devices.insert(full);
                Ok(())
            }
            Err(e) => Err(LayerError::file("create", &entry.name)(e.into())),
        }
    }

    fn hard_link(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        full: Vec<u8>,
        entry: &TarEntry,
    ) -> Result<(), LayerError> {
        let fail = |why: &str| {
            LayerError::entry(&entry.name, format!("the hard link's target `{}` {why}", shown(&entry.link)))
        };
        let (parts, above) = clean(&entry.link);
        if above {
            return Err(fail("is outside the archive"));
        }
        let Some((&target, dirs)) = parts.split_last() else { return Err(fail("is no file")) };
        if self.missing_devices.contains(&parts.join(&b'/')) {
            self.done.left_out.devices += 1;
            self.missing_devices.insert(full);
            return Ok(());
        }
        let target = OsStr::from_bytes(target);
        let dir = match self.root.open_dir_beneath(path_of(&dirs.join(&b'/'))) {
            Ok(dir) => dir,
            Err(e) if is_errno(&e, Errno::XDEV) => return Err(fail("is outside the archive")),
            Err(_) => return Err(fail("does not come before it in the archive")),
        };
        let stat = match stat_at(&dir, target) {
            Ok(stat) if stat.is_dir() => return Err(fail("is a directory")),
            Ok(stat) if !stat.is_whiteout() => stat,
            Ok(_) => return Err(fail("is a deleted file")),
            Err(_) => return Err(fail("does not come before it in the archive")),
        };
        let link = || rustix::fs::linkat(&dir, target, parent, name, AtFlags::empty());
        let made = match link() {
            Err(Errno::EXIST) => {
                let there = stat_at(parent, name).map_err(LayerError::file("read", &entry.name))?;
                if (there.dev, there.ino) == (stat.dev, stat.ino) {
                    return Ok(());
                }
                self.remove(parent, name, entry)?;
                link()
            }
            other => other,
        };
        made.map_err(|e| LayerError::file("create", &entry.name)(e.into()))
    }

    /// Hides a name of the layers below.
    fn whiteout(&mut self, parent_name: &[u8], name: &[u8], entry: &TarEntry) -> Result<(), LayerError> {
        if name.is_empty() || name == b"." || name == b".." {
            return Err(LayerError::entry(&entry.name, "the whiteout names no file"));
        }
        let parent = self.take_parent(parent_name, entry)?;
        let name = OsStr::from_bytes(name);
        match make_whiteout(&parent, name, self.options.xattrs) {
            Ok(()) => {}
            // The layer itself has such a file: whiteouts hide only what is below the layer.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let there = stat_at(&parent, name).map_err(LayerError::file("read", &entry.name))?;
                if there.is_dir() {
                    let fd = open_no_follow(&parent, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
                        .map_err(LayerError::file("open", &entry.name))?;
                    self.mark_opaque(&fd, &entry.name)?;
                }
            }
            Err(e) => return Err(LayerError::file("create", &entry.name)(e)),
        }
        self.parent = Some((parent_name.to_vec(), parent));
        Ok(())
    }

    /// Hides all that the layers below have in a directory.
    fn opaque(&mut self, dir_name: &[u8], entry: &TarEntry) -> Result<(), LayerError> {
        let dir = self.take_parent(dir_name, entry)?;
        self.mark_opaque(&dir, &entry.name)?;
        self.done.opaque_root |= dir_name.is_empty();
        self.parent = Some((dir_name.to_vec(), dir));
        Ok(())
    }

    fn mark_opaque(&self, dir: &OwnedFd, path: &[u8]) -> Result<(), LayerError> {
        make_opaque(dir, self.options.xattrs).map_err(LayerError::file("mark as opaque", path))
    }

    /// Removes what is in an entry's place, a directory with all that is in it.
    fn remove(&mut self, parent: &OwnedFd, name: &OsStr, entry: &TarEntry) -> Result<(), LayerError> {
        if self.options.existing != Existing::Replaced
            && entry.kind != EntryKind::Directory
            && stat_at(parent, name).is_ok_and(|there| there.is_dir())
        {
            let why =
                format!("cannot overwrite directory \"{0}\" with non-directory \"{0}\"", shown(&entry.name));
            return Err(LayerError::entry(&entry.name, why));
        }
        // The remembered directory may be what is removed.
        self.parent = None;
        remove_tree(parent.as_fd(), name).map_err(LayerError::file("replace", &entry.name))
    }

    fn owner(&self, entry: &TarEntry) -> Owner {
        self.options.owner.unwrap_or(Owner { uid: entry.uid, gid: entry.gid })
    }

    /// Changes an owner; false where the user namespace does not have it.
    fn chown(&mut self, fd: &OwnedFd, owner: Owner, path: &[u8]) -> Result<bool, LayerError> {
        let changed = rustix::fs::fchown(fd, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)));
        self.owned(changed, path)
    }

    fn owned(&mut self, changed: rustix::io::Result<()>, path: &[u8]) -> Result<bool, LayerError> {
        match changed {
            Ok(()) => Ok(true),
            Err(Errno::INVAL | Errno::PERM) => {
                self.done.left_out.owners += 1;
                Ok(false)
            }
            Err(e) => Err(LayerError::file("change the owner of", path)(e.into())),
        }
    }

    /// Returns the mode for a file whose owner could or could not be set.
    ///
    /// A program that was to run as one user must not run as the one it now belongs to.
    fn mode(entry: &TarEntry, owned: bool) -> Mode {
        let mask = if owned { 0o7777 } else { 0o1777 };
        Mode::from_raw_mode(entry.mode & mask)
    }

    /// Sets owner, mode and attributes of an open file, in the order in which none undoes another.
    fn metadata(&mut self, fd: &OwnedFd, entry: &TarEntry) -> Result<(), LayerError> {
        let owned = self.chown(fd, self.owner(entry), &entry.name)?;
        rustix::fs::fchmod(fd, Self::mode(entry, owned))
            .map_err(|e| LayerError::file("change the mode of", &entry.name)(e.into()))?;
        self.xattrs(xattr::of(fd), entry)
    }

    /// Sets the metadata of a link, device or FIFO that was just made in `parent`.
    fn metadata_at(&mut self, parent: &OwnedFd, name: &OsStr, entry: &TarEntry) -> Result<(), LayerError> {
        let owner = self.owner(entry);
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        let changed = rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW);
        let owned = self.owned(changed, &entry.name)?;
        if entry.kind != EntryKind::Symlink {
            rustix::fs::chmodat(parent, name, Self::mode(entry, owned), AtFlags::empty())
                .map_err(|e| LayerError::file("change the mode of", &entry.name)(e.into()))?;
        }
        self.xattrs(Target::Name(parent.as_fd(), name), entry)?;
        set_times_at(parent, name, entry.mtime_seconds, entry.mtime_nanos)
            .map_err(LayerError::file("set the times of", &entry.name))
    }

    fn xattrs(&mut self, target: Target<'_>, entry: &TarEntry) -> Result<(), LayerError> {
        for (name, value) in &entry.xattrs {
            if xattr::is_overlay(name) || xattr::is_of_host(name) {
                continue;
            }
            let set = xattr::try_set(target, name, value)
                .map_err(LayerError::file("set an attribute of", &entry.name))?;
            self.done.left_out.xattrs += u64::from(!set);
        }
        Ok(())
    }

    /// Sets the times of the directories, now that nothing changes them any more.
    fn finish(mut self) -> Result<Unpacked, LayerError> {
        self.parent = None;
        for (path, seconds, nanos) in self.directories.drain(..) {
            // One that a later entry replaced or that lies behind a link now is not this directory.
            let Ok(dir) = self.root.open_dir_beneath(path_of(&path)) else { continue };
            set_times(&dir, seconds, nanos).map_err(LayerError::file("set the times of", &path))?;
        }
        Ok(self.done)
    }
}

/// Reads until the buffer is full; the reader knows that there are as many bytes.
fn fill<R: Read>(tar: &mut TarReader<R>, buffer: &mut [u8]) -> Result<usize, LayerError> {
    let mut done = 0;
    while done < buffer.len() {
        match tar.read_data(&mut buffer[done..])? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}
