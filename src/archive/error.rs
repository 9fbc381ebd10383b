//! What can go wrong with archives, by step.

use std::io;
use std::path::PathBuf;

use crate::image::{DiffId, Digest, ImageId, SnapshotId};
use crate::layer::LayerError;
use crate::store::StoreError;

/// An error of reading or writing an archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot unpack the archive")]
    Unpack(#[source] LayerError),
    #[error("cannot read the directory")]
    Directory(#[source] LayerError),
    #[error("cannot keep the archive in the store")]
    Keep(#[source] io::Error),
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
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
    #[error("`{}` is not an OCI image layout that can be used: {why}", path.display())]
    Layout { path: PathBuf, why: String },
    #[error("a layer is not what its name says: {0}")]
    Mismatch(String),
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    #[error("cannot write the archive `{}`", path.display())]
    WriteFile { path: PathBuf, source: io::Error },
}
