//! The cache across machines: what one store leaves behind, another one builds with.
//!
//! A machine is a store of its own here; two with a network between them stand in `remote_cache_hosts`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::common::registry::Registry;
use super::common::{Context, Exported, Outcome, TestEnv};

const TWO_STAGES: &str = "FROM busybox:test AS builder\nARG WHAT=of-the-builder\n\
    RUN echo ran-one; : $WHAT; touch -d 2000-01-01 /one\n\
    COPY f /src/f\nRUN mkdir /o && cp /src/f /o/f && ln /o/f /o/g && ln -s f /o/l && echo ran-two\n\
    FROM busybox:test\nENV A=1\nWORKDIR /w\nCOPY --from=builder /o /o\nRUN echo ran-three; echo 3 > /three\n";

/// Returns a place of a fixed name.
fn at(env: &TestEnv, name: &str) -> String {
    env.tmp().join(name).to_str().unwrap().to_owned()
}

/// Makes another machine, that has the base image and nothing else.
fn machine(env: &TestEnv, name: &str) -> String {
    let store = at(env, name);
    env.program("cp", &["-a", &at(env, "only-the-base"), &store]).ok();
    store
}

/// Fills this place's store with the base image.
fn base(env: &TestEnv) {
    env.busybox();
    env.program("cp", &["-a", env.store().to_str().unwrap(), &at(env, "only-the-base")]).ok();
}

fn try_build(env: &TestEnv, store: &str, context: &Context, args: &[&str]) -> Outcome {
    let words = [&["build", "--root", store, "--network=none"], args, &[context.path()]].concat();
    env.rbuild(&words).output()
}

#[track_caller]
fn build(env: &TestEnv, store: &str, context: &Context, args: &[&str]) -> Outcome {
    try_build(env, store, context, args).ok()
}

/// Runs skopeo as whoever runs the tests: it would look for credentials where others may not.
fn skopeo(env: &TestEnv, words: &[&str]) {
    env.program("skopeo", words).without_changing_user().ok();
}

/// The layers that a store has.
fn layers(store: &str) -> usize {
    fs::read_dir(Path::new(store).join("v1/snapshots")).unwrap().count()
}

/// Requires that no step ran.
#[track_caller]
fn nothing_ran(outcome: Outcome) -> Outcome {
    outcome.did_not_run("ran-one").did_not_run("ran-two").did_not_run("ran-three")
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A cache in a directory, to be meddled with.
struct Cache {
    path: PathBuf,
}

impl Cache {
    fn new(path: impl Into<PathBuf>) -> Cache {
        Cache { path: path.into() }
    }

    fn blob(&self, hex: &str) -> PathBuf {
        self.path.join("blobs/sha256").join(hex)
    }

    fn json(&self, path: &Path) -> Value {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    fn index(&self) -> Value {
        self.json(&self.path.join("index.json"))
    }

    fn named(&self, descriptor: &Value) -> PathBuf {
        self.blob(descriptor["digest"].as_str().unwrap().trim_start_matches("sha256:"))
    }

    fn manifest(&self) -> Value {
        self.json(&self.named(&self.index()["manifests"][0]))
    }

    fn config(&self) -> Value {
        self.json(&self.named(&self.manifest()["config"]))
    }

    fn layers(&self) -> Vec<PathBuf> {
        self.manifest()["layers"].as_array().unwrap().iter().map(|layer| self.named(layer)).collect()
    }

    fn put(&self, bytes: &[u8]) -> (String, usize) {
        let hex = sha256(bytes);
        fs::write(self.blob(&hex), bytes).unwrap();
        (format!("sha256:{hex}"), bytes.len())
    }

    /// Writes other records and other layers, every digest in order: what an attacker would do.
    fn rewrite(&self, change: impl FnOnce(&mut Value, &mut Value)) {
        let (mut manifest, mut config) = (self.manifest(), self.config());
        change(&mut config, &mut manifest);
        let (digest, size) = self.put(config.to_string().as_bytes());
        manifest["config"]["digest"] = json!(digest);
        manifest["config"]["size"] = json!(size);
        let (digest, size) = self.put(manifest.to_string().as_bytes());
        let mut index = self.index();
        index["manifests"][0]["digest"] = json!(digest);
        index["manifests"][0]["size"] = json!(size);
        fs::write(self.path.join("index.json"), index.to_string()).unwrap();
    }
}

/// Copies a cache, to be meddled with.
fn copy(env: &TestEnv, cache: &str, name: &str) -> Cache {
    let path = at(env, name);
    env.program("cp", &["-a", cache, &path]).ok();
    Cache::new(path)
}

fn from(cache: &str) -> String {
    format!("type=local,src={cache}")
}

fn to(cache: &str, more: &str) -> String {
    format!("type=local,dest={cache}{more}")
}

both! {
    fn another_machine_runs_nothing_and_makes_the_same_image(env) {
        base(env);
        let ctx = env.dockerfile(TWO_STAGES).file("f", "x");
        let (max, min) = (at(env, "max"), at(env, "min"));
        let args = ["--cache-to", &to(&max, ",mode=max"), "--cache-to", &to(&min, ",compression=zstd")];
        let tar = format!("type=docker,dest={}", at(env, "first.tar"));
        let first = build(env, env.store().to_str().unwrap(), &ctx, &[&args[..], &["-o", &tar]].concat())
            .ran("ran-one").has(&format!("exporting cache to {max}"));
        assert_eq!((Cache::new(&max).layers().len(), Cache::new(&min).layers().len()), (5, 3));
        for cache in [&max, &min] {
            let store = machine(env, &format!("machine-of-{}", Path::new(cache).file_name().unwrap().to_str().unwrap()));
            let tar = format!("type=docker,dest={}", at(env, "second.tar"));
            let second = nothing_ran(build(env, &store, &ctx, &["--cache-from", &from(cache), "-o", &tar]))
                .has(&format!("importing cache manifest from {cache}"))
                .has(&format!(" ---> Using cache of {cache}"));
            assert_eq!(first.built(), second.built());
            // Those of the builder were not fetched: nobody needed their files.
            assert_eq!(layers(&store), 1 + 3, "{second}");
            let bytes = |name| fs::read(at(env, name)).unwrap();
            assert!(bytes("first.tar") == bytes("second.tar"), "the images are the same bytes");
            // Once more: the layers are here, and are not fetched again.
            let third = nothing_ran(build(env, &store, &ctx, &["--cache-from", &from(cache)]));
            assert_eq!((first.built(), layers(&store)), (third.built(), 4));
            // What it says of steps leads to them.
            let last = third.step_ids().last().unwrap().to_string();
            env.rbuild(&["run", "--root", &store, "--network=none", &last, "cat", "/o/f"]).ok().prints("x");
        }
    }

    fn what_is_needed_is_fetched_and_the_rest_is_not(env) {
        base(env);
        let ctx = env.dockerfile(TWO_STAGES).file("f", "x");
        let (max, min) = (at(env, "max"), at(env, "min"));
        let args = ["--cache-to", &to(&max, ",mode=max"), "--cache-to", &to(&min, "")];
        build(env, env.store().to_str().unwrap(), &ctx, &args);
        // The last step is another: it runs on what was fetched.
        let other = env.dockerfile(&TWO_STAGES.replace("echo 3 >", "cat /o/g >")).file("f", "x");
        for cache in [&max, &min] {
            let store = machine(env, &format!("last-{}", Path::new(cache).file_name().unwrap().to_str().unwrap()));
            let outcome = build(env, &store, &other, &["--cache-from", &from(cache), "-t", "x"])
                .did_not_run("ran-one").did_not_run("ran-two").ran("ran-three");
            assert_eq!(layers(&store), 1 + 3, "{outcome}");
            env.rbuild(&["run", "--root", &store, "--network=none", "x", "cat", "/three"]).ok().prints("x");
        }
        // A file of the builder changed: its first layer is needed, which only one of the caches has.
        let changed = env.dockerfile(TWO_STAGES).file("f", "y");
        for (cache, first_runs) in [(&max, false), (&min, true)] {
            let store = machine(env, &format!("file-{}", Path::new(cache).file_name().unwrap().to_str().unwrap()));
            let outcome = build(env, &store, &changed, &["--cache-from", &from(cache), "-t", "x"])
                .ran("ran-two").ran("ran-three").lacks("warning");
            assert_eq!(outcome.printed("ran-one"), first_runs, "{outcome}");
            env.rbuild(&["run", "--root", &store, "--network=none", "x", "cat", "/o/g"]).ok().prints("y");
        }
    }

    fn a_cache_is_handed_on_without_being_fetched(env) {
        base(env);
        let ctx = env.dockerfile(TWO_STAGES).file("f", "x");
        let (one, two) = (at(env, "one"), at(env, "two"));
        build(env, env.store().to_str().unwrap(), &ctx, &["--cache-to", &to(&one, ",mode=max")]);
        let before = Cache::new(&one).index();
        let second = machine(env, "second");
        build(env, &second, &ctx, &["--cache-from", &from(&one), "--cache-to", &to(&one, ",mode=max")]);
        assert_eq!(layers(&second), 4, "its own blobs are there: none was fetched for it");
        assert_eq!(Cache::new(&one).index(), before, "the same cache");
        build(env, &second, &ctx, &["--cache-from", &from(&one), "--cache-to", &to(&two, ",mode=max")]);
        assert_eq!(layers(&second), 6, "all were, to be written elsewhere");
        fs::remove_dir_all(&one).unwrap();
        let third = machine(env, "third");
        nothing_ran(build(env, &third, &ctx, &["--cache-from", &from(&two)]));
    }

    fn values_stay_at_home(env) {
        base(env);
        let ctx = env.dockerfile(TWO_STAGES).file("f", "x");
        let cache = at(env, "cache");
        let words = ["--build-arg", "WHAT=s3cr3t-value", "--cache-to", &to(&cache, ",mode=max")];
        build(env, env.store().to_str().unwrap(), &ctx, &words);
        for entry in walkdir::WalkDir::new(&cache).into_iter().flatten().filter(|e| e.file_type().is_file()) {
            let bytes = fs::read(entry.path()).unwrap();
            assert!(!bytes.windows(6).any(|part| part == b"s3cr3t"), "{}", entry.path().display());
        }
    }

    /// Whatever is wrong with a cache is a warning, and the image is what it would be without.
    fn a_bad_cache_is_a_warning(env) {
        base(env);
        let ctx = env.dockerfile(TWO_STAGES).file("f", "x");
        let good = at(env, "good");
        build(env, env.store().to_str().unwrap(), &ctx, &["--cache-to", &to(&good, ",mode=max")]);
        let flip = |path: &Path| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        };
        type Harm<'a> = (&'a str, &'a dyn Fn(&Cache), bool);
        let harms: [Harm; 11] = [
            ("gone", &|c| fs::remove_dir_all(&c.path).unwrap(), true),
            ("no-index", &|c| fs::remove_file(c.path.join("index.json")).unwrap(), true),
            ("garbage-index", &|c| fs::write(c.path.join("index.json"), "]{").unwrap(), true),
            ("flipped-config", &|c| flip(&c.named(&c.manifest()["config"])), true),
            ("garbage-config", &|c| c.rewrite(|config, _| *config = json!(["x"])), true),
            ("version", &|c| c.rewrite(|config, _| config["version"] = json!(2)), true),
            ("no-cache", &|c| c.rewrite(|_, m| m["config"]["mediaType"] = json!("application/x")), true),
            ("flipped-layers", &|c| c.layers().iter().for_each(|layer| flip(layer)), false),
            ("no-layers", &|c| c.layers().iter().for_each(|layer| fs::remove_file(layer).unwrap()), false),
            ("cut-layers", &|c| c.layers().iter().for_each(|layer| fs::write(layer, "x").unwrap()), false),
            // Every layer is said to be the next one: the bytes have their digests, and are others.
            ("swapped-layers", &|c| c.rewrite(|config, _| {
                let layers = config["layers"].as_array_mut().unwrap();
                let ids: Vec<Value> = layers.iter().map(|layer| layer["diff_id"].clone()).collect();
                layers.iter_mut().enumerate().for_each(|(i, l)| l["diff_id"] = ids[(i + 1) % ids.len()].clone());
            }), false),
        ];
        for (name, harm, at_once) in harms {
            let cache = copy(env, &good, &format!("cache-{name}"));
            harm(&cache);
            let store = machine(env, &format!("machine-{name}"));
            let path = cache.path.to_str().unwrap();
            let outcome = build(env, &store, &ctx, &["--cache-from", &from(path), "-t", "x"])
                .ran("ran-two").ran("ran-three")
                .has(&format!("warning: the cache `{path}` is not used{}: ", if at_once { "" } else { " any more" }));
            assert_eq!(outcome.both.matches("warning: ").count(), 1, "{name}: {outcome}");
            env.rbuild(&["run", "--root", &store, "--network=none", "x", "cat", "/o/g", "/three"]).ok().prints("x3\n");
            nothing_ran(build(env, &store, &ctx, &[]));
            env.program("rm", &["-rf", &store]).ok();
        }
    }

    /// Whoever writes to a cache can say what builds get that name it. Others get nothing of it, not even
    /// in the same store.
    fn a_poisoned_cache_reaches_only_who_names_it(env) {
        base(env);
        let ctx = env.dockerfile(
            "FROM busybox:test\nRUN echo good > /file; echo ran-one\nRUN cat /file > /copy; echo ran-two\n\
             COPY --link f /f\nRUN echo ran-three\n",
        ).file("f", "x");
        let cache = at(env, "cache");
        build(env, env.store().to_str().unwrap(), &ctx, &["--cache-to", &to(&cache, ",mode=max")]);
        // The attacker's own layer, under the content digest and the key of the good one.
        let evil = at(env, "evil-cache");
        let evil_ctx = env.dockerfile("FROM busybox:test\nRUN echo evil > /file\n");
        build(env, env.store().to_str().unwrap(), &evil_ctx, &["--cache-to", &to(&evil, ",mode=max")]);
        let (evil, cache) = (Cache::new(evil), Cache::new(cache));
        fs::copy(&evil.layers()[0], cache.blob(evil.layers()[0].file_name().unwrap().to_str().unwrap())).unwrap();
        cache.rewrite(|config, manifest| {
            let theirs = evil.config()["layers"][0].clone();
            let records = config["records"].as_array_mut().unwrap();
            let first = records.iter_mut().find(|r| r["text"].as_str().unwrap().contains("good")).unwrap();
            first["layer"]["diff_id"] = theirs["diff_id"].clone();
            first["created"] = json!(1);
            records.retain(|r| r["text"].as_str().unwrap().contains("good"));
            config["layers"].as_array_mut().unwrap().push(theirs);
            manifest["layers"].as_array_mut().unwrap().push(evil.manifest()["layers"][0].clone());
        });
        let store = machine(env, "victim");
        let shown = |store: &str, image: &str| {
            env.rbuild(&["run", "--root", store, "--network=none", image, "cat", "/file", "/copy"]).ok().stdout
        };
        let named = ["--cache-from", &from(cache.path.to_str().unwrap()), "-t", "named"];
        build(env, &store, &ctx, &named).did_not_run("ran-one").ran("ran-two");
        assert_eq!(shown(&store, "named"), "evil\nevil\n");
        // The step on top of it was executed here, and is no answer for who did not name the cache.
        build(env, &store, &ctx, &["-t", "plain"]).ran("ran-one").ran("ran-two");
        assert_eq!(shown(&store, "plain"), "good\ngood\n");
        // Nor is it passed on: others that name a cache of this one get what is theirs.
        build(env, &store, &ctx, &["-t", "again"]).did_not_run("ran-one").did_not_run("ran-two");
        assert_eq!(shown(&store, "again"), "good\ngood\n");
    }

    /// What is said of a selection serves one look-up; a step that runs selects for itself.
    fn a_lie_about_files_is_found_when_they_are_needed(env) {
        base(env);
        let ctx = env.dockerfile(TWO_STAGES).file("f", "x");
        let good = at(env, "good");
        build(env, env.store().to_str().unwrap(), &ctx, &["--cache-to", &to(&good, ",mode=max")]);
        let lying = copy(env, &good, "lying");
        lying.rewrite(|config, _| {
            for selection in config["selections"].as_array_mut().unwrap() {
                selection["digest"] = json!(format!("sha256:{}", "1".repeat(64)));
            }
        });
        let store = machine(env, "victim");
        let path = lying.path.to_str().unwrap();
        let outcome = nothing_ran(build(env, &store, &ctx, &["--cache-from", &from(path), "-t", "x"]));
        assert!(layers(&store) > 4, "the builder's layers were fetched to be looked at: {outcome}");
        env.rbuild(&["run", "--root", &store, "--network=none", "x", "cat", "/o/g"]).ok().prints("x");
    }

    fn a_cache_in_an_image_of_a_registry(env) {
        base(env);
        let registry = Registry::plain();
        let ctx = env.dockerfile(TWO_STAGES).file("f", "x");
        let archive = at(env, "image.tar");
        let out = format!("type=oci,dest={archive}");
        let first = build(env, env.store().to_str().unwrap(), &ctx, &["--build-arg", "BUILDKIT_INLINE_CACHE=1", "-o", &out]);
        let again = build(env, env.store().to_str().unwrap(), &ctx, &["--cache-to", "type=inline"]);
        assert_eq!(first.built(), again.built(), "the id follows from what was built");
        let config = Exported::read(Path::new(&archive)).config;
        assert_eq!(config["rbuild.cache.v1"]["records"].as_array().unwrap().len(), 6, "{config}");
        let name = registry.name("app:1");
        skopeo(env, &["--insecure-policy", "copy", "--dest-tls-verify=false", &format!("oci-archive:{archive}"), &format!("docker://{name}")]);
        let store = machine(env, "second");
        let second = nothing_ran(build(env, &store, &ctx, &["--cache-from", &name, "--cache-to", "type=inline"]))
            .has(&format!("importing cache manifest from {name}"));
        assert_eq!(first.built(), second.built());
        assert_eq!(layers(&store), 4);
        // An image without a cache, and one that is not there.
        let plain = at(env, "plain.tar");
        build(env, env.store().to_str().unwrap(), &ctx, &["-o", &format!("type=oci,dest={plain}")]);
        let bare = registry.name("bare:1");
        skopeo(env, &["--insecure-policy", "copy", "--dest-tls-verify=false", &format!("oci-archive:{plain}"), &format!("docker://{bare}")]);
        let store = machine(env, "third");
        build(env, &store, &ctx, &["--cache-from", &format!("{bare},{}", registry.name("nothing:1"))])
            .has(&format!("warning: the cache `{bare}` is not used: the image has no cache in it"))
            .has(&format!("warning: the cache `{}` is not used: ", registry.name("nothing:1")))
            .ran("ran-three");
    }

    fn a_cache_in_a_registry_goes_where_skopeo_takes_it(env) {
        base(env);
        let registry = Registry::plain();
        let ctx = env.dockerfile(TWO_STAGES).file("f", "x");
        let name = registry.name("cache/app:main");
        let first = build(env, env.store().to_str().unwrap(), &ctx, &["--cache-to", &format!("type=registry,ref={name},mode=max")])
            .has(&format!("exporting cache to {name}"));
        let moved = registry.name("elsewhere:2");
        let words = ["--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"];
        skopeo(env, &[&words[..], &[&format!("docker://{name}"), &format!("docker://{moved}")]].concat());
        // All of it is reached from a tag: the registry's own collector finds no garbage.
        let config = registry.storage().with_file_name("config.yml");
        let swept = ["garbage-collect", "--delete-untagged", config.to_str().unwrap()];
        env.program("docker-registry", &swept).without_changing_user().ok().has("0 blobs and 0 manifests eligible");
        for (i, name) in [&name, &moved].into_iter().enumerate() {
            let store = machine(env, &format!("machine-{i}"));
            let from = format!("type=registry,ref={name}");
            let second = nothing_ran(build(env, &store, &ctx, &["--cache-from", &from]));
            assert_eq!((first.built(), layers(&store)), (second.built(), 4));
        }
    }

    fn a_cache_that_cannot_be_written_fails_the_build_or_not(env) {
        base(env);
        let ctx = env.dockerfile(TWO_STAGES).file("f", "x");
        fs::write(at(env, "file"), "").unwrap();
        env.give(Path::new(&at(env, "file")));
        let bad = to(&at(env, "file/below"), "");
        let store = env.store().to_str().unwrap();
        try_build(env, store, &ctx, &["-t", "kept", "--cache-to", &bad]).exits(1).has("cannot write the cache to");
        env.rbuild(&["run", "--network=none", "kept", "cat", "/three"]).ok().prints("3\n");
        build(env, store, &ctx, &["--cache-to", &format!("{bad},ignore-error=true")])
            .has("warning: cannot write the cache to");
        for (option, why) in [("--cache-to", "type=s3,bucket=b"), ("--cache-from", "type=gha")] {
            try_build(env, store, &ctx, &[option, why]).exits(2).has("is not supported yet");
        }
        try_build(env, store, &ctx, &["--cache-to", "type=registry,ref=x,image-manifest=false"]).exits(2).has("not supported");
    }
}
