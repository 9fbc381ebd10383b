//! Processes: a child in new namespaces, its end, and what a child sets up before exec.
//!
//! Not here: which namespaces and what is mounted in them (`sandbox`).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::process::{Signal, WaitId, WaitIdOptions};
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

/// Which side of [`clone_child`] this is.
pub enum Cloned {
    Child,
    Parent { pidfd: OwnedFd },
}

/// Namespaces a child can be given: `CLONE_NEW*` flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespaces(u64);

impl Namespaces {
    /// Mounts, processes, IPC, host name, cgroup view.
    pub const STEP: Namespaces = Namespaces(
        (libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWCGROUP) as u64,
    );
    /// Network.
    pub const NETWORK: Namespaces = Namespaces(libc::CLONE_NEWNET as u64);

    /// Returns both.
    pub fn and(self, other: Namespaces) -> Namespaces {
        Namespaces(self.0 | other.0)
    }

    /// Returns these without a new view of the control groups, for a child that joins one first.
    pub fn with_callers_cgroups(self) -> Namespaces {
        Namespaces(self.0 & !(libc::CLONE_NEWCGROUP as u64))
    }
}

/// Makes a child in new namespaces: clone3(2) with a copy of the memory, as fork does.
///
/// # Errors
/// Refuses in a process with more than one thread, where only async-signal-safe code
/// could run in the child.
pub fn clone_child(namespaces: Namespaces) -> io::Result<Cloned> {
    OneThread::check()?;
    let mut pidfd: libc::c_int = -1;
    // SAFETY: all-zero is a valid value of this plain struct.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces.0 | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: no CLONE_VM, so the child has its own memory; one thread, so no lock is held by
    // another; the kernel writes one descriptor to `pidfd`, which outlives the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        _ => {
            // SAFETY: the kernel made this descriptor for us and nobody else knows it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pidfd })
        }
    }
}

/// Makes a child in the same namespaces, as fork does; returns its number and pidfd, in the child nothing.
///
/// With clone(2), which filters around containers let pass where they refuse clone3.
///
/// # Errors
/// As [`clone_child`].
pub fn fork_child() -> io::Result<Option<(u32, OwnedFd)>> {
    OneThread::check()?;
    let mut pidfd: libc::c_int = -1;
    let flags = libc::c_long::from(libc::CLONE_PIDFD | libc::SIGCHLD);
    // SAFETY: as in `clone_child`; no stack is given, so the child goes on with a copy of this one. The
    // third argument is where the pidfd goes, on all processors known here; the others are not used.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, &raw mut pidfd, 0_usize, 0_usize) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        // SAFETY: the kernel made this descriptor for us and nobody else knows it.
        pid => Ok(Some((pid as u32, unsafe { OwnedFd::from_raw_fd(pidfd) }))),
    }
}

/// Says that this process has one thread: it is to be asked while `/proc` is that of its own processes.
#[derive(Debug)]
pub struct OneThread(());

impl OneThread {
    /// Looks, and refuses where there are more.
    pub fn check() -> io::Result<OneThread> {
        // Each thread is a directory there, beside the two links that every directory has: proc(5).
        match rustix::fs::stat("/proc/self/task")?.st_nlink {
            3 => Ok(OneThread(())),
            _ => Err(io::Error::other("the process has more than one thread")),
        }
    }
}

/// Makes a process beside this one, a child of this one's parent, as fork does; returns its pidfd, in the
/// new process nothing.
///
/// It is in the process namespace that this one has chosen for its children. With clone(2), as
/// [`fork_child`].
pub fn clone_sibling(_alone: &OneThread) -> io::Result<Option<OwnedFd>> {
    let mut pidfd: libc::c_int = -1;
    // The signal of its end is the one of this process: clone(2), CLONE_PARENT.
    let flags = libc::c_long::from(libc::CLONE_PIDFD | libc::CLONE_PARENT | libc::SIGCHLD);
    // SAFETY: as in `fork_child`; that there is one thread is what the token says.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, &raw mut pidfd, 0_usize, 0_usize) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        // SAFETY: the kernel made this descriptor for us and nobody else knows it.
        _ => Ok(Some(unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Code(i32),
    Signal(i32),
}

/// Reaps a child that has ended; `None` while it runs.
pub fn try_reap(pidfd: &OwnedFd) -> io::Result<Option<Ended>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let status = rustix::process::waitid(WaitId::PidFd(std::os::fd::AsFd::as_fd(pidfd)), options)?;
    Ok(status.map(|status| match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ended::Code(code),
        (None, signal) => Ended::Signal(signal.unwrap_or(0)),
    }))
}

/// Returns the signal of this number, also a real-time one as glibc counts them (signal(7)); `None` where there is
/// none that a program may be sent.
pub fn signal(number: i32) -> Option<Signal> {
    // SAFETY: no library uses these for itself: glibc keeps 32 and 33, below its SIGRTMIN.
    let real_time = || (34..=64).contains(&number).then(|| unsafe { Signal::from_raw_unchecked(number) });
    Signal::from_named_raw(number).or_else(real_time)
}

/// Ends a forked child at once, running nothing that its parent registered for its own end.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) only ends this process.
    unsafe { libc::_exit(code) }
}

/// Puts every signal back to its default and blocks none, as a program expects at its start.
///
/// Children of this process inherit that: who makes many does it once, and not in each.
pub fn reset_signals() -> io::Result<()> {
    // SAFETY: an all-zero set is valid and then emptied; only dispositions of this process
    // change, to SIG_DFL, which is no function of ours; 8 is the size of the kernel's signal set.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        if libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        // The kernel's own call: the C library keeps two signals back, which may be ignored too.
        // All-zero is SIG_DFL without flags on every processor, and 32 bytes hold the struct.
        let default = [0_u64; 4];
        for signal in 1..=64 {
            // KILL and STOP are refused; they are default already.
            let null = std::ptr::null_mut::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), null, 8_usize);
        }
    }
    Ok(())
}

/// Closes every descriptor from `first` up but some, which exec will close: close_range(2), Linux 5.9.
///
/// For a child that is about to exec: whatever still owns one of the closed descriptors must
/// never be used again.
pub fn close_all_but(first: u32, kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut numbers = Vec::new();
    for fd in kept {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?;
        numbers.push(fd.as_raw_fd().unsigned_abs());
    }
    numbers.retain(|&number| number >= first);
    numbers.sort_unstable();
    let mut from = first;
    for number in numbers.into_iter().map(Some).chain([None]) {
        let to = number.map_or(Some(u32::MAX), |number| number.checked_sub(1));
        // SAFETY: by the contract above nobody uses what is closed.
        if let Some(to) = to.filter(|&to| from <= to)
            && unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) } != 0
        {
            return Err(io::Error::last_os_error());
        }
        from = number.map_or(u32::MAX, |number| number.saturating_add(1));
    }
    Ok(())
}

/// Closes every descriptor from `first` up, at the start of a program.
///
/// Nothing of this process may own one of them yet.
pub fn close_all_from(first: u32) -> io::Result<()> {
    // SAFETY: by the contract above nobody owns what is closed.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Leaves the caller's session keyring for a new, empty one. Kernels without keys have none to leave.
pub fn new_session_keyring() {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) };
}

/// Brings up the loopback interface of the network namespace.
pub fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: all-zero is a valid ifreq; the name is shorter than the array; the kernel reads
    // and writes only the struct, whose flags member is the one these requests use.
    let result = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes every capability but `keep` out of the bounding set: that takes CAP_SETPCAP.
pub fn limit_bounding_set(keep: u64) -> io::Result<()> {
    for number in 0..64_u32 {
        let bit = 1_u64 << number;
        if keep & bit != 0 {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(bit)) {
            Ok(()) => {}
            // Past the last capability that the kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// One instruction of a seccomp filter: the kernel's `sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C)]
pub struct BpfInstruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// Puts a seccomp filter on the calling thread, for good.
///
/// Needs CAP_SYS_ADMIN or no_new_privs: seccomp(2), also for the flags (`SECCOMP_FILTER_FLAG_*`).
pub fn load_filter(program: &[BpfInstruction], flags: u32) -> io::Result<()> {
    #[repr(C)]
    struct Program {
        len: u16,
        filter: *const BpfInstruction,
    }
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = Program { len, filter: program.as_ptr() };
    const SET_MODE_FILTER: libc::c_ulong = 1;
    // SAFETY: the struct is laid out as sock_fprog and points at `len` instructions, which the
    // kernel copies and checks.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, u64::from(flags), &raw const program) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_cloned() {
        // The test harness has at least two.
        std::thread::spawn(|| assert!(clone_child(Namespaces::NETWORK).is_err())).join().unwrap();
    }

    #[test]
    fn namespaces_add_up() {
        let both = Namespaces::STEP.and(Namespaces::NETWORK);
        assert_eq!(both, both.and(Namespaces::STEP));
        assert_ne!(both, Namespaces::STEP);
    }
}
