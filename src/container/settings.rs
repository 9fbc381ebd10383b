//! What a container is started with, every time: kept with its record.
//!
//! Values alone, made from the image and the command line when the container is made. Not here: what
//! becomes of it (`state`), where it lies (`store`).

use serde::{Deserialize, Serialize};

use super::log::LogConfig;
use super::mounts::ContainerMount;
use super::options::ContainerOptions;
use super::process::Start;
use crate::image::ContainerConfig;
use crate::store::{KeptContainer, StoreError};

/// All settings of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// The image's config with what the command line changed: what a commit gives to its image.
    pub config: ContainerConfig,
    /// What is started.
    pub start: Start,
    pub hostname: String,
    /// `-t`: it has a terminal.
    pub terminal: bool,
    /// `-i`: its standard input stays open.
    pub open_stdin: bool,
    /// Standard input ends when the first who is attached to it leaves.
    pub stdin_once: bool,
    /// What its maker took part in.
    #[serde(default)]
    pub attached: Streams,
    /// Network, limits, rights and the like.
    pub options: ContainerOptions,
    /// What is mounted besides the root.
    #[serde(default)]
    pub mounts: Vec<ContainerMount>,
    pub restart: RestartPolicy,
    /// `--rm`: the container goes when it has ended.
    pub auto_remove: bool,
    pub stop_signal: i32,
    /// How long a stop waits before it kills; negative: for ever.
    pub stop_timeout_s: i64,
    /// Where its output goes.
    #[serde(default)]
    pub log: LogConfig,
}

/// The streams of a container that somebody takes part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// When a container that ended is started again; docker's `--restart`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum RestartPolicy {
    #[default]
    No,
    Always,
    UnlessStopped,
    /// After a code other than 0, at most so many times; 0 is without limit.
    OnFailure(u32),
}

/// Says what is wrong with a `--restart`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadRestart {
    #[error("invalid restart policy '{0}'")]
    Unknown(String),
    #[error("maximum retry count must be an integer")]
    Count,
    #[error("maximum retry count cannot be used with restart policy '{0}'")]
    NoCount(String),
}

impl RestartPolicy {
    /// Tells whether a container that ended by itself with this code is started again, having been so often.
    pub fn again(self, exit_code: i32, restarts: u32) -> bool {
        match self {
            RestartPolicy::No => false,
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
            RestartPolicy::OnFailure(most) => exit_code != 0 && (most == 0 || restarts < most),
        }
    }

    /// Returns docker's word for it.
    pub fn name(self) -> &'static str {
        match self {
            RestartPolicy::No => "no",
            RestartPolicy::Always => "always",
            RestartPolicy::UnlessStopped => "unless-stopped",
            RestartPolicy::OnFailure(_) => "on-failure",
        }
    }
}

impl std::str::FromStr for RestartPolicy {
    type Err = BadRestart;

    fn from_str(text: &str) -> Result<RestartPolicy, BadRestart> {
        let (name, count) = match text.split_once(':') {
            Some((name, count)) => (name, Some(count.parse::<u32>().map_err(|_| BadRestart::Count)?)),
            None => (text, None),
        };
        let policy = match name {
            "" | "no" => RestartPolicy::No,
            "always" => RestartPolicy::Always,
            "unless-stopped" => RestartPolicy::UnlessStopped,
            "on-failure" => return Ok(RestartPolicy::OnFailure(count.unwrap_or(0))),
            _ => return Err(BadRestart::Unknown(text.to_owned())),
        };
        match count {
            Some(_) => Err(BadRestart::NoCount(name.to_owned())),
            None => Ok(policy),
        }
    }
}

impl Settings {
    /// Reads the settings that are kept with a container.
    pub fn of(kept: &KeptContainer) -> Result<Settings, StoreError> {
        serde_json::from_value(kept.settings.clone()).map_err(|error| StoreError::Broken {
            entry: format!("container {}", kept.id.short()),
            why: error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_policies() {
        let check = |text: &str, expect| assert_eq!(text.parse(), Ok(expect), "{text}");
        check("no", RestartPolicy::No);
        check("always", RestartPolicy::Always);
        check("unless-stopped", RestartPolicy::UnlessStopped);
        check("on-failure", RestartPolicy::OnFailure(0));
        check("on-failure:3", RestartPolicy::OnFailure(3));
        let bad = |text: &str, expect| assert_eq!(text.parse::<RestartPolicy>(), Err(expect), "{text}");
        bad("sometimes", BadRestart::Unknown("sometimes".into()));
        bad("on-failure:x", BadRestart::Count);
        bad("always:2", BadRestart::NoCount("always".into()));
    }

    #[test]
    fn when_it_is_started_again() {
        assert!(!RestartPolicy::No.again(1, 0));
        assert!(RestartPolicy::Always.again(0, 99));
        assert!(!RestartPolicy::OnFailure(2).again(0, 0));
        assert!(RestartPolicy::OnFailure(2).again(1, 1));
        assert!(!RestartPolicy::OnFailure(2).again(1, 2));
        assert!(RestartPolicy::OnFailure(0).again(1, 1000));
    }
}
