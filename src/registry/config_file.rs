//! docker's `config.json`: credentials, and who else keeps them.
//!
//! What it holds of no concern to us survives a change as it is written. Not here: the programs that
//! keep credentials (`helper`), which of both counts (`credentials`).

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use url::Url;

use super::error::RegistryError;
use super::raw_object::RawObject;
use super::secret::Secret;
use super::settings::{host_of, read_optional};
use crate::net::ProxySettings;
use crate::sys::atomic;

/// The file as it was read.
#[derive(Clone)]
pub struct ConfigFile {
    path: PathBuf,
    fields: RawObject,
}

/// What the file says of one registry.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

#[derive(Deserialize, Default, PartialEq, Eq)]
#[serde(default, rename_all = "camelCase")]
struct Proxies {
    http_proxy: Option<String>,
    https_proxy: Option<String>,
    ftp_proxy: Option<String>,
    all_proxy: Option<String>,
    no_proxy: Option<String>,
}

impl ConfigFile {
    /// Reads the file; one that is not there is empty.
    pub fn read(path: &Path) -> Result<ConfigFile, RegistryError> {
        let text = read_optional(path).map_err(|e| unusable(path, &e.to_string()))?;
        ConfigFile::parse(path, text.as_deref().unwrap_or_default())
    }

    /// Reads the text of such a file; `path` is for errors.
    pub fn parse(path: &Path, text: &str) -> Result<ConfigFile, RegistryError> {
        let text = if text.trim().is_empty() { "{}" } else { text };
        // The words of serde hold no values of strings, but the place is enough to find the mistake.
        let fields = serde_json::from_str(text).map_err(|e| not_json(path, &e))?;
        Ok(ConfigFile { path: path.to_owned(), fields })
    }

    /// Returns the suffix of the program that keeps the credentials for a key.
    pub fn helper(&self, key: &str) -> Result<Option<String>, RegistryError> {
        let helpers: BTreeMap<String, String> = self.field("credHelpers")?.unwrap_or_default();
        let found = helpers.get(key).cloned().or_else(|| {
            let same =
                |(own, helper): (&String, &String)| (hostname(own) == hostname(key)).then(|| helper.clone());
            helpers.iter().find_map(same)
        });
        if let Some(helper) = found {
            return Ok(Some(helper).filter(|helper| !helper.is_empty()));
        }
        Ok(self.field::<String>("credsStore")?.filter(|helper| !helper.is_empty()))
    }

    /// Returns the credentials that the file itself holds for a key.
    ///
    /// A key that was written as a URL counts for its host.
    pub fn secret(&self, key: &str) -> Result<Option<Secret>, RegistryError> {
        let auths = self.auths()?;
        let named = auths.names().find(|own| *own == key);
        let Some(name) = named.or_else(|| auths.names().find(|own| hostname(own) == key)) else {
            return Ok(None);
        };
        let bad = |why: &str| unusable(&self.path, &format!("the entry for `{name}` in `auths` {why}"));
        let entry: Entry = auths.get(name).map_err(|_| bad("is not of docker's form"))?.unwrap_or_default();
        let text = |value: Option<String>| value.filter(|value| !value.is_empty());
        if let Some(token) = text(entry.registrytoken) {
            return Ok(Some(Secret::Registry(token)));
        }
        if let Some(token) = text(entry.identitytoken) {
            return Ok(Some(Secret::Identity(token)));
        }
        if let Some(auth) = text(entry.auth) {
            let decoded = STANDARD.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let pair = decoded.as_deref().and_then(|pair| pair.split_once(':'));
            return match pair {
                Some((user, password)) if !user.is_empty() => {
                    Ok(Some(Secret::of(user.to_owned(), password.trim_end_matches('\0').to_owned())))
                }
                _ => Err(bad("has an `auth` that is not base64 of USER:PASSWORD")),
            };
        }
        let password = entry.password.unwrap_or_default();
        Ok(text(entry.username).map(|user| Secret::of(user, password)))
    }

    /// Puts credentials in the entry of a key; without any, an entry that says "the helper has them".
    pub fn set(&mut self, key: &str, secret: Option<&Secret>) -> Result<(), RegistryError> {
        let (mut auths, path) = (self.auths()?, self.path.clone());
        let bad = |e: serde_json::Error| not_json(&path, &e);
        let mut entry: RawObject = auths.get(key).map_err(bad)?.unwrap_or_default();
        for old in ["auth", "username", "password", "identitytoken", "registrytoken"] {
            entry.remove(old);
        }
        match secret {
            Some(Secret::Password { user, password }) => {
                entry.set("auth", &STANDARD.encode(format!("{user}:{password}"))).map_err(bad)?;
            }
            Some(Secret::Identity(token)) => entry.set("identitytoken", token).map_err(bad)?,
            Some(Secret::Registry(token)) => entry.set("registrytoken", token).map_err(bad)?,
            None => {}
        }
        auths.set_object(key, &entry, 2).map_err(bad)?;
        self.fields.set_object("auths", &auths, 1).map_err(bad)
    }

    /// Removes the entry of a key; tells whether it was there.
    pub fn remove(&mut self, key: &str) -> Result<bool, RegistryError> {
        let mut auths = self.auths()?;
        let removed = auths.remove(key);
        if removed {
            self.fields.set_object("auths", &auths, 1).map_err(|e| not_json(&self.path, &e))?;
        }
        Ok(removed)
    }

    /// Writes the file: whole or not at all, mode 0600, through symbolic links to where they lead.
    pub fn save(&self) -> Result<(), RegistryError> {
        let write = || {
            let target = resolve(&self.path)?;
            let folder = target.parent().unwrap_or(Path::new("."));
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            let before = std::fs::metadata(&target).ok();
            let temporary = folder.join(format!(".config.json.{:016x}", atomic::random_bits()?));
            atomic::publish(&temporary, &target, self.fields.pretty(0).as_bytes(), true)?;
            if let Some(before) = before {
                // Root may write another's file; who else may not has no need to.
                // Their folder is theirs: what has the name by now is not followed.
                let _ = std::os::unix::fs::lchown(&target, Some(before.uid()), Some(before.gid()));
            }
            Ok(())
        };
        write().map_err(|e: io::Error| unusable(&self.path, &format!("it cannot be written: {e}")))
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the proxies it names for all hosts (`proxies.default`).
    pub fn proxies(&self) -> Result<ProxySettings, RegistryError> {
        let Proxies { http_proxy, https_proxy, all_proxy, no_proxy, .. } = self.proxies_of("default")?;
        Ok(ProxySettings { http: http_proxy, https: https_proxy, all: all_proxy, no_proxy })
    }

    /// Returns the variables that docker gives to RUN steps, by their upper-case names: those of the daemon
    /// at `host` (as DOCKER_HOST names it) where the file has such, else those for all.
    pub fn step_proxies(&self, host: &str) -> Result<Vec<(&'static str, String)>, RegistryError> {
        let of_host = self.proxies_of(host)?;
        let found = if of_host == Proxies::default() { self.proxies_of("default")? } else { of_host };
        let all = [
            ("HTTP_PROXY", found.http_proxy),
            ("HTTPS_PROXY", found.https_proxy),
            ("FTP_PROXY", found.ftp_proxy),
            ("ALL_PROXY", found.all_proxy),
            ("NO_PROXY", found.no_proxy),
        ];
        let set =
            |(name, value): (&'static str, Option<String>)| Some((name, value.filter(|v| !v.is_empty())?));
        Ok(all.into_iter().filter_map(set).collect())
    }

    fn proxies_of(&self, host: &str) -> Result<Proxies, RegistryError> {
        let mut all: BTreeMap<String, Proxies> = self.field("proxies")?.unwrap_or_default();
        Ok(all.remove(host).unwrap_or_default())
    }

    /// Returns the headers that docker would pass on to registries: those of `HttpHeaders` with `X-Meta-`.
    pub fn headers(&self) -> Result<Vec<(String, String)>, RegistryError> {
        let all: BTreeMap<String, String> = self.field("HttpHeaders")?.unwrap_or_default();
        Ok(all.into_iter().filter(|(name, _)| name.to_ascii_lowercase().starts_with("x-meta-")).collect())
    }

    fn auths(&self) -> Result<RawObject, RegistryError> {
        Ok(self.field("auths")?.unwrap_or_default())
    }

    fn field<'a, T: Deserialize<'a>>(&'a self, name: &str) -> Result<Option<T>, RegistryError> {
        self.fields.get(name).map_err(|_| unusable(&self.path, &format!("`{name}` is not of docker's form")))
    }
}

/// Takes the scheme and the path off a key, as docker does.
pub fn hostname(key: &str) -> String {
    if key.contains("://")
        && let Ok(url) = Url::parse(key)
        && url.has_host()
    {
        return host_of(&url);
    }
    key.split('/').next().unwrap_or_default().to_owned()
}

fn unusable(path: &Path, why: &str) -> RegistryError {
    RegistryError::Settings { path: path.to_owned(), why: why.to_owned() }
}

fn not_json(path: &Path, error: &serde_json::Error) -> RegistryError {
    let (line, column) = (error.line(), error.column());
    unusable(path, &format!("it is not JSON of docker's form (line {line}, column {column})"))
}

/// Follows symbolic links, the last of which may lead to what is not there yet.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut path = std::path::absolute(path)?;
    for _ in 0..40 {
        match std::fs::read_link(&path) {
            Ok(to) => path = path.parent().unwrap_or(Path::new("/")).join(to),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

#[cfg(test)]
#[path = "config_file_tests.rs"]
mod tests;
