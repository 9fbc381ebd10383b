//! Checks of the checks: that the harness sees what it is there to see.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use rustix::process::Signal;

use super::common::Caged;
use super::common::TestEnv;
use super::common::base::busybox_tar;

/// Runs a shell command in a cage and returns its code, or what is left.
fn caged(env: &TestEnv, script: &str) -> Result<i32, String> {
    let cage = Caged::start(env, &env.program("sh", &["-c", script]));
    let found = catch_unwind(AssertUnwindSafe(|| cage.finish().0));
    found.map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default())
}

both! {
    fn a_command_that_cleans_up_leaves_nothing(env) {
        assert_eq!(caged(env, "sleep 0 & wait; exit 5"), Ok(5));
        assert_eq!(caged(env, "kill -KILL $$"), Ok(137));
    }

    fn a_temporary_file_is_seen(env) {
        let left = caged(env, "touch $TMPDIR/forgotten").unwrap_err();
        assert!(left.contains("forgotten"), "{left}");
    }

    fn a_process_that_stays_is_seen(env) {
        let left = caged(env, "(setsid sleep 1000 &); exit 0").unwrap_err();
        // Not its name: it may be looked at before it has become `sleep`.
        assert!(left.contains("processes are left"), "{left}");
    }

    fn a_signal_reaches_the_command(env) {
        let script = "trap 'kill $!; exit 9' TERM; sleep 1000 & echo up; wait";
        let cage = Caged::start(env, &env.program("sh", &["-c", script]));
        cage.wait_for("up\n");
        cage.signal(Signal::TERM);
        assert_eq!(cage.finish().0, 9);
    }

    fn commands_run_as_the_person_of_the_test(env) {
        let id = env.program("id", &["-u"]).ok().stdout;
        let expect = env.ids().map_or(rustix::process::geteuid().as_raw(), |ids| ids.uid);
        assert_eq!(id.trim(), expect.to_string());
        env.program("id", &["-G"]).ok();
        let owner = env.program("stat", &["-c", "%u", env.context().file("a/b", "").at("a/b").as_str()]).ok().stdout;
        assert_eq!(owner, id);
        let vars = env.program("env", &[]).ok().stdout;
        let names: Vec<&str> = vars.lines().map(|l| l.split('=').next().unwrap()).collect();
        assert_eq!(names, ["HOME", "LANG", "PATH", "RBUILD_ROOT", "TMPDIR"]);
        assert!(env.exe().exists() && env.program("test", &["-x", env.exe().to_str().unwrap()]).ok().code == Some(0));
    }
}

#[test]
fn the_small_base_is_a_tar_with_a_shell() {
    let mut archive = tar::Archive::new(busybox_tar());
    let paths: Vec<String> =
        archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().to_str().unwrap().to_owned()).collect();
    for path in ["bin/busybox", "bin/sh", "bin/setsid", "bin/nc", "etc/passwd", "tmp/"] {
        assert!(paths.iter().any(|p| p == path), "{path}: {paths:?}");
    }
}
