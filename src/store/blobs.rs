//! Blobs: bytes found by their SHA-256 digest.
//!
//! Digested while written and again while read: neither a torn file nor a
//! tampered one is ever served as what it is not.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::image::{Digest, Hasher};
use crate::sys::atomic;
use crate::sys::read::read_small;

use super::error::failed;
use super::leases::Hold;
use super::{Store, StoreError};

impl Store {
    /// Returns a blob's length in bytes; `None` where it is not there.
    pub fn blob_size(&self, digest: &Digest) -> Option<u64> {
        std::fs::metadata(self.paths.blob(digest)).ok().map(|m| m.len())
    }

    /// Opens a blob; the reader fails at its end where the bytes are not those of the digest.
    pub fn open_blob(&self, digest: &Digest) -> Result<BlobReader, StoreError> {
        let path = self.paths.blob(digest);
        let file = File::open(&path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => StoreError::NoBlob(*digest),
            _ => failed("read", &path)(e),
        })?;
        let size = file.metadata().map_err(failed("read", &path))?.len();
        Ok(BlobReader { file, hasher: Some(Hasher::new()), digest: *digest, size })
    }

    /// Reads a whole blob of at most `limit` bytes, checked.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, StoreError> {
        let reader = self.open_blob(digest)?;
        if reader.size > limit {
            return Err(StoreError::BlobTooLarge { digest: *digest, limit });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(reader.size).unwrap_or(0));
        // The file may have grown since; the digest would then differ anyway.
        reader.file.take(limit).read_to_end(&mut bytes).map_err(failed("read", &self.paths.blob(digest)))?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(StoreError::broken(format!("blob {digest}"), format!("its bytes have {found}")));
        }
        Ok(bytes)
    }

    /// Stores bytes; writes nothing where they are there already.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        let path = self.paths.blob(&digest);
        // Compared, not only looked for: a torn file is healed here.
        if read_small(&path).is_ok_and(|there| there == bytes) {
            return Ok(digest);
        }
        self.publish(&path, bytes)?;
        Ok(digest)
    }

    /// Starts a blob whose bytes come piece by piece.
    pub fn blob_writer(&self) -> Result<BlobWriter<'_>, StoreError> {
        let (path, hold) = self.temp_path()?;
        let file = atomic::create_new(&path).map_err(failed("write", &path))?;
        Ok(BlobWriter { store: self, file, path, hasher: Hasher::new(), size: 0, _hold: hold })
    }
}

/// Reads a blob and checks it.
pub struct BlobReader {
    file: File,
    /// `None` once the end was reached and checked.
    hasher: Option<Hasher>,
    digest: Digest,
    size: u64,
}

impl BlobReader {
    /// Returns the length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the file, whose bytes nobody compares with the digest.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Reads it through; an error where its bytes are not those of the digest.
    pub fn check(mut self) -> io::Result<()> {
        io::copy(&mut self, &mut io::sink()).map(drop)
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        if count > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&buffer[..count]);
            }
        } else if !buffer.is_empty()
            && let Some(hasher) = self.hasher.take()
        {
            let found = hasher.finish();
            if found != self.digest {
                let message = format!("blob {} is broken: its bytes have {found}", self.digest);
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        }
        Ok(count)
    }
}

/// Writes a blob; dropped without a `finish` it leaves nothing.
pub struct BlobWriter<'a> {
    store: &'a Store,
    file: File,
    /// Empty once published.
    path: PathBuf,
    hasher: Hasher,
    size: u64,
    _hold: Arc<Hold>,
}

impl BlobWriter<'_> {
    /// Returns the digest of what was written so far.
    pub fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Returns how many bytes were written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Publishes what was written under its digest.
    pub fn finish(mut self) -> Result<(Digest, u64), StoreError> {
        let digest = std::mem::take(&mut self.hasher).finish();
        self.publish(&digest)?;
        Ok((digest, self.size))
    }

    /// Publishes what was written only if it is what was expected.
    pub fn finish_expecting(mut self, digest: &Digest, size: Option<u64>) -> Result<(), StoreError> {
        if let Some(expected) = size
            && expected != self.size
        {
            return Err(StoreError::WrongSize { expected, found: self.size });
        }
        let found = std::mem::take(&mut self.hasher).finish();
        if found != *digest {
            return Err(StoreError::WrongDigest { expected: *digest, found });
        }
        self.publish(digest)
    }

    fn publish(&mut self, digest: &Digest) -> Result<(), StoreError> {
        // Over one that may be there: the same bytes, and whole.
        let to = self.store.paths.blob(digest);
        std::fs::rename(&self.path, &to).map_err(failed("write", &to))?;
        self.path = PathBuf::new();
        self.store.dirty.store(true, Ordering::SeqCst);
        Ok(())
    }
}

impl Write for BlobWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for BlobWriter<'_> {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::names_in;
    use super::super::testing;
    use super::*;

    #[test]
    fn holds_what_it_was_given_and_nothing_unfinished() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let digest = store.put_blob(b"abc").unwrap();
        assert_eq!(digest, Digest::of("abc"));
        let mut writer = store.blob_writer().unwrap();
        writer.write_all(b"ab").unwrap();
        writer.write_all(b"cd").unwrap();
        assert_eq!(writer.finish().unwrap(), (Digest::of("abcd"), 4));
        assert_eq!(store.read_blob(&Digest::of("abcd"), 4).unwrap(), b"abcd");
        assert!(matches!(
            store.read_blob(&Digest::of("abcd"), 3),
            Err(StoreError::BlobTooLarge { limit: 3, .. })
        ));
        assert!(matches!(store.open_blob(&Digest::of("x")), Err(StoreError::NoBlob(_))));

        let mut writer = store.blob_writer().unwrap();
        writer.write_all(b"xyz").unwrap();
        assert!(matches!(
            writer.finish_expecting(&Digest::of("other"), None),
            Err(StoreError::WrongDigest { .. })
        ));
        let mut writer = store.blob_writer().unwrap();
        writer.write_all(b"xyz").unwrap();
        assert!(matches!(
            writer.finish_expecting(&Digest::of("xyz"), Some(4)),
            Err(StoreError::WrongSize { expected: 4, found: 3 })
        ));
        drop(store.blob_writer().unwrap());
        assert_eq!(names_in(&directory.path().join("v1/tmp")).unwrap().len(), 0);
        assert_eq!(names_in(&directory.path().join("v1/blobs/sha256")).unwrap().len(), 2);
    }

    #[test]
    fn a_broken_blob_is_never_served_and_healed_when_put_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let digest = store.put_blob(b"abc").unwrap();
        for broken in ["", "ab", "abd", "abcd"] {
            std::fs::write(store.paths.blob(&digest), broken).unwrap();
            assert!(matches!(store.read_blob(&digest, 100), Err(StoreError::Broken { .. })));
            let mut bytes = Vec::new();
            assert!(store.open_blob(&digest).unwrap().read_to_end(&mut bytes).is_err());
        }
        store.put_blob(b"abc").unwrap();
        assert_eq!(store.read_blob(&digest, 100).unwrap(), b"abc");
    }
}
