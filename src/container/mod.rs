//! Containers from images: made, started, held, and what is known of them.
//!
//! `process` merges the image's config with the user's wishes, `settings` is all that a container is
//! started with, `state` what became of it; both lie with its record in the store. A container that runs
//! is held by its `supervisor`, which `start` starts and `control` talks to; there is no daemon (decision
//! 028, docs/containers.md). Not here: terminals, signals and exit codes of the command line (`cli`).

pub mod control;
pub mod files;
pub mod health;
pub mod log;
pub mod mounts;
pub mod names;
pub mod options;
pub mod ports;
mod process;
pub mod processes;
mod settings;
pub mod signal;
mod start;
mod state;
mod supervisor;
pub mod usage;

pub use process::{NoCommand, Start, Wishes, start as merge};
pub use settings::{BadRestart, RestartPolicy, Settings, Streams};
pub use start::{Attachment, StartError, Started, Supervisor};
pub use state::{State, Status};
pub use supervisor::{Order, Preparation, run_supervisor_if_asked};

use crate::layer::LayerError;
use crate::sandbox::SandboxError;
use crate::sandbox::network::NetworkError;
use crate::store::StoreError;
use crate::sys::users::UserError;

/// Says why a container did not start.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Mounts(#[from] mounts::MountsError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error(transparent)]
    User(#[from] UserError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("{what}")]
    Io { what: String, source: std::io::Error },
    #[error(transparent)]
    Ports(#[from] ports::BindError),
    #[error("invalid port of the image: {0}")]
    Exposed(#[from] ports::PortError),
    #[error(transparent)]
    Hosts(#[from] options::HostsError),
    #[error("cannot join network of container {name}: {why}")]
    Join { name: String, why: String },
    #[error("ports cannot be published: {why}; {fix}")]
    NoPorts { why: String, fix: &'static str },
}
