//! What each kind of vertex does here: layers of images, RUN, COPY and ADD, WORKDIR.
//!
//! [`StoreWorker`] is the engine's worker over a store and a sandbox,
//! [`StoreCache`] its memory. `run` runs a command, `copy` copies files that `sources` brings. Not
//! here: deciding what to do (`plan`) and whether it must be done (`solve`).

mod cache;
pub mod copy;
mod error;
mod fetch;
mod parts;
mod run;
mod sources;
mod store_worker;

pub use cache::StoreCache;
pub use error::WorkerError;
pub use fetch::{FetchOptions, Fetcher, SecretOf};
pub use sources::Sources;
pub use store_worker::{StoreWorker, StoreWorkerOptions, Volume};
