//! Runs a container's checks, one after another, for as long as its program runs.
//!
//! Not here: what follows from their results (`container::health`).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec};

use super::clients::thread;
use super::{Live, Shared};
use crate::container::health::{Checks, Health, OUTPUT_LIMIT, Probed};
use crate::report::chain;
use crate::sandbox::{Running, SandboxError, Stdio};

/// What the state says at a start: nothing is known yet of a container with checks.
pub(super) fn at_start(shared: &Shared, before: Option<&Health>) -> Option<Health> {
    Checks::of(&shared.settings.config)?;
    // What came of earlier checks stays to be seen.
    Some(Health { log: before.map(|health| health.log.clone()).unwrap_or_default(), ..Health::default() })
}

/// Notes in the state that the program has ended.
pub(super) fn at_end(live: &mut Live) {
    live.state.health.iter_mut().for_each(Health::ended);
}

/// Checks a program that was started, on a thread of its own, until it ends.
pub(super) fn watch(shared: &Arc<Shared>, running: &Arc<Running>) {
    let Some(checks) = Checks::of(&shared.settings.config) else { return };
    let (shared, running) = (shared.clone(), running.clone());
    // Where no thread is left it stays as it is: starting.
    let _ = thread(move || {
        let started = Instant::now();
        while rest(&shared, &running, &checks, started) {
            let age = started.elapsed();
            let probed = probe(&shared, &running, &checks);
            let mut live = shared.live();
            if !runs(&live, &running) {
                return;
            }
            checks.note(live.state.health.get_or_insert_default(), age, probed);
            let _ = live.state.keep(&shared.store, &shared.kept.id);
        }
    });
}

fn runs(live: &Live, running: &Arc<Running>) -> bool {
    live.running.as_ref().is_some_and(|now| Arc::ptr_eq(now, running))
}

/// Waits until the next check; returns whether there is to be one.
fn rest(shared: &Shared, running: &Arc<Running>, checks: &Checks, started: Instant) -> bool {
    let mut live = shared.live();
    let pause = checks.pause(live.state.health.get_or_insert_default(), started.elapsed());
    let until = Instant::now() + pause;
    loop {
        if !runs(&live, running) {
            return false;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() && live.paused.is_none() {
            return true;
        }
        if left.is_zero() {
            // Nothing is checked of what is held still.
            live = shared.wait(live);
            continue;
        }
        live = match shared.changed.wait_timeout(live, left) {
            Ok((live, _)) => live,
            Err(poisoned) => poisoned.into_inner().0,
        };
    }
}

/// Runs one check.
fn probe(shared: &Shared, running: &Running, checks: &Checks) -> Probed {
    let start = Timestamp::now();
    let (exit_code, output) = match run(shared, running, checks) {
        Ok((Some(code), output)) => (code, output),
        Ok((None, output)) => {
            let text = format!("Health check exceeded timeout ({:?})", checks.timeout);
            (-1, if output.is_empty() { text } else { format!("{text}: {output}") })
        }
        Err(error) => (-1, chain(&error)),
    };
    Probed { start, end: Timestamp::now(), exit_code, output }
}

/// Returns the exit code of a check, `None` where it took too long and was killed, and what it said.
fn run(shared: &Shared, running: &Running, checks: &Checks) -> Result<(Option<i32>, String), SandboxError> {
    let until = Instant::now() + checks.timeout;
    let mut spec = running.enter_spec();
    spec.args = checks.args.iter().map(Into::into).collect();
    let (reader, writer) = io::pipe().map_err(SandboxError::Send)?;
    let writer = OwnedFd::from(writer);
    let stderr = Some(writer.try_clone().map_err(SandboxError::Send)?);
    let stdio = Stdio { stdin: None, stdout: Some(writer), stderr };
    let check = shared.launcher.get()?.enter(running, spec, stdio)?;
    let mut said = Said::default();
    let in_time = listen(&check, File::from(OwnedFd::from(reader)), until, &mut said);
    if !in_time {
        check.kill_group()?;
    }
    let exit = check.wait()?;
    Ok((in_time.then(|| exit.code()), said.text()))
}

/// Hears what a check says until it has ended, or for as long as it may; returns whether it has.
///
/// What it leaves behind may keep the pipe open, and write to it without end.
fn listen(check: &Running, mut from: File, until: Instant, said: &mut Said) -> bool {
    let mut buffer = vec![0; 16 * 1024];
    let mut open = true;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let (readable, ended) = {
            let mut fds = vec![PollFd::from_borrowed_fd(check.pidfd(), PollFlags::IN)];
            if open {
                fds.push(PollFd::new(&from, PollFlags::IN));
            }
            match rustix::event::poll(&mut fds, Some(&timespec(left))) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return false,
                Ok(_) => {
                    (fds.get(1).is_some_and(|fd| !fd.revents().is_empty()), !fds[0].revents().is_empty())
                }
            }
        };
        if readable {
            match from.read(&mut buffer) {
                Ok(0) => open = false,
                Ok(count) => said.add(&buffer[..count]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => open = false,
            }
        } else if ended {
            return true;
        }
        if left.is_zero() || (ended && said.more) {
            return ended;
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs().cast_signed(), tv_nsec: duration.subsec_nanos().into() }
}

/// The start of what a check says.
#[derive(Default)]
struct Said {
    bytes: Vec<u8>,
    more: bool,
}

impl Said {
    fn add(&mut self, bytes: &[u8]) {
        let room = OUTPUT_LIMIT - self.bytes.len();
        self.more |= bytes.len() > room;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        if self.more { format!("{text}...") } else { text.into_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut() {
        let mut said = Said::default();
        said.add(b"abc");
        assert_eq!(said.text(), "abc");
        said.add(&[b'x'; OUTPUT_LIMIT - 3]);
        assert_eq!((said.text().len(), said.more), (OUTPUT_LIMIT, false));
        said.add(b"y");
        said.add(b"z");
        assert!(said.text().ends_with("x..."));
    }
}
