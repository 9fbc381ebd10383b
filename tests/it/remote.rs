//! ADD of what is on the web: files and Git repositories.

use std::path::Path;

use sha2::Digest as _;

use super::common::base::Tar;
use super::common::git::{GitHost, TIME};
use super::common::http::{Answer, DATE_SECONDS, Files, Server};
use super::common::{Exported, Outcome};

/// Requires that no file below a folder, and no name of one, holds a text.
#[track_caller]
pub fn nowhere_in(folder: &Path, text: &str) {
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry.unwrap();
        let path = entry.path();
        assert!(!path.to_string_lossy().contains(text), "`{text}` is in the name {}", path.display());
        if entry.file_type().is_file() {
            let bytes = std::fs::read(path).unwrap();
            let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!found, "`{text}` is in {}", path.display());
        }
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    let hex: String = sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

/// Makes a repository with two commits: `light` and `v1.0` (annotated) name the first, `main` the second.
pub fn kit(host: &GitHost) -> (String, String) {
    host.repository("kit");
    let first = host.commit("kit", &[("Dockerfile", "FROM scratch\nCOPY . /\n"), ("sub/dir/file", "old")]);
    host.git("kit", &["tag", "light"]);
    host.git("kit", &["tag", "-a", "-m", "x", "v1.0"]);
    (first, host.commit("kit", &[("sub/dir/file", "new")]))
}

both! {
    fn a_file_is_0600_with_the_servers_time(env) {
        let web = Files::start(&[("/dir/f.txt", b"one"), ("/a%20b", b"two"), ("/", b"three"), ("/q", b"four")]);
        let out = env.export(&env.dockerfile(&format!(
            "FROM scratch\nARG NAME=f\nADD {} /d/\nADD {} /one\nADD {} {} {} /n/\n",
            web.url("/dir/${NAME}.txt"), web.url("/dir/f.txt"), web.url("/a%20b"), web.url("/"), web.url("/q?x=/y#/z"),
        )), &[]);
        let check = |path: &str, content: &[u8]| {
            let file = out.entry(path);
            assert_eq!((file.mode, file.uid, file.gid, file.mtime), (0o600, 0, 0, DATE_SECONDS), "{path}");
            assert_eq!(file.content, content, "{path}");
        };
        check("d/f.txt", b"one");
        check("one", b"one");
        check("n/a b", b"two");
        check("n/__unnamed__", b"three");
        check("n/q", b"four");
        assert_eq!(out.entry("d").mode, 0o755);
    }

    fn no_last_modified_is_1970(env) {
        let web = Server::start(|_| Answer::ok("x"));
        let out = env.export(&env.dockerfile(&format!("FROM scratch\nADD {} /\n", web.url("/f"))), &[]);
        assert_eq!(out.entry("f").mtime, 0);
    }

    fn a_file_is_asked_for_again_and_kept(env) {
        env.busybox();
        let web = Files::start(&[("/f", b"one\n")]);
        let ctx = env.dockerfile(&format!("FROM busybox:test\nADD {} /f\nRUN cat /f; echo r''an\n", web.url("/f")));
        env.build(&ctx, &[]).ran("one").ran("ran");
        assert_eq!(web.count(), (1, 0));
        let again = env.build(&ctx, &[]);
        assert_eq!(again.cached(), 2, "{again}");
        assert_eq!(web.count(), (2, 1));
        web.put("/f", b"two\n");
        env.build(&ctx, &[]).ran("two");
        assert_eq!(web.count(), (3, 2));
        assert_eq!(env.build(&ctx, &[]).cached(), 2);
    }

    /// The content counts, not where it is from.
    fn the_same_bytes_elsewhere_are_cached(env) {
        env.busybox();
        let web = Files::start(&[("/a/f", b"one\n"), ("/b/f", b"one\n")]);
        let dockerfile = |path| format!("FROM busybox:test\nADD {} /f\nRUN echo r''an\n", web.url(path));
        let ctx = env.dockerfile(&dockerfile("/a/f"));
        env.build(&ctx, &[]).ran("ran");
        ctx.write("Dockerfile", dockerfile("/b/f"));
        env.build(&ctx, &[]).did_not_run("ran");
    }

    fn a_checksum_that_holds_needs_no_server(env) {
        let web = Files::start(&[("/f", b"one")]);
        let ctx = env.dockerfile(&format!("FROM scratch\nADD --checksum={} {} /\n", sha256(b"one"), web.url("/f")));
        env.build(&ctx, &[]);
        assert_eq!(env.build(&ctx, &[]).cached(), 1);
        assert_eq!(web.count(), (1, 0));
    }

    fn a_checksum_that_does_not_hold_keeps_nothing(env) {
        let web = Files::start(&[("/f", b"evil bytes of nobody")]);
        let good = sha256(b"good");
        let line = format!("ADD --checksum={good} {} /", web.url("/f"));
        let ctx = env.dockerfile(&format!("FROM scratch\n{line}\n"));
        let bad = env.try_build(&ctx, &[]).exits(1);
        bad.has_all(&[&good, &sha256(b"evil bytes of nobody"), "Dockerfile:2", &line]);
        nowhere_in(env.store(), "evil bytes of nobody");
        web.put("/f", b"good");
        assert_eq!(env.export(&ctx, &[]).entry("f").content, b"good");
    }

    fn archives_are_unpacked_where_asked(env) {
        let tar = Tar::new().dir("d", 0o750).file("d/f", 0o640, "x").bytes();
        let web = Files::start(&[("/a.tar.gz", &gzip(&tar)), ("/plain", b"no archive")]);
        let ctx = env.context().file("l.tar", &tar).file("Dockerfile", format!(
            "FROM scratch\nADD {a} /kept/\nADD --unpack {a} /un/\nADD --unpack=true {plain} /p/\nADD --unpack=false l.tar /l/\nADD l.tar {a} /both/\n",
            a = web.url("/a.tar.gz"), plain = web.url("/plain"),
        ));
        let out = env.export(&ctx, &[]);
        assert_eq!(out.entry("kept/a.tar.gz").content, gzip(&tar));
        assert_eq!((out.entry("un/d/f").mode, out.entry("un/d").mode), (0o640, 0o750));
        assert_eq!(out.entry("p/plain").content, b"no archive");
        assert_eq!(out.entry("l/l.tar").content, tar);
        assert_eq!(out.entry("both/d/f").content, b"x");
        assert_eq!(out.entry("both/a.tar.gz").mode, 0o600);
    }

    fn owner_and_mode_can_be_given(env) {
        env.busybox();
        let web = Files::start(&[("/f", b"x")]);
        let ctx = env.dockerfile(&format!(
            "FROM busybox:test\nADD --chown=app --chmod=u=rw,go=r {f} /a/f\nADD --link --chown=5:6 --chmod=4711 {f} /b\n",
            f = web.url("/f")));
        let out = env.export(&ctx, &[]);
        let file = |path: &str| { let e = out.entry(path); (e.mode, e.uid, e.gid) };
        assert_eq!(file("a/f"), (0o644, 1000, 1001));
        assert_eq!(file("b"), (0o4711, 5, 6));
        assert_eq!(web.count().0, 1, "one URL, one request");
    }

    fn a_later_source_replaces_an_earlier_one(env) {
        let web = Files::start(&[("/f", b"web"), ("/x/f", b"other")]);
        let (f, x) = (web.url("/f"), web.url("/x/f"));
        let ctx = env.context().file("f", "local").file("Dockerfile", format!(
            "FROM scratch\nADD f {f} /a/\nADD {f} f /b/\nADD {f} {x} /c/\nADD f {x} f {f} /d/\nADD {f} f <<f /e/\ninline\nf\n"));
        let out = env.export(&ctx, &[]);
        let content = |path: &str| String::from_utf8(out.entry(path).content).unwrap();
        assert_eq!(["a/f", "b/f", "c/f", "d/f", "e/f"].map(content), ["web", "local", "other", "web", "inline\n"]);
    }

    fn redirects_are_followed_and_the_name_stays(env) {
        let web = Server::start(|asked| match asked.target.as_str() {
            "/old" => Answer::redirect(302, "/new?x"),
            "/new?x" => Answer::ok("moved"),
            _ => Answer::status(404),
        });
        let out = env.export(&env.dockerfile(&format!("FROM scratch\nADD {} /\n", web.url("/old"))), &[]);
        assert_eq!(out.entry("old").content, b"moved");
    }

    fn what_cannot_be_fetched_is_named_with_its_line(env) {
        let web = Files::start(&[]);
        let check = |url: &str, texts: &[&str]| {
            let ctx = env.dockerfile(&format!("FROM scratch\nADD {url} /\n"));
            env.try_build(&ctx, &[]).fails().exits(1).has_all(&["Dockerfile:2", url]).has_all(texts);
        };
        check(&web.url("/gone"), &["404"]);
        let gone = Server::start(|_| Answer::ok(""));
        let url = gone.url("/f");
        drop(gone);
        check(&url, &["refused"]);
        check("http://127.0.0.1:1/x.git", &["127.0.0.1"]);
    }

    fn passwords_in_addresses_are_sent_and_not_told(env) {
        env.busybox();
        let web = Server::start(|asked| match (asked.target.as_str(), asked.header("authorization")) {
            // joe:SeCrEtPw
            ("/f", Some("Basic am9lOlNlQ3JFdFB3")) => Answer::ok("private"),
            ("/f", _) => Answer::status(401),
            _ => Answer::status(404),
        });
        let host = GitHost::start();
        kit(&host);
        host.lock("/kit.git", "Basic am9lOlNlQ3JFdFB3");
        let url = |path: &str| format!("http://joe:SeCrEtPw@{}{path}", web.host());
        let repository = host.url_as("joe:SeCrEtPw", "kit.git");
        let ctx = env.dockerfile(&format!(
            "FROM busybox:test\nADD {} /f\nADD {repository} /kit/\nRUN cat /f /kit/sub/dir/file\n", url("/f")));
        let quiet = |outcome: Outcome| { outcome.lacks("SeCrEtPw"); };
        let built = env.build(&ctx, &["-t", "x"]);
        assert!(built.both.contains("privatenew"), "{built}");
        quiet(built);
        quiet(env.build(&ctx, &["-t", "x"]));
        quiet(env.rbuild(&["history", "--no-trunc", "x"]).ok());
        quiet(env.rbuild(&["inspect", "x"]).ok());
        for format in ["json", "dot", "mermaid"] {
            quiet(env.rbuild(&["graph", "--format", format, ctx.path()]).ok());
        }
        let file = env.path_str("x.tar");
        quiet(env.build(&ctx, &["-o", &format!("type=oci,dest={file}")]));
        assert!(!String::from_utf8_lossy(&std::fs::read(&file).unwrap()).contains("SeCrEtPw"));
        nowhere_in(env.store(), "SeCrEtPw");
        for line in [
            format!("ADD {} /f", url("/gone")),
            format!("ADD {} /f", host.url_as("joe:SeCrEtPw", "none.git")),
            format!("ADD {repository}?x=1 /f"),
            format!("COPY {} /f", url("/f")),
            format!("ADD --checksum=sha256:00 {} /f", url("/f")),
        ] {
            ctx.write("Dockerfile", format!("FROM scratch\n{line}\n"));
            quiet(env.try_build(&ctx, &[]).fails().has("Dockerfile:2"));
        }
        nowhere_in(env.store(), "SeCrEtPw");
    }

    fn secrets_of_the_build_open_what_is_fetched(env) {
        let web = Server::start(|asked| match asked.header("authorization") {
            Some("Bearer t0ken-of-web") => Answer::ok("private"),
            _ => Answer::status(401),
        });
        let host = GitHost::start();
        kit(&host);
        // x-access-token:t0ken-of-git
        host.lock("/kit.git", "Basic eC1hY2Nlc3MtdG9rZW46dDBrZW4tb2YtZ2l0");
        // Both are fetched at once, so the first that fails is alone in its file.
        let one = format!("FROM scratch\nADD {} /f\n", web.url("/f"));
        let ctx = env.dockerfile(&one).file("web", "t0ken-of-web\n");
        env.try_build(&ctx, &[]).fails().has("Dockerfile:2").has("401");
        ctx.write("Dockerfile", format!("{one}ADD {} /kit/\n", host.url("kit.git")));
        let file = format!("id=HTTP_AUTH_TOKEN_127.0.0.1,src={}", ctx.at("web"));
        env.try_build(&ctx, &["--secret", &file]).fails().has("Dockerfile:3");
        let build = env.rbuild(&["build", "--secret", &file, "--secret", "id=GIT_AUTH_TOKEN,env=OF_GIT", ctx.path()]);
        build.var("OF_GIT", "t0ken-of-git").ok().lacks("t0ken");
        nowhere_in(env.store(), "t0ken-of");
    }

    fn git_in_every_form(env) {
        let host = GitHost::start();
        let (first, second) = kit(&host);
        let forms: Vec<(String, &str)> = vec![
            ("kit.git".into(), "new"),
            ("kit.git#main".into(), "new"),
            ("kit.git#light".into(), "old"),
            ("kit.git#refs/tags/v1.0".into(), "old"),
            (format!("kit.git#{first}"), "old"),
            ("kit.git?branch=main".into(), "new"),
            ("kit.git?tag=v1.0".into(), "old"),
            ("kit.git?ref=light".into(), "old"),
            (format!("kit.git?commit={first}"), "old"),
            (format!("kit.git?ref=main&checksum={}", &second[..12]), "new"),
            (format!("kit.git?ref=v1.0&commit={first}&fetch-by-commit=true"), "old"),
            ("kit.git?tag=light&submodules=false&keep-git-dir=0&mtime=checkout".into(), "old"),
        ];
        let mut text = "FROM scratch\n".to_owned();
        for (number, (form, _)) in forms.iter().enumerate() {
            text += &format!("ADD {} /{number}/\n", host.url(form));
        }
        text += &format!("ADD {} /s1/\n", host.url("kit.git#light:sub/dir"));
        text += &format!("ADD {} /s2/\n", host.url("kit.git?subdir=sub&mtime=commit"));
        text += &format!("ADD --keep-git-dir {} /g1/\n", host.url("kit.git#main"));
        text += &format!("ADD {} /g2/\n", host.url("kit.git?keep-git-dir=true"));
        text += &format!("ADD --checksum={second} --chown=7:8 --chmod=0600 {} /c/\n", host.url("kit.git#main"));
        let out = env.export(&env.dockerfile(&text), &[]);
        for (number, (form, content)) in forms.iter().enumerate() {
            let file = out.entry(&format!("{number}/sub/dir/file"));
            assert_eq!((String::from_utf8_lossy(&file.content).as_ref(), file.mode), (*content, 0o644), "{form}");
        }
        assert_eq!(out.entry("s1/file").content, b"old");
        assert_eq!(out.entry("s2/dir/file").mtime, TIME);
        assert!(!out.entry("g1/.git/HEAD").content.is_empty() && !out.entry("g2/.git/HEAD").content.is_empty());
        let all: Vec<String> = (0..out.layers.len()).flat_map(|l| out.entries(l)).map(|e| e.path).collect();
        assert!(!all.contains(&"0/.git".to_owned()), "{all:?}");
        let file = out.entry("c/sub/dir/file");
        assert_eq!((file.mode, file.uid, file.gid), (0o600, 7, 8));
    }

    fn git_is_asked_for_its_names_and_cached(env) {
        env.busybox();
        let host = GitHost::start();
        let (first, _) = kit(&host);
        let dockerfile = |form: &str| {
            format!("FROM busybox:test\nADD {} /k/\nRUN cat /k/sub/dir/file; echo r''an\n", host.url(form))
        };
        let ctx = env.dockerfile(&dockerfile("kit.git#main"));
        env.build(&ctx, &[]).ran("ran");
        assert!(host.asked().len() > 2);
        let again = env.build(&ctx, &[]);
        assert_eq!(again.cached(), 2, "{again}");
        // What the second version of the protocol needs for ls-remote.
        assert_eq!(host.asked(), ["/kit.git/info/refs?service=git-upload-pack", "/kit.git/git-upload-pack"]);
        host.commit("kit", &[("sub/dir/file", "newer ")]);
        env.build(&ctx, &[]).ran("newer ran");
        ctx.write("Dockerfile", dockerfile(&format!("kit.git#{first}")));
        env.build(&ctx, &[]).ran("oldran");
        host.asked();
        env.build(&ctx, &[]);
        assert_eq!(host.asked(), Vec::<String>::new(), "a whole commit says it all");
    }

    fn wrong_names_and_checksums_of_git_are_told(env) {
        let host = GitHost::start();
        let (first, second) = kit(&host);
        let check = |line: String, texts: &[&str]| {
            let ctx = env.dockerfile(&format!("FROM scratch\n{line}\n"));
            env.try_build(&ctx, &[]).fails().has("Dockerfile:2").has_all(texts);
        };
        check(format!("ADD --checksum={first} {} /", host.url("kit.git#main")), &[&first, &second]);
        check(format!("ADD {} /", host.url("kit.git#mian")), &["mian", "`main`"]);
        check(format!("ADD {} /", host.url("kit.git#main:no/such")), &["no/such"]);
        check(format!("ADD {} /", host.url("kit.git#main:../..")), &["leads out of the repository"]);
        check(format!("ADD {} /", host.url("kit.git#--upload-pack=x")), &["begins with `-`"]);
        check(format!("ADD {} /", host.url("kit.git?brnach=x")), &["brnach", "branch"]);
        check(format!("ADD {} /", host.url("none.git")), &["not found"]);
    }

    /// What git's hooks set for the programs they call.
    fn the_callers_git_does_not_matter(env) {
        let host = GitHost::start();
        kit(&host);
        host.repository("own");
        host.commit("own", &[("other", "x")]);
        let ctx = env.dockerfile(&format!(
            "FROM scratch\nADD {} /k/\nADD {} /g/\n", host.url("kit.git"), host.url("kit.git?keep-git-dir=1")));
        let before = host.git("own", &["status", "--porcelain", "--branch"]);
        let (file, dir) = (env.path_str("i.tar"), host.git("own", &["rev-parse", "--absolute-git-dir"]));
        env.rbuild(&["build", "-o", &format!("type=oci,dest={file}"), ctx.path()])
            .var("GIT_DIR", &dir).var("GIT_WORK_TREE", "/nonexistent").var("GIT_INDEX_FILE", "/nonexistent/index")
            .var("GIT_OBJECT_DIRECTORY", "/nonexistent/o").var("GIT_CONFIG_PARAMETERS", "'x'").var("GIT_PREFIX", "a/")
            .var("GIT_SSH_COMMAND", "/nonexistent/ssh").var("GIT_EXEC_PATH", "/nonexistent")
            .ok();
        let out = Exported::read(Path::new(&file));
        assert_eq!(out.entry("k/sub/dir/file").content, b"new");
        assert!(!out.entry("g/.git/HEAD").content.is_empty());
        assert_eq!(host.git("own", &["status", "--porcelain", "--branch"]), before);
    }

    fn submodules_come_with_the_repositorys_password(env) {
        let host = GitHost::start();
        host.repository("inner");
        host.commit("inner", &[("deep", "private")]);
        host.repository("outer");
        host.commit("outer", &[("top", "x")]);
        host.commit_submodule("outer", "mod", "../inner.git", "inner");
        // joe:SeCrEtPw
        host.lock("/inner.git", "Basic am9lOlNlQ3JFdFB3");
        host.lock("/outer.git", "Basic am9lOlNlQ3JFdFB3");
        let address = host.url_as("joe:SeCrEtPw", "outer.git");
        let ctx = env.dockerfile(&format!("FROM scratch\nADD {address} /o/\nADD {address}?submodules=false /n/\n"));
        let out = env.export(&ctx, &[]);
        assert_eq!(out.entry("o/mod/deep").content, b"private");
        let paths = out.last_paths();
        assert!(paths.contains(&"n/top".to_owned()) && !paths.iter().any(|p| p.ends_with("deep")), "{paths:?}");
        nowhere_in(env.store(), "SeCrEtPw");
        ctx.write("Dockerfile", format!("FROM scratch\nADD {} /o/\n", host.url("outer.git")));
        env.try_build(&ctx, &[]).exits(1).has("authentication").has("GIT_AUTH_TOKEN");
    }

    fn builds_at_once_share_what_they_fetch(env) {
        let host = GitHost::start();
        kit(&host);
        let large = vec![b'x'; 3_000_000];
        let web = Files::start(&[("/large", &large)]);
        let ctx = env.dockerfile(&format!("FROM scratch\nADD {} /\nADD {} /k/\n", web.url("/large"), host.url("kit.git")));
        let jobs: Vec<_> = (0..4).map(|_| env.rbuild(&["build", "-q", ctx.path()]).spawn()).collect();
        let ids: Vec<String> = jobs.into_iter().map(|job| job.finish().ok().stdout).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(env.export(&ctx, &[]).entry("large").content, large);
    }
}
