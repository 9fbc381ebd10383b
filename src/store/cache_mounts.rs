//! Cache mounts: directories that outlive builds, each with a lock for those who have it mounted.
//!
//! A cache is known by what it is ([`CacheMountId`]); of a private one there are as many instances as
//! were in use at once. What is in an instance was written by steps: nothing here follows a link in
//! it. Not here: which part of it a step sees (`worker`), which caches to drop when space is short.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, FileTimes};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::image::Digest;
use crate::sys::RootDir;
use crate::sys::atomic;
use crate::sys::lock::{self, FileLock};

use super::error::{failed, read_if_there};
use super::leases::Hold;
use super::temporary::remove_tree;
use super::{Store, StoreError, locked};

/// What makes two cache mounts one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CacheMountId {
    pub id: String,
    /// What a new one starts with, in words that are equal for equal files; `None` is nothing.
    pub seed: Option<String>,
    /// Mode and owner of the directory.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

impl CacheMountId {
    /// Returns the name of its directory.
    pub fn name(&self) -> String {
        Digest::of(serde_json::to_vec(self).unwrap_or_default()).hex()
    }
}

/// Who may have an instance mounted at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheUse {
    /// Everybody who shares.
    Shared,
    /// One at a time; others wait.
    Locked,
    /// One at a time; others get another instance.
    Private,
}

impl CacheUse {
    /// Returns its word, as Dockerfiles have it.
    pub fn as_str(self) -> &'static str {
        match self {
            CacheUse::Shared => "shared",
            CacheUse::Locked => "locked",
            CacheUse::Private => "private",
        }
    }

    pub(super) fn from_word(word: &[u8]) -> Option<CacheUse> {
        let all = [CacheUse::Shared, CacheUse::Locked, CacheUse::Private];
        all.into_iter().find(|usage| usage.as_str().as_bytes() == word)
    }
}

/// The instances that a build has emptied: each once.
#[derive(Debug, Default)]
pub struct EmptiedMounts(Mutex<BTreeSet<String>>);

/// An instance in use; ends when dropped, or with the process.
#[derive(Debug)]
pub struct CacheMount {
    root: RootDir,
    _lock: FileLock,
    // What is being made lies in `tmp/`, and the store is held while files of it are mounted.
    _hold: Arc<Hold>,
}

impl CacheMount {
    /// Returns its directory. What is in it was written by steps.
    pub fn root(&self) -> &RootDir {
        &self.root
    }
}

/// Fills the directory of a new instance.
pub type Fill<'a, E> = &'a dyn Fn(&Path) -> Result<(), E>;

impl Store {
    /// Takes an instance into use, making it where there is none; waits where others have it.
    ///
    /// Whoever takes several does so in the order of [`CacheMountId::name`]. `fill` gives a new one
    /// its first files. With `emptied` an instance that is not among them is emptied first.
    /// `cancelled` is asked while waiting; once it says yes the error is [`StoreError::Cancelled`].
    pub fn cache_mount<E: From<StoreError>>(
        &self,
        id: &CacheMountId,
        usage: CacheUse,
        emptied: Option<&EmptiedMounts>,
        fill: Fill<'_, E>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<CacheMount, E> {
        self.held()?;
        let directory = self.paths.cache_mounts.join(id.name());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(failed("make", &directory))?;
        let meta = directory.join("meta");
        if !meta.exists() {
            self.publish_new(&meta, &serde_json::to_vec(id).unwrap_or_default())?;
        }
        let sharing = directory.join("sharing");
        if read_if_there(&sharing)?.as_deref() != Some(usage.as_str().as_bytes()) {
            self.publish(&sharing, usage.as_str().as_bytes())?;
        }
        // Asked again and again: flock(2) cannot be called off from another thread.
        let mut pause = Duration::from_millis(1);
        let mut number = 0u32;
        loop {
            let place = Instance::new(id, &directory, number);
            if let Some(mount) = self.try_instance(id, &place, usage, emptied, fill)? {
                return Ok(mount);
            }
            if cancelled() {
                return Err(StoreError::Cancelled.into());
            }
            if usage == CacheUse::Private {
                number += 1;
                continue;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Returns the process that has the cache in use, where that can be told; for caches that are not private.
    pub fn cache_mount_holder(&self, id: &CacheMountId) -> Option<u32> {
        let directory = self.paths.cache_mounts.join(id.name());
        lock::holder(&Instance::new(id, &directory, 0).lock)
    }

    /// Takes one instance, or `None` where somebody is in the way.
    fn try_instance<E: From<StoreError>>(
        &self,
        id: &CacheMountId,
        place: &Instance,
        usage: CacheUse,
        emptied: Option<&EmptiedMounts>,
        fill: Fill<'_, E>,
    ) -> Result<Option<CacheMount>, E> {
        let to_empty = || emptied.is_some_and(|emptied| !locked(&emptied.0).contains(&place.name));
        if usage != CacheUse::Shared || !place.is_there() || to_empty() {
            let Some(lock) = FileLock::try_exclusive(&place.lock).map_err(failed("lock", &place.lock))?
            else {
                return Ok(None);
            };
            if to_empty() {
                self.empty_instance(place)?;
                emptied.map(|emptied| locked(&emptied.0).insert(place.name.clone()));
            }
            if !place.is_there() {
                self.make_instance(id, place, fill)?;
            }
            if usage != CacheUse::Shared {
                return Ok(Some(self.in_use(place, lock)?));
            }
        }
        let lock = FileLock::try_shared(&place.lock).map_err(failed("lock", &place.lock))?;
        match lock {
            // Between the two locks another build may have emptied it.
            Some(lock) if place.is_there() => Ok(Some(self.in_use(place, lock)?)),
            _ => Ok(None),
        }
    }

    fn in_use(&self, place: &Instance, lock: FileLock) -> Result<CacheMount, StoreError> {
        let root = RootDir::open(&place.files).map_err(failed("open", &place.files))?;
        let now = FileTimes::new().set_modified(SystemTime::now());
        lock.file().set_times(now).map_err(failed("touch", &place.lock))?;
        Ok(CacheMount { root, _lock: lock, _hold: self.held()? })
    }

    fn make_instance<E: From<StoreError>>(
        &self,
        id: &CacheMountId,
        place: &Instance,
        fill: Fill<'_, E>,
    ) -> Result<(), E> {
        let temporary = self.temp_dir()?;
        let files = temporary.path().join("files");
        DirBuilder::new().mode(0o700).create(&files).map_err(failed("make", &files))?;
        fill(&files)?;
        std::os::unix::fs::chown(&files, Some(id.uid), Some(id.gid)).map_err(|error| {
            match error.kind() == io::ErrorKind::InvalidInput {
                true => StoreError::NoSuchOwner { uid: id.uid, gid: id.gid },
                false => failed("change the owner of", &files)(error),
            }
        })?;
        std::fs::set_permissions(&files, PermissionsExt::from_mode(id.mode))
            .map_err(failed("change the mode of", &files))?;
        atomic::rename_new(&files, &place.files).map_err(failed("make", &place.files))?;
        Ok(())
    }

    fn empty_instance(&self, place: &Instance) -> Result<(), StoreError> {
        let (aside, _hold) = self.temp_path()?;
        match std::fs::rename(&place.files, &aside) {
            Ok(()) => remove_tree(&aside).map_err(failed("remove", &aside)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(failed("empty", &place.files)(e)),
        }
    }
}

/// Where an instance lies.
struct Instance {
    name: String,
    files: PathBuf,
    lock: PathBuf,
}

impl Instance {
    fn new(id: &CacheMountId, directory: &Path, number: u32) -> Instance {
        Instance {
            name: format!("{}/{number}", id.name()),
            files: directory.join(number.to_string()),
            lock: directory.join(format!("{number}.lock")),
        }
    }

    fn is_there(&self) -> bool {
        self.files.symlink_metadata().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::sync::mpsc;

    use super::super::{Depth, testing};
    use super::*;

    fn id(id: &str) -> CacheMountId {
        CacheMountId { id: id.into(), seed: None, mode: 0o1770, uid: 0, gid: 0 }
    }

    fn nothing(_: &Path) -> Result<(), StoreError> {
        Ok(())
    }

    fn take(store: &Store, usage: CacheUse) -> Option<CacheMount> {
        match store.cache_mount(&id("a"), usage, None, &nothing, &|| true) {
            Ok(mount) => Some(mount),
            Err(StoreError::Cancelled) => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn inode(mount: &CacheMount) -> u64 {
        mount.root().stat(Path::new("."), true).unwrap().ino
    }

    #[test]
    fn what_makes_two_of_them_one() {
        let base = id("a");
        let differ = [
            CacheMountId { id: "b".into(), ..base.clone() },
            CacheMountId { seed: Some(String::new()), ..base.clone() },
            CacheMountId { mode: 0o755, ..base.clone() },
            CacheMountId { uid: 1, ..base.clone() },
            CacheMountId { gid: 1, ..base.clone() },
        ];
        let names: BTreeSet<String> = differ.iter().chain([&base]).map(CacheMountId::name).collect();
        assert_eq!(names.len(), differ.len() + 1);
        assert_eq!(base.name(), id("a").name());
    }

    #[test]
    fn who_may_have_it_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (testing::open(directory.path()), testing::open(directory.path()));
        let first = take(&one, CacheUse::Shared).unwrap();
        let second = take(&two, CacheUse::Shared).unwrap();
        assert_eq!(inode(&first), inode(&second));
        assert!(take(&two, CacheUse::Locked).is_none());
        let private = two.cache_mount(&id("a"), CacheUse::Private, None, &nothing, &|| false).unwrap();
        assert_ne!(inode(&private), inode(&first));
        drop((first, second));
        let alone = take(&one, CacheUse::Locked).unwrap();
        assert!(take(&two, CacheUse::Shared).is_none());
        assert!(take(&two, CacheUse::Locked).is_none());
        drop(alone);
        assert!(take(&two, CacheUse::Shared).is_some());
    }

    #[test]
    fn a_new_one_is_filled_and_gets_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let fill = |to: &Path| std::fs::write(to.join("seed"), "1").map_err(failed("write", to));
        let none = || false;
        let mount = store.cache_mount(&id("a"), CacheUse::Shared, None, &fill, &none).unwrap();
        assert_eq!(mount.root().read_small(Path::new("seed"), 9).unwrap(), b"1");
        assert_eq!(mount.root().stat(Path::new("."), true).unwrap().mode, 0o1770);
        mount.root().remove_file(Path::new("seed")).unwrap();
        drop(mount);
        // Once only.
        let mount = store.cache_mount(&id("a"), CacheUse::Shared, None, &fill, &none).unwrap();
        assert!(mount.root().try_stat(Path::new("seed"), false).unwrap().is_none());
        drop(mount);
        assert!(store.verify(Depth::Deep).unwrap().is_empty());
        drop(store);
        let store = testing::open(directory.path());
        assert!(store.sweep_if_free().unwrap().is_some());
        assert!(store.paths.cache_mounts.join(id("a").name()).join("0").exists());
        let lock = store.paths.cache_mounts.join(id("a").name()).join("0.lock");
        assert!(std::fs::metadata(lock).unwrap().mtime() > 0);
        // One that cannot be filled is not there.
        let fail = |_: &Path| Err(StoreError::NotFound("seed".into()));
        assert!(store.cache_mount(&id("b"), CacheUse::Shared, None, &fail, &none).is_err());
        assert!(!store.paths.cache_mounts.join(id("b").name()).join("0").exists());
    }

    #[test]
    fn is_emptied_once_and_never_under_another() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (testing::open(directory.path()), testing::open(directory.path()));
        let emptied = EmptiedMounts::default();
        let used = take(&one, CacheUse::Shared).unwrap();
        used.root().create_file(Path::new("old"), 0o600).unwrap();
        let has =
            |mount: &CacheMount, name: &str| mount.root().try_stat(Path::new(name), false).unwrap().is_some();
        let (waiting, waits) = mpsc::channel();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let told = std::cell::Cell::new(false);
                let cancelled = || {
                    if !told.replace(true) {
                        waiting.send(()).unwrap();
                    }
                    false
                };
                let mount = two.cache_mount(&id("a"), CacheUse::Shared, Some(&emptied), &nothing, &cancelled);
                let mount = mount.unwrap();
                assert!(!has(&mount, "old"));
                mount.root().create_file(Path::new("new"), 0o600).unwrap();
            });
            waits.recv().unwrap();
            assert!(has(&used, "old"));
            drop(used);
            thread.join().unwrap();
        });
        let again = two.cache_mount(&id("a"), CacheUse::Locked, Some(&emptied), &nothing, &|| false);
        assert!(has(&again.unwrap(), "new"));
    }
}
