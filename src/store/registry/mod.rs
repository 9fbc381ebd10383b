//! What the registry keeps: repositories with their manifests, tags and blobs, and uploads on their way.
//!
//! ```text
//! ROOT/v1/registry/
//!   lock                                 flock: shared by whoever adds or relies on something, exclusive by
//!                                        whoever removes
//!   gate                                 flock, taken before `lock`: who waits for it alone is not passed by
//!   gc.lock                              flock: held by a collection; its mtime is when the last one began
//!   blobs/sha256/HEX, blobs/sha512/HEX   content; once here it is whole and never changes
//!   repositories/NAME/_layers/ALG/HEX    empty: the repository has this blob; its mtime is the last time that
//!                                        somebody relied on it
//!   repositories/NAME/_manifests/ALG/HEX a line of JSON (what it is and needs), then the manifest's bytes
//!   repositories/NAME/_tags/TAG          a digest
//!   repositories/NAME/_referrers/ALG/HEX/ALG:HEX   JSON: the descriptor of a manifest whose subject is ALG:HEX
//!   uploads/UUID/repository, data        an upload (flock on data: held by who writes)
//!   tmp/                                 files on their way
//! ```
//!
//! Everything is made elsewhere and renamed to its place complete; an upload's bytes become a blob by a rename,
//! after their digest was found right. Reading takes no lock. Whoever relies on a blob (uploads it, mounts it,
//! is told that it is there, names it in a manifest) touches it under the shared lock; a collection removes,
//! under the exclusive one, what was not touched since it began less a time of grace (`collect`).
//!
//! All paths go through [`RootDir`], so that no link in it leads elsewhere. It is no part of what the
//! store's own sweep looks at. Not here: HTTP (`registry::server`).

mod blobs;
mod catalog;
mod collect;
mod digest;
mod manifests;
mod name;
mod referrers;
#[cfg(test)]
mod tests;
mod uploads;
mod usage;

use std::collections::HashMap;
use std::fs::{File, FileTimes};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use rustix::fs::{FileType, Mode, OFlags};

use crate::sys::atomic::random_bits;
use crate::sys::lock::FileLock;
use crate::sys::root_dir::RootDir;

use super::error::failed;
use super::{Store, StoreError};

pub use blobs::OpenBlob;
pub use collect::{CollectOptions, Collected};
pub use digest::{Algorithm, ContentDigest, ContentHasher};
pub use manifests::{ManifestFile, NewManifest, StoredManifest};
pub use name::{ManifestName, RepositoryName, TagName, UploadId};
pub use referrers::Referrer;
pub use uploads::{FinishedUpload, OpenUpload, Upload};
pub use usage::RegistryUsage;

/// The registry's part of a store; threads share it by reference, processes by its locks.
#[derive(Debug)]
pub struct Repositories {
    base: PathBuf,
    root: RootDir,
    sync: bool,
    /// Makes room for so many bytes, or says that there is none; looked at where limits of the store were set.
    room: Option<Room>,
    /// How far the digests of unfinished uploads are.
    hashers: Mutex<HashMap<UploadId, (u64, ContentHasher)>>,
}

/// Makes sure that so many bytes may be written.
#[derive(Clone)]
struct Room(Arc<dyn Fn(u64) -> Result<(), StoreError> + Send + Sync>);

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Room(..)")
    }
}

/// The lock of who removes.
struct Alone {
    _lock: FileLock,
    _gate: FileLock,
}

impl Repositories {
    /// Opens the registry's part of a store, making it where there is none.
    pub fn open(store: &Store) -> Result<Repositories, StoreError> {
        let base = store.paths.base.join("registry");
        let places = ["", "blobs/sha256", "blobs/sha512", "repositories", "uploads", "tmp"];
        for place in places {
            use std::os::unix::fs::DirBuilderExt;
            let path = base.join(place);
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(failed("make", &path))?;
        }
        let root = RootDir::open(&base).map_err(failed("open", &base))?;
        Ok(Repositories { base, root, sync: store.options.sync, room: None, hashers: Mutex::default() })
    }

    /// Keeps the limits of the store (`Quota`) while blobs come in.
    pub fn within_limits(mut self, store: Arc<Store>) -> Repositories {
        if store.watch_room().is_some() {
            self.room = Some(Room(Arc::new(move |needed| store.make_room(needed))));
        }
        self
    }

    /// Makes sure that so many bytes may be written. Errors: [`StoreError::NoRoom`].
    fn make_room(&self, needed: u64) -> Result<(), StoreError> {
        self.room.as_ref().map_or(Ok(()), |room| (room.0)(needed))
    }

    /// Takes the lock of those who add.
    fn shared(&self) -> Result<FileLock, StoreError> {
        let (gate, lock) = (self.base.join("gate"), self.base.join("lock"));
        let _gate = FileLock::shared(&gate).map_err(failed("lock", &gate))?;
        FileLock::shared(&lock).map_err(failed("lock", &lock))
    }

    /// Takes the lock of who removes.
    fn alone(&self) -> Result<Alone, StoreError> {
        let (gate, lock) = (self.base.join("gate"), self.base.join("lock"));
        let _gate = FileLock::exclusive(&gate).map_err(failed("lock", &gate))?;
        let _lock = FileLock::exclusive(&lock).map_err(failed("lock", &lock))?;
        Ok(Alone { _lock, _gate })
    }

    /// Gives an error its place.
    fn failed(&self, action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
        let path = self.base.join(path);
        move |error| failed(action, &path)(error)
    }

    /// Opens a regular file for reading; `None` where it is not there.
    fn open_file(&self, path: &Path) -> Result<Option<File>, StoreError> {
        let file = match self.root.open_at(path, OFlags::RDONLY, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(e) if is_absent(&e) => return Ok(None),
            Err(e) => return Err(self.failed("read", path)(e)),
        };
        let metadata = file.metadata().map_err(self.failed("read", path))?;
        Ok(metadata.is_file().then_some(file))
    }

    /// Reads a small file; `None` where it is not there.
    fn read_file(&self, path: &Path, limit: usize) -> Result<Option<Vec<u8>>, StoreError> {
        match self.root.read_small(path, limit) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(self.failed("read", path)(e)),
        }
    }

    fn exists(&self, path: &Path) -> Result<bool, StoreError> {
        match self.root.try_stat(path, true) {
            Ok(found) => Ok(found.is_some()),
            Err(e) if is_absent(&e) => Ok(false),
            Err(e) => Err(self.failed("read", path)(e)),
        }
    }

    /// Sets a file's time of last use to now; tells whether it is there.
    fn touch(&self, path: &Path) -> Result<bool, StoreError> {
        let Some(file) = self.open_file(path)? else { return Ok(false) };
        touch_file(&file).map_err(self.failed("touch", path))?;
        Ok(true)
    }

    /// Returns when a file was last touched; `None` where it is not there.
    fn touched(&self, path: &Path) -> Result<Option<SystemTime>, StoreError> {
        let Some(file) = self.open_file(path)? else { return Ok(None) };
        let time = file.metadata().and_then(|m| m.modified()).map_err(self.failed("read", path))?;
        Ok(Some(time))
    }

    /// Writes a small file whole, over what may be there, and touches it; the folder is made where it is missing.
    fn publish(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let random = random_bits().map_err(self.failed("write", path))?;
        let temporary = PathBuf::from(format!("tmp/{random:016x}"));
        let written = (|| {
            let mut file = File::from(self.root.create_file(&temporary, 0o600)?);
            file.write_all(bytes)?;
            if self.sync {
                file.sync_data()?;
            }
            if let Some(folder) = path.parent() {
                self.root.create_dir_all(folder, 0o700)?;
            }
            self.root.rename(&temporary, path)?;
            // Only now: somebody may rely on the one that was there, and has touched that. The kernel's own time
            // for a new file may be some milliseconds old.
            touch_file(&file)
        })();
        if written.is_err() {
            let _ = self.root.remove_file(&temporary);
        }
        written.map_err(self.failed("write", path))
    }

    /// Removes a file; tells whether it was there.
    fn remove(&self, path: &Path) -> Result<bool, StoreError> {
        match self.root.remove_file(path) {
            Ok(()) => Ok(true),
            Err(e) if is_absent(&e) => Ok(false),
            Err(e) => Err(self.failed("remove", path)(e)),
        }
    }

    /// Lists the names in a folder that are of one type, sorted; none where it is not there.
    fn names(&self, path: &Path, wanted: FileType) -> Result<Vec<String>, StoreError> {
        let entries = match self.root.entries(path) {
            Ok(entries) => entries,
            Err(e) if is_absent(&e) => return Ok(Vec::new()),
            Err(e) => return Err(self.failed("list", path)(e)),
        };
        let names = entries.into_iter().filter(|(_, found)| *found == wanted);
        Ok(names.filter_map(|(name, _)| name.into_string().ok()).collect())
    }

    /// Lists the digests that are names of files below `ALG/`, in a folder; sorted.
    fn digests_in(&self, path: &Path) -> Result<Vec<ContentDigest>, StoreError> {
        let mut digests = Vec::new();
        for algorithm in digest::ALGORITHMS {
            let names = self.names(&path.join(algorithm.name()), FileType::RegularFile)?;
            digests.extend(names.iter().filter_map(|hex| ContentDigest::from_hex(algorithm, hex)));
        }
        Ok(digests)
    }
}

/// Returns where a repository lies.
fn repository(name: &RepositoryName) -> PathBuf {
    Path::new("repositories").join(name.as_str())
}

/// Returns `ALG/HEX`.
fn place_of(digest: &ContentDigest) -> PathBuf {
    Path::new(digest.algorithm().name()).join(digest.hex())
}

fn touch_file(file: &File) -> io::Result<()> {
    file.set_times(FileTimes::new().set_modified(SystemTime::now()))
}

/// Tells whether an error says that there is nothing: also where a path goes through a file, or leads out.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
