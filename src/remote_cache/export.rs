//! What a build leaves behind for others: records, and the layers that the mode asks for.
//!
//! Layers that are at the destination already are not written, and not even fetched where they are only
//! known from a cache of elsewhere. Not here: which steps there were (`build`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::content::{Blob, Layer, pack_layers};
use crate::image::{DiffId, Digest, ImageId, MediaType, SnapshotId};
use crate::registry::Registries;
use crate::report::Reporter;
use crate::solve::{Cancel, Imports, Shared};
use crate::store::{Store, StoreError};

use super::caches::Caches;
use super::error::RemoteCacheError;
use super::format::{
    CONFIG_TYPE, CacheConfig, ImageEntry, LayerEntry, RecordEntry, RecordLayer, SelectionEntry,
};
use super::place::Place;
use super::source::LayerBlob;
use super::spec::{Export, Mode};

/// How many layers are written at once.
const AT_ONCE: usize = 4;

/// What a build made, as others may know it.
#[derive(Debug, Clone, Default)]
pub struct Gathered {
    /// Of all steps, in their order.
    pub steps: Vec<Shared>,
    /// The layers of the images.
    pub layers: BTreeSet<SnapshotId>,
    /// The digests of the images' configs without times, and the times they were first made.
    pub images: Vec<(Digest, String)>,
}

/// Writes caches.
pub struct Exporter<'a> {
    pub store: &'a Store,
    pub registries: &'a Registries,
    /// Where layers are that are not here.
    pub caches: Option<&'a Caches<'a>>,
    pub reporter: &'a dyn Reporter,
    pub cancel: &'a Cancel,
}

/// A layer as the manifest has it.
struct Described {
    diff_id: DiffId,
    descriptor: Value,
    digest: Digest,
}

impl Exporter<'_> {
    /// Writes a cache; nothing for one that lies in the image itself.
    pub fn export(&self, export: &Export, gathered: &Gathered) -> Result<(), RemoteCacheError> {
        let cancelled = || self.cancel.is_cancelled();
        let Some(place) = Place::of_export(&export.to, self.registries)? else { return Ok(()) };
        let mut layers = Vec::new();
        let mut here = Vec::new();
        for id in self.wanted(export.mode, gathered) {
            match self.caches.and_then(|caches| caches.elsewhere(&id)) {
                None => here.push(self.real(&id)),
                Some((_, None)) => {}
                Some((diff_id, Some(blob))) => match place.has(&blob.digest, blob.size, &cancelled)? {
                    true => layers.push(described(diff_id, &blob)),
                    false => here.extend(self.bring(&id)?),
                },
            }
        }
        let directory = self.store.temp_dir()?;
        let nobody = ImageId(Digest::of(""));
        let found: Result<Vec<Layer>, _> =
            here.iter().map(|id| Layer::find(self.store, &nobody, id)).collect();
        let found = found?;
        let blobs = pack_layers(self.store, &found, &export.packing, &directory)?;
        self.put_all(&place, &blobs)?;
        layers.extend(found.iter().zip(&blobs).map(|(layer, blob)| Described {
            diff_id: layer.diff_id,
            descriptor: blob.descriptor(),
            digest: blob.digest,
        }));
        self.put_manifest(&place, gathered, layers)
    }

    /// Returns the layers of steps whose bytes the cache gets, each once, in the order of the steps.
    fn wanted(&self, mode: Mode, gathered: &Gathered) -> Vec<SnapshotId> {
        let mut seen = BTreeSet::new();
        let all = gathered.steps.iter().filter_map(|step| step.record.snapshot.clone());
        all.filter(|id| mode == Mode::Max || gathered.layers.contains(id))
            .filter(|id| seen.insert(id.clone()))
            .collect()
    }

    fn real(&self, id: &SnapshotId) -> SnapshotId {
        self.caches.map_or_else(|| id.clone(), |caches| caches.real(id))
    }

    /// Fetches a layer to write it elsewhere; one that cannot be had is left out.
    fn bring(&self, id: &SnapshotId) -> Result<Option<SnapshotId>, RemoteCacheError> {
        let Some(caches) = self.caches else { return Ok(None) };
        match caches.bring(std::slice::from_ref(id), self.cancel) {
            Ok(brought) => Ok(brought.into_iter().next()),
            Err(_) if self.cancel.is_cancelled() => Err(RemoteCacheError::Cancelled),
            Err(_) => Ok(None),
        }
    }

    fn put_all(&self, place: &Place<'_>, blobs: &[Blob]) -> Result<(), RemoteCacheError> {
        let cancelled = || self.cancel.is_cancelled();
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let work = || {
            while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = place.put(self.store, blob, Some(self.reporter), &cancelled) {
                    next.store(blobs.len(), Ordering::Relaxed);
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..blobs.len().min(AT_ONCE) {
                scope.spawn(work);
            }
            work();
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn put_manifest(
        &self,
        place: &Place<'_>,
        gathered: &Gathered,
        layers: Vec<Described>,
    ) -> Result<(), RemoteCacheError> {
        let cancelled = || self.cancel.is_cancelled();
        let mut config = self.config(gathered)?;
        // Two layers of one blob are one layer; a manifest names each blob once.
        let mut descriptors: BTreeMap<Digest, Value> = BTreeMap::new();
        for layer in layers {
            config.layers.push(LayerEntry { diff_id: layer.diff_id, digest: layer.digest });
            descriptors.insert(layer.digest, layer.descriptor);
        }
        config.layers.sort_by_key(|layer| (layer.digest, layer.diff_id));
        config.layers.dedup();
        let bytes = serde_json::to_vec(&config).expect("strings, numbers and lists");
        let config = Blob::of_bytes(bytes, MediaType::Other(CONFIG_TYPE.to_owned()));
        place.put(self.store, &config, None, &cancelled)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MediaType::ImageManifest,
            "config": config.descriptor(),
            "layers": descriptors.into_values().collect::<Vec<_>>(),
        });
        let bytes = manifest.to_string().into_bytes();
        let manifest = Blob::of_bytes(bytes.clone(), MediaType::ImageManifest);
        place.put_manifest(self.store, &manifest, &bytes, &cancelled)
    }

    fn config(&self, gathered: &Gathered) -> Result<CacheConfig, RemoteCacheError> {
        let diff_id = |id: &SnapshotId| match self.caches.and_then(|caches| caches.elsewhere(id)) {
            Some((diff_id, _)) => Ok(diff_id),
            None => {
                let id = self.real(id);
                let digests = self.store.digests(&id)?;
                Ok(digests.ok_or(StoreError::NoSnapshot(id))?.diff_id)
            }
        };
        config(gathered, &diff_id)
    }
}

/// Returns the records of a build as a value for an image's config ([`super::INLINE_KEY`]).
///
/// It follows from what was built, so that the image's id does.
pub fn inline(gathered: &Gathered, exporter: &Exporter<'_>) -> Result<Value, RemoteCacheError> {
    let config = exporter.config(gathered)?;
    Ok(serde_json::to_value(&config).expect("strings, numbers and lists"))
}

fn config(
    gathered: &Gathered,
    diff_id: &dyn Fn(&SnapshotId) -> Result<DiffId, RemoteCacheError>,
) -> Result<CacheConfig, RemoteCacheError> {
    let mut config = CacheConfig::new();
    let mut seen = BTreeSet::new();
    let mut selections = BTreeMap::new();
    for step in &gathered.steps {
        selections.extend(step.selections.iter().copied());
        let record = &step.record;
        if !seen.insert(record.key) {
            continue;
        }
        let layer = match (&record.snapshot, record.content) {
            (Some(id), Some(content)) => Some(RecordLayer { diff_id: diff_id(id)?, content }),
            _ => None,
        };
        config.records.push(RecordEntry {
            op: record.op,
            key: record.key,
            text: record.text.clone(),
            created: record.created_unix_ms,
            layer,
        });
    }
    let entry = |(name, digest)| SelectionEntry { name, digest };
    config.selections = selections.into_iter().map(entry).collect();
    let image =
        |(identity, created): &(Digest, String)| ImageEntry { identity: *identity, created: created.clone() };
    config.images = gathered.images.iter().map(image).collect();
    Ok(config)
}

fn described(diff_id: DiffId, blob: &LayerBlob) -> Described {
    let LayerBlob { digest, size, media_type } = blob;
    let descriptor = json!({ "mediaType": media_type, "digest": digest, "size": size });
    Described { diff_id, descriptor, digest: *digest }
}
