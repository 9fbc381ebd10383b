//! Build contexts, Dockerfiles and named contexts from elsewhere: web, Git, other directories, images.

use std::path::Path;

use rustix::process::Signal;

use super::common::base::Tar;
use super::common::git::{GitHost, TIME};
use super::common::http::{Answer, Body, DATE_SECONDS, Files, Server};
use super::common::{Caged, Exported, TestEnv};
use super::remote::{gzip, kit, nowhere_in};

/// Builds with these arguments and reads the image back.
#[track_caller]
fn exported(env: &TestEnv, args: &[&str]) -> Exported {
    let file = env.path_str("image.tar");
    env.rbuild(&["build", "-o", &format!("type=oci,dest={file}")]).args(args).ok();
    Exported::read(Path::new(&file))
}

/// Requires a build to fail with these texts.
#[track_caller]
fn refused(env: &TestEnv, args: &[&str], texts: &[&str]) {
    env.rbuild(&["build"]).args(args).fails().has_all(texts);
}

/// Makes a directory of OCI layout of a build of `text`, in a folder named `layout`.
fn layout(env: &TestEnv, text: &str, tag: &str) -> String {
    let file = env.path_str("image.tar");
    env.build(&env.dockerfile(text), &["-t", tag, "-o", &format!("type=oci,dest={file}")]);
    let folder = env.path_str("layout");
    std::fs::create_dir(&folder).unwrap();
    env.give(Path::new(&folder));
    env.program("tar", &["-C", &folder, "-xf", &file]).ok();
    folder
}

/// Returns the descriptor of the image in a layout, its manifest, and the path of a blob.
fn json(path: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn blob(folder: &str, descriptor: &serde_json::Value) -> String {
    format!("{folder}/blobs/{}", descriptor["digest"].as_str().unwrap().replace(':', "/"))
}

both! {
    fn a_repository_is_a_context(env) {
        let host = GitHost::start();
        kit(&host);
        host.commit("kit", &[
            ("sub/.dockerignore", "hidden\n"), ("sub/hidden", "x"), ("sub/Dockerfile", "FROM scratch\nCOPY . /d/\n"),
            ("sub/ci/other", "FROM scratch\nCOPY dir/file /o\n"), ("sub/ci/other.dockerignore", "ci\n"),
        ]);
        assert_eq!(exported(env, &[&host.url("kit.git#light")]).entry("sub/dir/file").content, b"old");
        let out = exported(env, &[&host.url("kit.git#main:sub")]);
        assert_eq!(out.entry("d/dir/file").content, b"new");
        assert!(!out.last_paths().iter().any(|p| p.contains("hidden") || p.contains(".git")), "{:?}", out.last_paths());
        let out = exported(env, &["-f", "ci/other", &host.url("kit.git?subdir=sub&branch=main")]);
        assert_eq!(out.entry("o").content, b"new");
        let kept = exported(env, &["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", &host.url("kit.git#light")]);
        assert!(kept.last_paths().contains(&".git/HEAD".to_owned()));
        host.asked();
        let again = env.rbuild(&["build", &host.url("kit.git#main:sub")]).ok();
        assert_eq!((again.cached(), host.asked().len()), (1, 2), "{again}");
        refused(env, &[&host.url("kit.git#none")], &["none"]);
        refused(env, &[&host.url("kit.git#main:../x")], &["leads out"]);
        refused(env, &["-f", "no", &host.url("kit.git#main")], &["`no` does not exist"]);
    }

    /// Links in a repository lead nowhere out of it.
    fn a_repository_cannot_reach_out(env) {
        let host = GitHost::start();
        kit(&host);
        let secret = env.path_str("secret");
        std::fs::write(&secret, "hash of nobody").unwrap();
        host.commit_link("kit", "up", "../../../../../../../../../../etc");
        host.commit_link("kit", "Other", &secret);
        refused(env, &["-f", "Other", &host.url("kit.git#main")], &["Other"]);
        let outcome = env.rbuild(&["build", "-f", "up/passwd", &host.url("kit.git#main")]).fails();
        outcome.lacks("root:x");
        env.rbuild(&["build", &host.url("kit.git#main:up")]).fails().lacks("root:x");
        nowhere_in(env.store(), "hash of nobody");
    }

    fn an_archive_is_a_context(env) {
        let tar = Tar::new().file("Dockerfile", 0o644, "FROM scratch\nCOPY . /\n").file(".dockerignore", 0o644, "no\n")
            .file("no", 0o644, "").file("yes", 0o640, "y").dir("ci", 0o755)
            .file("ci/other", 0o644, "FROM scratch\nCOPY yes /o\n").bytes();
        let web = Files::start(&[("/c.tar.gz", &gzip(&tar)), ("/c.tar", &tar)]);
        for path in ["/c.tar.gz", "/c.tar"] {
            let out = exported(env, &[&web.url(path)]);
            assert_eq!((out.entry("yes").mode, out.last_paths().contains(&"no".to_owned())), (0o640, false));
            assert_eq!(exported(env, &["-f", "ci/other", &web.url(path)]).entry("o").content, b"y");
        }
        let (all, _) = web.count();
        let again = env.rbuild(&["build", &web.url("/c.tar")]).ok();
        assert_eq!((again.cached(), web.count().0), (1, all + 1));
        refused(env, &[&web.url("/none.tar")], &["404", &web.url("/none.tar")]);
        refused(env, &["-f", "none", &web.url("/c.tar")], &["`none` does not exist"]);
        web.put("/cut.tgz", &gzip(&tar)[..100]);
        refused(env, &[&web.url("/cut.tgz")], &["unpack"]);
    }

    fn a_hostile_archive_stays_inside(env) {
        let secret = env.path_str("secret");
        std::fs::write(&secret, "hash of nobody").unwrap();
        let dockerfile = "FROM scratch\nCOPY . /\n";
        let good = |tar: Tar| tar.file("Dockerfile", 0o644, dockerfile).bytes();
        let web = Files::start(&[
            ("/up", &good(Tar::new().file("../x", 0o644, "up"))),
            ("/absolute", &good(Tar::new().file("/x", 0o644, "absolute"))),
            ("/link", &good(Tar::new().link("l", "../../../../..").file("l/x", 0o644, "link"))),
            ("/shadow", &Tar::new().link("Dockerfile", &secret).bytes()),
            ("/ignore", &good(Tar::new().link(".dockerignore", &secret))),
            ("/copy", &good(Tar::new().link("l", &secret))),
        ]);
        let outside = env.dir().join("x");
        for name in ["/up", "/absolute", "/link"] {
            // Kept inside, or refused.
            let outcome = env.rbuild(&["build", &web.url(name)]).output();
            assert!(matches!(outcome.code, Some(0 | 1)), "{outcome}");
            assert!(!outside.exists() && !Path::new("/x").exists() && !env.store().join("x").exists(), "{name}");
        }
        for name in ["/shadow", "/ignore"] {
            env.rbuild(&["build", &web.url(name)]).fails().lacks("hash of nobody");
        }
        let out = exported(env, &[&web.url("/copy")]);
        assert_eq!(out.entry("l").kind, tar::EntryType::Symlink);
        nowhere_in(env.store(), "hash of nobody");
    }

    fn a_dockerfile_is_on_the_web(env) {
        let web = Files::start(&[("/d", b"FROM scratch\nCOPY f /\n"), ("/alone", b"FROM scratch\nCOPY <<f /\nx\nf\n"),
            ("/bad", b"FROM scratch\nNOPE x\n"), ("/copies", b"FROM scratch\nCOPY f /\n")]);
        let ctx = env.context().file("f", "here").file("g", "").file(".dockerignore", "g\n");
        assert_eq!(exported(env, &["-f", &web.url("/d"), ctx.path()]).entry("f").content, b"here");
        assert_eq!(exported(env, &[&web.url("/alone")]).entry("f").content, b"x\n");
        refused(env, &["-f", &web.url("/bad"), ctx.path()], &["NOPE", &format!("{}:2", web.url("/bad"))]);
        refused(env, &["-f", &web.url("/none"), ctx.path()], &["404", &web.url("/none")]);
        refused(env, &[&web.url("/copies")], &["\"/f\": not found"]);
        let secret = web.url("/bad").replace("http://", "http://joe:SeCrEtPw@");
        env.rbuild(&["build", "-f", &secret, ctx.path()]).fails().has("NOPE").lacks("SeCrEtPw");
        env.rbuild(&["build", &secret]).fails().lacks("SeCrEtPw");
        env.rbuild(&["build", &secret.replace("/bad", "/none")]).fails().has("404").lacks("SeCrEtPw");
        nowhere_in(env.store(), "SeCrEtPw");
    }

    fn a_directory_has_a_name(env) {
        env.busybox();
        let lib = env.context().file("a", "lib").file("hidden", "x").file(".dockerignore", "hidden\n").file("d/b", "deep");
        let ctx = env.dockerfile("FROM busybox:test AS tools\nRUN false\nFROM scratch\nCOPY --from=lib . /l/\nCOPY --from=tools a /t\n");
        let (named, tools) = (format!("lib={}", lib.path()), format!("tools={}", lib.path()));
        let args = ["--build-context", &named, "--build-context", &tools];
        let out = env.export(&ctx, &args);
        let paths: Vec<String> = out.entries(0).into_iter().map(|e| e.path).collect();
        assert!(paths.contains(&"l/d/b".to_owned()) && !paths.contains(&"l/hidden".to_owned()), "{paths:?}");
        assert_eq!(out.entry("t").content, b"lib", "the stage of that name is replaced");
        assert_eq!(env.build(&ctx, &args).cached(), 2);
        lib.write("a", "new");
        assert_eq!(env.export(&ctx, &args).entry("t").content, b"new");
        let bad = env.dockerfile("FROM scratch\nCOPY --from=lib none /\n");
        env.try_build(&bad, &args).fails().has_all(&["not found", "Dockerfile:2"]);
        refused(env, &["--build-context", "x=/no/such/dir", ctx.path()], &["/no/such/dir"]);
    }

    fn an_image_has_a_name(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM alpine:9 AS one\nRUN echo r''an\nFROM nothing:here\nCOPY --from=alpine:9 /etc/group /g\n");
        let args = ["--build-context", "alpine:9=docker-image://busybox:test", "--build-context", "nothing:here=docker-image://busybox:test"];
        let out = env.export(&ctx, &args);
        assert!(out.entry("g").content.starts_with(b"root:"));
        env.build(&ctx, &[&args[..], &["--target", "one"]].concat()).ran("ran");
        let gone = ["--build-context", "alpine:9=docker-image://gone:1"];
        env.try_build(&ctx, &[&gone[..], &["--target", "one"]].concat()).fails().has_all(&["gone:1", "Dockerfile:1"]);
    }

    fn a_layout_has_a_name(env) {
        env.busybox();
        let folder = layout(env, "FROM busybox:test\nENV A=b\nRUN echo in > /layout\n", "app:7");
        let descriptor = json(&format!("{folder}/index.json"))["manifests"][0].clone();
        let digest = descriptor["digest"].as_str().unwrap().to_owned();
        // Another store knows nothing of it.
        let other = TestEnv::new(env.who).unwrap();
        let ctx = other.dockerfile("FROM base AS one\nRUN cat /layout; echo $A\nFROM scratch\nCOPY --from=base /layout /l\n");
        for reference in ["", ":7", &format!("@{digest}")] {
            let name = format!("base=oci-layout://{folder}{reference}");
            let args = ["--build-context", &name];
            assert_eq!(other.export(&ctx, &args).entry("l").content, b"in\n", "{reference}");
            let built = other.build(&ctx, &[&args[..], &["--target", "one", "--no-cache"]].concat());
            built.ran("in").ran("b");
        }
        let fails = |reference: &str, text: &str| {
            let name = format!("base=oci-layout://{folder}{reference}");
            other.try_build(&ctx, &["--build-context", &name]).exits(1).has_all(&[text, "Dockerfile:"]);
        };
        fails(":8", "it has 7");
        fails("/none", "none");
        fails(&format!("@sha256:{}", "0".repeat(64)), "has no image");
    }

    fn a_bad_layout_is_refused(env) {
        env.busybox();
        let folder = layout(env, "FROM busybox:test\nRUN echo in > /layout\n", "app:7");
        let manifest = blob(&folder, &json(&format!("{folder}/index.json"))["manifests"][0]);
        let layers = json(&manifest)["layers"].clone();
        let (first, last) = (blob(&folder, &layers[0]), blob(&folder, &layers[1]));
        let ctx = "FROM base\n";
        let name = format!("base=oci-layout://{folder}");
        let fails = |path: &str, bytes: Option<Vec<u8>>, text: &str| {
            let other = TestEnv::new(env.who).unwrap();
            let old = std::fs::read(path).unwrap();
            match &bytes {
                Some(bytes) => std::fs::write(path, bytes).unwrap(),
                None => std::fs::remove_file(path).unwrap(),
            }
            other.try_build(&other.dockerfile(ctx), &["--build-context", &name]).fails().has(text);
            let images = other.rbuild(&["images", "-q"]).ok().stdout;
            assert_eq!(images, "", "nothing is kept of a bad image");
            std::fs::write(path, old).unwrap();
        };
        let cut = |path: &str| { let mut bytes = std::fs::read(path).unwrap(); bytes.truncate(bytes.len() / 2); bytes };
        let changed = |path: &str| { let mut bytes = std::fs::read(path).unwrap(); let at = bytes.len() / 2; bytes[at] ^= 1; bytes };
        fails(&first, Some(cut(&first)), "");
        fails(&last, Some(changed(&last)), "");
        fails(&last, None, "is missing");
        fails(&manifest, Some(changed(&manifest)), "other bytes");
        fails(&manifest, None, "is missing");
        fails(&format!("{folder}/index.json"), Some(b"{}".to_vec()), "index");
        fails(&format!("{folder}/oci-layout"), None, "oci-layout");
        // A pipe is not waited for.
        std::fs::remove_file(&last).unwrap();
        nix::unistd::mkfifo(Path::new(&last), nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
        let other = TestEnv::new(env.who).unwrap();
        other.try_build(&other.dockerfile(ctx), &["--build-context", &name]).fails().has("is no regular file");
    }

    fn what_is_on_the_web_has_a_name(env) {
        let host = GitHost::start();
        kit(&host);
        let tar = Tar::new().file("a", 0o644, "tar").file("b", 0o644, "").file(".dockerignore", 0o644, "b\n").bytes();
        let web = Files::start(&[("/c.tgz", &gzip(&tar)), ("/unused", b"x")]);
        let named = [
            format!("web={}", web.url("/c.tgz")),
            format!("kit={}", host.url("kit.git#light:sub")),
            format!("unused={}", web.url("/unused")),
            format!("gone={}", web.url("/gone")),
        ];
        let args: Vec<&str> = named.iter().flat_map(|name| ["--build-context", name]).collect();
        let ctx = env.dockerfile("FROM scratch AS no\nCOPY --from=unused / /\nCOPY --from=gone / /\nFROM scratch\nCOPY --from=web . /w/\nCOPY --from=kit dir/file /k\n");
        let out = env.export(&ctx, &args);
        assert_eq!((out.entry("w/a").content, out.entry("k").content), (b"tar".to_vec(), b"old".to_vec()));
        assert!(!out.entries(0).iter().any(|e| e.path == "w/b"));
        assert_eq!(web.count().0, 1, "what is not used is not fetched");
        env.try_build(&ctx, &[&args[..], &["--target", "no"]].concat()).fails().has("404");
    }

    fn the_time_of_a_context(env) {
        let host = GitHost::start();
        kit(&host);
        let tar = Tar::new().file("Dockerfile", 0o644, "FROM scratch\nCOPY Dockerfile /\n").bytes();
        let web = Files::start(&[("/c.tar", &tar)]);
        let plain = tar.clone();
        let silent = Server::start(move |_| Answer::ok(plain.clone()));
        let created = |args: &[&str]| exported(env, args).config["created"].as_str().unwrap().to_owned();
        let by_name = |name: &str, context: &str| {
            created(&["--build-arg", &format!("SOURCE_DATE_EPOCH={name}"), context])
        };
        let time = |seconds: u64| jiff::Timestamp::from_second(seconds.cast_signed()).unwrap().to_string();
        assert_eq!(by_name("context", &host.url("kit.git#light")), time(TIME));
        assert_eq!(by_name("context", &web.url("/c.tar")), time(DATE_SECONDS));
        // That of the newest file.
        assert_eq!(by_name("context", &silent.url("/c.tar")), time(1_000_000_000));
        let local = env.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
        let now = by_name("context", local.path());
        assert!(now > time(1_700_000_000), "a directory has no time: {now}");
        let named = format!("kit={}", host.url("kit.git"));
        assert_eq!(created(&["--build-context", &named, "--build-arg", "SOURCE_DATE_EPOCH=kit", local.path()]), time(TIME));
        let stage = env.dockerfile(&format!(
            "ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS src\nADD {} /\nFROM scratch\nCOPY --from=src / /\n", host.url("kit.git")));
        let out = exported(env, &[stage.path()]);
        assert_eq!(out.config["created"].as_str().unwrap(), time(TIME));
        assert_eq!(out.entry("sub/dir/file").mtime, TIME);
        let stage = env.dockerfile(&format!("FROM scratch AS src\nADD {} /\nFROM scratch\nCOPY --from=src / /\n", web.url("/c.tar")));
        assert_eq!(by_name("src", stage.path()), time(DATE_SECONDS));
    }

    /// While a server says nothing, or stops in the middle.
    fn signals_end_a_download_at_once(env) {
        let web = Server::start(|asked| match asked.target.as_str() {
            "/silent" => Answer::bad(Body::Silent),
            "/stuck" => Answer::bad(Body::Stuck(b"some".to_vec())),
            "/endless" => Answer::bad(Body::Endless),
            _ => Answer::bad(Body::Silent),
        });
        let local = env.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
        let hang = |asked: usize, args: &[&str]| {
            let build = Caged::start(env, &env.rbuild(&["build"]).args(args));
            while web.count() <= asked {
                std::thread::yield_now();
            }
            build.signal(Signal::INT);
            let (code, said) = build.finish();
            assert_eq!(code, 130, "{said}");
            let left = std::fs::read_dir(env.store().join("tmp")).map_or(0, Iterator::count);
            assert_eq!(left, 0, "nothing is left in the store\n{said}");
            web.count()
        };
        let mut asked = 0;
        for path in ["/silent", "/stuck", "/endless", "/x.git"] {
            let add = env.dockerfile(&format!("FROM scratch\nADD {} /\n", web.url(path)));
            asked = hang(asked, &[add.path()]);
            asked = hang(asked, &[&web.url(path)]);
        }
        asked = hang(asked, &["-f", &web.url("/stuck"), local.path()]);
        let named = format!("n={}", web.url("/stuck"));
        let uses = env.dockerfile("FROM scratch\nCOPY --from=n / /\n");
        hang(asked, &["--build-context", &named, uses.path()]);
    }
}
