//! The configuration files: what the machine and its user want where nothing else is said.
//!
//! `/etc/rbuild/config.toml`, and over it the user's; environment and options are over both. `keys` has
//! every key, `file` reads a file, `show` is `rbuild config`. Not here: where the files are (`world`), and
//! what the values do (each with its command).

mod file;
mod keys;
mod show;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub use self::keys::{KEYS, Key};
pub use self::show::{ConfigArgs, config};
use super::error::CommandError;
use super::{ui, world};
use crate::net::ProxySettings;

/// What the files say; `None` where none does.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Config {
    pub build: BuildConfig,
    pub proxy: ProxyConfig,
    pub store: StoreConfig,
    /// By `section.key`: the file that a value is from.
    origins: BTreeMap<String, PathBuf>,
}

/// `[build]`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct BuildConfig {
    /// One of the words of `--progress`.
    pub progress: Option<String>,
    pub isolation: Option<String>,
    /// Addresses of name servers.
    pub dns: Option<Vec<String>>,
    pub retry: Option<u64>,
    /// Durations, as the options take them.
    pub retry_delay: Option<String>,
    pub step_timeout: Option<String>,
    /// One of the words of `--on-failure`.
    pub on_failure: Option<String>,
    /// Absolute.
    pub ca_cert: Option<PathBuf>,
}

/// `[proxy]`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ProxyConfig {
    pub http: Option<String>,
    pub https: Option<String>,
    /// As in `no_proxy`: by commas.
    pub no: Option<String>,
}

/// `[store]`; spaces in bytes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// Absolute.
    pub root: Option<PathBuf>,
    pub snapshotter: Option<String>,
    pub max_used_space: Option<u64>,
    pub min_free_space: Option<u64>,
    pub reserved_space: Option<u64>,
    pub min_free_inodes: Option<u64>,
    pub keep_days: Option<u64>,
}

impl Config {
    /// Returns the file that says `section.key`.
    pub fn origin(&self, key: &str) -> Option<&Path> {
        self.origins.get(key).map(PathBuf::as_path)
    }

    /// Returns the proxies of the files.
    pub fn proxies(&self) -> ProxySettings {
        let ProxyConfig { http, https, no } = self.proxy.clone();
        ProxySettings { http, https, all: None, no_proxy: no }
    }

    /// Returns what the files say of a key as text, and which file says it.
    pub fn said(&self, key: &Key) -> Option<(String, String)> {
        let file = self.origins.get(&key.path())?;
        Some(((key.get)(self)?, file.display().to_string()))
    }
}

/// Returns what the files say of a limit of the store (`max_used_space`) as text, and where.
pub fn limit(name: &str) -> Option<(String, String)> {
    let key = KEYS.iter().find(|key| key.section == "store" && key.name == name)?;
    let (text, file) = get_quietly()?.said(key)?;
    Some((text, format!("{} of {file}", key.path())))
}

/// Returns what the files say, read once.
///
/// # Errors
/// A file that is there and cannot be read, or is wrong: it is never passed over.
pub fn get() -> Result<&'static Config, CommandError> {
    static SAID: std::sync::Once = std::sync::Once::new();
    match loaded() {
        Ok(config) => Ok(config),
        Err(wrong) => {
            SAID.call_once(|| ui::note(&wrong.drawn(ui::err_in_colour())));
            Err(wrong.error())
        }
    }
}

/// Returns what the files say, and nothing where one is wrong.
pub fn get_quietly() -> Option<&'static Config> {
    loaded().as_ref().ok()
}

fn loaded() -> &'static Result<Config, file::Wrong> {
    static LOADED: OnceLock<Result<Config, file::Wrong>> = OnceLock::new();
    LOADED.get_or_init(|| {
        let mut config = Config::default();
        // The user's comes last, and wins.
        for path in world::config_files() {
            file::read(&path, &mut config)?;
        }
        Ok(config)
    })
}
