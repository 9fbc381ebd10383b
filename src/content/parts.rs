//! An image of the store as what leaves: its manifest, its config, its layers.
//!
//! Not here: layers themselves (`pack`), indexes of several images, where it all goes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::image::{Digest, ImageManifest, MediaType};
use crate::store::{Store, StoredImage};

use super::manifest::{Document, read_document};
use super::pack::{Blob, Layer};
use super::{ContentError, is_layer_type};

/// What a manifest says besides its parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ManifestOptions {
    /// Docker's media types (schema 2) instead of OCI's; zstd layers have none there.
    pub docker_types: bool,
    pub annotations: BTreeMap<String, String>,
}

/// Returns the config of an image as a blob: its digest is the image's id.
pub fn config_blob(image: &StoredImage, options: &ManifestOptions) -> Blob {
    let media_type = match options.docker_types {
        true => MediaType::Other("application/vnd.docker.container.image.v1+json".to_owned()),
        false => MediaType::ImageConfig,
    };
    Blob::of_bytes(image.config_bytes.clone(), media_type)
}

/// Makes the manifest of a config and layers; equal parts are equal bytes.
pub fn manifest_blob(config: &Blob, layers: &[Blob], options: &ManifestOptions) -> Blob {
    let media_type = match options.docker_types {
        true => MediaType::Other("application/vnd.docker.distribution.manifest.v2+json".to_owned()),
        false => MediaType::ImageManifest,
    };
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": config.descriptor(),
        "layers": layers.iter().map(|layer| layer_descriptor(layer, options)).collect::<Vec<_>>(),
    });
    if !options.annotations.is_empty() {
        manifest["annotations"] = json!(options.annotations);
    }
    // The keys of a `Value` are sorted.
    let bytes = serde_json::to_vec(&manifest).expect("JSON values are JSON");
    Blob::of_bytes(bytes, media_type)
}

fn layer_descriptor(layer: &Blob, options: &ManifestOptions) -> Value {
    let mut descriptor = layer.descriptor();
    if options.docker_types {
        let kind = match &layer.media_type {
            MediaType::ImageLayer => Some("application/vnd.docker.image.rootfs.diff.tar"),
            MediaType::ImageLayerGzip => Some("application/vnd.docker.image.rootfs.diff.tar.gzip"),
            _ => None,
        };
        if let Some(kind) = kind {
            descriptor["mediaType"] = kind.into();
        }
    }
    descriptor
}

/// Returns the parts of an image that came from elsewhere, as they came: manifest, config, layers.
///
/// `None` where it was built here, or where the very bytes of a layer are not at hand.
pub fn original_parts(
    store: &Store,
    image: &StoredImage,
) -> Result<Option<(Blob, Blob, Vec<Blob>)>, ContentError> {
    let Some(bytes) = &image.manifest else { return Ok(None) };
    let Ok(Document::Manifest(manifest)) = read_document(bytes, None) else { return Ok(None) };
    let digest = |text: &str| text.parse::<Digest>().ok();
    if digest(manifest.config().digest().as_ref()) != Some(image.id.0)
        || manifest.layers().len() != image.layers.len()
    {
        return Ok(None);
    }
    let mut layers = Vec::with_capacity(image.layers.len());
    for (id, descriptor) in image.layers.iter().zip(manifest.layers()) {
        let Some(wanted) = digest(descriptor.digest().as_ref()) else { return Ok(None) };
        let kind = descriptor.media_type().to_string();
        let layer = Layer::find(store, &image.id, id)?;
        match layer.as_it_was(store, &wanted, descriptor.size(), descriptor.media_type())? {
            Some(blob) if is_layer_type(&kind) => layers.push(blob),
            _ => return Ok(None),
        }
    }
    let config = Blob::of_bytes(image.config_bytes.clone(), manifest.config().media_type().clone());
    Ok(Some((Blob::of_bytes(bytes.clone(), media_type(&manifest)), config, layers)))
}

fn media_type(manifest: &ImageManifest) -> MediaType {
    let of_docker = |kind: &MediaType| kind.to_string().starts_with("application/vnd.docker.");
    match manifest.media_type() {
        Some(kind) => kind.clone(),
        None if of_docker(manifest.config().media_type()) => {
            MediaType::Other("application/vnd.docker.distribution.manifest.v2+json".to_owned())
        }
        None => MediaType::ImageManifest,
    }
}
