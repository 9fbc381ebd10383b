//! Manifests and tags of repositories. What a manifest says is told by who puts it; here it is bytes.
//!
//! A manifest is one file: a line of JSON with what it is and what it needs, then its bytes as they came.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use crate::sys::atomic::sync_file_system;

use super::super::StoreError;
use super::digest::ContentDigest;
use super::name::{ManifestName, RepositoryName, TagName};
use super::{Repositories, place_of, repository};

/// The longest file of a manifest: 4 MiB of bytes, and a line about them.
const LONGEST: usize = 16 << 20;

/// A manifest that is to be kept.
#[derive(Debug, Clone)]
pub struct NewManifest {
    /// Of its bytes.
    pub digest: ContentDigest,
    pub media_type: String,
    pub bytes: Vec<u8>,
    /// The blobs that must be in the repository.
    pub blobs: Vec<ContentDigest>,
    /// The manifests that must be in the repository.
    pub manifests: Vec<ContentDigest>,
    /// What it is about; need not be there.
    pub subject: Option<ContentDigest>,
    /// Its descriptor as JSON, for who asks what refers to its subject.
    pub descriptor: Vec<u8>,
}

/// A manifest as it was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredManifest {
    pub digest: ContentDigest,
    pub media_type: String,
    pub bytes: Vec<u8>,
}

/// The part of a file that is a manifest.
#[derive(Debug)]
pub struct ManifestFile {
    pub file: File,
    /// Where it begins, and how long it is, in bytes.
    pub start: u64,
    pub size: u64,
}

/// The first line of a manifest's file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Head {
    pub media_type: String,
    #[serde(default)]
    pub blobs: Vec<ContentDigest>,
    #[serde(default)]
    pub manifests: Vec<ContentDigest>,
    #[serde(default)]
    pub subject: Option<ContentDigest>,
}

/// Returns where a manifest lies.
pub(super) fn manifest_of(name: &RepositoryName, digest: &ContentDigest) -> PathBuf {
    repository(name).join("_manifests").join(place_of(digest))
}

pub(super) fn tags_of(name: &RepositoryName) -> PathBuf {
    repository(name).join("_tags")
}

impl Repositories {
    /// Keeps a manifest and gives it tags, if the repository has all that it needs; else returns what is missing.
    pub fn put_manifest(
        &self,
        name: &RepositoryName,
        manifest: &NewManifest,
        tags: &[TagName],
    ) -> Result<Vec<ContentDigest>, StoreError> {
        // Nothing that is found here is removed before the manifest needs it.
        let lock = self.shared()?;
        let mut missing = Vec::new();
        for digest in &manifest.blobs {
            if !self.touch_blob(name, digest)? {
                missing.push(digest.clone());
            }
        }
        for digest in &manifest.manifests {
            if !self.touch(&manifest_of(name, digest))? {
                missing.push(digest.clone());
            }
        }
        if !missing.is_empty() {
            return Ok(missing);
        }
        let head = Head {
            media_type: manifest.media_type.clone(),
            blobs: manifest.blobs.clone(),
            manifests: manifest.manifests.clone(),
            subject: manifest.subject.clone(),
        };
        let mut bytes = serde_json::to_vec(&head).expect("texts and lists are JSON");
        bytes.push(b'\n');
        bytes.extend_from_slice(&manifest.bytes);
        self.publish(&manifest_of(name, &manifest.digest), &bytes)?;
        if let Some(subject) = &manifest.subject {
            self.add_referrer(name, subject, &manifest.digest, &manifest.descriptor)?;
        }
        for tag in tags {
            self.publish(&tags_of(name).join(tag.as_str()), manifest.digest.to_string().as_bytes())?;
        }
        drop(lock);
        // Names of files too, before anybody is told that it is done.
        if self.sync {
            sync_file_system(&self.base).map_err(self.failed("sync", Path::new("")))?;
        }
        Ok(Vec::new())
    }

    /// Returns what a tag stands for.
    pub fn tagged(&self, name: &RepositoryName, tag: &TagName) -> Result<Option<ContentDigest>, StoreError> {
        let path = tags_of(name).join(tag.as_str());
        let Some(text) = self.read_file(&path, 256)? else { return Ok(None) };
        let digest = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
        digest.map(Some).ok_or_else(|| {
            StoreError::broken(format!("tag {name}:{}", tag.as_str()), "it does not name a digest")
        })
    }

    /// Returns a manifest; its bytes were compared with its digest.
    pub fn manifest(
        &self,
        name: &RepositoryName,
        which: &ManifestName,
    ) -> Result<Option<StoredManifest>, StoreError> {
        let digest = match which {
            ManifestName::Digest(digest) => digest.clone(),
            ManifestName::Tag(tag) => match self.tagged(name, tag)? {
                Some(digest) => digest,
                None => return Ok(None),
            },
        };
        let Some((head, bytes)) = self.read_manifest(name, &digest)? else { return Ok(None) };
        let found = ContentDigest::of(digest.algorithm(), &bytes);
        if found != digest {
            let entry = format!("manifest {name}@{digest}");
            return Err(StoreError::broken(entry, format!("its bytes have {found}")));
        }
        Ok(Some(StoredManifest { digest, media_type: head.media_type, bytes }))
    }

    /// Opens the file of a manifest: its bytes never change once they are there.
    pub fn manifest_file(
        &self,
        name: &RepositoryName,
        digest: &ContentDigest,
    ) -> Result<Option<ManifestFile>, StoreError> {
        let path = manifest_of(name, digest);
        let Some(file) = self.open_file(&path)? else { return Ok(None) };
        let size = file.metadata().map_err(self.failed("read", &path))?.len();
        let mut start = 0;
        let mut reader = BufReader::new(&file);
        loop {
            let piece = reader.fill_buf().map_err(self.failed("read", &path))?;
            if piece.is_empty() {
                return Ok(None);
            }
            let (end, count) = match piece.iter().position(|&byte| byte == b'\n') {
                Some(at) => (true, at + 1),
                None => (false, piece.len()),
            };
            reader.consume(count);
            start += count as u64;
            if end {
                return Ok(Some(ManifestFile { file, start, size: size - start }));
            }
        }
    }

    /// Reads a manifest's file.
    pub(super) fn read_manifest(
        &self,
        name: &RepositoryName,
        digest: &ContentDigest,
    ) -> Result<Option<(Head, Vec<u8>)>, StoreError> {
        let Some(mut bytes) = self.read_file(&manifest_of(name, digest), LONGEST)? else { return Ok(None) };
        let head = bytes.iter().position(|&byte| byte == b'\n').and_then(|end| {
            let head = serde_json::from_slice(&bytes[..end]).ok()?;
            bytes.drain(..=end);
            Some(head)
        });
        match head {
            Some(head) => Ok(Some((head, bytes))),
            None => Err(StoreError::broken(
                format!("manifest {name}@{digest}"),
                "its file does not start as it must",
            )),
        }
    }

    /// Removes a manifest and its tags; tells whether it was there.
    pub fn delete_manifest(&self, name: &RepositoryName, digest: &ContentDigest) -> Result<bool, StoreError> {
        let _lock = self.alone()?;
        self.remove_manifest(name, digest)
    }

    /// Removes a manifest and its tags; the caller has the lock alone.
    pub(super) fn remove_manifest(
        &self,
        name: &RepositoryName,
        digest: &ContentDigest,
    ) -> Result<bool, StoreError> {
        let subject = match self.read_manifest(name, digest) {
            Ok(Some((head, _))) => head.subject,
            Ok(None) => return Ok(false),
            // It can be removed all the same.
            Err(_) => None,
        };
        for tag in self.tags(name)?.unwrap_or_default() {
            if matches!(self.tagged(name, &tag), Ok(Some(found)) if found == *digest) {
                self.remove(&tags_of(name).join(tag.as_str()))?;
            }
        }
        if let Some(subject) = subject {
            self.remove_referrer(name, &subject, digest)?;
        }
        self.remove(&manifest_of(name, digest))
    }

    /// Removes a tag; tells whether it was there.
    pub fn delete_tag(&self, name: &RepositoryName, tag: &TagName) -> Result<bool, StoreError> {
        let _lock = self.alone()?;
        self.remove(&tags_of(name).join(tag.as_str()))
    }

    /// Lists the tags of a repository, sorted by bytes; `None` where there is no such repository.
    pub fn tags(&self, name: &RepositoryName) -> Result<Option<Vec<TagName>>, StoreError> {
        if !self.exists(&repository(name).join("_manifests"))? {
            return Ok(None);
        }
        let names = self.names(&tags_of(name), FileType::RegularFile)?;
        Ok(Some(names.iter().filter_map(|name| name.parse().ok()).collect()))
    }

    /// Lists the manifests of a repository.
    pub fn manifests(&self, name: &RepositoryName) -> Result<Vec<ContentDigest>, StoreError> {
        self.digests_in(&repository(name).join("_manifests"))
    }
}
