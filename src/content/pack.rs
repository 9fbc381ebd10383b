//! The blobs of an export: where the bytes of each come from.
//!
//! A layer whose bytes are kept in the form that is wanted is taken as it is.
//! Any other is made of the kept blob or of the files; compressed ones first
//! go to a temporary file, since their digest is their name. Whatever is
//! made is checked against the layer's DiffID.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::image::{DiffId, Digest, ImageId, MediaType, SnapshotId};
use crate::layer::{Compression, LayerError, compress, decompress, write_layer};
use crate::store::{LayerBlob, Store, TempDir};
use crate::sys::RootDir;

use super::ArchiveError;
use super::stream::DigestWriter;

/// One blob of an archive.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub digest: Digest,
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
}

/// A layer to be exported.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub id: SnapshotId,
    pub diff_id: DiffId,
    tar_size: u64,
    blob: Option<LayerBlob>,
}

impl Layer {
    /// Finds what is needed to write a layer of an image.
    pub fn find(store: &Store, image: &ImageId, id: &SnapshotId) -> Result<Layer, ArchiveError> {
        let no_digest = || ArchiveError::NoDigest { image: *image, id: id.clone() };
        let digests = store.digests(id)?.ok_or_else(no_digest)?;
        let blob = store.meta(id)?.and_then(|meta| meta.blob);
        Ok(Layer { id: id.clone(), diff_id: digests.diff_id, tar_size: digests.tar_size, blob })
    }
}

impl Piece {
    /// Makes a piece of bytes in memory.
    pub fn of_bytes(bytes: Vec<u8>, media_type: MediaType) -> Piece {
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        Piece { digest, size, media_type, source: Source::Bytes(bytes) }
    }

    /// Writes the bytes; they have the digest and size that were told, or it is an error.
    pub fn write(&self, store: &Store, out: &mut dyn Write) -> Result<(), ArchiveError> {
        match &self.source {
            Source::Bytes(bytes) => out.write_all(bytes).map_err(ArchiveError::Write),
            Source::Stored(digest) => {
                let mut reader = store.open_blob(digest)?;
                copy(
                    &mut reader,
                    out,
                    |source| ArchiveError::Blob { digest: *digest, source },
                    ArchiveError::Write,
                )
            }
            Source::Tar(layer) => write_tar(store, layer, out, ArchiveError::Write),
            Source::File(path) => {
                let failed = |source| ArchiveError::WriteFile { path: path.clone(), source };
                copy(&mut File::open(path).map_err(failed)?, out, ArchiveError::Read, ArchiveError::Write)
            }
        }
    }
}

/// Finds or makes the pieces of layers, in their order; compressing goes on in parallel.
///
/// `directory` holds what is made, and must live as long as the pieces.
pub(super) fn layer_pieces(
    store: &Store,
    layers: &[Layer],
    compression: Compression,
    level: Option<i32>,
    directory: &TempDir,
) -> Result<Vec<Piece>, ArchiveError> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Option<Result<Piece, ArchiveError>>>> =
        Mutex::new(layers.iter().map(|_| None).collect());
    let slots = || done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(layer) = layers.get(index) else { break };
            let path = directory.path().join(index.to_string());
            let piece = layer_piece(store, layer, compression, level, path);
            let failed = piece.is_err();
            slots()[index] = Some(piece);
            if failed {
                // The others need not start; which error is told does not matter.
                next.store(layers.len(), Ordering::Relaxed);
            }
        }
    };
    let threads = match compression {
        Compression::None => 1,
        _ => std::thread::available_parallelism().map_or(1, usize::from).min(layers.len()),
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    let results = std::mem::take(&mut *slots());
    // Layers are taken in order, so what was not begun stands behind the error.
    results.into_iter().map(|result| result.expect("one that was not begun stands behind an error")).collect()
}

fn layer_piece(
    store: &Store,
    layer: &Layer,
    compression: Compression,
    level: Option<i32>,
    path: PathBuf,
) -> Result<Piece, ArchiveError> {
    let media_type = match compression {
        Compression::None => MediaType::ImageLayer,
        Compression::Gzip => MediaType::ImageLayerGzip,
        Compression::Zstd => MediaType::ImageLayerZstd,
    };
    if let Some(blob) = &layer.blob
        && blob.compression == compression
        && store.blob_size(&blob.digest) == Some(blob.size)
    {
        let source = Source::Stored(blob.digest);
        return Ok(Piece { digest: blob.digest, size: blob.size, media_type, source });
    }
    if compression == Compression::None {
        let source = Source::Tar(layer.clone());
        return Ok(Piece { digest: layer.diff_id.0, size: layer.tar_size, media_type, source });
    }
    let failed = |source| ArchiveError::Compress { id: layer.id.clone(), source };
    let file = File::create_new(&path).map_err(failed)?;
    let file = DigestWriter::new(BufWriter::with_capacity(1 << 16, file));
    let mut encoder = compress(compression, level, file).map_err(failed)?;
    write_tar(store, layer, &mut encoder, failed)?;
    let (mut file, digest, size) = encoder.finish().map_err(failed)?.finish();
    file.flush().map_err(failed)?;
    Ok(Piece { digest, size, media_type, source: Source::File(path) })
}

/// Writes a layer's uncompressed tar and checks it.
fn write_tar(
    store: &Store,
    layer: &Layer,
    out: &mut dyn Write,
    failed: impl Fn(io::Error) -> ArchiveError,
) -> Result<(), ArchiveError> {
    let mut checked = BufWriter::with_capacity(1 << 16, DigestWriter::new(out));
    match &layer.blob {
        Some(blob) => {
            let read = |source| ArchiveError::Blob { digest: blob.digest, source };
            let mut reader = store.open_blob(&blob.digest)?;
            let (_, mut plain) = decompress(&mut reader)
                .map_err(|source| ArchiveError::Layer { id: layer.id.clone(), source })?;
            copy(&mut plain, &mut checked, read, &failed)?;
        }
        None => {
            let id = || layer.id.clone();
            let open = |source| ArchiveError::Open { id: id(), source };
            let upper = RootDir::open(&store.snapshot_dir(&layer.id)).map_err(open)?;
            write_layer(&upper, store.options().xattrs, &mut checked).map_err(|error| match error {
                LayerError::Write { source } => failed(source),
                source => ArchiveError::Layer { id: id(), source },
            })?;
        }
    }
    let (_, digest, _) = checked.into_inner().map_err(|e| failed(e.into_error()))?.finish();
    if digest != layer.diff_id.0 {
        return Err(ArchiveError::WrongLayer {
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
    unreadable: impl Fn(io::Error) -> ArchiveError,
    unwritable: impl Fn(io::Error) -> ArchiveError,
) -> Result<(), ArchiveError> {
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
