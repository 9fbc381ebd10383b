//! `rbuild builds` and `rbuild report`: what is kept of a build, and who sees it.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use super::common::Outcome;
use super::common::TestEnv;

fn record(env: &TestEnv, build: &str) -> Value {
    let shown = env.rbuild(&["builds", "show", "--format", "json", build]).ok();
    serde_json::from_str(&shown.stdout).unwrap_or_else(|e| panic!("{e}\n{shown}"))
}

fn ids(env: &TestEnv) -> Vec<String> {
    env.rbuild(&["builds", "-q"]).ok().stdout.lines().map(str::to_owned).collect()
}

fn column(env: &TestEnv, template: &str) -> Outcome {
    env.rbuild(&["builds", "ls", "--format", template]).ok()
}

/// Markup that would run, where a page took it for more than text.
const EVIL: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>";

both! {
    fn builds_are_listed_newest_first(env) {
        env.busybox();
        env.rbuild(&["builds"]).ok().prints("BUILD ID   NAME      STATUS    CREATED   DURATION   STEPS     IMAGE\n");
        env.rbuild(&["builds", "show"]).exits(1).has("nothing was built here yet");
        let ctx = env.dockerfile("FROM busybox:test AS base\nRUN echo hello\nFROM base AS last\nENV A=1\n");
        env.build(&ctx, &["-t", "app", "--target", "last"]);
        let again = env.build(&ctx, &["-t", "app", "--target", "last"]);
        env.try_build(&env.dockerfile("FROM busybox:test\nRUN exit 3\n"), &[]).fails();
        column(env, "{{.Status}} {{.Steps}} {{.Tags}}").prints("failed 2 \ncompleted 4 (2 cached) app:latest\ncompleted 4 app:latest\n");
        column(env, "table {{.ID}}\t{{.Image}}").has_all(&["BUILD ID", again.built()]);
        env.rbuild(&["builds", "--filter", "status=failed", "--format", "{{.Cached}}"]).ok().prints("0\n");
        env.rbuild(&["builds", "--filter", "nope=1"]).exits(2);
        let rows = env.rbuild(&["builds", "--format", "json"]).ok();
        let row: Value = serde_json::from_str(rows.stdout.lines().nth(1).unwrap()).unwrap();
        assert!(row["Name"].as_str().unwrap().ends_with("/last"), "{rows}");
        assert_eq!(ids(env).len(), 3);
    }

    fn a_record_tells_what_became_of_every_step(env) {
        env.busybox();
        let ctx = env.dockerfile(
            "FROM busybox:test AS tools\nRUN echo tool > /tool; echo made-tool\n\
             FROM busybox:test\nARG V=0\nCOPY --from=tools /tool /tool\nRUN echo version $V\nCMD [\"x\"]\n");
        env.build(&ctx, &["-t", "app", "--build-arg", "V=1"]);
        env.build(&ctx, &["-t", "app", "--build-arg", "V=2", "--label", "a=b"]);
        let found = record(env, "^0");
        assert_eq!((&found["version"], &found["status"]), (&Value::from(1), &Value::from("completed")), "{found}");
        let states: Vec<&str> = found["steps"].as_array().unwrap().iter().map(|s| s["state"].as_str().unwrap()).collect();
        assert_eq!(states, ["done", "cached", "done", "done", "cached", "done", "done"]);
        let vertices = found["vertices"].as_array().unwrap();
        let run = vertices.iter().find(|v| v["text"] == "RUN echo version $V").unwrap();
        assert!(run["why"].is_string() && run["end_ms"].as_u64() >= run["start_ms"].as_u64(), "{run}");
        let copy = vertices.iter().find(|v| v["kind"] == "copy").unwrap();
        assert_eq!((&copy["state"], &copy["bytes"]), (&Value::from("cached"), &Value::from(5)));
        let kinds: Vec<&Value> = copy["inputs"].as_array().unwrap().iter().map(|i| &i["kind"]).collect();
        assert_eq!(kinds, ["base", "source"]);
        assert_eq!(found["options"], serde_json::json!([["--tag", "app:latest"], ["--build-arg", "V=2"], ["--label", "a=b"]]));
        assert_eq!(found["images"][0]["id"], env.inspect("app")["Id"]);
        let step = found["steps"][5]["id"].as_str().unwrap();
        env.rbuild(&["inspect", step]).ok();
        // Named by the start of its id, as docker names things.
        let id = found["id"].as_str().unwrap();
        assert_eq!(record(env, &id[..8]), found);
        env.rbuild(&["builds", "show", id]).ok().has_all(&["completed", "--build-arg V=2", "RUN echo version $V", "cached"]);
        env.rbuild(&["builds", "show", "zz"]).exits(1).has("No such build: zz");
        env.rbuild(&["builds", "show", "^9"]).exits(1).has("No such build: ^9");
    }

    fn the_log_of_one_step(env) {
        env.busybox();
        let ctx = env.dockerfile(
            "FROM busybox:test AS a\nRUN echo only-a; echo more-a\nFROM busybox:test AS b\nRUN echo only-b\n\
             FROM scratch\nCOPY --from=a /etc/passwd /a\nCOPY --from=b /etc/passwd /b\n");
        env.build(&ctx, &[]);
        env.rbuild(&["builds", "logs"]).ok().has_all(&["Step 1/7", "[a] only-a\n", "[b] only-b\n"]);
        env.rbuild(&["builds", "logs", "--step", "2"]).ok().prints("[a] only-a\n[a] more-a\n");
        env.rbuild(&["builds", "logs", "--step", "4"]).ok().prints("[b] only-b\n");
        env.rbuild(&["builds", "logs", "--step", "9"]).exits(1).has("no step 9");
    }

    /// A build that fails has a record and a page, wherever it failed.
    fn failures_are_kept(env) {
        env.busybox();
        env.try_build(&env.dockerfile("FROM busybox:test\nRUN echo before; exit 7\nRUN never\n"), &[]).fails();
        let found = record(env, "^0");
        assert_eq!((&found["error"]["exit_code"], &found["steps"][2]["state"]), (&Value::from(7), &Value::from("waiting")));
        env.rbuild(&["report"]).ok().has_all(&["Why it failed", "with exit code 7", "before", "not run"]);
        env.rbuild(&["builds", "logs"]).ok().has_all(&["before", "exit code: 7"]);
        env.try_build(&env.dockerfile("FROM busybox:test\nRUNX y\n"), &[]).exits(2);
        env.rbuild(&["report"]).ok().has("unknown instruction: RUNX");
        env.try_build(&env.dockerfile("FROM nosuch:1\n"), &["--pull=never"]).fails();
        env.rbuild(&["builds", "show"]).ok().has_all(&["failed", "nosuch:1"]);
    }

    fn stopped_and_killed_builds(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo steady; sleep 86400\n");
        for (signal, status) in [(Signal::INT, "canceled"), (Signal::KILL, "cut short")] {
            let build = env.rbuild(&["build", ctx.path()]).spawn();
            build.wait_for("steady\n");
            column(env, "{{.Status}}").has("running\n");
            let id = ids(env).remove(0);
            env.rbuild(&["builds", "rm", &id]).exits(1).has("is running");
            env.rbuild(&["report", &id]).exits(1).has("is running");
            env.rbuild(&["builds", "logs", &id]).ok().has("steady\n");
            let followed = env.rbuild(&["builds", "logs", "-f", &id]).spawn();
            followed.wait_for("steady\n");
            build.signal(signal);
            build.finish();
            followed.finish().ok();
            let first = column(env, "{{.Status}}").stdout.lines().next().map(str::to_owned);
            assert_eq!(first.as_deref(), Some(status));
        }
        env.rbuild(&["report", "^0"]).exits(1).has("was cut short");
        let page = env.rbuild(&["report", "^1"]).ok();
        page.has_all(&["canceled", "the build was stopped", ">stopped<"]);
    }

    fn builds_are_forgotten(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo x > /x\n");
        for _ in 0..3 {
            env.build(&ctx, &["-t", "app"]);
        }
        let all = ids(env);
        env.rbuild(&["builds", "rm", &all[1], "nosuch"]).exits(1).has("No such build: nosuch");
        assert_eq!(ids(env).len(), 3, "all are found before one goes");
        env.rbuild(&["builds", "rm", &all[1]]).ok().prints(&format!("{}\n", all[1]));
        assert_eq!(ids(env), [all[0].clone(), all[2].clone()]);
        env.rbuild(&["builds", "rm"]).exits(2);
        env.rbuild(&["system", "df", "-v"]).ok();
        env.rbuild(&["builds", "rm", "--all"]).ok().has(&all[0]);
        assert!(ids(env).is_empty());
        env.inspect("app");
        // A prune of all takes them, too.
        env.build(&ctx, &[]);
        env.rbuild(&["builder", "prune", "-a", "-f"]).ok();
        assert!(ids(env).is_empty());
    }

    /// What a build was asked for is told, limits included.
    fn options_are_kept(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN true\n");
        env.build(&ctx, &["--ulimit", "nofile=64:128", "--shm-size", "1m", "--add-host", "db:10.0.0.1", "--label", "a=b"]);
        let options = record(env, "^0")["options"].to_string();
        for expect in ["[\"--ulimit\",\"nofile=64:128\"]", "[\"--shm-size\",\"1048576\"]", "[\"--add-host\",\"db:10.0.0.1\"]", "[\"--label\",\"a=b\"]"] {
            assert!(options.contains(expect), "{options}");
        }
    }

    /// Neither secrets nor passwords of addresses nor arguments that look like secrets are kept.
    fn nothing_secret_is_kept(env) {
        env.busybox();
        let ctx = env.dockerfile(
            "FROM busybox:test\nARG API_TOKEN\nARG MIRROR\nRUN --mount=type=secret,id=key test -f /run/secrets/key; echo $MIRROR | wc -c\n")
            .file("key", "hush-secret");
        for token in ["hush-one", "hush-two"] {
            env.build(&ctx, &["--secret", &format!("id=key,src={}", ctx.at("key")), "--build-arg", &format!("API_TOKEN={token}"),
                "--build-arg", "MIRROR=https://user:hush-pass@host/", "--label", "auth=hush-label"]);
        }
        for build in fs::read_dir(env.store().join("v1/builds")).unwrap().flatten() {
            let text = fs::read_to_string(build.path().join("record")).unwrap();
            assert!(!text.contains("hush") && text.contains("API_TOKEN=***") && text.contains("id=key"), "{text}");
        }
        env.rbuild(&["report"]).ok().lacks("hush").has("https://host/");
    }

    /// What steps say and what things are called is text in a page, never markup.
    fn a_page_runs_nothing(env) {
        env.busybox();
        let ctx = env.context().file(EVIL.split('/').next().unwrap(), "x").file("Dockerfile", format!(
            "FROM busybox:test AS a\nARG E=1\nRUN echo '{EVIL}'; printf '\\033]0;title\\007'\nRUN mkdir \"/$(printf '<b>%s' name)\" && cd /*name && echo x > f\nLABEL l='{EVIL}'\nCMD echo {EVIL}\n"));
        env.build(&ctx, &["-t", "app", "--build-arg", &format!("E={EVIL}")]);
        let page = env.rbuild(&["report"]).ok();
        page.clone().lacks("<script").lacks("<img").lacks("\u{1b}").lacks("http:").lacks("https:");
        page.has_all(&["&lt;script&gt;alert(1)&lt;/script&gt;", "default-src 'none'", "<html lang=\"en\">"]);
        env.rbuild(&["layers", "--format", "html", "app"]).ok().lacks("<script").lacks("<b>name").has("&lt;b&gt;name");
    }

    fn a_report_is_a_file(env) {
        env.busybox();
        env.build(&env.dockerfile("FROM busybox:test\nRUN echo out\n"), &["-t", "app"]);
        let file = env.path_str("report.html");
        env.rbuild(&["report", "-o", &file]).ok().prints("");
        let page = fs::read_to_string(&file).unwrap();
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n") && page.contains("app:latest"));
        env.rbuild(&["report", "-o", "/no/such/folder/x.html"]).exits(1).has("/no/such/folder/x.html");
        env.rbuild(&["report", "nosuch"]).exits(1).has("No such build");
    }

    /// The browser is the user's own program, and gets a page that it can read.
    fn a_page_is_opened(env) {
        env.busybox();
        env.build(&env.dockerfile("FROM busybox:test\nRUN echo out\n"), &[]);
        let place = env.context().file_with_mode("browser", 0o755, "#!/bin/sh\nid -u > \"$0.who\"; grep -c '</html>' \"$1\" > \"$0.saw\"\n");
        let browser = place.at("browser");
        env.give(place.path().as_ref());
        env.rbuild(&["builds", "open"]).var("BROWSER", &browser).ok().has("report.html");
        assert_eq!(fs::read_to_string(format!("{browser}.saw")).unwrap(), "1\n");
        let who = env.ids().map_or(rustix::process::geteuid().as_raw(), |ids| ids.uid);
        assert_eq!(fs::read_to_string(format!("{browser}.who")).unwrap(), format!("{who}\n"));
        env.rbuild(&["builds", "open"]).var("PATH", "/nowhere").exits(1).has("rbuild report -o");
    }
}
