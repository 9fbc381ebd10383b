//! One layer from a stream of bytes: digested, unpacked, and kept as it came, in one pass.
//!
//! Not here: which layers, and where the bytes come from.

use std::io::{self, Read, Write};

use jiff::Timestamp;

use crate::image::{DiffId, Digest, Hasher, SnapshotId};
use crate::layer::{
    Compression, DigestOptions, LeftOut, Times, UnpackOptions, decompress, decompress_layer, digest_layer,
    unpack,
};
use crate::store::{
    BlobWriter, Draft, LayerBlob, Partial, SnapshotKind, SnapshotMeta, Store, StoreError, image_layer_digests,
};
use crate::sys::RootDir;

use super::ContentError;
use super::stream::{DigestReader, Tee};

/// What any layer of an image may unpack to, in bytes...
const FREELY_UNPACKED: u64 = 8 << 30;
/// ... and how many times its own length besides: what gzip can do at most is 1032. Zstandard can do ten
/// thousands, with which a file of nothing fills a disk.
const MOST_EXPANSION: u64 = 1100;

/// A layer that is in the store.
pub struct UnpackedLayer {
    pub layer: SnapshotId,
    pub diff_id: DiffId,
    /// What could not be put on disk, as rootless; the blob has it.
    pub left_out: LeftOut,
}

/// What the bytes of a layer must be.
pub struct ExpectedLayer {
    /// Of the bytes as they come.
    pub digest: Digest,
    pub size: u64,
    pub diff_id: DiffId,
}

/// Unpacks an archive of files that is no layer of an image.
pub fn receive_files(store: &Store, reader: impl Read) -> Result<UnpackedLayer, ContentError> {
    let options = UnpackOptions::files(store.options().xattrs);
    receive(store, reader, store.blob_writer()?, options, false, None)
}

/// Unpacks an archive that rbuild itself wrote, whose bytes can be made again.
pub fn receive_own_files(store: &Store, reader: impl Read) -> Result<UnpackedLayer, ContentError> {
    let options = UnpackOptions::files(store.options().xattrs);
    receive(store, reader, store.blob_writer()?, options, true, None)
}

/// Returns the layer of the store that these bytes would become, where that is certain without them.
///
/// A config may claim any DiffID: the store's layer is the one meant only where it came from the very
/// bytes that are named, or was packed to them.
pub fn already_there(store: &Store, expected: &ExpectedLayer) -> Result<Option<SnapshotId>, ContentError> {
    let Some(layer) = store.by_diff_id(&expected.diff_id)? else { return Ok(None) };
    if expected.digest == expected.diff_id.0 {
        let size = store.digests(&layer)?.map(|digests| digests.tar_size);
        return Ok((size == Some(expected.size)).then_some(layer));
    }
    let wanted = (expected.digest, expected.size);
    let kept = store.meta(&layer)?.and_then(|meta| meta.blob);
    let same = kept.is_some_and(|blob| (blob.digest, blob.size) == wanted)
        || store.packed(&layer)?.iter().any(|packed| (packed.digest, packed.size) == wanted);
    Ok(same.then_some(layer))
}

/// Unpacks a layer of an image; nothing is kept of one that is not what it should be.
pub fn receive_layer(
    store: &Store,
    reader: impl Read,
    expected: &ExpectedLayer,
) -> Result<SnapshotId, ContentError> {
    let options = UnpackOptions { end_marker: false, ..UnpackOptions::layer(store.options().xattrs) };
    Ok(receive(store, reader, store.blob_writer()?, options, false, Some(expected))?.layer)
}

/// Unpacks a layer of an image while it comes: what is there of its bytes, and then `rest`.
///
/// `rest` begins where `partial` ends. After an error the partial blob is the caller's to keep or discard:
/// whether the bytes are wrong or only did not all come, the caller knows. Once it is `Ok`, the blob is
/// published where it is needed. `cancelled` is asked with every piece that is read.
pub fn receive_partial(
    store: &Store,
    partial: &mut Partial<'_>,
    rest: &mut dyn Read,
    expected: &ExpectedLayer,
    cancelled: &dyn Fn() -> bool,
) -> Result<SnapshotId, ContentError> {
    let options = UnpackOptions { end_marker: false, ..UnpackOptions::layer(store.options().xattrs) };
    let reader = Cancellable { reader: partial.reader()?.chain(rest), cancelled };
    Ok(receive(store, reader, partial, options, false, Some(expected))?.layer)
}

/// Where the bytes go as they came.
trait Keep: Write + Send {
    fn digest(&self) -> Digest;
    fn size(&self) -> u64;
    /// Makes them a blob of the store.
    fn keep(self) -> Result<(Digest, u64), StoreError>;
}

impl Keep for BlobWriter<'_> {
    fn digest(&self) -> Digest {
        BlobWriter::digest(self)
    }

    fn size(&self) -> u64 {
        BlobWriter::size(self)
    }

    fn keep(self) -> Result<(Digest, u64), StoreError> {
        self.finish()
    }
}

impl Keep for &mut Partial<'_> {
    fn digest(&self) -> Digest {
        self.written_digest()
    }

    fn size(&self) -> u64 {
        self.written()
    }

    fn keep(self) -> Result<(Digest, u64), StoreError> {
        self.publish()?;
        Ok((self.written_digest(), self.written()))
    }
}

/// Fails once the caller gives up.
struct Cancellable<'a, R> {
    reader: R,
    cancelled: &'a dyn Fn() -> bool,
}

impl<R: Read> Read for Cancellable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (self.cancelled)() {
            true => Err(io::Error::other("stopped")),
            false => self.reader.read(buffer),
        }
    }
}

/// Fails once more bytes come than a layer may unpack to.
struct Bounded<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            let why = format!(
                "it unpacks to more than {} GiB and {MOST_EXPANSION} times its length",
                FREELY_UNPACKED >> 30
            );
            io::Error::new(io::ErrorKind::InvalidData, why)
        })?;
        Ok(count)
    }
}

fn receive(
    store: &Store,
    reader: impl Read,
    keep: impl Keep,
    options: UnpackOptions,
    is_ours: bool,
    expected: Option<&ExpectedLayer>,
) -> Result<UnpackedLayer, ContentError> {
    store.make_room(0)?;
    let draft = store.draft()?;
    let upper = RootDir::open(&draft.dir).map_err(StoreError::View)?;
    let most = expected
        .map_or(u64::MAX, |layer| FREELY_UNPACKED.saturating_add(layer.size.saturating_mul(MOST_EXPANSION)));
    // Another thread digests and writes what this one reads and unpacks.
    let (read, blob) = std::thread::scope(|scope| {
        let mut tee = Tee::new(reader, scope, keep).map_err(ContentError::Keep)?;
        let opened = match expected {
            Some(_) => decompress_layer(&mut tee),
            None => decompress(&mut tee),
        };
        let read = opened.and_then(|(packing, plain)| {
            let compression = packing.of_layer()?;
            let plain = Bounded { reader: plain, left: most };
            let mut plain = DigestReader::new(plain, compression != Compression::None);
            let unpacked = unpack(&mut plain, &upper, &options)?;
            Ok((compression, unpacked, plain.hasher.map(Hasher::finish), plain.count))
        });
        // What a decoder did not ask for: the blob must be all that came.
        let rest = if read.is_ok() { io::copy(&mut tee, &mut io::sink()).map(drop) } else { Ok(()) };
        let blob = tee.finish().map_err(ContentError::Keep)?;
        rest.map_err(ContentError::Read)?;
        Ok::<_, ContentError>((read.map_err(ContentError::Unpack)?, blob))
    })?;
    let (compression, unpacked, plain_digest, tar_size) = read;
    // Of what was not compressed the two digests are one.
    let diff_id = DiffId(plain_digest.unwrap_or_else(|| blob.digest()));
    if let Some(expected) = expected {
        expected.check(blob.digest(), blob.size(), diff_id)?;
        if unpacked.opaque_root {
            let why = "it hides all layers beneath it, which is not supported".to_owned();
            return Err(ContentError::Mismatch(why));
        }
    }
    if let Some(layer) = store.by_diff_id(&diff_id)? {
        let left_out = store.meta(&layer)?.map_or(LeftOut::default(), |meta| meta.left_out);
        return Ok(UnpackedLayer { layer, diff_id, left_out });
    }
    let mut meta = SnapshotMeta::new(SnapshotKind::Image, Timestamp::now());
    meta.left_out = unpacked.left_out;
    if !(is_ours && compression == Compression::None && is_remade(store, &draft, &diff_id)) {
        let (digest, size) = blob.keep()?;
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

impl ExpectedLayer {
    fn check(&self, digest: Digest, size: u64, diff_id: DiffId) -> Result<(), ContentError> {
        if (digest, size) != (self.digest, self.size) {
            let why = format!("its bytes are {digest} ({size} bytes), not {} ({})", self.digest, self.size);
            return Err(ContentError::Mismatch(why));
        }
        match diff_id == self.diff_id {
            true => Ok(()),
            false => Err(ContentError::Mismatch(format!(
                "uncompressed it is {diff_id}, and its config says {}",
                self.diff_id
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_layer_unpacks_to_is_bounded() {
        let read = |left| {
            let mut all = Vec::new();
            Bounded { reader: &b"0123456789"[..], left }.read_to_end(&mut all).map(|_| all.len())
        };
        assert_eq!(read(10).unwrap(), 10);
        let error = read(9).unwrap_err();
        assert!(error.to_string().contains("it unpacks to more than 8 GiB and 1100 times its length"));
    }

    #[test]
    fn a_caller_can_give_up() {
        let mut all = Vec::new();
        let mut reader = Cancellable { reader: &b"abc"[..], cancelled: &|| true };
        assert!(reader.read_to_end(&mut all).is_err());
        let mut reader = Cancellable { reader: &b"abc"[..], cancelled: &|| false };
        assert_eq!(reader.read_to_end(&mut all).unwrap(), 3);
    }
}
