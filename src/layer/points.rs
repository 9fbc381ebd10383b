//! Mount points that were made in a root for one step, taken off again.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::sys::RootDir;
use crate::sys::copy::set_times;
use crate::sys::root_dir::{fstat, stat_at};

use super::LayerError;

/// Removes the mount points that are still what was made: empty directories and files.
///
/// `points` has outer ones first. One with a leading `/` is of what was there already, and was moved aside
/// and back meanwhile: it stays. The directories they are in keep their times; returns the paths of
/// those, and of what was moved: all whose change times say nothing.
pub(super) fn take_off(root: &RootDir, points: &[PathBuf]) -> Result<HashSet<Vec<u8>>, LayerError> {
    let mut folders = HashSet::new();
    for point in points.iter().rev() {
        if let Ok(moved) = point.strip_prefix("/") {
            for path in [moved, moved.parent().unwrap_or(Path::new(""))] {
                folders.insert(path.as_os_str().as_bytes().to_vec());
            }
            continue;
        }
        let failed = LayerError::file("take off the mount point", point.as_os_str().as_bytes());
        match take(root, point) {
            Ok(()) => {}
            // It was moved, or what it was in.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(failed(error)),
        }
        let folder = point.parent().unwrap_or(Path::new(""));
        folders.insert(folder.as_os_str().as_bytes().to_vec());
    }
    Ok(folders)
}

fn take(root: &RootDir, point: &Path) -> io::Result<()> {
    let folder = point.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = point.file_name() else { return Ok(()) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let folder: OwnedFd = root.open_at(folder, flags, Mode::empty())?;
    let stat = stat_at(&folder, name)?;
    let remove = match (stat.is_dir(), stat.is_file() && stat.size == 0) {
        (true, _) => AtFlags::REMOVEDIR,
        (false, true) => AtFlags::empty(),
        (false, false) => return Ok(()),
    };
    let times = fstat(&folder)?;
    match rustix::fs::unlinkat(&folder, name, remove) {
        // Something is in it now, which stays.
        Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(()),
        other => other?,
    }
    set_times(&folder, times.mtime_seconds, times.mtime_nanos)
}
