//! What the command line gives to every RUN: secrets, agents, limits, rights. None of it is in a key.
//!
//! Not here: reading the command line (`cli`), what a Dockerfile asks for (`plan`).

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::sandbox::{CgroupLimits, DnsOptions, Limit, SecurityOptions};

/// What steps get beside what the plan says.
#[derive(Debug, Clone, Default)]
pub struct StepOptions {
    /// By id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// By id.
    pub agents: BTreeMap<String, AgentSource>,
    /// Whether cache mounts are emptied before their first use in the build.
    pub empty_cache_mounts: bool,
    /// Names and addresses for `/etc/hosts`.
    pub extra_hosts: Vec<(String, String)>,
    /// In bytes; `None` is the sandbox's default.
    pub shm_size: Option<u64>,
    pub limits: Vec<Limit>,
    pub cgroup: Option<CgroupLimits>,
    pub security: SecurityOptions,
    /// What stands in `/etc/resolv.conf` besides or instead of the host's.
    pub dns: DnsOptions,
    /// How long the process of a step may run; `None` is for ever.
    pub timeout: Option<Duration>,
    /// How long a step may be silent before that is told; told again after twice the time, and so on.
    /// `None` is a minute.
    pub silence: Option<Duration>,
}

/// Where a secret comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// Read when the first step needs it.
    File(PathBuf),
    Value(Arc<[u8]>),
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretSource::File(path) => write!(f, "File({})", path.display()),
            SecretSource::Value(_) => f.write_str("Value(..)"),
        }
    }
}

/// Where an SSH agent comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentSource {
    /// One that runs: its socket.
    Socket(PathBuf),
    /// One that is started for the build, with these private keys.
    Keys(Vec<PathBuf>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let mut options = StepOptions::default();
        options.secrets.insert("s".into(), SecretSource::Value(b"hush"[..].into()));
        let text = format!("{options:?}");
        assert!(text.contains("Value(..)") && !text.contains("hush") && !text.contains("104"), "{text}");
    }
}
