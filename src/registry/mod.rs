//! Registries: the client's side of the OCI distribution specification.
//!
//! [`Registries`] knows how registries are reached, [`Repository`] reads and writes one repository.
//! `options` is what the caller says, `host` which servers stand for a registry, `transport` one
//! request with its repetition and redirects, `repository` what is read, `upload` what is written,
//! `stream` a blob while it comes, `document` what makes a manifest acceptable, `answer` the words of
//! a server's error, `error` ours. Not here: what images are made of (`content`), where they are kept
//! (`store`), HTTP itself (`net`).

mod answer;
mod document;
mod error;
mod host;
mod options;
mod registries;
mod repository;
mod stream;
mod transport;
mod upload;

pub use document::{Described, Fetched, MANIFEST_LIMIT};
pub use error::RegistryError;
pub use options::RegistryOptions;
pub use registries::Registries;
pub use repository::Repository;
pub use stream::BlobStream;
