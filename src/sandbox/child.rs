//! What a step's child does between its making and its exec: a straight line, one error per step.
//!
//! It has its namespaces already, one thread, and a copy of the helper's memory.
//! Any failure goes to the caller as a value, and the child ends. Order matters:
//! mounts need the helper's rights, the filter needs them too, and the user
//! comes last. Not here: the mounts themselves (`mounts`).

use std::ffi::CString;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::Rlimit;
use rustix::pty::OpenptFlags;
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, LinkNameSpaceType, Uid, UnshareFlags};
use serde::{Deserialize, Serialize};

use super::error::{ExecError, ExecFailure, Os, StepError};
use super::helper::{self, Reply};
use super::isolation::Isolation;
use super::limit::Limit;
use super::note::Note;
use super::spec::{Network, Root, Spec, TerminalSize, User};
use super::{exec, init, mounts, stub};
use crate::sys::mount::unshare_for_this_thread;
use crate::sys::process::{self, BpfInstruction};
use crate::sys::{descendants, landlock, title};

/// What a child says before its exec.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Said {
    /// Something is not as it was asked for, and it goes on.
    Note(Note),
    /// It ends.
    Failed(StepError),
}

/// A system call filter and its flags.
pub(super) type Filter<'a> = Option<(&'a [BpfInstruction], u32)>;

/// The descriptors a child gets.
pub(super) struct Channels {
    /// Takes any number of [`Said`], the last of which may be an error; its end without one says
    /// that the program runs.
    pub errors: OwnedFd,
    pub channel: OwnedFd,
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// Sets up and becomes the program; comes back only after a failure, which was told.
///
/// It may close every descriptor of this process but the error channel: nothing else may be
/// used after it.
pub(super) fn run(spec: Spec, channels: Channels, filter: Filter<'_>, isolation: Isolation) {
    let errors = channels.errors.try_clone();
    let result = match &errors {
        Ok(errors) => set_up(spec, channels, errors, filter, isolation),
        Err(_) => return,
    };
    if let (Err(error), Ok(errors)) = (result, errors) {
        say(&errors, &Said::Failed(error));
    }
}

/// Tells the caller; one that is gone needs nothing.
pub(super) fn say(errors: &OwnedFd, said: &Said) {
    if let (Ok(text), Ok(errors)) = (serde_json::to_vec(said), errors.try_clone()) {
        let _ = std::fs::File::from(errors).write_all(&text);
    }
}

fn set_up(
    spec: Spec,
    channels: Channels,
    errors: &OwnedFd,
    filter: Filter<'_>,
    isolation: Isolation,
) -> Result<(), StepError> {
    // Its descriptors are closed by number below, and must not be closed again on the way out.
    let mut spec = ManuallyDrop::new(spec);
    let parent = descendants::parent_pid();
    rustix::process::setsid().map_err(|errno| StepError::Session(errno.into()))?;
    process::new_session_keyring();
    join_cgroup(std::mem::take(&mut spec.cgroup_procs), isolation)?;
    if spec.init {
        // Here, where `/proc` is no image's. What it starts gets a name of its own by exec.
        title::set_name("rbuild-init");
        let _ = title::set_arguments(&["rbuild-init"]);
    }
    let terminal = match isolation {
        Isolation::Namespaces => in_namespaces(&mut spec, &channels, errors)?,
        Isolation::Chroot => in_chroot(&spec, &channels)?,
    };

    match terminal {
        Some(terminal) => use_terminal(terminal)?,
        None => use_streams(&channels, spec.user.uid)?,
    }
    let entered = enter_directory(&spec.cwd)?;
    // Everything else the helper has open: the caller's socket, other steps' channels. Now, and not
    // by exec: the name of the program may lead through /proc/self/fd (CVE-2024-21626).
    drop(channels);
    process::close_all_but(3, &[errors.as_fd()])
        .map_err(|error| StepError::CloseDescriptors(error.into()))?;

    // Late: what is above needs more than the step may have.
    for limit in &spec.limits {
        if let Some(note) = set_limit(*limit)? {
            say(errors, &Said::Note(note));
        }
    }
    if isolation == Isolation::Chroot {
        hold_in_root()?;
    }
    become_user(
        &spec.user,
        Rights { capabilities: spec.capabilities, no_new_privs: spec.no_new_privs },
        filter,
    )?;
    if isolation == Isolation::Chroot {
        // Here, since a change of the user takes it back: prctl(2).
        descendants::end_with_parent(parent, nix::sys::signal::Signal::SIGKILL)
            .map_err(|error| StepError::Keeper(error.into()))?;
    }
    if !entered && !enter_directory(&spec.cwd)? {
        let path = spec.cwd.display().to_string();
        return Err(StepError::WorkingDirectory { path, error: Errno::ACCESS.into() });
    }
    if spec.init {
        init::become_first()?;
    }
    Err(StepError::Exec(exec::exec(std::mem::take(&mut spec.args), std::mem::take(&mut spec.env))))
}

/// Makes all mounts and enters the root; returns the terminal where there is to be one.
fn in_namespaces(
    spec: &mut Spec,
    channels: &Channels,
    errors: &OwnedFd,
) -> Result<Option<OwnedFd>, StepError> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(|errno| StepError::Private(errno.into()))?;
    // Before /sys is mounted: it shows the network namespace of its mounter.
    // Taken out of the spec: no descriptor may be left in it when all are closed below.
    match std::mem::replace(&mut spec.network, Network::None) {
        Network::Host => {}
        Network::None => process::loopback_up().map_err(|error| StepError::Loopback(error.into()))?,
        Network::Join(fd) => {
            rustix::thread::move_into_link_name_space(fd.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|errno| StepError::JoinNetwork(errno.into()))?;
        }
    }
    for setting in &spec.sysctls {
        // Of this process's own namespaces, which are the step's by now: namespaces(7).
        let set = std::fs::write(setting.path(), &setting.value);
        set.map_err(|error| StepError::Sysctl { name: setting.name.clone(), error: error.into() })?;
    }
    match rustix::system::sethostname(spec.hostname.as_bytes()) {
        // A filter around this process that lets it make namespaces (podman's own).
        Err(Errno::PERM) => {
            let note = Note::new("the host name of a step", "setting it is not permitted here");
            say(errors, &Said::Note(note));
        }
        other => {
            other.map_err(|errno| StepError::Hostname { name: spec.hostname.clone(), error: errno.into() })?
        }
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));

    let (root, notes) = mounts::mount_all(spec)?;
    notes.into_iter().for_each(|note| say(errors, &Said::Note(note)));
    let terminal = match spec.terminal {
        Some(size) => Some(make_terminal(&root, size, &spec.user, &channels.channel)?),
        None => None,
    };
    if let Some(profile) = &spec.apparmor {
        set_apparmor(profile)?;
    }
    change_root(&root)?;
    Ok(terminal)
}

/// Enters a root that was made ready, without a mount; returns the terminal where there is to be one.
fn in_chroot(spec: &Spec, channels: &Channels) -> Result<Option<OwnedFd>, StepError> {
    // The keeper waits for two signals that it has blocked.
    process::reset_signals().map_err(|error| StepError::Keeper(error.into()))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let terminal = match spec.terminal {
        Some(size) => Some(outer_terminal(size, &spec.user, &channels.channel)?),
        None => None,
    };
    if let Some(profile) = &spec.apparmor {
        set_apparmor(profile)?;
    }
    let Root::Directory { path, .. } = &spec.root else {
        return Err(StepError::Order("a root that is no directory".to_owned()));
    };
    let failed = |call: &'static str| {
        move |errno: Errno| StepError::ChangeRoot { call: call.to_owned(), error: errno.into() }
    };
    rustix::process::chdir(path).map_err(failed("chdir"))?;
    rustix::process::chroot(".").map_err(failed("chroot"))?;
    rustix::process::chdir("/").map_err(failed("chdir"))?;
    Ok(terminal)
}

/// Takes all files outside of the root away, and signals to processes outside, where the kernel can.
///
/// Without, what holds the step in is that it may not call chroot(2) again and has nothing open.
fn hold_in_root() -> Result<(), StepError> {
    let failed = |error: std::io::Error| StepError::Landlock(error.into());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    rustix::thread::set_no_new_privs(true).map_err(|errno| failed(errno.into()))?;
    landlock::hold_below(&root).map(drop).map_err(failed)
}

/// Joins control groups by their open `cgroup.procs` files, and sees none above them from then on.
fn join_cgroup(procs: Vec<OwnedFd>, isolation: Isolation) -> Result<(), StepError> {
    if procs.is_empty() {
        return Ok(());
    }
    for file in procs {
        rustix::io::write(&file, b"0").map_err(|errno| StepError::JoinCgroup(errno.into()))?;
    }
    match isolation {
        Isolation::Chroot => Ok(()),
        Isolation::Namespaces => unshare_for_this_thread(UnshareFlags::NEWCGROUP)
            .map_err(|error| StepError::JoinCgroup(error.into())),
    }
}

/// Asks for an AppArmor profile from exec on. The host's /proc is still there.
pub(super) fn set_apparmor(profile: &str) -> Result<(), StepError> {
    let own = "/proc/thread-self/attr/apparmor/exec";
    // Before Linux 5.8 there is only the file that all security modules share.
    let shared = "/proc/thread-self/attr/exec";
    let file = if Path::new(own).exists() { own } else { shared };
    std::fs::write(file, format!("exec {profile}"))
        .map_err(|error| StepError::AppArmor { profile: profile.to_owned(), error: error.into() })
}

/// Makes `root` the root directory and lets go of the old one.
fn change_root(root: &OwnedFd) -> Result<(), StepError> {
    let failed = |call: &'static str| {
        move |errno: Errno| StepError::ChangeRoot { call: call.to_owned(), error: errno.into() }
    };
    rustix::process::fchdir(root).map_err(failed("fchdir"))?;
    // The old root is put over the new one, and taken off from there: pivot_root(2).
    match rustix::process::pivot_root(".", ".") {
        // A filter around this process that lets it mount (docker's, with CAP_SYS_ADMIN alone). Moved over
        // the old root, the new one is what every way up ends in: nothing beneath it can be named.
        Err(Errno::PERM) => {
            rustix::mount::mount_move(".", "/").map_err(failed("move"))?;
            rustix::process::chroot(".").map_err(failed("chroot"))?;
        }
        other => {
            other.map_err(failed("pivot_root"))?;
            rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(failed("umount"))?;
        }
    }
    rustix::process::chdir("/").map_err(failed("chdir"))
}

/// Enters the working directory and makes sure that it is one below the root (CVE-2024-21626).
///
/// `false` when this user may not: the step's own may.
pub(super) fn enter_directory(cwd: &Path) -> Result<bool, StepError> {
    match rustix::process::chdir(cwd) {
        Ok(()) => check_inside(cwd).map(|()| true),
        Err(Errno::ACCESS) => Ok(false),
        Err(errno) => {
            Err(StepError::WorkingDirectory { path: cwd.display().to_string(), error: errno.into() })
        }
    }
}

fn check_inside(cwd: &Path) -> Result<(), StepError> {
    let outside = || StepError::OutsideRoot { path: cwd.display().to_string() };
    let here = rustix::process::getcwd(Vec::new()).map_err(|_| outside())?;
    // The kernel writes `(unreachable)` in front of what is not below the root: getcwd(3).
    if here.as_bytes().first() == Some(&b'/') { Ok(()) } else { Err(outside()) }
}

/// Makes a terminal on the sandbox's own devpts, its console, and hands the controlling end over.
fn make_terminal(
    root: &OwnedFd,
    size: TerminalSize,
    user: &User,
    channel: &OwnedFd,
) -> Result<OwnedFd, StepError> {
    let failed = |call: &'static str| {
        move |errno: Errno| StepError::Terminal { call: call.to_owned(), error: errno.into() }
    };
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let control =
        stub::open_inside(root, Path::new("/dev/pts/ptmx"), flags).map_err(failed("open /dev/pts/ptmx"))?;
    let terminal = other_end(&control, size, user)?;
    let dev = stub::open_inside(root, Path::new("/dev"), OFlags::PATH).map_err(failed("open /dev"))?;
    stub::make(dev.as_fd(), Path::new("console"), stub::Kind::File, None).map_err(failed("console"))?;
    let console =
        stub::open_inside(root, Path::new("/dev/console"), OFlags::PATH).map_err(failed("console"))?;
    let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::mount::mount(name(&terminal), name(&console), "", MountFlags::BIND, None)
        .map_err(failed("mount /dev/console"))?;
    helper::reply(channel, &Reply::Terminal, Some(control.as_fd()));
    Ok(terminal)
}

/// Takes a terminal of the machine's own instance, which the step cannot name but has open.
fn outer_terminal(size: TerminalSize, user: &User, channel: &OwnedFd) -> Result<OwnedFd, StepError> {
    let failed = |call: &'static str| {
        move |errno: Errno| StepError::Terminal { call: call.to_owned(), error: errno.into() }
    };
    let control = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
        .map_err(failed("open /dev/ptmx"))?;
    let terminal = other_end(&control, size, user)?;
    helper::reply(channel, &Reply::Terminal, Some(control.as_fd()));
    Ok(terminal)
}

/// Opens the end of a terminal that a program gets.
pub(super) fn other_end(control: &OwnedFd, size: TerminalSize, user: &User) -> Result<OwnedFd, StepError> {
    let failed = |call: &'static str| {
        move |errno: Errno| StepError::Terminal { call: call.to_owned(), error: errno.into() }
    };
    rustix::pty::unlockpt(control).map_err(failed("unlockpt"))?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = rustix::pty::ioctl_tiocgptpeer(control, flags).map_err(failed("TIOCGPTPEER"))?;
    let size =
        rustix::termios::Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(control, size).map_err(failed("set size"))?;
    rustix::fs::fchown(&terminal, Some(Uid::from_raw(user.uid)), None).map_err(failed("chown"))?;
    Ok(terminal)
}

fn use_terminal(terminal: OwnedFd) -> Result<(), StepError> {
    take_terminal(&terminal)?;
    put_streams(&terminal, &terminal, &terminal)
}

/// Makes a terminal that of the session, which this process leads.
pub(super) fn take_terminal(terminal: impl AsFd) -> Result<(), StepError> {
    rustix::process::ioctl_tiocsctty(terminal)
        .map_err(|errno| StepError::Terminal { call: "TIOCSCTTY".to_owned(), error: errno.into() })
}

pub(super) fn use_streams(channels: &Channels, uid: u32) -> Result<(), StepError> {
    for fd in [&channels.stdin, &channels.stdout, &channels.stderr] {
        // So that the user can open /dev/stdout again, which names the pipe.
        let pipe = rustix::fs::fstat(fd)
            .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_fifo());
        if pipe && uid != 0 {
            let _ = rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), None);
        }
    }
    put_streams(&channels.stdin, &channels.stdout, &channels.stderr)
}

pub(super) fn put_streams(stdin: &OwnedFd, stdout: &OwnedFd, stderr: &OwnedFd) -> Result<(), StepError> {
    nix::unistd::dup2_stdin(stdin)
        .and_then(|()| nix::unistd::dup2_stdout(stdout))
        .and_then(|()| nix::unistd::dup2_stderr(stderr))
        .map_err(|errno| StepError::Stdio(errno.into()))
}

/// Sets a limit as far as this process may, and says where that is not far enough.
pub(super) fn set_limit(limit: Limit) -> Result<Option<Note>, StepError> {
    let failed = |errno: Errno| StepError::Limit { kind: limit.kind.to_string(), error: errno.into() };
    let resource = limit.kind.resource();
    let set = |current, maximum| rustix::process::setrlimit(resource, Rlimit { current, maximum });
    match set(limit.soft, limit.hard) {
        // Raising the hard limit takes CAP_SYS_RESOURCE; then up to where it is.
        Err(Errno::PERM) => {
            let hard = rustix::process::getrlimit(resource).maximum;
            let soft = match (limit.soft, hard) {
                (Some(soft), Some(hard)) => Some(soft.min(hard)),
                (soft, hard) => soft.or(hard),
            };
            set(soft, hard).map_err(failed)?;
            let is = Limit { kind: limit.kind, soft, hard };
            let what = format!("the limit {}={}", limit.kind, limit.values());
            Ok(Some(Note::new(what, format!("raising it is not permitted here; it is {}", is.values()))))
        }
        other => other.map(|()| None).map_err(failed),
    }
}

/// What a program may, besides what its user may.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rights {
    pub capabilities: u64,
    pub no_new_privs: bool,
}

/// Gives up all rights but these, and becomes the user.
pub(super) fn become_user(user: &User, rights: Rights, filter: Filter<'_>) -> Result<(), StepError> {
    let User { uid, gid, groups } = user;
    let (uid, gid) = (*uid, *gid);
    let capabilities = |call: &str, error: Os| StepError::Capabilities { call: call.to_owned(), error };
    let user = |call: &'static str| {
        move |errno: Errno| match errno {
            Errno::INVAL => StepError::UnmappedUser { uid, gid },
            _ => StepError::BecomeUser { uid, call: call.to_owned(), error: errno.into() },
        }
    };
    match process::limit_bounding_set(rights.capabilities) {
        // No CAP_SETPCAP. No program then gets more than this process has: execve(2), no_new_privs.
        Err(error) if rights.no_new_privs && error.kind() == std::io::ErrorKind::PermissionDenied => {}
        other => other.map_err(|error| capabilities("bounding set", error.into()))?,
    }
    if rights.no_new_privs {
        rustix::thread::set_no_new_privs(true).map_err(|errno| capabilities("no_new_privs", errno.into()))?;
    }
    // Loading takes CAP_SYS_ADMIN, which goes next; what follows is allowed by every filter.
    if let Some((filter, flags)) = filter {
        process::load_filter(filter, flags).map_err(|error| StepError::Seccomp(error.into()))?;
    }
    // Its own group is one of them, as with runc: a program that changes to another (setgid, newgrp) keeps
    // what files deny to the first (CVE-2022-36109).
    let others = groups.iter().filter(|&&group| group != gid);
    let raw: Vec<Gid> = std::iter::once(&gid).chain(others).map(|&group| Gid::from_raw(group)).collect();
    match rustix::thread::set_thread_groups(&raw) {
        // A user namespace with a single id forbids it: user_namespaces(7), setgroups.
        Err(Errno::PERM) if groups.iter().all(|&group| group == gid) => {}
        other => other.map_err(user("setgroups"))?,
    }
    let id = Gid::from_raw(gid);
    rustix::thread::set_thread_res_gid(id, id, id).map_err(user("setresgid"))?;
    let id = Uid::from_raw(uid);
    rustix::thread::set_thread_res_uid(id, id, id).map_err(user("setresuid"))?;
    // The kernel took an ordinary user's rights with its id. Root keeps what the set allows;
    // the inheritable set is empty for everybody (CVE-2022-24769), and with it the ambient one.
    let now = rustix::thread::capabilities(None).map_err(|errno| capabilities("capget", errno.into()))?;
    let kept = now.permitted & CapabilitySet::from_bits_retain(rights.capabilities);
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).map_err(|errno| capabilities("capset", errno.into()))
}

/// Makes C strings; a NUL byte inside cannot be told to exec.
pub(super) fn c_strings(words: Vec<std::ffi::OsString>, program: &str) -> Result<Vec<CString>, ExecError> {
    let failed = |_| ExecError { program: program.to_owned(), failure: ExecFailure::NulByte };
    words.into_iter().map(|word| CString::new(word.into_vec()).map_err(failed)).collect()
}
