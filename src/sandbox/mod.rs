//! One process in namespaces: what a build step and a container run in.
//!
//! `spec` says what to run and what it sees, as data; `step` makes the spec of
//! a RUN. `launcher` starts the helper, a small process with one thread that is
//! our own program again (`helper`), which makes each step's child; `child` is
//! what the child does until exec, `mounts` and `stub` its mounts, `exec` the
//! search for the program. `seccomp` is the filter, `facts` what the machine
//! has. Errors cross the processes as values (`error`). Not here: which layers
//! (`store`), pools of networks (`network`), what a step's changes become (`layer`).

mod child;
mod error;
mod exec;
pub mod facts;
mod helper;
mod launcher;
mod lazy;
mod mounts;
pub mod network;
mod seccomp;
mod spec;
mod step;
mod stub;

pub use error::{ExecError, ExecFailure, Os, SandboxError, StepError};
pub use helper::run_helper_if_asked;
pub use launcher::{Exit, Launcher, Running, Stdio, StopHandle};
pub use lazy::LazyLauncher;
pub use spec::{
    BindSource, DEFAULT_CAPABILITIES, Limit, LimitKind, Mount, Network, Root, Seccomp, Spec, TerminalSize,
    User,
};
pub use step::{HOSTNAME, StepEnvironment, Volume, hosts_file, step_spec};
