//! Mounts made ready: volumes made and filled, directories of the host made, all of it opened.
//!
//! Paths inside an image and inside a volume are resolved by the kernel within them ([`RootDir`]); what was
//! opened here is what the sandbox mounts. Not here: what was asked for (`mounts`), mounting (`sandbox`).

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::{ContainerMount, MountKind};
use crate::sandbox::{BindSource, MountSource, StepMount, Volume};
use crate::store::{KeptVolume, Store, StoreError, VolumeRequest};
use crate::sys::RootDir;
use crate::sys::root_dir::Escape;

/// Says why a mount cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum MountsError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("invalid mount config for type \"bind\": bind source path does not exist: {}", .0.display())]
    NoSource(PathBuf),
    #[error("error while creating mount source path '{}'", path.display())]
    MakeSource { path: PathBuf, source: io::Error },
    #[error("cannot open '{}'", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error(
        "the volume {0} cannot be written to here: without namespaces a container has a copy of it; mount it \
         read-only (`:ro`)"
    )]
    Copied(String),
    #[error("cannot access path `{subpath}` in the volume {volume}")]
    Subpath { volume: String, subpath: String, source: io::Error },
}

/// What the sandbox mounts.
#[derive(Debug, Default)]
pub struct ReadyMounts {
    pub volumes: Vec<Volume>,
    pub mounts: Vec<StepMount>,
}

/// Gives volumes without a name theirs: 64 random digits. Makes none; returns the names of all volumes.
pub fn name_volumes(mounts: &mut [ContainerMount]) -> Result<Vec<String>, MountsError> {
    let mut names: Vec<String> = Vec::new();
    for mount in mounts {
        let MountKind::Volume { name, .. } = &mut mount.kind else { continue };
        let name = match name {
            Some(name) => name.clone(),
            None => name.insert(crate::store::ContainerId::random()?.to_string()).clone(),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Makes what a new container mounts: its volumes, of which empty ones get what its image has in their place, and
/// directories of the host.
///
/// To be called when the container's record names the volumes already: then nobody removes them. `view` is the
/// image.
pub fn make(store: &Store, mounts: &[ContainerMount], view: &RootDir) -> Result<(), MountsError> {
    for mount in mounts {
        let copy = match &mount.kind {
            MountKind::Bind { source, make, .. } => {
                make_source(source, *make)?;
                continue;
            }
            MountKind::Tmpfs { .. } => continue,
            MountKind::Volume { copy, .. } => *copy,
        };
        let Some(volume) = volume_of(store, mount)? else { continue };
        // Opened before anything runs: what its options name may not be there.
        store.open_volume(&volume)?;
        if !copy {
            continue;
        }
        // A file, or nothing, is nothing to copy.
        let at = view.resolve(Path::new(&mount.target), Escape::Clamp);
        let Ok(from) = at.and_then(|at| view.open_dir(&at)) else { continue };
        store.fill_volume(&volume, &from)?;
    }
    Ok(())
}

/// Removes the volumes without a name of a container that is gone; what another container uses stays.
pub fn remove_anonymous(store: &Store, mounts: &[ContainerMount]) -> Result<(), StoreError> {
    for mount in mounts {
        let MountKind::Volume { name: Some(name), anonymous: true, .. } = &mount.kind else { continue };
        match store.remove_volume(name) {
            Ok(()) | Err(StoreError::VolumeInUse { .. } | StoreError::NoVolume(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Opens all that a container mounts; a volume that is gone is made anew, empty.
pub fn ready(store: &Store, mounts: &[ContainerMount]) -> Result<ReadyMounts, MountsError> {
    let mut ready = ReadyMounts::default();
    for mount in mounts {
        let target = PathBuf::from(&mount.target);
        let read_only = mount.read_only;
        match &mount.kind {
            MountKind::Bind { source, make, recursive } => {
                make_source(source, *make)?;
                let source = BindSource::Path(source.clone());
                match recursive {
                    true => ready.volumes.push(Volume { source, target, read_only, make_points: true }),
                    false => {
                        let source = MountSource::Bind { source, read_only, make_points: true };
                        ready.mounts.push(StepMount { target, source });
                    }
                }
            }
            MountKind::Volume { subpath, .. } => {
                let Some(volume) = volume_of(store, mount)? else { continue };
                let root = store.open_volume(&volume)?;
                let flags = OFlags::PATH;
                let path = Path::new(subpath.as_deref().unwrap_or("."));
                let opened = root.open_at(path, flags, Mode::empty()).map_err(|source| {
                    let subpath = subpath.clone().unwrap_or_default();
                    MountsError::Subpath { volume: volume.name.clone(), subpath, source }
                })?;
                let source = BindSource::Fd(opened);
                ready.volumes.push(Volume { source, target, read_only, make_points: true });
            }
            MountKind::Tmpfs { size, mode } => {
                let source = MountSource::Tmpfs { size: *size, mode: *mode };
                ready.mounts.push(StepMount { target, source });
            }
        }
    }
    Ok(ready)
}

/// Refuses volumes with a name of which a container in a chroot would write to a copy, and lose it.
pub fn refuse_copies(mounts: &[ContainerMount]) -> Result<(), MountsError> {
    for mount in mounts.iter().filter(|mount| !mount.read_only) {
        if let MountKind::Volume { name: Some(name), anonymous: false, .. } = &mount.kind {
            return Err(MountsError::Copied(name.clone()));
        }
    }
    Ok(())
}

/// Returns the volume of a mount, made where it is not there.
fn volume_of(store: &Store, mount: &ContainerMount) -> Result<Option<KeptVolume>, MountsError> {
    let MountKind::Volume { name: Some(name), anonymous, labels, options, .. } = &mount.kind else {
        return Ok(None);
    };
    let request = VolumeRequest {
        name: Some(name.clone()),
        labels: labels.clone(),
        options: options.clone(),
        anonymous: *anonymous,
    };
    Ok(Some(store.create_volume(&request)?))
}

/// Checks a directory or file of the host, and makes a missing one a directory where that is wished.
fn make_source(source: &Path, make: bool) -> Result<(), MountsError> {
    match std::fs::metadata(source) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && make => std::fs::create_dir_all(source)
            .map_err(|source_error| MountsError::MakeSource {
                path: source.to_owned(),
                source: source_error,
            }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(MountsError::NoSource(source.to_owned()))
        }
        Err(error) => Err(MountsError::Open { path: source.to_owned(), source: error }),
    }
}
