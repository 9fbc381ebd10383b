//! Asking for a URL, and what is done with the answer.
//!
//! Not here: what lies in the folder (`kept`).

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use url::Url;

use crate::image::Digest;
use crate::net::{Client, Credentials, NetError, Reply, Request, show_url};
use crate::store::{Store, TempDir};
use crate::sys::atomic;

use super::super::archive::{BLOCK, sniff};
use super::super::digest_cache::{DigestCache, Known};
use super::super::error::ContextError;
use super::super::tree::Tree;
use super::kept::{BothDigests, Kept, Shelf, remove_unused};
use super::name::is_file_name;
use super::{HttpFile, HttpRequest};

/// The downloads of one build, and what earlier ones left in the store.
///
/// Threads share it by reference. One for each build: what it was told once it does not ask again.
#[derive(Debug)]
pub struct Downloads<'s> {
    store: &'s Store,
    settled: Mutex<HashMap<Digest, Arc<Mutex<Option<Settled>>>>>,
}

/// What a URL stands for in this build.
#[derive(Debug)]
struct Settled {
    shelf: Shelf,
    kept: Kept,
}

/// What came of asking.
enum Answer {
    Same(Kept),
    New(Fresh),
}

/// A download that is not in its place yet.
struct Fresh {
    /// Removed if it does not get there.
    _temporary: TempDir,
    dir: PathBuf,
    kept: Kept,
}

impl<'s> Downloads<'s> {
    /// Begins a build; touches nothing.
    pub fn new(store: &'s Store) -> Downloads<'s> {
        Downloads { store, settled: Mutex::default() }
    }

    /// Returns what is at a URL now.
    ///
    /// `cancel` is looked at often while the network is waited for; see [`Client::send`].
    /// A second request for a URL waits for the first and has its result.
    pub fn fetch(
        &self,
        client: &Client,
        request: &HttpRequest,
        cancel: &dyn Fn() -> bool,
    ) -> Result<HttpFile, ContextError> {
        if !is_file_name(request.filename) {
            let (url, name) = (show_url(request.url), request.filename.to_owned());
            return Err(ContextError::DownloadName { url, name });
        }
        let key = key_of(request);
        let cell =
            self.settled.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone();
        let mut settled = cell.lock().unwrap_or_else(PoisonError::into_inner);
        let settled = match &mut *settled {
            Some(settled) => settled,
            none => none.insert(self.settle(client, request, &key, cancel)?),
        };
        check(request, &settled.kept)?;
        let failed = kept_failed(&settled.shelf.dir);
        file_of(settled).map_err(failed)
    }

    fn settle(
        &self,
        client: &Client,
        request: &HttpRequest,
        key: &Digest,
        cancel: &dyn Fn() -> bool,
    ) -> Result<Settled, ContextError> {
        let folder = self.store.downloads_dir();
        let shelf = Shelf::open(folder, key).map_err(kept_failed(folder))?;
        let old = shelf.find();
        if let Some(kept) = &old
            && request.checksum == Some(kept.digest)
        {
            return Ok(Settled { kept: kept.clone(), shelf });
        }
        let wanted = Request {
            credentials: credentials(request),
            if_none_match: old.as_ref().and_then(|kept| kept.etag.clone()),
            if_modified_since: old.as_ref().and_then(|kept| kept.last_modified.clone()),
            ..Request::get(request.url)
        };
        // An error that is not the network's own leaves the loop as the inner result.
        let answer = client.retrying(cancel, || {
            let reply = client.send_once(&wanted, cancel)?;
            match &old {
                Some(kept) if is_same(&reply, kept) => Ok(Ok(Answer::Same(kept.clone()))),
                _ => match self.receive(reply, request, cancel) {
                    Err(ContextError::Net(error)) => Err(error),
                    other => Ok(other.map(Answer::New)),
                },
            }
        });
        match answer?? {
            Answer::New(mut fresh) => {
                check(request, &fresh.kept)?;
                shelf.put(&fresh.dir, &mut fresh.kept).map_err(kept_failed(&shelf.dir))?;
                let _ = remove_unused(folder);
                Ok(Settled { kept: fresh.kept, shelf })
            }
            Answer::Same(kept) => {
                check(request, &kept)?;
                Ok(Settled { kept, shelf })
            }
        }
    }

    /// Writes a body to a file of its final name in a directory on its way.
    fn receive(
        &self,
        reply: Reply,
        request: &HttpRequest,
        cancel: &dyn Fn() -> bool,
    ) -> Result<Fresh, ContextError> {
        self.store.make_room(0).map_err(ContextError::Store)?;
        let temporary = self.store.temp_dir().map_err(ContextError::Store)?;
        let dir = temporary.path().join("version");
        let path = dir.join(request.filename);
        let failed = kept_failed(&path);
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700).create(&dir).map_err(&failed)?;
        let mut file = atomic::create_new(&path).map_err(&failed)?;
        let etag = reply.header("etag").map(str::to_owned);
        let last_modified = reply.header("last-modified").map(str::to_owned);
        let mut digests = BothDigests::default();
        let (mut here, all) = (0u64, reply.content_length().unwrap_or(0));
        let size = reply.copy_to(request.limit, cancel, &mut |piece| {
            here = here.saturating_add(piece.len() as u64);
            request.progress.inspect(|progress| progress(here, all));
            digests.write_all(piece)?;
            file.write_all(piece)
        })?;
        let (digest, content) = digests.finish();
        let seconds = last_modified.as_deref().and_then(parse_date).unwrap_or(0);
        file.set_modified(system_time(seconds)).map_err(&failed)?;
        let kept = Kept {
            url: show_url(request.url),
            version: String::new(),
            name: request.filename.to_owned(),
            digest,
            content,
            size,
            etag,
            last_modified,
            mtime: (0, 0),
            ctime: (0, 0),
            inode: 0,
            boot: String::new(),
        };
        Ok(Fresh { _temporary: temporary, dir, kept })
    }
}

fn kept_failed(path: &Path) -> impl Fn(std::io::Error) -> ContextError + use<> {
    let path = path.to_owned();
    move |source| ContextError::Download { path: path.clone(), source }
}

/// Returns what a download is kept under: not its password, nor the part that is never sent.
fn key_of(request: &HttpRequest) -> Digest {
    let url = match Url::parse(request.url) {
        Ok(mut url) => {
            url.set_fragment(None);
            let _ = url.set_password(None);
            url.to_string()
        }
        Err(_) => request.url.to_owned(),
    };
    Digest::of(format!("rbuild download v1\0{url}\0{}", request.filename))
}

/// Tells whether an answer means that the kept file is what the server has.
///
/// Some servers send the whole file again with an unchanged ETag: it need not come to its end.
fn is_same(reply: &Reply, kept: &Kept) -> bool {
    let bare = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    reply.is_not_modified()
        || kept.etag.as_deref().is_some_and(|old| reply.header("etag").map(bare) == Some(bare(old)))
}

/// Finds the secret for the host of a URL.
fn credentials(request: &HttpRequest) -> Option<Credentials> {
    let secrets = request.secrets?;
    let url = Url::parse(request.url).ok()?;
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
    // A file that holds a secret often ends its line.
    let find = |name: &str| {
        let secret = secrets(&format!("{name}_{host}"))?;
        Some(secret.trim_ascii_end().to_vec())
    };
    if let Some(token) = find("HTTP_AUTH_TOKEN") {
        return Some(Credentials::Header([b"Bearer ".as_slice(), &token].concat()));
    }
    find("HTTP_AUTH_HEADER").map(Credentials::Header)
}

fn check(request: &HttpRequest, kept: &Kept) -> Result<(), ContextError> {
    match request.checksum {
        Some(expected) if expected != kept.digest => {
            Err(ContextError::Checksum { url: show_url(request.url), expected, got: kept.digest })
        }
        _ => Ok(()),
    }
}

/// Reads an HTTP date (RFC 9110, 5.6.7) as seconds since 1970.
fn parse_date(text: &str) -> Option<i64> {
    let date = jiff::fmt::rfc2822::parse(text.trim()).ok()?;
    Some(date.timestamp().as_second())
}

fn system_time(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = match seconds < 0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(distance),
        false => SystemTime::UNIX_EPOCH.checked_add(distance),
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn file_of(settled: &Settled) -> std::io::Result<HttpFile> {
    let Settled { shelf, kept } = settled;
    let root = shelf.root(kept)?;
    let stat = root.stat(Path::new(&kept.name), false)?;
    let known = Known { digest: kept.content, has_xattrs: false };
    let mut head = Vec::with_capacity(BLOCK);
    File::open(shelf.dir.join(&kept.version).join(&kept.name))?.take(BLOCK as u64).read_to_end(&mut head)?;
    let mut tree = Tree::context(root).with_digests(DigestCache::of_one(Path::new(&kept.name), &stat, known));
    tree.lock = Some(shelf.lock.clone());
    Ok(HttpFile {
        tree,
        name: kept.name.clone(),
        digest: kept.digest,
        size: kept.size,
        last_modified: kept.last_modified.as_deref().and_then(parse_date),
        kind: sniff(&head),
        url: kept.url.clone(),
    })
}

impl From<NetError> for ContextError {
    fn from(error: NetError) -> ContextError {
        ContextError::Net(error)
    }
}
