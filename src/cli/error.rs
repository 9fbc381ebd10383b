//! Errors for people: one type for all commands, with its exit code and hints.
//!
//! Every room's error becomes one of these here and nowhere else. Not here:
//! excerpts of Dockerfiles, which are drawn as they are found (`report`).

use std::error::Error;
use std::fmt::Write as _;
use std::io::ErrorKind;

pub use crate::report::chain;
use crate::report::clean::{clean_text, without_codes};

/// What ends a command that failed.
#[derive(Debug)]
pub struct CommandError {
    /// One sentence and its causes; empty when everything was said already.
    pub message: String,
    /// What to do next.
    pub hints: Vec<String>,
    pub code: u8,
}

/// The exit codes that are rbuild's own; `run` passes on others.
pub mod code {
    /// The command failed.
    pub const FAILED: u8 = 1;
    /// The command line or the Dockerfile is wrong.
    pub const USAGE: u8 = 2;
    /// `run`: the container could not be started.
    pub const RUN_FAILED: u8 = 125;
}

impl CommandError {
    /// Makes an error with exit code 1.
    pub fn new(message: impl Into<String>) -> CommandError {
        CommandError { message: message.into(), hints: Vec::new(), code: code::FAILED }
    }

    /// Makes an error about how the command was used.
    pub fn usage(message: impl Into<String>) -> CommandError {
        CommandError { code: code::USAGE, ..CommandError::new(message) }
    }

    /// Makes an error of which everything was said already.
    pub fn silent(code: u8) -> CommandError {
        CommandError { message: String::new(), hints: Vec::new(), code }
    }

    /// Adds what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> CommandError {
        self.hints.push(hint.into());
        self
    }

    /// Sets the exit code.
    pub fn code(mut self, code: u8) -> CommandError {
        self.code = code;
        self
    }

    /// Returns the lines to print; control characters of untrusted words removed.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if !self.message.is_empty() {
            let _ = writeln!(text, "error: {}", without_codes(&clean_text(&self.message)));
        }
        for hint in &self.hints {
            let _ = writeln!(text, "hint: {}", clean_text(hint));
        }
        text
    }
}

impl<E: Error> From<E> for CommandError {
    fn from(error: E) -> CommandError {
        let (mut is_full, mut cause) = (false, error.source());
        while let Some(error) = cause {
            let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            is_full |= matches!(kind, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded));
            cause = error.source();
        }
        let told = CommandError::new(chain(&error));
        match is_full {
            true => told.hint("where it is the store that is full, `rbuild system prune` makes room in it"),
            false => told,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_joined_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read `x`")]
        struct Outer(#[source] std::io::Error);
        let error = CommandError::from(Outer(std::io::Error::other("disk on fire"))).hint("call for help");
        assert_eq!(error.text(), "error: cannot read `x`: disk on fire\nhint: call for help\n");
        let full = CommandError::from(Outer(std::io::Error::from_raw_os_error(28)));
        assert!(full.hints[0].contains("rbuild system prune"), "{full:?}");
        let gone = std::io::Error::from_raw_os_error(2);
        assert_eq!(
            CommandError::from(Outer(gone)).text(),
            "error: cannot read `x`: No such file or directory\n"
        );
        assert_eq!(CommandError::silent(3).text(), "");
        assert_eq!(CommandError::new("a\x1b[2Jb").text(), "error: ab\n");
    }
}
