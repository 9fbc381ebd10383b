//! Single files, links and nodes in the upper.
//!
//! Not here: directories (`place`).

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Uid;
use rustix::io::Errno;

use crate::context::Entry;
use crate::context::EntryKind;
use crate::context::hash_file;
use crate::context::may_change_unseen;
use crate::context::same_content;
use crate::image::FileDigest;
use crate::layer::Announced;
use crate::sys::Stat;
use crate::sys::copy::set_times;
use crate::sys::copy::set_times_at;
use crate::sys::copy::write_all;
use crate::sys::root_dir::fstat;
use crate::sys::root_dir::open_no_follow;
use crate::sys::root_dir::stat_at;
use crate::sys::users::Owner;
use crate::sys::xattr;
use crate::sys::xattr::Target;

use super::Copier;
use super::CopyError;
use super::announce::regular_file;
use super::check_name;
use super::place::Place;

/// Files from this size on are digested while they are written.
const LARGE: u64 = 4 << 20;

/// Where an entry is read from.
pub(super) struct Origin<'o> {
    /// The directory it is in, and its name there.
    pub dir: &'o OwnedFd,
    pub name: &'o OsStr,
    /// Its path for messages, in two parts of which the second may be empty.
    pub root: &'o Path,
    pub path: &'o Path,
}

impl Origin<'_> {
    fn path(&self) -> PathBuf {
        match self.path.as_os_str().is_empty() {
            true => self.root.to_owned(),
            false => self.root.join(self.path),
        }
    }
}

impl Copier<'_> {
    /// Copies an entry that is no directory: it becomes `name`.
    pub(super) fn entry(
        &mut self,
        origin: &Origin<'_>,
        entry: &Entry,
        place: &mut Place,
        name: &OsStr,
    ) -> Result<(), CopyError> {
        check_name(&place.path, name)?;
        self.check_free(place, name)?;
        self.done.files += 1;
        match &entry.kind {
            EntryKind::Directory => return Err(CopyError::Changed(origin.path())),
            EntryKind::File(digest) => return self.regular(origin, entry, digest, place, name),
            EntryKind::Link(target) => {
                let make = || rustix::fs::symlinkat(target.as_os_str(), &place.upper, name);
                self.make(place, name, "make the link", make)?;
                self.named_metadata(place, name, entry, false)?;
            }
            EntryKind::Fifo => self.node(place, name, entry, FileType::Fifo, 0)?,
            EntryKind::CharDevice if entry.stat.rdev == 0 => {
                return Err(CopyError::Whiteout(place.path.join(name)));
            }
            EntryKind::CharDevice => {
                self.node(place, name, entry, FileType::CharacterDevice, entry.stat.rdev)?;
            }
            EntryKind::BlockDevice => {
                self.node(place, name, entry, FileType::BlockDevice, entry.stat.rdev)?;
            }
        }
        self.announce(
            place,
            name,
            Announced { kind: entry.stat.kind, several: false, size: 0, digest: None },
        );
        Ok(())
    }

    /// Writes a heredoc: 0644 and 0:0 unless the flags say otherwise.
    pub(super) fn inline(&mut self, data: &[u8], place: &mut Place, name: &OsStr) -> Result<(), CopyError> {
        check_name(&place.path, name)?;
        self.check_free(place, name)?;
        let path = place.path.join(name);
        let file = self.create(place, name)?;
        write_all(&file, data).map_err(|source| CopyError::Write {
            action: "write",
            path: path.clone(),
            source,
        })?;
        let owner = self.chown.unwrap_or(Owner { uid: 0, gid: 0 });
        let bits = self.own(&file, || path.clone(), owner, self.chown.is_some())?;
        let mode = bits & self.chmod.as_ref().map_or(0o644, |chmod| chmod.apply(0o644, false));
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(|e| CopyError::Write {
            action: "change the mode of",
            path,
            source: e.into(),
        })?;
        self.done.files += 1;
        self.done.bytes += data.len() as u64;
        self.announce(place, name, regular_file(data.len() as u64, None));
        Ok(())
    }

    fn regular(
        &mut self,
        origin: &Origin<'_>,
        entry: &Entry,
        digest: &FileDigest,
        place: &mut Place,
        name: &OsStr,
    ) -> Result<(), CopyError> {
        let stat = &entry.stat;
        let key = (stat.dev, stat.ino);
        let several = self.several.contains(&key);
        let announced = Announced { several, ..regular_file(stat.size, Some(*digest)) };
        if several && self.link(key, place, name)? || self.link_earlier(entry, digest, place, name)? {
            self.announce(place, name, announced);
            return Ok(());
        }
        let read = |source| CopyError::Read { path: origin.path(), source };
        let from = open_no_follow(origin.dir, origin.name, OFlags::RDONLY, Mode::empty()).map_err(read)?;
        let to = self.create(place, name)?;
        let large = !several && stat.size >= LARGE;
        let writing = if large { self.announce_large(entry, announced, place, name) } else { None };
        if stat.size > 0 {
            let written = |bytes| writing.iter().for_each(|writing| writing.written(bytes));
            let copied = self.cloner.copy(&from, &to, stat.size, stat.blocks, written);
            self.done.bytes += copied.map_err(|source| CopyError::Write {
                action: "write",
                path: place.path.join(name),
                source,
            })?;
        }
        // The key says what was hashed: bytes written since must not get in under it.
        let now = fstat(&from).map_err(read)?;
        // One more name, as a tree of links gives it, moves the change time alone.
        let known = |s: &Stat| (s.size, s.mtime_seconds, s.mtime_nanos);
        if !now.is_file() || known(&now) != known(stat) {
            return Err(CopyError::Changed(origin.path()));
        }
        self.check_unseen(&now, entry, digest, (place.upper.as_fd(), name), || origin.path())?;
        let bits = self.metadata(&to, || place.path.join(name), stat, &entry.xattrs, place.born)?;
        if several {
            self.links.insert(key, place.path.join(name));
        } else if bits == 0o7777 {
            self.list(entry, digest, place, name);
        }
        match writing {
            Some(writing) => writing.complete(),
            None if large => {}
            None => self.announce(place, name, announced),
        }
        Ok(())
    }

    /// Looks at the bytes where the times cannot tell whether they are those that were hashed.
    ///
    /// `now` is what stat says of the source, `file` where those bytes are.
    pub(super) fn check_unseen(
        &self,
        now: &Stat,
        entry: &Entry,
        digest: &FileDigest,
        file: (BorrowedFd<'_>, &OsStr),
        origin: impl Fn() -> PathBuf,
    ) -> Result<(), CopyError> {
        // Not the device's number: each view of the same layers has its own.
        if now.ino == entry.stat.ino
            && same_content(now, &entry.stat)
            && !may_change_unseen(&entry.stat, self.began)
        {
            return Ok(());
        }
        let (found, ..) = hash_file(file.0, file.1, Path::new(file.1), &mut Vec::new())?;
        match found == *digest {
            true => Ok(()),
            false => Err(CopyError::Changed(origin())),
        }
    }

    /// Links a file to a name it got before in this copy; false when it has none yet.
    fn link(&mut self, key: (u64, u64), place: &Place, name: &OsStr) -> Result<bool, CopyError> {
        let Some(first) = self.links.get(&key).cloned() else { return Ok(false) };
        if first == place.path.join(name) {
            return Ok(true);
        }
        let upper = self.upper;
        let make = || rustix::fs::linkat(upper.fd(), &first, &place.upper, name, AtFlags::empty());
        match self.make(place, name, "make the hard link", make) {
            Ok(()) => Ok(true),
            // A path too long to say, or the file's last possible name: a copy will do.
            Err(CopyError::Write { source, .. })
                if matches!(
                    source.raw_os_error().map(Errno::from_raw_os_error),
                    Some(Errno::NAMETOOLONG | Errno::MLINK)
                ) =>
            {
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    fn node(
        &mut self,
        place: &Place,
        name: &OsStr,
        entry: &Entry,
        kind: FileType,
        rdev: u64,
    ) -> Result<(), CopyError> {
        let mode = Mode::from_raw_mode(0o600);
        let make = || rustix::fs::mknodat(&place.upper, name, kind, mode, rdev);
        match self.make(place, name, "make the node", make) {
            Ok(()) => self.named_metadata(place, name, entry, true),
            // No user namespace may make devices.
            Err(CopyError::Write { source, .. })
                if kind != FileType::Fifo && source.kind() == io::ErrorKind::PermissionDenied =>
            {
                self.done.left_out_devices += 1;
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// Refuses to put a file where a directory is below; what is in the upper is seen when it is made.
    fn check_free(&self, place: &Place, name: &OsStr) -> Result<(), CopyError> {
        let Some(base) = &place.base else { return Ok(()) };
        match stat_at(base, name) {
            Ok(stat) if stat.is_dir() => Err(CopyError::IsADirectory(place.path.join(name))),
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(CopyError::Read { path: place.path.join(name), source }),
        }
    }

    fn create(&mut self, place: &mut Place, name: &OsStr) -> Result<OwnedFd, CopyError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let make = || rustix::fs::openat(&place.upper, name, flags, Mode::from_raw_mode(0o600));
        let file = self.make(place, name, "make the file", make)?;
        if place.born.is_none() {
            // All files that are made in one directory belong to the same user and group.
            place.born = fstat(&file).ok().map(|stat| Owner { uid: stat.uid, gid: stat.gid });
        }
        Ok(file)
    }

    /// Makes something of a name; a file that this copy put there before goes.
    pub(super) fn make<T>(
        &mut self,
        place: &Place,
        name: &OsStr,
        action: &'static str,
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, CopyError> {
        let fail = |e: Errno| CopyError::Write { action, path: place.path.join(name), source: e.into() };
        match make() {
            Err(Errno::EXIST) => {}
            other => return other.map_err(fail),
        }
        let path = place.path.join(name);
        match rustix::fs::unlinkat(&place.upper, name, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::ISDIR | Errno::PERM) => return Err(CopyError::IsADirectory(path)),
            Err(e) => return Err(fail(e)),
        }
        self.links.retain(|_, first| *first != path);
        self.aids.files.replaced(&path);
        make().map_err(fail)
    }

    pub(super) fn owner_of(&self, stat: &Stat) -> (Owner, bool) {
        match self.chown {
            Some(owner) => (owner, true),
            None if self.keep_owners => (Owner { uid: stat.uid, gid: stat.gid }, false),
            None => (Owner { uid: 0, gid: 0 }, false),
        }
    }

    pub(super) fn mode_of(&self, stat: &Stat) -> u32 {
        self.chmod.as_ref().map_or(stat.mode, |chmod| chmod.apply(stat.mode, stat.is_dir()))
    }

    /// Gives an open file or directory owner, mode, attributes and time, in the order in which
    /// none undoes another: chown clears set-user-ID and capabilities.
    ///
    /// `born` is whom it belongs to already, if that is known. Returns which bits of the mode it could get.
    pub(super) fn metadata(
        &mut self,
        fd: &impl AsFd,
        path: impl Fn() -> PathBuf + Copy,
        stat: &Stat,
        xattrs: &[(Vec<u8>, Vec<u8>)],
        born: Option<Owner>,
    ) -> Result<u32, CopyError> {
        let fail = |action| move |source: io::Error| CopyError::Write { action, path: path(), source };
        let (owner, asked) = self.owner_of(stat);
        let bits = match born == Some(owner) {
            true => 0o7777,
            false => self.own(fd, path, owner, asked)?,
        };
        for (name, value) in xattrs {
            let set = xattr::try_set(xattr::of(fd), name, value).map_err(fail("set an attribute of"))?;
            self.done.left_out_xattrs += u64::from(!set);
        }
        // After the attributes: an access control list sets the group's bits.
        rustix::fs::fchmod(fd, Mode::from_raw_mode(self.mode_of(stat) & bits))
            .map_err(|e| fail("change the mode of")(e.into()))?;
        let (seconds, nanos) = self.time_of(stat);
        set_times(fd, seconds, nanos).map_err(fail("set the time of"))?;
        Ok(bits)
    }

    /// As [`Copier::metadata`] for what cannot be opened; a link has no mode.
    fn named_metadata(
        &mut self,
        place: &Place,
        name: &OsStr,
        entry: &Entry,
        has_mode: bool,
    ) -> Result<(), CopyError> {
        let path = place.path.join(name);
        let fail = |action| {
            let path = path.clone();
            move |source: io::Error| CopyError::Write { action, path, source }
        };
        let (owner, asked) = self.owner_of(&entry.stat);
        let (uid, gid) = (Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)));
        let changed = rustix::fs::chownat(&place.upper, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
        let bits = self.owned(changed, || path.clone(), owner, asked)?;
        for (attribute, value) in &entry.xattrs {
            let target = Target::Name(place.upper.as_fd(), name);
            let set = xattr::try_set(target, attribute, value).map_err(fail("set an attribute of"))?;
            self.done.left_out_xattrs += u64::from(!set);
        }
        if has_mode {
            let mode = Mode::from_raw_mode(self.mode_of(&entry.stat) & bits);
            rustix::fs::chmodat(&place.upper, name, mode, AtFlags::empty())
                .map_err(|e| fail("change the mode of")(e.into()))?;
        }
        let (seconds, nanos) = self.time_of(&entry.stat);
        set_times_at(&place.upper, name, seconds, nanos).map_err(fail("set the time of"))
    }
}
