//! Making room: how pieces of the build cache go.
//!
//! A record goes first, its layer with the sweep that follows, so whoever looks it up meanwhile has a
//! miss. Files with a lock go only when it can be had, and are moved aside under it. Not here: which
//! pieces (`choose`), when nothing needs a layer any more (`sweep`), images (`removal`), what is made beside running
//! builds (`beside`).

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::image::SnapshotId;
use crate::sys::lock::FileLock;

use super::entries::Place;
use super::error::failed;
use super::measure::Measure;
use super::temporary::remove_tree;
use super::{CacheEntry, Store, StoreError};

/// What a prune did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CachePruned {
    /// The ids of the pieces that went.
    pub removed: Vec<String>,
    /// The bytes of the files that were deleted.
    pub freed: u64,
    /// Whether builds are running, so that layers are freed when those end.
    pub deferred: bool,
}

impl Store {
    /// Removes pieces of the build cache; those that somebody uses by now stay.
    pub fn remove_cache(&self, entries: &[CacheEntry]) -> Result<CachePruned, StoreError> {
        let mut pruned = CachePruned::default();
        let lease = self.leased()?;
        let mut trash = Vec::new();
        let (mut layers, mut alone): (BTreeSet<SnapshotId>, Vec<PathBuf>) = Default::default();
        let mut with_records = false;
        for entry in entries {
            let gone = match &entry.place {
                Place::Layer(id) => {
                    layers.insert(id.clone());
                    true
                }
                Place::Records => {
                    with_records = true;
                    true
                }
                Place::Alone(path) => {
                    alone.push(path.clone());
                    true
                }
                Place::Free(path) => self.aside(path, &lease.id, &mut trash)?,
                Place::Locked { files, lock } => match take(lock)? {
                    Some(_lock) => self.aside(files, &lease.id, &mut trash)?,
                    None => false,
                },
                Place::WithLock(folder) => match take(&folder.join("lock"))? {
                    Some(_lock) => self.aside(folder, &lease.id, &mut trash)?,
                    None => false,
                },
            };
            if gone {
                pruned.removed.push(entry.id.clone());
            }
        }
        self.drop_records_of(&layers, with_records, &lease.id, &mut trash)?;
        let mut measure = Measure::default();
        trash.iter().for_each(|path| measure.add(path));
        for path in &trash {
            remove_tree(path).map_err(failed("remove", path))?;
        }
        match self.sweep_measured(alone)? {
            Some(swept) => pruned.freed = swept.freed,
            None => pruned.deferred = true,
        }
        pruned.freed = pruned.freed.saturating_add(measure.freed());
        Ok(pruned)
    }

    pub(super) fn aside(
        &self,
        path: &Path,
        lease: &str,
        trash: &mut Vec<PathBuf>,
    ) -> Result<bool, StoreError> {
        let moved = self.move_aside(path, lease)?;
        let there = moved.is_some();
        trash.extend(moved);
        Ok(there)
    }

    /// Drops the cache records that speak of these layers, and with `others` those that speak of none.
    pub(super) fn drop_records_of(
        &self,
        layers: &BTreeSet<SnapshotId>,
        others: bool,
        lease: &str,
        trash: &mut Vec<PathBuf>,
    ) -> Result<(), StoreError> {
        for op in self.record_ops()? {
            for key in self.record_keys(&op)? {
                let path = self.paths.record(&op, &key);
                let goes = match self.record_layer(&path)? {
                    Some(Ok(Some(layer))) => layers.contains(&layer),
                    Some(Ok(None)) => others,
                    Some(Err(_)) | None => false,
                };
                if goes {
                    self.aside(&path, lease, trash)?;
                }
            }
        }
        Ok(())
    }
}

/// Takes a lock alone; `None` where somebody has it, or it is there no more.
pub(super) fn take(path: &Path) -> Result<Option<FileLock>, StoreError> {
    if !path.exists() {
        return Ok(None);
    }
    let Some(lock) = FileLock::try_exclusive(path).map_err(failed("lock", path))? else { return Ok(None) };
    let id = |m: std::fs::Metadata| (m.dev(), m.ino());
    let same = match (lock.file().metadata(), std::fs::symlink_metadata(path)) {
        (Ok(held), Ok(named)) => id(held) == id(named),
        _ => false,
    };
    Ok(same.then_some(lock))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::Free;
    use super::super::{CacheKind, CacheMountId, CacheUse, PruneRequest, choose, images, testing};
    use super::*;
    use crate::image::{CacheKey, Digest, OpDigest};

    #[test]
    fn layers_go_with_their_records_unless_an_image_has_them() {
        let directory = tempfile::tempdir().unwrap();
        let (op, key) = (|text: &str| OpDigest(Digest::of(text)), CacheKey(Digest::of("key")));
        let (image, shared, alone) = {
            let store = testing::open(directory.path());
            let image = images::testing::image(&store, "a", &["shared"]);
            let shared = store.image(&image).unwrap().layers[0].clone();
            let alone = testing::layer(&store, "file", "twelve bytes");
            store.publish_record(&op("1"), &key, Some(&shared), b"x").unwrap();
            store.publish_record(&op("2"), &key, Some(&alone), b"x").unwrap();
            store.publish_record(&op("3"), &key, None, b"x").unwrap();
            (image, shared, alone)
        };
        let store = testing::open(directory.path());
        let usage = store.usage().unwrap();
        let told = |id: &SnapshotId| usage.cache.iter().find(|e| e.id == id.as_str()).unwrap();
        assert_eq!((told(&shared).shared, told(&alone).shared), (true, false));
        assert_eq!((told(&alone).size, usage.images_size, usage.images_reclaimable), (12, 6, 6));
        assert_eq!((usage.images[0].size, usage.images[0].unique), (6, 6));

        let prune = |all: bool| {
            let request = PruneRequest { all, ..PruneRequest::default() };
            store.remove_cache(&choose(&store.cache_entries().unwrap(), &request, &Free::default())).unwrap()
        };
        let pruned = prune(false);
        assert_eq!((&pruned.removed[..], pruned.deferred), (&[alone.to_string()][..], false));
        assert!(pruned.freed >= 12, "{}", pruned.freed);
        assert!(!store.has_snapshot(&alone).unwrap() && store.image(&image).is_ok());
        assert!(store.record(&op("1"), &key).unwrap().is_some());

        let pruned = prune(true);
        assert_eq!(pruned.removed.len(), 2, "{:?}", pruned.removed);
        assert!(store.record(&op("1"), &key).unwrap().is_none());
        assert!(store.image(&image).is_ok() && store.cache_entries().unwrap().is_empty());
    }

    #[test]
    fn what_is_locked_stays() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let id = |id: &str| CacheMountId { id: id.into(), seed: None, mode: 0o755, uid: 0, gid: 0 };
        let nothing = |_: &Path| Ok::<(), StoreError>(());
        let user = testing::open(directory.path());
        let take = |name: &str| {
            let mount = user.cache_mount(&id(name), CacheUse::Shared, None, &nothing, &|| false).unwrap();
            let files = directory.path().join("v1/cache/mounts").join(id(name).name()).join("0");
            std::fs::write(files.join("f"), "12345").unwrap();
            (mount, files)
        };
        let (held, held_files) = take("held");
        let (free, free_files) = take("free");
        drop(free);
        let git = store.git_dir().join("checkouts");
        let download = store.downloads_dir().join("0123456789abcdef");
        for files in [git.join("one/files"), download.join("version")] {
            std::fs::create_dir_all(&files).unwrap();
            std::fs::write(files.join("f"), "123").unwrap();
        }
        for lock in [git.join("one.lock"), download.join("lock")] {
            std::fs::write(lock, "").unwrap();
        }
        let lock = FileLock::shared(&download.join("lock")).unwrap();
        let prune = || {
            let entries = store.cache_entries().unwrap();
            store.remove_cache(&choose(&entries, &PruneRequest::default(), &Free::default())).unwrap()
        };
        let in_use = store.cache_entries().unwrap().iter().filter(|entry| entry.in_use).count();
        assert_eq!(in_use, 2);
        let pruned = prune();
        // Two files: the store itself is in use, so nothing more goes.
        assert_eq!((pruned.removed.len(), pruned.freed, pruned.deferred), (2, 8, true));
        assert!(held_files.exists() && !free_files.exists() && !git.join("one").exists());
        assert!(download.exists() && git.join("one.lock").exists());

        drop((held, lock, user));
        let pruned = prune();
        assert_eq!((pruned.removed.len(), pruned.deferred), (2, false));
        for empty in [git, store.downloads_dir().to_owned(), directory.path().join("v1/cache/mounts")] {
            assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0, "{}", empty.display());
        }
    }

    #[test]
    fn parts_of_layers_go_unless_they_are_being_received() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let partial = |text: &str| {
            let mut partial = store.partial(&Digest::of(text), 10, &|| false).unwrap();
            partial.write_all(b"abc").unwrap();
            partial
        };
        drop(partial("stopped"));
        let mut held = partial("held");
        let entries = store.cache_entries().unwrap();
        let told: Vec<_> = entries.iter().map(|e| (e.kind, e.in_use)).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(told.iter().filter(|told| **told == (CacheKind::Http, true)).count(), 1, "{told:?}");
        let pruned =
            store.remove_cache(&choose(&entries, &PruneRequest::default(), &Free::default())).unwrap();
        assert_eq!((pruned.removed, pruned.freed), (vec![Digest::of("stopped").hex()[..12].to_owned()], 3));
        held.write_all(b"defghij").unwrap();
        assert_eq!(store.partial_bytes().unwrap(), 10);
    }

    #[test]
    fn a_piece_taken_into_use_after_it_was_chosen_stays() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let folder = store.downloads_dir().join("key");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("lock"), "").unwrap();
        let entries = store.cache_entries().unwrap();
        let chosen = choose(&entries, &PruneRequest::default(), &Free::default());
        let _lock = FileLock::shared(&folder.join("lock")).unwrap();
        assert_eq!((chosen.len(), store.remove_cache(&chosen).unwrap().removed.len()), (1, 0));
        assert!(folder.exists());
    }
}
