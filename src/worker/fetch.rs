//! What is fetched for a build: files of the web and Git repositories, each once.
//!
//! Not here: fetching itself (`context`, `net`), and which names the files get (`sources`).

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::PathBuf;

use super::error::WorkerError;
use crate::context::{
    ContextError, DEFAULT_LIMIT, DigestCache, Downloads, Git, GitAccess, GitError, GitOptions, GitTree,
    HttpFile, HttpRequest,
};
use crate::net::{
    Client, ClientOptions, ProxySettings, RetryListener, RetryPolicy, TlsOptions, show_url, sleep,
};
use crate::plan::graph::HttpOp;
use crate::remote::GitAddress;
use crate::report::{Meter, Reporter, redact};
use crate::solve::Cancel;
use crate::store::Store;

/// How a build reaches the world.
#[derive(Debug, Clone, Default)]
pub struct FetchOptions {
    pub proxies: ProxySettings,
    /// The variables of proxies as they are, for git.
    pub proxy_variables: Vec<(String, OsString)>,
    pub retry: RetryPolicy,
    /// Hears of each repetition.
    pub listener: RetryListener,
    /// Certificates to believe besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Certificates for git instead of the system's; `ca_file` goes first.
    pub git_certificates: Option<PathBuf>,
    /// Where the programs git and ssh are looked for.
    pub path: OsString,
    /// The socket of an agent with keys for Git over ssh.
    pub ssh_agent: Option<PathBuf>,
    /// The hosts ssh may talk to.
    pub known_hosts: Option<PathBuf>,
}

/// Returns the value of a secret of the build by its id.
pub type SecretOf<'a> = Box<dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'a>;

/// Fetches for one build.
pub struct Fetcher<'a> {
    store: &'a Store,
    client: Client,
    downloads: Downloads<'a>,
    git: Git,
    retry: RetryPolicy,
    listener: RetryListener,
    reporter: Option<&'a dyn Reporter>,
    secret: SecretOf<'a>,
}

impl<'a> Fetcher<'a> {
    /// Makes a fetcher; nothing is read or asked before it is needed.
    pub fn new(store: &'a Store, options: FetchOptions, secret: SecretOf<'a>) -> Fetcher<'a> {
        let client = Client::new(ClientOptions {
            proxies: options.proxies,
            tls: TlsOptions { ca_files: options.ca_file.iter().cloned().collect(), ..TlsOptions::default() },
            retry: options.retry,
            listener: options.listener.clone(),
            ..ClientOptions::default()
        });
        let git = Git::new(GitOptions {
            folder: store.git_dir().to_owned(),
            path: options.path,
            proxies: options.proxy_variables,
            certificates: options.ca_file.or(options.git_certificates),
            ssh_agent: options.ssh_agent,
            known_hosts: options.known_hosts,
        });
        let (retry, listener) = (options.retry, options.listener);
        Fetcher {
            store,
            client,
            downloads: Downloads::new(store),
            git,
            retry,
            listener,
            reporter: None,
            secret,
        }
    }

    /// Has bytes on their way told.
    pub fn telling(self, reporter: &'a dyn Reporter) -> Fetcher<'a> {
        Fetcher { reporter: Some(reporter), ..self }
    }

    /// Fetches a file of any size.
    pub fn http(&self, op: &HttpOp, cancel: &Cancel) -> Result<HttpFile, WorkerError> {
        self.http_within(op, DEFAULT_LIMIT, cancel)
    }

    /// Fetches a file of at most so many bytes.
    pub fn http_within(&self, op: &HttpOp, limit: u64, cancel: &Cancel) -> Result<HttpFile, WorkerError> {
        let secret = |name: &str| (self.secret)(name);
        let meter = self.meter(&redact(&show_url(&op.url)));
        let progress = |here: u64, all: u64| {
            if let Some(meter) = &mut *meter.borrow_mut() {
                meter.reach(here, all);
            }
        };
        let request = HttpRequest {
            url: &op.url,
            filename: &op.file_name,
            checksum: op.checksum,
            secrets: Some(&secret),
            limit,
            progress: Some(&progress),
        };
        self.store.hold()?;
        self.downloads.fetch(&self.client, &request, &|| cancel.is_cancelled()).map_err(|error| match error {
            ContextError::Net(error) if error.is_cancelled() => WorkerError::Cancelled,
            error => error.into(),
        })
    }

    /// Fetches a repository and checks its files out.
    pub fn git(&self, address: &GitAddress, cancel: &Cancel) -> Result<GitTree, WorkerError> {
        let secret = |name: &str| (self.secret)(name);
        let cancelled = || cancel.is_cancelled();
        let access = GitAccess { secret: &secret, cancelled: &cancelled };
        let failed = |error: GitError| match cancel.is_cancelled() {
            true => WorkerError::Cancelled,
            false => WorkerError::Git(error),
        };
        self.store.hold()?;
        // git tells no bytes, but that it is at work.
        let _meter = self.meter(address.remote());
        let mut found = self
            .retrying(cancel, || {
                let commit = self.git.resolve(address, access)?;
                self.git.checkout(address, &commit, access)
            })
            .map_err(failed)?;
        let digests = DigestCache::open(self.store.stat_cache_dir(), &found.path);
        found.tree = found.tree.with_digests(digests);
        Ok(found)
    }

    /// Begins to tell of something that is fetched.
    fn meter(&self, address: &str) -> RefCell<Option<Meter<'_>>> {
        let of = format!("fetch {address}");
        RefCell::new(self.reporter.map(|reporter| Meter::new(reporter, &of, "", 0)))
    }

    /// Repeats what git does while its errors may pass.
    fn retrying<T>(
        &self,
        cancel: &Cancel,
        mut attempt: impl FnMut() -> Result<T, GitError>,
    ) -> Result<T, GitError> {
        let mut tried = 0;
        loop {
            let error = match attempt() {
                Err(error) if error.is_transient() => error,
                other => return other,
            };
            tried += 1;
            let Some(pause) = self.retry.pause(tried, None) else { return Err(error.after(tried)) };
            self.listener.tell(&error, tried, &self.retry, pause);
            if !sleep(pause, &|| cancel.is_cancelled()) {
                return Err(GitError::Cancelled);
            }
        }
    }
}
