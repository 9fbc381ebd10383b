//! Whose credentials for which registry: docker's `config.json`, and the programs it names.
//!
//! Not here: their forms (`config_file`, `helper`), to whom they go (`auth`).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::config_file::{ConfigFile, hostname};
use super::error::RegistryError;
use super::helper::Helper;
use super::host::{DOCKER_HUB, DOCKER_HUB_SERVER};
use super::secret::Secret;

/// docker's key for docker.io.
pub const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// Where credentials are kept.
#[derive(Clone, Default)]
pub struct CredentialOptions {
    /// docker's `config.json`; `None`: there are no credentials.
    pub config_file: Option<PathBuf>,
    /// More of that form, only read, and first: the value of `DOCKER_AUTH_CONFIG`.
    pub auth_config: Option<String>,
    /// Where the programs of `credHelpers` and `credsStore` are looked for.
    pub path: OsString,
}

impl std::fmt::Debug for CredentialOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CredentialOptions").field("config_file", &self.config_file).finish_non_exhaustive()
    }
}

/// Where credentials went to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredIn {
    /// A file, readable for whoever can read it.
    File(PathBuf),
    Helper,
}

/// Returns the key under which docker keeps the credentials for a server.
///
/// `server`: a `host[:port]`, a URL, or a registry's name; empty for docker.io.
pub fn key_of(server: &str) -> String {
    let host = hostname(server);
    match host.as_str() {
        "" | DOCKER_HUB | "index.docker.io" | DOCKER_HUB_SERVER => DOCKER_HUB_KEY.to_owned(),
        _ => host,
    }
}

impl CredentialOptions {
    /// Looks for the credentials for a server.
    pub fn find(&self, server: &str) -> Result<Option<Secret>, RegistryError> {
        let key = key_of(server);
        if let Some(text) = &self.auth_config {
            let own = ConfigFile::parse(Path::new("DOCKER_AUTH_CONFIG"), text)?;
            if let Some(secret) = own.secret(&key)? {
                return Ok(Some(secret));
            }
        }
        let Some(path) = &self.config_file else { return Ok(None) };
        let file = ConfigFile::read(path)?;
        match file.helper(&key)? {
            Some(helper) => Helper::find(&helper, &self.path, &key)?.get(&key),
            None => file.secret(&key),
        }
    }

    /// Keeps the credentials for a server, where docker would.
    pub fn store(&self, server: &str, secret: &Secret) -> Result<StoredIn, RegistryError> {
        let key = key_of(server);
        let mut file = self.file()?;
        let helper = file.helper(&key)?;
        match &helper {
            Some(helper) => {
                Helper::find(helper, &self.path, &key)?.store(&key, secret)?;
                file.set(&key, None)?;
            }
            None => file.set(&key, Some(secret))?,
        }
        file.save()?;
        Ok(helper.map_or_else(|| StoredIn::File(file.path().to_owned()), |_| StoredIn::Helper))
    }

    /// Forgets the credentials for a server, under all keys it may have; tells whether there were any.
    pub fn erase(&self, server: &str) -> Result<bool, RegistryError> {
        let key = key_of(server);
        let mut file = self.file()?;
        let mut had = false;
        if let Some(helper) = file.helper(&key)? {
            let helper = Helper::find(&helper, &self.path, &key)?;
            had = helper.get(&key)?.is_some();
            if had {
                helper.erase(&key)?;
            }
        }
        let mut changed = false;
        for key in [key.clone(), format!("https://{key}"), format!("http://{key}"), server.to_owned()] {
            changed |= !key.is_empty() && file.remove(&key)?;
        }
        if changed {
            file.save()?;
        }
        Ok(had || changed)
    }

    fn file(&self) -> Result<ConfigFile, RegistryError> {
        match &self.config_file {
            Some(path) => ConfigFile::read(path),
            None => Err(RegistryError::NoConfigFile),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_dockers() {
        let check = |server: &str, expect: &str| assert_eq!(key_of(server), expect, "{server}");
        for hub in ["", "docker.io", "index.docker.io", "https://index.docker.io/v1/", "registry-1.docker.io"]
        {
            check(hub, DOCKER_HUB_KEY);
        }
        check("https://r.example.com:5000/x", "r.example.com:5000");
        check("localhost:5000", "localhost:5000");
        check("evil.docker.io", "evil.docker.io");
        check("docker.io.evil.com", "docker.io.evil.com");
    }

    #[test]
    fn what_was_stored_is_found_and_erased() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker/config.json");
        let options = CredentialOptions { config_file: Some(path.clone()), ..CredentialOptions::default() };
        let secret = Secret::Password { user: "me".into(), password: "p".into() };
        assert_eq!(options.find("r").unwrap(), None);
        assert_eq!(options.store("https://r/", &secret).unwrap(), StoredIn::File(path.clone()));
        assert_eq!(options.find("r").unwrap(), Some(secret.clone()));
        assert_eq!(options.find("docker.io").unwrap(), None);
        assert!(options.erase("r").unwrap() && !options.erase("r").unwrap());
        assert_eq!(options.find("r").unwrap(), None);
        let own = r#"{"auths":{"r":{"auth":"bWU6cA=="}}}"#.to_owned();
        let options = CredentialOptions { auth_config: Some(own), ..CredentialOptions::default() };
        assert_eq!(options.find("r").unwrap(), Some(secret));
    }

    #[test]
    fn a_missing_helper_ends_the_search() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let text = r#"{"credHelpers":{"r":"nowhere"},"auths":{"r":{"auth":"bWU6cA=="},"https://index.docker.io/v1/":{"auth":"bWU6cA=="}}}"#;
        std::fs::write(&path, text).unwrap();
        let options = CredentialOptions { config_file: Some(path), ..CredentialOptions::default() };
        let error = options.find("r").unwrap_err().to_string();
        assert!(error.contains("docker-credential-nowhere") && error.contains("PATH"), "{error}");
        assert!(options.store("r", &Secret::Identity("t".into())).is_err());
        assert!(options.find("docker.io").unwrap().is_some());
    }
}
