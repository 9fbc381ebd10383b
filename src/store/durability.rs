//! What survives a power cut.
//!
//! Nothing is synced while a build runs. [`Store::sync`] syncs the file system
//! once and then marks the layers that were written before: it takes the write
//! permission off their descriptions. A layer without the mark is trusted only
//! while the kernel that wrote it runs: its writes are in the page cache.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use crate::image::{DiffId, SnapshotId};
use crate::layer::{self, DigestOptions, LeftOut, Times};
use crate::sys::{RootDir, atomic};

use super::error::failed;
use super::snapshots::State;
use super::{SnapshotMeta, Store, StoreError, locked};

/// Returns the id of this start of the kernel.
pub(super) fn current_boot() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(atomic::boot_id)
}

impl Store {
    /// Puts all that was published on the disk, so that a user may be told it is done.
    ///
    /// Does nothing where nothing is new, or where the store was opened without `sync`.
    pub fn sync(&self) -> Result<(), StoreError> {
        if !self.options.sync {
            return Ok(());
        }
        // Taken before the sync: what is published meanwhile belongs to the next one.
        let unmarked = std::mem::take(&mut *locked(&self.unmarked));
        let dirty = self.dirty.swap(false, Ordering::SeqCst);
        if unmarked.is_empty() && !dirty {
            return Ok(());
        }
        if let Err(e) = atomic::sync_file_system(&self.paths.base) {
            self.dirty.store(true, Ordering::SeqCst);
            locked(&self.unmarked).extend(unmarked);
            return Err(failed("sync", &self.paths.base)(e));
        }
        for id in unmarked {
            let path = self.paths.snapshot(&id).join("meta");
            match std::fs::set_permissions(&path, PermissionsExt::from_mode(0o400)) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(failed("mark", &path)(e)),
            }
        }
        Ok(())
    }

    /// Looks whether a layer that may be torn is whole, by its DiffID; if so it is used again.
    ///
    /// `Ok(None)` says that it may be used, `Some` why not.
    pub(super) fn recover(
        &self,
        id: &SnapshotId,
        expect: Option<&DiffId>,
    ) -> Result<Option<String>, StoreError> {
        if self.known_whole(id).is_some() {
            return Ok(None);
        }
        let meta = match self.snapshot_state(id)? {
            State::Whole { meta, marked } => {
                if !marked {
                    locked(&self.unmarked).insert(id.clone());
                }
                self.know_whole(id, &meta);
                return Ok(None);
            }
            State::Gone => return Ok(Some(format!("layer {id} is gone"))),
            State::Broken { why } => return Ok(Some(format!("layer {id} is broken: {why}"))),
            State::Suspect { meta } => meta,
        };
        let torn = format!(
            "layer {id} was written shortly before the machine stopped and cannot be shown to be whole"
        );
        let known = self.digests(id)?.map(|d| d.diff_id);
        let Some(expect) = expect.copied().or(known) else { return Ok(Some(torn)) };
        if self.diff_id_on_disk(id, &meta)? != Some(expect) {
            return Ok(Some(torn));
        }
        self.adopt(id, &meta)?;
        Ok(None)
    }

    /// Reads a layer through; `None` where it cannot be read or is not all on disk.
    pub(super) fn diff_id_on_disk(
        &self,
        id: &SnapshotId,
        meta: &SnapshotMeta,
    ) -> Result<Option<DiffId>, StoreError> {
        if meta.left_out != LeftOut::default() {
            return Ok(None);
        }
        let path = self.snapshot_dir(id);
        let upper = RootDir::open(&path).map_err(failed("read", &path))?;
        let options = DigestOptions { xattrs: self.options.xattrs, times: Times::Ignore, below: None };
        Ok(layer::digest_layer(&upper, &options).ok().map(|digests| digests.diff_id))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Depth, ImageRecord, StoreError, testing};
    use super::*;

    /// Makes the layer look as if another start of the kernel had written it.
    fn reboot(store: &Store, id: &SnapshotId) {
        let path = store.paths.snapshot(id).join("meta");
        let text = std::fs::read_to_string(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions();
        let text = text.replace(current_boot(), "another-start");
        assert!(text.contains("another-start"));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, mode).unwrap();
    }

    #[test]
    fn only_marked_layers_survive_a_reboot() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open_with(directory.path(), true);
        let marked = testing::layer(&store, "a", "1");
        store.sync().unwrap();
        let unmarked = testing::layer(&store, "b", "2");
        for id in [&marked, &unmarked] {
            assert!(store.has_snapshot(id).unwrap());
            reboot(&store, id);
        }
        assert!(store.has_snapshot(&marked).unwrap());
        assert!(!store.has_snapshot(&unmarked).unwrap());
    }

    #[test]
    fn a_reader_marks_what_a_killed_process_left_unmarked() {
        let directory = tempfile::tempdir().unwrap();
        let id = testing::layer(&testing::open(directory.path()), "a", "1");
        let store = testing::open_with(directory.path(), true);
        assert!(store.has_snapshot(&id).unwrap());
        store.sync().unwrap();
        reboot(&store, &id);
        assert!(store.has_snapshot(&id).unwrap());
    }

    #[test]
    fn an_image_never_synced_is_read_through_after_a_reboot() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let id = super::super::images::testing::image(&store, "one", &["a", "b"]);
        let layers = store.image(&id).unwrap().layers;
        for layer in &layers {
            reboot(&store, layer);
        }
        assert_eq!(store.verify(Depth::Quick).unwrap().len(), 2);
        assert_eq!(store.image(&id).unwrap().layers, layers);
        assert_eq!(store.verify(Depth::Deep).unwrap().len(), 0);

        reboot(&store, &layers[1]);
        std::fs::write(store.snapshot_dir(&layers[1]).join("b"), "torn").unwrap();
        let error = store.image(&id).unwrap_err();
        assert!(matches!(error, StoreError::Broken { .. }));
        assert!(error.to_string().contains("cannot be shown to be whole"), "{error}");
        let record = ImageRecord {
            config: super::super::images::testing::config(&store, "one", &layers),
            manifest: None,
            layers,
        };
        assert!(store.put_image(&record).is_err());
    }
}
