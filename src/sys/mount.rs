//! Mount calls that no safe wrapper has yet, and namespaces of a single thread.
//!
//! Not here: what is mounted where (`sandbox`), overlays (`overlay`).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::StatVfsMountFlags;
use rustix::mount::MountFlags;
use rustix::thread::UnshareFlags;

/// Gives the calling thread mount, file-system-information and other namespaces of its own.
///
/// The flags must not hold `FILES`: descriptors are then closed behind the back of their owners.
pub fn unshare_for_this_thread(flags: UnshareFlags) -> io::Result<()> {
    if flags.contains(UnshareFlags::FILES) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: only CLONE_FILES, refused above, breaks assumptions about owned descriptors.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// What to change of a mount: the fields of the kernel's `mount_attr`.
#[derive(Debug, Clone, Copy, Default)]
pub struct MountChange {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_PRIVATE` and the like, or 0.
    pub propagation: u64,
}

/// Changes a mount (and those beneath it when `recursive`) in one call: mount_setattr(2), Linux 5.12.
pub fn change_mount(mount: impl AsFd, change: MountChange, recursive: bool) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        attr_set: u64,
        attr_clr: u64,
        propagation: u64,
        userns_fd: u64,
    }
    let attr =
        Attr { attr_set: change.set, attr_clr: change.clear, propagation: change.propagation, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the descriptor is open, the path a C string, and the kernel reads exactly the
    // given size of a struct laid out as in linux/mount.h.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<Attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Restricts a mount: adds `MOUNT_ATTR_RDONLY`, `NOSUID`, `NODEV`, `NOEXEC`, and takes none away.
///
/// `mount` is open at the mount's root. Before Linux 5.12 only the mount itself is
/// changed, never those beneath it.
pub fn restrict(mount: impl AsFd, set: u64, recursive: bool) -> io::Result<()> {
    match change_mount(&mount, MountChange { set, ..MountChange::default() }, recursive) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => restrict_by_remount(mount, set),
        other => other,
    }
}

/// Does [`restrict`] with mount(2).
pub fn restrict_by_remount(mount: impl AsFd, set: u64) -> io::Result<()> {
    // Flags left out would be cleared, which a user namespace may not do to a mount it was given.
    let present = rustix::fs::fstatvfs(&mount)?.f_flag;
    let mut flags = MountFlags::BIND;
    let table = [
        (libc::MOUNT_ATTR_RDONLY, StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (libc::MOUNT_ATTR_NOSUID, StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (libc::MOUNT_ATTR_NODEV, StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (libc::MOUNT_ATTR_NOEXEC, StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (0, StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (0, StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (0, StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    for (wanted, there, flag) in table {
        if set & wanted != 0 || present.contains(there) {
            flags |= flag;
        }
    }
    let name = format!("/proc/self/fd/{}", mount.as_fd().as_raw_fd());
    Ok(rustix::mount::mount_remount(name, flags, c"")?)
}
