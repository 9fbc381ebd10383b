//! How a merged root is made of layers, and which ways there are on this machine.
//!
//! Layers are directories in overlay upper form whichever way is taken: the kernel's overlayfs mounts
//! them, fuse-overlayfs does where that may not, and where neither can, their files are copied. Here
//! are the names of the ways and what is tried to choose one; doing it is `store::roots`.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::os::fd::{AsRawFd, OwnedFd};

/// What statfs(2) calls overlayfs: linux/magic.h.
const OVERLAYFS_SUPER_MAGIC: u64 = 0x794c_7630;

/// A way to make a merged root of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Snapshotter {
    /// The kernel mounts them.
    Overlay,
    /// The program fuse-overlayfs shows them, for roots that are written to.
    FuseOverlayfs,
    /// Files are linked where they are only read, and cloned or copied where they may be written.
    Copy,
}

impl Snapshotter {
    /// All of them, best first.
    pub const ALL: [Snapshotter; 3] = [Snapshotter::Overlay, Snapshotter::FuseOverlayfs, Snapshotter::Copy];

    /// Returns its word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Snapshotter::Overlay => "overlay",
            Snapshotter::FuseOverlayfs => "fuse-overlayfs",
            Snapshotter::Copy => "copy",
        }
    }

    /// Reads its word; also `overlayfs` and `native`, as BuildKit has them.
    pub fn parse(word: &str) -> Option<Snapshotter> {
        match word {
            "overlay" | "overlayfs" => Some(Snapshotter::Overlay),
            "fuse-overlayfs" => Some(Snapshotter::FuseOverlayfs),
            "copy" | "native" => Some(Snapshotter::Copy),
            _ => None,
        }
    }
}

/// A root that is ready to be entered, in terms of what is to be mounted.
#[derive(Debug)]
pub enum RootPlan {
    /// To be mounted by the kernel's overlayfs; `lowers` topmost first, `work` empty and beside `upper`;
    /// `durable`: what its programs sync is to reach the disk.
    Overlay {
        lowers: Vec<PathBuf>,
        upper: PathBuf,
        work: PathBuf,
        xattrs: super::OverlayXattrs,
        durable: bool,
    },
    /// A directory that shows everything already: to be bound, or just entered.
    Directory {
        /// Where it is, as the caller sees it; of a `mount` nothing is there.
        path: PathBuf,
        /// A mount of it, attached nowhere.
        mount: Option<OwnedFd>,
        /// An empty directory for whoever needs one to cover in a mount namespace of its own.
        scratch: PathBuf,
        /// Where to write the mount points that were made in the directory, for `store` to take them off
        /// again: [`write_points`].
        points: PathBuf,
    },
}

/// Writes a list of mount points: paths in a root, without links and without leading `/`, outer ones first.
///
/// One with a leading `/` is of something that was there, and is moved aside and back as it was.
/// To be called before they are made, and whoever makes them gives the directories they are in their old
/// times back: nothing of them may be left in a layer.
pub fn write_points(file: &Path, points: &[PathBuf]) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let mut bytes = Vec::new();
    for point in points {
        bytes.extend_from_slice(point.as_os_str().as_bytes());
        bytes.push(0);
    }
    std::fs::write(file, bytes)
}

/// Reads what [`write_points`] wrote; a file that is not there is an empty list.
pub fn read_points(file: &Path) -> io::Result<Vec<PathBuf>> {
    use std::os::unix::ffi::OsStringExt;
    match super::read::read_small(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => Ok(read?
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(|name| PathBuf::from(std::ffi::OsString::from_vec(name.to_vec())))
            .collect()),
    }
}

impl std::fmt::Display for Snapshotter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Tells whether a directory is itself on overlayfs, as all of a container's own files mostly are.
pub fn is_on_overlay(directory: &Path) -> bool {
    rustix::fs::statfs(directory).is_ok_and(|stat| stat.f_type as u64 == OVERLAYFS_SUPER_MAGIC)
}

/// Tells whether the file system of a directory takes whiteouts: overlayfs does not take its own.
///
/// A character device 0:0 may be made by anybody since Linux 5.8; overlayfs refuses it (`ovl_mknod`).
pub fn takes_whiteouts(directory: &Path) -> io::Result<bool> {
    let name = directory.join(".whiteout");
    let kind = rustix::fs::FileType::CharacterDevice;
    match rustix::fs::mknodat(rustix::fs::CWD, &name, kind, Mode::empty(), 0) {
        Ok(()) => {
            std::fs::remove_file(&name)?;
            Ok(true)
        }
        Err(rustix::io::Errno::PERM | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::INVAL) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Finds fuse-overlayfs and makes sure that file systems of programs can be mounted here.
///
/// `path` is a PATH value. The error says what is missing, for people.
pub fn find_fuse_overlayfs(path: &str) -> Result<PathBuf, String> {
    let program = path
        .split(':')
        .filter(|directory| directory.starts_with('/'))
        .map(|directory| Path::new(directory).join("fuse-overlayfs"))
        .find(|program| rustix::fs::access(program, rustix::fs::Access::EXEC_OK).is_ok())
        .ok_or("`fuse-overlayfs` is not installed")?;
    let (device, context) = open_fuse().map_err(|error| format!("/dev/fuse cannot be used: {error}"))?;
    mount_fuse(&device, &context).map_err(|error| format!("/dev/fuse cannot be mounted: {error}"))?;
    Ok(program)
}

/// Mounts a file system that a program is to serve through the first descriptor; the second is the mount,
/// attached nowhere. The program ends by itself once the mount is gone (fuse(4), `ENODEV`).
pub fn new_fuse_mount() -> io::Result<(OwnedFd, OwnedFd)> {
    let (device, context) = open_fuse()?;
    let mount = mount_fuse(&device, &context)?;
    Ok((device, mount))
}

fn open_fuse() -> io::Result<(OwnedFd, OwnedFd)> {
    let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let context = rustix::mount::fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
    Ok((device, context))
}

fn mount_fuse(device: &OwnedFd, context: &OwnedFd) -> io::Result<OwnedFd> {
    let set = |key: &str, value: &str| rustix::mount::fsconfig_set_string(context, key, value);
    set("source", "fuse-overlayfs")?;
    set("fd", &device.as_raw_fd().to_string())?;
    set("rootmode", "40000")?;
    set("user_id", "0")?;
    set("group_id", "0")?;
    rustix::mount::fsconfig_set_flag(context, "allow_other")?;
    rustix::mount::fsconfig_set_flag(context, "default_permissions")?;
    rustix::mount::fsconfig_create(context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for snapshotter in Snapshotter::ALL {
            assert_eq!(Snapshotter::parse(snapshotter.as_str()), Some(snapshotter));
        }
        assert_eq!(Snapshotter::parse("overlayfs"), Some(Snapshotter::Overlay));
        assert_eq!(Snapshotter::parse("zfs"), None);
    }

    #[test]
    fn an_ordinary_file_system_takes_whiteouts_and_keeps_nothing_of_the_trial() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(takes_whiteouts(directory.path()).unwrap(), !is_on_overlay(directory.path()));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(find_fuse_overlayfs("/no/such:relative").unwrap_err().contains("not installed"));
    }
}
