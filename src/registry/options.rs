//! What the caller says about how registries are reached.
//!
//! Not here: reading the files that are named.

use std::path::PathBuf;

use super::credentials::CredentialOptions;
use super::settings::SettingsFile;
use crate::net::{ProxySettings, RetryListener, RetryPolicy};

/// How registries are reached; nothing of it is read before it is needed.
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// The environment's or the command line's; where they name none, those of docker's files count.
    pub proxies: ProxySettings,
    /// Whether those of docker's files do not count either.
    pub no_other_proxies: bool,
    pub retry: RetryPolicy,
    /// Hears of each repetition.
    pub listener: RetryListener,
    /// Registries (`host[:port]`, as in references) that may be spoken to by http and with any certificate,
    /// besides those of this machine.
    pub insecure: Vec<String>,
    /// Certificates (PEM) believed besides the system's, for all hosts.
    pub ca_file: Option<PathBuf>,
    pub credentials: CredentialOptions,
    /// Insecure registries and mirrors: docker's `daemon.json`, our `registries.json`.
    pub settings: Vec<SettingsFile>,
    /// docker's `certs.d`.
    pub certificate_folders: Vec<PathBuf>,
}
