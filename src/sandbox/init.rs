//! `--init`: a first process that reaps what is left to it, and passes signals on to the program.
//!
//! It is this process, which forks right before exec: no program has to be put into the image. It has the
//! rights, the filter and the user of the container already. Not here: the processes of steps (`child`).

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, setpgid};

use super::error::StepError;
use crate::sys::process;

/// Stays behind as the first process and ends as the program does; comes back in the program's own process.
///
/// All descriptors but the streams are closed in the first process, the channel for errors too: its end tells
/// that exec worked.
pub(super) fn become_first() -> Result<(), StepError> {
    let failed = |error: std::io::Error| StepError::Init(error.into());
    let signals = SigSet::all();
    signals.thread_block().map_err(|errno| failed(errno.into()))?;
    let Some((child, pidfd)) = process::fork_child().map_err(failed)? else {
        own_group();
        return signals.thread_unblock().map_err(|errno| failed(errno.into()));
    };
    drop(pidfd);
    let code = match process::close_all_from(3) {
        Ok(()) => attend(Pid::from_raw(child as i32), &signals),
        // Its caller would wait for ever for the end of `errors`.
        Err(_) => 125,
    };
    process::exit_now(code)
}

/// Puts the program into a process group of its own, which a terminal's keys then are for: a signal of the
/// terminal comes once.
fn own_group() {
    let own = getpid();
    if setpgid(own, own).is_ok() {
        // Blocked signals: SIGTTOU does not stop it. Without a terminal there is nothing to be given.
        let _ = rustix::termios::tcsetpgrp(std::io::stdin(), rustix::process::getpid());
    }
}

/// Passes signals on, and reaps until the program has ended; returns its code.
fn attend(child: Pid, signals: &SigSet) -> i32 {
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {
                if let Some(code) = reap(child) {
                    return code;
                }
            }
            // What a terminal says to those in the background is this process's own matter.
            // Signals without a name (real-time ones) have been taken, too, and are lost.
            Ok(Signal::SIGTTIN | Signal::SIGTTOU) | Err(_) => {}
            Ok(signal) => {
                let _ = kill(child, signal);
            }
        }
    }
}

/// Reaps all that has ended; returns the program's code where it is among them.
fn reap(child: Pid) -> Option<i32> {
    let mut code = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == child => code = Some(status),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                code = Some(128 + signal as i32);
            }
            Ok(WaitStatus::StillAlive) | Err(_) => return code,
            Ok(_) => {}
        }
    }
}
