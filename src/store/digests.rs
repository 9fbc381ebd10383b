//! Digests of layers, and the way from a digest to a layer.

use std::io;
use std::path::Path;

use crate::image::{DiffId, Hasher, LayerDigest, SnapshotId};
use crate::layer::LayerDigests;

use super::error::{failed, read_if_there};
use super::{SnapshotKind, Store, StoreError};

/// Returns the content digest of a layer that came with an image: its DiffID says it all.
pub fn image_layer_digest(diff_id: &DiffId) -> LayerDigest {
    let mut hasher = Hasher::new();
    hasher.update(b"rbuild image layer v1");
    hasher.update(diff_id.0.as_bytes());
    LayerDigest(hasher.finish())
}

impl Store {
    /// Notes the digests of a layer and makes it found by them.
    ///
    /// Returns the layer that stands for this content: an older one of the same kind where
    /// there is one, which then is to be used, so that equal content stays the same bytes.
    pub fn set_digests(&self, id: &SnapshotId, digests: &LayerDigests) -> Result<SnapshotId, StoreError> {
        let Some(meta) = self.meta(id)? else { return Err(StoreError::NoSnapshot(id.clone())) };
        let bytes = serde_json::to_vec(digests).expect("strings and numbers");
        self.publish(&self.paths.snapshot(id).join("digests"), &bytes)?;
        self.know_digests(id, digests);
        self.add_written(digests.file_bytes)?;
        self.index(&self.paths.by_diff.join(digests.diff_id.hex()), id)?;
        self.index(&self.paths.content(&digests.content.0, meta.kind), id)
    }

    /// Returns the digests of a layer; `None` where they are not known yet.
    pub fn digests(&self, id: &SnapshotId) -> Result<Option<LayerDigests>, StoreError> {
        if let Some(digests) = self.known_digests(id) {
            return Ok(Some(digests));
        }
        let Some(bytes) = read_if_there(&self.paths.snapshot(id).join("digests"))? else { return Ok(None) };
        // One that cannot be read is one that is not known: it can be computed again.
        let digests: Option<LayerDigests> = serde_json::from_slice(&bytes).ok();
        if let Some(digests) = &digests {
            self.know_digests(id, digests);
        }
        Ok(digests)
    }

    /// Finds a layer by its content digest.
    pub fn by_content(
        &self,
        content: &LayerDigest,
        kind: SnapshotKind,
    ) -> Result<Option<SnapshotId>, StoreError> {
        self.indexed(&self.paths.content(&content.0, kind), |digests| digests.content == *content)
    }

    /// Finds a layer by its DiffID.
    pub fn by_diff_id(&self, diff_id: &DiffId) -> Result<Option<SnapshotId>, StoreError> {
        self.indexed(&self.paths.by_diff.join(diff_id.hex()), |digests| digests.diff_id == *diff_id)
    }

    fn indexed(
        &self,
        path: &Path,
        is_it: impl Fn(&LayerDigests) -> bool,
    ) -> Result<Option<SnapshotId>, StoreError> {
        let Some(id) = read_index(path)? else { return Ok(None) };
        if self.has_snapshot(&id)? && self.digests(&id)?.is_some_and(|digests| is_it(&digests)) {
            return Ok(Some(id));
        }
        Ok(None)
    }

    /// Points an index entry at a layer, unless it points at one that is still good.
    fn index(&self, path: &Path, id: &SnapshotId) -> Result<SnapshotId, StoreError> {
        loop {
            match std::os::unix::fs::symlink(id.as_str(), path) {
                Ok(()) => return Ok(id.clone()),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(failed("write", path)(e)),
            }
            match read_index(path)? {
                Some(there) if there == *id => return Ok(there),
                Some(there) if self.has_snapshot(&there)? && self.digests(&there)?.is_some() => {
                    return Ok(there);
                }
                _ => {}
            }
            let (temporary, _hold) = self.temp_path()?;
            std::os::unix::fs::symlink(id.as_str(), &temporary).map_err(failed("write", &temporary))?;
            std::fs::rename(&temporary, path).map_err(failed("write", path))?;
        }
    }
}

/// Reads an index entry: the id that a link's target is.
pub(super) fn read_index(path: &Path) -> Result<Option<SnapshotId>, StoreError> {
    match std::fs::read_link(path) {
        Ok(target) => Ok(target.to_str().and_then(|t| SnapshotId::try_from(t.to_owned()).ok())),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => Ok(None),
        Err(e) => Err(failed("read", path)(e)),
    }
}

/// Makes the digests of a layer that came with an image.
pub fn image_layer_digests(diff_id: DiffId, tar_size: u64, file_bytes: u64, entries: u64) -> LayerDigests {
    LayerDigests { content: image_layer_digest(&diff_id), diff_id, tar_size, file_bytes, entries }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::image::Digest;

    fn fake(content: &str) -> LayerDigests {
        LayerDigests {
            content: LayerDigest(Digest::of(content)),
            diff_id: DiffId(Digest::of(format!("diff of {content}"))),
            tar_size: 1,
            file_bytes: 2,
            entries: 3,
        }
    }

    #[test]
    fn the_older_of_two_equal_layers_stands() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let (old, new) = (testing::layer(&store, "a", "1"), testing::layer(&store, "a", "1"));
        let digests = fake("x");
        assert!(store.by_content(&digests.content, SnapshotKind::Run).unwrap().is_none());
        assert_eq!(store.set_digests(&old, &digests).unwrap(), old);
        assert_eq!(store.set_digests(&new, &digests).unwrap(), old);
        assert_eq!(store.set_digests(&old, &digests).unwrap(), old);
        assert_eq!(store.by_content(&digests.content, SnapshotKind::Run).unwrap(), Some(old.clone()));
        assert_eq!(store.by_content(&digests.content, SnapshotKind::Copy).unwrap(), None);
        assert_eq!(store.by_diff_id(&digests.diff_id).unwrap(), Some(old.clone()));

        std::fs::remove_dir_all(store.paths.snapshot(&old)).unwrap();
        assert_eq!(store.by_content(&digests.content, SnapshotKind::Run).unwrap(), None);
        assert_eq!(store.set_digests(&new, &digests).unwrap(), new);
        assert_eq!(store.by_diff_id(&digests.diff_id).unwrap(), Some(new));
    }

    #[test]
    fn an_entry_that_lies_is_not_served() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let (one, other) = (testing::layer(&store, "a", "1"), testing::layer(&store, "b", "2"));
        store.set_digests(&one, &fake("1")).unwrap();
        store.set_digests(&other, &fake("2")).unwrap();
        let path = store.paths.content(&fake("1").content.0, SnapshotKind::Run);
        for target in [other.as_str(), "../../../etc", "x"] {
            std::fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink(target, &path).unwrap();
            assert_eq!(store.by_content(&fake("1").content, SnapshotKind::Run).unwrap(), None);
        }
    }

    #[test]
    fn image_layers_digest_is_fixed() {
        assert_eq!(
            image_layer_digest(&DiffId(Digest::of("x"))).to_string(),
            format!(
                "{}",
                LayerDigest(Digest::of([&b"rbuild image layer v1"[..], Digest::of("x").as_bytes()].concat()))
            )
        );
    }

    #[test]
    fn equal_layers_made_at_once_agree_on_one() {
        let directory = tempfile::tempdir().unwrap();
        let stores: Vec<Store> = (0..8).map(|_| testing::open(directory.path())).collect();
        let stand: Vec<SnapshotId> = std::thread::scope(|scope| {
            let threads: Vec<_> = stores
                .iter()
                .map(|store| {
                    scope.spawn(|| store.set_digests(&testing::layer(store, "a", "1"), &fake("x")).unwrap())
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(stand.iter().all(|id| *id == stand[0]), "{stand:?}");
    }
}
