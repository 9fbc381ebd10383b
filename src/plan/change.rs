//! What an instruction does to the config of containers, kept instead of the whole config
//! after it: a file of n lines that each set a variable would need n²/2 of them.
//!
//! Not here: reading the instructions (`config`), and what is no container's (`MAINTAINER`).

use crate::image::ContainerConfig;
use crate::image::Empty;
use crate::image::Healthcheck;

/// One change of a config.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Names and values; a variable that is there keeps its place.
    Env(Vec<(String, String)>),
    Labels(Vec<(String, String)>),
    User(String),
    WorkingDir(String),
    Cmd(Vec<String>),
    Entrypoint(Vec<String>),
    /// The CMD of the base does not outlive an ENTRYPOINT.
    NoCmd,
    /// Each as `80/tcp`.
    Ports(Vec<String>),
    Volumes(Vec<String>),
    Shell(Vec<String>),
    StopSignal(String),
    Healthcheck(Healthcheck),
    OnBuild(String),
}

impl Change {
    /// Makes the change.
    pub fn apply(&self, config: &mut ContainerConfig) {
        match self {
            Change::Env(pairs) => pairs.iter().for_each(|(name, value)| config.set_env(name, value)),
            Change::Labels(pairs) => config.labels.extend(pairs.iter().cloned()),
            Change::User(user) => config.user.clone_from(user),
            Change::WorkingDir(path) => config.working_dir.clone_from(path),
            Change::Cmd(words) => {
                config.cmd = Some(words.clone());
                config.args_escaped = true;
            }
            Change::Entrypoint(words) => config.entrypoint = Some(words.clone()),
            Change::NoCmd => config.cmd = None,
            Change::Ports(ports) => config.exposed_ports.extend(marked(ports)),
            Change::Volumes(paths) => config.volumes.extend(marked(paths)),
            Change::Shell(words) => config.shell = Some(words.clone()),
            Change::StopSignal(signal) => config.stop_signal = Some(signal.clone()),
            Change::Healthcheck(check) => config.healthcheck = Some(check.clone()),
            Change::OnBuild(text) => config.on_build.push(text.clone()),
        }
    }

    /// Returns about how many bytes it takes.
    pub(super) fn size(&self) -> usize {
        let pairs = |pairs: &[(String, String)]| pairs.iter().map(|(k, v)| k.len() + v.len() + 48).sum();
        let texts = |texts: &[String]| texts.iter().map(|text| text.len() + 24).sum();
        64 + match self {
            Change::Env(list) | Change::Labels(list) => pairs(list),
            Change::Cmd(list)
            | Change::Entrypoint(list)
            | Change::Ports(list)
            | Change::Volumes(list)
            | Change::Shell(list) => texts(list),
            Change::User(text)
            | Change::WorkingDir(text)
            | Change::StopSignal(text)
            | Change::OnBuild(text) => text.len(),
            Change::Healthcheck(check) => texts(&check.test),
            Change::NoCmd => 0,
        }
    }
}

fn marked(names: &[String]) -> impl Iterator<Item = (String, Empty)> {
    names.iter().map(|name| (name.clone(), Empty {}))
}
