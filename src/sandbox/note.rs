//! What a sandbox could not give its step, for a warning; the step runs all the same.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A wish that has no effect on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What was asked for: `the memory limit`.
    pub what: String,
    /// Why it is not so, or what is there instead.
    pub why: String,
}

impl Note {
    pub(super) fn new(what: impl Into<String>, why: impl Into<String>) -> Note {
        Note { what: what.into(), why: why.into() }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has no effect: {}", self.what, self.why)
    }
}
