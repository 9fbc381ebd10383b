//! `type=cache`: which caches a step needs, locked in one order for all steps and builds.
//!
//! Without `from=`, `source=` is a path in the cache, made where it is missing; with it, what of the
//! other state a new cache starts with. Not here: where caches lie and their locks (`store`).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Gid, Mode, OFlags, Uid};

use super::MountError;
use crate::context::{Selected, Selection, Tree};
use crate::plan::graph::{MountKind, RunMount, Sharing};
use crate::sandbox::{BindSource, Isolation, MountSource};
use crate::solve::{Cancel, InputView, Log, Said};
use crate::store::{CacheMount, CacheMountId, CacheUse, StoreError};
use crate::sys::RootDir;
use crate::worker::error::WorkerError;
use crate::worker::store_worker::StoreWorker;

/// The caches of one step: their mounts by place in the list of all, and their locks.
pub(in crate::worker) struct Caches {
    pub(in crate::worker) mounts: BTreeMap<usize, MountSource>,
    pub(super) held: Vec<CacheMount>,
}

/// One instance that a step needs, and the mounts that show it.
struct Wanted {
    usage: CacheUse,
    id: CacheMountId,
    seed: Option<(Arc<Selection>, Arc<Tree>)>,
    mounts: Vec<usize>,
}

impl StoreWorker<'_> {
    /// Takes the caches of a step into use.
    pub(in crate::worker) fn caches(
        &self,
        mounts: &[RunMount],
        inputs: &[InputView],
        log: Log<'_>,
        cancel: &Cancel,
    ) -> Result<Caches, WorkerError> {
        // By name: two steps that need the same caches ask for them in the same order. What is
        // shared or locked twice in one step is one instance, and the stricter of the two.
        let mut wanted: BTreeMap<(String, Option<usize>), Wanted> = BTreeMap::new();
        for (index, mount) in mounts.iter().enumerate() {
            let Some((usage, id, seed)) = self.wanted(mount, inputs)? else { continue };
            let own = (usage == CacheUse::Private).then_some(index);
            let new = Wanted { usage, id: id.clone(), seed, mounts: Vec::new() };
            let entry = wanted.entry((id.name(), own)).or_insert(new);
            entry.usage = entry.usage.max(usage);
            entry.mounts.push(index);
        }
        let mut caches = Caches { mounts: BTreeMap::new(), held: Vec::new() };
        let emptied = self.options.step.empty_cache_mounts.then_some(&self.mounts.emptied);
        for wanted in wanted.into_values() {
            let target = wanted.mounts.first().map_or("", |&index| mounts[index].target.as_str());
            let fill = |to: &Path| match &wanted.seed {
                Some((selection, tree)) => self.copy_selection(target, selection, tree, to),
                None => Ok(()),
            };
            let told = Cell::new(wanted.usage == CacheUse::Private);
            // Asked only where somebody is in the way: the moment to say so.
            let cancelled = || {
                if !told.replace(true) {
                    log(Said::Waits(&self.in_the_way(target, &wanted)));
                }
                cancel.is_cancelled()
            };
            let held = self.options.store.cache_mount(&wanted.id, wanted.usage, emptied, &fill, &cancelled);
            let held = held.map_err(|error| match error {
                WorkerError::Store(StoreError::Cancelled) => WorkerError::Cancelled,
                error => error,
            })?;
            for index in wanted.mounts {
                caches.mounts.insert(index, shown(&mounts[index], held.root())?);
            }
            caches.held.push(held);
        }
        Ok(caches)
    }

    /// Says which cache a step waits for, and who has it.
    fn in_the_way(&self, target: &str, wanted: &Wanted) -> String {
        let who = match self.options.store.cache_mount_holder(&wanted.id) {
            Some(process) if process == std::process::id() => "another step of this build".to_owned(),
            Some(process) => format!("the rbuild process {process}"),
            None => "another step or build".to_owned(),
        };
        let how = match wanted.usage {
            CacheUse::Locked => "sharing=locked",
            CacheUse::Shared | CacheUse::Private => "sharing=shared",
        };
        format!("for the cache mount {target} ({how}), which {who} has")
    }

    /// Tells which cache a mount shows and what a new one starts with; `None` for another mount.
    #[allow(clippy::type_complexity)] // taken apart at once by the only caller
    fn wanted(
        &self,
        mount: &RunMount,
        inputs: &[InputView],
    ) -> Result<Option<(CacheUse, CacheMountId, Option<(Arc<Selection>, Arc<Tree>)>)>, WorkerError> {
        let MountKind::Cache { id, sharing, input, source, mode, uid, gid, .. } = &mount.kind else {
            return Ok(None);
        };
        let usage = match sharing {
            // Moved into the root of the step that uses it, it is nowhere else meanwhile.
            Sharing::Shared if self.options.launcher.isolation() == Isolation::Chroot => CacheUse::Locked,
            Sharing::Shared => CacheUse::Shared,
            Sharing::Locked => CacheUse::Locked,
            Sharing::Private => CacheUse::Private,
        };
        let seed = match input.and_then(|input| inputs.get(input)) {
            None => None,
            Some(input) => {
                let selection = self.selected(&mount.target, source, &input.view)?;
                if matches!(selection.sources.first(), Some(Selected::File { .. })) {
                    let (target, path) = (mount.target.clone(), source.clone());
                    return Err(MountError::SeedIsFile { target, path }.into());
                }
                Some((selection, self.tree(Some(&input.view))?))
            }
        };
        let digest = seed.as_ref().map(|(selection, _)| selection.digest.0.to_string());
        let id = CacheMountId { id: id.clone(), seed: digest, mode: *mode, uid: *uid, gid: *gid };
        Ok(Some((usage, id, seed)))
    }
}

/// Opens what a mount shows of a cache. What is in it was written by steps, perhaps at this very
/// moment: the path resolves inside it, and what was opened is what is mounted.
fn shown(mount: &RunMount, root: &RootDir) -> Result<MountSource, MountError> {
    let MountKind::Cache { input, source, read_only, mode, uid, gid, .. } = &mount.kind else {
        return Err(MountError::Io {
            action: "mount a cache",
            source: std::io::ErrorKind::InvalidInput.into(),
        });
    };
    let inside = if input.is_some() || source.is_empty() { "." } else { source.as_str() };
    let failed = |error: std::io::Error| MountError::Source {
        target: mount.target.clone(),
        path: source.clone(),
        source: error,
    };
    let fd = open(root, Path::new(inside), (*mode, *uid, *gid)).map_err(failed)?;
    Ok(MountSource::Bind { source: BindSource::Fd(fd), read_only: *read_only, make_points: true })
}

fn open(root: &RootDir, path: &Path, (mode, uid, gid): (u32, u32, u32)) -> std::io::Result<OwnedFd> {
    let flags = OFlags::PATH;
    match root.open_at(path, flags | OFlags::DIRECTORY, Mode::empty()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        other => return other,
    }
    for made in root.create_dir_all(path, mode)? {
        let directory =
            root.open_at(&made, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
        rustix::fs::fchown(&directory, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    root.open_at(path, flags | OFlags::DIRECTORY, Mode::empty())
}
