//! Who is using the store: the shared lock and a lease file for every process.
//!
//! A lease's file is locked while its process lives and lists the layers it
//! pins. The kernel lets the lock go when the
//! process ends, however it ends; whoever then finds the lease removes it and what it
//! left in `tmp/`.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use crate::image::SnapshotId;
use crate::sys::atomic;
use crate::sys::lock::{FileLock, NamedLock};

use super::error::{failed, names_in};
use super::layout::Paths;
use super::temporary::remove_tree;
use super::{Store, StoreError, locked};

/// A lease, and the shared lock while layers may be taken into use.
#[derive(Debug)]
pub(super) struct Hold {
    /// The lease's name: what its entries in `tmp/` start with.
    pub id: String,
    shared: Mutex<Option<FileLock>>,
    lease: NamedLock,
    /// What the lease says, where it says anything.
    text: Mutex<String>,
}

impl Hold {
    fn write(&self, path: &Path, text: String) -> Result<(), StoreError> {
        let mut file: &File = self.lease.file();
        rustix::fs::seek(file, rustix::fs::SeekFrom::Start(0))
            .map_err(|e| failed("write", path)(e.into()))?;
        file.set_len(0).and_then(|()| file.write_all(text.as_bytes())).map_err(failed("write", path))?;
        *locked(&self.text) = text;
        Ok(())
    }
}

/// The line of a lease whose process uses no layer but those it lists.
const PARKED: &str = "parked\n";

impl Store {
    /// Keeps every layer from being removed until the store is closed.
    ///
    /// Writing functions do this by themselves. Waits while a sweep runs (which is
    /// short: files are deleted after it). The first call of a process also removes
    /// what dead processes left.
    pub fn hold(&self) -> Result<(), StoreError> {
        self.held().map(|_| ())
    }

    /// Keeps only these layers from being removed, until the store is closed.
    ///
    /// For a process that goes on for long and takes no other layer into use. Call it
    /// while [`Store::hold`] is in force and the layers are known to be there.
    pub fn hold_only(&self, layers: &[SnapshotId]) -> Result<(), StoreError> {
        self.pin(layers, String::new())?;
        self.let_go()
    }

    fn pin(&self, layers: &[SnapshotId], mut text: String) -> Result<(), StoreError> {
        let hold = self.held()?;
        for layer in layers {
            text.push_str(layer.as_str());
            text.push('\n');
        }
        hold.write(&self.paths.leases.join(&hold.id), text)?;
        // Whoever makes room beside us sees it by the one or the other.
        self.mark_used(layers)
    }

    /// Keeps no other layers from being removed than those the lease lists.
    pub fn let_go(&self) -> Result<(), StoreError> {
        let hold = self.held()?;
        self.forget_all();
        let text = locked(&hold.text).clone();
        hold.write(&self.paths.leases.join(&hold.id), text + PARKED)?;
        locked(&hold.shared).take();
        Ok(())
    }

    /// Returns the hold, taking it where there is none.
    pub(super) fn held(&self) -> Result<Arc<Hold>, StoreError> {
        let mut slot = locked(&self.hold);
        let hold = match &*slot {
            Some(hold) => hold.clone(),
            None => {
                let hold = Arc::new(new_lease(&self.paths)?);
                clear_dead(&self.paths)?;
                *slot = Some(hold.clone());
                hold
            }
        };
        let mut shared = locked(&hold.shared);
        if shared.is_none() {
            *shared = Some(FileLock::shared(&self.paths.lock).map_err(failed("lock", &self.paths.lock))?);
            let parked = locked(&hold.text).strip_suffix(PARKED).map(str::to_owned);
            if let Some(text) = parked {
                hold.write(&self.paths.leases.join(&hold.id), text)?;
            }
        }
        drop(shared);
        Ok(hold)
    }

    /// Returns a lease without the shared lock: for a sweep, which needs the lock alone.
    pub(super) fn leased(&self) -> Result<Arc<Hold>, StoreError> {
        let mut slot = locked(&self.hold);
        if let Some(hold) = &*slot {
            return Ok(hold.clone());
        }
        let hold = Arc::new(new_lease(&self.paths)?);
        clear_dead(&self.paths)?;
        *slot = Some(hold.clone());
        Ok(hold)
    }

    /// Tells whether this store holds the shared lock itself.
    pub(super) fn is_holding(&self) -> bool {
        locked(&self.hold).as_ref().is_some_and(|hold| locked(&hold.shared).is_some())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

impl Store {
    /// Lets go of all that is held, and removes what was temporary: for a process that ends without dropping
    /// its store. What is done with the store afterwards takes hold of it anew.
    pub fn close(&self) {
        let trees = std::mem::take(&mut *locked(&self.trees));
        drop(trees);
        let held = self.is_holding();
        locked(&self.hold).take();
        // A removal that found the store in use left its sweep to whoever ends last.
        if held && self.paths.sweep.exists() {
            let _ = self.sweep_if_free();
            locked(&self.hold).take();
        }
    }
}

fn new_lease(paths: &Paths) -> Result<Hold, StoreError> {
    loop {
        let bits = atomic::random_bits().map_err(failed("lease", &paths.leases))?;
        let id = format!("{:012x}", bits & 0xffff_ffff_ffff);
        let path = paths.leases.join(&id);
        if path.exists() {
            continue;
        }
        // `None`: somebody who cleans up took the file before it was locked.
        if let Some(lease) = NamedLock::try_take(&path).map_err(failed("lease", &path))? {
            return Ok(Hold { id, shared: Mutex::new(None), lease, text: Mutex::default() });
        }
    }
}

/// Removes the leases of dead processes and what they left in `tmp/`.
pub(super) fn clear_dead(paths: &Paths) -> Result<(), StoreError> {
    for id in names_in(&paths.leases)? {
        let path = paths.leases.join(&id);
        let dead = NamedLock::try_take_existing(&path).map_err(failed("lock", &path))?;
        if let Some(_lease) = dead {
            remove_temporary_of(paths, &id)?;
        }
    }
    Ok(())
}

fn remove_temporary_of(paths: &Paths, lease: &str) -> Result<(), StoreError> {
    for name in names_in(&paths.tmp)? {
        if name.split('.').next() == Some(lease) {
            // One that cannot be removed (say, immutable) must not stop every build.
            let _ = remove_tree(&paths.tmp.join(name));
        }
    }
    Ok(())
}

/// Returns since when those who hold the store may have taken layers into use; they touch each that they do.
///
/// One that lists layers and holds the store besides has taken them before it wrote that: since ever.
pub(super) fn in_use_since(paths: &Paths) -> Result<Timestamp, StoreError> {
    let mut since = Timestamp::MAX;
    for id in names_in(&paths.leases)? {
        let path = paths.leases.join(id);
        let text = read_all(&path)?;
        if text.ends_with(PARKED) {
            continue;
        }
        let Ok(modified) = std::fs::metadata(&path).and_then(|metadata| metadata.modified()) else {
            continue;
        };
        let begun = match text.is_empty() {
            true => Timestamp::try_from(modified).unwrap_or(Timestamp::MIN),
            false => Timestamp::MIN,
        };
        since = since.min(begun);
    }
    Ok(since)
}

/// Returns the layers that living leases pin, and the leases' names.
pub(super) fn living(paths: &Paths) -> Result<(Vec<String>, Vec<SnapshotId>), StoreError> {
    let (mut leases, mut pinned) = (Vec::new(), Vec::new());
    for id in names_in(&paths.leases)? {
        let text = read_all(&paths.leases.join(&id))?;
        pinned.extend(text.lines().filter_map(|line| SnapshotId::try_from(line.to_owned()).ok()));
        leases.push(id);
    }
    Ok((leases, pinned))
}

fn read_all(path: &Path) -> Result<String, StoreError> {
    let Ok(file) = File::open(path) else { return Ok(String::new()) };
    let length = file.metadata().map_err(failed("read", path))?.len();
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    // By position: the owner's writes move no offset of ours.
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(_) => Ok(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn a_lease_ends_with_its_store_and_dead_ones_are_cleared() {
        let directory = tempfile::tempdir().unwrap();
        let first = testing::open(directory.path());
        first.hold().unwrap();
        let leases = directory.path().join("v1/leases");
        assert_eq!(names_in(&leases).unwrap().len(), 1);
        // What a killed process leaves: a lease nobody has locked, and temporary files.
        std::fs::write(leases.join("0123456789ab"), "").unwrap();
        let rubbish = directory.path().join("v1/tmp/0123456789ab.77");
        std::fs::create_dir_all(rubbish.join("fs")).unwrap();
        let draft = first.draft().unwrap();
        let second = testing::open(directory.path());
        second.hold().unwrap();
        assert!(!rubbish.exists());
        assert!(draft.dir.exists());
        assert_eq!(names_in(&leases).unwrap().len(), 2);
        drop(second);
        drop(draft);
        drop(first);
        assert_eq!(names_in(&leases).unwrap().len(), 0);
        assert_eq!(names_in(&directory.path().join("v1/tmp")).unwrap().len(), 0);
    }
}
