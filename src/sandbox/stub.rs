//! Mount points that an image lacks: made on throw-away layers, never in the upper directory.
//!
//! Where a target would be is looked up in a read-only view of what the root
//! will be, its links followed inside. What is missing is made on a layer below
//! all others, so that nothing of an image is covered; where an image hides
//! what is below it (a whiteout, an opaque directory), on a layer above all,
//! whose directories copy what they cover.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// How many links one path may lead through, as in the kernel.
const MAX_LINKS: usize = 40;

/// What a mount point must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

/// Opens a path inside a root for use as a mount point; links never lead out.
pub(super) fn open_inside(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // A rename somewhere on the machine; the kernel asks to try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Finds the path without links that `path` stands for inside a root, existing or not.
pub(super) fn real_path(root: BorrowedFd<'_>, path: &Path) -> Result<PathBuf, Errno> {
    let words = |path: &Path| -> Vec<OsString> {
        path.components()
            .filter_map(|component| match component {
                Component::Normal(word) => Some(word.to_owned()),
                Component::ParentDir => Some("..".into()),
                _ => None,
            })
            .collect()
    };
    let mut todo: VecDeque<OsString> = words(path).into();
    let mut real = PathBuf::new();
    let mut links = 0;
    while let Some(word) = todo.pop_front() {
        if word == ".." {
            real.pop();
            continue;
        }
        real.push(&word);
        let fd = match open_inside(root, &real, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        };
        if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) != FileType::Symlink {
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(Errno::LOOP);
        }
        let target = rustix::fs::readlinkat(&fd, "", Vec::new())?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        real.pop();
        if target.is_absolute() {
            real.clear();
        }
        for word in words(&target).into_iter().rev() {
            todo.push_front(word);
        }
    }
    Ok(real)
}

/// Makes a path without links beneath a directory, its parents included.
///
/// With `like`, parents that exist there get the same mode, owner and times.
pub(super) fn make(
    under: BorrowedFd<'_>,
    path: &Path,
    kind: Kind,
    like: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let Some(name) = path.file_name() else { return Ok(()) };
    let mut at = rustix::io::fcntl_dupfd_cloexec(under, 3)?;
    let mut walked = PathBuf::new();
    for parent in path.parent().into_iter().flat_map(Path::components) {
        let word = parent.as_os_str();
        walked.push(word);
        at = make_directory(&at, word, OFlags::RDONLY)?;
        if let Some(like) = like {
            copy_attributes(like, &walked, &at)?;
        }
    }
    match kind {
        Kind::Directory => make_directory(&at, name, OFlags::PATH).map(drop),
        Kind::File => make_file(&at, name).map(drop),
    }
}

/// Makes a file in an open directory, where there is none, and opens it.
pub(super) fn make_file(at: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(at, name, flags, Mode::from_raw_mode(0o644))
}

/// Makes a directory in an open directory, where there is none, and opens it.
pub(super) fn make_directory(at: &OwnedFd, name: &OsStr, how: OFlags) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdirat(at, name.as_bytes(), Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let flags = how | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name.as_bytes(), flags, Mode::empty())
}

fn copy_attributes(view: BorrowedFd<'_>, path: &Path, to: &OwnedFd) -> Result<(), Errno> {
    let from = match open_inside(view, path, OFlags::PATH | OFlags::NOFOLLOW) {
        Ok(from) => from,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let stat = rustix::fs::fstat(&from)?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
    match rustix::fs::fchown(to, Some(uid), Some(gid)) {
        // An owner outside of the id map cannot be given; nobody inside can tell it from another.
        Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::OVERFLOW) => {}
        Err(errno) => return Err(errno),
    }
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let time = |seconds, nanos| rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = rustix::fs::Timestamps {
        last_access: time(stat.st_atime as _, stat.st_atime_nsec as _),
        last_modification: time(stat.st_mtime as _, stat.st_mtime_nsec as _),
    };
    rustix::fs::futimens(to, &times)
}

/// Tells whether something is at a path without links.
pub(super) fn exists(root: BorrowedFd<'_>, path: &Path) -> Result<bool, Errno> {
    match rustix::fs::statat(root, relative(path).as_os_str().as_bytes(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn relative(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn open(path: &Path) -> OwnedFd {
        fs::File::open(path).unwrap().into()
    }

    #[test]
    fn real_paths_stay_inside() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("usr/etc")).unwrap();
        symlink("usr/etc", root.join("etc")).unwrap();
        symlink("/usr", root.join("absolute")).unwrap();
        symlink("../../../../../usr", root.join("usr/up")).unwrap();
        symlink("../run/x/resolv.conf", root.join("usr/etc/resolv.conf")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        let fd = open(root);
        let check = |path: &str, expect: Result<&str, Errno>| {
            assert_eq!(real_path(fd.as_fd(), Path::new(path)), expect.map(PathBuf::from), "{path}");
        };
        check("/", Ok(""));
        check("/proc", Ok("proc"));
        check("/etc/hosts", Ok("usr/etc/hosts"));
        check("/absolute/etc/hosts", Ok("usr/etc/hosts"));
        check("/usr/up/x", Ok("usr/x"));
        check("/etc/resolv.conf", Ok("usr/run/x/resolv.conf"));
        check("/../../x", Ok("x"));
        check("/missing/../etc", Ok("usr/etc"));
        check("/loop/x", Err(Errno::LOOP));
        check("/file/x", Err(Errno::NOTDIR));
    }

    #[test]
    fn stubs_are_made_like_what_they_cover() {
        let directory = tempfile::tempdir().unwrap();
        let (view, stub) = (directory.path().join("view"), directory.path().join("stub"));
        fs::create_dir_all(view.join("run")).unwrap();
        fs::set_permissions(view.join("run"), fs::Permissions::from_mode(0o1770)).unwrap();
        fs::create_dir(&stub).unwrap();
        let (view_fd, stub_fd) = (open(&view), open(&stub));
        make(stub_fd.as_fd(), Path::new("run/x/ca.crt"), Kind::File, Some(view_fd.as_fd())).unwrap();
        make(stub_fd.as_fd(), Path::new("run/x/d"), Kind::Directory, None).unwrap();
        assert_eq!(fs::metadata(stub.join("run")).unwrap().mode() & 0o7777, 0o1770);
        assert!(fs::metadata(stub.join("run/x/ca.crt")).unwrap().is_file());
        assert!(fs::metadata(stub.join("run/x/d")).unwrap().is_dir());
        assert!(exists(stub_fd.as_fd(), Path::new("run/x")).unwrap());
        assert!(!exists(stub_fd.as_fd(), Path::new("run/y")).unwrap());
    }
}
