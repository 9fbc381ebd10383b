//! Connections to published ports, carried into a container.
//!
//! Either side may end its half and still hear the other's. A connection that waits holds no buffer. Clients that
//! vanished are found out by the kernel's questions (tcp(7), keepalive), so that they keep no place for ever.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::Either;
use rustix::net::{Shutdown, sockopt};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};

use super::forward::Shared;

/// How long the container's program may take to take a connection.
const CONNECT: Duration = Duration::from_secs(30);
/// When a client that says nothing is asked, how long after that again, and how often in vain.
const SILENT: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(15);
const TIMES: u32 = 5;
/// How often one connection reads before the others have their turn.
const ROUNDS: usize = 8;
/// What all connections together may keep of what nobody takes yet, before each reads a little only.
const PLENTY: usize = 32 << 20;
/// What is read at once then.
const SPARE: usize = 4 << 10;

/// Accepts connections and carries each to `to`, as many at a time as there are places.
pub(super) async fn serve(listener: TcpListener, to: SocketAddr, shared: Rc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // No descriptors or memory are left; those that wait stay in line.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&shared.places).acquire_owned().await else { return };
        let shared = shared.clone();
        tokio::task::spawn_local(async move {
            let _place = place;
            // Nobody listens there: the client's connection is closed, as docker's proxy does.
            if let Ok(Ok(server)) = tokio::time::timeout(CONNECT, TcpStream::connect(to)).await {
                let _ = join(&client, &server, &shared).await;
            }
        });
    }
}

/// Carries both ways until both are done, or one fails.
async fn join(client: &TcpStream, server: &TcpStream, shared: &Shared) -> io::Result<()> {
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let _ = ask_whether_alive(client);
    let there = carry(client, server, shared);
    let back = carry(server, client, shared);
    let both = pin!(futures_util::future::try_join(there, back));
    // Though the program may neither take what was sent nor close: nobody is there to hear an answer.
    let gone = pin!(client.ready(Interest::ERROR));
    match futures_util::future::select(both, gone).await {
        Either::Left((done, _)) => done.map(drop),
        Either::Right((gone, _)) => gone.map(drop),
    }
}

/// Has the kernel ask a client that says nothing whether it is still there.
fn ask_whether_alive(client: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_tcp_keepidle(client, SILENT)?;
    sockopt::set_tcp_keepintvl(client, AGAIN)?;
    sockopt::set_tcp_keepcnt(client, TIMES)?;
    sockopt::set_socket_keepalive(client, true)
}

/// Carries one way, to the end of what is said, and passes that end on.
async fn carry(from: &TcpStream, to: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut rounds = 0;
    loop {
        from.readable().await?;
        rounds += 1;
        if rounds % ROUNDS == 0 {
            tokio::task::yield_now().await;
        }
        let rest = match pass(from, to, shared) {
            Ok(Some(rest)) => Kept::new(rest, shared),
            Ok(None) => break,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let mut rest = &rest.bytes[..];
        while !rest.is_empty() {
            to.writable().await?;
            match to.try_write(rest) {
                Ok(sent) => rest = &rest[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
    match rustix::net::shutdown(to, Shutdown::Write) {
        // The other side has closed all of it.
        Err(rustix::io::Errno::NOTCONN) => Ok(()),
        other => Ok(other?),
    }
}

/// What one side does not take yet, counted among what all keep.
struct Kept<'a> {
    bytes: Vec<u8>,
    shared: &'a Shared,
}

impl Kept<'_> {
    fn new(bytes: Vec<u8>, shared: &Shared) -> Kept<'_> {
        shared.kept.set(shared.kept.get() + bytes.len());
        Kept { bytes, shared }
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.shared.kept.set(self.shared.kept.get() - self.bytes.len());
    }
}

/// Passes on what is there; returns what the other side does not take yet, `None` at the end.
fn pass(from: &TcpStream, to: &TcpStream, shared: &Shared) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = shared.buffer.borrow_mut();
    let room = if shared.kept.get() < PLENTY { buffer.len() } else { SPARE };
    let read = from.try_read(&mut buffer[..room])?;
    if read == 0 {
        return Ok(None);
    }
    let mut rest = &buffer[..read];
    while !rest.is_empty() {
        match to.try_write(rest) {
            Ok(sent) => rest = &rest[sent..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(Some(rest.to_vec()))
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use tokio::sync::Semaphore;

    use super::*;

    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (one, listener.accept().await.unwrap().0)
    }

    #[test]
    fn a_client_that_is_gone_keeps_no_place_though_nobody_takes_what_it_sent() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ((far, client), (server, _program)) = (connected().await, connected().await);
            let shared = Shared {
                buffer: RefCell::new(vec![0; 4096]),
                kept: Cell::new(0),
                places: Arc::new(Semaphore::new(1)),
                udp_clients: 1,
            };
            let client_that_leaves = async {
                // Until a byte waits in the forwarder for somebody to take it.
                while shared.kept.get() == 0 {
                    let _ = far.try_write(&[0; 64 << 10]);
                    tokio::task::yield_now().await;
                }
                sockopt::set_socket_linger(&far, Some(Duration::ZERO)).unwrap();
                drop(far);
            };
            let joined = join(&client, &server, &shared);
            let both = futures_util::future::join(joined, client_that_leaves);
            let ended = tokio::time::timeout(Duration::from_secs(30), both).await;
            assert!(ended.is_ok(), "it waits for a program that takes nothing");
            assert!(sockopt::socket_keepalive(&client).unwrap());
        });
    }
}
