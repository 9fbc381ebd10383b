//! How registries are reached: what all repositories of one run share.
//!
//! Not here: requests (`transport`), credentials (`auth`), operations (`repository`, `upload`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::auth::Auth;
use super::certs;
use super::config_file::ConfigFile;
use super::error::RegistryError;
use super::host::Endpoint;
use super::options::RegistryOptions;
use super::repository::Repository;
use super::settings::Settings;
use crate::image::Reference;
use crate::net::{Client, ClientOptions, ProxySettings, TlsOptions};

/// The registries of the world; threads share it by reference, and it does nothing until asked.
#[derive(Debug)]
pub struct Registries {
    pub(super) options: RegistryOptions,
    pub(super) auth: Auth,
    known: OnceLock<Known>,
    /// By `host[:port]`, and whether any certificate will do.
    clients: Mutex<HashMap<(String, bool), Arc<Client>>>,
    /// What an insecure server turned out to speak.
    schemes: Mutex<HashMap<String, &'static str>>,
}

/// What the files say.
#[derive(Debug)]
pub struct Known {
    pub settings: Settings,
    proxies: ProxySettings,
    /// Headers for every registry.
    pub headers: Vec<(String, String)>,
}

impl Registries {
    /// Makes it; nothing is read or asked yet.
    pub fn new(options: RegistryOptions) -> Registries {
        Registries {
            options,
            auth: Auth::default(),
            known: OnceLock::new(),
            clients: Mutex::default(),
            schemes: Mutex::default(),
        }
    }

    /// Returns the repository that a reference names; its tag and digest do not matter.
    pub fn repository(&self, name: &Reference) -> Repository<'_> {
        Repository::new(self, name)
    }

    /// Returns what the files say, read once.
    pub(super) fn known(&self) -> Result<&Known, RegistryError> {
        if let Some(known) = self.known.get() {
            return Ok(known);
        }
        let mut settings = Settings::read(&self.options.settings)?;
        let unusable = |why| RegistryError::Settings { path: "registry.insecure".into(), why };
        settings.allow_insecure(&self.options.insecure).map_err(unusable)?;
        let config = self.options.credentials.config_file.as_deref().map(ConfigFile::read).transpose()?;
        let (headers, configured) = match &config {
            Some(config) => (config.headers()?, config.proxies()?),
            None => Default::default(),
        };
        let given = self.options.proxies.clone();
        let proxies = match self.options.no_other_proxies {
            true => given,
            false => given.or(&settings.proxies).or(&configured),
        };
        Ok(self.known.get_or_init(|| Known { settings, proxies, headers }))
    }

    /// Returns the client for a server.
    pub(super) fn client(&self, endpoint: &Endpoint) -> Result<Arc<Client>, RegistryError> {
        let key = (endpoint.host.clone(), endpoint.insecure);
        if let Some(client) = locked(&self.clients).get(&key) {
            return Ok(client.clone());
        }
        let mut tls = certs::find(&self.options.certificate_folders, &endpoint.host)?;
        tls.ca_files.extend(self.options.ca_file.clone());
        let client = Client::new(ClientOptions {
            proxies: self.known()?.proxies.clone(),
            tls: TlsOptions { any_certificate: endpoint.insecure, ..tls },
            retry: self.options.retry,
            listener: self.options.listener.clone(),
            ..ClientOptions::default()
        });
        // Of two that were made at once, one counts.
        Ok(locked(&self.clients).entry(key).or_insert_with(|| Arc::new(client)).clone())
    }

    /// Returns the scheme that a server is known to speak.
    pub(super) fn scheme(&self, endpoint: &Endpoint) -> Option<&'static str> {
        if endpoint.plain {
            return Some("http");
        }
        locked(&self.schemes).get(&endpoint.host).copied()
    }

    /// Remembers the scheme that a server speaks.
    pub(super) fn set_scheme(&self, host: &str, scheme: &'static str) {
        locked(&self.schemes).insert(host.to_owned(), scheme);
    }
}

/// Locks what is whole after every step, so that a panic elsewhere does not matter.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
