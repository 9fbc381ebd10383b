//! Why an image was not pushed.

use super::super::RegistryError;
use crate::content::ContentError;
use crate::store::StoreError;

/// Says why an image was not pushed; what arrived before stays in the registry and is used again.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("docker's media types have no name for layers that are compressed with zstd")]
    NoDockerZstd,
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    #[error("stopped")]
    Cancelled,
}

impl PushError {
    /// Tells whether the caller stopped it: nothing went wrong.
    pub fn is_cancelled(&self) -> bool {
        match self {
            PushError::Cancelled => true,
            PushError::Registry(error) => error.is_cancelled(),
            _ => false,
        }
    }

    /// Returns what to do next, where the message does not say it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            PushError::Registry(error) => error.hint(),
            PushError::NoDockerZstd => Some("use OCI's media types, which are the default"),
            _ => None,
        }
    }
}
