//! Directories in the upper: those of the base stand in again, missing ones are made.
//!
//! Not here: files (`write`).

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::Uid;
use rustix::io::Errno;

use crate::sys::root_dir::fstat;
use crate::sys::root_dir::open_no_follow;
use crate::sys::users::Owner;
use crate::sys::xattr;

use super::Copier;
use super::CopyError;
use super::DIRECTORY;
use super::check_name;

/// A directory of the merged tree, open in the upper and, where it exists there, below.
#[derive(Debug)]
pub(super) struct Place {
    /// Relative to the root, without links.
    pub path: PathBuf,
    pub upper: OwnedFd,
    pub base: Option<OwnedFd>,
    /// The same directory of the layer that the same COPY made before.
    pub earlier: Option<OwnedFd>,
    /// Whether what is made in it gets no access control list from it.
    pub plain: bool,
    /// Who owns files that are made in it, once that was seen.
    pub born: Option<Owner>,
}

/// What a directory that exists nowhere yet gets.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewDirectory {
    pub mode: u32,
    pub owner: Owner,
}

/// How a directory came to be in the upper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// It was there.
    Existed,
    /// It exists below, and now stands in the upper with the same metadata.
    Replicated,
    Made,
}

impl Copier<'_> {
    /// Opens a directory of the merged tree for writing, and makes what is missing on the way.
    pub(super) fn place(&mut self, path: &Path) -> Result<Place, CopyError> {
        let open = |root: &crate::sys::RootDir| {
            root.open_at(Path::new("."), DIRECTORY, Mode::empty())
                .map_err(|source| CopyError::Read { path: PathBuf::from("/"), source })
        };
        let base = self.base.map(open).transpose()?;
        if let Some(base) = &base
            && !self.restore.iter().any(|(path, _)| path.as_os_str().is_empty())
        {
            let stat = fstat(base).map_err(|source| CopyError::Read { path: "/".into(), source })?;
            self.restore.push((PathBuf::new(), (stat.mtime_seconds, stat.mtime_nanos)));
        }
        let upper = open(self.upper)?;
        let earlier = match &self.aids.earlier {
            Some(earlier) => open_no_follow(earlier.root(), ".", DIRECTORY, Mode::empty()).ok(),
            None => None,
        };
        let plain = is_plain(&upper);
        let mut place = Place { path: PathBuf::new(), upper, base, earlier, plain, born: None };
        for component in path.components() {
            let (below, came) = self.step(&place, component.as_os_str())?;
            if came != Came::Existed {
                self.announce_directory(&place, component.as_os_str(), &below, None);
            }
            place = below;
        }
        Ok(place)
    }

    /// Goes down one directory, and makes it in the upper if it is not there.
    pub(super) fn step(&mut self, place: &Place, name: &OsStr) -> Result<(Place, Came), CopyError> {
        check_name(&place.path, name)?;
        let path = place.path.join(name);
        let fail = |action| {
            let path = path.clone();
            move |source: io::Error| CopyError::Write { action, path, source }
        };
        let upper = open_directory(&place.upper, name).map_err(|e| refuse(e, &path))?;
        let base = match (&place.base, &upper) {
            (None, _) => None,
            (Some(base), upper) => match open_directory(base, name) {
                Ok(below) => below,
                // What stands in the upper covers what is below.
                Err(_) if upper.is_some() => None,
                Err(e) => return Err(refuse(e, &path)),
            },
        };
        let earlier = place.earlier.as_ref();
        let earlier = earlier.and_then(|dir| open_no_follow(dir, name, DIRECTORY, Mode::empty()).ok());
        if let Some(upper) = upper {
            let plain = is_plain(&upper);
            return Ok((Place { path, upper, base, earlier, plain, born: None }, Came::Existed));
        }
        rustix::fs::mkdirat(&place.upper, name, Mode::from_raw_mode(0o700))
            .map_err(|e| fail("make the directory")(e.into()))?;
        let upper = open_no_follow(&place.upper, name, DIRECTORY, Mode::empty()).map_err(fail("open"))?;
        let came = match &base {
            Some(base) => {
                self.replicate(base, &upper, &path)?;
                Came::Replicated
            }
            None => {
                let NewDirectory { mode, owner } = self.new_directory;
                let bits = self.own(&upper, || path.clone(), owner, self.chown.is_some())?;
                rustix::fs::fchmod(&upper, Mode::from_raw_mode(mode & bits))
                    .map_err(|e| fail("change the mode of")(e.into()))?;
                // Who digests it meanwhile must know its time before all is in it.
                let stat = fstat(&upper).map_err(fail("read"))?;
                self.restore.push((path.clone(), (stat.mtime_seconds, stat.mtime_nanos)));
                Came::Made
            }
        };
        let plain = is_plain(&upper);
        Ok((Place { path, upper, base, earlier, plain, born: None }, came))
    }

    /// Gives a directory of the upper what the one below has; its time at the end of the copy.
    fn replicate(&mut self, base: &OwnedFd, upper: &OwnedFd, path: &Path) -> Result<(), CopyError> {
        let fail = |action| {
            let path = path.to_owned();
            move |source: io::Error| CopyError::Write { action, path, source }
        };
        let stat = fstat(base).map_err(fail("read"))?;
        let bits = self.own(upper, || path.to_owned(), Owner { uid: stat.uid, gid: stat.gid }, false)?;
        self.done.left_out_xattrs +=
            xattr::copy_xattrs(xattr::of(base), xattr::of(upper)).map_err(fail("set an attribute of"))?;
        rustix::fs::fchmod(upper, Mode::from_raw_mode(stat.mode & bits))
            .map_err(|e| fail("change the mode of")(e.into()))?;
        self.restore.push((path.to_owned(), (stat.mtime_seconds, stat.mtime_nanos)));
        Ok(())
    }

    /// Changes an owner. One that the user namespace does not know is an error only when it was asked for.
    ///
    /// Returns which bits of the mode may be given: a program that was to run as one user
    /// must not run as the one it belongs to now.
    pub(super) fn own(
        &mut self,
        fd: &impl AsFd,
        path: impl Fn() -> PathBuf,
        owner: Owner,
        asked: bool,
    ) -> Result<u32, CopyError> {
        let (uid, gid) = (Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)));
        let changed = rustix::fs::fchown(fd, uid, gid);
        self.owned(changed, path, owner, asked)
    }

    /// Judges the result of a chown.
    pub(super) fn owned(
        &mut self,
        changed: Result<(), Errno>,
        path: impl Fn() -> PathBuf,
        owner: Owner,
        asked: bool,
    ) -> Result<u32, CopyError> {
        match changed {
            Ok(()) => Ok(0o7777),
            Err(Errno::INVAL | Errno::PERM) if !asked => {
                self.done.left_out_owners += 1;
                Ok(0o1777)
            }
            Err(e @ (Errno::INVAL | Errno::PERM)) => {
                let Owner { uid, gid } = owner;
                Err(CopyError::Owner { path: path(), uid, gid, source: e.into() })
            }
            Err(e) => Err(CopyError::Write { action: "change the owner of", path: path(), source: e.into() }),
        }
    }
}

/// Tells whether a directory gives what is made in it no access control list (acl(5)).
fn is_plain(directory: &OwnedFd) -> bool {
    xattr::list(xattr::of(directory))
        .is_ok_and(|names| !names.iter().any(|name| name == b"system.posix_acl_default"))
}

/// Opens a directory if there is one of that name; anything else of that name is an error.
fn open_directory(parent: &OwnedFd, name: &OsStr) -> io::Result<Option<OwnedFd>> {
    match open_no_follow(parent, name, DIRECTORY, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn refuse(error: io::Error, path: &Path) -> CopyError {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        // O_DIRECTORY with O_NOFOLLOW: ENOTDIR for a link too.
        Some(Errno::NOTDIR | Errno::LOOP) => CopyError::NotADirectory(path.to_owned()),
        _ => CopyError::Read { path: path.to_owned(), source: error },
    }
}
