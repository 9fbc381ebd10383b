//! Where the blobs of a layer lie besides here: repositories they came from or were pushed to.
//!
//! What a registry has in one repository it can take over into another without an upload. A memory,
//! no promise: a repository may have lost the blob since. Not here: asking registries (`registry`).

use serde::{Deserialize, Serialize};

use crate::image::{Digest, SnapshotId};

use super::error::read_if_there;
use super::{Store, StoreError};

/// How many are remembered of a layer: the latest.
const MOST: usize = 16;

/// A repository that has had a blob of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Of the blob, as it lies there.
    pub digest: Digest,
    /// `HOST[:PORT]`, as in references.
    pub registry: String,
    /// The path in it: `library/debian`.
    pub repository: String,
}

impl Store {
    /// Returns where blobs of a layer are known to lie, the latest first; a file that cannot be read is none.
    pub fn origins(&self, id: &SnapshotId) -> Result<Vec<Origin>, StoreError> {
        let bytes = read_if_there(&self.paths.snapshot(id).join("origins"))?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
    }

    /// Remembers where a blob of a layer lies; writes nothing where that is known.
    ///
    /// Of two processes that do it at once one may be forgotten.
    pub fn note_origin(&self, id: &SnapshotId, origin: Origin) -> Result<(), StoreError> {
        let mut all = self.origins(id)?;
        if all.contains(&origin) {
            return Ok(());
        }
        all.insert(0, origin);
        all.truncate(MOST);
        let bytes = serde_json::to_vec(&all).expect("strings");
        self.publish(&self.paths.snapshot(id).join("origins"), &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn the_latest_are_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let id = testing::layer(&store, "f", "x");
        assert_eq!(store.origins(&id).unwrap(), []);
        let origin = |number: usize| Origin {
            digest: Digest::of("x"),
            registry: "host.example:5000".to_owned(),
            repository: format!("a/b{number}"),
        };
        for number in [1, 2, 1] {
            store.note_origin(&id, origin(number)).unwrap();
        }
        assert_eq!(store.origins(&id).unwrap(), [origin(2), origin(1)]);
        for number in 3..40 {
            store.note_origin(&id, origin(number)).unwrap();
        }
        let all = store.origins(&id).unwrap();
        assert_eq!((all.len(), &all[0]), (MOST, &origin(39)));
        std::fs::write(store.paths.snapshot(&id).join("origins"), "{").unwrap();
        assert_eq!(store.origins(&id).unwrap(), []);
    }
}
