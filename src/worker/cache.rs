//! The store as the engine's memory: cache records, layers by content, locks between builds.
//!
//! A record is JSON in a versioned folder of the store. One that cannot be read,
//! or whose layer is gone, is no record. Not here: keys (`solve`).

use crate::image::{CacheKey, Digest, LayerDigest, OpDigest};
use crate::solve::{CacheError, CacheSource, Cancel, Existing, Guard, Imports, Record};
use crate::store::{SnapshotKind, Store};

/// The most records of one operation that are looked at to explain a miss.
const EXPLAINED: usize = 20;

/// Remembers in a store.
pub struct StoreCache<'a> {
    store: &'a Store,
    imports: Option<&'a dyn Imports>,
}

impl<'a> StoreCache<'a> {
    /// Makes the memory of a store.
    pub fn new(store: &'a Store) -> StoreCache<'a> {
        StoreCache { store, imports: None }
    }

    /// Adds the caches of elsewhere that are asked after it.
    pub fn with_imports(self, imports: Option<&'a dyn Imports>) -> StoreCache<'a> {
        StoreCache { imports, ..self }
    }
}

impl CacheSource for StoreCache<'_> {
    fn has_op(&self, op: &OpDigest) -> bool {
        self.store.has_op(op)
    }

    fn lookup(&self, op: &OpDigest, key: &CacheKey) -> Option<Record> {
        let stored = self.store.record(op, key).ok().flatten()?;
        let record: Record = serde_json::from_slice(&stored.bytes).ok()?;
        // The store vouches for the layer it names, not for the one these bytes name.
        if record.key != *key || record.snapshot != stored.snapshot {
            return None;
        }
        // Nor is a layer served whose digests are lost or others: what lies on it would be keyed
        // by a content it has not.
        let content = match &record.snapshot {
            Some(snapshot) => Some(self.store.digests(snapshot).ok().flatten()?.content),
            None => None,
        };
        (record.content == content).then_some(record)
    }

    fn for_op(&self, op: &OpDigest) -> Vec<Record> {
        let records = self.store.records_of(op).unwrap_or_default();
        records
            .iter()
            .take(EXPLAINED)
            .filter_map(|record| serde_json::from_slice(&record.bytes).ok())
            .collect()
    }

    fn by_content(&self, content: &LayerDigest, kind: &str) -> Option<Existing> {
        let kind = match kind {
            "run" => SnapshotKind::Run,
            "copy" => SnapshotKind::Copy,
            "workdir" => SnapshotKind::Workdir,
            _ => return None,
        };
        let snapshot = self.store.by_content(content, kind).ok().flatten()?;
        let created = self.store.meta(&snapshot).ok().flatten()?.created;
        Some(Existing { snapshot, created_unix_ms: created.as_millisecond() })
    }

    fn imports(&self) -> Option<&dyn Imports> {
        self.imports
    }

    fn publish(&self, record: Record) -> Result<(), CacheError> {
        let bytes = serde_json::to_vec(&record)?;
        self.store.publish_record(&record.op, &record.key, record.snapshot.as_ref(), &bytes)?;
        Ok(())
    }

    fn try_step_lock(&self, step: &Digest) -> Result<Option<Box<dyn Guard>>, CacheError> {
        Ok(self.store.try_step_lock(step)?.map(|lock| Box::new(lock) as Box<dyn Guard>))
    }

    fn step_lock_holder(&self, step: &Digest) -> Option<u32> {
        self.store.step_lock_holder(step)
    }

    fn step_lock(&self, step: &Digest, cancel: &Cancel) -> Result<Box<dyn Guard>, CacheError> {
        Ok(Box::new(self.store.step_lock(step, &|| cancel.is_cancelled())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::solve::Fields;
    use crate::store::testing;

    #[test]
    fn a_layer_whose_content_is_not_what_the_record_says_is_a_miss() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let layer = testing::layer(&store, "a", "1");
        let content = LayerDigest(Digest::of("content"));
        let digests = crate::layer::LayerDigests {
            content,
            diff_id: crate::image::DiffId(Digest::of("diff")),
            tar_size: 1,
            file_bytes: 1,
            entries: 1,
        };
        let cache = StoreCache::new(&store);
        let (op, key) = (OpDigest(Digest::of("op")), CacheKey(Digest::of("key")));
        let found = |content: LayerDigest| {
            let record = Record {
                key,
                op,
                kind: "run".into(),
                family: Digest::of("family"),
                text: "RUN x".into(),
                fields: Fields::new(),
                inputs: Vec::new(),
                snapshot: Some(layer.clone()),
                content: Some(content),
                created_unix_ms: 1,
            };
            cache.publish(record).unwrap();
            cache.lookup(&op, &key).is_some()
        };
        assert!(!found(content), "its digests are not known");
        store.set_digests(&layer, &digests).unwrap();
        assert!(found(content));
        assert!(!found(LayerDigest(Digest::of("another"))));
    }
}
