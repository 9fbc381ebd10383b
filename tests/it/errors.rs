//! Errors as a user sees them: the place, what failed and how, the last lines, the log, what may help.
//!
//! The hints for what programs say are tested beside their table (`src/build/failure/hints`); here a few of
//! each kind go through the real binary.

use std::fs;

use super::common::{Context, Outcome, TestEnv, Who, env::run_as, not_here};

/// Builds what must fail with these texts, and exit code 1.
#[track_caller]
fn fails_with(env: &TestEnv, ctx: &Context, args: &[&str], texts: &[&str]) -> Outcome {
    let network = ["--network", "none"];
    env.try_build(ctx, &[&network, args].concat()).exits(1).fails().has_all(texts)
}

/// The lines of standard error from the error on, with the path of the log replaced.
fn drawing(outcome: &Outcome) -> String {
    let from = outcome.stderr.find("error[").unwrap_or(0);
    let mut lines = Vec::new();
    for line in outcome.stderr[from..].lines() {
        lines.push(match line.split_once("full log: ") {
            Some((before, path)) => {
                assert!(fs::metadata(path).is_ok_and(|log| log.is_file()), "{path}");
                format!("{before}full log: LOG")
            }
            None => line.to_owned(),
        });
    }
    lines.join("\n")
}

both! {
    /// The whole screen of a failing command: its output is not shown twice.
    fn a_failing_command(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo one && \\\n    gcc -o x x.c && \\\n    echo two\n");
        let outcome = fails_with(env, &ctx, &[], &["/bin/sh: gcc: not found"]);
        assert_eq!(outcome.both.matches("gcc: not found").count(), 1, "{outcome}");
        let expect = r#"error[step-failed]: process "/bin/sh -c echo one &&     gcc -o x x.c &&     echo two" did not complete successfully: exit code: 127
 --> Dockerfile:3:5
  |
3 |     gcc -o x x.c && \
  |     ^^^
  |
  = help: `gcc` is not in the image, or not in its PATH: install it in a RUN before
  = note: full log: LOG"#;
        assert_eq!(drawing(&outcome).replace(&format!("{}/", ctx.path()), ""), expect);
    }

    /// Where nothing was shown the last lines are; where it was, they are not.
    fn the_last_lines(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN seq 100; exit 3\n");
        let none = fails_with(env, &ctx, &["--progress", "none"], &["------\n > RUN seq 100; exit 3:\n81\n82\n"]);
        assert!(none.stderr.contains("\n99\n100\n------\nerror[step-failed]: process "), "{none}");
        none.lacks("\n80\n");
        let quiet = fails_with(env, &ctx, &["-q"], &["\n1\n", "\n100\n", "exit code: 3"]);
        quiet.lacks("------");
        // Two that speak at once: the lines of the one that failed are shown again, without the other's.
        let ctx = env.dockerfile(
            "FROM busybox:test AS a\n\
             RUN echo a-began; touch /s/a; until [ -e /s/b ]; do sleep 0.01; done; echo a-failed; exit 4\n\
             FROM busybox:test AS b\n\
             RUN until [ -e /s/a ]; do sleep 0.01; done; echo of-b; touch /s/b; while :; do sleep 1; done\n\
             FROM a\nCOPY --from=b / /b\n",
        );
        let shared = env.path("shared");
        fs::create_dir(&shared).unwrap();
        env.give(&shared);
        let volume = format!("{}:/s", shared.display());
        let mixed = fails_with(env, &ctx, &["-v", &volume], &["[a] a-failed", "[b] of-b", "exit code: 4"]);
        assert!(mixed.stderr.contains(":\na-began\na-failed\n------\nerror[step-failed]"), "{mixed}");
    }

    /// Why a program did not run.
    fn programs_that_do_not_run(env) {
        env.busybox();
        let check = |run: &str, texts: &[&str]| {
            let ctx = env
                .dockerfile(&format!("FROM busybox:test\nCOPY . /c/\n{run}\n"))
                .file_with_mode("cr.sh", 0o755, "#!/bin/sh\r\necho\r\n")
                .file_with_mode("plain.sh", 0o644, "#!/bin/sh\n")
                .file_with_mode("data", 0o755, [0x7f, b'E', b'L', b'F', 9, 9, 9, 9]);
            fails_with(env, &ctx, &[], texts);
        };
        check("RUN [\"/c/cr.sh\"]", &["interpreter `/bin/sh\\r` does not exist", "line ends of Windows"]);
        check("RUN [\"/c/plain.sh\"]", &["permission denied", "`COPY --chmod=755`"]);
        check("RUN /c/plain.sh", &["exit code: 126", "`/c/plain.sh` may not be executed"]);
        check("RUN [\"/c/data\"]", &["exec format error", "another processor"]);
        check("RUN [\"gcc\", \"-v\"]", &["executable file not found in $PATH", "`gcc` is not in the image"]);
        check("RUN sh -c 'kill -SEGV $$'; exit $?", &["exit code: 139", "SIGSEGV"]);
        check("RUN wget http://host.invalid/", &["because of `--network=none`"]);
        check("USER app\nRUN mkdir /opt2", &["Permission denied", "runs as the user `app`"]);
        let ctx = env.dockerfile("FROM scratch\nCOPY Dockerfile /\nRUN echo\n");
        fails_with(env, &ctx, &[], &["the image has no `/bin/sh`"]);
    }

    /// What COPY does not find, and what was meant.
    fn files_that_are_not_there(env) {
        env.busybox();
        let check = |copy: &str, texts: &[&str]| {
            let ctx = env
                .dockerfile(&format!("FROM busybox:test\n{copy}\n"))
                .file("src/app.py", "")
                .file("a.log", "")
                .file(".dockerignore", "# logs\n*.log\n");
            fails_with(env, &ctx, &[], texts)
        };
        check("COPY src/ap.py /", &["did you mean `src/app.py`?", "Dockerfile:2:6", "      ^^^^^^^^^"]);
        check("COPY app.py /", &["did you mean `src/app.py`?"]);
        check("COPY ../other/x /", &["build from the parent directory"]);
        check("COPY a.log /", &[".dockerignore:2 leaves it out: `*.log`"]).lacks("CopyIgnoredFile");
        check("COPY --from=busybox:test /bin/busybix /", &["did you mean `bin/busybox`?"]);
        check("COPY --chown=nosuch src /", &["unable to find user `nosuch`", "/etc/passwd", "^^^^^^^^^^^^^^\n"]);
        check("USER nosuch\nRUN true", &["Dockerfile:2:6", "unable to find user `nosuch`"]);
        check("COPY src/app.py /app\nWORKDIR /app", &["cannot make the working directory `/app`"]);
    }

    /// Names on the command line and in FROM.
    fn names_that_are_misspelt(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test AS builder\nFROM busybox:test\nCOPY --from=bulder /x /\n");
        fails_with(env, &ctx, &["--pull=never"], &["did you mean the stage `builder`?"]);
        let ctx = env.dockerfile("FROM busibox:test\n");
        fails_with(env, &ctx, &["--pull=never"], &["did you mean `busybox:test`, which is in the store?"]);
        let ctx = env.dockerfile("FROM busybox:test\n");
        env.try_build(&ctx, &["-t", "Me/App:1"]).exits(2).has("did you mean `me/app:1`?");
        let ctx = env.context().file("docker/Dockerfile", "FROM busybox:test\n");
        fails_with(env, &ctx, &[], &["does not exist", &format!("did you mean `-f {}/docker/Dockerfile`?", ctx.path())]);
        let near = ctx.at("docker/Dockerfle");
        fails_with(env, &ctx, &["-f", &near], &[&format!("did you mean `-f {}`?", ctx.at("docker/Dockerfile"))]);
    }

    /// Stores that cannot be used.
    fn stores_that_cannot_be_used(env) {
        let ctx = env.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
        let file = env.path_str("file");
        fs::write(&file, "").unwrap();
        env.rbuild(&["--root", &file, "build", ctx.path()]).exits(1).has_all(&["Not a directory", "hint: the store is a directory"]);
        env.build(&ctx, &[]);
        fs::write(env.store().join("v1/format"), "garbage").unwrap();
        fails_with(env, &ctx, &[], &["is damaged", "hint: ", "--root"]);
    }

    /// A fault of rbuild is an error that says so.
    fn a_fault_of_the_program(env) {
        let outcome = env.rbuild(&["images"]).var("RBUILD_TEST_PANIC", "oops").exits(1);
        let version = env!("CARGO_PKG_VERSION");
        assert!(outcome.stderr.starts_with(&format!("error: this is a fault of rbuild {version}, ")), "{outcome}");
        outcome.has_all(&["oops (src/cli/world.rs:", "hint: please report it"]).lacks("panicked at");
    }
}

/// A full disk is said as such; the step's own words may not say it.
#[test]
fn a_full_disk() {
    run_as(Who::Root, |env| {
        let ctx = env.dockerfile("FROM busybox:test\nRUN dd if=/dev/zero of=/x bs=1M count=20 2>/dev/null\n");
        let (store, exe, image) =
            (env.path_str("disk"), env.exe().display().to_string(), env.path_str("image"));
        fs::create_dir(&store).unwrap();
        fs::write(&image, super::common::base::busybox_tar()).unwrap();
        let script = format!(
            "mount -t tmpfs -o size=12m none {store} && RBUILD_MIN_FREE_SPACE=0 {exe} --root {store}/s import {image} busybox:test && \
             exec env RBUILD_MIN_FREE_SPACE=0 {exe} --root {store}/s build --network none {}",
            ctx.path()
        );
        let outcome = env.program("unshare", &["-m", "sh", "-c", &script]).exits(1);
        outcome.has_all(&["and no space is left on the file system of the store", "`rbuild system prune`"]);
    });
}

/// Where there are no user namespaces, the error says how to get them.
#[test]
fn no_user_namespaces() {
    run_as(Who::User, |env| {
        let ctx = env.dockerfile("FROM scratch\n");
        // Its own root may switch them off for a user namespace, and whoever lacks the capability needs one.
        let script = format!(
            "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-sys_admin {} build --isolation namespaces {}",
            env.exe().display(),
            ctx.path()
        );
        let outcome = env.program("unshare", &["-U", "-r", "sh", "-c", &script]).fails();
        if outcome.both.contains("unshare: ") {
            return not_here("user namespaces cannot be made with unshare(1)");
        }
        outcome.exits(1).has_all(&[
            "sysctl -w user.max_user_namespaces=15000",
            "/etc/sysctl.d/",
            "rbuild doctor",
        ]);
    });
}
