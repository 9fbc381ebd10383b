//! What each kind of vertex does here: layers of images, RUN, COPY and ADD, WORKDIR.
//!
//! [`StoreWorker`] is the engine's worker over a store and a sandbox,
//! [`StoreCache`] its memory. `run` runs a command with its `mount`s
//! and `ssh` agents, `shell` opens a shell where one ran, `copy` copies
//! files that `sources` brings. Not here: deciding what to do (`plan`) and whether it must be done (`solve`).

mod cache;
pub mod copy;
mod error;
mod fetch;
mod mount;
mod parts;
mod run;
mod shell;
mod sources;
mod ssh;
mod step_options;
mod store_worker;
mod watch;

pub use cache::{EarlierBuilds, StoreCache};
pub use copy::CopyError;
pub use error::WorkerError;
pub use fetch::{FetchOptions, Fetcher, SecretOf};
pub use mount::{MAX_SECRET_BYTES, Secrets};
pub use shell::{BadBusybox, Busybox, NoBusybox, Place, Shell, ShellRequest, Word};
pub use sources::Sources;
pub use step_options::{AgentSource, SecretSource, StepOptions};
pub use store_worker::{StoreWorker, StoreWorkerOptions, Volume};
