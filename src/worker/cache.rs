//! The store as the engine's memory: cache records, layers by content, locks between builds.
//!
//! A record is JSON in a versioned folder of the store. One that cannot be read,
//! or whose layer is gone, is no record. The lists of the files that its step read lie apart, beside the layer:
//! only explanations need them. Not here: keys (`solve`), which builds there were (`build`).

use std::collections::BTreeMap;

use crate::image::{CacheKey, Digest, LayerDigest, OpDigest};
use crate::plan::graph::VertexId;
use crate::solve::{CacheError, CacheSource, Cancel, Earlier, Existing, Guard, Imports, Record};
use crate::store::{SnapshotKind, Store};

/// The most records of one operation that are looked at to explain a miss.
const EXPLAINED: usize = 20;

/// Tells what earlier builds of the same Dockerfile knew of a vertex.
pub type EarlierBuilds<'a> = &'a (dyn Fn(VertexId) -> Vec<Earlier> + Sync);

/// Remembers in a store.
pub struct StoreCache<'a> {
    store: &'a Store,
    imports: Option<&'a dyn Imports>,
    earlier: Option<EarlierBuilds<'a>>,
}

impl<'a> StoreCache<'a> {
    /// Makes the memory of a store.
    pub fn new(store: &'a Store) -> StoreCache<'a> {
        StoreCache { store, imports: None, earlier: None }
    }

    /// Adds the caches of elsewhere that are asked after it.
    pub fn with_imports(self, imports: Option<&'a dyn Imports>) -> StoreCache<'a> {
        StoreCache { imports, ..self }
    }

    /// Adds what is known of earlier builds.
    pub fn with_earlier(self, earlier: EarlierBuilds<'a>) -> StoreCache<'a> {
        StoreCache { earlier: Some(earlier), ..self }
    }

    /// Adds the files that a step read to its record, where they are known.
    fn with_files(&self, mut record: Record) -> Record {
        let lists = record.snapshot.as_ref().and_then(|layer| self.store.read_files(layer, &record.key));
        let lists: Vec<BTreeMap<String, String>> =
            lists.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        for (input, files) in record.inputs.iter_mut().zip(lists) {
            input.files = files;
        }
        record
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
        let read = |stored: &crate::store::Record| serde_json::from_slice::<Record>(&stored.bytes).ok();
        let mut records: Vec<Record> = records.iter().filter_map(read).collect();
        records.sort_by_key(|record| std::cmp::Reverse(record.created_unix_ms));
        records.truncate(EXPLAINED);
        records.into_iter().map(|record| self.with_files(record)).collect()
    }

    fn peek(&self, op: &OpDigest, key: &CacheKey) -> Option<Record> {
        let stored = self.store.peek_record(op, key)?;
        serde_json::from_slice(&stored.bytes).ok()
    }

    fn recall(&self, op: &OpDigest, key: &CacheKey) -> Option<Record> {
        self.peek(op, key).map(|record| self.with_files(record))
    }

    fn earlier(&self, vertex: VertexId) -> Vec<Earlier> {
        self.earlier.map(|earlier| earlier(vertex)).unwrap_or_default()
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

    fn publish(&self, mut record: Record) -> Result<(), CacheError> {
        let lists: Vec<BTreeMap<String, String>> =
            record.inputs.iter_mut().map(|input| std::mem::take(&mut input.files)).collect();
        if let Some(layer) = record.snapshot.as_ref().filter(|_| lists.iter().any(|list| !list.is_empty())) {
            // Without it a later explanation tells less: no reason to fail.
            drop(self.store.keep_read_files(layer, &record.key, &serde_json::to_vec(&lists)?));
        }
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
