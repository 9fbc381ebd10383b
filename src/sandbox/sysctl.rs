//! Settings of the kernel that belong to namespaces: `--sysctl`.
//!
//! Not here: writing them (`child`).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A setting, as `net.core.somaxconn`, and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    pub name: String,
    pub value: String,
}

/// Why a setting is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SysctlError {
    #[error("invalid argument \"{0}\" for \"--sysctl\" flag: it is written NAME=VALUE")]
    Form(String),
    #[error("sysctl '{0}' is not whitelisted: it is no setting of a namespace but one of the whole machine")]
    NotOfNamespace(String),
}

/// Those of IPC namespaces: ipc_namespaces(7).
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

impl Sysctl {
    /// Reads `NAME=VALUE`; those that would change more than a container are refused, as docker does.
    pub fn parse(text: &str) -> Result<Sysctl, SysctlError> {
        let Some((name, value)) = text.split_once('=') else {
            return Err(SysctlError::Form(text.to_owned()));
        };
        let plain = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        };
        if !name.split('.').all(plain) {
            return Err(SysctlError::Form(text.to_owned()));
        }
        let own = IPC.contains(&name) || name.starts_with("fs.mqueue.") || name.starts_with("net.");
        match own {
            true => Ok(Sysctl { name: name.to_owned(), value: value.to_owned() }),
            false => Err(SysctlError::NotOfNamespace(name.to_owned())),
        }
    }

    /// Tells whether it belongs to a network namespace.
    pub fn is_of_network(&self) -> bool {
        self.name.starts_with("net.")
    }

    /// Returns the file of it: proc_sys(5).
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from("/proc/sys").join(self.name.replace('.', "/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_namespaces_alone() {
        let check = |text: &str, path: &str| {
            let parsed = Sysctl::parse(text).unwrap();
            assert_eq!(parsed.path(), PathBuf::from(path), "{text}");
        };
        check("net.core.somaxconn=1024", "/proc/sys/net/core/somaxconn");
        check("kernel.shm_rmid_forced=1", "/proc/sys/kernel/shm_rmid_forced");
        check("fs.mqueue.msg_max=5", "/proc/sys/fs/mqueue/msg_max");
        let bad = |text: &str, expect: &str| {
            let error = Sysctl::parse(text).unwrap_err().to_string();
            assert!(error.contains(expect), "{text}: {error}");
        };
        bad("net.core.somaxconn", "NAME=VALUE");
        bad("net/../kernel.core_pattern=x", "NAME=VALUE");
        bad("net...x=1", "NAME=VALUE");
        bad("=1", "NAME=VALUE");
        bad("kernel.core_pattern=|/x", "'kernel.core_pattern' is not whitelisted");
        bad("vm.swappiness=1", "not whitelisted");
    }
}
