//! Why a vertex failed, in the words docker's users know.

use super::copy::CopyError;
use super::mount::MountError;
use crate::context::{ContextError, GitError};
use crate::layer::LayerError;
use crate::report::chain;
use crate::sandbox::network::NetworkError;
use crate::sandbox::{Exit, SandboxError};
use crate::solve::CacheError;
use crate::store::StoreError;
use crate::sys::users::UserError;

/// Says why a vertex failed.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The command ran and did not succeed.
    #[error("process \"{command}\" did not complete successfully: {}{}", ending(*.exit), also(*.exit, *.oom))]
    Exit {
        command: String,
        exit: Exit,
        /// Whether any process of it was killed for the memory limit.
        oom: bool,
    },
    /// The command could not be started.
    #[error("process \"{command}\" could not be started: {}", chain(.error))]
    Sandbox { command: String, error: SandboxError },
    #[error("{}", chain(.0))]
    Context(#[from] ContextError),
    #[error("{}", chain(.0))]
    Git(#[from] GitError),
    #[error("{}", chain(.0))]
    Copy(#[from] CopyError),
    #[error("{}", chain(.0))]
    Layer(#[from] LayerError),
    #[error("{}", chain(.0))]
    Store(#[from] StoreError),
    #[error("{}", chain(.0))]
    User(#[from] UserError),
    #[error("{}", chain(.0))]
    Network(#[from] NetworkError),
    #[error("{}", chain(.0))]
    Mount(#[from] MountError),
    /// The command line did not consent to it.
    /// What a step asks for that its isolation cannot give.
    #[error("{0} cannot be had where steps run in a chroot (see `--isolation`)")]
    NotIsolated(String),
    #[error("{0} is not allowed")]
    NotAllowed(&'static str),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("the files of `{0}` are not there")]
    NoSource(String),
    /// A layer that a cache of elsewhere promised cannot be had.
    #[error("{}", chain(&**.0))]
    Import(CacheError),
    #[error("stopped")]
    Cancelled,
}

/// Says how a process ended.
fn ending(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit code: {code}"),
        Exit::Signal(signal) => format!("killed by signal {signal}{}", signal_name(signal)),
        Exit::OutOfMemory => "killed because memory ran out (exit code: 137)".to_owned(),
    }
}

/// Says what the end of the command alone does not tell.
fn also(exit: Exit, oom: bool) -> &'static str {
    match oom && exit != Exit::OutOfMemory {
        true => ", after a process of it was killed because the memory limit was reached",
        false => "",
    }
}

fn signal_name(number: i32) -> String {
    match nix::sys::signal::Signal::try_from(number) {
        Ok(signal) => format!(" ({})", signal.as_str()),
        Err(_) => String::new(),
    }
}

impl WorkerError {
    /// Tells whether a step did not start since overlayfs could not be mounted, and `other_way`, given the
    /// reason, says that it can go another way.
    pub(super) fn may_go_another_way(&self, other_way: impl FnOnce(&str) -> bool) -> bool {
        match self {
            WorkerError::Sandbox { error, .. } => error.overlay_refused().is_some_and(|why| other_way(&why)),
            _ => false,
        }
    }

    /// Returns the word for a finding's code.
    pub fn code(&self) -> &'static str {
        match self {
            WorkerError::Exit { .. } => "step-failed",
            WorkerError::Sandbox { .. } => "sandbox",
            WorkerError::Context(_) | WorkerError::Copy(_) | WorkerError::NoSource(_) => "copy",
            WorkerError::User(_) => "user",
            WorkerError::Network(_) => "network",
            WorkerError::Git(_) => "git",
            WorkerError::Mount(_) => "mount",
            WorkerError::NotIsolated(_) => "isolation",
            WorkerError::NotAllowed(_) => "not-allowed",
            WorkerError::Layer(_) | WorkerError::Store(_) | WorkerError::Io { .. } => "store",
            WorkerError::Import(_) => "cache",
            WorkerError::Cancelled => "stopped",
        }
    }

    /// Returns what to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            WorkerError::Exit { exit: Exit::Code(127), .. } => {
                "a shell exits with 127 when it does not find a command: is it installed in the image, and in PATH?"
            }
            WorkerError::Exit { exit: Exit::Code(126), .. } => {
                "a shell exits with 126 when it may not execute a file: is it executable, and for this processor?"
            }
            WorkerError::Exit { oom: true, .. } => {
                "the step's memory limit was reached: raise it with `--memory`, or let the step do less at once"
            }
            WorkerError::Exit { exit: Exit::OutOfMemory, .. } => {
                "the kernel ended it for want of memory: give the machine or the surrounding container more, or let the step do less at once"
            }
            WorkerError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                "the disk is full: `rbuild rmi` frees space, and `--root` moves the store"
            }
            WorkerError::Mount(error) => return error.hint(),
            WorkerError::NotAllowed(what) => return Some(format!("build with `--allow {what}`")),
            WorkerError::Context(error) | WorkerError::Copy(CopyError::Context(error)) => {
                return error.hint().map(str::to_owned);
            }
            WorkerError::Git(error) => return error.hint().map(str::to_owned),
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(exit: Exit, expect: &str) {
        let error = WorkerError::Exit { command: "/bin/sh -c false".into(), exit, oom: false };
        assert_eq!(
            error.to_string(),
            format!("process \"/bin/sh -c false\" did not complete successfully: {expect}")
        );
    }

    #[test]
    fn endings_are_told_apart() {
        check(Exit::Code(1), "exit code: 1");
        check(Exit::Signal(9), "killed by signal 9 (SIGKILL)");
        check(Exit::Signal(64), "killed by signal 64");
        check(Exit::OutOfMemory, "killed because memory ran out (exit code: 137)");
        let error = WorkerError::Exit { command: "make".into(), exit: Exit::Code(2), oom: true };
        assert!(error.to_string().ends_with(
            "exit code: 2, after a process of it was killed because the memory limit was reached"
        ));
        assert!(error.hint().unwrap().contains("--memory"));
    }
}
