//! Connections to published ports, carried into a container.
//!
//! Either side may end its half and still hear the other's. A connection that waits holds no buffer.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::Shutdown;
use tokio::net::{TcpListener, TcpStream};

use super::forward::Shared;

/// How long the container's program may take to take a connection.
const CONNECT: Duration = Duration::from_secs(30);
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
    let there = carry(client, server, shared);
    let back = carry(server, client, shared);
    futures_util::future::try_join(there, back).await.map(drop)
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
