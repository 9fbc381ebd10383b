//! What a reference stands for: one manifest, chosen from indexes by platform.
//!
//! Not here: what the manifest names.

use super::super::document::Fetched;
use super::super::registries::Registries;
use super::{Cancelled, PullError};
use crate::content::{Document, choose, read_document};
use crate::image::{Descriptor, Digest, ImageIndex, ImageManifest, Platform, Reference};

/// How deep indexes may stand in indexes.
const MOST_INDEXES: usize = 4;

/// An image at a registry, before anything but its manifest was fetched.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// What was asked for; it has a tag, a digest, or both.
    pub reference: Reference,
    /// What the reference stands for: of an image for several platforms, the index.
    pub digest: Digest,
    /// The manifest of the one image.
    pub fetched: Fetched,
    pub(super) manifest: ImageManifest,
}

impl Resolved {
    /// Returns `NAME@DIGEST` by which the registry knows what was asked for.
    pub fn by_digest(&self) -> Reference {
        with_digest(&self.reference, &self.digest)
    }

    /// Returns `NAME@DIGEST` of the one image's own manifest.
    pub fn by_own_digest(&self) -> Reference {
        with_digest(&self.reference, &self.fetched.digest)
    }

    /// Returns `NAME:TAG`, where it was asked for by that and not by digest.
    pub fn by_tag(&self) -> Option<Reference> {
        self.reference.digest().is_none().then(|| self.reference.clone())
    }
}

fn with_digest(reference: &Reference, digest: &Digest) -> Reference {
    format!("{}@{digest}", reference.full_name()).parse().expect("a name and a digest are a reference")
}

/// Asks a registry what a reference stands for.
///
/// Of an index the entry for `platform` is chosen, for this machine's where there is none.
pub fn resolve(
    registries: &Registries,
    reference: &Reference,
    platform: Option<&Platform>,
    cancelled: Cancelled<'_>,
) -> Result<Resolved, PullError> {
    let reference = reference.clone().with_default_tag();
    let repository = registries.repository(&reference);
    let which = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    };
    let host = Platform::host();
    let platform = platform.unwrap_or(&host);
    let get = |which: &str| {
        repository.manifest(which, cancelled).map_err(|error| PullError::of_manifest(error, &reference))
    };
    let mut fetched = get(&which)?;
    let digest = fetched.digest;
    for _ in 0..MOST_INDEXES {
        let index = match document(&fetched)? {
            Document::Manifest(manifest) => {
                is_image(&manifest)?;
                return Ok(Resolved { reference, digest, fetched, manifest: *manifest });
            }
            Document::Index(index) => index,
        };
        let entry = entry(&index, &reference, platform)?;
        let next = get(&digest_of(entry)?.to_string())?;
        if next.bytes.len() as u64 != entry.size() {
            let (found, said) = (next.bytes.len(), entry.size());
            let why = format!("a manifest of its index has {found} bytes, and the index says {said}");
            return Err(PullError::Unusable(why));
        }
        if next.media_type != entry.media_type().to_string() {
            let (found, said) = (&next.media_type, entry.media_type());
            let why = format!("a manifest of its index is `{found}`, and the index says `{said}`");
            return Err(PullError::Unusable(why));
        }
        fetched = next;
    }
    Err(PullError::Unusable(format!("its indexes stand in each other more than {MOST_INDEXES} deep")))
}

fn document(fetched: &Fetched) -> Result<Document, PullError> {
    Ok(read_document(&fetched.bytes, Some(&fetched.media_type))?)
}

fn entry<'a>(
    index: &'a ImageIndex,
    reference: &Reference,
    platform: &Platform,
) -> Result<&'a Descriptor, PullError> {
    choose(index.manifests(), platform).ok_or_else(|| {
        let mut has: Vec<String> = index
            .manifests()
            .iter()
            .filter_map(|entry| entry.platform().as_ref())
            .map(|there| format!("{}/{}", there.os(), there.architecture()))
            .filter(|text| text != "unknown/unknown")
            .collect();
        has.sort();
        has.dedup();
        has.truncate(20);
        let has = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
        PullError::NoPlatform { name: reference.to_string(), platform: platform.to_string(), has }
    })
}

/// Checks that a manifest is that of a container image: registries keep other things, too.
fn is_image(manifest: &ImageManifest) -> Result<(), PullError> {
    const CONFIGS: [&str; 2] =
        ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
    let kind = manifest.config().media_type().to_string();
    match CONFIGS.contains(&kind.as_str()) {
        true => Ok(()),
        false => Err(PullError::Unusable(format!(
            "it is no container image: its config is `{kind}` (a chart, a signature, a cache?)"
        ))),
    }
}

/// Returns the digest of a descriptor; those of other algorithms than SHA-256 are refused.
pub(super) fn digest_of(descriptor: &Descriptor) -> Result<Digest, PullError> {
    let text = descriptor.digest().as_ref();
    text.parse().map_err(|e| PullError::Unusable(format!("its manifest names `{text}`: {e}")))
}
