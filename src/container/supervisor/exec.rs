//! Starts further processes in the container for clients, and goes on without those who leave.
//!
//! What such a process writes goes to the client's own descriptors for as long as the client is there,
//! and is thrown away after that: it must not end for want of a reader. Not here: entering (`sandbox`).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::Shared;
use super::clients::{set_size, thread};
use super::streams::{MOST_AT_END, write_to};
use crate::container::control::{Connection, ExecRequest, Failure, Reply};
use crate::container::state::Status;
use crate::image::ContainerConfig;
use crate::report::chain;
use crate::sandbox::{EnterSpec, Exit, Running, SandboxError, Seccomp, Stdio, StepError, TerminalSize, User};
use crate::sys::users;

/// A process that a client has started.
pub(super) struct Executing {
    running: Running,
    terminal: Option<File>,
}

impl Executing {
    pub fn signal(&self, number: i32) {
        let _ = self.running.signal(number);
    }

    pub fn resize(&self, size: TerminalSize) {
        if let Some(terminal) = &self.terminal {
            set_size(terminal, size);
        }
    }

    fn has_ended(&self) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(self.running.pidfd(), PollFlags::IN)];
        matches!(rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
    }
}

/// The streams of a client.
#[derive(Default)]
struct Wanted {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

/// Starts a process and says so on the connection; its end is told there by a thread.
pub(super) fn start(
    shared: &Arc<Shared>,
    connection: &Connection,
    request: ExecRequest,
    fds: Vec<OwnedFd>,
) -> Result<Arc<Executing>, Failure> {
    let mut fds = fds.into_iter();
    let mut next = |wanted: bool| wanted.then(|| fds.next()).flatten();
    let wanted =
        Wanted { stdin: next(request.stdin), stdout: next(request.stdout), stderr: next(request.stderr) };
    let into = {
        let live = shared.live();
        match &live.running {
            Some(_) if live.paused.is_some() => return Err(paused(shared)),
            Some(running) => running.clone(),
            None if live.state.status == Status::Restarting => return Err(restarting(shared)),
            None => return Err(not_running(shared)),
        }
    };
    let attached = wanted.stdout.is_some() || wanted.stderr.is_some() || wanted.stdin.is_some();
    let spec = spec(shared, &into, &request)?;
    let failed = |error: io::Error| failure(shared, SandboxError::Send(error));
    let launcher = shared.launcher.get().map_err(|error| failure(shared, error))?;
    let Wanted { stdin, stdout, stderr } = wanted;
    let mut pumps = Vec::new();
    let mut stdio = Stdio::default();
    let mut typed = None;
    if request.terminal.is_some() {
        typed = stdin;
    } else {
        stdio.stdin = stdin;
        for (client, theirs) in [(stdout.as_ref(), &mut stdio.stdout), (stderr.as_ref(), &mut stdio.stderr)] {
            if let Some(client) = client {
                let (reader, writer) = io::pipe().map_err(failed)?;
                *theirs = Some(writer.into());
                pumps.push((OwnedFd::from(reader), Some(client.try_clone().map_err(failed)?)));
            }
        }
    }
    let mut running = launcher.enter(&into, spec, stdio).map_err(|error| failure(shared, error))?;
    let mut terminal = None;
    if let Some(control) = running.take_terminal() {
        terminal = Some(File::from(control.try_clone().map_err(failed)?));
        if let Some(typed) = typed {
            pass_on(typed, File::from(control.try_clone().map_err(failed)?)).map_err(failed)?;
        }
        pumps.push((control, stdout));
    }
    let warnings = running.notes().iter().map(|note| format!("warning: {note}")).collect();
    let executing = Arc::new(Executing { running, terminal });
    let connection = connection.try_clone().map_err(failed)?;
    // Before anybody can tell of its end.
    let _ = connection.send(&Reply::ExecStarted { warnings }, &[]);
    if attached {
        // The end of the container waits for what is to be told of this one.
        shared.change(|live| live.busy += 1);
    }
    let (of, ours) = (shared.clone(), executing.clone());
    let started = thread(move || {
        let (done, all_done) = channel();
        for (from, to) in pumps {
            // Where no thread is left nobody reads what it writes, which it will notice.
            let _ = pump(&ours, from, to.map(File::from), connection.try_clone().ok(), done.clone());
        }
        drop(done);
        while all_done.recv().is_ok() {}
        let exit = ours.running.wait();
        if attached {
            let (code, out_of_memory) = match &exit {
                Ok(exit) => (exit.code(), *exit == Exit::OutOfMemory),
                Err(_) => (128 + crate::container::signal::KILL, false),
            };
            let _ = connection.send(&Reply::Exited { code, out_of_memory }, &[]);
            of.change(|live| live.busy -= 1);
        }
    });
    if let Err(error) = started {
        if attached {
            shared.change(|live| live.busy -= 1);
        }
        let _ = executing.running.kill();
        return Err(failed(error));
    }
    Ok(executing)
}

/// Makes what is started of what the container is and what is asked for.
fn spec(shared: &Shared, into: &Running, request: &ExecRequest) -> Result<EnterSpec, Failure> {
    let refused = |message: String| Failure { message, hints: Vec::new(), exit_code: 126 };
    let settings = &shared.settings;
    let mut spec = into.enter_spec();
    spec.args = request.args.iter().map(Into::into).collect();
    spec.terminal = request.terminal;
    let mut home = spec.env.iter().find_map(|entry| entry.to_str()?.strip_prefix("HOME=").map(str::to_owned));
    if let Some(user) = &request.user {
        let root = into.root().map_err(|_| not_running(shared))?;
        let user = users::lookup(&root, user).map_err(|error| refused(chain(&error)))?;
        spec.user = User { uid: user.uid, gid: user.gid, groups: user.groups };
        home = Some(user.home);
    }
    if let Some(workdir) = &request.workdir {
        if !workdir.starts_with('/') {
            return Err(refused("Cwd must be an absolute path".to_owned()));
        }
        spec.cwd = PathBuf::from(workdir);
    }
    let mut env = environment(&settings.start.env, &request.env, request.terminal.is_some());
    if !env.iter().any(|entry| entry.starts_with("HOME="))
        && let Some(home) = home
    {
        env.push(format!("HOME={home}"));
    }
    spec.env = env.into_iter().map(Into::into).collect();
    if request.privileged {
        spec.capabilities = u64::MAX;
        spec.no_new_privs = false;
        spec.apparmor = None;
        if spec.seccomp != Seccomp::Unconfined && !matches!(spec.seccomp, Seccomp::Profile(_)) {
            spec.seccomp = Seccomp::Default;
        }
    }
    Ok(spec)
}

/// Merges the container's environment with what is asked for: a bare name takes a variable away.
fn environment(own: &[String], asked: &[String], terminal: bool) -> Vec<String> {
    let mut merged = ContainerConfig::default();
    if terminal {
        merged.set_env("TERM", "xterm");
    }
    for entry in own.iter().chain(asked) {
        match entry.split_once('=') {
            Some((key, value)) => merged.set_env(key, value),
            None => merged.env.retain(|e| e.split_once('=').is_none_or(|(key, _)| key != entry)),
        }
    }
    merged.env
}

fn not_running(shared: &Shared) -> Failure {
    let message = format!("Container {} is not running", shared.kept.id);
    Failure { message, hints: Vec::new(), exit_code: 1 }
}

fn paused(shared: &Shared) -> Failure {
    let message = format!("Container {} is paused, unpause the container before exec", shared.kept.name);
    Failure { message, hints: Vec::new(), exit_code: 1 }
}

fn restarting(shared: &Shared) -> Failure {
    let message = format!("Container {} is restarting, wait until the container is running", shared.kept.id);
    Failure { message, hints: Vec::new(), exit_code: 1 }
}

fn failure(shared: &Shared, error: SandboxError) -> Failure {
    if matches!(error, SandboxError::Step(StepError::Ended)) {
        return not_running(shared);
    }
    let exit_code = error.exec().map_or(126, |exec| exec.exit_code());
    Failure { message: chain(&error), hints: Vec::new(), exit_code }
}

/// Passes on what a process writes, on a thread of its own, until nobody can write it any more.
///
/// `done` is let go when the process has ended and all that it wrote is passed on. What it left behind may
/// write on: that goes nowhere, as does all when the client is gone.
fn pump(
    of: &Arc<Executing>,
    from: OwnedFd,
    to: Option<File>,
    client: Option<Connection>,
    done: Sender<()>,
) -> io::Result<()> {
    let of = of.clone();
    thread(move || {
        let mut from = File::from(from);
        let mut done = Some(done);
        let mut to = to.zip(client);
        let mut left = MOST_AT_END;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if done.is_some() || to.is_some() {
                match next(&from, done.as_ref().map(|_| &*of), to.as_ref().map(|(_, client)| client)) {
                    Event::Output => {}
                    Event::Ended => {
                        (done, to) = (None, None);
                        continue;
                    }
                    Event::Left => {
                        to = None;
                        continue;
                    }
                }
            }
            match from.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    if let Some((file, client)) = &to
                        && write_to(file, client, &buffer[..count]).is_err()
                    {
                        to = None;
                    }
                    // What it left behind may write faster than it is read, and for ever.
                    if done.is_some() && of.has_ended() {
                        left = left.saturating_sub(count);
                        if left == 0 {
                            (done, to) = (None, None);
                        }
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // A terminal whose other end is gone gives EIO.
                Err(_) => return,
            }
        }
    })
}

/// What a pump waits for.
enum Event {
    /// There is something to read, or never will be.
    Output,
    /// The process has ended, and there is nothing to read.
    Ended,
    /// The client is gone.
    Left,
}

/// Waits for what comes next.
fn next(from: &File, of: Option<&Executing>, client: Option<&Connection>) -> Event {
    let gone = PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR;
    loop {
        let mut fds = vec![PollFd::new(from, PollFlags::IN)];
        fds.extend(of.map(|of| PollFd::from_borrowed_fd(of.running.pidfd(), PollFlags::IN)));
        fds.extend(client.map(|client| PollFd::from_borrowed_fd(client.fd(), PollFlags::RDHUP)));
        match rustix::event::poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return Event::Output,
            Ok(_) => {}
        }
        if client.is_some() && fds.last().is_some_and(|fd| fd.revents().intersects(gone)) {
            return Event::Left;
        }
        if !fds[0].revents().is_empty() {
            return Event::Output;
        }
        if of.is_some() && !fds[1].revents().is_empty() {
            return Event::Ended;
        }
    }
}

/// Passes on what a client types to a terminal, on a thread of its own, until either is gone.
fn pass_on(from: OwnedFd, mut to: File) -> io::Result<()> {
    thread(move || {
        let mut from = File::from(from);
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    if to.write_all(&buffer[..count]).is_err() {
                        return;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environments() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let check = |asked: &str, terminal, expect: &str| {
            assert_eq!(
                environment(&words("PATH=/bin A=1"), &words(asked), terminal),
                words(expect),
                "{asked}"
            );
        };
        check("", false, "PATH=/bin A=1");
        check("A=2 B=3", false, "PATH=/bin A=2 B=3");
        check("A", false, "PATH=/bin");
        check("", true, "TERM=xterm PATH=/bin A=1");
        check("TERM=vt100", true, "TERM=vt100 PATH=/bin A=1");
    }
}
