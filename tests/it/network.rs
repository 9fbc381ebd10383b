//! Networks as people have them: proxies, DNS, servers that fail for a while, steps that hang.
//!
//! Nothing here leaves the machine: hosts of the world are names that a proxy of the test knows.

use std::fs;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::common::TestEnv;
use super::common::command::Cmd;
use super::common::git::GitHost;
use super::common::http::{Answer, Server};
use super::common::proxy::Proxy;
use super::common::script::{Image, layer};
use super::remote::{kit, nowhere_in};

const PASSWORD: &str = "hushhush";

/// Writes docker's config.json, and returns the folder for DOCKER_CONFIG.
fn docker_config(env: &TestEnv, text: &str) -> String {
    let file = env.path("config.json");
    fs::write(&file, text).unwrap();
    file.parent().unwrap().to_str().unwrap().to_owned()
}

/// A server of a host of the world that speaks TLS; with the file of its authority.
fn https(env: &TestEnv, name: &str, body: &'static str) -> (Server, String) {
    let server = Server::start_tls(name, move |_| Answer::ok(body));
    let ca = env.path("ca.pem");
    fs::write(&ca, server.ca_pem.as_deref().unwrap()).unwrap();
    (server, ca.to_str().unwrap().to_owned())
}

both! {
    /// Whichever way a proxy is named, what is fetched goes through it, and once.
    fn what_is_fetched_goes_through_the_proxy(env) {
        let (server, ca) = https(env, "web.test", "through");
        let proxy = Proxy::start(&[("web.test:443", &server.host())]);
        let with_password = proxy.url().replace("://", &format!("://me:{PASSWORD}@"));
        let ctx = env.dockerfile("FROM scratch\nADD https://web.test/f /f\n");
        let build = |more: &[&str]| {
            env.rbuild(&["build", "--no-cache", "--retry", "0", "--ca-cert", &ca]).args(more).args(&[ctx.path()])
        };
        let none = docker_config(env, "{}");
        let docker = docker_config(env, &format!(r#"{{"proxies":{{"default":{{"httpsProxy":"{with_password}"}}}}}}"#));
        let mut asked = 0;
        let mut passes = |command: Cmd<'_>| {
            let outcome = command.ok().lacks(PASSWORD);
            asked += 1;
            assert_eq!(proxy.seen().len(), asked, "{outcome}");
        };
        passes(build(&[]).var("HTTPS_PROXY", &with_password));
        passes(build(&[]).var("https_proxy", &with_password));
        passes(build(&[]).var("ALL_PROXY", &with_password));
        passes(build(&[]).var("DOCKER_CONFIG", &docker));
        passes(build(&["--proxy", &with_password]).var("HTTPS_PROXY", "http://192.0.2.1:1"));
        // What is not to go through it, does not, and the error says which way was tried.
        let direct = |command: Cmd<'_>| {
            let count = proxy.seen().len();
            command.var("DOCKER_CONFIG", &none).exits(1).has("web.test").lacks(PASSWORD).lacks("through the proxy");
            assert_eq!(proxy.seen().len(), count);
        };
        for exception in ["web.test", ".test", "*", "web.test:443", "a,*.test"] {
            direct(build(&[]).var("HTTPS_PROXY", &with_password).var("NO_PROXY", exception));
        }
        direct(build(&["--proxy", "none"]).var("HTTPS_PROXY", &with_password));
        // git, too, whose requests of http are no tunnels.
        let git = GitHost::start();
        kit(&git);
        let at = git.url("").trim_start_matches("http://").trim_end_matches('/').to_owned();
        let named = Proxy::start(&[("git.test:80", &at)]);
        let clone = env.dockerfile("FROM scratch\nADD http://git.test/kit.git#light /kit\n");
        let open = named.url().replace("://", &format!("://me:{PASSWORD}@"));
        let docker = docker_config(env, &format!(r#"{{"proxies":{{"default":{{"httpProxy":"{open}"}}}}}}"#));
        env.rbuild(&["build", clone.path()]).var("DOCKER_CONFIG", &docker).ok().lacks(PASSWORD);
        assert!(!named.seen().is_empty());
        let other = env.dockerfile("FROM scratch\nADD https://other.test/f /f\n");
        let outcome = env.try_build(&other, &["--retry", "0", "--proxy", &with_password]).exits(1);
        outcome.has_all(&["other.test", &format!("through the proxy `{}", proxy.url())]).lacks(PASSWORD);
        env.try_build(&other, &["--proxy", &format!("ftp://me:{PASSWORD}@h")]).exits(2).has("bad --proxy").lacks(PASSWORD);
        nowhere_in(env.store(), PASSWORD);
    }

    /// docker's config.json gives RUN steps their proxies; neither image nor key knows of them.
    fn run_steps_get_the_proxies_of_dockers_config(env) {
        env.busybox();
        let proxies = |host: &str| format!(
            r#"{{"proxies":{{"default":{{"httpProxy":"http://me:{PASSWORD}@{host}:3128","noProxy":"a,b"}},
                "tcp://d:2375":{{"httpProxy":"http://me:{PASSWORD}@of-host:1","ftpProxy":"http://ftp:1"}}}}}}"#
        );
        let one = docker_config(env, &proxies("one"));
        let two = docker_config(env, &proxies("two"));
        let ctx = env.dockerfile(
            "FROM busybox:test\nRUN echo \"<${HTTP_PROXY##*@}|${http_proxy##*@}|$no_proxy|$ftp_proxy|${https_proxy##*@}>\"\n",
        );
        let build = |more: &[&str]| {
            env.rbuild(&["build", "--network", "none", "-t", "app"]).args(more).args(&[ctx.path()])
        };
        build(&[]).var("DOCKER_CONFIG", &one).ok().has("<one:3128|one:3128|a,b||>").lacks(PASSWORD);
        let again = build(&[]).var("DOCKER_CONFIG", &two).ok();
        assert_eq!(again.cached(), 1, "{again}");
        let fresh = |more: &[&str]| build(&[&["--no-cache"], more].concat()).var("DOCKER_CONFIG", &one);
        fresh(&[]).var("DOCKER_HOST", "tcp://d:2375").ok().has("<of-host:1|of-host:1||http://ftp:1|>");
        fresh(&["--build-arg", "HTTP_PROXY=http://given"]).ok().has("<http://given|http://given|a,b||>");
        fresh(&["--build-arg", "http_proxy="]).ok().has("<||a,b||>");
        fresh(&["--proxy", "none"]).ok().has("<||||>");
        fresh(&["--proxy", "env"]).var("HTTPS_PROXY", &format!("http://me:{PASSWORD}@own")).ok().has("<||||own>");
        fresh(&["--proxy", "p.test:8080"]).ok().has("<p.test:8080|p.test:8080|a,b||p.test:8080>");
        let config = env.inspect("app").to_string();
        assert!(!config.to_ascii_lowercase().contains("proxy=") && !config.contains(PASSWORD), "{config}");
        env.rbuild(&["history", "--no-trunc", "app"]).ok().lacks(PASSWORD);
        nowhere_in(env.store(), PASSWORD);
        // A file that is none is no reason not to build.
        let broken = docker_config(env, "{");
        build(&[]).var("DOCKER_CONFIG", &broken).ok().has("warning: no proxies for RUN steps");
    }

    /// The loopback of this machine is not that of a step; that is said, once, and only where it is so.
    fn a_proxy_on_the_loopback_is_warned_of(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo a\nRUN echo b\n");
        let proxy = format!("HTTP_PROXY=http://me:{PASSWORD}@127.0.0.1:3128");
        let build = |more: &[&str]| env.build(&ctx, &[&["--no-cache", "--build-arg", &proxy], more].concat());
        let warned = build(&[]).has_all(&["the proxy http://127.0.0.1:3128 is on the loopback", "--network host"]);
        assert_eq!(format!("{warned}").matches("on the loopback").count(), 1, "{warned}");
        build(&["--network", "host"]).lacks("on the loopback");
        build(&["--network", "none"]).lacks("on the loopback");
        env.build(&ctx, &["--no-cache", "--build-arg", "HTTP_PROXY=http://p:1"]).lacks("on the loopback");
        nowhere_in(env.store(), PASSWORD);
    }

    /// What stands in resolv.conf, and that nothing of it is in a layer or a key.
    fn dns_of_run_steps(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN cat /etc/resolv.conf\n");
        let dns = ["--dns", "192.0.2.7", "--dns", "2001:db8::7", "--dns-search", "a.test", "--dns-option", "ndots:3"];
        let file = "nameserver 192.0.2.7\nnameserver 2001:db8::7\nsearch a.test\noptions ndots:3\n";
        let build = |more: &[&str]| env.build(&ctx, &[&["-t", "app"], more].concat());
        build(&dns).has(file);
        let cached = build(&[]);
        assert_eq!(cached.cached(), 1, "{cached}");
        build(&[&["--no-cache", "--network", "host"][..], &dns].concat()).has(file);
        build(&["--no-cache"]).has("nameserver 10.0.2.3\n");
        build(&["--no-cache", "--dns-search", "."]).has("nameserver 10.0.2.3\n").lacks("search");
        let none = build(&["--no-cache", "--network", "none", "--dns", "192.0.2.7"]);
        none.has("have no effect").lacks("nameserver");
        build(&["--no-cache", "--dns", "127.0.0.53"]).has("127.0.0.53 of --dns is on the loopback");
        env.try_build(&ctx, &["--dns", "localhost"]).exits(2).has("bad --dns `localhost`");
        env.try_build(&ctx, &["--dns-option", "a\nnameserver 1.1.1.1"]).exits(2).has("bad --dns-option");
        let paths = env.export(&ctx, &dns).last_paths();
        assert!(!paths.iter().any(|path| path.contains("resolv.conf")), "{paths:?}");
    }

    /// A server that is asked for a while and then answers; one that never does.
    fn what_fails_for_a_while_is_tried_again(env) {
        let count = AtomicUsize::new(0);
        let server = Server::start(move |asked| match asked.target.as_str() {
            "/never" => Answer::status(503),
            _ if count.fetch_add(1, Ordering::SeqCst) < 2 => Answer::status(502),
            _ => Answer::ok("here"),
        });
        let build = |path: &str, more: &[&str]| {
            let ctx = env.dockerfile(&format!("FROM scratch\nADD {} /f\n", server.url(path)));
            env.try_build(&ctx, &[&["--retry-delay", "10ms"], more].concat())
        };
        let outcome = build("/f", &[]).ok();
        outcome.has_all(&["retry 1 of 3 in 10ms: cannot fetch", "502 (bad gateway)", "retry 2 of 3 in 20ms: "]);
        let outcome = build("/never", &["--retry", "1"]).exits(1);
        outcome.has_all(&["retry 1 of 1 in 10ms: ", "503 (unavailable), tried 2 times"]).lacks("retry 2");
        build("/never", &["--retry", "0"]).exits(1).has("503 (unavailable)").lacks("retry").lacks("tried");
        build("/never", &["--retry", "1", "-q"]).exits(1).lacks("retry 1").has("tried 2 times");
        let text = env.try_build(&env.dockerfile("FROM scratch\n"), &["--retry", "x"]).exits(2);
        text.has("--retry");
    }

    /// Registries, both ways.
    fn registries_are_tried_again(env) {
        let image = Image::of(&[layer("a", 100, 1)]);
        let count = AtomicUsize::new(0);
        let server = image.serve(move |asked| {
            let first = asked.target.contains("/manifests/") && count.fetch_add(1, Ordering::SeqCst) == 0;
            (first || asked.method == "PUT").then(|| Answer::status(503))
        });
        let name = format!("{}/app", server.host());
        let outcome = env.rbuild(&["pull", "--retry-delay", "10ms", &name]).ok();
        assert!(outcome.stderr.starts_with("retry 1 of 3 in 10ms: ") && outcome.stderr.contains("503"), "{outcome}");
        assert!(!outcome.stdout.contains("retry"), "{outcome}");
        env.rbuild(&["tag", &name, &format!("{}/b", server.host())]).ok();
        let push = env.rbuild(&["push", "--retry", "2", "--retry-delay", "10ms", &format!("{}/b", server.host())]);
        push.exits(1).has_all(&["retry 2 of 2 in 20ms: ", "tried 3 times"]).lacks("retry 3");
    }

    /// A step that takes too long is stopped with all it started.
    fn a_step_that_takes_too_long_is_stopped(env) {
        env.busybox();
        let mark = format!("{}.{}", 90_000 + std::process::id() % 9000, env.dir().file_name().unwrap().to_str().unwrap());
        let ctx = env.dockerfile(&format!(
            "FROM busybox:test\nRUN echo begun; (sleep {mark} & setsid sleep {mark} &); sleep {mark}\n"
        ));
        let args = ["--network", "none", "--step-timeout", "1s"];
        let outcome = env.try_build(&ctx, &args).exits(1);
        outcome.has_all(&["begun", "was stopped: it was not done after 1s", "Dockerfile:2", "--step-timeout"]);
        let left = fs::read_dir("/proc").unwrap().flatten().filter(|process| {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).split('\0').eq(["sleep", &mark, ""])
        });
        assert_eq!(left.count(), 0, "processes of the step are left");
        // One that never falls silent, too; and the limit is in no key.
        let flood = env.dockerfile("FROM busybox:test\nRUN while :; do echo x; done\n");
        env.try_build(&flood, &[&args[..], &["-q"]].concat()).exits(1).has("not done after 1s");
        let quick = env.dockerfile("FROM busybox:test\nRUN echo quick\n");
        env.build(&quick, &args);
        assert_eq!(env.build(&quick, &["--network", "none"]).cached(), 1);
        env.try_build(&quick, &["--step-timeout", "soon"]).exits(2).has("bad --step-timeout `soon`");
    }
}

/// Answers each question for an A record with 192.0.2.99, until it is dropped.
struct Resolver {
    address: &'static str,
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    asked: std::sync::Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Resolver {
    fn start(address: &'static str) -> Resolver {
        let socket = UdpSocket::bind((address, 53)).unwrap();
        let (stop, asked) =
            <(std::sync::Arc<std::sync::atomic::AtomicBool>, std::sync::Arc<AtomicUsize>)>::default();
        let (over, count) = (stop.clone(), asked.clone());
        let thread = std::thread::spawn(move || {
            let mut buffer = [0u8; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let question = &buffer[..length];
                count.fetch_add(1, Ordering::SeqCst);
                // RFC 1035: the header's flags and counts, the question again, one answer to it.
                let is_a = question[length - 4..length - 2] == [0, 1];
                let mut answer = question.to_vec();
                answer[2..4].copy_from_slice(&[0x81, 0x80]);
                answer[7] = u8::from(is_a);
                if is_a {
                    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 99]);
                }
                let _ = socket.send_to(&answer, from);
            }
        });
        Resolver { address, stop, asked, thread: Some(thread) }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that receives.
        let _ = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"end", (self.address, 53)));
        self.thread.take().map(|thread| thread.join());
    }
}

/// A server that `--dns` names is the one that a step asks.
#[test]
fn names_are_looked_up_where_dns_says() {
    super::common::env::run_as(super::common::Who::Root, |env| {
        env.busybox();
        let resolver = Resolver::start("127.53.77.1");
        let ctx = env.dockerfile("FROM busybox:test\nRUN nslookup some.name.test\n");
        env.build(&ctx, &["--network", "host", "--dns", resolver.address]).has("192.0.2.99");
        assert!(resolver.asked.load(Ordering::SeqCst) > 0);
    });
}

/// Without a word, a step on the network of the host has the host's own file.
#[test]
fn the_resolver_of_the_host_is_used_on_its_network() {
    super::common::env::run_as(super::common::Who::Root, |env| {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN cat /etc/resolv.conf\n");
        let own = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let shown = env.build(&ctx, &["--network", "host"]);
        assert!(own.is_empty() || shown.stdout.contains(own.trim_end()), "{shown}");
    });
}
