//! `pull`, and builds whose images come from registries: a real registry, filled by skopeo and rbuild.
//!
//! Not here: registries that lie or break off (`registry_hostile`).

use std::fs;

use super::common::TestEnv;
use super::common::registry::Registry;
use super::common::script::{Image, layer};

/// Builds an image of several layers and writes it as an archive for skopeo; returns the archive and the id.
fn archive(env: &TestEnv, text: &str) -> (String, String) {
    env.busybox();
    let file = env.path_str("image.tar");
    let context = env.dockerfile(text);
    let id = env.build_id(&context, &["-o", &format!("type=oci,dest={file}")]);
    (file, id)
}

const THREE: &str =
    "FROM busybox:test\nRUN seq 9999 > /numbers\nRUN echo two > /two\nCMD [\"cat\", \"/two\"]\n";

/// Puts an archive into a registry.
#[track_caller]
fn push(env: &TestEnv, archive: &str, to: &str, options: &[&str]) {
    let common = ["copy", "--insecure-policy", "--dest-tls-verify=false"];
    let (from, to) = (format!("oci-archive:{archive}"), format!("docker://{to}"));
    let args = [&common[..], options, &[&from, &to]].concat();
    env.program("skopeo", &args).without_changing_user().ok();
}

/// Removes everything there is of an image but the registry's copy.
#[track_caller]
fn empty(env: &TestEnv) {
    let store = env.store().join("v1");
    env.program("rm", &["-rf", store.to_str().unwrap()]).without_changing_user().ok();
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

both! {
    /// Docker's words, its names, and the very image; gzip and zstd, docker's types and OCI's.
    fn an_image_is_pulled_whole(env) {
        let registry = Registry::plain();
        let (file, id) = archive(env, THREE);
        for (number, options) in [
            &[][..],
            &["--format", "v2s2"],
            &["--format", "oci", "--dest-compress-format", "zstd", "--dest-compress"],
        ].iter().enumerate() {
            let name = registry.name(&format!("team/app{number}"));
            push(env, &file, &format!("{name}:v1"), options);
            empty(env);
            let first = env.rbuild(&["pull", &format!("{name}:v1")]).ok();
            let said = lines(&first.stdout);
            assert_eq!(said[0], format!("v1: Pulling from team/app{number}"), "{first}");
            assert_eq!(said.iter().filter(|line| line.ends_with(": Pull complete")).count(), 3, "{first}");
            assert!(said[1..4].iter().all(|line| line.find(':') == Some(12)), "{first}");
            assert!(said[4].starts_with("Digest: sha256:"), "{first}");
            assert_eq!(said[5..], [format!("Status: Downloaded newer image for {name}:v1"), format!("{name}:v1")]);
            let image = env.inspect(&format!("{name}:v1"));
            assert_eq!(image["Id"], id.as_str());
            let digest = said[4].strip_prefix("Digest: ").unwrap();
            assert_eq!(env.inspect(&format!("{name}@{digest}"))["Id"], id.as_str());
            assert_eq!(env.run(&[&format!("{name}:v1")]).stdout, "two\n");
            let second = env.rbuild(&["pull", &format!("{name}:v1")]).ok();
            assert_eq!(lines(&second.stdout)[1..], [
                said[4].to_owned(),
                format!("Status: Image is up to date for {name}:v1"),
                format!("{name}:v1"),
            ]);
            // By digest, and quietly.
            let by_digest = format!("{name}@{digest}");
            env.rbuild(&["pull", "-q", &by_digest]).ok().prints(&format!("{by_digest}\n"));
        }
    }

    /// An image that a build needs is pulled; the registry is asked again only where that is wished.
    fn a_build_pulls_what_it_lacks(env) {
        let registry = Registry::plain();
        let (file, _) = archive(env, THREE);
        let (base, other) = (registry.name("base"), registry.name("other:v2"));
        push(env, &file, &format!("{base}:latest"), &[]);
        push(env, &file, &other, &["--format", "v2s2"]);
        empty(env);
        let text = format!(
            "FROM {base} AS a\nCOPY --from={other} /two /from\nRUN --mount=from=named,target=/m cat /m/two /from\n"
        );
        let context = env.dockerfile(&text);
        let named = format!("--build-context=named=docker-image://{other}");
        let first = env.build(&context, &["--no-cache", &named]);
        let said = first.has_all(&["latest: Pulling from base\n", "v2: Pulling from other\n", "two\ntwo\n"]);
        assert_eq!(said.stdout.matches("Status: Downloaded newer image for ").count(), 2, "{said}");
        env.rbuild(&["builds", "logs"]).ok().has_all(&["latest: Pulling from base\n", "v2: Pulling from other\n"]);
        let page = env.rbuild(&["report"]).ok();
        page.has_all(&[&format!("pull {base}:latest"), ">--build-context named<"]);
        // The second one shares what the first one has, as far as the bytes are the same.
        env.build(&context, &[&named]).lacks("Pulling from");
        env.build(&context, &[&named, "--pull"]).has("Status: Image is up to date for ").has("Using cache");
        let quiet = env.build(&context, &[&named, "--pull", "-q"]);
        assert_eq!(quiet.stdout.lines().count(), 1, "{quiet}");
        drop(registry);
        env.build(&context, &[&named, "--pull=newer"]).has("Using cache").lacks("Pulling from");
        env.build(&context, &[&named, "--pull=never"]).has("Using cache");
        env.try_build(&context, &[&named, "--pull=always"])
            .exits(1)
            .has_all(&["cannot be pulled", "Dockerfile:1:6", "without --pull"]);
        env.try_build(&context, &["--pull=perhaps"]).exits(2).has("bad value `perhaps` of --pull");
        let missing = env.dockerfile("FROM busybox:test\nFROM 127.0.0.1:1/missing\n");
        env.try_build(&missing, &[]).exits(1).has_all(&[
            "`127.0.0.1:1/missing` is not in the store; it cannot be pulled",
            "Dockerfile:2:6",
            "rbuild import",
        ]);
        env.try_build(&missing, &["--pull=never"]).exits(1).has("rbuild pull 127.0.0.1:1/missing");
    }

    /// As `docker run --pull`: what is told of the pull is on standard error.
    fn run_pulls_what_is_missing(env) {
        let registry = Registry::plain();
        let (file, _) = archive(env, THREE);
        let name = registry.name("app");
        push(env, &file, &format!("{name}:latest"), &[]);
        empty(env);
        env.run(&["--pull=never", &name]).exits(125).has(&format!("No such image: {name}:latest"));
        let first = env.run(&[&name]).ok();
        assert_eq!(first.stdout, "two\n");
        let said = lines(&first.stderr);
        assert_eq!(said[..2], [
            format!("Unable to find image '{name}:latest' locally"),
            "latest: Pulling from app".to_owned(),
        ]);
        assert_eq!(*said.last().unwrap(), format!("Status: Downloaded newer image for {name}:latest"));
        let second = env.run(&[&name]).ok();
        assert_eq!((second.stdout.as_str(), second.stderr.as_str()), ("two\n", ""));
        env.run(&["--pull", "always", &name]).ok().has("Status: Image is up to date for ");
        empty(env);
        let quiet = env.run(&["-q", &name]).ok();
        assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("two\n", ""));
        drop(registry);
        env.run(&[&name]).ok().prints("two\n");
        env.run(&["--pull=always", &name]).exits(125).lacks("two");
    }

    fn errors_are_dockers(env) {
        let registry = Registry::plain();
        let (file, _) = archive(env, "FROM busybox:test\n");
        push(env, &file, &registry.name("there:v1"), &[]);
        let check = |name: &str, expect: &[&str]| {
            env.rbuild(&["pull", name]).exits(1).has_all(expect).lacks("Downloaded");
        };
        check(&registry.name("there:v2"), &["manifest for ", "there:v2 not found", "manifest unknown"]);
        check(&registry.name("missing"), &["missing"]);
        check("127.0.0.1:1/nobody", &["127.0.0.1:1"]);
        let closed = Registry::basic();
        check(
            &closed.name("there"),
            &["pull access denied for ", &format!("may require 'rbuild login {}':", closed.host())],
        );
        env.rbuild(&["pull", "UPPER"]).exits(2).has("must be lowercase");
        env.rbuild(&["pull", "-a", "a:b"]).exits(2).has("tag can't be used with --all-tags/-a");
        env.rbuild(&["pull", "scratch"]).exits(2).has("'scratch' is a reserved name");
        env.rbuild(&["pull", "a", "--platform", "a/b/c/d"]).exits(2).has("bad --platform");
    }
}

/// Makes a multi-platform index out of two images in a registry.
fn put_index(env: &TestEnv, registry: &Registry, name: &str, archive: &str) -> String {
    let mut entries = Vec::new();
    for (number, architecture) in ["amd64", "arm64", "riscv64"].iter().enumerate() {
        // Skopeo copies; what differs in the config must be made.
        let (layout, image) = (env.path_str(&format!("layout{number}")), format!("{name}:{architecture}"));
        let run = |program: &str, args: &[&str]| env.program(program, args).without_changing_user().ok();
        run(
            "skopeo",
            &["copy", "--insecure-policy", &format!("oci-archive:{archive}"), &format!("oci:{layout}:x")],
        );
        run("umoci", &["config", "--image", &format!("{layout}:x"), "--architecture", architecture]);
        run(
            "skopeo",
            &[
                "copy",
                "--insecure-policy",
                "--dest-tls-verify=false",
                &format!("oci:{layout}:x"),
                &format!("docker://{}", registry.name(&image)),
            ],
        );
        let raw = run(
            "skopeo",
            &["inspect", "--raw", "--tls-verify=false", &format!("docker://{}", registry.name(&image))],
        );
        let digest = rbuild::image::Digest::of(raw.stdout.as_bytes());
        entries.push(serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest.to_string(),
            "size": raw.stdout.len(), "platform": {"os": "linux", "architecture": architecture},
        }));
    }
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries,
    });
    let registries = rbuild::registry::Registries::new(Default::default());
    let repository = registries.repository(&registry.name(name).parse().unwrap());
    let index_type = "application/vnd.oci.image.index.v1+json";
    repository.put_manifest("latest", index_type, index.to_string().as_bytes(), &|| false).unwrap();
    rbuild::image::Digest::of(index.to_string()).to_string()
}

both! {
    fn the_platform_is_chosen(env) {
        let registry = Registry::plain();
        let (file, _) = archive(env, THREE);
        let digest = put_index(env, &registry, "multi", &file);
        let name = registry.name("multi");
        empty(env);
        let said = env.rbuild(&["pull", &name]).ok();
        assert_eq!(lines(&said.stdout)[..2], ["Using default tag: latest", "latest: Pulling from multi"]);
        // That of the index, as docker has it.
        said.has(&format!("Digest: {digest}\n"));
        let architecture = |image: &str| env.inspect(image)["Architecture"].as_str().unwrap().to_owned();
        let host = architecture(&name);
        let foreign = if host == "arm64" { "riscv64" } else { "arm64" };
        assert_eq!(architecture(&format!("{name}@{digest}")), host);
        // A build for another platform does not take the name away.
        let context = env.dockerfile(&format!("FROM --platform=linux/{foreign} {name}\nLABEL a=b\n"));
        env.build(&context, &["-t", "foreign"]).has("Pulling from multi");
        assert_eq!((architecture("foreign").as_str(), architecture(&name)), (foreign, host));
        assert_eq!(architecture(&format!("{name}@{digest}")), architecture(&name));
        // What the name stands for is asked again, and nothing fetched.
        env.build(&context, &[]).has("Status: Image is up to date for ").lacks("Pull complete");
        // `pull` does, as docker's.
        let platform = format!("linux/{foreign}");
        env.rbuild(&["pull", "--platform", &platform, &name]).ok().lacks("Pull complete");
        assert_eq!(architecture(&name), foreign);
        env.rbuild(&["pull", "--platform", "linux/s390x", &name])
            .exits(1)
            .has("no matching manifest for linux/s390x in the manifest list entries");
        let amd64 = registry.name("multi:amd64");
        env.rbuild(&["pull", "--platform", "linux/riscv64", &amd64])
            .exits(1)
            .has("does not match the specified platform: wanted linux/riscv64, actual: linux/amd64");
        // Every tag, each with its own image.
        let all = env.rbuild(&["pull", "-a", &name]).ok();
        assert_eq!(all.stdout.matches(": Pulling from multi\n").count(), 4, "{all}");
        assert_eq!(lines(&all.stdout).last(), Some(&name.as_str()));
        assert_eq!(architecture(&amd64), "amd64");
        env.rbuild(&["pull", "-aq", &name]).ok().prints(&format!("{name}\n"));
    }

    /// Of Docker Hub's images a mirror is asked first; they keep their names.
    fn a_mirror_stands_for_docker_hub(env) {
        let server = Image::of(&[layer("a", 1000, 1)]).serve(|_| None);
        let daemon = env.path_str("daemon.json");
        fs::write(&daemon, format!("{{\"registry-mirrors\": [\"http://{}\"]}}", server.host())).unwrap();
        let said = env.rbuild(&["pull", "--daemon-json", &daemon, "team/app"]).ok();
        said.has("latest: Pulling from team/app\n").has("docker.io/team/app:latest\n");
        let image = env.inspect("team/app");
        assert!(image["RepoTags"].as_array().unwrap().contains(&"team/app:latest".into()), "{image}");
        let paths: Vec<String> = server.asked().into_iter().map(|asked| asked.target).collect();
        assert!(paths.iter().any(|path| path.starts_with("/v2/team/app/manifests/latest")), "{paths:?}");
    }

    /// Two processes want the same layers: each comes once.
    fn two_at_once_fetch_once(env) {
        let server = Image::of(&[layer("a", 3 << 20, 1), layer("b", 2 << 20, 2)]).serve(|_| None);
        let name = format!("{}/app", server.host());
        let jobs: Vec<_> = (0..3).map(|_| env.rbuild(&["pull", &name]).spawn()).collect();
        for job in jobs {
            job.finish().ok();
        }
        let blobs = server.asked().into_iter().filter(|asked| asked.target.contains("/blobs/"));
        let mut times = std::collections::BTreeMap::<String, usize>::new();
        blobs.for_each(|asked| *times.entry(asked.target).or_default() += 1);
        assert_eq!(times.len(), 3, "{times:?}");
        // The config is small, and nobody waits for it.
        assert!(times.values().filter(|count| **count == 1).count() >= 2, "{times:?}");
    }
}

/// Returns what is in a folder of the store.
fn names(env: &TestEnv, folder: &str) -> usize {
    fs::read_dir(env.store().join("v1").join(folder)).map_or(0, Iterator::count)
}

#[test]
fn memory_does_not_grow_with_the_image() {
    super::common::env::run_as(super::common::Who::Root, |env| {
        let layers: Vec<Vec<u8>> = (0..5).map(|n| layer("f", 16 << 20, n)).collect();
        let server = Image::of(&layers).serve(|_| None);
        let name = format!("{}/app", server.host());
        // Half of what is promised (150 MB), for an image larger than that would allow.
        let limit = format!("--data={}", 75 << 20);
        env.rbuild(&["pull", &name]).behind(&["prlimit", &limit]).ok().has("Downloaded newer image");
        assert_eq!(names(env, "snapshots"), 5);
        assert_eq!(names(env, "cache/partials"), 0);
    });
}
