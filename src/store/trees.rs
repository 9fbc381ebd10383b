//! Trees of files that layers were merged into, for where nothing can be mounted.
//!
//! They lie in `tmp/` and live no longer than the process. A tree to read has links to the layers' files
//! and is shared; one to write has files of its own, and belongs to one root. One that is no longer used is
//! kept for whoever wants the same layers and more: a build's steps mostly go on where the last one ended,
//! and putting one more layer onto a tree is little work. Not here: merging (`layer`).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use crate::image::SnapshotId;
use crate::layer::{Become, Stamps, merge_layer, write_difference};
use crate::sys::{OverlayXattrs, RootDir};

use super::error::failed;
use super::{Draft, Store, StoreError, TempDir, locked};

/// How many trees of each kind are kept while nobody uses them.
const KEPT: usize = 4;

/// The trees of a store.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// Trees to read that are in use.
    shared: Vec<(Vec<SnapshotId>, Weak<Shared>)>,
    idle_to_read: Vec<Tree>,
    idle_to_write: Vec<Tree>,
}

/// A merged tree.
#[derive(Debug)]
pub(super) struct Tree {
    /// Lowest first, each once; with what was written to it since.
    layers: Vec<SnapshotId>,
    path: PathBuf,
    /// How its files are, where that is known.
    stamps: Option<Stamps>,
    _temporary: TempDir,
}

/// A tree to read, which goes back to the pool with its last user.
#[derive(Debug)]
struct Shared {
    tree: Option<Tree>,
    pool: Arc<Mutex<Pool>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let Some(tree) = self.tree.take() else { return };
        let mut pool = locked(&self.pool);
        pool.shared.retain(|(_, shared)| shared.strong_count() > 0);
        let over = keep(&mut pool.idle_to_read, tree);
        drop(pool);
        drop(over);
    }
}

/// Keeps a tree; returns what there is no room for, to be removed outside of the lock.
fn keep(idle: &mut Vec<Tree>, tree: Tree) -> Option<Tree> {
    idle.push(tree);
    (idle.len() > KEPT).then(|| idle.remove(0))
}

/// Takes the tree that has the most of some layers, and none besides.
fn take(idle: &mut Vec<Tree>, layers: &[SnapshotId]) -> Option<Tree> {
    let fits = idle.iter().enumerate().filter(|(_, tree)| layers.starts_with(&tree.layers));
    let (at, _) = fits.max_by_key(|(_, tree)| tree.layers.len())?;
    Some(idle.remove(at))
}

impl Tree {
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn open(&self) -> Result<RootDir, StoreError> {
        RootDir::open(&self.path).map_err(failed("open", &self.path))
    }

    fn merge(&mut self, layer: &Path, form: OverlayXattrs, how: Become) -> Result<(), StoreError> {
        self.stamps = None;
        let layer = RootDir::open(layer).map_err(failed("open", layer))?;
        merge_layer(&layer, form, &self.open()?, how).map_err(StoreError::Merge)
    }

    /// Writes what differs from what it was when it was handed out; it is then what it is now.
    pub fn write_difference(
        &mut self,
        base: &RootDir,
        upper: &RootDir,
        form: OverlayXattrs,
        points: &[PathBuf],
    ) -> Result<(), StoreError> {
        let before = self.stamps.take().unwrap_or_default();
        let now = write_difference(&self.open()?, &before, base, upper, form, points);
        self.stamps = Some(now.map_err(StoreError::Difference)?);
        Ok(())
    }
}

impl Store {
    /// Returns a tree of layers (lowest first) that is only read, shared with all who want the same.
    pub(super) fn tree_to_read(&self, layers: &[SnapshotId]) -> Result<RootDir, StoreError> {
        let layers = each_once(layers);
        let mut pool = locked(&self.trees);
        let found = pool.shared.iter().find(|(of, _)| *of == layers).and_then(|(_, tree)| tree.upgrade());
        let shared = match found {
            Some(shared) => shared,
            None => {
                let idle = take(&mut pool.idle_to_read, &layers);
                drop(pool);
                let tree = self.tree(idle, &layers, Become::Links)?;
                let shared = Arc::new(Shared { tree: Some(tree), pool: self.trees.clone() });
                pool = locked(&self.trees);
                pool.shared.push((layers, Arc::downgrade(&shared)));
                shared
            }
        };
        drop(pool);
        let path = shared.tree.as_ref().map(|tree| tree.path.clone()).unwrap_or_default();
        let root = RootDir::open(&path).map_err(failed("open", &path))?;
        Ok(root.keeping(shared))
    }

    /// Returns a tree of layers (lowest first), and what a draft has above them, for one root to write to.
    pub(super) fn tree_to_write(&self, layers: &[SnapshotId], draft: &Draft) -> Result<Tree, StoreError> {
        let layers = each_once(layers);
        let idle = take(&mut locked(&self.trees).idle_to_write, &layers);
        let mut tree = self.tree(idle, &layers, Become::Copies)?;
        let is_empty = std::fs::read_dir(&draft.dir).map_err(failed("read", &draft.dir))?.next().is_none();
        if !is_empty || layers.is_empty() {
            tree.merge(&draft.dir, self.options.xattrs, Become::Copies)?;
        }
        if tree.stamps.is_none() {
            let stamps = Stamps::read(&tree.open()?).map_err(failed("read", &tree.path))?;
            tree.stamps = Some(stamps);
        }
        Ok(tree)
    }

    /// Returns a tree of layers (lowest first), and what is above them, to write to; what is above counts as
    /// different from what the layers have.
    pub(super) fn tree_above(&self, layers: &[SnapshotId], upper: &Path) -> Result<Tree, StoreError> {
        let mut tree = self.tree(None, &each_once(layers), Become::Copies)?;
        let stamps = Stamps::read(&tree.open()?).map_err(failed("read", &tree.path))?;
        tree.merge(upper, self.options.xattrs, Become::Copies)?;
        tree.stamps = Some(stamps);
        Ok(tree)
    }

    /// Returns a tree of layers (lowest first) with one more directory of layer form on top, only to be read.
    pub(super) fn tree_with(&self, layers: &[SnapshotId], upper: &Path) -> Result<RootDir, StoreError> {
        let mut tree = self.tree(None, &each_once(layers), Become::Links)?;
        tree.merge(upper, self.options.xattrs, Become::Links)?;
        let root = tree.open()?;
        Ok(root.keeping(Arc::new(tree)))
    }

    /// Merges layers (lowest first) into an empty directory, for somebody to write to.
    pub fn merge_into(&self, layers: &[SnapshotId], directory: &Path) -> Result<(), StoreError> {
        let tree = RootDir::open(directory).map_err(failed("open", directory))?;
        for layer in each_once(layers) {
            let path = self.snapshot_dir(&layer);
            let layer = RootDir::open(&path).map_err(failed("open", &path))?;
            merge_layer(&layer, self.options.xattrs, &tree, Become::Copies).map_err(StoreError::Merge)?;
        }
        Ok(())
    }

    /// Keeps the tree a layer was made in, for the step on top of it.
    pub(super) fn keep_tree(&self, mut tree: Tree, layer: &SnapshotId, was_changed: bool) {
        tree.layers.push(layer.clone());
        if was_changed && tree.merge(&self.snapshot_dir(layer), self.options.xattrs, Become::Copies).is_err()
        {
            return;
        }
        let over = keep(&mut locked(&self.trees).idle_to_write, tree);
        drop(over);
    }

    fn tree(&self, idle: Option<Tree>, layers: &[SnapshotId], how: Become) -> Result<Tree, StoreError> {
        let mut tree = match idle {
            Some(tree) => tree,
            None => {
                let temporary = self.temp_dir()?;
                let path = temporary.path().join("tree");
                std::fs::create_dir(&path).map_err(failed("make", &path))?;
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
                std::fs::set_permissions(&path, mode).map_err(failed("make", &path))?;
                Tree { layers: Vec::new(), path, stamps: None, _temporary: temporary }
            }
        };
        let here = tree.layers.len();
        for layer in &layers[here..] {
            tree.merge(&self.snapshot_dir(layer), self.options.xattrs, how)?;
            tree.layers.push(layer.clone());
        }
        Ok(tree)
    }
}

/// Drops the lower places of layers that stand in a state more than once: they change nothing.
fn each_once(layers: &[SnapshotId]) -> Vec<SnapshotId> {
    let mut seen = std::collections::BTreeSet::new();
    let mut once: Vec<SnapshotId> = layers.iter().rev().filter(|id| seen.insert(*id)).cloned().collect();
    once.reverse();
    once
}
