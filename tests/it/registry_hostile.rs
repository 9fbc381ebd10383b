//! Pulls from registries that lie, break off or never end, and pulls that are killed: nothing wrong is kept,
//! what was right is not fetched again.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use rbuild::image::Digest;
use rbuild::store::{Depth, Store, StoreOptions};
use rbuild::sys::OverlayXattrs;
use rustix::process::Signal;
use serde_json::json;

use super::common::env::run_as;
use super::common::http::{Answer, Asked, Body, Server};
use super::common::script::{
    CONFIG, INDEX, Image, LAYER, MANIFEST, Meter, layer, noise, offset, part_of, partials,
};
use super::common::{TestEnv, Who};

fn in_store(env: &TestEnv, folder: &str) -> usize {
    fs::read_dir(env.store().join("v1").join(folder)).map_or(0, Iterator::count)
}

/// Pulls from a server that lies; it must be refused with these words, and nothing stay.
#[track_caller]
fn refused(env: &TestEnv, server: &Server, expect: &[&str]) {
    let name = format!("{}/app", server.host());
    let outcome = env.rbuild(&["pull", &name]).exits(1).has_all(expect).lacks("Status:").lacks("panicked");
    for folder in ["snapshots", "images", "references", "blobs/sha256", "cache/partials", "tmp"] {
        assert_eq!(in_store(env, folder), 0, "{folder} after {outcome}");
    }
}

fn is_blob(asked: &Asked, digest: &str) -> bool {
    asked.target.ends_with(&format!("/blobs/{digest}"))
}

fn is_manifest(asked: &Asked) -> bool {
    asked.target.contains("/manifests/")
}

fn small() -> Image {
    Image::of(&[layer("a", 1000, 1)])
}

#[test]
fn a_layer_that_is_not_what_it_should_be() {
    run_as(Who::Root, |env| {
        let image = small();
        let (digest, whole) = (image.layer_digest(0), image.blobs[&image.layer_digest(0)].clone());
        let lying = |answer: Answer| {
            let digest = digest.clone();
            small().serve(move |asked| is_blob(asked, &digest).then(|| answer.clone()))
        };
        // Another tar of the same length.
        refused(
            env,
            &lying(Answer::ok(layer("b", 1000, 2))),
            &["cannot be used", "is not what its name says"],
        );
        refused(env, &lying(Answer::ok(noise(whole.len(), 3))), &["cannot unpack the archive"]);
        let longer = [&whole[..], &[0; 512]].concat();
        refused(env, &lying(Answer::ok(longer)), &["was announced with", "but the server sends"]);
        refused(env, &lying(Answer::ok(&whole[..whole.len() - 1])), &["was announced with"]);
        refused(env, &lying(Answer::bad(Body::Endless)), &["larger than", "the most that is taken"]);
        refused(env, &lying(Answer::status(404)), &["was not found"]);
        let here = lying(Answer::status(206).with("Content-Range", "bytes 7-9/10"));
        refused(env, &here, &["another part of a blob"]);
        // A size that is not that of the bytes.
        let mut sized = small();
        sized.manifest["layers"][0]["size"] = json!(whole.len() + 1);
        refused(env, &sized.serve(|_| None), &["was announced with"]);
    });
}

#[test]
fn a_config_that_is_not_what_it_should_be() {
    run_as(Who::Root, |env| {
        let layers = [layer("a", 1000, 1)];
        let architecture = rbuild::image::Platform::host().architecture;
        let config = |diff_ids: &[String]| {
            let config = json!({"architecture": architecture, "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": diff_ids}});
            Image::with_config(&layers, &config).serve(|_| None)
        };
        let other = Digest::of("other").to_string();
        refused(
            env,
            &config(std::slice::from_ref(&other)),
            &["uncompressed it is", "its config says", &other],
        );
        refused(env, &config(&[]), &["its manifest names 1 layers, and its config 0"]);
        refused(env, &config(&[other.clone(), other]), &["its manifest names 1 layers, and its config 2"]);
        refused(env, &config(&["nonsense".to_owned()]), &["its config cannot be read"]);
        let digest = small().manifest["config"]["digest"].as_str().unwrap().to_owned();
        let length = small().blobs[&digest].len();
        let lying = |answer: Answer| {
            let digest = digest.clone();
            small().serve(move |asked| is_blob(asked, &digest).then(|| answer.clone()))
        };
        refused(env, &lying(Answer::ok(vec![b' '; length])), &["its config is sha256:"]);
        refused(env, &lying(Answer::bad(Body::Endless)), &["larger than", "the most that is taken"]);
        let mut huge = small();
        huge.manifest["config"]["size"] = json!(9 << 20);
        refused(env, &huge.serve(|_| None), &["its config has 9437184 bytes, more than 8 MiB"]);
        let mut chart = small();
        chart.manifest["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json");
        refused(env, &chart.serve(|_| None), &["it is no container image", "helm"]);
    });
}

#[test]
fn a_manifest_that_is_two_things_or_none() {
    run_as(Who::Root, |env| {
        let changed = |change: &dyn Fn(&mut Image)| {
            let mut image = small();
            change(&mut image);
            image.serve(|_| None)
        };
        let check = |expect: &[&str], change: &dyn Fn(&mut Image)| refused(env, &changed(change), expect);
        check(&["at once"], &|image| image.manifest["manifests"] = json!([]));
        check(&["another media type"], &|image| image.media_type = INDEX.to_owned());
        check(&["called an index"], &|image| {
            image.media_type = INDEX.to_owned();
            image.manifest["mediaType"] = json!(INDEX);
        });
        check(&["schema 1"], &|image| image.manifest = json!({"schemaVersion": 1, "fsLayers": []}));
        check(&["the manifest cannot be read"], &|image| image.manifest = json!({}));
        check(&["encrypted"], &|image| {
            image.manifest["layers"][0]["mediaType"] = json!(format!("{LAYER}+gzip+encrypted"));
        });
        check(&["no tar"], &|image| image.manifest["layers"][0]["mediaType"] = json!("text/plain"));
        check(&["maker forbade to distribute"], &|image| {
            let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
            image.manifest["layers"][0]["mediaType"] = json!(foreign);
            let digest = image.layer_digest(0);
            image.blobs.remove(&digest);
        });
        check(&["sha512"], &|image| {
            image.manifest["layers"][0]["digest"] = json!(format!("sha512:{}", "0".repeat(128)));
        });
        refused(env, &small().serve(|asked| is_manifest(asked).then(|| Answer::bad(Body::Endless))), &[]);
        refused(
            env,
            &small().serve(|asked| is_manifest(asked).then(|| Answer::redirect(307, &asked.target))),
            &["redirects too often"],
        );
        let loops = |asked: &Asked| asked.target.contains("/blobs/");
        refused(
            env,
            &small().serve(move |asked| loops(asked).then(|| Answer::redirect(302, &asked.target))),
            &["redirects too often"],
        );
    });
}

#[test]
fn an_index_that_lies_about_its_entries() {
    run_as(Who::Root, |env| {
        let check = |expect: &[&str], depth: usize, change: &dyn Fn(&mut serde_json::Value)| {
            let mut image = small();
            let (mut kind, mut bytes) = (MANIFEST.to_owned(), image.manifest_bytes());
            for _ in 0..depth {
                let digest = Digest::of(&bytes).to_string();
                let mut entry = json!({"mediaType": kind, "digest": digest, "size": bytes.len()});
                change(&mut entry);
                image.more.insert(digest, (kind, bytes));
                let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
                (kind, bytes) = (INDEX.to_owned(), index.to_string().into_bytes());
            }
            image.more.insert("latest".to_owned(), (kind, bytes));
            match expect {
                [] => {
                    let server = image.serve(|_| None);
                    env.rbuild(&["pull", "-q", &format!("{}/app", server.host())]).ok();
                    env.rbuild(&["rmi", &format!("{}/app", server.host())]).ok();
                }
                expect => refused(env, &image.serve(|_| None), expect),
            }
        };
        check(&["the index says 7"], 1, &|entry| entry["size"] = json!(7));
        check(&["the index says"], 1, &|entry| {
            entry["mediaType"] = json!("application/vnd.docker.distribution.manifest.v2+json");
        });
        check(&["no matching manifest for"], 1, &|entry| {
            entry["platform"] = json!({"os": "plan9", "architecture": "mips"});
        });
        check(&["not found"], 1, &|entry| entry["digest"] = json!(Digest::of("x").to_string()));
        check(&["deep"], 5, &|_| {});
        check(&[], 3, &|_| {});
    });
}

/// What a registry sends under a digest it was asked by is checked, too.
#[test]
fn a_manifest_by_digest_is_that_of_the_digest() {
    run_as(Who::Root, |env| {
        let other = Digest::of("other");
        let server = small().serve(|asked| {
            let bytes = small().manifest_bytes();
            is_manifest(asked).then(|| Answer::ok(bytes).with("Content-Type", MANIFEST))
        });
        let name = format!("{}/app@{other}", server.host());
        env.rbuild(&["pull", &name]).exits(1).has("has other bytes than its digest says");
        assert_eq!(in_store(env, "images"), 0);
        let here = format!("{}/app@{}", server.host(), Digest::of(small().manifest_bytes()));
        env.rbuild(&["pull", "-q", &here]).ok().prints(&format!("{here}\n"));
        assert_eq!(CONFIG, small().manifest["config"]["mediaType"]);
    });
}

#[test]
fn a_connection_that_breaks_is_gone_on_from() {
    run_as(Who::Root, |env| {
        const PIECE: usize = 400_000;
        let image = Image::of(&[layer("a", 3 * PIECE, 1), layer("b", 1000, 2)]);
        let (digest, total) = (image.layer_digest(0), image.blobs[&image.layer_digest(0)].len());
        let blob = image.blobs[&digest].clone();
        let wanted = digest.clone();
        let server = image
            .clone()
            .serve(move |asked| is_blob(asked, &wanted).then(|| part_of(&blob, asked, Some(PIECE))));
        let name = format!("{}/app", server.host());
        env.rbuild(&["pull", &name]).ok().has("Downloaded newer image");
        let asked = server.asked();
        let offsets: Vec<usize> = asked.iter().filter(|a| is_blob(a, &digest)).map(offset).collect();
        assert_eq!(offsets, (0..total).step_by(PIECE).collect::<Vec<_>>());
        assert_eq!((in_store(env, "cache/partials"), in_store(env, "snapshots")), (0, 2));

        // A server that knows no ranges sends it all again, and one that breaks off always is given up.
        let store = env.store().join("v1");
        fs::remove_dir_all(&store).unwrap();
        let times = AtomicUsize::new(0);
        let blob = image.blobs[&digest].clone();
        let wanted = digest.clone();
        let server = image.clone().serve(move |asked| {
            let whole = Asked { headers: Vec::new(), ..asked.clone() };
            let most = (times.fetch_add(1, Ordering::SeqCst) == 0).then_some(PIECE);
            is_blob(asked, &wanted).then(|| part_of(&blob, &whole, most))
        });
        env.rbuild(&["pull", &format!("{}/app", server.host())]).ok();
        fs::remove_dir_all(&store).unwrap();
        let blob = image.blobs[&digest].clone();
        let wanted = digest.clone();
        let server = image.serve(move |asked| {
            let whole = Asked { headers: Vec::new(), ..asked.clone() };
            is_blob(asked, &wanted).then(|| part_of(&blob, &whole, Some(PIECE)))
        });
        env.rbuild(&["pull", &format!("{}/app", server.host())]).exits(1).lacks("Status:");
        // What came is there for the next one, and no more than was announced.
        let (bytes, count) = partials(env.store());
        assert!(bytes <= total as u64 && count <= 1, "{bytes} in {count}");
        assert_eq!(in_store(env, "images"), 0);
    });
}

/// What was there before and is wrong is fetched again, and told of by nobody.
#[test]
fn a_torn_partial_blob_is_begun_anew() {
    run_as(Who::Root, |env| {
        let image = Image::of(&[layer("a", 200_000, 1)]);
        let digest = image.layer_digest(0);
        let folder = env.store().join("v1/cache/partials");
        env.rbuild(&["images"]).ok();
        for torn in [noise(1000, 9), vec![0; 100_000], noise(150_000, 9), noise(300_000, 9)] {
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(digest.strip_prefix("sha256:").unwrap()), torn).unwrap();
            let server = image.clone().serve(|_| None);
            env.rbuild(&["pull", &format!("{}/app", server.host())]).ok().has("Pull complete");
            assert_eq!(in_store(env, "cache/partials"), 0);
            env.rbuild(&["rmi", &format!("{}/app", server.host())]).ok();
        }
    });
}

both! {
    fn ctrl_c_ends_it_at_once(env) {
        let image = Image::of(&[layer("a", 2 << 20, 1), layer("b", 2 << 20, 2)]);
        let meter = Meter::new();
        let server = meter.serve(image.clone());
        // The config, and of the layers a part.
        meter.refill(1 << 20);
        let name = format!("{}/app", server.host());
        let context = env.dockerfile(&format!("FROM {name}\n"));
        for args in [vec!["pull", &name], vec!["build", context.path()]] {
            let job = env.rbuild(&args).spawn();
            assert!(meter.wait_until_empty(|| job.ended()), "{}", job.said());
            while partials(env.store()).0 == 0 && !job.ended() {
                std::thread::yield_now();
            }
            job.signal(Signal::INT);
            job.finish().exits(130).has("stopped").lacks("panicked");
            for folder in ["snapshots", "images", "references", "tmp", "leases"] {
                assert_eq!(in_store(env, folder), 0, "{folder}");
            }
            meter.refill(100_000);
        }
        let (bytes, _) = partials(env.store());
        assert!(bytes > 0);
        meter.refill(usize::MAX);
        let before = meter.passed();
        env.rbuild(&["pull", &name]).ok().has("Downloaded newer image");
        // Only what was missing.
        assert!(meter.passed() - before <= (4 << 20) + 20_000 - bytes as usize, "{bytes}");
    }
}

/// Sums up the lengths of the files in a folder of the store.
fn bytes_in(env: &TestEnv, folder: &str) -> usize {
    let Ok(entries) = fs::read_dir(env.store().join("v1").join(folder)) else { return 0 };
    entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len() as usize)).sum()
}

/// `RBUILD_TEST_KILLS` sets how often; 30 times without it.
#[test]
fn a_pull_killed_at_any_moment_goes_on_later() {
    run_as(Who::Root, |env| {
        const EACH_ROUND: usize = 1_500_000;
        let rounds: usize =
            std::env::var("RBUILD_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(30);
        // Too long to be complete before the last round, as only every second one waits for progress.
        let length = EACH_ROUND * rounds / 3;
        let image = Image::of(&[layer("a", length, 1), layer("b", length, 2), layer("c", length, 3)]);
        let total: usize = image.blobs.values().map(Vec::len).sum();
        let meter = Meter::new();
        let server = meter.serve(image.clone());
        let name = format!("{}/app", server.host());
        for round in 0..rounds {
            let here = || bytes_in(env, "cache/partials") + bytes_in(env, "blobs/sha256");
            let before = here();
            // Of a different length each time, so that it is killed in the middle of anything.
            let passes = EACH_ROUND - (round * 7919) % 600_000;
            meter.refill(passes);
            let job = env.rbuild(&["pull", &name]).spawn();
            let emptied = meter.wait_until_empty(|| job.ended());
            // A piece of each layer is still in memory at any time.
            let reached = before + passes.saturating_sub(3 * 300_000);
            if round % 2 == 1 && emptied {
                while here() < reached && !job.ended() {
                    std::thread::yield_now();
                }
            }
            job.signal(Signal::KILL);
            let outcome = job.finish();
            assert!(outcome.signal == Some(9) || !emptied, "round {round}: {outcome}");
            env.rbuild(&["images", "-q"]).ok();
            assert!(bytes_in(env, "cache/partials") <= total, "round {round}");
        }
        let (before, there) =
            (meter.passed(), bytes_in(env, "cache/partials") + bytes_in(env, "blobs/sha256"));
        meter.refill(usize::MAX);
        env.rbuild(&["pull", &name]).ok().has(&format!("{name}:latest"));
        let fetched = meter.passed() - before;
        println!("{rounds} kills: {there} of {total} bytes were there, {fetched} were fetched at last");
        assert!(fetched < total - there / 2, "{fetched} of {total}, and {there} were there");
        assert_eq!(in_store(env, "cache/partials"), 0);
        let options = StoreOptions { xattrs: OverlayXattrs::Trusted, sync: false };
        let problems = Store::open(env.store(), options).unwrap().verify(Depth::Deep).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        let config = image.manifest["config"]["digest"].clone();
        assert_eq!(env.inspect(&name)["Id"], config);
    });
}
