//! Where the files of a build come from: its contexts, and what it fetches, each by its name.
//!
//! Not here: reading a place (`context`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::WorkerError;
use crate::context::Tree;
use crate::plan::graph::Op;
use crate::solve::Cancel;

/// The trees of one build, by [`Op::source_name`].
#[derive(Default)]
pub struct Sources {
    trees: Mutex<BTreeMap<String, Arc<Tree>>>,
}

impl Sources {
    /// Makes an empty collection.
    pub fn new() -> Sources {
        Sources::default()
    }

    /// Adds the files of a context under its name.
    pub fn insert(&self, name: &str, tree: Tree) {
        self.lock().insert(name.to_owned(), Arc::new(tree));
    }

    /// Returns the files of a source that was added or fetched.
    pub fn get(&self, name: &str) -> Option<Arc<Tree>> {
        self.lock().get(name).cloned()
    }

    /// Brings the files of an Http or Git vertex here, once.
    pub fn fetch(&self, op: &Op, _: &Cancel) -> Result<(), WorkerError> {
        let name = op.source_name().unwrap_or_default();
        Err(WorkerError::NoSource(name))
    }

    /// Writes what was learned of the files for the next build.
    pub fn save_digests(&self) -> std::io::Result<()> {
        let trees: Vec<Arc<Tree>> = self.lock().values().cloned().collect();
        trees.iter().try_for_each(|tree| tree.save_digests().map(drop))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Tree>>> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
