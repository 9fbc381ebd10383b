//! One layer from a stream of bytes: digested, unpacked, and kept as it came, in one pass.
//!
//! Not here: which layers (`import`, `layout`).

use std::io::{self, Read};

use jiff::Timestamp;

use crate::image::{DiffId, Digest, Hasher, SnapshotId};
use crate::layer::{
    Compression, DigestOptions, LeftOut, Times, UnpackOptions, decompress, digest_layer, unpack,
};
use crate::store::{Draft, LayerBlob, SnapshotKind, SnapshotMeta, Store, StoreError, image_layer_digests};
use crate::sys::RootDir;

use super::ArchiveError;
use super::stream::{DigestReader, Tee};

/// A layer that is in the store.
pub(super) struct UnpackedLayer {
    pub(super) layer: SnapshotId,
    pub(super) diff_id: DiffId,
    /// What could not be put on disk, as rootless; the blob has it.
    pub(super) left_out: LeftOut,
}

/// What the bytes of a layer must be.
pub(super) struct Expected {
    /// Of the bytes as they come.
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) diff_id: DiffId,
}

/// Unpacks an archive of files that is no layer of an image.
pub(super) fn import_layer(store: &Store, reader: impl Read) -> Result<UnpackedLayer, ArchiveError> {
    receive(store, reader, UnpackOptions::files(store.options().xattrs), false, None)
}

/// Unpacks an archive that rbuild itself wrote, whose bytes can be made again.
pub(super) fn import_own_layer(store: &Store, reader: impl Read) -> Result<UnpackedLayer, ArchiveError> {
    receive(store, reader, UnpackOptions::files(store.options().xattrs), true, None)
}

/// Unpacks a layer of an image; nothing is kept of one that is not what it should be.
pub(super) fn unpack_layer(
    store: &Store,
    reader: impl Read,
    expected: &Expected,
) -> Result<SnapshotId, ArchiveError> {
    let options = UnpackOptions::layer(store.options().xattrs);
    Ok(receive(store, reader, options, false, Some(expected))?.layer)
}

fn receive(
    store: &Store,
    reader: impl Read,
    options: UnpackOptions,
    is_ours: bool,
    expected: Option<&Expected>,
) -> Result<UnpackedLayer, ArchiveError> {
    let draft = store.draft()?;
    let upper = RootDir::open(&draft.dir).map_err(StoreError::View)?;
    let blob = store.blob_writer()?;
    // Another thread digests and writes what this one reads and unpacks.
    let (read, blob) = std::thread::scope(|scope| {
        let mut tee = Tee::new(reader, scope, blob).map_err(ArchiveError::Keep)?;
        let read = decompress(&mut tee).and_then(|(packing, plain)| {
            let compression = packing.of_layer()?;
            let mut plain = DigestReader::new(plain, compression != Compression::None);
            let unpacked = unpack(&mut plain, &upper, &options)?;
            Ok((compression, unpacked, plain.hasher.map(Hasher::finish), plain.count))
        });
        // What a decoder did not ask for: the blob must be all that came.
        let rest = if read.is_ok() { io::copy(&mut tee, &mut io::sink()).map(drop) } else { Ok(()) };
        let blob = tee.finish().map_err(ArchiveError::Keep)?;
        rest.map_err(ArchiveError::Read)?;
        Ok::<_, ArchiveError>((read.map_err(ArchiveError::Unpack)?, blob))
    })?;
    let (compression, unpacked, plain_digest, tar_size) = read;
    // Of what was not compressed the two digests are one.
    let diff_id = DiffId(plain_digest.unwrap_or_else(|| blob.digest()));
    if let Some(expected) = expected {
        expected.check(blob.digest(), blob.size(), diff_id)?;
        if unpacked.opaque_root {
            let why = "it hides all layers beneath it, which is not supported".to_owned();
            return Err(ArchiveError::Mismatch(why));
        }
    }
    if let Some(layer) = store.by_diff_id(&diff_id)? {
        let left_out = store.meta(&layer)?.map_or(LeftOut::default(), |meta| meta.left_out);
        return Ok(UnpackedLayer { layer, diff_id, left_out });
    }
    let mut meta = SnapshotMeta::new(SnapshotKind::Image, Timestamp::now());
    meta.left_out = unpacked.left_out;
    if !(is_ours && compression == Compression::None && is_remade(store, &draft, &diff_id)) {
        let (digest, size) = blob.finish()?;
        meta.blob = Some(LayerBlob { digest, size, compression });
    }
    let digests = image_layer_digests(diff_id, tar_size, unpacked.bytes, unpacked.entries);
    let left_out = meta.left_out;
    let id = store.commit(draft, meta)?;
    let layer = store.set_digests(&id, &digests)?;
    Ok(UnpackedLayer { layer, diff_id, left_out })
}

/// Tells whether the very bytes can be made again from the files, so that they need not be kept.
fn is_remade(store: &Store, draft: &Draft, diff_id: &DiffId) -> bool {
    let options = DigestOptions { xattrs: store.options().xattrs, times: Times::Ignore, below: None };
    RootDir::open(&draft.dir)
        .ok()
        .and_then(|upper| digest_layer(&upper, &options).ok())
        .is_some_and(|digests| digests.diff_id == *diff_id)
}

impl Expected {
    fn check(&self, digest: Digest, size: u64, diff_id: DiffId) -> Result<(), ArchiveError> {
        if (digest, size) != (self.digest, self.size) {
            let why = format!("its bytes are {digest} ({size} bytes), not {} ({})", self.digest, self.size);
            return Err(ArchiveError::Mismatch(why));
        }
        match diff_id == self.diff_id {
            true => Ok(()),
            false => Err(ArchiveError::Mismatch(format!(
                "uncompressed it is {diff_id}, and its config says {}",
                self.diff_id
            ))),
        }
    }
}
