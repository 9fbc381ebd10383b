//! Images as manifests and blobs, both ways: what archives, registries and caches have in common.
//!
//! `receive` makes a verified layer of a stream of bytes; `manifest` reads manifests and indexes that
//! somebody else wrote, and chooses a platform; `pack` finds or makes the blob of a layer that leaves;
//! `parts` is an image as manifest, config and layers; `stream` has readers and writers that look at
//! what passes. Not here: where the bytes come from and go to (`archive`, `registry`), a layer's own tar
//! (`layer`), what is kept (`store`).

mod error;
mod manifest;
mod pack;
mod parts;
mod receive;
mod stream;

pub use error::ContentError;
pub use manifest::{Document, METADATA_LIMIT, choose, is_layer_type, read_document};
pub use pack::{Blob, Layer, Packing, pack_layer, pack_layer_until, pack_layers};
pub use parts::{ManifestOptions, config_blob, manifest_blob, original_parts};
pub use receive::{
    ExpectedLayer, UnpackedLayer, already_there, receive_files, receive_layer, receive_own_files,
    receive_partial,
};
pub use stream::{DigestReader, DigestWriter, Tee};
