//! Files that are there whole or not at all.
//!
//! Bytes go to a temporary name on the same file system, which a rename then
//! publishes (rename(2) is atomic). Not here: what the files mean, and when
//! a whole file system is synced (`store`).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use rustix::rand::GetRandomFlags;

/// Returns 64 random bits from the kernel.
pub fn random_bits() -> io::Result<u64> {
    let mut bytes = [0u8; 8];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(u64::from_ne_bytes(bytes))
}

/// Writes bytes to `temporary` and renames it to `path`, over what may be there.
///
/// Both on one file system; a reader sees the old bytes or the new ones, never a part.
/// Mode 0600. With `sync` the bytes are on the disk before the rename. On an error the
/// old file is untouched and the temporary one removed.
pub fn publish(temporary: &Path, path: &Path, bytes: &[u8], sync: bool) -> io::Result<()> {
    let written = write_new(temporary, bytes, sync).and_then(|()| std::fs::rename(temporary, path));
    written.inspect_err(|_| {
        let _ = std::fs::remove_file(temporary);
    })
}

/// Does [`publish`] only where `path` is not there yet; tells whether it was published.
pub fn publish_new(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let written = write_new(temporary, bytes, false).and_then(|()| rename_new(temporary, path));
    if !matches!(written, Ok(true)) {
        let _ = std::fs::remove_file(temporary);
    }
    written
}

/// Renames a file or directory to a name that is free; tells `false` where it is taken.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<bool> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes a file that was not there, mode 0600, open for reading and writing.
pub fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Syncs the whole file system that a path is on (syncfs(2)).
pub fn sync_file_system(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}

/// Returns the id of this start of the kernel: no two starts have the same.
///
/// `unknown` where /proc does not tell (proc(5), `/proc/sys/kernel/random/boot_id`).
pub fn boot_id() -> String {
    match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(text) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

fn write_new(path: &Path, bytes: &[u8], sync: bool) -> io::Result<()> {
    let mut file = create_new(path)?;
    file.write_all(bytes)?;
    if sync {
        file.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn replaces_whole_and_leaves_nothing_beside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for (bytes, sync) in [("one", false), ("two", true)] {
            publish(&directory.path().join("t"), &path, bytes.as_bytes(), sync).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), bytes);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(directory.path()), ["file"]);
    }

    #[test]
    fn an_error_leaves_nothing_beside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("taken");
        std::fs::create_dir_all(path.join("below")).unwrap();
        assert!(publish(&directory.path().join("t"), &path, b"x", false).is_err());
        assert_eq!(names(directory.path()), ["taken"]);
    }

    #[test]
    fn publishes_new_once() {
        let directory = tempfile::tempdir().unwrap();
        let (temporary, path) = (directory.path().join("t"), directory.path().join("file"));
        assert!(publish_new(&temporary, &path, b"first").unwrap());
        assert!(!publish_new(&temporary, &path, b"second").unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(names(directory.path()), ["file"]);
    }
}
