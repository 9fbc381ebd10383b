//! Uploads: the bytes of a blob on their way in, over several requests and restarts of the registry.
//!
//! Only who holds the flock of an upload's file writes to it. Its bytes are no blob before their digest was
//! found to be what the client says. Not here: ranges and requests.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, flock};

use crate::sys::atomic::random_bits;

use super::super::{StoreError, locked};
use super::blobs::blob_of;
use super::digest::{Algorithm, ContentDigest, ContentHasher};
use super::name::{RepositoryName, UploadId};
use super::{Repositories, touch_file};

/// How many unfinished digests are kept in memory; the others are computed again from the file.
const MOST_HASHERS: usize = 256;

/// After how many bytes it is looked again whether there is room for more.
const LOOK: u64 = 8 << 20;

/// What became of the wish to go on with an upload.
#[derive(Debug)]
pub enum OpenUpload {
    Open(Upload),
    /// Another request is writing to it.
    Busy,
    /// There is none of that id in the repository.
    Unknown,
}

/// What became of an upload that was to be a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishedUpload {
    Done,
    /// Its bytes have this digest, and are gone.
    WrongDigest(ContentDigest),
}

/// An upload that is being written to; dropped, it stays as it is.
#[derive(Debug)]
pub struct Upload {
    repositories: Arc<Repositories>,
    name: RepositoryName,
    id: UploadId,
    file: File,
    size: u64,
    /// Up to which size there was room.
    room: u64,
    /// `None` where the digest of what is there was not kept.
    hasher: Option<ContentHasher>,
    /// Whether its folder is gone.
    gone: bool,
}

fn folder_of(id: &UploadId) -> PathBuf {
    Path::new("uploads").join(id.as_str())
}

impl Repositories {
    /// Starts an upload to a repository.
    pub fn start_upload(&self, name: &RepositoryName) -> Result<UploadId, StoreError> {
        let uploads = Path::new("uploads");
        let bits = || random_bits().map_err(self.failed("make an upload in", uploads));
        let id = UploadId::from_bits(bits()?, bits()?);
        let folder = folder_of(&id);
        self.root.create_dir(&folder, 0o700).map_err(self.failed("make", &folder))?;
        let data = folder.join("data");
        let made = self
            .publish(&folder.join("repository"), name.as_str().as_bytes())
            .and_then(|()| self.root.create_file(&data, 0o600).map_err(self.failed("make", &data)));
        if let Err(error) = made {
            // A full disk: nobody knows the id.
            let _ = self.root.remove_all(&folder);
            return Err(error);
        }
        Ok(id)
    }

    /// Returns how many bytes are there of an upload; `None` where there is none of that id in the repository.
    pub fn upload_size(&self, name: &RepositoryName, id: &UploadId) -> Result<Option<u64>, StoreError> {
        if !self.is_upload_of(name, id)? {
            return Ok(None);
        }
        let data = folder_of(id).join("data");
        match self.open_file(&data)? {
            Some(file) => Ok(Some(file.metadata().map_err(self.failed("read", &data))?.len())),
            None => Ok(None),
        }
    }

    /// Opens an upload, to go on with it.
    pub fn upload(
        self: &Arc<Repositories>,
        name: &RepositoryName,
        id: &UploadId,
    ) -> Result<OpenUpload, StoreError> {
        if !self.is_upload_of(name, id)? {
            return Ok(OpenUpload::Unknown);
        }
        let Some(file) = self.lock_upload(id)? else {
            let there = self.exists(&folder_of(id).join("data"))?;
            return Ok(if there { OpenUpload::Busy } else { OpenUpload::Unknown });
        };
        let data = folder_of(id).join("data");
        let size = file.metadata().map_err(self.failed("read", &data))?.len();
        let kept = locked(&self.hashers).remove(id);
        let hasher = match kept {
            Some((at, hasher)) if at == size => Some(hasher),
            _ if size == 0 => Some(ContentHasher::new(Algorithm::Sha256)),
            _ => None,
        };
        let (name, id) = (name.clone(), id.clone());
        Ok(OpenUpload::Open(Upload {
            repositories: self.clone(),
            name,
            id,
            file,
            size,
            room: size,
            hasher,
            gone: false,
        }))
    }

    fn is_upload_of(&self, name: &RepositoryName, id: &UploadId) -> Result<bool, StoreError> {
        let of = self.read_file(&folder_of(id).join("repository"), 512)?;
        Ok(of.is_some_and(|of| of == name.as_str().as_bytes()))
    }

    /// Opens and locks an upload's file; `None` where it is locked or gone.
    fn lock_upload(&self, id: &UploadId) -> Result<Option<File>, StoreError> {
        let data = folder_of(id).join("data");
        let file = match self.root.open_at(&data, OFlags::RDWR | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(e) if super::is_absent(&e) => return Ok(None),
            Err(e) => return Err(self.failed("open", &data)(e)),
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(e) => return Err(self.failed("lock", &data)(e.into())),
        }
        // Who had it before may have made a blob of it: those bytes are written to no more.
        let now = self.root.try_stat(&data, false).map_err(self.failed("read", &data))?;
        let ours = file.metadata().map_err(self.failed("read", &data))?;
        Ok(now.is_some_and(|now| now.ino == ours.ino()).then_some(file))
    }

    /// Removes uploads that nobody went on with for so long; returns how many there were, and their bytes.
    pub(super) fn clear_uploads(&self, unused: Duration, dry_run: bool) -> Result<(usize, u64), StoreError> {
        let (mut count, mut bytes) = (0, 0);
        for name in self.names(Path::new("uploads"), FileType::Directory)? {
            let folder = Path::new("uploads").join(&name);
            let data = folder.join("data");
            let Ok(Some(stat)) = self.root.try_stat(&folder, false) else { continue };
            let (changed, size) = match self.root.try_stat(&data, false) {
                Ok(Some(data)) => (data.mtime_seconds.max(stat.mtime_seconds), data.size),
                _ => (stat.mtime_seconds, 0),
            };
            let now = jiff::Timestamp::now().as_second();
            if now.saturating_sub(changed) < i64::try_from(unused.as_secs()).unwrap_or(i64::MAX) {
                continue;
            }
            let lock = match name.parse() {
                Ok(id) if self.exists(&data)? => match self.lock_upload(&id)? {
                    Some(lock) => Some(lock),
                    None => continue,
                },
                _ => None,
            };
            if !dry_run {
                self.root.remove_all(&folder).map_err(self.failed("remove", &folder))?;
            }
            drop(lock);
            (count, bytes) = (count + 1, bytes + size);
        }
        Ok((count, bytes))
    }
}

impl Upload {
    /// Returns how many bytes are there.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Says which digest it will be asked for, so that it is computed while the bytes come.
    pub fn expect(&mut self, algorithm: Algorithm) {
        if self.size == 0 {
            self.hasher = Some(ContentHasher::new(algorithm));
        }
    }

    /// Adds bytes. On an error nothing is kept of them that would count.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if self.size + bytes.len() as u64 > self.room {
            self.repositories.make_room(bytes.len() as u64)?;
            self.room = self.size + LOOK.max(bytes.len() as u64);
        }
        let written = self.file.seek(SeekFrom::Start(self.size)).and_then(|_| self.file.write_all(bytes));
        if let Err(e) = written {
            let _ = self.file.set_len(self.size);
            return Err(self.failed("write")(e));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Forgets all bytes after the first `size`.
    pub fn truncate(&mut self, size: u64) -> Result<(), StoreError> {
        if size < self.size {
            self.file.set_len(size).map_err(self.failed("write"))?;
            self.size = size;
            self.hasher = (size == 0).then(|| ContentHasher::new(Algorithm::Sha256));
        }
        Ok(())
    }

    /// Makes a blob of its repository of it, if its bytes have this digest; else nothing is left of it.
    pub fn finish(mut self, digest: &ContentDigest) -> Result<FinishedUpload, StoreError> {
        let hasher = match self.hasher.take() {
            Some(hasher) if hasher.algorithm() == digest.algorithm() => hasher,
            _ => self.hash_again(digest.algorithm())?,
        };
        let found = hasher.finish();
        if found != *digest {
            self.cancel()?;
            return Ok(FinishedUpload::WrongDigest(found));
        }
        if self.repositories.sync {
            self.file.sync_data().map_err(self.failed("sync"))?;
        }
        let (repositories, blob) = (self.repositories.clone(), blob_of(digest));
        let _lock = repositories.shared()?;
        let data = folder_of(&self.id).join("data");
        // Over one that may be there: the same bytes, and whole.
        repositories.root.rename(&data, &blob).map_err(repositories.failed("write", &blob))?;
        // Only now: somebody may rely on the one that was there, and has touched that.
        touch_file(&self.file).map_err(repositories.failed("touch", &blob))?;
        repositories.link_blob(&self.name, digest)?;
        self.remove_folder()?;
        Ok(FinishedUpload::Done)
    }

    /// Removes it.
    pub fn cancel(mut self) -> Result<(), StoreError> {
        self.remove_folder()
    }

    fn remove_folder(&mut self) -> Result<(), StoreError> {
        self.gone = true;
        let folder = folder_of(&self.id);
        match self.repositories.root.remove_all(&folder) {
            Err(e) if !super::is_absent(&e) => Err(self.repositories.failed("remove", &folder)(e)),
            _ => Ok(()),
        }
    }

    /// Reads what is there through: its digest was not kept, or is asked for in another algorithm.
    fn hash_again(&mut self, algorithm: Algorithm) -> Result<ContentHasher, StoreError> {
        self.file.seek(SeekFrom::Start(0)).map_err(self.failed("read"))?;
        let mut hasher = ContentHasher::new(algorithm);
        let mut buffer = vec![0; 256 * 1024];
        let mut left = self.size;
        while left > 0 {
            let wanted = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            match self.file.read(&mut buffer[..wanted]) {
                Ok(0) => return Err(self.failed("read")(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => {
                    hasher.update(&buffer[..count]);
                    left -= count as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed("read")(e)),
            }
        }
        Ok(hasher)
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(io::Error) -> StoreError {
        self.repositories.failed(action, &folder_of(&self.id).join("data"))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(hasher) = self.hasher.take().filter(|_| !self.gone && self.size > 0) else { return };
        let mut hashers = locked(&self.repositories.hashers);
        // Any of them: uploads that nobody goes on with are not to keep the others out for good.
        if hashers.len() >= MOST_HASHERS
            && let Some(other) = hashers.keys().next().cloned()
        {
            hashers.remove(&other);
        }
        hashers.insert(self.id.clone(), (self.size, hasher));
    }
}
