//! Where the files of a build come from: its contexts, and what it fetches, each by its name.
//!
//! Not here: fetching (`fetch`), reading a place (`context`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::WorkerError;
use super::fetch::Fetcher;
use crate::context::Tree;
use crate::plan::graph::Op;
use crate::solve::Cancel;

/// The trees of one build, by [`Op::source_name`].
pub struct Sources<'a> {
    fetcher: Fetcher<'a>,
    trees: Mutex<BTreeMap<String, Source>>,
}

#[derive(Clone)]
struct Source {
    tree: Arc<Tree>,
    /// In seconds since 1970.
    time: Option<i64>,
}

impl<'a> Sources<'a> {
    /// Makes an empty collection.
    pub fn new(fetcher: Fetcher<'a>) -> Sources<'a> {
        Sources { fetcher, trees: Mutex::default() }
    }

    /// Returns what fetches for this build.
    pub fn fetcher(&self) -> &Fetcher<'a> {
        &self.fetcher
    }

    /// Adds the files of a source under its name, with the time that they are of as a whole: that
    /// of a commit, or of a download.
    pub fn insert(&self, name: &str, tree: Tree, time: Option<i64>) {
        self.lock().insert(name.to_owned(), Source { tree: Arc::new(tree), time });
    }

    /// Returns the files of a source that was added or fetched.
    pub fn get(&self, name: &str) -> Option<Arc<Tree>> {
        self.lock().get(name).map(|source| source.tree.clone())
    }

    /// Returns the time of a source that was added or fetched, where it has one.
    pub fn time(&self, name: &str) -> Option<i64> {
        self.lock().get(name).and_then(|source| source.time)
    }

    /// Brings the files of an Http or Git vertex here, once.
    pub fn fetch(&self, op: &Op, cancel: &Cancel) -> Result<(), WorkerError> {
        let name = op.source_name().unwrap_or_default();
        if self.get(&name).is_some() {
            return Ok(());
        }
        match op {
            Op::Http(http) => {
                let file = self.fetcher.http(http, cancel)?;
                let time = file.time();
                self.insert(&name, file.tree, time);
            }
            Op::Git(git) => {
                let found = self.fetcher.git(&git.address, cancel)?;
                self.insert(&name, found.tree, Some(found.commit_time));
            }
            _ => return Err(WorkerError::NoSource(name)),
        }
        Ok(())
    }

    /// Returns the paths of the directories of this machine among them, in order of their names.
    pub fn directories(&self) -> Vec<Vec<u8>> {
        let path = |source: &Source| source.tree.path().filter(|path| !path.is_empty()).map(<[u8]>::to_vec);
        self.lock().values().filter_map(path).collect()
    }

    /// Writes what was learned of the files for the next build.
    pub fn save_digests(&self) -> std::io::Result<()> {
        let trees: Vec<Arc<Tree>> = self.lock().values().map(|source| source.tree.clone()).collect();
        trees.iter().try_for_each(|tree| tree.save_digests().map(drop))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Source>> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
