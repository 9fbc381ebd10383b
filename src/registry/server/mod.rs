//! The server's side of the OCI distribution specification: `rbuild registry`.
//!
//! `http` takes connections and bounds them (with `sys::stall`; `tls`), `callers` keeps web pages out, `auth` asks who it is (`htpasswd` knows them),
//! `route` reads the path, `dispatch` calls the endpoint: `blobs`, `uploads` (with `receive`), `manifests`
//! (with `document`; `documents` bounds how many are held), `lists` (tags, catalog), `referrers`, `search`. `reply` and `body` are answers, `errors` those that
//! refuse, `query` parameters and pages. `source` is where what is read comes from: the repositories that are
//! pushed to, and others beside them (`local`: images of the store, with `local_cache`). Not here: what lies on disk (`store::Repositories`), the command line.

mod auth;
mod blobs;
mod body;
mod callers;
mod dispatch;
mod document;
mod documents;
mod errors;
mod htpasswd;
mod http;
mod lists;
mod local;
mod local_cache;
mod manifests;
mod query;
mod receive;
mod referrers;
mod reply;
mod route;
mod search;
mod source;
mod sweep;
mod tls;
mod uploads;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::store::{CollectOptions, Repositories};

use auth::Auth;
use body::Buffers;
use callers::Callers;
use documents::Documents;
use errors::{ApiError, Code};
use source::Sources;

pub use self::http::{Server, Stop};
pub use htpasswd::{Htpasswd, HtpasswdError};
pub use local::LocalImages;
pub use source::Source;
pub use tls::TlsFiles;

/// Says why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot listen on {address}")]
    Listen { address: String, source: io::Error },
    #[error("`{}` cannot be used for TLS: {why}", path.display())]
    Tls { path: PathBuf, why: String },
    #[error("cannot start the server")]
    Start(#[source] io::Error),
}

/// Who gets lines for people: of requests, and of what goes wrong.
pub type Log = Arc<dyn Fn(Line<'_>) + Send + Sync>;

/// A line of the log.
#[derive(Debug, Clone, Copy)]
pub enum Line<'a> {
    /// A request and its answer.
    Access(&'a str),
    /// Something to look after.
    Fault(&'a str),
    /// What a collection removed.
    Collected(&'a str),
}

/// What is bounded, and how.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How many connections are open at once; more wait.
    pub connections: usize,
    /// How long a client may take for the head of a request, and for nothing between two.
    pub head: Duration,
    /// How long a client may send nothing of a body, or take nothing of an answer.
    pub stall: Duration,
    /// How long requests go on after the end was asked for.
    pub end: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 1024,
            head: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            end: Duration::from_secs(10),
        }
    }
}

/// How the server serves.
pub struct ServerOptions {
    /// Nothing can be pushed or removed.
    pub read_only: bool,
    /// Whether manifests, tags and blobs can be removed by clients.
    pub delete: bool,
    /// Who may come in; all, where it is left out.
    pub users: Option<Htpasswd>,
    /// Whether who shows no password may pull.
    pub anonymous_pull: bool,
    /// The names that it may be called by on the loopback without users, besides `localhost`, and whose pages may
    /// change something.
    pub hosts: Vec<String>,
    pub tls: Option<TlsFiles>,
    /// How often, and what, is collected by itself.
    pub collect: Option<(Duration, CollectOptions)>,
    pub log: Log,
    pub limits: Limits,
}

/// What all requests share.
struct State {
    repositories: Arc<Repositories>,
    sources: Sources,
    read_only: bool,
    delete: bool,
    callers: Callers,
    auth: Option<Auth>,
    buffers: Arc<Buffers>,
    documents: Documents,
    limits: Limits,
    log: Log,
}

/// Does what may wait for the disk or compute for long, on a thread made for that.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
        let mut error = ApiError::new(Code::Unknown);
        error.cause = Some(e.to_string());
        Err(error)
    })
}
