//! What carries between published ports and a container: one thread, in the container's network namespace.
//!
//! Sockets belong to the namespace they were made in. Those that listen were made on the host's side and
//! so are the connections they accept; those that this thread makes are the container's. Not here: how
//! streams and datagrams are carried (`tcp`, `udp`).

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use rustix::process::{Resource, getrlimit};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::LocalSet;

use super::bind::{Bound, Socket};
use super::{tcp, udp};
use crate::sys::netns;

/// The most connections and udp clients that one container has at a time, however many files may be open.
const MOST: u64 = 8192;
/// What is read at once, of all connections: they take turns.
const BUFFER: usize = 256 << 10;

/// Carries until it is dropped, which ends every connection.
#[derive(Debug)]
pub struct Forwarder {
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

/// What all tasks of a forwarder share.
pub(super) struct Shared {
    pub buffer: RefCell<Vec<u8>>,
    /// How many bytes were read that nobody takes yet.
    pub kept: Cell<usize>,
    /// One for each connection, and for each client of udp.
    pub places: Arc<Semaphore>,
    /// How many clients one udp port has at most.
    pub udp_clients: usize,
}

enum Listening {
    Tcp(tokio::net::TcpListener, SocketAddr),
    Udp(tokio::net::UdpSocket, SocketAddr),
}

impl Forwarder {
    pub(super) fn start(
        bound: &[Bound],
        namespace: BorrowedFd<'_>,
        address: IpAddr,
    ) -> io::Result<Forwarder> {
        let namespace = namespace.try_clone_to_owned()?;
        let mut sockets = Vec::new();
        for Bound { mapping, socket } in bound {
            let to = SocketAddr::new(address, mapping.container.port);
            sockets.push(match socket {
                Socket::Tcp(listener) => (Socket::Tcp(listener.try_clone()?), to),
                Socket::Udp(socket) => (Socket::Udp(socket.try_clone()?), to),
            });
        }
        let (stop, stopped) = oneshot::channel();
        let (say, said) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("ports".to_owned())
            .spawn(move || run(sockets, namespace, stopped, &say))?;
        let forwarder = Forwarder { stop: Some(stop), thread: Some(thread) };
        said.recv().unwrap_or_else(|_| Err(io::Error::other("the thread of published ports ended early")))?;
        Ok(forwarder)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(
    sockets: Vec<(Socket, SocketAddr)>,
    namespace: OwnedFd,
    stopped: oneshot::Receiver<Infallible>,
    say: &mpsc::Sender<io::Result<()>>,
) {
    let started = netns::enter(&namespace)
        .and_then(|()| tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build());
    drop(namespace);
    let runtime = match started {
        Ok(runtime) => runtime,
        Err(error) => return drop(say.send(Err(error))),
    };
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async {
        let listening: io::Result<Vec<Listening>> = sockets.into_iter().map(listen).collect();
        let listening = match listening {
            Ok(listening) => listening,
            Err(error) => return drop(say.send(Err(error))),
        };
        let places = places();
        let udp_clients = (places / 4).max(1);
        let shared = Rc::new(Shared {
            buffer: RefCell::new(vec![0; BUFFER]),
            kept: Cell::new(0),
            places: Arc::new(Semaphore::new(places)),
            udp_clients,
        });
        for listening in listening {
            let shared = shared.clone();
            match listening {
                Listening::Tcp(listener, to) => tokio::task::spawn_local(tcp::serve(listener, to, shared)),
                Listening::Udp(socket, to) => tokio::task::spawn_local(udp::serve(socket, to, shared)),
            };
        }
        let _ = say.send(Ok(()));
        // Nothing is ever sent: it ends when the other end goes.
        let _ = stopped.await;
    });
}

fn listen((socket, to): (Socket, SocketAddr)) -> io::Result<Listening> {
    Ok(match socket {
        Socket::Tcp(listener) => Listening::Tcp(tokio::net::TcpListener::from_std(listener)?, to),
        Socket::Udp(socket) => Listening::Udp(tokio::net::UdpSocket::from_std(socket)?, to),
    })
}

/// Returns how many connections there may be at a time: each takes two descriptors, and this process has others.
fn places() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    (files.saturating_sub(128) / 2).clamp(16, MOST) as usize
}
