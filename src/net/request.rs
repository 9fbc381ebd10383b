//! What is asked for.
//!
//! Not here: sending it (`client`).

use std::fmt;

/// GET or HEAD: nothing else is ever sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
}

/// Who asks; sent only to the scheme, host and port that they are for.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// RFC 7617.
    Basic { user: String, password: String },
    /// The whole value of the Authorization header.
    Header(Vec<u8>),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(***)")
    }
}

/// A request without a body.
///
/// User info in the URL counts as credentials for its host, unless others are given.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: Method,
    pub url: String,
    /// For the origin of `url` and for no other.
    pub credentials: Option<Credentials>,
    /// `If-None-Match`: a 304 is then a good answer.
    pub if_none_match: Option<String>,
    /// `If-Modified-Since`, as the server wrote it: a 304 is then a good answer.
    pub if_modified_since: Option<String>,
}

impl Request {
    /// Asks for what is at a URL.
    pub fn get(url: impl Into<String>) -> Request {
        Request {
            method: Method::Get,
            url: url.into(),
            credentials: None,
            if_none_match: None,
            if_modified_since: None,
        }
    }

    /// Asks for the headers of what is at a URL.
    pub fn head(url: impl Into<String>) -> Request {
        Request { method: Method::Head, ..Request::get(url) }
    }

    /// Tells whether "not modified" would answer it.
    pub fn is_conditional(&self) -> bool {
        self.if_none_match.is_some() || self.if_modified_since.is_some()
    }
}
