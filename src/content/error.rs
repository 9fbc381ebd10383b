//! What can go wrong with the bytes of images, by step.

use std::io;
use std::path::PathBuf;

use crate::image::{DiffId, Digest, ImageId, SnapshotId};
use crate::layer::LayerError;
use crate::store::StoreError;

/// An error of receiving or giving away parts of images.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot unpack the archive")]
    Unpack(#[source] LayerError),
    #[error("cannot keep the archive in the store")]
    Keep(#[source] io::Error),
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    #[error("a layer is not what its name says: {0}")]
    Mismatch(String),
    #[error("{0}")]
    Manifest(String),
    #[error("cannot read layer {id}")]
    Layer { id: SnapshotId, source: LayerError },
    #[error("cannot open layer {id}")]
    Open { id: SnapshotId, source: io::Error },
    #[error("cannot read the blob {digest} of a layer")]
    Blob { digest: Digest, source: io::Error },
    #[error("layer {id} of image {} is not known by its digest", image.short())]
    NoDigest { image: ImageId, id: SnapshotId },
    #[error("layer {id} is broken: its files give {found}, not {expected}")]
    WrongLayer { id: SnapshotId, expected: DiffId, found: DiffId },
    #[error("cannot compress layer {id}")]
    Compress { id: SnapshotId, source: io::Error },
    #[error("cannot write a temporary file `{}`", path.display())]
    Temporary { path: PathBuf, source: io::Error },
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
}
