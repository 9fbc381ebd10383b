//! What is kept of containers: records, writable layers, names and who holds them.
//!
//! A container is a directory `containers/ID/`. Its `config` is replaced whole; `state` belongs to
//! the process that holds `lock`, its supervisor; the kernel lets that lock go when the supervisor
//! ends, however it ends. The layers beneath a container are roots for every sweep. Not here: what
//! settings and states say (`container`), named volumes (`volumes`).

use std::fmt;
use std::os::unix::fs::{DirBuilderExt, FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::image::{ImageId, SnapshotId};
use crate::sys::RootDir;
use crate::sys::atomic;
use crate::sys::lock::FileLock;

use super::error::{failed, names_in, read_if_there};
use super::layout::Paths;
use super::measure::Measure;
use super::{Draft, Store, StoreError};

/// State files have a multiple of so many bytes: a block of most file systems.
const STATE_ROOM: usize = 4096;

/// The id of a container: 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// Makes a new one from the kernel's random numbers.
    pub fn random() -> Result<ContainerId, StoreError> {
        let mut text = String::with_capacity(64);
        for _ in 0..4 {
            let bits = atomic::random_bits().map_err(failed("make an id in", Path::new("/dev/urandom")))?;
            text.push_str(&format!("{bits:016x}"));
        }
        Ok(ContainerId(text))
    }

    /// Returns all 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the first twelve digits: what users see, and the host name.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl TryFrom<String> for ContainerId {
    type Error = String;

    fn try_from(text: String) -> Result<ContainerId, String> {
        match text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            true => Ok(ContainerId(text)),
            false => Err(format!("`{text}` is no container id")),
        }
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> String {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the store knows of a container; the `config` file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptContainer {
    pub id: ContainerId,
    /// Unique, without docker's leading slash.
    pub name: String,
    pub created: Timestamp,
    /// `None` where it is of a build step.
    pub image: Option<ImageId>,
    /// What the user called the image.
    pub image_name: String,
    /// Lowest first.
    pub layers: Vec<SnapshotId>,
    /// The names of the volumes it uses.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// What the container's own room keeps of it.
    pub settings: Value,
}

/// A container, and whether its supervisor lives.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedContainer {
    pub kept: KeptContainer,
    pub running: bool,
}

/// The lock that a supervisor holds for as long as it lives.
#[derive(Debug)]
pub struct ContainerLock {
    _lock: FileLock,
}

impl Store {
    /// Keeps a new container, with an empty writable layer.
    ///
    /// Errors: [`StoreError::NameTaken`]. Its layers must be known to be there while the store is held.
    pub fn create_container(&self, kept: &KeptContainer) -> Result<(), StoreError> {
        self.hold()?;
        for directory in [&self.paths.containers, &self.paths.container_names] {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.map_err(failed("make", directory))?;
        }
        let draft = self.temp_dir()?;
        let layer = draft.path().join("fs");
        std::fs::create_dir(&layer).map_err(failed("make", &layer))?;
        std::fs::set_permissions(&layer, PermissionsExt::from_mode(0o755)).map_err(failed("make", &layer))?;
        write_config(draft.path(), kept)?;
        let directory = self.container_dir(&kept.id);
        // Until the container is there its name looks free to others.
        let _lock = self.names_lock()?;
        self.take_container_name(&kept.name, &kept.id)?;
        match atomic::rename_new(draft.path(), &directory) {
            Ok(true) => {
                draft.keep();
                Ok(())
            }
            Ok(false) => Err(StoreError::broken(format!("container {}", kept.id), "its id is taken")),
            Err(error) => {
                self.free_container_name(&kept.name, &kept.id)?;
                Err(failed("make", &directory)(error))
            }
        }
    }

    /// Makes a name that of a container; one whose container is gone is free. For whoever holds the names' lock.
    fn take_container_name(&self, name: &str, id: &ContainerId) -> Result<(), StoreError> {
        let link = self.paths.container_names.join(name);
        match std::os::unix::fs::symlink(id.as_str(), &link) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(failed("name a container", &link)(e)),
        }
        let holder = self.container_named(name)?;
        if let Some(holder) = holder.filter(|holder| self.container_dir(holder).exists()) {
            return Err(StoreError::NameTaken { name: name.to_owned(), id: holder });
        }
        std::fs::remove_file(&link).map_err(failed("free", &link))?;
        std::os::unix::fs::symlink(id.as_str(), &link).map_err(failed("name a container", &link))
    }

    /// Frees a name where it is that of this container. For whoever holds the names' lock.
    fn free_container_name(&self, name: &str, id: &ContainerId) -> Result<(), StoreError> {
        match self.container_named(name)?.as_ref() == Some(id) {
            true => super::error::remove_file(&self.paths.container_names.join(name)),
            false => Ok(()),
        }
    }

    /// Returns the container of exactly this name.
    fn container_named(&self, name: &str) -> Result<Option<ContainerId>, StoreError> {
        let link = self.paths.container_names.join(name);
        match std::fs::read_link(&link) {
            Ok(target) => Ok(target.into_os_string().into_string().ok().and_then(|id| id.try_into().ok())),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::InvalidInput) => {
                Ok(None)
            }
            Err(e) => Err(failed("read", &link)(e)),
        }
    }

    /// Gives a container another name; the rest of its record stays as it is by then.
    pub fn rename_container(&self, kept: &mut KeptContainer, name: &str) -> Result<(), StoreError> {
        let _lock = self.names_lock()?;
        // Somebody else may have named or removed it meanwhile.
        let none = || StoreError::NoContainer(kept.name.clone());
        let now = self.container(&kept.id)?.ok_or_else(none)?;
        *kept = now;
        self.take_container_name(name, &kept.id)?;
        let before = std::mem::replace(&mut kept.name, name.to_owned());
        if let Err(error) = self.update_container(kept) {
            self.free_container_name(name, &kept.id)?;
            return Err(error);
        }
        self.free_container_name(&before, &kept.id)
    }

    /// Replaces a container's record.
    pub fn update_container(&self, kept: &KeptContainer) -> Result<(), StoreError> {
        write_config(&self.container_dir(&kept.id), kept)
    }

    /// Reads a container's record; `None` where there is none.
    pub fn container(&self, id: &ContainerId) -> Result<Option<KeptContainer>, StoreError> {
        let Some(bytes) = read_if_there(&self.container_dir(id).join("config"))? else { return Ok(None) };
        let kept = serde_json::from_slice(&bytes);
        kept.map(Some).map_err(|error| StoreError::broken(format!("container {}", id.short()), error))
    }

    /// Finds a container by its name, its id or the unique start of that, in this order.
    ///
    /// Errors: [`StoreError::NoContainer`], [`StoreError::Ambiguous`].
    pub fn find_container(&self, text: &str) -> Result<KeptContainer, StoreError> {
        let none = || StoreError::NoContainer(text.to_owned());
        let name = text.strip_prefix('/').unwrap_or(text);
        if !name.is_empty()
            && !name.contains('/')
            && !matches!(name, "." | "..")
            && let Some(id) = self.container_named(name)?
            && let Some(kept) = self.container(&id)?
        {
            return Ok(kept);
        }
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(none());
        }
        let start = text.to_ascii_lowercase();
        let names = names_in(&self.paths.containers)?.into_iter().filter(|id| id.starts_with(&start));
        let found: Vec<ContainerId> = names.filter_map(|name| name.try_into().ok()).collect();
        match found.as_slice() {
            [id] => self.container(id)?.ok_or_else(none),
            [] => Err(none()),
            _ => Err(StoreError::Ambiguous {
                text: text.to_owned(),
                ids: found.iter().take(5).map(|id| id.short().to_owned()).collect(),
            }),
        }
    }

    /// Lists all containers, oldest first. One whose record cannot be read is left out.
    pub fn containers(&self) -> Result<Vec<ListedContainer>, StoreError> {
        let mut listed = Vec::new();
        for name in names_in(&self.paths.containers)? {
            let Ok(id) = ContainerId::try_from(name) else { continue };
            let Ok(Some(kept)) = self.container(&id) else { continue };
            listed.push(ListedContainer { running: self.is_container_held(&id)?, kept });
        }
        listed.sort_by(|a, b| (a.kept.created, &a.kept.id).cmp(&(b.kept.created, &b.kept.id)));
        Ok(listed)
    }

    /// Returns a container's directory; whether it is there is not looked at.
    pub fn container_dir(&self, id: &ContainerId) -> PathBuf {
        self.paths.containers.join(id.as_str())
    }

    /// Returns a container's writable layer, an overlay upper directory.
    pub fn container_layer(&self, id: &ContainerId) -> PathBuf {
        self.container_dir(id).join("fs")
    }

    /// Reads a container's state file; `None` where it was never started.
    pub fn container_state(&self, id: &ContainerId) -> Result<Option<Vec<u8>>, StoreError> {
        read_if_there(&self.container_dir(id).join("state"))
    }

    /// Replaces a container's state file, JSON. For whoever holds its lock.
    ///
    /// On a disk that is full one that is there is written over: how a container ended must not be lost.
    pub fn put_container_state(&self, id: &ContainerId, bytes: &[u8]) -> Result<(), StoreError> {
        let directory = self.container_dir(id);
        // With blanks, which JSON may end in: the next one has the room of this one.
        let mut padded = bytes.to_vec();
        padded.resize(bytes.len().next_multiple_of(STATE_ROOM), b' ');
        publish(&directory, "state", &padded)
            .or_else(|error| overwrite(&directory.join("state"), padded).map_err(|_| error))
    }

    /// Takes the lock of a container's supervisor; `None` where somebody holds it, or the container is gone.
    pub fn lock_container(&self, id: &ContainerId) -> Result<Option<ContainerLock>, StoreError> {
        let path = self.container_dir(id).join("lock");
        let take = || -> std::io::Result<Option<FileLock>> {
            loop {
                if let Some(lock) = FileLock::try_exclusive(&path)? {
                    // Removed meanwhile: the lock would be of nothing.
                    return Ok(lock.is_still(&path)?.then_some(lock));
                }
                // Whoever only looks (`is_container_held`) shares it for a moment; a holder never does.
                if FileLock::try_shared(&path)?.is_none() {
                    return Ok(None);
                }
                std::thread::yield_now();
            }
        };
        match take() {
            Ok(lock) => Ok(lock.map(|lock| ContainerLock { _lock: lock })),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("lock", &path)(e)),
        }
    }

    /// Tells whether a supervisor holds a container.
    pub fn is_container_held(&self, id: &ContainerId) -> Result<bool, StoreError> {
        let path = self.container_dir(id).join("lock");
        if !path.exists() {
            return Ok(false);
        }
        match FileLock::try_shared(&path) {
            Ok(lock) => Ok(lock.is_none()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(failed("lock", &path)(e)),
        }
    }

    /// Removes a container, its name and its writable layer. For whoever holds its lock.
    pub fn remove_container(&self, kept: &KeptContainer, lock: ContainerLock) -> Result<(), StoreError> {
        let directory = self.container_dir(&kept.id);
        let (aside, _hold) = self.temp_path()?;
        // Moved first: a container that is half removed must never be seen.
        match std::fs::rename(&directory, &aside) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed("remove", &directory)(e)),
        }
        drop(lock);
        {
            let _lock = self.names_lock()?;
            // The record that was removed knows the name of now.
            let record = read_if_there(&aside.join("config"))?;
            let record = record.and_then(|bytes| serde_json::from_slice::<KeptContainer>(&bytes).ok());
            let name = record.map_or_else(|| kept.name.clone(), |record| record.name);
            self.free_container_name(&name, &kept.id)?;
        }
        super::temporary::remove_tree(&aside).map_err(failed("remove", &aside))
    }

    /// Returns the bytes of the files that a container wrote.
    pub fn container_size(&self, id: &ContainerId) -> Result<u64, StoreError> {
        let mut measure = Measure::default();
        measure.add(&self.container_layer(id));
        Ok(measure.all())
    }

    /// Returns a draft whose upper directory is a container's writable layer; what it needs besides is
    /// temporary. Nothing of it can become a layer.
    pub fn container_draft(&self, id: &ContainerId) -> Result<Draft, StoreError> {
        self.draft_on(self.container_layer(id))
    }

    /// Returns a merged read-only view of a container that does not run.
    pub fn container_view(&self, kept: &KeptContainer) -> Result<RootDir, StoreError> {
        self.view_beneath(&kept.layers, &self.container_layer(&kept.id))
    }
}

/// Returns the layers beneath all containers.
pub(super) fn layers_of_containers(paths: &Paths) -> Result<Vec<SnapshotId>, StoreError> {
    let mut layers = Vec::new();
    for name in names_in(&paths.containers)? {
        let Some(bytes) = read_if_there(&paths.containers.join(name).join("config"))? else { continue };
        // Of a broken record, what can still be read.
        if let Ok(kept) = serde_json::from_slice::<KeptContainer>(&bytes) {
            layers.extend(kept.layers);
        }
    }
    Ok(layers)
}

/// Writes over a file that is there and has room for it, without asking the disk for more.
fn overwrite(path: &Path, mut bytes: Vec<u8>) -> std::io::Result<()> {
    let file = std::fs::File::options().write(true).open(path)?;
    let room = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    if bytes.len() > room {
        return Err(std::io::ErrorKind::StorageFull.into());
    }
    bytes.resize(room, b' ');
    file.write_all_at(&bytes, 0)
}

fn write_config(directory: &Path, kept: &KeptContainer) -> Result<(), StoreError> {
    let bytes = serde_json::to_vec(kept).map_err(|error| StoreError::broken("container", error))?;
    publish(directory, "config", &bytes)
}

fn publish(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let bits = atomic::random_bits().map_err(failed("write", directory))?;
    let (from, to) = (directory.join(format!(".{name}-{bits:016x}")), directory.join(name));
    atomic::publish(&from, &to, bytes, false).map_err(failed("write", &to))
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// Makes the record of a container.
    pub fn container(name: &str, layers: Vec<SnapshotId>) -> KeptContainer {
        KeptContainer {
            id: ContainerId::random().unwrap(),
            name: name.to_owned(),
            created: Timestamp::now(),
            image: None,
            image_name: "busybox".to_owned(),
            layers,
            volumes: Vec::new(),
            settings: Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::testing::container as kept;
    use super::*;

    #[test]
    fn a_state_is_written_over_where_no_file_can_be_made() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let one = kept("one", vec![]);
        store.create_container(&one).unwrap();
        let read = || String::from_utf8(store.container_state(&one.id).unwrap().unwrap()).unwrap();
        store.put_container_state(&one.id, b"{\"a\":1}").unwrap();
        let path = store.container_dir(&one.id).join("state");
        overwrite(&path, b"{\"a\":22222}".to_vec()).unwrap();
        assert_eq!((read().trim_end(), read().len()), ("{\"a\":22222}", STATE_ROOM));
        // One that does not fit leaves what is there.
        assert!(overwrite(&path, vec![b' '; STATE_ROOM + 1]).is_err());
        assert_eq!(read().trim_end(), "{\"a\":22222}");
        assert!(overwrite(&path.with_extension("none"), b"{}".to_vec()).is_err());
    }

    #[test]
    fn names_are_unique_and_found() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let (one, two) = (kept("one", vec![]), kept("two", vec![]));
        store.create_container(&one).unwrap();
        store.create_container(&two).unwrap();
        let clash = store.create_container(&kept("one", vec![])).unwrap_err();
        assert!(matches!(&clash, StoreError::NameTaken { id, .. } if *id == one.id), "{clash}");
        for text in ["one", "/one", one.id.as_str(), one.id.short()] {
            assert_eq!(store.find_container(text).unwrap(), one, "{text}");
        }
        for text in ["", "on", "../one", "zzz", ".", ".."] {
            assert!(matches!(store.find_container(text), Err(StoreError::NoContainer(_))), "{text}");
        }
        let mut renamed = one.clone();
        assert!(store.rename_container(&mut renamed, "two").is_err());
        store.rename_container(&mut renamed, "three").unwrap();
        assert_eq!(store.find_container("three").unwrap().id, one.id);
        assert!(store.find_container("one").is_err());
        let lock = store.lock_container(&one.id).unwrap().unwrap();
        assert!(store.lock_container(&one.id).unwrap().is_none());
        store.remove_container(&renamed, lock).unwrap();
        assert!(store.find_container("three").is_err());
        assert!(store.lock_container(&one.id).unwrap().is_none());
        assert_eq!(store.containers().unwrap().len(), 1);
    }

    #[test]
    fn a_name_is_taken_once_however_many_want_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        for round in 0..20 {
            let name = format!("same{round}");
            let made = std::thread::scope(|scope| {
                let create = || {
                    let container = kept(&name, Vec::new());
                    store.create_container(&container).map(|()| container.id)
                };
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
                threads.into_iter().filter_map(|t| t.join().unwrap().ok()).collect::<Vec<_>>()
            });
            assert_eq!(made.len(), 1, "{name}");
            assert_eq!(store.find_container(&name).unwrap().id, made[0]);
        }
        assert_eq!(store.containers().unwrap().len(), 20);
    }

    #[test]
    fn a_container_that_is_renamed_twice_has_one_name() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let mut one = kept("one", Vec::new());
        store.create_container(&one).unwrap();
        // As another process knows it.
        let mut other = one.clone();
        store.rename_container(&mut one, "two").unwrap();
        store.rename_container(&mut other, "three").unwrap();
        for gone in ["one", "two"] {
            assert!(store.find_container(gone).is_err(), "{gone}");
        }
        // By a record of old the name of now is freed.
        let lock = store.lock_container(&one.id).unwrap().unwrap();
        store.remove_container(&one, lock).unwrap();
        assert_eq!(std::fs::read_dir(&store.paths.container_names).unwrap().count(), 0);
        assert!(matches!(store.rename_container(&mut other, "four"), Err(StoreError::NoContainer(_))));
    }

    #[test]
    fn a_look_at_a_container_keeps_nobody_from_holding_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let container = kept("one", Vec::new());
        store.create_container(&container).unwrap();
        drop(store.lock_container(&container.id).unwrap().unwrap());
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        store.is_container_held(&container.id).unwrap();
                    }
                });
            }
            let held = (0..2000).filter(|_| store.lock_container(&container.id).unwrap().is_some()).count();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(held, 2000);
        });
    }

    #[test]
    fn a_container_keeps_its_layers() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let layer = testing::layer(&store, "a", "b");
        let container = kept("one", vec![layer.clone()]);
        store.create_container(&container).unwrap();
        let view = store.container_view(&container).unwrap();
        assert!(view.try_stat(Path::new("a"), true).unwrap().is_some());
        drop((view, store));
        let store = testing::open(directory.path());
        assert!(store.sweep_if_free().unwrap().unwrap().layers.is_empty());
        let lock = store.lock_container(&container.id).unwrap().unwrap();
        store.remove_container(&container, lock).unwrap();
        drop(store);
        let store = testing::open(directory.path());
        assert_eq!(store.sweep_if_free().unwrap().unwrap().layers, [layer]);
    }
}
