//! Makes no file of a layer newer than a given time: SOURCE_DATE_EPOCH.
//!
//! The specification asks for it where times would be those of the build; older ones say something and
//! stay: <https://reproducible-builds.org/specs/source-date-epoch/>. Not here: which time.

use std::ffi::OsString;
use std::io;

use rustix::fs::{FileType, Mode, OFlags};

use crate::sys::RootDir;
use crate::sys::copy::{set_times, set_times_at};
use crate::sys::dir::{DirStack, read_dir};
use crate::sys::root_dir::{fstat, open_no_follow, stat_at};

/// Sets the modification time of everything in `upper`, itself included, that is newer to
/// `seconds` since 1970; tells whether anything but `upper` itself was.
pub fn clamp_times(upper: &RootDir, seconds: i64) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let newer = |stat: &crate::sys::Stat| (stat.mtime_seconds, stat.mtime_nanos) > (seconds, 0);
    let top = open_no_follow(upper.fd(), ".", flags, Mode::empty())?;
    let mut pending: Vec<Vec<(OsString, FileType)>> = vec![read_dir(&top)?];
    let mut stack = DirStack::new(top)?;
    let mut any = false;
    while let Some(entries) = pending.last_mut() {
        match entries.pop() {
            Some((name, FileType::Directory)) => {
                let below = open_no_follow(stack.current(), &name, flags, Mode::empty())?;
                pending.push(read_dir(&below)?);
                stack.push(below)?;
            }
            Some((name, _)) => {
                let stat = stat_at(stack.current(), &name)?;
                // A whiteout has no time in a tar.
                if newer(&stat) && !stat.is_whiteout() {
                    set_times_at(stack.current(), &name, seconds, 0)?;
                    any = true;
                }
            }
            None => {
                pending.pop();
                if newer(&fstat(stack.current())?) {
                    set_times(stack.current(), seconds, 0)?;
                    any |= !pending.is_empty();
                }
                stack.pop()?;
            }
        }
    }
    Ok(any)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use rustix::fs::CWD;

    use super::*;

    #[test]
    fn only_what_is_newer_changes() {
        let outer = tempfile::tempdir().unwrap();
        let path = |name: &str| outer.path().join(name);
        fs::create_dir_all(path("a/b")).unwrap();
        fs::write(path("a/new"), "x").unwrap();
        fs::write(path("a/old"), "x").unwrap();
        symlink("nowhere", path("a/b/link")).unwrap();
        set_times_at(CWD, path("a/old"), 500, 7).unwrap();
        let root = RootDir::open(outer.path()).unwrap();
        assert!(clamp_times(&root, 1000).unwrap());
        set_times_at(CWD, outer.path(), 2000, 0).unwrap();
        assert!(!clamp_times(&root, 1000).unwrap(), "its top only");
        let time = |name: &str| {
            let meta = path(name).symlink_metadata().unwrap();
            (meta.mtime(), meta.mtime_nsec())
        };
        for name in [".", "a", "a/b", "a/new", "a/b/link"] {
            assert_eq!(time(name), (1000, 0), "{name}");
        }
        assert_eq!(time("a/old"), (500, 7));
    }
}
