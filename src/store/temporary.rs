//! Things on their way: everything is made under `tmp/` and renamed to its place.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::sys::{atomic, dir};

use super::error::failed;
use super::leases::Hold;
use super::{Store, StoreError};

/// A private directory (mode 0700) inside the store, removed when dropped.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
    // The lease outlives the directory: nobody clears it away underneath.
    _hold: Arc<Hold>,
}

impl TempDir {
    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the directory up: it is removed no more when this is dropped.
    pub(super) fn keep(mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = remove_tree(&self.path);
        }
    }
}

impl Store {
    /// Makes a private directory on the store's file system.
    pub fn temp_dir(&self) -> Result<TempDir, StoreError> {
        let (path, hold) = self.temp_path()?;
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mkdir(&path, mode).map_err(|e| failed("make", &path)(e.into()))?;
        Ok(TempDir { path, _hold: hold })
    }

    /// Returns a free name under `tmp/` that belongs to this process's lease.
    pub(super) fn temp_path(&self) -> Result<(PathBuf, Arc<Hold>), StoreError> {
        let hold = self.held()?;
        let bits = atomic::random_bits().map_err(failed("use", &self.paths.tmp))?;
        Ok((self.paths.tmp.join(format!("{}.{bits:016x}", hold.id)), hold))
    }

    /// Writes a small file whole, over what may be there.
    pub(super) fn publish(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let (temporary, _hold) = self.temp_path()?;
        atomic::publish(&temporary, path, bytes, false).map_err(failed("write", path))?;
        self.dirty.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Writes a small file whole where none is; tells whether it did.
    pub(super) fn publish_new(&self, path: &Path, bytes: &[u8]) -> Result<bool, StoreError> {
        let (temporary, _hold) = self.temp_path()?;
        let published = atomic::publish_new(&temporary, path, bytes).map_err(failed("write", path))?;
        self.dirty.fetch_or(published, Ordering::SeqCst);
        Ok(published)
    }
}

/// Removes a file, or a directory and all below it; one that is not there is no error.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = File::open(parent)?;
    match dir::remove_tree(parent.as_fd(), name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
