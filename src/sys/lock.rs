//! Locks between processes: flock(2) on files.
//!
//! A lock belongs to an open file: it ends when the file is closed, which the
//! kernel does for a process that dies. Two opens in one process exclude each
//! other as two processes do. Not here: what is locked when (`store`).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// A held lock; dropping it lets go.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// Waits for a lock that several may hold at once. Makes the file where it is missing.
    pub fn shared(path: &Path) -> io::Result<FileLock> {
        let file = open(path)?;
        flock(&file, FlockOperation::LockShared)?;
        Ok(FileLock { file })
    }

    /// Waits for a lock that one alone may hold. Makes the file where it is missing.
    pub fn exclusive(path: &Path) -> io::Result<FileLock> {
        let file = open(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(FileLock { file })
    }

    /// Takes a lock that several may hold at once, or `None` where somebody holds it alone.
    pub fn try_shared(path: &Path) -> io::Result<Option<FileLock>> {
        let file = open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Some(FileLock { file })),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Takes the lock for one alone, or `None` where somebody holds it.
    pub fn try_exclusive(path: &Path) -> io::Result<Option<FileLock>> {
        let file = open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(FileLock { file })),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Returns the locked file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Tells whether the path still names the locked file: it may have been renamed or removed
    /// between our open and our lock.
    pub fn is_still(&self, path: &Path) -> io::Result<bool> {
        is_still(&self.file, path)
    }
}

/// A held lock on a file that is removed when the lock is let go.
#[derive(Debug)]
pub struct NamedLock {
    lock: FileLock,
    path: PathBuf,
}

impl NamedLock {
    /// Takes the lock of that name, or `None` where somebody holds it.
    pub fn try_take(path: &Path) -> io::Result<Option<NamedLock>> {
        loop {
            let Some(lock) = FileLock::try_exclusive(path)? else { return Ok(None) };
            if is_still(&lock.file, path)? {
                return Ok(Some(NamedLock { lock, path: path.to_owned() }));
            }
            // The holder before removed the name between our open and our lock.
        }
    }

    /// Does [`NamedLock::try_take`] only where the file is there already: `None` also where it is not.
    pub fn try_take_existing(path: &Path) -> io::Result<Option<NamedLock>> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(e) => return Err(e),
        }
        match is_still(&file, path)? {
            true => Ok(Some(NamedLock { lock: FileLock { file }, path: path.to_owned() })),
            false => Ok(None),
        }
    }

    /// Returns the locked file.
    pub fn file(&self) -> &File {
        self.lock.file()
    }
}

impl Drop for NamedLock {
    fn drop(&mut self) {
        // Before the lock goes: whoever waits on this file sees that its name is gone.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Returns a process that holds a lock on a file, where the kernel tells: proc_locks(5).
///
/// It does not of processes in other process namespaces, nor on file systems whose files have
/// another device than their disk.
pub fn holder(path: &Path) -> Option<u32> {
    let file = std::fs::metadata(path).ok()?;
    let device = file.dev();
    let place = format!("{:02x}:{:02x}:{}", rustix::fs::major(device), rustix::fs::minor(device), file.ino());
    held_by(&std::fs::read_to_string("/proc/locks").ok()?, &place)
}

/// Finds the process of a lock in the text of /proc/locks; lines with `->` are of those who wait.
fn held_by(locks: &str, place: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [_, "FLOCK", _, _, process, at, ..] if at == place => process.parse().ok().filter(|p| *p > 0),
            _ => None,
        }
    })
}

/// Tells whether the path still names the open file.
fn is_still(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok((held.dev(), held.ino()) == (named.dev(), named.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Opening an existing file this way writes nothing.
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn flock(file: &File, operation: FlockOperation) -> io::Result<()> {
    loop {
        match rustix::fs::flock(file, operation) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn who_holds_a_lock() {
        let text = "1: POSIX  ADVISORY  WRITE 7 08:01:5 0 EOF\n\
                    2: FLOCK  ADVISORY  WRITE 812 08:01:1234 0 EOF\n\
                    2: -> FLOCK  ADVISORY  WRITE 99 08:01:777 0 EOF\n\
                    3: FLOCK  ADVISORY  READ 0 08:01:88 0 EOF\nrubbish\n";
        let check = |place: &str, expect| assert_eq!(held_by(text, place), expect, "{place}");
        check("08:01:1234", Some(812));
        check("08:01:5", None);
        check("08:01:777", None);
        check("08:01:88", None);
        check("08:01:123", None);
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(holder(&directory.path().join("missing")), None);
    }

    #[test]
    fn excludes_as_it_says() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let shared = FileLock::shared(&path).unwrap();
        let second = FileLock::shared(&path).unwrap();
        assert!(FileLock::try_exclusive(&path).unwrap().is_none());
        drop(shared);
        assert!(FileLock::try_exclusive(&path).unwrap().is_none());
        drop(second);
        let exclusive = FileLock::try_exclusive(&path).unwrap();
        assert!(exclusive.is_some());
        assert!(FileLock::try_shared(&path).unwrap().is_none());
        drop(exclusive);
        let shared = FileLock::try_shared(&path).unwrap();
        assert!(shared.is_some() && FileLock::try_shared(&path).unwrap().is_some());
        drop(shared);
        let exclusive = FileLock::try_exclusive(&path).unwrap();
        assert!(exclusive.is_some());
        assert!(FileLock::try_exclusive(&path).unwrap().is_none());
    }

    #[test]
    fn a_named_lock_goes_with_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        assert!(NamedLock::try_take_existing(&path).unwrap().is_none());
        let lock = NamedLock::try_take(&path).unwrap();
        assert!(lock.is_some());
        assert!(NamedLock::try_take(&path).unwrap().is_none());
        assert!(NamedLock::try_take_existing(&path).unwrap().is_none());
        drop(lock);
        assert!(!path.exists());
        assert!(NamedLock::try_take(&path).unwrap().is_some());
    }

    #[test]
    fn a_named_lock_is_held_by_one_of_many() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let (inside, rounds) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while rounds.load(Ordering::SeqCst) < 2000 {
                        if let Some(_lock) = NamedLock::try_take(&path).unwrap() {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                            rounds.fetch_add(1, Ordering::SeqCst);
                            inside.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert!(!path.exists());
    }
}
