//! What lies in a root for the time of a step: put over what is there, and taken off again.
//!
//! What is covered is moved aside and comes back as it was. The directory around it keeps its times,
//! so that nothing of this is a change of the step's. All is done by open directories: what the step
//! makes of the paths meanwhile leads nowhere else.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::ChrootError;
use super::tree;
use crate::sys::RootDir;
use crate::sys::copy::{set_times, write_all};
use crate::sys::dir::remove_tree;
use crate::sys::root_dir::{Escape, fstat, open_no_follow, stat_at};
use crate::sys::snapshotter::write_points;

/// The devices of a step, the harmless ones, by their numbers: the kernel's devices.txt.
pub(super) const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// The links that programs expect; they lead to /proc, which is not there, and say so.
const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// What is put somewhere.
pub(super) enum New {
    /// An empty directory.
    Directory {
        mode: u32,
    },
    File {
        content: Vec<u8>,
        mode: u32,
        uid: u32,
        gid: u32,
    },
    /// A copy of what is open, thrown away after; a socket becomes another name of it.
    Copy(OwnedFd),
    /// The open directory itself, moved here and back.
    Moved(OwnedFd),
}

impl New {
    fn what(&self) -> &'static str {
        match self {
            New::Directory { .. } => "an empty directory",
            New::File { .. } => "a file",
            New::Copy(_) => "a copy of what is to be mounted",
            New::Moved(_) => "the cache",
        }
    }
}

/// All that was put into a root; taken out by [`Covers::take`], or when dropped.
#[derive(Debug)]
pub(in crate::sandbox) struct Covers {
    root: RootDir,
    aside: RootDir,
    /// The file that lists for the store what was put: [`write_points`].
    points: PathBuf,
    next: u32,
    /// In the order they were put.
    list: Vec<Cover>,
}

#[derive(Debug)]
struct Cover {
    target: PathBuf,
    /// The path without links, relative to the root.
    real: PathBuf,
    parent: OwnedFd,
    name: OsString,
    /// The name aside of what was there.
    covered: Option<OsString>,
    /// Where it came from, and goes to.
    home: Option<Home>,
    /// Directories that were made on the way, outermost first.
    made: Vec<(OwnedFd, OsString)>,
}

/// The place of a directory that was moved.
#[derive(Debug)]
struct Home {
    parent: OwnedFd,
    name: OsString,
    /// On another file system, or a layer of one: a copy was put, and is copied back.
    copied: bool,
}

impl Covers {
    /// Will put things into `root`, and what they cover into the directory `aside`.
    pub(super) fn new(root: RootDir, aside: &Path, points: &Path) -> io::Result<Covers> {
        let (aside, points) = (RootDir::open(aside)?, points.to_owned());
        Ok(Covers { root, aside, points, next: 0, list: Vec::new() })
    }

    /// Lists what was put for whoever looks for the step's changes.
    pub(super) fn list(&self) -> io::Result<()> {
        let mut points = Vec::new();
        for cover in &self.list {
            let above: Vec<&Path> = cover.real.ancestors().skip(1).take(cover.made.len()).collect();
            points.extend(above.into_iter().rev().map(Path::to_owned));
            points.push(match cover.covered {
                Some(_) => Path::new("/").join(&cover.real),
                None => cover.real.clone(),
            });
        }
        write_points(&self.points, &points)
    }

    /// Puts something at an absolute path; links in it are followed inside the root.
    pub(super) fn put(&mut self, target: &Path, new: New) -> Result<(), ChrootError> {
        let what = new.what();
        self.try_put(target, new).map_err(|source| {
            let target = target.display().to_string();
            ChrootError::Put { what, target, source }
        })
    }

    fn try_put(&mut self, target: &Path, new: New) -> io::Result<()> {
        let real = self.root.resolve(target, Escape::Clamp)?;
        let Some(name) = real.file_name().map(OsStr::to_owned) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the root itself cannot be covered"));
        };
        let (parent, made) = self.make_parents(&real)?;
        let mut cover =
            Cover { target: target.to_owned(), real, parent, name, covered: None, home: None, made };
        let times = fstat(&cover.parent)?;
        if stat_at(&cover.parent, &cover.name).is_ok() {
            let aside = OsString::from(format!("covered-{}", self.next));
            self.next += 1;
            rustix::fs::renameat(&cover.parent, &cover.name, self.aside.fd(), &aside)?;
            cover.covered = Some(aside);
        }
        let made = fill(&mut cover, new, &self.root);
        let kept = set_times(&cover.parent, times.mtime_seconds, times.mtime_nanos);
        // Listed whatever came of it: what is half done is taken back.
        self.list.push(cover);
        made.and(kept)
    }

    /// Opens the directory that a path without links ends in, making what is missing.
    fn make_parents(&self, real: &Path) -> io::Result<(OwnedFd, Vec<(OwnedFd, OsString)>)> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut made = Vec::new();
        let mut at = self.root.open_at(Path::new("."), flags, Mode::empty())?;
        for name in real.parent().into_iter().flat_map(Path::components) {
            let name = name.as_os_str();
            let times = fstat(&at)?;
            match rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o755)) {
                Ok(()) => {
                    set_times(&at, times.mtime_seconds, times.mtime_nanos)?;
                    made.push((at.try_clone()?, name.to_owned()));
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            at = open_no_follow(&at, name, flags, Mode::empty())?;
        }
        Ok((at, made))
    }

    /// Fills the last thing put, `/dev`.
    pub(super) fn devices(&mut self) -> Result<(), ChrootError> {
        let Some(cover) = self.list.last() else { return Ok(()) };
        let put = |source: io::Error| ChrootError::Put {
            what: "what belongs into it",
            target: "/dev".to_owned(),
            source,
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let dev = open_no_follow(&cover.parent, &cover.name, flags, Mode::empty()).map_err(put)?;
        for (name, major, minor) in DEVICES {
            let failed = |source| ChrootError::Device { name, source };
            make_device(&dev, name, rustix::fs::makedev(major, minor)).map_err(failed)?;
        }
        let rest = || -> io::Result<()> {
            for (name, to) in LINKS {
                rustix::fs::symlinkat(to, &dev, name)?;
            }
            for (name, mode) in [("pts", 0o755), ("shm", 0o1777), ("mqueue", 0o1777)] {
                rustix::fs::mkdirat(&dev, name, Mode::from_raw_mode(mode))?;
                rustix::fs::chmodat(&dev, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
            }
            Ok(())
        };
        rest().map_err(put)
    }

    /// Leaves everything where it is, caches too: the root is thrown away with it.
    ///
    /// For a root that a process may still be in: a directory that it has open must not leave the root, since from
    /// there every `..` leads further up.
    pub(in crate::sandbox) fn leave(mut self) {
        self.list.clear();
    }

    /// Takes everything out again, the last first; goes on after an error, and returns the first.
    pub(in crate::sandbox) fn take(&mut self) -> Result<(), ChrootError> {
        let mut result = Ok(());
        while let Some(cover) = self.list.pop() {
            let target = cover.target.display().to_string();
            let taken = cover.take(&self.aside).map_err(|source| ChrootError::Take { target, source });
            result = result.and(taken);
        }
        result
    }
}

impl Drop for Covers {
    fn drop(&mut self) {
        // After an error that is told already.
        let _ = self.take();
    }
}

impl Cover {
    fn take(self, aside: &RootDir) -> io::Result<()> {
        let Cover { parent, name, covered, home, made, .. } = self;
        let times = fstat(&parent)?;
        let mut result = match home {
            Some(home) => home.take_back(parent.as_fd(), &name),
            None => Ok(()),
        };
        result = result.and(gone(remove_tree(parent.as_fd(), &name)));
        if let Some(covered) = covered {
            match rustix::fs::renameat(aside.fd(), &covered, &parent, &name) {
                // The step has removed the directory around it, and so this, too.
                Err(Errno::NOENT) => {}
                other => result = result.and(other.map_err(io::Error::from)),
            }
        }
        result = result.and(set_times(&parent, times.mtime_seconds, times.mtime_nanos));
        for (parent, name) in made.into_iter().rev() {
            let times = fstat(&parent)?;
            match rustix::fs::unlinkat(&parent, &name, AtFlags::REMOVEDIR) {
                Ok(()) => set_times(&parent, times.mtime_seconds, times.mtime_nanos)?,
                // The step has put something into it, and so it is the step's.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT | Errno::NOTDIR) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        result
    }
}

impl Home {
    /// Brings a directory back from where it was put.
    fn take_back(&self, from: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        // Whatever else the step has put there is not the cache.
        match stat_at(from, name) {
            Ok(stat) if stat.is_dir() => {}
            _ => {
                return rustix::fs::mkdirat(&self.parent, &self.name, Mode::from_raw_mode(0o755))
                    .or_else(|errno| if errno == Errno::EXIST { Ok(()) } else { Err(errno.into()) });
            }
        }
        if !self.copied {
            match rustix::fs::renameat(from, name, &self.parent, &self.name) {
                Err(Errno::XDEV) => {}
                other => return Ok(other?),
            }
        }
        gone(remove_tree(self.parent.as_fd(), &self.name))?;
        let source = open_no_follow(from, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        tree::copy(source.as_fd(), self.parent.as_fd(), &self.name)
    }
}

/// Takes what was not there for gone.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes the thing itself.
fn fill(cover: &mut Cover, new: New, root: &RootDir) -> io::Result<()> {
    let (parent, name) = (cover.parent.as_fd(), cover.name.as_os_str());
    match new {
        New::Directory { mode } => {
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode))?;
            Ok(rustix::fs::chmodat(parent, name, Mode::from_raw_mode(mode), AtFlags::empty())?)
        }
        New::File { content, mode, uid, gid } => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let file = open_no_follow(parent, name, flags, Mode::from_raw_mode(0o600))?;
            write_all(&file, &content)?;
            rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
            Ok(rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?)
        }
        New::Copy(source) if is_socket(&source)? => {
            let path = format!("/proc/self/fd/{}", source.as_raw_fd());
            Ok(rustix::fs::linkat(rustix::fs::CWD, path, parent, name, AtFlags::SYMLINK_FOLLOW)?)
        }
        New::Copy(source) => tree::copy(source.as_fd(), parent, name),
        // A file of a state that may be written: it is thrown away.
        New::Moved(source) if !fstat(&source)?.is_dir() => tree::copy(source.as_fd(), parent, name),
        New::Moved(source) => {
            let home = home(&source)?;
            if lies_in(&source, root)? {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "one cache cannot be in two places of a step",
                ));
            }
            match rustix::fs::renameat(&home.parent, &home.name, parent, name) {
                Ok(()) => cover.home = Some(home),
                Err(Errno::XDEV) => {
                    tree::copy(source.as_fd(), parent, name)?;
                    cover.home = Some(Home { copied: true, ..home });
                }
                Err(errno) => return Err(errno.into()),
            }
            Ok(())
        }
    }
}

/// Tells whether an open directory lies in a root: it was moved there.
fn lies_in(directory: &OwnedFd, root: &RootDir) -> io::Result<bool> {
    Ok(path_of(directory.as_fd())?.starts_with(path_of(root.fd())?))
}

fn path_of(fd: BorrowedFd<'_>) -> io::Result<PathBuf> {
    let path = rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(path.into_bytes())))
}

fn is_socket(fd: &OwnedFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == FileType::Socket)
}

/// Finds the name of an open directory, and makes sure that it is it.
fn home(directory: &OwnedFd) -> io::Result<Home> {
    let path = path_of(directory.as_fd())?;
    let lost = || io::Error::new(io::ErrorKind::NotFound, "it is mounted twice, or was moved away");
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(lost()) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::open(parent, flags, Mode::empty()).map_err(|_| lost())?;
    let (found, own) = (stat_at(&parent, name).map_err(|_| lost())?, fstat(directory)?);
    match (found.dev, found.ino) == (own.dev, own.ino) {
        true => Ok(Home { parent, name: name.to_owned(), copied: false }),
        false => Err(lost()),
    }
}

/// Makes a device that everybody may use, and tries whether it works here.
fn make_device(dev: &OwnedFd, name: &str, number: u64) -> io::Result<()> {
    rustix::fs::mknodat(dev, name, FileType::CharacterDevice, Mode::from_raw_mode(0o666), number)?;
    rustix::fs::chmodat(dev, name, Mode::from_raw_mode(0o666), AtFlags::empty())?;
    if name == "null" {
        open_no_follow(dev, name, OFlags::RDWR, Mode::empty())?;
    }
    Ok(())
}
