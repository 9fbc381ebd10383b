//! What a process does that is to run in a step which runs already: a straight line until exec.
//!
//! Two processes. The first, a copy of the helper, enters all namespaces but the one of processes, in
//! which it therefore cannot be seen; it opens what is needed, lets go of all else and gives up its rights.
//! The second is made by it right then, as a child of the helper, and is in the step's process
//! namespace: all it does is to start a session and to become the program. So whoever is in
//! the step and may look into its processes (CAP_SYS_PTRACE) finds nothing that is more than the program
//! (CVE-2016-9962), and no descriptor but those it is given (CVE-2024-21626). Not here: asking for it (`enter`).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::DumpableBehavior;
use rustix::thread::ThreadNameSpaceType;
use serde::{Deserialize, Serialize};

use super::child::{self, Channels, Filter, Rights, Said};
use super::enter::EnterSpec;
use super::error::StepError;
use super::exec;
use super::helper::{self, Reply};
use super::spec::{Seccomp, TerminalSize, User};
use crate::sys::message;
use crate::sys::process::{self, OneThread, clone_sibling, exit_now, fork_child};

/// What the kernel says a file system of terminals is: linux/magic.h.
const DEVPTS: i64 = 0x1cd1;

/// A process to start, and where.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order<F = OwnedFd> {
    pub spec: EnterSpec,
    /// The pidfd of a process that is in the namespaces.
    pub target: F,
    /// The `cgroup.procs` files to join by.
    pub cgroup_procs: Vec<F>,
    /// Whether the network is another than the helper's.
    pub own_network: bool,
}

impl<F> Order<F> {
    /// Changes what stands for a descriptor; stops at the first error.
    pub fn map_fds<G, E>(self, map: &mut impl FnMut(F) -> Result<G, E>) -> Result<Order<G>, E> {
        Ok(Order {
            spec: self.spec,
            target: map(self.target)?,
            cgroup_procs: self.cgroup_procs.into_iter().map(map).collect::<Result<_, E>>()?,
            own_network: self.own_network,
        })
    }
}

/// Makes the first process; returns its pidfd, and the socket over which it hands over that of the second.
pub(super) fn begin(
    order: Order,
    channels: &Channels,
    filter: Filter<'_>,
) -> Result<(OwnedFd, OwnedFd), StepError> {
    let failed = |error: io::Error| StepError::Clone(error.into());
    let (ours, theirs) = message::pair().map_err(failed)?;
    // It is read when the first has ended: either something is there, or nothing will be.
    rustix::io::ioctl_fionbio(&ours, true).map_err(|errno| failed(errno.into()))?;
    match fork_child().map_err(failed)? {
        Some((_, pidfd)) => Ok((pidfd, ours)),
        None => {
            // Its descriptors are closed by number, and must not be closed again on the way out.
            let order = std::mem::ManuallyDrop::new(order);
            if let Ok(errors) = channels.errors.try_clone()
                && let Err(error) = make_ready(&order, channels, filter, &errors, &theirs)
            {
                child::say(&errors, &Said::Failed(error));
            }
            exit_now(1)
        }
    }
}

/// Does what the first process does; comes back only after a failure.
fn make_ready(
    order: &Order,
    channels: &Channels,
    filter: Filter<'_>,
    errors: &OwnedFd,
    handover: &OwnedFd,
) -> Result<(), StepError> {
    let spec = &order.spec;
    let alone = OneThread::check().map_err(|error| StepError::Clone(error.into()))?;
    // Before anybody can look: what is not dumpable is traced by nobody without CAP_SYS_PTRACE. exec takes it back.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|errno| StepError::Hide(errno.into()))?;
    process::new_session_keyring();
    for file in &order.cgroup_procs {
        rustix::io::write(file, b"0").map_err(|errno| StepError::JoinCgroup(errno.into()))?;
    }
    if let Some(profile) = &spec.apparmor {
        child::set_apparmor(profile)?;
    }
    enter_namespaces(order)?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    match spec.terminal {
        Some(size) => {
            let terminal = make_terminal(size, &spec.user, &channels.channel)?;
            child::put_streams(&terminal, &terminal, &terminal)?;
        }
        None => child::use_streams(channels, spec.user.uid)?,
    }
    let entered = child::enter_directory(&spec.cwd)?;
    process::close_all_but(3, &[errors.as_fd(), handover.as_fd()])
        .map_err(|error| StepError::CloseDescriptors(error.into()))?;
    for limit in &spec.limits {
        if let Some(note) = child::set_limit(*limit)? {
            child::say(errors, &Said::Note(note));
        }
    }
    // A filter of the user's own may let no process be made.
    let late = matches!(spec.seccomp, Seccomp::Profile(_));
    let rights = Rights { capabilities: spec.capabilities, no_new_privs: spec.no_new_privs };
    if !late {
        child::become_user(&spec.user, rights, filter)?;
    }
    match clone_sibling(&alone) {
        Ok(Some(pidfd)) => {
            let handed = message::send(handover, b"p", &[pidfd.as_fd()]);
            exit_now(i32::from(handed.is_err()))
        }
        Ok(None) => {
            // Closed here, and never used again: no caller of this comes to its end with it.
            process::close_all_but(3, &[errors.as_fd()])
                .map_err(|error| StepError::CloseDescriptors(error.into()))?;
            rustix::process::setsid().map_err(|errno| StepError::Session(errno.into()))?;
            if spec.terminal.is_some() {
                child::take_terminal(io::stdin())?;
            }
            if late {
                child::become_user(&spec.user, rights, filter)?;
            }
            if !entered && !child::enter_directory(&spec.cwd)? {
                let path = spec.cwd.display().to_string();
                return Err(StepError::WorkingDirectory { path, error: Errno::ACCESS.into() });
            }
            Err(StepError::Exec(exec::exec(spec.args.clone(), spec.env.clone())))
        }
        // No process can be added to a namespace whose first process has ended: pid_namespaces(7).
        Err(error) if error.raw_os_error() == Some(Errno::NOMEM.raw_os_error()) => Err(StepError::Ended),
        Err(error) => Err(StepError::Clone(error.into())),
    }
}

/// Enters all namespaces of the target at once, that of processes for children only: setns(2).
fn enter_namespaces(order: &Order) -> Result<(), StepError> {
    let mut all = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP;
    // The machine's own is not a user's to enter, who is in it already.
    if order.own_network {
        all |= ThreadNameSpaceType::NETWORK;
    }
    rustix::thread::move_into_thread_name_spaces(order.target.as_fd(), all).map_err(|errno| match errno {
        Errno::SRCH => StepError::Ended,
        errno => StepError::EnterNamespaces(errno.into()),
    })
}

/// Makes a terminal on the step's own devpts, and hands the controlling end over.
///
/// What stands in `/dev` is the step's by now: nothing but a file system of terminals is opened.
fn make_terminal(size: TerminalSize, user: &User, channel: &OwnedFd) -> Result<OwnedFd, StepError> {
    let failed = |call: &'static str| {
        move |errno: Errno| StepError::Terminal { call: call.to_owned(), error: errno.into() }
    };
    let path = "/dev/pts";
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let terminals = rustix::fs::open(path, flags, Mode::empty()).map_err(failed("open /dev/pts"))?;
    let kind = rustix::fs::fstatfs(&terminals).map_err(failed("statfs /dev/pts"))?.f_type;
    if kind as i64 != DEVPTS {
        return Err(StepError::NoTerminals(path.to_owned()));
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let control = rustix::fs::openat(&terminals, Path::new("ptmx"), flags, Mode::empty())
        .map_err(failed("open /dev/pts/ptmx"))?;
    let stat = rustix::fs::fstat(&control).map_err(failed("stat /dev/pts/ptmx"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice {
        return Err(StepError::NoTerminals(path.to_owned()));
    }
    let terminal = child::other_end(&control, size, user)?;
    helper::reply(channel, &Reply::Terminal, Some(control.as_fd()));
    Ok(terminal)
}
