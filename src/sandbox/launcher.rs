//! The caller's side: starts the helper, hands it steps, hears how they end.
//!
//! Every step has a channel of its own, so nothing here waits for anything but
//! its own step, from whatever thread. Not here: the helper's side (`helper`).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::mount::OpenTreeFlags;
use rustix::process::Signal;
use rustix::thread::UnshareFlags;

use super::cgroup::Cgroup;
use super::child::Said;
use super::chroot::{self, Covers};
use super::enter::EnterSpec;
use super::error::SandboxError;
use super::helper::{CHROOT_ARGUMENT, ExitStatus, HELPER_NAME, MESSAGE_LIMIT, Reply, START};
use super::isolation::Isolation;
use super::note::Note;
use super::spec::{Network, Spec};
use super::turns::{Turn, Turns};
use crate::sys::landlock;
use crate::sys::message;
use crate::sys::mount::{MountChange, change_mount, unshare_for_this_thread};

/// The most bytes that a child may say before its exec.
const SAID_LIMIT: u64 = 1 << 20;

/// Starts steps, through one helper process that lives as long as this value.
///
/// Any thread may use it. When it is dropped, or this process ends in whatever way, the
/// helper ends, and with it every process of every step: they are in a process namespace
/// of its own.
#[derive(Debug)]
pub struct Launcher {
    pub(super) isolation: Isolation,
    socket: OwnedFd,
    child: Mutex<Child>,
    /// Where steps must not run beside each other.
    turns: Option<Arc<Turns>>,
}

/// The standard streams of a step; those of a step with a terminal are not used.
#[derive(Debug, Default)]
pub struct Stdio {
    /// `None` is `/dev/null`, here and below.
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

/// A step whose program has started.
#[derive(Debug)]
pub struct Running {
    pidfd: OwnedFd,
    channel: OwnedFd,
    terminal: Option<OwnedFd>,
    killed: std::sync::Arc<AtomicBool>,
    notes: Vec<Note>,
    pub(super) cgroup: Option<Cgroup>,
    /// Whether its network is the caller's.
    pub(super) host_network: bool,
    /// What a further process in it is like.
    pub(super) like: EnterSpec,
    /// What lies in the root of a step without namespaces, until it has ended.
    covers: Mutex<Option<Covers>>,
    turn: Mutex<Option<Turn>>,
}

/// Kills a step from another thread than the one that waits.
#[derive(Debug, Clone)]
pub struct StopHandle {
    pidfd: std::sync::Arc<OwnedFd>,
    killed: std::sync::Arc<AtomicBool>,
}

/// How a step's program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
    /// Killed by the kernel for want of memory.
    OutOfMemory,
}

impl Exit {
    /// Returns the code a shell would give: the program's own, or 128 and the signal's number.
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
            Exit::OutOfMemory => 128 + Signal::KILL.as_raw(),
        }
    }
}

impl Launcher {
    /// Starts the helper: `exe` is this program, whose main calls `run_helper_if_asked` first.
    pub fn start(exe: &Path) -> Result<Launcher, SandboxError> {
        Launcher::start_with(exe, Isolation::Namespaces)
    }

    /// Does the same, for steps of this isolation.
    pub fn start_with(exe: &Path, isolation: Isolation) -> Result<Launcher, SandboxError> {
        let name = || exe.display().to_string();
        let program = protected(exe).map_err(|source| SandboxError::ProtectHelper { exe: name(), source })?;
        let failed = |source| SandboxError::StartHelper { exe: name(), source };
        let (socket, theirs) = message::pair().map_err(failed)?;
        let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
        command.arg0(HELPER_NAME).env_clear().current_dir("/");
        command.stdin(theirs).stdout(std::process::Stdio::null());
        // In a thread, since the namespace for children is the thread's: as the first process of
        // its own namespace the helper takes every descendant with it when it ends.
        if isolation == Isolation::Chroot {
            command.arg(CHROOT_ARGUMENT);
            let child = Mutex::new(command.spawn().map_err(failed)?);
            // Since version 6 of Landlock no step reaches the sockets of another.
            let apart = landlock::version().is_some_and(|version| version >= 6);
            let turns = (!apart).then(Arc::default);
            return Ok(Launcher { isolation, socket, child, turns });
        }
        let child = std::thread::scope(|scope| {
            let thread =
                std::thread::Builder::new().name("sandbox-start".into()).spawn_scoped(scope, || {
                    unshare_for_this_thread(UnshareFlags::NEWPID)?;
                    command.spawn()
                })?;
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the starting thread panicked")))
        });
        Ok(Launcher { isolation, socket, child: Mutex::new(child.map_err(failed)?), turns: None })
    }

    /// Starts a step and returns once its program runs, or the reason why it does not.
    ///
    /// The caller reads the other ends of `stdio` after this returns.
    /// What of the spec has no effect here, [`Running::notes`] tells.
    pub fn spawn(&self, mut spec: Spec, stdio: Stdio) -> Result<Running, SandboxError> {
        let (mut cgroup, mut notes) = (None, Vec::new());
        if let Some(limits) = spec.cgroup.take() {
            let (made, missing) = Cgroup::create(&limits)?;
            spec.cgroup_procs = made.open_procs()?;
            (cgroup, notes) = (Some(made), missing);
        }
        let turn = self.turns.as_ref().map(Turns::take);
        let mut covers = None;
        if self.isolation == Isolation::Chroot {
            let (put, more) = chroot::prepare(&mut spec)?;
            covers = Some(put);
            notes.extend(more);
        }
        let wants_terminal = spec.terminal.is_some();
        let mut passed: Vec<OwnedFd> = Vec::new();
        let spec = detach_sources(spec)?.map_fds(&mut |fd| {
            passed.push(fd);
            Ok::<_, SandboxError>(passed.len() - 1)
        })?;
        let host_network = matches!(spec.network, Network::Host);
        let like = EnterSpec::like(&spec);
        let order = serde_json::to_vec(&spec).map_err(SandboxError::Message)?;
        let begun = self.begin(START, &order, passed, stdio, wants_terminal, &mut notes)?;
        let Begun { pidfd, channel, terminal } = begun;
        let (covers, turn) = (Mutex::new(covers), Mutex::new(turn));
        let killed = Default::default();
        Ok(Running { pidfd, channel, terminal, killed, notes, cgroup, host_network, like, covers, turn })
    }

    /// Ends the helper, and with it every process of every step, without waiting for that.
    pub fn end(&self) {
        // The helper may be at work; nothing of it is needed any more.
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // Where no namespace ends with it, it ends what there is itself.
        let _ = match self.isolation {
            Isolation::Namespaces => child.kill(),
            Isolation::Chroot => {
                rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both).map_err(io::Error::from)
            }
        };
    }

    /// Hands an order to the helper, and returns once the program runs, or the reason why it does not.
    pub(super) fn begin(
        &self,
        ask: &[u8],
        order: &[u8],
        passed: Vec<OwnedFd>,
        stdio: Stdio,
        wants_terminal: bool,
        notes: &mut Vec<Note>,
    ) -> Result<Begun, SandboxError> {
        let order = memory_file(order).map_err(SandboxError::Send)?;
        let (errors, their_errors) = io::pipe().map_err(SandboxError::Send)?;
        let (channel, their_channel) = message::pair().map_err(SandboxError::Send)?;
        let null = File::options().read(true).write(true).open("/dev/null").map_err(SandboxError::Send)?;
        {
            let mut fds = vec![order.as_fd(), their_errors.as_fd(), their_channel.as_fd()];
            for stream in [&stdio.stdin, &stdio.stdout, &stdio.stderr] {
                fds.push(stream.as_ref().map_or(null.as_fd(), AsFd::as_fd));
            }
            fds.extend(passed.iter().map(AsFd::as_fd));
            message::send(&self.socket, ask, &fds).map_err(|error| match error.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => SandboxError::HelperGone,
                _ => SandboxError::Send(error),
            })?;
        }
        // Only the child may hold these now: their end tells us of its exec or its death.
        drop((their_errors, their_channel, stdio, passed));

        let mut said = Vec::new();
        (&errors).take(SAID_LIMIT).read_to_end(&mut said).map_err(SandboxError::Receive)?;
        for said in serde_json::Deserializer::from_slice(&said).into_iter() {
            match said.map_err(SandboxError::Message)? {
                Said::Note(note) => notes.push(note),
                Said::Failed(error) => return Err(error.into()),
            }
        }
        let mut started = None;
        let mut terminal = None;
        while started.is_none() || (wants_terminal && terminal.is_none()) {
            let (reply, fd) = receive(&channel)?;
            match (reply, fd) {
                (Reply::Started, Some(fd)) => started = Some(fd),
                (Reply::Terminal, Some(fd)) => terminal = Some(fd),
                (Reply::NotStarted(error), _) => return Err(error.into()),
                // It was killed before it had a terminal; nothing was run.
                (Reply::Exited(_), _) | (_, None) => return Err(SandboxError::HelperGone),
            }
        }
        let pidfd = started.ok_or(SandboxError::HelperGone)?;
        Ok(Begun { pidfd, channel, terminal })
    }
}

/// What the helper has started.
pub(super) struct Begun {
    pub pidfd: OwnedFd,
    pub channel: OwnedFd,
    pub terminal: Option<OwnedFd>,
}

impl Drop for Launcher {
    fn drop(&mut self) {
        self.end();
        if let Ok(child) = self.child.get_mut() {
            let _ = child.wait();
        }
    }
}

impl Running {
    /// Makes one of a process that was started in a step which runs already.
    pub(super) fn entered(begun: Begun, like: EnterSpec, host_network: bool, notes: Vec<Note>) -> Running {
        let Begun { pidfd, channel, terminal } = begun;
        let (killed, covers, turn) = Default::default();
        Running { pidfd, channel, terminal, killed, notes, cgroup: None, host_network, like, covers, turn }
    }

    /// Waits for the program's end; by then every process of the step is dead.
    ///
    /// Of one that was [entered](Launcher::enter) only the program is.
    pub fn wait(&self) -> Result<Exit, SandboxError> {
        let reply = receive(&self.channel);
        let covers = self.covers.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (reply, covers) = match (reply, covers) {
            (Ok((reply, _)), covers) => (reply, covers),
            (Err(error), covers) => {
                // A process of the step may have outlived the helper, and stand in what would be moved out of the root.
                covers.into_iter().for_each(Covers::leave);
                return Err(error);
            }
        };
        if let Some(mut covers) = covers {
            covers.take()?;
        }
        let killed = matches!(
            reply,
            Reply::Exited(ExitStatus::Signal(9) | ExitStatus::Code(137) | ExitStatus::OutOfMemory)
        );
        // The step's own group knows whose memory it was; the machine's count does not.
        match self.cgroup.as_ref().and_then(Cgroup::oom_killed) {
            Some(true) if killed && !self.killed.load(Ordering::SeqCst) => return Ok(Exit::OutOfMemory),
            _ => {}
        }
        match reply {
            Reply::Exited(ExitStatus::Code(code)) => Ok(Exit::Code(code)),
            Reply::Exited(ExitStatus::Signal(signal)) => Ok(Exit::Signal(signal)),
            Reply::Exited(ExitStatus::OutOfMemory) if self.killed.load(Ordering::SeqCst) => {
                Ok(Exit::Signal(Signal::KILL.as_raw()))
            }
            Reply::Exited(ExitStatus::OutOfMemory) => Ok(Exit::OutOfMemory),
            Reply::NotStarted(error) => Err(error.into()),
            Reply::Started | Reply::Terminal => Err(SandboxError::HelperGone),
        }
    }

    /// Tells, after `wait`, whether any process of the step was killed for the step's memory limit.
    ///
    /// The program itself may have lived on, and ended in whatever way.
    pub fn oom_killed(&self) -> bool {
        self.cgroup.as_ref().and_then(Cgroup::oom_killed).unwrap_or(false)
    }

    /// Returns what of the spec has no effect here, for warnings.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Kills every process of the step; `wait` then returns soon. One that ended already is no error.
    pub fn kill(&self) -> Result<(), SandboxError> {
        kill(&self.pidfd, &self.killed)
    }

    /// Sends a signal to the program. Being the first process of its namespace it gets only
    /// those it handles, and KILL and STOP: pid_namespaces(7).
    pub fn signal(&self, number: i32) -> Result<(), SandboxError> {
        let signal = crate::sys::process::signal(number)
            .ok_or_else(|| SandboxError::Signal(io::ErrorKind::InvalidInput.into()))?;
        send_signal(&self.pidfd, signal)
    }

    /// Makes a handle that kills it from another thread.
    pub fn stop_handle(&self) -> Result<StopHandle, SandboxError> {
        let pidfd = self.pidfd.try_clone().map_err(SandboxError::Signal)?;
        Ok(StopHandle { pidfd: pidfd.into(), killed: self.killed.clone() })
    }

    /// Returns a descriptor that is readable once the program has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Returns the number of its first process as this process sees it; `None` once it is gone.
    pub fn pid(&self) -> Option<u32> {
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", self.pidfd.as_raw_fd())).ok()?;
        text.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()
    }

    /// Takes the terminal's controlling end, of a step that has one.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nobody waited: what lies in its root can only be taken out when nobody uses it any more.
        if self.covers.get_mut().is_ok_and(|covers| covers.is_some()) {
            let _ = self.kill();
            let _ = self.wait();
        }
    }
}

impl StopHandle {
    /// Does [`Running::kill`].
    pub fn kill(&self) -> Result<(), SandboxError> {
        kill(&self.pidfd, &self.killed)
    }
}

fn kill(pidfd: &OwnedFd, killed: &AtomicBool) -> Result<(), SandboxError> {
    killed.store(true, Ordering::SeqCst);
    send_signal(pidfd, Signal::KILL)
}

fn send_signal(pidfd: &OwnedFd, signal: Signal) -> Result<(), SandboxError> {
    match rustix::process::pidfd_send_signal(pidfd, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(SandboxError::Signal(errno.into())),
    }
}

fn receive(channel: &OwnedFd) -> Result<(Reply, Option<OwnedFd>), SandboxError> {
    let (bytes, fds) = message::receive(channel, MESSAGE_LIMIT)
        .map_err(SandboxError::Receive)?
        .ok_or(SandboxError::HelperGone)?;
    let reply = serde_json::from_slice(&bytes).map_err(SandboxError::Message)?;
    Ok((reply, fds.into_iter().next()))
}

/// Turns open files into detached mounts of them: what is open in this mount namespace
/// could not be mounted from the child's.
fn detach_sources(mut spec: Spec) -> Result<Spec, SandboxError> {
    use super::spec::{BindSource, Mount};
    for mount in &mut spec.mounts {
        if let Mount::Bind { source: BindSource::Fd(fd), target, recursive, .. } = mount {
            let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_EMPTY_PATH;
            if *recursive {
                flags |= OpenTreeFlags::AT_RECURSIVE;
            }
            *fd = rustix::mount::open_tree(&*fd, "", flags).map_err(|errno| SandboxError::BindSource {
                target: target.display().to_string(),
                source: errno.into(),
            })?;
        }
    }
    Ok(spec)
}

/// Puts bytes in a nameless file, rewound.
fn memory_file(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("rbuild-step", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    Ok(file)
}

/// Opens a program such that nobody who sees its process can write to it.
///
/// A process inside a sandbox can reach the file it was started from through
/// `/proc/PID/exe` (CVE-2019-5736). Here that is on a read-only mount of its own, or,
/// where the kernel cannot make one (before Linux 5.12), a sealed copy in memory.
fn protected(exe: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let detached = rustix::mount::open_tree(CWD, exe, flags).map_err(io::Error::from).and_then(|fd| {
        let set = libc::MOUNT_ATTR_RDONLY;
        change_mount(&fd, MountChange { set, ..MountChange::default() }, false)?;
        Ok(fd)
    });
    match detached {
        Ok(fd) => Ok(fd),
        Err(_) => sealed_copy(exe),
    }
}

fn sealed_copy(exe: &Path) -> io::Result<OwnedFd> {
    let mut source = File::from(rustix::fs::open(exe, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
    let memory = rustix::fs::memfd_create("rbuild", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut memory = File::from(memory);
    io::copy(&mut source, &mut memory)?;
    rustix::fs::fchmod(&memory, Mode::from_raw_mode(0o555))?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&memory, seals)?;
    Ok(memory.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_copy_cannot_be_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        std::fs::write(&path, b"bytes").unwrap();
        let copy = sealed_copy(&path).unwrap();
        let name = format!("/proc/self/fd/{}", copy.as_raw_fd());
        assert_eq!(std::fs::read(&name).unwrap(), b"bytes");
        let opened = File::options().write(true).open(&name);
        assert!(opened.and_then(|mut file| file.write_all(b"x")).is_err());
    }

    #[test]
    fn exit_codes_as_a_shell_gives_them() {
        for (exit, code) in [(Exit::Code(3), 3), (Exit::Signal(15), 143), (Exit::OutOfMemory, 137)] {
            assert_eq!(exit.code(), code);
        }
    }
}
