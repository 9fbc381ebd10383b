//! A plain tar, or a directory, becomes an image of one layer.
//!
//! One pass: the bytes as they come are kept as a blob, from which the layer
//! can be exported exactly; uncompressed they are digested and unpacked.

use std::io::{self, BufWriter, PipeWriter, Read};
use std::path::Path;

use jiff::Timestamp;

use crate::image::{DiffId, Digest, History, ImageConfig, ImageId, Reference, RootFs, SnapshotId};
use crate::layer::{LayerError, LeftOut, as_layer, write_layer};
use crate::store::{ImageRecord, Store};
use crate::sys::RootDir;

use super::ArchiveError;
use crate::content::{UnpackedLayer, receive_files, receive_own_files};

/// What the imported image is to be.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Platform and config, with what `--change` asked for; `created`, `history` and
    /// `rootfs` are filled in here.
    pub config: ImageConfig,
    /// The comment of the history line (`-m`).
    pub comment: String,
    pub names: Vec<Reference>,
    /// The time now: that of the image, unless the same one was imported before.
    pub now: Timestamp,
}

/// What was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    pub image: ImageId,
    pub layer: SnapshotId,
    pub diff_id: DiffId,
    /// What could not be put on disk, as rootless; the blob has it.
    pub left_out: LeftOut,
}

/// Imports a tar: plain, gzip, zstd, bzip2 or xz. When this returns, the image is on the disk.
pub fn import(store: &Store, reader: impl Read, options: ImportOptions) -> Result<Imported, ArchiveError> {
    let reader = as_layer(reader).map_err(ArchiveError::Unpack)?;
    let layer = receive_files(store, reader)?;
    finish(store, layer, options)
}

/// Imports the files of a directory, as the tar that would be written of them.
pub fn import_directory(
    store: &Store,
    directory: &Path,
    options: ImportOptions,
) -> Result<Imported, ArchiveError> {
    let failed = |source| LayerError::File { action: "open", path: directory.display().to_string(), source };
    let root = RootDir::open(directory).map_err(|e| ArchiveError::Directory(failed(e)))?;
    let (reader, writer) = io::pipe().map_err(ArchiveError::Read)?;
    let xattrs = store.options().xattrs;
    let layer = std::thread::scope(|scope| {
        let walk = scope.spawn(move || -> Result<(), LayerError> {
            let mut out = BufWriter::with_capacity(1 << 16, writer);
            write_layer(&root, xattrs, &mut out)?;
            out.into_inner().map(|_: PipeWriter| ()).map_err(|e| LayerError::Write { source: e.into_error() })
        });
        // The reader ends in there, so that a walk whose tar nobody wants ends too.
        let imported = receive_own_files(store, reader).map_err(ArchiveError::from);
        match (walk.join(), imported) {
            (Ok(Ok(())), imported) => imported,
            // The cause is on the other side of the pipe: it was closed early.
            (Ok(Err(LayerError::Write { .. })), Err(e)) => Err(e),
            (Ok(Err(e)), _) => Err(ArchiveError::Directory(e)),
            (Err(_), _) => Err(ArchiveError::Read(io::Error::other("the walk of the directory panicked"))),
        }
    })?;
    finish(store, layer, options)
}

fn finish(store: &Store, layer: UnpackedLayer, options: ImportOptions) -> Result<Imported, ArchiveError> {
    let mut config = options.config;
    config.rootfs = RootFs { diff_ids: vec![layer.diff_id], ..RootFs::default() };
    config.history = vec![History { comment: Some(options.comment), ..History::default() }];
    config.created = None;
    // The same tar imported again is the same image.
    let created = store.first_created(&Digest::of(config.to_bytes()), options.now)?.to_string();
    config.history[0].created = Some(created.clone());
    config.created = Some(created);
    let record = ImageRecord { config: config.to_bytes(), manifest: None, layers: vec![layer.layer.clone()] };
    let image = store.put_image_as(&record, &options.names)?;
    store.sync()?;
    Ok(Imported { image, layer: layer.layer, diff_id: layer.diff_id, left_out: layer.left_out })
}

/// Makes a tar as tar(1) would; used by tests of both ways.
#[cfg(test)]
pub(super) fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o640);
        header.set_mtime(1_700_000_000);
        header.set_uid(0);
        header.set_gid(0);
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    let mut bytes = builder.into_inner().unwrap();
    // As tar(1) does it: up to a multiple of 20 blocks.
    bytes.resize(bytes.len().next_multiple_of(10240), 0);
    bytes
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use super::*;
    use crate::content::ContentError;
    use crate::image::Platform;
    use crate::layer::{Compression, compress};
    use crate::store::{Depth, StoreOptions};
    use crate::sys::OverlayXattrs;

    pub fn store(root: &Path) -> Store {
        Store::open(root, StoreOptions { xattrs: OverlayXattrs::Trusted, sync: false }).unwrap()
    }

    pub fn options(name: &str) -> ImportOptions {
        let mut config = ImageConfig::empty(&Platform::host());
        config.config.cmd = Some(vec!["/bin/sh".to_owned()]);
        ImportOptions {
            config,
            comment: "Imported from -".to_owned(),
            names: vec![name.parse().unwrap()],
            now: Timestamp::now(),
        }
    }

    pub fn compressed(kind: Compression, bytes: &[u8]) -> Vec<u8> {
        let mut encoder = compress(kind, None, Vec::new()).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_tar_becomes_an_image_whatever_its_compression() {
        let tar = tar_of(&[("etc/a", "1"), ("b", "22")]);
        for kind in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let directory = tempfile::tempdir().unwrap();
            let store = store(directory.path());
            let bytes = compressed(kind, &tar);
            let imported = import(&store, bytes.as_slice(), options("debian:bookworm")).unwrap();
            assert_eq!(imported.diff_id, DiffId(Digest::of(&tar)));
            let image = store.image(&imported.image).unwrap();
            assert_eq!(image.config.rootfs.diff_ids, [imported.diff_id]);
            assert_eq!(image.config.history.len(), 1);
            assert_eq!(image.config.history[0].comment.as_deref(), Some("Imported from -"));
            assert_eq!(image.config.config.cmd.as_deref(), Some(&["/bin/sh".to_owned()][..]));
            assert!(image.config.created.is_some());
            assert_eq!(store.resolve(&"debian:bookworm".parse().unwrap()).unwrap(), Some(imported.image));
            let dir = store.snapshot_dir(&imported.layer);
            assert_eq!(std::fs::read_to_string(dir.join("etc/a")).unwrap(), "1");
            let blob = store.meta(&imported.layer).unwrap().unwrap().blob.unwrap();
            assert_eq!((blob.digest, blob.compression), (Digest::of(&bytes), kind));
            assert_eq!(store.image_size(&image).unwrap(), 3);

            // Again, in whatever form: the same image, and nothing new on disk.
            let again = import(&store, tar.as_slice(), options("other")).unwrap();
            assert_eq!((again.image, again.layer), (imported.image, imported.layer));
            assert_eq!(store.verify(Depth::Deep).unwrap(), []);
        }
    }

    #[test]
    fn what_no_layer_may_be_compressed_with_is_taken_off() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        let tar = tar_of(&[("etc/a", "1")]);
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(&tar).unwrap();
        let packed = encoder.finish().unwrap();
        let imported = import(&store, packed.as_slice(), options("a")).unwrap();
        assert_eq!(imported.diff_id, DiffId(Digest::of(&tar)));
        let blob = store.meta(&imported.layer).unwrap().unwrap().blob.unwrap();
        assert_eq!((blob.digest, blob.compression), (Digest::of(&tar), Compression::None));
        assert_eq!(store.verify(Depth::Deep).unwrap(), []);
        let cut = import(&store, &packed[..packed.len() - 4], options("b")).unwrap_err();
        assert!(matches!(cut, ArchiveError::Content(ContentError::Unpack(_))), "{cut:?}");
    }

    #[test]
    fn a_directory_is_imported_and_its_tar_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        let source = tempfile::tempdir().unwrap();
        std::fs::create_dir(source.path().join("bin")).unwrap();
        std::fs::write(source.path().join("bin/sh"), vec![b'x'; 300_000]).unwrap();
        std::os::unix::fs::symlink("sh", source.path().join("bin/ash")).unwrap();
        let imported = import_directory(&store, source.path(), options("dir")).unwrap();
        let dir = store.snapshot_dir(&imported.layer);
        assert_eq!(std::fs::metadata(dir.join("bin/ash")).unwrap().len(), 300_000);
        assert_eq!(store.meta(&imported.layer).unwrap().unwrap().blob, None);
        let missing = import_directory(&store, Path::new("/no/such"), options("x")).unwrap_err();
        assert!(matches!(missing, ArchiveError::Directory(_)));
    }

    #[test]
    fn a_bad_archive_is_an_error_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let tar = tar_of(&[("a", &"x".repeat(5000))]);
        let gzip = compressed(Compression::Gzip, &tar);
        let store = store(directory.path());
        let evil = tar_of(&[("a", "1"), (".wh.b", "")]);
        let cases: [&[u8]; 7] =
            [b"", b"not a tar", &tar[..700], &tar[..5632], &gzip[..gzip.len() - 9], b"BZh91AY&SY", &evil];
        for bytes in cases {
            let error = import(&store, bytes, options("bad")).unwrap_err();
            assert!(matches!(error, ArchiveError::Content(ContentError::Unpack(_))), "{error:?}");
        }
        assert!(store.images().unwrap().is_empty());
        for empty in ["tmp", "snapshots", "blobs/sha256", "references"] {
            let path = directory.path().join("v1").join(empty);
            assert_eq!(std::fs::read_dir(path).unwrap().count(), 0, "{empty}");
        }
    }
}
