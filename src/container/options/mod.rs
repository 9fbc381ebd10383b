//! What `run` and `create` say of a container beside its program and files: its network, what it may use,
//! and what it may do. Kept with its settings, and applied each time it is started.
//!
//! Values alone. Not here: the words of the command line (`cli`), doing it (`sandbox`).

mod network;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use network::{
    CONTAINER_ADDRESS, ExtraHost, HOST_GATEWAY, HostsError, NetworkMode, NetworkOptions, hosts_file,
};

use crate::sandbox::tmpfs::TmpfsOptions;
use crate::sandbox::{
    CgroupLimits, DEFAULT_CAPABILITIES, Limit, MountSource, Security, SecurityOptions, StepEnvironment,
    StepMount, Sysctl,
};
use crate::sys::RootDir;
use crate::sys::users::{UserError, lookup_group};

/// All of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct ContainerOptions {
    pub network: NetworkOptions,
    pub resources: Resources,
    pub rights: Rights,
    pub files: Files,
    /// `--init`: the program is the child of a first process that reaps.
    pub init: bool,
    pub sysctls: Vec<Sysctl>,
    /// `--label` and `--label-file`, over those of the image.
    pub labels: BTreeMap<String, String>,
    /// As the user wrote it.
    pub stop_signal: Option<String>,
    /// In seconds; negative is for ever.
    pub stop_timeout: Option<i64>,
}

/// What a container may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Resources {
    pub cgroup: Option<CgroupLimits>,
    pub ulimits: Vec<Limit>,
    /// Of `/dev/shm`, in bytes.
    pub shm_size: Option<u64>,
}

/// What a container may do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rights {
    pub privileged: bool,
    /// The bits of `--cap-add` and `--cap-drop`.
    pub capabilities: u64,
    pub security: SecurityOptions,
    /// Names or numbers of groups in the image.
    pub groups: Vec<String>,
    /// As they were written, for `inspect`.
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub security_opt: Vec<String>,
}

/// What of its files is special.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Files {
    pub read_only: bool,
    pub tmpfs: Vec<(PathBuf, TmpfsOptions)>,
    /// Devices of the host, and where they are seen.
    pub devices: Vec<(PathBuf, PathBuf)>,
}

impl Default for Rights {
    fn default() -> Rights {
        Rights {
            privileged: false,
            capabilities: DEFAULT_CAPABILITIES,
            security: SecurityOptions::default(),
            groups: Vec::new(),
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            security_opt: Vec::new(),
        }
    }
}

impl ContainerOptions {
    /// Puts all but the network into what is started; `root` is the root that it will see, for names of groups.
    ///
    /// The user is to be set before. Mounts are added to those that are there.
    pub fn apply(&self, step: &mut StepEnvironment, root: &RootDir) -> Result<(), UserError> {
        step.cgroup = self.resources.cgroup.clone();
        step.limits = self.resources.ulimits.clone();
        if let Some(size) = self.resources.shm_size {
            step.shm_size = size;
        }
        step.capabilities = self.rights.capabilities;
        self.rights.security.apply(step);
        if self.rights.privileged {
            step.security = Security::Insecure;
        }
        for group in &self.rights.groups {
            let group = lookup_group(root, group)?;
            if !step.user.groups.contains(&group) {
                step.user.groups.push(group);
            }
        }
        step.read_only_root = self.files.read_only;
        step.mounts.extend(self.files.tmpfs.iter().map(|(target, options)| StepMount {
            target: target.clone(),
            source: MountSource::TmpfsWith(options.clone()),
        }));
        step.devices = self.files.devices.clone();
        step.sysctls = self.sysctls.clone();
        step.init = self.init;
        Ok(())
    }
}
