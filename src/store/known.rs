//! What a build has seen of layers: it looks at each once, not once a step.
//!
//! Only while the store is held, since then nobody removes a layer. Not here:
//! deciding whether a layer is whole (`snapshots`).

use std::collections::{HashMap, HashSet};

use crate::image::{ImageId, SnapshotId};
use crate::layer::LayerDigests;

use super::{SnapshotMeta, Store, StoreError, StoredImage, locked};

/// Whole layers and images, and digests that were read or written.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Whether anything is to be remembered.
    remembers: bool,
    whole: HashMap<SnapshotId, SnapshotMeta>,
    digests: HashMap<SnapshotId, LayerDigests>,
    images: HashMap<ImageId, StoredImage>,
    /// Layers whose time of last use was set since the store is held.
    touched: HashSet<SnapshotId>,
}

impl Store {
    /// Holds the store and from here on looks at each layer once.
    ///
    /// For a process that works with the same layers again and again and does not last: what
    /// happens to a layer after it was looked at goes unnoticed.
    pub fn look_once(&self) -> Result<(), StoreError> {
        self.hold()?;
        locked(&self.known).remembers = true;
        Ok(())
    }

    /// Returns an image that was read.
    pub(super) fn known_image(&self, id: &ImageId) -> Option<StoredImage> {
        locked(&self.known).images.get(id).cloned()
    }

    /// Remembers an image that was found whole.
    pub(super) fn know_image(&self, image: &StoredImage) {
        let mut known = locked(&self.known);
        if known.remembers {
            known.images.insert(image.id, image.clone());
        }
    }

    /// Tells whether a layer's time of last use is still to be set, and that it will be.
    pub(super) fn is_first_use(&self, id: &SnapshotId) -> bool {
        locked(&self.known).touched.insert(id.clone())
    }

    /// Returns what was seen of a whole layer.
    pub(super) fn known_whole(&self, id: &SnapshotId) -> Option<SnapshotMeta> {
        locked(&self.known).whole.get(id).cloned()
    }

    /// Remembers a layer that was found whole.
    pub(super) fn know_whole(&self, id: &SnapshotId, meta: &SnapshotMeta) {
        let mut known = locked(&self.known);
        if known.remembers {
            known.whole.insert(id.clone(), meta.clone());
        }
    }

    /// Returns the digests that were seen of a layer.
    pub(super) fn known_digests(&self, id: &SnapshotId) -> Option<LayerDigests> {
        locked(&self.known).digests.get(id).cloned()
    }

    /// Remembers the digests of a layer.
    pub(super) fn know_digests(&self, id: &SnapshotId, digests: &LayerDigests) {
        let mut known = locked(&self.known);
        if known.remembers {
            known.digests.insert(id.clone(), digests.clone());
        }
    }

    /// Forgets a layer that is removed or written anew.
    pub(super) fn forget(&self, id: &SnapshotId) {
        let mut known = locked(&self.known);
        known.whole.remove(id);
        known.touched.remove(id);
        known.digests.remove(id);
        known.images.retain(|_, image| !image.layers.contains(id));
    }

    /// Forgets all for good: others may remove layers from here on.
    pub(super) fn forget_all(&self) {
        *locked(&self.known) = Known::default();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;

    #[test]
    fn a_layer_is_looked_at_once_where_that_was_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let (before, gone) = (testing::layer(&store, "a", "1"), testing::layer(&store, "b", "2"));
        let remove = |id| std::fs::remove_dir_all(store.paths.snapshot(id)).unwrap();
        assert!(store.has_snapshot(&before).unwrap());
        remove(&before);
        assert!(!store.has_snapshot(&before).unwrap());

        store.look_once().unwrap();
        assert!(store.has_snapshot(&gone).unwrap());
        remove(&gone);
        assert!(store.has_snapshot(&gone).unwrap());
        store.discard(&gone);
        assert!(!store.has_snapshot(&gone).unwrap());

        let pinned = testing::layer(&store, "c", "3");
        assert!(store.has_snapshot(&pinned).unwrap());
        store.hold_only(&[]).unwrap();
        remove(&pinned);
        assert!(!store.has_snapshot(&pinned).unwrap());
    }
}
