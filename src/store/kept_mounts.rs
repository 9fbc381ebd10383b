//! The cache mounts that are there: listed, written as tar, read from one, removed.
//!
//! Whatever touches the files of one takes its lock alone, and only where nobody has it: a step that runs is not
//! disturbed, and one that comes waits. What is in one was written by steps, and what comes in an archive by anybody:
//! nothing here follows a link. Not here: how steps get them (`cache_mounts`).

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::layer::{LeftOut, Missing, UnpackOptions, ViewOptions, decompress, unpack, write_view};
use crate::sys::RootDir;
use crate::sys::lock::FileLock;

use super::cache_mounts::CacheMountId;
use super::entries::{is_locked, short, time_of};
use super::error::{failed, names_in, read_if_there};
use super::measure::measured;
use super::prune::take;
use super::temporary::remove_tree;
use super::{CacheUse, RoomWatch, Store, StoreError};

/// A cache mount: one of the instances of a cache.
#[derive(Debug, Clone)]
pub struct KeptMount {
    /// As `du` names it: 12 hex digits, and `-N` where there are several.
    pub name: String,
    /// As the Dockerfile has it; a target where it has none.
    pub id: String,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Whether it started with files of elsewhere (`from=`).
    pub seeded: bool,
    /// How the last step that used it shared it.
    pub sharing: Option<CacheUse>,
    /// In bytes.
    pub size: u64,
    pub inodes: u64,
    pub created: Timestamp,
    pub used: Timestamp,
    pub in_use: bool,
    files: PathBuf,
    lock: PathBuf,
}

impl KeptMount {
    fn identity(&self) -> CacheMountId {
        CacheMountId { id: self.id.clone(), seed: None, mode: self.mode, uid: self.uid, gid: self.gid }
    }
}

/// Why nothing was done with a cache mount.
#[derive(Debug, thiserror::Error)]
pub enum MountFilesError {
    #[error("the cache mount `{0}` is in use by a step that runs")]
    InUse(String),
    #[error("the cache mount `{0}` is gone")]
    Gone(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot write the files of the cache mount `{id}`")]
    Write { id: String, source: crate::layer::LayerError },
    #[error("cannot read the archive for the cache mount `{id}`")]
    Read { id: String, source: crate::layer::LayerError },
}

impl Store {
    /// Lists the ids of the cache mounts, sorted, without a look at their files.
    pub fn kept_mount_ids(&self) -> Result<Vec<String>, StoreError> {
        let mut ids = BTreeSet::new();
        for name in names_in(&self.paths.cache_mounts)? {
            let bytes = read_if_there(&self.paths.cache_mounts.join(&name).join("meta"))?;
            let known = bytes.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
            ids.extend(known.and_then(|known| known["id"].as_str().map(str::to_owned)));
        }
        Ok(ids.into_iter().collect())
    }

    /// Lists the cache mounts, last used first.
    pub fn kept_mounts(&self) -> Result<Vec<KeptMount>, StoreError> {
        let mut mounts = Vec::new();
        for name in names_in(&self.paths.cache_mounts)? {
            let directory = self.paths.cache_mounts.join(&name);
            let meta = directory.join("meta");
            let Some(bytes) = read_if_there(&meta)? else { continue };
            // One that cannot be read is still there, and can be removed.
            let known: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
            let text = |key: &str| Some(known.as_ref()?[key].as_str()?.to_owned());
            let number = |key: &str| {
                known.as_ref().and_then(|known| u32::try_from(known[key].as_u64()?).ok()).unwrap_or(0)
            };
            let sharing = read_if_there(&directory.join("sharing"))?;
            for number_of in names_in(&directory)?.iter().filter(|name| name.parse::<u32>().is_ok()) {
                let files = directory.join(number_of);
                let lock = directory.join(format!("{number_of}.lock"));
                let suffix = if number_of == "0" { String::new() } else { format!("-{number_of}") };
                let measure = measured(&files);
                let Some(created) = time_of(&meta) else { continue };
                mounts.push(KeptMount {
                    name: format!("{}{suffix}", short(&name)),
                    id: text("id").unwrap_or_default(),
                    mode: number("mode"),
                    uid: number("uid"),
                    gid: number("gid"),
                    seeded: text("seed").is_some(),
                    sharing: sharing.as_deref().and_then(CacheUse::from_word),
                    size: measure.all(),
                    inodes: measure.inodes(),
                    created,
                    used: time_of(&lock).unwrap_or(created),
                    in_use: is_locked(&lock),
                    files,
                    lock,
                });
            }
        }
        mounts.sort_by(|a, b| (b.used, &a.name).cmp(&(a.used, &b.name)));
        Ok(mounts)
    }

    /// Writes the files of a cache mount as a tar: sorted, whole seconds; equal files are equal bytes.
    pub fn export_mount(&self, mount: &KeptMount, out: &mut impl Write) -> Result<(), MountFilesError> {
        let (_lock, root) = self.take_mount(mount)?;
        let (missing, options) = (Missing::default(), ViewOptions::default());
        write_view(&root, self.options.xattrs, &missing, options, out)
            .map_err(|source| MountFilesError::Write { id: mount.id.clone(), source })
    }

    /// Puts the files of an archive, which may be compressed, in the place of those of a cache mount; with `merge`
    /// among them, over those of the same names. After an error the files are as before, with `merge` perhaps not.
    pub fn import_mount(
        &self,
        mount: &KeptMount,
        merge: bool,
        archive: impl Read,
    ) -> Result<LeftOut, MountFilesError> {
        self.make_room(0)?;
        if merge {
            let (_lock, root) = self.take_mount(mount)?;
            let left_out = self.unpack_into(&mount.identity(), &root, archive)?;
            set_top(&mount.identity(), &mount.files)?;
            return Ok(left_out);
        }
        let temporary = self.temp_dir()?;
        let new = temporary.path().join("new");
        let left_out = self.unpack_new(&mount.identity(), &new, archive)?;
        let (_lock, _root) = self.take_mount(mount)?;
        let old = temporary.path().join("old");
        std::fs::rename(&mount.files, &old).map_err(failed("replace", &mount.files))?;
        std::fs::rename(&new, &mount.files).map_err(failed("replace", &mount.files))?;
        Ok(left_out)
    }

    /// Makes a cache mount of the files of an archive; `None` where there is one of this identity.
    pub fn import_new_mount(
        &self,
        id: &CacheMountId,
        archive: impl Read,
    ) -> Result<Option<LeftOut>, MountFilesError> {
        self.make_room(0)?;
        let temporary = self.temp_dir()?;
        let new = temporary.path().join("new");
        let left_out = self.unpack_new(id, &new, archive)?;
        let made = Cell::new(false);
        let fill = |files: &Path| {
            made.set(true);
            // Empty until now: a rename takes its place.
            std::fs::rename(&new, files).map_err(failed("make", files))
        };
        // Nobody waits: whoever has it has just made it.
        match self.cache_mount::<StoreError>(id, CacheUse::Shared, None, &fill, &|| true) {
            Ok(_) => Ok(made.get().then_some(left_out)),
            Err(StoreError::Cancelled) => Err(MountFilesError::InUse(id.id.clone())),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a cache mount; whoever needs it next makes it anew.
    pub fn remove_mount(&self, mount: &KeptMount) -> Result<(), MountFilesError> {
        let (_lock, _root) = self.take_mount(mount)?;
        let lease = self.leased()?;
        if let Some(aside) = self.move_aside(&mount.files, &lease.id)? {
            remove_tree(&aside).map_err(failed("remove", &mount.files))?;
        }
        Ok(())
    }

    /// Takes a cache mount for oneself, if nobody has it.
    fn take_mount(&self, mount: &KeptMount) -> Result<(FileLock, RootDir), MountFilesError> {
        self.hold()?;
        let Some(lock) = take(&mount.lock)? else {
            return Err(match mount.lock.exists() {
                true => MountFilesError::InUse(mount.id.clone()),
                false => MountFilesError::Gone(mount.id.clone()),
            });
        };
        match RootDir::open(&mount.files) {
            Ok(root) => Ok((lock, root)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(MountFilesError::Gone(mount.id.clone())),
            Err(e) => Err(failed("open", &mount.files)(e).into()),
        }
    }

    fn unpack_new(
        &self,
        id: &CacheMountId,
        to: &Path,
        archive: impl Read,
    ) -> Result<LeftOut, MountFilesError> {
        std::fs::create_dir(to).map_err(failed("make", to))?;
        let root = RootDir::open(to).map_err(failed("open", to))?;
        let left_out = self.unpack_into(id, &root, archive)?;
        set_top(id, to)?;
        Ok(left_out)
    }

    fn unpack_into(
        &self,
        id: &CacheMountId,
        root: &RootDir,
        archive: impl Read,
    ) -> Result<LeftOut, MountFilesError> {
        let unreadable = |source| MountFilesError::Read { id: id.id.clone(), source };
        let (_, plain) = decompress(archive).map_err(unreadable)?;
        let plain = Watched { reader: plain, watch: self.watch_room() };
        let options = UnpackOptions::files(self.options.xattrs);
        Ok(unpack(plain, root, &options).map_err(unreadable)?.left_out)
    }
}

/// Gives a cache's directory the mode and owner that steps know it by; what an archive says of its top is not asked.
fn set_top(id: &CacheMountId, to: &Path) -> Result<(), StoreError> {
    std::os::unix::fs::chown(to, Some(id.uid), Some(id.gid)).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => StoreError::NoSuchOwner { uid: id.uid, gid: id.gid },
        _ => failed("change the owner of", to)(error),
    })?;
    std::fs::set_permissions(to, PermissionsExt::from_mode(id.mode))
        .map_err(failed("change the mode of", to))?;
    Ok(())
}

/// Reads, and looks meanwhile whether there is room for what is read.
struct Watched<'s, R> {
    reader: R,
    watch: Option<RoomWatch<'s>>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(watch) = &mut self.watch {
            watch.look().map_err(|error| io::Error::new(io::ErrorKind::StorageFull, error.to_string()))?;
        }
        self.reader.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn id(id: &str) -> CacheMountId {
        CacheMountId { id: id.into(), seed: None, mode: 0o1777, uid: 0, gid: 0 }
    }

    fn tar(files: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(7);
            header.set_uid(0);
            header.set_gid(0);
            tar.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn only(store: &Store) -> KeptMount {
        let mut mounts = store.kept_mounts().unwrap();
        assert_eq!(mounts.len(), 1, "{mounts:?}");
        mounts.remove(0)
    }

    #[test]
    fn in_and_out_and_gone() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        assert!(
            store.import_new_mount(&id("a"), &tar(&[("x", "12"), ("d/y", "345")])[..]).unwrap().is_some()
        );
        assert!(store.import_new_mount(&id("a"), &tar(&[("z", "")])[..]).unwrap().is_none());
        let mount = only(&store);
        assert_eq!((mount.id.as_str(), mount.size, mount.mode, mount.in_use), ("a", 5, 0o1777, false));
        let export = |mount: &KeptMount| {
            let mut bytes = Vec::new();
            store.export_mount(mount, &mut bytes).unwrap();
            bytes
        };
        let first = export(&mount);
        assert_eq!(export(&mount), first);

        store.import_mount(&mount, true, &tar(&[("x", "new"), ("z", "1")])[..]).unwrap();
        let read = |name: &str| std::fs::read_to_string(mount.files.join(name)).ok();
        assert_eq!([read("x"), read("d/y"), read("z")].map(Option::unwrap), ["new", "345", "1"]);
        store.import_mount(&mount, false, &first[..]).unwrap();
        assert_eq!((read("x").as_deref(), read("z")), (Some("12"), None));
        assert_eq!(export(&mount), first);

        // An archive that is none, or leads out: nothing changes.
        assert!(store.import_mount(&mount, false, &b"not a tar, by no means"[..]).is_err());
        assert_eq!(export(&mount), first);

        let user = testing::open(directory.path());
        let nothing = |_: &Path| Ok::<(), StoreError>(());
        let held = user.cache_mount(&id("a"), CacheUse::Locked, None, &nothing, &|| true).unwrap();
        assert!(only(&store).in_use && only(&store).sharing == Some(CacheUse::Locked));
        for refused in [
            store.export_mount(&mount, &mut Vec::new()).map(drop),
            store.import_mount(&mount, true, &first[..]).map(drop),
            store.import_mount(&mount, false, &first[..]).map(drop),
            store.remove_mount(&mount),
        ] {
            assert!(matches!(refused, Err(MountFilesError::InUse(_))), "{refused:?}");
        }
        assert_eq!(read("x").as_deref(), Some("12"));
        drop(held);
        store.remove_mount(&mount).unwrap();
        assert!(store.kept_mounts().unwrap().is_empty());
        assert!(matches!(store.remove_mount(&mount), Err(MountFilesError::Gone(_))));
    }
}
