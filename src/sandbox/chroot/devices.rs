//! Devices that came with the files of a step: none but the harmless ones may be in its root.
//!
//! In a mount namespace every mount is `nodev`. A chroot has no mount, and whoever may open a device of the
//! machine's by number, its disk say, is not held by a root: images, archives, contexts and caches can hold any.
//! The step itself can make none. Not here: making `/dev` (`covers`).

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, major, makedev, minor};

use super::ChrootError;
use super::covers::DEVICES;
use crate::sys::RootDir;
use crate::sys::dir::{DirStack, read_dir};
use crate::sys::root_dir::{open_no_follow, stat_at};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// Looks at all names of a root that is ready, what was put into it included.
pub(super) fn refuse(root: &RootDir) -> Result<(), ChrootError> {
    match find(root).map_err(ChrootError::Root)? {
        None => Ok(()),
        Some((path, number)) => Err(ChrootError::Foreign {
            path: Path::new("/").join(path).display().to_string(),
            major: major(number),
            minor: minor(number),
        }),
    }
}

/// Returns the first device that a step must not have.
fn find(root: &RootDir) -> io::Result<Option<(PathBuf, u64)>> {
    let top: OwnedFd = root.open_at(Path::new("."), DIRECTORY, Mode::empty())?;
    let mut levels = vec![read_dir(&top)?.into_iter()];
    let mut stack = DirStack::new(top)?;
    let mut path = PathBuf::new();
    while let Some(entries) = levels.last_mut() {
        let Some((name, kind)) = entries.next() else {
            levels.pop();
            stack.pop()?;
            path.pop();
            continue;
        };
        match kind {
            FileType::Directory => {
                let below = open_no_follow(stack.current(), &name, DIRECTORY, Mode::empty())?;
                levels.push(read_dir(&below)?.into_iter());
                stack.push(below)?;
                path.push(name);
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let number = stat_at(stack.current(), OsStr::new(&name))?.rdev;
                if kind == FileType::BlockDevice || !is_harmless(number) {
                    return Ok(Some((path.join(name), number)));
                }
            }
            _ => {}
        }
    }
    Ok(None)
}

/// Whether a character device is one that steps have in `/dev` anyway, or none (0:0).
fn is_harmless(number: u64) -> bool {
    number == 0 || DEVICES.iter().any(|(_, major, minor)| makedev(*major, *minor) == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_are_those_that_steps_have_anyway() {
        for (number, harmless) in
            [((0, 0), true), ((1, 3), true), ((5, 0), true), ((1, 1), false), ((8, 0), false)]
        {
            assert_eq!(is_harmless(makedev(number.0, number.1)), harmless, "{number:?}");
        }
    }

    #[test]
    fn a_tree_without_devices_is_walked_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("a/b/c")).unwrap();
        std::fs::create_dir(directory.path().join("d")).unwrap();
        std::os::unix::fs::symlink("/dev/null", directory.path().join("d/link")).unwrap();
        refuse(&RootDir::open(directory.path()).unwrap()).unwrap();
    }
}
