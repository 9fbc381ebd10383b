//! What is known of one build, as it is kept on disk and shown as JSON.

use serde::{Deserialize, Serialize};

use super::names::RefName;

/// How far a build is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Pending,
    Building,
    Pushing,
    Finished,
    Failed,
    Cancelled,
}

impl State {
    /// Tells whether nothing more comes of it.
    pub fn is_over(self) -> bool {
        matches!(self, State::Finished | State::Failed | State::Cancelled)
    }

    /// Returns the word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Building => "building",
            State::Pushing => "pushing",
            State::Finished => "finished",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
        }
    }
}

/// A process, so that no other one is taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: u32,
    /// When it began, in the kernel's ticks: proc_pid_stat(5).
    pub start: u64,
}

/// One build. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    pub id: u64,
    pub project: String,
    #[serde(rename = "ref")]
    pub reference: RefName,
    /// The commit, once it is known.
    pub commit: Option<String>,
    pub state: State,
    /// Who asked for it.
    pub cause: String,
    /// How many triggers it answers.
    pub triggers: u32,
    /// The names of the image.
    pub images: Vec<String>,
    /// Those of them that a registry has.
    pub pushed: Vec<String>,
    pub queued: i64,
    pub started: Option<i64>,
    pub ended: Option<i64>,
    /// Why it failed.
    pub error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
}

impl Build {
    /// Returns how long it took, or takes until now.
    pub fn milliseconds(&self, now: i64) -> Option<u64> {
        let ended = self.ended.unwrap_or(now);
        Some(u64::try_from(ended.saturating_sub(self.started?)).unwrap_or(0))
    }
}

impl Process {
    /// Returns a process that runs.
    pub fn of(pid: u32) -> Option<Process> {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        Some(Process { pid, start: start_in(&String::from_utf8_lossy(&stat))? })
    }

    /// Ends it and its group, if it is still the same.
    pub fn end(self) {
        if Process::of(self.pid) == Some(self)
            && let Some(pid) = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::TERM);
        }
    }
}

/// Reads the 22nd field; the second may hold blanks and parentheses.
fn start_in(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Returns the time.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_again() {
        let own = Process::of(std::process::id()).unwrap();
        assert_eq!(Process::of(std::process::id()), Some(own));
        assert_eq!(Process::of(u32::MAX), None);
        let stat = "7 (a) b) S 1 1 1 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        assert_eq!(start_in(stat), Some(12345));
    }
}
