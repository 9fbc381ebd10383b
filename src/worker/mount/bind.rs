//! `type=bind`: a part of a state, or of a context, as it was when it was digested.
//!
//! A state is mounted as it is. A context is the caller's own directory: its owners are the host's,
//! it holds files that .dockerignore leaves out, and it may change while a step runs. So what is
//! selected of it is copied first, once for all steps that mount the same.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};

use super::MountError;
use crate::context::{self, SelectOptions, Selected, Selection, Source, Tree};
use crate::image::SnapshotId;
use crate::layer::{Become, merge_layer};
use crate::plan::graph::CopyOp;
use crate::sandbox::{BindSource, MountSource, State, Upper};
use crate::solve::{self, View};
use crate::store::Draft;
use crate::sys::{RootDir, Snapshotter};
use crate::worker::copy;
use crate::worker::error::WorkerError;
use crate::worker::parts::literal;
use crate::worker::store_worker::StoreWorker;

/// What was selected of contexts and seeds, and copied; for one build.
#[derive(Default)]
pub(in crate::worker) struct Binds {
    /// By the name of the source and the path in it.
    selections: Mutex<HashMap<(String, String), Arc<Selection>>>,
    copies: Mutex<HashMap<(String, String), Slot>>,
}

/// Filled by the first step that needs it; others wait for that.
type Slot = Arc<Mutex<Option<Arc<Copied>>>>;

/// A selection that was copied; removed with the last who holds it.
#[derive(Debug)]
pub(super) struct Copied {
    draft: Draft,
    /// What is mounted: a name in the directory, or nothing for all of it.
    name: PathBuf,
}

/// A mount, and what must last as long as it.
pub(super) struct Bound {
    pub(super) source: MountSource,
    pub(super) copied: Option<Arc<Copied>>,
    pub(super) written: Option<Draft>,
    pub(super) view: Option<RootDir>,
}

impl StoreWorker<'_> {
    /// Digests what a bind mount shows.
    pub(in crate::worker) fn select_bind(
        &self,
        target: &str,
        path: &str,
        view: &View,
    ) -> Result<solve::Selected, WorkerError> {
        let selection = self.selected(target, path, view)?;
        let mut files = BTreeMap::new();
        if selection.file_count() <= crate::worker::store_worker::LISTED_FILES {
            let listing = selection.listing().into_iter();
            files = listing.map(|file| (file.path, file.digest.to_string())).collect();
        }
        Ok(solve::Selected { digest: selection.digest, files })
    }

    /// Selects a path; of a context once in a build, so that all steps see the same.
    pub(super) fn selected(
        &self,
        target: &str,
        path: &str,
        view: &View,
    ) -> Result<Arc<Selection>, WorkerError> {
        let select = || {
            let tree = self.tree(Some(view))?;
            let source = Source::Path(literal(path));
            let selection = context::select(&tree, &[source], &SelectOptions::default());
            let failed = |source| MountError::Select { target: target.to_owned(), source };
            Ok::<_, WorkerError>(Arc::new(selection.map_err(failed)?))
        };
        let View::Context(name) = view else { return select() };
        let key = (name.clone(), path.to_owned());
        if let Some(found) = lock(&self.mounts.binds.selections).get(&key) {
            return Ok(found.clone());
        }
        let selection = select()?;
        Ok(lock(&self.mounts.binds.selections).entry(key).or_insert(selection).clone())
    }

    /// Makes the mount of a path of an input.
    pub(super) fn bind(
        &self,
        target: &str,
        path: &str,
        view: &View,
        writable: bool,
    ) -> Result<Bound, WorkerError> {
        let store = self.options.store;
        let written = if writable { Some(store.draft()?) } else { None };
        if store.snapshotter()?.snapshotter != Snapshotter::Overlay {
            return self.bind_files(target, path, view, written);
        }
        let upper =
            written.as_ref().map(|draft| Upper { upper: draft.dir.clone(), work: draft.work.clone() });
        let xattrs = store.options().xattrs;
        let state = |lowers| State { lowers, upper: upper.clone(), xattrs };
        let (source, copied) = match view {
            View::State(layers) => {
                self.follow(&written, layers)?;
                let path = Path::new("/").join(path);
                (MountSource::State { state: state(store.lowers(layers)), path, read_only: !writable }, None)
            }
            View::Context(name) => {
                let copied = self.copied(target, path, name, view)?;
                let source = match writable {
                    true => MountSource::State {
                        state: state(vec![copied.draft.dir.clone()]),
                        path: Path::new("/").join(&copied.name),
                        read_only: false,
                    },
                    false => MountSource::Bind {
                        source: BindSource::Fd(copied.open(target, path)?),
                        read_only: true,
                        make_points: false,
                    },
                };
                if let Some(draft) = &written {
                    same_mode(&copied.draft.dir, &draft.dir)?;
                }
                (source, Some(copied))
            }
        };
        Ok(Bound { source, copied, written, view: None })
    }

    /// Does the same where no state can be mounted: shows files of a tree that is only read, or copies.
    fn bind_files(
        &self,
        target: &str,
        path: &str,
        view: &View,
        written: Option<Draft>,
    ) -> Result<Bound, WorkerError> {
        let store = self.options.store;
        let failed = |source| MountError::Source { target: target.into(), path: path.into(), source };
        let open = |root: &RootDir, path: &Path| {
            let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            root.open_at(path, OFlags::PATH, Mode::empty()).map_err(failed)
        };
        let (copied, view, inside) = match view {
            View::State(layers) => {
                if let Some(draft) = &written {
                    store.merge_into(layers, &draft.dir)?;
                }
                let view = if written.is_none() { Some(store.view(layers)?) } else { None };
                (None, view, Path::new("/").join(path))
            }
            View::Context(name) => {
                let copied = self.copied(target, path, name, view)?;
                if let Some(draft) = &written {
                    let (from, to) = (RootDir::open(&copied.draft.dir), RootDir::open(&draft.dir));
                    let (from, to) = (from.map_err(failed)?, to.map_err(failed)?);
                    merge_layer(&from, store.options().xattrs, &to, Become::Copies)?;
                }
                let name = copied.name.clone();
                (Some(copied), None, name)
            }
        };
        let fd = match (&written, &view, &copied) {
            (Some(draft), ..) => open(&RootDir::open(&draft.dir).map_err(failed)?, &inside)?,
            (None, Some(view), _) => open(view, &inside)?,
            (None, None, Some(copied)) => copied.open(target, path)?,
            (None, None, None) => return Err(failed(std::io::ErrorKind::NotFound.into()).into()),
        };
        let read_only = written.is_none();
        let source = BindSource::Fd(fd);
        // What is written to it is thrown away, so mount points may be made in it too.
        let source = MountSource::Bind { source, read_only, make_points: !read_only };
        Ok(Bound { source, copied, written, view })
    }

    /// Gives the directory that writes go to the metadata of the state's root, which it covers.
    fn follow(&self, written: &Option<Draft>, layers: &[SnapshotId]) -> Result<(), WorkerError> {
        let Some(draft) = written else { return Ok(()) };
        let store = self.options.store;
        let below = store.view(layers)?;
        let failed = |source| MountError::Io { action: "open a directory of the store", source };
        let upper = RootDir::open(&draft.dir).map_err(failed)?;
        let below = (!layers.is_empty()).then_some(&below);
        Ok(crate::layer::inherit_root(below, &upper, store.options().xattrs)?)
    }

    fn copied(&self, target: &str, path: &str, name: &str, view: &View) -> Result<Arc<Copied>, WorkerError> {
        let slot =
            lock(&self.mounts.binds.copies).entry((name.to_owned(), path.to_owned())).or_default().clone();
        let mut slot = lock(&slot);
        if let Some(copied) = &*slot {
            return Ok(copied.clone());
        }
        let tree = self.tree(Some(view))?;
        let selection = self.selected(target, path, view)?;
        let draft = self.options.store.draft()?;
        self.copy_selection(target, &selection, &tree, &draft.dir)?;
        let name = match selection.sources.first() {
            Some(Selected::File { entry, .. }) => entry.path.clone(),
            Some(Selected::Directory { root, .. }) => {
                let failed = |source| MountError::Source { target: target.into(), path: path.into(), source };
                let mode = tree.root().stat(root, true).map_err(failed)?.mode;
                std::fs::set_permissions(&draft.dir, PermissionsExt::from_mode(mode)).map_err(failed)?;
                PathBuf::new()
            }
            _ => PathBuf::new(),
        };
        let copied = Arc::new(Copied { draft, name });
        *slot = Some(copied.clone());
        Ok(copied)
    }

    /// Copies a selection into an empty directory.
    pub(super) fn copy_selection(
        &self,
        target: &str,
        selection: &Selection,
        tree: &Tree,
        to: &Path,
    ) -> Result<(), WorkerError> {
        let store = self.options.store;
        let failed = |source| MountError::Io { action: "open a directory of the store", source };
        let upper = RootDir::open(to).map_err(failed)?;
        let base = RootDir::open(store.empty_dir()).map_err(failed)?;
        let part = copy::Part { selection, tree, unpack: false };
        let mut aids = copy::Aids::default();
        copy::copy(&[part], &everything(), &base, &upper, store.options().xattrs, &mut aids)
            .map_err(|source| MountError::Copy { target: target.to_owned(), source })?;
        Ok(())
    }
}

impl Copied {
    /// Opens what is to be mounted, so that nothing in between has another name for it.
    fn open(&self, target: &str, path: &str) -> Result<std::os::fd::OwnedFd, MountError> {
        let failed = |source| MountError::Source { target: target.into(), path: path.into(), source };
        let root = RootDir::open(&self.draft.dir).map_err(failed)?;
        let name = if self.name.as_os_str().is_empty() { Path::new(".") } else { &self.name };
        root.open_at(name, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).map_err(failed)
    }
}

fn same_mode(from: &Path, to: &Path) -> Result<(), MountError> {
    let failed = |source| MountError::Io { action: "set the mode of a directory of the store", source };
    let mode = std::fs::metadata(from).map_err(failed)?.permissions();
    std::fs::set_permissions(to, mode).map_err(failed)
}

/// Copies what is selected to the root, as it is.
fn everything() -> CopyOp {
    CopyOp {
        add: false,
        sources: Vec::new(),
        destination: "/".to_owned(),
        chown: None,
        chmod: None,
        link: true,
        parents: false,
        exclude: Vec::new(),
        unpack: None,
        source_date_epoch: None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
