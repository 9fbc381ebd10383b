//! Where what is served comes from: the repositories that are pushed to, and others that are only read.
//!
//! The first source that has something serves it. Not here: what is written (`store`).

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::Arc;

use crate::store::{
    ContentDigest, FinishedUpload, ManifestFile, ManifestName, OpenBlob, OpenUpload, Repositories,
    RepositoryName, StoreError, StoredManifest, TagName,
};

/// Images to be pulled. Calls block; they come from threads made for that.
pub trait Source: Send + Sync {
    /// Lists the repositories, sorted by bytes.
    fn repositories(&self) -> Result<Vec<RepositoryName>, StoreError>;
    /// Lists the tags of a repository, sorted by bytes; `None` where there is no such repository.
    fn tags(&self, name: &RepositoryName) -> Result<Option<Vec<TagName>>, StoreError>;
    /// Returns a manifest, with its digest checked.
    fn manifest(
        &self,
        name: &RepositoryName,
        which: &ManifestName,
    ) -> Result<Option<StoredManifest>, StoreError>;
    /// Opens a manifest's bytes where they are part of a file of their own.
    fn manifest_file(
        &self,
        _: &RepositoryName,
        _: &ContentDigest,
    ) -> Result<Option<ManifestFile>, StoreError> {
        Ok(None)
    }
    /// Opens a blob of a repository; its bytes must be whole.
    fn blob(&self, name: &RepositoryName, digest: &ContentDigest) -> Result<Option<OpenBlob>, StoreError>;
    /// Opens a blob for somebody who is about to rely on its being there.
    fn claim(&self, name: &RepositoryName, digest: &ContentDigest) -> Result<Option<OpenBlob>, StoreError> {
        self.blob(name, digest)
    }
    /// Returns in words what a repository is, if it says so.
    fn description(&self, name: &RepositoryName) -> Result<Option<String>, StoreError>;
}

impl Source for Repositories {
    fn repositories(&self) -> Result<Vec<RepositoryName>, StoreError> {
        Repositories::repositories(self)
    }

    fn tags(&self, name: &RepositoryName) -> Result<Option<Vec<TagName>>, StoreError> {
        Repositories::tags(self, name)
    }

    fn manifest(
        &self,
        name: &RepositoryName,
        which: &ManifestName,
    ) -> Result<Option<StoredManifest>, StoreError> {
        Repositories::manifest(self, name, which)
    }

    fn manifest_file(
        &self,
        name: &RepositoryName,
        digest: &ContentDigest,
    ) -> Result<Option<ManifestFile>, StoreError> {
        Repositories::manifest_file(self, name, digest)
    }

    fn blob(&self, name: &RepositoryName, digest: &ContentDigest) -> Result<Option<OpenBlob>, StoreError> {
        self.open_blob(name, digest)
    }

    fn claim(&self, name: &RepositoryName, digest: &ContentDigest) -> Result<Option<OpenBlob>, StoreError> {
        self.claim_blob(name, digest)
    }

    fn description(&self, name: &RepositoryName) -> Result<Option<String>, StoreError> {
        super::search::description(self, name)
    }
}

/// All sources, in the order in which they are asked.
#[derive(Clone)]
pub struct Sources(Vec<Arc<dyn Source>>);

impl Sources {
    /// Puts the repositories first.
    pub fn new(repositories: Arc<Repositories>, more: Vec<Arc<dyn Source>>) -> Sources {
        let mut all: Vec<Arc<dyn Source>> = vec![repositories];
        all.extend(more);
        Sources(all)
    }

    fn first<T>(
        &self,
        ask: impl Fn(&dyn Source) -> Result<Option<T>, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        for source in &self.0 {
            if let Some(found) = ask(&**source)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Lists the repositories of all, sorted by bytes.
    pub fn repositories(&self) -> Result<BTreeSet<String>, StoreError> {
        let mut all = BTreeSet::new();
        for source in &self.0 {
            all.extend(source.repositories()?.iter().map(ToString::to_string));
        }
        Ok(all)
    }

    /// Lists the tags that a repository has in any of them, sorted by bytes.
    pub fn tags(&self, name: &RepositoryName) -> Result<Option<BTreeSet<String>>, StoreError> {
        let mut all = None;
        for source in &self.0 {
            if let Some(tags) = source.tags(name)? {
                let all = all.get_or_insert_with(BTreeSet::new);
                all.extend(tags.iter().map(|tag| tag.as_str().to_owned()));
            }
        }
        Ok(all)
    }

    /// Tells whether there is such a repository.
    pub fn knows(&self, name: &RepositoryName) -> Result<bool, StoreError> {
        Ok(self.first(|source| source.tags(name))?.is_some())
    }

    /// Returns a manifest.
    pub fn manifest(
        &self,
        name: &RepositoryName,
        which: &ManifestName,
    ) -> Result<Option<StoredManifest>, StoreError> {
        self.first(|source| source.manifest(name, which))
    }

    /// Opens a manifest's bytes where they are part of a file of their own.
    pub fn manifest_file(
        &self,
        name: &RepositoryName,
        digest: &ContentDigest,
    ) -> Result<Option<ManifestFile>, StoreError> {
        self.first(|source| source.manifest_file(name, digest))
    }

    /// Opens a blob; `claim`: for somebody who will rely on it.
    pub fn blob(
        &self,
        name: &RepositoryName,
        digest: &ContentDigest,
        claim: bool,
    ) -> Result<Option<OpenBlob>, StoreError> {
        self.first(|source| match claim {
            true => source.claim(name, digest),
            false => source.blob(name, digest),
        })
    }

    /// Returns in words what a repository is, if it says so.
    pub fn description(&self, name: &RepositoryName) -> Result<Option<String>, StoreError> {
        self.first(|source| source.description(name))
    }

    /// Gives the repositories a blob that another source has in this repository; tells whether one has.
    ///
    /// Who was told that it is there does not send it, and a manifest that is pushed needs it.
    pub fn adopt(
        &self,
        repositories: &Arc<Repositories>,
        name: &RepositoryName,
        digest: &ContentDigest,
    ) -> Result<bool, StoreError> {
        for source in self.0.iter().skip(1) {
            if let Some(blob) = source.blob(name, digest)? {
                return copy(repositories, name, digest, blob);
            }
        }
        Ok(false)
    }
}

fn copy(
    repositories: &Arc<Repositories>,
    name: &RepositoryName,
    digest: &ContentDigest,
    mut blob: OpenBlob,
) -> Result<bool, StoreError> {
    let id = repositories.start_upload(name)?;
    let OpenUpload::Open(mut upload) = repositories.upload(name, &id)? else { return Ok(false) };
    upload.expect(digest.algorithm());
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match blob.file.read(&mut buffer) {
            Ok(0) => return Ok(upload.finish(digest)? == FinishedUpload::Done),
            Ok(count) => {
                if let Err(e) = upload.write(&buffer[..count]) {
                    // A full disk: nobody knows the id of what is there.
                    let _ = upload.cancel();
                    return Err(e);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => {
                upload.cancel()?;
                return Err(StoreError::Broken { entry: format!("blob {digest}"), why: e.to_string() });
            }
        }
    }
}
