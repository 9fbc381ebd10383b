//! Blobs on their way in: what came of one stays when the connection breaks or the process dies.
//!
//! One file for each digest, locked (flock) by whoever receives it. What is there is trusted by nobody: it
//! is digested again with the rest before it becomes a blob. Not here: where the bytes come from.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use crate::image::{Digest, Hasher};
use crate::sys::lock::FileLock;

use super::error::{failed, names_in, remove_file};
use super::leases::Hold;
use super::{Store, StoreError};

/// How long the bytes of a blob that nobody went on with are kept.
pub const PARTIAL_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// A blob while it is received; dropped, its bytes stay for the next one who wants it.
///
/// Written from the blob's first byte on: those that were there already are read from [`Partial::there`]
/// and passed to `write` again, which digests them and writes only what is new.
pub struct Partial<'a> {
    store: &'a Store,
    lock: FileLock,
    path: PathBuf,
    digest: Digest,
    /// As announced, in bytes: more is never written.
    size: u64,
    /// How many bytes were there at the beginning.
    there: u64,
    written: u64,
    hasher: Hasher,
    contended: bool,
    /// Whether the file is no partial one any more: published or removed.
    gone: bool,
    _hold: Arc<Hold>,
}

impl Store {
    /// Takes the right to receive a blob of that digest and size (in bytes); waits while another has it.
    ///
    /// `cancelled` is asked while waiting; once it says yes the error is [`StoreError::Cancelled`].
    pub fn partial(
        &self,
        digest: &Digest,
        size: u64,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Partial<'_>, StoreError> {
        let hold = self.held()?;
        let path = self.paths.partials.join(digest.hex());
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.paths.partials);
        made.map_err(failed("make", &self.paths.partials))?;
        let mut contended = false;
        // Asked again and again: flock(2) cannot be called off from another thread.
        let mut pause = Duration::from_millis(1);
        let lock = loop {
            let lock = FileLock::try_exclusive(&path).map_err(failed("lock", &path))?;
            if let Some(lock) = lock {
                match lock.is_still(&path).map_err(failed("lock", &path))? {
                    true => break lock,
                    // Who had it before published or removed it.
                    false => continue,
                }
            }
            contended = true;
            if cancelled() {
                return Err(StoreError::Cancelled);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        let mut there = lock.file().metadata().map_err(failed("read", &path))?.len();
        if there > size {
            lock.file().set_len(0).map_err(failed("write", &path))?;
            there = 0;
        }
        if there < size {
            self.make_room(size - there)?;
        }
        lock.file().set_modified(SystemTime::now()).map_err(failed("touch", &path))?;
        let (digest, hasher) = (*digest, Hasher::new());
        Ok(Partial {
            store: self,
            lock,
            path,
            digest,
            size,
            there,
            written: 0,
            hasher,
            contended,
            gone: false,
            _hold: hold,
        })
    }

    /// Removes what is there of blobs that nobody receives and nobody used for so long; returns how many
    /// bytes that were.
    pub fn clear_partials(&self, unused: Duration) -> Result<u64, StoreError> {
        let mut freed = 0;
        for name in names_in(&self.paths.partials)? {
            let path = self.paths.partials.join(name);
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            let age = metadata.modified().ok().and_then(|time| time.elapsed().ok()).unwrap_or_default();
            if age < unused {
                continue;
            }
            let lock = FileLock::try_exclusive(&path).map_err(failed("lock", &path))?;
            if let Some(lock) = lock
                && lock.is_still(&path).map_err(failed("lock", &path))?
            {
                remove_file(&path)?;
                freed += metadata.len();
            }
        }
        Ok(freed)
    }

    /// Returns how many bytes are there of blobs that are not complete.
    pub fn partial_bytes(&self) -> Result<u64, StoreError> {
        let length = |name: String| std::fs::metadata(self.paths.partials.join(name)).map_or(0, |m| m.len());
        Ok(names_in(&self.paths.partials)?.into_iter().map(length).sum())
    }
}

impl Partial<'_> {
    /// Returns how many of its first bytes were there already.
    pub fn there(&self) -> u64 {
        self.there
    }

    /// Tells whether somebody else was receiving it when it was asked for: the layer may be here now.
    pub fn contended(&self) -> bool {
        self.contended
    }

    /// Returns a reader of the bytes that were there.
    pub fn reader(&self) -> Result<impl Read + use<>, StoreError> {
        let file = self.lock.file().try_clone().map_err(failed("read", &self.path))?;
        Ok(There { file, at: 0, end: self.there })
    }

    /// Returns the digest of what was written so far.
    pub fn written_digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Returns how many bytes were written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Publishes what was written as a blob, if it is that of its digest and size; once.
    pub fn publish(&mut self) -> Result<(), StoreError> {
        if self.written != self.size {
            return Err(StoreError::WrongSize { expected: self.size, found: self.written });
        }
        let found = self.written_digest();
        if found != self.digest {
            return Err(StoreError::WrongDigest { expected: self.digest, found });
        }
        let to = self.store.paths.blob(&self.digest);
        std::fs::rename(&self.path, &to).map_err(failed("write", &to))?;
        self.gone = true;
        self.store.dirty.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Removes its bytes: they are wrong, or not needed. Does nothing to what was published.
    pub fn discard(mut self) -> Result<(), StoreError> {
        match std::mem::replace(&mut self.gone, true) {
            true => Ok(()),
            false => remove_file(&self.path),
        }
    }

    /// Begins anew, without any byte.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        self.lock.file().set_len(0).map_err(failed("write", &self.path))?;
        (self.there, self.written, self.hasher) = (0, 0, Hasher::new());
        Ok(())
    }
}

impl Drop for Partial<'_> {
    fn drop(&mut self) {
        // One that holds nothing is of no use to anybody; removed while it is locked.
        if !self.gone && self.lock.file().metadata().is_ok_and(|metadata| metadata.len() == 0) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Write for Partial<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.size - self.written {
            return Err(io::Error::other("more bytes come than were announced"));
        }
        let old = usize::try_from(self.there.saturating_sub(self.written)).unwrap_or(usize::MAX);
        if let Some(new) = bytes.get(old..).filter(|new| !new.is_empty()) {
            self.lock.file().write_all_at(new, self.written + old as u64)?;
        }
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads the first bytes of a file, whatever others do with its offset.
struct There {
    file: File,
    at: u64,
    end: u64,
}

impl Read for There {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.at)?;
        if count == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc;

    use super::super::testing;
    use super::*;

    const TEXT: &[u8] = b"0123456789";

    fn never() -> bool {
        false
    }

    fn names(root: &Path) -> usize {
        names_in(&root.join("v1/cache/partials")).unwrap().len()
    }

    #[test]
    fn goes_on_from_where_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let digest = Digest::of(TEXT);
        let mut first = store.partial(&digest, 10, &never).unwrap();
        first.write_all(&TEXT[..4]).unwrap();
        drop(first);
        assert_eq!(store.partial_bytes().unwrap(), 4);
        let mut second = store.partial(&digest, 10, &never).unwrap();
        assert_eq!((second.there(), second.contended()), (4, false));
        let mut there = Vec::new();
        second.reader().unwrap().read_to_end(&mut there).unwrap();
        assert_eq!(there, b"0123");
        // The old bytes come again, and across them the first new ones.
        second.write_all(b"01").unwrap();
        second.write_all(b"2345").unwrap();
        assert!(matches!(second.publish(), Err(StoreError::WrongSize { expected: 10, found: 6 })));
        second.write_all(b"6789").unwrap();
        assert!(second.write_all(b"x").is_err());
        second.publish().unwrap();
        second.discard().unwrap();
        assert_eq!(store.read_blob(&digest, 10).unwrap(), TEXT);
        assert_eq!(names(directory.path()), 0);
    }

    #[test]
    fn what_is_wrong_or_empty_does_not_stay() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let digest = Digest::of(TEXT);
        drop(store.partial(&digest, 10, &never).unwrap());
        assert_eq!(names(directory.path()), 0);
        let mut wrong = store.partial(&digest, 10, &never).unwrap();
        wrong.write_all(b"0123456780").unwrap();
        assert!(matches!(wrong.publish(), Err(StoreError::WrongDigest { .. })));
        wrong.restart().unwrap();
        assert_eq!((wrong.there(), wrong.written()), (0, 0));
        wrong.write_all(b"0").unwrap();
        wrong.discard().unwrap();
        assert_eq!(names(directory.path()), 0);
        assert!(store.blob_size(&digest).is_none());
        // One that is longer than it may be is not gone on with.
        let path = store.paths.partials.join(digest.hex());
        std::fs::write(&path, "01234567890123").unwrap();
        assert_eq!(store.partial(&digest, 10, &never).unwrap().there(), 0);
        assert!(!path.exists());
    }

    #[test]
    fn one_receives_and_the_others_wait() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let digest = Digest::of(TEXT);
        let mut first = store.partial(&digest, 10, &never).unwrap();
        assert!(matches!(store.partial(&digest, 10, &|| true), Err(StoreError::Cancelled)));
        let (waits, waiting) = mpsc::channel();
        std::thread::scope(|scope| {
            let other = testing::open(directory.path());
            scope.spawn(move || {
                let tell = || {
                    let _ = waits.send(());
                    false
                };
                let second = other.partial(&digest, 10, &tell).unwrap();
                // The file it waited for is the blob now: a new one was begun.
                assert_eq!((second.contended(), second.there()), (true, 0));
                assert_eq!(other.blob_size(&digest), Some(10));
            });
            waiting.recv().unwrap();
            first.write_all(TEXT).unwrap();
            first.publish().unwrap();
            drop(first);
        });
        assert_eq!(names(directory.path()), 0);
    }

    #[test]
    fn what_nobody_went_on_with_is_cleared() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let [old, new, used] = ["old", "new", "used"].map(Digest::of);
        for digest in [&old, &new, &used] {
            store.partial(digest, 10, &never).unwrap().write_all(b"abc").unwrap();
        }
        let long_ago = SystemTime::now() - PARTIAL_KEPT - Duration::from_secs(60);
        let age = |digest: &Digest| {
            let file = File::options().write(true).open(store.paths.partials.join(digest.hex())).unwrap();
            file.set_modified(long_ago).unwrap();
        };
        age(&old);
        let held = store.partial(&used, 10, &never).unwrap();
        age(&used);
        assert_eq!(store.clear_partials(PARTIAL_KEPT).unwrap(), 3);
        assert_eq!(names(directory.path()), 2);
        drop(held);
        assert_eq!(store.clear_partials(Duration::ZERO).unwrap(), 6);
    }
}
