//! Trying credentials before they are kept.
//!
//! Not here: keeping them (`credentials`), asking the user for them (`cli`).

use super::auth::Wanted;
use super::config_file::hostname;
use super::credentials::{DOCKER_HUB_KEY, key_of};
use super::error::RegistryError;
use super::host::{DOCKER_HUB, Endpoint};
use super::registries::Registries;
use super::secret::Secret;
use super::settings::is_host;
use super::transport::{Ask, protocol, refused};
use crate::net::Method;

impl Registries {
    /// Shows credentials to a registry; returns what to keep: them, or the identity token it gave for them.
    ///
    /// `server`: `host[:port]` or a URL; empty or `docker.io` for Docker Hub.
    pub fn login(
        &self,
        server: &str,
        secret: Secret,
        cancel: &dyn Fn() -> bool,
    ) -> Result<Secret, RegistryError> {
        let domain = match key_of(server).as_str() {
            DOCKER_HUB_KEY => DOCKER_HUB.to_owned(),
            _ => hostname(server),
        };
        if !is_host(&domain) {
            return Err(RegistryError::NoSuchHost { text: server.to_owned() });
        }
        let endpoint = Endpoint::home(&domain, &self.known()?.settings);
        self.auth.give(&endpoint, secret.clone());
        let reply = self.retrying(cancel, || {
            let mut ask = Ask::new(Method::Get, "/v2/".to_owned());
            ask.wanted = Wanted { identity: true, ..Wanted::default() };
            let reply = self.ask(&endpoint, &mut ask, cancel)?;
            match reply.status() {
                500.. | 429 => Err(refused(&endpoint, &endpoint.host, "its API (/v2/)", reply, cancel)),
                _ => Ok(reply),
            }
        })?;
        match reply.status() {
            200 => Ok(self.auth.take_identity().map_or(secret, Secret::Identity)),
            401 => match refused(&endpoint, &endpoint.host, "", reply, cancel) {
                RegistryError::Denied { errors, .. } => {
                    let (host, login) = (endpoint.host.clone(), endpoint.login());
                    Err(RegistryError::BadCredentials { host, login, errors })
                }
                other => Err(other),
            },
            404 => Err(protocol(&endpoint, "it has no /v2/ (is it a registry?)")),
            _ => Err(refused(&endpoint, &endpoint.host, "its API (/v2/)", reply, cancel)),
        }
    }
}
