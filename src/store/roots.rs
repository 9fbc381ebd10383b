//! Merged roots of layers: how they are made, and how what was changed in one becomes a layer.
//!
//! The one place above which nobody needs to know which [`Snapshotter`] is at work. Layers have the same
//! form with all of them.
//!
//! **API.** [`Store::prepare_root`] returns a [`PreparedRoot`] for a draft on top of layers; its
//! [`RootPlan`] says what a sandbox mounts, binds or enters. With [`Snapshotter::Copy`] that is a plain
//! directory ([`PreparedRoot::directory`]), made and read back without any mount, namespace or privilege
//! beyond those over files: a chroot into it will do. When the step has ended, [`Store::finish_root`]
//! writes what differs into the draft's upper directory; a root that is dropped instead leaves nothing.
//! [`Store::view`] gives merged read-only views, whichever way.
//!
//! **The way** is the user's ([`Store::use_snapshotter`]) or found out: a store whose file system takes no
//! whiteouts never mounts; otherwise overlayfs is taken until a mount fails, which whoever mounted tells by
//! [`Store::overlay_failed`]. Nothing is tried before that, so it costs nothing where overlayfs works,
//! and nothing is remembered between two processes.

use std::path::{Path, PathBuf};

use crate::image::SnapshotId;
use crate::layer;
use crate::sys::RootDir;
use crate::sys::overlay::OverlayXattrs;
use crate::sys::snapshotter::{self, RootPlan, Snapshotter, find_fuse_overlayfs};

use super::error::failed;
use super::fuse::Served;
use super::trees::Tree;
use super::{Draft, Store, StoreError, locked};

/// Which way is taken, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    pub snapshotter: Snapshotter,
    /// Why it is not overlayfs; `None` where it is, or where the user asked for another.
    pub why: Option<String>,
    /// Why it is not fuse-overlayfs either.
    pub why_no_fuse: Option<String>,
    /// The program, for [`Snapshotter::FuseOverlayfs`].
    program: Option<PathBuf>,
}

/// What the user wants, and what became of it.
#[derive(Debug, Default)]
pub(super) struct Way {
    wish: Option<Snapshotter>,
    /// A PATH value.
    path: String,
    chosen: Option<Chosen>,
}

/// A merged root with a draft's upper directory on top. Dropped, it leaves nothing.
#[derive(Debug)]
pub struct PreparedRoot {
    plan: Option<RootPlan>,
    points: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Overlay,
    Fuse(Served),
    Copy(Tree),
}

impl PreparedRoot {
    /// Takes the plan: what is to be mounted or entered, once.
    pub fn take_plan(&mut self) -> Option<RootPlan> {
        self.plan.take()
    }

    /// Tells why the root did not last as long as the step, whose failure that explains.
    pub fn failure(&mut self) -> Option<String> {
        match &mut self.kind {
            Kind::Fuse(served) => served.failure(),
            Kind::Overlay | Kind::Copy(_) => None,
        }
    }

    /// Returns the directory that is the root, where it is one.
    pub fn directory(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Copy(tree) => Some(tree.path()),
            Kind::Overlay | Kind::Fuse(_) => None,
        }
    }
}

impl Chosen {
    fn plain(snapshotter: Snapshotter) -> Chosen {
        Chosen { snapshotter, why: None, why_no_fuse: None, program: None }
    }

    /// Says in one line what is taken instead of overlayfs, why, and what would help; `None` where
    /// there is nothing to say.
    pub fn notice(&self) -> Option<String> {
        let why = self.why.as_ref()?;
        let does = match self.snapshotter {
            Snapshotter::Overlay => return None,
            Snapshotter::FuseOverlayfs => "RUN steps use fuse-overlayfs, which is slower",
            Snapshotter::Copy => "files are copied for RUN steps, which takes time and space",
        };
        let fuse = match &self.why_no_fuse {
            Some(why) => format!(" (and {why})"),
            None => String::new(),
        };
        Some(format!("{does}: {why}{fuse}; put the store on a volume or a local disk (--root, RBUILD_ROOT)"))
    }
}

impl Store {
    /// Says which way the user wants (`None`: whichever works), and where programs are looked for.
    pub fn use_snapshotter(&self, wish: Option<Snapshotter>, path: String) {
        *locked(&self.way) = Way { wish, path, chosen: None };
    }

    /// Returns the way that is taken. Errors: the user asked for one that this machine does not have.
    pub fn snapshotter(&self) -> Result<Chosen, StoreError> {
        let mut way = locked(&self.way);
        if let Some(chosen) = &way.chosen {
            return Ok(chosen.clone());
        }
        let no_whiteouts = self.options.xattrs == OverlayXattrs::Files;
        let chosen = match way.wish {
            Some(Snapshotter::Overlay) if no_whiteouts => {
                return Err(StoreError::Snapshotter {
                    snapshotter: Snapshotter::Overlay,
                    why: self.why_no_whiteouts(),
                });
            }
            Some(Snapshotter::FuseOverlayfs) => match find_fuse_overlayfs(&way.path) {
                Ok(program) => Chosen { program: Some(program), ..Chosen::plain(Snapshotter::FuseOverlayfs) },
                Err(why) => {
                    return Err(StoreError::Snapshotter { snapshotter: Snapshotter::FuseOverlayfs, why });
                }
            },
            Some(wish) => Chosen::plain(wish),
            None if no_whiteouts => instead(self.why_no_whiteouts(), &way.path),
            None => Chosen::plain(Snapshotter::Overlay),
        };
        way.chosen = Some(chosen.clone());
        Ok(chosen)
    }

    /// Tells that overlayfs could not be mounted. Returns whether another way is taken from now on: not
    /// where the user asked for overlayfs.
    pub fn overlay_failed(&self, error: &str) -> bool {
        let mut way = locked(&self.way);
        let taken = way.chosen.as_ref().is_none_or(|chosen| chosen.snapshotter == Snapshotter::Overlay);
        if way.wish.is_some() && taken {
            return false;
        }
        if taken {
            let why = match snapshotter::is_on_overlay(&self.paths.tmp) {
                true => self.why_no_whiteouts(),
                false => {
                    format!("overlayfs cannot be mounted for the store `{}`: {error}", self.root.display())
                }
            };
            way.chosen = Some(instead(why, &way.path));
        }
        true
    }

    fn why_no_whiteouts(&self) -> String {
        match snapshotter::is_on_overlay(&self.paths.tmp) {
            true => format!("the store `{}` is itself on overlayfs", self.root.display()),
            false => format!("the file system of the store `{}` takes no whiteouts", self.root.display()),
        }
    }

    /// Makes a root of layers (lowest first) with the draft's upper directory on top.
    ///
    /// The draft's upper directory may hold something already, as its top directory's metadata.
    pub fn prepare_root(&self, layers: &[SnapshotId], draft: &Draft) -> Result<PreparedRoot, StoreError> {
        let chosen = self.snapshotter()?;
        let points = draft.points();
        let (path, mount, kind) = match (chosen.snapshotter, &chosen.program) {
            (Snapshotter::Overlay, _) => {
                let plan = RootPlan::Overlay {
                    lowers: self.lowers(layers),
                    upper: draft.dir.clone(),
                    work: draft.work.clone(),
                    xattrs: self.options.xattrs,
                    durable: false,
                };
                return Ok(PreparedRoot { plan: Some(plan), points, kind: Kind::Overlay });
            }
            (Snapshotter::FuseOverlayfs, Some(program)) => {
                let work = draft.fuse_work()?;
                let mut lowers = self.lowers(layers);
                if lowers.is_empty() {
                    lowers.push(self.paths.empty.clone());
                }
                let (served, mount) =
                    Served::start(program, &lowers, &draft.dir, &work).map_err(StoreError::Fuse)?;
                (draft.dir.clone(), Some(mount), Kind::Fuse(served))
            }
            (Snapshotter::FuseOverlayfs | Snapshotter::Copy, _) => {
                let tree = self.tree_to_write(layers, draft)?;
                (tree.path().to_owned(), None, Kind::Copy(tree))
            }
        };
        let scratch = draft.work.clone();
        let plan = RootPlan::Directory { path, mount, scratch, points: points.clone() };
        Ok(PreparedRoot { plan: Some(plan), points, kind })
    }

    /// Makes a root of layers (lowest first) with a container's writable layer on top, which may hold what
    /// the container wrote before; `durable`: what its programs sync reaches the disk.
    pub fn prepare_container_root(
        &self,
        layers: &[SnapshotId],
        draft: &Draft,
        durable: bool,
    ) -> Result<PreparedRoot, StoreError> {
        let chosen = self.snapshotter()?;
        if chosen.snapshotter != Snapshotter::Copy {
            let mut root = self.prepare_root(layers, draft)?;
            if let Some(RootPlan::Overlay { durable: is, .. }) = &mut root.plan {
                *is = durable;
            }
            return Ok(root);
        }
        let (tree, points) = (self.tree_above(layers, &draft.dir)?, draft.points());
        let (path, scratch) = (tree.path().to_owned(), draft.work.clone());
        let plan = RootPlan::Directory { path, mount: None, scratch, points: points.clone() };
        Ok(PreparedRoot { plan: Some(plan), points, kind: Kind::Copy(tree) })
    }

    /// Does what [`Store::finish_root`] does for a root that [`Store::prepare_container_root`] made.
    pub fn finish_container_root(
        &self,
        root: PreparedRoot,
        base: &RootDir,
        draft: &mut Draft,
    ) -> Result<(), StoreError> {
        if !matches!(root.kind, Kind::Copy(_)) {
            return self.finish_root(root, base, draft);
        }
        // What it wrote earlier is among what differs: all of it is written anew, and then put in place.
        let (next, before) = (draft.beside("next")?, draft.beside("before")?);
        let upper = RootDir::open(&next).map_err(failed("open", &next))?;
        layer::inherit_root(Some(base), &upper, self.options.xattrs).map_err(StoreError::Difference)?;
        let kept = std::mem::replace(&mut draft.dir, next.clone());
        let finished = self.finish_root(root, base, draft);
        draft.dir = kept;
        finished?;
        std::fs::remove_dir(&before).map_err(failed("remove", &before))?;
        std::fs::rename(&draft.dir, &before).map_err(failed("replace", &draft.dir))?;
        std::fs::rename(&next, &draft.dir).map_err(failed("replace", &draft.dir))
    }

    /// Makes the root of a draft once more, after what used `before` has ended: what it left is there. The
    /// draft's work directory is a new one, since overlayfs takes none twice.
    pub fn prepare_again(
        &self,
        before: Option<PreparedRoot>,
        layers: &[SnapshotId],
        draft: &Draft,
    ) -> Result<PreparedRoot, StoreError> {
        match before.map(|PreparedRoot { plan, kind, .. }| {
            drop(plan);
            kind
        }) {
            Some(Kind::Copy(tree)) => {
                let points = draft.points();
                let (path, scratch) = (tree.path().to_owned(), draft.work.clone());
                let plan = RootPlan::Directory { path, mount: None, scratch, points: points.clone() };
                Ok(PreparedRoot { plan: Some(plan), points, kind: Kind::Copy(tree) })
            }
            Some(Kind::Fuse(served)) => {
                // What it has in memory belongs to what was left. One that ended badly has told so already.
                let _ = served.finish();
                self.prepare_root(layers, draft)
            }
            Some(Kind::Overlay) | None => self.prepare_root(layers, draft),
        }
    }

    /// Writes what differs in a root, which nobody uses any more, into the draft's upper directory.
    ///
    /// `base` is the view of the layers beneath ([`Store::view`]).
    pub fn finish_root(
        &self,
        root: PreparedRoot,
        base: &RootDir,
        draft: &mut Draft,
    ) -> Result<(), StoreError> {
        let open = |path: &Path| RootDir::open(path).map_err(failed("open", path));
        let read = || snapshotter::read_points(&root.points).map_err(failed("read", &root.points));
        match root.kind {
            Kind::Overlay => Ok(()),
            Kind::Fuse(served) => {
                drop(root.plan);
                served.finish().map_err(StoreError::Fuse)?;
                let upper = open(&draft.dir)?;
                let made = layer::from_fuse_overlayfs(&upper, base, self.options.xattrs, &read()?);
                made.map_err(StoreError::Difference)?;
                draft.clear()
            }
            Kind::Copy(mut tree) => {
                let upper = open(&draft.dir)?;
                let points = read()?;
                tree.write_difference(base, &upper, self.options.xattrs, &points)?;
                draft.tree = Some(tree);
                draft.clear()
            }
        }
    }
}

/// Chooses where overlayfs cannot be mounted.
fn instead(why: String, path: &str) -> Chosen {
    match find_fuse_overlayfs(path) {
        Ok(program) => Chosen {
            snapshotter: Snapshotter::FuseOverlayfs,
            why: Some(why),
            why_no_fuse: None,
            program: Some(program),
        },
        Err(no_fuse) => Chosen {
            snapshotter: Snapshotter::Copy,
            why: Some(why),
            why_no_fuse: Some(no_fuse),
            program: None,
        },
    }
}
