//! What somebody meets who knows `docker build` and types by habit: words that are no
//! commands, files in other places, ids of steps, terminals, pipes that close.

use rustix::process::Signal;

use super::common::TestEnv;
use super::common::base::Tar;
use super::common::base::busybox_tar;

/// A run of `rbuild` on a terminal, in a folder.
fn on_a_terminal(env: &TestEnv, line: &str) -> super::common::Outcome {
    let line = format!("{} {line}", env.exe().display());
    env.program("script", &["-qec", &line, "/dev/null"]).output()
}

both! {
    fn words_that_are_no_commands(env) {
        for (words, hint) in [
            (&["bulid", "."][..], "did you mean `rbuild build`?"),
            (&["imges"], "did you mean `rbuild images`?"),
            (&["load", "-i", "debian.tar"], "cannot open `debian.tar`"),
            (&["events"], "this version has no `events`"),
            (&["--attest", "type=sbom", "."], "docker has `--attest`"),
            (&["--secret", "id=x", "."], "id=ID,src=FILE or id=ID,env=VARIABLE"),
            (&["build", "--taget", "x", "."], "'--target'"),
            (&["-t", "x", "--no-cahce", "."], "'--no-cache'"),
            (&["images", "--fromat", "x"], "'--format'"),
            (&["image", "prnue"], "'prune'"),
            (&["nothing-here"], "does not exist"),
        ] {
            let outcome = env.rbuild(words).fails().has(hint);
            assert!(!outcome.stderr.contains("-- -"), "a tip that is never meant\n{outcome}");
        }
        env.rbuild(&["help"]).ok().has("rbuild COMMAND --help");
        env.rbuild(&["help", "run"]).ok().has("--entrypoint");
        env.rbuild(&["--version"]).ok().prints(concat!("rbuild ", env!("CARGO_PKG_VERSION"), "\n"));
        env.rbuild(&[]).ok().has("Registry:");
        assert!(!env.store().exists(), "none of this needs a store");
    }

    fn a_host_that_is_not_there(env) {
        env.rbuild(&["https://app.invalid/app.git"]).exits(1).has("https://app.invalid/app.git cannot be reached");
        env.rbuild(&["-f", "https://app.invalid/Dockerfile", "."]).exits(1).has("`app.invalid` was not found");
    }

    fn a_dockerfile_that_is_not_there(env) {
        let ctx = env.context().dir("empty").file("sub/Other", "FROM scratch\n");
        env.rbuild(&["empty"]).folder(ctx.path()).exits(1).has("`empty/Dockerfile` does not exist").has("-f FILE");
        // As docker has it, `-f` starts at the working directory.
        env.rbuild(&["-f", "Other", "sub"]).folder(ctx.path()).exits(1).has("did you mean `-f sub/Other`?");
        env.rbuild(&["-f", "sub/Other", "sub"]).folder(ctx.path()).ok();
        let tar = Tar::new().file("f", 0o644, "").bytes();
        env.rbuild(&["-"]).stdin(tar).exits(1).has("Dockerfile");
    }

    /// What cannot be done at the end is refused at the beginning.
    fn checked_before_anything_runs(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo ra''n\n");
        let folder = ctx.at("");
        for args in [
            &["-t", "Upper"][..],
            &["-t", "a:b:c"],
            &["-t", "x@sha256:0000000000000000000000000000000000000000000000000000000000000000"],
            &["-o", "type=oci,dest=/no/such/folder/x.tar"],
            &["-o", &format!("type=docker,dest={folder}")],
            &["-o", "type=tar,dest=/no/such/folder/x.tar"],
            &["-o", "type=tree,dest=x"],
            &["--iidfile", "/no/such/folder/id"],
            &["--ca-cert", "/no/such/ca.crt"],
            &["-v", "/no/such/place:/vol"],
            &["--build-arg", "=x"],
            &["--network", "bridge"],
            &["--progress", "fancy"],
        ] {
            let outcome = env.try_build(&ctx, args).exits(2);
            assert!(outcome.steps().is_empty() && !outcome.stderr.is_empty(), "{outcome}");
        }
    }

    /// Messages have words, not numbers and not Rust's forms.
    fn errors_are_for_people(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN exit 4\n");
        for outcome in [
            env.rbuild(&["import", "/no/such/file"]).fails(),
            env.rbuild(&["import", "-"]).fails(),
            env.rbuild(&["import", "-c", "FOO x", "-"]).fails(),
            env.rbuild(&["--root", "/etc/passwd", "images"]).fails(),
            env.try_build(&ctx, &[]).fails(),
            env.try_build(&ctx, &["--target", "none"]).fails(),
            env.rbuild(&["run", "busybox:test", "/no/such"]).fails(),
            env.rbuild(&["run", "-v", "x", "busybox:test"]).fails(),
            env.rbuild(&["inspect", "-f", "{{.X", "busybox:test"]).fails(),
        ] {
            let said = &outcome.stderr;
            for bad in ["os error", "Err(", "Some(", "None", "kind:", "::", "Error {"] {
                assert!(!said.contains(bad), "`{bad}`\n{outcome}");
            }
            let errors = said.lines().filter(|line| line.starts_with("error")).count();
            assert_eq!(errors, 1, "said once\n{outcome}");
        }
        env.try_build(&ctx, &[]).exits(1).has("Dockerfile:2:1").has("RUN exit 4").has("exit code: 4");
    }

    fn changes_are_counted_as_they_were_given(env) {
        env.rbuild(&["import", "-c", "CMD x", "-c", "FOO y", "-"]).stdin(busybox_tar()).exits(2)
            .has("--change:2:1").has("unknown instruction: FOO").lacks("FROM");
    }

    /// The ids that a failed build printed lead somewhere, those of layers that made room for
    /// older ones of equal content as well.
    fn ids_of_a_failed_build(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo one > /one\nENV A=1\nRUN echo two > /two\nRUN exit 5\n");
        for args in [&[][..], &["--no-cache"], &[]] {
            let outcome = env.try_build(&ctx, args).exits(1);
            let ids = outcome.step_ids();
            assert_eq!(ids.len(), 4, "{outcome}");
            for id in &ids {
                assert_eq!(env.inspect(id)["Id"], **id);
            }
            env.run(&[ids[3], "sh", "-c", "cat /one /two; echo $A"]).ok().prints("one\ntwo\n1\n");
            env.run(&[ids[0], "ls", "/one"]).fails();
        }
        let outcome = env.try_build(&ctx, &[]).exits(1);
        assert_eq!(outcome.cached(), 3, "what was done before the failure\n{outcome}");
        let last = outcome.step_ids()[3];
        env.rbuild(&["history", "--no-trunc", last]).ok().has_all(&["echo two", "ENV A=1", "echo one", last]);
        env.rbuild(&["rmi", last]).exits(1).has("build step");
        env.rbuild(&["tag", last, "rescued:1"]).ok();
        env.run(&["rescued:1", "cat", "/two"]).ok().prints("two\n");
        env.build(&env.dockerfile(&format!("FROM {last}\nRUN cat /one\n")), &[]).ran("one");
    }

    /// A failing step beside one that runs: the other is stopped, its line ended, the error said once.
    fn a_failure_beside_running_steps(env) {
        env.busybox();
        let ctx = env.dockerfile(
            "FROM busybox:test AS slow\nRUN printf half; touch /vol/half; sleep 86400\n\
             FROM busybox:test AS bad\nRUN echo whole; until test -e /vol/half; do sleep 0.1; done; exit 3\n\
             FROM scratch\nCOPY --from=slow /x /x\nCOPY --from=bad /x /x\n");
        let host = env.context();
        let volume = format!("{}:/vol", host.path());
        let outcome = env.try_build(&ctx, &["-v", &volume]).exits(1);
        assert!(outcome.stdout.contains("[bad] whole\n") && outcome.stdout.contains("[slow] half\n"), "{outcome}");
        assert_eq!(outcome.stderr.matches("error").count(), 1, "{outcome}");
        outcome.has("exit code: 3").has("Dockerfile:4:1");
        std::fs::remove_file(host.at("half")).unwrap();
        // Quiet: the step that failed and its output, not the one that was stopped.
        env.try_build(&ctx, &["-q", "-v", &volume]).exits(1).has("[bad] whole").lacks("[slow]");
    }

    /// The first step shown is number 1, also where a stage on scratch needs nothing.
    fn a_stage_on_scratch_is_not_shown_first(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test AS a\nRUN echo x > /f\nFROM scratch\nENV A=1\nCOPY --from=a /f /f\n");
        for args in [&[][..], &[], &["--no-cache"]] {
            let outcome = env.build(&ctx, args);
            assert_eq!(outcome.steps(), [
                "FROM busybox:test AS a", "RUN echo x > /f", "FROM scratch", "ENV A=1", "COPY --from=a /f /f",
            ]);
        }
    }

    /// Every copy is of a layer that was made again while an older one of equal content was kept.
    fn no_cache_with_copies_between_stages(env) {
        env.busybox();
        let mut text = String::new();
        for stage in 0..4 {
            text += &format!("FROM busybox:test AS s{stage}\nRUN echo {stage} > /f{stage}\nRUN mkdir /d{stage} && echo x > /d{stage}/g\n");
        }
        text += "FROM scratch\n";
        for stage in 0..4 {
            text += &format!("COPY --from=s{stage} /f{stage} /f{stage}\nCOPY --from=s{stage} /d{stage} /d\n");
        }
        let ctx = env.dockerfile(&text);
        let first = env.build_id(&ctx, &[]);
        for _ in 0..3 {
            assert_eq!(env.build_id(&ctx, &["--no-cache"]), first);
        }
    }

    fn a_reader_that_goes_away(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN seq 1 50000\nRUN echo x > /made\n");
        let line = format!("{} -t piped {} | head -n 1", env.exe().display(), ctx.path());
        env.program("sh", &["-c", &line]).ok().prints("Step 1/3 : FROM busybox:test\n");
        env.run(&["piped", "cat", "/made"]).ok().prints("x\n");
    }

    /// Bytes pass as they are where nobody obeys them, and lose what a terminal would obey.
    fn output_that_is_not_text(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN printf '\\033[31mred\\033[0m \\033]0;ti\\164le\\007 \\000\\377 end'\n");
        let piped = env.build(&ctx, &[]);
        assert!(piped.stdout.contains("\x1b]0;title\x07 \0\u{fffd} end\n ---> "), "{:?}", piped.stdout);
        let build = |how: &str| {
            let shown = on_a_terminal(env, &format!("build --no-cache --progress={how} {}", ctx.path())).ok();
            assert!(!shown.stdout.contains("title") && !shown.stdout.contains('\0'), "{:?}", shown.stdout);
            shown
        };
        let shown = build("plain");
        assert!(shown.stdout.contains("\x1b[31mred\x1b[0m "), "{:?}", shown.stdout);
        // What goes on in a view has the view's colours only.
        let shown = build("tty");
        assert!(!shown.stdout.contains("\x1b[31m"), "{:?}", shown.stdout);
    }

    /// Ctrl-C at the terminal: 130, one line, and a second one changes nothing.
    fn control_c_at_a_build(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN printf half-a-li''ne; sleep 86400\n");
        for keys in ["\x03", "\x03\x03\x03"] {
            let line = format!("{} {}", env.exe().display(), ctx.path());
            let mut job = env.program("script", &["-qec", &line, "/dev/null"]).stdin_pipe().spawn();
            job.wait_for("half-a-line");
            job.write(keys.as_bytes());
            let outcome = job.finish().exits(130);
            assert_eq!(outcome.stdout.matches("stopped; nothing was left behind").count(), 1, "{outcome}");
        }
    }

    /// The line that a step left open is ended before the message.
    fn a_stopped_step_ends_its_line(env) {
        env.busybox();
        let job = env.rbuild(&[env.dockerfile("FROM busybox:test\nRUN printf ha''lf; sleep 86400\n").path()]).spawn();
        job.wait_for("half");
        job.signal(Signal::TERM);
        let outcome = job.finish().exits(143);
        assert!(outcome.stdout.ends_with("half\n"), "{outcome}");
        assert_eq!(outcome.stderr, "error: stopped; nothing was left behind\n");
    }

    /// A tar archive as the context, in the forms people pipe.
    fn tars_as_people_make_them(env) {
        env.busybox();
        let ctx = env.context().file("Dockerfile", "FROM busybox:test\nCOPY . /c\nRUN cat /c/d/f\n").file("d/f", "from-the-tar\n")
            .file("Other", "FROM busybox:test\nRUN echo oth''er\n");
        for line in ["tar c .", "tar c *", "tar cz .", "tar c . | zstd -q"] {
            let line = format!("cd {} && {line} | {} --no-cache -", ctx.path(), env.exe().display());
            env.program("sh", &["-c", &line]).ok().ran("from-the-tar");
        }
        let line = format!("cd {} && tar c . | {} -f Other -", ctx.path(), env.exe().display());
        env.program("sh", &["-c", &line]).ok().ran("other");
        let line = format!("cd {} && tar c . | {} graph --format dot -", ctx.path(), env.exe().display());
        env.program("sh", &["-c", &line]).ok().has("COPY . /c");
    }

    fn columns_and_templates_as_dockers(env) {
        let id = env.busybox();
        let table = env.rbuild(&["images"]).ok().stdout;
        let header: Vec<&str> = table.lines().next().unwrap().split("  ").filter(|w| !w.is_empty()).map(str::trim).collect();
        assert_eq!(header, ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
        let time = env.rbuild(&["images", "--format", "{{.CreatedAt}}"]).ok().stdout;
        assert!(time.ends_with(" +0000 UTC\n") && time.len() == "2026-01-01 00:00:00 +0000 UTC\n".len(), "{time}");
        let time = env.rbuild(&["history", "--human=false", "--format", "{{.CreatedAt}}", "busybox:test"]).ok().stdout;
        assert!(time.ends_with("Z\n") && time.len() == "2026-01-01T00:00:00Z\n".len(), "{time}");
        let json = env.rbuild(&["inspect", "busybox:test"]).ok().stdout;
        let place = |name: &str| json.find(&format!("\"{name}\": ")).unwrap_or_else(|| panic!("{name} in {json}"));
        let order = ["Id", "RepoTags", "Created", "Config", "Env", "Cmd", "Architecture", "Os", "Size", "RootFS"].map(place);
        assert!(order.is_sorted(), "{json}");
        env.rbuild(&["inspect", "-f", "{{range .Config.Env}}{{println .}}{{end}}", &id[7..17]]).ok().has("PATH=");
        env.rbuild(&["rmi", "-f", "nothing-like-this"]).ok().has("No such image: nothing-like-this:latest");
    }

    /// Two builds at once in one store give one image, and each its own output.
    fn two_builds_at_once(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo wor''ked > /f\nRUN cat /f\n");
        let start = || env.rbuild(&["build", ctx.path()]).spawn();
        let (one, two) = (start(), start());
        let (one, two) = (one.finish().ok(), two.finish().ok());
        assert_eq!(one.built(), two.built());
        assert_eq!(one.printed("worked") as u8 + two.printed("worked") as u8, 1, "the steps are shared\n{one}{two}");
    }
}
