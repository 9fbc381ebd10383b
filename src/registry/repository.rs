//! One repository: what is read of it.
//!
//! Not here: what is written (`upload`).

use super::document::{ACCEPTED, Described, Fetched, MANIFEST_LIMIT, media_type};
use super::error::RegistryError;
use super::host::Endpoint;
use super::registries::Registries;
use super::stream::BlobStream;
use super::transport::{Ask, Target, protocol, refused};
use crate::image::{Digest, Reference, is_tag};
use crate::net::{Method, Reply};

/// How many tags are listed at most.
const MOST_TAGS: usize = 1_000_000;
/// The longest page of tags that is read.
const PAGE_LIMIT: u64 = 16 * 1024 * 1024;

/// A repository of a registry; reads try the mirrors first, then the registry itself.
#[derive(Debug)]
pub struct Repository<'r> {
    pub(super) registries: &'r Registries,
    pub(super) path: String,
    /// As people know it.
    pub(super) name: String,
    domain: String,
}

impl<'r> Repository<'r> {
    pub(super) fn new(registries: &'r Registries, name: &Reference) -> Repository<'r> {
        Repository {
            registries,
            path: name.path().to_owned(),
            name: name.familiar_name(),
            domain: name.domain().to_owned(),
        }
    }

    /// Fetches a manifest or an index by tag or digest.
    ///
    /// Its digest is computed from its bytes, and is `which` where that is a digest. At most 4 MiB;
    /// a document that can be read in two ways is refused.
    pub fn manifest(&self, which: &str, cancel: &dyn Fn() -> bool) -> Result<Fetched, RegistryError> {
        let wanted = digest_or_tag(which)?;
        let what = format!("the manifest `{which}` of `{}`", self.name);
        self.reading(cancel, |endpoint| {
            let mut ask = self.ask(Method::Get, &format!("manifests/{which}"));
            ask = ask.header("Accept", ACCEPTED.join(", "));
            let reply = self.expect(endpoint, &mut ask, &[200], &what, cancel)?;
            let content_type = reply.header("content-type").map(str::to_owned);
            let bytes = reply.bytes(MANIFEST_LIMIT, cancel)?;
            let digest = Digest::of(&bytes);
            if wanted.is_some_and(|wanted| wanted != digest) {
                return Err(RegistryError::Digest { what: what.clone(), found: digest });
            }
            let media_type = media_type(&bytes, content_type.as_deref())?;
            Ok(Fetched { bytes, media_type, digest })
        })
    }

    /// Asks what a tag or digest stands for; `None` where it is not there.
    ///
    /// What is answered is the server's word. A server that does not tell the digest is asked for
    /// the manifest itself.
    pub fn head_manifest(
        &self,
        which: &str,
        cancel: &dyn Fn() -> bool,
    ) -> Result<Option<Described>, RegistryError> {
        let wanted = digest_or_tag(which)?;
        let what = format!("the manifest `{which}` of `{}`", self.name);
        let found = self.reading(cancel, |endpoint| {
            let mut ask = self.ask(Method::Head, &format!("manifests/{which}"));
            ask = ask.header("Accept", ACCEPTED.join(", "));
            let reply = self.expect(endpoint, &mut ask, &[200], &what, cancel)?;
            Ok(described(&reply, wanted))
        });
        match found {
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
            Ok(Some(described)) => Ok(Some(described)),
            Ok(None) => match self.manifest(which, cancel) {
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error),
                Ok(Fetched { bytes, media_type, digest }) => {
                    Ok(Some(Described { digest, media_type, size: bytes.len() as u64 }))
                }
            },
        }
    }

    /// Opens a blob of `size` bytes, from `offset` on where the server can do that.
    ///
    /// Connections that break while it is read are the caller's to go on from.
    pub fn blob<'a>(
        &self,
        digest: &Digest,
        size: u64,
        offset: u64,
        cancel: &'a dyn Fn() -> bool,
    ) -> Result<BlobStream<'a>, RegistryError> {
        let what = format!("the blob {digest} of `{}`", self.name);
        self.reading(cancel, |endpoint| {
            let mut ask = self.ask(Method::Get, &format!("blobs/{digest}"));
            if offset > 0 {
                ask = ask.header("Range", format!("bytes={offset}-"));
            }
            let mut reply = self.registries.ask(endpoint, &mut ask, cancel)?;
            if reply.status() == 416 {
                reply = self.registries.ask(
                    endpoint,
                    &mut self.ask(ask.method, &format!("blobs/{digest}")),
                    cancel,
                )?;
            }
            let start = match reply.status() {
                200 => 0,
                206 if offset > 0 && starts_at(&reply, offset) => offset,
                206 => return Err(protocol(endpoint, "it sends another part of a blob than was asked for")),
                _ => return Err(self.refused(endpoint, &what, reply, cancel)),
            };
            let missing = size.saturating_sub(start);
            if let Some(found) = reply.content_length()
                && found != missing
            {
                let (what, found) = (what.clone(), found.saturating_add(start));
                return Err(RegistryError::Size { what, expected: size, found });
            }
            Ok(BlobStream::new(reply.into_reader(missing, cancel), what.clone(), start, size))
        })
    }

    /// Tells whether the registry has a blob in this repository.
    pub fn has_blob(&self, digest: &Digest, cancel: &dyn Fn() -> bool) -> Result<bool, RegistryError> {
        // For what is pushed there; a mirror's word does not count.
        let what = format!("the blob {digest} of `{}`", self.name);
        let home = self.home()?;
        let found = self.registries.retrying(cancel, || {
            let mut ask = self.ask_to_push(Method::Head, &format!("blobs/{digest}"));
            self.expect(&home, &mut ask, &[200], &what, cancel)
        });
        match found {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lists all tags, sorted; not every registry sorts them.
    pub fn tags(&self, cancel: &dyn Fn() -> bool) -> Result<Vec<String>, RegistryError> {
        let what = format!("the tags of `{}`", self.name);
        self.reading(cancel, |endpoint| {
            let mut tags = Vec::new();
            let mut ask = self.ask(Method::Get, "tags/list");
            loop {
                let reply = self.expect(endpoint, &mut ask, &[200], &what, cancel)?;
                let next = next_page(endpoint, &reply)?;
                let page: TagPage = serde_json::from_slice(&reply.bytes(PAGE_LIMIT, cancel)?)
                    .map_err(|e| protocol(endpoint, &format!("its list of tags cannot be read: {e}")))?;
                let page = page.tags.unwrap_or_default();
                let ended = page.is_empty();
                // What is no tag can be asked for by nobody.
                tags.extend(page.into_iter().filter(|tag| is_tag(tag)));
                match next {
                    Some(next) if !ended && tags.len() < MOST_TAGS => ask.target = Target::Path(next),
                    _ => break,
                }
            }
            tags.sort();
            tags.dedup();
            Ok(tags)
        })
    }

    /// Returns the registry's own server.
    pub(super) fn home(&self) -> Result<Endpoint, RegistryError> {
        Ok(Endpoint::home(&self.domain, &self.registries.known()?.settings))
    }

    /// Makes a request that reads this repository.
    fn ask<'b>(&self, method: Method, rest: &str) -> Ask<'b> {
        let mut ask = Ask::new(method, format!("/v2/{}/{rest}", self.path));
        ask.wanted.scopes = vec![format!("repository:{}:pull", self.path)];
        ask
    }

    /// Makes a request of somebody who writes this repository.
    pub(super) fn ask_to_push<'b>(&self, method: Method, rest: &str) -> Ask<'b> {
        let mut ask = self.ask(method, rest);
        ask.wanted.scopes = vec![format!("repository:{}:pull,push", self.path)];
        ask
    }

    /// Sends a request and takes only these statuses for an answer.
    pub(super) fn expect(
        &self,
        endpoint: &Endpoint,
        ask: &mut Ask<'_>,
        statuses: &[u16],
        what: &str,
        cancel: &dyn Fn() -> bool,
    ) -> Result<Reply, RegistryError> {
        let reply = self.registries.ask(endpoint, ask, cancel)?;
        match statuses.contains(&reply.status()) {
            true => Ok(reply),
            false => Err(self.refused(endpoint, what, reply, cancel)),
        }
    }

    fn refused(
        &self,
        endpoint: &Endpoint,
        what: &str,
        reply: Reply,
        cancel: &dyn Fn() -> bool,
    ) -> RegistryError {
        refused(endpoint, &self.name, what, reply, cancel)
    }

    fn reading<T>(
        &self,
        cancel: &dyn Fn() -> bool,
        mut read: impl FnMut(&Endpoint) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        for mirror in Endpoint::mirrors(&self.domain, &self.registries.known()?.settings) {
            match read(&mirror) {
                Err(error) if error.is_cancelled() => return Err(error),
                // Whatever a mirror lacks, the registry itself may have.
                Err(_) => {}
                good => return good,
            }
        }
        let home = self.home()?;
        self.registries.retrying(cancel, || read(&home))
    }
}

#[derive(serde::Deserialize)]
struct TagPage {
    tags: Option<Vec<String>>,
}

/// Returns the path of the next page (RFC 8288, `Link: </v2/...>; rel="next"`), on the same server.
fn next_page(endpoint: &Endpoint, reply: &Reply) -> Result<Option<String>, RegistryError> {
    let bad = || protocol(endpoint, "it names the next page of a list in a way that cannot be read");
    let Some(link) = reply.header("link") else { return Ok(None) };
    if !link.contains("rel=\"next\"") && !link.contains("rel=next") {
        return Ok(None);
    }
    let target = link.split_once('<').and_then(|(_, rest)| rest.split_once('>')).ok_or_else(bad)?.0;
    let base = url::Url::parse(reply.url()).map_err(|_| bad())?;
    let next = base.join(target).map_err(|_| bad())?;
    let query = next.query().map(|query| format!("?{query}")).unwrap_or_default();
    Ok(Some(format!("{}{query}", next.path())))
}

/// Checks what names a manifest; returns it where it is a digest.
pub(super) fn digest_or_tag(which: &str) -> Result<Option<Digest>, RegistryError> {
    match which.parse() {
        Ok(digest) => Ok(Some(digest)),
        Err(_) if is_tag(which) => Ok(None),
        Err(_) => Err(RegistryError::NoSuchName { text: which.to_owned() }),
    }
}

fn described(reply: &Reply, wanted: Option<Digest>) -> Option<Described> {
    let told = reply.header("docker-content-digest").and_then(|value| value.parse().ok());
    Some(Described {
        digest: wanted.or(told)?,
        media_type: reply.header("content-type")?.split(';').next().unwrap_or_default().trim().to_owned(),
        size: reply.header("content-length")?.parse().ok()?,
    })
}

fn starts_at(reply: &Reply, offset: u64) -> bool {
    let range = reply.header("content-range").and_then(|value| value.strip_prefix("bytes "));
    range.and_then(|range| range.split('-').next()).is_some_and(|start| start.trim().parse() == Ok(offset))
}
