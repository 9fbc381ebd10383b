//! Repositories for tests, and a web server on the loopback interface that gives them: git http-backend
//! behind the little of HTTP that git speaks.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use crate::remote;
use crate::remote::GitAddress;

use super::*;

/// The time of all commits.
pub(super) const TIME: i64 = 1_500_000_000;

/// Runs the machine's git, held off from the tester's own settings; panics where it fails.
pub(super) fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args([
            "-c",
            "protocol.file.allow=always",
            "-c",
            "init.defaultBranch=main",
            "-c",
            "core.hooksPath=/dev/null",
        ])
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .envs([
            ("GIT_AUTHOR_NAME", "a"),
            ("GIT_AUTHOR_EMAIL", "a@a"),
            ("GIT_AUTHOR_DATE", "1500000000 +0000"),
        ])
        .envs([("GIT_COMMITTER_NAME", "a"), ("GIT_COMMITTER_EMAIL", "a@a")])
        .env("GIT_COMMITTER_DATE", "1500000000 +0000")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What a server has been asked, and how it answers.
#[derive(Default)]
struct State {
    stop: AtomicBool,
    /// The old protocol: names only, no object that no name stands for.
    old: AtomicBool,
    /// What the Authorization header must be.
    authorization: Mutex<Option<String>>,
    /// Paths of what was asked, with their queries.
    asked: Mutex<Vec<String>>,
}

/// A folder of repositories, a server for them, and a place for [`Git`].
pub(super) struct World {
    pub outer: tempfile::TempDir,
    pub port: u16,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl World {
    /// With one repository, `kit`: see the body for its files and names.
    pub fn new() -> World {
        let outer = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let served = outer.path().join("served");
        std::fs::create_dir(&served).unwrap();
        let thread = std::thread::spawn({
            let (state, served) = (state.clone(), served.clone());
            move || {
                for stream in listener.incoming() {
                    if state.stop.load(Ordering::SeqCst) {
                        return;
                    }
                    // A client that was killed is no fault of the server's.
                    let _ = answer(stream.unwrap(), &served, &state);
                }
            }
        });
        let world = World { outer, port, state, thread: Some(thread) };
        let kit = world.repository("kit");
        world.write("kit", &[("Dockerfile", "FROM scratch"), ("sub/dir/file", "old"), ("run", "#!/bin/sh")]);
        std::fs::set_permissions(kit.join("run"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .unwrap();
        git(&kit, &["add", "run"]);
        world.commit("kit");
        git(&kit, &["tag", "light"]);
        git(&kit, &["tag", "-a", "-m", "x", "v1.0"]);
        world.write("kit", &[("sub/dir/file", "new")]);
        world.commit("kit");
        git(&kit, &["branch", "both"]);
        git(&kit, &["tag", "both", "light"]);
        world
    }

    /// Makes an empty repository with a work tree.
    pub fn repository(&self, name: &str) -> PathBuf {
        let path = self.outer.path().join("served").join(format!("{name}.git"));
        git(self.outer.path(), &["init", "--quiet", path.to_str().unwrap()]);
        path
    }

    /// Writes files into a repository's work tree, and adds them.
    pub fn write(&self, repository: &str, files: &[(&str, &str)]) {
        let path = self.outer.path().join("served").join(format!("{repository}.git"));
        for (name, content) in files {
            std::fs::create_dir_all(path.join(name).parent().unwrap()).unwrap();
            std::fs::write(path.join(name), content).unwrap();
            git(&path, &["add", "--force", "--", name]);
        }
    }

    /// Commits what is added, and returns the commit.
    pub fn commit(&self, repository: &str) -> String {
        let path = self.outer.path().join("served").join(format!("{repository}.git"));
        git(&path, &["commit", "--quiet", "--allow-empty", "-m", "x"]);
        self.id(repository, "HEAD")
    }

    /// Returns what a name stands for.
    pub fn id(&self, repository: &str, name: &str) -> String {
        let path = self.outer.path().join("served").join(format!("{repository}.git"));
        git(&path, &["rev-parse", "--verify", name])
    }

    /// Returns an address on the server: `kit.git#main`.
    pub fn address(&self, rest: &str) -> GitAddress {
        address(&format!("http://127.0.0.1:{}/{rest}", self.port))
    }

    pub fn options(&self) -> GitOptions {
        GitOptions {
            folder: self.outer.path().join("folder"),
            path: std::env::var_os("PATH").unwrap(),
            proxies: Vec::new(),
            certificates: None,
            ssh_agent: None,
            known_hosts: None,
        }
    }

    /// Resolves and checks out, with no secrets.
    pub fn checkout(&self, rest: &str) -> Result<GitTree, GitError> {
        self.checkout_with(rest, &|_| None)
    }

    pub fn checkout_with(
        &self,
        rest: &str,
        secret: &dyn Fn(&str) -> Option<Vec<u8>>,
    ) -> Result<GitTree, GitError> {
        let (git, address) = (Git::new(self.options()), self.address(rest));
        let access = GitAccess { secret, cancelled: &|| false };
        let commit = git.resolve(&address, access)?;
        git.checkout(&address, &commit, access)
    }

    /// Returns the error of a checkout, and its hint.
    pub fn fails(&self, rest: &str) -> String {
        let error = self.checkout(rest).expect_err(rest);
        format!("{error} [{}]", error.hint().unwrap_or_default())
    }

    /// Returns the requests since the last call.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state.asked.lock().unwrap())
    }

    pub fn speak_old_protocol(&self) {
        self.state.old.store(true, Ordering::SeqCst);
    }

    pub fn want_authorization(&self, header: &str) {
        *self.state.authorization.lock().unwrap() = Some(header.to_owned());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub(super) fn address(text: &str) -> GitAddress {
    match remote::parse(text) {
        Some(Ok(remote::Address::Git(address))) => address,
        other => panic!("{text}: {other:?}"),
    }
}

/// Returns a file's text.
pub(super) fn read(tree: &GitTree, name: &str) -> String {
    String::from_utf8(tree.tree.root().read_small(Path::new(name), 1 << 20).unwrap()).unwrap()
}

/// Answers one request, and closes the connection.
fn answer(stream: TcpStream, served: &Path, state: &State) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut headers: Vec<(String, String)> = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let header = |name: &str| headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value.as_str());
    let mut words = first.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    state.asked.lock().unwrap().push(target.to_owned());
    let wanted = state.authorization.lock().unwrap().clone();
    if wanted.is_some_and(|wanted| header("authorization") != wanted) {
        let answer = "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\n";
        return write!(&stream, "{answer}Content-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut command = Command::new("git");
    command.arg("http-backend").env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.env("GIT_PROJECT_ROOT", served).env("GIT_HTTP_EXPORT_ALL", "1").env("REQUEST_METHOD", method);
    // The repositories have work trees: what is served is in their `.git`.
    let inner = path.replacen(".git/", ".git/.git/", 1);
    command.env("PATH_INFO", inner).env("QUERY_STRING", query).env("CONTENT_TYPE", header("content-type"));
    command.env("HTTP_CONTENT_ENCODING", header("content-encoding"));
    command.env("CONTENT_LENGTH", body.len().to_string());
    if !state.old.load(Ordering::SeqCst) {
        command.env("GIT_PROTOCOL", header("git-protocol"));
    }
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        let _ = input.write_all(&body);
    });
    let output = child.wait_with_output()?.stdout;
    writer.join().unwrap();
    let text = String::from_utf8_lossy(&output);
    let status = text.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK").to_owned();
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n")?;
    stream.write_all(&output)
}
