//! `registry`: other engines push to it and pull from it; killed, stopped, collected and reloaded while in use.
//!
//! Endpoints and errors one by one are tested elsewhere.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sha2::{Digest, Sha256};

use super::common::command::Job;
use super::common::peers::{Docker, Podman};
use super::common::registry::Issued;
use super::common::script::noise;
use super::common::{Outcome, TestEnv, Who, skip};

/// The user `me` with the password `secret`, by `htpasswd -B`.
const HTPASSWD: &str = "me:$2b$04$InY1N2vm44gqpTgZq7pLHelQR7.ImY6U03NW7.Vm/fGr2OJnNg7r6\n";

/// After this long what was waited for counts as not coming.
const LONG: Duration = Duration::from_secs(60);

/// A registry of ours.
struct Served {
    job: Job,
    /// `127.0.0.1:PORT`.
    host: String,
}

impl Served {
    fn start(env: &TestEnv, words: &[&str]) -> Served {
        Served::of(env.rbuild(&[&["registry", "--listen", "127.0.0.1:0"], words].concat()).spawn())
    }

    fn of(job: Job) -> Served {
        job.wait_for("Listening on ");
        let said = job.said();
        let host =
            said.lines().find_map(|line| Some(line.strip_prefix("Listening on ")?.split_once("//")?.1));
        let host = host.expect("an address").to_owned();
        Served { job, host }
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }

    /// Sends a request and reads the answer to its end; its body follows an empty line.
    fn ask(&self, head: &str, body: &[u8]) -> String {
        let mut stream = self.send(head, body.len(), body);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Sends a request that says that its body is `length` bytes, and these of them.
    fn send(&self, head: &str, length: usize, body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
        let headers: String = headers.lines().map(|header| format!("{header}\r\n")).collect();
        let text = format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n"
        );
        stream.write_all(text.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        stream
    }

    fn end(self) -> Outcome {
        self.job.signal(Signal::TERM);
        self.job.finish()
    }
}

fn sha256(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A header of an answer.
fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let found = answer.lines().find_map(|line| {
        let (own, value) = line.split_once(": ")?;
        own.eq_ignore_ascii_case(name).then_some(value.trim())
    });
    found.unwrap_or_else(|| panic!("no {name}:\n{answer}"))
}

#[track_caller]
fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn app(env: &TestEnv, name: &str) -> String {
    let ctx = env
        .dockerfile("FROM scratch\nCOPY a /a\nCOPY b /b\nCMD [\"/a\"]\n")
        .file("a", "first")
        .file("b", noise(700_000, 3));
    env.build_id(&ctx, &["-t", name])
}

both! {
    fn what_was_pushed_is_pulled_again(env) {
        let served = Served::start(env, &[]);
        let name = served.name("a/app:1");
        let id = app(env, &name);
        env.rbuild(&["push", &name]).ok();
        env.rbuild(&["push", &name]).ok().has("Layer already exists");
        env.rbuild(&["rmi", "-f", &name]).ok();
        env.rbuild(&["pull", &name]).ok();
        assert_eq!(env.inspect(&name)["Id"], id);
        let answer = served.ask("GET /v2/_catalog", b"");
        assert!(answer.ends_with("{\"repositories\":[\"a/app\"]}"), "{answer}");
        // Its own words for what is not there.
        env.rbuild(&["pull", &served.name("a/app:2")]).fails();
        let ended = served.end().ok();
        assert!(ended.stderr.contains("\"PUT /v2/a/app/manifests/1\" 201"), "{ended}");
    }
}

#[test]
fn skopeo_podman_and_docker_push_and_pull() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    let served = Served::start(&env, &["-q"]);
    let name = served.name("app:1");
    let id = app(&env, &name);
    env.rbuild(&["push", &name]).ok();

    let copy = |words: &[&str]| {
        let words = [&["copy", "--src-tls-verify=false", "--dest-tls-verify=false"], words].concat();
        env.program("skopeo", &words).without_changing_user().ok();
    };
    // As an OCI image and as docker's, with digests of both kinds kept byte for byte.
    let there = format!("docker://{name}");
    let (oci, v2) = (served.name("skopeo/oci:1"), served.name("skopeo/v2:1"));
    copy(&["--format", "oci", &there, &format!("docker://{oci}")]);
    copy(&["--format", "v2s2", &format!("docker://{oci}"), &format!("docker://{v2}")]);
    let (layout, bundle) = (env.path_str("layout"), env.path_str("bundle"));
    copy(&[&format!("docker://{v2}"), &format!("oci:{layout}:x")]);
    env.program("umoci", &["unpack", "--rootless", "--image", &format!("{layout}:x"), &bundle]).ok();
    assert_eq!(std::fs::read(format!("{bundle}/rootfs/b")).unwrap(), noise(700_000, 3));

    let podman = Podman::new(&env);
    podman.run(&["pull", "-q", "--tls-verify=false", &name]).ok().has(&id[7..]);
    let again = served.name("podman/app:2");
    podman.run(&["push", "-q", "--tls-verify=false", &name, &again]).ok();
    env.rbuild(&["pull", &again]).ok();
    assert_eq!(env.inspect(&again)["Id"], id);

    let docker = match Docker::start(&env) {
        Ok(docker) => docker,
        Err(why) => return skip(&why),
    };
    docker.run(&["pull", "-q", &again]).ok();
    let third = served.name("docker/app:3");
    docker.run(&["tag", &again, &third]).ok();
    let pushed = docker.run(&["push", &third]).ok();
    let digest =
        pushed.stdout.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap().to_owned();
    docker.run(&["rmi", &again, &third]).ok();
    docker.run(&["pull", "-q", &format!("{}@{digest}", served.name("docker/app"))]).ok();
    docker.run(&["images", "--no-trunc", "-q"]).ok().prints(&format!("{id}\n"));
    docker.stop();
    let ended = served.end().ok();
    assert_eq!(ended.stderr, "", "-q says nothing of requests, and nothing went wrong");
}

#[test]
fn killed_while_it_receives_it_has_no_blob_and_goes_on() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    let content = noise(3_000_000, 7);
    let digest = sha256(&content);
    let blob = |served: &Served| served.ask(&format!("GET /v2/a/blobs/{digest}"), b"");
    let served = Served::start(&env, &[]);
    let started = served.ask("POST /v2/a/blobs/uploads/", b"");
    let place = header(&started, "location").to_owned();
    let mut sending = served.send(&format!("PATCH {place}"), content.len(), &content[..2_000_000]);
    // Some of it was written.
    until("nothing was written", || header(&served.ask(&format!("GET {place}"), b""), "range") != "0-0");
    assert!(blob(&served).starts_with("HTTP/1.1 404"));
    served.job.signal(Signal::KILL);
    assert_eq!(served.job.finish().signal, Some(9));
    let _ = sending.write_all(b"more");

    let served = Served::start(&env, &[]);
    assert!(blob(&served).starts_with("HTTP/1.1 404"));
    let status = served.ask(&format!("GET {place}"), b"");
    let there: usize = header(&status, "range").strip_prefix("0-").unwrap().parse().unwrap();
    let there = there + 1;
    assert!((2..=2_000_000).contains(&there), "{status}");
    // A hole is refused, and changes nothing.
    let hole = format!("PATCH {place}\nContent-Range: {}-{}", there + 1, there + 3);
    assert!(served.ask(&hole, b"abc").starts_with("HTTP/1.1 416"));
    let rest = &content[there..];
    let put = format!("PUT {place}?digest={digest}\nContent-Range: {there}-{}", content.len() - 1);
    let done = served.ask(&put, rest);
    assert!(done.starts_with("HTTP/1.1 201"), "{done}");
    let got = env.path_str("got");
    let head = served.ask(&format!("HEAD /v2/a/blobs/{digest}"), b"");
    assert_eq!(header(&head, "content-length"), content.len().to_string());
    let all =
        env.program("curl", &["-sf", "-o", &got, &format!("http://{}/v2/a/blobs/{digest}", served.host)]);
    all.without_changing_user().ok();
    assert_eq!(std::fs::read(&got).unwrap(), content);
    served.end().ok();
}

#[test]
fn asked_to_end_it_finishes_what_it_sends() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    let served = Served::start(&env, &["-q"]);
    // More than the buffers between two sockets take.
    let content = noise(30_000_000, 11);
    let digest = sha256(&content);
    let put = served.ask(&format!("POST /v2/a/blobs/uploads/?digest={digest}"), &content);
    assert!(put.starts_with("HTTP/1.1 201"), "{put}");
    let mut slow = served.send(&format!("GET /v2/a/blobs/{digest}"), 0, b"");
    let mut first = [0; 1000];
    slow.read_exact(&mut first).unwrap();
    served.job.signal(Signal::TERM);
    until("it still takes connections", || TcpStream::connect(&served.host).is_err());
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(&content[content.len() - 1000..]) && rest.len() + 1000 > content.len());
    served.job.finish().ok();
}

#[test]
fn collected_while_it_serves() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    let served = Served::start(&env, &["-q"]);
    let name = served.name("app:1");
    app(&env, &name);
    env.rbuild(&["push", &name]).ok();
    let lone = sha256(b"lone");
    let put = served.ask(&format!("POST /v2/app/blobs/uploads/?digest={lone}"), b"lone");
    assert!(put.starts_with("HTTP/1.1 201"), "{put}");
    env.rbuild(&["registry", "gc"]).ok().prints("Total reclaimed space: 0B\n");
    let dry = env.rbuild(&["registry", "gc", "--dry-run", "--grace", "0s"]).ok();
    assert_eq!(dry.stdout, format!("would be removed: blob {lone}\nTotal reclaimable space: 4B\n"), "{dry}");
    let done = env.rbuild(&["registry", "gc", "--grace", "0s"]).ok();
    assert_eq!(done.stdout, format!("removed: blob {lone}\nTotal reclaimed space: 4B\n"), "{done}");
    assert!(served.ask(&format!("GET /v2/app/blobs/{lone}"), b"").starts_with("HTTP/1.1 404"));
    // The image is whole; with its tag gone it goes, where that is said.
    env.rbuild(&["rmi", "-f", &name]).ok();
    env.rbuild(&["pull", &name]).ok();
    assert!(served.ask("DELETE /v2/app/manifests/1", b"").starts_with("HTTP/1.1 202"));
    env.rbuild(&["registry", "gc", "--grace", "0s"]).ok().prints("Total reclaimed space: 0B\n");
    let all = env.rbuild(&["registry", "gc", "--grace", "0s", "--delete-untagged"]).ok();
    assert!(all.stdout.contains("removed: manifest app@sha256:"), "{all}");
    assert_eq!(all.stdout.matches("removed: blob ").count(), 3, "{all}");
    served.end().ok();
    env.rbuild(&["registry", "gc", "--grace", "soon"]).exits(2).has("it is no duration");
}

#[test]
fn tls_and_passwords() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    let put = |name: &str, text: &str| {
        let path = env.path_str(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let users = put("users", HTPASSWD);
    let first = Issued::new(&["127.0.0.1"]);
    let (cert, key) = (put("tls.crt", &first.certificate), put("tls.key", &first.key));
    let words = ["--tls-cert", &cert, "--tls-key", &key, "--htpasswd", &users, "--anonymous-pull"];
    let served = Served::start(&env, &words);
    let authority = put("ca.crt", &first.authority);
    let curl = |authority: &str, words: &[&str]| {
        let url = format!("https://{}", served.host);
        let words: Vec<String> = words.iter().map(|word| word.replace("URL", &url)).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let own = ["-s", "--cacert", authority, "-w", "%{http_code}"];
        env.program("curl", &[&own[..], &words].concat()).without_changing_user().output()
    };
    let code = |words: &[&str]| {
        let said = curl(&authority, words).ok().stdout;
        said[said.len() - 3..].to_owned()
    };
    assert_eq!(code(&["URL/v2/"]), "200");
    assert_eq!(code(&["URL/v2/a/tags/list"]), "404");
    assert_eq!(code(&["-u", "me:wrong", "URL/v2/"]), "401");
    assert_eq!(code(&["-u", "you:secret", "URL/v2/"]), "401");
    assert_eq!(code(&["-X", "POST", "URL/v2/a/blobs/uploads/"]), "401");
    assert_eq!(code(&["-X", "DELETE", "URL/v2/a/manifests/1"]), "401");
    assert_eq!(code(&["-u", "me:secret", "-X", "POST", "URL/v2/a/blobs/uploads/"]), "202");
    let refused = curl(&authority, &["-i", "-u", "me:wrong", "URL/v2/"]);
    assert!(refused.stdout.to_lowercase().contains("\r\nwww-authenticate: basic realm="), "{refused}");
    assert!(refused.stdout.contains("\"UNAUTHORIZED\""), "{refused}");

    // Another certificate counts without a restart.
    let second = Issued::new(&["127.0.0.1"]);
    let other = put("ca2.crt", &second.authority);
    std::fs::write(&key, &second.key).unwrap();
    std::fs::write(&cert, &second.certificate).unwrap();
    until("the new certificate is not in use", || curl(&other, &["URL/v2/"]).code == Some(0));
    let said = served.end().ok();
    assert!(!said.both.contains("secret") && !said.both.contains("bWU6"), "{said}");
    assert!(said.stderr.contains(" me \"POST /v2/a/blobs/uploads/\" 202"), "{said}");

    std::fs::write(&users, "me:plain\n").unwrap();
    env.rbuild(&["registry", "--listen", "127.0.0.1:0", "--htpasswd", &users]).fails().has("line 1");
    std::fs::write(&key, "").unwrap();
    env.rbuild(&["registry", "--listen", "127.0.0.1:0", "--tls-cert", &cert, "--tls-key", &key])
        .fails()
        .has("cannot be used for TLS");
}

#[test]
fn what_it_is_told_not_to_do_it_does_not() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    let served = Served::start(&env, &["--read-only"]);
    for head in ["POST /v2/a/blobs/uploads/", "DELETE /v2/a/manifests/1", "PUT /v2/a/manifests/1"] {
        let answer = served.ask(head, b"");
        assert!(answer.starts_with("HTTP/1.1 405") && answer.contains("\"UNSUPPORTED\""), "{answer}");
    }
    assert!(served.ask("GET /v2/", b"").starts_with("HTTP/1.1 200"));
    // One port, one server.
    env.rbuild(&["registry", "--listen", &served.host]).fails().has("cannot listen on").has("in use");
    served.end().ok();

    let root = env.path_str("elsewhere");
    let started = env
        .rbuild(&["registry"])
        .var("REGISTRY_HTTP_ADDR", "127.0.0.1:0")
        .var("REGISTRY_STORAGE_DELETE_ENABLED", "false")
        .var("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", &root)
        .var("REGISTRY_STORAGE_MAINTENANCE_READONLY", "{\"enabled\":true}")
        .var("REGISTRY_LOG_LEVEL", "debug")
        .spawn();
    started.wait_for("Listening on ");
    let said = started.said();
    assert!(said.contains("warning: REGISTRY_LOG_LEVEL has no effect here\n"), "{said}");
    assert!(!said.contains("can be reached from other machines"), "{said}");
    let host = said.lines().find_map(|line| line.strip_prefix("Listening on http://")).unwrap().to_owned();
    let served = Served { job: started, host };
    for head in ["DELETE /v2/a/manifests/1", "POST /v2/a/blobs/uploads/"] {
        assert!(served.ask(head, b"").starts_with("HTTP/1.1 405"), "{head}");
    }
    assert!(std::path::Path::new(&root).join("v1/registry/blobs").is_dir());
    served.end().ok();
    for (name, value) in [
        ("REGISTRY_AUTH", "token"),
        ("REGISTRY_AUTH_TOKEN_REALM", "x"),
        ("REGISTRY_HTTP_TLS_CLIENTCAS_0", "x"),
    ] {
        env.rbuild(&["registry"]).var(name, value).exits(2).has(name);
    }
}

#[test]
fn beyond_the_limit_of_the_store_nothing_is_taken() {
    let env = match TestEnv::new(Who::Root) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    let limited = env.rbuild(&["registry", "--listen", "127.0.0.1:0"]);
    let served =
        Served::of(limited.var("RBUILD_MAX_USED_SPACE", "2MB").var("RBUILD_MIN_FREE_SPACE", "0").spawn());
    let push =
        |bytes: &[u8]| served.ask(&format!("POST /v2/a/blobs/uploads/?digest={}", sha256(bytes)), bytes);
    let small = noise(100_000, 1);
    assert!(push(&small).starts_with("HTTP/1.1 201"));
    // Between two measurements of the store it goes by the disk's free space, in which others give back what they had
    // (ext4: seconds later): some pushes may pass for that, not all. Small ones: what is refused is still taken.
    let tried = (2..200).map(|seed| push(&noise(900_000, seed)));
    let refused = tried.into_iter().find(|answer| !answer.starts_with("HTTP/1.1 201")).unwrap();
    assert!(refused.starts_with("HTTP/1.1 507") && refused.contains("disk is full"), "{refused}");
    let uploads = env.store().join("v1/registry/uploads");
    until("nothing is left of it", || std::fs::read_dir(&uploads).unwrap().count() == 0);
    assert!(served.ask(&format!("GET /v2/a/blobs/{}", sha256(&small)), b"").starts_with("HTTP/1.1 200"));
    let ended = served.end().ok();
    assert!(ended.stderr.contains("max_used_space") && ended.stderr.contains("the registry "), "{ended}");
    env.rbuild(&["system", "df"]).ok().has("Registry");
}
