//! The server that builds what is pushed: real requests, right and wrong, and what comes of them.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::common::TestEnv;
use super::common::command::Job;
use super::common::git::GitHost;
use super::common::http::{Answer, Server as Web};
use super::common::registry::{Issued, Registry};
use super::hook::Repository;

const SECRET: &str = "a secret that is long enough";
const TOKEN: &str = "0123456789abcdefghijABCDEFGHIJ";
const CONTROL: &str = "CONTROLcontrol0123456789";
const DOCKERFILE: &str = "FROM scratch\nCOPY . /\n";
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(240);

/// A running server.
struct Server {
    job: Job,
    address: String,
}

/// What came back.
#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    fn is(self, status: u16, text: &str) -> Reply {
        assert!(
            self.status == status && (self.head.contains(text) || self.body.contains(text)),
            "{status} {text}: {self:?}"
        );
        self
    }
}

/// Writes a configuration file.
fn config(env: &TestEnv, text: &str) -> PathBuf {
    let path = env.path("serve.toml");
    let data = if text.contains("data = ") { "" } else { "data = \"kept\"\n" };
    fs::write(&path, format!("{data}{text}")).unwrap();
    env.give(&path);
    path
}

fn project(name: &str, repository: &str, more: &str, rules: &str) -> String {
    format!(
        "[[project]]\nname = \"{name}\"\nrepository = \"{repository}\"\nsecret = \"{SECRET}\"\ntoken = \"{TOKEN}\"\n\
         {more}\n{rules}"
    )
}

const MAIN: &str = "[[project.rule]]\nbranch = \"main\"\ntag = \"latest\"\n";

fn start(env: &TestEnv, config: &Path) -> Server {
    let job = env.rbuild(&["serve", "--config", config.to_str().unwrap(), "--listen", "127.0.0.1:0"]).spawn();
    job.wait_for("listening on http");
    let began = Instant::now();
    let address = loop {
        let said = job.said();
        let line = said.split("listening on ").nth(1).and_then(|rest| rest.split_once('\n'));
        if let Some((line, _)) = line {
            break line.split("://").nth(1).unwrap().to_owned();
        }
        assert!(began.elapsed() < PATIENCE, "{said}");
    };
    Server { job, address }
}

impl Server {
    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head += &format!("Host: {}\r\n", self.address);
        }
        if !headers.iter().any(|(name, _)| matches!(*name, "Content-Length" | "Transfer-Encoding")) {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        // A server that has refused already may have closed.
        let _ = stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(body));
        read(&mut stream)
    }

    fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"")
    }

    /// Tells of a push as GitHub does.
    fn push(&self, project: &str, delivery: &str, body: &Value) -> Reply {
        self.signed(project, delivery, "push", body.to_string().as_bytes())
    }

    fn signed(&self, project: &str, delivery: &str, event: &str, body: &[u8]) -> Reply {
        let signature = format!("sha256={}", hmac(SECRET.as_bytes(), body));
        let headers = [
            ("X-Hub-Signature-256", signature.as_str()),
            ("X-GitHub-Event", event),
            ("X-GitHub-Delivery", delivery),
            ("Content-Type", "application/json"),
        ];
        self.send("POST", &format!("/hooks/{project}"), &headers, body)
    }

    fn trigger(&self, project: &str, body: &str) -> Reply {
        self.send("POST", &format!("/trigger/{project}/{TOKEN}"), &[], body.as_bytes())
    }

    fn control(&self, what: &str) -> Reply {
        let bearer = format!("Bearer {CONTROL}");
        self.send("POST", &format!("/api/builds/{what}"), &[("Authorization", &bearer)], b"")
    }

    fn builds(&self) -> Vec<Value> {
        self.get("/api/builds").json()["builds"].as_array().unwrap().clone()
    }

    /// Waits until a build is in one of these states.
    #[track_caller]
    fn wait(&self, id: u64, states: &[&str]) -> Value {
        let began = Instant::now();
        loop {
            let build = self.get(&format!("/api/builds/{id}")).json();
            if states.iter().any(|state| build["state"] == *state) {
                return build;
            }
            let over = ["finished", "failed", "cancelled"].iter().any(|state| build["state"] == *state);
            if over || began.elapsed() > PATIENCE {
                panic!("{states:?} expected: {build}\n{}", self.get(&format!("/builds/{id}/log")).body);
            }
        }
    }

    /// Ends it as a service manager does.
    #[track_caller]
    fn end(self) {
        self.job.signal(Signal::TERM);
        self.job.finish().ok().has("ended; what waited is built after the next start");
    }
}

fn read(stream: &mut impl Read) -> Reply {
    let mut bytes = Vec::new();
    let mut piece = [0; 8192];
    while let Ok(count) = stream.read(&mut piece) {
        if count == 0 {
            break;
        }
        bytes.extend(&piece[..count]);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    let body = match head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        true => unchunked(body),
        false => body.to_owned(),
    };
    Reply { status, head: head.to_owned(), body }
}

fn unchunked(mut rest: &str) -> String {
    let mut text = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || after.len() < size {
            break;
        }
        text += &after[..size];
        rest = after[size..].trim_start_matches("\r\n");
    }
    text
}

fn hmac(key: &[u8], body: &[u8]) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
    mac.update(body);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn moved(reference: &str, commit: &str, salt: &str) -> Value {
    json!({
        "ref": reference, "after": commit, "salt": salt,
        // Never asked, whoever signs it.
        "repository": { "clone_url": "http://127.0.0.1:1/evil.git", "url": "file:///etc" },
    })
}

/// A file on the web that comes once the gate is open; builds that ADD it wait.
struct Gate {
    web: Web,
    open: Arc<(Mutex<bool>, Condvar)>,
}

impl Gate {
    fn closed() -> Gate {
        let open = Arc::new((Mutex::new(false), Condvar::new()));
        let inside = open.clone();
        let web = Web::start(move |_| {
            let (open, changed) = &*inside;
            let open = open.lock().unwrap();
            let _open = changed.wait_timeout_while(open, PATIENCE, |open| !*open).unwrap();
            Answer::ok("through")
        });
        Gate { web, open }
    }

    fn dockerfile(&self) -> String {
        format!("FROM scratch\nADD {} /gate\nCOPY f /\n", self.web.url("/gate"))
    }

    fn open(&self) {
        *self.open.0.lock().unwrap() = true;
        self.open.1.notify_all();
    }

    fn wait(&self, count: usize) {
        let began = Instant::now();
        while self.web.count() < count {
            assert!(began.elapsed() < PATIENCE, "nobody asked for it");
            std::thread::yield_now();
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

both! {
    fn a_push_is_built_and_pushed(env) {
        let (host, registry) = (GitHost::start(), Registry::plain());
        host.repository("app");
        let evil = "<script>alert(1)</script>";
        let commit = host.commit("app", &[("Dockerfile", DOCKERFILE), ("README.md", evil), ("f", "one")]);
        let name = registry.name("team/app");
        let rules = "[[project.rule]]\nbranch = \"main\"\ntag = \"latest\"\n[[project.rule]]\nbranch = \"*\"\n\
            tag = \"{branch}-{short_sha}\"\n[[project.rule]]\ngit_tag = \"/^v([0-9.]+)$/\"\ntag = \"{1}\"\n";
        let url = host.url_as("me:password", "app.git");
        let text = project("app", &url, &format!("push = [\"{name}\"]\nbuild_args = {{ A = \"1\" }}"), rules);
        let server = start(env, &config(env, &text));
        server.signed("app", "1", "ping", b"{}").is(200, "pong");
        let reply = server.push("app", "2", &moved("refs/heads/main", &commit, "")).is(202, "queued");
        assert_eq!(reply.json()["builds"], json!([1]));
        let build = server.wait(1, &["finished"]);
        let short = format!("{name}:main-{}", &commit[..7]);
        assert_eq!(build["images"], json!([format!("{name}:latest"), short]));
        assert_eq!((&build["pushed"], &build["commit"]), (&build["images"], &json!(commit)));
        // What was pushed is what was committed.
        let layout = env.path("layout");
        let (from, to) = (format!("docker://{short}"), format!("oci:{}:x", layout.display()));
        env.program("skopeo", &["copy", "--src-tls-verify=false", &from, &to]).without_changing_user().ok();
        let log = server.get("/builds/1/log").is(200, "content-type: text/plain");
        assert!(log.body.contains(&commit) && log.body.contains("COPY . /") && log.body.ends_with("== finished\n"));
        assert_eq!(server.get("/builds/1/log?follow").body, log.body);
        // A tag, told by GitLab.
        host.git("app", &["tag", "v1.2"]);
        let body = json!({ "ref": "refs/tags/v1.2", "after": commit }).to_string();
        let headers = [("X-Gitlab-Token", SECRET), ("X-Gitlab-Event", "Tag Push Hook")];
        server.send("POST", "/hooks/app", &headers, body.as_bytes()).is(202, "queued");
        assert_eq!(server.wait(2, &["finished"])["images"], json!([format!("{name}:1.2")]));
        // The pages: escaped, without scripts, and nothing secret in them.
        let page = server.get("/builds/1").is(200, "<!DOCTYPE html>");
        assert!(page.body.contains("&lt;script&gt;") && !page.body.contains("<script"));
        assert!(page.body.contains("COPY . /") && page.head.contains("nosniff"));
        let all = server.get("/").is(200, "content-type: text/html").body + &page.body + &log.body;
        assert!(all.contains("finished") && all.contains("builds/1"));
        for hidden in [SECRET, TOKEN, "password"] {
            assert!(!all.contains(hidden) && !server.job.said().contains(hidden), "{hidden}");
        }
        server.get("/healthz").is(200, "ok");
        assert!(host.asked().iter().all(|path| path.contains("app.git")));
        server.end();
    }

    fn what_is_refused_starts_nothing(env) {
        let host = GitHost::start();
        host.repository("app");
        let commit = host.commit("app", &[("Dockerfile", DOCKERFILE)]);
        let server = start(env, &config(env, &project("app", &host.url("app.git"), "", MAIN)));
        let body = moved("refs/heads/main", &commit, "").to_string();
        let post = |headers: &[(&str, &str)]| server.send("POST", "/hooks/app", headers, body.as_bytes());
        let right = format!("sha256={}", hmac(SECRET.as_bytes(), body.as_bytes()));
        let wrong = format!("sha256={}", hmac(b"another secret of that length", body.as_bytes()));
        post(&[]).is(401, "not signed");
        post(&[("X-GitHub-Event", "push"), ("X-Hub-Signature", "sha1=x")]).is(401, "not signed");
        post(&[("X-GitHub-Event", "push"), ("X-Hub-Signature-256", &wrong)]).is(403, "wrong");
        post(&[("X-Hub-Signature-256", ""), ("X-Gitlab-Token", SECRET)]).is(403, "wrong");
        post(&[("X-Gitlab-Token", "x"), ("X-Gitlab-Event", "Push Hook")]).is(403, "wrong");
        post(&[("X-Gitea-Signature", &right), ("X-Gitea-Event", "push")]).is(403, "wrong");
        post(&[("X-Hub-Signature-256", &right), ("X-GitHub-Event", "issues")]).is(200, "ignored");
        post(&[("X-Hub-Signature-256", &right)]).is(200, "ignored");
        server.send("POST", "/hooks/none", &[("X-Hub-Signature-256", &right)], body.as_bytes()).is(404, "no such");
        server.send("POST", "/hooks/..%2fapp", &[], b"").is(404, "");
        server.send("GET", "/hooks/app", &[], b"").is(405, "");
        server.send("POST", "/trigger/app/wrong", &[], b"").is(404, "nothing here");
        server.send("POST", &format!("/trigger/none/{TOKEN}"), &[], b"").is(404, "nothing here");
        server.send("POST", "/trigger/app/", &[], b"").is(404, "");
        // Signed, and still no push.
        let signed = |body: &str| server.signed("app", "bad", "push", body.as_bytes());
        for bad in ["", "[]", "{}", "{\"ref\":7}", "{\"ref\":\"main\"}", "\u{0}"] {
            signed(bad).is(422, "error");
        }
        for name in ["refs/heads/--upload-pack=touch", "refs/heads/../../x", "refs/heads/a b", "refs/heads/$(id)", "-x"] {
            signed(&moved(name, &commit, "").to_string()).is(422, "bad `ref`");
            server.trigger("app", &json!({ "ref": name }).to_string()).is(422, "bad name");
        }
        signed(&moved("refs/heads/main", "--help", "").to_string()).is(422, "bad `after`");
        signed(&moved("refs/heads/other", &commit, "").to_string()).is(200, "no rule");
        signed(&moved("refs/tags/main", &commit, "").to_string()).is(200, "no rule");
        signed(&moved("refs/heads/main", &"0".repeat(40), "").to_string()).is(200, "was deleted");
        server.trigger("app", "rubbish").is(422, "no request");
        // Too large: said to be, and being it without saying so.
        let length = (26 << 20).to_string();
        server.send("POST", "/hooks/app", &[("Content-Length", &length)], b"x").is(413, "bytes at most");
        let headers = [("Transfer-Encoding", "chunked"), ("X-Hub-Signature-256", right.as_str())];
        let chunk = [format!("{:x}\r\n", 26 << 20).as_bytes(), &vec![b'x'; 26 << 20], b"\r\n0\r\n\r\n"].concat();
        let reply = server.send("POST", "/hooks/app", &headers, &chunk);
        // The answer may be lost, since the server hangs up on who goes on sending.
        assert!(matches!(reply.status, 413 | 0), "{reply:?}");
        let length = (65 << 10).to_string();
        server.send("POST", &format!("/trigger/app/{TOKEN}"), &[("Content-Length", &length)], b"").is(413, "");
        // What is not signed is told so before it is read, whatever its length; what a page has sent is not even looked at.
        let length = (20 << 20).to_string();
        server.send("POST", "/hooks/app", &[("Content-Length", &length)], b"").is(401, "not signed");
        let none = [("Transfer-Encoding", "chunked"), ("X-Gitlab-Token", "x")];
        server.send("POST", "/hooks/app", &none, b"5\r\n").is(403, "wrong");
        for (name, value) in [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")] {
            server.send("POST", &format!("/trigger/app/{TOKEN}"), &[(name, value)], b"").is(403, "web page");
        }
        // Changes need a token that is not there; nobody else's name leads here.
        server.send("POST", "/api/builds/1/cancel", &[("Authorization", "Bearer ")], b"").is(403, "control_token");
        server.send("GET", "/", &[("Host", "builds.example")], b"").is(403, "only this machine");
        server.send("GET", "/api/builds", &[("X-Forwarded-For", "127.0.0.1")], b"").is(403, "only this machine");
        server.get("/builds/1").is(404, "no such build");
        server.get("/builds/../../etc/passwd").is(404, "");
        server.get("/builds/..%2f..%2frecord/log").is(404, "");
        assert_eq!(server.builds(), [] as [Value; 0]);
        assert!(host.asked().is_empty(), "the repository was not even asked");
        // The same delivery twice, and the same body as another delivery.
        let push = moved("refs/heads/main", &commit, "");
        server.push("app", "one", &push).is(202, "queued");
        server.push("app", "one", &moved("refs/heads/main", &commit, "other")).is(409, "taken before");
        server.push("app", "two", &push).is(409, "taken before");
        server.wait(1, &["finished"]);
        assert_eq!(server.builds().len(), 1);
        server.end();
    }

    fn a_burst_builds_the_newest_once_more(env) {
        let (host, gate) = (GitHost::start(), Gate::closed());
        host.repository("app");
        host.commit("app", &[("Dockerfile", &gate.dockerfile()), ("f", "0")]);
        let more = format!("control_token = \"{CONTROL}\"\n{}", project("app", &host.url("app.git"), "rate = 8", MAIN));
        let server = start(env, &config(env, &more));
        server.trigger("app", "").is(202, "queued");
        gate.wait(1);
        assert_eq!(server.wait(1, &["building"])["triggers"], 1);
        let mut last = String::new();
        for number in 1..6 {
            last = host.commit("app", &[("f", &number.to_string())]);
            let expect = if number == 1 { "queued" } else { "joined" };
            server.push("app", &number.to_string(), &moved("refs/heads/main", &last, "")).is(202, expect);
        }
        assert_eq!(server.builds().len(), 2);
        gate.open();
        server.wait(1, &["finished"]);
        let second = server.wait(2, &["finished"]);
        assert_eq!((&second["commit"], &second["triggers"]), (&json!(last), &json!(5)));
        // Six of eight a minute are used up; asking again by the token of who may does not count.
        let replies: Vec<u16> = (0..6).map(|_| server.trigger("app", "").status).collect();
        assert!(replies.contains(&429) && replies.starts_with(&[202]), "{replies:?}");
        server.trigger("app", "").is(429, "retry-after: ");
        server.control("1/rebuild").is(202, "builds");
        server.end();
    }

    fn what_ran_when_it_was_killed_is_built_again(env) {
        let (host, gate) = (GitHost::start(), Gate::closed());
        for name in ["one", "two"] {
            host.repository(name);
            host.commit(name, &[("Dockerfile", &gate.dockerfile()), ("f", name)]);
        }
        let text = ["one", "two"].map(|name| project(name, &host.url(&format!("{name}.git")), "", MAIN)).concat();
        let data = env.path("data");
        let config = config(env, &format!("data = \"{}\"\n{text}", data.display()));
        let server = start(env, &config);
        server.trigger("one", "").is(202, "queued");
        gate.wait(1);
        let body = moved("refs/heads/main", &"1".repeat(40), "");
        server.push("two", "first", &body).is(202, "queued");
        server.wait(2, &["pending"]);
        let again = env.rbuild(&["serve", "--config", config.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
        again.exits(1).has("another `rbuild serve` works");
        let record: Value = serde_json::from_slice(&fs::read(data.join("builds/1/record")).unwrap()).unwrap();
        let child = record["process"]["pid"].as_i64().unwrap();
        server.job.signal(Signal::KILL);
        drop(server);
        let server = start(env, &config);
        gate.open();
        server.wait(1, &["finished"]);
        server.wait(2, &["finished"]);
        server.push("two", "first", &moved("refs/heads/main", &"1".repeat(40), "x")).is(409, "taken before");
        assert_eq!(server.builds().len(), 2);
        let began = Instant::now();
        while fs::read_to_string(format!("/proc/{child}/cmdline")).is_ok_and(|line| line.contains("build\0")) {
            assert!(began.elapsed() < PATIENCE, "what the killed one had started still runs");
        }
        server.end();
    }

    fn builds_are_cancelled_and_end_in_time(env) {
        let (host, gate) = (GitHost::start(), Gate::closed());
        host.repository("app");
        host.commit("app", &[("Dockerfile", &gate.dockerfile()), ("f", "x")]);
        let data = env.path("data");
        let head = format!("control_token = \"{CONTROL}\"\ndata = \"{}\"\n", data.display());
        let text = head.clone() + &project("app", &host.url("app.git"), "", MAIN);
        let path = config(env, &text);
        let server = start(env, &path);
        server.trigger("app", "").is(202, "queued");
        gate.wait(1);
        server.trigger("app", "").is(202, "queued");
        server.send("POST", "/api/builds/1/cancel", &[("Authorization", "Bearer x")], b"").is(401, "token");
        server.control("2/cancel").is(202, "cancelled");
        server.control("1/cancel").is(202, "cancelled");
        server.wait(1, &["cancelled"]);
        server.wait(2, &["cancelled"]);
        let deadline = Instant::now() + Duration::from_secs(60);
        while server.control("1/cancel").status != 409 {
            assert!(Instant::now() < deadline, "it is never over");
        }
        server.control("1/cancel").is(409, "is over");
        server.control("7/cancel").is(404, "no such build");
        // Ended in the middle of a build: it waits, and is built after the next start, which ends it in time.
        server.control("1/rebuild").is(202, "queued");
        server.wait(3, &["building"]);
        gate.wait(2);
        server.end();
        fs::write(&path, text.replace(TOKEN, &format!("{TOKEN}\"\ntimeout = \"1s"))).unwrap();
        let server = start(env, &path);
        let failed = server.wait(3, &["failed"]);
        assert_eq!(failed["error"], "it took longer than 1 s");
        server.get("/builds/3").is(200, "it took longer than 1 s");
        server.end();
    }

    fn a_repository_of_this_machine(env) {
        let repository = Repository::new(env, "local");
        repository.commit("Dockerfile", DOCKERFILE);
        repository.git(&["checkout", "--quiet", "-b", "evil"]);
        fs::remove_file(repository.path.join("Dockerfile")).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", repository.path.join("Dockerfile")).unwrap();
        repository.commit("f", "x");
        repository.git(&["checkout", "--quiet", "main"]);
        let rules = "[[project.rule]]\nbranch = \"**\"\ntag = \"{branch}\"\n";
        let path = repository.path.to_str().unwrap().to_owned();
        let text = project("local", &path, "image = \"me/local\"", rules);
        let text = format!("status_token = \"{TOKEN}\"\n{text}");
        let server = start(env, &config(env, &text));
        let ask = |reference: &str| server.trigger("local", &json!({ "ref": reference }).to_string()).is(202, "queued");
        ask("refs/heads/main");
        ask("refs/heads/evil");
        ask("refs/heads/gone");
        server.trigger("local", "").is(422, "name no branch");
        server.get("/").is(401, "www-authenticate: Basic");
        let bearer = format!("Bearer {TOKEN}");
        let all = |path: &str| server.send("GET", path, &[("Authorization", &bearer), ("Host", "x.example")], b"");
        let began = Instant::now();
        let builds = loop {
            let builds = all("/api/builds").is(200, "builds").json()["builds"].as_array().unwrap().clone();
            if builds.iter().all(|build| build["state"] == "finished" || build["state"] == "failed") {
                break builds;
            }
            assert!(began.elapsed() < PATIENCE, "{builds:?}");
        };
        let states: Vec<&Value> = builds.iter().rev().map(|build| &build["state"]).collect();
        assert_eq!(states, ["finished", "failed", "failed"], "{builds:?}");
        assert_eq!(builds[2]["images"], json!(["me/local:main"]));
        assert!(builds[1]["error"].as_str().unwrap().contains("`Dockerfile` is a link"), "{builds:?}");
        assert!(builds[0]["error"].as_str().unwrap().contains("`refs/heads/gone` is not in"), "{builds:?}");
        let page = all("/builds/2").body + &all("/builds/2/log").body;
        assert!(!page.contains("root:"), "{page}");
        server.end();
    }

    fn a_wrong_configuration_shows_its_place(env) {
        let check = |text: &str, code: i32, words: &[&str]| {
            let path = config(env, text);
            let told = env.rbuild(&["serve", "--check", "--config", path.to_str().unwrap()]).exits(code);
            told.has_all(words);
        };
        let good = project("app", "https://git.example/app.git", "", MAIN);
        check(&good, 0, &["1 project, 1 rule\n", "everybody on this machine can read the secrets"]);
        check(&good.replace("branch", "brunch"), 2, &["serve.toml:", "unknown field `brunch`"]);
        check(&good.replace(TOKEN, "short"), 2, &["token = \"short\"", "a token is", "openssl rand"]);
        check("[[project]", 2, &["serve.toml:2"]);
        let missing = env.path_str("missing.toml");
        env.rbuild(&["serve", "--config", &missing]).exits(2).has("cannot read the configuration");
        let path = config(env, &good);
        let there = start(env, &path);
        let taken = format!("data = \"{}\"\n{good}", env.path_str("other"));
        let other = config(env, &taken);
        let words = ["serve", "--config", other.to_str().unwrap(), "--listen", &there.address];
        env.rbuild(&words).exits(1).has("cannot listen on");
        there.end();
    }
}

#[test]
fn tls() {
    use std::sync::Arc;
    let Ok(env) = TestEnv::new(super::common::Who::Root) else {
        return super::common::skip("the suite does not run as root");
    };
    let issued = Issued::new(&["localhost"]);
    let (certificate, key) = (env.path("crt.pem"), env.path("key.pem"));
    fs::write(&certificate, &issued.certificate).unwrap();
    fs::write(&key, &issued.key).unwrap();
    let head = format!("tls_cert = \"{}\"\ntls_key = \"{}\"\n", certificate.display(), key.display());
    let text = head + &project("app", "https://git.example/app.git", "", MAIN);
    let server = start(&env, &config(&env, &text));
    server.job.wait_for("https://127.0.0.1:");
    let mut roots = rustls::RootCertStore::empty();
    use rustls::pki_types::pem::PemObject;
    roots
        .add(rustls::pki_types::CertificateDer::from_pem_slice(issued.authority.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, TcpStream::connect(&server.address).unwrap());
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    read(&mut stream).is(200, "ok");
    server.end();
}
