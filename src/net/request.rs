//! What is asked for, and what is sent along.
//!
//! Not here: sending it (`client`), the channel of a streamed body (`pipe`).

use std::fmt;
use std::io;
use std::io::Write;
use std::time::Duration;

/// The methods that are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    /// Tells whether nothing changes at the server (RFC 9110, 9.2.1).
    pub fn is_safe(self) -> bool {
        matches!(self, Method::Get | Method::Head)
    }
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

/// Which statuses are answers; all others are errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answers {
    /// 2xx, and 304 where the request is conditional.
    #[default]
    Good,
    /// Those of [`Answers::Good`], and these.
    Also(&'static [u16]),
    /// All; redirects too, where they are not followed.
    Any,
}

/// A request, but for its body.
///
/// User info in the URL counts as credentials for its host, unless others are given.
#[derive(Clone)]
pub struct Request {
    pub method: Method,
    pub url: String,
    /// For the origin of `url` and for no other.
    pub credentials: Option<Credentials>,
    /// `If-None-Match`: a 304 is then a good answer.
    pub if_none_match: Option<String>,
    /// `If-Modified-Since`, as the server wrote it: a 304 is then a good answer.
    pub if_modified_since: Option<String>,
    /// More headers; only `Accept` and `Range` go to another origin by redirect.
    pub headers: Vec<(String, String)>,
    pub answers: Answers,
    /// Whether redirects are followed; never for methods other than GET and HEAD.
    pub follow: bool,
    /// How long the answer may take; without it, as long as nothing else may come.
    pub patience: Option<Duration>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither user info nor headers, which may be secret.
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("url", &super::show_url(&self.url))
            .finish_non_exhaustive()
    }
}

impl Request {
    /// Makes a request of any method.
    pub fn new(method: Method, url: impl Into<String>) -> Request {
        Request {
            method,
            url: url.into(),
            credentials: None,
            if_none_match: None,
            if_modified_since: None,
            headers: Vec::new(),
            answers: Answers::Good,
            follow: true,
            patience: None,
        }
    }

    /// Asks for what is at a URL.
    pub fn get(url: impl Into<String>) -> Request {
        Request::new(Method::Get, url)
    }

    /// Asks for the headers of what is at a URL.
    pub fn head(url: impl Into<String>) -> Request {
        Request::new(Method::Head, url)
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Request {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Tells whether "not modified" would answer it.
    pub fn is_conditional(&self) -> bool {
        self.if_none_match.is_some() || self.if_modified_since.is_some()
    }

    /// Tells whether a status is an answer.
    pub(super) fn is_answer(&self, status: u16) -> bool {
        let good = (200..300).contains(&status) || (status == 304 && self.is_conditional());
        match self.answers {
            Answers::Good => good,
            Answers::Also(more) => good || more.contains(&status),
            Answers::Any => true,
        }
    }
}

/// Writes a body; called once for each try of a request.
pub type WriteBody<'b> = &'b mut (dyn FnMut(&mut dyn Write) -> io::Result<()> + Send);

/// What a request carries.
pub enum Body<'b> {
    None,
    Bytes(Vec<u8>),
    /// Written by a thread of its own while it is sent; without a length it goes out in chunks.
    ///
    /// A writer that ends early or wants to write more than `length` fails the request.
    Stream {
        length: Option<u64>,
        write: WriteBody<'b>,
    },
}
