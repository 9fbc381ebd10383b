//! Why a mount of a RUN could not be made, for people.

use std::io;
use std::path::PathBuf;

use crate::context::ContextError;
use crate::worker::copy::CopyError;
use crate::worker::ssh::SshError;

/// Says why a mount could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("failed to calculate checksum of what is mounted at {target}")]
    Select { target: String, source: ContextError },
    #[error("cannot copy what is mounted at {target}")]
    Copy { target: String, source: CopyError },
    /// It changed its kind since it was selected, or is none that can be mounted.
    #[error("cannot mount `/{path}` at {target}")]
    Source { target: String, path: String, source: io::Error },
    #[error("the cache mount at {target} cannot start with `/{path}`: it is no directory")]
    SeedIsFile { target: String, path: String },
    #[error("secret {0}: not found")]
    NoSecret(String),
    #[error("secret {id}: cannot read `{}`", path.display())]
    ReadSecret { id: String, path: PathBuf, source: io::Error },
    #[error("secret {id}: it is larger than {} kB, the most a secret may have", super::MAX_SECRET_BYTES / 1024)]
    SecretTooLarge { id: String },
    #[error("secret {id} cannot be the variable {name}: it holds a zero byte")]
    SecretInVariable { id: String, name: String },
    #[error("SSH agent {0}: not found")]
    NoAgent(String),
    #[error(transparent)]
    Ssh(#[from] SshError),
    #[error("cannot {action}")]
    Io { action: &'static str, source: io::Error },
}

impl MountError {
    /// Returns what to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            MountError::Select { source, .. } => source.hint().map(str::to_owned),
            MountError::NoSecret(id) => Some(format!(
                "give it with `--secret id={id},src=FILE` or `--secret id={id},env=VARIABLE`, or leave out `required`"
            )),
            MountError::NoAgent(id) => {
                let value = if id == "default" { "default".to_owned() } else { format!("{id}=KEY") };
                Some(format!("forward one with `--ssh {value}`, or leave out `required`"))
            }
            MountError::SecretInVariable { .. } => Some("mount it as a file".to_owned()),
            MountError::Ssh(error) => error.hint().map(str::to_owned),
            _ => None,
        }
    }
}
