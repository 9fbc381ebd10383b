//! The keeper of a step without namespaces: the parent of its program, and of all that it leaves behind.
//!
//! Where there is no process namespace whose end ends all in it, this process adopts what the program
//! abandons, and kills it when the program has ended, or when the helper has. It is a copy of the
//! helper, one for each step, and says itself how the step ended. Not here: what the program's own
//! process does before exec (`child`).

use std::os::fd::AsFd;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::sandbox::child::{self, Channels, Filter};
use crate::sandbox::error::StepError;
use crate::sandbox::helper::{self, ExitStatus, Reply};
use crate::sandbox::isolation::Isolation;
use crate::sandbox::spec::Spec;
use crate::sys::descendants;
use crate::sys::process::{Ended, exit_now, fork_child};

/// Runs the program of a step and comes back when nothing of it is left; the caller then ends.
pub(in crate::sandbox) fn keep(
    spec: Spec,
    channels: Channels,
    filter: Filter<'_>,
    helper: u32,
    oom_kills_before: u64,
) {
    let Ok(channel) = channels.channel.try_clone() else { return };
    let refuse = |error: std::io::Error| {
        helper::reply(&channel, &Reply::NotStarted(StepError::Keeper(error.into())), None);
    };
    // Before anything can come: both are taken when they are asked for, and not before.
    let mut awaited = SigSet::empty();
    awaited.add(Signal::SIGCHLD);
    awaited.add(Signal::SIGTERM);
    if let Err(errno) = awaited.thread_block() {
        return refuse(errno.into());
    }
    let ready = descendants::adopt_orphans()
        .and_then(|()| descendants::end_with_parent(helper, Signal::SIGTERM))
        .and_then(|()| fork_child());
    let (pid, pidfd) = match ready {
        Ok(Some(child)) => child,
        Ok(None) => {
            child::run(spec, channels, filter, Isolation::Chroot);
            exit_now(1)
        }
        Err(error) => return refuse(error),
    };
    // The ends of its pipes: only the step may hold them.
    drop((spec, channels));
    helper::reply(&channel, &Reply::Started, Some(pidfd.as_fd()));
    let status = match wait(Pid::from_raw(pid.cast_signed()), &awaited) {
        Some(ended) => helper::status(ended, oom_kills_before),
        None => ExitStatus::Signal(Signal::SIGKILL as i32),
    };
    descendants::end_children(&[]);
    helper::reply(&channel, &Reply::Exited(status), None);
}

/// Waits for the program's end, burying orphans meanwhile; `None` when the helper has ended.
fn wait(program: Pid, awaited: &SigSet) -> Option<Ended> {
    loop {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == program => return Some(Ended::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => {
                    return Some(Ended::Signal(signal as i32));
                }
                Ok(WaitStatus::StillAlive) => break,
                Ok(_) => {}
                // It cannot be waited for: gone, in a way we cannot know.
                Err(_) => return Some(Ended::Signal(Signal::SIGKILL as i32)),
            }
        }
        if awaited.wait() == Ok(Signal::SIGTERM) {
            return None;
        }
    }
}

/// Asks keepers to end their steps, waits for them, and ends what one may have left: the helper's end.
pub(in crate::sandbox) fn end_all(keepers: impl Iterator<Item = u32>) {
    let keepers: Vec<Pid> = keepers.map(|keeper| Pid::from_raw(keeper.cast_signed())).collect();
    for &keeper in &keepers {
        let _ = kill(keeper, Signal::SIGTERM);
    }
    for keeper in keepers {
        let _ = waitpid(keeper, None);
    }
    descendants::end_children(&[]);
}
