//! What goes wrong with hooks and automated builds, in words for people.

use std::io;
use std::path::{Path, PathBuf};

/// An error, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error("{what}")]
    Refused { what: String, hint: Option<String> },
    #[error("cannot {doing} `{}`", path.display())]
    Files { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("the program git cannot be run: {0}")]
    NoGit(io::Error),
    #[error("git {doing}: {said}")]
    Git { doing: &'static str, said: String },
}

impl ServiceError {
    /// Makes an error of words.
    pub fn refused(what: impl Into<String>) -> ServiceError {
        ServiceError::Refused { what: what.into(), hint: None }
    }

    /// Adds what to do next, to an error of words.
    pub fn with_hint(self, hint: impl Into<String>) -> ServiceError {
        match self {
            ServiceError::Refused { what, .. } => ServiceError::Refused { what, hint: Some(hint.into()) },
            other => other,
        }
    }

    /// Returns what to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            ServiceError::Refused { hint, .. } => hint.clone(),
            ServiceError::NoGit(_) => Some("install the package git".to_owned()),
            _ => None,
        }
    }

    /// Makes what turns an error of the file system into one of these.
    pub(super) fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ServiceError {
        let path = path.to_owned();
        move |source| ServiceError::Files { doing, path, source }
    }
}
