//! Why steps are not cached: what builds say, and what `why` and `--dry-run` say before.

use super::common::Context;
use super::common::TestEnv;
use super::common::http::{Answer, Server};

/// A file of all that can change.
const DOCKERFILE: &str = "FROM busybox:test AS build\n\
    ARG VERSION=1.4\n\
    RUN echo $VERSION > /version\n\
    COPY src /src\n\
    RUN cat /src/app.py > /all\n\
    FROM busybox:test\n\
    ENV MODE=a\n\
    WORKDIR /app\n\
    COPY --from=build /all /app/\n\
    RUN echo $MODE > /tmp/mode\n";

fn project(env: &TestEnv) -> Context<'_> {
    env.busybox();
    env.dockerfile(DOCKERFILE)
        .file(".dockerignore", "**/*.log\n")
        .file("src/app.py", "1")
        .file("src/b.py", "b")
        .file("src/run.sh", "x")
}

/// What a build says of its steps that run, by their text: `RUN x: why`.
#[track_caller]
fn reasons(env: &TestEnv, context: &Context, args: &[&str]) -> Vec<String> {
    let out = env.build(context, &[&["--network", "none"], args].concat());
    let record = env.rbuild(&["builds", "show", "--format", "json"]).ok();
    let record: serde_json::Value = serde_json::from_str(&record.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let vertices = record["vertices"].as_array().unwrap();
    let ran: Vec<_> = vertices.iter().filter(|vertex| vertex["why"].is_string()).collect();
    for vertex in &ran {
        // The screen, its log and the record say the same.
        let line = format!(" ---> Not cached: {}\n", text(&vertex["why"]));
        assert!(out.stdout.contains(&line), "{line} in {out}");
    }
    ran.iter().map(|vertex| format!("{}: {}", text(&vertex["text"]), text(&vertex["why"]))).collect()
}

/// Builds, edits, and checks what is said: by `why` and `--dry-run` before, by the build then.
#[track_caller]
fn check(env: &TestEnv, context: &Context, args: &[&str], edit: impl Fn(&Context), expect: &[&str]) {
    reasons(env, context, &[]);
    edit(context);
    let all = [&["--network", "none"], args].concat();
    let why = env.rbuild(&[&["why", "--format", "json"], &all[..], &[context.path()]].concat()).ok();
    let why: serde_json::Value = serde_json::from_str(&why.stdout).unwrap();
    let found = reasons(env, context, args);
    assert_eq!(found, expect);
    for step in why["steps"].as_array().unwrap() {
        let text =
            format!("{}: {}", step["text"].as_str().unwrap(), step["why"].as_str().unwrap_or_default());
        match step["state"].as_str().unwrap() {
            // What `why` was sure of came true.
            "runs" => assert!(found.contains(&text), "{text} in {found:?}"),
            "cached" => assert!(!found.iter().any(|found| found.starts_with(&text)), "{text} in {found:?}"),
            _ => {}
        }
    }
}

both! {
    fn an_edit_of_files_is_named(env) {
        let context = project(env);
        let after = |context: &Context, line: &str| {
            let expect = [
                &format!("COPY src /src: {line}")[..],
                "RUN cat /src/app.py > /all: an earlier step changed: line 4",
            ];
            let found = reasons(env, context, &[]);
            assert_eq!(found[..2], expect, "{found:?}");
            found.len()
        };
        assert!(reasons(env, &context, &[]).iter().all(|line| line.ends_with(": never built here")));
        context.write("src/app.py", "2");
        assert_eq!(after(&context, "src/app.py changed"), 4);
        context.write("src/new.py", "n");
        context.write("src/b.py", "c");
        // The file that is read is the same: what comes of it, too.
        assert_eq!(after(&context, "src/b.py changed (+1 more)"), 2);
        std::fs::remove_file(context.at("src/new.py")).unwrap();
        assert_eq!(reasons(env, &context, &[])[0], "COPY src /src: src/new.py removed");
        std::fs::rename(context.at("src/b.py"), context.at("src/d.py")).unwrap();
        after(&context, "src/b.py renamed to src/d.py");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(context.at("src/run.sh"), mode).unwrap();
        after(&context, "src/run.sh: mode 644 -> 755");
        // What the build does not see is no reason.
        context.write("src/debug.log", "ignored");
        context.write("beside", "x");
        assert_eq!(reasons(env, &context, &[]), [""; 0]);
    }

    fn an_edit_of_the_dockerfile_is_named(env) {
        let context = project(env);
        let replace = |from: &'static str, to: &'static str| {
            move |context: &Context| context.write("Dockerfile", DOCKERFILE.replace(from, to))
        };
        let back = |context: &Context| context.write("Dockerfile", DOCKERFILE);
        let one = |edit: (&'static str, &'static str), expect: &[&str]| {
            back(&context);
            check(env, &context, &[], replace(edit.0, edit.1), expect);
        };
        one(("=1.4", "=1.5"), &[
            "RUN echo $VERSION > /version: ARG VERSION: 1.4 -> 1.5",
            "COPY src /src: an earlier step changed: line 3",
            "RUN cat /src/app.py > /all: ARG VERSION: 1.4 -> 1.5; an earlier step changed: line 3",
        ]);
        one(("MODE=a", "MODE=b"), &[
            "RUN echo $MODE > /tmp/mode: ENV MODE: a -> b",
        ]);
        one(("> /tmp/mode", "> /tmp/other"), &[
            "RUN echo $MODE > /tmp/other: command changed: echo $MODE > /tmp/mode -> echo $MODE > /tmp/other",
        ]);
        one(("WORKDIR /app", "WORKDIR /other"), &[
            "WORKDIR /other: WORKDIR: /app -> /other",
            "COPY --from=build /all /app/: an earlier step changed: line 8",
            "RUN echo $MODE > /tmp/mode: WORKDIR: /app -> /other; an earlier step changed: line 8",
        ]);
        one(("COPY --from", "COPY --chown=5 --from"), &[
            "COPY --chown=5 --from=build /all /app/: --chown: not set -> 5",
            "RUN echo $MODE > /tmp/mode: an earlier step changed: line 9",
        ]);
        one(("WORKDIR /app\n", "WORKDIR /app\nSHELL [\"/bin/sh\", \"-e\", \"-c\"]\n"), &[
            "RUN echo $MODE > /tmp/mode: SHELL: /bin/sh -c -> /bin/sh -e -c",
        ]);
        one(("RUN echo $MODE", "USER 5\nRUN --mount=type=tmpfs,target=/t echo $MODE"), &[
            "RUN --mount=type=tmpfs,target=/t echo $MODE > /tmp/mode: USER: root -> 5; \
             --mount type=tmpfs,target=/t added",
        ]);
        one(("RUN echo $VERSION", "RUN true new\nRUN echo $VERSION"), &[
            "RUN true new: never built here",
            "RUN echo $VERSION > /version: an earlier step changed: line 3",
            "COPY src /src: an earlier step changed: line 3",
            "RUN cat /src/app.py > /all: an earlier step changed: line 3",
        ]);
    }

    fn options_are_named(env) {
        let context = project(env);
        reasons(env, &context, &[]);
        check(env, &context, &["--build-arg", "VERSION=1.5"], |_| {}, &[
            "RUN echo $VERSION > /version: ARG VERSION: 1.4 -> 1.5",
            "COPY src /src: an earlier step changed: line 3",
            "RUN cat /src/app.py > /all: ARG VERSION: 1.4 -> 1.5; an earlier step changed: line 3",
        ]);
        let all = reasons(env, &context, &["--no-cache"]);
        assert!(all.len() == 6 && all.iter().all(|line| line.ends_with(": --no-cache")), "{all:?}");
        let some = reasons(env, &context, &["--no-cache-filter", "build"]);
        assert!(some.iter().all(|line| line.ends_with(": --no-cache-filter=build")), "{some:?}");
        let epoch = reasons(env, &context, &["--build-arg", "SOURCE_DATE_EPOCH=5"]);
        let expect = "RUN echo $VERSION > /version: SOURCE_DATE_EPOCH: not set -> 5";
        assert!(epoch.contains(&expect.to_owned()), "{epoch:?}");
        let hosts = reasons(env, &context, &["--add-host", "a:10.0.0.1"]);
        let expect = "RUN echo $VERSION > /version: --add-host: not set -> a";
        assert!(hosts.iter().any(|line| line.contains("--add-host")), "{expect} in {hosts:?}");
    }

    fn a_base_image_that_changed_is_named(env) {
        env.busybox();
        let base = |text: &str| {
            let base = env.dockerfile(&format!("FROM busybox:test\nRUN echo {text} > /base\n"));
            env.build(&base, &["--network", "none", "-t", "base:1"]);
        };
        let context = env.context();
        base("one");
        context.write("Dockerfile", "FROM base:1\nRUN true\n");
        assert_eq!(reasons(env, &context, &[]), ["RUN true: never built here"]);
        base("two");
        assert_eq!(reasons(env, &context, &[]), ["RUN true: base image changed (base:1)"]);
        context.write("Dockerfile", "FROM busybox:test\nRUN true\n");
        assert_eq!(
            reasons(env, &context, &[]),
            ["RUN true: base image changed: base:1 -> busybox:test"]
        );
    }

    fn other_sources_are_named(env) {
        env.busybox();
        let lib = env.context().file("lib.py", "1");
        let text = "FROM busybox:test\nCOPY --from=lib lib.py /\nCOPY <<EOF /doc\none two\nEOF\n";
        let context = env.dockerfile(text);
        let named = format!("lib={}", lib.path());
        let args = ["--build-context", named.as_str()];
        reasons(env, &context, &args);
        lib.write("lib.py", "2");
        context.write("Dockerfile", text.replace("two", "three"));
        assert_eq!(
            reasons(env, &context, &args),
            [
                "COPY --from=lib lib.py /: lib: lib.py changed",
                "COPY <<EOF /doc: here-document EOF changed: one two -> one three; \
                 an earlier step changed: line 2",
            ]
        );
    }

    fn what_failed_is_said_to_have_failed(env) {
        env.busybox();
        let context = env.dockerfile("FROM busybox:test\nRUN echo out && false\n");
        env.try_build(&context, &["--network", "none"]).exits(1);
        env.try_build(&context, &["--network", "none"])
            .exits(1)
            .has(" ---> Not cached: it failed in the last build\n");
        // Though an older build of it came well.
        let context = env.dockerfile("FROM busybox:test\nCOPY f /f\nRUN grep good /f\n").file("f", "good");
        let build = || env.try_build(&context, &["--network", "none"]);
        build().ok();
        context.write("f", "bad");
        build().exits(1).has(" ---> Not cached: an earlier step changed: line 2\n");
        build().exits(1).has(" ---> Not cached: it failed in the last build\n");
        env.rbuild(&["why", "--network", "none", context.path()]).ok().has("Would run: it failed in the last build\n");
    }

    /// Steps of another stage are no earlier form of these.
    fn stages_are_not_compared_with_each_other(env) {
        env.busybox();
        let context = env.dockerfile(
            "FROM busybox:test AS test\nRUN echo test > /a\nFROM busybox:test AS final\nRUN echo final > /a\n");
        env.build(&context, &["--network", "none"]).has("Not cached: never built here\n");
        env.build(&context, &["--network", "none", "--target", "test"]).has("Not cached: never built here\n").lacks("command changed");
    }

    fn secrets_are_never_shown(env) {
        env.busybox();
        let context = env.dockerfile(
            "FROM busybox:test\nARG API_TOKEN\nARG URL\n\
             RUN --mount=type=secret,id=npm,env=NPM echo $API_TOKEN | wc -c\nENV COPY=$API_TOKEN\nRUN true\n",
        );
        let args = |token: &str| {
            ["--build-arg".to_owned(), format!("API_TOKEN=hush-{token}"), "--build-arg".into(),
             format!("URL=http://me:hush-{token}@host/{token}")]
        };
        let secret = env.path_str("npm");
        std::fs::write(&secret, "hush-npm").unwrap();
        let given = format!("id=npm,src={secret}");
        let build = |token: &str| {
            let args = args(token);
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let args = [&args[..], &["--secret", &given, "--network", "none"]].concat();
            env.build(&context, &args)
        };
        build("one");
        let own = args("two");
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        for format in ["text", "json"] {
            let out = env
                .rbuild(&[&["why", "--format", format], &own[..], &[context.path()]].concat())
                .ok();
            assert!(out.stdout.contains("API_TOKEN") && !out.stdout.contains("hush"), "{out}");
        }
        let out = build("two");
        assert!(out.stdout.contains("ARG API_TOKEN changed; ARG URL: http://host/one -> http://host/two"), "{out}");
        let reasons: Vec<&str> = out.stdout.lines().filter(|line| line.contains("Not cached")).collect();
        assert!(!reasons.concat().contains("hush"), "{out}");
        let show = env.rbuild(&["builds", "show", "--format", "json"]).ok();
        assert!(!show.stdout.contains("hush"), "{show}");
    }

    fn a_dry_run_does_nothing(env) {
        let context = project(env);
        let dry = |args: &[&str]| {
            let args = [&["build", "--dry-run", "--network", "none", "-t", "dry"], args, &[context.path()]];
            env.rbuild(&args.concat()).ok().stdout
        };
        let first = dry(&[]);
        assert!(first.ends_with("Dry run: 6 steps would run, 0 cached\n"), "{first}");
        assert!(first.contains("Step 4/10 : COPY src /src\n[build]  ---> Would run: never built here\n"));
        assert_eq!(dry(&["-q"]), "6\n");
        assert_eq!(env.rbuild(&["images", "-q", "dry"]).ok().stdout, "");
        assert_eq!(env.rbuild(&["builds", "-q"]).ok().stdout, "", "it is no build");

        reasons(env, &context, &[]);
        assert_eq!(dry(&["-q"]), "0\n");
        context.write("src/app.py", "2");
        let edited = dry(&[]);
        assert!(edited.contains(" ---> Would run: src/app.py changed\n"), "{edited}");
        assert!(edited.contains(" ---> Not known until step 4 ran\n"), "{edited}");
        assert!(edited.ends_with("Dry run: 1 step would run, 2 cached, 3 not known yet\n"), "{edited}");
        // Nothing was written: the build finds what the dry run said.
        assert_eq!(reasons(env, &context, &[])[0], "COPY src /src: src/app.py changed");
    }

    fn an_image_that_is_not_here_is_not_pulled(env) {
        let context = env.dockerfile("FROM nobody.invalid/none:1\nRUN true\nCMD [\"x\"]\n");
        let out = env.rbuild(&["build", "--dry-run", context.path()]).ok();
        assert_eq!(
            out.stdout,
            "Step 1/3 : FROM nobody.invalid/none:1\n ---> Would be pulled\nStep 2/3 : RUN true\n \
             ---> Not known until nobody.invalid/none:1 is here\nStep 3/3 : CMD [\"x\"]\n\
             Dry run: 0 steps would run, 0 cached, 1 not known yet, to be pulled: nobody.invalid/none:1\n"
        );
        // One that may not be pulled is missing, as in a build.
        env.rbuild(&["build", "--dry-run", "--pull=never", context.path()])
            .exits(1)
            .has("`nobody.invalid/none:1` is not in the store");
    }

    fn why_tells_all_of_one_step(env) {
        let context = project(env);
        reasons(env, &context, &[]);
        context.write("src/app.py", "2");
        context.write("src/new.py", "n");
        std::fs::remove_file(context.at("src/b.py")).unwrap();
        let why = |args: &[&str]| {
            env.rbuild(&[&["why", "--network", "none"], args, &[context.path()]].concat())
        };
        let by_step = why(&["--step", "4"]).ok().stdout;
        assert_eq!(by_step, why(&["--line", "4"]).ok().stdout);
        let expect = [
            "[build] Step 4/10 : COPY src /src",
            "[build]  ---> Would run: src/app.py changed (+2 more)",
            "      files",
            "        ~ src/app.py (content)",
            "        - src/b.py",
            "        + src/new.py",
        ];
        let lines: Vec<&str> = by_step.lines().filter(|line| !line.contains("compared with")).collect();
        assert_eq!(lines, expect);
        why(&["--step", "99"]).exits(2).has("there is no step 99: the build has 10 steps");
        why(&["--line", "99"]).exits(2).has("no step of this build is on line 99");
    }

    fn a_download_that_changed_is_named(env) {
        env.busybox();
        let server = Server::start(|asked| match asked.target.as_str() {
            "/one/f" => Answer::ok("1"),
            _ => Answer::ok("2"),
        });
        let text = |which: &str| format!("FROM busybox:test\nADD {} /f\n", server.url(&format!("/{which}/f")));
        let context = env.dockerfile(&text("one"));
        reasons(env, &context, &[]);
        context.write("Dockerfile", text("two"));
        let found = reasons(env, &context, &[]);
        let expect = format!("{}: {}: f changed", text("two").lines().nth(1).unwrap(), server.url("/two/f"));
        assert_eq!(found, [expect]);
    }

    fn a_build_elsewhere_of_the_same_file_is_compared(env) {
        let context = project(env);
        reasons(env, &context, &[]);
        let other = project(env);
        other.write("src/app.py", "2");
        assert_eq!(reasons(env, &other, &[])[0], "COPY src /src: src/app.py changed");
    }
}
