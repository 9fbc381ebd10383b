//! Hears clients: one thread for each connection.
//!
//! Not here: what happens to the container (`life`).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::termios;

use super::exec::{self, Executing};
use super::pause;
use super::streams::feed;
use super::{Live, Shared};
use crate::container::control::{self, Connection, Reply, Request};
use crate::container::files::Freeze;
use crate::container::options::NetworkMode;
use crate::container::usage::Usage;
use crate::container::{processes, signal};
use crate::sandbox::TerminalSize;

/// Accepts clients for as long as the process lives, whatever is short meanwhile.
///
/// Where no thread can be made (the container's processes may have taken all that the user may have) what a
/// client asks is answered here, unless that would keep the others waiting.
pub(super) fn accept_all(shared: Arc<Shared>, listener: OwnedFd) -> io::Result<()> {
    thread(move || {
        loop {
            let Ok(connection) = control::accept(&listener) else {
                // No descriptors or memory are left; those that wait stay in line.
                std::thread::sleep(SHORT_OF);
                continue;
            };
            let connection = Arc::new(connection);
            let (theirs, of) = (connection.clone(), shared.clone());
            if thread(move || hear(&of, &theirs, None)).is_err() {
                hear_one(&shared, &connection);
            }
        }
    })
}

/// Starts a thread; an error where the machine has none left.
pub(super) fn thread(run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().spawn(run).map(drop)
}

/// Does what ends a container, tells what is told at once, and refuses all else.
fn hear_one(shared: &Arc<Shared>, connection: &Connection) {
    let mut fds = [PollFd::from_borrowed_fd(connection.fd(), PollFlags::IN)];
    let patience = Timespec { tv_sec: 1, tv_nsec: 0 };
    if !matches!(rustix::event::poll(&mut fds, Some(&patience)), Ok(1..)) {
        return;
    }
    let Ok(Some((request, _))) = connection.receive::<Request>() else { return };
    shared.change(|live| live.busy += 1);
    let mut root_of_it = None;
    let reply = match request {
        Request::Kill(number) => kill(shared, number),
        Request::Stop { signal, timeout_s } => {
            stop(shared, signal, timeout_s, true);
            Reply::Done
        }
        Request::Processes => processes(shared),
        Request::Root => match root(shared) {
            Some(fd) => {
                root_of_it = Some(fd);
                Reply::Root
            }
            None => Reply::Refused(NOT_NOW.to_owned()),
        },
        _ => Reply::Refused("no thread is left for it: too many processes run".to_owned()),
    };
    let fds: Vec<_> = root_of_it.iter().map(AsFd::as_fd).collect();
    let _ = connection.send(&reply, &fds);
    shared.change(|live| live.busy -= 1);
}

/// What is said of a container between two starts, or about to end.
const NOT_NOW: &str = "it does not run right now";
/// How long is waited for descriptors or memory.
const SHORT_OF: Duration = Duration::from_millis(50);

/// Answers a client until it goes; `attached`: the number it is attached with already.
pub(super) fn hear(shared: &Arc<Shared>, connection: &Connection, mut attached: Option<u64>) {
    // Let go with the connection, however that ends.
    let mut held = None;
    let mut executing: Option<Arc<Executing>> = None;
    while let Ok(Some((request, fds))) = connection.receive::<Request>() {
        if let Some(executing) = &executing {
            match request {
                Request::Signal(number) | Request::Kill(number) => executing.signal(number),
                Request::Resize { rows, columns } => executing.resize(TerminalSize { rows, columns }),
                _ => {}
            }
            continue;
        }
        let request = match request {
            Request::Exec(request) => {
                match exec::start(shared, connection, *request, fds) {
                    Ok(started) => executing = Some(started),
                    Err(failure) => {
                        let _ = connection.send(&Reply::Failed(failure), &[]);
                    }
                }
                continue;
            }
            request => request,
        };
        shared.change(|live| live.busy += 1);
        if let Some((reply, fd)) = answer(shared, connection, request, fds, &mut attached, &mut held) {
            let fds: Vec<_> = fd.iter().map(AsFd::as_fd).collect();
            let _ = connection.send(&reply, &fds);
        }
        shared.change(|live| live.busy -= 1);
    }
    if let Some(number) = attached {
        shared.streams.detach(number);
    }
}

/// Lets a client take part in the streams; returns its number.
pub(super) fn attach(
    shared: &Arc<Shared>,
    connection: &Connection,
    request: &Request,
    fds: Vec<OwnedFd>,
) -> Option<u64> {
    let Request::Attach { stdin, stdout, stderr } = *request else { return None };
    let mut fds = fds.into_iter();
    let input = stdin.then(|| fds.next()).flatten();
    let (out, err) = (stdout.then(|| fds.next()).flatten(), stderr.then(|| fds.next()).flatten());
    let number = shared.streams.attach(connection.try_clone().ok()?, out, err);
    if let Some(input) = input {
        // Where no thread is left its input goes nowhere.
        let _ = feed(shared.clone(), input);
    }
    Some(number)
}

type Answer = Option<(Reply, Option<OwnedFd>)>;

fn answer(
    shared: &Arc<Shared>,
    connection: &Connection,
    request: Request,
    fds: Vec<OwnedFd>,
    attached: &mut Option<u64>,
    held: &mut Option<Arc<Freeze>>,
) -> Answer {
    let plain = |reply| Some((reply, None));
    match request {
        Request::Attach { .. } => {
            // Under the lock of what happens: it cannot end in between without telling this client.
            let live = shared.live();
            if live.over {
                return plain(exited(&live));
            }
            *attached = attach(shared, connection, &request, fds);
            None
        }
        Request::Signal(number) => {
            if let Some(running) = &shared.live().running {
                let _ = running.signal(number);
            }
            None
        }
        Request::Resize { rows, columns } => {
            shared.live().size = Some(TerminalSize { rows, columns });
            shared.streams.resize(TerminalSize { rows, columns });
            None
        }
        Request::Kill(number) => plain(kill(shared, number)),
        Request::Stop { signal, timeout_s } => {
            stop(shared, signal, timeout_s, true);
            plain(Reply::Done)
        }
        Request::Wait => {
            let mut live = shared.live();
            let before = live.ends;
            while !live.over && live.ends == before {
                live = shared.wait(live);
            }
            plain(exited(&live))
        }
        Request::Hold => plain(pause::hold(shared, held)),
        Request::Pause => plain(pause::pause(shared)),
        Request::Unpause => plain(pause::unpause(shared)),
        Request::Processes => plain(processes(shared)),
        Request::Usage => plain(usage(shared)),
        // It changes what the connection is for: taken where that is kept.
        Request::Exec(_) => plain(Reply::Refused("it cannot be started here".to_owned())),
        Request::Root => match root(shared) {
            Some(fd) => Some((Reply::Root, Some(fd))),
            None => plain(Reply::Refused(NOT_NOW.to_owned())),
        },
    }
}

fn exited(live: &Live) -> Reply {
    Reply::Exited { code: live.state.exit_code, out_of_memory: live.state.out_of_memory }
}

fn kill(shared: &Shared, number: i32) -> Reply {
    let own = shared.settings.config.stop_signal.is_some();
    let ends = number == signal::KILL || !own || number == shared.settings.stop_signal;
    let mut live = shared.live();
    let Some(running) = live.running.clone() else {
        return Reply::Refused(NOT_NOW.to_owned());
    };
    let sent = match number {
        signal::KILL => running.kill(),
        number => running.signal(number),
    };
    // Its end is heard of only when `live` is let go.
    if ends && sent.is_ok() {
        live.last = true;
        live.state.stopped = true;
        // It is to hear the signal.
        pause::let_go(shared, &mut live);
    }
    match sent {
        Ok(()) => Reply::Done,
        Err(error) => Reply::Refused(crate::report::chain(&error)),
    }
}

/// Ends the container for good, and waits for that.
pub(super) fn stop(shared: &Shared, signal: Option<i32>, timeout_s: Option<i64>, by_user: bool) {
    let signal = signal.unwrap_or(shared.settings.stop_signal);
    let timeout = timeout_s.unwrap_or(shared.settings.stop_timeout_s);
    let mut live = shared.live();
    live.last = true;
    live.state.stopped |= by_user;
    shared.changed.notify_all();
    if let Some(running) = &live.running {
        let _ = running.signal(signal);
    }
    pause::let_go(shared, &mut live);
    // A time that no clock will show is never.
    let seconds = u64::try_from(timeout).ok();
    let deadline = seconds.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
    while !live.over {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            if let Some(running) = &live.running {
                let _ = running.kill();
            }
            live = shared.wait(live);
            continue;
        }
        live = match left {
            Some(left) => match shared.changed.wait_timeout(live, left) {
                Ok((live, _)) => live,
                Err(poisoned) => poisoned.into_inner().0,
            },
            None => shared.wait(live),
        };
    }
}

/// Lists the container's processes.
fn processes(shared: &Shared) -> Reply {
    let pid = shared.live().running.as_ref().and_then(|running| running.pid());
    match pid.map(processes::of) {
        Some(Ok(pids)) => Reply::Processes(pids),
        _ => Reply::Refused(NOT_NOW.to_owned()),
    }
}

/// Adds up what the container's processes use.
fn usage(shared: &Shared) -> Reply {
    let Some(running) = shared.live().running.clone() else {
        return Reply::Refused("it does not run right now".to_owned());
    };
    let shares_network = shared.settings.options.network.mode == NetworkMode::Host;
    match running.pid().map(|pid| Usage::of(pid, !shares_network)) {
        Some(Ok(mut usage)) => {
            let limits = shared.settings.options.resources.cgroup.as_ref();
            let in_force = !running.notes().iter().any(|note| note.to_string().contains("memory"));
            let most = limits.and_then(|limits| limits.memory).filter(|_| in_force);
            usage.memory_limit = most.and_then(|most| u64::try_from(most).ok());
            Reply::Usage(usage)
        }
        _ => Reply::Refused("it does not run right now".to_owned()),
    }
}

/// Opens the root of the container's first process.
fn root(shared: &Shared) -> Option<OwnedFd> {
    let live = shared.live();
    let pid = live.running.as_ref()?.pid()?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, format!("/proc/{pid}/root"), flags, Mode::empty()).ok()
}

/// Gives a terminal a size.
pub(super) fn set_size(terminal: impl AsFd, size: TerminalSize) {
    let size = termios::Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    let _ = termios::tcsetwinsize(terminal, size);
}
