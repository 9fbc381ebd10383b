//! Registries: the client's side of the OCI distribution specification.
//!
//! [`Registries`] knows how registries are reached, [`Repository`] reads and writes one repository.
//! `options` is what the caller says, `settings` and `certs` what docker's files say, `host` which
//! servers stand for a registry; `credentials` finds and keeps what proves who we are (`config_file`,
//! `helper`, `raw_object`, `secret`), `auth` shows it to whom it is for (`challenge`, `domain`), `login`
//! tries it. `transport` is one request with its repetition and redirects, `repository` what is read,
//! `upload` what is written, `pull` brings whole images into the store, `push` sends them, `search` asks which there are, `stream` is a blob
//! while it comes, `document` what makes a manifest acceptable, `answer` the words of a server's error, `error` ours. docs/registry.md says what is
//! sent where. Not here: what images are made of (`content`), where they are kept
//! (`store`), HTTP itself (`net`).

mod answer;
mod auth;
mod certs;
mod challenge;
mod config_file;
mod credentials;
mod document;
mod domain;
mod error;
mod helper;
mod host;
mod login;
mod options;
mod pull;
mod push;
mod raw_object;
mod registries;
mod repository;
mod search;
mod secret;
pub mod server;
mod settings;
mod stream;
mod transport;
mod upload;

pub use config_file::ConfigFile;
pub use credentials::{CredentialOptions, StoredIn, key_of};
pub use document::{Described, Fetched, MANIFEST_LIMIT};
pub use error::RegistryError;
pub use options::RegistryOptions;
pub use pull::{Cancelled, PullError, PullEvent, Pulled, Resolved, fetch, pull, pulling, resolve};
pub use push::{LayerState, PushError, PushRequest, Pushed, push};
pub use registries::Registries;
pub use repository::Repository;
pub use search::{FoundRepository, SearchTerm};
pub use secret::Secret;
pub use settings::SettingsFile;
pub use stream::BlobStream;
