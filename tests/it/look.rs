//! Looking at containers: `ps`, `logs`, `inspect`, `port`, and what goes when there are too many.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::common::env::is_hex;
use super::common::{TestEnv, Who};

/// An image with labels, a port and a command of its own.
fn app(env: &TestEnv) {
    env.busybox();
    let text = "FROM busybox:test\nLABEL org.team=a tier=web\nEXPOSE 80 53/udp\nENV A=1\nCMD [\"sh\", \"-c\", \"echo up; sleep 86400\"]\n";
    env.build(&env.dockerfile(text), &["-t", "app"]);
}

/// Makes a container; returns its id.
fn create(env: &TestEnv, args: &[&str]) -> String {
    let id = env.rbuild(&["create"]).args(args).ok().stdout.trim().to_owned();
    assert!(is_hex(&id, 64), "{id}");
    id
}

/// Runs a container in the background; returns its id.
fn detached(env: &TestEnv, args: &[&str]) -> String {
    env.rbuild(&["run", "-d"]).args(args).ok().stdout.trim().to_owned()
}

/// Runs a container to its end.
fn ended(env: &TestEnv, name: &str, script: &str) {
    env.rbuild(&["run", "--name", name, "busybox:test", "sh", "-c", script]).output();
}

fn names(env: &TestEnv, args: &[&str]) -> String {
    let shown = env.rbuild(&["ps", "--format", "{{.Names}}"]).args(args).ok();
    shown.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A place that containers see at `/d`, with a pipe in it that opens when the test writes.
struct Gate(PathBuf);

impl Gate {
    fn new(env: &TestEnv) -> Gate {
        let path = env.path("gate");
        fs::create_dir(&path).unwrap();
        env.give(&path);
        Gate(path)
    }

    fn volume(&self) -> String {
        format!("{}:/d", self.0.display())
    }

    /// Lets go on who reads the pipe `name`, made with mkfifo.
    fn open(&self, name: &str) {
        fs::File::options().write(true).open(self.0.join(name)).unwrap().write_all(b"go").unwrap();
    }
}

fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} did not come");
        std::thread::yield_now();
    }
}

/// Who holds a container: the process that has the lock of its directory (proc(5), /proc/locks).
fn supervisor(env: &TestEnv, id: &str) -> i32 {
    use std::os::unix::fs::MetadataExt;
    let lock = env.store().join("v1/containers").join(id).join("lock");
    let meta = fs::metadata(lock).unwrap();
    let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    let file = format!("{major:02x}:{minor:02x}:{}", meta.ino());
    let locks = fs::read_to_string("/proc/locks").unwrap();
    let line = locks.lines().find(|line| line.split_whitespace().any(|word| word == file)).unwrap();
    line.split_whitespace().nth(4).unwrap().parse().unwrap()
}

both! {
    fn containers_are_listed_newest_first(env) {
        app(env);
        env.rbuild(&["ps"]).ok().prints("CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n");
        let first = create(env, &["--name", "first", "app"]);
        ended(env, "second", "exit 3");
        let third = detached(env, &["--name", "third", "app"]);
        assert_eq!(names(env, &[]), "third");
        assert_eq!(names(env, &["-a"]), "third second first");
        assert_eq!((names(env, &["-l"]), names(env, &["-n", "2"])), ("third".into(), "third second".into()));
        env.rbuild(&["ps", "-q"]).ok().prints(&format!("{}\n", &third[..12]));
        env.rbuild(&["container", "ls", "-aq", "--no-trunc", "--filter", "status=created"]).ok().prints(&format!("{first}\n"));
        let all = env.rbuild(&["ps", "-a"]).ok();
        let lines: Vec<Vec<&str>> = all.stdout.lines().map(|l| l.split("  ").map(str::trim).filter(|w| !w.is_empty()).collect()).collect();
        assert_eq!(lines[1][1..3], ["app", "\"sh -c 'echo up; sle…\""], "{all}");
        assert!(lines[1][4].starts_with("Up ") && lines[1][5..] == ["53/udp, 80/tcp", "third"], "{all}");
        assert!(lines[2][4].starts_with("Exited (3) ") && lines[2][4].ends_with(" ago") && lines[3][4] == "Created", "{all}");
        for (filter, expect) in [
            ("name=ir", "third first"),
            ("name=^/?first$", "first"),
            ("status=exited", "second"),
            ("exited=3", "second"),
            ("exited=0", ""),
            ("label=org.team=a", "third first"),
            ("label!=tier", "second"),
            ("ancestor=app", "third first"),
            ("ancestor=busybox:test", "third second first"),
            ("ancestor=nowhere", ""),
            ("before=third", "second first"),
            ("since=first", "third second"),
            ("until=1h", ""),
            ("expose=80", "third"),
            ("publish=80", ""),
            ("health=none", "third second first"),
            ("network=bridge", "third second first"),
            ("is-task=true", ""),
        ] {
            assert_eq!(names(env, &["-a", "--filter", filter]), expect, "{filter}");
        }
        assert_eq!(names(env, &["-a", "-f", &format!("id={}", &first[..5])]), "first");
        for bad in ["nope=1", "status=asleep", "exited=x", "publish=x", "name=["] {
            env.rbuild(&["ps", "--filter", bad]).exits(2);
        }
        env.rbuild(&["ps", "--filter", "before=nobody"]).exits(1).has("No such container: nobody");
        env.rbuild(&["ps", "--format", "{{.Label \"org.team\"}} {{.State}} {{.Networks}}"]).ok().prints("a running bridge\n");
        env.rbuild(&["ps", "--format", "table {{.Names}}\\t{{.Image}}"]).ok().prints("NAMES     IMAGE\nthird     app\n");
        let row: Value = serde_json::from_str(&env.rbuild(&["ps", "--format", "json"]).ok().stdout).unwrap();
        assert_eq!((&row["Labels"], &row["ID"]), (&json!("org.team=a,tier=web"), &json!(third[..12])));
        env.rbuild(&["ps", "-s", "--format", "{{.Size}}"]).ok().has("B (virtual ");
        env.rbuild(&["ps", "--format", "{{json .}}"]).ok().has("B (virtual ");
        assert_eq!(row["Size"], json!("0B"), "as docker's, without -s");
        let ignored = env.rbuild(&["ps", "-q", "--format", "{{.Names}}"]).ok();
        ignored.has("WARNING: Ignoring custom format").prints(&format!("{}\n", &third[..12]));
        // An id is shown as one, however it was written.
        let whole = env.rbuild(&["inspect", "-f", "{{.Image}}", "third"]).ok().stdout.trim().to_owned();
        for (name, called) in [("by-digest", whole.as_str()), ("by-id", &whole["sha256:".len()..][..5])] {
            create(env, &["--name", name, called]);
            let shown = env.rbuild(&["ps", "-l", "--format", "{{.Names}} {{.Image}}"]).ok();
            shown.prints(&format!("{name} {}\n", &whole["sha256:".len()..][..12]));
            env.rbuild(&["rm", name]).ok();
        }
        // The image has another name now, and its own is another's.
        env.rbuild(&["tag", "busybox:test", "app"]).ok();
        let image = env.rbuild(&["inspect", "-f", "{{.Image}}", "third"]).ok();
        env.rbuild(&["ps", "--format", "{{.Image}}"]).ok().prints(&format!("{}\n", &image.stdout["sha256:".len()..][..12]));
        env.rbuild(&["rm", "-f", "third"]).ok();
    }

    fn what_a_container_writes_is_kept(env) {
        env.busybox();
        ended(env, "box", "echo one; echo two >&2; printf '\\377three'; exit 3");
        let shown = env.rbuild(&["logs", "box"]).ok();
        assert_eq!((shown.stdout.as_str(), shown.stderr.as_str()), ("one\n\u{fffd}three", "two\n"));
        let log = fs::read_to_string(log_of(env, "box")).unwrap();
        let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |stream: &str| lines.iter().filter(|line| line["stream"] == stream).map(|line| line["log"].as_str().unwrap()).collect::<Vec<_>>();
        assert_eq!((of("stdout"), of("stderr")), (vec!["one\n", "\u{fffd}three"], vec!["two\n"]), "{log}");
        env.rbuild(&["container", "logs", "--tail", "1", "box"]).ok().lacks("one");
        env.rbuild(&["logs", "-n", "0", "box"]).ok().prints("");
        env.rbuild(&["logs", "--since", "0s", "box"]).ok().prints("");
        env.rbuild(&["logs", "--until", "24h", "box"]).ok().prints("");
        env.rbuild(&["logs", "-f", "--since", "24h", "box"]).ok().has("one\n");
        let stamped = env.rbuild(&["logs", "-t", "--details", "box"]).ok();
        let (time, text) = stamped.stdout.lines().next().unwrap().split_once(' ').unwrap();
        assert_eq!((time.len(), text), ("2026-01-31T12:00:00.000000000Z".len(), " one"), "{stamped}");
        let parsed = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
        assert!(lines.iter().any(|line| parsed(time) == parsed(line["time"].as_str().unwrap())));
        env.rbuild(&["logs", "nobody"]).exits(1).has("No such container: nobody");
        env.rbuild(&["logs", "--tail", "some", "box"]).exits(2);
        // A second start writes on.
        env.rbuild(&["start", "-a", "box"]).output();
        assert_eq!(env.rbuild(&["logs", "box"]).ok().stdout.matches("one\n").count(), 2);
    }

    fn a_name_that_is_no_containers_is_a_builds(env) {
        env.busybox();
        env.build(&env.dockerfile("FROM busybox:test\nRUN echo from-the-build\n"), &[]);
        let build = env.rbuild(&["builds", "-q"]).ok().stdout.trim().to_owned();
        env.rbuild(&["logs", &build]).ok().has("from-the-build");
        env.rbuild(&["logs", "--tail", "1", &build]).exits(2).has("is a build");
        ended(env, &build, "echo from-the-container");
        env.rbuild(&["logs", &build]).ok().has("from-the-container").lacks("from-the-build");
    }

    fn logs_are_followed_to_the_end(env) {
        env.busybox();
        let gate = Gate::new(env);
        let script = "mkfifo /d/p /d/q; echo ready; cat /d/p; i=0; while [ $i -lt 60 ]; do echo line-$i; i=$((i+1)); done; cat /d/q; echo last >&2";
        let options = ["--log-opt", "max-size=500", "--log-opt", "max-file=100"];
        detached(env, &[&options[..], &["--name", "box", "-v", &gate.volume(), "busybox:test", "sh", "-c", script]].concat());
        let all = env.rbuild(&["logs", "-f", "box"]).spawn();
        all.wait_for("ready\n");
        let new = env.rbuild(&["logs", "-f", "--tail", "1", "box"]).spawn();
        // It follows from now on.
        new.wait_for("ready\n");
        gate.open("p");
        all.wait_for("line-59\n");
        new.wait_for("line-59\n");
        gate.open("q");
        let expect: String = (0..60).map(|n| format!("line-{n}\n")).collect();
        let (all, new) = (all.finish().ok(), new.finish().ok());
        assert_eq!((all.stdout, all.stderr), (format!("ready\ngo{expect}go"), "last\n".to_owned()));
        assert_eq!(new.stdout, format!("ready\ngo{expect}go"));
        // In many files, and read from all of them.
        let files = fs::read_dir(log_of(env, "box").parent().unwrap()).unwrap();
        let files = files.filter(|f| f.as_ref().unwrap().file_name().to_string_lossy().starts_with("log.")).count();
        assert!(files > 5, "{files}");
        env.rbuild(&["logs", "box"]).ok().prints(&format!("ready\ngo{expect}go"));
        env.rbuild(&["logs", "--tail", "12", "box"]).ok().has("line-59").lacks("line-48\n");
    }

    fn a_killed_supervisor_ends_what_follows_and_is_told(env) {
        env.busybox();
        let id = detached(env, &["--name", "box", "busybox:test", "sh", "-c", "echo ready; sleep 86400"]);
        let follower = env.rbuild(&["logs", "-f", "box"]).spawn();
        follower.wait_for("ready\n");
        let pid = rustix::process::Pid::from_raw(supervisor(env, &id)).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
        follower.finish().ok().prints("ready\n");
        until("the truth", || names(env, &[]).is_empty());
        env.rbuild(&["ps", "-a", "--format", "{{.State}}: {{.Status}}"]).ok().prints("exited: Exited (137), supervisor killed\n");
        env.rbuild(&["inspect", "-f", "{{.State.ExitCode}} {{.State.Running}} {{.State.Pid}}", "box"]).ok().prints("137 false 0\n");
        env.rbuild(&["container", "prune", "-f"]).ok().has(&format!("Deleted Containers:\n{id}\n"));
        assert_eq!(names(env, &["-a"]), "");
    }

    fn what_is_not_kept_is_not_read(env) {
        env.busybox();
        env.rbuild(&["run", "--name", "box", "--log-driver", "none", "busybox:test", "echo", "hello"]).ok().prints("hello\n");
        env.rbuild(&["logs", "box"]).exits(1).has("configured logging driver does not support reading");
        env.rbuild(&["inspect", "-f", "{{.HostConfig.LogConfig.Type}} {{.LogPath}}", "box"]).ok().prints("none \n");
        env.rbuild(&["run", "--log-driver", "syslog", "busybox:test", "true"]).exits(125).has("no log driver named 'syslog' is here");
        env.rbuild(&["run", "--log-opt", "max-sise=1", "busybox:test", "true"]).exits(125).has("unknown log opt 'max-sise'");
        assert_eq!(names(env, &["-a"]), "box");
    }

    fn a_container_is_inspected(env) {
        app(env);
        let id = create(env, &["--name", "box", "--restart", "on-failure:3", "-v", "/:/host:ro", "-p", "127.0.0.1:8080:80", "app"]);
        let text = env.rbuild(&["inspect", "box"]).ok().stdout;
        let all: Value = serde_json::from_str(&text).unwrap();
        let shown = &all[0];
        for (path, expect) in [
            ("/Id", json!(id)),
            ("/Name", json!("/box")),
            ("/Path", json!("sh")),
            ("/Args", json!(["-c", "echo up; sleep 86400"])),
            ("/State/Status", json!("created")),
            ("/State/StartedAt", json!("0001-01-01T00:00:00Z")),
            ("/HostConfig/RestartPolicy", json!({"Name": "on-failure", "MaximumRetryCount": 3})),
            ("/HostConfig/Binds", json!(["/:/host:ro"])),
            ("/HostConfig/PortBindings", json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]})),
            ("/Mounts/0/Destination", json!("/host")),
            ("/Mounts/0/RW", json!(false)),
            ("/Config/Image", json!("app")),
            ("/Config/Labels", json!({"org.team": "a", "tier": "web"})),
            ("/Config/Hostname", json!(id[..12])),
            ("/NetworkSettings/Ports", json!({})),
        ] {
            assert_eq!(shown.pointer(path), Some(&expect), "{path} of {shown:#}");
        }
        let keys = text.lines().filter_map(|line| Some(line.strip_prefix("        \"")?.split_once('"')?.0));
        assert_eq!(keys.take(6).collect::<Vec<_>>(), ["Id", "Created", "Path", "Args", "State", "Image"]);
        ended(env, "five", "exit 5");
        let ask = |template: &str, name: &str| env.rbuild(&["inspect", "-f", template, name]).ok().stdout;
        assert_eq!(ask("{{.State.ExitCode}} {{.RestartCount}} {{if .State.Health}}x{{end}}", "five"), "5 0 \n");
        assert_eq!(ask("{{json .Config.Cmd}} {{.Config.Healthcheck}}", "five"), "[\"sh\",\"-c\",\"exit 5\"] <nil>\n");
        let fields = ".CapAdd .Dns .Devices .Ulimits .Tmpfs .Sysctls .Init .NanoCpus .IpcMode";
        let all: String = fields.split(' ').map(|name| format!("{{{{.HostConfig{name}}}}} ")).collect();
        assert_eq!(ask(&all, "five"), "[] [] [] [] map[] map[] <nil> 0 private \n");
        assert_eq!(ask("{{.HostConfig.LogConfig.Config}}", "five"), "map[]\n");
        create(env, &["--name", "limited", "--dns", "192.0.2.1", "--ulimit", "nofile=1:2", "--tmpfs", "/t:size=1m", "--cpus", "0.5", "--init", "--stop-signal", "USR1", "busybox:test", "true"]);
        assert_eq!(ask("{{json .HostConfig.Ulimits}}", "limited"), "[{\"Name\":\"nofile\",\"Hard\":2,\"Soft\":1}]\n");
        let asked = "{{.HostConfig.Dns}} {{.HostConfig.Tmpfs}} {{.HostConfig.NanoCpus}} {{.HostConfig.Init}} {{.Config.StopSignal}}";
        assert_eq!(ask(asked, "limited"), "[192.0.2.1] map[/t:size=1m] 500000000 true USR1\n");
        env.rbuild(&["inspect", "-f", "{{.Config.Nope}}", "five"]).exits(1).has("map has no entry for key \"Nope\"");
        assert_eq!(ask("{{range $k, $v := .HostConfig.PortBindings}}{{$k}}={{(index $v 0).HostPort}}{{end}}", &id[..12]), "80/tcp=8080\n");
        // The container of this name comes first; a type is held to.
        create(env, &["--name", "app", "busybox:test", "true"]);
        assert_eq!(ask("{{.Name}}", "app"), "/app\n");
        env.rbuild(&["inspect", "--type", "image", "-f", "{{.RepoTags}}", "app"]).ok().prints("[app:latest]\n");
        env.rbuild(&["image", "inspect", "-f", "{{.RepoTags}}", "app"]).ok().prints("[app:latest]\n");
        env.rbuild(&["container", "inspect", "busybox:test"]).exits(1).has("No such container: busybox:test");
        env.rbuild(&["inspect", "nothing"]).exits(1).has("No such object: nothing");
        env.rbuild(&["inspect", "--type", "what", "app"]).exits(2);
        let both = env.rbuild(&["inspect", "-s", "five", "busybox:test", "nothing"]).exits(1).has("WARNING: --size ignored for image");
        let both: Value = serde_json::from_str(&both.stdout).unwrap();
        assert!(both[0]["SizeRw"].is_u64() && both[1]["RepoTags"] == json!(["busybox:test"]), "{both:#}");
    }

    fn names_change(env) {
        env.busybox();
        let id = create(env, &["--name", "one", "busybox:test", "true"]);
        create(env, &["--name", "two", "busybox:test", "true"]);
        env.rbuild(&["rename", "one", "two"]).exits(1).has("The container name \"/two\" is already in use by container");
        env.rbuild(&["rename", "one", "one"]).exits(1);
        env.rbuild(&["rename", "one", "a b"]).exits(1).has("Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
        env.rbuild(&["container", "rename", &id[..12], "three"]).ok().prints("");
        assert_eq!(names(env, &["-a"]), "two three");
        create(env, &["--name", "one", "busybox:test", "true"]);
        env.rbuild(&["create", "--name", "x", "busybox:test", "true"]).fails().has("Invalid container name (x)");
        let made_up = create(env, &["busybox:test", "true"]);
        let name = env.rbuild(&["inspect", "-f", "{{.Name}}", &made_up]).ok().stdout;
        assert!(name.trim().strip_prefix('/').unwrap().split('_').all(|word| word.len() > 1), "{name}");
        assert_eq!(name.matches('_').count(), 1, "{name}");
    }

    fn those_that_ended_are_pruned(env) {
        app(env);
        ended(env, "old", "echo 12345 > /file");
        create(env, &["--name", "kept", "app"]);
        let running = detached(env, &["--name", "running", "app"]);
        env.rbuild(&["container", "prune"]).stdin("n\n").ok().has("WARNING! This will remove all stopped containers.");
        env.rbuild(&["container", "prune", "-f", "--filter", "until=1h"]).ok().prints("Total reclaimed space: 0B\n");
        env.rbuild(&["container", "prune", "-f", "--filter", "label!=tier"]).ok().has_all(&["Deleted Containers:\n", "Total reclaimed space: "]);
        assert_eq!(names(env, &["-a"]), "running kept");
        env.rbuild(&["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}"]).ok().has("Containers 2 1\n");
        env.rbuild(&["system", "df", "-v"]).ok().has_all(&["Created", "Up ", "running", "kept"]);
        env.rbuild(&["rm", "-f", &running, "kept"]).ok();
        env.rbuild(&["container", "prune"]).args(&["-f"]).ok().prints("Total reclaimed space: 0B\n");
    }
}

/// Where a container's log is.
fn log_of(env: &TestEnv, name: &str) -> PathBuf {
    env.rbuild(&["inspect", "-f", "{{.LogPath}}", name]).ok().stdout.trim().into()
}

/// Every watch of inotify is taken: the log is looked at now and then. Only a user namespace has such a limit of its own.
#[test]
fn logs_are_followed_without_a_watch() {
    fn test(env: &TestEnv) {
        env.busybox();
        let gate = Gate::new(env);
        let script = "mkfifo /d/p; echo ready; cat /d/p; echo last; exit 3";
        detached(env, &["--name", "box", "-v", &gate.volume(), "busybox:test", "sh", "-c", script]);
        let follow = "echo 0 > /proc/sys/user/max_inotify_instances; exec \"$0\" logs -f box";
        let exe = env.exe();
        let words = ["--user", "--map-root-user", "sh", "-ec", follow, exe.to_str().unwrap()];
        let follower = env.program("unshare", &words).spawn();
        follower.wait_for("ready\n");
        gate.open("p");
        follower.finish().ok().prints("ready\ngolast\n");
    }
    super::common::env::run_as(Who::User, test);
}
