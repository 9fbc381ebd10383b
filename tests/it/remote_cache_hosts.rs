//! Two machines that share nothing but a network and a registry: network namespaces with a cable between
//! them, and a store each.
//!
//! Not here: what a cache is and what is believed of it (`remote_cache`).

use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::common::command::Cmd;
use super::common::{TestEnv, Who, not_here};
use super::cookbook::flask;

const REGISTRY: &str = "10.77.0.1:5000";

/// A network namespace of its own, under a name of its own.
struct Host {
    name: String,
}

/// Runs a program and requires that it succeeds.
#[track_caller]
fn ip(words: &str) {
    let done = Command::new("ip").args(words.split_whitespace()).output().unwrap();
    assert!(done.status.success(), "ip {words}: {}", String::from_utf8_lossy(&done.stderr));
}

impl Host {
    fn new(letter: &str) -> Host {
        let host = Host { name: format!("rbuild-{}-{letter}", std::process::id()) };
        ip(&format!("netns add {}", host.name));
        ip(&format!("-n {} link set lo up", host.name));
        host
    }

    fn file(&self) -> String {
        format!("--net=/run/netns/{}", self.name)
    }

    /// Makes a command one of this machine.
    fn run<'e>(&self, command: Cmd<'e>) -> Cmd<'e> {
        command.behind(&["nsenter", &self.file()])
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Its end of the cable goes with it, and the other end with that.
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

/// Two machines with a cable between them: 10.77.0.1 and 10.77.0.2.
fn two_hosts() -> [Host; 2] {
    let hosts = [Host::new("a"), Host::new("b")];
    let [a, b] = &hosts;
    ip(&format!("-n {} link add cable type veth peer name cable netns {}", a.name, b.name));
    for (host, address) in [(a, "10.77.0.1/24"), (b, "10.77.0.2/24")] {
        ip(&format!("-n {} address add {address} dev cable", host.name));
        ip(&format!("-n {} link set cable up", host.name));
    }
    hosts
}

/// A registry that ends with its test.
struct Served(Child);

impl Served {
    fn start(env: &TestEnv, host: &Host) -> Served {
        let folder = env.path_str("registry");
        let config = env.path_str("registry.yml");
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem: {{rootdirectory: {folder}}}\nhttp:\n  addr: {REGISTRY}\n  secret: x\n"
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("nsenter");
        command.args([&host.file(), "docker-registry", "serve", &config]).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = child.stderr.take().unwrap();
        let served = Served(child);
        let started = Instant::now();
        let (mut said, mut piece) = (String::new(), [0; 4096]);
        while !said.contains("listening on") {
            let count = log.read(&mut piece).unwrap();
            said.push_str(&String::from_utf8_lossy(&piece[..count]));
            assert!(count > 0 && started.elapsed() < Duration::from_secs(60), "no registry: {said}");
        }
        // Reads for as long as it runs, since it would wait for a full pipe.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        served
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_second_machine_builds_flask_without_running_a_step() {
    if !rustix::process::geteuid().is_root() {
        return not_here("only root can lay a cable between two network namespaces");
    }
    let Some(env) = flask(Who::Root) else { return };
    // Both have the same base image; nothing else passes between them but through the registry.
    let base = env.path_str("debian.tar");
    let from = env.dockerfile("FROM debian:bookworm\n");
    env.build(&from, &["-o", &format!("type=oci,dest={base}")]);
    let layout = env.path_str("debian");
    fs::create_dir(&layout).unwrap();
    env.program("tar", &["-xf", &base, "-C", &layout]).ok();
    let named = format!("debian:bookworm=oci-layout://{layout}");
    let settings = env.path_str("daemon.json");
    fs::write(&settings, format!(r#"{{"insecure-registries": ["{REGISTRY}"]}}"#)).unwrap();

    let [a, b] = two_hosts();
    let _registry = Served::start(&env, &a);
    let ctx = env.context().testdata("flask");
    let ca = super::common::base::ca_cert_args();
    let build = |host: &Host, store: &str, cache: &[&str]| {
        let common = ["build", "--root", store, "--daemon-json", &settings, "--build-context", &named];
        let ca: Vec<&str> = ca.iter().map(String::as_str).collect();
        host.run(env.rbuild(&[&common[..], &ca, cache, &["-t", "flask", ctx.path()]].concat())).ok()
    };
    let cache = format!("type=registry,ref={REGISTRY}/cache/flask,mode=max");
    let first = build(&a, env.store().to_str().unwrap(), &["--cache-to", &cache]);

    let second_store = env.path_str("second");
    let cache = format!("type=registry,ref={REGISTRY}/cache/flask");
    let second = build(&b, &second_store, &["--cache-from", &cache]);
    let steps = second.both.matches(&format!(" ---> Using cache of {REGISTRY}/cache/flask")).count();
    assert_eq!(steps, 5, "four of RUN, one of ADD: {second}");
    assert_eq!(first.built(), second.built());
    b.run(env.rbuild(&[
        "run",
        "--root",
        &second_store,
        "--network=none",
        "flask",
        "python3",
        "-c",
        "import flask; print('imported')",
    ]))
    .ok()
    .has("imported");
}
