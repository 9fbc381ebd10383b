//! A registry that a test asks: `rbuild registry` on a free port, and what it keeps on disk.
//!
//! `RBUILD_TEST_REGISTRY=HOST:PORT` asks another one that runs there instead; what it keeps is not looked at.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};

use super::super::common::command::Job;
use super::super::common::{TestEnv, Who, skip};
use super::client::{Reply, ask};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A running registry; it ends when dropped.
pub struct Served {
    host: String,
    folder: Option<PathBuf>,
    _job: Option<Job>,
}

/// Runs a test against a registry of its own.
#[track_caller]
pub fn with_registry(test: impl FnOnce(&Served)) {
    if let Ok(host) = std::env::var("RBUILD_TEST_REGISTRY") {
        return test(&Served { host, folder: None, _job: None });
    }
    match TestEnv::new(Who::Root) {
        Ok(env) => test(&Served::start(&env, &[])),
        Err(why) => skip(&why),
    }
}

impl Served {
    /// Starts one over the store of the test.
    #[track_caller]
    pub fn start(env: &TestEnv, args: &[&str]) -> Served {
        let job = env.rbuild(&[&["registry", "--listen", "127.0.0.1:0"], args].concat()).spawn();
        job.wait_for("Listening on ");
        let said = job.said();
        let line = said.lines().find_map(|line| line.strip_prefix("Listening on ")).expect("it was said");
        let host = line.split_once("://").expect("an address").1.to_owned();
        Served { host, folder: Some(env.store().join("v1/registry")), _job: Some(job) }
    }

    /// Returns `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Tells whether it is rbuild's own.
    pub fn is_ours(&self) -> bool {
        self.folder.is_some()
    }

    #[track_caller]
    pub fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        ask(&self.host, method, target, headers, body)
    }

    #[track_caller]
    pub fn get(&self, target: &str) -> Reply {
        self.ask("GET", target, &[], b"")
    }

    /// Starts an upload; returns its address on this server.
    #[track_caller]
    pub fn upload(&self, name: &str) -> String {
        let reply = self.ask("POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"").is(202);
        self.place(reply.need("location"))
    }

    /// Makes an absolute or relative Location a path with its query.
    pub fn place(&self, location: &str) -> String {
        let path = location.split_once("://").map_or(location, |(_, rest)| &rest[rest.find('/').unwrap()..]);
        assert!(path.starts_with('/'), "{location}");
        path.to_owned()
    }

    /// Puts a blob into a repository; returns its digest.
    #[track_caller]
    pub fn blob(&self, name: &str, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        let place = with_digest(&self.upload(name), &digest);
        self.ask("PUT", &place, &[("Content-Type", "application/octet-stream")], bytes).is(201);
        digest
    }

    /// Puts a manifest under a tag or its digest; returns the answer, which is good.
    #[track_caller]
    pub fn put(&self, name: &str, which: &str, manifest: &Value) -> Reply {
        let kind = manifest["mediaType"].as_str().unwrap_or(MANIFEST).to_owned();
        let target = format!("/v2/{name}/manifests/{which}");
        self.ask("PUT", &target, &[("Content-Type", &kind)], &bytes_of(manifest)).is(201)
    }

    /// Makes a manifest whose config and layer are in a repository; the words make it one of its own.
    #[track_caller]
    pub fn image(&self, name: &str, words: &str) -> Value {
        let (config, layer) = (config_of(words), format!("layer of {words}"));
        self.blob(name, config.as_bytes());
        self.blob(name, layer.as_bytes());
        json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor(CONFIG, config.as_bytes()),
            "layers": [descriptor(LAYER, layer.as_bytes())],
        })
    }

    /// Lists the files that it keeps, locks apart.
    pub fn kept(&self) -> BTreeSet<PathBuf> {
        let Some(folder) = &self.folder else { return BTreeSet::new() };
        let files = walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok);
        let locks = ["lock", "gate", "gc.lock"].map(|name| folder.join(name));
        files
            .filter(|e| e.file_type().is_file())
            .map(walkdir::DirEntry::into_path)
            .filter(|p| !locks.contains(p))
            .collect()
    }

    /// Checks that what is done leaves nothing behind, and takes nothing away.
    #[track_caller]
    pub fn keeps_nothing<T>(&self, act: impl FnOnce() -> T) -> T {
        let before = self.kept();
        let result = act();
        // What a connection that broke left may go after its client has.
        let since = Instant::now();
        while self.kept() != before {
            let late = since.elapsed() > Duration::from_secs(30);
            assert!(!late, "{:#?}", self.kept().symmetric_difference(&before).collect::<Vec<_>>());
            std::thread::yield_now();
        }
        result
    }
}

/// Adds a digest to the address of an upload, which may have a query.
pub fn with_digest(place: &str, digest: &str) -> String {
    let sign = if place.contains('?') { '&' } else { '?' };
    format!("{place}{sign}digest={}", digest.replace(':', "%3A"))
}

pub fn config_of(words: &str) -> String {
    json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}, "author": words}).to_string()
}

pub fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": sha256(bytes), "size": bytes.len()})
}

pub fn bytes_of(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

pub fn digest_of(value: &Value) -> String {
    sha256(&bytes_of(value))
}

pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

pub fn sha512(bytes: &[u8]) -> String {
    format!("sha512:{}", hex(&Sha512::digest(bytes)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
