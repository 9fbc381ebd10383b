//! What is written of a cache: the config of its manifest, or a key in an image's config.
//!
//! `docs/remote-cache.md` specifies it. Records have digests only: no value of an argument, a variable or
//! a secret is in them. Not here: where it lies (`place`), what of it is believed (`source`, `caches`).

use serde::{Deserialize, Serialize};

use crate::image::{CacheKey, DiffId, Digest, LayerDigest, OpDigest, SelectionDigest};

/// The media type of a cache's config.
pub const CONFIG_TYPE: &str = "application/vnd.rbuild.cache.config.v1+json";
/// The key of a cache in an image's config.
pub const INLINE_KEY: &str = "rbuild.cache.v1";

/// The version that is written and read.
const VERSION: u32 = 1;

/// All that a cache says besides its layers' bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheConfig {
    version: u32,
    /// Which layer has which blob. Empty inside an image, whose own lists say it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerEntry>,
    pub records: Vec<RecordEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selections: Vec<SelectionEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageEntry>,
}

/// A layer whose bytes are among the manifest's layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerEntry {
    pub diff_id: DiffId,
    /// Of the blob.
    pub digest: Digest,
}

/// The result of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordEntry {
    pub op: OpDigest,
    pub key: CacheKey,
    /// The instruction as it is written, for people.
    pub text: String,
    /// In milliseconds since 1970.
    pub created: i64,
    /// `None` when the step changed nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<RecordLayer>,
}

/// The layer of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordLayer {
    pub diff_id: DiffId,
    pub content: LayerDigest,
}

/// What a selection comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectionEntry {
    pub name: Digest,
    pub digest: SelectionDigest,
}

/// When an image was first made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageEntry {
    /// The digest of its config without times.
    pub identity: Digest,
    /// RFC 3339.
    pub created: String,
}

impl CacheConfig {
    /// Makes an empty one.
    pub fn new() -> CacheConfig {
        CacheConfig {
            version: VERSION,
            layers: Vec::new(),
            records: Vec::new(),
            selections: Vec::new(),
            images: Vec::new(),
        }
    }

    /// Reads what was written as the config of a cache.
    pub fn from_bytes(bytes: &[u8]) -> Result<CacheConfig, String> {
        serde_json::from_slice(bytes).map_err(|e| unreadable(&e)).and_then(CacheConfig::checked)
    }

    /// Reads what was written into an image's config.
    pub fn from_value(value: &serde_json::Value) -> Result<CacheConfig, String> {
        CacheConfig::deserialize(value).map_err(|e| unreadable(&e)).and_then(CacheConfig::checked)
    }

    fn checked(self) -> Result<CacheConfig, String> {
        match self.version {
            VERSION => Ok(self),
            other => Err(format!("it is written in version {other} of the format, and this rbuild reads 1")),
        }
    }
}

fn unreadable(error: &serde_json::Error) -> String {
    format!("its records cannot be read: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> CacheConfig {
        let digest = |text: &str| Digest::of(text);
        let record = |layer| RecordEntry {
            op: OpDigest(digest("op")),
            key: CacheKey(digest("key")),
            text: "RUN x".to_owned(),
            created: 1_700_000_000_123,
            layer,
        };
        let layer = RecordLayer { diff_id: DiffId(digest("diff")), content: LayerDigest(digest("content")) };
        CacheConfig {
            layers: vec![LayerEntry { diff_id: DiffId(digest("diff")), digest: digest("blob") }],
            records: vec![record(Some(layer)), record(None)],
            selections: vec![SelectionEntry {
                name: digest("name"),
                digest: SelectionDigest(digest("files")),
            }],
            images: vec![ImageEntry {
                identity: digest("config"),
                created: "2024-01-01T00:00:00Z".to_owned(),
            }],
            ..CacheConfig::new()
        }
    }

    /// Other machines have older and newer rbuilds: what is written today must be read for long.
    #[test]
    fn the_form_is_pinned() {
        let text = serde_json::to_string(&sample()).unwrap();
        let hex = |text: &str| Digest::of(text).to_string();
        let (op, key, diff) = (hex("op"), hex("key"), hex("diff"));
        let expect = format!(
            "{{\"version\":1,\"layers\":[{{\"diff_id\":\"{diff}\",\"digest\":\"{}\"}}],\"records\":[\
             {{\"op\":\"{op}\",\"key\":\"{key}\",\"text\":\"RUN x\",\"created\":1700000000123,\
             \"layer\":{{\"diff_id\":\"{diff}\",\"content\":\"{}\"}}}},\
             {{\"op\":\"{op}\",\"key\":\"{key}\",\"text\":\"RUN x\",\"created\":1700000000123}}],\
             \"selections\":[{{\"name\":\"{}\",\"digest\":\"{}\"}}],\
             \"images\":[{{\"identity\":\"{}\",\"created\":\"2024-01-01T00:00:00Z\"}}]}}",
            hex("blob"),
            hex("content"),
            hex("name"),
            hex("files"),
            hex("config")
        );
        assert_eq!(text, expect);
        assert_eq!(CacheConfig::from_bytes(text.as_bytes()).unwrap(), sample());
        let value = serde_json::from_str(&text).unwrap();
        assert_eq!(CacheConfig::from_value(&value).unwrap(), sample());
    }

    #[test]
    fn what_is_no_cache_is_refused() {
        let check = |text: &str, expect: &str| {
            let found = CacheConfig::from_bytes(text.as_bytes()).unwrap_err();
            assert!(found.contains(expect), "{text}: {found}");
        };
        check("", "cannot be read");
        check("{}", "cannot be read");
        check("[]", "cannot be read");
        check(r#"{"version":2,"records":[]}"#, "version 2");
        check(r#"{"version":1,"records":[{"op":"x"}]}"#, "cannot be read");
        // What a later version adds without changing the rest does not matter.
        assert!(CacheConfig::from_bytes(br#"{"version":1,"records":[],"new":1}"#).is_ok());
    }
}
