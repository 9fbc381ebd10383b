//! A further process in a step that runs: in its namespaces, its root, its control group.
//!
//! The caller's side. Not here: what the process does before exec (`entering`), who it is to be (`container`).

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::entering::Order;
use super::error::SandboxError;
use super::helper::ENTER;
use super::isolation::Isolation;
use super::launcher::{Launcher, Running, Stdio};
use super::limit::Limit;
use super::spec::{DEFAULT_CAPABILITIES, Seccomp, Spec, TerminalSize, User, bytes};
use crate::sys::RootDir;

/// What to start in a step that runs. Nothing of the step's own rights is taken over: the caller says all.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnterSpec {
    /// The program and its arguments; at least one. Without a `/` it is looked up in the PATH of `env`.
    #[serde(with = "bytes::list")]
    pub args: Vec<OsString>,
    /// The whole environment, `KEY=value`.
    #[serde(with = "bytes::list")]
    pub env: Vec<OsString>,
    /// Absolute; must exist.
    #[serde(with = "bytes")]
    pub cwd: PathBuf,
    pub user: User,
    /// As [`Spec::capabilities`](super::Spec::capabilities).
    pub capabilities: u64,
    pub no_new_privs: bool,
    pub seccomp: Seccomp,
    /// A terminal of the step's own `/dev/pts` instead of the caller's pipes.
    pub terminal: Option<TerminalSize>,
    pub limits: Vec<Limit>,
    /// The AppArmor profile to start the program with; `None` keeps the caller's.
    pub apparmor: Option<String>,
}

impl EnterSpec {
    /// Returns a process of root's with the usual rights, in `/`, with no environment.
    pub fn new(args: Vec<OsString>) -> EnterSpec {
        EnterSpec {
            args,
            env: Vec::new(),
            cwd: "/".into(),
            user: User::default(),
            capabilities: DEFAULT_CAPABILITIES,
            no_new_privs: false,
            seccomp: Seccomp::Default,
            terminal: None,
            limits: Vec::new(),
            apparmor: None,
        }
    }
}

impl EnterSpec {
    /// Returns a process as the one of a step is, but for its arguments and terminal.
    pub(super) fn like<F>(spec: &Spec<F>) -> EnterSpec {
        EnterSpec {
            args: Vec::new(),
            env: spec.env.clone(),
            cwd: spec.cwd.clone(),
            user: spec.user.clone(),
            capabilities: spec.capabilities,
            no_new_privs: spec.no_new_privs,
            seccomp: spec.seccomp.clone(),
            terminal: None,
            limits: spec.limits.clone(),
            apparmor: spec.apparmor.clone(),
        }
    }
}

impl Launcher {
    /// Starts a process in all namespaces of a step that this launcher started and that runs.
    ///
    /// Returns once the program runs, or the reason why it does not: [`StepError::Ended`] where the step has
    /// ended. It is no child of the step's first process, and `wait` tells how it ended; it is killed
    /// when that first process ends. What it leaves behind lives on in the step.
    ///
    /// # Errors
    /// Where steps run in a chroot there is nothing that would end it with the step: always one.
    ///
    /// [`StepError::Ended`]: super::StepError::Ended
    pub fn enter(&self, into: &Running, spec: EnterSpec, stdio: Stdio) -> Result<Running, SandboxError> {
        if self.isolation == Isolation::Chroot {
            return Err(SandboxError::EnterChroot);
        }
        let wants_terminal = spec.terminal.is_some();
        let like = EnterSpec { args: Vec::new(), terminal: None, ..spec.clone() };
        let cgroup_procs = match &into.cgroup {
            Some(cgroup) => cgroup.open_procs()?,
            None => Vec::new(),
        };
        let target = into.pidfd().try_clone_to_owned().map_err(SandboxError::Send)?;
        let mut passed: Vec<OwnedFd> = Vec::new();
        let order = Order { spec, target, cgroup_procs, own_network: !into.host_network };
        let order = order.map_fds(&mut |fd| {
            passed.push(fd);
            Ok::<_, SandboxError>(passed.len() - 1)
        })?;
        let order = serde_json::to_vec(&order).map_err(SandboxError::Message)?;
        let mut notes = Vec::new();
        let begun = self.begin(ENTER, &order, passed, stdio, wants_terminal, &mut notes)?;
        Ok(Running::entered(begun, like, into.host_network, notes))
    }
}

impl Running {
    /// Returns what to [enter](Launcher::enter) with: environment, directory, user and rights of its program.
    pub fn enter_spec(&self) -> EnterSpec {
        self.like.clone()
    }

    /// Kills the program, and those of its children that are in its process group still.
    pub fn kill_group(&self) -> Result<(), SandboxError> {
        // Nobody else is of this number before `wait` is through, and the leader of the group it is.
        if let Some(pid) = self.pid().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
        self.kill()
    }

    /// Opens the root directory of the program: whatever is mounted in it is seen, and no path leads out.
    ///
    /// # Errors
    /// `NotFound` where the program has ended.
    pub fn root(&self) -> io::Result<RootDir> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let pid = self.pid().ok_or_else(gone)?;
        let root = RootDir::open(&PathBuf::from(format!("/proc/{pid}/root")))?;
        // A number is another's only once this one has lost it.
        if self.pid() == Some(pid) { Ok(root) } else { Err(gone()) }
    }
}
