//! Why a vertex failed, in the words docker's users know.

use std::time::Duration;

use super::copy::CopyError;
use super::mount::MountError;
use super::shell::NoBusybox;
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
    #[error("process {} did not complete successfully: {}{}", quoted(.command), ending(*.exit), also(*.exit, *.oom, *.full))]
    Exit {
        command: String,
        exit: Exit,
        /// Whether any process of it was killed for the memory limit.
        oom: bool,
        /// Whether the file system of the store was full when it ended.
        full: bool,
    },
    /// The command ran longer than a step may, and was stopped with all it had started.
    #[error("process {} was stopped: it was not done after {}{}", quoted(.command), shown(*.after), quiet(*.silent))]
    TooLate { command: String, after: Duration, silent: Duration },
    /// The command could not be started.
    #[error("process {} could not be started: {}", quoted(.command), chain(.error))]
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
    /// What a step asks for that its isolation cannot give.
    #[error("{0} cannot be had where steps run in a chroot (see `--isolation`)")]
    NotIsolated(String),
    /// The command line did not consent to it.
    #[error("{0} is not allowed")]
    NotAllowed(&'static str),
    /// There is nothing that a shell could be opened with.
    #[error("{}", chain(.0))]
    NoShell(#[from] NoBusybox),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("cannot make the working directory `{path}`: `/{}` is no directory", crate::context::show(.at))]
    NoDirectory {
        path: String,
        /// Relative to the root.
        at: std::path::PathBuf,
    },
    #[error("the files of `{0}` are not there")]
    NoSource(String),
    /// A layer that a cache of elsewhere promised cannot be had.
    #[error("{}", chain(&**.0))]
    Import(CacheError),
    #[error("stopped")]
    Cancelled,
}

/// Shows a time as Go does, whole seconds where there are some: `10m0s`, `500ms`.
fn shown(time: Duration) -> String {
    let whole = time.as_secs();
    match whole {
        0 => format!("{}ms", time.as_millis()),
        1..60 => format!("{whole}s"),
        60..3600 => format!("{}m{}s", whole / 60, whole % 60),
        _ => format!("{}h{}m{}s", whole / 3600, whole / 60 % 60, whole % 60),
    }
}

/// Says how long there was no output, where that was long.
fn quiet(silent: Duration) -> String {
    match silent.as_secs() >= 10 {
        true => format!(", and had said nothing for {}", shown(silent)),
        false => String::new(),
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// Quotes a command as docker does; of a long one the middle is left out.
fn quoted(command: &str) -> String {
    const LONGEST: usize = 400;
    const ENDS: usize = 180;
    let count = command.chars().count();
    if count <= LONGEST {
        return format!("{command:?}");
    }
    let start: String = command.chars().take(ENDS).collect();
    let end: String = command.chars().skip(count - ENDS).collect();
    format!("{:?}", format!("{start} … {end}"))
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
fn also(exit: Exit, oom: bool, full: bool) -> &'static str {
    match (oom && exit != Exit::OutOfMemory, full) {
        (true, _) => ", after a process of it was killed because the memory limit was reached",
        (false, true) => ", and no space is left on the file system of the store",
        (false, false) => "",
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

    /// Tells whether the command itself failed, or could not be executed: a look inside the step helps.
    pub fn is_the_commands(&self) -> bool {
        match self {
            WorkerError::Exit { .. } | WorkerError::TooLate { .. } => true,
            WorkerError::Sandbox { error, .. } => error.exec().is_some(),
            _ => false,
        }
    }

    /// Returns the word for a finding's code.
    pub fn code(&self) -> &'static str {
        match self {
            WorkerError::Exit { .. } => "step-failed",
            WorkerError::TooLate { .. } => "step-timeout",
            WorkerError::Sandbox { .. } => "sandbox",
            WorkerError::Context(_) | WorkerError::Copy(_) | WorkerError::NoSource(_) => "copy",
            WorkerError::User(_) => "user",
            WorkerError::NoDirectory { .. } => "workdir",
            WorkerError::Network(_) => "network",
            WorkerError::Git(_) => "git",
            WorkerError::Mount(_) => "mount",
            WorkerError::NotIsolated(_) => "isolation",
            WorkerError::NotAllowed(_) => "not-allowed",
            WorkerError::NoShell(_) => "no-shell",
            WorkerError::Store(StoreError::NoRoom(_)) => "no-room",
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
            WorkerError::TooLate { .. } => {
                "a step that needs longer gets it with a longer `--step-timeout`, or none"
            }
            WorkerError::Io { source, .. } | WorkerError::Copy(CopyError::Write { source, .. })
                if is_full(source) =>
            {
                "the file system of the store is full: `rbuild system prune` makes room, and `--root` moves the store"
            }
            WorkerError::Store(error) => return error.hint(),
            WorkerError::User(UserError::UnknownUser(_))
            | WorkerError::Copy(CopyError::Chown(UserError::UnknownUser(_))) => {
                "users are those in /etc/passwd of the image: make one with `RUN useradd` (`adduser` in Alpine), or name \
                 a number"
            }
            WorkerError::NoDirectory { .. } => {
                "something put a file there: name another directory, or COPY with a `/` at the end of the destination"
            }
            WorkerError::Mount(error) => return error.hint(),
            WorkerError::NoShell(_) => NoBusybox::HINT,
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
        let error = WorkerError::Exit { command: "/bin/sh -c false".into(), exit, oom: false, full: false };
        assert_eq!(
            error.to_string(),
            format!("process \"/bin/sh -c false\" did not complete successfully: {expect}")
        );
    }

    #[test]
    fn a_step_that_takes_too_long() {
        let check = |after, silent, expect: &str| {
            let (after, silent) = (Duration::from_millis(after), Duration::from_secs(silent));
            let error = WorkerError::TooLate { command: "make".into(), after, silent };
            assert_eq!(
                error.to_string(),
                format!("process \"make\" was stopped: it was not done after {expect}")
            );
        };
        check(600_000, 3, "10m0s");
        check(500, 0, "500ms");
        check(7_260_000, 95, "2h1m0s, and had said nothing for 1m35s");
    }

    #[test]
    fn endings_are_told_apart() {
        check(Exit::Code(1), "exit code: 1");
        check(Exit::Signal(9), "killed by signal 9 (SIGKILL)");
        check(Exit::Signal(64), "killed by signal 64");
        check(Exit::OutOfMemory, "killed because memory ran out (exit code: 137)");
        let error = WorkerError::Exit { command: "make".into(), exit: Exit::Code(2), oom: true, full: false };
        assert!(error.to_string().ends_with(
            "exit code: 2, after a process of it was killed because the memory limit was reached"
        ));
        assert!(error.hint().unwrap().contains("--memory"));
        let error =
            WorkerError::Exit { command: "a\n\"b\"".into(), exit: Exit::Code(2), oom: false, full: true };
        let expect = "process \"a\\n\\\"b\\\"\" did not complete successfully: exit code: 2, and no space is left on the \
                      file system of the store";
        assert_eq!(error.to_string(), expect);
        let long =
            WorkerError::Exit { command: "x".repeat(9000), exit: Exit::Code(2), oom: false, full: false };
        assert!(long.to_string().len() < 500);
    }
}
