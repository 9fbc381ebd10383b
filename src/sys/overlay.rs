//! Overlay file systems: merged read-only views of layers, and writable ones.
//!
//! Two ways to mount: the file-system-context calls of Linux 5.2 with the
//! `lowerdir+` key of Linux 6.7, and mount(2) with short relative names, which
//! any kernel has and which a page of options (4096 bytes) suffices for.
//! Layers are always named through descriptors, so that their paths may hold
//! any byte and have any length. Not here: what the layers hold (`layer`,
//! `store`). Source: the kernel's Documentation/filesystems/overlayfs.rst.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

/// The most lower directories the kernel takes in one overlay.
pub const MAX_LOWERS: usize = 500;

/// Where a layer has its marks: the name space of overlayfs's own extended attributes, or files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OverlayXattrs {
    /// `trusted.overlay.*`: as root of the initial user namespace.
    Trusted,
    /// `user.overlay.*`: inside a user namespace (mount option `userxattr`, Linux 5.11).
    User,
    /// Files, as in a layer's tar ([`super::upper`]): on a file system that takes no whiteouts, where
    /// overlayfs can never write. What is rbuild's own is under `user.rbuild.overlay.` then.
    Files,
}

impl OverlayXattrs {
    /// Returns what all its attributes start with: `trusted.overlay.`.
    pub fn prefix(self) -> &'static str {
        match self {
            OverlayXattrs::Trusted => "trusted.overlay.",
            OverlayXattrs::User => "user.overlay.",
            OverlayXattrs::Files => "user.rbuild.overlay.",
        }
    }

    /// Returns the attribute that marks an opaque directory, with the value `y`.
    pub fn opaque(self) -> &'static str {
        match self {
            OverlayXattrs::Trusted => "trusted.overlay.opaque",
            OverlayXattrs::User => "user.overlay.opaque",
            OverlayXattrs::Files => "user.rbuild.overlay.opaque",
        }
    }

    /// Returns the mount options that keep an upper directory a plain layer: nothing in
    /// it may refer to another layer by handle, by inode or by redirect.
    fn options(self) -> &'static [(&'static str, &'static str)] {
        match self {
            OverlayXattrs::Trusted => &[("index", "off"), ("metacopy", "off"), ("redirect_dir", "off")],
            // `userxattr` takes no `redirect_dir=off`: that may mean `follow`, which it forbids.
            OverlayXattrs::User | OverlayXattrs::Files => {
                &[("userxattr", ""), ("index", "off"), ("metacopy", "off"), ("redirect_dir", "nofollow")]
            }
        }
    }
}

/// Which calls to mount with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum MountWay {
    /// The newest the kernel has.
    #[default]
    Auto,
    /// mount(2) only; for tests, which so see what older kernels do.
    Old,
}

/// The directories of a writable overlay, open.
#[derive(Debug)]
pub struct Writable<'a> {
    /// Topmost first, at least one, at most [`MAX_LOWERS`].
    pub lowers: &'a [BorrowedFd<'a>],
    pub upper: BorrowedFd<'a>,
    /// Empty, on the file system of `upper`, never used before.
    pub work: BorrowedFd<'a>,
    pub xattrs: OverlayXattrs,
    /// Whether what is synced in it reaches the disk; else the mount is `volatile`, and its end syncs nothing.
    pub durable: bool,
}

/// Mounts a merged read-only view of layers (topmost first), attached nowhere.
///
/// The view lives as long as the descriptor (or one opened beneath it). No layer
/// at all gives an empty view. Devices in it cannot be opened. Needs CAP_SYS_ADMIN
/// over the mount namespace. More than [`MAX_LOWERS`] layers, less the one or two
/// that a short list is filled up with, are refused with `InvalidInput`.
pub fn mount_view(layers: &[PathBuf], xattrs: OverlayXattrs) -> io::Result<OwnedFd> {
    mount_view_with(layers, xattrs, MountWay::Auto)
}

/// Does [`mount_view`] in a way of the caller's choice.
pub fn mount_view_with(layers: &[PathBuf], xattrs: OverlayXattrs, way: MountWay) -> io::Result<OwnedFd> {
    check_count(layers.len())?;
    // Without an upper directory overlayfs wants two lowers; the empty one that is missing
    // needs a file system of its own to be on, which only the second way makes.
    if way == MountWay::Auto && layers.len() >= 2 {
        let lowers = layers.iter().map(|path| open_layer(path)).collect::<io::Result<Vec<_>>>()?;
        match mount_context(&borrowed(&lowers), None, xattrs) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NAMETOOLONG) => {}
            Err(errno) => return Err(errno.into()),
            Ok(fd) => return Ok(fd),
        }
    }
    view_in_a_thread(layers, xattrs)
}

/// Mounts a writable overlay, attached nowhere; it lives as long as the descriptor.
///
/// `lowers` (topmost first), `upper` and `work` as in [`Writable`]. Needs CAP_SYS_ADMIN over the mount namespace.
pub fn mount_writable(
    lowers: &[PathBuf],
    upper: &Path,
    work: &Path,
    xattrs: OverlayXattrs,
) -> io::Result<OwnedFd> {
    check_count(lowers.len())?;
    let opened = lowers.iter().map(|path| open_layer(path)).collect::<io::Result<Vec<_>>>()?;
    let (upper_fd, work_fd) = (open_layer(upper)?, open_layer(work)?);
    match mount_context(&borrowed(&opened), Some((upper_fd.as_fd(), work_fd.as_fd(), false)), xattrs) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NAMETOOLONG) => {}
        Err(errno) => return Err(errno.into()),
        Ok(fd) => return Ok(fd),
    }
    in_a_thread(|| {
        private_mounts()?;
        let lowers = lowers.iter().map(|path| open_layer(path)).collect::<io::Result<Vec<_>>>()?;
        let (upper_fd, work_fd) = (open_layer(upper)?, open_layer(work)?);
        scratch_over(upper)?;
        mount_named(&borrowed(&lowers), Some((upper_fd.as_fd(), work_fd.as_fd(), false)), xattrs, "root")
    })
}

/// Mounts a writable overlay at `root` inside the directory `scratch` and returns its root.
///
/// For a process with a private mount namespace and one thread: the working directory
/// may be changed. `scratch` is on a throw-away file system; `root` in it exists.
/// `work` must not be used again.
pub fn attach_writable(
    overlay: &Writable<'_>,
    scratch: BorrowedFd<'_>,
    root: &str,
    way: MountWay,
) -> io::Result<OwnedFd> {
    check_count(overlay.lowers.len())?;
    let upper = Some((overlay.upper, overlay.work, overlay.durable));
    if way == MountWay::Auto {
        match mount_context(overlay.lowers, upper, overlay.xattrs) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NAMETOOLONG) => {}
            Err(errno) => return Err(errno.into()),
            Ok(fd) => {
                rustix::mount::move_mount(&fd, "", scratch, root, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
                return Ok(fd);
            }
        }
    }
    rustix::process::fchdir(scratch)?;
    mount_named(overlay.lowers, upper, overlay.xattrs, root)
}

/// Mounts a read-only overlay of open layers the same way as [`attach_writable`].
///
/// At least two layers.
pub fn attach_read_only(
    lowers: &[BorrowedFd<'_>],
    xattrs: OverlayXattrs,
    scratch: BorrowedFd<'_>,
    root: &str,
    way: MountWay,
) -> io::Result<OwnedFd> {
    check_count(lowers.len())?;
    if way == MountWay::Auto {
        match mount_context(lowers, None, xattrs) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NAMETOOLONG) => {}
            Err(errno) => return Err(errno.into()),
            Ok(fd) => return Ok(fd),
        }
    }
    rustix::process::fchdir(scratch)?;
    mount_named(lowers, None, xattrs, root)
}

/// Lends open layers.
pub fn borrowed(layers: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    layers.iter().map(AsFd::as_fd).collect()
}

/// Opens a directory to be used as a layer.
pub fn open_layer(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| with_path(errno.into(), "cannot open layer", path))
}

fn with_path(error: io::Error, what: &str, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{what} `{}`: {error}", path.display()))
}

fn check_count(lowers: usize) -> io::Result<()> {
    if lowers > MAX_LOWERS {
        let message = format!("{lowers} layers are too many: the kernel merges at most {MAX_LOWERS}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(())
}

/// Names an open directory for the kernel: short, and without a byte that needs an escape.
fn name_of(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// Mounts through a file system context. `INVAL` says that the kernel knows no `lowerdir+`
/// (or that the layers do not fit together, which the other way then finds again).
fn mount_context(
    lowers: &[BorrowedFd<'_>],
    upper: Option<(BorrowedFd<'_>, BorrowedFd<'_>, bool)>,
    xattrs: OverlayXattrs,
) -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "source", "overlay")?;
    for (key, value) in xattrs.options() {
        if value.is_empty() {
            rustix::mount::fsconfig_set_flag(&context, *key)?;
        } else {
            rustix::mount::fsconfig_set_string(&context, *key, *value)?;
        }
    }
    for lower in lowers {
        rustix::mount::fsconfig_set_string(&context, "lowerdir+", name_of(lower))?;
    }
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
    if let Some((upper, work, durable)) = upper {
        rustix::mount::fsconfig_set_string(&context, "upperdir", name_of(upper))?;
        rustix::mount::fsconfig_set_string(&context, "workdir", name_of(work))?;
        if !durable {
            rustix::mount::fsconfig_set_flag(&context, "volatile")?;
        }
    } else {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID;
    }
    rustix::mount::fsconfig_create(&context)?;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Mounts with mount(2) at `root` in the working directory, where `0`, `1`, ... are made
/// as names of the layers.
fn mount_named(
    lowers: &[BorrowedFd<'_>],
    upper: Option<(BorrowedFd<'_>, BorrowedFd<'_>, bool)>,
    xattrs: OverlayXattrs,
    root: &str,
) -> io::Result<OwnedFd> {
    let name = |directory: BorrowedFd<'_>, name: &str| -> io::Result<()> {
        match rustix::fs::unlinkat(CWD, name, rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(rustix::fs::symlinkat(name_of(directory), CWD, name)?)
    };
    let mut options = String::from("lowerdir=");
    for (index, lower) in lowers.iter().enumerate() {
        let digits = index.to_string();
        name(*lower, &digits)?;
        if index > 0 {
            options.push(':');
        }
        options.push_str(&digits);
    }
    let mut flags = MountFlags::NODEV;
    if let Some((upper, work, durable)) = upper {
        name(upper, "u")?;
        name(work, "w")?;
        options.push_str(",upperdir=u,workdir=w");
        options.push_str(if durable { "" } else { ",volatile" });
    } else {
        flags |= MountFlags::RDONLY | MountFlags::NOSUID;
    }
    for (key, value) in xattrs.options() {
        options.push(',');
        options.push_str(key);
        if !value.is_empty() {
            options.push('=');
            options.push_str(value);
        }
    }
    let options = std::ffi::CString::new(options)?;
    rustix::mount::mount("overlay", root, "overlay", flags, options.as_c_str())?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(root, flags, Mode::empty())?)
}

/// Mounts a view in the mount namespace of a thread that ends right after: the descriptor
/// keeps the mount, which then is attached nowhere.
fn view_in_a_thread(layers: &[PathBuf], xattrs: OverlayXattrs) -> io::Result<OwnedFd> {
    in_a_thread(|| view_in_this_thread(layers, xattrs))
}

fn in_a_thread(mount: impl FnOnce() -> io::Result<OwnedFd> + Send) -> io::Result<OwnedFd> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("overlay".into())
            .stack_size(128 * 1024)
            .spawn_scoped(scope, mount)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the mounting thread panicked")))
    })
}

/// Gives this thread a mount namespace of its own, which nothing leads out of.
fn private_mounts() -> io::Result<()> {
    crate::sys::mount::unshare_for_this_thread(UnshareFlags::NEWNS | UnshareFlags::FS)?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change("/", private)?)
}

/// Covers a directory with a scratch file system, for this thread alone, and goes there.
fn scratch_over(directory: &Path) -> io::Result<()> {
    let options = c"size=1m,mode=0700";
    rustix::mount::mount("tmpfs", directory, "tmpfs", MountFlags::NODEV | MountFlags::NOSUID, options)?;
    rustix::process::chdir(directory)?;
    for name in ["empty", "root"] {
        rustix::fs::mkdirat(CWD, name, Mode::from_raw_mode(0o755))?;
    }
    Ok(())
}

fn view_in_this_thread(layers: &[PathBuf], xattrs: OverlayXattrs) -> io::Result<OwnedFd> {
    private_mounts()?;
    let Some(topmost) = layers.first() else { return empty_view() };
    // Opened only now: the layers must be of this mount namespace.
    let mut lowers = layers.iter().map(|path| open_layer(path)).collect::<io::Result<Vec<_>>>()?;
    // The scratch file system covers a layer that is already open, and only for this thread.
    scratch_over(topmost)?;
    lowers.push(open_layer(Path::new("empty"))?);
    mount_named(&borrowed(&lowers), None, xattrs, "root")
}

/// Makes an empty read-only file system, attached nowhere.
fn empty_view() -> io::Result<OwnedFd> {
    let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::RDONLY;
    rustix::mount::mount("tmpfs", "/proc", "tmpfs", flags, c"size=4k,mode=0755")?;
    let file = File::open("/proc")?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    /// Whether this process may mount; the reason is printed, since a test that is left out says why.
    fn may_mount() -> bool {
        let thread = std::thread::spawn(|| {
            crate::sys::mount::unshare_for_this_thread(UnshareFlags::NEWNS | UnshareFlags::FS)
        });
        match thread.join().unwrap() {
            Ok(()) => true,
            Err(error) => {
                println!("left out: needs CAP_SYS_ADMIN ({error})");
                false
            }
        }
    }

    fn names(view: &OwnedFd) -> BTreeSet<String> {
        rustix::fs::Dir::read_from(rustix::fs::openat(view, ".", OFlags::DIRECTORY, Mode::empty()).unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned())
            .filter(|name| name != "." && name != "..")
            .collect()
    }

    fn check_view(way: MountWay, layers: &[&[&str]], expect: &[&str]) {
        let directory = tempfile::Builder::new().prefix("over,lay:\\ ").tempdir().unwrap();
        let mut paths = Vec::new();
        for (index, files) in layers.iter().enumerate() {
            let path = directory.path().join(format!("{index}{}", "long".repeat(40)));
            fs::create_dir(&path).unwrap();
            for file in *files {
                fs::write(path.join(file), index.to_string()).unwrap();
            }
            paths.push(path);
        }
        let view = mount_view_with(&paths, OverlayXattrs::Trusted, way).unwrap();
        let expect: BTreeSet<String> = expect.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(names(&view), expect);
        let create = OFlags::CREATE | OFlags::WRONLY;
        let written = rustix::fs::openat(&view, "new", create, Mode::from_raw_mode(0o644));
        assert_eq!(written.unwrap_err(), Errno::ROFS);
    }

    #[test]
    fn views_merge_layers_in_both_ways() {
        if !may_mount() {
            return;
        }
        for way in [MountWay::Auto, MountWay::Old] {
            check_view(way, &[], &[]);
            check_view(way, &[&["a"]], &["a"]);
            check_view(way, &[&["a"], &["a", "b"]], &["a", "b"]);
            check_view(way, &[&["a"], &[], &["c"]], &["a", "c"]);
        }
    }

    #[test]
    fn many_layers_are_merged_and_too_many_refused() {
        if !may_mount() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..MAX_LOWERS + 1).map(|n| directory.path().join(n.to_string())).collect();
        for path in &paths {
            fs::create_dir(path).unwrap();
        }
        for way in [MountWay::Auto, MountWay::Old] {
            mount_view_with(&paths[..MAX_LOWERS - 1], OverlayXattrs::Trusted, way).unwrap();
            let error = mount_view_with(&paths, OverlayXattrs::Trusted, way).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains("501 layers are too many"), "{error}");
        }
    }

    #[test]
    fn a_missing_layer_is_named() {
        if !may_mount() {
            return;
        }
        let paths = [PathBuf::from("/"), PathBuf::from("/no/such/layer")];
        let error = mount_view(&paths, OverlayXattrs::Trusted).unwrap_err();
        assert!(error.to_string().contains("`/no/such/layer`"), "{error}");
    }
}
