//! Steps: the states after single instructions, found by the ids a build prints.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::image::{ContainerConfig, Digest, History, ImageId, Platform, SnapshotId};

use super::error::{names_in, read_if_there};
use super::{Store, StoreError};

/// The id of a step: 12 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(String);

impl StepId {
    /// Returns the 12 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for StepId {
    type Err = String;

    fn from_str(text: &str) -> Result<StepId, String> {
        SnapshotId::try_from(text.to_owned())
            .map(|id| StepId(id.as_str().to_owned()))
            .map_err(|_| format!("`{text}` is not a step id"))
    }
}

/// The state after one instruction: enough to run it, look at it, or make an image of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The step before it in its stage; `None` for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<StepId>,
    /// The image its stage starts from; `None` for scratch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<ImageId>,
    /// The whole state, lowest first, the base's layers included.
    pub layers: Vec<SnapshotId>,
    #[serde(serialize_with = "write_platform", deserialize_with = "read_platform")]
    pub platform: Platform,
    pub config: ContainerConfig,
    /// The history line of the instruction; `None` for FROM, which has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
}

/// A step whose layers made room for others of equal content.
#[derive(Serialize, Deserialize)]
struct Moved {
    moved_to: StepId,
}

/// So often a step may have moved; more is a loop, which only a broken store has.
const MOST_MOVES: usize = 16;

fn write_platform<S: Serializer>(platform: &Platform, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(platform)
}

fn read_platform<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Platform, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

impl Store {
    /// Stores a step; returns its id, which follows from what the record says, and whether it
    /// is new.
    ///
    /// The same record always has the same id, so a build that is all cached prints the
    /// ids of the build before and writes nothing.
    pub fn put_step(&self, record: &StepRecord) -> Result<(StepId, bool), StoreError> {
        let bytes = serde_json::to_vec(record).expect("strings, numbers, lists and maps");
        let mut digest = Digest::of(&bytes);
        loop {
            let id = StepId(digest.short());
            let path = self.paths.steps.join(id.as_str());
            match read_if_there(&path)? {
                Some(there) if there == bytes => return Ok((id, false)),
                Some(there) if serde_json::from_slice::<StepRecord>(&there).is_ok() => {
                    // Another record of the same 48 bits: the next digest decides.
                    digest = Digest::of(digest.as_bytes());
                }
                Some(_) => {
                    self.publish(&path, &bytes)?;
                    return Ok((id, true));
                }
                None if self.publish_new(&path, &bytes)? => return Ok((id, true)),
                None => {}
            }
        }
    }

    /// Makes the id of a step lead to another: the first one's layers made room for older ones of
    /// equal content after the id was printed.
    pub fn move_step(&self, from: &StepId, to: &StepId) -> Result<(), StoreError> {
        let moved = Moved { moved_to: to.clone() };
        let bytes = serde_json::to_vec(&moved).expect("a string");
        self.publish(&self.paths.steps.join(from.as_str()), &bytes)
    }

    /// Returns a step; `None` where there is none, or it is broken or its layers are gone.
    pub fn step(&self, id: &StepId) -> Result<Option<StepRecord>, StoreError> {
        let mut id = id.clone();
        let mut found = None;
        for _ in 0..MOST_MOVES {
            let Some(bytes) = read_if_there(&self.paths.steps.join(id.as_str()))? else { return Ok(None) };
            match serde_json::from_slice::<Moved>(&bytes) {
                Ok(moved) => id = moved.moved_to,
                Err(_) => {
                    found = serde_json::from_slice::<StepRecord>(&bytes).ok();
                    break;
                }
            }
        }
        let Some(record) = found else { return Ok(None) };
        for layer in &record.layers {
            if !self.has_snapshot(layer)? {
                return Ok(None);
            }
        }
        Ok(Some(record))
    }

    pub(super) fn step_ids(&self) -> Result<Vec<StepId>, StoreError> {
        Ok(names_in(&self.paths.steps)?.iter().filter_map(|name| name.parse().ok()).collect())
    }
}

#[cfg(test)]
pub(super) fn example(layers: Vec<SnapshotId>, created_by: &str) -> StepRecord {
    StepRecord {
        parent: Some(StepId("0123456789ab".to_owned())),
        base: Some(ImageId(Digest::of("base"))),
        layers,
        platform: "linux/arm/v7".parse().unwrap(),
        config: ContainerConfig { env: vec!["A=1".to_owned()], ..ContainerConfig::default() },
        history: Some(History { created_by: Some(created_by.to_owned()), ..History::default() }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn the_same_step_has_the_same_id() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let record = example(vec![testing::layer(&store, "a", "1")], "RUN x");
        let (id, new) = store.put_step(&record).unwrap();
        assert!(new);
        assert_eq!(store.put_step(&record).unwrap(), (id.clone(), false));
        assert_eq!(store.step(&id).unwrap(), Some(record.clone()));
        let other = example(record.layers.clone(), "RUN y");
        assert_ne!(store.put_step(&other).unwrap().0, id);

        // Broken: a miss, and healed by the next build.
        std::fs::write(store.paths.steps.join(id.as_str()), "{").unwrap();
        assert_eq!(store.step(&id).unwrap(), None);
        assert_eq!(store.put_step(&record).unwrap(), (id.clone(), true));
        assert_eq!(store.step(&id).unwrap(), Some(record.clone()));
        // The id is taken by another record: both can be found.
        std::fs::write(store.paths.steps.join(id.as_str()), serde_json::to_vec(&other).unwrap()).unwrap();
        let (second, _) = store.put_step(&record).unwrap();
        assert_ne!(second, id);
        assert_eq!(store.step(&second).unwrap(), Some(record.clone()));

        std::fs::remove_dir_all(store.paths.snapshot(&record.layers[0])).unwrap();
        assert_eq!(store.step(&second).unwrap(), None);
    }
    #[test]
    fn a_step_that_moved_is_still_found() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let gone = example(vec![testing::layer(&store, "a", "1")], "RUN x");
        let kept = example(vec![testing::layer(&store, "b", "2")], "RUN x");
        let (old, new) = (store.put_step(&gone).unwrap().0, store.put_step(&kept).unwrap().0);
        std::fs::remove_dir_all(store.paths.snapshot(&gone.layers[0])).unwrap();
        assert_eq!(store.step(&old).unwrap(), None);
        store.move_step(&old, &new).unwrap();
        assert_eq!(store.step(&old).unwrap(), Some(kept));
        // A loop, as only a broken store has it.
        store.move_step(&new, &old).unwrap();
        assert_eq!(store.step(&old).unwrap(), None);
    }
}
