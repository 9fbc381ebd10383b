//! The life of containers: made, started, attached to, stopped, killed, started again, removed.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use super::common::cage::Caged;
use super::common::env::is_hex;
use super::common::{TestEnv, Who};

/// Reads the only container's state file.
fn state(env: &TestEnv) -> Value {
    let folder = std::fs::read_dir(env.store().join("v1/containers")).unwrap().next().unwrap().unwrap();
    serde_json::from_slice(&std::fs::read(folder.path().join("state")).unwrap()).unwrap()
}

/// Starts a container in the background; returns its id.
fn detached(env: &TestEnv, args: &[&str]) -> String {
    let id = env.rbuild(&[&["run", "-d"], args].concat()).ok().stdout.trim().to_owned();
    assert!(is_hex(&id, 64), "{id}");
    id
}

/// Waits until something is so.
#[track_caller]
fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        std::thread::yield_now();
    }
}

fn is_alive(pid: u64) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

/// Returns the process that holds the only container: the parent of the helper is told by its lock.
fn supervisor(env: &TestEnv) -> u32 {
    let folder = std::fs::read_dir(env.store().join("v1/containers")).unwrap().next().unwrap().unwrap();
    rbuild::sys::lock::holder(&folder.path().join("lock")).expect("a container that runs is held")
}

both! {
    fn who_takes_nothing_holds_nobody_up(env) {
        env.busybox();
        // Attached, and never reading: the pipe is full at once, and the container waits for it.
        let (code, gone) = (env.path("code"), env.path("gone"));
        let script = format!(
            "{{ {exe} --root {root} run --name full busybox:test yes; echo $? >{code}; }} | until [ -e {gone} ] || ! [ -d {root} ]; do sleep 0.05; done",
            exe = env.exe().display(), root = env.store().display(), code = code.display(), gone = gone.display());
        let stuck = env.program("sh", &["-c", &script]).spawn();
        until("it runs", || env.rbuild(&["ps", "-q", "--filter", "name=full"]).ok().stdout.len() == 13);
        // Another one may come all the same.
        let line = format!("{} --root {} attach full >/dev/null", env.exe().display(), env.store().display());
        let other = env.program("sh", &["-c", &line]).spawn();
        env.rbuild(&["stop", "-t", "0", "full"]).ok();
        assert_eq!(state(env)["exit_code"], 137);
        until("the client was told", || std::fs::read_to_string(&code).is_ok_and(|text| text == "137\n"));
        until("the other was told", || other.ended());
        env.rbuild(&["rm", "full"]).ok();
        std::fs::write(&gone, "").unwrap();
        stuck.finish();
    }

    fn a_stop_that_waits_for_ages_waits(env) {
        env.busybox();
        detached(env, &["--name", "slow", "--stop-timeout", "9223372036854775807", "busybox:test", "sh", "-c",
            "trap 'exit 6' TERM; echo ready; while :; do sleep 0.01; done"]);
        // Before that the first process of a container hears no such signal.
        let ready = |lines: &str| until("it is ready", || env.rbuild(&["logs", "slow"]).ok().stdout == lines);
        ready("ready\n");
        env.rbuild(&["stop", "slow"]).ok();
        assert_eq!(state(env)["exit_code"], 6);
        env.rbuild(&["start", "slow"]).ok();
        ready("ready\nready\n");
        env.rbuild(&["stop", "-t", "9223372036854775807", "slow"]).ok();
        assert_eq!(state(env)["exit_code"], 6);
    }

    fn what_was_open_where_it_was_started_is_not_kept_open(env) {
        env.busybox();
        let script = format!("exec 7>&1; {} --root {} run -d busybox:test sleep 86400",
            env.exe().display(), env.store().display());
        // Whoever kept the pipe open would keep this from ending.
        env.program("sh", &["-c", &script]).ok();
        env.rbuild(&["rm", "-f", &env.rbuild(&["ps", "-q"]).ok().stdout[..12]]).ok();
    }

    fn in_the_background_until_it_is_stopped(env) {
        env.busybox();
        let id = detached(env, &["--name", "web", "busybox:test", "sh", "-c", "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.01; done"]);
        let log = env.store().join(format!("v1/containers/{id}/log"));
        until("it is ready", || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("ready")));
        let pid = state(env)["pid"].as_u64().unwrap();
        assert!(is_alive(pid));
        let held = std::fs::read(format!("/proc/{}/cmdline", supervisor(env))).unwrap();
        assert!(held.starts_with(b"rbuild-container\0web\0\0"), "{}", held.escape_ascii());
        env.rbuild(&["stop", "web"]).ok().prints("web\n");
        assert!(!is_alive(pid));
        assert_eq!(state(env)["exit_code"], 5);
        assert!(std::fs::read_to_string(&log).unwrap().contains("bye"));
        // Stopped already: nothing to do.
        env.rbuild(&["stop", "web", &id[..12]]).ok().prints(&format!("web\n{}\n", &id[..12]));
        env.rbuild(&["wait", "web"]).ok().prints("5\n");
        env.rbuild(&["rm", "web"]).ok().prints("web\n");
        env.rbuild(&["rm", "web"]).exits(1).has("No such container: web");
        env.rbuild(&["rm", "-f", "web"]).ok();
    }

    fn real_time_signals_stop_one(env) {
        env.busybox();
        let script = "trap 'exit 7' 37; echo ready; while :; do sleep 0.05; done";
        detached(env, &["--name", "rt", "--stop-signal", "SIGRTMIN+3", "busybox:test", "sh", "-c", script]);
        until("it is ready", || env.rbuild(&["logs", "rt"]).ok().stdout == "ready\n");
        env.rbuild(&["stop", "rt"]).ok();
        env.rbuild(&["wait", "rt"]).ok().prints("7\n");
        env.rbuild(&["rm", "rt"]).ok();
    }

    fn one_that_ignores_signals_is_killed_after_its_time(env) {
        env.busybox();
        detached(env, &["--name", "deaf", "busybox:test", "sleep", "86400"]);
        env.rbuild(&["stop", "-t", "0", "deaf"]).ok();
        assert_eq!((state(env)["exit_code"].as_i64(), state(env)["out_of_memory"].as_bool()), (Some(137), Some(false)));
        env.rbuild(&["start", "deaf"]).ok().prints("deaf\n");
        env.rbuild(&["kill", "deaf"]).ok().prints("deaf\n");
        env.rbuild(&["kill", "deaf"]).exits(1).has("is not running");
        env.rbuild(&["start", "deaf"]).ok();
        env.rbuild(&["rm", "deaf"]).exits(1).has("You cannot remove a running container");
        env.rbuild(&["rm", "-f", "deaf"]).ok();
    }

    fn what_it_wrote_is_there_when_it_starts_again(env) {
        env.busybox();
        env.rbuild(&["create", "--name", "counter", "busybox:test", "sh", "-c", "echo x >> /count; wc -l < /count"]).ok();
        for count in ["1\n", "2\n", "3\n"] {
            env.rbuild(&["start", "-a", "counter"]).ok().prints(count);
        }
        env.rbuild(&["restart", "counter"]).ok().prints("counter\n");
        env.rbuild(&["wait", "counter"]).ok().prints("0\n");
        env.rbuild(&["start", "-a", "counter"]).ok().prints("5\n");
    }

    fn restart_policies(env) {
        env.busybox();
        detached(env, &["--name", "again", "--restart", "on-failure:2", "busybox:test", "sh", "-c", "echo x >> /runs; exit 3"]);
        until("it has given up", || state(env)["status"] == "Exited");
        assert_eq!((state(env)["restarts"].as_u64(), state(env)["exit_code"].as_u64()), (Some(2), Some(3)));
        env.rbuild(&["rm", "again"]).ok();
        detached(env, &["--name", "always", "--restart", "always", "busybox:test", "true"]);
        until("it was started again", || state(env)["restarts"].as_u64() >= Some(1));
        env.rbuild(&["stop", "always"]).ok();
        assert_eq!(state(env)["status"], "Exited");
        env.run(&["--restart", "sometimes", "busybox:test", "true"]).exits(125).has("invalid restart policy 'sometimes'");
        env.run(&["--restart", "always", "busybox:test", "true"]).exits(125).has("Conflicting options: --restart and --rm");
    }

    fn attached_to_one_that_runs(env) {
        env.busybox();
        detached(env, &["-i", "--name", "cat", "busybox:test", "sh", "-c", "while read line; do echo \"got $line\"; done; exit 9"]);
        let mut job = env.rbuild(&["attach", "cat"]).stdin_pipe().spawn();
        job.write(b"one\n");
        job.wait_for("got one\n");
        let watcher = env.rbuild(&["attach", "--no-stdin", "cat"]).spawn();
        job.write(b"two\n");
        job.wait_for("got two\n");
        env.rbuild(&["kill", "-s", "KILL", "cat"]).ok();
        job.finish().exits(137);
        watcher.finish().exits(137);
        env.rbuild(&["attach", "cat"]).exits(1).has("You cannot attach to a stopped container");
    }

    fn a_supervisor_that_is_killed(env) {
        env.busybox();
        detached(env, &["--name", "orphan", "busybox:test", "sleep", "86400"]);
        let pid = state(env)["pid"].as_u64().unwrap();
        let supervisor = Pid::from_raw(supervisor(env) as i32).unwrap();
        rustix::process::kill_process(supervisor, Signal::KILL).unwrap();
        until("its processes are dead", || !is_alive(pid));
        env.rbuild(&["kill", "orphan"]).exits(1).has("is not running");
        env.rbuild(&["wait", "orphan"]).ok().prints("137\n");
        env.rbuild(&["start", "orphan"]).ok();
        env.rbuild(&["rm", "-f", "orphan"]).ok();
    }

    fn a_killed_supervisors_state_is_put_right_by_who_comes_next(env) {
        env.busybox();
        detached(env, &["--name", "orphan", "busybox:test", "sleep", "86400"]);
        rustix::process::kill_process(Pid::from_raw(supervisor(env) as i32).unwrap(), Signal::KILL).unwrap();
        until("nobody holds it", || env.rbuild(&["ps", "-aq", "--filter", "status=exited"]).ok().stdout.len() == 13);
        // The copy holds it for as long as it waits for more: no reason to take it for running.
        let mut copy = env.rbuild(&["cp", "-", "orphan:/tmp"]).stdin_pipe().spawn();
        until("it is said to have ended", || state(env)["status"] == "Exited");
        env.rbuild(&["ps", "-a"]).ok().has("Exited (137), supervisor killed");
        copy.write(&[0; 1024]);
        copy.finish().ok();
        env.rbuild(&["rm", "orphan"]).ok();
    }

    fn what_runs_is_ended_whatever_its_state_says(env) {
        env.busybox();
        for (name, command) in [("one", &["rm", "-f", "one"][..]), ("two", &["stop", "-t", "0", "two"])] {
            detached(env, &["--name", name, "busybox:test", "sleep", "86400"]);
            let pid = state(env)["pid"].as_u64().unwrap();
            // As one that is being started, or whose state no disk took.
            let folder = std::fs::read_dir(env.store().join("v1/containers")).unwrap().next().unwrap().unwrap();
            std::fs::remove_file(folder.path().join("state")).unwrap();
            env.rbuild(command).ok();
            assert!(!is_alive(pid), "{name}");
        }
        env.rbuild(&["rm", "two"]).ok();
    }

    /// A user may have so many processes; who has rights over the machine is not counted.
    fn where_no_thread_is_left(env) {
        env.busybox();
        detached(env, &["--name", "full", "busybox:test", "sleep", "86400"]);
        env.program("prlimit", &["--nproc=1", "--pid", &supervisor(env).to_string()]).ok();
        env.rbuild(&["top", "full"]).ok().has("sleep 86400");
        env.rbuild(&["cp", "full:/etc/passwd", "-"]).ok();
        let executed = env.rbuild(&["exec", "full", "true"]).output();
        match env.who {
            Who::Root => executed.ok(),
            Who::User => executed.exits(126).has("no thread is left for it: too many processes run"),
        };
        env.rbuild(&["stop", "-t", "0", "full"]).ok();
        env.rbuild(&["rm", "full"]).ok();
    }

    fn a_client_that_is_killed_leaves_the_container(env) {
        env.busybox();
        let job = env.rbuild(&["run", "--name", "stays", "busybox:test", "sh", "-c", "echo ready; sleep 86400"]).spawn();
        job.wait_for("ready\n");
        job.signal(Signal::KILL);
        job.finish();
        assert_eq!(state(env)["status"], "Running");
        env.rbuild(&["rm", "-f", "stays"]).ok();
    }

    fn names_are_unique_and_checked(env) {
        env.busybox();
        env.rbuild(&["create", "--name", "one", "busybox:test", "true"]).ok();
        env.rbuild(&["create", "--name", "one", "busybox:test", "true"]).exits(1).has("The container name \"/one\" is already in use");
        env.rbuild(&["run", "--name", "one", "busybox:test", "true"]).exits(125).has("is already in use by container");
        env.rbuild(&["create", "--name", "../x", "busybox:test"]).exits(2).has("Invalid container name (../x)");
        let cid = env.path_str("cid");
        let id = env.rbuild(&["create", "--cidfile", &cid, "busybox:test", "true"]).ok().stdout;
        assert_eq!(std::fs::read_to_string(&cid).unwrap(), id.trim());
        env.rbuild(&["create", "--cidfile", &cid, "busybox:test", "true"]).exits(1).has("Container ID file found");
        env.rbuild(&["start", id[..5].trim()]).ok();
    }

    fn one_that_cannot_start(env) {
        env.busybox();
        env.rbuild(&["run", "-d", "--name", "bad", "busybox:test", "no-such-program"]).exits(127).has("no-such-program");
        assert_eq!((state(env)["status"].as_str(), state(env)["exit_code"].as_u64()), (Some("Created"), Some(127)));
        env.rbuild(&["start", "bad"]).exits(127).has("no-such-program");
        env.rbuild(&["rm", "bad"]).ok();
        env.rbuild(&["run", "-d", "--rm", "busybox:test", "no-such-program"]).exits(127);
        assert_eq!(std::fs::read_dir(env.store().join("v1/containers")).unwrap().count(), 0);
    }

    fn what_does_not_run_is_removed_to_make_room(env) {
        env.busybox();
        env.rbuild(&["run", "-d", "--name", "busy", "busybox:test", "sleep", "86400"]).ok();
        let id = env.rbuild(&["create", "--label", "k=v", "busybox:test", "true"]).ok().stdout;
        env.rbuild(&["system", "prune"]).ok().has("will remove:\n  - all stopped containers\n");
        env.rbuild(&["system", "prune", "-f", "--filter", "label=other"]).ok().lacks("Deleted Containers");
        env.rbuild(&["system", "prune", "-f"]).ok().has(&format!("Deleted Containers:\n{id}"));
        env.rbuild(&["rm", "-f", "nobody", "busy"]).ok().prints("busy\n").has("No such container: nobody");
        env.rbuild(&["export", "busy"]).exits(1).has("No such container: busy");
    }

    fn an_image_beneath_a_container_stays_usable(env) {
        env.busybox();
        env.build(&env.dockerfile("FROM busybox:test\nRUN echo mine > /mine\n"), &["-t", "own"]);
        env.rbuild(&["create", "--name", "kept", "own", "cat", "/mine"]).ok();
        env.rbuild(&["rmi", "own"]).exits(1).has("is using its referenced image");
        env.rbuild(&["rmi", "-f", "own"]).ok();
        env.rbuild(&["image", "prune", "-af"]).ok();
        env.rbuild(&["builder", "prune", "-af"]).ok();
        env.rbuild(&["start", "-a", "kept"]).ok().prints("mine\n");
    }
}

both! {
    fn a_container_that_is_not_made_leaves_nothing(env) {
        env.busybox();
        env.rbuild(&["create", "--name", "taken", "busybox:test", "true"]).ok();
        // Its supervisor is there before it is.
        let cases: [&[&str]; 4] = [
            &["--pull", "never", "missing:1", "true"],
            &["--name", "taken", "busybox:test", "true"],
            &["--restart", "always", "--rm", "busybox:test", "true"],
            &["--user", "nobody-of-that-name", "busybox:test", "true"],
        ];
        for args in cases {
            let (code, said) = Caged::start(env, &env.rbuild(&["run"]).args(args)).finish();
            assert_eq!(code, 125, "{args:?}: {said}");
        }
    }
}
