//! HEALTHCHECK and `run --health-...`: checks of containers that run.

use serde_json::Value;

use super::common::TestEnv;
use super::exec::{Up, until};

/// What is kept of a container's health; null where it has no checks.
fn health(env: &TestEnv, up: &Up<'_>) -> Value {
    let found =
        walkdir::WalkDir::new(env.store()).into_iter().flatten().find(|e| e.file_name() == up.id.as_str());
    let bytes = std::fs::read(found.unwrap().path().join("state")).unwrap();
    serde_json::from_slice::<Value>(&bytes).unwrap()["health"].clone()
}

both! {
    fn checks_run_and_their_results_are_kept(env) {
        env.busybox();
        env.build(
            &env.dockerfile(
                "FROM busybox:test\nENV A=mine\nWORKDIR /tmp\nUSER app\n\
                 HEALTHCHECK --interval=20ms --retries=2 CMD echo $A $(id -un) $PWD; head -c 5000 /dev/zero | tr '\\0' x; cat ok\n",
            ),
            &["-t", "checked"],
        );
        let up = Up::start(env, &[], "checked", &["sleep", "86400"]);
        until("it is unhealthy", || health(env, &up)["Status"] == "unhealthy");
        let now = health(env, &up);
        assert!(now["FailingStreak"].as_u64() >= Some(2), "{now}");
        let last = now["Log"].as_array().unwrap().last().unwrap();
        let output = last["Output"].as_str().unwrap();
        assert!(output.starts_with("mine app /tmp\nxxx") && output.ends_with("xx..."), "{output}");
        assert_eq!((output.len(), &last["ExitCode"]), (4096 + 3, &Value::from(1)));
        up.sh("echo fine > ok");
        until("it is healthy", || health(env, &up)["Status"] == "healthy");
        until("five results are there", || health(env, &up)["Log"].as_array().unwrap().len() == 5);
        up.sh("rm ok");
        until("it is unhealthy again", || health(env, &up)["Status"] == "unhealthy");
        env.rbuild(&["kill", &up.id]).ok();
        env.rbuild(&["wait", &up.id]).ok();
        let at_end = health(env, &up);
        assert_eq!((&at_end["Status"], at_end["Log"].as_array().unwrap().len()), (&Value::from("unhealthy"), 5));
    }

    fn checks_of_the_command_line(env) {
        let slow = Up::idle(env, &["--health-cmd", "echo begun; sleep 5678", "--health-interval", "10ms", "--health-timeout", "200ms"]);
        until("the check was killed", || health(env, &slow)["FailingStreak"].as_u64() >= Some(1));
        let now = health(env, &slow);
        assert_eq!(now["Log"][0]["ExitCode"], -1, "{now}");
        assert_eq!(now["Log"][0]["Output"], "Health check exceeded timeout (200ms): begun\n", "{now}");
        let count = |text: &str| text.lines().filter(|line| line.ends_with("sleep 5678")).count();
        // One may be under way; of those that were killed nothing is left.
        until("there were three", || health(env, &slow)["FailingStreak"].as_u64() >= Some(3));
        let top = env.rbuild(&["top", &slow.id]).ok().stdout;
        assert!(count(&top) <= 2, "{top}");
        drop(slow);

        let starting = Up::idle(env, &[
            "--health-cmd", "exit 1", "--health-start-period", "1h", "--health-start-interval", "10ms",
        ]);
        until("it was checked", || health(env, &starting)["Log"].as_array().is_some_and(|log| log.len() >= 4));
        let now = health(env, &starting);
        assert_eq!((&now["Status"], &now["FailingStreak"]), (&"starting".into(), &0.into()), "{now}");
        drop(starting);

        env.build(&env.dockerfile("FROM busybox:test\nHEALTHCHECK --interval=10ms --retries=1 CMD [\"no-such\"]\n"), &["-t", "x"]);
        let broken = Up::start(env, &[], "x", &["sleep", "86400"]);
        until("it failed", || health(env, &broken)["Status"] == "unhealthy");
        assert!(health(env, &broken)["Log"][0]["Output"].as_str().unwrap().contains("executable file not found"));
        let without = Up::start(env, &["--no-healthcheck"], "x", &["sleep", "86400"]);
        assert_eq!(health(env, &without), Value::Null);
        drop((broken, without));

        let run = |options: &[&str]| env.run(&[options, &["busybox:test", "true"]].concat()).exits(125);
        run(&["--no-healthcheck", "--health-cmd", "x"]).has("--no-healthcheck conflicts with --health-* options");
        run(&["--health-interval", "-1s"]).has("--health-interval cannot be negative");
        run(&["--health-timeout", "5"]).has("--health-timeout");
    }

    fn a_check_ends_whatever_it_leaves_behind(env) {
        let noisy = Up::idle(env, &["--health-cmd", "yes & exit 0", "--health-interval", "10ms"]);
        until("it is healthy", || health(env, &noisy)["Status"] == "healthy");
        let now = health(env, &noisy);
        assert_eq!(now["Log"][0]["ExitCode"], 0, "{now}");
    }
}
