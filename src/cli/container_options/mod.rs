//! Options of `run` and `create` beside the program and its volumes: network, limits, rights, files.
//!
//! The words are docker's. Each part reads its own (`network`, `limits`, `rights`, `files`, `text`) and
//! puts it into the container's options. Not here: doing it (`container`, `sandbox`).

mod daemon;
mod files;
mod limits;
mod network;
mod proxies;
mod rights;
mod text;

use clap::{ArgAction, Args};

pub use daemon::publish_address;
pub use proxies::with_proxies;

use super::error::CommandError;
use super::isolation::IsolationArg;
use crate::container::options::ContainerOptions;
use crate::image::{ContainerConfig, Platform};

/// The options.
#[derive(Debug, Default, Args)]
#[command(disable_help_flag = true)]
pub struct ContainerOptionArgs {
    #[command(flatten)]
    network: network::NetworkArgs,
    #[command(flatten)]
    limits: limits::LimitArgs,
    #[command(flatten)]
    rights: rights::RightsArgs,
    #[command(flatten)]
    files: files::FileArgs,
    #[command(flatten)]
    text: text::TextArgs,
    #[command(flatten)]
    pub isolation: IsolationArg,
    /// The platform of the image; it must be that of this machine
    #[arg(long, value_name = "OS/ARCH", help_heading = "Image")]
    platform: Option<String>,
    /// Run a first process that reaps what is left to it, and passes signals on to the program
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    init: Option<bool>,
    /// The signal that stops the container
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// How many seconds a stop waits before it kills; -1 is for ever
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    stop_timeout: Option<i64>,
    /// Print help
    // As docker, whose -h is the host name.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// What the options say.
#[derive(Debug)]
pub struct Given {
    pub options: ContainerOptions,
    /// A line for each option that has no effect, and for what is to be known.
    pub notes: Vec<String>,
}

impl ContainerOptionArgs {
    /// Tells whether the container is to have a network of its own.
    pub fn private_network(&self) -> bool {
        self.network.is_private()
    }

    /// Reads them all. `rootless` tells whether the user is an ordinary one.
    pub fn read(&self, rootless: bool) -> Result<Given, CommandError> {
        let mut notes = Vec::new();
        let rights = self.rights.read(rootless, &mut notes)?;
        let (files, sysctls) = (self.files.read()?, self.rights.sysctls()?);
        let resources = self.limits.read(&mut notes)?;
        let network = self.network.read(&mut notes)?;
        if let Some(setting) = sysctls.iter().find(|setting| setting.is_of_network())
            && network.mode == crate::container::options::NetworkMode::Host
        {
            return Err(CommandError::usage(format!(
                "sysctl '{}' is not allowed with host network mode: it would be one of the whole machine",
                setting.name
            )));
        }
        if let Some(text) = &self.platform {
            check_platform(text)?;
        }
        let options = ContainerOptions {
            network,
            resources,
            rights,
            files,
            init: self.init == Some(true),
            sysctls,
            labels: self.text.labels()?,
            stop_signal: self.stop_signal.clone(),
            stop_timeout: self.stop_timeout,
        };
        Ok(Given { options, notes })
    }

    /// Adds to a config what `--expose` and `--label` say, before it is kept.
    pub fn change(&self, given: &Given, config: &mut ContainerConfig) -> Result<(), CommandError> {
        for port in self.network.exposed()? {
            config.exposed_ports.entry(port.to_string()).or_default();
        }
        config.labels.extend(given.options.labels.clone());
        Ok(())
    }
}

fn check_platform(text: &str) -> Result<(), CommandError> {
    let wanted: Platform =
        text.parse().map_err(|error| CommandError::usage(format!("invalid --platform `{text}`: {error}")))?;
    let own = Platform::host();
    match (&wanted.os, &wanted.architecture) == (&own.os, &own.architecture) {
        true => Ok(()),
        false => Err(CommandError::usage(format!(
            "--platform {text}: this machine runs programs of {own}; no other is emulated"
        ))),
    }
}

#[cfg(test)]
mod tests;
