//! A root that is a directory: fuse-overlayfs's, or one that layers were copied to.
//!
//! No layer can be put below it, so mount points that it lacks are made in it. They are listed first, for
//! the caller to take off again, and the directories they are in get their times back. Runs in the
//! child, in its own mount namespace. Not here: what is mounted on them (`mounts`).

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};

use super::error::StepError;
use super::mounts::mount_point;
use super::stub::{self, Kind};
use crate::sys::mount::restrict;
use crate::sys::snapshotter::write_points;

fn failed(errno: Errno) -> StepError {
    StepError::Root(errno.into())
}

/// Makes a mount of a directory, attached nowhere.
pub(super) fn bind(path: &Path) -> Result<OwnedFd, StepError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(CWD, path, flags).map_err(failed)
}

/// Attaches the root's mount at `root` in the scratch file system; no device in it can be opened.
pub(super) fn attach(mount: OwnedFd, scratch: &OwnedFd) -> Result<OwnedFd, StepError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&mount, "", scratch, "root", flags).map_err(failed)?;
    restrict(&mount, libc::MOUNT_ATTR_NODEV, false).map_err(|error| StepError::Root(error.into()))?;
    Ok(mount)
}

/// Makes the mount points that a root lacks; `list` names them before the first is made.
pub(super) fn make_points(root: &OwnedFd, missing: &[(PathBuf, Kind)], list: &Path) -> Result<(), StepError> {
    if missing.is_empty() {
        return Ok(());
    }
    let mut made: Vec<PathBuf> = Vec::new();
    for (path, _) in missing {
        let mut parents: Vec<&Path> = path.ancestors().filter(|at| !at.as_os_str().is_empty()).collect();
        parents.reverse();
        for at in parents {
            if !stub::exists(root.as_fd(), at).map_err(|errno| mount_point(at, errno))? {
                made.push(at.to_owned());
            }
        }
    }
    write_points(list, &made).map_err(|error| StepError::Root(error.into()))?;
    for (path, kind) in missing {
        let mut above = path.ancestors().skip(1).filter(|at| !at.as_os_str().is_empty());
        let there = above.find(|at| stub::exists(root.as_fd(), at) == Ok(true));
        let folder = stub::open_inside(root, there.unwrap_or(Path::new(".")), OFlags::RDONLY);
        let made = folder.and_then(|folder| {
            let stat = rustix::fs::fstat(&folder)?;
            stub::make(root.as_fd(), path, *kind, None)?;
            let time = |seconds, nanos| Timespec { tv_sec: seconds, tv_nsec: nanos };
            rustix::fs::futimens(
                &folder,
                &Timestamps {
                    last_access: time(stat.st_atime as _, stat.st_atime_nsec as _),
                    last_modification: time(stat.st_mtime as _, stat.st_mtime_nsec as _),
                },
            )
        });
        made.map_err(|errno| mount_point(path, errno))?;
    }
    Ok(())
}
