//! One request, and what is done with its answer: redirects, repetition, errors.
//!
//! Not here: waiting for the network (`exchange`), the rules themselves (`redirect`, `retry`,
//! `proxy`).

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::header;
use url::Url;

use super::address::{self, Origin, show_url};
use super::error::{NetError, Problem, explain};
use super::exchange::{Network, Stop, TICK};
use super::pipe::Pipe;
use super::proxy::ProxySettings;
use super::redirect;
use super::reply::Reply;
use super::request::{Body, Credentials, Method, Request};
use super::retry::{RetryListener, RetryPolicy, retry_after};
use super::tls::TlsOptions;

/// The stack of a thread that writes a body, in bytes; it counts as memory where that is limited.
const STACK: usize = 512 * 1024;

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    pub proxies: ProxySettings,
    pub tls: TlsOptions,
    pub retry: RetryPolicy,
    /// Hears of each repetition.
    pub listener: RetryListener,
    /// For one connection, from the look-up of the name to the end of the TLS handshake.
    pub connect_timeout: Duration,
    /// How long nothing may come.
    pub idle_timeout: Duration,
}

impl Default for ClientOptions {
    /// No proxy, the system's certificates, 30 s to connect, 60 s without a byte.
    fn default() -> ClientOptions {
        ClientOptions {
            proxies: ProxySettings::default(),
            tls: TlsOptions::default(),
            retry: RetryPolicy::default(),
            listener: RetryListener::default(),
            connect_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

/// Speaks http and https; threads share it by reference.
///
/// Making one costs nothing: certificates are read and the network is set up at the first request.
/// It keeps no cookies, and asks for bodies as they are, never for compressed ones.
pub struct Client {
    options: ClientOptions,
    network: OnceLock<Result<Arc<Network>, String>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Client {
    /// Makes a client; does nothing yet.
    pub fn new(options: ClientOptions) -> Client {
        Client { options, network: OnceLock::new() }
    }

    /// Tells whether anything was asked for yet.
    pub fn is_used(&self) -> bool {
        self.network.get().is_some()
    }

    /// Sends a request, again if that may help, and returns a good answer.
    ///
    /// `cancel` is looked at every 50 ms, whatever is being waited for.
    pub fn send(&self, request: &Request, cancel: &dyn Fn() -> bool) -> Result<Reply, NetError> {
        self.retrying(cancel, || self.send_once(request, cancel))
    }

    /// Repeats `attempt` by the client's policy while its errors may pass.
    ///
    /// For what reads the body too: use [`Client::send_once`] inside.
    pub fn retrying<T>(
        &self,
        cancel: &dyn Fn() -> bool,
        mut attempt: impl FnMut() -> Result<T, NetError>,
    ) -> Result<T, NetError> {
        let mut tried = 0;
        loop {
            let error = match attempt() {
                Err(error) if error.is_transient() => error,
                other => return other,
            };
            tried += 1;
            match self.options.retry.pause(tried, error.retry_after()) {
                Some(pause) => {
                    self.options.listener.tell(&error, tried, &self.options.retry, pause);
                    if !sleep(pause, cancel) {
                        return Err(NetError::new(error.url().to_owned(), Problem::Cancelled));
                    }
                }
                None => return Err(error.after(tried)),
            }
        }
    }

    /// Sends a request once, following redirects.
    pub fn send_once(&self, request: &Request, cancel: &dyn Fn() -> bool) -> Result<Reply, NetError> {
        self.send_body(request, Body::None, cancel)
    }

    /// Sends a request once, with a body.
    ///
    /// An answer that comes before all of a stream was sent ends its writer, and counts. Redirects
    /// are followed by GET and HEAD alone, and without the body.
    pub fn send_body(
        &self,
        request: &Request,
        body: Body<'_>,
        cancel: &dyn Fn() -> bool,
    ) -> Result<Reply, NetError> {
        let sending = !request.method.is_safe();
        self.send_hops(request, body, cancel).map_err(|error| error.sending(sending))
    }

    fn send_hops(
        &self,
        request: &Request,
        mut body: Body<'_>,
        cancel: &dyn Fn() -> bool,
    ) -> Result<Reply, NetError> {
        let mut url = address::parse(&request.url)?;
        let user_info = address::take_user_info(&mut url);
        let home = Origin::of(&url);
        let own = request.credentials.clone().or(user_info);
        // What the URL of a redirect brings with it counts for that one request.
        let mut brought = None;
        let mut authenticated = false;
        for _ in 0..=redirect::MOST {
            let at_home = Origin::of(&url) == home;
            let credentials = match at_home {
                true => own.as_ref(),
                false => brought.as_ref(),
            };
            authenticated |= credentials.is_some();
            let hop = Hop { url: &url, credentials, at_home };
            let body = std::mem::replace(&mut body, Body::None);
            let reply = self.exchange(request, hop, body, cancel)?;
            let fail = |problem| NetError::new(address::show(&url), problem).through(reply.proxy.clone());
            let follow = request.follow && request.method.is_safe();
            match reply.status() {
                status if follow && redirect::is_redirect(status) => {
                    let location = reply.header("location");
                    let mut next = redirect::target(&url, location, authenticated).map_err(fail)?;
                    brought = address::take_user_info(&mut next);
                    url = next;
                }
                status if request.is_answer(status) => return Ok(reply),
                status => {
                    let asked = reply.header("retry-after");
                    let retry_after = asked.and_then(|value| retry_after(value, Timestamp::now()));
                    return Err(fail(Problem::Status { status, retry_after }));
                }
            }
        }
        Err(NetError::new(show_url(&request.url), Problem::TooManyRedirects(redirect::MOST)))
    }

    /// Asks one server and waits for the headers of its answer.
    fn exchange(
        &self,
        request: &Request,
        hop: Hop<'_>,
        body: Body<'_>,
        cancel: &dyn Fn() -> bool,
    ) -> Result<Reply, NetError> {
        let url = hop.url;
        let shown = address::show(url);
        let proxy = self.options.proxies.proxy_for(url)?;
        let proxy_shown = proxy.as_ref().map(address::show);
        let fail = |problem| NetError::new(shown.clone(), problem).through(proxy_shown.clone());
        if cancel() {
            return Err(fail(Problem::Cancelled));
        }
        let network = self.network().map_err(|why| fail(Problem::Protocol(why)))?;
        if url.scheme() == "https"
            && let Some(why) = &network.no_tls
        {
            return Err(fail(Problem::NoCertificates(why.clone())));
        }
        let builder = build(&network.http, request, &hop).map_err(|why| fail(Problem::Protocol(why)))?;
        // Connecting has its own limit, which ends first and says so.
        let idle = self.options.idle_timeout;
        let limit = self.options.connect_timeout + request.patience.unwrap_or(idle);
        let sent = match body {
            Body::None => {
                // "Nothing" is said where something could be (RFC 9110, 8.6); some servers answer 411 else.
                let wants_length = matches!(request.method, Method::Post | Method::Put | Method::Patch);
                let builder = if wants_length { builder.header(header::CONTENT_LENGTH, 0) } else { builder };
                network.wait(limit, cancel, builder.send())
            }
            Body::Bytes(bytes) => network.wait(limit, cancel, builder.body(bytes).send()),
            Body::Stream { length, write } => {
                let pipe = Pipe::new();
                let builder = builder.body(reqwest::Body::wrap(pipe.body(length)));
                std::thread::scope(|scope| {
                    let thread = std::thread::Builder::new().name("send".to_owned()).stack_size(STACK);
                    let writer = thread
                        .spawn_scoped(scope, || pipe.fill(length, write))
                        .map_err(|e| fail(Problem::Source(e)))?;
                    let sent = network.wait_moving(limit, cancel, &|| pipe.moved(), builder.send());
                    pipe.close();
                    let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                    written.map(|()| sent).map_err(|e| fail(Problem::Source(e)))
                })?
            }
        };
        let host = proxy.as_ref().unwrap_or(url).host_str().unwrap_or_default();
        match sent {
            Ok(Ok(response)) => Ok(Reply { network, response, url: shown, proxy: proxy_shown, idle }),
            Ok(Err(error)) if error.is_timeout() => {
                Err(fail(Problem::NoAnswer(self.options.connect_timeout)))
            }
            Ok(Err(error)) => Err(fail(explain(&error, host))),
            Err(Stop::Cancelled) => Err(fail(Problem::Cancelled)),
            Err(Stop::TimedOut) => Err(fail(Problem::NoAnswer(request.patience.unwrap_or(idle)))),
        }
    }

    fn network(&self) -> Result<Arc<Network>, String> {
        self.network.get_or_init(|| Network::new(&self.options).map(Arc::new)).clone()
    }
}

/// One request on the way of redirects.
struct Hop<'a> {
    url: &'a Url,
    credentials: Option<&'a Credentials>,
    /// Whether it goes to the origin that the request was for.
    at_home: bool,
}

/// Headers that are of no interest to others than who reads them anyway.
const FOR_ALL: [&str; 2] = ["accept", "range"];

/// Puts a request together; an error says what no request may hold.
fn build(
    http: &reqwest::Client,
    request: &Request,
    hop: &Hop<'_>,
) -> Result<reqwest::RequestBuilder, String> {
    let method = match request.method {
        Method::Get => reqwest::Method::GET,
        Method::Head => reqwest::Method::HEAD,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
        Method::Patch => reqwest::Method::PATCH,
        Method::Delete => reqwest::Method::DELETE,
    };
    let mut builder = http.request(method, hop.url.clone());
    for (name, value) in &request.headers {
        if !hop.at_home && !FOR_ALL.contains(&name.to_ascii_lowercase().as_str()) {
            continue;
        }
        let refuse = || format!("`{}` cannot be a header, or not with its value", name.escape_debug());
        let name = header::HeaderName::from_bytes(name.as_bytes()).map_err(|_| refuse())?;
        let value = header::HeaderValue::from_str(value).map_err(|_| refuse())?;
        builder = builder.header(name, value);
    }
    builder = match hop.credentials {
        Some(Credentials::Basic { user, password }) => builder.basic_auth(user, Some(password)),
        Some(Credentials::Header(value)) => {
            let mut value = header::HeaderValue::from_bytes(value)
                .map_err(|_| "the credentials hold bytes that no header may hold".to_owned())?;
            value.set_sensitive(true);
            builder.header(header::AUTHORIZATION, value)
        }
        None => builder,
    };
    if let Some(tag) = &request.if_none_match {
        builder = builder.header(header::IF_NONE_MATCH, tag);
    }
    if let Some(date) = &request.if_modified_since {
        builder = builder.header(header::IF_MODIFIED_SINCE, date);
    }
    Ok(builder)
}

/// Sleeps unless cancelled; tells whether it slept to the end.
pub fn sleep(pause: Duration, cancel: &dyn Fn() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if cancel() {
            return false;
        }
        let left = pause.saturating_sub(started.elapsed());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(TICK));
    }
}
