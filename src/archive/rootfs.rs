//! The files of layers together, as one plain tar.
//!
//! Not here: which layers (`cli`), and where the tar goes.

use std::io::{BufWriter, Write};

use crate::content::ContentError;
use crate::image::SnapshotId;
use crate::layer::{LayerError, LeftOut, Missing, ViewOptions, decompress, write_view};
use crate::store::Store;
use crate::sys::RootDir;

use super::ArchiveError;

/// Writes what layers (lowest first) look like together as a tar; returns what it lacks.
///
/// Whiteouts are resolved; hard links, owners, modes, times (whole seconds) and attributes (PAX
/// `SCHILY.xattr`) are kept; what an ordinary user's store could not put on disk comes from the blobs of
/// the layers, and what those do not tell is counted in the result. Equal layers are equal bytes. After
/// an error what was written is of no use.
pub fn export_rootfs(
    store: &Store,
    layers: &[SnapshotId],
    options: ViewOptions,
    out: &mut impl Write,
) -> Result<LeftOut, ArchiveError> {
    store.hold()?;
    let mut missing = Missing::default();
    for id in layers {
        add(store, id, &mut missing)?;
    }
    let view = store.view(layers)?;
    let mut out = BufWriter::with_capacity(1 << 16, out);
    write_view(&view, store.options().xattrs, &missing, options, &mut out).map_err(|error| match error {
        LayerError::Write { source } => ArchiveError::Write(source),
        error => ArchiveError::Files(error),
    })?;
    out.flush().map_err(ArchiveError::Write)?;
    Ok(missing.unknown())
}

/// Writes what a container's files look like as a tar; returns what it lacks.
///
/// `layers` are those of its image, `view` what they look like with its writable layer `upper` on top. Otherwise as
/// [`export_rootfs`].
pub fn export_container(
    store: &Store,
    layers: &[SnapshotId],
    upper: &RootDir,
    view: &RootDir,
    out: &mut impl Write,
) -> Result<LeftOut, ArchiveError> {
    let mut missing = Missing::default();
    for id in layers {
        add(store, id, &mut missing)?;
    }
    let none = None::<&[u8]>;
    missing
        .add_layer(upper, store.options().xattrs, LeftOut::default(), none)
        .map_err(ArchiveError::Files)?;
    let mut out = BufWriter::with_capacity(1 << 16, out);
    // It may run.
    let options = ViewOptions { changing: true, ..ViewOptions::default() };
    write_view(view, store.options().xattrs, &missing, options, &mut out).map_err(|error| match error {
        LayerError::Write { source } => ArchiveError::Write(source),
        error => ArchiveError::Files(error),
    })?;
    out.flush().map_err(ArchiveError::Write)?;
    Ok(missing.unknown())
}

fn add(store: &Store, id: &SnapshotId, missing: &mut Missing) -> Result<(), ArchiveError> {
    let layer = |source| ContentError::Layer { id: id.clone(), source };
    let meta = store.meta(id)?;
    let left_out = meta.as_ref().map_or(LeftOut::default(), |meta| meta.left_out);
    let blob = meta.and_then(|meta| meta.blob).filter(|_| left_out != LeftOut::default());
    let reader = blob.map(|blob| store.open_blob(&blob.digest)).transpose()?;
    let tar = reader.map(|reader| decompress(reader).map(|(_, plain)| plain)).transpose().map_err(layer)?;
    let open = |source| ContentError::Open { id: id.clone(), source };
    let upper = RootDir::open(&store.snapshot_dir(id)).map_err(open)?;
    Ok(missing.add_layer(&upper, store.options().xattrs, left_out, tar).map_err(layer)?)
}
