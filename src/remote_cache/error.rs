//! Why a cache elsewhere could not be read or written.

use std::io;
use std::path::PathBuf;

use crate::content::ContentError;
use crate::image::{DiffId, Digest};
use crate::registry::RegistryError;
use crate::report::chain;
use crate::store::StoreError;

/// An error of reading or writing a cache elsewhere.
#[derive(Debug, thiserror::Error)]
pub enum RemoteCacheError {
    #[error("{}", chain(.0))]
    Registry(#[from] RegistryError),
    #[error("{}", chain(.0))]
    Content(#[from] ContentError),
    #[error("{}", chain(.0))]
    Store(#[from] StoreError),
    #[error("the directory `{}` cannot be used as a cache: {why}", path.display())]
    Layout { path: PathBuf, why: String },
    /// There is something, and it is no cache of ours.
    #[error("{0}")]
    Format(String),
    #[error("the blob {digest} has other bytes than its name says")]
    Digest { digest: Digest },
    #[error("the blob {digest} cannot be read: {source}")]
    Blob { digest: Digest, source: io::Error },
    #[error("the cache has no files of the layer {0}")]
    NoBlob(DiffId),
    #[error("cannot write `{}`: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("stopped")]
    Cancelled,
}
