//! Each kind of bad input: a clear error with its place, a code, nothing half-written.

use std::fs;

use super::common::Context;
use super::common::TestEnv;
use super::common::Who;
use super::common::base::busybox_tar;
use super::common::not_here;
use super::common::skip;

/// Builds something that must fail: with each of these texts, and with no image left.
#[track_caller]
fn fails_with(env: &TestEnv, ctx: &Context, texts: &[&str]) {
    env.try_build(ctx, &["-t", "never"]).fails().has_all(texts).lacks("Successfully");
    env.rbuild(&["inspect", "never"]).fails();
    let drafts = env.store().join("v1/tmp");
    if let Ok(entries) = fs::read_dir(&drafts) {
        let left: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
        assert!(left.is_empty(), "half-written: {left:?}");
    }
}

both! {
    fn an_unknown_instruction(env) {
        let ctx = env.dockerfile("FROM scratch\nRUNX echo\n");
        fails_with(env, &ctx, &["unknown instruction: RUNX", "did you mean RUN?", "Dockerfile:2", "RUNX echo"]);
    }

    fn a_bad_flag_of_an_instruction(env) {
        let ctx = env.dockerfile("FROM scratch\nCOPY --chwon=1 f /\n").file("f", "");
        fails_with(env, &ctx, &["chwon", "did you mean", "chown", "Dockerfile:2"]);
        let ctx = env.dockerfile("FROM scratch\nCOPY --chmod=9 f /\n").file("f", "");
        fails_with(env, &ctx, &["9", "Dockerfile:2"]);
    }

    fn a_bad_flag_of_the_command_line(env) {
        env.rbuild(&["build", "--no-cahce", "."]).fails().has("--no-cahce");
        env.rbuild(&["build"]).fails();
        env.rbuild(&["build", "--network", "bridge7", "."]).fails().has("bridge7");
        env.rbuild(&["build", "--progress", "loud", "."]).fails().has("loud");
    }

    fn files_that_hold_no_build(env) {
        for (text, message) in [
            ("", "empty"),
            ("# only a comment\n", "no instructions"),
            ("RUN true\nFROM scratch\n", "no build stage"),
            ("FROM\n", "FROM"),
            ("FROM scratch AS 1bad\n", "1bad"),
            ("FROM a b c d\n", "FROM"),
            ("FROM scratch\nENV\n", "ENV"),
            ("FROM scratch\nENV a\n", "ENV"),
            ("FROM scratch\nENV a='open\n", "Dockerfile:2"),
            ("FROM scratch\nENV a=${b\n", "Dockerfile:2"),
            ("FROM scratch\nCOPY f\n", "COPY"),
            ("FROM scratch\nEXPOSE 99999\n", "99999"),
            ("FROM scratch\nSTOPSIGNAL NOSUCH\n", "NOSUCH"),
            ("FROM scratch\nSHELL bash\n", "SHELL"),
            ("FROM scratch\nONBUILD FROM x\n", "ONBUILD"),
            ("FROM scratch\nONBUILD ONBUILD RUN x\n", "ONBUILD"),
            ("FROM scratch\nHEALTHCHECK --interval=1us CMD x\n", "nterval"),
            ("FROM scratch\nUSER\n", "USER"),
            ("FROM scratch\nWORKDIR\n", "WORKDIR"),
            ("FROM scratch\nVOLUME [\"\"]\n", "VOLUME"),
            ("FROM scratch\nCMD [\"a\", 1]\n", "string"),
            ("# escape=x\nFROM scratch\n", "escape"),
            ("FROM scratch AS a\nCOPY --from=later /a /b\nFROM scratch AS later\nCOPY --from=a /b /b\n", "later"),
            ("ARG EMPTY\nFROM $EMPTY\n", "blank"),
        ] {
            fails_with(env, &env.dockerfile(text), &[message]);
        }
    }

    fn bytes_that_are_no_text(env) {
        fails_with(env, &env.context().file("Dockerfile", b"FROM scratch\nENV a=\xff\xfe\n"), &["UTF-8"]);
        fails_with(env, &env.context().file("Dockerfile", b"FROM scratch\0\n"), &["Dockerfile"]);
    }

    fn a_bad_reference(env) {
        fails_with(env, &env.dockerfile("FROM Upper/Case:x\n"), &["Upper/Case", "Dockerfile:1"]);
        fails_with(env, &env.dockerfile("FROM a:b:c\n"), &["a:b:c", "Dockerfile:1"]);
    }

    fn a_base_that_is_not_there(env) {
        fails_with(env, &env.dockerfile("FROM no/such:base\nRUN true\n"), &["no/such:base", "Dockerfile:1"]);
        fails_with(env, &env.dockerfile("FROM scratch\nCOPY --from=no/such:image /a /b\n"), &["no/such:image", "Dockerfile:2"]);
    }

    fn a_run_on_scratch(env) {
        fails_with(env, &env.dockerfile("FROM scratch\nRUN true\n"), &["/bin/sh", "Dockerfile:2"]);
    }

    fn a_program_that_is_not_there(env) {
        env.busybox();
        fails_with(env, &env.dockerfile("FROM busybox:test\nRUN nosuchprogram\n"), &["127", "Dockerfile:2"]);
        fails_with(env, &env.dockerfile("FROM busybox:test\nRUN [\"nosuchprogram\"]\n"), &["nosuchprogram", "Dockerfile:2"]);
    }

    fn a_failing_run_in_the_words_users_rely_on(env) {
        env.busybox();
        fails_with(env, &env.dockerfile("FROM busybox:test\nRUN false\n"),
            &["process \"/bin/sh -c false\" did not complete successfully: exit code: 1"]);
    }

    fn a_context_that_is_none(env) {
        let ctx = env.context().file("file", "x");
        env.rbuild(&["build", &ctx.at("file")]).fails().has("file").has("directory");
        env.rbuild(&["build", "/no/such/folder"]).fails().has("/no/such/folder");
        env.rbuild(&["build", ctx.path()]).fails().has("Dockerfile");
        env.rbuild(&["build", "-f", "/no/such/Dockerfile", ctx.path()]).fails().has("/no/such/Dockerfile");
        env.rbuild(&["build", "-f", "-", "-"]).stdin("FROM scratch\n").fails();
        env.rbuild(&["build", ""]).fails();
    }

    fn an_unreadable_file(env) {
        // Root may read anything, and so may whoever owns it: in a user namespace as root.
        if env.ids().is_none() {
            return not_here("only root can make a file that an ordinary user cannot read");
        }
        let ctx = env.dockerfile("FROM scratch\nCOPY . /\n").file_with_mode("shut", 0o600, "x");
        std::os::unix::fs::chown(ctx.at("shut"), Some(0), Some(0)).unwrap();
        fails_with(env, &ctx, &["shut", "ermission denied"]);
        ctx.write(".dockerignore", "shut\n");
        env.build(&ctx, &[]);
    }

    fn a_dockerfile_that_is_no_file(env) {
        fails_with(env, &env.context().dir("Dockerfile"), &["Dockerfile"]);
        fails_with(env, &env.context().fifo("Dockerfile"), &["Dockerfile"]);
        fails_with(env, &env.context().link("Dockerfile", "nowhere"), &["Dockerfile"]);
    }

    fn a_malformed_archive_in_add(env) {
        let mut cut = busybox_tar()[..300_000].to_vec();
        fails_with(env, &env.dockerfile("FROM scratch\nADD a.tar /\n").file("a.tar", &cut), &["a.tar", "Dockerfile:2"]);
        cut[100_000..].fill(0xa5);
        fails_with(env, &env.dockerfile("FROM scratch\nADD a.tar /\n").file("a.tar", &cut), &["a.tar"]);
    }

    /// The version is in the folder's name; what is in there is not looked at.
    fn a_store_of_a_newer_version(env) {
        env.busybox();
        let newer = env.store().join("v999");
        fs::create_dir(&newer).unwrap();
        env.give(&newer);
        env.rbuild(&["images"]).fails().has("newer").has(env.store().to_str().unwrap());
        env.rbuild(&["build", env.dockerfile("FROM scratch\n").path()]).fails().has("newer");
    }

    /// A record cut short is no record: the step runs again, and the build is right.
    fn broken_entries_of_the_store_are_not_served(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo ran-here > /v; echo ran-here\n");
        env.build(&ctx, &["-t", "x"]);
        let mut cut = 0;
        for entry in walkdir::WalkDir::new(env.store()).into_iter().flatten() {
            if entry.file_type().is_file() && entry.path().starts_with(env.store().join("v1/cache/records")) {
                fs::write(entry.path(), "{\"cut").unwrap();
                cut += 1;
            }
        }
        assert!(cut > 0, "the store has records");
        env.build(&ctx, &["-t", "x"]).ran("ran-here");
        env.run(&["x", "cat", "/v"]).ok().prints("ran-here\n");
    }

    fn an_image_whose_layer_is_gone_is_reported(env) {
        env.busybox();
        let snapshots: Vec<_> = walkdir::WalkDir::new(env.store()).into_iter().flatten()
            .filter(|e| e.file_name() == "busybox" && e.file_type().is_file()).map(|e| e.path().to_owned()).collect();
        let layer = snapshots[0].parent().unwrap().parent().unwrap();
        fs::rename(layer, env.path("elsewhere")).unwrap();
        let ctx = env.dockerfile("FROM busybox:test\nRUN true\n");
        env.try_build(&ctx, &[]).fails().has("busybox:test");
        env.run(&["busybox:test", "true"]).exits(125);
    }

    fn a_store_that_cannot_be_written(env) {
        let file = env.path("file");
        fs::write(&file, "x").unwrap();
        env.rbuild(&["import", "--root", file.to_str().unwrap(), "-", "a"]).stdin(busybox_tar())
            .fails().has(file.to_str().unwrap());
    }

    fn control_characters_of_the_input_do_not_reach_the_terminal(env) {
        let ctx = env.dockerfile("FROM scratch\nRUNX\u{1b}]0;title\u{7} \u{1b}[2J\n");
        let outcome = env.try_build(&ctx, &[]).fails();
        assert!(!outcome.both.contains("\u{1b}]0;") && !outcome.both.contains("\u{1b}[2J"), "{outcome:?}");
    }
}

/// A disk that is full while a step writes, and while an image is imported.
#[test]
fn a_full_disk() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    env.busybox();
    let small = env.path_str("small");
    fs::create_dir(&small).unwrap();
    // A store on a tmpfs of 16 MiB, in a mount namespace that ends with the command.
    let exe = env.exe();
    let ctx = env.dockerfile("FROM busybox:test\nRUN dd if=/dev/zero of=/big bs=1M count=64\n");
    let script = format!(
        "mount -t tmpfs -o size=16m none {small} && {exe} import --root {small} - busybox:test && \
         {exe} build --root {small} -t never {ctx}; echo build=$?; {exe} inspect --root {small} never; echo inspect=$?; \
         {exe} images --root {small} -q | wc -l",
        exe = exe.display(),
        ctx = ctx.path(),
    );
    // Otherwise nothing would be begun on so small a disk.
    let begins = env.program("unshare", &["--mount", "sh", "-c", &script]).var("RBUILD_MIN_FREE_SPACE", "0");
    let outcome = begins.stdin(busybox_tar()).ok();
    let outcome = outcome.lacks("build=0").lacks("inspect=0").lacks("panicked");
    assert!(outcome.both.contains("No space left on device"), "{outcome}");
    assert!(
        outcome.stdout.lines().last() == Some("1"),
        "the base is still there, and nothing else\n{outcome}"
    );
}

/// A step that the kernel killed for memory is told apart.
#[test]
fn out_of_memory() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    // Version 2 of cgroups, and version 1.
    let name = format!("rbuild-test-{}", std::process::id());
    let places = [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")];
    let limited = places.iter().find_map(|(root, file)| {
        let group = format!("{root}/{name}");
        fs::create_dir(&group).ok()?;
        let limit = format!("{group}/{file}");
        if fs::exists(&limit).unwrap() && fs::write(&limit, "100M").is_ok() {
            return Some(group);
        }
        fs::remove_dir(&group).unwrap();
        None
    });
    let Some(group) = limited else {
        return not_here("a memory limit needs a cgroup, and none can be made");
    };
    let _ = fs::write(format!("{group}/memory.swap.max"), "0");
    env.busybox();
    let ctx = env.dockerfile("FROM busybox:test\nRUN exec awk 'BEGIN { s = \"x\"; while (1) s = s s }'\n");
    let enter = format!("echo $$ > {group}/cgroup.procs; exec \"$@\"");
    let outcome = env.rbuild(&["build", ctx.path()]).behind(&["sh", "-c", &enter, "sh"]).output();
    fs::remove_dir(&group).unwrap();
    outcome.fails().has("memory");
}
