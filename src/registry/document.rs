//! What makes a manifest acceptable before anyone looks for layers in it.
//!
//! A document that can be read in two ways is refused, since two programs would then see two images
//! under one digest (CVE-2021-41190). Not here: the meaning of manifests and indexes (`content`).

use serde_json::Value;

use super::error::RegistryError;
use crate::image::Digest;

/// The longest manifest that is taken (distribution-spec: registries should take 4 MiB).
pub const MANIFEST_LIMIT: u64 = 4 * 1024 * 1024;

/// A manifest or index as it came, its digest computed from its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    pub bytes: Vec<u8>,
    pub media_type: String,
    pub digest: Digest,
}

/// What a registry says of a manifest without sending it; checked by nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub digest: Digest,
    pub media_type: String,
    pub size: u64,
}

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// What is asked for, in the order of `Accept`.
pub const ACCEPTED: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

/// Checks that a document is of one kind, and returns its media type.
///
/// `content_type` is the header's value; one that is no type of manifests (`text/plain`) says nothing.
/// Errors: not a JSON object, of the old schema 1, both manifest and index, or of another kind than
/// it is said to be.
pub fn media_type(bytes: &[u8], content_type: Option<&str>) -> Result<String, RegistryError> {
    let refuse = |why: &str| RegistryError::Manifest { why: why.to_owned() };
    let announced = content_type
        .map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
        .filter(|value| value.starts_with("application/vnd."));
    let document: Value =
        serde_json::from_slice(bytes).map_err(|e| refuse(&format!("it is not JSON ({e})")))?;
    let Value::Object(fields) = &document else { return Err(refuse("it is not a JSON object")) };
    if fields.get("schemaVersion").and_then(Value::as_u64) == Some(1) {
        return Err(refuse("it is of docker's schema 1, which is no longer in use"));
    }
    let has = |name: &str| fields.get(name).is_some_and(|value| !value.is_null());
    let (is_index, is_manifest) = (has("manifests"), has("layers") || has("config"));
    if is_index && is_manifest {
        return Err(refuse("it is a manifest and an index at once"));
    }
    if has("fsLayers") {
        return Err(refuse("it is of docker's schema 1, which is no longer in use"));
    }
    let own = match fields.get("mediaType") {
        None | Some(Value::Null) => None,
        Some(Value::String(own)) => Some(own.as_str()),
        Some(_) => return Err(refuse("its mediaType is not text")),
    };
    if let (Some(own), Some(announced)) = (own, &announced)
        && !own.eq_ignore_ascii_case(announced)
    {
        return Err(refuse("the server says it is of another media type than it says itself"));
    }
    let found = match (own.map(str::to_owned).or(announced), is_index, is_manifest) {
        (Some(found), ..) => found,
        (None, true, _) => OCI_INDEX.to_owned(),
        (None, _, true) => OCI_MANIFEST.to_owned(),
        _ => return Err(refuse("it is neither a manifest nor an index")),
    };
    match (found.as_str(), is_index, is_manifest) {
        (OCI_INDEX | DOCKER_LIST, _, true) => Err(refuse("it is called an index, but is a manifest")),
        (OCI_MANIFEST | DOCKER_MANIFEST, true, _) => Err(refuse("it is called a manifest, but is an index")),
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(document: &str, content_type: Option<&str>, expect: Result<&str, &str>) {
        match (media_type(document.as_bytes(), content_type), expect) {
            (Ok(found), Ok(expect)) => assert_eq!(found, expect, "{document}"),
            (Err(error), Err(expect)) => {
                let text = error.to_string();
                assert!(text.contains(expect), "{document}: {text}");
            }
            (found, _) => panic!("{document}: {found:?}"),
        }
    }

    #[test]
    fn takes_what_is_of_one_kind() {
        check(r#"{"layers":[],"config":{}}"#, Some(OCI_MANIFEST), Ok(OCI_MANIFEST));
        check(r#"{"layers":[],"config":{}}"#, None, Ok(OCI_MANIFEST));
        check(r#"{"manifests":[]}"#, Some("text/plain; charset=utf-8"), Ok(OCI_INDEX));
        check(r#"{"manifests":[],"layers":null}"#, Some(DOCKER_LIST), Ok(DOCKER_LIST));
        let own = format!(r#"{{"mediaType":"{DOCKER_MANIFEST}","layers":[]}}"#);
        check(&own, None, Ok(DOCKER_MANIFEST));
        check(&own, Some(&format!("{DOCKER_MANIFEST}; charset=utf-8")), Ok(DOCKER_MANIFEST));
        check(r#"{"blobs":[]}"#, Some("application/vnd.x.y+json"), Ok("application/vnd.x.y+json"));
    }

    #[test]
    fn refuses_what_can_be_read_in_two_ways() {
        check(r#"{"layers":[],"manifests":[]}"#, Some(OCI_INDEX), Err("at once"));
        check(r#"{"config":{},"manifests":[]}"#, None, Err("at once"));
        check(r#"{"layers":[]}"#, Some(OCI_INDEX), Err("called an index"));
        check(r#"{"manifests":[]}"#, Some(DOCKER_MANIFEST), Err("called a manifest"));
        let own = format!(r#"{{"mediaType":"{OCI_MANIFEST}","layers":[]}}"#);
        check(&own, Some(OCI_INDEX), Err("another media type"));
        check(r#"{"mediaType":7}"#, None, Err("not text"));
        check(r#"{"schemaVersion":1,"fsLayers":[]}"#, None, Err("schema 1"));
        check(r#"{"fsLayers":[]}"#, Some(OCI_MANIFEST), Err("schema 1"));
        check("{}", None, Err("neither"));
        check("[]", None, Err("JSON object"));
        check("", None, Err("not JSON"));
        check("\u{feff}{}", None, Err("not JSON"));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(document in ".*", content_type in proptest::option::of(".*")) {
            let _ = media_type(document.as_bytes(), content_type.as_deref());
        }
    }
}
