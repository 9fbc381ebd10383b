//! Landlock: a process gives up, for good, all files but those below one directory.
//!
//! Sources: landlock(7), the kernel's Documentation/userspace-api/landlock.rst. Not here: who is held
//! this way, and what else keeps it (`sandbox`).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

const SYS_CREATE_RULESET: libc::c_long = 444;
const SYS_ADD_RULE: libc::c_long = 445;
const SYS_RESTRICT_SELF: libc::c_long = 446;
const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;

/// Everything that version 1 knows of files (bits 0 to 12).
const FILES: u64 = 0x1fff;
/// Making character and block devices: never given.
const MAKE_DEVICES: u64 = (1 << 6) | (1 << 11);
/// Since version 2: links and renames between directories. Without it they are refused altogether.
const REFER: u64 = 1 << 13;
/// Since version 3.
const TRUNCATE: u64 = 1 << 14;
/// Since version 5; not restricted here, since it is about devices alone.
/// Since version 6: abstract sockets and signals of processes outside stay out of reach.
const SCOPES: u64 = 0b11;

#[repr(C)]
struct Ruleset {
    files: u64,
    network: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

/// How far a process can be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Whether processes outside get none of its signals.
    pub signals: bool,
}

/// Returns the version of Landlock that can be used here; `None` where there is none that lets a
/// process rename files between directories (before Linux 5.19), or a filter refuses it.
pub fn version() -> Option<u32> {
    // SAFETY: this form asks for the version, and reads nothing.
    let version =
        unsafe { libc::syscall(SYS_CREATE_RULESET, std::ptr::null::<u8>(), 0_usize, CREATE_RULESET_VERSION) };
    u32::try_from(version).ok().filter(|version| *version >= 2)
}

/// Takes from this process and its children all files that are not below `directory`.
///
/// Needs no_new_privs. What is open stays open. `None` where Landlock cannot be used.
pub fn hold_below(directory: impl AsFd) -> io::Result<Option<Held>> {
    let Some(version) = version() else { return Ok(None) };
    let files = FILES | REFER | if version >= 3 { TRUNCATE } else { 0 };
    let scoped = if version >= 6 { SCOPES } else { 0 };
    let ruleset = Ruleset { files, network: 0, scoped };
    let size: usize = match version {
        ..4 => 8,
        4 | 5 => 16,
        _ => 24,
    };
    // SAFETY: the kernel reads `size` bytes of the struct, laid out as its own of that version.
    let fd = unsafe { libc::syscall(SYS_CREATE_RULESET, &raw const ruleset, size, 0_u32) };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel made this descriptor for us and nobody else knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let rule = PathBeneath { allowed: files & !MAKE_DEVICES, parent: directory.as_fd().as_raw_fd() };
    // SAFETY: the kernel reads the struct, laid out (packed) as its own.
    let added =
        unsafe { libc::syscall(SYS_ADD_RULE, fd.as_raw_fd(), RULE_PATH_BENEATH, &raw const rule, 0_u32) };
    if added != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: only takes rights away.
    match unsafe { libc::syscall(SYS_RESTRICT_SELF, fd.as_raw_fd(), 0_u32) } {
        0 => Ok(Some(Held { signals: scoped != 0 })),
        _ => Err(io::Error::last_os_error()),
    }
}
