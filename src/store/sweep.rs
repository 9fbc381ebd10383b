//! Garbage collection: layers, blobs and entries that nothing needs any more.
//!
//! The roots are told in the room's header. Only entries that cannot be used
//! any more are dropped from the cache; which of the others are to go is `prune`'s affair.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::image::{Digest, SnapshotId};
use crate::sys::atomic;
use crate::sys::lock::FileLock;

use super::digests::read_index;
use super::error::{failed, names_in, read_if_there, remove_file};
use super::images::ImageFile;
use super::measure::Measure;
use super::snapshots::State;
use super::temporary::remove_tree;
use super::{Store, StoreError, leases};

/// What a sweep removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swept {
    /// Sorted.
    pub layers: Vec<SnapshotId>,
    pub blobs: Vec<Digest>,
    /// The bytes of the files that were deleted, where that was measured.
    pub freed: u64,
}

impl Store {
    /// Removes all that nothing needs; `None` where the store is in use.
    ///
    /// Then it is done by the process that ends last.
    pub fn sweep_if_free(&self) -> Result<Option<Swept>, StoreError> {
        self.sweep(Vec::new(), false)
    }

    /// Does what [`Store::sweep_if_free`] does, removes `more` with it, and measures what is deleted.
    pub(super) fn sweep_measured(&self, more: Vec<PathBuf>) -> Result<Option<Swept>, StoreError> {
        self.sweep(more, true)
    }

    fn sweep(&self, more: Vec<PathBuf>, measured: bool) -> Result<Option<Swept>, StoreError> {
        // Before the lock: whoever takes a lease may be waiting for the lock to be free.
        let lease = self.leased()?;
        let alone = || FileLock::try_exclusive(&self.paths.lock).map_err(failed("lock", &self.paths.lock));
        let lock = match alone()? {
            Some(lock) => lock,
            None => {
                std::fs::write(&self.paths.sweep, "").map_err(failed("write", &self.paths.sweep))?;
                // Whoever ended before the file was there did not see it.
                let Some(lock) = alone()? else { return Ok(None) };
                lock
            }
        };
        let mut sweep = Sweep { store: self, lease: &lease.id, trash: Vec::new(), swept: Swept::default() };
        let done = sweep.run(&more);
        let Sweep { trash, mut swept, .. } = sweep;
        // Moved aside already: nobody need wait until it is deleted.
        drop(lock);
        if measured {
            let mut measure = Measure::default();
            trash.iter().for_each(|path| measure.add(path));
            swept.freed = measure.freed();
        }
        for path in trash {
            remove_tree(&path).map_err(failed("remove", &path))?;
        }
        done.map(|()| Some(swept))
    }

    /// Moves something out of sight, to be deleted; `None` where it is not there.
    pub(super) fn move_aside(&self, path: &Path, lease: &str) -> Result<Option<PathBuf>, StoreError> {
        let bits = atomic::random_bits().map_err(failed("remove", path))?;
        let to = self.paths.tmp.join(format!("{lease}.{bits:016x}"));
        match std::fs::rename(path, &to) {
            Ok(()) => Ok(Some(to)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("remove", path)(e)),
        }
    }
}

struct Sweep<'a> {
    store: &'a Store,
    lease: &'a str,
    trash: Vec<PathBuf>,
    swept: Swept,
}

impl Sweep<'_> {
    fn run(&mut self, more: &[PathBuf]) -> Result<(), StoreError> {
        let store = self.store;
        for path in more {
            self.discard(path)?;
        }
        let (living, pinned) = leases::living(&store.paths)?;
        self.clear_temporary(&living)?;
        store.clear_partials(super::PARTIAL_KEPT)?;
        let (mut layers, mut blobs): (BTreeSet<SnapshotId>, BTreeSet<Digest>) = Default::default();
        layers.extend(pinned);
        layers.extend(super::containers::layers_of_containers(&store.paths)?);
        for id in store.image_ids()? {
            blobs.insert(id.0);
            let Some(bytes) = read_if_there(&store.paths.image(&id))? else { continue };
            // A broken image keeps only what can still be read from it.
            if let Ok(file) = serde_json::from_slice::<ImageFile>(&bytes) {
                layers.extend(file.layers);
                blobs.extend(file.manifest);
            }
        }
        self.drop_records(&mut layers)?;
        for name in names_in(&store.paths.snapshots)? {
            let path = store.paths.snapshots.join(&name);
            let Ok(id) = SnapshotId::try_from(name) else {
                self.discard(&path)?;
                continue;
            };
            if !layers.contains(&id) {
                self.discard(&path)?;
                self.swept.layers.push(id);
                continue;
            }
            match store.snapshot_state(&id)? {
                State::Whole { meta, .. } | State::Suspect { meta } => {
                    blobs.extend(meta.blob.map(|blob| blob.digest));
                }
                State::Broken { .. } | State::Gone => {}
            }
        }
        for name in names_in(&store.paths.blobs)? {
            let digest = Digest::from_hex(&name).ok();
            if digest.is_none_or(|digest| !blobs.contains(&digest)) {
                self.discard(&store.paths.blobs.join(&name))?;
                self.swept.blobs.extend(digest);
            }
        }
        self.drop_steps()?;
        self.drop_index(&store.paths.by_content)?;
        self.drop_index(&store.paths.by_diff)?;
        self.drop_index(&store.paths.by_copy)?;
        self.drop_empty_caches()?;
        remove_file(&store.paths.sweep)
    }

    /// Drops records that cannot be used; the layers of the others are needed.
    fn drop_records(&mut self, layers: &mut BTreeSet<SnapshotId>) -> Result<(), StoreError> {
        for op in self.store.record_ops()? {
            let directory = self.store.paths.records_of(&op);
            let mut left = 0;
            for key in self.store.record_keys(&op)? {
                let path = self.store.paths.record(&op, &key);
                let layer = match self.store.record_layer(&path)? {
                    Some(Ok(None)) => {
                        left += 1;
                        continue;
                    }
                    Some(Ok(Some(layer))) => layer,
                    Some(Err(_)) | None => {
                        self.discard(&path)?;
                        continue;
                    }
                };
                if matches!(self.store.snapshot_state(&layer)?, State::Whole { .. }) {
                    layers.insert(layer);
                    left += 1;
                } else {
                    self.discard(&path)?;
                }
            }
            if left == 0 {
                self.discard(&directory)?;
            }
        }
        Ok(())
    }

    fn drop_steps(&mut self) -> Result<(), StoreError> {
        for id in self.store.step_ids()? {
            if self.store.step(&id)?.is_none() {
                self.discard(&self.store.paths.steps.join(id.as_str()))?;
            }
        }
        Ok(())
    }

    fn drop_index(&mut self, directory: &Path) -> Result<(), StoreError> {
        for name in names_in(directory)? {
            let path = directory.join(name);
            if read_index(&path)?.is_none_or(|id| !self.store.paths.snapshot(&id).exists()) {
                remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn clear_temporary(&mut self, living: &[String]) -> Result<(), StoreError> {
        for name in names_in(&self.store.paths.tmp)? {
            let lease = name.split('.').next().unwrap_or_default();
            if !living.iter().any(|id| id == lease) {
                self.trash.push(self.store.paths.tmp.join(name));
            }
        }
        Ok(())
    }

    /// Drops the folders of caches whose files were removed: who used them held the store, too.
    fn drop_empty_caches(&mut self) -> Result<(), StoreError> {
        let paths = &self.store.paths;
        for name in names_in(&paths.cache_mounts)? {
            let directory = paths.cache_mounts.join(name);
            if names_in(&directory)?
                .iter()
                .all(|name| ["meta", "sharing"].contains(&name.as_str()) || name.ends_with(".lock"))
            {
                self.discard(&directory)?;
            }
        }
        for folder in [paths.git.join("checkouts"), paths.git.join("repositories")] {
            for name in names_in(&folder)? {
                if name.strip_suffix(".lock").is_some_and(|of| !folder.join(of).exists()) {
                    remove_file(&folder.join(name))?;
                }
            }
        }
        Ok(())
    }

    /// Moves something out of sight; it is deleted when the lock is let go.
    fn discard(&mut self, path: &Path) -> Result<(), StoreError> {
        self.trash.extend(self.store.move_aside(path, self.lease)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{images, testing};
    use super::*;
    use crate::image::{CacheKey, OpDigest};

    #[test]
    fn rubbish_goes_and_what_is_needed_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (orphan, kept, image);
        {
            let store = testing::open(directory.path());
            image = images::testing::image(&store, "a", &["a"]);
            orphan = testing::layer(&store, "o", "o");
            kept = testing::layer(&store, "k", "k");
            store.put_blob(b"orphan").unwrap();
            let op = |text: &str| OpDigest(Digest::of(text));
            store.publish_record(&op("1"), &CacheKey(Digest::of("k")), Some(&kept), b"").unwrap();
            let gone = SnapshotId::from_bits(9);
            store.publish_record(&op("2"), &CacheKey(Digest::of("k")), Some(&gone), b"").unwrap();
            store.publish_record(&op("3"), &CacheKey(Digest::of("k")), None, b"").unwrap();
            std::fs::write(store.paths.tmp.join("ffffffffffff.1"), "").unwrap();
            std::fs::write(store.paths.record(&op("3"), &CacheKey(Digest::of("x"))), "torn").unwrap();
        }
        let store = testing::open(directory.path());
        let swept = store.sweep_if_free().unwrap().unwrap();
        assert_eq!((swept.layers, swept.blobs), (vec![orphan], vec![Digest::of("orphan")]));
        assert!(store.image(&image).is_ok() && store.has_snapshot(&kept).unwrap());
        assert_eq!(store.record_ops().unwrap().len(), 2);
        assert_eq!(store.record_keys(&OpDigest(Digest::of("3"))).unwrap().len(), 1);
        assert_eq!(names_in(&store.paths.tmp).unwrap().len(), 0);
        assert_eq!(store.sweep_if_free().unwrap(), Some(Swept::default()));
    }
}
