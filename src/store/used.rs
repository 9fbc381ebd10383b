//! How much the whole store takes, known without measuring it each time: measured now and then, and between that
//! told by what the file system has in use.
//!
//! `ROOT/v1/size` has the last measure, and the layers since; it is there only where a limit of the store's size is
//! set. Others write to the same file system, too: what is told in between may be too much, which leads to a measure,
//! and of what is no layer yet for some seconds too little. Not here: what follows from it (`quota`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sys::lock::FileLock;

use super::choose::Free;
use super::error::{failed, names_in, read_if_there};
use super::measure::Measure;
use super::usage::together;
use super::{Store, StoreError};

/// How long a measure stands.
const STANDS: Duration = Duration::from_secs(10);

/// A measure of the store.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Measured {
    /// What the files of the store take, in bytes.
    pub bytes: u64,
    /// What was in use of the file system then, in bytes.
    pub disk: u64,
}

impl Measured {
    /// Returns what the store takes at most, if nobody has removed anything.
    pub fn now(&self, disk: u64) -> u64 {
        self.bytes.saturating_add(disk.saturating_sub(self.disk))
    }
}

impl Store {
    /// Returns what the store's file system has left for us, and how many bytes of it are in use.
    pub(super) fn disk(&self) -> Result<(Free, u64), StoreError> {
        let base = &self.paths.base;
        let stat = rustix::fs::statvfs(base).map_err(|errno| failed("read", base)(errno.into()))?;
        let bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
        // Some file systems make inodes as they are needed, and count none.
        let inodes = if stat.f_files == 0 { u64::MAX } else { stat.f_favail };
        let used = stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize);
        Ok((Free { bytes, inodes }, used))
    }

    /// Returns what the store's file system has left for us.
    pub fn free(&self) -> Result<Free, StoreError> {
        Ok(self.disk()?.0)
    }

    /// Returns the last measure, or makes one where that is too old.
    pub(super) fn measured(&self) -> Result<Measured, StoreError> {
        let path = &self.paths.size;
        let age = std::fs::metadata(path).ok().and_then(|m| m.modified().ok()?.elapsed().ok());
        if age.is_some_and(|age| age < STANDS)
            && let Some(bytes) = read_if_there(path)?
            && let Ok(measured) = serde_json::from_slice(&bytes)
        {
            return Ok(measured);
        }
        self.measure_now()
    }

    fn size_lock(&self) -> Result<FileLock, StoreError> {
        let path = &self.paths.size_lock;
        FileLock::exclusive(path).map_err(failed("lock", path))
    }

    /// Adds what was written to the last measure: what others remove meanwhile must not hide it. Nothing where the
    /// store's size is not limited.
    pub(super) fn add_written(&self, bytes: u64) -> Result<(), StoreError> {
        let path = &self.paths.size;
        if self.quota().max_used_space.is_none() {
            return Ok(());
        }
        self.held()?;
        let _lock = self.size_lock()?;
        let Ok(measured_at) = std::fs::metadata(path).and_then(|metadata| metadata.modified()) else {
            return Ok(());
        };
        let last = read_if_there(path)?.and_then(|bytes| serde_json::from_slice::<Measured>(&bytes).ok());
        let Some(last) = last else { return Ok(()) };
        let now = Measured { bytes: last.bytes.saturating_add(bytes), disk: last.disk.saturating_add(bytes) };
        self.publish(path, &serde_json::to_vec(&now).unwrap_or_default())?;
        // It stands no longer for that.
        let file = std::fs::File::open(path).map_err(failed("write", path))?;
        file.set_modified(measured_at).map_err(failed("write", path))
    }

    /// Measures the store, and keeps the result for others.
    pub(super) fn measure_now(&self) -> Result<Measured, StoreError> {
        self.held()?;
        // Whoever adds a layer meanwhile adds it to this measure, and perhaps once too often.
        let _lock = self.size_lock()?;
        let disk = self.disk()?.1;
        let layers = self.layers()?;
        let mut rest = Measure::default();
        for name in names_in(&self.paths.base)?.iter().filter(|name| *name != "snapshots") {
            rest.add(&self.paths.base.join(name));
        }
        for layer in layers.keys() {
            rest.add(&self.paths.snapshot(layer).join("copied"));
        }
        let measured =
            Measured { bytes: together(&layers, layers.keys(), false).saturating_add(rest.all()), disk };
        self.publish(&self.paths.size, &serde_json::to_vec(&measured).unwrap_or_default())?;
        Ok(measured)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn a_measure_stands_for_a_while() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        testing::layer(&store, "a", &"x".repeat(5000));
        let first = store.measured().unwrap();
        assert!((5000..6000).contains(&first.bytes), "{first:?}");
        testing::layer(&store, "b", &"x".repeat(5000));
        assert_eq!(store.measured().unwrap().bytes, first.bytes);
        let size = std::fs::File::open(&store.paths.size).unwrap();
        size.set_modified(std::time::SystemTime::now() - STANDS * 2).unwrap();
        assert!((10_000..11_000).contains(&store.measured().unwrap().bytes));
        let store = store.with_quota(super::super::Quota { max_used_space: Some(1), ..Default::default() });
        let (before, at) =
            (store.measured().unwrap(), store.paths.size.metadata().unwrap().modified().unwrap());
        store.add_written(70).unwrap();
        let after = store.measured().unwrap();
        assert_eq!((after.bytes, after.disk), (before.bytes + 70, before.disk + 70));
        assert_eq!(store.paths.size.metadata().unwrap().modified().unwrap(), at);
        // One that is damaged is none.
        std::fs::write(&store.paths.size, "{").unwrap();
        assert!((10_000..11_000).contains(&store.measured().unwrap().bytes));
        assert_eq!((first.now(first.disk + 7), first.now(0)), (first.bytes + 7, first.bytes));
    }
}
