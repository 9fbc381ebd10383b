//! `rbuild registry --serve-local`: what `rbuild images` shows is pulled without a push.

use serde_json::{Value, json};

use super::client::{Connection, ask, request};
use super::served::{MANIFEST, Served, sha256};
use crate::common::registry::Registry;
use crate::common::script::noise;
use crate::common::{Docker, Podman, TestEnv, Who, not_here, skip};

/// Builds an image of some layers, one of which does not compress; returns its id.
#[track_caller]
fn app(env: &TestEnv, name: &str) -> String {
    let ctx = env
        .dockerfile(
            "FROM scratch\nCOPY a /a\nCOPY b /b\nLABEL org.opencontainers.image.description=\"A \\\"small\\\" app\"\n\
             CMD [\"/a\"]\n",
        )
        .file("a", "first")
        .file("b", noise(6_000_000, 1));
    env.build_id(&ctx, &["-t", name])
}

#[track_caller]
fn skopeo(env: &TestEnv, args: &[&str]) -> String {
    env.program("skopeo", args).without_changing_user().ok().stdout
}

fn words(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

both! {
    /// The same bytes by the same digests as a push would send.
    fn what_was_built_is_pulled(env) {
        let id = app(env, "app:1");
        env.rbuild(&["tag", "app:1", "localhost:5000/x/y:2"]).ok();
        let registry = Served::start(env, &["--serve-local"]);
        assert_eq!(words(&registry.get("/v2/_catalog").is(200).json()["repositories"]), ["app", "x/y"]);
        for (name, tag) in [("app", "1"), ("library/app", "1"), ("x/y", "2")] {
            assert_eq!(registry.get(&format!("/v2/{name}/tags/list")).is(200).json(), json!({"name": name, "tags": [tag]}));
        }
        let reply = registry.get("/v2/app/manifests/1").is(200);
        let (manifest, digest) = (reply.json(), reply.need("docker-content-digest").to_owned());
        assert_eq!((sha256(&reply.body), reply.need("content-type")), (digest.clone(), MANIFEST));
        assert_eq!(manifest["config"]["digest"], id);
        let other = Registry::plain();
        env.rbuild(&["tag", "app:1", &other.name("far:1")]).ok();
        env.rbuild(&["push", &other.name("far:1")]).ok().has(&format!("digest: {digest} size: {}", reply.body.len()));
        assert_eq!(registry.get(&format!("/v2/library/app/manifests/{digest}")).is(200).body, reply.body);
        let mut parts = manifest["layers"].as_array().unwrap().clone();
        parts.push(manifest["config"].clone());
        for part in &parts {
            let digest = part["digest"].as_str().unwrap();
            let target = format!("/v2/x/y/blobs/{digest}");
            let head = registry.ask("HEAD", &target, &[], b"").is(200);
            assert_eq!(head.need("content-length"), part["size"].to_string());
            let whole = registry.get(&target).is(200).body;
            assert_eq!(sha256(&whole), digest);
            let some = registry.ask("GET", &target, &[("Range", "bytes=10-19")], b"").is(206);
            assert_eq!(some.body, whole[10..20]);
        }
        let found = registry.get("/v1/search?q=app").is(200).json();
        assert_eq!((&found["results"][0]["name"], &found["results"][0]["description"]), (&json!("app"), &json!("A \"small\" app")));
        env.rbuild(&["search", &format!("{}/app", registry.host())]).ok().has("A \"small\" app");

        // Once it has no name there, nothing of it is there.
        env.rbuild(&["rmi", "app:1"]).ok();
        registry.get("/v2/app/manifests/1").fails(404, "NAME_UNKNOWN");
        env.rbuild(&["rmi", &other.name("far:1"), "localhost:5000/x/y:2"]).ok();
        env.rbuild(&["rmi", "-f", &id]).output();
        for name in ["app", "library/app", "x/y", "far"] {
            registry.get(&format!("/v2/{name}/tags/list")).fails(404, "NAME_UNKNOWN");
            registry.get(&format!("/v2/{name}/manifests/{digest}")).is(404);
            registry.get(&format!("/v2/{name}/blobs/{}", parts[0]["digest"].as_str().unwrap())).fails(404, "BLOB_UNKNOWN");
        }
    }

    /// What came from elsewhere has the manifest it came with, byte for byte.
    fn what_was_pulled_is_as_it_was(env) {
        let origin = Registry::plain();
        app(env, &origin.name("far/app:1"));
        env.rbuild(&["push", "--compression", "zstd", &origin.name("far/app:1")]).ok();
        let raw = skopeo(env, &["inspect", "--tls-verify=false", "--raw", &format!("docker://{}", origin.name("far/app:1"))]);
        let here = TestEnv::new(env.who).unwrap();
        here.rbuild(&["pull", &origin.name("far/app:1")]).ok();
        let registry = Served::start(&here, &["--serve-local", "--read-only"]);
        let reply = registry.get("/v2/far/app/manifests/1").is(200);
        assert_eq!(String::from_utf8_lossy(&reply.body), raw);
        let folder = env.path_str("copy");
        let from = format!("docker://{}/far/app:1", registry.host());
        skopeo(env, &["copy", "--src-tls-verify=false", &from, &format!("oci:{folder}:x")]);
        // Nothing can be put into it.
        registry.ask("POST", "/v2/far/app/blobs/uploads/", &[], b"").fails(405, "UNSUPPORTED");
    }

    /// What is pushed comes before what is here, and may use what is here.
    fn pushes_beside_it(env) {
        app(env, "app:1");
        let registry = Served::start(env, &["--serve-local"]);
        let manifest = registry.get("/v2/app/manifests/1").is(200);
        let folder = env.path_str("copy");
        let at = |tag: &str| format!("docker://{}/app:{tag}", registry.host());
        skopeo(env, &["copy", "--src-tls-verify=false", &at("1"), &format!("dir:{folder}")]);
        // Each blob is said to be there, so that none is sent.
        skopeo(env, &["copy", "--dest-tls-verify=false", &format!("dir:{folder}"), &at("2")]);
        env.rbuild(&["rmi", "-f", "app:1"]).ok();
        let pushed = registry.get("/v2/app/manifests/2").is(200);
        assert_eq!(pushed.need("docker-content-digest"), manifest.need("docker-content-digest"));
        skopeo(env, &["copy", "--src-tls-verify=false", &at("2"), &format!("dir:{}", env.path_str("again"))]);
        let other = registry.image("app", "pushed");
        registry.put("app", "3", &other);
        app(env, "app:3");
        assert_eq!(registry.get("/v2/app/manifests/3").is(200).json(), other);
        assert_eq!(words(&registry.get("/v2/app/tags/list").is(200).json()["tags"]), ["2", "3"]);
    }
}

/// An image that is removed while somebody pulls it: what was begun comes to its end, whole.
#[test]
fn removed_while_it_is_pulled() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    app(&env, "app:1");
    let registry = Served::start(&env, &["--serve-local"]);
    let manifest = registry.get("/v2/app/manifests/1").is(200).json();
    let layers = manifest["layers"].as_array().unwrap();
    let layer = layers.iter().max_by_key(|layer| layer["size"].as_u64()).unwrap();
    let target = format!("/v2/app/blobs/{}", layer["digest"].as_str().unwrap());
    let mut connection = Connection::open(registry.host());
    connection.send(request("GET", &target, &[("Connection", "close")], b""));
    let start = connection.some(100_000);
    env.rbuild(&["rmi", "-f", "app:1"]).ok();
    env.rbuild(&["system", "prune", "-a", "-f"]).ok();
    registry.get(&target).is(404);
    let whole = [start, connection.rest()].concat();
    let body = whole.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(sha256(&whole[body..]), layer["digest"].as_str().unwrap());
}

/// Many at once want what must be packed first; it is packed once, and all get the same.
#[test]
fn many_pull_at_once() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    app(&env, "app:1");
    let registry = Served::start(&env, &["--serve-local", "-q"]);
    let host = registry.host();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let manifest = ask(host, "GET", "/v2/app/manifests/1", &[], b"").is(200).json();
                for layer in manifest["layers"].as_array().unwrap() {
                    let digest = layer["digest"].as_str().unwrap();
                    let blob = ask(host, "GET", &format!("/v2/app/blobs/{digest}"), &[], b"").is(200);
                    assert_eq!(sha256(&blob.body), digest);
                }
            });
        }
    });
}

/// docker and podman pull it, and have the image that was built.
#[test]
fn docker_and_podman_pull_it() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    if !rustix::process::geteuid().is_root() {
        return not_here("docker and podman are tried as root only");
    }
    let id = app(&env, "app:1");
    let registry = Served::start(&env, &["--serve-local"]);
    let name = format!("{}/app:1", registry.host());
    Podman::new(&env).run(&["pull", "-q", "--tls-verify=false", &name]).ok().has(&id[7..]);
    let docker = match Docker::start(&env) {
        Ok(docker) => docker,
        Err(why) => return skip(&why),
    };
    docker.run(&["pull", "-q", &name]).ok();
    docker.run(&["images", "--no-trunc", "-q"]).ok().prints(&format!("{id}\n"));
    // docker's own words for what it finds there.
    docker.run(&["search", &format!("{}/app", registry.host())]).ok().has("A \"small\" app");
    // What docker pushes is beside it.
    let pushed = format!("{}/pushed:1", registry.host());
    docker.run(&["tag", &name, &pushed]).ok();
    docker.run(&["push", &pushed]).ok();
    assert_eq!(registry.get("/v2/pushed/manifests/1").is(200).json()["config"]["digest"], id);
    docker.stop();
}
