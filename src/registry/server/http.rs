//! Connections: taken, bounded, served as HTTP/1.1, ended.
//!
//! A client that is slow with a head, a body or with taking an answer loses its connection; how many there are
//! and what each may hold in memory is bounded. Not here: what is answered (`dispatch`).

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::body::{Buffers, ReplyBody};
use super::callers::Callers;
use super::documents::Documents;
use super::source::{Source, Sources};
use super::tls::{Tls, handshake_error};
use super::{Auth, Line, ServerError, ServerOptions, State, dispatch, sweep};
use crate::store::{CollectOptions, Repositories};
use crate::sys::stall::Stall;

/// What a connection may hold of a head, and of a body that is read.
const BUFFER: usize = 128 * 1024;
/// How much of a body that nobody wants is taken, so that the client reads the answer.
const DRAINED: usize = 1 << 20;
/// And for how long.
const DRAINING: Duration = Duration::from_secs(2);
/// How many files a request has open at most: its connection, a blob or an upload, locks; and the rest of the server.
const FILES_EACH: u64 = 4;
const FILES_BESIDE: u64 = 64;
/// After how long it is told again that connections cannot be taken.
const AGAIN: Duration = Duration::from_secs(10);

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    state: Arc<State>,
    tls: Option<Tls>,
    collect: Option<(Duration, CollectOptions)>,
}

/// Ends a server from another thread.
#[derive(Debug, Clone)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Default for Stop {
    fn default() -> Stop {
        Stop(Arc::new(watch::Sender::new(false)))
    }
}

impl Stop {
    /// Has requests finished and no more taken.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Server {
    /// Listens on `HOST:PORT`; without HOST, on all addresses; port 0 is a free one.
    ///
    /// `more`: what is served besides the repositories, and only read.
    pub fn bind(
        address: &str,
        repositories: Arc<Repositories>,
        more: Vec<Arc<dyn Source>>,
        options: ServerOptions,
    ) -> Result<Server, ServerError> {
        let failed = |source: io::Error| ServerError::Listen { address: address.to_owned(), source };
        let listener = listen(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let tls = options.tls.map(Tls::open).transpose()?;
        // Who has to show a password, or to believe a certificate, is not led here by a name.
        let open = bound.ip().to_canonical().is_loopback() && options.users.is_none() && tls.is_none();
        let state = State {
            callers: Callers::new(&options.hosts, !open),
            sources: Sources::new(repositories.clone(), more),
            repositories,
            read_only: options.read_only,
            delete: options.delete,
            auth: options.users.map(|users| Auth::new(users, options.anonymous_pull)),
            buffers: Arc::new(Buffers::default()),
            documents: Documents::default(),
            limits: options.limits,
            log: options.log,
        };
        // A registry that is only read removes nothing either.
        let collect = options.collect.filter(|_| !options.read_only);
        Ok(Server { listener, address: bound, state: Arc::new(state), tls, collect })
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is stopped.
    pub fn run(self, stop: &Stop) -> Result<(), ServerError> {
        let threads = std::thread::available_parallelism().map_or(2, |count| count.get().clamp(2, 16));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("registry")
            .enable_all()
            .build()
            .map_err(ServerError::Start)?;
        let connections = within_files(self.state.limits.connections);
        let (collect, state) = (self.collect.clone(), self.state.clone());
        if let Some((every, options)) = collect {
            runtime.spawn(sweep::run(state, every, options));
        }
        let served = runtime.block_on(self.accept(connections, stop.0.subscribe()));
        // What goes on in threads is whole at every moment.
        runtime.shutdown_timeout(Duration::from_millis(200));
        served
    }

    async fn accept(self, connections: usize, mut stop: watch::Receiver<bool>) -> Result<(), ServerError> {
        let Server { listener, state, tls, .. } = self;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(ServerError::Start)?;
        let room = Arc::new(Semaphore::new(connections));
        let all = u32::try_from(connections).unwrap_or(u32::MAX);
        let end = state.limits.end;
        let mut told: Option<Instant> = None;
        loop {
            let next = async {
                // More connections wait in the kernel.
                let place = room.clone().acquire_owned().await.map_err(io::Error::other)?;
                let (stream, peer) = listener.accept().await?;
                io::Result::Ok((place, stream, peer))
            };
            let (place, stream, peer) = match select(pin!(next), pin!(stop.wait_for(|stop| *stop))).await {
                Either::Right(_) => break,
                Either::Left((Ok(taken), _)) => taken,
                Either::Left((Err(error), _)) => {
                    // Of one connection, or too many files: others may go better.
                    // Told now and then: who holds all files is not to fill the log too.
                    if told.is_none_or(|told| told.elapsed() >= AGAIN) {
                        told = Some(Instant::now());
                        (state.log)(Line::Fault(&format!("a connection was not taken: {error}")));
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let acceptor = tls.as_ref().map(|tls| {
                let (config, fault) = tls.config();
                if let Some(fault) = fault {
                    (state.log)(Line::Fault(&format!("{fault}; the old certificate is still in use")));
                }
                TlsAcceptor::from(config)
            });
            let (state, stop) = (state.clone(), stop.clone());
            tokio::spawn(async move {
                let _place = place;
                connection(state, stream, peer, acceptor, stop).await;
            });
        }
        drop(listener);
        // All places free: all connections have ended.
        let _ = timeout(end, room.acquire_many(all)).await;
        Ok(())
    }
}

/// Makes room for the files of so many connections, or returns how many there is room for: who holds connections
/// is not to leave others without files.
fn within_files(connections: usize) -> usize {
    let wanted = (connections as u64).saturating_mul(FILES_EACH).saturating_add(FILES_BESIDE);
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
        let raised = Rlimit { current, maximum: limit.maximum };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limit = raised;
        }
    }
    fitting(connections, limit.current)
}

/// Returns how many connections fit into a limit of open files.
fn fitting(connections: usize, files: Option<u64>) -> usize {
    let Some(files) = files else { return connections };
    let most = files.saturating_sub(FILES_BESIDE) / FILES_EACH;
    connections.min(usize::try_from(most).unwrap_or(usize::MAX)).max(1)
}

/// Binds the first address that a text stands for and that can be had.
fn listen(address: &str) -> io::Result<TcpListener> {
    if let Some(port) = address.strip_prefix(':') {
        let port =
            port.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "that is no port"))?;
        // All of both families where there are both.
        return TcpListener::bind(SocketAddr::from(([0u16; 8], port)))
            .or_else(|_| TcpListener::bind(SocketAddr::from(([0u8; 4], port))));
    }
    let mut failed = io::Error::new(io::ErrorKind::InvalidInput, "it stands for no address");
    for address in address.to_socket_addrs()? {
        match TcpListener::bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

async fn connection(
    state: Arc<State>,
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    stop: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    match acceptor {
        None => serve(state, stream, peer, stop).await,
        Some(acceptor) => match timeout(state.limits.head, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => serve(state, stream, peer, stop).await,
            Ok(Err(error)) => (state.log)(Line::Access(&format!("{peer} {}", handshake_error(&error)))),
            Err(_) => {}
        },
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    state: Arc<State>,
    stream: S,
    peer: SocketAddr,
    mut stop: watch::Receiver<bool>,
) {
    let (head, stall) = (state.limits.head, state.limits.stall);
    let service = service_fn(move |request| one(state.clone(), peer, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_buf_size(BUFFER)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(Stall::new(stream, stall)), service);
    let mut connection = pin!(connection);
    // What ends a connection early is the client's affair.
    let asked = pin!(async {
        let _ = stop.wait_for(|stop| *stop).await;
    });
    if let Either::Right(_) = select(connection.as_mut(), asked).await {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// Answers one request, and logs it.
async fn one(
    state: Arc<State>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Infallible> {
    let started = Instant::now();
    let (parts, mut body) = request.into_parts();
    let (mut reply, user) = dispatch::answer(&state, &parts, &mut body).await;
    if !body.is_end_stream() {
        // Who asked before sending (Expect) does not send; of others the rest is taken, up to a point.
        if parts.headers.contains_key(header::EXPECT) || !drain(&mut body).await {
            reply = reply.header(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
    let agent = parts.headers.get(header::USER_AGENT).map_or("-", |v| v.to_str().unwrap_or("-"));
    (state.log)(Line::Access(&format!(
        "{} {} \"{} {}\" {} {} {}ms \"{}\"",
        peer.ip(),
        user.as_deref().unwrap_or("-").escape_default(),
        parts.method,
        // May hold quotes, and bytes above ASCII that a terminal obeys.
        parts.uri.path_and_query().map_or("*", |path| path.as_str()).escape_default(),
        reply.status.as_u16(),
        reply.length(),
        started.elapsed().as_millis(),
        agent.escape_default(),
    )));
    Ok(reply.into_response())
}

/// Takes what is left of a body; tells whether that was all.
async fn drain(body: &mut Incoming) -> bool {
    let taking = async {
        let mut taken = 0;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            taken += frame.data_ref().map_or(0, |data| data.len());
            if taken > DRAINED {
                return false;
            }
        }
        true
    };
    timeout(DRAINING, taking).await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_requests() {
        let check = |files: Option<u64>, expect: usize| assert_eq!(fitting(1024, files), expect, "{files:?}");
        check(None, 1024);
        check(Some(1 << 20), 1024);
        check(Some(1024), 240);
        check(Some(10), 1);
    }
}
