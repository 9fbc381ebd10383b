//! The builds of a store: of each the log, all that it said, and the record that it leaves at its end.
//!
//! The log is locked while its build runs: one without a record that nobody has locked was cut short. The
//! last [`BUILDS_KEPT`] stay. Not here: what a record says (`report`).

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::sys::atomic;
use crate::sys::lock::FileLock;

use super::error::{failed, names_in, read_if_there};
use super::temporary::remove_tree;
use super::{Store, StoreError};

/// How many builds are kept, the newest.
pub const BUILDS_KEPT: usize = 100;

/// How many more may lie there before the oldest are removed: not every build is to look at all.
const SLACK: usize = 16;

/// How long the words of a record may be, in bytes.
const LARGEST_RECORD: u64 = 64 << 20;

/// Writes the log of one build.
#[derive(Debug)]
pub struct BuildLog {
    id: String,
    path: PathBuf,
    file: File,
}

impl BuildLog {
    /// Returns the build's id: 12 hex digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns where the log is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the same file once more: the build counts as running until both are closed.
    pub fn again(&self) -> io::Result<BuildLog> {
        Ok(BuildLog { id: self.id.clone(), path: self.path.clone(), file: self.file.try_clone()? })
    }
}

impl Write for BuildLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A build that the store knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptBuild {
    pub id: String,
    /// Where all that it said is.
    pub log: PathBuf,
    /// When it began, as far as its files tell.
    pub started: Timestamp,
    pub state: BuildState,
}

/// What is known of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildState {
    Running,
    /// It ended without a record: its process was killed, or is of an older version.
    CutShort,
    /// Its record, as whoever built wrote it.
    Ended(Vec<u8>),
}

impl Store {
    /// Starts the log of a build.
    pub fn build_log(&self) -> Result<BuildLog, StoreError> {
        self.hold()?;
        loop {
            let bits = atomic::random_bits().map_err(failed("use", &self.paths.builds))?;
            let id = format!("{:012x}", bits & 0xffff_ffff_ffff);
            let directory = self.paths.builds.join(&id);
            match rustix::fs::mkdir(&directory, rustix::fs::Mode::RWXU) {
                Ok(()) => {}
                Err(rustix::io::Errno::EXIST) => continue,
                Err(errno) => return Err(failed("make", &directory)(errno.into())),
            }
            let path = directory.join("log");
            let file = atomic::create_new(&path).map_err(failed("write", &path))?;
            rustix::io::retry_on_intr(|| rustix::fs::flock(&file, rustix::fs::FlockOperation::LockShared))
                .map_err(|errno| failed("lock", &path)(errno.into()))?;
            return Ok(BuildLog { id, path, file });
        }
    }

    /// Keeps the record of a build that ends, and removes the oldest builds where there are too many.
    pub fn end_build(&self, log: &BuildLog, record: &[u8]) -> Result<(), StoreError> {
        self.publish(&self.paths.builds.join(&log.id).join("record"), record)?;
        let ids = self.build_ids()?;
        if ids.len() > BUILDS_KEPT + SLACK {
            self.remove_oldest_builds(ids)?;
        }
        Ok(())
    }

    /// Lists the builds that are kept, newest first.
    pub fn builds(&self) -> Result<Vec<KeptBuild>, StoreError> {
        let mut builds = Vec::new();
        for id in self.build_ids()? {
            builds.extend(self.build(&id)?);
        }
        builds.sort_by(|a, b| (b.started, &a.id).cmp(&(a.started, &b.id)));
        builds.truncate(BUILDS_KEPT);
        Ok(builds)
    }

    /// Finds a build by its id or the unique start of one; `None` where there is none.
    pub fn find_build(&self, text: &str) -> Result<Option<KeptBuild>, StoreError> {
        let all = self.builds()?;
        let mut found: Vec<KeptBuild> = all.into_iter().filter(|build| build.id.starts_with(text)).collect();
        if text.is_empty() || found.len() < 2 {
            return Ok(found.pop().filter(|_| !text.is_empty()));
        }
        let ids = found.into_iter().take(5).map(|build| build.id).collect();
        Err(StoreError::Ambiguous { text: text.to_owned(), ids })
    }

    /// Returns where a page about a build may be kept; it goes with the build.
    pub fn build_page(&self, build: &KeptBuild) -> PathBuf {
        self.paths.builds.join(&build.id).join("report.html")
    }

    /// Removes a build that has ended: log and record. Its layers and images stay.
    pub fn remove_build(&self, build: &KeptBuild) -> Result<(), StoreError> {
        let directory = self.paths.builds.join(&build.id);
        remove_tree(&directory).map_err(failed("remove", &directory))
    }

    fn build_ids(&self) -> Result<Vec<String>, StoreError> {
        let mut ids = names_in(&self.paths.builds)?;
        ids.retain(|id| id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit()));
        Ok(ids)
    }

    /// Looks at one build; `None` where it vanished.
    fn build(&self, id: &str) -> Result<Option<KeptBuild>, StoreError> {
        let directory = self.paths.builds.join(id);
        let log = directory.join("log");
        // The lock first: a build that ends meanwhile has its record by then.
        let running = is_running(&log);
        let record = directory.join("record");
        let small = std::fs::metadata(&record).is_ok_and(|m| m.len() <= LARGEST_RECORD);
        let record = if small { read_if_there(&record)? } else { None };
        let state = match (record, running) {
            (Some(bytes), _) => BuildState::Ended(bytes),
            (None, true) => BuildState::Running,
            (None, false) => BuildState::CutShort,
        };
        let Some(started) = began(&log) else { return Ok(None) };
        Ok(Some(KeptBuild { id: id.to_owned(), log, started, state }))
    }

    fn remove_oldest_builds(&self, ids: Vec<String>) -> Result<(), StoreError> {
        let mut all: Vec<(Option<Timestamp>, String)> =
            ids.into_iter().map(|id| (began(&self.paths.builds.join(&id).join("log")), id)).collect();
        all.sort();
        let extra = all.len().saturating_sub(BUILDS_KEPT);
        for (_, id) in all.into_iter().take(extra) {
            let directory = self.paths.builds.join(&id);
            if !is_running(&directory.join("log")) {
                remove_tree(&directory).map_err(failed("remove", &directory))?;
            }
        }
        Ok(())
    }
}

/// Tells whether the build of a log still runs.
fn is_running(log: &Path) -> bool {
    // Taking the lock of a file that is not there would make it.
    log.exists() && matches!(FileLock::try_exclusive(log), Ok(None))
}

/// Returns when a log was made; where the file system does not tell, when it was last written.
fn began(log: &Path) -> Option<Timestamp> {
    let metadata = std::fs::symlink_metadata(log).ok()?;
    Timestamp::try_from(metadata.created().or_else(|_| metadata.modified()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn every_build_has_a_log_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let (mut one, two) = (store.build_log().unwrap(), store.build_log().unwrap());
        assert_ne!(one.id(), two.id());
        one.write_all(b"Step 1/1\n").unwrap();
        assert_eq!(std::fs::read(one.path()).unwrap(), b"Step 1/1\n");
    }

    #[test]
    fn a_build_runs_until_its_log_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let log = store.build_log().unwrap();
        let again = log.again().unwrap();
        let state = || store.find_build(again.id()).unwrap().unwrap().state;
        assert_eq!(state(), BuildState::Running);
        drop(log);
        assert_eq!(state(), BuildState::Running);
        store.end_build(&again, b"{}").unwrap();
        assert_eq!(state(), BuildState::Ended(b"{}".to_vec()));
        let id = again.id().to_owned();
        drop(again);
        let killed = store.build_log().unwrap().id().to_owned();
        assert_eq!(store.find_build(&killed).unwrap().unwrap().state, BuildState::CutShort);
        let build = store.find_build(&id).unwrap().unwrap();
        store.remove_build(&build).unwrap();
        store.remove_build(&build).unwrap();
        assert_eq!(store.find_build(&id).unwrap(), None);
    }

    #[test]
    fn builds_are_found_by_the_start_of_their_ids() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        for id in ["aa0000000000", "ab0000000000", "b00000000000", "not-an-id"] {
            std::fs::create_dir(store.paths.builds.join(id)).unwrap();
            std::fs::write(store.paths.builds.join(id).join("log"), "").unwrap();
        }
        let find = |text: &str| store.find_build(text).map(|found| found.map(|build| build.id));
        assert_eq!(find("aa").unwrap().as_deref(), Some("aa0000000000"));
        assert_eq!(find("b").unwrap().as_deref(), Some("b00000000000"));
        assert!(matches!(find("a"), Err(StoreError::Ambiguous { ids, .. }) if ids.len() == 2));
        for nothing in ["c", "", "not", "../builds", "aa00000000000"] {
            assert_eq!(find(nothing).unwrap(), None, "{nothing}");
        }
    }

    #[test]
    fn the_oldest_go_and_those_that_run_stay() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let first = store.build_log().unwrap();
        for _ in 0..BUILDS_KEPT + SLACK {
            store.end_build(&store.build_log().unwrap(), b"{}").unwrap();
        }
        // The first runs still: one more is there than is kept.
        assert_eq!(store.build_ids().unwrap().len(), BUILDS_KEPT + 1);
        assert!(store.build_ids().unwrap().iter().any(|id| id == first.id()));
        let listed = store.builds().unwrap();
        assert_eq!(listed.len(), BUILDS_KEPT);
        assert!(listed.is_sorted_by(|a, b| a.started >= b.started));
        assert!(listed.iter().all(|build| build.id != first.id()), "it is older than the last hundred");
    }
}
