//! Manifests and indexes that somebody else wrote: read, checked for what they claim to be, chosen from.
//!
//! OCI image-spec (manifest.md, image-index.md) and docker's image manifest version 2, schema 2. Not
//! here: fetching them, and the digests of their bytes.

use serde_json::Value;

use crate::image::{Descriptor, ImageIndex, ImageManifest, Platform};

use super::ContentError;

/// The most bytes of an index, a manifest or a config (the distribution-spec advises 4 MiB).
pub const METADATA_LIMIT: u64 = 8 << 20;

/// The most layers and entries that are looked at.
const MOST_ENTRIES: usize = 10_000;

const MANIFEST_TYPES: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const INDEX_TYPES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];

/// What a document turned out to be.
#[derive(Debug, Clone)]
pub enum Document {
    Manifest(Box<ImageManifest>),
    Index(Box<ImageIndex>),
}

/// Reads a manifest or an index.
///
/// `media_type` is what whoever handed it over says it is (a Content-Type, the media type of a
/// descriptor). A document that says otherwise, or that could be read as either, is refused: two
/// readers must not see two images in the same bytes (CVE-2021-41190).
pub fn read_document(bytes: &[u8], media_type: Option<&str>) -> Result<Document, ContentError> {
    let bad = |why: String| ContentError::Manifest(why);
    let value: Value =
        serde_json::from_slice(bytes).map_err(|e| bad(format!("the manifest cannot be read: {e}")))?;
    let own = value.get("mediaType").and_then(Value::as_str);
    // Parameters of a Content-Type (`; charset=utf-8`) are not part of the type.
    let given =
        media_type.map(|text| text.split(';').next().unwrap_or("").trim()).filter(|text| is_known(text));
    if let (Some(own), Some(given)) = (own, given)
        && own != given
    {
        return Err(bad(format!("the manifest says it is `{own}`, and it was given as `{given}`")));
    }
    if value.get("schemaVersion").and_then(Value::as_i64) == Some(1) {
        let why =
            "the image has a manifest of schema version 1, which docker and registries gave up; push it anew";
        return Err(bad(why.to_owned()));
    }
    let (as_manifest, as_index) =
        (value.get("config").is_some() || value.get("layers").is_some(), value.get("manifests").is_some());
    if as_manifest && as_index {
        return Err(bad("the manifest is an index and an image at once".to_owned()));
    }
    let kind = given.or(own);
    let is_index = match kind {
        Some(kind) if INDEX_TYPES.contains(&kind) => true,
        Some(kind) if MANIFEST_TYPES.contains(&kind) => false,
        _ => as_index,
    };
    if (is_index && as_manifest) || (!is_index && as_index) {
        return Err(bad(format!("the manifest has not the fields of `{}`", kind.unwrap_or_default())));
    }
    let unreadable = |e: serde_json::Error| bad(format!("the manifest cannot be read: {e}"));
    let too_many = |count: usize| match count > MOST_ENTRIES {
        true => Err(bad(format!("the manifest has {count} entries, more than {MOST_ENTRIES}"))),
        false => Ok(()),
    };
    match is_index {
        true => {
            let index: ImageIndex = serde_json::from_value(value).map_err(unreadable)?;
            too_many(index.manifests().len())?;
            Ok(Document::Index(Box::new(index)))
        }
        false => {
            let manifest: ImageManifest = serde_json::from_value(value).map_err(unreadable)?;
            too_many(manifest.layers().len())?;
            Ok(Document::Manifest(Box::new(manifest)))
        }
    }
}

fn is_known(media_type: &str) -> bool {
    MANIFEST_TYPES.contains(&media_type) || INDEX_TYPES.contains(&media_type)
}

/// Tells whether a media type is that of a layer that can be unpacked: a tar, plain, gzip or zstd.
pub fn is_layer_type(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.oci.image.layer.v1.tar")
        || media_type.starts_with("application/vnd.oci.image.layer.nondistributable.v1.tar")
        || media_type.starts_with("application/vnd.docker.image.rootfs.diff.tar")
        || media_type.starts_with("application/vnd.docker.image.rootfs.foreign.diff.tar")
}

/// Chooses the entry of an index for a platform: of the same variant where there is one, else any.
///
/// An entry without a platform fits all. Attestations (platform `unknown/unknown`) fit none.
pub fn choose<'a>(
    entries: impl IntoIterator<Item = &'a Descriptor>,
    platform: &Platform,
) -> Option<&'a Descriptor> {
    let is_for = |descriptor: &&Descriptor| match descriptor.platform() {
        None => true,
        Some(there) => {
            there.os().to_string() == platform.os && there.architecture().to_string() == platform.architecture
        }
    };
    let fitting: Vec<&Descriptor> = entries.into_iter().filter(is_for).collect();
    let exactly = |descriptor: &&&Descriptor| {
        descriptor.platform().as_ref().is_some_and(|there| {
            let text = format!("{}/{}", there.os(), there.architecture());
            let text = there.variant().as_ref().map_or(text.clone(), |variant| format!("{text}/{variant}"));
            text.parse::<Platform>().is_ok_and(|there| there == *platform)
        })
    };
    fitting.iter().find(exactly).or(fitting.first()).copied()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn descriptor(kind: &str) -> Value {
        json!({"mediaType": kind, "digest": format!("sha256:{}", "0".repeat(64)), "size": 2})
    }

    #[test]
    fn a_document_is_one_thing() {
        let config = descriptor("application/vnd.oci.image.config.v1+json");
        let [manifest_type, docker_manifest] = MANIFEST_TYPES;
        let [index_type, _] = INDEX_TYPES;
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": []});
        let index = json!({"schemaVersion": 2, "manifests": []});
        let with = |value: &Value, key: &str, new: Value| {
            let mut value = value.clone();
            value[key] = new;
            value
        };
        let check = |value: &Value, given: Option<&str>, expect: &str| {
            let found = match read_document(value.to_string().as_bytes(), given) {
                Ok(Document::Manifest(_)) => "manifest".to_owned(),
                Ok(Document::Index(_)) => "index".to_owned(),
                Err(error) => error.to_string(),
            };
            assert!(found.contains(expect), "{value} {given:?}: {found}");
        };
        check(&manifest, None, "manifest");
        check(&manifest, Some(docker_manifest), "manifest");
        check(&manifest, Some("text/plain"), "manifest");
        check(&manifest, Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"), "manifest");
        check(&index, None, "index");
        check(&with(&index, "mediaType", json!(index_type)), Some(index_type), "index");
        check(&manifest, Some(index_type), "has not the fields");
        check(&index, Some(manifest_type), "has not the fields");
        check(&with(&index, "mediaType", json!(index_type)), Some(manifest_type), "it was given as");
        check(&with(&manifest, "manifests", json!([])), None, "at once");
        check(&with(&manifest, "manifests", json!([])), Some(manifest_type), "at once");
        check(&json!({"schemaVersion": 1, "fsLayers": []}), None, "schema version 1");
        check(&json!({}), None, "cannot be read");
        check(&json!([]), None, "cannot be read");
        let many = json!(vec![descriptor(manifest_type); MOST_ENTRIES + 1]);
        check(&with(&index, "manifests", many), None, "more than");
    }

    #[test]
    fn the_nearest_platform_is_chosen() {
        let entry = |platform: Option<(&str, &str, Option<&str>)>, size: u64| -> Descriptor {
            let mut value = descriptor("application/vnd.oci.image.manifest.v1+json");
            value["size"] = json!(size);
            if let Some((os, architecture, variant)) = platform {
                value["platform"] = json!({"os": os, "architecture": architecture});
                if let Some(variant) = variant {
                    value["platform"]["variant"] = json!(variant);
                }
            }
            serde_json::from_value(value).unwrap()
        };
        let entries = [
            entry(Some(("linux", "arm", Some("v6"))), 1),
            entry(Some(("linux", "arm", Some("v7"))), 2),
            entry(Some(("linux", "arm64", Some("v8"))), 3),
            entry(Some(("unknown", "unknown", None)), 4),
            entry(Some(("linux", "amd64", None)), 5),
        ];
        let check = |platform: &str, expect: Option<u64>| {
            let chosen = choose(&entries, &platform.parse().unwrap()).map(Descriptor::size);
            assert_eq!(chosen, expect, "{platform}");
        };
        check("linux/arm/v7", Some(2));
        check("linux/arm/v5", Some(1));
        check("linux/arm64", Some(3));
        check("linux/amd64", Some(5));
        check("linux/riscv64", None);
        assert_eq!(choose(&[entry(None, 9)], &"linux/amd64".parse().unwrap()).map(Descriptor::size), Some(9));
    }
}
