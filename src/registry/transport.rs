//! One request to a registry: its scheme, its repetition, where its redirects lead.
//!
//! Not here: what is asked for (`repository`, `upload`).

use std::time::Duration;

use jiff::Timestamp;
use url::Url;

use super::answer;
use super::auth::Wanted;
use super::challenge;
use super::error::RegistryError;
use super::host::Endpoint;
use super::registries::Registries;
use crate::net::{
    Answers, Body, Credentials, Method, NetError, Problem, Reply, Request, WriteBody, retry_after, show_url,
    sleep,
};

/// How long a server may think about what it was sent: it may have to move it to where it keeps it.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(300);

/// How many redirects are followed.
const MOST_REDIRECTS: usize = 5;

/// A request.
pub struct Ask<'b> {
    pub method: Method,
    pub target: Target,
    pub headers: Vec<(String, String)>,
    pub body: Payload<'b>,
    pub wanted: Wanted,
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub enum Target {
    /// A path with its query on the endpoint.
    Path(String),
    /// Where the server itself said to go on.
    Url(Url),
}

/// What a request carries.
pub enum Payload<'b> {
    None,
    Bytes(&'b [u8]),
    Stream { length: Option<u64>, write: WriteBody<'b> },
}

impl Payload<'_> {
    fn body(&mut self) -> Body<'_> {
        match self {
            Payload::None => Body::None,
            Payload::Bytes(bytes) => Body::Bytes(bytes.to_vec()),
            Payload::Stream { length, write } => Body::Stream { length: *length, write: &mut **write },
        }
    }
}

impl<'b> Ask<'b> {
    /// Makes a request without a body.
    pub fn new(method: Method, path: String) -> Ask<'b> {
        Ask {
            method,
            target: Target::Path(path),
            headers: Vec::new(),
            body: Payload::None,
            wanted: Wanted::default(),
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Ask<'b> {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

impl Registries {
    /// Sends a request once and returns its answer of any status, redirects of reads followed.
    ///
    /// Credentials are sent to the endpoint alone, wherever redirects and upload locations lead.
    pub(super) fn ask(
        &self,
        endpoint: &Endpoint,
        ask: &mut Ask<'_>,
        cancel: &dyn Fn() -> bool,
    ) -> Result<Reply, RegistryError> {
        let mut reply = match ask.target.clone() {
            Target::Path(path) => self.ask_endpoint(endpoint, &path, ask, cancel)?,
            Target::Url(url) => self.ask_url(endpoint, &url, ask, cancel)?,
        };
        for _ in 0..MOST_REDIRECTS {
            if !ask.method.is_safe() || !matches!(reply.status(), 301 | 302 | 303 | 307 | 308) {
                return Ok(reply);
            }
            let url = location(endpoint, &reply)?;
            reply = self.ask_url(endpoint, &url, ask, cancel)?;
        }
        Err(protocol(endpoint, "it redirects too often"))
    }

    /// Repeats `attempt` while its errors may pass.
    pub(super) fn retrying<T>(
        &self,
        cancel: &dyn Fn() -> bool,
        mut attempt: impl FnMut() -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut tried = 0;
        loop {
            let error = match attempt() {
                Err(error) if error.is_transient() => error,
                other => return other,
            };
            tried += 1;
            let Some(pause) = self.options.retry.pause(tried, error.retry_after()) else {
                return Err(error.after(tried));
            };
            self.options.listener.tell(&error, tried, &self.options.retry, pause);
            // Cancelled while waiting: the next request says so at once.
            if !sleep(pause, cancel) {
                return attempt();
            }
        }
    }

    /// Asks by https; by http where the endpoint is insecure and speaks nothing else.
    fn ask_endpoint(
        &self,
        endpoint: &Endpoint,
        path: &str,
        ask: &mut Ask<'_>,
        cancel: &dyn Fn() -> bool,
    ) -> Result<Reply, RegistryError> {
        let url = |scheme: &str| {
            Url::parse(&format!("{scheme}://{}{path}", endpoint.host))
                .map_err(|e| protocol(endpoint, &format!("that is no host: {e}")))
        };
        if let Some(scheme) = self.scheme(endpoint) {
            return self.ask_home(endpoint, &url(scheme)?, ask, cancel);
        }
        let (secure, plain) = (url("https")?, url("http")?);
        match self.ask_home(endpoint, &secure, ask, cancel) {
            Err(RegistryError::Net(error)) if endpoint.insecure && speaks_no_tls(&error) => {
                match self.ask_home(endpoint, &plain, ask, cancel) {
                    Ok(reply) => {
                        self.set_scheme(&endpoint.host, "http");
                        Ok(reply)
                    }
                    // Where neither answers, how https failed says more.
                    Err(RegistryError::Net(second)) if !second.is_cancelled() && !is_plain(&error) => {
                        Err(RegistryError::Net(error))
                    }
                    other => other,
                }
            }
            Err(RegistryError::Net(error)) => Err(explain(endpoint, error)),
            Ok(reply) => {
                self.set_scheme(&endpoint.host, "https");
                Ok(reply)
            }
            other => other,
        }
    }

    /// Asks where a server said to go on: the endpoint itself, or others without credentials.
    fn ask_url(
        &self,
        endpoint: &Endpoint,
        url: &Url,
        ask: &mut Ask<'_>,
        cancel: &dyn Fn() -> bool,
    ) -> Result<Reply, RegistryError> {
        if endpoint.owns(url) {
            return self.ask_home(endpoint, url, ask, cancel);
        }
        let other = Endpoint::of_url(url, &self.known()?.settings);
        let from_https = self.scheme(endpoint) != Some("http");
        if url.scheme() == "http" && from_https && !endpoint.may_lead_to_plain(&other) {
            let to = answer::show(&show_url(url.as_str()));
            return Err(RegistryError::Downgrade { host: endpoint.host.clone(), to });
        }
        self.send(&other, url, ask, None, &[], cancel).map_err(|error| match error {
            RegistryError::Net(error) => explain(&other, error),
            error => error,
        })
    }

    /// Asks the endpoint, and once more with credentials if it wants some.
    fn ask_home(
        &self,
        endpoint: &Endpoint,
        url: &Url,
        ask: &mut Ask<'_>,
        cancel: &dyn Fn() -> bool,
    ) -> Result<Reply, RegistryError> {
        let may_see = endpoint.may_see_credentials(url);
        let remembered = match may_see {
            true => self.remembered(endpoint, &ask.wanted, cancel)?,
            false => None,
        };
        let headers = &self.known()?.headers;
        let reply = self.send(endpoint, url, ask, remembered, headers, cancel)?;
        if reply.status() != 401 || !may_see {
            return Ok(reply);
        }
        let Some(challenge) = challenge::read(reply.headers("www-authenticate")) else { return Ok(reply) };
        self.forget(endpoint, &ask.wanted);
        match self.authorize(endpoint, &challenge, &ask.wanted, cancel)? {
            None => Ok(reply),
            credentials => self.send(endpoint, url, ask, credentials, headers, cancel),
        }
    }

    /// Sends what was decided; `own_headers`: what only registries get.
    fn send(
        &self,
        endpoint: &Endpoint,
        url: &Url,
        ask: &mut Ask<'_>,
        credentials: Option<Credentials>,
        own_headers: &[(String, String)],
        cancel: &dyn Fn() -> bool,
    ) -> Result<Reply, RegistryError> {
        let client = self.client(endpoint)?;
        let mut request = Request::new(ask.method, url.as_str());
        request.headers = ask.headers.clone();
        request.headers.extend_from_slice(own_headers);
        request.credentials = credentials;
        request.answers = Answers::Any;
        request.follow = false;
        request.patience = (!ask.method.is_safe()).then_some(UPLOAD_PATIENCE);
        Ok(client.send_body(&request, ask.body.body(), cancel)?)
    }
}

/// Reads where an answer sends the client on; relative to where it came from.
pub fn location(endpoint: &Endpoint, reply: &Reply) -> Result<Url, RegistryError> {
    let bad = |why: &str| protocol(endpoint, why);
    let text = reply.header("location").ok_or_else(|| bad("an answer has no Location"))?;
    let base = Url::parse(reply.url()).map_err(|_| bad("an answer came from nowhere"))?;
    let url = base.join(text).map_err(|_| bad("the Location of an answer is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("the Location of an answer is not of http or https"));
    }
    Ok(url)
}

/// Makes the error of an answer.
///
/// `name`: the repository; `what`: what was asked for, in words.
pub fn refused(
    endpoint: &Endpoint,
    name: &str,
    what: &str,
    reply: Reply,
    cancel: &dyn Fn() -> bool,
) -> RegistryError {
    let status = reply.status();
    let retry_after = reply.header("retry-after").and_then(|value| retry_after(value, Timestamp::now()));
    let errors = answer::read(&reply.bytes_up_to(answer::LONGEST_BODY, cancel));
    let host = endpoint.host.clone();
    let what = what.to_owned();
    match status {
        401 | 403 => RegistryError::Denied { name: name.to_owned(), login: endpoint.login(), errors },
        404 => RegistryError::NotFound { what, errors },
        429 => RegistryError::TooMany { host, retry_after, errors },
        _ => RegistryError::Status { host, what, status, retry_after, errors },
    }
}

/// Makes the error of a server that does not keep to the protocol.
pub fn protocol(endpoint: &Endpoint, why: &str) -> RegistryError {
    RegistryError::Protocol { host: endpoint.host.clone(), why: why.to_owned() }
}

fn speaks_no_tls(error: &NetError) -> bool {
    matches!(
        error.problem(),
        Problem::Tls { .. } | Problem::Refused | Problem::Connect(_) | Problem::Interrupted(_)
    )
}

/// Tells whether a server answered to TLS with something else.
fn is_plain(error: &NetError) -> bool {
    matches!(error.problem(), Problem::Tls { why, .. } if why.contains("does not speak TLS"))
}

fn explain(endpoint: &Endpoint, error: NetError) -> RegistryError {
    let host = endpoint.host.clone();
    let why = match error.problem() {
        _ if endpoint.insecure => return RegistryError::Net(error),
        Problem::Tls { unknown_issuer: true, .. } => {
            format!(
                "has a certificate of an authority that is not known here: put that authority's own in \
                 /etc/docker/certs.d/{host}/ca.crt"
            )
        }
        Problem::Tls { .. } if is_plain(&error) => "speaks http, not https".to_owned(),
        Problem::Tls { .. } => "has no certificate that can be believed".to_owned(),
        _ => return RegistryError::Net(error),
    };
    RegistryError::Insecure { host, why, source: Some(error) }
}
