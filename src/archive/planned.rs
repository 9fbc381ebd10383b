//! An image of an archive whose small parts were read and checked, and whose layers are still to come.

use std::collections::HashMap;

use crate::image::{DiffId, Digest, ImageConfig, ImageId, Platform, Reference, SnapshotId};
use crate::store::{ImageRecord, Store};

use super::ArchiveError;
use super::files::bad;

/// A layer and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PlannedLayer {
    /// The name of its file in the archive, cleaned.
    pub file: String,
    /// Of the bytes in the archive.
    pub digest: Digest,
    pub size: u64,
    pub diff_id: DiffId,
}

/// An image and what it is called.
#[derive(Debug)]
pub(super) struct PlannedImage {
    pub id: ImageId,
    pub config: Vec<u8>,
    /// The manifest as it came; docker's own archives have none.
    pub manifest: Option<Vec<u8>>,
    /// Lowest first.
    pub layers: Vec<PlannedLayer>,
    pub names: Vec<Reference>,
    /// The tag that an index calls it by, where that is all it says.
    pub tag_only: Option<String>,
}

/// The layers of the store, by what they are in the archive.
pub(super) type Received = HashMap<PlannedLayer, SnapshotId>;

impl PlannedImage {
    pub fn new(config: Vec<u8>, manifest: Option<Vec<u8>>, layers: Vec<PlannedLayer>) -> PlannedImage {
        let id = ImageId(Digest::of(&config));
        PlannedImage { id, config, manifest, layers, names: Vec::new(), tag_only: None }
    }

    /// Puts it with the others; one that is there gets its names.
    pub fn add_to(self, images: &mut Vec<PlannedImage>) {
        let Some(there) = images.iter_mut().find(|there| there.id == self.id) else {
            return images.push(self);
        };
        for name in self.names {
            if !there.names.contains(&name) {
                there.names.push(name);
            }
        }
    }

    /// Stores it without names; its layers are in the store.
    pub fn put(&self, store: &Store, layers: &Received) -> Result<ImageId, ArchiveError> {
        let layers = self.layers.iter().map(|layer| layers[layer].clone()).collect();
        let record = ImageRecord { config: self.config.clone(), manifest: self.manifest.clone(), layers };
        Ok(store.put_image(&record)?)
    }
}

/// Reads a config and returns its DiffIDs, of which there must be as many as layers.
pub(super) fn checked_config(
    bytes: &[u8],
    layers: usize,
    platform: Option<&Platform>,
) -> Result<Vec<DiffId>, ArchiveError> {
    let digest = Digest::of(bytes);
    let config: ImageConfig =
        serde_json::from_slice(bytes).map_err(|e| bad(format!("the config {digest} cannot be read: {e}")))?;
    let there = config.platform();
    if !matches!(there.os.as_str(), "" | "linux") {
        let os = there.os.escape_debug();
        return Err(bad(format!(
            "the image {} is for {os}; only those for linux can be used",
            digest.short()
        )));
    }
    let same = |wanted: &Platform| {
        let there: Option<Platform> = there.to_string().parse().ok();
        there.is_some_and(|there| {
            (&there.os, &there.architecture) == (&wanted.os, &wanted.architecture)
                && (there.variant == wanted.variant || there.variant.is_none() || wanted.variant.is_none())
        })
    };
    if let Some(wanted) = platform.filter(|wanted| !same(wanted)) {
        return Err(bad(format!("the image {} is for {there}, not {wanted}", digest.short())));
    }
    let diff_ids = config.rootfs.diff_ids;
    match diff_ids.len() == layers {
        true => Ok(diff_ids),
        false => Err(bad(format!("the config names {} layers, and the manifest {layers}", diff_ids.len()))),
    }
}
