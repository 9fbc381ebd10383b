//! What can go wrong with a pull, in docker's words where it has them.

use super::super::answer;
use super::super::error::RegistryError;
use super::Cancelled;
use crate::content::ContentError;
use crate::image::{Digest, Reference};
use crate::store::StoreError;

/// Says why an image could not be pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error(
        "pull access denied for {name}, repository does not exist or may require '{login}'{}",
        if said.is_empty() { String::new() } else { format!(": {said}") }
    )]
    Denied { name: String, login: String, said: String },
    #[error("manifest for {name} not found: {said}")]
    NoManifest { name: String, said: String },
    #[error("repository {name} not found: {said}")]
    NoRepository { name: String, said: String },
    #[error("no matching manifest for {platform} in the manifest list entries of {name}: it has {has}")]
    NoPlatform { name: String, platform: String, has: String },
    #[error(
        "image with reference {name} was found but does not match the specified platform: wanted {wanted}, \
         actual: {found}"
    )]
    OtherPlatform { name: String, wanted: String, found: String },
    /// What is there is no image, or none that can be used here.
    #[error("the image cannot be used: {0}")]
    Unusable(String),
    #[error(
        "the registry does not have the layer {0}, which its maker forbade to distribute: it is of another \
         place, and rbuild fetches layers from registries only"
    )]
    Foreign(Digest),
    #[error("layer {digest} cannot be used")]
    Layer { digest: Digest, source: ContentError },
    #[error(transparent)]
    Registry(RegistryError),
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    #[error("stopped")]
    Cancelled,
}

impl PullError {
    /// Makes the error of a request for a manifest.
    pub(super) fn of_manifest(error: RegistryError, reference: &Reference) -> PullError {
        let name = reference.to_string();
        match error {
            error if error.is_cancelled() => PullError::Cancelled,
            RegistryError::Denied { login, errors, .. } => {
                PullError::Denied { name: reference.familiar_name(), login, said: answer::join(&errors) }
            }
            RegistryError::NotFound { errors, .. } => {
                let said = answer::join(&errors);
                if errors.iter().any(|error| error.code == "NAME_UNKNOWN") {
                    return PullError::NoRepository { name: reference.familiar_name(), said };
                }
                PullError::NoManifest {
                    name,
                    said: if said.is_empty() { "manifest unknown".into() } else { said },
                }
            }
            error => PullError::Registry(error),
        }
    }

    /// Makes the error of a request for the tags of a repository.
    pub fn of_tags(error: RegistryError, name: &Reference) -> PullError {
        match PullError::of_manifest(error, name) {
            PullError::NoManifest { name, said } => PullError::NoRepository { name, said },
            other => other,
        }
    }

    /// Makes the error of a request for a blob.
    pub(super) fn of_blob(error: RegistryError, cancelled: Cancelled<'_>) -> PullError {
        match error.is_cancelled() || cancelled() {
            true => PullError::Cancelled,
            false => PullError::Registry(error),
        }
    }

    /// Tells whether the caller gave up: nothing went wrong.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, PullError::Cancelled | PullError::Store(StoreError::Cancelled))
    }

    /// Tells whether a registry could not be asked or refused, so that what is here may do instead.
    pub fn is_of_registry(&self) -> bool {
        matches!(
            self,
            PullError::Registry(_)
                | PullError::Denied { .. }
                | PullError::NoManifest { .. }
                | PullError::NoRepository { .. }
        )
    }

    /// Returns what to do next, where the message does not say it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            PullError::Registry(error) => error.hint(),
            _ => None,
        }
    }
}
