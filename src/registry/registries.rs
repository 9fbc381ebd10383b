//! How registries are reached: what all repositories of one run share.
//!
//! Not here: requests (`transport`), operations (`repository`, `upload`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::host::Endpoint;
use super::options::RegistryOptions;
use super::repository::Repository;
use crate::image::Reference;
use crate::net::{Client, ClientOptions, TlsOptions};

/// The registries of the world; threads share it by reference, and it does nothing until asked.
#[derive(Debug)]
pub struct Registries {
    pub(super) options: RegistryOptions,
    /// By `host[:port]`, and whether any certificate will do.
    clients: Mutex<HashMap<(String, bool), Arc<Client>>>,
    /// What an insecure server turned out to speak.
    schemes: Mutex<HashMap<String, &'static str>>,
}

impl Registries {
    /// Makes it; nothing is read or asked yet.
    pub fn new(options: RegistryOptions) -> Registries {
        Registries { options, clients: Mutex::default(), schemes: Mutex::default() }
    }

    /// Returns the repository that a reference names; its tag and digest do not matter.
    pub fn repository(&self, name: &Reference) -> Repository<'_> {
        Repository::new(self, name)
    }

    /// Returns the client for a server.
    pub(super) fn client(&self, endpoint: &Endpoint) -> Arc<Client> {
        let key = (endpoint.host.clone(), endpoint.insecure);
        let make = || {
            let tls = TlsOptions { any_certificate: endpoint.insecure, ..TlsOptions::default() };
            let options = ClientOptions {
                proxies: self.options.proxies.clone(),
                tls,
                retry: self.options.retry,
                ..ClientOptions::default()
            };
            Arc::new(Client::new(options))
        };
        locked(&self.clients).entry(key).or_insert_with(make).clone()
    }

    /// Returns the scheme that a server is known to speak.
    pub(super) fn scheme(&self, host: &str) -> Option<&'static str> {
        locked(&self.schemes).get(host).copied()
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
