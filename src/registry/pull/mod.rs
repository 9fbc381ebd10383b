//! Images from registries into the store.
//!
//! `resolve` asks what a reference stands for and chooses a platform, `layers` receives what is missing,
//! several at once, `rest` is a blob whose connection may break, `error` the words of what can go wrong.
//! Everything is checked against the digest it was named by before anything is made of it. Not here: how a
//! layer is verified and unpacked (`content`), requests (`registry`).

mod error;
mod layers;
mod resolve;
mod rest;

use std::fmt;
use std::io::Read as _;
use std::sync::Arc;

pub use error::PullError;
pub use resolve::{Resolved, resolve};

use super::registries::Registries;
use super::repository::Repository;
use crate::content::METADATA_LIMIT;
use crate::image::{Descriptor, Digest, ImageConfig, ImageId, Platform, Reference};
use crate::report::Transfer;
use crate::store::{ImageRecord, PARTIAL_KEPT, Store, StoreError};

/// Says whether the caller gave up; asked by several threads.
pub type Cancelled<'a> = &'a (dyn Fn() -> bool + Sync);

/// What a pull says while it goes on; shown in docker's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullEvent {
    /// A tag, or a digest, of a repository begins.
    Pulling { which: String, repository: String },
    /// So many bytes of a layer have come, of so many; told now and then, by several threads.
    Bytes { digest: Digest, done: u64, total: u64 },
    /// A layer is there; told in the order of the layers.
    Layer { digest: Digest, was_there: bool },
    /// What the reference stands for: of an image for several platforms, the index.
    Digest(Digest),
    /// It is done; `newer` tells whether the name stood for something else before, or for nothing.
    Status { name: String, newer: bool },
}

impl fmt::Display for PullEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PullEvent::Pulling { which, repository } => write!(f, "{which}: Pulling from {repository}"),
            PullEvent::Bytes { digest, done, total } => {
                write!(f, "{}: Downloading {done}/{total}", &digest.hex()[..12])
            }
            PullEvent::Layer { digest, was_there } => {
                let short = digest.hex();
                let what = if *was_there { "Already exists" } else { "Pull complete" };
                write!(f, "{}: {what}", &short[..12])
            }
            PullEvent::Digest(digest) => write!(f, "Digest: {digest}"),
            PullEvent::Status { name, newer: true } => {
                write!(f, "Status: Downloaded newer image for {name}")
            }
            PullEvent::Status { name, newer: false } => write!(f, "Status: Image is up to date for {name}"),
        }
    }
}

impl PullEvent {
    /// Returns the bytes that it tells of, as a part of `of`; `None` where it tells of something else.
    pub fn transfer(&self, of: &Arc<str>) -> Option<Transfer> {
        let PullEvent::Bytes { digest, done, total } = self else { return None };
        let part = digest.hex()[..12].to_owned();
        Some(Transfer { of: of.clone(), part, done: *done, total: *total, ended: done >= total })
    }
}

/// An image that was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    pub image: ImageId,
    /// Whether one of its names stood for something else before, or for nothing.
    pub newer: bool,
}

/// Receives what is missing of an image and gives it names: all of them, or none after an error.
///
/// It is on the disk when this returns (unless the store was opened without syncing). `platform` is what
/// the image must be for, where the caller insists. Layers are told of as they come, nothing else.
pub fn fetch(
    registries: &Registries,
    store: &Store,
    resolved: &Resolved,
    platform: Option<&Platform>,
    names: &[Reference],
    tell: &(dyn Fn(PullEvent) + Sync),
    cancelled: Cancelled<'_>,
) -> Result<Pulled, PullError> {
    store.clear_partials(PARTIAL_KEPT)?;
    store.hold()?;
    let id = ImageId(resolve::digest_of(resolved.manifest.config())?);
    let repository = registries.repository(&resolved.reference);
    let layers = match store.image(&id) {
        // All of an image is in its id.
        Ok(image) => {
            check_platform(&resolved.reference, &image.config, platform)?;
            (image.config_bytes, image.layers)
        }
        Err(StoreError::NotFound(_) | StoreError::Broken { .. }) => {
            let bytes = config(&repository, resolved.manifest.config(), cancelled)?;
            let config: ImageConfig = serde_json::from_slice(&bytes)
                .map_err(|e| PullError::Unusable(format!("its config cannot be read: {e}")))?;
            check_platform(&resolved.reference, &config, platform)?;
            let wanted = layers::wanted(&resolved.manifest, &config)?;
            (bytes, layers::receive(&repository, store, &wanted, tell, cancelled)?)
        }
        Err(error) => return Err(error.into()),
    };
    if cancelled() {
        return Err(PullError::Cancelled);
    }
    let before = names.iter().map(|name| store.resolve(name).unwrap_or(None));
    let newer = before.collect::<Vec<_>>().iter().any(|there| *there != Some(id));
    let (config, layers) = layers;
    store.mark_used(&layers)?;
    let record = ImageRecord { config, manifest: Some(resolved.fetched.bytes.clone()), layers };
    let image = store.put_image_as(&record, names)?;
    store.sync()?;
    Ok(Pulled { image, newer })
}

/// Pulls an image as docker does: `NAME:TAG` stands for it afterwards, and `NAME@DIGEST`.
///
/// `platform` is that of an index to choose, and what any other image must be for; `None` chooses this
/// machine's and takes any.
pub fn pull(
    registries: &Registries,
    store: &Store,
    reference: &Reference,
    platform: Option<&Platform>,
    tell: &(dyn Fn(PullEvent) + Sync),
    cancelled: Cancelled<'_>,
) -> Result<Pulled, PullError> {
    let reference = reference.clone().with_default_tag();
    tell(pulling(&reference));
    let resolved = resolve(registries, &reference, platform, cancelled)?;
    let mut names = vec![resolved.by_digest()];
    names.extend(resolved.by_tag());
    // What counts is what the user wrote: the digest of a tag that moved is news of no interest.
    let before = store.resolve(&reference).unwrap_or(None);
    let pulled = fetch(registries, store, &resolved, platform, &names, tell, cancelled)?;
    tell(PullEvent::Digest(resolved.digest));
    Ok(Pulled { newer: before != Some(pulled.image), ..pulled })
}

/// Returns the first line of a pull.
pub fn pulling(reference: &Reference) -> PullEvent {
    let which = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    };
    PullEvent::Pulling { which, repository: reference.path().to_owned() }
}

/// Fetches a config and checks its digest.
fn config(
    repository: &Repository<'_>,
    descriptor: &Descriptor,
    cancelled: Cancelled<'_>,
) -> Result<Vec<u8>, PullError> {
    let (digest, size) = (resolve::digest_of(descriptor)?, descriptor.size());
    if size > METADATA_LIMIT {
        let why = format!("its config has {size} bytes, more than {} MiB", METADATA_LIMIT >> 20);
        return Err(PullError::Unusable(why));
    }
    let mut rest = rest::Rest::new(repository, digest, size, 0, cancelled);
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    if let Err(error) = rest.by_ref().take(size).read_to_end(&mut bytes) {
        return Err(match rest.failure {
            Some(failure) => PullError::of_blob(failure, cancelled),
            None => PullError::Unusable(format!("its config cannot be read: {error}")),
        });
    }
    let found = Digest::of(&bytes);
    if found != digest {
        return Err(PullError::Unusable(format!("its config is {found}, not the {digest} of its manifest")));
    }
    Ok(bytes)
}

fn check_platform(
    reference: &Reference,
    config: &ImageConfig,
    wanted: Option<&Platform>,
) -> Result<(), PullError> {
    let found = config.platform();
    match wanted {
        Some(wanted) if (&wanted.os, &wanted.architecture) != (&found.os, &found.architecture) => {
            let (name, wanted) = (reference.to_string(), wanted.to_string());
            Err(PullError::OtherPlatform { name, wanted, found: found.to_string() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_it_in_dockers_words() {
        let check = |event: PullEvent, expect: &str| assert_eq!(event.to_string(), expect);
        let digest = Digest::of("x");
        let pulling = |text: &str| super::pulling(&text.parse().unwrap());
        check(pulling("centos"), "latest: Pulling from library/centos");
        check(pulling("localhost:5000/a/b:1"), "1: Pulling from a/b");
        check(pulling(&format!("a@{digest}")), &format!("{digest}: Pulling from library/a"));
        check(PullEvent::Layer { digest, was_there: false }, "2d711642b726: Pull complete");
        check(PullEvent::Layer { digest, was_there: true }, "2d711642b726: Already exists");
        check(PullEvent::Digest(digest), &format!("Digest: {digest}"));
        let status = |newer| PullEvent::Status { name: "a:1".into(), newer };
        check(status(true), "Status: Downloaded newer image for a:1");
        check(status(false), "Status: Image is up to date for a:1");
    }
}
