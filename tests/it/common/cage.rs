//! What a command leaves behind: processes and mounts.
//!
//! Where the suite is root, the command runs in a pid and a mount namespace of
//! its own whose first process is a shell that outlives it. Whatever the
//! command started is a descendant of that shell, however it was orphaned, so
//! that what is left can be listed without guessing.

use std::fs;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::fs::Timespec;
use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::Signal;

use super::command::Cmd;
use super::command::Job;
use super::env::TestEnv;

/// Runs the command, says how it ended, and stays until its input ends.
const KEEPER: &str = r#""$@" </dev/null; echo "@exited $?"; echo "@end"; read -r end || true"#;

/// How long a killed process may take to go, in seconds; only a leak waits so long.
const GOING_S: i64 = 10;

/// A command in its cage.
pub struct Caged<'e> {
    env: &'e TestEnv,
    job: Job,
}

impl<'e> Caged<'e> {
    /// Starts a command of a place in a cage.
    #[track_caller]
    pub fn start(env: &'e TestEnv, command: &Cmd<'_>) -> Caged<'e> {
        let words = command.words();
        let mut cage: Vec<String> = Vec::new();
        if rustix::process::geteuid().is_root() {
            cage.extend(["unshare", "--pid", "--fork", "--mount-proc"].map(str::to_owned));
        }
        if let Some(ids) = env.ids() {
            cage.push("setpriv".to_owned());
            cage.extend([format!("--reuid={}", ids.uid), format!("--regid={}", ids.gid)]);
            cage.push("--clear-groups".to_owned());
        }
        cage.extend(["sh", "-c", KEEPER, "sh"].map(str::to_owned));
        let (program, rest) = cage.split_first().expect("never empty");
        let rest: Vec<&str> = rest.iter().map(String::as_str).chain(words).collect();
        let job = env.program(program, &rest).without_changing_user().stdin_pipe().spawn();
        Caged { env, job }
    }

    /// Waits until the command has said `text`.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let found = self.job.wait_for_either(text, "@end\n");
        assert!(found, "the command ended without saying `{text}`:\n{}", self.job.said());
    }

    /// Waits until the command has said so many lines, or all of `texts`, or has ended.
    pub fn wait_for_lines(&self, count: usize, texts: &[&str]) {
        self.job.wait_for_lines(count, texts, "@end\n");
    }

    /// Sends a signal to the command's first process; does nothing when it has ended.
    pub fn signal(&self, signal: Signal) {
        let keeper = self.keeper();
        // Between its fork and its exec it is still the shell, which may take the signal for its own.
        let words =
            |pid: i32| fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|words| !words.is_empty());
        let shell = words(keeper);
        let is_it = |pid: &i32| words(*pid).is_some_and(|own| Some(own) != shell);
        let find = || children(keeper).into_iter().filter(is_it).collect::<Vec<_>>();
        let mut started = find();
        while started.is_empty() && !self.job.said().contains("@end\n") {
            std::thread::yield_now();
            started = find();
        }
        for pid in started {
            let _ = rustix::process::kill_process(Pid::from_raw(pid).expect("not 0"), signal);
        }
    }

    /// The keeper's process: the job itself, or the one behind `unshare`.
    fn keeper(&self) -> i32 {
        let is_keeper = |pid: i32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with("sh\0-c\0")
        };
        loop {
            let all = [vec![self.job.pid()], descendants(self.job.pid())].concat();
            match all.into_iter().find(|pid| is_keeper(*pid)) {
                Some(pid) => return pid,
                None if self.job.ended() => panic!("the cage ended too early:\n{}", self.job.said()),
                // Not there yet: `unshare` or `setpriv` has not become it.
                None => std::thread::yield_now(),
            }
        }
    }

    /// Waits for the command's end and requires that nothing of it is left. Returns its exit
    /// code (128 and the signal's number when killed) and what it said.
    #[track_caller]
    pub fn finish(mut self) -> (i32, String) {
        self.job.wait_for("@end\n");
        let keeper = self.keeper();
        let left: Vec<String> = descendants(keeper).into_iter().filter_map(still_there).collect();
        let said = self.job.said();
        assert!(left.is_empty(), "processes are left: {left:#?}\n{said}");

        let mounts = fs::read_to_string(format!("/proc/{keeper}/mountinfo")).unwrap();
        let place = self.env.dir().to_str().expect("made of ASCII");
        let left: Vec<&str> = mounts.lines().filter(|m| m.contains(place)).collect();
        assert!(left.is_empty(), "mounts are left: {left:#?}\n{said}");

        let left: Vec<_> = fs::read_dir(self.env.tmp()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.is_empty(), "temporary files are left: {left:?}\n{said}");

        self.job.close_stdin();
        let outcome = self.job.finish();
        let code = outcome.both.lines().find_map(|line| line.split_once("@exited ")?.1.trim().parse().ok());
        (code.unwrap_or_else(|| panic!("the keeper says how it ended\n{outcome}")), outcome.both)
    }
}

/// Returns the pid and parent of every process.
fn processes() -> Vec<(i32, i32)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name, in brackets, may hold anything; the parent is the second word after it.
            let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect()
}

fn children(of: i32) -> Vec<i32> {
    processes().into_iter().filter(|(_, parent)| *parent == of).map(|(pid, _)| pid).collect()
}

fn descendants(of: i32) -> Vec<i32> {
    let all = processes();
    let mut found = vec![of];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        found.extend(all.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found.split_off(1)
}

/// Waits until a process has ended; describes it when it does not.
fn still_there(pid: i32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
    let fd = rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    let mut poll = [PollFd::new(&fd, PollFlags::IN)];
    let ended = rustix::event::poll(&mut poll, Some(&Timespec { tv_sec: GOING_S, tv_nsec: 0 })).ok()? > 0;
    (!ended).then(|| format!("{pid} {name}"))
}
