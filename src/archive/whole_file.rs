//! A file that is there whole or not at all.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, linkat};
use rustix::io::Errno;

use crate::sys::atomic;

use super::ArchiveError;

/// Has `write` fill a file, which takes its name only when it is whole.
///
/// What is no regular file (a pipe, a terminal) is written directly; a link to a file stays one. `mode`
/// is that of the new file, less the umask; `sync` puts it on the disk before it has its name.
pub fn write_whole<T>(
    path: &Path,
    mode: u32,
    sync: bool,
    write: impl FnOnce(&File) -> Result<T, ArchiveError>,
) -> Result<T, ArchiveError> {
    let failed = |source| ArchiveError::WriteFile { path: path.to_owned(), source };
    if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        let out = OpenOptions::new().write(true).open(path).map_err(failed)?;
        return write(&out);
    }
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (name, file) = unfinished(&target, mode).map_err(failed)?;
    let written = write(&file).and_then(|value| {
        if sync {
            file.sync_all().map_err(failed)?;
        }
        match &name {
            Some(temporary) => std::fs::rename(temporary, &target),
            None => named(&file, &target),
        }
        .map_err(failed)?;
        Ok(value)
    });
    written.inspect_err(|_| {
        if let Some(temporary) = &name {
            let _ = std::fs::remove_file(temporary);
        }
    })
}

/// Makes a file that has no name, so that nothing is left of it however the program ends; where the file
/// system has no such files, one with a name beside what it will be, which is returned, too.
fn unfinished(path: &Path, mode: u32) -> io::Result<(Option<PathBuf>, File)> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let nameless = OpenOptions::new().write(true).mode(mode).custom_flags(TMPFILE).open(folder);
    if let Ok(file) = nameless
        && std::fs::symlink_metadata(descriptor(&file)).is_ok()
    {
        return Ok((None, file));
    }
    let temporary = beside(path)?;
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    Ok((Some(temporary), file))
}

const TMPFILE: i32 = rustix::fs::OFlags::TMPFILE.bits().cast_signed();

/// Gives a file without a name one; what had it before is replaced.
fn named(file: &File, path: &Path) -> io::Result<()> {
    let link = |name: &Path| linkat(CWD, descriptor(file), CWD, name, AtFlags::SYMLINK_FOLLOW);
    match link(path) {
        Err(Errno::EXIST) => {}
        other => return Ok(other?),
    }
    let temporary = beside(path)?;
    link(&temporary)?;
    std::fs::rename(&temporary, path).inspect_err(|_| {
        let _ = std::fs::remove_file(&temporary);
    })
}

fn descriptor(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn beside(path: &Path) -> io::Result<PathBuf> {
    Ok(path.with_file_name(format!(".rbuild-{:016x}", atomic::random_bits()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn nothing_is_there_until_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let names = || std::fs::read_dir(directory.path()).unwrap().count();
        for (text, before) in [("one", 0), ("two", 1)] {
            let write = |mut file: &File| {
                assert_eq!(names(), before);
                io::Write::write_all(&mut file, text.as_bytes()).unwrap();
                Ok(())
            };
            write_whole(&path, 0o600, false, write).unwrap();
            assert_eq!((std::fs::read_to_string(&path).unwrap().as_str(), names()), (text, 1));
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn nothing_is_left_of_what_fails() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let failed = || ArchiveError::WriteFile { path: path.clone(), source: io::Error::other("full") };
        write_whole(&path, 0o600, false, |_| Err::<(), _>(failed())).unwrap_err();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
