//! Which files a step read, kept beside the layer it made: so that it can be said later which of them changed.
//!
//! `snapshots/ID/read-KEY`, one for each record of the layer; it goes with the layer. The bytes are the
//! caller's. Nothing is ever found or decided by them: one that is damaged or missing explains less.

use std::path::PathBuf;

use crate::image::{CacheKey, Digest, SnapshotId};

use super::error::read_if_there;
use super::{Store, StoreError};

/// Longer lists are not ours: the worker lists no more files than fit well below.
const MAX_FILE: u64 = 64 << 20;

impl Store {
    /// Keeps the list of a record, over one of the same key.
    pub fn keep_read_files(&self, id: &SnapshotId, key: &CacheKey, bytes: &[u8]) -> Result<(), StoreError> {
        let mut file = format!("{}\n", Digest::of(bytes)).into_bytes();
        file.extend_from_slice(bytes);
        self.publish(&self.read_files_path(id, key), &file)
    }

    /// Returns the list of a record; `None` where there is none or it is damaged.
    pub fn read_files(&self, id: &SnapshotId, key: &CacheKey) -> Option<Vec<u8>> {
        let path = self.read_files_path(id, key);
        std::fs::symlink_metadata(&path).ok().filter(|found| found.is_file() && found.len() <= MAX_FILE)?;
        let file = read_if_there(&path).ok()??;
        let end = file.iter().position(|&byte| byte == b'\n')?;
        let digest: Digest = std::str::from_utf8(&file[..end]).ok()?.parse().ok()?;
        let bytes = &file[end + 1..];
        (Digest::of(bytes) == digest).then(|| bytes.to_vec())
    }

    fn read_files_path(&self, id: &SnapshotId, key: &CacheKey) -> PathBuf {
        self.paths.snapshot(id).join(format!("read-{}", key.0.hex()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn a_list_goes_with_its_layer_and_a_damaged_one_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let layer = testing::layer(&store, "a", "1");
        let (one, two) = (CacheKey(Digest::of("1")), CacheKey(Digest::of("2")));
        assert_eq!(store.read_files(&layer, &one), None);
        store.keep_read_files(&layer, &one, b"list\n").unwrap();
        assert_eq!(store.read_files(&layer, &one).as_deref(), Some(&b"list\n"[..]));
        assert_eq!(store.read_files(&layer, &two), None);
        std::fs::write(store.read_files_path(&layer, &one), "list").unwrap();
        assert_eq!(store.read_files(&layer, &one), None);
        store.keep_read_files(&layer, &one, b"").unwrap();
        assert_eq!(store.read_files(&layer, &one).as_deref(), Some(&b""[..]));
        store.discard(&layer);
        assert!(store.keep_read_files(&layer, &one, b"").is_err());
    }
}
