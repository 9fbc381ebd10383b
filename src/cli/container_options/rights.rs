//! `--cap-add`, `--cap-drop`, `--privileged`, `--security-opt`, `--group-add`, `--sysctl`, and namespaces that
//! are not shared.

use std::path::Path;

use clap::Args;

use crate::cli::error::{CommandError, chain};
use crate::container::options::Rights;
use crate::sandbox::{SecurityOptions, Sysctl, capability};

/// The options.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Rights")]
pub struct RightsArgs {
    /// Give the container a capability, as NET_ADMIN, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Take a capability from the container, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// Give the container all rights of whoever runs it: capabilities, devices, no system call filter
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    privileged: Option<bool>,
    /// A security option: seccomp=FILE|unconfined|builtin, no-new-privileges, apparmor=PROFILE, label=disable,
    /// systempaths=unconfined
    #[arg(long = "security-opt", value_name = "OPTION")]
    security: Vec<String>,
    /// One more group of the program's user
    #[arg(long = "group-add", value_name = "GROUP")]
    groups: Vec<String>,
    /// A setting of the kernel in the container's namespaces, as net.core.somaxconn=1024
    #[arg(long = "sysctl", value_name = "NAME=VALUE")]
    sysctls: Vec<String>,
    /// The user namespace: host
    #[arg(long, value_name = "MODE")]
    userns: Option<String>,
    /// The namespace of processes: private alone
    #[arg(long, value_name = "MODE")]
    pid: Option<String>,
    /// The namespace of IPC: private alone
    #[arg(long, value_name = "MODE")]
    ipc: Option<String>,
    /// The namespace of the host name: private alone
    #[arg(long, value_name = "MODE")]
    uts: Option<String>,
}

impl RightsArgs {
    /// Reads them.
    pub fn read(&self, rootless: bool, notes: &mut Vec<String>) -> Result<Rights, CommandError> {
        let capabilities = capability::chosen(&self.cap_add, &self.cap_drop)
            .map_err(|error| CommandError::usage(error.to_string()))?;
        let read = |file: &Path| std::fs::read(file);
        let (security, unused) = SecurityOptions::parse(&self.security, capabilities, read)
            .map_err(|error| CommandError::usage(chain(&error)))?;
        notes.extend(unused.iter().map(|note| format!("warning: {note}")));
        self.namespaces(rootless, notes)?;
        if self.groups.iter().any(|group| group.is_empty()) {
            return Err(CommandError::usage("--group-add: a group is expected"));
        }
        Ok(Rights {
            privileged: self.privileged == Some(true),
            capabilities,
            security,
            groups: self.groups.clone(),
            cap_add: self.cap_add.clone(),
            cap_drop: self.cap_drop.clone(),
            security_opt: self.security.clone(),
        })
    }

    /// Reads `--sysctl`.
    pub fn sysctls(&self) -> Result<Vec<Sysctl>, CommandError> {
        let read =
            |text: &String| Sysctl::parse(text).map_err(|error| CommandError::usage(error.to_string()));
        self.sysctls.iter().map(read).collect()
    }

    fn namespaces(&self, rootless: bool, notes: &mut Vec<String>) -> Result<(), CommandError> {
        match self.userns.as_deref() {
            None | Some("") => {}
            Some("host") if rootless => notes.push(
                "note: --userns=host has no effect: containers of an ordinary user are in that user's own namespace"
                    .to_owned(),
            ),
            Some("host") => {}
            Some(other) => {
                return Err(CommandError::usage(format!("invalid USER mode: {other}"))
                    .hint("there is host, which containers of root have anyway"));
            }
        }
        for (option, value, why) in [
            ("pid", &self.pid, "a container's processes are ended with their own namespace"),
            ("ipc", &self.ipc, "each container has shared memory of its own; share files by a volume"),
            ("uts", &self.uts, "each container has a host name of its own: --hostname"),
        ] {
            match value.as_deref() {
                None | Some("" | "private") => {}
                Some(other) => {
                    return Err(CommandError::usage(format!("--{option}={other} is not supported: {why}")));
                }
            }
        }
        Ok(())
    }
}
