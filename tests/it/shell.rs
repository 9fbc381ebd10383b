//! Shells in builds: in a step that failed (`--on-failure shell`), and at any point (`rbuild shell`).
//!
//! Terminals are script(1)'s. What is typed is echoed, so texts that are waited for are written in two parts.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::common::command::Job;
use super::common::{Outcome, TestEnv, Who, skip};
use super::snapshotters::fuse_works;

/// What the prompt of the test image's shell ends with.
const PROMPT: &str = " # ";

/// Starts rbuild in a terminal, whose process says its id first.
fn in_terminal(env: &TestEnv, words: &str) -> Job {
    let line = format!("stty cols 100 rows 30; echo pid $$; NO_COLOR=1 exec {} {words}", env.exe().display());
    env.program("script", &["-qec", &line, "/dev/null"]).stdin_pipe().spawn()
}

/// Builds in a terminal, with a shell where a step fails.
fn build(env: &TestEnv, words: &str) -> Job {
    in_terminal(env, &format!("build --network none --on-failure shell {words}"))
}

/// Returns the id of rbuild's process.
fn pid(job: &Job) -> Pid {
    job.wait_for("\n");
    let said = job.said();
    let number = said.lines().find_map(|line| line.trim().strip_prefix("pid ")).unwrap();
    Pid::from_raw(number.parse().unwrap()).unwrap()
}

/// Runs a command at a point of a build, without a terminal.
fn at(env: &TestEnv, context: &str, options: &[&str], command: &[&str]) -> Outcome {
    let words = [&["shell", "-q", "--network", "none"], options, &[context, "--"], command].concat();
    env.rbuild(&words).output()
}

/// What lies in the store on its way.
fn on_its_way(env: &TestEnv) -> Vec<String> {
    let entries = fs::read_dir(env.store().join("v1/tmp")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Tells whether a file of the store has a text in it.
fn is_in_store(env: &TestEnv, text: &str) -> bool {
    let files = walkdir::WalkDir::new(env.store()).into_iter().flatten();
    let mut files = files.filter(|entry| entry.file_type().is_file());
    let has = |path: &Path| fs::read(path).is_ok_and(|b| b.windows(text.len()).any(|w| w == text.as_bytes()));
    files.any(|entry| has(entry.path()))
}

/// Waits until a text was said so often.
#[track_caller]
fn wait_for_times(job: &Job, text: &str, count: usize) {
    let start = Instant::now();
    while job.said().matches(text).count() < count {
        assert!(!job.ended() && start.elapsed() < Duration::from_secs(120), "{}", job.said());
        std::thread::yield_now();
    }
}

/// Waits until no process has this word among its arguments.
fn wait_for_the_end_of(word: &str) {
    let start = Instant::now();
    let lives = || {
        let all = fs::read_dir("/proc").unwrap().flatten();
        let line = |path: &Path| fs::read_to_string(path.join("cmdline")).unwrap_or_default();
        // Not the shells whose text has the word in it.
        all.into_iter().any(|entry| line(&entry.path()).split('\0').any(|arg| arg == word))
    };
    while lives() {
        assert!(start.elapsed() < Duration::from_secs(30), "a process with `{word}` is left");
        std::thread::yield_now();
    }
}

both! {
    /// It has all that the step had and left; what is done in it is in no image.
    fn a_failed_step_is_looked_into_and_run_again(env) {
        env.busybox();
        let ctx = env.dockerfile(
            "FROM busybox:test\nARG V=3\nENV A=1\nUSER app\nWORKDIR /home/app\n\
             RUN --mount=type=cache,target=/c,mode=0777 --mount=type=secret,id=s,mode=0444 --mount=type=secret,id=s,env=S \
             --mount=type=tmpfs,target=/t --mount=source=f,target=/bound \
             echo left > /tmp/half; test -e /c/ok && echo built > /tmp/made\nRUN cat /tmp/made\n",
        ).file("f", "of the context");
        let secret = env.context().file("s", "hush-hush");
        let words = format!("--secret id=s,src={} --build-arg V=4 -t app {}", secret.at("s"), ctx.path());
        let mut job = build(env, &words);
        job.wait_for("exit code: 1");
        job.wait_for("$ ");
        let show = "echo \"is [$(cat /tmp/half) $(id -un) $(pwd) $A$V $(cat /run/secrets/s) $S $(cat /bound) $(ls /t) $HOME $(grep -c . /proc/net/dev)]\"\n";
        job.write(show.as_bytes());
        job.wait_for("is [left app /home/app 14 hush-hush hush-hush of the context  /home/app 3]");
        job.write(b"echo \"path $PATH\"; tty; stty size; jobs -l; sleep 1000 & jobs; echo to''ld\n");
        job.wait_for("path /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/.rbuild/bin\r\n");
        job.wait_for("/dev/pts/");
        job.wait_for("30 100");
        job.wait_for("Running");
        job.wait_for("to''ld".replace('\'', "").as_str());
        job.write(b"touch /c/ok /tmp/by-hand; retry\n");
        let outcome = job.finish().ok().has("A shell in step 6/7 as it failed.").has("Successfully tagged app:latest");
        assert_eq!(outcome.stdout.matches("error[step-failed]").count(), 1, "{outcome}");
        let found = env.run(&["app", "sh", "-c", "cat /tmp/half /tmp/made; ls -A /tmp; ls -d /.rbuild"]).exits(1);
        assert_eq!(found.stdout, "left\nbuilt\nhalf\nmade\n");
        assert!(on_its_way(env).is_empty() && !is_in_store(env, "hush-hush"));
        // The record tells of one build that was completed.
        env.rbuild(&["builds", "ls", "--format", "{{.Status}}"]).ok().prints("completed\n");
        env.build(&ctx, &["--secret", &format!("id=s,src={}", secret.at("s")), "--build-arg", "V=4", "--network", "none"])
            .did_not_run("built");
    }

    /// However layers are merged and steps isolated.
    fn in_any_root(env) {
        env.busybox();
        let mut ways = vec!["--snapshotter copy"];
        if env.who == Who::Root {
            ways.push("--isolation chroot");
        }
        if fuse_works(env) {
            ways.push("--snapshotter fuse-overlayfs");
        }
        for (number, way) in ways.into_iter().enumerate() {
            let ctx = env.dockerfile(&format!(
                "FROM busybox:test\nRUN echo a > /gone && echo b > /kept\nRUN --mount=type=cache,id=c{number},target=/c \
                 rm /gone; : way {number}; echo left > /half; grep yes /c/answer\n"
            ));
            let network = if way.contains("chroot") { "host" } else { "none" };
            let words = format!("build --network {network} --on-failure shell {way} -t any {}", ctx.path());
            let mut job = in_terminal(env, &words);
            job.wait_for(PROMPT);
            job.write(b"echo \"is [$(cat /half /kept) $(ls -d /gone /c)]\"; echo yes > /c/answer; retry\n");
            let outcome = job.finish().ok().lacks("warning: fuse-overlayfs ended");
            assert!(outcome.stdout.replace("\r\n", " ").contains("is [left b /c]"), "{way}: {outcome}");
            assert!(on_its_way(env).is_empty(), "{way}");
            env.run(&["any", "sh", "-c", "cat /half; ls /.rbuild"]).exits(1).has("left");
        }
    }

    fn a_build_that_is_given_up(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo x > /x; exit 7\n");
        for (word, said) in [("abort\n", ""), ("exit 0\n", ""), ("exit 9\n", ""), ("\x04", ""), ("sh\n", "abort\n")] {
            let mut job = build(env, &format!("-t never {}", ctx.path()));
            job.wait_for(PROMPT);
            job.write(word.as_bytes());
            if !said.is_empty() {
                job.wait_for(&format!("{word}\r").replace('\n', ""));
                job.write(said.as_bytes());
            }
            let outcome = job.finish().exits(1).has("exit code: 7").has("error: step 2/2 failed");
            assert_eq!(outcome.stdout.matches("error[step-failed]").count(), 1, "{outcome}");
            assert!(on_its_way(env).is_empty());
        }
        env.rbuild(&["inspect", "never"]).fails();
        let statuses = env.rbuild(&["builds", "ls", "--format", "{{.Status}}"]).ok();
        assert_eq!(statuses.stdout, "failed\n".repeat(5));
    }

    /// Others prune, and do the same step, caches that only one may have included; then it is taken from them.
    fn nothing_is_locked_meanwhile(env) {
        env.busybox();
        let host = env.context().dir_with_mode("h", 0o777);
        let ctx = env.dockerfile(
            "FROM busybox:test\nRUN echo one >> /h/count\n\
             RUN --mount=type=cache,target=/c,sharing=locked echo two >> /h/count; test -e /h/ok && echo made > /made\n",
        );
        let volume = format!("{}:/h", host.at("h"));
        let mut job = build(env, &format!("-v {volume} -t first {}", ctx.path()));
        job.wait_for(PROMPT);
        // What the step stands on stays.
        env.rbuild(&["builder", "prune", "-af"]).ok();
        env.rbuild(&["image", "prune", "-f"]).ok();
        host.write("h/ok", "");
        env.build(&ctx, &["-v", &volume, "--network", "none", "-t", "second"]);
        job.write(b"ls /h /c; retry\n");
        job.finish().ok().has("Successfully tagged first:latest");
        assert_eq!(fs::read_to_string(host.at("h/count")).unwrap(), "one\ntwo\ntwo\n");
        assert_eq!(env.inspect("first")["Id"], env.inspect("second")["Id"]);
    }

    /// Steps that were done stay done, and files that were mended outside count.
    fn a_retry_goes_on_where_the_build_was(env) {
        env.busybox();
        let host = env.context().dir_with_mode("h", 0o777);
        let ctx = env.dockerfile(
            "FROM busybox:test\nRUN echo one >> /h/count\nCOPY src /src\n\
             RUN --mount=source=src,target=/m echo two >> /h/count; cmp /src /m && grep right /src\n",
        ).file("src", "wrong\n");
        let mut job = build(env, &format!("--no-cache -v {}:/h -t app {}", host.at("h"), ctx.path()));
        job.wait_for(PROMPT);
        job.write(b"retry\n");
        job.wait_for("= 2/4 RUN echo one >> /h/count");
        wait_for_times(&job, "step 4/4 as it failed", 2);
        ctx.write("src", "right\n");
        job.write(b"retry\n");
        job.finish().ok();
        assert_eq!(fs::read_to_string(host.at("h/count")).unwrap(), "one\ntwo\ntwo\ntwo\n");
        env.run(&["app", "cat", "/src"]).ok().prints("right\n");
    }

    fn a_terminal_that_changes_its_size(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN exit 7\n");
        let go = env.path_str("go");
        let line = format!(
            "tty=$(tty); stty cols 80 rows 24; (until [ -e {go} ]; do sleep 0.05; done; stty cols 99 rows 33 < $tty) & \
             exec {} build --network none --on-failure shell {}",
            env.exe().display(),
            ctx.path()
        );
        let mut job = env.program("script", &["-qec", &line, "/dev/null"]).stdin_pipe().spawn();
        job.wait_for(PROMPT);
        job.write(b"stty size\n");
        job.wait_for("24 80");
        fs::write(&go, "").unwrap();
        job.write(b"until [ \"$(stty size)\" = '33 99' ]; do :; done; echo res''ized\n");
        job.wait_for("resized");
        job.write(b"abort\n");
        job.finish().exits(1);
    }

    /// Signals end the shell and all in it, and leave the terminal as it was; so does a kill, but for the terminal.
    fn a_build_that_is_stopped_while_a_shell_is_open(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN --mount=type=cache,target=/c exit 7\n");
        for (number, signal, code) in [(1, Signal::TERM, 143), (2, Signal::HUP, 129), (3, Signal::KILL, 137)] {
            let word = format!("{}-{number}", env.dir().display());
            let mut job = build(env, ctx.path());
            job.wait_for(PROMPT);
            job.write(format!("(sh -c 'echo run''ning; sleep 86400; true' {word} &)\n").as_bytes());
            job.wait_for("running");
            rustix::process::kill_process(pid(&job), signal).unwrap();
            let outcome = job.finish();
            assert_eq!(outcome.code, Some(code), "{outcome}");
            wait_for_the_end_of(&word);
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
            assert!(!mounts.contains(env.dir().to_str().unwrap()), "{mounts}");
            // Whoever comes next removes what a killed process left.
            env.rbuild(&["builder", "prune", "-f"]).ok();
            assert!(on_its_way(env).is_empty());
        }
        let line = format!("stty -g; {} shell --network none --at 1 {}; stty -g", env.exe().display(), ctx.path());
        let mut job = env.program("script", &["-qec", &line, "/dev/null"]).stdin_pipe().spawn();
        job.wait_for(PROMPT);
        job.write(b"exit\n");
        let said = job.finish().stdout;
        let modes: Vec<&str> = said.split_whitespace().map(|word| word.trim_start_matches("\x1b[K")).filter(|word| word.matches(':').count() > 20).collect();
        assert!(modes.len() == 2 && modes[0] == modes[1], "{said}");
    }

    /// Where nobody can answer it is refused before anything is built; by itself it is only spoken of.
    fn without_a_terminal_there_is_no_shell(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo ra''n; exit 7\n");
        let flag = ["--on-failure", "shell"];
        env.try_build(&ctx, &flag).exits(2).has("standard input is not a terminal").lacks("ran");
        env.try_build(&ctx, &["--on-failure", "abort"]).exits(1).lacks("--on-failure");
        env.try_build(&ctx, &["--on-failure", "nonsense"]).exits(2);
        build(env, &format!("--progress rawjson {}", ctx.path())).finish().exits(2).has("cannot share a terminal");
        let words = format!("build --network none {}", ctx.path());
        in_terminal(env, &words).finish().exits(1).has("hint: `--on-failure shell` opens a shell");
        in_terminal(env, &format!("{words} < /dev/null")).finish().exits(1).lacks("--on-failure");
        // What is no step's own failure opens nothing.
        let broken = env.dockerfile("FROM busybox:test\nCOPY nothing /\n");
        build(env, broken.path()).finish().exits(1).has("nothing").lacks("A shell in");
    }

    /// By number, line and stage, before and after; with what a RUN has there.
    fn any_point_of_a_build(env) {
        env.busybox();
        let ctx = env.dockerfile(
            "FROM busybox:test AS tools\nARG V=5\nRUN echo t > /tool\nFROM busybox:test AS app\nENV A=1\nUSER app\nWORKDIR /home/app/w\n\
             RUN --mount=type=cache,target=/c \\\n  --mount=type=secret,id=s,env=S \\\n  echo run > /tmp/run; exit $(cat /tmp/fail 2>/dev/null)\n\
             COPY --from=tools /tool /\nENV A=2\nCMD [\"x\"]\nFROM busybox:test AS unused\nRUN echo u > /unused\n",
        );
        let show = "echo $A $(id -un) $PWD $S; ls -d /tmp/run /tool /c 2>/dev/null; touch /tmp/new; exit 5";
        let check = |options: &[&str], expect: &str| {
            let all = [&["--secret", "id=s,env=SECRET", "--target", "app"], options].concat();
            let words = [&["shell", "-q", "--network", "none"], &all[..], &[ctx.path(), "--", "sh", "-c", show]].concat();
            env.rbuild(&words).var("SECRET", "hush").exits(5).prints(expect);
        };
        check(&["--at", "8", "--before"], "1 app /home/app/w hush\n/c\n");
        check(&["--at", "8"], "1 app /home/app/w hush\n/c\n/tmp/run\n");
        check(&["--at", ":8"], "1 app /home/app/w hush\n/c\n/tmp/run\n");
        check(&["--at", "L10", "--before"], "1 app /home/app/w hush\n/c\n");
        check(&["--at", "4"], "root /\n");
        check(&["--at", "5"], "1 root /\n");
        check(&["--at", "6"], "1 app /\n");
        check(&["--at", "9"], "1 app /home/app/w\n/tmp/run\n/tool\n");
        check(&["--at", "10", "--before"], "1 app /home/app/w\n/tmp/run\n/tool\n");
        check(&[], "2 app /home/app/w\n/tmp/run\n/tool\n");
        at(env, ctx.path(), &["--at", "tools"], &["cat", "/tool"]).ok().prints("t\n");
        at(env, ctx.path(), &["--at", "unused"], &["cat", "/unused"]).ok().prints("u\n");
        at(env, ctx.path(), &["--target", "tools"], &["cat", "/tool"]).ok().prints("t\n");
        // Only what leads there is built: the file's last stage is not.
        at(env, ctx.path(), &["--target", "app", "--at", "3"], &["true"]).ok();
        assert!(on_its_way(env).is_empty());
        for (options, expect) in [
            (&["--at", "99"][..], "there is no step 99: the target has "),
            (&["--at", ":1"], "no step of the target stands on line 1"),
            (&["--at", "nope"], "nope"),
            (&["--at", "1", "--before"], "nothing before the first step"),
            (&["--before"], "--at"),
            (&["--target", "tools", "--target", "app"], "one --target"),
        ] {
            at(env, ctx.path(), options, &["true"]).exits(2).has(expect);
        }
        at(env, ctx.path(), &["--at", "tools"], &["nope"]).exits(127).has("nope");
        at(env, ctx.path(), &["--at", "tools"], &["/tool"]).exits(126);
    }

    /// Input and output go through as they are; without a command a shell reads what comes in.
    fn a_shell_in_a_script(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo o''ut; echo f > /f\nRUN exit 7\n");
        let words = ["shell", "--network", "none", "--at", "2", ctx.path()];
        let outcome = env.rbuild(&words).stdin("cat /f\necho line >&2\nexit 4\n").exits(4);
        assert_eq!(outcome.stdout, "f\n", "progress is not in the way of data");
        assert!(outcome.stderr.contains("Step 2/2 : RUN echo") && outcome.stderr.ends_with("line\n"), "{outcome}");
        at(env, ctx.path(), &["--at", "2"], &["cat", "/f"]).ok().prints("f\n");
        at(env, ctx.path(), &["--at", "3"], &["true"]).exits(1).has("exit code: 7").has("--before");
        at(env, ctx.path(), &["--at", "3", "--before"], &["true"]).ok();
        env.rbuild(&["shell", "-"]).exits(2).has("standard input is the shell's");
        env.rbuild(&["builds", "ls", "--format", "{{.Status}}"]).ok().prints("completed\nfailed\ncompleted\ncompleted\n");
        let mut job = in_terminal(env, &format!("shell --network none --at 2 {}", ctx.path()));
        job.wait_for("A shell after step 2/3: RUN echo");
        job.wait_for(PROMPT);
        job.write(b"rm /f; tty && exit 6\n");
        job.finish().exits(6).has("/dev/pts/");
        at(env, ctx.path(), &["--at", "2"], &["cat", "/f"]).ok();
    }

    /// An image of one program, without /bin, /etc or a shell.
    fn images_without_a_shell_get_a_busybox(env) {
        env.busybox();
        let busybox = fs::read("/bin/busybox").unwrap();
        let ctx = env.context().file_with_mode("sleep", 0o755, &busybox).file("Dockerfile",
            "FROM scratch\nCOPY sleep /\nENV PATH=/own\nUSER 7:8\nRUN [\"/sleep\", \"wrong\"]\n");
        let seen = at(env, ctx.path(), &["--at", "5", "--before"], &["sh", "-c", "id -u; echo $PATH; ls /; ls -ld /.rbuild/bin/sh"]).ok();
        assert!(seen.stdout.starts_with("7\n/own:/.rbuild/bin\ndev\netc\nproc\nsleep\nsys\n"), "{seen}");
        let mut job = build(env, ctx.path());
        job.wait_for("$ ");
        job.write(b"ls -A /; id -g; touch /.rbuild/x; abo''rt\n");
        job.finish().exits(1).has(".rbuild  dev ").has("\r\n8\r\n").has("Read-only file system");
        let fine = env.context().file_with_mode("sleep", 0o755, &busybox).file("Dockerfile",
            "FROM scratch\nCOPY sleep /\nRUN [\"/sleep\", \"0\"]\n");
        at(env, fine.path(), &["--at", "3"], &["ls", "/"]).ok();
        assert!(!env.export(&fine, &[]).last_paths().iter().any(|path| path.contains("rbuild")));
        let named = |path: &str| {
            let words = ["shell", "-q", "--at", "2", "--network", "none", ctx.path(), "--", "ls", "/"];
            env.rbuild(&words).var("RBUILD_BUSYBOX", path).output()
        };
        named("/bin/busybox").ok().has("sleep\n");
        named("/etc/passwd").exits(1).has("RBUILD_BUSYBOX").has("not a statically linked program");
        named("/no/such").exits(1).has("/no/such");
    }
}

/// Where nothing can be mounted the commands come into the root, and are heard all the same.
#[test]
fn a_shell_in_a_chroot() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    env.busybox();
    let ctx = env.dockerfile(
        "FROM busybox:test\nRUN --mount=type=cache,target=/c test -e /c/ok && echo built > /made && ls -d /.rbuild || exit 7\n",
    );
    let words = format!("build --isolation chroot --on-failure shell -t app {}", ctx.path());
    let mut job = in_terminal(&env, &words);
    job.wait_for(PROMPT);
    job.write(b"touch /c/ok /by-hand; retry\n");
    job.wait_for("exit code: 7");
    wait_for_times(&job, "A shell in step 2/2", 2);
    wait_for_times(&job, "error[step-failed]", 2);
    job.write(b"ls /made; touch /c/ok; abort\n");
    job.finish().exits(1).has("/made\r\n").has("error: step 2/2 failed");
    env.rbuild(&["inspect", "app"]).fails();
    assert!(on_its_way(&env).is_empty());
}
