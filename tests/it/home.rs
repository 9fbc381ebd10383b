//! At home in the shell: completion in the real shells, manual pages, `make install`, settings, exit codes.
//!
//! Not here: that each command's help teaches (a test beside the command line), what a doctor's facts are.

use std::fs;

use super::common::Outcome;
use super::common::TestEnv;
use super::common::Who;
use super::common::env::run_as;
use super::common::not_here;
use super::common::skip;

/// Programs that a test needs; says so where one is missing.
fn lacks(program: &str) -> bool {
    let there = ["/usr/bin", "/bin", "/usr/local/bin"]
        .iter()
        .any(|folder| fs::exists(format!("{folder}/{program}")).unwrap());
    if !there {
        skip(&format!("{program} is not installed"));
    }
    !there
}

/// A context, and two images in the store.
fn furnished(env: &TestEnv) -> super::common::Context<'_> {
    let context = env
        .dockerfile(
            "ARG BASE=1\nFROM scratch AS deps\nCOPY Dockerfile /\nFROM deps AS test\nCOPY Dockerfile /b\n",
        )
        .file("notes.txt", "x");
    for name in ["flask:1", "flask:2", "host.example:5000/a/b:3"] {
        env.build(&context, &["-q", "-t", name]);
    }
    context
}

/// What a shell makes of an unfinished line.
fn completed(env: &TestEnv, shell: &str, folder: &str, line: &str) -> String {
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/home");
    // Copied, since the ordinary user may not be allowed to read the project's folder.
    let script = |name: &str| {
        let path = env.path(name);
        fs::copy(format!("{scripts}/{name}"), &path).unwrap();
        env.give(&path);
        path.to_str().unwrap().to_owned()
    };
    let command = match shell {
        "bash" => env.program("bash", &["--norc", &script("complete.bash"), line]),
        "zsh" => env.program("zsh", &["-f", &script("complete.zsh"), line]),
        _ => env.program(
            "fish",
            &["--no-config", "-c", "rbuild completion fish | source; complete -C $argv[1]", line],
        ),
    };
    let path = format!("{}:/usr/bin:/bin", env.exe().parent().unwrap().display());
    let outcome = command
        .folder(folder)
        .var("PATH", &path)
        .var("RBUILD_ROOT", env.store().to_str().unwrap())
        .var("TERM", "dumb")
        .ok();
    assert_eq!(outcome.stderr, "", "{shell}: {line}: completing is quiet\n{outcome}");
    outcome.stdout
}

both! {
    fn bash_completes(env) {
        if lacks("bash") { return; }
        let context = furnished(env);
        let check = |line: &str, expect: &str| {
            let mut found: Vec<String> = completed(env, "bash", context.path(), line).lines().map(str::to_owned).collect();
            found.sort();
            assert_eq!(found.join(" "), expect, "{line}");
        };
        check("rbuild imag", "image images");
        check("rbuild image pru", "prune");
        check("rbuild -t x --no-cache-f", "--no-cache-filter");
        check("rbuild --target ", "deps test");
        check("rbuild build --target=t", "test");
        // bash has taken all up to the last colon for a word of its own.
        check("rbuild rmi fl", "flask:1 flask:2");
        check("rbuild rmi flask:", "1 2");
        check("rbuild rmi host.example:5", "5000/a/b:3");
        check("rbuild --progress=pl", "plain");
        check("rbuild -f no", "notes.txt");
        check("rbuild --file=no", "notes.txt");
        check("rbuild --build-arg ", "BASE=");
        check("rbuild nothing-at-all --nope", "");
        env.rbuild(&["create", "--name", "web", "-v", "web-data:/d", "--entrypoint", "/x", "flask:1"]).ok();
        check("rbuild logs w", "web");
        check("rbuild container rm w", "web");
        check("rbuild exec -i w", "web");
        check("rbuild inspect w", "web web-data");
        check("rbuild container inspect f", "");
        check("rbuild run --network h", "host");
        // The word after the colon.
        check("rbuild run --network container:", "web");
        let id = env.rbuild(&["builds", "--format", "{{.ID}}"]).ok().stdout.lines().next().unwrap().to_owned();
        check(&format!("rbuild builds show {}", &id[..6]), &id);
    }

    fn zsh_completes(env) {
        if lacks("zsh") { return; }
        let context = furnished(env);
        let check = |line: &str, expect: &str| assert_eq!(completed(env, "zsh", context.path(), line).trim(), expect, "{line}");
        check("rbuild doc", "doctor");
        check("rbuild image pru", "image prune");
        check("rbuild --target t", "--target test");
        check("rbuild rmi host.ex", "rmi host.example:5000/a/b:3");
        check("rbuild --progress=pl", "--progress=plain");
        check("rbuild -f no", "-f notes.txt");
        check("rbuild --file=no", "--file=notes.txt");
    }

    fn fish_completes(env) {
        if lacks("fish") { return; }
        let context = furnished(env);
        let check = |line: &str, expect: &str| {
            let out = completed(env, "fish", context.path(), line);
            let mut found: Vec<&str> = out.lines().map(|line| line.split('\t').next().unwrap()).collect();
            found.sort();
            assert_eq!(found.join(" "), expect, "{line}");
        };
        check("rbuild imag", "image images");
        check("rbuild build --target ", "deps test");
        check("rbuild rmi fl", "flask:1 flask:2");
        check("rbuild --progress=pl", "--progress=plain");
        check("rbuild -f no", "notes.txt");
        check("rbuild --file=no", "--file=notes.txt");
    }

    fn completing_makes_no_store_and_says_nothing(env) {
        for words in [&["rmi", ""][..], &["builds", "show", ""], &["--target", ""], &["images", "--nope", ""], &["a\nb", "\u{1b}[2J"], &[]] {
            let all = [&["__complete", "--"], words].concat();
            let outcome = env.rbuild(&all).ok();
            assert_eq!(outcome.both, "", "{words:?}");
        }
        let config = env.dir().join("home/.config/rbuild");
        fs::create_dir_all(&config).unwrap();
        fs::write(config.join("config.toml"), "broken").unwrap();
        assert_eq!(env.rbuild(&["__complete", "--", "rmi", ""]).without_var("RBUILD_ROOT").ok().both, "");
        assert!(!env.store().exists());
    }

    fn settings_have_their_order(env) {
        let ctx = env.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
        let config = env.dir().join("home/.config/rbuild/config.toml");
        fs::create_dir_all(config.parent().unwrap()).unwrap();
        let root = env.path_str("elsewhere");
        fs::write(&config, format!("[build]\nprogress = \"quiet\"\n\n[store]\nroot = \"{root}\"\n")).unwrap();
        env.give(&config);
        let build = |args: &[&str]| env.rbuild(&["build"]).args(args).args(&[ctx.path()]).without_var("RBUILD_ROOT");
        // The file's.
        let quiet = build(&[]).ok();
        assert!(!quiet.stdout.contains("Step 1/2"), "{quiet}");
        assert!(fs::exists(&root).unwrap());
        // A variable is over it, an option over both.
        build(&[]).var("BUILDKIT_PROGRESS", "plain").ok().has("Step 1/2");
        let quiet = build(&["--progress", "quiet"]).var("BUILDKIT_PROGRESS", "plain").ok();
        assert!(!quiet.stdout.contains("Step 1/2"), "{quiet}");
        let other = env.path_str("other");
        build(&["--root", &other]).ok();
        assert!(fs::exists(&other).unwrap());
        // What is in force is told, and from where.
        let file = config.to_str().unwrap();
        let shown = env.rbuild(&["config"]).without_var("RBUILD_ROOT").ok();
        let row = |outcome: &Outcome, key: &str| outcome.stdout.lines().find(|l| l.starts_with(key)).unwrap().to_owned();
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(&row(&shown, "build.progress")), format!("build.progress quiet {file}"));
        assert_eq!(words(&row(&shown, "store.root")), format!("store.root {root} {file}"));
        assert_eq!(words(&row(&shown, "proxy.http ")), "proxy.http none default");
        let json = env.rbuild(&["config", "--format", "json"]).var("https_proxy", "http://me:secret@proxy:1").ok().lacks("secret");
        let all: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        let key = |name: &str| all.as_array().unwrap().iter().find(|entry| entry["key"] == name).unwrap().clone();
        assert_eq!((&key("proxy.https")["from"], &key("proxy.https")["variable"]), (&"environment".into(), &"$https_proxy".into()));
        assert_eq!(key("store.root")["value"], env.store().to_str().unwrap());
    }

    /// The default file, as it is printed, is one that holds.
    fn the_default_file_holds(env) {
        let config = env.dir().join("home/.config/rbuild/config.toml");
        fs::create_dir_all(config.parent().unwrap()).unwrap();
        fs::write(&config, env.rbuild(&["config", "--default"]).ok().stdout).unwrap();
        env.rbuild(&["images"]).ok();
        assert!(!env.rbuild(&["config"]).ok().stdout.contains("config.toml"), "nothing in it says anything");
    }

    fn a_proxy_of_the_file_is_used(env) {
        let config = env.dir().join("home/.config/rbuild/config.toml");
        fs::create_dir_all(config.parent().unwrap()).unwrap();
        fs::write(&config, "[proxy]\nhttp = \"http://proxy.invalid:3128\"\nno = [\"direct.invalid\"]\n").unwrap();
        env.rbuild(&["http://app.invalid/Dockerfile"]).exits(1).has("proxy.invalid");
        env.rbuild(&["http://direct.invalid/Dockerfile"]).exits(1).has("direct.invalid").lacks("proxy.invalid");
        env.rbuild(&["http://app.invalid/Dockerfile"]).var("HTTP_PROXY", "").exits(1).lacks("proxy.invalid");
    }

    fn a_broken_file_is_drawn(env) {
        let config = env.dir().join("home/.config/rbuild/config.toml");
        fs::create_dir_all(config.parent().unwrap()).unwrap();
        fs::write(&config, "[build]\nprogres = \"plain\"\n").unwrap();
        let file = config.to_str().unwrap();
        for words in [&["images"][..], &["build", "."], &["config"], &["login", "r.invalid"]] {
            let outcome = env.rbuild(words).exits(2);
            let outcome = outcome.has_all(&[&format!("{file}:2:1"), "unknown key `progres`", "did you mean `progress`?"]);
            assert_eq!(outcome.both.matches("unknown key").count(), 1, "{outcome}");
        }
        assert!(!env.store().exists());
        env.rbuild(&["doctor"]).exits(1).has_all(&["unknown key `progres`", "missing  configuration", "builds cannot work here"]);
        // What needs no settings does not mind.
        env.rbuild(&["expand", "x"]).ok();
        fs::write(&config, [0xff, 0xfe]).unwrap();
        env.rbuild(&["images"]).exits(2).has("it is not UTF-8").has(file);
    }

    fn doctor_for_programs(env) {
        let outcome = env.rbuild(&["doctor", "--format", "json"]).output();
        let all: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!(outcome.code, Some(if all["works"] == true { 0 } else { 1 }));
        let facts = all["facts"].as_array().unwrap();
        for fact in facts {
            let ok = fact["status"] == "ok";
            assert_eq!(fact["fix"] == "", ok, "{fact}");
            assert_ne!(fact["needed_for"], "", "{fact}");
        }
        for group in ["kernel", "user", "store", "network", "programs", "settings"] {
            assert!(facts.iter().any(|fact| fact["group"] == group), "{group}: {outcome}");
        }
        // A helper that the settings name and that is not there is a note, and no more.
        let docker = env.dir().join("home/.docker");
        fs::create_dir_all(&docker).unwrap();
        fs::write(docker.join("config.json"), r#"{"credsStore":"nowhere"}"#).unwrap();
        env.rbuild(&["doctor"]).ok().has_all(&["note     credential helpers", "docker-credential-nowhere", "fix: "]);
        assert!(!env.store().exists(), "looking makes nothing");
    }

    fn exit_codes_are_those_of_the_table(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN exit 7\n").file("bad", "FORM x\n").file("advice", "from scratch AS Up\nCOPY bad /\n");
        env.rbuild(&["images"]).exits(0);
        env.try_build(&ctx, &[]).exits(1).has("7");
        env.rbuild(&["check", "-f", &ctx.at("advice"), ctx.path()]).exits(1);
        env.rbuild(&["expand", "${X:?must be}"]).exits(1);
        env.rbuild(&["--root", "/proc/self/none", "doctor"]).exits(1).has("missing  directory");
        env.rbuild(&["images", "--nope"]).exits(2);
        env.try_build(&ctx, &["-f", &ctx.at("bad")]).exits(2);
        env.rbuild(&["run", "--nope"]).exits(125);
        env.rbuild(&["run", "--pull=never", "no-such-image"]).exits(125);
        env.run(&["busybox:test", "/etc/passwd"]).exits(126);
        env.run(&["busybox:test", "/no/such/program"]).exits(127);
        env.run(&["busybox:test", "sh", "-c", "exit 42"]).exits(42);
        env.run(&["busybox:test", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"]).exits(137);
        use rustix::process::Signal;
        for (signal, code) in [(Signal::HUP, 129), (Signal::INT, 130), (Signal::TERM, 143)] {
            let slow = env.dockerfile(&format!("FROM busybox:test\nRUN echo begun{code} && sleep 600\n"));
            let job = env.rbuild(&["build", slow.path()]).spawn();
            job.wait_for(&format!("\nbegun{code}"));
            job.signal(signal);
            job.finish().exits(code).has("stopped; nothing was left behind");
        }
        env.rbuild(&["help", "exit-codes"]).ok().has_all(&["125 ", "126 ", "127 ", "129, 130, 143"]);
    }

    fn help_in_all_its_ways(env) {
        let all = env.rbuild(&[]).ok().has_all(&["Build:\n  build ", "Machine:\n  doctor ", "Examples:"]);
        assert_eq!(all.stderr, "");
        for words in [&["help"][..], &["--help"]] {
            assert_eq!(env.rbuild(words).ok().stdout, all.stdout);
        }
        let short = env.rbuild(&["-h"]).ok();
        assert!(short.stdout.len() < all.stdout.len(), "{short}");
        let build = env.rbuild(&["help", "build"]).ok().has_all(&["\nInput:\n", "\nCache:\n", "\nLimits:\n", "See also: "]);
        assert_eq!(env.rbuild(&["build", "--help"]).ok().stdout, build.stdout);
        assert!(env.rbuild(&["build", "-h"]).ok().stdout.lines().count() < build.stdout.lines().count());
        env.rbuild(&["help", "image", "ls"]).ok().has("rbuild image ls");
        // No colour in a pipe; on a terminal there is, but where it is not wanted.
        assert!(!all.stdout.contains('\x1b'));
        let on_a_terminal = |var: (&str, &str)| {
            let line = format!("stty rows 24 cols 50; {} check --help", env.exe().display());
            env.program("script", &["-qec", &line, "/dev/null"]).var("TERM", "xterm").var(var.0, var.1).ok().stdout
        };
        let coloured = on_a_terminal(("X", "x"));
        assert!(coloured.contains("\x1b[1m"), "{coloured}");
        let plain = on_a_terminal(("NO_COLOR", "1"));
        assert!(!plain.contains('\x1b'), "{plain}");
        let description = plain.lines().filter(|line| line.starts_with("          "));
        assert!(description.clone().count() > 5 && description.clone().all(|line| line.trim_end().len() <= 50), "{plain}");
        assert!(!env.store().exists());
    }
}

/// What is installed is all there, works, and goes again.
#[test]
fn make_install_and_uninstall() {
    run_as(Who::Root, |env| {
        if lacks("make") || lacks("mandoc") {
            return;
        }
        let root = env.path_str("root");
        let exe = env.exe();
        let make = |goal: &str| {
            let words = [
                "-C",
                env!("CARGO_MANIFEST_DIR"),
                goal,
                &format!("BINARY={}", exe.display()),
                "PREFIX=/usr",
                &format!("DESTDIR={root}"),
            ];
            env.program("make", &words).ok()
        };
        make("install");
        let at = |path: &str| format!("{root}/usr/{path}");
        for file in [
            "bin/rbuild",
            "share/bash-completion/completions/rbuild",
            "share/zsh/site-functions/_rbuild",
            "share/fish/vendor_completions.d/rbuild.fish",
            "share/man/man1/rbuild.1",
            "share/man/man1/rbuild-image-ls.1",
            "share/man/man5/rbuild-config.5",
        ] {
            assert!(fs::metadata(at(file)).unwrap().len() > 100, "{file}");
        }
        env.program(&at("bin/rbuild"), &["--version"]).ok();
        // The shells take the scripts for what they are.
        env.program("bash", &["-n", &at("share/bash-completion/completions/rbuild")]).ok();
        if !lacks("zsh") && !lacks("fish") {
            env.program("zsh", &["-n", &at("share/zsh/site-functions/_rbuild")]).ok();
            env.program("fish", &["--no-execute", &at("share/fish/vendor_completions.d/rbuild.fish")]).ok();
        }
        // Every page is one, and says the same when it is made again.
        for folder in ["man1", "man5"] {
            for entry in fs::read_dir(at(&format!("share/man/{folder}"))).unwrap() {
                let page = entry.unwrap().path();
                env.program("mandoc", &["-T", "lint", "-W", "error", page.to_str().unwrap()]).ok();
            }
        }
        let shown = env.program("mandoc", &["-T", "utf8", &at("share/man/man1/rbuild-build.1")]).ok();
        assert!(shown.stdout.contains("rbuild -o type=oci,dest=image.tar ."), "{shown}");
        let before = fs::read(at("share/man/man1/rbuild.1")).unwrap();
        make("install");
        assert_eq!(before, fs::read(at("share/man/man1/rbuild.1")).unwrap());
        make("uninstall");
        let left: Vec<_> = walkdir::WalkDir::new(&root)
            .into_iter()
            .map(Result::unwrap)
            .filter(|entry| !entry.file_type().is_dir())
            .map(|entry| entry.into_path())
            .collect();
        assert!(left.is_empty(), "{left:?}");
    });
}

/// The machine's file holds where the user's says nothing. It is put over /etc in a mount namespace.
#[test]
fn the_machines_settings_lie_under_the_users() {
    run_as(Who::Root, |env| {
        if !rustix::process::geteuid().is_root() {
            return not_here("only root can put a file into /etc");
        }
        let etc = env.path("etc");
        fs::create_dir_all(etc.join("rbuild")).unwrap();
        fs::write(etc.join("rbuild/config.toml"), "[build]\nprogress = \"plain\"\nca_cert = \"/ca.pem\"\n")
            .unwrap();
        let user = env.dir().join("home/.config/rbuild/config.toml");
        fs::create_dir_all(user.parent().unwrap()).unwrap();
        fs::write(&user, "[build]\nprogress = \"quiet\"\n").unwrap();
        let script = "mount -t overlay overlay -o lowerdir=\"$0\":/etc /etc && exec \"$@\"";
        let outcome = env
            .rbuild(&["config"])
            .behind(&["unshare", "--mount", "sh", "-c", script, etc.to_str().unwrap()])
            .ok();
        let words: Vec<String> = outcome
            .stdout
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        for row in [
            &format!("build.progress quiet {}", user.display()),
            "build.ca_cert /ca.pem /etc/rbuild/config.toml",
        ] {
            assert!(words.iter().any(|line| line == row), "{row}\n{outcome}");
        }
    });
}
