//! What a build does, counted: guards of speed and memory that read no clock.
//!
//! System calls are counted by strace, as root only (it would take the rights of
//! newuidmap away). How fast all this is: `make bench`, `docs/performance.md`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use super::common::Context;
use super::common::TestEnv;
use super::common::Who;
use super::common::base::Tar;
use super::common::env::run_as;
use super::common::registry::Registry;
use super::common::script::noise;
use super::common::skip;

/// The most writable memory of rbuild in bytes, whatever it reads; half of what the README promises.
const MEMORY: u64 = 48 << 20;

/// The same of a push or a pull, which have many layers under way at once; the stacks of their threads count.
const MEMORY_OF_TRANSFERS: u64 = 80 << 20;

/// The most system calls of a build of eleven layers that is all cached.
const CACHED_CALLS: usize = 500;

/// The most mounts of a step, control groups aside: about thirty, as the host's /proc and /sys have it.
const MOUNTS_OF_A_STEP: usize = 32;

/// Runs a build under strace and returns the lines of these calls; `None` where there is no strace.
#[track_caller]
fn calls(env: &TestEnv, context: &Context, args: &[&str], traced: &str) -> Option<Vec<String>> {
    if !std::path::Path::new("/usr/bin/strace").exists() {
        skip("strace is not installed");
        return None;
    }
    let log = env.path_str("strace");
    let build = [&["build"], args, &[context.path()]].concat();
    let filter = format!("trace={traced}");
    env.rbuild(&build).behind(&["strace", "-f", "-o", &log, "-e", "signal=none", "-e", &filter]).ok();
    let text = fs::read_to_string(log).unwrap();
    // A call that another process interrupts is two lines: the first has the arguments.
    Some(
        text.lines()
            .filter(|line| !line.contains("resumed>") && !line.contains("+++"))
            .map(str::to_owned)
            .collect(),
    )
}

fn count(calls: &[String], part: &str) -> usize {
    calls.iter().filter(|call| call.contains(part)).count()
}

fn runs(env: &TestEnv, count: usize) -> Context<'_> {
    env.busybox();
    let steps: String = (0..count).map(|n| format!("RUN echo {n} > /f{n}\n")).collect();
    env.dockerfile(&format!("FROM busybox:test\n{steps}"))
}

#[test]
fn a_cached_build_starts_nothing_and_reads_each_layer_once() {
    run_as(Who::Root, |env| {
        let context = runs(env, 10);
        env.build(&context, &[]);
        env.build(&context, &[]);
        let Some(calls) = calls(env, &context, &[], "execve,openat,open,mount,fsopen") else { return };
        assert_eq!(count(&calls, "execve("), 1, "{calls:#?}");
        assert_eq!(count(&calls, "mount(") + count(&calls, "fsopen("), 0, "{calls:#?}");
        let mut read: BTreeMap<&str, usize> = BTreeMap::new();
        for call in calls.iter().filter(|call| call.contains("/snapshots/")) {
            *read.entry(call.split('"').nth(1).unwrap()).or_default() += 1;
        }
        // Of each of eleven layers: what it is, and its digests.
        assert!(read.len() <= 22 && read.values().all(|times| *times == 1), "{read:#?}");
    });
}

/// Ten files that a COPY reaches, and thousands beside them: none of those is opened, stat'ed or listed.
#[test]
fn a_copy_looks_at_what_it_reaches_and_at_nothing_else() {
    run_as(Who::Root, |env| {
        let mut context = env.dockerfile("FROM scratch\nCOPY pick /pick\n");
        for number in 0..10 {
            context = context.file(&format!("pick/wanted-{number}"), "x");
            context = context.file(&format!("rest/deep/pick/wanted-{number}"), "x");
        }
        for number in 0..3000 {
            context = context.file(&format!("rest/aside-dir-{}/aside-{number}", number % 30), "x");
            context = context.file(&format!("rest/deep/aside-{number}"), "x");
        }
        let check = |dockerfile: &str, ignore: &str, beside: &str| {
            context.write("Dockerfile", dockerfile);
            context.write(".dockerignore", ignore);
            // Hashed, copied from and to, digested as a layer, and that checked where rbuild has assertions.
            let first = if cfg!(debug_assertions) { 50 } else { 40 };
            for (build, most) in [("first", first), ("cached", 0)] {
                let Some(calls) = calls(env, &context, &[], "%file,getdents64") else { return };
                assert_eq!(count(&calls, beside), 0, "{build} build of {dockerfile} looked at {beside}");
                let is_open = |call: &&String| call.contains("open") && call.contains("\"wanted-");
                let opens = calls.iter().filter(is_open).count();
                assert!(opens <= most, "{build} build of {dockerfile}: {calls:#?}");
            }
        };
        check("FROM scratch\nCOPY pick /pick\n", "", "\"rest");
        check("FROM scratch\nCOPY pick/wanted-[13] /pick/\n", "", "\"rest");
        check("FROM scratch\nCOPY . /all\n", "*\n!pick\n", "\"rest");
        check("FROM scratch\nCOPY . /all\n", "*\n!rest/deep/pick\n", "aside-");
        check("FROM scratch\nCOPY rest /rest\n", "rest\n!rest/deep/pick/*\n", "aside-");
    });
}

#[test]
fn a_cached_build_makes_few_system_calls() {
    run_as(Who::Root, |env| {
        let context = runs(env, 10);
        env.build(&context, &[]);
        env.build(&context, &[]);
        let Some(mut calls) = calls(env, &context, &[], "all") else { return };
        // What only builds with assertions ask, each time a descriptor is closed.
        calls.retain(|call| !call.contains("F_GETFD"));
        assert!(calls.len() <= CACHED_CALLS, "{}: {calls:#?}", calls.len());
    });
}

#[test]
fn a_step_mounts_two_overlays() {
    run_as(Who::Root, |env| {
        let context = runs(env, 5);
        let args = ["--no-cache", "--network", "none"];
        let Some(calls) = calls(env, &context, &args, "fsopen,mount,move_mount") else { return };
        assert_eq!(count(&calls, "fsopen(\"overlay\""), 2 * 5, "{calls:#?}");
        // How many hierarchies of control groups there are is the machine's.
        let mounts =
            calls.iter().filter(|call| call.contains("mount(") && !call.contains("\"cgroup")).count();
        assert!(mounts <= MOUNTS_OF_A_STEP * 5, "{mounts}: {calls:#?}");
    });
}

#[test]
fn a_deep_file_opens_each_layer_twice_a_step() {
    run_as(Who::Root, |env| {
        let depth = 20;
        let context = runs(env, depth);
        let args = ["--no-cache", "--network", "none"];
        let Some(calls) = calls(env, &context, &args, "openat,open") else { return };
        let layers = |call: &&String| call.contains("/snapshots/") && call.contains("/fs\"");
        // The n-th step is on n layers: once for the engine's view of them, once for the root. Its own
        // layer is opened once more, to be digested.
        let opened = calls.iter().filter(layers).count();
        assert!(opened <= depth * (depth + 2), "{opened}: {calls:#?}");
        let others = calls.iter().filter(|call| call.contains("/snapshots/") && !layers(call)).count();
        assert!(others <= 4 * (depth + 1), "{others}: {calls:#?}");
    });
}

#[test]
fn thirty_runs_start_one_helper_and_one_network() {
    run_as(Who::Root, |env| {
        let context = runs(env, 30);
        for (network, networks) in [("none", 0), ("default", 1)] {
            let args = ["--no-cache", "--network", network];
            let Some(calls) = calls(env, &context, &args, "execve") else { return };
            assert_eq!(count(&calls, "\"rbuild-sandbox-helper\""), 1, "{calls:#?}");
            let started = count(&calls, "[\"/usr/bin/slirp4netns\"");
            assert!(started <= networks, "{network}: {calls:#?}");
            assert_eq!(count(&calls, "[\"/bin/sh\""), 30, "{calls:#?}");
            assert_eq!(calls.len(), 30 + 2 + started, "{calls:#?}");
        }
    });
}

#[test]
fn an_edit_of_one_file_copies_one_file() {
    run_as(Who::Root, |env| {
        let mut context = env.dockerfile("FROM scratch\nCOPY files /app\n");
        for n in 0..300 {
            context = context.file(&format!("files/d{}/f{n:03}", n % 10), format!("content {n}"));
        }
        env.build(&context, &[]);
        context.write("files/d7/f137", "changed");
        let traced = "copy_file_range,linkat,ioctl";
        let Some(calls) = calls(env, &context, &["--no-cache"], traced) else { return };
        // The rest is linked: nothing of it is written, whatever the filesystem can share.
        let copies = count(&calls, "copy_file_range(") + count(&calls, "FICLONE");
        assert!((1..=2).contains(&copies), "{calls:#?}");
        assert_eq!(count(&calls, "linkat("), 299, "{calls:#?}");
    });
}

#[test]
fn a_push_and_a_pull_hold_no_layer_in_memory() {
    run_as(Who::Root, |env| {
        let registry = Registry::plain();
        let name = registry.name("large:1");
        let mut context = env.dockerfile(&format!(
            "FROM scratch\n{}CMD [\"/f0\"]\n",
            (0..5).map(|n| format!("COPY f{n} /f{n}\n")).collect::<String>()
        ));
        for n in 0..5u8 {
            // Deflate looks back 32 KiB: these do not get smaller.
            context = context.file(&format!("f{n}"), noise(1 << 20, u64::from(n) + 1).repeat(32));
        }
        env.build(&context, &["-t", &name]);
        let limit = format!("--data={MEMORY_OF_TRANSFERS}");
        let limited = ["prlimit", limit.as_str()];
        let transfer = |args: &[&str]| env.rbuild(args).behind(&limited).ok();
        transfer(&["push", &name]);
        // Once more from memory of what the layers came to, to a registry that has nothing.
        let other = Registry::plain();
        let second = other.name("large:1");
        transfer(&["tag", &name, &second]);
        transfer(&["push", &second]);
        let pulled = env.path_str("pulled");
        transfer(&["pull", "--root", &pulled, &name]);
        let third = other.name("third:1");
        transfer(&["tag", "--root", &pulled, &name, &third]);
        transfer(&["push", "--root", &pulled, &third]);
    });
}

both! {
    fn a_commit_moves_the_files_that_the_step_wrote(env) {
        env.busybox();
        let context = env.dockerfile("FROM busybox:test\nRUN echo x > /made && echo inode $(ls -i /made)\n");
        let out = env.build(&context, &["--network", "none"]);
        let written = out.stdout.lines().find_map(|line| line.strip_prefix("inode ")).unwrap();
        let written: u64 = written.split(' ').next().unwrap().parse().unwrap();
        let snapshots = env.store().join("v1/snapshots");
        let kept: Vec<u64> = fs::read_dir(snapshots)
            .unwrap()
            .filter_map(|layer| fs::metadata(layer.unwrap().path().join("fs/made")).ok())
            .map(|file| file.ino())
            .collect();
        assert_eq!(kept, [written], "{out}");
    }

    fn no_layer_is_ever_in_memory(env) {
        let size = 160 << 20;
        let limit = format!("--data={MEMORY}");
        let limited = ["prlimit", limit.as_str()];
        let tar = Tar::new().file("zeros", 0o644, vec![0; size]).bytes();
        env.rbuild(&["import", "-", "zeros"]).behind(&limited).stdin(tar).ok();
        env.busybox();
        let context = env
            .dockerfile("FROM busybox:test\nRUN dd if=/dev/zero of=/a bs=1M count=160 2>/dev/null\nCOPY f /f\n")
            .file("f", vec![0; size]);
        let archive = format!("type=oci,dest={}", env.path_str("image.tar"));
        env.rbuild(&["build", "--network", "none", "-o", &archive, context.path()]).behind(&limited).ok();
    }
}
