//! A file that is there whole or not at all.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

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
    let (temporary, file) = beside(&target, mode).map_err(failed)?;
    let written = write(&file).and_then(|value| {
        if sync {
            file.sync_all().map_err(failed)?;
        }
        std::fs::rename(&temporary, &target).map_err(failed)?;
        Ok(value)
    });
    written.inspect_err(|_| {
        let _ = std::fs::remove_file(&temporary);
    })
}

fn beside(path: &Path, mode: u32) -> io::Result<(PathBuf, File)> {
    let name = format!(".rbuild-{:016x}", atomic::random_bits()?);
    let temporary = path.with_file_name(name);
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    Ok((temporary, file))
}
