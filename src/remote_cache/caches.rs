//! The caches of elsewhere that a build names, as the engine asks them.
//!
//! A layer that one of them has gets an id at once, and files when somebody needs them; what comes is
//! compared with digest, size and DiffID, and is a layer of an image in the store, known by its DiffID alone.
//! A cache whose layer is not what it should be is not believed any more. Not here: records of the store.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use jiff::Timestamp;

use crate::content::{self, ExpectedLayer};
use crate::image::{CacheKey, DiffId, Digest, Hasher, OpDigest, Platform, SelectionDigest, SnapshotId};
use crate::registry::Registries;
use crate::report::{Event, Meter, Reporter};
use crate::solve::{CacheError, Cancel, Imported, ImportedLayer, Imports};
use crate::store::{Store, StoreError, image_layer_digest};

use super::error::RemoteCacheError;
use super::format::RecordEntry;
use super::place::Place;
use super::source::{LayerBlob, Source};
use super::spec::ImportFrom;

/// How many layers are fetched at once.
const AT_ONCE: usize = 4;

/// All caches of elsewhere of one build.
pub struct Caches<'r> {
    store: &'r Store,
    reporter: &'r dyn Reporter,
    sources: Vec<Source<'r>>,
    /// Those that are not asked any more.
    dropped: Mutex<BTreeSet<usize>>,
    /// Why, as far as nobody was told.
    failures: Mutex<Vec<String>>,
    layers: Mutex<HashMap<SnapshotId, Arc<Layer>>>,
    /// Layers whose files nobody has and that a build needs: their records are no use.
    shunned: Mutex<BTreeSet<SnapshotId>>,
}

/// A layer that was not here when it was spoken of.
struct Layer {
    diff_id: DiffId,
    /// Held by who fetches it.
    fetching: Mutex<()>,
    arrived: OnceLock<SnapshotId>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'r> Caches<'r> {
    /// Reads what the caches know, but no layer. One that cannot be read is a warning.
    pub fn open(
        store: &'r Store,
        registries: &'r Registries,
        from: &[ImportFrom],
        platform: &Platform,
        reporter: &'r dyn Reporter,
        cancel: &Cancel,
    ) -> Caches<'r> {
        let mut sources = Vec::new();
        for from in from {
            if cancel.is_cancelled() {
                break;
            }
            reporter.event(Event::Note { text: format!("importing cache manifest from {from}") });
            let cancelled = || cancel.is_cancelled();
            let opened = Place::of_import(from, registries)
                .and_then(|place| Source::open(from.to_string(), place, platform, &cancelled));
            match opened {
                Ok(source) => sources.push(source),
                Err(error) => {
                    let text = format!("warning: the cache `{from}` is not used: {error}");
                    reporter.event(Event::Warning { text });
                }
            }
        }
        Caches {
            store,
            reporter,
            sources,
            dropped: Mutex::default(),
            failures: Mutex::default(),
            layers: Mutex::default(),
            shunned: Mutex::default(),
        }
    }

    /// Returns what is to be told of caches that turned out bad since it was asked last.
    pub fn take_failures(&self) -> Vec<String> {
        std::mem::take(&mut *locked(&self.failures))
    }

    /// Tells whether a cache turned out bad that nobody was told of.
    pub fn has_failures(&self) -> bool {
        !locked(&self.failures).is_empty()
    }

    /// Counts those that are asked.
    pub fn count(&self) -> usize {
        self.asked().count()
    }

    /// Asks none of them any more: a layer is missing, and none of them is to blame for it.
    pub fn drop_all(&self, error: &dyn std::error::Error) {
        let asked: Vec<usize> = self.asked().map(|(index, _)| index).collect();
        for index in asked {
            self.drop_source(index, &RemoteCacheError::Format(error.to_string()));
        }
    }

    /// Forgets the records of layers that are needed and that no cache has the files of.
    pub fn shun(&self, layers: impl IntoIterator<Item = SnapshotId>) {
        locked(&self.shunned).extend(layers);
    }

    /// Returns when an image was first made, as the first cache that knows it says; `identity` is the
    /// digest of its config without times.
    pub fn created(&self, identity: &Digest) -> Option<Timestamp> {
        self.asked().find_map(|(_, source)| source.created(identity)?.parse().ok())
    }

    /// Returns the id that the disk knows a layer by, if it is there; else the same id.
    pub fn real(&self, id: &SnapshotId) -> SnapshotId {
        let layers = locked(&self.layers);
        layers.get(id).and_then(|layer| layer.arrived.get()).unwrap_or(id).clone()
    }

    /// Returns what is known of a layer that is not here, and its blob where a cache has it.
    pub(super) fn elsewhere(&self, id: &SnapshotId) -> Option<(DiffId, Option<LayerBlob>)> {
        let layer = locked(&self.layers).get(id).filter(|layer| layer.arrived.get().is_none())?.clone();
        let blob = self.asked().find_map(|(_, source)| source.layer(&layer.diff_id).cloned());
        Some((layer.diff_id, blob))
    }

    fn asked(&self) -> impl Iterator<Item = (usize, &Source<'r>)> {
        let dropped = locked(&self.dropped).clone();
        self.sources.iter().enumerate().filter(move |(index, _)| !dropped.contains(index))
    }

    fn drop_source(&self, index: usize, error: &RemoteCacheError) {
        if locked(&self.dropped).insert(index) {
            let name = &self.sources[index].name;
            locked(&self.failures).push(format!("warning: the cache `{name}` is not used any more: {error}"));
        }
    }

    fn imported(&self, source: &Source<'r>, record: &RecordEntry) -> Option<Imported> {
        let layer = match &record.layer {
            None => None,
            Some(layer) => {
                let snapshot = self.snapshot(&layer.diff_id).ok()?;
                if locked(&self.shunned).contains(&snapshot) && !self.can_be_had(&snapshot) {
                    return None;
                }
                let content = image_layer_digest(&layer.diff_id);
                Some(ImportedLayer { snapshot, content, portable: layer.content })
            }
        };
        Some(Imported { layer, created_unix_ms: record.created, source: source.name.clone() })
    }

    /// Returns the id of a layer: that of the disk where the very layer is there, else one that stands
    /// for it, the same in every build.
    fn snapshot(&self, diff_id: &DiffId) -> Result<SnapshotId, StoreError> {
        for (_, source) in self.asked() {
            if let Some(blob) = source.layer(diff_id)
                && let Ok(Some(there)) = content::already_there(self.store, &expected(diff_id, blob))
            {
                return Ok(there);
            }
        }
        let mut layers = locked(&self.layers);
        let mut hasher = Hasher::new();
        hasher.update(b"rbuild layer of elsewhere v1");
        hasher.update(diff_id.0.as_bytes());
        let mut name = hasher.finish();
        loop {
            let mut bits = [0; 8];
            bits.copy_from_slice(&name.as_bytes()[..8]);
            let id = SnapshotId::from_bits(u64::from_le_bytes(bits));
            match layers.get(&id) {
                Some(layer) if layer.diff_id == *diff_id => return Ok(id),
                None if !self.store.has_snapshot(&id)? => {
                    let layer =
                        Layer { diff_id: *diff_id, fetching: Mutex::default(), arrived: OnceLock::new() };
                    layers.insert(id.clone(), Arc::new(layer));
                    return Ok(id);
                }
                // Another's of the same 48 bits: the next digest decides.
                _ => name = Digest::of(name.as_bytes()),
            }
        }
    }

    fn fetch(&self, layer: &Layer, cancel: &Cancel) -> Result<(), RemoteCacheError> {
        let _alone = locked(&layer.fetching);
        if layer.arrived.get().is_some() {
            return Ok(());
        }
        self.store.hold()?;
        let cancelled = || cancel.is_cancelled();
        let mut last = RemoteCacheError::NoBlob(layer.diff_id);
        let candidates: Vec<(usize, &Source<'r>)> = self.asked().collect();
        for (index, source) in candidates {
            let Some(blob) = source.layer(&layer.diff_id) else { continue };
            let expected = expected(&layer.diff_id, blob);
            let received = match content::already_there(self.store, &expected)? {
                Some(there) => Ok(there),
                None => source.place.open(&blob.digest, blob.size, &cancelled).and_then(|reader| {
                    let of = format!("cached layer {}", blob.digest.short());
                    let reader = Meter::new(self.reporter, &of, "", blob.size).of(reader);
                    Ok(content::receive_layer(self.store, reader, &expected)?)
                }),
            };
            match received {
                Ok(id) => {
                    let _ = layer.arrived.set(id);
                    return Ok(());
                }
                Err(_) if cancel.is_cancelled() => return Err(RemoteCacheError::Cancelled),
                Err(error) => {
                    self.drop_source(index, &error);
                    last = error;
                }
            }
        }
        Err(last)
    }
}

fn expected(diff_id: &DiffId, blob: &LayerBlob) -> ExpectedLayer {
    ExpectedLayer { digest: blob.digest, size: blob.size, diff_id: *diff_id }
}

impl Imports for Caches<'_> {
    fn has_op(&self, op: &OpDigest) -> bool {
        self.asked().any(|(_, source)| source.has_op(op))
    }

    fn lookup(&self, op: &OpDigest, key: &CacheKey) -> Option<Imported> {
        self.asked().find_map(|(_, source)| self.imported(source, source.record(op, key)?))
    }

    fn selection(&self, name: &Digest) -> Option<SelectionDigest> {
        self.asked().find_map(|(_, source)| source.selection(name))
    }

    fn is_here(&self, layer: &SnapshotId) -> bool {
        locked(&self.layers).get(layer).is_none_or(|layer| layer.arrived.get().is_some())
    }

    fn can_be_had(&self, layer: &SnapshotId) -> bool {
        self.elsewhere(layer).is_none_or(|(_, blob)| blob.is_some())
    }

    fn bring(&self, layers: &[SnapshotId], cancel: &Cancel) -> Result<Vec<SnapshotId>, CacheError> {
        let absent: Vec<Arc<Layer>> = {
            let table = locked(&self.layers);
            let found = layers.iter().filter_map(|id| table.get(id).cloned());
            found.filter(|layer| layer.arrived.get().is_none()).collect()
        };
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let work = || {
            while let Some(layer) = absent.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = self.fetch(layer, cancel) {
                    next.store(absent.len(), Ordering::Relaxed);
                    locked(&failure).get_or_insert(error);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..absent.len().min(AT_ONCE) {
                scope.spawn(work);
            }
            work();
        });
        if let Some(error) = locked(&failure).take() {
            return Err(Box::new(error));
        }
        Ok(layers.iter().map(|id| self.real(id)).collect())
    }
}
