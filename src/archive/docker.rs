//! Images in docker's own form of archive: `manifest.json` beside configs and layers.
//!
//! The format: docker's image-spec v1.2, "Combined Image JSON + Filesystem Changeset Format". Layers are
//! named by path, plain or compressed; which they are is told by the DiffIDs of the config alone. Not
//! here: OCI layouts (`layout`), unpacking the layers (`load`).

use std::io::Read;

use serde::Deserialize;

use crate::content::METADATA_LIMIT;
use crate::image::{DiffId, Digest, Platform, Reference};
use crate::layer::{Compression, Packing};

use super::ArchiveError;
use super::files::{Files, bad, clean_name};
use super::planned::{PlannedImage, PlannedLayer, checked_config};

/// The most images of one archive.
const MOST_IMAGES: usize = 10_000;

#[derive(Deserialize)]
struct Item {
    #[serde(rename = "Config")]
    config: String,
    #[serde(default, rename = "RepoTags")]
    names: Option<Vec<String>>,
    #[serde(default, rename = "Layers")]
    layers: Option<Vec<String>>,
}

/// Reads `manifest.json`; `None` where there is none.
fn items(files: &dyn Files) -> Result<Option<Vec<Item>>, ArchiveError> {
    let Some(bytes) = files.small("manifest.json", METADATA_LIMIT)? else { return Ok(None) };
    let items: Vec<Item> = serde_json::from_slice(&bytes)
        .map_err(|e| bad(format!("its file `manifest.json` cannot be read: {e}")))?;
    match items.len() > MOST_IMAGES {
        true => Err(bad(format!("it has more than {MOST_IMAGES} images"))),
        false => Ok(Some(items)),
    }
}

/// Returns the digests of the configs that `manifest.json` names; nothing where there is none.
pub(super) fn configs(files: &dyn Files) -> Result<Vec<Digest>, ArchiveError> {
    let items = items(files)?.unwrap_or_default();
    items.iter().map(|item| Ok(Digest::of(config(files, item)?))).collect()
}

/// Returns all images with their names; `None` where the files are no archive of this form.
pub(super) fn images(
    files: &dyn Files,
    platform: Option<&Platform>,
) -> Result<Option<Vec<PlannedImage>>, ArchiveError> {
    let Some(items) = items(files)? else {
        return match files.open("repositories")? {
            None => Ok(None),
            Some(_) => {
                Err(bad("it was written by a docker before version 1.10, in a form that is not read; \
                 load it with a docker of today and save it again"))
            }
        };
    };
    let mut images = Vec::new();
    for item in items {
        let config = config(files, &item)?;
        let names = item.layers.unwrap_or_default();
        let diff_ids = checked_config(&config, names.len(), platform)?;
        let layers = names.iter().zip(diff_ids).map(|(name, diff_id)| layer(files, name, diff_id));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let mut image = PlannedImage::new(config, None, layers);
        for name in item.names.unwrap_or_default() {
            let name: Reference = name.parse().map_err(|e| bad(format!("it has a bad name: {e}")))?;
            if name.tag().is_none() || name.digest().is_some() {
                return Err(bad(format!("it has a bad name: `{name}` has no tag")));
            }
            if !image.names.contains(&name) {
                image.names.push(name);
            }
        }
        image.add_to(&mut images);
    }
    Ok(Some(images))
}

/// Reads a config. Where its file's name is a digest, it has it.
fn config(files: &dyn Files, item: &Item) -> Result<Vec<u8>, ArchiveError> {
    let name = clean_name(&item.config)?;
    let bytes = files.small(&name, METADATA_LIMIT)?;
    let bytes = bytes.ok_or_else(|| bad(format!("its file `{name}` is missing")))?;
    match digest_in(&name).is_none_or(|digest| digest == Digest::of(&bytes)) {
        true => Ok(bytes),
        false => Err(bad(format!("its config `{name}` has other bytes than its name says"))),
    }
}

/// Returns the digest that a config's or a blob's name is made of.
fn digest_in(name: &str) -> Option<Digest> {
    let last = name.rsplit('/').next()?;
    let hex = last.strip_suffix(".json").unwrap_or(last);
    Digest::from_hex(hex).ok()
}

/// Finds out which bytes a layer must have.
fn layer(files: &dyn Files, name: &str, diff_id: DiffId) -> Result<PlannedLayer, ArchiveError> {
    let file = clean_name(name)?;
    let mut opened = files.named(&file)?;
    let unreadable = |e| bad(format!("its layer `{file}` cannot be read: {e}"));
    let mut start = Vec::new();
    opened.reader.by_ref().take(16).read_to_end(&mut start).map_err(unreadable)?;
    let digest = match Packing::sniff(&start) {
        Packing::Layer(Compression::None) => diff_id.0,
        _ => match digest_in(&file).filter(|_| file.starts_with("blobs/sha256/")) {
            Some(digest) => digest,
            // Of a compressed layer nothing else tells the digest.
            None => {
                let (digest, size) =
                    Digest::of_reader(start.as_slice().chain(opened.reader)).map_err(unreadable)?;
                return Ok(PlannedLayer { file, digest, size, diff_id });
            }
        },
    };
    Ok(PlannedLayer { file, digest, size: opened.size, diff_id })
}
