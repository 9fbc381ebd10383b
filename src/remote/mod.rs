//! Addresses of what is fetched from elsewhere: which texts are addresses, and what they say. Pure.
//!
//! `git` and `http` hold the two kinds, `query` reads the options of a git address, `url` takes URLs
//! apart, `near` guesses what a mistyped name may have meant. The rules are those of BuildKit
//! (`frontend/dockerfile/dfgitutil`, `util/gitutil`). Not here: fetching (`context`), image names (`image`),
//! hiding passwords in any text (`report`).

mod error;
mod git;
mod http;
mod near;
mod query;
mod url;

use std::fmt;

pub use error::AddressError;
pub use git::GitAddress;
pub use git::Mtime;
pub use git::Transport;
pub use git::is_commit;
pub use http::HttpAddress;
pub use near::nearest;
pub use url::Credentials;

pub use crate::report::redact;

/// Something that is fetched from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Http(HttpAddress),
    Git(GitAddress),
}

/// Without user names and passwords (ssh keeps the user name).
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Http(address) => address.fmt(f),
            Address::Git(address) => address.fmt(f),
        }
    }
}

/// Reads a source of ADD: `None` is a local path.
///
/// Git are `git://` and `ssh://`, `[user@]host:path` (no `/` before the colon), and `http(s)://` whose
/// path ends in `.git`; other `http(s)://` are files. Unknown schemes are local paths, as in BuildKit.
pub fn parse(text: &str) -> Option<Result<Address, AddressError>> {
    if text.starts_with("./") || text.starts_with("../") {
        return None;
    }
    if let Some(scheme) = url::scheme(text) {
        let transport = Transport::of_scheme(&scheme)?;
        return Some(url::Url::split(text).and_then(|url| match transport {
            Transport::Http | Transport::Https if !url.path_ends_with(".git") => {
                HttpAddress::new(&url).map(Address::Http)
            }
            _ => GitAddress::from_url(transport, &url).map(Address::Git),
        }));
    }
    url::Scp::split(text).map(|scp| GitAddress::from_scp(&scp).map(Address::Git))
}

/// Reads a build context: as [`parse`], and `github.com/user/repository` is git too.
///
/// A directory of that name goes first: the caller looks for it before. The same goes for the forms
/// `docker-image://`, `oci-layout://` and `target:` of named contexts.
pub fn parse_context(text: &str) -> Option<Result<Address, AddressError>> {
    if !text.starts_with("github.com/") {
        return parse(text);
    }
    let text = format!("https://{text}");
    let git = url::Url::split(&text).and_then(|url| GitAddress::from_url(Transport::Https, &url));
    Some(git.map(Address::Git))
}

#[cfg(test)]
mod tests;
