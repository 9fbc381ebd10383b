//! What is shown while something goes on: on terminals of real size, as JSON, in pipes that break.
//!
//! Terminals are script(1)'s; what reaches them goes through a small terminal of our own, of which the
//! tests read the screen. The drawing itself is tested in `src/report/view`.

use std::fs;

use base64::Engine as _;
use serde_json::Value;

use super::common::env::run_as;
use super::common::script::{Image, layer};
use super::common::terminal::Terminal;
use super::common::{Outcome, TestEnv, Who};

/// Returns the words of a shell that runs rbuild in its terminal.
fn line(env: &TestEnv, columns: usize, rows: usize, words: &str) -> String {
    format!("stty cols {columns} rows {rows}; exec {} {words}", env.exe().display())
}

/// Runs rbuild in a terminal.
fn in_terminal(env: &TestEnv, columns: usize, rows: usize, words: &str) -> Outcome {
    env.program("script", &["-qec", &line(env, columns, rows, words), "/dev/null"]).output()
}

/// Returns what is on a screen, and above it, after a command.
fn seen(outcome: &Outcome, columns: usize, rows: usize) -> Terminal {
    let mut terminal = Terminal::new(columns, rows);
    terminal.write(outcome.stdout.as_bytes());
    terminal
}

/// How often the view drew.
fn frames(outcome: &Outcome) -> usize {
    outcome.stdout.matches("\x1b[J").count()
}

/// Returns the log of the only build of a store.
fn log(env: &TestEnv) -> String {
    let mut builds = fs::read_dir(env.store().join("v1/builds")).unwrap();
    let log = fs::read_to_string(builds.next().unwrap().unwrap().path().join("log")).unwrap();
    assert!(builds.next().is_none());
    log
}

both! {
    /// Steps with their state, and a summary in the end; nothing of what was drawn on the way stays.
    fn a_build_on_a_terminal(env) {
        env.busybox();
        let ctx = env.dockerfile(
            "FROM busybox:test AS a\nRUN echo one; echo one > /f\nENV A=1\nFROM busybox:test\nCOPY --from=a /f /f\n",
        );
        let words = format!("build --network none -t app {}", ctx.path());
        let outcome = in_terminal(env, 60, 20, &words).ok();
        let terminal = seen(&outcome, 60, 20);
        let lines = terminal.lines();
        let has = |text: &str| {
            assert!(lines.iter().any(|line| line.starts_with(text)), "{text}:\n{}", lines.join("\n"));
        };
        has("✓ [a] 1/5 FROM busybox:test AS a");
        has("✓ [a] 2/5 RUN echo one; echo one > /f");
        has("✓ [a] 3/5 ENV A=1");
        has("✓ [1] 4/5 FROM busybox:test");
        has("✓ [1] 5/5 COPY --from=a /f /f");
        has("Successfully tagged app:latest");
        assert_eq!(lines.iter().filter(|line| *line == "   not cached: never built here").count(), 2);
        assert_eq!(lines.len(), 10, "{lines:#?}");
        assert!(lines[7].starts_with("Successfully built "), "{lines:#?}");
        assert!(lines[9].starts_with("2 steps run, 0 cached, "), "{lines:#?}");
        assert!(terminal.colours() > 0 && terminal.cursor().1 == 0);
        assert!(!outcome.stdout.contains("\x1b[?"), "no mode of the terminal is changed\n{outcome}");

        let again = format!("NO_COLOR=1; export NO_COLOR; {}", line(env, 60, 20, &words));
        let outcome = env.program("script", &["-qec", &again, "/dev/null"]).ok();
        let terminal = seen(&outcome, 60, 20);
        assert_eq!(terminal.colours(), 0, "{outcome}");
        let lines = terminal.lines();
        assert!(lines.last().unwrap().starts_with("0 steps run, 2 cached, "), "{lines:#?}");
        assert!(lines.iter().any(|line| line.starts_with("= [a] 2/5 RUN") && line.ends_with(" cached")), "{lines:#?}");
    }

    /// In a step that fails all output stays, and the error comes below.
    fn a_failure_on_a_terminal(env) {
        env.busybox();
        let ctx = env.dockerfile(
            "FROM busybox:test\nRUN seq 1 100; printf '\\033[2J\\033]0;x\\007\\344\\275\\240\\n'; exit 3\n",
        );
        for (columns, rows) in [(80, 24), (20, 6)] {
            let outcome = in_terminal(env, columns, rows, &format!("build --network none {}", ctx.path())).exits(1);
            let lines = seen(&outcome, columns, rows).lines();
            let at = |text: &str| lines.iter().position(|line| line == text);
            let (first, last) = (at("1").unwrap(), at("100").unwrap());
            assert_eq!(last - first, 99, "{lines:#?}");
            assert_eq!(lines[last + 1], "你");
            assert!(lines[first - 2].starts_with("✗ 2/2 RUN"), "{lines:#?}");
            // The second time it is known to have failed.
            let why = if columns == 80 { "   not cached: never built here" } else { " it failed in the" };
            assert!(lines[first - 1].starts_with(why), "{lines:#?}");
            assert!(lines[last + 2].starts_with("0 steps run, 0 cached, 1 failed, 0 not done, "), "{lines:#?}");
            assert!(lines[last + 3..].join("\n").contains("exit code: 3"), "{lines:#?}");
        }
    }

    /// Two hundred thousand lines: few of them are drawn, all are in the log.
    fn a_flood_of_lines(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN seq 1 200000\n");
        let outcome = in_terminal(env, 80, 24, &format!("build --network none {}", ctx.path())).ok();
        // One frame for a hundred lines would be ten thousand a second on most machines.
        assert!(frames(&outcome) < 2_000, "{} frames", frames(&outcome));
        assert!(outcome.stdout.len() < 2_000_000, "{} bytes", outcome.stdout.len());
        assert!(seen(&outcome, 80, 24).lines().len() < 8, "{outcome}");
        let numbers = log(env).lines().filter(|line| line.parse::<u32>().is_ok()).count();
        assert_eq!(numbers, 200_000);
    }

    /// Ctrl-C ends the view as it ends the build; the terminal is as it was.
    fn a_build_that_is_stopped_on_a_terminal(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo rea''dy; sleep 1000\n");
        let line = format!(
            "trap : INT; stty -g; {} build --network none {}; echo code $?; stty -g",
            env.exe().display(),
            ctx.path()
        );
        let mut job = env.program("script", &["-qec", &line, "/dev/null"]).stdin_pipe().spawn();
        job.wait_for("ready");
        job.write(b"\x03");
        let outcome = job.finish();
        let lines = seen(&outcome, 80, 24).lines();
        assert_eq!(lines.first(), lines.last(), "{lines:#?}");
        let has = |text: &str| assert!(lines.iter().any(|line| line.ends_with(text)), "{text}: {lines:#?}");
        has("stopped; nothing was left behind");
        has("code 130");
        assert!(lines.iter().any(|line| line.starts_with("- 2/2 RUN") && line.ends_with("stopped")), "{lines:#?}");
        assert!(!lines.iter().any(|line| line.contains("running")), "{lines:#?}");
    }

    /// BuildKit's events: every line is one, and has the fields that docs/progress.md names.
    fn raw_json(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test AS base\nRUN echo out; echo err >&2\nCMD [\"x\"]\n");
        let args = ["build", "--progress", "rawjson", "--network", "none", "-t", "app", ctx.path()];
        let outcome = env.rbuild(&args).ok().has("Successfully tagged app:latest");
        let lines = parsed(&outcome);
        let vertices: Vec<&Value> = all(&lines, "vertexes");
        let run = |v: &&&Value| v["name"].as_str().unwrap().starts_with("[base 2/2] RUN echo out");
        let states: Vec<&&Value> = vertices.iter().filter(run).collect();
        assert_eq!(states.len(), 3, "planned, started, completed: {outcome}");
        assert!(states[0].get("started").is_none() && states[2]["completed"].is_string());
        assert_eq!(states[0]["inputs"].as_array().unwrap().len(), 1);
        let digest = &states[0]["digest"];
        let mut text = String::new();
        for log in all(&lines, "logs").iter().filter(|log| log["vertex"] == *digest) {
            let data = base64::engine::general_purpose::STANDARD.decode(log["data"].as_str().unwrap()).unwrap();
            text += &format!("{}: {}", log["stream"], String::from_utf8(data).unwrap());
        }
        assert!(text.contains("1: out\n") && text.contains("2: err\n"), "{text}");
        let id = env.inspect("app")["Id"].as_str().unwrap().to_owned();
        let ids: Vec<&str> = all(&lines, "statuses").iter().map(|s| s["id"].as_str().unwrap()).collect();
        let written = format!("writing image {id}");
        let naming = "naming to docker.io/library/app:latest";
        assert_eq!(ids, ["not cached: never built here", &written, naming]);

        let again = parsed(&env.rbuild(&args).ok());
        let cached = all(&again, "vertexes").into_iter().filter(|v| v["cached"] == true).count();
        assert_eq!(cached, 1);
        assert_eq!(all(&again, "logs").len(), 0);
    }

    /// An error is in the vertices, and nothing else is on standard error.
    fn raw_json_of_failures(env) {
        env.busybox();
        let check = |text: &str, code: i32, expect: &str, warnings: usize| {
            let ctx = env.dockerfile(text);
            let args = ["build", "--progress=rawjson", "--network", "none", ctx.path()];
            let outcome = env.rbuild(&args).exits(code);
            let lines = parsed(&outcome);
            let vertices = all(&lines, "vertexes");
            let last = vertices.last().unwrap();
            assert!(last["name"] == "rbuild" && last["completed"].is_string(), "{outcome}");
            assert!(last["error"].as_str().unwrap().contains(expect), "{outcome}");
            assert_eq!(all(&lines, "warnings").len(), warnings, "{outcome}");
        };
        check("FROM busybox:test\nRUN exit 3\nCMD x\n", 1, "exit code: 3", 1);
        check("FROM busybox:test\nRUNX\n", 2, "unknown instruction", 0);
        check("FROM busybox:test\nCOPY nothing /\n", 1, "nothing", 0);
    }

    /// A step without output is told of, where somebody reads; the log has only what it says.
    fn a_silent_step_is_told(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN printf begun; sleep 1; echo; echo done\n");
        let build = |how: &str| {
            let args = ["build", "--no-cache", "--network", "none", "--progress", how, ctx.path()];
            env.rbuild(&args).var("RBUILD_TEST_SILENCE_MS", "100").ok()
        };
        let plain = build("plain");
        let told: Vec<&str> = plain.stdout.lines().filter(|line| line.starts_with("still running: ")).collect();
        let expect = "still running: line 2 RUN printf begun; sleep 1; echo; echo done (0s without output, 0s in all)";
        assert_eq!(told.first(), Some(&expect), "{plain}");
        // 0.1, 0.2, 0.4 and 0.8 s.
        assert!((2..=4).contains(&told.len()), "{plain}");
        plain.has(&format!("begun\n{expect}"));
        let log = env.rbuild(&["builds", "logs"]).ok();
        log.has("done").lacks("still running");
        build("quiet").lacks("still running");
        let json = build("rawjson");
        let lines = parsed(&json);
        let run = all(&lines, "vertexes").into_iter().find(|v| v["name"].as_str().unwrap().contains("RUN")).unwrap();
        let engine = base64::engine::general_purpose::STANDARD;
        let said = all(&lines, "logs").into_iter().filter(|log| log["vertex"] == run["digest"]);
        let said: Vec<u8> = said.flat_map(|log| engine.decode(log["data"].as_str().unwrap()).unwrap()).collect();
        assert!(String::from_utf8(said).unwrap().contains("still running: line 2 RUN"), "{json}");
        let line = format!(
            "RBUILD_TEST_SILENCE_MS=100; export RBUILD_TEST_SILENCE_MS; {}",
            line(env, 80, 20, &format!("build --no-cache --network none {}", ctx.path()))
        );
        let shown = env.program("script", &["-qec", &line, "/dev/null"]).ok().has("no output for 0.");
        assert!(!seen(&shown, 80, 20).lines().join("\n").contains("no output"), "{shown}");
    }

    /// What a step waits for is named at once, with who has it.
    fn who_is_waited_for_is_told(env) {
        env.busybox();
        let gate = env.path("gate");
        fs::create_dir(&gate).unwrap();
        env.give(&gate);
        let volume = format!("{}:/gate:ro", gate.display());
        let step = |word: &str| {
            env.dockerfile(&format!(
                "FROM busybox:test\nRUN --mount=type=cache,target=/c,sharing=locked \\\n  \
                 echo has''{word}; while [ ! -e /gate/go ]; do sleep 0.05; done\n"
            ))
        };
        let (one, two) = (step("one"), step("two"));
        let build = |ctx: &str| env.rbuild(&["build", "--network", "none", "-v", &volume, ctx]).spawn();
        let first = build(one.path());
        first.wait_for("hasone");
        let (same, other) = (build(one.path()), build(two.path()));
        let who = format!("the rbuild process {}", first.pid());
        same.wait_for(&format!("waits for {who}, which does the same step"));
        other.wait_for(&format!("waits for the cache mount /c (sharing=locked), which {who} has"));
        fs::write(gate.join("go"), "").unwrap();
        first.finish().ok();
        assert_eq!(same.finish().ok().cached(), 1);
        other.finish().ok().has("waiting: line 2 RUN --mount=type=cache").has("hastwo");
    }

    /// A reader that went away is none of the build's business.
    fn broken_pipes(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN seq 1 20000 && echo made > /made\n");
        for how in ["rawjson", "plain", "quiet"] {
            let line = format!(
                "{} build --no-cache --progress {how} --network none -t {how} {} 2>&1 | true",
                env.exe().display(),
                ctx.path()
            );
            env.program("sh", &["-c", &line]).ok();
            env.run(&[how, "cat", "/made"]).ok().prints("made\n");
        }
    }
}

/// Parses all of standard error.
fn parsed(outcome: &Outcome) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    let lines: Vec<Value> = outcome.stderr.lines().map(parse).collect();
    let known = ["vertexes", "statuses", "logs", "warnings"];
    for (key, value) in lines.iter().flat_map(|line| line.as_object().unwrap()) {
        assert!(known.contains(&key.as_str()), "{key}");
        for entry in value.as_array().unwrap() {
            let needed: &[&str] = match key.as_str() {
                "vertexes" => &["digest", "name"],
                "statuses" => &["id", "vertex", "current", "timestamp", "started"],
                "logs" => &["vertex", "stream", "data", "timestamp"],
                _ => &["vertex", "level", "short"],
            };
            assert!(needed.iter().all(|field| entry.get(field).is_some()), "{entry}");
            for time in ["started", "completed", "timestamp"] {
                if let Some(time) = entry.get(time) {
                    time.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
                }
            }
        }
    }
    lines
}

/// Returns all entries of one kind.
fn all<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter_map(|line| line[kind].as_array()).flatten().collect()
}

/// The words that choose, and the variable behind them.
#[test]
fn what_is_shown_is_chosen() {
    run_as(Who::Root, |env| {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo he''llo\n");
        let args = |how: &'static str| ["build", "--no-cache", "--network", "none", how, ctx.path()];
        let variable = |value: &str| env.rbuild(&args("--label=a=b")).var("BUILDKIT_PROGRESS", value);
        let plain = env.rbuild(&args("--progress=auto")).ok().has_all(&["Step 2/2", "\nhello\n"]);
        assert!(plain.stderr.is_empty(), "{plain}");
        env.rbuild(&args("--progress=none")).ok().prints("");
        let quiet = variable("quiet").ok();
        assert!(quiet.stdout.starts_with("sha256:") && quiet.stderr.is_empty(), "{quiet}");
        variable("rawjson").ok().has("\"vertexes\"");
        variable("loud").exits(2).has("BUILDKIT_PROGRESS is `loud`");
        env.rbuild(&args("--progress=plain")).var("BUILDKIT_PROGRESS", "loud").ok().has("Step 2/2");
        env.rbuild(&args("--progress=tty")).exits(2).has("standard error is not a terminal");
        // On a terminal that can but write, the classic lines.
        let line =
            format!("TERM=dumb; export TERM; {}", line(env, 80, 24, &args("--progress=auto").join(" ")));
        let dumb = env.program("script", &["-qec", &line, "/dev/null"]).ok().has("Step 2/2");
        assert_eq!(frames(&dumb), 0);
        // What standard output is for stays on it: results.
        let words = format!("{} > {}/out", args("--progress=auto").join(" "), env.tmp().display());
        let shown = seen(&in_terminal(env, 80, 24, &words).ok(), 80, 24).lines().join("\n");
        assert!(shown.contains("✓ 2/2 RUN") && !shown.contains("Successfully built"), "{shown}");
        let out = fs::read_to_string(env.tmp().join("out")).unwrap();
        assert!(out.starts_with("Successfully built ") && out.lines().count() == 1, "{out}");
    });
}

/// Bytes on a terminal, lines in a pipe.
#[test]
fn pulls_and_loads_show_bytes() {
    run_as(Who::Root, |env| {
        let image = Image::of(&[layer("a", 3_000_000, 1), layer("b", 1_000, 2)]);
        let short: Vec<String> = (0..2).map(|n| image.layer_digest(n)[7..19].to_owned()).collect();
        let server = image.serve(|_| None);
        let name = format!("{}/app", server.host());
        let pull = |words: &str| {
            let outcome = in_terminal(env, 80, 24, &format!("{words} {name}"));
            (seen(&outcome, 80, 24).lines(), outcome)
        };
        let (lines, _) = pull("pull");
        let complete = |short: &String| format!("{short}: Pull complete");
        let at =
            |text: &str| lines.iter().position(|line| line == text).unwrap_or_else(|| panic!("{lines:#?}"));
        assert!(at("Using default tag: latest") < at(&complete(&short[0])), "{lines:#?}");
        assert_eq!(lines.last().unwrap(), &format!("{name}:latest"));
        assert!(!lines.iter().any(|line| line.starts_with('>')), "{lines:#?}");
        env.rbuild(&["rmi", &name]).ok();
        let piped = env.rbuild(&["pull", &name]).ok();
        let in_pipe: Vec<&str> = piped.stdout.lines().collect();
        assert_eq!(lines, in_pipe, "the same lines stay");
        assert!(piped.stderr.is_empty(), "{piped}");

        env.rbuild(&["save", "-o", &format!("{}/a.tar", env.tmp().display()), &name]).ok();
        env.rbuild(&["rmi", &name]).ok();
        let outcome = in_terminal(env, 80, 24, &format!("load -i {}/a.tar", env.tmp().display())).ok();
        let lines = seen(&outcome, 80, 24).lines();
        assert_eq!(lines.iter().filter(|line| line.contains(": Loaded layer ")).count(), 2, "{lines:#?}");
        assert!(lines.last().unwrap().starts_with("Loaded image: "), "{lines:#?}");

        // `run` of what is not here.
        env.rbuild(&["rmi", &name]).ok();
        let (lines, _) = pull("run --rm");
        assert!(lines.iter().any(|line| *line == complete(&short[0])), "{lines:#?}");
    });
}

/// What a build writes and fetches shows its bytes on a terminal; a push does.
#[test]
fn exports_fetches_and_pushes_show_bytes() {
    run_as(Who::Root, |env| {
        let body = super::common::script::noise(3_000_000, 3);
        let web = super::common::http::Files::start(&[("/large", &body)]);
        let registry = super::common::registry::Registry::plain();
        let ctx = env.dockerfile(&format!("FROM scratch\nADD {} /f\n", web.url("/large")));
        let tags =
            format!("-t {0} --push --cache-to type=registry,ref={0}-cache,mode=max", registry.name("app"));
        let tar = env.tmp().join("i.tar");
        let words = format!("build {tags} -o type=oci,dest={} {}", tar.display(), ctx.path());
        let screen = in_terminal(env, 100, 24, &words).ok();
        let drawn = |text: &str| assert!(screen.stdout.contains(text), "{text}: {screen}");
        // The frames are ten a second; what is quicker than that leaves none. The end is always there.
        let lines = seen(&screen, 100, 24).lines();
        assert!(!lines.iter().any(|line| line.starts_with('>')), "{lines:#?}");
        drawn("exporting cache to ");
        // Programs are told of every one of them, whole.
        let words = ["build", "--no-cache", "--progress", "rawjson", "-o"];
        let oci = format!("type=oci,dest={}", tar.display());
        let cache = format!("type=local,dest={}", env.tmp().join("cache").display());
        let other = env.dockerfile(&format!("FROM scratch\nADD {} /g\n", web.url("/large")));
        web.put("/large", &super::common::script::noise(3_000_000, 4));
        let json = env.rbuild(&words).args(&[&oci, "--cache-to", &cache, other.path()]).ok();
        let lines = parsed(&json);
        let moved = |name: &str| {
            let vertex =
                all(&lines, "vertexes").into_iter().rfind(|v| v["name"].as_str().unwrap().starts_with(name));
            let vertex = vertex.unwrap_or_else(|| panic!("no vertex {name}: {json}"));
            assert!(vertex["completed"].is_string(), "{vertex}");
            let statuses = all(&lines, "statuses").into_iter().filter(|s| s["vertex"] == vertex["digest"]);
            statuses.map(|s| s["current"].as_u64().unwrap()).max().unwrap()
        };
        assert_eq!(moved("fetch http://"), 3_000_000);
        assert!(moved("write ") > 3_000_000);
        assert!(moved("cache layer ") > 2_900_000);
        // And of what a cache of elsewhere brings.
        let fresh = env.sharing_store();
        let root = fresh.path_str("store");
        let from = format!("type=local,src={}", env.tmp().join("cache").display());
        let words = ["--root", &root, "build", "--progress", "rawjson", "--cache-from", &from, other.path()];
        let brought = env.rbuild(&words).ok();
        let lines = parsed(&brought);
        let names = all(&lines, "vertexes").into_iter().map(|v| v["name"].as_str().unwrap());
        assert!(names.clone().any(|name| name.starts_with("cached layer ")), "{brought}");
    });
}

/// What is wrong before anything begins is told to programs as everything else.
#[test]
fn raw_json_of_what_never_began() {
    run_as(Who::Root, |env| {
        let ctx = env.dockerfile("FROM scratch AS Stage\nCOPY Dockerfile /\n");
        let build =
            |more: &[&str]| env.rbuild(&["build", "--progress", "rawjson"]).args(more).args(&[ctx.path()]);
        let outcome = build(&["-o", "type=nothing"]).exits(2);
        let lines = parsed(&outcome);
        let mut errors = all(&lines, "vertexes").into_iter().filter_map(|v| v["error"].as_str());
        assert!(errors.next_back().unwrap().contains("nothing"), "{outcome}");
        let warned = build(&[]).ok();
        let lines = parsed(&warned);
        let url = all(&lines, "warnings")[0]["url"].as_str().unwrap();
        assert_eq!(url, "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/");
    });
}

/// A terminal that changes its size while a build goes on.
#[test]
fn a_live_terminal_is_resized() {
    run_as(Who::Root, |env| {
        env.busybox();
        let gate = env.path("gate");
        fs::create_dir(&gate).unwrap();
        let ctx = env.dockerfile(
            "FROM busybox:test\nRUN echo fir''st line of output, which is long; while [ ! -e /gate/go ]; do sleep 0.05; done\nRUN echo second\n",
        );
        let words = format!("build --network none -v {}:/gate:ro {}", gate.display(), ctx.path());
        let inside = format!("tty > {}/tty; {}", env.tmp().display(), line(env, 90, 20, &words));
        let job = env.program("script", &["-qec", &inside, "/dev/null"]).spawn();
        job.wait_for("first line of output");
        let tty = fs::read_to_string(env.tmp().join("tty")).unwrap();
        let size = ["-F", tty.trim_end(), "cols", "40", "rows", "8"];
        assert!(std::process::Command::new("stty").args(size).status().unwrap().success());
        // The narrow form of the last line: no words but the numbers.
        job.wait_for("1/3 0 cached");
        fs::write(gate.join("go"), "").unwrap();
        let outcome = job.finish().ok();
        // What was drawn before the first narrow frame was drawn on the wide terminal.
        let narrow = outcome.stdout.find("1/3 0 cached").unwrap();
        let end = outcome.stdout[..narrow].rfind("\x1b[J").unwrap();
        // A frame ends with that control; one with kept lines has it in its middle, too.
        let mut terminal = Terminal::new(90, 20);
        terminal.write(&outcome.stdout.as_bytes()[..end + 3]);
        terminal.resize(40, 8);
        terminal.write(&outcome.stdout.as_bytes()[end + 3..]);
        let lines = terminal.lines();
        let count = |text: &str| lines.iter().filter(|line| line.starts_with(text)).count();
        for text in ["✓ 1/3 FROM", "✓ 2/3 RUN", "✓ 3/3 RUN", "Successfully built"] {
            assert_eq!(count(text), 1, "{text}: {lines:#?}");
        }
        assert_eq!(count("> "), 0, "{lines:#?}");
        assert_eq!(count("   first line"), 0, "{lines:#?}");
    });
}
