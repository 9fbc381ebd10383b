//! What a layer came to when it was packed: which digests its compressed forms have.
//!
//! The bytes are not kept; they can be made again. Only so far as this very version of rbuild makes them,
//! since a compressor may give others in the next: what another version wrote is not believed. Not here:
//! packing (`content`).

use serde::{Deserialize, Serialize};

use crate::image::{Digest, SnapshotId};
use crate::layer::Compression;

use super::error::read_if_there;
use super::snapshots::{compression_of, compression_word};
use super::{Store, StoreError};

/// The version of rbuild, and of the form in which it packs.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " form 4");

/// One packed form of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedLayer {
    pub digest: Digest,
    /// In bytes, compressed.
    pub size: u64,
    pub compression: Compression,
    /// As it was asked for; `None` is the compression's default.
    pub level: Option<i32>,
}

#[derive(Serialize, Deserialize)]
struct PackedFile {
    version: String,
    packed: Vec<PackedEntry>,
}

#[derive(Serialize, Deserialize)]
struct PackedEntry {
    digest: Digest,
    size: u64,
    compression: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    level: Option<i32>,
}

impl Store {
    /// Returns the packed forms of a layer that this version of rbuild made; a file that cannot be read is none.
    pub fn packed(&self, id: &SnapshotId) -> Result<Vec<PackedLayer>, StoreError> {
        let Some(bytes) = read_if_there(&self.paths.snapshot(id).join("packed"))? else {
            return Ok(Vec::new());
        };
        let file: Option<PackedFile> = serde_json::from_slice(&bytes).ok();
        let entries = file.filter(|file| file.version == VERSION).map(|file| file.packed).unwrap_or_default();
        let packed = entries.into_iter().filter_map(|entry| {
            let compression = compression_of(&entry.compression)?;
            Some(PackedLayer { digest: entry.digest, size: entry.size, compression, level: entry.level })
        });
        Ok(packed.collect())
    }

    /// Remembers a packed form of a layer. Of two processes that do it at once one may be forgotten.
    pub fn note_packed(&self, id: &SnapshotId, packed: PackedLayer) -> Result<(), StoreError> {
        let mut all = self.packed(id)?;
        all.retain(|there| (there.compression, there.level) != (packed.compression, packed.level));
        all.push(packed);
        let entry = |p: &PackedLayer| PackedEntry {
            digest: p.digest,
            size: p.size,
            compression: compression_word(p.compression).to_owned(),
            level: p.level,
        };
        let file = PackedFile { version: VERSION.to_owned(), packed: all.iter().map(entry).collect() };
        let bytes = serde_json::to_vec(&file).expect("strings and numbers");
        self.publish(&self.paths.snapshot(id).join("packed"), &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn packed_forms_are_remembered_by_compression_and_level() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let id = testing::layer(&store, "f", "x");
        assert_eq!(store.packed(&id).unwrap(), []);
        let packed = |text: &str, compression, level| PackedLayer {
            digest: Digest::of(text),
            size: text.len() as u64,
            compression,
            level,
        };
        let one = packed("one", Compression::Gzip, None);
        let two = packed("two", Compression::Zstd, Some(19));
        let again = packed("again", Compression::Gzip, None);
        for (new, expect) in [(one, vec![one]), (two, vec![one, two]), (again, vec![two, again])] {
            store.note_packed(&id, new).unwrap();
            assert_eq!(store.packed(&id).unwrap(), expect);
        }
        let path = store.paths.snapshot(&id).join("packed");
        let text = std::fs::read_to_string(&path).unwrap();
        for bad in ["", "{}", &text.replace(VERSION, "0.0.0-other")] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(store.packed(&id).unwrap(), [], "{bad}");
        }
    }
}
