//! An image of the store goes to a registry: layers, then its config, then its manifest under its tags.
//!
//! Nothing is said of an image to a registry before all of it is there, so that a push may end at any
//! moment; the next one skips what has arrived. `layers` sends many at once. Not here: requests
//! (`upload`, `repository`), how layers become blobs (`content`).

mod error;
mod layers;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::content::{Blob, Layer, ManifestOptions, Packing};
use crate::content::{config_blob, manifest_blob, original_parts};
use crate::image::{DiffId, Digest, ImageId, MediaType, Reference};
use crate::layer::Compression;
use crate::report::Transfer;
use crate::store::Store;

use super::{Registries, Repository};

pub use error::PushError;
use layers::{Job, Pipeline};

/// What is to be pushed, and where.
#[derive(Debug, Clone)]
pub struct PushRequest {
    pub image: ImageId,
    /// The repository; its tag and digest do not matter.
    pub name: Reference,
    /// The tags the image gets; without one it is found by its digest only.
    pub tags: Vec<String>,
    /// How layers are packed; `None` is as they came where they came from elsewhere, else gzip.
    pub packing: Option<Packing>,
    pub manifest: ManifestOptions,
}

/// What the registry has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Of the manifest.
    pub digest: Digest,
    /// Of the manifest, in bytes.
    pub size: u64,
    pub media_type: MediaType,
}

/// What became of a layer so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerState {
    Preparing,
    /// The repository had it.
    Exists,
    /// The registry took it over from another repository of its own.
    Mounted(String),
    /// So many bytes are on their way, of so many; less than before where the registry is asked again.
    Sending {
        done: u64,
        total: u64,
    },
    Pushed,
}

impl LayerState {
    /// Returns the bytes that it tells of for a layer, as a part of `of`; `None` where it tells of nothing
    /// that moves.
    pub fn transfer(&self, of: &Arc<str>, layer: &DiffId) -> Option<Transfer> {
        let (done, total, ended) = match self {
            LayerState::Sending { done, total } => (*done, *total, false),
            LayerState::Pushed => (0, 0, true),
            _ => return None,
        };
        Some(Transfer { of: of.clone(), part: layer.0.short(), done, total, ended })
    }
}

/// Hears of the layers, by the digest of their files; from many threads at once.
pub type Progress<'a> = &'a (dyn Fn(&DiffId, LayerState) + Sync);

/// Pushes an image.
///
/// An image that came from elsewhere keeps its manifest, and so its digest, unless it is to be
/// packed or described in another way. Afterwards the image also has the name `NAME@DIGEST`.
/// Memory does not depend on the size of the image.
pub fn push(
    store: &Store,
    registries: &Registries,
    request: &PushRequest,
    progress: Progress<'_>,
    cancel: &(dyn Fn() -> bool + Sync),
) -> Result<Pushed, PushError> {
    store.hold()?;
    let image = store.image(&request.image)?;
    let repository = registries.repository(&request.name);
    let directory = store.temp_dir()?;
    let packing =
        request.packing.unwrap_or(Packing { compression: Compression::Gzip, level: None, force: false });
    if request.manifest.docker_types && packing.compression == Compression::Zstd {
        return Err(PushError::NoDockerZstd);
    }
    let as_it_was = request.packing.is_none() && request.manifest == ManifestOptions::default();
    let original = if as_it_was { as_it_came(store, &request.image)? } else { None };
    let config = match &original {
        Some((_, config, _)) => config.clone(),
        None => config_blob(&image, &request.manifest),
    };
    // Asked first: where the registry says no, nothing is packed.
    let has_config = repository.has_blob(&config.digest, cancel)?;
    let mut jobs = Vec::with_capacity(image.layers.len());
    for (position, id) in image.layers.iter().enumerate() {
        let layer = Layer::find(store, &image.id, id)?;
        let blob = original.as_ref().map(|(_, _, layers)| layers[position].clone());
        jobs.push(Job { layer, blob });
    }
    let pipeline = Pipeline {
        store,
        repository: &repository,
        name: &request.name,
        packing: &packing,
        directory: &directory,
        progress,
        cancel,
    };
    let layers = pipeline.run(jobs)?;
    if !has_config {
        layers::upload(store, &repository, &config, &|_| (), cancel)?;
    }
    let manifest = match original {
        Some((manifest, _, _)) => manifest,
        None => manifest_blob(&config, &layers, &request.manifest),
    };
    put(store, &repository, &manifest, &request.tags, cancel)?;
    let named = format!("{}@{}", request.name.full_name(), manifest.digest);
    store.tag(&named.parse().expect("a name and a digest are a reference"), &image.id)?;
    store.sync()?;
    Ok(Pushed { digest: manifest.digest, size: manifest.size, media_type: manifest.media_type })
}

/// Returns the parts of an image that keeps its manifest: `None` where it has none, or where that is
/// an archive's, which keeps layers plain since it is no registry.
pub(super) fn as_it_came(store: &Store, id: &ImageId) -> Result<Option<(Blob, Blob, Vec<Blob>)>, PushError> {
    let Some(parts) = original_parts(store, &store.image(id)?)? else { return Ok(None) };
    let (manifest, _, layers) = &parts;
    let is_packed = |layer: &Blob| {
        let media_type = layer.media_type.to_string();
        media_type.ends_with("gzip") || media_type.ends_with("zstd")
    };
    // A manifest that a registry gave has left its digest as a name.
    let is_of_registry = |(name, named): &(Reference, ImageId)| {
        named == id && name.digest().is_some_and(|digest| *digest == manifest.digest)
    };
    let stays = layers.iter().all(is_packed) || store.tags()?.iter().any(is_of_registry);
    Ok(stays.then_some(parts))
}

/// Sends what makes the image one that others see.
fn put(
    store: &Store,
    repository: &Repository<'_>,
    manifest: &Blob,
    tags: &[String],
    cancel: &(dyn Fn() -> bool + Sync),
) -> Result<(), PushError> {
    let mut bytes = Vec::with_capacity(usize::try_from(manifest.size).unwrap_or(0));
    manifest.write(store, &mut bytes)?;
    let media_type = manifest.media_type.to_string();
    let by_digest = [manifest.digest.to_string()];
    for name in if tags.is_empty() { &by_digest[..] } else { tags } {
        repository.put_manifest(name, &media_type, &bytes, cancel)?;
    }
    Ok(())
}
