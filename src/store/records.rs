//! Cache records: what a vertex gave, found by operation and key.
//!
//! The bytes are the caller's. The header says which layer they speak of, so
//! that garbage collection knows, and their digest, so that a torn file is a miss.

use std::path::Path;

use crate::image::{CacheKey, Digest, OpDigest, SnapshotId};

use super::error::{failed, names_in, read_if_there};
use super::{Store, StoreError};

const FIRST_LINE: &str = "rbuild record";

/// One cache record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub key: CacheKey,
    /// The layer it gave; there, whenever the record is returned.
    pub snapshot: Option<SnapshotId>,
    /// As they were published.
    pub bytes: Vec<u8>,
}

impl Store {
    /// Publishes a record, over one of the same key. It keeps its layer from being collected.
    pub fn publish_record(
        &self,
        op: &OpDigest,
        key: &CacheKey,
        snapshot: Option<&SnapshotId>,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        self.hold()?;
        let directory = self.paths.records_of(op);
        match rustix::fs::mkdir(&directory, rustix::fs::Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(failed("make", &directory)(errno.into())),
        }
        let layer = snapshot.map_or("-", SnapshotId::as_str);
        let mut file = format!("{FIRST_LINE}\n{layer}\n{}\n", Digest::of(bytes)).into_bytes();
        file.extend_from_slice(bytes);
        self.publish(&self.paths.record(op, key), &file)
    }

    /// Returns a record; `None` where there is none, it is broken, or its layer is gone.
    pub fn record(&self, op: &OpDigest, key: &CacheKey) -> Result<Option<Record>, StoreError> {
        let Some(file) = read_if_there(&self.paths.record(op, key))? else { return Ok(None) };
        let Ok((snapshot, bytes)) = parse(&file) else { return Ok(None) };
        if let Some(id) = &snapshot
            && !self.has_snapshot(id)?
        {
            return Ok(None);
        }
        Ok(Some(Record { key: *key, snapshot, bytes: bytes.to_vec() }))
    }

    /// Returns a record as it is, to be told about and not to be used: its layer is not looked at, and does not
    /// count as used.
    pub fn peek_record(&self, op: &OpDigest, key: &CacheKey) -> Option<Record> {
        let file = read_if_there(&self.paths.record(op, key)).ok()??;
        let (snapshot, bytes) = parse(&file).ok()?;
        Some(Record { key: *key, snapshot, bytes: bytes.to_vec() })
    }

    /// Returns all records of an operation, sorted by key, as [`Store::peek_record`] does.
    pub fn records_of(&self, op: &OpDigest) -> Result<Vec<Record>, StoreError> {
        let mut records = Vec::new();
        for key in self.record_keys(op)? {
            records.extend(self.peek_record(op, &key));
        }
        Ok(records)
    }

    /// Tells whether there may be a record of an operation; `false` is certain.
    pub fn has_op(&self, op: &OpDigest) -> bool {
        self.paths.records_of(op).exists()
    }

    pub(super) fn record_ops(&self) -> Result<Vec<OpDigest>, StoreError> {
        let names = names_in(&self.paths.records)?;
        Ok(names.iter().filter_map(|name| Digest::from_hex(name).ok()).map(OpDigest).collect())
    }

    pub(super) fn record_keys(&self, op: &OpDigest) -> Result<Vec<CacheKey>, StoreError> {
        let names = names_in(&self.paths.records_of(op))?;
        Ok(names.iter().filter_map(|name| Digest::from_hex(name).ok()).map(CacheKey).collect())
    }

    /// Returns the layer a record file speaks of, or why it cannot be read; `None` where it is gone.
    pub(super) fn record_layer(
        &self,
        path: &Path,
    ) -> Result<Option<Result<Option<SnapshotId>, String>>, StoreError> {
        Ok(read_if_there(path)?.map(|file| parse(&file).map(|(snapshot, _)| snapshot)))
    }
}

fn parse(file: &[u8]) -> Result<(Option<SnapshotId>, &[u8]), String> {
    let mut lines = file.splitn(4, |&b| b == b'\n');
    let mut line = || lines.next().ok_or("it is cut off");
    if line()? != FIRST_LINE.as_bytes() {
        return Err("it does not start as a record does".to_owned());
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let snapshot = match line()? {
        b"-" => None,
        id => Some(SnapshotId::try_from(text(id))?),
    };
    let digest: Digest = text(line()?).parse().map_err(|e| format!("{e}"))?;
    let bytes = line()?;
    match Digest::of(bytes) == digest {
        true => Ok((snapshot, bytes)),
        false => Err("its bytes are not those that were written".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn op(text: &str) -> OpDigest {
        OpDigest(Digest::of(text))
    }

    fn key(text: &str) -> CacheKey {
        CacheKey(Digest::of(text))
    }

    #[test]
    fn records_are_found_by_operation_and_key() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let layer = testing::layer(&store, "a", "1");
        assert!(!store.has_op(&op("run")));
        store.publish_record(&op("run"), &key("1"), Some(&layer), b"one\ntwo\n\n").unwrap();
        store.publish_record(&op("run"), &key("2"), None, b"").unwrap();
        assert!(store.has_op(&op("run")));
        let record = store.record(&op("run"), &key("1")).unwrap().unwrap();
        assert_eq!((record.snapshot, record.bytes.as_slice()), (Some(layer), &b"one\ntwo\n\n"[..]));
        assert_eq!(store.record(&op("run"), &key("3")).unwrap(), None);
        assert_eq!(store.record(&op("copy"), &key("1")).unwrap(), None);
        assert_eq!(store.records_of(&op("run")).unwrap().len(), 2);
        store.publish_record(&op("run"), &key("1"), None, b"new").unwrap();
        assert_eq!(store.record(&op("run"), &key("1")).unwrap().unwrap().bytes, b"new");
    }

    #[test]
    fn a_broken_record_or_one_without_its_layer_is_a_miss() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let layer = testing::layer(&store, "a", "1");
        store.publish_record(&op("run"), &key("1"), Some(&layer), b"bytes").unwrap();
        let path = store.paths.record(&op("run"), &key("1"));
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(store.record(&op("run"), &key("1")).unwrap(), None, "{length}");
        }
        std::fs::write(&path, &whole).unwrap();
        assert!(store.record(&op("run"), &key("1")).unwrap().is_some());
        std::fs::remove_dir_all(store.paths.snapshot(&layer)).unwrap();
        assert_eq!(store.record(&op("run"), &key("1")).unwrap(), None);
        assert!(store.peek_record(&op("run"), &key("1")).is_some(), "it can still be told about");
    }

    proptest::proptest! {
        #[test]
        fn foreign_bytes_are_refused_or_read(bytes: Vec<u8>) {
            let _ = parse(&bytes);
            let mut file = format!("{FIRST_LINE}\n-\n{}\n", Digest::of(&bytes)).into_bytes();
            file.extend_from_slice(&bytes);
            proptest::prop_assert_eq!(parse(&file).unwrap(), (None, bytes.as_slice()));
        }
    }
}
