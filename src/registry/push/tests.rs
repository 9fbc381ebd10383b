//! Pushes to servers that only the tests know; real registries are in `tests/it`.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::net::RetryPolicy;
use crate::net::test_server::{Answer, Asked, Server};
use crate::registry::RegistryOptions;
use crate::store::{ImageRecord, Origin, testing};

/// An image with two layers, the upper of which it has twice.
fn image(store: &Store) -> ImageId {
    let ids = [("a", "1"), ("b", "2")].map(|(name, text)| testing::layer(store, name, text));
    let layers = vec![ids[0].clone(), ids[1].clone(), ids[1].clone()];
    let mut config = crate::image::ImageConfig::empty(&crate::image::Platform::host());
    for id in &layers {
        let upper = crate::sys::RootDir::open(&store.snapshot_dir(id)).unwrap();
        let options = crate::layer::DigestOptions {
            xattrs: store.options().xattrs,
            times: crate::layer::Times::Ignore,
            below: None,
        };
        let digests = crate::layer::digest_layer(&upper, &options).unwrap();
        store.set_digests(id, &digests).unwrap();
        config.rootfs.diff_ids.push(digests.diff_id);
    }
    store.put_image(&ImageRecord { config: config.to_bytes(), manifest: None, layers }).unwrap()
}

fn registries() -> Registries {
    let retry = RetryPolicy { tries: 2, first_pause: std::time::Duration::ZERO, ..RetryPolicy::default() };
    Registries::new(RegistryOptions { retry, ..RegistryOptions::default() })
}

fn request(image: ImageId, server: &Server) -> PushRequest {
    PushRequest {
        image,
        name: format!("{}/x/y", server.host()).parse().unwrap(),
        tags: vec!["1".to_owned(), "2".to_owned()],
        packing: None,
        manifest: ManifestOptions::default(),
    }
}

/// A registry that has nothing and takes all, but as `special` says.
fn server(special: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) -> Server {
    Server::start(move |asked| {
        special(asked).unwrap_or_else(|| match asked.method.as_str() {
            "HEAD" => Answer::status(404),
            "POST" => Answer::status(202).with("Location", "/v2/x/y/blobs/uploads/1"),
            "PUT" => Answer::status(201),
            _ => Answer::status(405),
        })
    })
}

/// Pushes; returns what came of it and what was said of layers.
fn pushed(server: &Server, store: &Store, image: ImageId) -> (Result<Pushed, PushError>, Vec<LayerState>) {
    let said = Mutex::new(Vec::new());
    let progress = |_: &DiffId, state: LayerState| said.lock().unwrap().push(state);
    let result = push(store, &registries(), &request(image, server), &progress, &|| false);
    (result, said.into_inner().unwrap())
}

#[test]
fn the_tags_come_last_and_each_layer_goes_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = testing::open(directory.path());
    let id = image(&store);
    let server = server(|_| None);
    let (result, said) = pushed(&server, &store, id);
    let digest = result.unwrap().digest;
    assert_eq!(said.iter().filter(|state| **state == LayerState::Preparing).count(), 3);
    assert_eq!(said.iter().filter(|state| **state == LayerState::Pushed).count(), 2);
    let asked = server.asked();
    let puts: Vec<&str> = asked.iter().filter(|a| a.method == "PUT").map(|a| a.target.as_str()).collect();
    // Two layers and the config, then the tags.
    assert_eq!(puts.len(), 5, "{puts:?}");
    assert_eq!(puts[3..], ["/v2/x/y/manifests/1", "/v2/x/y/manifests/2"]);
    let config = id.0.to_string().replace(':', "%3A");
    assert!(puts[2].contains(&config), "{puts:?}");
    let name = format!("{}/x/y@{digest}", server.host());
    assert_eq!(store.resolve(&name.parse().unwrap()).unwrap(), Some(id));
    for layer in store.image(&id).unwrap().layers {
        let origins = store.origins(&layer).unwrap();
        assert_eq!((origins.len(), origins[0].repository.as_str()), (1, "x/y"));
    }
    // What was packed lies nowhere any more.
    assert_eq!(std::fs::read_dir(directory.path().join("v1/tmp")).unwrap().count(), 0);
}

#[test]
fn what_is_there_is_not_sent() {
    let directory = tempfile::tempdir().unwrap();
    let store = testing::open(directory.path());
    let id = image(&store);
    let server = server(|asked| (asked.method == "HEAD").then(|| Answer::status(200)));
    let (result, said) = pushed(&server, &store, id);
    result.unwrap();
    assert_eq!(said.iter().filter(|state| **state == LayerState::Exists).count(), 2);
    assert!(server.asked().iter().all(|asked| asked.method != "POST"));
}

#[test]
fn a_mount_that_is_refused_becomes_an_upload() {
    for status in [202, 401, 403, 404, 500] {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let id = image(&store);
        let server = server(move |asked| {
            let is_mount = asked.target.contains("mount=");
            is_mount.then(|| Answer::status(status).with("Location", "/v2/x/y/blobs/uploads/2"))
        });
        let layer = store.image(&id).unwrap().layers[0].clone();
        // Packed once, so that the digest is known.
        pushed(&server, &store, id).0.unwrap();
        let digest = store.packed(&layer).unwrap()[0].digest;
        for (registry, repository) in [(server.host(), "other"), ("elsewhere.example".to_owned(), "far")] {
            let origin = Origin { digest, registry, repository: repository.to_owned() };
            store.note_origin(&layer, origin).unwrap();
        }
        let (result, said) = pushed(&server, &store, id);
        result.unwrap();
        assert_eq!(said.iter().filter(|state| **state == LayerState::Pushed).count(), 2, "{status}");
        let mounts: BTreeSet<String> =
            server.asked().into_iter().map(|a| a.target).filter(|t| t.contains("mount=")).collect();
        assert_eq!(mounts.len(), 1, "{mounts:?}");
        assert!(mounts.iter().all(|target| target.contains("from=other")), "{mounts:?}");
    }
}

#[test]
fn what_a_registry_refuses_is_said_and_no_tag_is_set() {
    let check = |method: &'static str, status: u16, expect: &str| {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let id = image(&store);
        let server = server(move |asked| (asked.method == method).then(|| Answer::status(status)));
        let error = pushed(&server, &store, id).0.unwrap_err().to_string();
        assert!(error.contains(expect), "{method} {status}: {error}");
        assert!(!server.asked().iter().any(|a| a.target.contains("manifests")) || method == "PUT");
        assert!(store.tags().unwrap().is_empty());
        assert_eq!(std::fs::read_dir(directory.path().join("v1/tmp")).unwrap().count(), 0);
    };
    check("HEAD", 401, "denied");
    check("HEAD", 403, "denied");
    check("POST", 403, "denied");
    check("POST", 404, "was not found");
    check("POST", 429, "too many requests");
    check("PUT", 503, "answered 503");
    check("HEAD", 500, "answered 500");
}

#[test]
fn what_passes_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = testing::open(directory.path());
    let id = image(&store);
    let count = AtomicUsize::new(0);
    let server = server(move |asked| {
        let is_first = asked.method == "PUT" && count.fetch_add(1, Ordering::SeqCst) == 0;
        is_first.then(|| Answer::status(502))
    });
    pushed(&server, &store, id).0.unwrap();
}

#[test]
fn a_push_that_is_stopped_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let store = testing::open(directory.path());
    let id = image(&store);
    let server = server(|_| None);
    // As soon as the first layer is spoken of.
    let stop = std::sync::atomic::AtomicBool::new(false);
    let progress = |_: &DiffId, _: LayerState| stop.store(true, Ordering::SeqCst);
    let cancel = || stop.load(Ordering::SeqCst);
    let error = push(&store, &registries(), &request(id, &server), &progress, &cancel).unwrap_err();
    assert!(error.is_cancelled(), "{error:?}");
    assert!(server.asked().iter().all(|asked| asked.method == "HEAD"));
}
