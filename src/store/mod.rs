//! What is on disk: everything rbuild keeps between two runs, shared by many processes.
//!
//! ```text
//! ROOT/v1/                     mode 0700; the format's version is in the name
//!   format                     text: whose overlay attributes the layers carry
//!   lock                       flock: shared by whoever uses layers, exclusive by a sweep
//!   names.lock                 flock: short, round a change of images or references
//!   sweep                      there when a removal found the store in use: who ends last sweeps
//!   size                       JSON: what the store takes, where that is limited
//!   size.lock                  flock: short, while that is measured or a layer is added to it
//!   pruned                     its mtime is when too old pieces were last looked for, where they are to go
//!   empty/                     an empty layer
//!   blobs/sha256/HEX           config blobs, manifests, original layer blobs
//!   snapshots/ID/fs/           a layer: an overlay upper directory
//!   snapshots/ID/meta          JSON [SnapshotMeta]; mode 0400 once the layer is durable, 0600 before
//!   snapshots/ID/digests       JSON, written when the layer was read through
//!   snapshots/ID/packed        JSON, which digests its compressed forms have
//!   snapshots/ID/origins       JSON, which repositories of registries have had its blobs
//!   snapshots/ID/copied        the files of a COPY with their digests, for the next one like it
//!   images/HEX                 JSON: layers, manifest; HEX is the image id, its config a blob
//!   references/HEX             JSON: name and image id; HEX is the digest of the name
//!   steps/ID                   JSON [StepRecord], or the id of the step it became
//!   created/HEX                when the config of this digest was first assembled
//!   index/content/HEX-KIND     -> ID (a symbolic link whose target is the snapshot's id)
//!   index/diff/HEX             -> ID
//!   index/copy/HEX             -> ID, the last layer of a COPY
//!   cache/records/OP/KEY       what a vertex gave: a header line, then the caller's bytes
//!   cache/files/               digests of context files; its files are the context's own
//!   cache/downloads/           files from URLs; its files are the context's own
//!   cache/mounts/HEX/          one cache mount: `meta` (JSON), and of each instance N/ (its files)
//!                              and N.lock (flock: held while it is mounted; its mtime is the last use)
//!   cache/partials/HEX         the first bytes of a blob that is being received, or was (flock: held by
//!                              who receives it; its mtime is the last use)
//!   builds/ID/log              the full log of a build (flock: held while it runs)
//!   builds/ID/record           JSON: what became of it; written once, at its end
//!   builds/ID/report.html      the page that was last looked at
//!   containers/ID/config       JSON [KeptContainer]
//!   containers/ID/state        JSON of its supervisor's
//!   containers/ID/lock         flock: held by its supervisor
//!   containers/ID/fs/          its writable layer, an overlay upper directory
//!   containers/ID/log          what it wrote
//!   containers/ID/socket       where its supervisor hears
//!   container-names/NAME       -> ID (a symbolic link whose target is the container's id)
//!   volumes/NAME/meta          JSON [KeptVolume] (flock: held while it is filled)
//!   volumes/NAME/data/         what containers see
//!   leases/ID                  flock: held while its process lives; lists layers it pins
//!   locks/HEX                  flock: one step, while somebody does it
//!   registry/                  what the registry of this machine keeps; see there
//!   tmp/LEASE.RANDOM           drafts and files on their way; of a dead lease: rubbish
//! ```
//!
//! **Publishing.** Everything is made under `tmp/` and renamed to its place, complete.
//! Reading writes nothing, so readers need no lock; a file that vanishes was not there.
//!
//! **Locks**, in the order they may be taken: a step's lock, `lock` (shared), those of cache mounts
//! (by name), that of one blob being received, `names.lock`.
//! Whoever writes, or reads layers, first holds `lock` shared and a lease ([`Store::hold`];
//! writing functions do it by themselves); both end with the process, however it ends.
//!
//! **Roots of garbage collection**: the layers of images, of cache records, beneath containers, and those
//! pinned by living leases. Steps and the index are no roots: they go when their layers go. A sweep
//! needs `lock` alone; where it cannot have it, it is left to the process that ends last.
//! Where a limit asks for room (`quota`), layers that were not touched since the oldest lease was
//! made go without that lock (`beside`): whoever holds the store touches a layer before reading it.
//!
//! **Durability.** Only layers can be torn by a power cut without it showing: all other files
//! check themselves (digest, checksum or JSON). So a layer carries the id of the kernel's start
//! that wrote it and a mark, set after a `syncfs`; unmarked ones of an earlier start are not
//! served. [`Store::sync`] comes before a user is told that something is done.
//!
//! Not here: what keys mean (`solve`), tar (`layer`), archives (`archive`).

mod beside;
mod blobs;
mod builds;
mod cache_mounts;
mod check;
mod choose;
mod containers;
mod copied;
mod created;
mod diff;
mod digests;
mod durability;
mod entries;
mod error;
mod find;
mod fuse;
mod image_files;
mod images;
mod kept_mounts;
mod known;
mod layout;
mod leases;
mod measure;
mod origins;
mod packed;
mod partials;
mod prune;
mod quota;
mod read_files;
mod records;
mod references;
mod registry;
mod removal;
mod reset;
mod roots;
mod snapshots;
mod step_locks;
mod steps;
mod sweep;
mod temporary;
mod trees;
mod usage;
mod used;
mod volumes;

#[cfg(test)]
mod crash_tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use crate::image::SnapshotId;
use crate::sys::overlay::OverlayXattrs;

pub use blobs::{BlobReader, BlobWriter};
pub use builds::{BUILDS_KEPT, BuildLog, BuildState, KeptBuild};
pub use cache_mounts::{CacheMount, CacheMountId, CacheUse, EmptiedMounts};
pub use check::{Depth, Problem};
pub use choose::{CacheFilter, Free, PruneRequest, choose};
pub use containers::{ContainerId, ContainerLock, KeptContainer, ListedContainer};
pub use copied::{CopiedFile, CopiedFiles, EarlierCopy};
pub use diff::{Change, Differences};
pub use digests::{image_layer_digest, image_layer_digests};
pub use entries::{CacheEntry, CacheKind, bytes_together};
pub use error::StoreError;
pub use find::Found;
pub use image_files::{FolderFiles, ImageFiles, LayerFiles, Wasted};
pub use images::{ImageRecord, ListedImage, StoredImage};
pub use kept_mounts::{KeptMount, MountFilesError};
pub use origins::Origin;
pub use packed::PackedLayer;
pub use partials::{PARTIAL_KEPT, Partial};
pub use prune::CachePruned;
pub use quota::{NoRoom, Quota, RoomWatch};
pub use records::Record;
pub use registry::{
    Algorithm, CollectOptions, Collected, ContentDigest, ContentHasher, FinishedUpload, ManifestFile,
    ManifestName, NewManifest, OpenBlob, OpenUpload, Referrer, RegistryUsage, Repositories, RepositoryName,
    StoredManifest, TagName, Upload, UploadId,
};
pub use removal::{ImagesRemoved, Removal};
pub use reset::{Reset, StoreToReset, StoreUser};
pub use roots::{Chosen, PreparedRoot};
pub use snapshots::{Draft, LayerBlob, SnapshotKind, SnapshotMeta};
pub use step_locks::StepLock;
pub use steps::{StepId, StepRecord};
pub use sweep::Swept;
pub use temporary::TempDir;
pub use usage::{ImageUsage, Usage, VolumeUsage};
pub use volumes::{InUse, KeptVolume, VolumeRequest, check_volume_name};

/// How to open a store.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// Whose overlay attributes its layers carry; fixed when the store is made.
    pub xattrs: OverlayXattrs,
    /// Whether [`Store::sync`] really syncs (`--no-sync` turns it off).
    pub sync: bool,
}

/// An open store; threads share it by reference.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    paths: layout::Paths,
    options: StoreOptions,
    hold: Mutex<Option<Arc<leases::Hold>>>,
    /// Layers written or read that carry no mark of durability yet.
    unmarked: Mutex<BTreeSet<SnapshotId>>,
    /// Whether something was published since the last sync.
    dirty: AtomicBool,
    /// What was seen of layers since the store is held.
    known: Mutex<known::Known>,
    /// How merged roots are made.
    way: Mutex<roots::Way>,
    /// Where nothing can be mounted.
    trees: Arc<Mutex<trees::Pool>>,
    quota: Quota,
    /// Held while room is made: one thread does it for all.
    room: Mutex<()>,
}

impl Store {
    /// Opens the store under `root`, making it where there is none.
    ///
    /// A handful of system calls; no lock is taken. Errors: the store is of a newer
    /// format, belongs to another user, or its layers carry the other overlay attributes.
    pub fn open(root: &Path, options: StoreOptions) -> Result<Store, StoreError> {
        let (paths, xattrs) = layout::open(root, options.xattrs)?;
        Ok(Store {
            root: root.to_owned(),
            paths,
            options: StoreOptions { xattrs, ..options },
            hold: Mutex::new(None),
            unmarked: Mutex::new(BTreeSet::new()),
            dirty: AtomicBool::new(false),
            known: Mutex::default(),
            way: Mutex::default(),
            trees: Arc::default(),
            quota: Quota::default(),
            room: Mutex::default(),
        })
    }

    /// Tells whether a store of this format is at a directory; makes none.
    pub fn is_at(root: &Path) -> bool {
        layout::is_at(root)
    }

    /// Returns the directory the store was opened at.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the options it was opened with.
    pub fn options(&self) -> StoreOptions {
        self.options
    }

    /// Returns an empty directory that stays empty.
    pub fn empty_dir(&self) -> &Path {
        &self.paths.empty
    }

    /// Returns the directory for digests of context files; what is in it is its user's affair.
    pub fn stat_cache_dir(&self) -> &Path {
        &self.paths.stat_cache
    }

    /// Returns the directory for Git repositories and checkouts; what is in it is its user's affair.
    pub fn git_dir(&self) -> &Path {
        &self.paths.git
    }

    /// Returns the directory for files from URLs, which its user makes; what is in it is its user's affair.
    pub fn downloads_dir(&self) -> &Path {
        &self.paths.downloads
    }
}

/// Locks a mutex; a thread that panicked holding it left nothing half-done that matters here.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod testing {
    //! What tests of several rooms need: a store in a temporary directory.

    use super::*;

    /// Opens a store under a directory, without syncing.
    pub fn open(root: &Path) -> Store {
        open_with(root, false)
    }

    /// Opens a store under a directory.
    pub fn open_with(root: &Path, sync: bool) -> Store {
        Store::open(root, StoreOptions { xattrs: OverlayXattrs::Trusted, sync }).unwrap()
    }

    /// Commits a layer that holds one file.
    pub fn layer(store: &Store, name: &str, content: &str) -> SnapshotId {
        let draft = store.draft().unwrap();
        std::fs::write(draft.dir.join(name), content).unwrap();
        store.commit(draft, SnapshotMeta::new(SnapshotKind::Run, jiff::Timestamp::UNIX_EPOCH)).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::MetadataExt;

    use jiff::Timestamp;

    use super::*;
    use crate::image::{CacheKey, Digest, OpDigest};

    /// Lists every file with its times, less those that a cached build may change.
    fn listing(root: &Path) -> BTreeMap<PathBuf, (i64, i64, u32)> {
        walkdir::WalkDir::new(root)
            .into_iter()
            .map(Result::unwrap)
            .filter(|e| !e.path().ends_with("meta"))
            .filter(|e| {
                !["leases", "tmp", "builds", "locks"]
                    .iter()
                    .any(|d| e.path().starts_with(root.join("v1").join(d)))
            })
            .map(|e| {
                let m = e.metadata().unwrap();
                let nanos = m.ctime() * 1_000_000_000 + m.ctime_nsec();
                (e.path().to_owned(), (nanos, m.mtime_nsec(), m.mode()))
            })
            .collect()
    }

    /// Does what a build does: the first one's result is what all later ones get.
    fn build(root: &Path) {
        let store = testing::open_with(root, true);
        let (op, key) = (OpDigest(Digest::of("op")), CacheKey(Digest::of("key")));
        let layers = match store.record(&op, &key).unwrap() {
            Some(record) => vec![record.snapshot.unwrap()],
            None => {
                let id = images::testing::image(&store, "draft", &["a"]);
                let layers = store.image(&id).unwrap().layers;
                store.publish_record(&op, &key, layers.first(), b"{}").unwrap();
                layers
            }
        };
        store.mark_used(&layers).unwrap();
        store.build_log().unwrap();
        store.put_step(&steps::example(layers.clone(), "RUN x")).unwrap();
        store.first_created(&Digest::of("config"), Timestamp::now()).unwrap();
        let config = images::testing::config(&store, "result", &layers);
        let record = ImageRecord { config, manifest: None, layers };
        let id = store.put_image_as(&record, &["flask".parse().unwrap()]).unwrap();
        store.tag(&"flask:latest".parse().unwrap(), &id).unwrap();
        store.sync().unwrap();
    }

    #[test]
    fn a_second_build_writes_nothing_but_lease_log_and_use_time() {
        let directory = tempfile::tempdir().unwrap();
        build(directory.path());
        let before = listing(directory.path());
        build(directory.path());
        assert_eq!(listing(directory.path()), before);
    }
}
