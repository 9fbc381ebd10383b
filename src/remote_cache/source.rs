//! One cache that is read: its manifest and its records; the bytes of layers stay where they are.
//!
//! Whatever is wrong with it is an error here, so that a build can do without it. Not here: fetching
//! layers (`caches`).

use std::collections::{HashMap, HashSet};

use crate::content::{Document, choose, is_layer_type, read_document};
use crate::image::{
    CacheKey, Descriptor, DiffId, Digest, ImageConfig, ImageManifest, OpDigest, Platform, SelectionDigest,
};

use super::error::RemoteCacheError;
use super::format::{CONFIG_TYPE, CacheConfig, INLINE_KEY, RecordEntry};
use super::place::{Cancelled, Found, Place};

/// How deep indexes may lie in each other.
const MAX_NESTING: usize = 3;

const IMAGE_CONFIG_TYPES: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// The bytes of a layer in a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerBlob {
    pub digest: Digest,
    /// In bytes, as they come.
    pub size: u64,
    pub media_type: String,
}

/// A cache that can be read.
pub struct Source<'r> {
    /// As the user named it.
    pub name: String,
    pub place: Place<'r>,
    records: HashMap<CacheKey, RecordEntry>,
    ops: HashSet<OpDigest>,
    selections: HashMap<Digest, SelectionDigest>,
    layers: HashMap<DiffId, LayerBlob>,
    created: HashMap<Digest, String>,
}

impl<'r> Source<'r> {
    /// Reads manifest and records.
    pub fn open(
        name: String,
        place: Place<'r>,
        platform: &Platform,
        cancel: Cancelled<'_>,
    ) -> Result<Source<'r>, RemoteCacheError> {
        let manifest = manifest(&place, place.manifest(cancel)?, platform, 0, cancel)?;
        let (config, layers) = contents(&place, &manifest, cancel)?;
        Ok(Source {
            name,
            place,
            ops: config.records.iter().map(|record| record.op).collect(),
            records: config.records.into_iter().map(|record| (record.key, record)).collect(),
            selections: config.selections.into_iter().map(|entry| (entry.name, entry.digest)).collect(),
            layers,
            created: config.images.into_iter().map(|entry| (entry.identity, entry.created)).collect(),
        })
    }

    /// Tells whether it has a record of an operation.
    pub fn has_op(&self, op: &OpDigest) -> bool {
        self.ops.contains(op)
    }

    /// Returns the record of a portable key.
    pub fn record(&self, op: &OpDigest, key: &CacheKey) -> Option<&RecordEntry> {
        self.records.get(key).filter(|record| record.op == *op)
    }

    /// Returns what it says of a selection.
    pub fn selection(&self, name: &Digest) -> Option<SelectionDigest> {
        self.selections.get(name).copied()
    }

    /// Returns the blob of a layer, where it has one.
    pub fn layer(&self, diff_id: &DiffId) -> Option<&LayerBlob> {
        self.layers.get(diff_id)
    }

    /// Returns when an image was first made, as it says.
    pub fn created(&self, identity: &Digest) -> Option<&str> {
        self.created.get(identity).map(String::as_str)
    }
}

fn manifest(
    place: &Place<'_>,
    found: Found,
    platform: &Platform,
    depth: usize,
    cancel: Cancelled<'_>,
) -> Result<ImageManifest, RemoteCacheError> {
    match read_document(&found.bytes, found.media_type.as_deref())? {
        Document::Manifest(manifest) => Ok(*manifest),
        Document::Index(_) if depth == MAX_NESTING => {
            Err(RemoteCacheError::Format("its indexes lie too deep in each other".to_owned()))
        }
        Document::Index(index) => {
            let none = || RemoteCacheError::Format(format!("it has nothing for {platform}"));
            let chosen = choose(index.manifests(), platform).ok_or_else(none)?;
            let mut found = place.manifest_named(&digest(chosen)?.to_string(), cancel)?;
            found.media_type.get_or_insert_with(|| chosen.media_type().to_string());
            manifest(place, found, platform, depth + 1, cancel)
        }
    }
}

/// Reads the records, and which layer has which blob.
fn contents(
    place: &Place<'_>,
    manifest: &ImageManifest,
    cancel: Cancelled<'_>,
) -> Result<(CacheConfig, HashMap<DiffId, LayerBlob>), RemoteCacheError> {
    let descriptor = manifest.config();
    let kind = descriptor.media_type().to_string();
    if kind != CONFIG_TYPE && !IMAGE_CONFIG_TYPES.contains(&kind.as_str()) {
        return Err(RemoteCacheError::Format(format!("it is no cache of rbuild, but `{kind}`")));
    }
    let bytes = place.small(&digest(descriptor)?, descriptor.size(), cancel)?;
    if kind == CONFIG_TYPE {
        let config = CacheConfig::from_bytes(&bytes).map_err(RemoteCacheError::Format)?;
        let mut blobs = HashMap::new();
        for descriptor in manifest.layers() {
            let blob = blob(descriptor)?;
            blobs.insert(blob.digest, blob);
        }
        let layer =
            |entry: &super::format::LayerEntry| Some((entry.diff_id, blobs.get(&entry.digest)?.clone()));
        let layers = config.layers.iter().filter_map(layer).collect();
        return Ok((config, layers));
    }
    let image: ImageConfig = serde_json::from_slice(&bytes)
        .map_err(|e| RemoteCacheError::Format(format!("its config cannot be read: {e}")))?;
    let inline = image.other.get(INLINE_KEY).ok_or_else(|| {
        RemoteCacheError::Format(
            "the image has no cache in it: build it with `--cache-to type=inline`".to_owned(),
        )
    })?;
    let config = CacheConfig::from_value(inline).map_err(RemoteCacheError::Format)?;
    let diff_ids = &image.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers().len() {
        return Err(RemoteCacheError::Format("its config and its manifest name different layers".to_owned()));
    }
    let mut layers = HashMap::new();
    for (diff_id, descriptor) in diff_ids.iter().zip(manifest.layers()) {
        layers.insert(*diff_id, blob(descriptor)?);
    }
    Ok((config, layers))
}

fn blob(descriptor: &Descriptor) -> Result<LayerBlob, RemoteCacheError> {
    let media_type = descriptor.media_type().to_string();
    match is_layer_type(&media_type) {
        true => Ok(LayerBlob { digest: digest(descriptor)?, size: descriptor.size(), media_type }),
        false => Err(RemoteCacheError::Format(format!("`{media_type}` is not the type of a layer"))),
    }
}

fn digest(descriptor: &Descriptor) -> Result<Digest, RemoteCacheError> {
    let text = descriptor.digest().to_string();
    text.parse().map_err(|e| RemoteCacheError::Format(format!("`{text}` is not a digest: {e}")))
}
