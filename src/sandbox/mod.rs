//! One process in namespaces: what a build step and a container run in.
//!
//! `spec` says what to run and what it sees, as data; `step` makes the spec of
//! a RUN. `launcher` starts the helper, a small process with one thread that is
//! our own program again (`helper`), which makes each step's child; `child` is
//! what the child does until exec, `mounts`, `states` and `stub` its mounts, `exec` the
//! search for the program. `enter` starts a further process in a step that runs, `entering` is
//! what that one does until exec. `seccomp` is the filter, `facts` what the machine
//! has; `cgroup` and `limit` what it may use, `security` its rights. Errors cross the processes as values (`error`). Not here: which layers
//! (`store`), pools of networks (`network`), what a step's changes become (`layer`).

pub mod capability;
mod cgroup;
mod child;
mod chroot;
mod directory;
mod dns;
mod enter;
mod entering;
mod error;
mod exec;
pub mod facts;
mod helper;
mod init;
pub mod isolation;
mod launcher;
mod lazy;
mod limit;
mod mounts;
pub mod network;
mod note;
mod seccomp;
mod security;
pub mod size;
pub mod snapshotter_fact;
mod spec;
mod states;
mod step;
mod stub;
mod sysctl;
pub mod tmpfs;
mod turns;

pub use cgroup::{Cgroup, CgroupError, CgroupLimits};
pub use chroot::ChrootError;
pub use dns::{DnsOptions, private_resolv_conf};
pub use enter::EnterSpec;
pub use error::{ExecError, ExecFailure, Os, SandboxError, StepError};
pub use helper::run_helper_if_asked;
pub use isolation::Isolation;
pub use launcher::{Exit, Launcher, Running, Stdio, StopHandle};
pub use lazy::{LazyLauncher, LazyNetworks};
pub use limit::{Limit, LimitError, LimitKind};
pub use note::Note;
pub use seccomp::{Profile, ProfileError};
pub use security::{Security, SecurityOptionError, SecurityOptions};
pub use spec::{
    BindSource, DEFAULT_CAPABILITIES, Mount, Network, Root, Seccomp, Spec, State, TerminalSize, Upper, User,
};
pub use step::{
    DEFAULT_SHM_SIZE, HOSTNAME, MountSource, StepEnvironment, StepMount, Volume, hosts_file, step_spec,
};
pub use sysctl::{Sysctl, SysctlError};
