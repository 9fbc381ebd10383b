//! `rbuild pause`, `unpause` and `stats`: containers that are held still, and what containers use.

use serde_json::Value;

use super::exec::{Up, until};

both! {
    fn what_is_paused_does_nothing(env) {
        let up = Up::idle(env, &["--name", "web"]);
        // Prints a line each time that it goes on; what is stopped prints none.
        env.rbuild(&["exec", "-d", "web", "sh", "-c", "while :; do echo >>/count; done"]).ok();
        let size = || env.rbuild(&["cp", "web:/count", "-"]).ok().stdout.len();
        until("it writes", || env.rbuild(&["exec", "web", "test", "-s", "/count"]).output().code == Some(0));
        env.rbuild(&["pause", "web"]).ok().prints("web\n");
        assert_eq!(size(), size());
        env.rbuild(&["pause", "web"]).exits(1).has(&format!("Container {} is already paused", up.id));
        env.rbuild(&["ps", "--filter", "status=paused", "--format", "{{.Names}} {{.State}}"]).ok().prints("web paused\n");
        env.rbuild(&["ps", "--format", "{{.Status}}"]).ok().has("(Paused)");
        env.rbuild(&["inspect", "-f", "{{.State.Status}} {{.State.Paused}} {{.State.Running}}", "web"]).ok().prints("paused true true\n");
        up.exec(&["@", "true"]).exits(1).has("Container web is paused, unpause the container before exec");
        env.rbuild(&["attach", "web"]).exits(1).has("You cannot attach to a paused container, unpause it first");
        // Who reads its files lets nothing go.
        env.rbuild(&["commit", "web", "copy"]).ok();
        assert_eq!(size(), size());
        env.rbuild(&["container", "unpause", "web"]).ok().prints("web\n");
        let before = size();
        until("it goes on", || size() > before);
        env.rbuild(&["unpause", "web"]).exits(1).has("is not paused");
        env.rbuild(&["ps", "--format", "{{.State}}"]).ok().prints("running\n");
        env.rbuild(&["pause", "nosuch", "web"]).exits(1).has("No such container: nosuch").has("web\n");
        env.rbuild(&["stop", "-t", "0", "web"]).ok();
        env.rbuild(&["pause", "web"]).exits(1).has("is not running");
        env.rbuild(&["unpause", "web"]).exits(1).has("is not running");
    }

    fn what_is_paused_hears_a_stop(env) {
        env.busybox();
        let script = "trap 'exit 7' TERM; echo ready; while :; do :; done";
        let up = Up::start(env, &["--name", "web"], "busybox:test", &["sh", "-c", script]);
        until("it is ready", || env.rbuild(&["logs", "web"]).ok().stdout == "ready\n");
        env.rbuild(&["pause", "web"]).ok();
        env.rbuild(&["stop", "-t", "60", "web"]).ok();
        env.rbuild(&["wait", "web"]).ok().prints("7\n");
        env.rbuild(&["start", "web"]).ok();
        env.rbuild(&["pause", "web"]).ok();
        env.rbuild(&["kill", "web"]).ok();
        env.rbuild(&["inspect", "-f", "{{.State.Status}} {{.State.Paused}} {{.State.ExitCode}}", &up.id]).ok().prints("exited false 137\n");
    }

    fn what_containers_use(env) {
        let _up = Up::idle(env, &["--name", "busy"]);
        env.rbuild(&["exec", "-d", "busy", "sh", "-c", "while :; do :; done"]).ok();
        let stats = env.rbuild(&["stats", "--no-stream", "--format", "json", "busy"]).ok().stdout;
        let row: Value = serde_json::from_str(&stats).unwrap();
        assert_eq!((&row["Name"], &row["PIDs"]), (&"busy".into(), &"2".into()), "{stats}");
        assert!(row["CPUPerc"] != "0.00%" && !row["MemUsage"].as_str().unwrap().starts_with("0B"), "{stats}");
        env.rbuild(&["stats", "--no-stream"]).ok().has("CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT");
        env.rbuild(&["stats", "--no-stream", "nosuch"]).exits(1).has("No such container: nosuch");
        env.rbuild(&["rename", "busy", "idle"]).ok();
        env.rbuild(&["kill", "idle"]).ok();
        env.rbuild(&["container", "stats", "--no-stream", "--format", "{{.Container}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}}", "idle"])
            .ok()
            .prints("idle 0.00% 0B / 0B 0\n");
        env.rbuild(&["stats", "--no-stream", "--format", "{{.Name}}"]).ok().prints("");
        env.rbuild(&["stats", "-a", "--no-stream", "--format", "{{.Name}}"]).ok().prints("idle\n");
    }
}
