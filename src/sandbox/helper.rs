//! The helper: our own program again, with one thread, that makes the children.
//!
//! A process with threads cannot safely run code in a copy of itself, and the
//! engine has many; so one that has none is started once and makes every step's
//! child. It waits for them and tells the caller how they end. When the caller
//! goes away it ends, and being the first process of its namespace takes all
//! with it. Not here: what a child does (`child`).

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags};
use serde::{Deserialize, Serialize};

use super::child::{self, Channels, Filter};
use super::chroot::keeper;
use super::entering;
use super::error::StepError;
use super::isolation::Isolation;
use super::seccomp::{self, Profile};
use super::spec::{Network, Seccomp, Spec};
use crate::sys::process::{
    BpfInstruction, Cloned, Ended, Namespaces, clone_child, close_all_from, exit_now, fork_child,
    reset_signals, try_reap,
};
use crate::sys::{descendants, message, title};

/// The name (argument 0) that asks this program to be the helper.
pub(super) const HELPER_NAME: &str = "rbuild-sandbox-helper";
/// What a message asks for: a step, or a process in one that runs.
pub(super) const START: &[u8] = b"s";
pub(super) const ENTER: &[u8] = b"e";
/// The argument that says that no namespaces can be made.
pub(super) const CHROOT_ARGUMENT: &str = "chroot";
/// The longest reply.
pub(super) const MESSAGE_LIMIT: usize = 64 * 1024;
/// Descriptors that come before those of the spec: order, errors, channel, three streams.
const FIXED_FDS: usize = 6;

/// What the caller hears on a step's channel.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// The child exists; its pidfd comes along.
    Started,
    /// The child never came to be.
    NotStarted(StepError),
    /// From the child: its terminal's controlling end comes along.
    Terminal,
    Exited(ExitStatus),
}

/// How the first process of a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ExitStatus {
    Code(i32),
    Signal(i32),
    OutOfMemory,
}

/// Becomes the helper when this process was started as one; returns the code to exit with.
///
/// Must be the first thing in main: no thread may exist and no descriptor be open but the
/// standard ones.
pub fn run_helper_if_asked() -> Option<ExitCode> {
    let mut words = std::env::args_os();
    if words.next()? != HELPER_NAME {
        return None;
    }
    title::set_name("rbuild-sandbox");
    let isolation = match words.next() {
        Some(word) if word == CHROOT_ARGUMENT => Isolation::Chroot,
        _ => Isolation::Namespaces,
    };
    Some(match serve(isolation) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

/// A step whose child lives.
struct Step {
    pidfd: OwnedFd,
    channel: OwnedFd,
    oom_kills_before: u64,
    /// The number of the step's keeper, which tells of its end itself.
    keeper: Option<u32>,
    /// Where the program's pidfd comes from, while this is the process that makes it ready.
    handover: Option<OwnedFd>,
}

fn serve(isolation: Isolation) -> io::Result<()> {
    // What the caller's caller forgot to close would stay open as long as we live.
    close_all_from(3)?;
    // For the children, which inherit it: the runtime ignores SIGPIPE and handles faults.
    reset_signals()?;
    // A terminal's signals are for the caller; it tells us what to stop.
    let _ = rustix::process::setsid();
    if isolation == Isolation::Chroot {
        descendants::adopt_orphans()?;
    }
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    let mut steps: Vec<Step> = Vec::new();
    let mut filters = Filters::default();
    loop {
        let ready: Vec<bool> = {
            let mut fds = vec![PollFd::new(&socket, PollFlags::IN)];
            fds.extend(steps.iter().map(|step| PollFd::new(&step.pidfd, PollFlags::IN)));
            match rustix::event::poll(&mut fds, None) {
                Ok(_) => fds.iter().map(|fd| !fd.revents().is_empty()).collect(),
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
        };
        let keepers: Vec<u32> = steps.iter().filter_map(|step| step.keeper).collect();
        let mut index = 0;
        steps.retain_mut(|step| {
            index += 1;
            !ready[index] || hand_over(step) || !report_end(step, &keepers)
        });
        if ready[0] {
            match message::receive(&socket, 16)? {
                None => {
                    // With namespaces all else ends with this process, the first of its own.
                    if isolation == Isolation::Chroot {
                        keeper::end_all(steps.iter().filter_map(|step| step.keeper));
                    }
                    return Ok(());
                }
                Some((ask, fds)) => steps.extend(start(&ask, fds, &mut filters, isolation)),
            }
        }
    }
}

/// Takes the program from the process that made it ready and has ended; `false` where there is none.
fn hand_over(step: &mut Step) -> bool {
    let Some(handover) = step.handover.take() else { return false };
    let Ok(Some((_, fds))) = message::receive(&handover, 16) else { return false };
    let Some(pidfd) = fds.into_iter().next() else { return false };
    let _ = try_reap(&step.pidfd);
    reply(&step.channel, &Reply::Started, Some(pidfd.as_fd()));
    step.pidfd = pidfd;
    true
}

/// Tells the caller that a step has ended, if it has.
fn report_end(step: &Step, keepers: &[u32]) -> bool {
    let ended = match try_reap(&step.pidfd) {
        Ok(Some(ended)) => ended,
        Ok(None) => return false,
        // It cannot be waited for: gone, in a way we cannot know.
        Err(_) => Ended::Signal(rustix::process::Signal::KILL.as_raw()),
    };
    let status = match step.keeper {
        Some(_) if ended == Ended::Code(0) => return true,
        Some(own) => {
            // Killed, by its own step or for want of memory: what it kept is ours now.
            let others: Vec<u32> = keepers.iter().copied().filter(|keeper| *keeper != own).collect();
            descendants::end_children(&others);
            ExitStatus::Signal(rustix::process::Signal::KILL.as_raw())
        }
        None => status(ended, step.oom_kills_before),
    };
    reply(&step.channel, &Reply::Exited(status), None);
    true
}

/// Says how a program ended, and takes a kill for want of memory where the kernel's count moved.
pub(super) fn status(ended: Ended, oom_kills_before: u64) -> ExitStatus {
    let killed = rustix::process::Signal::KILL.as_raw();
    let may_be_memory = matches!(ended, Ended::Signal(signal) if signal == killed)
        || matches!(ended, Ended::Code(code) if code == 128 + killed);
    match ended {
        _ if may_be_memory && oom_kills() > oom_kills_before => ExitStatus::OutOfMemory,
        Ended::Code(code) => ExitStatus::Code(code),
        Ended::Signal(signal) => ExitStatus::Signal(signal),
    }
}

/// Sends a reply; a caller that is gone needs none.
pub(super) fn reply(channel: &OwnedFd, reply: &Reply, fd: Option<BorrowedFd<'_>>) {
    if let Ok(bytes) = serde_json::to_vec(reply) {
        let _ = message::send(channel, &bytes, fd.as_slice());
    }
}

/// Reads an order and makes its child.
fn start(ask: &[u8], fds: Vec<OwnedFd>, filters: &mut Filters, isolation: Isolation) -> Option<Step> {
    let mut fds = fds.into_iter();
    let mut fixed = fds.by_ref().take(FIXED_FDS).collect::<Vec<_>>().into_iter();
    let (Some(order), Some(errors), Some(channel), Some(stdin), Some(stdout), Some(stderr)) =
        (fixed.next(), fixed.next(), fixed.next(), fixed.next(), fixed.next(), fixed.next())
    else {
        // Not from our caller; there is nobody to answer.
        return None;
    };
    let refuse = |error: StepError| {
        reply(&channel, &Reply::NotStarted(error), None);
        None
    };
    let mut own = None;
    if ask == ENTER {
        let order: entering::Order =
            match read_order(order, fds.collect(), |order: entering::Order<usize>, find| order.map_fds(find))
            {
                Ok(order) => order,
                Err(text) => return refuse(StepError::Order(text)),
            };
        let filter = filters.of(&order.spec.seccomp, order.spec.capabilities, isolation, &mut own);
        let channels = Channels { errors, channel, stdin, stdout, stderr };
        let oom_kills_before = oom_kills();
        return match entering::begin(order, &channels, filter) {
            Ok((pidfd, handover)) => {
                let channel = channels.channel;
                Some(Step { pidfd, channel, oom_kills_before, keeper: None, handover: Some(handover) })
            }
            Err(error) => {
                reply(&channels.channel, &Reply::NotStarted(error), None);
                None
            }
        };
    }
    let spec = match read_order(order, fds.collect(), |spec: Spec<usize>, find| spec.map_fds(find)) {
        Ok(spec) => spec,
        Err(text) => return refuse(StepError::Order(text)),
    };
    let mut namespaces = Namespaces::STEP;
    if matches!(spec.network, Network::None) {
        namespaces = namespaces.and(Namespaces::NETWORK);
    }
    // Made before the child is, so that it is made once.
    let filter = filters.of(&spec.seccomp, spec.capabilities, isolation, &mut own);
    if !spec.cgroup_procs.is_empty() {
        namespaces = namespaces.with_callers_cgroups();
    }
    let oom_kills_before = oom_kills();
    if isolation == Isolation::Chroot {
        let parent = descendants::own_pid();
        return match fork_child() {
            Ok(None) => {
                let channels = Channels { errors, channel, stdin, stdout, stderr };
                keeper::keep(spec, channels, filter, parent, oom_kills_before);
                exit_now(0)
            }
            Ok(Some((pid, pidfd))) => {
                Some(Step { pidfd, channel, oom_kills_before, keeper: Some(pid), handover: None })
            }
            Err(error) => refuse(StepError::Clone(error.into())),
        };
    }
    match clone_child(namespaces) {
        Ok(Cloned::Child) => {
            let channels = Channels { errors, channel, stdin, stdout, stderr };
            child::run(spec, channels, filter, isolation);
            exit_now(1)
        }
        Ok(Cloned::Parent { pidfd }) => {
            reply(&channel, &Reply::Started, Some(pidfd.as_fd()));
            Some(Step { pidfd, channel, oom_kills_before, keeper: None, handover: None })
        }
        Err(error) => refuse(StepError::Clone(error.into())),
    }
}

/// Finds an order's descriptor by the number that stands for it.
type Find<'a> = &'a mut dyn FnMut(usize) -> Result<OwnedFd, String>;

fn read_order<N: serde::de::DeserializeOwned, O>(
    order: OwnedFd,
    fds: Vec<OwnedFd>,
    map: impl FnOnce(N, &mut Find<'_>) -> Result<O, String>,
) -> Result<O, String> {
    let mut file = File::from(order);
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(|error| error.to_string())?;
    let named: N = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let mut fds: Vec<Option<OwnedFd>> = fds.into_iter().map(Some).collect();
    let mut find = |index: usize| {
        fds.get_mut(index).and_then(Option::take).ok_or_else(|| format!("descriptor {index} is missing"))
    };
    map(named, &mut (&mut find as Find<'_>))
}

/// The filters made so far, by capabilities.
#[derive(Default)]
struct Filters(Vec<(u64, Vec<BpfInstruction>)>);

impl Filters {
    /// Returns the filter of a process; `own` keeps one that is the caller's.
    fn of<'a>(
        &'a mut self,
        seccomp: &Seccomp,
        capabilities: u64,
        isolation: Isolation,
        own: &'a mut Option<Profile>,
    ) -> Filter<'a> {
        match seccomp {
            Seccomp::Default => Some((self.program(capabilities, isolation), 0)),
            Seccomp::Unconfined => None,
            Seccomp::Profile(profile) => {
                let own = own.insert(profile.clone());
                Some((own.program.as_slice(), own.flags))
            }
        }
    }

    fn program(&mut self, capabilities: u64, isolation: Isolation) -> &[BpfInstruction] {
        let at = match self.0.iter().position(|(key, _)| *key == capabilities) {
            Some(at) => at,
            None => {
                self.0.push((capabilities, seccomp::program(capabilities, isolation)));
                self.0.len() - 1
            }
        };
        &self.0[at].1
    }
}

/// Counts the processes that the kernel has killed for want of memory since it started.
///
/// 0 where it does not tell (before Linux 4.13).
fn oom_kills() -> u64 {
    // With room for all of it: the file has no size to go by, and else would be read bit by bit.
    let mut text = String::with_capacity(16 * 1024);
    if File::open("/proc/vmstat").and_then(|mut file| file.read_to_string(&mut text)).is_err() {
        return 0;
    }
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}
