//! One run of git: with an environment made from nothing, and an end when it is cancelled.
//!
//! Not here: which commands (`repository`, `work_tree`, `resolve`).

use std::ffi::OsStr;
use std::ffi::OsString;
use std::io;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::event::poll;
use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::Signal;

use super::GitOptions;
use super::access::ssh_command;
use super::error::GitError;

/// The protocols that a repository and its submodules may be reached by.
pub(super) const REMOTE: &str = "http:https:ssh:git";

/// Between our own folders only.
pub(super) const LOCAL: &str = "file";

/// What git holds to, whatever a repository says: see git-config(1).
///
/// Filters (LFS too) need no word here: a repository can name them in its attributes, and without
/// settings of the user's or the system's there is none to run.
const SETTINGS: [(&str, &str); 30] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.symlinks", "true"),
    ("core.fileMode", "true"),
    ("core.protectHFS", "true"),
    ("core.protectNTFS", "true"),
    ("core.autocrlf", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    ("core.askPass", ""),
    ("credential.helper", ""),
    ("init.defaultBranch", "main"),
    ("init.templateDir", ""),
    ("protocol.version", "2"),
    ("protocol.ext.allow", "never"),
    ("transfer.bundleURI", "false"),
    ("safe.bareRepository", "explicit"),
    // A server that falls silent: bytes a second, for so many seconds.
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "300"),
    ("submodule.recurse", "false"),
    ("fetch.recurseSubmodules", "false"),
    // A pack is there whole or not at all, even when git is killed.
    ("fetch.unpackLimit", "1"),
    ("fetch.fsckObjects", "true"),
    // Known from old, honest histories; the same three are let pass by hosting services.
    ("fetch.fsck.badTimezone", "ignore"),
    ("fetch.fsck.missingSpaceBeforeDate", "ignore"),
    ("fetch.fsck.zeroPaddedFilemode", "ignore"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("advice.detachedHead", "false"),
    ("core.logAllRefUpdates", "false"),
];

/// git's words beyond this are not kept.
const STDERR_LIMIT: u64 = 256 * 1024;

/// References beyond this are an attack: a million of them are less.
const STDOUT_LIMIT: u64 = 256 * 1024 * 1024;

/// How git is run for one request.
pub(super) struct Runner<'a> {
    pub program: PathBuf,
    pub options: &'a GitOptions,
    /// Settings of this request: who one is.
    pub settings: Vec<(String, String)>,
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

/// What a run printed, and whether it did its work.
#[derive(Debug)]
pub(super) struct Output {
    pub success: bool,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Output {
    /// Returns the words that were printed, without space around them.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }
}

impl Runner<'_> {
    /// Runs git in a directory, and returns what it printed, also where it failed.
    pub fn run<S: AsRef<OsStr>>(
        &self,
        directory: &Path,
        protocols: &str,
        arguments: &[S],
    ) -> Result<Output, GitError> {
        if (self.cancelled)() {
            return Err(GitError::Cancelled);
        }
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .current_dir(directory)
            .env_clear()
            .envs(self.environment(directory, protocols));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Its own group, so that its helpers (ssh, git-remote-https) can be ended with it.
        command.process_group(0);
        let mut child = command.spawn().map_err(GitError::Run)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        std::thread::scope(|scope| {
            let stdout = scope.spawn(|| read(stdout, STDOUT_LIMIT));
            let stderr = scope.spawn(|| read(stderr, STDERR_LIMIT));
            let waited = self.wait(&mut child);
            let joined = |handle: std::thread::ScopedJoinHandle<'_, io::Result<Vec<u8>>>| {
                handle
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("the reader of git's output ended early")))
            };
            let (stdout, stderr) = (joined(stdout), joined(stderr));
            let success = waited?;
            Ok(Output {
                success,
                stdout: stdout.map_err(GitError::Run)?,
                stderr: String::from_utf8_lossy(&stderr.map_err(GitError::Run)?).into_owned(),
            })
        })
    }

    /// Waits for the end, or brings it about; nothing of the group is left after it.
    fn wait(&self, child: &mut Child) -> Result<bool, GitError> {
        const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        let pid = Pid::from_child(child);
        let ended =
            rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from).and_then(|fd| {
                loop {
                    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
                    match poll(&mut fds, Some(&TICK)) {
                        Ok(0) if (self.cancelled)() => return Ok(false),
                        Ok(0) | Err(rustix::io::Errno::INTR) => {}
                        Ok(_) => return Ok(true),
                        Err(errno) => return Err(errno.into()),
                    }
                }
            });
        // Before it is reaped its number is nobody else's. No process left is no fault.
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        let status = child.wait().map_err(GitError::Run)?;
        match ended.map_err(GitError::Run)? {
            true => Ok(status.success()),
            false => Err(GitError::Cancelled),
        }
    }

    /// Returns the whole environment: nothing of ours but what the options name.
    fn environment(&self, directory: &Path, protocols: &str) -> Vec<(OsString, OsString)> {
        let home = self.options.home();
        let parent = directory.parent().unwrap_or(directory);
        let mut all: Vec<(OsString, OsString)> = self
            .options
            .proxies
            .iter()
            .filter(|(name, _)| name.to_ascii_lowercase().ends_with("_proxy"))
            .map(|(name, value)| (name.into(), value.clone()))
            .collect();
        let mut set = |name: &str, value: &OsStr| all.push((name.into(), value.into()));
        set("PATH", &self.options.path);
        set("HOME", home.as_os_str());
        set("XDG_CONFIG_HOME", home.as_os_str());
        set("LC_ALL", OsStr::new("C"));
        set("GIT_CONFIG_NOSYSTEM", OsStr::new("1"));
        set("GIT_CONFIG_GLOBAL", OsStr::new("/dev/null"));
        set("GIT_ATTR_NOSYSTEM", OsStr::new("1"));
        set("GIT_TERMINAL_PROMPT", OsStr::new("0"));
        set("GIT_NO_REPLACE_OBJECTS", OsStr::new("1"));
        set("GIT_ALLOW_PROTOCOL", OsStr::new(protocols));
        set("GIT_CEILING_DIRECTORIES", parent.as_os_str());
        set("GIT_SSH_VARIANT", OsStr::new("ssh"));
        let own_hosts = self.options.folder.join("known_hosts");
        set("GIT_SSH_COMMAND", &ssh_command(self.options.known_hosts.as_deref(), &own_hosts));
        if let Some(file) = &self.options.certificates {
            set("GIT_SSL_CAINFO", file.as_os_str());
        }
        if let Some(socket) = &self.options.ssh_agent {
            set("SSH_AUTH_SOCK", socket.as_os_str());
        }
        let own = self.settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let mut count = 0;
        for (key, value) in SETTINGS.into_iter().chain(own) {
            set(&format!("GIT_CONFIG_KEY_{count}"), OsStr::new(key));
            set(&format!("GIT_CONFIG_VALUE_{count}"), OsStr::new(value));
            count += 1;
        }
        set("GIT_CONFIG_COUNT", OsStr::new(&count.to_string()));
        all
    }
}

/// Reads all, and keeps no more than `limit` bytes of it.
fn read(pipe: Option<impl Read>, limit: u64) -> io::Result<Vec<u8>> {
    let Some(mut pipe) = pipe else { return Ok(Vec::new()) };
    let mut kept = Vec::new();
    pipe.by_ref().take(limit).read_to_end(&mut kept)?;
    io::copy(&mut pipe, &mut io::sink())?;
    Ok(kept)
}

/// Finds git in a search path; relative directories in it do not count.
pub(super) fn find_git(path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join("git"))
        .find(|file| file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok())
}

/// Tells whether `git version ...` is new enough for what is relied on: settings in the environment
/// (2.31) and GIT_CONFIG_GLOBAL (2.32). Older ones would not be as strict as they must be.
pub(super) fn check_version(text: &str) -> Result<(), GitError> {
    let version = text.strip_prefix("git version ").unwrap_or(text).trim();
    let mut numbers = version.split(['.', ' ', '-']).map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= (2, 32) => Ok(()),
        _ => Err(GitError::TooOld(version.chars().filter(|c| !c.is_control()).take(40).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_which_git_is_new_enough() {
        let check = |text: &str, expect: bool| assert_eq!(check_version(text).is_ok(), expect, "{text}");
        check("git version 2.47.3\n", true);
        check("git version 2.32.0 (Apple Git-132)", true);
        check("git version 3.0", true);
        check("git version 2.31.9", false);
        check("git version 1.99", false);
        check("something else", false);
    }

    #[test]
    fn finds_git_only_where_it_may_be_run() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("git");
        std::fs::write(&file, "").unwrap();
        let find = |path: &OsStr| find_git(path);
        assert_eq!(find(folder.path().as_os_str()), None, "not executable");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&file, mode).unwrap();
        assert_eq!(find(folder.path().as_os_str()), Some(file));
        assert_eq!(find(OsStr::new("")), None);
        assert_eq!(find(OsStr::new(".:target")), None);
    }
}
