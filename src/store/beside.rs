//! Making room while others build: pieces go one by one, without the lock that a sweep waits for.
//!
//! Whoever holds the store sets the time of last use of a layer before it reads the layer's description
//! ([`Store::meta`]), and has a lease that is older than that. So a layer that was last used before the oldest lease
//! was made is nobody's; whether it became somebody's since it was looked at is seen once its description has been
//! moved out of the way: who touched it before that is told by its time, who comes later finds no layer. The files
//! stay in place until that is known. Not here: which pieces (`choose`, `quota`).

use std::path::PathBuf;

use jiff::Timestamp;

use crate::image::SnapshotId;

use super::entries::{Place, time_of};
use super::error::failed;
use super::leases::{clear_dead, in_use_since};
use super::prune::take;
use super::temporary::remove_tree;
use super::{CacheEntry, Store, StoreError};

/// Where the description of a layer is while it is decided whether it goes.
const GOING: &str = "meta.going";

impl Store {
    /// Lists the build cache; layers that running builds may have taken into use are in use.
    pub(super) fn entries_beside(&self) -> Result<Vec<CacheEntry>, StoreError> {
        // First: what is taken into use from here on is seen when it is to go.
        self.leased()?;
        clear_dead(&self.paths)?;
        let since = in_use_since(&self.paths)?;
        let mut entries = self.cache_entries()?;
        for entry in &mut entries {
            entry.in_use |= match &entry.place {
                Place::Layer(_) => entry.used >= since,
                Place::Locked { .. } | Place::WithLock(_) | Place::Free(_) => false,
                Place::Alone(_) | Place::Records => true,
            };
        }
        Ok(entries)
    }

    /// Removes pieces that [`Store::entries_beside`] listed as not in use, each unless it is by now; returns the
    /// ids of those that went.
    pub(super) fn remove_beside(&self, entries: &[CacheEntry]) -> Result<Vec<String>, StoreError> {
        let lease = self.leased()?;
        let (mut trash, mut gone): (Vec<PathBuf>, Vec<String>) = Default::default();
        let mut layers = std::collections::BTreeSet::new();
        for entry in entries.iter().filter(|entry| !entry.in_use) {
            let went = match &entry.place {
                Place::Layer(id) => {
                    let went = self.layer_aside(id, entry.used, &lease.id, &mut trash)?;
                    went.then(|| layers.insert(id.clone()));
                    went
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
                Place::Alone(_) | Place::Records => false,
            };
            went.then(|| gone.push(entry.id.clone()));
        }
        self.drop_records_of(&layers, false, &lease.id, &mut trash)?;
        for path in trash {
            remove_tree(&path).map_err(failed("remove", &path))?;
        }
        if !layers.is_empty() {
            // What else those layers needed goes when the last build ends.
            std::fs::write(&self.paths.sweep, "").map_err(failed("write", &self.paths.sweep))?;
        }
        Ok(gone)
    }

    /// Removes the image that was made first of those that have no name, run in no container, and were last built or
    /// taken into use before the oldest of those who use the store began. Its layers stay. Tells whether there was one.
    pub(super) fn remove_oldest_unnamed(&self) -> Result<bool, StoreError> {
        let since = in_use_since(&self.paths)?;
        let mut unnamed = Vec::new();
        for listed in self.images()?.into_iter().filter(|listed| listed.names.is_empty()) {
            let made = time_of(&self.paths.image(&listed.id));
            let top = listed.image.ok().and_then(|image| image.layers.last().cloned());
            let used = top.and_then(|top| time_of(&self.paths.snapshot(&top).join("meta")));
            if let Some(made) = made.filter(|made| *made.max(&used.unwrap_or(*made)) < since) {
                unnamed.push((made, listed.id));
            }
        }
        unnamed.sort_unstable();
        for (_, id) in unnamed {
            let _lock = self.names_lock()?;
            if self.container_of(&id)?.is_none() && self.names_of(&id)?.is_empty() && self.has_image(&id) {
                self.delete_image(&id)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Moves a layer out of sight, unless somebody took it into use since its last use was read.
    fn layer_aside(
        &self,
        id: &SnapshotId,
        used: Timestamp,
        lease: &str,
        trash: &mut Vec<PathBuf>,
    ) -> Result<bool, StoreError> {
        let directory = self.paths.snapshot(id);
        let (meta, going) = (directory.join("meta"), directory.join(GOING));
        match std::fs::rename(&meta, &going) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(failed("remove", &meta)(e)),
        }
        if time_of(&going) != Some(used) {
            std::fs::rename(&going, &meta).map_err(failed("keep", &meta))?;
            return Ok(false);
        }
        self.forget(id);
        self.aside(&directory, lease, trash)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{images, testing};
    use super::*;
    use crate::image::{CacheKey, Digest, OpDigest};

    /// Makes a layer as one that was last used an hour ago.
    fn age(store: &Store, id: &SnapshotId) {
        let meta = store.paths.snapshot(id).join("meta");
        let past = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
        std::fs::File::open(meta).unwrap().set_modified(past).unwrap();
    }

    fn ids(entries: &[CacheEntry], in_use: bool) -> Vec<&str> {
        let mut ids: Vec<&str> = entries.iter().filter(|e| e.in_use == in_use).map(|e| &*e.id).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn old_layers_go_while_the_store_is_held_and_used_ones_stay() {
        let directory = tempfile::tempdir().unwrap();
        let (op, key) = (|text: &str| OpDigest(Digest::of(text)), CacheKey(Digest::of("key")));
        let (old, used, pinned, image) = {
            let store = testing::open(directory.path());
            let image = images::testing::image(&store, "a", &["image"]);
            let layers = ["old", "used", "pinned"].map(|name| testing::layer(&store, name, name));
            for (layer, name) in layers.iter().zip(["old", "used", "pinned"]) {
                store.publish_record(&op(name), &key, Some(layer), b"").unwrap();
                age(&store, layer);
            }
            age(&store, &store.image(&image).unwrap().layers[0]);
            let [old, used, pinned] = layers;
            (old, used, pinned, image)
        };
        let store = testing::open(directory.path());
        let container = testing::open(directory.path());
        container.hold_only(std::slice::from_ref(&pinned)).unwrap();
        let builder = testing::open(directory.path());
        builder.look_once().unwrap();
        assert!(builder.record(&op("used"), &key).unwrap().is_some());
        let new = testing::layer(&builder, "new", "new");
        store.hold().unwrap();

        let entries = store.entries_beside().unwrap();
        assert_eq!(ids(&entries, false), [old.as_str()]);
        assert_eq!(store.remove_beside(&entries).unwrap(), [old.as_str()]);
        for layer in [&used, &pinned, &new] {
            assert!(store.has_snapshot(layer).unwrap(), "{layer}");
        }
        assert!(!store.has_snapshot(&old).unwrap() && store.image(&image).is_ok());
        assert!(builder.record(&op("old"), &key).unwrap().is_none());
        assert!(!store.paths.record(&op("old"), &key).exists() && store.paths.sweep.exists());
    }

    #[test]
    fn one_taken_into_use_after_it_was_listed_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (op, key) = (OpDigest(Digest::of("op")), CacheKey(Digest::of("key")));
        let layer = {
            let store = testing::open(directory.path());
            let layer = testing::layer(&store, "a", "a");
            store.publish_record(&op, &key, Some(&layer), b"").unwrap();
            age(&store, &layer);
            layer
        };
        let store = testing::open(directory.path());
        let entries = store.entries_beside().unwrap();
        assert_eq!(ids(&entries, false), [layer.as_str()]);
        let builder = testing::open(directory.path());
        builder.look_once().unwrap();
        assert!(builder.record(&op, &key).unwrap().is_some());
        assert!(store.remove_beside(&entries).unwrap().is_empty());
        assert!(store.has_snapshot(&layer).unwrap() && store.paths.record(&op, &key).exists());
    }

    /// Threads that look layers up, and one that removes all it may: who has found a layer keeps its files.
    #[test]
    fn who_has_found_a_layer_keeps_it() {
        let directory = tempfile::tempdir().unwrap();
        let layers: Vec<SnapshotId> = {
            let store = testing::open(directory.path());
            let layers = (0..60).map(|n| testing::layer(&store, "a", &n.to_string()));
            layers.inspect(|layer| age(&store, layer)).collect()
        };
        let store = testing::open(directory.path());
        let entries = store.entries_beside().unwrap();
        assert_eq!(ids(&entries, false).len(), 60);
        let found: Vec<(Store, Vec<SnapshotId>)> = std::thread::scope(|scope| {
            let seekers: Vec<_> = (0..4)
                .map(|start| {
                    let layers = &layers;
                    let builder = testing::open(directory.path());
                    scope.spawn(move || {
                        builder.look_once().unwrap();
                        let mine = layers.iter().skip(start * 7).step_by(3);
                        let found: Vec<_> =
                            mine.filter(|id| builder.has_snapshot(id).unwrap()).cloned().collect();
                        (builder, found)
                    })
                })
                .collect();
            store.remove_beside(&entries).unwrap();
            seekers.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        // The stores are still open: the last that closes sweeps, and no record speaks of these layers.
        for layer in found.iter().flat_map(|(_, layers)| layers) {
            assert!(store.snapshot_dir(layer).join("a").exists(), "{layer}");
        }
    }
}
