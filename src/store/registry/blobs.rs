//! Blobs of repositories: a repository has those that were uploaded or mounted there, and no others.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::super::StoreError;
use super::digest::ContentDigest;
use super::name::RepositoryName;
use super::{Repositories, place_of, repository};

/// A blob that is whole, open for reading.
#[derive(Debug)]
pub struct OpenBlob {
    pub file: File,
    /// In bytes.
    pub size: u64,
}

/// Returns where the note lies that a repository has a blob.
pub(super) fn link_of(name: &RepositoryName, digest: &ContentDigest) -> PathBuf {
    repository(name).join("_layers").join(place_of(digest))
}

/// Returns where a blob lies.
pub(super) fn blob_of(digest: &ContentDigest) -> PathBuf {
    Path::new("blobs").join(place_of(digest))
}

impl Repositories {
    /// Opens a blob of a repository; `None` where the repository does not have it.
    pub fn open_blob(
        &self,
        name: &RepositoryName,
        digest: &ContentDigest,
    ) -> Result<Option<OpenBlob>, StoreError> {
        if !self.exists(&link_of(name, digest))? {
            return Ok(None);
        }
        let path = blob_of(digest);
        let Some(file) = self.open_file(&path)? else { return Ok(None) };
        let size = file.metadata().map_err(self.failed("read", &path))?.len();
        Ok(Some(OpenBlob { file, size }))
    }

    /// Does the same for somebody who will rely on it: a collection leaves it for a while.
    pub fn claim_blob(
        &self,
        name: &RepositoryName,
        digest: &ContentDigest,
    ) -> Result<Option<OpenBlob>, StoreError> {
        let _lock = self.shared()?;
        match self.touch_blob(name, digest)? {
            true => self.open_blob(name, digest),
            false => Ok(None),
        }
    }

    /// Gives a repository a blob that another one has; tells whether that has it.
    pub fn mount_blob(
        &self,
        from: &RepositoryName,
        to: &RepositoryName,
        digest: &ContentDigest,
    ) -> Result<bool, StoreError> {
        let _lock = self.shared()?;
        let there = self.touch_blob(from, digest)?;
        if there {
            self.link_blob(to, digest)?;
        }
        Ok(there)
    }

    /// Takes a blob away from a repository; tells whether it had it.
    ///
    /// Its bytes go with the next collection, if no other repository has them.
    pub fn unlink_blob(&self, name: &RepositoryName, digest: &ContentDigest) -> Result<bool, StoreError> {
        let _lock = self.alone()?;
        self.remove(&link_of(name, digest))
    }

    /// Touches a blob of a repository; tells whether it is there. The caller has a lock.
    pub(super) fn touch_blob(
        &self,
        name: &RepositoryName,
        digest: &ContentDigest,
    ) -> Result<bool, StoreError> {
        Ok(self.touch(&link_of(name, digest))? && self.touch(&blob_of(digest))?)
    }

    /// Notes that a repository has a blob. The caller has a lock, and the blob is there.
    pub(super) fn link_blob(&self, name: &RepositoryName, digest: &ContentDigest) -> Result<(), StoreError> {
        let link = link_of(name, digest);
        match self.touch(&link)? {
            true => Ok(()),
            false => self.publish(&link, b""),
        }
    }
}
