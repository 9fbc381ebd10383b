//! What a manifest that is pushed must be, and what it needs to be there.
//!
//! Bytes are kept as they come; what is read here is only who refers to what.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::RegistryError;
use super::super::document::media_type;
use super::errors::{ApiError, Code};
use crate::store::{ContentDigest, NewManifest};

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// The kinds of layers whose bytes may be elsewhere.
const ELSEWHERE: [&str; 2] =
    ["application/vnd.docker.image.rootfs.foreign", "application/vnd.oci.image.layer.nondistributable"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u64>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    annotations: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: Option<String>,
    digest: String,
    size: u64,
    #[serde(default)]
    urls: Option<Vec<String>>,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

fn invalid(why: impl Into<String>) -> ApiError {
    ApiError::new(Code::ManifestInvalid).because(why)
}

fn digest_of(descriptor: &Descriptor) -> Result<ContentDigest, ApiError> {
    // A signed number to most who read it: image-spec, descriptor.md.
    if i64::try_from(descriptor.size).is_err() {
        return Err(invalid(format!("{} bytes are more than anything has", descriptor.size)));
    }
    descriptor.digest.parse().map_err(|why| {
        invalid(format!("`{}`: {why}", descriptor.digest.chars().take(200).collect::<String>()))
    })
}

/// Reads a manifest. `digest` is that of its bytes.
pub fn read(
    bytes: Vec<u8>,
    content_type: Option<&str>,
    digest: ContentDigest,
) -> Result<NewManifest, ApiError> {
    let kind = media_type(&bytes, content_type).map_err(|error| match error {
        RegistryError::Manifest { why } if why.starts_with("the server") => {
            invalid("Content-Type and the manifest's mediaType are not the same")
        }
        RegistryError::Manifest { why } => invalid(why),
        other => invalid(other.to_string()),
    })?;
    let is_index = match kind.as_str() {
        OCI_INDEX | DOCKER_LIST => true,
        OCI_MANIFEST | DOCKER_MANIFEST => false,
        _ => return Err(invalid("manifests of this media type are not taken")),
    };
    let document: Document = serde_json::from_slice(&bytes).map_err(|e| invalid(e.to_string()))?;
    if document.schema_version != Some(2) {
        return Err(invalid("its schemaVersion must be 2"));
    }
    let (mut blobs, mut manifests) = (Vec::new(), Vec::new());
    if is_index {
        let children = document.manifests.as_ref().ok_or_else(|| invalid("it has no `manifests`"))?;
        for child in children {
            manifests.push(digest_of(child)?);
        }
    } else {
        let config = document.config.as_ref().ok_or_else(|| invalid("it has no `config`"))?;
        let layers = document.layers.as_ref().ok_or_else(|| invalid("it has no `layers`"))?;
        blobs.push(digest_of(config)?);
        for layer in layers {
            let digest = digest_of(layer)?;
            if !is_elsewhere(layer) {
                blobs.push(digest);
            }
        }
    }
    for list in [&mut blobs, &mut manifests] {
        list.sort();
        list.dedup();
    }
    let subject = document.subject.as_ref().map(digest_of).transpose()?;
    let descriptor = match subject {
        Some(_) => described(&document, &kind, &digest, bytes.len()),
        None => Vec::new(),
    };
    Ok(NewManifest { digest, media_type: kind, bytes, blobs, manifests, subject, descriptor })
}

fn is_elsewhere(layer: &Descriptor) -> bool {
    let kind = layer.media_type.as_deref().unwrap_or_default();
    layer.urls.as_ref().is_some_and(|urls| !urls.is_empty())
        && ELSEWHERE.iter().any(|known| kind.starts_with(known))
}

/// Makes the descriptor that a list of referrers has (distribution-spec, "Listing Referrers").
fn described(document: &Document, kind: &str, digest: &ContentDigest, size: usize) -> Vec<u8> {
    let mut descriptor = json!({"mediaType": kind, "digest": digest.to_string(), "size": size});
    let own = document.artifact_type.as_deref().filter(|own| !own.is_empty());
    let of_config = document.config.as_ref().and_then(|config| config.media_type.as_deref());
    if let Some(artifact) = own.or(of_config) {
        descriptor["artifactType"] = json!(artifact);
    }
    if let Some(annotations) = &document.annotations {
        descriptor["annotations"] = json!(annotations);
    }
    descriptor.to_string().into_bytes()
}

/// Finds the manifest for linux on amd64 in a list, as docker's registry does for clients that know no lists.
pub fn default_child(list: &[u8]) -> Option<ContentDigest> {
    let document: Document = serde_json::from_slice(list).ok()?;
    let children = document.manifests?;
    let wanted = |child: &&Descriptor| {
        child.platform.as_ref().is_some_and(|found| found.os == "linux" && found.architecture == "amd64")
    };
    children.iter().find(wanted).and_then(|child| child.digest.parse().ok())
}

/// Tells whether a media type is that of docker's manifest lists.
pub fn is_docker_list(kind: &str) -> bool {
    kind == DOCKER_LIST
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Algorithm;

    const HEX: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn parsed(text: &str, kind: Option<&str>) -> Result<NewManifest, String> {
        let bytes = text.replace("HEX", HEX).into_bytes();
        let digest = ContentDigest::of(Algorithm::Sha256, &bytes);
        read(bytes, kind, digest)
            .map_err(|error| String::from_utf8(error.reply().bytes().unwrap().to_vec()).unwrap())
    }

    const CONFIG: &str = r#""config":{"mediaType":"a/b","digest":"sha256:HEX","size":3}"#;

    #[test]
    fn what_is_needed_is_found() {
        let text = format!(r#"{{"schemaVersion":2,{CONFIG},"layers":[{{"digest":"sha256:HEX","size":3}}]}}"#);
        let manifest = parsed(&text, Some(OCI_MANIFEST)).unwrap();
        assert_eq!((manifest.blobs.len(), manifest.manifests.len()), (1, 0));
        assert_eq!(manifest.media_type, OCI_MANIFEST);
        let text = r#"{"schemaVersion":2,"manifests":[{"digest":"sha256:HEX","size":3}]}"#;
        let index = parsed(text, Some(DOCKER_LIST)).unwrap();
        assert_eq!((index.blobs.len(), index.manifests.len()), (0, 1));
        let foreign = format!(
            r#"{{"schemaVersion":2,{CONFIG},"layers":[{{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "digest":"sha256:{}","size":3,"urls":["https://example.com/x"]}}]}}"#,
            "0".repeat(64)
        );
        assert_eq!(parsed(&foreign, Some(DOCKER_MANIFEST)).unwrap().blobs.len(), 1);
    }

    #[test]
    fn a_referrer_is_described() {
        let subject = r#""subject":{"digest":"sha256:HEX","size":3}"#;
        let text =
            format!(r#"{{"schemaVersion":2,{CONFIG},"layers":[],{subject},"annotations":{{"k":"v"}}}}"#);
        let manifest = parsed(&text, Some(OCI_MANIFEST)).unwrap();
        let descriptor: Value = serde_json::from_slice(&manifest.descriptor).unwrap();
        assert_eq!(descriptor["artifactType"], "a/b");
        assert_eq!(descriptor["annotations"]["k"], "v");
        assert_eq!(descriptor["digest"], manifest.digest.to_string());
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        let check = |text: &str, kind: Option<&str>, expect: &str| {
            let error = parsed(text, kind).unwrap_err();
            assert!(error.contains("MANIFEST_INVALID") && error.contains(expect), "{text}: {error}");
        };
        check("", Some(OCI_MANIFEST), "not JSON");
        check("{}", Some(OCI_MANIFEST), "schemaVersion");
        check(r#"{"schemaVersion":1,"fsLayers":[]}"#, Some(DOCKER_MANIFEST), "schema 1");
        check(r#"{"schemaVersion":2}"#, Some(OCI_MANIFEST), "no `config`");
        check(r#"{"schemaVersion":2}"#, Some(OCI_INDEX), "no `manifests`");
        check(r#"{"schemaVersion":2,"x":1}"#, Some("application/vnd.x+json"), "media type");
        check(&format!(r#"{{"schemaVersion":2,{CONFIG}}}"#), Some(OCI_MANIFEST), "no `layers`");
        let twice = format!(r#"{{"schemaVersion":2,{CONFIG},"layers":[],"layers":[]}}"#);
        check(&twice, Some(OCI_MANIFEST), "duplicate");
        let other = format!(r#"{{"schemaVersion":2,{CONFIG},"layers":[{{"digest":"md5:00","size":1}}]}}"#);
        check(&other, Some(OCI_MANIFEST), "algorithms");
        let negative = r#"{"schemaVersion":2,"config":{"digest":"sha256:HEX","size":-1},"layers":[]}"#;
        check(negative, Some(OCI_MANIFEST), "-1");
        let own = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}",{CONFIG},"layers":[]}}"#);
        check(&own, Some(DOCKER_MANIFEST), "not the same");
    }
}
