//! Git repositories on a web server of the loopback: git http-backend behind the little of HTTP that git
//! speaks.
//!
//! One connection is answered at a time. Uses nothing of rbuild.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// The time of all commits.
pub const TIME: u64 = 1_500_000_000;

#[derive(Default)]
struct State {
    stop: AtomicBool,
    /// The Authorization header that is wanted for paths that begin so.
    locks: Mutex<Vec<(String, String)>>,
    asked: Mutex<Vec<String>>,
}

/// A server of repositories; it ends when dropped.
pub struct GitHost {
    folder: tempfile::TempDir,
    port: u16,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl GitHost {
    /// Starts a server without repositories.
    pub fn start() -> GitHost {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let thread = std::thread::spawn({
            let (state, served) = (state.clone(), folder.path().to_owned());
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
        GitHost { folder, port, state, thread: Some(thread) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.git"))
    }

    /// Runs git in a repository's work tree, held off from the tester's settings; returns what it prints.
    #[track_caller]
    pub fn git(&self, name: &str, args: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "init.defaultBranch=main", "-c", "core.hooksPath=/dev/null"])
            .args(args)
            .current_dir(self.path(name))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .envs([("HOME", "/nonexistent"), ("GIT_CONFIG_NOSYSTEM", "1")])
            .envs([("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@a")])
            .envs([("GIT_COMMITTER_NAME", "a"), ("GIT_COMMITTER_EMAIL", "a@a")])
            .env("GIT_AUTHOR_DATE", format!("{TIME} +0000"))
            .env("GIT_COMMITTER_DATE", format!("{TIME} +0000"))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Makes an empty repository, `name.git`.
    pub fn repository(&self, name: &str) {
        std::fs::create_dir(self.path(name)).unwrap();
        self.git(name, &["init", "--quiet"]);
    }

    /// Writes files and commits them; returns the commit.
    #[track_caller]
    pub fn commit(&self, name: &str, files: &[(&str, &str)]) -> String {
        for (file, content) in files {
            let path = self.path(name).join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, content).unwrap();
            self.git(name, &["add", "--force", "--", file]);
        }
        self.git(name, &["commit", "--quiet", "--allow-empty", "-m", "x"]);
        self.git(name, &["rev-parse", "HEAD"])
    }

    /// Commits a symbolic link.
    pub fn commit_link(&self, name: &str, file: &str, target: &str) {
        std::os::unix::fs::symlink(target, self.path(name).join(file)).unwrap();
        self.git(name, &["add", "--", file]);
        self.commit(name, &[]);
    }

    /// Commits a submodule with the address `url`, at the newest commit of a repository here.
    pub fn commit_submodule(&self, name: &str, at: &str, url: &str, repository: &str) {
        let commit = self.git(repository, &["rev-parse", "HEAD"]);
        self.git(name, &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{at}")]);
        self.commit(name, &[(".gitmodules", &format!("[submodule \"s\"]\n\tpath = {at}\n\turl = {url}\n"))]);
    }

    /// Returns the URL of what comes after the host: `kit.git#main`.
    pub fn url(&self, rest: &str) -> String {
        format!("http://127.0.0.1:{}/{rest}", self.port)
    }

    /// As [`GitHost::url`], with `user:password@`.
    pub fn url_as(&self, user: &str, rest: &str) -> String {
        format!("http://{user}@127.0.0.1:{}/{rest}", self.port)
    }

    /// Wants this Authorization header for paths that begin so.
    pub fn lock(&self, prefix: &str, header: &str) {
        self.state.locks.lock().unwrap().push((prefix.to_owned(), header.to_owned()));
    }

    /// Returns the paths, with their queries, that were asked for since the last call.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state.asked.lock().unwrap())
    }
}

impl Drop for GitHost {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
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
    // A proxy is asked with the whole address (RFC 9112, 3.2.2), and this one passes that on.
    let target = target.strip_prefix("http://").map_or(target, |rest| &rest[rest.find('/').unwrap_or(0)..]);
    state.asked.lock().unwrap().push(target.to_owned());
    let locked = |(prefix, wanted): &(String, String)| {
        target.starts_with(prefix.as_str()) && header("authorization") != wanted
    };
    if state.locks.lock().unwrap().iter().any(locked) {
        let answer = "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\n";
        return write!(&stream, "{answer}Content-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    // The repositories have work trees: what is served is in their `.git`.
    let inner = path.replacen(".git/", ".git/.git/", 1);
    let mut child = Command::new("git")
        .arg("http-backend")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("GIT_PROJECT_ROOT", served)
        .envs([("GIT_HTTP_EXPORT_ALL", "1"), ("REQUEST_METHOD", method), ("PATH_INFO", &inner)])
        .envs([("QUERY_STRING", query), ("CONTENT_TYPE", header("content-type"))])
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut input = child.stdin.take().expect("piped");
    let writer = std::thread::spawn(move || {
        let _ = input.write_all(&body);
    });
    let output = child.wait_with_output()?.stdout;
    let _ = writer.join();
    let text = String::from_utf8_lossy(&output);
    let status = text.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK").to_owned();
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n")?;
    stream.write_all(&output)
}
