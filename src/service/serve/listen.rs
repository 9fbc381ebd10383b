//! Connections: who may have one, for how long, with TLS or without; and the server's beginning and end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Extension;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::http::{Peer, routes};
use super::service::Service;
use crate::service::ServiceError;
use crate::sys::stall::Stall;

/// How many connections there are at once; more wait to be accepted.
const CONNECTIONS: usize = 256;
/// How long a request's head, and a TLS handshake, may take.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a client may take nothing of an answer: a place is not to be held for good.
const STALL: Duration = Duration::from_secs(60);
/// How often it is asked whether to end.
const TICK: Duration = Duration::from_millis(50);

/// A place to listen on.
pub struct Listening {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl Listening {
    /// Takes the address; with certificate and key (PEM files) it speaks TLS alone.
    pub fn bind(address: SocketAddr, tls: Option<(&Path, &Path)>) -> Result<Listening, ServiceError> {
        let tls = tls.map(|(certificate, key)| acceptor(certificate, key)).transpose()?;
        let listener = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        let listener = listener.map_err(|error| {
            let what = format!("cannot listen on {address}: {error}");
            ServiceError::refused(what)
                .with_hint("another program may listen there: --listen names another address")
        })?;
        Ok(Listening { listener, tls })
    }

    /// Returns the address; its port is the one that was chosen where none was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Returns `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, ServiceError> {
    let bad = |path: &Path, why: &dyn std::fmt::Display| {
        ServiceError::refused(format!("cannot use `{}` for TLS: {why}", path.display()))
    };
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain = chain.map_err(|error| bad(certificate, &error))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(certificate, &error))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| bad(certificate, &error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Answers and builds until `stop` says so; then ends what runs, which waits for the next start.
pub fn serve(
    service: &Arc<Service>,
    listening: Listening,
    stop: &dyn Fn() -> bool,
) -> Result<(), ServiceError> {
    let failed = |error: io::Error| ServiceError::refused(format!("the server cannot go on: {error}"));
    let workers: io::Result<Vec<_>> = (0..service.config.concurrency)
        .map(|number| {
            let service = service.clone();
            std::thread::Builder::new().name(format!("build-{number}")).spawn(move || service.work())
        })
        .collect();
    let workers = workers.map_err(failed)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(failed)?;
    let done = runtime.block_on(accept(service, listening, stop)).map_err(failed);
    service.stop();
    for worker in workers {
        let _ = worker.join();
    }
    // Answers that are on their way.
    runtime.shutdown_timeout(Duration::from_secs(2));
    done
}

async fn accept(service: &Arc<Service>, listening: Listening, stop: &dyn Fn() -> bool) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listening.listener)?;
    let app = routes(service.clone());
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    while !stop() {
        let Ok(permit) = tokio::time::timeout(TICK, free.clone().acquire_owned()).await else { continue };
        let stream = loop {
            match tokio::time::timeout(TICK, listener.accept()).await {
                Ok(Ok((stream, peer))) => break Some((stream, peer)),
                // A connection that broke off, or no descriptor left: the next one may do.
                Ok(Err(_)) => tokio::time::sleep(TICK).await,
                Err(_) if stop() => break None,
                Err(_) => {}
            }
        };
        let Some((stream, peer)) = stream else { break };
        let app = app.clone().layer(Extension(Peer(peer)));
        let tls = listening.tls.clone();
        tokio::spawn(async move {
            let _permit = permit;
            match tls {
                None => answer(stream, app).await,
                Some(tls) => {
                    if let Ok(Ok(stream)) = tokio::time::timeout(HEAD_TIME, tls.accept(stream)).await {
                        answer(stream, app).await;
                    }
                }
            }
        });
    }
    Ok(())
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, app: axum::Router) {
    // A client that goes away, or speaks something else, is its own affair.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(Stall::new(stream, STALL)), TowerToHyperService::new(app))
        .await;
}
