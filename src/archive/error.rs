//! What can go wrong with archives, by step.

use std::io;
use std::path::PathBuf;

use crate::content::ContentError;
use crate::layer::LayerError;
use crate::store::StoreError;

/// An error of reading or writing an archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error("cannot unpack the archive")]
    Unpack(#[source] LayerError),
    #[error("cannot read the directory")]
    Directory(#[source] LayerError),
    #[error("cannot read the files")]
    Files(#[source] LayerError),
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    #[error("`{}` is not an OCI image layout that can be used: {why}", path.display())]
    Layout { path: PathBuf, why: String },
    #[error("stopped")]
    Stopped,
    #[error("{0}")]
    Unusable(String),
    #[error("{0}")]
    NoImages(String),
    #[error("its layer `{file}`")]
    Layer { file: String, source: ContentError },
    #[error("cannot open `{}`", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot keep the archive in `{}` while it is read, after {written} bytes", path.display())]
    Spool { path: PathBuf, written: u64, source: io::Error },
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    #[error("cannot write `{}`", path.display())]
    WriteFile { path: PathBuf, source: io::Error },
}
