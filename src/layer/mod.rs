//! Layers: from an overlay upper directory to a tar stream and back.
//!
//! `walk` reads a directory in one fixed order, `tar_write` makes the
//! deterministic tar of it and `digest` both digests in the same pass, `follow` while the layer is being written;
//! `tar_read` reads foreign archives (`tar_fields` their fields) and `unpack`
//! puts them on disk through [`RootDir`](crate::sys::RootDir); `root` keeps the
//! metadata of a layer's top directory; `view` writes what layers look like
//! together as one tar, with what an ordinary user's disk lacks (`missing`), `subtree` any one file or
//! directory under a name of the caller's;
//! `merge` puts layers onto a tree of files where nothing can be mounted, `difference` makes a layer of
//! what changed there since (`stamps`), `from_fuse` of what fuse-overlayfs leaves, both without the
//! mount points of the step (`points`);
//! `compress` is gzip (`gzip` writes it, on the threads of `gzip_pool`) and zstd. Not here: where layers are kept (`store`), which
//! layers make an image (`build`), and OCI or docker archives (`archive`). What
//! the digests cover: `docs/layer-digest.md`.

mod clamp;
mod compress;
mod difference;
mod digest;
mod entry;
mod error;
mod follow;
mod from_fuse;
mod gzip;
mod gzip_pool;
mod incompressible;
mod merge;
mod missing;
mod points;
mod root;
mod stamps;
mod subtree;
mod tar_fields;
mod tar_read;
mod tar_write;
mod unpack;
mod view;
mod walk;

#[cfg(test)]
mod difference_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod round_trip_tests;
#[cfg(test)]
mod test_archive;

pub use clamp::clamp_times;
pub use compress::{
    Compression, Decoder, Encoder, Packing, as_layer, compress, decompress, decompress_layer,
};
pub use difference::write_difference;
pub use digest::{ContentHasher, DigestOptions, LayerDigests, LayerHasher, Times, digest_layer};
pub use entry::{Entry, Kind};
pub use error::LayerError;
pub use follow::{Announced, Becomes, Follower, Metadata, Writing};
pub use from_fuse::from_fuse_overlayfs;
pub use merge::{Become, merge_layer};
pub use missing::Missing;
pub use root::inherit_root;
pub use stamps::Stamps;
pub use subtree::{Subtree, SubtreeOptions, write_subtree};
pub use tar_fields::is_tar_header;
pub use tar_read::{EntryKind, Limits, TarEntry, TarReader};
pub use tar_write::write_layer;
pub use unpack::{Existing, LeftOut, UnpackOptions, Unpacked, Whiteouts, unpack};
pub use view::{ViewOptions, write_view};
