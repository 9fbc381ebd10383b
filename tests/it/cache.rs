//! The cache: what makes a step run again, and what does not.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::common::Context;
use super::common::TestEnv;
use super::common::Who;

/// Builds once with `before` and once with `after`, two bodies that differ, and tells
/// whether the RUN that prints `ran-here` ran the second time.
#[track_caller]
fn reruns(env: &TestEnv, before: &str, after: &str) -> bool {
    env.busybox();
    let ctx = |body: &str| env.dockerfile(&format!("FROM busybox:test\n{body}\n")).file("f", "x");
    env.build(&ctx(before), &["--no-cache"]).ran("ran-here");
    env.build(&ctx(after), &[]).printed("ran-here")
}

/// What a build may not change the second time: every file of the store but logs, leases and times of use.
fn what_is_stored(env: &TestEnv) -> BTreeMap<PathBuf, (u64, (i64, i64))> {
    walkdir::WalkDir::new(env.store())
        .into_iter()
        .flatten()
        .filter(|e| e.file_type().is_file())
        .map(|e| {
            let m = e.metadata().unwrap();
            // The time of a layer's `meta` is that of its last use.
            let time = if e.file_name() == "meta" { (0, 0) } else { (m.mtime(), m.mtime_nsec()) };
            (e.path().strip_prefix(env.store()).unwrap().to_owned(), (m.size(), time))
        })
        .filter(|(path, _)| {
            !path.iter().any(|part| ["lock", "locks", "leases", "builds"].iter().any(|name| part == *name))
        })
        .collect()
}

fn five_steps(env: &TestEnv) -> Context<'_> {
    env.dockerfile(
        "FROM busybox:test\nENV A=1\nRUN echo ran-here > /made\nCOPY f /f\nWORKDIR /w\nCMD [\"true\"]\n",
    )
    .file("f", "x")
}

both! {
    fn a_second_build_is_all_cached_and_the_same_image(env) {
        env.busybox();
        let ctx = five_steps(env);
        let first = env.build(&ctx, &["-t", "a"]);
        assert_eq!(first.cached(), 0, "{first}");
        let second = env.build(&ctx, &["-t", "a"]);
        assert_eq!(second.cached(), second.steps().len() - 1, "all but FROM\n{second}");
        assert_eq!(first.built(), second.built());
    }

    fn a_second_build_writes_nothing(env) {
        env.busybox();
        let ctx = five_steps(env);
        env.build(&ctx, &["-t", "a"]);
        env.build(&ctx, &["-t", "a"]);
        let before = what_is_stored(env);
        assert!(before.len() > 5, "{before:?}");
        env.build(&ctx, &["-t", "a"]);
        assert_eq!(what_is_stored(env), before);
    }

    /// Each layer tells when a build last used it, cached or not.
    fn layers_know_their_last_use(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo x > /made\n");
        env.build(&ctx, &[]);
        let metas = || walkdir::WalkDir::new(env.store().join("v1/snapshots")).into_iter().flatten().filter(|e| e.file_name() == "meta");
        let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        let old = |e: &walkdir::DirEntry| e.metadata().unwrap().modified().unwrap() == long_ago;
        for meta in metas() {
            env.program("touch", &["-d", "@1000000000", meta.path().to_str().unwrap()]).ok();
        }
        assert_eq!(metas().filter(old).count(), 2);
        env.build(&ctx, &[]);
        assert_eq!(metas().filter(old).count(), 0);
    }

    fn instructions_that_run_does_not_see_are_not_in_its_key(env) {
        for (before, after) in [
            ("LABEL a=1\nRUN echo ran-here", "LABEL a=2\nRUN echo ran-here"),
            ("EXPOSE 1\nRUN echo ran-here", "EXPOSE 2\nRUN echo ran-here"),
            ("CMD a\nRUN echo ran-here", "CMD b\nRUN echo ran-here"),
            ("RUN echo ran-here", "# a comment\n# check=skip=all\nrun    echo ran-here"),
            ("ARG Z=1\nRUN echo ran-here", "ENV Z=1\nRUN echo ran-here"),
        ] {
            assert!(!reruns(env, before, after), "{before:?} -> {after:?}");
        }
    }

    fn instructions_that_run_sees_are_in_its_key(env) {
        for (before, after) in [
            ("ENV Z=1\nRUN echo ran-here", "ENV Z=2\nRUN echo ran-here"),
            ("ARG Y=1\nRUN echo ran-here", "ARG Y=2\nRUN echo ran-here"),
            ("USER 1\nRUN echo ran-here", "USER 2\nRUN echo ran-here"),
            ("WORKDIR /tmp\nRUN echo ran-here", "WORKDIR /etc\nRUN echo ran-here"),
            ("RUN echo ran-here", "SHELL [\"/bin/ash\", \"-c\"]\nRUN echo ran-here"),
            ("RUN echo ran-here", "RUN echo  ran-here"),
        ] {
            assert!(reruns(env, before, after), "{before:?} -> {after:?}");
        }
    }

    fn env_before_copy_is_not_in_copys_key(env) {
        env.busybox();
        let ctx = |value: &str| env.dockerfile(&format!("FROM busybox:test\nENV Z={value}\nUSER {value}\nCOPY f /f\n")).file("f", "x");
        env.build(&ctx("1"), &[]);
        let again = env.build(&ctx("2"), &[]);
        assert_eq!(again.cached(), 1, "{again}");
        assert!(again.both.contains("COPY f /f\n ---> Using cache"), "{again}");
    }

    fn content_and_mode_of_context_files_count_and_nothing_else(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nCOPY f /f\nRUN echo ran-here\n").file("f", "one").file("unused", "1");
        let chmod = |mode| { env.program("chmod", &[mode, &ctx.at("f")]).ok(); };
        let ran = || env.build(&ctx, &[]).printed("ran-here");
        assert!(ran());
        env.program("touch", &["-d", "@1000000000", &ctx.at("f")]).ok();
        assert!(!ran(), "a time");
        ctx.write("unused", "2");
        assert!(!ran(), "a file that is not copied");
        chmod("755");
        assert!(ran(), "the mode");
        ctx.write("f", "two");
        assert!(ran(), "the content");
        ctx.write("f", "one");
        assert!(!ran(), "the content of before");
        if env.who == Who::Root {
            std::os::unix::fs::chown(ctx.at("f"), Some(1234), Some(1234)).unwrap();
            assert!(!ran(), "the owner");
        }
    }

    /// Same size, same time, changed right after the digest was taken.
    fn a_file_changed_behind_its_time_is_seen(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nCOPY f /f\nRUN cat /f\n").file("f", "aaaa\n");
        env.program("touch", &["-d", "@1000000000", &ctx.at("f")]).ok();
        env.build(&ctx, &[]).ran("aaaa");
        ctx.write("f", "bbbb\n");
        env.program("touch", &["-d", "@1000000000", &ctx.at("f")]).ok();
        env.build(&ctx, &[]).ran("bbbb");
        fs::remove_file(ctx.at("f")).unwrap();
        ctx.write("f", "cccc\n");
        env.build(&ctx, &[]).ran("cccc");
    }

    fn equal_content_from_another_stage_keeps_the_consumer_cached(env) {
        env.busybox();
        let ctx = |comment: &str| env.dockerfile(&format!(
            "FROM busybox:test AS g\nRUN echo same > /out; echo {comment} > /other; echo ran-g\n\
             FROM busybox:test\nCOPY --from=g /out /out\nRUN echo ran-consumer\n"));
        env.build(&ctx("1"), &[]).ran("ran-g").ran("ran-consumer");
        env.build(&ctx("2"), &[]).ran("ran-g").did_not_run("ran-consumer");
    }

    /// A step that ran again with an equal result leaves what follows cached, and the image the same.
    fn early_cut_off(env) {
        env.busybox();
        let host = env.context().file("value", "one\n");
        let ctx = |comment: &str| env.dockerfile(&format!(
            "FROM busybox:test\nRUN : {comment}; cat /vol/value > /result; echo ran-first\nRUN cat /result; echo ran-second\n"));
        let volume = format!("{}:/vol:ro", host.path());
        let build = |comment: &str| env.build(&ctx(comment), &["-v", &volume]);
        let first = build("a").ran("ran-first").ran("ran-second");
        let second = build("b").ran("ran-first").did_not_run("ran-second");
        assert_eq!(env_layers(env, first.built()), env_layers(env, second.built()));
        // Other content: the second step runs, though its own record exists.
        host.write("value", "two\n");
        build("c").ran("ran-first").ran("ran-second").ran("two");
    }

    /// Directories that overlayfs copies up keep the times of the step before.
    fn equal_content_in_copied_up_directories_is_equal(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN mkdir -p /opt/a/b\nRUN echo 1 > /opt/a/b/f\nRUN chmod 700 /opt/a\n");
        let first = env.build(&ctx, &["--no-cache"]);
        for _ in 0..3 {
            let again = env.build(&ctx, &["--no-cache"]);
            assert_eq!(again.built(), first.built(), "{again}");
        }
    }

    fn time_sensitive_steps_stay_right(env) {
        env.busybox();
        let make = "RUN if [ /src/a -nt /stamp ]; then echo new''er; else echo old''er; fi";
        let ctx = |touch: &str| env.dockerfile(&format!(
            "FROM busybox:test\nRUN touch -d '2010-01-01 00:00' /stamp\nCOPY src /src\n{touch}{make}\n")).file("src/a", "x");
        env.build(&ctx(""), &[]).ran("newer");
        env.build(&ctx("RUN touch -d '2000-01-01 00:00' /src/a\n"), &[]).ran("older");
        env.build(&ctx(""), &[]).did_not_run("older");
        env.build(&ctx("RUN touch -d '2000-01-01 00:00' /src/a\n"), &[]).did_not_run("newer");
    }

    fn no_cache_ignores_and_rewrites(env) {
        env.busybox();
        let host = env.context().file("value", "one\n");
        let volume = format!("{}:/vol:ro", host.path());
        let ctx = env.dockerfile("FROM busybox:test\nRUN cat /vol/value | tee /v\n");
        env.build(&ctx, &["-t", "a", "-v", &volume]).ran("one");
        host.write("value", "two\n");
        env.build(&ctx, &["-t", "a", "-v", &volume]).did_not_run("two");
        env.build(&ctx, &["-t", "a", "-v", &volume, "--no-cache"]).ran("two");
        env.build(&ctx, &["-t", "b", "-v", &volume]).did_not_run("two");
        env.run(&["b", "cat", "/v"]).ok().prints("two\n");
    }

    /// The destination and the mode of a volume are in the key, its place on the host is not.
    fn what_of_a_volume_counts(env) {
        env.busybox();
        let (a, b) = (env.context().file("f", "1"), env.context().file("f", "2"));
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo ran-here\n");
        let ran = |volume: String| env.build(&ctx, &["-v", &volume]).printed("ran-here");
        assert!(ran(format!("{}:/v", a.path())));
        assert!(!ran(format!("{}:/v", b.path())));
        assert!(ran(format!("{}:/v:ro", a.path())));
        assert!(ran(format!("{}:/w", a.path())));
    }

    fn the_network_is_in_the_key(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo ran-here\n");
        env.build(&ctx, &["--network", "none"]).ran("ran-here");
        env.build(&ctx, &["--network", "none"]).did_not_run("ran-here");
        env.build(&ctx, &["--network", "host"]).ran("ran-here");
    }

    fn the_same_work_in_two_stages_is_done_once(env) {
        env.busybox();
        let host = env.context().file_with_mode("count", 0o666, "");
        let volume = format!("{}:/vol", host.path());
        let ctx = env.dockerfile(
            "FROM busybox:test AS a\nRUN echo x >> /vol/count && echo made > /m\n\
             FROM busybox:test AS b\nRUN echo x >> /vol/count && echo made > /m\n\
             FROM scratch\nCOPY --from=a /m /a\nCOPY --from=b /m /b\n");
        env.build(&ctx, &["-v", &volume]);
        assert_eq!(fs::read_to_string(host.at("count")).unwrap(), "x\n");
    }

    fn two_builds_at_once_share_a_step(env) {
        env.busybox();
        let host = env.context().file_with_mode("count", 0o666, "").fifo("started").fifo("go");
        env.program("chmod", &["666", &host.at("started"), &host.at("go")]).ok();
        let volume = format!("{}:/vol", host.path());
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo x >> /vol/count; echo started > /vol/started; cat /vol/go > /got\n");
        let build = || env.rbuild(&["build", "-q", "-v", &volume, ctx.path()]).spawn();
        let first = build();
        assert_eq!(fs::read_to_string(host.at("started")).unwrap(), "started\n");
        let second = build();
        fs::write(host.at("go"), "go\n").unwrap();
        let (first, second) = (first.finish().ok(), second.finish().ok());
        assert_eq!(first.stdout, second.stdout);
        assert_eq!(fs::read_to_string(host.at("count")).unwrap(), "x\n", "one ran it, the other waited");
    }

    /// Two steps that need each other's output through FIFOs end only when both run at once.
    fn independent_steps_run_in_parallel(env) {
        env.busybox();
        let host = env.context().fifo("ab").fifo("ba");
        env.program("chmod", &["666", &host.at("ab"), &host.at("ba")]).ok();
        let volume = format!("{}:/vol", host.path());
        let ctx = env.dockerfile(
            "FROM busybox:test AS a\nRUN echo from-a > /vol/ab; cat /vol/ba > /m\n\
             FROM busybox:test AS b\nRUN cat /vol/ab > /m; echo from-b > /vol/ba\n\
             FROM scratch\nCOPY --from=a /m /a\nCOPY --from=b /m /b\n");
        env.build(&ctx, &["-v", &volume]);
    }

    /// Commit of a RUN copies nothing: the file that the step wrote is the file in the store.
    fn committing_a_run_moves_and_copies_nothing(env) {
        env.busybox();
        let host = env.context().file_with_mode("inode", 0o666, "");
        let volume = format!("{}:/vol", host.path());
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo big > /unlikely-name && stat -c %i /unlikely-name > /vol/inode\n");
        env.build(&ctx, &["-v", &volume]);
        let inode: u64 = fs::read_to_string(host.at("inode")).unwrap().trim().parse().unwrap();
        let stored: Vec<u64> = walkdir::WalkDir::new(env.store()).into_iter().flatten()
            .filter(|e| e.file_name() == "unlikely-name").map(|e| e.metadata().unwrap().ino()).collect();
        assert_eq!(stored, [inode]);
    }

    /// A base that was imported again with other files: its children run again.
    fn another_base_under_the_same_name(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM base\nRUN echo ran-here\n");
        env.build(&env.dockerfile("FROM busybox:test\nRUN echo 1 > /v\n"), &["-t", "base"]);
        env.build(&ctx, &[]).ran("ran-here");
        env.build(&env.dockerfile("FROM busybox:test\nRUN echo 2 > /v\n"), &["-t", "base"]);
        env.build(&ctx, &[]).ran("ran-here");
    }

    /// A time that a step sets on purpose is content, one in the future too.
    fn another_time_is_another_layer(env) {
        env.busybox();
        let layers = |year: &str| {
            let ctx = env.dockerfile(&format!("FROM busybox:test\nRUN touch -d '{year}-01-01 00:00' /f\n"));
            env.build(&ctx, &["-t", "timed"]);
            env_layers(env, "timed")
        };
        assert_ne!(layers("2001"), layers("2002"));
        assert_ne!(layers("2101"), layers("2102"));
    }

    /// A healthcheck or ONBUILD changes the image even where no layer differs (CVE-2024-24557).
    fn metadata_alone_makes_another_image(env) {
        let id = |line: &str| env.build_id(&env.dockerfile(&format!("FROM scratch\n{line}\n")), &[]);
        assert_ne!(id("HEALTHCHECK CMD a"), id("HEALTHCHECK CMD b"));
        assert_ne!(id("ONBUILD RUN a"), id("ONBUILD RUN b"));
        assert_eq!(id("HEALTHCHECK CMD a"), id("HEALTHCHECK CMD a"));
    }
}

fn env_layers(env: &TestEnv, image: &str) -> serde_json::Value {
    env.inspect(image)["RootFS"]["Layers"].clone()
}
