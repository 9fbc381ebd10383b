//! Caches that others filled: what the engine asks of them, and what it believes.
//!
//! They are asked with *portable* keys, which machines agree on: a layer of an image counts by its
//! DiffID, that of a step by the content digest of whoever ran it. What they answer is their word; the
//! keys of this store are never made of it (`docs/remote-cache.md`). Not here: where they are, their
//! format (`remote_cache`).

use crate::image::{
    CacheKey, ChainDigest, Digest, Hasher, LayerDigest, OpDigest, SelectionDigest, SnapshotId,
};

use super::cancel::Cancel;
use super::traits::CacheError;

/// The caches of elsewhere that a build names.
pub trait Imports: Sync {
    /// Tells whether any record may have this operation; `false` is certain.
    fn has_op(&self, op: &OpDigest) -> bool;

    /// Returns what is known under a portable key.
    fn lookup(&self, op: &OpDigest, key: &CacheKey) -> Option<Imported>;

    /// Returns what a selection ([`selection_name`]) is said to come to.
    fn selection(&self, name: &Digest) -> Option<SelectionDigest>;

    /// Tells whether a layer's files are on the disk.
    fn is_here(&self, layer: &SnapshotId) -> bool;

    /// Tells whether the files of a layer can be had; those of one that is here can.
    fn can_be_had(&self, layer: &SnapshotId) -> bool;

    /// Brings the files of layers here; returns the ids that the disk knows them by, in order.
    ///
    /// A layer that did not come from a cache of elsewhere keeps its id.
    fn bring(&self, layers: &[SnapshotId], cancel: &Cancel) -> Result<Vec<SnapshotId>, CacheError>;
}

/// The result of a step, as a cache of elsewhere tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// `None` when the step changed nothing.
    pub layer: Option<ImportedLayer>,
    /// When it was done, in milliseconds since 1970.
    pub created_unix_ms: i64,
    /// The cache, as the user named it.
    pub source: String,
}

/// A layer that a cache of elsewhere speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedLayer {
    /// Stands for it in this build; its files may not be here ([`Imports::bring`]).
    pub snapshot: SnapshotId,
    /// Follows from its DiffID, so that it is true whatever the cache says.
    pub content: LayerDigest,
    /// The content digest of whoever ran the step: the cache's word.
    pub portable: LayerDigest,
}

/// Names what an input's selection comes to, wherever it is computed: `reads` is
/// [`super::Worker::reads`], `state` the portable chain of what is read.
pub fn selection_name(state: &ChainDigest, reads: &Digest) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(b"rbuild selection of v2");
    hasher.update(state.0.as_bytes());
    hasher.update(reads.as_bytes());
    hasher.finish()
}
