//! The options of `docker build`, each once: what it does, or the line that says why it does nothing.
//!
//! Not here: each option in all its forms; those tests stand with their subject.

use super::common::Outcome;
use super::common::TestEnv;
use super::common::env::is_id;

/// The 27 options of docker's classic builder.
const ALL: [&str; 27] = [
    "--build-arg",
    "--cache-from",
    "--cgroup-parent",
    "--compress",
    "--cpu-period",
    "--cpu-quota",
    "--cpu-shares",
    "--cpuset-cpus",
    "--cpuset-mems",
    "--disable-content-trust",
    "--file",
    "--force-rm",
    "--help",
    "--isolation",
    "--label",
    "--memory",
    "--memory-swap",
    "--network",
    "--no-cache",
    "--pull",
    "--quiet",
    "--rm",
    "--security-opt",
    "--shm-size",
    "--tag",
    "--ulimit",
    "--volume",
];

/// Builds a file whose one step shows what an option did.
#[track_caller]
fn step(env: &TestEnv, run: &str, args: &[&str]) -> Outcome {
    let text = format!("FROM busybox:test\nARG A=none\nRUN {run}\n");
    env.build(&env.dockerfile(&text).file("Other", "FROM busybox:test\nRUN echo from-other\n"), args)
}

both! {
    fn help_lists_them_all(env) {
        let help = env.rbuild(&["build", "--help"]).ok();
        for option in ALL {
            let listed = help.stdout.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').any(|word| word == option);
            assert!(listed, "{option}\n{help}");
        }
        for short in ["-c, --cpu-shares", "-f, --file", "-m, --memory", "-q, --quiet", "-t, --tag", "-v, --volume"] {
            assert!(help.stdout.contains(short), "{short}\n{help}");
        }
    }

    fn those_that_say_what_is_built(env) {
        env.busybox();
        step(env, "echo A=$A", &["--build-arg", "A=given"]).ran("A=given");
        step(env, "echo A=$A", &["--no-cache"]).ran("A=none");
        step(env, "echo A=$A", &[]).did_not_run("A=none");
        let ctx = env.context().file("Other", "FROM busybox:test\nRUN echo from-other\n");
        env.build(&ctx, &["--file", &ctx.at("Other")]).ran("from-other");
        step(env, "true", &["--label", "k=v", "--tag", "named:1"]);
        assert_eq!(env.inspect("named:1")["Config"]["Labels"]["k"], "v");
        assert!(is_id(step(env, "true", &["--quiet"]).stdout.trim()));
    }

    fn those_that_say_what_steps_see(env) {
        env.busybox();
        step(env, "ls /sys/class/net", &["--network", "none"]).ran("lo").did_not_run("eth0");
        let file = env.context().file("f", "of-the-host\n");
        step(env, "cat /vol/f", &["--volume", &format!("{}:/vol:ro", file.path())]).ran("of-the-host");
        step(env, "df -k /dev/shm | tail -n 1 | awk '{print \"shm=\" $2}'", &["--shm-size", "2m"]).ran("shm=2048");
        step(env, "echo files=$(ulimit -n)", &["--ulimit", "nofile=77:99"]).ran("files=77");
        step(env, "grep NoNewPrivs /proc/self/status", &["--security-opt", "no-new-privileges"]).has("NoNewPrivs:\t1");
    }

    /// Limits that a machine cannot keep are told, not passed over in silence; the build goes on or says why not.
    fn limits_work_or_say_why_not(env) {
        env.busybox();
        for (i, args) in [
            ["--memory", "512m"],
            ["--memory-swap", "-1"],
            ["--cpu-period", "100000"],
            ["--cpu-quota", "50000"],
            ["--cpu-shares", "512"],
            ["--cpuset-cpus", "0"],
            ["--cpuset-mems", "0"],
            ["--cgroup-parent", "builds"],
        ].iter().enumerate() {
            let text = format!("FROM busybox:test\nRUN echo step-{i}\n");
            let ctx = env.dockerfile(&text);
            let outcome = env.try_build(&ctx, args);
            match outcome.code {
                Some(0) => drop(outcome.ran(&format!("step-{i}"))),
                _ => drop(outcome.fails().has(args[0].trim_start_matches('-').split('-').next().unwrap())),
            }
        }
    }

    fn those_without_effect_say_so(env) {
        env.busybox();
        for (words, option) in [
            (&["--compress"][..], "--compress"),
            (&["--rm=false"], "--rm"),
            (&["--force-rm"], "--force-rm"),
            (&["--disable-content-trust"], "--disable-content-trust"),
        ] {
            let outcome = step(env, "true", words).has(&format!("note: {option} has no effect: "));
            assert_eq!(outcome.both.matches("note: ").count(), 1, "{outcome}");
            step(env, "true", &[words, &["-q"]].concat()).lacks("note: ");
        }
        env.try_build(&env.dockerfile("FROM scratch\n"), &["--isolation", "hyperv"]).exits(2).has("hyperv");
    }
}
