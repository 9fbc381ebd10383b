//! What can go wrong on the way, in words for people.
//!
//! No message holds user info or secret parameters of a URL. Not here: which answer is an error
//! (`client`).

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

/// Says why something could not be fetched: the URL, the proxy if one was used, and the problem.
#[derive(Debug)]
pub struct NetError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    url: String,
    proxy: Option<String>,
    tries: u32,
    sending: bool,
    problem: Problem,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("this is not a URL: {0}")]
    NotAUrl(String),
    #[error("only http and https are fetched, not `{0}`")]
    Scheme(String),
    #[error("this is not the address of a proxy")]
    NotAProxy,
    #[error("the host `{host}` was not found ({why})")]
    HostNotFound { host: String, why: String },
    #[error("the connection was refused")]
    Refused,
    #[error("no connection: {0}")]
    Connect(String),
    #[error("no secure connection: {why}")]
    Tls { why: String, unknown_issuer: bool },
    #[error("no secure connection: {0}")]
    NoCertificates(String),
    #[error("no answer within {} s", .0.as_secs())]
    NoAnswer(Duration),
    #[error("nothing came for {} s", .0.as_secs())]
    Stalled(Duration),
    #[error("the server answered {status}{}", meaning(*.status))]
    Status {
        status: u16,
        /// What the server asked for by `Retry-After`.
        retry_after: Option<Duration>,
    },
    #[error("it redirects more than {0} times")]
    TooManyRedirects(usize),
    #[error("it redirects to `{to}`: {why}")]
    Redirect { to: String, why: &'static str },
    #[error("it is larger than {0} bytes, the most that is taken")]
    TooLarge(u64),
    #[error("the connection broke before all of it came: {0}")]
    Interrupted(String),
    #[error("{0}")]
    Protocol(String),
    #[error("what came could not be written")]
    Write(#[source] io::Error),
    #[error("what was to be sent could not be read")]
    Source(#[source] io::Error),
    #[error("cancelled")]
    Cancelled,
}

fn meaning(status: u16) -> &'static str {
    match status {
        400 => " (bad request)",
        401 => " (unauthorized: it wants credentials, or others)",
        403 => " (forbidden)",
        404 => " (not found)",
        407 => " (the proxy wants credentials)",
        408 => " (it waited too long)",
        410 => " (gone)",
        429 => " (too many requests)",
        500 => " (internal server error)",
        502 => " (bad gateway)",
        503 => " (unavailable)",
        504 => " (gateway timeout)",
        _ => "",
    }
}

impl NetError {
    /// Makes an error about a URL that is fit to be shown.
    pub(super) fn new(url: String, problem: Problem) -> NetError {
        NetError(Box::new(Inner { url, proxy: None, tries: 1, sending: false, problem }))
    }

    /// Adds the proxy that was used, fit to be shown.
    pub(super) fn through(mut self, proxy: Option<String>) -> NetError {
        self.0.proxy = proxy;
        self
    }

    /// Says that it was about sending something, not about fetching.
    pub(super) fn sending(mut self, sending: bool) -> NetError {
        self.0.sending = sending;
        self
    }

    /// Takes the error out of one of I/O, if it is one of the network's.
    ///
    /// What reads a body as a stream fails with such errors.
    pub fn from_io(error: io::Error) -> Result<NetError, io::Error> {
        error.downcast()
    }

    /// Adds how often it was tried.
    pub fn after(mut self, tries: u32) -> NetError {
        self.0.tries = tries;
        self
    }

    /// Returns the URL, fit to be shown.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// Returns what went wrong.
    pub fn problem(&self) -> &Problem {
        &self.0.problem
    }

    /// Tells whether the caller cancelled it: nothing went wrong.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0.problem, Problem::Cancelled)
    }

    /// Tells whether trying again may help.
    pub fn is_transient(&self) -> bool {
        match &self.0.problem {
            // EAI_AGAIN in the words of glibc and of musl; a name that is not there stays so.
            Problem::HostNotFound { why, .. } => {
                why.contains("Temporary failure") || why.contains("Try again")
            }
            Problem::Refused
            | Problem::Connect(_)
            | Problem::NoAnswer(_)
            | Problem::Stalled(_)
            | Problem::Interrupted(_) => true,
            Problem::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
            _ => false,
        }
    }

    /// Returns how long the server asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.0.problem {
            Problem::Status { retry_after, .. } => retry_after,
            _ => None,
        }
    }

    /// Returns what to do next, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match &self.0.problem {
            Problem::Tls { unknown_issuer: true, .. } => Some(
                "if the server has a certificate of your own authority, add that to the system's \
                 certificates, or name a file of all trusted ones in SSL_CERT_FILE",
            ),
            Problem::NoCertificates(_) => Some(
                "install your system's certificates (package ca-certificates), or name their file in \
                 SSL_CERT_FILE",
            ),
            Problem::HostNotFound { .. } | Problem::Refused if self.0.proxy.is_none() => {
                Some("check the address; behind a proxy, set HTTP_PROXY and HTTPS_PROXY")
            }
            Problem::HostNotFound { .. } | Problem::Refused | Problem::NotAProxy => {
                Some("check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY; NO_PROXY names hosts to reach without")
            }
            _ => None,
        }
    }
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { url, proxy, tries, sending, problem } = &*self.0;
        match sending {
            true => write!(f, "cannot send to `{url}`")?,
            false => write!(f, "cannot fetch `{url}`")?,
        }
        if let Some(proxy) = proxy {
            write!(f, " through the proxy `{proxy}`")?;
        }
        write!(f, ": {problem}")?;
        match tries {
            0 | 1 => Ok(()),
            _ => write!(f, ", tried {tries} times"),
        }
    }
}

impl Error for NetError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.problem.source()
    }
}

/// Finds out what an error of the HTTP client means; `host`: what it connected to.
pub(super) fn explain(error: &reqwest::Error, host: &str) -> Problem {
    let mut last = error.to_string();
    let mut at: Option<&(dyn Error + 'static)> = Some(error);
    let mut dns = false;
    while let Some(current) = at {
        let text = current.to_string();
        if dns {
            return Problem::HostNotFound { host: host.to_owned(), why: text };
        }
        dns = text == "dns error" || text.starts_with("dns error:");
        if let Some(tls) = current.downcast_ref::<rustls::Error>() {
            return tls_problem(tls);
        }
        if let Some(io) = current.downcast_ref::<io::Error>() {
            if io.kind() == io::ErrorKind::ConnectionRefused {
                return Problem::Refused;
            }
            // `source` of an error in an io::Error passes over that error itself.
            if let Some(inner) = io.get_ref() {
                last = text;
                at = Some(inner);
                continue;
            }
        }
        last = text;
        at = current.source();
    }
    if error.is_builder() {
        return Problem::Protocol(last);
    }
    // hyper's words for bytes that are not HTTP, after the request and before it.
    if last.starts_with("invalid HTTP") || last.starts_with("received unexpected message") {
        return Problem::Protocol(format!("the answer is not HTTP ({last})"));
    }
    match error.is_connect() {
        true => Problem::Connect(last),
        false => Problem::Interrupted(last),
    }
}

fn tls_problem(error: &rustls::Error) -> Problem {
    use rustls::CertificateError as Bad;
    let unknown_issuer = matches!(error, rustls::Error::InvalidCertificate(Bad::UnknownIssuer));
    let why = match error {
        rustls::Error::InvalidCertificate(bad) => match bad {
            Bad::UnknownIssuer => {
                "the server's certificate is signed by an authority not known here".to_owned()
            }
            Bad::Expired | Bad::ExpiredContext { .. } => "the server's certificate has expired".to_owned(),
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                "the server's certificate is not valid yet (is the clock right?)".to_owned()
            }
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                "the server's certificate is for another host".to_owned()
            }
            other => format!("the server's certificate is not good: {other}"),
        },
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            "the server does not speak TLS (is its address one with http?)".to_owned()
        }
        other => other.to_string(),
    };
    Problem::Tls { why, unknown_issuer }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let check = |problem: Problem, expect: bool| {
            let text = problem.to_string();
            assert_eq!(NetError::new("http://a/".into(), problem).is_transient(), expect, "{text}");
        };
        let status = |status| Problem::Status { status, retry_after: None };
        for again in [408, 429, 500, 502, 503, 504, 599] {
            check(status(again), true);
        }
        for final_one in [100, 204, 300, 400, 401, 403, 404, 407, 410, 422] {
            check(status(final_one), false);
        }
        let name = |why: &str| Problem::HostNotFound { host: "a".into(), why: why.into() };
        check(name("failed to lookup address information: Temporary failure in name resolution"), true);
        check(name("failed to lookup address information: Name or service not known"), false);
        check(Problem::Refused, true);
        check(Problem::Interrupted("eof".into()), true);
        check(Problem::Tls { why: "expired".into(), unknown_issuer: false }, false);
        check(Problem::Cancelled, false);
        check(Problem::TooLarge(1), false);
    }

    #[test]
    fn says_all_that_is_known() {
        let problem = Problem::Status { status: 503, retry_after: None };
        let error = NetError::new("http://a/".into(), problem).through(Some("http://p:1/".into())).after(4);
        assert_eq!(
            error.to_string(),
            "cannot fetch `http://a/` through the proxy `http://p:1/`: the server answered 503 (unavailable), \
             tried 4 times"
        );
    }
}
