//! Which manifests say that they are about another (image-spec, manifest.md, `subject`).

use std::path::PathBuf;

use rustix::fs::FileType;

use super::super::StoreError;
use super::digest::ContentDigest;
use super::manifests::manifest_of;
use super::name::RepositoryName;
use super::{Repositories, place_of, repository};

/// The longest descriptor: no longer than the manifest that it is taken from, written anew.
const LONGEST: usize = 16 << 20;

/// A manifest that refers to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    pub digest: ContentDigest,
    /// Its descriptor, as JSON.
    pub descriptor: Vec<u8>,
}

fn referrers_of(name: &RepositoryName, subject: &ContentDigest) -> PathBuf {
    repository(name).join("_referrers").join(place_of(subject))
}

impl Repositories {
    /// Lists the digests of what refers to a manifest, which need not be there; sorted.
    pub fn referrers(
        &self,
        name: &RepositoryName,
        subject: &ContentDigest,
    ) -> Result<Vec<ContentDigest>, StoreError> {
        let names = self.names(&referrers_of(name, subject), FileType::RegularFile)?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Reads what is kept of one; `None` where it is gone.
    pub fn referrer(
        &self,
        name: &RepositoryName,
        subject: &ContentDigest,
        digest: &ContentDigest,
    ) -> Result<Option<Referrer>, StoreError> {
        if !self.exists(&manifest_of(name, digest))? {
            return Ok(None);
        }
        let path = referrers_of(name, subject).join(digest.to_string());
        let descriptor = self.read_file(&path, LONGEST)?;
        Ok(descriptor.map(|descriptor| Referrer { digest: digest.clone(), descriptor }))
    }

    pub(super) fn add_referrer(
        &self,
        name: &RepositoryName,
        subject: &ContentDigest,
        digest: &ContentDigest,
        descriptor: &[u8],
    ) -> Result<(), StoreError> {
        self.publish(&referrers_of(name, subject).join(digest.to_string()), descriptor)
    }

    pub(super) fn remove_referrer(
        &self,
        name: &RepositoryName,
        subject: &ContentDigest,
        digest: &ContentDigest,
    ) -> Result<bool, StoreError> {
        self.remove(&referrers_of(name, subject).join(digest.to_string()))
    }
}
