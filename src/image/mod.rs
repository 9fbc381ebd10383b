//! The domain's words as types: digests, ids, references, platforms, configs, manifests.
//!
//! Pure: no files, no network, no clock. Manifest, index and descriptor are
//! those of the `oci-spec` crate; the config is ours, because docker's extra
//! fields and fields nobody knows yet must survive a round trip.

mod config;
mod digest;
mod file_digest;
mod platform;
mod reference;

pub use config::{ContainerConfig, Empty, Healthcheck, History, ImageConfig, RootFs};
pub use digest::{
    CacheKey, ChainDigest, ChainId, DiffId, Digest, DigestError, Hasher, ImageId, LayerDigest, OpDigest,
    SelectionDigest,
};
pub use file_digest::{FileDigest, FileDigestError, FileHasher, PIECE, PieceDigest};
pub use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError, is_path_component, is_tag};

use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of one layer on disk: 12 lower-case hex digits, made when the layer is.
///
/// It says nothing of the layer's content; DiffID and content digest are found by it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct SnapshotId(String);

impl SnapshotId {
    /// Makes an id of 48 random bits.
    pub fn from_bits(bits: u64) -> SnapshotId {
        SnapshotId(format!("{:012x}", bits & 0xffff_ffff_ffff))
    }

    /// Returns the 12 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SnapshotId {
    type Error = String;

    fn try_from(text: String) -> Result<SnapshotId, String> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        match text.len() == 12 && text.bytes().all(hex) {
            true => Ok(SnapshotId(text)),
            false => Err(format!("`{text}` is not a snapshot id")),
        }
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SnapshotId({})", self.0)
    }
}
