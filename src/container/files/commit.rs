//! `commit`: an image of a container's changes, one layer above its own.
//!
//! The writable layer is read and written anew, never moved or linked: the container goes on writing to its
//! files. Layer, digests and history line are those that a RUN would have made. Not here: the config that the
//! image gets (`cli`, from the container's settings and `--change`), holding the container still (`freeze`).

use std::io::{self, BufWriter, PipeWriter};

use jiff::Timestamp;

use super::FilesError;
use crate::image::{Digest, History, ImageConfig, ImageId, Platform, Reference, SnapshotId};
use crate::layer::{
    DigestOptions, LayerError, Times, UnpackOptions, digest_layer, inherit_root, unpack, write_layer,
};
use crate::store::{ImageRecord, KeptContainer, SnapshotKind, SnapshotMeta, Store, StoreError};
use crate::sys::RootDir;

/// What the image is to be.
#[derive(Debug, Clone)]
pub struct CommitRequest {
    /// Of the image beneath ([`parent_config`]), with the container's settings and what was changed of them.
    pub config: ImageConfig,
    pub author: String,
    pub comment: String,
    /// What the container runs, for the history.
    pub command: String,
    pub names: Vec<Reference>,
    /// The time now: that of the image, unless the same one was made before.
    pub now: Timestamp,
}

/// Returns the config of the image that a container is of; where that is gone, one that knows its layers alone.
pub fn parent_config(store: &Store, kept: &KeptContainer) -> Result<ImageConfig, StoreError> {
    if let Some(id) = kept.image
        && let Ok(image) = store.image(&id)
        && image.layers == kept.layers
    {
        return Ok(image.config);
    }
    let mut config = ImageConfig::empty(&Platform::host());
    for layer in &kept.layers {
        let digests = store.digests(layer)?.ok_or_else(|| StoreError::NoSnapshot(layer.clone()))?;
        config.rootfs.diff_ids.push(digests.diff_id);
        config.history.push(History::default());
    }
    Ok(config)
}

/// Makes an image of a container; when this returns, it is on the disk.
pub fn commit(store: &Store, kept: &KeptContainer, request: CommitRequest) -> Result<ImageId, FilesError> {
    store.hold()?;
    let layer = changes(store, kept)?;
    let mut config = request.config;
    let mut layers = kept.layers.clone();
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let mut line = History {
        created_by: Some(request.command),
        author: text(&request.author),
        comment: text(&request.comment),
        empty_layer: layer.is_none(),
        ..History::default()
    };
    if let Some(layer) = layer {
        let digests = store.digests(&layer)?.ok_or_else(|| StoreError::NoSnapshot(layer.clone()))?;
        config.rootfs.diff_ids.push(digests.diff_id);
        layers.push(layer);
    }
    config.author = text(&request.author);
    config.history.push(line.clone());
    config.created = None;
    // The same container committed again, unchanged, is the same image.
    let created = store.first_created(&Digest::of(config.to_bytes()), request.now)?.to_string();
    line.created = Some(created.clone());
    config.history.pop();
    config.history.push(line);
    config.created = Some(created);
    let record = ImageRecord { config: config.to_bytes(), manifest: None, layers };
    let image = store.put_image_as(&record, &request.names)?;
    store.sync()?;
    Ok(image)
}

/// Makes a layer of what a container has changed; `None` where that is nothing.
fn changes(store: &Store, kept: &KeptContainer) -> Result<Option<SnapshotId>, FilesError> {
    let layer = |source| FilesError::Layer { container: kept.id.short().to_owned(), source };
    let path = store.container_layer(&kept.id);
    let root = |source| FilesError::Root { container: kept.id.short().to_owned(), source };
    let upper = RootDir::open(&path).map_err(root)?;
    store.make_room(0)?;
    let xattrs = store.options().xattrs;
    let draft = store.draft()?;
    let into = RootDir::open(&draft.dir).map_err(root)?;
    let view = store.view(&kept.layers)?;
    inherit_root((!kept.layers.is_empty()).then_some(&view), &into, xattrs).map_err(layer)?;
    let (reader, writer) = io::pipe().map_err(root)?;
    let unpacked = std::thread::scope(|scope| {
        let written = scope.spawn(|| -> Result<(), LayerError> {
            let mut out = BufWriter::with_capacity(1 << 16, writer);
            write_layer(&upper, xattrs, &mut out)?;
            out.into_inner().map(|_: PipeWriter| ()).map_err(|e| LayerError::Write { source: e.into_error() })
        });
        let unpacked = unpack(reader, &into, &UnpackOptions::layer(xattrs));
        match (written.join(), unpacked) {
            (Ok(Ok(())), unpacked) => unpacked,
            // The cause is at the other end of the pipe.
            (Ok(Err(LayerError::Write { .. })), Err(error)) => Err(error),
            (Ok(Err(error)), _) => Err(error),
            (Err(_), _) => {
                Err(LayerError::Write { source: io::Error::other("the thread that reads panicked") })
            }
        }
    });
    let unpacked = unpacked.map_err(layer)?;
    // Of a container every time counts: there is no "now" that a second run would have again.
    let options = DigestOptions { xattrs, times: Times::All, below: None };
    let digests = digest_layer(&into, &options).map_err(layer)?;
    if digests.entries == 0 {
        return Ok(None);
    }
    drop((into, view));
    let mut meta = SnapshotMeta::new(SnapshotKind::Run, Timestamp::now());
    meta.left_out = unpacked.left_out;
    let id = store.commit(draft, meta)?;
    Ok(Some(store.set_digests(&id, &digests)?))
}
