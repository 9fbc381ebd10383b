//! The files of a container, for whoever is not in it: `cp`, `export`, `diff` and `commit`.
//!
//! A container that runs is reached through the root of its first process, a descriptor that its supervisor
//! hands out; one that does not, by merging its layers. Every path in it is resolved by the kernel inside that
//! root ([`RootDir`]), for the container may change any of its files meanwhile. Not here: the rules of `cp`
//! (`copy`), what a command prints (`cli`).

mod commit;
mod copy;
mod freeze;
mod place;

pub use commit::{CommitRequest, commit, parent_config};
pub use copy::{Copied, CopyError, CopyOptions, End, copy_in, copy_out, tar_in, tar_out};
pub use freeze::{Freeze, FreezeError};
pub use place::{CopyRule, Target, place};

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::control::{Connection, Reply, Request};
use super::mounts::{ContainerMount, MountKind};
use super::state::State;
use crate::layer::inherit_root;
use crate::store::{ContainerLock, Draft, KeptContainer, PreparedRoot, Store, StoreError};
use crate::sys::overlay::mount_writable;
use crate::sys::root_dir::{Escape, fstat};
use crate::sys::snapshotter::RootPlan;
use crate::sys::{OverlayXattrs, RootDir};

/// Says why a container's files cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot ask the supervisor of container {container}")]
    Supervisor { container: String, source: io::Error },
    #[error("cannot open the root of container {container}")]
    Root { container: String, source: io::Error },
    #[error("container {0} is about to start or to end; try again")]
    Busy(String),
    #[error(
        "the changes of a container that runs are only known with overlayfs; stop {0} first (it has another \
         snapshotter)"
    )]
    NotWhileRunning(String),
    #[error("cannot read the layer of container {container}")]
    Layer { container: String, source: crate::layer::LayerError },
    #[error("container {0} cannot be paused: {1}; `--pause=false` commits it as it runs")]
    NoPause(String, String),
}

/// What the kernel shows in a container and is none of its files.
const NOT_FILES: [&str; 3] = ["proc", "sys", "dev"];

/// The files of a container, opened.
pub struct ContainerFiles {
    root: RootDir,
    /// Of one that does not run: where its volumes are, the longest target first.
    mounts: Vec<Mounted>,
    /// Without leading `/`: what is shown empty.
    hidden: Vec<PathBuf>,
    writing: Option<Writing>,
}

/// A volume or directory of the host at a place in a container.
struct Mounted {
    /// Resolved in the root, without leading `/`.
    target: PathBuf,
    root: RootDir,
    /// The file that is mounted, where it is one: `root` is the directory that it is in.
    file: Option<PathBuf>,
    read_only: bool,
}

/// What is to be done when all is written.
struct Writing {
    prepared: PreparedRoot,
    draft: Draft,
    base: RootDir,
    _lock: ContainerLock,
}

/// A place in a container: a root, and a path that is resolved inside it.
pub struct Located {
    pub root: RootDir,
    pub path: PathBuf,
    /// Why nothing can be written there.
    pub read_only: Option<&'static str>,
}

/// Connects to the supervisor of a container, where it has one.
pub fn supervisor(store: &Store, kept: &KeptContainer) -> Result<Option<Connection>, FilesError> {
    let container = kept.id.short().to_owned();
    Connection::open(&store.container_dir(&kept.id))
        .map_err(|source| FilesError::Supervisor { container, source })
}

/// Returns the root of a container that runs; `None` of one that does not.
fn live_root(store: &Store, kept: &KeptContainer) -> Result<Option<RootDir>, FilesError> {
    let Some(connection) = supervisor(store, kept)? else { return Ok(None) };
    let failed = |source| FilesError::Supervisor { container: kept.id.short().to_owned(), source };
    connection.send(&Request::Root, &[]).map_err(failed)?;
    match connection.receive::<Reply>().map_err(failed)? {
        Some((Reply::Root, fds)) => Ok(fds.into_iter().next().map(RootDir::from_fd)),
        // It ended a moment ago, or is between two starts.
        _ => Ok(None),
    }
}

/// Holds all processes of a container still until what is returned goes; `None` where none runs.
pub fn pause(store: &Store, kept: &KeptContainer) -> Result<Option<Connection>, FilesError> {
    let Some(connection) = supervisor(store, kept)? else { return Ok(None) };
    let failed = |source| FilesError::Supervisor { container: kept.id.short().to_owned(), source };
    connection.send(&Request::Hold, &[]).map_err(failed)?;
    match connection.receive::<Reply>().map_err(failed)? {
        Some((Reply::Done, _)) => Ok(Some(connection)),
        Some((Reply::Refused(why), _)) if live_root(store, kept)?.is_some() => {
            Err(FilesError::NoPause(kept.name.clone(), why))
        }
        // It ended a moment ago.
        _ => Ok(None),
    }
}

/// Tells whether what a container that runs has written is in its layer already.
fn is_on_overlay(root: &RootDir, store: &Store) -> bool {
    const OVERLAYFS: i64 = 0x794c_7630;
    let on_overlay = rustix::fs::fstatfs(root.fd()).is_ok_and(|stat| {
        #[allow(clippy::unnecessary_cast)] // its type differs between processors
        let kind = stat.f_type as i64;
        kind == OVERLAYFS
    });
    on_overlay && store.options().xattrs != OverlayXattrs::Files
}

/// Checks that a container's layer tells all that it has changed: it does not run, or runs on overlayfs.
pub fn layer_is_current(store: &Store, kept: &KeptContainer) -> Result<(), FilesError> {
    match live_root(store, kept)? {
        Some(root) if !is_on_overlay(&root, store) => Err(FilesError::NotWhileRunning(kept.name.clone())),
        _ => Ok(()),
    }
}

impl ContainerFiles {
    /// Opens the files of a container to read them: with its volumes, without `/proc`, `/sys`, `/dev` and what
    /// it has in memory.
    pub fn open(
        store: &Store,
        kept: &KeptContainer,
        mounts: &[ContainerMount],
    ) -> Result<ContainerFiles, FilesError> {
        if let Some(root) = live_root(store, kept)? {
            return Ok(ContainerFiles::live(root, mounts));
        }
        let root = store.container_view(kept)?;
        let mounts = mounted(store, &root, mounts);
        Ok(ContainerFiles { root, mounts, hidden: Vec::new(), writing: None })
    }

    /// Opens them to write to, too. [`ContainerFiles::finish`] is to be called after that.
    pub fn open_to_write(
        store: &Store,
        kept: &KeptContainer,
        mounts: &[ContainerMount],
    ) -> Result<ContainerFiles, FilesError> {
        if let Some(root) = live_root(store, kept)? {
            return Ok(ContainerFiles::live(root, mounts));
        }
        // So that nobody starts it meanwhile.
        let lock = store.lock_container(&kept.id)?.ok_or_else(|| FilesError::Busy(kept.name.clone()))?;
        State::settle(store, &kept.id)?;
        let container = || kept.id.short().to_owned();
        let base = store.view(&kept.layers)?;
        let draft = store.container_draft(&kept.id)?;
        if store.container_state(&kept.id)?.is_none() {
            // It was never started, and its layer is as it was made.
            let upper = RootDir::open(&draft.dir)
                .map_err(|source| FilesError::Root { container: container(), source })?;
            inherit_root((!kept.layers.is_empty()).then_some(&base), &upper, store.options().xattrs)
                .map_err(|source| FilesError::Layer { container: container(), source })?;
        }
        let mut prepared = store.prepare_container_root(&kept.layers, &draft, false)?;
        let opened = match prepared.take_plan().expect("a root that was just prepared has its plan") {
            RootPlan::Overlay { lowers, upper, work, xattrs, .. } => {
                mount_writable(&lowers, &upper, &work, xattrs).map(RootDir::from_fd)
            }
            RootPlan::Directory { mount: Some(mount), .. } => Ok(RootDir::from_fd(mount)),
            RootPlan::Directory { path, .. } => RootDir::open(&path),
        };
        let root = opened.map_err(|source| FilesError::Root { container: container(), source })?;
        let mounts = mounted(store, &root, mounts);
        let writing = Some(Writing { prepared, draft, base, _lock: lock });
        Ok(ContainerFiles { root, mounts, hidden: Vec::new(), writing })
    }

    fn live(root: RootDir, mounts: &[ContainerMount]) -> ContainerFiles {
        let mut hidden: Vec<PathBuf> = NOT_FILES.map(PathBuf::from).into();
        let in_memory = mounts.iter().filter(|mount| matches!(mount.kind, MountKind::Tmpfs { .. }));
        for mount in in_memory {
            hidden.extend(root.resolve(Path::new(&mount.target), Escape::Clamp).ok());
        }
        ContainerFiles { root, mounts: Vec::new(), hidden, writing: None }
    }

    /// Finds the root that a path is to be resolved in: the container's, or that of a volume of it.
    ///
    /// Links before the last name are followed, and `follow`: that one, too. Errors: what is there is none of
    /// the container's files.
    pub fn locate(&self, path: &Path, follow: bool) -> io::Result<Located> {
        let not_found = || io::Error::from(io::ErrorKind::NotFound);
        let (above, last) = match (path.parent(), path.file_name()) {
            (Some(above), Some(last)) if !follow => (above, Some(last)),
            _ => (path, None),
        };
        let mut real = self.root.resolve(above, Escape::Clamp)?;
        real.extend(last);
        if self.hidden.iter().any(|hidden| real.starts_with(hidden)) {
            return Err(not_found());
        }
        for mounted in &self.mounts {
            let Ok(rest) = real.strip_prefix(&mounted.target) else { continue };
            let path = match &mounted.file {
                Some(file) if rest.as_os_str().is_empty() => file.clone(),
                Some(_) => return Err(io::ErrorKind::NotADirectory.into()),
                None => rest.to_owned(),
            };
            let read_only = mounted.read_only.then_some("mounted volume is marked read-only");
            return Ok(Located { root: mounted.root.try_clone()?, path, read_only });
        }
        Ok(Located { root: self.root.try_clone()?, path: real, read_only: None })
    }

    /// Returns what below a located place is shown empty, for a walk that starts there.
    pub fn hidden_below(&self, place: &Path) -> Vec<PathBuf> {
        let below = |hidden: &PathBuf| hidden.strip_prefix(place).ok().map(Path::to_owned);
        self.hidden.iter().filter_map(below).collect()
    }

    /// Puts what was written where it belongs.
    pub fn finish(self, store: &Store) -> Result<(), FilesError> {
        let ContainerFiles { root, mounts, writing, .. } = self;
        drop((root, mounts));
        let Some(Writing { prepared, mut draft, base, _lock }) = writing else { return Ok(()) };
        store.finish_container_root(prepared, &base, &mut draft)?;
        Ok(())
    }
}

/// Opens the volumes of a container that does not run; what is not there any more is left out.
fn mounted(store: &Store, root: &RootDir, mounts: &[ContainerMount]) -> Vec<Mounted> {
    let mut found: Vec<Mounted> = mounts.iter().filter_map(|mount| open_mount(store, root, mount)).collect();
    found.sort_by_key(|mounted| std::cmp::Reverse(mounted.target.components().count()));
    found
}

fn open_mount(store: &Store, root: &RootDir, mount: &ContainerMount) -> Option<Mounted> {
    let target = root.resolve(Path::new(&mount.target), Escape::Clamp).ok()?;
    let read_only = mount.read_only;
    let (source, subpath) = match &mount.kind {
        MountKind::Tmpfs { .. } => return None,
        MountKind::Bind { source, .. } => (source.clone(), None),
        MountKind::Volume { name, subpath, .. } => {
            let volume = store.volume(name.as_deref()?).ok()??;
            (store.volume_data(&volume), subpath.as_deref())
        }
    };
    let opened = rustix::fs::open(&source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    if fstat(&opened).ok()?.is_dir() {
        let all = RootDir::open(&source).ok()?;
        let root = match subpath {
            Some(subpath) => all.open_dir(Path::new(subpath)).ok()?,
            None => all,
        };
        return Some(Mounted { target, root, file: None, read_only });
    }
    let root = RootDir::open(source.parent()?).ok()?;
    Some(Mounted { target, root, file: Some(PathBuf::from(source.file_name()?)), read_only })
}
