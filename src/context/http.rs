//! Files from http and https: kept from build to build, and asked for again each time.
//!
//! A build that needs a URL asks the server whether what is kept is still what it has (`ETag`,
//! `Last-Modified`); only a changed file is downloaded. A file whose checksum is given and matches is
//! not asked for at all. Within one build a URL stands for one content: the first answer counts.
//!
//! The file is 0600, its mtime is `Last-Modified`, or 1970 where the server does not say, both as
//! BuildKit has it. Not here: how things are fetched (`net`), what lies in the folder (`kept`),
//! unpacking for ADD (`worker`).

mod fetch;
mod kept;
mod name;

#[cfg(test)]
mod tests;

use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::image::Digest;
use crate::layer::{Limits, TarReader, decompress};

use super::archive::{Kind, from_tar};
use super::error::ContextError;
use super::tree::Tree;

pub use fetch::Downloads;

/// The most bytes of a Dockerfile from a URL.
const MAX_DOCKERFILE: usize = 16 << 20;

/// Looks up a secret of the build by its id.
pub type Secrets<'a> = &'a dyn Fn(&str) -> Option<Vec<u8>>;

/// What to fetch.
#[derive(Clone, Copy)]
pub struct HttpRequest<'a> {
    pub url: &'a str,
    /// The name of the file in the tree; the usual one is that of its address (`remote`).
    pub filename: &'a str,
    /// What it must be (`ADD --checksum`).
    pub checksum: Option<Digest>,
    /// Asked for `HTTP_AUTH_TOKEN_<host>` (sent as a bearer token) and else for
    /// `HTTP_AUTH_HEADER_<host>` (the value of the Authorization header); the host without its port.
    /// What is found is sent to the scheme, host and port of `url` and nowhere else.
    pub secrets: Option<Secrets<'a>>,
    /// The most bytes it may have; see [`DEFAULT_LIMIT`].
    pub limit: u64,
    /// Hears how many bytes are here, and how many there are; 0 where that is not known.
    pub progress: Option<&'a dyn Fn(u64, u64)>,
}

/// The most bytes of a download, unless told otherwise: 64 GiB.
pub const DEFAULT_LIMIT: u64 = 64 << 30;

/// A file that was fetched, now or before.
#[derive(Debug)]
pub struct HttpFile {
    /// Its root holds this one file; it stays there as long as the tree lives.
    pub tree: Tree,
    /// The name in the tree.
    pub name: String,
    /// Of the bytes.
    pub digest: Digest,
    pub size: u64,
    /// `Last-Modified` in seconds since 1970.
    pub last_modified: Option<i64>,
    /// What the first bytes say it is.
    pub kind: Kind,
    /// The URL, fit to be shown.
    pub url: String,
}

impl HttpFile {
    /// Returns the time the file is of, in seconds since 1970: `Last-Modified`, or that of the newest
    /// file in it when it is an archive. What SOURCE_DATE_EPOCH means by the name of a download.
    pub fn time(&self) -> Option<i64> {
        if self.last_modified.is_some() || self.kind == Kind::Other {
            return self.last_modified;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
        let fd = self.tree.root.open_at(Path::new(&self.name), flags, Mode::empty()).ok()?;
        let (_, plain) = decompress(std::fs::File::from(fd)).ok()?;
        let mut tar = TarReader::new(plain, Limits::default());
        let mut newest = None;
        while let Ok(Some(entry)) = tar.next_entry() {
            newest = newest.max(Some(entry.mtime_seconds));
        }
        newest
    }
}

/// What a URL is as a build context.
#[derive(Debug)]
pub enum HttpContext {
    /// It was a tar: the context.
    Tree(Box<Tree>),
    /// It was not: the text of a Dockerfile, whose context is empty.
    Dockerfile(Vec<u8>),
}

/// Makes a build context of a file; `folder` is for what is unpacked, and lives with the tree.
pub fn http_context(file: &HttpFile, folder: &Path) -> Result<HttpContext, ContextError> {
    let name = Path::new(&file.name);
    let fail = |source| ContextError::Read { path: name.to_owned(), source };
    if file.kind == Kind::Other {
        if file.size > MAX_DOCKERFILE as u64 {
            return Err(ContextError::NoContext(file.url.clone()));
        }
        let text = file.tree.root.read_small(name, MAX_DOCKERFILE).map_err(fail)?;
        return Ok(HttpContext::Dockerfile(text));
    }
    let fd = file.tree.root.open_at(name, OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty()).map_err(fail)?;
    Ok(HttpContext::Tree(Box::new(from_tar(std::fs::File::from(fd), folder)?)))
}
