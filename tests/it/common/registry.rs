//! Debian's `docker-registry` (distribution) on a free port of the loopback, its storage in a folder of
//! its own; it ends when dropped.
//!
//! Uses nothing of rbuild.

#![allow(dead_code)]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long it may take to start.
const START: Duration = Duration::from_secs(60);

/// A running registry.
pub struct Registry {
    child: Child,
    host: String,
    folder: tempfile::TempDir,
    log: Arc<Mutex<String>>,
}

impl Registry {
    /// Starts one without TLS and without credentials.
    pub fn plain() -> Registry {
        Registry::start("", "")
    }

    fn start(http: &str, more: &str) -> Registry {
        let folder = tempfile::tempdir().unwrap();
        let storage = folder.path().join("storage");
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  \
             delete: {{enabled: true}}\nhttp:\n  addr: 127.0.0.1:0\n  secret: x\n{http}{more}",
            storage.display()
        );
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("docker-registry (package docker-registry) cannot be started: {e}"));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let (send, listening) = channel();
        let kept = log.clone();
        // Reads for as long as it runs, since it would wait for a full pipe.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("msg=\"listening on ") {
                    let end = rest.find(['"', ',']).unwrap_or(rest.len());
                    let _ = send.send(rest[..end].to_owned());
                }
                *kept.lock().unwrap() += &format!("{line}\n");
            }
        });
        let host = match listening.recv_timeout(START) {
            Ok(host) => host,
            Err(why) => {
                let _ = child.kill();
                let late = why == RecvTimeoutError::Timeout;
                panic!("docker-registry does not listen (late: {late}):\n{}", log.lock().unwrap());
            }
        };
        Registry { child, host, folder, log }
    }

    /// Returns `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns a name in it: `127.0.0.1:PORT/NAME`.
    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }

    /// Returns the folder that it keeps everything in.
    pub fn storage(&self) -> PathBuf {
        self.folder.path().join("storage")
    }

    /// Returns what it has said so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until it has said something.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        let started = Instant::now();
        while !self.log().contains(text) {
            assert!(started.elapsed() < START, "it does not say `{text}`:\n{}", self.log());
            std::thread::yield_now();
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
