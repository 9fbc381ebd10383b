//! A registry whose every answer the test decides: images made here, connections cut, lies.
//!
//! Speaks just enough of the distribution specification for a pull. Uses nothing of rbuild but digests.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rbuild::image::Digest;
use serde_json::{Value, json};

use super::base::Tar;
use super::http::{Answer, Asked, Body, Server};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Bytes that no compression makes small, the same for every seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    words.take(length).collect()
}

/// A layer of one file of noise.
pub fn layer(name: &str, length: usize, seed: u64) -> Vec<u8> {
    Tar::new().file(name, 0o644, noise(length, seed)).bytes()
}

/// An image as a registry has it: everything of it may be changed.
#[derive(Clone)]
pub struct Image {
    pub manifest: Value,
    /// The type the server says the manifest is.
    pub media_type: String,
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// More manifests, by digest.
    pub more: BTreeMap<String, (String, Vec<u8>)>,
}

impl Image {
    /// Makes one of uncompressed layers, for this machine's platform.
    pub fn of(layers: &[Vec<u8>]) -> Image {
        let diff_ids: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
        let architecture = rbuild::image::Platform::host().architecture;
        let config = json!({
            "architecture": architecture, "os": "linux", "config": {"Cmd": ["x"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        Image::with_config(layers, &config)
    }

    /// Makes one of a config and layers that may not fit it.
    pub fn with_config(layers: &[Vec<u8>], config: &Value) -> Image {
        let mut blobs = BTreeMap::new();
        let mut part = |bytes: &[u8], media_type: &str| {
            let digest = Digest::of(bytes).to_string();
            blobs.insert(digest.clone(), bytes.to_vec());
            json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
        };
        let config = part(config.to_string().as_bytes(), CONFIG);
        let layers: Vec<Value> = layers.iter().map(|layer| part(layer, LAYER)).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        Image { manifest, media_type: MANIFEST.to_owned(), blobs, more: BTreeMap::new() }
    }

    pub fn manifest_bytes(&self) -> Vec<u8> {
        self.manifest.to_string().into_bytes()
    }

    pub fn layer_digest(&self, index: usize) -> String {
        self.manifest["layers"][index]["digest"].as_str().unwrap().to_owned()
    }

    /// Answers a request as an honest registry with this one image does, whatever its name.
    pub fn answer(&self, asked: &Asked) -> Answer {
        let path = asked.target.split('?').next().unwrap_or_default();
        if path == "/v2/" {
            return Answer::ok("{}");
        }
        if let Some((_, which)) = path.split_once("/manifests/") {
            let own = self.manifest_bytes();
            let (media_type, bytes) = match self.more.get(which) {
                Some((media_type, bytes)) => (media_type.clone(), bytes.clone()),
                None if which == "latest" || which == Digest::of(&own).to_string() => {
                    (self.media_type.clone(), own)
                }
                None => return unknown("MANIFEST_UNKNOWN", "manifest unknown"),
            };
            let digest = Digest::of(&bytes).to_string();
            return Answer::ok(bytes)
                .with("Content-Type", &media_type)
                .with("Docker-Content-Digest", &digest);
        }
        match path.split_once("/blobs/").and_then(|(_, digest)| self.blobs.get(digest)) {
            Some(bytes) => part_of(bytes, asked, None),
            None => unknown("BLOB_UNKNOWN", "blob unknown"),
        }
    }

    /// Serves it honestly, save where `lie` has an answer of its own.
    pub fn serve(self, lie: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) -> Server {
        Server::start(move |asked| lie(asked).unwrap_or_else(|| self.answer(asked)))
    }
}

fn unknown(code: &str, message: &str) -> Answer {
    let body = json!({"errors": [{"code": code, "message": message}]}).to_string();
    Answer { status: 404, ..Answer::ok(body) }.with("Content-Type", "application/json")
}

/// Returns where a request wants a blob to begin.
pub fn offset(asked: &Asked) -> usize {
    let range = asked.header("range").and_then(|value| value.strip_prefix("bytes="));
    range.and_then(|range| range.split('-').next()).map_or(0, |start| start.parse().unwrap())
}

/// Serves the part of a blob that is asked for; of it only so many bytes, where told, and then nothing.
pub fn part_of(blob: &[u8], asked: &Asked, most: Option<usize>) -> Answer {
    let start = offset(asked);
    let Some(rest) = blob.get(start..).filter(|rest| start == 0 || !rest.is_empty()) else {
        return Answer::status(416);
    };
    let body = match most {
        Some(most) if most < rest.len() => Body::Short(rest[..most].to_vec(), rest.len() as u64),
        _ => Body::Whole(rest.to_vec()),
    };
    let answer = Answer { body, ..Answer::ok("") };
    match start {
        0 => answer,
        _ => Answer { status: 206, ..answer }
            .with("Content-Range", &format!("bytes {start}-{}/{}", blob.len() - 1, blob.len())),
    }
}

/// A registry that sends only so many bytes of blobs before it falls silent, and counts them.
pub struct Meter {
    state: Arc<(Mutex<(usize, usize)>, Condvar)>,
}

impl Meter {
    pub fn new() -> Meter {
        Meter { state: Arc::new((Mutex::new((0, 0)), Condvar::new())) }
    }

    /// Lets so many more bytes pass.
    pub fn refill(&self, bytes: usize) {
        self.state.0.lock().unwrap().0 = bytes;
    }

    /// Returns how many bytes passed since it was made.
    pub fn passed(&self) -> usize {
        self.state.0.lock().unwrap().1
    }

    /// Waits until nothing is left to pass, or `over` says yes; tells whether nothing was left.
    pub fn wait_until_empty(&self, over: impl Fn() -> bool) -> bool {
        let mut state = self.state.0.lock().unwrap();
        while state.0 > 0 && !over() {
            state = self.state.1.wait_timeout(state, Duration::from_millis(20)).unwrap().0;
        }
        state.0 == 0
    }

    /// Serves an image through it.
    pub fn serve(&self, image: Image) -> Server {
        let state = self.state.clone();
        Server::start(move |asked| {
            let blob = asked.target.split_once("/blobs/").and_then(|(_, digest)| image.blobs.get(digest));
            let Some(blob) = blob else { return image.answer(asked) };
            let rest = blob.len().saturating_sub(offset(asked));
            let most = {
                let mut state = state.0.lock().unwrap();
                let most = rest.min(state.0);
                state.0 -= most;
                state.1 += most;
                most
            };
            state.1.notify_all();
            let answer = part_of(blob, asked, Some(most));
            match answer.body {
                Body::Short(bytes, length) => Answer { body: Body::Held(bytes, length), ..answer },
                body => Answer { body, ..answer },
            }
        })
    }
}

/// Returns how many bytes a store has of blobs that are not complete, and how many such blobs.
pub fn partials(store: &Path) -> (u64, usize) {
    let Ok(entries) = std::fs::read_dir(store.join("v1/cache/partials")) else { return (0, 0) };
    let lengths: Vec<u64> = entries.filter_map(|e| Some(e.ok()?.metadata().ok()?.len())).collect();
    (lengths.iter().sum(), lengths.len())
}
