//! `save` and `load`: archives of images, from and to other tools, and hostile ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::common::Docker;
use super::common::Podman;
use super::common::TestEnv;
use super::common::Who;
use super::common::archive::entries_of;
use super::common::base::Tar;
use super::common::not_here;
use super::common::skip;

/// An image `app:1` of two layers, with all that a config can say; returns its ID.
#[track_caller]
fn app(env: &TestEnv) -> String {
    env.busybox();
    let ctx = env.dockerfile(
        "FROM busybox:test\nENV GREETING=hello\nRUN echo content > /made && rm -r /home\nLABEL k=v\n\
         WORKDIR /tmp\nUSER app\nENTRYPOINT [\"/bin/sh\", \"-c\"]\nCMD [\"echo $GREETING; cat /made\"]\n",
    );
    env.build_id(&ctx, &["-t", "app:1"])
}

const APP_SAYS: &str = "hello\ncontent\n";

/// Loads an archive into a new store; the image must be the same and work.
#[track_caller]
fn loads(who: Who, file: &str, id: &str) -> TestEnv {
    let env = TestEnv::new(who).unwrap();
    // What another wrote for itself alone.
    let file = readable(&env, file);
    env.rbuild(&["load", "-i", &file]).ok().has("Loaded image");
    assert_eq!(env.rbuild(&["images", "-q", "--no-trunc"]).ok().stdout.lines().next(), Some(id), "{file}");
    let image = env.inspect(id);
    assert_eq!(image["Config"]["Labels"]["k"], "v");
    assert_eq!(image["Config"]["User"], "app");
    env.run(&[id]).ok().prints(APP_SAYS);
    env
}

/// Copies an archive to where who runs in this place may read it.
fn readable(env: &TestEnv, file: &str) -> String {
    if fs::metadata(file).unwrap().is_dir() {
        return file.to_owned();
    }
    let copy = env.path_str("copy.tar");
    fs::copy(file, &copy).unwrap();
    env.give(copy.as_ref());
    copy
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A docker archive in memory, to be made wrong.
#[derive(Clone)]
struct Archive {
    layer: Vec<u8>,
    config: Value,
    config_name: Option<String>,
    layers: Vec<String>,
    names: Value,
}

impl Archive {
    fn new() -> Archive {
        let layer = Tar::new().file("secret", 0o644, "x").bytes();
        let rootfs = json!({"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer))]});
        Archive {
            config: json!({"architecture": "amd64", "os": "linux", "rootfs": rootfs}),
            config_name: None,
            layers: vec!["one/layer.tar".to_owned()],
            names: json!(["bad:1"]),
            layer,
        }
    }

    fn item(&self) -> Value {
        let name = format!("{}.json", sha256(self.config.to_string().as_bytes()));
        json!({"Config": self.config_name.as_ref().unwrap_or(&name), "RepoTags": self.names, "Layers": self.layers})
    }

    /// The entries, less the one named, with more behind them.
    fn tar(&self, without: &str, more: impl FnOnce(Tar) -> Tar) -> Vec<u8> {
        let config = self.config.to_string();
        let name = format!("{}.json", sha256(config.as_bytes()));
        let manifest = json!([self.item()]).to_string();
        let mut tar = Tar::new().dir("one/", 0o755);
        for (name, bytes) in [
            (name.as_str(), config.as_bytes()),
            ("one/layer.tar", &self.layer),
            ("manifest.json", manifest.as_bytes()),
        ] {
            if name != without {
                tar = tar.file(name, 0o644, bytes);
            }
        }
        more(tar).bytes()
    }

    fn whole(&self) -> Vec<u8> {
        self.tar("", |tar| tar)
    }
}

both! {
    fn what_is_saved_is_loaded_whatever_it_is_packed_with(env) {
        let id = app(env);
        let file = env.path_str("image.tar");
        for format in [&["--format", "docker"][..], &["--format", "oci"], &["--format", "oci", "--compression", "zstd"]] {
            env.rbuild(&[&["save", "-o", &file], format, &["app:1"]].concat()).ok().prints("");
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
            loads(env.who, &file, &id).rbuild(&["inspect", "app:1"]).ok();
        }
        // Outside: by the program's own words, through a pipe and as a file.
        for pack in ["gzip -1", "bzip2 -1", "xz -0", "zstd -1"] {
            let words = format!("{pack} -c {file} > {file}.packed");
            env.program("sh", &["-c", &words]).ok();
            let other = TestEnv::new(env.who).unwrap();
            let bytes = fs::read(format!("{file}.packed")).unwrap();
            other.rbuild(&["load"]).stdin(bytes).ok().prints("Loaded image: app:1\n");
            assert_eq!(other.inspect("app:1")["Id"], id, "{pack}");
            let left: Vec<_> = fs::read_dir(other.store().join("v1/tmp")).unwrap().collect();
            assert!(left.is_empty(), "{left:?}");
        }
        let other = TestEnv::new(env.who).unwrap();
        other.rbuild(&["load", "-q"]).stdin_file(&file).ok().prints("Loaded image: app:1\n");
        // Unpacked, too.
        let folder = env.path_str("folder");
        fs::create_dir(&folder).unwrap();
        env.give(folder.as_ref());
        env.program("tar", &["-xf", &file, "-C", &folder]).ok();
        loads(env.who, &folder, &id);
    }

    fn archives_are_the_same_bytes_each_time(env) {
        app(env);
        let files = [env.path_str("a"), env.path_str("b")];
        for format in ["docker", "oci"] {
            files.iter().for_each(|file| drop(env.rbuild(&["save", "--format", format, "-o", file, "app:1", "busybox"]).ok()));
            let [a, b] = files.each_ref().map(|file| fs::read(file).unwrap());
            assert!(a == b, "{format}");
            // A layer of both images is there once.
            let names: Vec<String> = entries_of(&a).into_iter().map(|e| e.path).collect();
            let unique: std::collections::BTreeSet<&String> = names.iter().collect();
            assert_eq!(names.len(), unique.len());
        }
    }

    fn names_are_saved_as_docker_does(env) {
        let id = app(env);
        env.rbuild(&["tag", "app:1", "app:2"]).ok();
        env.rbuild(&["tag", "busybox:test", "app:box"]).ok();
        env.rbuild(&["tag", "app:1", "host.example:5000/other:x"]).ok();
        let file = env.path_str("image.tar");
        let check = |words: &[&str], expect: &str| {
            env.rbuild(&[&["save", "-o", &file], words].concat()).ok();
            let other = TestEnv::new(env.who).unwrap();
            let file = readable(&other, &file);
            other.rbuild(&["load", "-i", &file]).ok().prints(expect);
        };
        check(&["app:1"], "Loaded image: app:1\n");
        check(&["app:1", &id[7..19], "host.example:5000/other:x"], "Loaded image: app:1\nLoaded image: host.example:5000/other:x\n");
        check(&[&id], &format!("Loaded image ID: {id}\n"));
        check(&[&id[7..19]], &format!("Loaded image ID: {id}\n"));
        // Without a tag, all tags of the repository.
        check(&["app"], "Loaded image: app:1\nLoaded image: app:2\nLoaded image: app:box\n");
        env.rbuild(&["save", "-o", &file, "app:3"]).fails().has("No such image: app:3");
        env.rbuild(&["save", "-o", "/nowhere/at/all.tar", "app:1"]).fails().has("/nowhere/at/all.tar");
        env.rbuild(&["save", "--compression-level", "30", "--compression", "zstd", "-o", &file, "app:1"]).exits(2).has("1 to 22");
        env.rbuild(&["save", "--platform", "linux/s390x", "-o", &file, "app:1"]).fails().has("not linux/s390x");
        let before = fs::read(&file).unwrap();
        assert!(!before.is_empty());
    }

    fn an_image_that_had_the_name_loses_it(env) {
        let id = app(env);
        let file = env.path_str("image.tar");
        env.rbuild(&["save", "-o", &file, "app:1"]).ok();
        env.rbuild(&["tag", "busybox:test", "app:1"]).ok();
        let old = env.inspect("busybox:test")["Id"].as_str().unwrap().to_owned();
        let expect = format!("The image app:1 already exists, renaming the old one with ID {old} to empty string\nLoaded image: app:1\n");
        env.rbuild(&["load", "-i", &file]).ok().prints(&expect);
        assert_eq!(env.inspect("app:1")["Id"], id);
        env.rbuild(&["load", "-i", &file]).ok().prints("Loaded image: app:1\n");
    }

    /// What docker 1.10 to 24 write: a layer for each step, equal ones as links.
    fn links_between_layers_are_followed(env) {
        let archive = Archive::new();
        let layer = archive.layer.clone();
        let mut double = archive.clone();
        double.config["rootfs"]["diff_ids"] = json!([double.config["rootfs"]["diff_ids"][0], double.config["rootfs"]["diff_ids"][0]]);
        double.layers = vec!["one/layer.tar".to_owned(), "two/layer.tar".to_owned()];
        let bytes = double.tar("", |tar| tar.dir("two/", 0o755).link("two/layer.tar", "../one/layer.tar"));
        env.rbuild(&["load"]).stdin(bytes).ok().prints("Loaded image: bad:1\n");
        assert_eq!(env.inspect("bad:1")["RootFS"]["Layers"].as_array().map(Vec::len), Some(2));
        // Compressed layers under names that tell nothing.
        let mut packed = archive.clone();
        packed.layer = zstd::encode_all(&layer[..], 1).unwrap();
        packed.names = Value::Null;
        let other = TestEnv::new(env.who).unwrap();
        other.rbuild(&["load"]).stdin(packed.whole()).ok().has("Loaded image ID: sha256:");
    }

    fn an_archive_that_lies_is_refused_and_nothing_is_kept(env) {
        let good = Archive::new();
        let with = |change: fn(&mut Archive)| { let mut archive = good.clone(); change(&mut archive); archive.whole() };
        let layer = good.layer.clone();
        let huge = vec![b' '; (8 << 20) + 1];
        let index = json!({"schemaVersion": 2, "manifests": []}).to_string();
        let named = |name: &'static str, link: &'static str, kind: tar::EntryType| good.tar("", move |tar| tar.entry(kind, name, 0o644, link, b""));
        use tar::EntryType as Kind;
        let cases: Vec<(&str, Vec<u8>, &str)> = vec![
            ("another layer", with(|a| a.layer = Tar::new().file("y", 0o644, "y").bytes()), "its bytes are"),
            ("a layer twice", with(|a| a.layers.push("one/layer.tar".into())), "names 1 layers, and the manifest 2"),
            ("no layer", with(|a| a.layers.clear()), "names 1 layers, and the manifest 0"),
            ("a layer that is not there", with(|a| a.layers = vec!["two".into()]), "`two` is missing"),
            ("a layer outside", with(|a| a.layers = vec!["../../etc/passwd".into()]), "outside"),
            ("an absolute layer", with(|a| a.layers = vec!["/etc/passwd".into()]), "outside"),
            ("a config outside", with(|a| a.config_name = Some("../../../etc/shadow".into())), "outside"),
            ("another config", with(|a| a.config_name = Some("manifest.json".into())), "cannot be read"),
            ("a config without layers", with(|a| a.config = json!({"os": "linux"})), "names 0 layers"),
            ("a config for windows", with(|a| a.config["os"] = json!("windows")), "windows"),
            ("an odd algorithm", with(|a| a.config["rootfs"]["diff_ids"] = json!(["md5:00"])), "not a digest"),
            ("a bad name", with(|a| a.names = json!(["../x:1"])), "bad name"),
            ("a name without tag", with(|a| a.names = json!(["x"])), "no tag"),
            ("no config", good.tar(&format!("{}.json", sha256(good.config.to_string().as_bytes())), |t| t), "is missing"),
            ("no manifest", good.tar("manifest.json", |t| t), "neither"),
            ("the form before 1.10", good.tar("manifest.json", |t| t.file("repositories", 0o644, "{}")), "before version 1.10"),
            ("a huge manifest", good.tar("manifest.json", |t| t.file("manifest.json", 0o644, &huge)), "more than the 8388608"),
            ("two manifests", good.tar("", |t| t.file("manifest.json", 0o644, "[]")), "twice"),
            ("no images", good.tar("manifest.json", |t| t.file("manifest.json", 0o644, "[]")), "no images"),
            ("other images", good.tar("", |t| t.file("oci-layout", 0o644, "{}").file("index.json", 0o644, &index)), "different images"),
            ("a climbing name", named("../out", "", Kind::Regular), "outside"),
            ("an absolute name", named("/tmp/out", "", Kind::Regular), "outside"),
            ("a link out", named("l", "../../etc/passwd", Kind::Symlink), "leads out"),
            ("a hard link out", named("l", "/etc/passwd", Kind::Link), "outside"),
            ("a device", named("null", "", Kind::Char), "device"),
            ("a pipe", named("pipe", "", Kind::Fifo), "pipe"),
            ("a loop", { let mut a = good.clone(); a.layers = vec!["a".into()]; a.tar("", |t| t.link("a", "b").link("b", "a")) }, "too many links"),
            ("cut", good.whole()[..2000].to_vec(), "truncated"),
            ("no archive", b"no archive ".repeat(300), "not a tar"),
            ("empty", Vec::new(), "empty"),
            ("a broken layer", with(|a| a.layer.truncate(600)), "its layer `one/layer.tar`"),
            ("a layer with a broken tail", { let mut a = good.clone(); a.layer = layer[..700].to_vec(); a.config["rootfs"]["diff_ids"] = json!([format!("sha256:{}", sha256(&a.layer))]); a.whole() }, "its layer `one/layer.tar`"),
        ];
        for (what, bytes, expect) in cases {
            for way in [0, 1] {
                let command = env.rbuild(&["load"]);
                let outcome = match way {
                    0 => command.stdin(bytes.clone()).fails(),
                    _ => {
                        let file = env.path_str("bad.tar");
                        fs::write(&file, &bytes).unwrap();
                        command.args(&["-i", &file]).fails()
                    }
                };
                assert!(outcome.stderr.contains(expect) && outcome.stdout.is_empty(), "{what}\n{outcome}");
            }
        }
        env.rbuild(&["images", "-aq"]).ok().prints("");
        for folder in ["snapshots", "images", "references", "tmp", "blobs/sha256"] {
            let left: Vec<_> = fs::read_dir(env.store().join("v1").join(folder)).unwrap().collect();
            assert!(left.is_empty(), "{folder}: {left:?}");
        }
        env.rbuild(&["load"]).stdin(good.whole()).ok();
    }

    /// One bad image in an archive of two: neither is there, nor has a name.
    fn one_bad_image_spoils_the_archive(env) {
        let (good, mut other) = (Archive::new(), Archive::new());
        other.config["author"] = json!("another");
        other.config["rootfs"]["diff_ids"] = json!([format!("sha256:{}", "0".repeat(64))]);
        other.names = json!(["good:1"]);
        let config = other.config.to_string();
        let manifest = json!([good.item(), other.item()]).to_string();
        let bytes = good.tar("manifest.json", |tar| {
            tar.file("manifest.json", 0o644, manifest).file(&format!("{}.json", sha256(config.as_bytes())), 0o644, &config)
        });
        env.rbuild(&["load"]).stdin(bytes).fails().has("a layer is not what its name says");
        env.rbuild(&["images", "-aq"]).ok().prints("");
    }

    /// Names and words of an archive do not reach a terminal as anything but text.
    fn what_an_archive_says_is_harmless(env) {
        let evil = "a\x1b]0;title\x07\u{9b}2J\x1b[2Jb";
        let layer = Tar::new().file("f", 0o644, "x").bytes();
        let rootfs = json!({"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer))]});
        let history = json!([{"created_by": evil, "comment": evil}]);
        let config = json!({"architecture": "amd64", "os": "linux", "rootfs": rootfs, "history": history}).to_string();
        let part = |kind: &str, bytes: &[u8]| {
            json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{}", sha256(bytes)), "size": bytes.len()})
        };
        let manifest = json!({"schemaVersion": 2, "config": part("config.v1+json", config.as_bytes()), "layers": [part("layer.v1.tar", &layer)]}).to_string();
        let mut entry = part("manifest.v1+json", manifest.as_bytes());
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": evil});
        let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
        let mut tar = Tar::new().file("oci-layout", 0o644, r#"{"imageLayoutVersion":"1.0.0"}"#).file("index.json", 0o644, index);
        for blob in [&layer[..], config.as_bytes(), manifest.as_bytes()] {
            tar = tar.file(&format!("blobs/sha256/{}", sha256(blob)), 0o644, blob);
        }
        let outcome = env.rbuild(&["load"]).stdin(tar.bytes()).ok().has("calls").has("only `ab`");
        let id = outcome.stdout.trim().rsplit(' ').next().unwrap().to_owned();
        let history = env.rbuild(&["history", &id]).ok().has("ab");
        for said in [outcome, history] {
            assert!(!said.both.contains(['\x1b', '\x07', '\u{9b}']), "{said}");
        }
    }

    fn of_several_platforms_one_is_chosen(env) {
        let folder = env.path("layout");
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let put = |kind: &str, bytes: &[u8]| {
            fs::write(blobs.join(sha256(bytes)), bytes).unwrap();
            json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{}", sha256(bytes)), "size": bytes.len()})
        };
        let image = |architecture: &str| {
            let layer = Tar::new().file("arch", 0o644, architecture).bytes();
            let rootfs = json!({"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer))]});
            let config = json!({"architecture": architecture, "os": "linux", "rootfs": rootfs}).to_string();
            let id = format!("sha256:{}", sha256(config.as_bytes()));
            let manifest = json!({"schemaVersion": 2, "config": put("config.v1+json", config.as_bytes()), "layers": [put("layer.v1.tar", &layer)]});
            let mut entry = put("manifest.v1+json", manifest.to_string().as_bytes());
            entry["platform"] = json!({"architecture": architecture, "os": "linux"});
            (entry, id)
        };
        let images: Vec<(Value, String)> = ["s390x", "arm64", "amd64"].map(image).to_vec();
        let mut about = images[0].0.clone();
        about["platform"] = json!({"architecture": "unknown", "os": "unknown"});
        let entries: Vec<&Value> = images.iter().map(|(entry, _)| entry).chain([&about]).collect();
        let index = json!({"schemaVersion": 2, "manifests": entries}).to_string();
        let mut nested = put("index.v1+json", index.as_bytes());
        nested["annotations"] = json!({"org.opencontainers.image.ref.name": "multi.example/app:9"});
        fs::write(folder.join("oci-layout"), "{\"imageLayoutVersion\": \"1.0.0\"}").unwrap();
        let folder = folder.to_str().unwrap();
        let write = |entries: Value| fs::write(format!("{folder}/index.json"), json!({"schemaVersion": 2, "manifests": entries}).to_string()).unwrap();
        let host = if cfg!(target_arch = "x86_64") { &images[2].1 } else { &images[1].1 };
        // In an index of their own, and beside each other.
        write(json!([nested]));
        env.rbuild(&["load", "-i", folder]).ok().prints("Loaded image: multi.example/app:9\n");
        assert_eq!(env.inspect("multi.example/app:9")["Id"], **host);
        env.rbuild(&["load", "-i", folder, "--platform", "linux/s390x"]).ok().has("renaming the old one");
        assert_eq!(env.inspect("multi.example/app:9")["Id"], images[0].1);
        env.rbuild(&["load", "-i", folder, "--platform", "linux/riscv64"]).fails().has("no image for linux/riscv64").has("linux/arm64");
        write(json!(entries));
        env.rbuild(&["load", "-i", folder]).ok().prints(&format!("Loaded image ID: {host}\n"));
        // One alone is taken whatever it is for, unless another is asked for.
        write(json!([images[0].0]));
        env.rbuild(&["load", "-i", folder]).ok().prints(&format!("Loaded image ID: {}\n", images[0].1));
        env.rbuild(&["load", "-i", folder, "--platform", "linux/arm64"]).fails().has("linux/arm64");
    }

    fn skopeo_and_umoci_both_ways(env) {
        let id = app(env);
        let saved = [env.path_str("docker.tar"), env.path_str("oci.tar")];
        env.rbuild(&["save", "-o", &saved[0], "app:1"]).ok();
        env.rbuild(&["save", "--format", "oci", "-o", &saved[1], "app:1"]).ok();
        let skopeo = |from: &str, to: &str| env.program("skopeo", &["--insecure-policy", "copy", from, to]).ok();
        let layout = env.path_str("layout");
        skopeo(&format!("docker-archive:{}", saved[0]), &format!("oci:{layout}:app"));
        for (from, transport) in saved.iter().zip(["docker-archive", "oci-archive"]) {
            for (to, name) in [("docker-archive", "peer.example/app:2"), ("oci-archive", "peer.example/app:3")] {
                let out = env.path_str("out.tar");
                skopeo(&format!("{transport}:{from}"), &format!("{to}:{out}:{name}"));
                let raw = env.program("skopeo", &["inspect", "--raw", &format!("{to}:{out}")]).ok().stdout;
                let raw: Value = serde_json::from_str(&raw).unwrap();
                let made = raw["config"]["digest"].as_str().unwrap();
                // From one kind to the other skopeo writes the config anew.
                assert!(made == id || transport != to, "{transport} to {to}");
                loads(env.who, &out, made).rbuild(&["inspect", name]).ok();
            }
        }
        // A tag alone names nothing here.
        let other = TestEnv::new(env.who).unwrap();
        other.rbuild(&["load", "-i", &layout]).ok().has("Loaded image ID: sha256:").has("calls");
        let config = env.program("umoci", &["stat", "--json", "--image", &format!("{layout}:app")]).ok().stdout;
        assert!(config.contains("history"), "{config}");
        // umoci makes an image of another config; it comes as it is.
        env.program("umoci", &["config", "--image", &format!("{layout}:app"), "--tag", "new", "--config.label", "by=umoci"]).ok();
        other.rbuild(&["load", "-i", &layout]).ok();
        let label = "{{index .Config.Labels \"by\"}}";
        let ids = other.rbuild(&["images", "-q", "--no-trunc"]).ok().stdout;
        assert!(ids.lines().any(|id| other.rbuild(&["inspect", "-f", label, id]).ok().stdout == "umoci\n"), "{ids}");
    }
}

/// A terminal gets no archive, and gives none.
#[test]
fn a_terminal_is_refused() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    app(&env);
    let exe = env.exe();
    let exe = exe.to_str().unwrap();
    for (words, expect) in [
        ("save app:1", "cowardly refusing to save to a terminal"),
        ("export app:1", "cowardly refusing to save to a terminal"),
        ("load", "requested load from stdin, but stdin is empty"),
    ] {
        env.program("script", &["-qec", &format!("{exe} {words}"), "/dev/null"]).exits(2).has(expect);
    }
}

/// Images of both modes through podman and back.
fn podman_both_ways(who: Who) {
    let env = match TestEnv::new(who) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    if !rustix::process::geteuid().is_root() {
        return not_here("podman is tried as root only");
    }
    let id = app(&env);
    let podman = Podman::new(&env);
    for format in ["docker", "oci"] {
        let file = env.path_str("image.tar");
        env.rbuild(&["save", "--format", format, "-o", &file, "app:1"]).ok();
        podman.run(&["load", "-i", &file]).ok();
        assert_eq!(podman.run(&["images", "-q", "--no-trunc"]).ok().stdout.trim(), id, "{format}");
        for (kind, out) in [("docker-archive", "o.tar"), ("oci-archive", "o.tar"), ("oci-dir", "dir")] {
            let out = env.path_str(out);
            podman.run(&["save", "--format", kind, "-o", &out, &id]).ok();
            env.program("chmod", &["-R", "a+rX", &out]).without_changing_user().ok();
            loads(who, &out, &id);
        }
        podman.run(&["rmi", "-af"]).ok();
    }
}

#[test]
fn podman_both_ways_for_root() {
    podman_both_ways(Who::Root);
}

#[test]
fn podman_both_ways_for_a_user() {
    podman_both_ways(Who::User);
}

/// Images of both modes through a Docker engine that this test starts, and back; it runs them, too.
#[test]
fn docker_both_ways() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    let docker = match Docker::start(&env) {
        Ok(docker) => docker,
        Err(why) => return skip(&why),
    };
    for who in [Who::Root, Who::User] {
        let Ok(own) = TestEnv::new(who) else { continue };
        let id = app(&own);
        for format in ["docker", "oci"] {
            let file = own.path_str("image.tar");
            own.rbuild(&["save", "--format", format, "-o", &file, "app:1"]).ok();
            let loaded = docker.run(&["load", "-i", &file]);
            // Engines before 25 read no OCI archives; theirs is the other kind.
            if format == "oci" && loaded.code != Some(0) {
                assert!(docker.version() < 25, "{loaded}");
                continue;
            }
            loaded.ok().has("Loaded image: app:1");
            assert_eq!(docker.run(&["images", "-q", "--no-trunc", "app:1"]).ok().stdout.trim(), id);
            docker.run(&["run", "--rm", "--network=none", "app:1"]).ok().prints(APP_SAYS);
            let out = env.path_str("out.tar");
            docker.run(&["tag", "app:1", "peer.example:5000/app:x"]).ok();
            docker.run(&["save", "-o", &out, "app:1", "peer.example:5000/app:x"]).ok();
            loads(who, &out, &id).rbuild(&["inspect", "peer.example:5000/app:x"]).ok();
            docker.run(&["rmi", "-f", &id]).ok();
        }
    }
    docker.stop();
}

/// A stream for which there is no room: an error that says so, and nothing is left.
#[test]
fn a_full_disk_is_told() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    let layer = vec![b'x'; 12 << 20];
    let bytes = Tar::new().file("big", 0o644, &layer).bytes();
    let packed = zstd::encode_all(&bytes[..], 1).unwrap();
    let store = env.path_str("small");
    fs::create_dir(&store).unwrap();
    let exe = env.exe();
    let words = format!(
        "mount -t tmpfs -o size=8m tmpfs {store} && {} load --root {store}; code=$?; \
         test -z \"$(find {store}/v1/tmp {store}/v1/snapshots -mindepth 1 -print -quit)\" && echo clean; exit $code",
        exe.display()
    );
    env.program("unshare", &["--mount", "--propagation", "private", "sh", "-c", &words])
        .stdin(packed)
        .fails()
        .has("No space left on device")
        .has("cannot keep the archive")
        .has("clean");
}
