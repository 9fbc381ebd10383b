//! The processes beneath this one, where no namespace holds them: adopted, found, ended.
//!
//! Sources: PR_SET_CHILD_SUBREAPER(2const), proc_pid_stat(5). Not here: who they are (`sandbox`).

use std::fs;
use std::io;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};

/// Makes this process the one that gets its descendants when their parents end.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// Has the kernel send this process a signal when its parent ends; `parent` is who that was at the fork.
///
/// # Errors
/// One where the parent has ended already.
pub fn end_with_parent(parent: u32, signal: Signal) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(signal)?;
    match nix::unistd::getppid().as_raw().unsigned_abs() == parent {
        true => Ok(()),
        false => Err(io::Error::other("the parent has ended")),
    }
}

/// Returns the number of this process.
pub fn own_pid() -> u32 {
    getpid().as_raw().unsigned_abs()
}

/// Returns the number of the parent.
pub fn parent_pid() -> u32 {
    nix::unistd::getppid().as_raw().unsigned_abs()
}

/// Kills and reaps all children but `kept`, and those that become children by that, until none is left.
///
/// For a process that adopts orphans. Returns how many could not be killed (no CAP_KILL over another
/// user's): they are not waited for.
pub fn end_children(kept: &[u32]) -> usize {
    loop {
        let mut refused = 0;
        let mut waited = false;
        let children = children();
        let children: Vec<Pid> =
            children.into_iter().filter(|pid| !kept.contains(&pid.as_raw().unsigned_abs())).collect();
        for &child in &children {
            if kill(child, Signal::SIGKILL) == Err(Errno::EPERM) {
                refused += 1;
            }
        }
        for child in children {
            // One that may not be killed is reaped only if it has ended by itself.
            let flags = (refused > 0).then_some(WaitPidFlag::WNOHANG);
            waited |= !matches!(waitpid(child, flags), Ok(WaitStatus::StillAlive) | Err(_));
        }
        if !waited {
            return refused;
        }
    }
}

/// Lists the processes whose parent is this one, ended ones that nobody waited for included.
fn children() -> Vec<Pid> {
    let own = getpid();
    let listed = fs::read_to_string(format!("/proc/self/task/{own}/children"));
    if let Ok(text) = listed {
        return text.split_whitespace().filter_map(|word| word.parse().ok().map(Pid::from_raw)).collect();
    }
    // Kernels without that file: all there are, by their parents.
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read(entry.path().join("stat")) else { continue };
        if parent(&stat) == Some(own.as_raw()) {
            found.push(Pid::from_raw(pid));
        }
    }
    found
}

/// Reads the parent from a `/proc/PID/stat`, whose second field, the name, may hold anything.
fn parent(stat: &[u8]) -> Option<i32> {
    let after = &stat[stat.iter().rposition(|&byte| byte == b')')? + 1..];
    std::str::from_utf8(after).ok()?.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_hides_no_parent() {
        assert_eq!(parent(b"12 (a) S 7 1) R 5 12 0"), Some(5));
        assert_eq!(parent(b"12 (sh) S 7 12"), Some(7));
        assert_eq!(parent(b"12 sh"), None);
        assert_eq!(parent(b"12 (sh)"), None);
    }
}
