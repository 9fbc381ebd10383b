//! `--on-failure`: a shell in the step that failed.
//!
//! A build never waits for an answer that was not asked for: without the option it ends, and on a terminal says
//! that there is one. Not here: what a shell has, and what comes of a retry (`build`).

use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use clap::Args;

use super::attend::{self, Left};
use super::error::CommandError;
use super::progress::{Mode, Progress};
use super::world::{self, World};
use super::{shell, ui};
use crate::build::{BuildError, FailedStep, Next, OnFailure, ShellRequest, Word};
use crate::report::Step;
use crate::solve::Cancel;

/// The option.
#[derive(Debug, Default, Args)]
pub struct OnFailureArgs {
    /// When the command of a RUN fails: `shell` opens a shell in the step as it left it, from which
    /// `retry` goes on; `abort` ends the build; without it $RBUILD_ON_FAILURE, else abort
    #[arg(long, value_name = "WHAT", value_parser = ["abort", "shell"])]
    pub on_failure: Option<String>,
}

impl OnFailureArgs {
    /// Tells whether a shell is asked for.
    pub fn asks(&self) -> bool {
        self.on_failure.as_deref() == Some("shell")
    }

    /// Completes the option from the environment, and refuses, before anything is built, a shell that
    /// nobody could use. What the environment asks for is for terminals only.
    pub fn complete(&mut self, mode: Mode) -> Result<(), CommandError> {
        let usable = || usable(ui::in_is_terminal(), ui::err_is_terminal(), mode);
        match (self.asks(), world::on_failure_variable().as_deref()) {
            (true, _) => return usable(),
            (false, Some("shell")) if self.on_failure.is_none() && usable().is_ok() => {
                self.on_failure = Some("shell".to_owned());
            }
            (false, None | Some("shell" | "abort")) => {}
            (false, Some(other)) => {
                return Err(CommandError::usage(format!(
                    "RBUILD_ON_FAILURE is `{other}`, which is none of abort and shell"
                )));
            }
        }
        Ok(())
    }

    /// Makes the error for people of a build that failed; says what the option would do, where it fits.
    pub fn ended(
        &self,
        asker: &Asker<'_>,
        error: BuildError,
        people: impl FnOnce(BuildError) -> CommandError,
    ) -> CommandError {
        if let (BuildError::Step(_), Some(step)) = (&error, asker.aborted()) {
            return CommandError::new(format!("step {}/{} failed", step.number, step.total));
        }
        let offers = self.on_failure.is_none()
            && matches!(asker.progress, Progress::View(_))
            && ui::in_is_terminal()
            && shell::is_a_commands(&error);
        let of_none = self.asks() && matches!(error, BuildError::Step(_)) && !shell::is_a_commands(&error);
        let error = people(error);
        match (offers, of_none) {
            (true, _) => error.hint("`--on-failure shell` opens a shell in the step that failed, as it left it"),
            (_, true) => error.hint(
                "`--on-failure shell` is for commands of RUN that fail; `rbuild shell --at N --before` opens a shell \
                 just before any step",
            ),
            _ => error,
        }
    }
}

fn usable(stdin: bool, stderr: bool, mode: Mode) -> Result<(), CommandError> {
    let what = match (stdin, stderr) {
        (false, _) => "standard input",
        (_, false) => "standard error",
        _ if mode == Mode::RawJson => {
            return Err(CommandError::usage(
                "--on-failure shell and --progress rawjson cannot share a terminal",
            ));
        }
        _ => return Ok(()),
    };
    Err(CommandError::usage(format!("--on-failure shell: {what} is not a terminal"))
        .hint("`rbuild shell --at N --before -- COMMAND` runs a command just before a step, without one"))
}

/// Who is asked: opens the shell on the terminal.
pub struct Asker<'a> {
    world: &'a World,
    progress: &'a Progress,
    cancel: &'a Cancel,
    /// Shows an error.
    show: &'a dyn Fn(BuildError),
    /// What was given up, and shown by then.
    aborted: Mutex<Option<Step>>,
}

impl<'a> Asker<'a> {
    /// Makes one.
    pub fn new(
        world: &'a World,
        progress: &'a Progress,
        cancel: &'a Cancel,
        show: &'a dyn Fn(BuildError),
    ) -> Asker<'a> {
        Asker { world, progress, cancel, show, aborted: Mutex::new(None) }
    }

    fn aborted(&self) -> Option<Step> {
        self.aborted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ask(&self, failed: FailedStep<'_>) -> Result<Left, CommandError> {
        let FailedStep { findings, step, opener } = failed;
        (self.show)(BuildError::Step(findings));
        let request = ShellRequest {
            command: Vec::new(),
            terminal: Some(attend::size()),
            term: world::terminal_kind(),
            stdio: Default::default(),
            busybox: self.world.busybox()?,
            commands: true,
        };
        let mut opened = opener.open(request).map_err(shell::people)?;
        ui::note(&format!(
            "A shell in step {}/{} as it failed. `retry` runs the step again from its start\n\
             (what is changed here is thrown away, but for cache mounts); `abort` ends\n\
             the build, and so does `exit`.\n",
            step.number, step.total
        ));
        attend::attend(&mut opened, io::stderr().as_fd(), self.cancel)
    }
}

impl OnFailure for Asker<'_> {
    fn failed(&self, failed: FailedStep<'_>) -> Next {
        self.progress.pause();
        let step = failed.step.clone();
        match self.ask(failed) {
            Ok(Left::Said(Word::Retry)) => {
                self.progress.resume();
                return Next::Retry;
            }
            Ok(_) => {}
            Err(error) => ui::note(&error.text()),
        }
        *self.aborted.lock().unwrap_or_else(PoisonError::into_inner) = Some(step);
        Next::Abort
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_needs_a_terminal() {
        let check = |stdin, stderr, mode, expect: &str| {
            let found = usable(stdin, stderr, mode).map_or_else(|error| error.message, |()| String::new());
            assert!(found.contains(expect) && found.is_empty() == expect.is_empty(), "{found}");
        };
        check(true, true, Mode::Tty, "");
        check(true, true, Mode::Plain, "");
        check(false, true, Mode::Tty, "standard input is not a terminal");
        check(true, false, Mode::Plain, "standard error is not a terminal");
        check(true, true, Mode::RawJson, "cannot share a terminal");
    }
}
