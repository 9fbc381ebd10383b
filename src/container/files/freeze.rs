//! All processes of a container held still for a moment, and let go again whatever happens.
//!
//! By SIGSTOP, which needs no control group: the processes are found by their process namespace, again and
//! again until none is new and all have stopped. One that was stopped before stays so. What a program can see
//! of it: its parent may hear of a child that stopped and continued (waitpid(2), WUNTRACED).

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long processes may take to stop: one that waits for a disk does only when that has answered.
const PATIENCE: Duration = Duration::from_secs(10);

/// Says why a container cannot be held still.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    #[error(
        "its processes cannot be told from those of this machine: it has no process namespace of its own"
    )]
    NoNamespace,
    #[error("a process of it does not stop")]
    DoesNotStop,
    #[error("its processes cannot be stopped")]
    Io(#[from] io::Error),
}

/// Processes that are held still until this is dropped.
#[derive(Debug, Default)]
pub struct Freeze {
    stopped: BTreeMap<i32, OwnedFd>,
}

impl Freeze {
    /// Stops all processes in the process namespace of this one, which is not the caller's.
    pub fn new(process: u32) -> Result<Freeze, FreezeError> {
        let namespace = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/pid"));
        let wanted = namespace(&process.to_string())?;
        if namespace("self")? == wanted {
            return Err(FreezeError::NoNamespace);
        }
        let deadline = Instant::now() + PATIENCE;
        let mut freeze = Freeze::default();
        loop {
            let (mut is_new, mut runs) = (false, false);
            for pid in processes(&wanted)? {
                let Some(state) = state(pid) else { continue };
                match state {
                    b'Z' | b'X' => {}
                    b'T' | b't' => {}
                    _ if freeze.stopped.contains_key(&pid) => runs = true,
                    _ => is_new |= freeze.stop(pid, &wanted)?,
                }
            }
            if !is_new && !runs {
                return Ok(freeze);
            }
            if Instant::now() > deadline {
                return Err(FreezeError::DoesNotStop);
            }
            if !is_new {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Stops one process of the namespace; tells whether it was there.
    fn stop(&mut self, pid: i32, namespace: &PathBuf) -> Result<bool, FreezeError> {
        let gone = |errno: rustix::io::Errno| errno == rustix::io::Errno::SRCH;
        let Some(process) = Pid::from_raw(pid) else { return Ok(false) };
        let handle = match pidfd_open(process, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(errno) if gone(errno) => return Ok(false),
            Err(errno) => return Err(FreezeError::Io(errno.into())),
        };
        // Asked again now that it is held: until then its number could become another process's.
        if !is_in(pid, namespace) {
            return Ok(false);
        }
        match pidfd_send_signal(&handle, Signal::STOP) {
            Ok(()) => {
                self.stopped.insert(pid, handle);
                Ok(true)
            }
            Err(errno) if gone(errno) => Ok(false),
            Err(errno) => Err(FreezeError::Io(errno.into())),
        }
    }
}

impl Drop for Freeze {
    fn drop(&mut self) {
        for process in self.stopped.values() {
            let _ = pidfd_send_signal(process, Signal::CONT);
        }
    }
}

/// Lists the processes of a namespace, as far as we may look at them.
fn processes(namespace: &PathBuf) -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if is_in(pid, namespace) {
            found.push(pid);
        }
    }
    Ok(found)
}

fn is_in(pid: i32, namespace: &PathBuf) -> bool {
    std::fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|link| link == *namespace)
}

/// Returns the state of a process, proc_pid_stat(5); `None` where it is gone.
fn state(pid: i32) -> Option<u8> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(end + 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_namespace_is_never_stopped() {
        assert!(matches!(Freeze::new(std::process::id()), Err(FreezeError::NoNamespace)));
    }

    #[test]
    fn a_number_that_became_anothers_is_left_alone() {
        let own = i32::try_from(std::process::id()).unwrap();
        let mut freeze = Freeze::default();
        assert!(!freeze.stop(own, &PathBuf::from("pid:[1]")).unwrap());
        assert!(freeze.stopped.is_empty());
    }

    #[test]
    fn the_state_is_read() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(matches!(state(own), Some(b'R' | b'S' | b'D')));
        assert_eq!(state(i32::MAX), None);
    }
}
