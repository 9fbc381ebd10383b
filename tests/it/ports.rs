//! Containers and the network: published ports, who reaches whom, names; and what `run` says of limits and rights.
//!
//! Ports are published on the loopback, or in a network namespace of the test's own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::common::{Outcome, TestEnv, Who};

/// Answers each connection with a page.
const SERVER: &str = "mkdir /www; echo Hello World > /www/hi; exec httpd -f -p 80 -h /www";

/// Asks for a page until there is one.
fn page(port: u16) -> String {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let mut text = String::new();
        if let Ok(mut peer) = TcpStream::connect(("127.0.0.1", port)) {
            let _ = peer.write_all(b"GET /hi HTTP/1.0\r\n\r\n");
            let _ = peer.read_to_string(&mut text);
        }
        if text.contains("Hello") {
            return text;
        }
        assert!(Instant::now() < end, "no answer at {port}: {text}");
        std::thread::yield_now();
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Runs a script with `rbuild` in a network of its own, whose default route leads nowhere.
fn in_a_network(env: &TestEnv, script: &str) -> Outcome {
    let exe = env.exe();
    let script = format!(
        "ip link set lo up; ip address add 198.51.100.7/32 dev lo; ip route add default dev lo src 198.51.100.7; \
         rbuild() {{ {} \"$@\"; }}; {script}",
        exe.display()
    );
    let words = ["-n", "-m", "sh", "-ec", &script];
    match env.who {
        Who::Root => env.program("unshare", &words).output(),
        Who::User => {
            env.program("unshare", &["--user", "--map-root-user", "--map-auto"]).args(&words).output()
        }
    }
}

both! {
    fn a_port_that_is_taken_is_said_in_dockers_words(env) {
        env.busybox();
        let port = free_port();
        let publish = format!("127.0.0.1:{port}:80");
        env.rbuild(&["run", "-d", "--name", "web", "-p", &publish, "busybox:test", "sh", "-c", SERVER]).ok();
        assert!(page(port).contains("Hello World"));
        // Whoever comes second is told in docker's words, and nothing of it runs.
        let second = env.rbuild(&["run", "--name", "second", "-p", &publish, "busybox:test", "echo", "ran"]).exits(125);
        let words = format!(
            "driver failed programming external connectivity on endpoint second: Bind for 127.0.0.1:{port} failed: port is \
             already allocated"
        );
        second.has(&words).lacks("ran\n");
        env.rbuild(&["stop", "-t", "0", "web"]).ok();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the port is free with its container");
        env.rbuild(&["rm", "second"]).ok();
        env.rbuild(&["rm", "web"]).ok();
    }

    /// What its policy starts again keeps all its ports; `restart` binds those that were named once more.
    fn a_container_that_starts_again_has_its_ports_again(env) {
        env.busybox();
        let port = free_port();
        let publish = format!("127.0.0.1:{port}:80");
        let options = ["--restart", "always", "-p", &publish, "-p", "127.0.0.1::81"];
        let command = ["--name", "web", "busybox:test", "sh", "-c", SERVER];
        env.rbuild(&[&["run", "-d"], &options[..], &command].concat()).ok();
        assert!(page(port).contains("Hello World"));
        let ports = env.rbuild(&["port", "web"]).ok().stdout;
        let show = |what: &str| env.rbuild(&["inspect", "-f", what, "web"]).ok().stdout.trim().to_owned();
        let first = Pid::from_raw(show("{{.State.Pid}}").parse().unwrap()).unwrap();
        rustix::process::kill_process(first, Signal::KILL).unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        while show("{{.RestartCount}} {{.State.Status}}") != "1 running" {
            assert!(Instant::now() < end, "it is not started again");
            std::thread::yield_now();
        }
        assert!(page(port).contains("Hello World"));
        assert_eq!(env.rbuild(&["port", "web"]).ok().stdout, ports);
        env.rbuild(&["restart", "-t", "0", "web"]).ok();
        assert!(page(port).contains("Hello World"));
        env.rbuild(&["rm", "-f", "web"]).ok();
    }

    /// One publishes a port, the other reaches it at the address of the machine.
    fn two_containers_talk(env) {
        env.busybox();
        let script = format!(
            "rbuild run -d --name first -p 8000:80 busybox:test sh -c '{SERVER}'; \
             rbuild run --rm --add-host first:host-gateway busybox:test sh -c \
             'cat /etc/hosts; until echo GET /hi HTTP/1.0 | nc -w 5 198.51.100.7 8000 | grep Hello; do :; done'; \
             rbuild rm -f first"
        );
        in_a_network(env, &script).ok().has_all(&["Hello World", "198.51.100.7\tfirst"]);
    }

    fn names_of_a_container(env) {
        env.busybox();
        let show = ["busybox:test", "sh", "-c", "hostname; cat /etc/hosts /etc/resolv.conf"];
        let options = ["--network", "none", "-h", "box", "--add-host", "db:10.1.2.3", "--dns", "192.0.2.9", "--dns-search", "x.example"];
        let outcome = env.run(&[&options[..], &show].concat()).ok();
        outcome.has_all(&["box\n", "10.1.2.3\tdb\n", "nameserver 192.0.2.9\n", "search x.example\n"]);
        env.run(&["--link", "db", "busybox:test"]).exits(125).has("--add-host db:host-gateway");
        env.run(&["--network", "mine", "busybox:test"]).exits(125).has("network mine not found");
        env.run(&["--network", "none", "-p", "127.0.0.1:1:1", "busybox:test", "true"]).ok().has("Published ports are discarded");
        env.run(&["--network", "container:nobody", "busybox:test", "true"]).exits(125).has("nobody");
    }

    fn proxies_of_dockers_settings(env) {
        env.busybox();
        let config = env.context().file("config.json", r#"{"proxies": {"default": {"httpProxy": "http://p.example:1"}}}"#);
        let words = ["run", "--rm", "--network", "none", "-e", "http_proxy=own", "busybox:test", "env"];
        let outcome = env.rbuild(&words).var("DOCKER_CONFIG", config.path()).ok();
        outcome.has_all(&["HTTP_PROXY=http://p.example:1\n", "http_proxy=own\n"]);
    }

    fn rights_and_files(env) {
        env.busybox();
        let run = |options: &[&str], script: &str| {
            let base = ["--network", "none"];
            env.run(&[&base[..], options, &["busybox:test", "sh", "-c", script]].concat())
        };
        run(&["--cap-drop", "ALL"], "grep CapBnd /proc/self/status").ok().has("\t0000000000000000\n");
        run(&["--cap-add", "NO_SUCH"], "true").exits(125).has("unknown capability: \"CAP_NO_SUCH\"");
        run(&["--security-opt", "no-new-privileges"], "grep NoNewPrivs /proc/self/status").ok().has("\t1\n");
        run(&["--privileged=true"], "grep Seccomp: /proc/self/status").ok().has("\t0\n");
        run(&["--read-only", "--tmpfs", "/tmp"], "touch /tmp/f && ! touch /x").ok().has("Read-only file system");
        run(&["--device", "/dev/null:/dev/mine"], "echo x > /dev/mine; test -c /dev/mine").ok();
        run(&["--shm-size", "3m"], "grep ' /dev/shm ' /proc/self/mountinfo").ok().has("size=3072k");
        run(&["--ulimit", "nofile=100:200"], "ulimit -n; ulimit -Hn").ok().prints("100\n200\n");
        run(&["--group-add", "7"], "id -G").ok().has("7");
        run(&["--sysctl", "net.ipv4.ip_unprivileged_port_start=5"], "cat /proc/sys/net/ipv4/ip_unprivileged_port_start").ok().prints("5\n");
        run(&["--pid", "host"], "true").exits(125).has("--pid=host is not supported");
        run(&["--oom-kill-disable"], "true").ok().has("has no effect");
        run(&["--isolation", "hyperv"], "true").exits(125).has("`hyperv` does not exist on Linux");
        run(&["--isolation", "default"], "true").ok();
    }

    /// The names that docker writes, and glibc's and musl's programs look for.
    fn names_of_addresses(env) {
        env.busybox();
        let hosts = env.run(&["--network", "none", "busybox:test", "cat", "/etc/hosts"]).ok();
        hosts.has_all(&["127.0.0.1\tlocalhost\n", "fe00::0\tip6-localnet\n", "ff00::0\tip6-mcastprefix\n", "ff02::1\tip6-allnodes\n", "ff02::2\tip6-allrouters\n"]);
    }

    fn a_first_process(env) {
        env.busybox();
        let run = |script: &str| env.run(&["--network", "none", "--init", "busybox:test", "sh", "-c", script]);
        assert_ne!(run("echo $$").ok().stdout, "1\n");
        // Whoever looks at the processes sees what it is.
        run("cat /proc/1/comm; tr -d '\\0' </proc/1/cmdline").ok().prints("rbuild-init\nrbuild-init");
        env.run(&["--network", "none", "--init", "--user", "5", "busybox:test", "cat", "/proc/1/comm"]).ok().prints("rbuild-init\n");
        run("exit 6").exits(6);
        env.run(&["--network", "none", "--init", "busybox:test", "no-such-program"]).exits(127);
    }

    fn variables_and_labels_of_files(env) {
        env.busybox();
        let files = env.context().file("env", "# ours\nA=1\nB=2\nHERE\n");
        let file = files.at("env");
        let words = ["run", "--rm", "--network", "none", "--env-file", &file, "-e", "B=3", "busybox:test", "env"];
        let outcome = env.rbuild(&words).var("HERE", "yes").ok();
        outcome.has_all(&["A=1\n", "B=3\n", "HERE=yes\n"]);
    }
}

/// Root's containers share networks; those of an ordinary user are kept apart by user namespaces.
#[test]
fn a_network_that_is_another_containers() {
    fn test(env: &TestEnv) {
        env.busybox();
        env.rbuild(&["run", "-d", "--name", "web", "-h", "web", "busybox:test", "sh", "-c", SERVER]).ok();
        let ask = "until wget -q -O - http://127.0.0.1/hi; do :; done; hostname; cat /etc/hosts";
        let outcome = env.run(&["--network", "container:web", "busybox:test", "sh", "-c", ask]).ok();
        outcome.has_all(&["Hello World\n", "web\n", "10.0.2.100\tweb\n"]);
        env.rbuild(&["stop", "-t", "0", "web"]).ok();
        let outcome = env.run(&["--network", "container:web", "busybox:test", "true"]).exits(125);
        outcome.has("cannot join network of container").has("it does not run");
        env.rbuild(&["rm", "web"]).ok();
    }
    super::common::env::run_as(Who::Root, test);
}
