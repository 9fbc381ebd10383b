//! Where a cache is read from and written to: a repository of a registry, or a directory.

use std::io::{self, Read, Write};

use serde_json::Value;

use crate::content::{Blob, METADATA_LIMIT};
use crate::image::{Digest, Reference};
use crate::registry::{Registries, Repository};
use crate::report::{Meter, Reporter};
use crate::store::Store;

use super::error::RemoteCacheError;
use super::layout::Layout;
use super::spec::{ExportTo, ImportFrom};

/// A function that tells whether to stop.
pub type Cancelled<'a> = &'a (dyn Fn() -> bool + Sync);

/// A place with what is meant there.
pub struct Place<'r> {
    whereabouts: Whereabouts<'r>,
    /// A tag or a digest.
    which: String,
}

enum Whereabouts<'r> {
    Registry(Repository<'r>),
    Local(Layout),
}

/// A manifest or an index, and what it was said to be.
pub struct Found {
    pub bytes: Vec<u8>,
    pub media_type: Option<String>,
}

impl<'r> Place<'r> {
    /// Finds the place of a cache to read.
    pub fn of_import(from: &ImportFrom, registries: &'r Registries) -> Result<Place<'r>, RemoteCacheError> {
        match from {
            ImportFrom::Registry(reference) => Ok(Place::registry(reference, registries)),
            ImportFrom::Local { src, tag, digest } => {
                let which = digest.map_or_else(|| tag.clone(), |digest| digest.to_string());
                Ok(Place { whereabouts: Whereabouts::Local(Layout::open(src)?), which })
            }
        }
    }

    /// Finds the place of a cache to write; `None` where that is the image itself.
    pub fn of_export(
        to: &ExportTo,
        registries: &'r Registries,
    ) -> Result<Option<Place<'r>>, RemoteCacheError> {
        match to {
            ExportTo::Registry(reference) => Ok(Some(Place::registry(reference, registries))),
            ExportTo::Local { dest, tag } => {
                let whereabouts = Whereabouts::Local(Layout::create(dest)?);
                Ok(Some(Place { whereabouts, which: tag.clone() }))
            }
            ExportTo::Inline => Ok(None),
        }
    }

    fn registry(reference: &Reference, registries: &'r Registries) -> Place<'r> {
        let digest = reference.digest().map(ToString::to_string);
        let which = digest.unwrap_or_else(|| reference.tag().unwrap_or("latest").to_owned());
        Place { whereabouts: Whereabouts::Registry(registries.repository(reference)), which }
    }

    /// Reads the manifest or index that is meant.
    pub fn manifest(&self, cancel: Cancelled<'_>) -> Result<Found, RemoteCacheError> {
        match &self.whereabouts {
            Whereabouts::Registry(_) => self.manifest_named(&self.which, cancel),
            Whereabouts::Local(layout) => match self.which.parse::<Digest>() {
                Ok(_) => self.manifest_named(&self.which, cancel),
                Err(_) => self.manifest_named(&layout.digest_of(&self.which)?.to_string(), cancel),
            },
        }
    }

    /// Reads a manifest that an index names.
    pub fn manifest_named(&self, which: &str, cancel: Cancelled<'_>) -> Result<Found, RemoteCacheError> {
        match &self.whereabouts {
            Whereabouts::Registry(repository) => {
                let found = repository.manifest(which, cancel)?;
                Ok(Found { bytes: found.bytes, media_type: Some(found.media_type) })
            }
            Whereabouts::Local(layout) => {
                let bad = || RemoteCacheError::Format(format!("`{which}` is not a digest"));
                let digest = which.parse().map_err(|_| bad())?;
                Ok(Found { bytes: layout.metadata(&digest)?, media_type: None })
            }
        }
    }

    /// Reads a small blob, compared with its digest and its size.
    pub fn small(
        &self,
        digest: &Digest,
        size: u64,
        cancel: Cancelled<'_>,
    ) -> Result<Vec<u8>, RemoteCacheError> {
        if size > METADATA_LIMIT {
            let why = format!("the blob {digest} of its config has {size} bytes, more than {METADATA_LIMIT}");
            return Err(RemoteCacheError::Format(why));
        }
        let mut bytes = Vec::new();
        let reader = self.open(digest, size, cancel)?;
        let read = reader.take(METADATA_LIMIT + 1).read_to_end(&mut bytes);
        read.map_err(|source| RemoteCacheError::Blob { digest: *digest, source })?;
        match Digest::of(&bytes) == *digest && bytes.len() as u64 == size {
            true => Ok(bytes),
            false => Err(RemoteCacheError::Digest { digest: *digest }),
        }
    }

    /// Opens a blob; whoever reads it compares.
    pub fn open<'a>(
        &'a self,
        digest: &Digest,
        size: u64,
        cancel: Cancelled<'a>,
    ) -> Result<Box<dyn Read + 'a>, RemoteCacheError> {
        Ok(match &self.whereabouts {
            Whereabouts::Registry(repository) => Box::new(repository.blob(digest, size, 0, cancel)?),
            Whereabouts::Local(layout) => Box::new(layout.open_blob(digest, size)?),
        })
    }

    /// Tells whether a blob need not be written.
    pub fn has(&self, digest: &Digest, size: u64, cancel: Cancelled<'_>) -> Result<bool, RemoteCacheError> {
        match &self.whereabouts {
            Whereabouts::Registry(repository) => Ok(repository.has_blob(digest, cancel)?),
            Whereabouts::Local(layout) => Ok(layout.has(digest, size)),
        }
    }

    /// Writes a blob, unless it is there; `reporter` hears of its bytes.
    pub fn put(
        &self,
        store: &Store,
        blob: &Blob,
        reporter: Option<&dyn Reporter>,
        cancel: Cancelled<'_>,
    ) -> Result<(), RemoteCacheError> {
        if self.has(&blob.digest, blob.size, cancel)? {
            return Ok(());
        }
        let of = format!("cache layer {}", blob.digest.short());
        let write = |out: &mut dyn Write| {
            let done = match reporter {
                Some(reporter) => blob.write(store, &mut Meter::new(reporter, &of, "", blob.size).of(out)),
                None => blob.write(store, out),
            };
            done.map_err(io::Error::other)
        };
        match &self.whereabouts {
            Whereabouts::Registry(repository) => {
                Ok(repository.upload_blob(&blob.digest, blob.size, &mut { write }, cancel)?)
            }
            Whereabouts::Local(layout) => layout.put(&blob.digest, &write),
        }
    }

    /// Writes a manifest under the name that is meant; its blobs must be there.
    pub fn put_manifest(
        &self,
        store: &Store,
        manifest: &Blob,
        bytes: &[u8],
        cancel: Cancelled<'_>,
    ) -> Result<(), RemoteCacheError> {
        match &self.whereabouts {
            Whereabouts::Registry(repository) => {
                repository.put_manifest(&self.which, manifest.media_type.as_ref(), bytes, cancel)?;
                Ok(())
            }
            Whereabouts::Local(layout) => {
                self.put(store, manifest, None, cancel)?;
                let descriptor: Value = manifest.descriptor();
                layout.set(&self.which, descriptor)
            }
        }
    }
}
