//! A directory that paths from outside cannot leave.
//!
//! Every path that comes from an image, an archive, a build context or a
//! Dockerfile is resolved here, by the kernel: openat2(2) with
//! RESOLVE_IN_ROOT (absolute links and `..` stay inside the root, as in a
//! chroot, with no race) and RESOLVE_NO_MAGICLINKS. Not here: reading a whole
//! tree (`sys::dir`), extended attributes (`sys::xattr`).

use std::any::Any;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::io::Errno;

use crate::sys::dir;

/// How many symbolic links one resolution may follow (the kernel's MAXSYMLINKS).
const MAX_LINKS: usize = 40;

/// How often a resolution that raced with a rename is tried again.
const MAX_RETRIES: usize = 10_000;

/// What stat(2) says of a file, with the same types on every processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    pub kind: FileType,
    /// Permission bits with set-user-ID, set-group-ID and sticky: `mode & 0o7777`.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u64,
    /// In bytes.
    pub size: u64,
    /// In units of 512 bytes.
    pub blocks: u64,
    pub dev: u64,
    pub ino: u64,
    /// The device's number, for device nodes.
    pub rdev: u64,
    pub mtime_seconds: i64,
    pub mtime_nanos: u32,
    pub ctime_seconds: i64,
    pub ctime_nanos: u32,
}

impl Stat {
    /// Tells whether the file is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// Tells whether the file is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind == FileType::RegularFile
    }

    /// Tells whether the file is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.kind == FileType::Symlink
    }

    /// Tells whether the file is overlayfs's whiteout: a character device 0:0 (kernel, overlayfs.rst).
    pub fn is_whiteout(&self) -> bool {
        self.kind == FileType::CharacterDevice && self.rdev == 0
    }
}

impl From<rustix::fs::Stat> for Stat {
    // The fields' types differ between processors.
    #[allow(clippy::unnecessary_cast)]
    fn from(s: rustix::fs::Stat) -> Stat {
        Stat {
            kind: FileType::from_raw_mode(s.st_mode),
            mode: s.st_mode as u32 & 0o7777,
            uid: s.st_uid,
            gid: s.st_gid,
            nlink: s.st_nlink as u64,
            size: s.st_size as u64,
            blocks: s.st_blocks as u64,
            dev: s.st_dev as u64,
            ino: s.st_ino as u64,
            rdev: s.st_rdev as u64,
            mtime_seconds: s.st_mtime as i64,
            mtime_nanos: s.st_mtime_nsec as u32,
            ctime_seconds: s.st_ctime as i64,
            ctime_nanos: s.st_ctime_nsec as u32,
        }
    }
}

/// Returns what fstat(2) says of an open file (also one opened with O_PATH).
pub fn fstat(fd: impl AsFd) -> io::Result<Stat> {
    Ok(rustix::fs::fstat(fd)?.into())
}

/// Returns what lstat(2) says of `name` in the directory `dir`; links are not followed.
pub fn stat_at(dir: impl AsFd, name: impl rustix::path::Arg) -> io::Result<Stat> {
    Ok(rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?.into())
}

/// Opens `name` (one component, or `.`) in the directory `dir` without following a link.
///
/// Adds O_CLOEXEC, and unless O_PATH is given O_NONBLOCK and O_NOCTTY, so that
/// a FIFO or a terminal put where a file was expected does not block or bind.
pub fn open_no_follow(
    dir: impl AsFd,
    name: impl rustix::path::Arg,
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(dir, name, harmless(flags) | OFlags::NOFOLLOW, mode)?)
}

fn harmless(flags: OFlags) -> OFlags {
    match flags.contains(OFlags::PATH) {
        // openat2 refuses O_PATH together with flags it would ignore.
        true => flags | OFlags::CLOEXEC,
        false => flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY,
    }
}

/// Opens again, with other flags, the file that a descriptor (O_PATH too) stands for.
pub fn reopen(fd: impl AsFd, flags: OFlags) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    Ok(rustix::fs::open(path, harmless(flags), Mode::empty())?)
}

/// Opens `path` inside `root` with openat2; tried again where it raced with a rename or a mount.
fn open_resolved(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    // openat2 refuses a mode where nothing can be created.
    let mode = if flags.intersects(OFlags::CREATE | OFlags::TMPFILE) { mode } else { Mode::empty() };
    for _ in 0..MAX_RETRIES {
        match rustix::fs::openat2(root, path, harmless(flags), mode, resolve | ResolveFlags::NO_MAGICLINKS) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// What a link that points above the root does to a resolution in user space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escape {
    /// `..` at the root stays at the root, as in a chroot.
    Clamp,
    /// `..` at the root is an error (EXDEV).
    Refuse,
}

/// An open directory as the root of every path given to it.
///
/// Paths may be absolute or relative: both start at the root. All descriptors
/// handed out are close-on-exec.
#[derive(Debug)]
pub struct RootDir {
    fd: OwnedFd,
    /// What must last as long as any handle of it.
    keep: Option<Arc<dyn Any + Send + Sync>>,
}

impl AsFd for RootDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl RootDir {
    /// Opens a directory of the host as a root. The path itself is trusted and resolved as usual.
    pub fn open(path: &Path) -> io::Result<RootDir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(RootDir::from_fd(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Makes a root of an open directory (O_PATH and detached mounts too).
    pub fn from_fd(fd: OwnedFd) -> RootDir {
        RootDir { fd, keep: None }
    }

    /// Keeps a value for as long as there is a handle of this root, or of one opened inside it.
    pub fn keeping(self, keep: Arc<dyn Any + Send + Sync>) -> RootDir {
        RootDir { keep: Some(keep), ..self }
    }

    /// Returns the root's descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Returns a second handle of the same root.
    pub fn try_clone(&self) -> io::Result<RootDir> {
        Ok(RootDir { fd: self.fd.try_clone()?, keep: self.keep.clone() })
    }

    /// Opens a file; links are followed inside the root unless O_NOFOLLOW is given.
    ///
    /// Never blocks on a FIFO: O_NONBLOCK is added, which regular files ignore.
    pub fn open_at(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        open_resolved(self.fd(), path, flags, mode, ResolveFlags::IN_ROOT)
    }

    /// Opens a directory inside the root as a root of its own.
    pub fn open_dir(&self, path: &Path) -> io::Result<RootDir> {
        let fd = self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        Ok(RootDir { fd, keep: self.keep.clone() })
    }

    /// Opens a directory, and fails with EXDEV where a link or `..` leads above the root.
    ///
    /// Absolute links are allowed; they start at the root.
    pub fn open_dir_beneath(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let relative = path.strip_prefix("/").unwrap_or(path);
        match open_resolved(self.fd(), relative, flags, Mode::empty(), ResolveFlags::BENEATH) {
            Err(e) if e.raw_os_error() == Some(Errno::XDEV.raw_os_error()) => {
                let real = self.resolve(path, Escape::Refuse)?;
                let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
                open_resolved(self.fd(), &real, flags, Mode::empty(), resolve)
            }
            other => other,
        }
    }

    /// Returns what stat(2) says of a path.
    pub fn stat(&self, path: &Path, follow: bool) -> io::Result<Stat> {
        let no_follow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        fstat(self.open_at(path, OFlags::PATH | no_follow, Mode::empty())?)
    }

    /// Returns what stat(2) says of a path, or `None` where there is nothing.
    pub fn try_stat(&self, path: &Path, follow: bool) -> io::Result<Option<Stat>> {
        match self.stat(path, follow) {
            Ok(stat) => Ok(Some(stat)),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Returns the target of a symbolic link, as it is written in it.
    pub fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        let fd = self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
        read_link_at(&fd, "").map(PathBuf::from)
    }

    /// Reads a regular file of at most `limit` bytes, following links inside the root.
    ///
    /// Anything that is not a regular file is an error and is never opened, so
    /// no FIFO blocks and no device is touched; a longer file is an error too.
    pub fn read_small(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let handle = self.open_at(path, OFlags::PATH, Mode::empty())?;
        let stat = fstat(&handle)?;
        if !stat.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let too_long = || {
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("the file is longer than the {limit} bytes allowed"),
            )
        };
        if stat.size > limit as u64 {
            return Err(too_long());
        }
        let mut bytes = Vec::with_capacity(stat.size as usize + 1);
        // The file may grow while it is read.
        File::from(reopen(&handle, OFlags::RDONLY)?).take(limit as u64 + 1).read_to_end(&mut bytes)?;
        match bytes.len() > limit {
            true => Err(too_long()),
            false => Ok(bytes),
        }
    }

    /// Opens (O_PATH) the directory a path's last name is in, and returns that name.
    ///
    /// Links before the last name are followed inside the root, the last is
    /// not looked at. A path that has no last name (`/`, `a/..`) is an error.
    pub fn parent_and_name(&self, path: &Path) -> io::Result<(OwnedFd, OsString)> {
        let no_name =
            || io::Error::new(io::ErrorKind::InvalidInput, "the path does not end in the name of a file");
        let mut components = path.components();
        let Some(Component::Normal(name)) = components.next_back() else { return Err(no_name()) };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        Ok((self.open_at(components.as_path(), flags, Mode::empty())?, name.to_owned()))
    }

    /// Returns the names in a directory with their types, sorted by bytes, without `.` and `..`.
    pub fn entries(&self, path: &Path) -> io::Result<Vec<(OsString, FileType)>> {
        dir::read_dir(self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?)
    }

    /// Creates a regular file that must not be there yet, and opens it for writing.
    pub fn create_file(&self, path: &Path, mode: u32) -> io::Result<OwnedFd> {
        let (parent, name) = self.parent_and_name(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        open_no_follow(parent, name, flags, Mode::from_raw_mode(mode))
    }

    /// Creates a directory that must not be there yet; the process's umask applies.
    pub fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        let (parent, name) = self.parent_and_name(path)?;
        Ok(rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode))?)
    }

    /// Creates a directory and the missing ones above it, each with exactly `mode`; returns those it made.
    ///
    /// Links on the way are followed inside the root, dangling ones too.
    pub fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<Vec<PathBuf>> {
        let real = self.resolve(path, Escape::Clamp)?;
        let mut made = Vec::new();
        let mut dir = reopen(self.fd(), OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut at = PathBuf::new();
        for component in real.components() {
            at.push(component);
            let name = component.as_os_str();
            match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(mode)) {
                Ok(()) => made.push(at.clone()),
                Err(Errno::EXIST) => {}
                // A read-only view says so before it says that the name is there.
                Err(Errno::ROFS) if stat_at(&dir, name).is_ok() => {}
                Err(e) => return Err(e.into()),
            }
            dir = open_no_follow(&dir, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
            if made.last() == Some(&at) {
                rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode))?;
            }
        }
        Ok(made)
    }

    /// Creates a symbolic link with the text `target`.
    pub fn symlink(&self, target: &OsStr, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent_and_name(path)?;
        Ok(rustix::fs::symlinkat(target, parent, name)?)
    }

    /// Creates a hard link `to` to the file `from`; a link at the end of `from` is linked itself.
    pub fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_parent, from_name) = self.parent_and_name(from)?;
        let (to_parent, to_name) = self.parent_and_name(to)?;
        Ok(rustix::fs::linkat(from_parent, from_name, to_parent, to_name, AtFlags::empty())?)
    }

    /// Creates a device node, FIFO or socket; the process's umask applies.
    pub fn make_node(&self, path: &Path, kind: FileType, mode: u32, rdev: u64) -> io::Result<()> {
        let (parent, name) = self.parent_and_name(path)?;
        Ok(rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(mode), rdev)?)
    }

    /// Renames a file inside the root; what is at `to` is replaced, as rename(2) does.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_parent, from_name) = self.parent_and_name(from)?;
        let (to_parent, to_name) = self.parent_and_name(to)?;
        Ok(rustix::fs::renameat(from_parent, from_name, to_parent, to_name)?)
    }

    /// Removes a file that is not a directory.
    pub fn remove_file(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent_and_name(path)?;
        Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?)
    }

    /// Removes a directory that is empty; one that is not is an error of kind `DirectoryNotEmpty`.
    pub fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent_and_name(path)?;
        Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
    }

    /// Removes a file, or a directory with all that is in it; no link is followed.
    ///
    /// Nothing at `path` is an error of kind `NotFound`.
    pub fn remove_all(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent_and_name(path)?;
        dir::remove_tree(parent.as_fd(), &name)
    }

    /// Returns the path with its links resolved inside the root, without leading `/`.
    ///
    /// Names that are not there, also behind dangling links, are kept as they
    /// are: this is where a file would be created. The answer holds no link
    /// and no `..`, and is only as old as this call; use it through `RootDir`
    /// again. More than 40 links are an error (ELOOP).
    pub fn resolve(&self, path: &Path, escape: Escape) -> io::Result<PathBuf> {
        let mut left: VecDeque<OsString> = names(path).collect();
        let mut done = PathBuf::new();
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            if name == ".." {
                if !done.pop() && escape == Escape::Refuse {
                    return Err(Errno::XDEV.into());
                }
                continue;
            }
            let here = done.join(&name);
            let flags = OFlags::PATH | OFlags::NOFOLLOW;
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
            let link = match open_resolved(self.fd(), &here, flags, Mode::empty(), resolve) {
                Ok(fd) if fstat(&fd)?.is_symlink() => Some(read_link_at(&fd, "")?),
                Ok(_) => None,
                Err(e) if e.kind() == io::ErrorKind::NotFound => None,
                // A file in the middle: the caller's open will say so.
                Err(e) if e.kind() == io::ErrorKind::NotADirectory => None,
                Err(e) => return Err(e),
            };
            match link {
                None => done = here,
                Some(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    let target = PathBuf::from(target);
                    if target.is_absolute() {
                        done = PathBuf::new();
                    }
                    for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
                        left.push_front(name);
                    }
                }
            }
        }
        Ok(done)
    }
}

/// Yields the names of a path and its `..`, without `/` and `.`.
fn names(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|c| match c {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// Returns the target of the symbolic link `name` in `dir`; with an empty name, of the link `dir` is (O_PATH).
pub fn read_link_at(dir: impl AsFd, name: impl rustix::path::Arg) -> io::Result<OsString> {
    Ok(OsString::from_vec(rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn tree() -> (tempfile::TempDir, RootDir) {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("secret"), "host").unwrap();
        let inner = outer.path().join("root");
        fs::create_dir_all(inner.join("a/b")).unwrap();
        fs::write(inner.join("a/file"), "inside").unwrap();
        fs::write(inner.join("secret"), "clamped").unwrap();
        symlink("../../../secret", inner.join("a/up")).unwrap();
        symlink("/a", inner.join("abs")).unwrap();
        symlink("/nowhere/deep", inner.join("dangling")).unwrap();
        symlink("loop", inner.join("loop")).unwrap();
        symlink("/proc/self/root", inner.join("magic")).unwrap();
        let root = RootDir::open(&inner).unwrap();
        (outer, root)
    }

    #[test]
    fn no_path_leaves_the_root() {
        let (_outer, root) = tree();
        for (path, expect) in [
            ("secret", "clamped"),
            ("/secret", "clamped"),
            ("../secret", "clamped"),
            ("../../../../secret", "clamped"),
            ("a/up", "clamped"),
            ("abs/up", "clamped"),
            ("abs/file", "inside"),
            ("a/../a/./b/../file", "inside"),
        ] {
            assert_eq!(root.read_small(Path::new(path), 100).unwrap(), expect.as_bytes(), "{path}");
        }
        assert!(root.read_small(Path::new("loop"), 100).is_err());
        assert!(root.read_small(Path::new("magic/etc/passwd"), 1 << 20).is_err());
    }

    #[test]
    fn beneath_tells_an_escape_from_an_absolute_link() {
        let (_outer, root) = tree();
        symlink("../../..", format!("/proc/self/fd/{}/esc", root.fd().as_raw_fd())).unwrap();
        assert!(root.open_dir_beneath(Path::new("abs/b")).is_ok());
        assert!(root.open_dir_beneath(Path::new("/a/b")).is_ok());
        let error = root.open_dir_beneath(Path::new("esc")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::XDEV.raw_os_error()));
    }

    #[test]
    fn small_means_regular_and_short() {
        let (_outer, root) = tree();
        assert_eq!(root.read_small(Path::new("secret"), 6).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(root.read_small(Path::new("a"), 100).is_err());
        root.make_node(Path::new("fifo"), FileType::Fifo, 0o600, 0).unwrap();
        assert!(root.read_small(Path::new("fifo"), 100).is_err());
        // Opening the FIFO itself must come back at once.
        root.open_at(Path::new("fifo"), OFlags::RDONLY, Mode::empty()).unwrap();
    }

    #[test]
    fn resolves_names_that_are_not_there() {
        let (_outer, root) = tree();
        for (path, expect) in [
            ("/", ""),
            ("abs/new/x", "a/new/x"),
            ("dangling/x", "nowhere/deep/x"),
            ("a/up", "secret"),
            ("../../x/../y", "y"),
        ] {
            assert_eq!(
                root.resolve(Path::new(path), Escape::Clamp).unwrap(),
                PathBuf::from(expect),
                "{path}"
            );
        }
        assert!(root.resolve(Path::new("loop/x"), Escape::Clamp).is_err());
        assert!(root.resolve(Path::new("a/up"), Escape::Refuse).is_err());
    }

    #[test]
    fn makes_and_removes_below_links() {
        let (outer, root) = tree();
        let made = root.create_dir_all(Path::new("dangling/x/y"), 0o750).unwrap();
        let expect = ["nowhere", "nowhere/deep", "nowhere/deep/x", "nowhere/deep/x/y"];
        assert_eq!(made, expect.map(PathBuf::from));
        assert_eq!(root.stat(Path::new("nowhere"), false).unwrap().mode, 0o750);
        root.create_file(Path::new("abs/new"), 0o644).unwrap();
        assert!(root.create_file(Path::new("abs/new"), 0o644).is_err());
        root.hard_link(Path::new("abs/new"), Path::new("a/b/hard")).unwrap();
        assert_eq!(root.stat(Path::new("a/b/hard"), false).unwrap().nlink, 2);
        root.symlink(OsStr::new("../secret"), Path::new("a/b/link")).unwrap();
        assert_eq!(root.read_link(Path::new("a/b/link")).unwrap(), PathBuf::from("../secret"));
        root.rename(Path::new("a/b"), Path::new("c")).unwrap();
        root.remove_all(Path::new("a")).unwrap();
        root.remove_all(Path::new("c")).unwrap();
        assert!(root.remove_all(Path::new("c")).is_err());
        assert!(root.remove_all(Path::new("/")).is_err());
        assert_eq!(fs::read(outer.path().join("secret")).unwrap(), b"host");
        let names: Vec<_> = root.entries(Path::new("")).unwrap().into_iter().map(|(n, _)| n).collect();
        assert_eq!(names, ["abs", "dangling", "loop", "magic", "nowhere", "secret"]);
    }
}
