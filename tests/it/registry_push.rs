//! `push`: to a real registry, read by other clients; killed at any byte; refused.

use rustix::process::Signal;
use serde_json::Value;

use super::common::TestEnv;
use super::common::Who;
use super::common::hold::Hold;
use super::common::http::{Answer, Server};
use super::common::not_here;
use super::common::peers::{Docker, Podman};
use super::common::registry::Registry;
use super::common::script::noise;
use super::common::skip;

/// Builds an image of some layers, one of which does not compress; returns its id.
#[track_caller]
fn app(env: &TestEnv, name: &str) -> String {
    let ctx = env
        .dockerfile("FROM scratch\nCOPY a /a\nCOPY b /b\nCOPY c /c\nCMD [\"/a\"]\n")
        .file("a", "first")
        .file("b", noise(300_000, 1))
        // Several members of gzip.
        .file("c", "some words ".repeat(400_000));
    env.build_id(&ctx, &["-t", name])
}

/// What skopeo says a name of a registry is.
#[track_caller]
fn skopeo(env: &TestEnv, args: &[&str], name: &str) -> String {
    let name = format!("docker://{name}");
    let words = [&["inspect", "--tls-verify=false"][..], args, &[&name]].concat();
    // It looks for credentials where only who runs the suite may.
    env.program("skopeo", &words).without_changing_user().ok().stdout
}

/// The digest in `TAG: digest: DIGEST size: N`.
fn digest_of(said: &str) -> String {
    let line = said.lines().rev().find(|line| line.contains(": digest: ")).expect("a line with the digest");
    line.split_whitespace().nth(2).unwrap().to_owned()
}

/// How many uploads a registry was asked for.
fn uploads(registry: &Registry) -> usize {
    registry.log().lines().filter(|line| line.contains("http.request.method=POST")).count()
}

both! {
    fn others_read_what_was_pushed(env) {
        let registry = Registry::plain();
        let name = registry.name("a/app:1");
        let id = app(env, &name);
        let first = env.rbuild(&["push", &name]).ok();
        let mut lines = first.stdout.lines();
        assert_eq!(lines.next(), Some(format!("The push refers to repository [{}]", registry.name("a/app")).as_str()));
        assert_eq!(first.stdout.matches(": Preparing\n").count(), 3, "{first}");
        assert_eq!(first.stdout.matches(": Pushed\n").count(), 3, "{first}");
        let digest = digest_of(&first.stdout);
        let raw = skopeo(env, &["--raw"], &name);
        assert!(first.stdout.ends_with(&format!("1: digest: {digest} size: {}\n", raw.len())), "{first}");
        let manifest: Value = serde_json::from_str(&raw).unwrap();
        assert_eq!(manifest["config"]["digest"], id);
        let seen: Value = serde_json::from_str(&skopeo(env, &[], &name)).unwrap();
        assert_eq!(seen["Digest"], digest);
        // Every byte is what it is said to be.
        let copy = env.path_str("copy");
        let to = format!("oci:{copy}:x");
        env.program("skopeo", &["copy", "--src-tls-verify=false", &format!("docker://{name}"), &to]).without_changing_user().ok();
        env.program("umoci", &["unpack", "--rootless", "--image", &format!("{copy}:x"), &env.path_str("bundle")]).ok();
        assert_eq!(env.inspect(&format!("{}@{digest}", registry.name("a/app")))["Id"], id);

        let before = uploads(&registry);
        let second = env.rbuild(&["push", &name]).ok();
        assert_eq!(second.stdout.matches(": Layer already exists\n").count(), 3, "{second}");
        assert_eq!((digest_of(&second.stdout), uploads(&registry)), (digest, before));
    }

    fn layers_are_mounted_from_other_repositories(env) {
        let registry = Registry::plain();
        app(env, &registry.name("a/app:1"));
        let first = env.rbuild(&["push", &registry.name("a/app:1")]).ok();
        for tag in ["1", "2"] {
            env.rbuild(&["tag", &registry.name("a/app:1"), &registry.name(&format!("library/other:{tag}"))]).ok();
        }
        let all = env.rbuild(&["push", "-a", &registry.name("library/other")]).ok();
        assert_eq!(all.stdout.matches(": Mounted from a/app\n").count(), 3, "{all}");
        assert_eq!(all.stdout.matches(": Layer already exists\n").count(), 3, "{all}");
        assert_eq!(all.stdout.matches(": Pushed\n").count(), 0, "{all}");
        for tag in ["1", "2"] {
            all.clone().has(&format!("{tag}: digest: {} size: ", digest_of(&first.stdout)));
        }
        let seen: Value = serde_json::from_str(&skopeo(env, &[], &registry.name("library/other:1"))).unwrap();
        assert_eq!(seen["RepoTags"].as_array().map(Vec::len), Some(2));
        let quiet = env.rbuild(&["push", "-q", &registry.name("library/other:2")]).ok();
        quiet.prints(&format!("{}\n", registry.name("library/other:2")));
    }

    /// An image that is pulled and pushed on keeps its digest, though rbuild would pack it otherwise.
    fn what_was_pulled_keeps_its_digest(env) {
        let registry = Registry::plain();
        let (name, other) = (registry.name("a/app:1"), registry.name("b/app:1"));
        app(env, &name);
        let zstd = env.rbuild(&["push", "--compression", "zstd", &name]).ok();
        let manifest: Value = serde_json::from_str(&skopeo(env, &["--raw"], &name)).unwrap();
        assert!(manifest["layers"][1]["mediaType"].as_str().unwrap().ends_with("+zstd"), "{manifest}");
        let gzip = env.rbuild(&["push", &name]).ok();
        assert_ne!(digest_of(&gzip.stdout), digest_of(&zstd.stdout));
        env.rbuild(&["push", "--compression", "zstd", &name]).ok();

        let elsewhere = TestEnv::new(env.who).unwrap();
        elsewhere.rbuild(&["pull", &name]).ok();
        elsewhere.rbuild(&["tag", &name, &other]).ok();
        let pushed = elsewhere.rbuild(&["push", &other]).ok();
        assert_eq!(digest_of(&pushed.stdout), digest_of(&zstd.stdout));
        assert_eq!(pushed.stdout.matches(": Mounted from a/app\n").count(), 3, "{pushed}");
    }

    /// Archives have plain layers; registries get packed ones, and the same ones each time.
    fn what_was_loaded_is_packed(env) {
        let registry = Registry::plain();
        let (name, file) = (registry.name("a/app:1"), env.path_str("saved.tar"));
        app(env, &name);
        let built = env.rbuild(&["push", &name]).ok();
        env.rbuild(&["save", "-o", &file, &name]).ok();
        let elsewhere = TestEnv::new(env.who).unwrap();
        elsewhere.rbuild(&["load"]).stdin_file(&file).ok();
        for _ in 0..2 {
            let pushed = elsewhere.rbuild(&["push", &name]).ok();
            assert_eq!(digest_of(&pushed.stdout), digest_of(&built.stdout));
        }
    }

    fn what_cannot_be_pushed(env) {
        let registry = Registry::plain();
        let name = registry.name("a/app");
        env.rbuild(&["push", &name]).exits(1).has(&format!("An image does not exist locally with the tag: {name}"));
        app(env, &format!("{name}:1"));
        env.rbuild(&["push", &name]).exits(1).has("Using default tag: latest").has(&format!("tag does not exist: {name}:latest"));
        env.rbuild(&["push", "-a", &format!("{name}:1")]).exits(2).has("tag can't be used with --all-tags/-a");
        let digest = format!("{name}@sha256:{}", "0".repeat(64));
        env.rbuild(&["push", &digest]).exits(2).has("cannot push a digest reference");
        env.rbuild(&["push", "--platform", "linux/s390x", &format!("{name}:1")]).exits(1).has("does not match the specified platform");

        for (status, expect) in [(401, "rbuild login"), (403, "denied"), (404, "was not found")] {
            let server = Server::start(move |asked| match (asked.method.as_str(), status) {
                ("HEAD", 404) => Answer::status(404),
                _ => Answer::status(status),
            });
            let there = format!("{}/a/app:1", server.host());
            env.rbuild(&["tag", &format!("{name}:1"), &there]).ok();
            let failed = env.rbuild(&["push", &there]).exits(1);
            failed.has(expect).lacks("digest:");
        }
    }
}

/// Pulled by docker and podman, the image has the id it was built with, and runs.
#[test]
fn docker_and_podman_pull_what_was_pushed() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    if !rustix::process::geteuid().is_root() {
        return not_here("docker and podman are tried as root only");
    }
    let registry = Registry::plain();
    let name = registry.name("a/app:1");
    let id = app(&env, &name);
    env.rbuild(&["push", &name]).ok();
    let podman = Podman::new(&env);
    podman.run(&["pull", "-q", "--tls-verify=false", &name]).ok().has(&id[7..]);
    let docker = match Docker::start(&env) {
        Ok(docker) => docker,
        Err(why) => return skip(&why),
    };
    docker.run(&["pull", "-q", &name]).ok();
    docker.run(&["images", "--no-trunc", "-q"]).ok().prints(&format!("{id}\n"));
    docker.stop();
}

/// Killed at any byte, a push leaves a registry and a store that the next one goes on with.
#[test]
fn killed_pushes_are_gone_on_with() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    let registry = Registry::plain();
    let id = app(&env, "app");
    let rounds: u64 = std::env::var("RBUILD_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(30);
    let mut killed = 0;
    for round in 0..rounds {
        // A repository for five rounds, the last of which is to get to its end.
        let repository = format!("r{}/app", round / 5);
        // Within the large layer; where that is there, within what comes after it.
        let limit = match (round % 5, round % 10) {
            (4, _) => u64::MAX,
            (place, 0..5) => 200 + place * 70_000 + (round * 9_973) % 60_000,
            (0, _) => 302_000 + (round * 97) % 1000,
            (place, _) => 300 + place * 500 + (round * 97) % 700,
        };
        let hold = Hold::start(registry.host(), limit);
        let name = format!("{}/{repository}:{round}", hold.host());
        env.rbuild(&["tag", "app", &name]).ok();
        let job = env.rbuild(&["push", &name]).spawn();
        let reached = loop {
            if hold.is_reached() {
                break true;
            }
            if job.ended() {
                break false;
            }
            std::thread::yield_now();
        };
        if reached {
            job.signal(Signal::KILL);
            assert_eq!(job.finish().signal, Some(Signal::KILL.as_raw()));
            killed += 1;
            continue;
        }
        let said = job.finish().ok().stdout;
        let there = registry.name(&format!("{repository}:{round}"));
        let seen: Value = serde_json::from_str(&skopeo(&env, &[], &there)).unwrap();
        assert_eq!(seen["Digest"], digest_of(&said));
        let manifest: Value = serde_json::from_str(&skopeo(&env, &["--raw"], &there)).unwrap();
        assert_eq!(manifest["config"]["digest"], id);
    }
    assert!(killed >= rounds / 2, "{killed} of {rounds} were killed");
    // What the killed ones left behind went with the next.
    assert_eq!(std::fs::read_dir(env.store().join("v1/tmp")).unwrap().count(), 0);
}
