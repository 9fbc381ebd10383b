//! What can go wrong with a registry, in words for people.
//!
//! No message holds credentials or tokens. Not here: the words of servers (`answer`), of the network (`net`).

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::answer::{self, ServerError};
use crate::image::Digest;
use crate::net::{NetError, Problem};

/// Says what a registry refused, or why it could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error(transparent)]
    Net(#[from] NetError),
    /// 401, or 403 with `DENIED`.
    #[error(
        "access to `{name}` was denied: it does not exist, or needs `{login}`{}",
        said(.errors)
    )]
    Denied { name: String, login: String, errors: Vec<ServerError> },
    #[error("the user name or password for `{host}` was not accepted{}; `{login}` stores others", said(.errors))]
    BadCredentials { host: String, login: String, errors: Vec<ServerError> },
    #[error("{what} was not found{}", said(.errors))]
    NotFound { what: String, errors: Vec<ServerError> },
    #[error(
        "`{host}` answers no more requests for now (429, too many requests){}; try again later, or log in: \
         registries allow more to those they know",
        said(.errors)
    )]
    TooMany { host: String, retry_after: Option<Duration>, errors: Vec<ServerError> },
    #[error("`{host}` answered {status} to a request for {what}{}", said(.errors))]
    Status {
        host: String,
        what: String,
        status: u16,
        retry_after: Option<Duration>,
        errors: Vec<ServerError>,
    },
    #[error("{what} has other bytes than its digest says: they have the digest {found}")]
    Digest { what: String, found: Digest },
    #[error("{what} was announced with {expected} bytes, but the server sends {found}")]
    Size { what: String, expected: u64, found: u64 },
    /// The connection ended in good order, but too early.
    #[error("{what} ended after {found} of {expected} bytes")]
    Short { what: String, expected: u64, found: u64 },
    #[error("the manifest cannot be used: {why}")]
    Manifest { why: String },
    #[error("`{text}` is not the host of a registry: it should be HOST or HOST:PORT")]
    NoSuchHost { text: String },
    #[error("`{text}` is neither a tag nor a digest")]
    NoSuchName { text: String },
    #[error("`{host}` does not keep to the registry protocol: {why}")]
    Protocol { host: String, why: String },
    #[error(
        "`{host}` {why}; if you trust it and the network to it, add \"{host}\" to `insecure-registries` of \
         /etc/docker/daemon.json"
    )]
    Insecure {
        host: String,
        why: String,
        #[source]
        source: Option<NetError>,
    },
    #[error("`{}` cannot be used: {why}", .path.display())]
    Settings { path: PathBuf, why: String },
    #[error("the credential helper `{name}`, which docker's config.json names for `{key}`, failed: {why}")]
    Helper { name: String, key: String, why: String },
    #[error("there is no place for credentials: neither DOCKER_CONFIG nor HOME is set")]
    NoConfigFile,
    #[error(
        "`{host}` wants its credentials sent to `{realm}`, {why}; they were not sent. If that is right, name \
         the host in `token-hosts` of registries.json: {{\"token-hosts\": {{\"{host}\": [\"{realm_host}\"]}}}}"
    )]
    Realm { host: String, realm: String, realm_host: String, why: &'static str },
    #[error("{error}, tried {tries} times")]
    Tried { error: Box<RegistryError>, tries: u32 },
    #[error("`{host}` leads from https to `{to}`, which is not protected; it was not asked")]
    Downgrade { host: String, to: String },
}

fn said(errors: &[ServerError]) -> String {
    match answer::join(errors) {
        words if words.is_empty() => words,
        words => format!(" ({words})"),
    }
}

impl RegistryError {
    /// Tells whether what was asked for is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, RegistryError::NotFound { .. })
    }

    /// Tells whether trying again may help.
    pub fn is_transient(&self) -> bool {
        match self {
            // A name that cannot be looked up now will hardly be in two seconds; most often there is no network.
            RegistryError::Net(error) => {
                error.is_transient() && !matches!(error.problem(), Problem::HostNotFound { .. })
            }
            RegistryError::TooMany { .. } | RegistryError::Short { .. } => true,
            RegistryError::Status { status, .. } => matches!(status, 408 | 500..=599),
            _ => false,
        }
    }

    /// Adds how often it was tried, where that was more than once.
    pub fn after(self, tries: u32) -> RegistryError {
        match self {
            RegistryError::Net(error) => RegistryError::Net(error.after(tries)),
            error if tries > 1 => RegistryError::Tried { error: Box::new(error), tries },
            error => error,
        }
    }

    /// Tells whether the caller cancelled it: nothing went wrong.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, RegistryError::Net(error) if error.is_cancelled())
    }

    /// Returns how long the server asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            RegistryError::Net(error) => error.retry_after(),
            RegistryError::TooMany { retry_after, .. } | RegistryError::Status { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }

    /// Returns what to do next, where the message does not say it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            RegistryError::Net(error) => error.hint(),
            RegistryError::Tried { error, .. } => error.hint(),
            _ => None,
        }
    }

    /// Takes the error out of one of I/O, if it is one of a registry's.
    ///
    /// Reading a [`super::BlobStream`] fails with such errors.
    pub fn from_io(error: io::Error) -> Result<RegistryError, io::Error> {
        let error = match error.downcast::<RegistryError>() {
            Ok(own) => return Ok(own),
            Err(error) => error,
        };
        NetError::from_io(error).map(RegistryError::Net)
    }

    /// Returns the error of a writer, if it is that which ended an upload.
    pub fn into_source(self) -> Result<RegistryError, NetError> {
        match self {
            RegistryError::Net(error) if matches!(error.problem(), Problem::Source(_)) => Err(error),
            other => Ok(other),
        }
    }
}
