//! Starting host programs with more file descriptors than standard input, output and error.
//!
//! Not here: processes in namespaces (`clone`).

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Lets `command` inherit descriptors under the given numbers (all above 2).
///
/// The descriptors are closed in this process when the command is dropped.
pub fn inherit(command: &mut Command, descriptors: Vec<(OwnedFd, RawFd)>) {
    // SAFETY: after fork only dup2 and fcntl are called, both async-signal-safe; nothing allocates.
    unsafe {
        command.pre_exec(move || {
            for (fd, number) in &descriptors {
                let result = if fd.as_raw_fd() == *number {
                    libc::fcntl(*number, libc::F_SETFD, 0)
                } else {
                    libc::dup2(fd.as_raw_fd(), *number)
                };
                if result < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
}

/// Gives `command` a mount namespace in which nothing it does can be seen outside.
///
/// Needs CAP_SYS_ADMIN. A program that makes a mount namespace by itself, but not all of its mounts
/// private, would unmount on the host what is shared there (mount_namespaces(7), "Shared subtrees").
pub fn own_mounts(command: &mut Command) {
    // SAFETY: after fork only unshare and mount are called, both plain system calls; nothing allocates.
    unsafe {
        command.pre_exec(|| {
            let none = std::ptr::null();
            let private = libc::MS_REC | libc::MS_PRIVATE;
            if libc::unshare(libc::CLONE_NEWNS) < 0
                || libc::mount(none, c"/".as_ptr(), none, private, std::ptr::null()) < 0
            {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

/// Starts `command` in a session of its own: no terminal, and no signal of the caller's reaches it (setsid(2)).
pub fn own_session(command: &mut Command) {
    // SAFETY: after fork only setsid is called, a plain system call; nothing allocates.
    unsafe {
        command.pre_exec(|| if libc::setsid() < 0 { Err(io::Error::last_os_error()) } else { Ok(()) });
    }
}
