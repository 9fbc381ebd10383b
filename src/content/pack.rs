//! The blob of a layer that leaves: where its bytes come from.
//!
//! A layer whose bytes are kept in a form that will do is taken as it is. Any other is made of the kept
//! blob or of the files; a compressed one first goes to a temporary file, since its digest is its name.
//! What it came to is remembered, so that the next time it is described without compressing it, and made
//! again only where the bytes are asked for. Whatever is made is checked against the layer's DiffID.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::image::{DiffId, Digest, ImageId, MediaType, SnapshotId};
use crate::layer::{Compression, LayerError, compress, decompress, write_layer};
use crate::store::{LayerBlob, PackedLayer, Store, TempDir};
use crate::sys::RootDir;

use super::ContentError;
use super::stream::DigestWriter;

/// So many layers are packed at once at most: one alone keeps several threads of the compressor busy.
const MOST_AT_ONCE: usize = 4;
/// The stack of a thread that packs, in bytes; it counts as memory where that is limited.
const STACK: usize = 512 * 1024;

/// How layers are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    pub compression: Compression,
    /// The compression's own scale; `None` is its default.
    pub level: Option<i32>,
    /// Whether a layer that is kept in another compression is packed anew, too. One that is kept
    /// uncompressed is packed in any case.
    pub force: bool,
}

/// One blob of an image that leaves; its bytes come when they are asked for.
#[derive(Debug, Clone)]
pub struct Blob {
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    pub media_type: MediaType,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Bytes(Vec<u8>),
    /// A blob of the store, as it is.
    Stored(Digest),
    /// The layer's tar, made when it is written.
    Tar(Layer),
    /// A compressed layer that was made before.
    File(PathBuf),
    /// A compressed layer whose digest is remembered, made when it is written.
    Again(Layer, Packing),
}

/// A layer that leaves.
#[derive(Debug, Clone)]
pub struct Layer {
    pub id: SnapshotId,
    pub diff_id: DiffId,
    tar_size: u64,
    blob: Option<LayerBlob>,
}

impl Layer {
    /// Finds what is needed to write a layer of an image.
    pub fn find(store: &Store, image: &ImageId, id: &SnapshotId) -> Result<Layer, ContentError> {
        let no_digest = || ContentError::NoDigest { image: *image, id: id.clone() };
        let digests = store.digests(id)?.ok_or_else(no_digest)?;
        let blob = store.meta(id)?.and_then(|meta| meta.blob);
        Ok(Layer { id: id.clone(), diff_id: digests.diff_id, tar_size: digests.tar_size, blob })
    }

    /// Returns the length of its tar, in bytes.
    pub fn tar_size(&self) -> u64 {
        self.tar_size
    }

    /// Tells whether it is packed as it is kept, so that nothing must be compressed.
    pub fn blob_at_hand(&self, store: &Store) -> bool {
        self.blob.as_ref().is_some_and(|blob| {
            blob.compression != Compression::None && store.blob_size(&blob.digest) == Some(blob.size)
        })
    }

    /// Returns the blob of these very bytes, if they are at hand or can be made again.
    pub(super) fn as_it_was(
        &self,
        store: &Store,
        digest: &Digest,
        size: u64,
        media_type: &MediaType,
    ) -> Result<Option<Blob>, ContentError> {
        let blob = |source| Some(Blob { digest: *digest, size, media_type: media_type.clone(), source });
        if let Some(kept) = &self.blob
            && (kept.digest, kept.size) == (*digest, size)
            && store.blob_size(digest) == Some(size)
        {
            return Ok(blob(Source::Stored(*digest)));
        }
        if self.diff_id.0 == *digest {
            return Ok(blob(Source::Tar(self.clone())));
        }
        let packed = store.packed(&self.id)?.into_iter().find(|p| (p.digest, p.size) == (*digest, size));
        Ok(packed.and_then(|p| {
            let packing = Packing { compression: p.compression, level: p.level, force: true };
            blob(Source::Again(self.clone(), packing))
        }))
    }
}

impl Blob {
    /// Makes a piece of bytes in memory.
    pub fn of_bytes(bytes: Vec<u8>, media_type: MediaType) -> Blob {
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        Blob { digest, size, media_type, source: Source::Bytes(bytes) }
    }

    /// Tells whether writing it compresses it, with the time and memory that takes.
    pub fn is_packed_when_written(&self) -> bool {
        matches!(self.source, Source::Again(..))
    }

    /// Returns the name under which the store has these very bytes, if it has them.
    pub fn stored(&self) -> Option<&Digest> {
        match &self.source {
            Source::Stored(digest) => Some(digest),
            _ => None,
        }
    }

    /// Returns the file that was made for it, whole, if one was.
    pub fn made_file(&self) -> Option<&Path> {
        match &self.source {
            Source::File(path) => Some(path),
            _ => None,
        }
    }

    /// Gives up what was made on disk for this blob alone; it cannot be written any more.
    pub fn discard(self) {
        if let Source::File(path) = self.source {
            // What stays goes with its directory.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Returns its descriptor: image-spec, "OCI Content Descriptors".
    pub fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.size })
    }

    /// Writes the bytes; they have the digest and size that were told, or it is an error.
    pub fn write(&self, store: &Store, out: &mut dyn Write) -> Result<(), ContentError> {
        match &self.source {
            Source::Bytes(bytes) => out.write_all(bytes).map_err(ContentError::Write),
            Source::Stored(digest) => {
                let mut reader = store.open_blob(digest)?;
                copy(
                    &mut reader,
                    out,
                    |source| ContentError::Blob { digest: *digest, source },
                    ContentError::Write,
                )
            }
            Source::Tar(layer) => write_tar(store, layer, out, ContentError::Write),
            Source::Again(layer, packing) => {
                let out = DigestWriter::new(out);
                let mut encoder =
                    compress(packing.compression, packing.level, out).map_err(ContentError::Write)?;
                write_tar(store, layer, &mut encoder, ContentError::Write)?;
                let (_, digest, _) = encoder.finish().map_err(ContentError::Write)?.finish();
                match digest == self.digest {
                    true => Ok(()),
                    false => Err(ContentError::Mismatch(format!(
                        "layer {} was packed as {}, and packed again it is {digest}",
                        layer.id, self.digest
                    ))),
                }
            }
            Source::File(path) => {
                let failed = |source| ContentError::Temporary { path: path.clone(), source };
                copy(&mut File::open(path).map_err(failed)?, out, ContentError::Read, ContentError::Write)
            }
        }
    }
}

/// Finds or makes the blobs of layers, in their order; compressing goes on in parallel.
///
/// `directory` holds what is made, and must live as long as the blobs.
pub fn pack_layers(
    store: &Store,
    layers: &[Layer],
    packing: &Packing,
    directory: &TempDir,
) -> Result<Vec<Blob>, ContentError> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Option<Result<Blob, ContentError>>>> =
        Mutex::new(layers.iter().map(|_| None).collect());
    let slots = || done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(layer) = layers.get(index) else { break };
            let blob = pack_layer(store, layer, packing, directory);
            let failed = blob.is_err();
            slots()[index] = Some(blob);
            if failed {
                // The others need not start; which error is told does not matter.
                next.store(layers.len(), Ordering::Relaxed);
            }
        }
    };
    let threads = match packing.compression {
        Compression::None => 1,
        _ => std::thread::available_parallelism().map_or(1, usize::from).min(MOST_AT_ONCE).min(layers.len()),
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            let thread = std::thread::Builder::new().name("pack".to_owned()).stack_size(STACK);
            // Where no more can be had, those that are there do the work.
            let _ = thread.spawn_scoped(scope, work);
        }
        work();
    });
    let results = std::mem::take(&mut *slots());
    // Layers are taken in order, so what was not begun stands behind the error.
    results.into_iter().map(|result| result.expect("one that was not begun stands behind an error")).collect()
}

/// Finds or makes the blob of one layer. `directory` holds what is made, and must live as long as the blob.
pub fn pack_layer(
    store: &Store,
    layer: &Layer,
    packing: &Packing,
    directory: &TempDir,
) -> Result<Blob, ContentError> {
    pack_layer_until(store, layer, packing, directory, &|| false)
}

/// Does [`pack_layer`], asking `cancel` often; what it stops is an error, and leaves no file.
pub fn pack_layer_until(
    store: &Store,
    layer: &Layer,
    packing: &Packing,
    directory: &TempDir,
    cancel: &dyn Fn() -> bool,
) -> Result<Blob, ContentError> {
    let Packing { compression, level, force } = *packing;
    let media_type = media_type(compression);
    if let Some(blob) = &layer.blob
        && (blob.compression == compression || (!force && blob.compression != Compression::None))
        && store.blob_size(&blob.digest) == Some(blob.size)
    {
        let (source, media_type) = (Source::Stored(blob.digest), self::media_type(blob.compression));
        return Ok(Blob { digest: blob.digest, size: blob.size, media_type, source });
    }
    if compression == Compression::None {
        let source = Source::Tar(layer.clone());
        return Ok(Blob { digest: layer.diff_id.0, size: layer.tar_size, media_type, source });
    }
    let asked = |there: &&PackedLayer| (there.compression, there.level) == (compression, level);
    if let Some(packed) = store.packed(&layer.id)?.iter().find(asked) {
        let source = Source::Again(layer.clone(), *packing);
        return Ok(Blob { digest: packed.digest, size: packed.size, media_type, source });
    }
    let failed = |source| ContentError::Compress { id: layer.id.clone(), source };
    let path = directory.path().join(format!("{}.{}", layer.id, extension(compression)));
    let file = File::create(&path).map_err(failed)?;
    let file = DigestWriter::new(BufWriter::with_capacity(1 << 16, file));
    let mut encoder = compress(compression, level, file).map_err(failed)?;
    let written = write_tar(store, layer, &mut Stoppable { out: &mut encoder, cancel }, failed);
    written.inspect_err(|_| {
        let _ = std::fs::remove_file(&path);
    })?;
    let (mut file, digest, size) = encoder.finish().map_err(failed)?.finish();
    file.flush().map_err(failed)?;
    store.note_packed(&layer.id, PackedLayer { digest, size, compression, level })?;
    Ok(Blob { digest, size, media_type, source: Source::File(path) })
}

/// Fails once the caller wants to stop.
struct Stoppable<'a, W> {
    out: &'a mut W,
    cancel: &'a dyn Fn() -> bool,
}

impl<W: Write> Write for Stoppable<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match (self.cancel)() {
            // Not `Interrupted`, which would be tried again.
            true => Err(io::Error::other("stopped")),
            false => self.out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn media_type(compression: Compression) -> MediaType {
    match compression {
        Compression::None => MediaType::ImageLayer,
        Compression::Gzip => MediaType::ImageLayerGzip,
        Compression::Zstd => MediaType::ImageLayerZstd,
    }
}

fn extension(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "tar",
        Compression::Gzip => "tar.gz",
        Compression::Zstd => "tar.zst",
    }
}

/// Writes a layer's uncompressed tar and checks it.
fn write_tar(
    store: &Store,
    layer: &Layer,
    out: &mut dyn Write,
    failed: impl Fn(io::Error) -> ContentError,
) -> Result<(), ContentError> {
    let read = |blob: &LayerBlob| {
        let digest = blob.digest;
        move |source| ContentError::Blob { digest, source }
    };
    if let Some(blob) = &layer.blob
        && blob.digest == layer.diff_id.0
    {
        // It is the tar, and its reader checks the digest.
        return copy(&mut store.open_blob(&blob.digest)?, out, read(blob), failed);
    }
    let mut checked = BufWriter::with_capacity(1 << 16, DigestWriter::new(out));
    match &layer.blob {
        Some(blob) => {
            let mut reader = store.open_blob(&blob.digest)?;
            let (_, mut plain) = decompress(&mut reader)
                .map_err(|source| ContentError::Layer { id: layer.id.clone(), source })?;
            copy(&mut plain, &mut checked, read(blob), &failed)?;
        }
        None => {
            let id = || layer.id.clone();
            let open = |source| ContentError::Open { id: id(), source };
            let upper = RootDir::open(&store.snapshot_dir(&layer.id)).map_err(open)?;
            write_layer(&upper, store.options().xattrs, &mut checked).map_err(|error| match error {
                LayerError::Write { source } => failed(source),
                source => ContentError::Layer { id: id(), source },
            })?;
        }
    }
    let (_, digest, _) = checked.into_inner().map_err(|e| failed(e.into_error()))?.finish();
    if digest != layer.diff_id.0 {
        return Err(ContentError::WrongLayer {
            id: layer.id.clone(),
            expected: layer.diff_id,
            found: DiffId(digest),
        });
    }
    Ok(())
}

/// Copies, telling errors of the reader from those of the writer.
fn copy(
    reader: &mut impl Read,
    out: &mut dyn Write,
    unreadable: impl Fn(io::Error) -> ContentError,
    unwritable: impl Fn(io::Error) -> ContentError,
) -> Result<(), ContentError> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => out.write_all(&buffer[..count]).map_err(&unwritable)?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(unreadable(e)),
        }
    }
}
