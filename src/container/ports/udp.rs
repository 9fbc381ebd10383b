//! Datagrams to published ports, carried into a container, and the answers back.
//!
//! Each client (an address and a port) has a socket of its own in the container's network, so that answers
//! find their way; one that is idle goes. Answers leave from the published socket.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::forward::Shared;

/// How long a client is remembered that nothing comes from or goes to; docker's own time.
const IDLE: Duration = Duration::from_secs(90);
/// The largest datagram, and more.
const LARGEST: usize = 64 << 10;

/// The way of one client.
struct Flow {
    socket: UdpSocket,
    /// When something last went either way.
    last: Cell<Instant>,
    _place: OwnedSemaphorePermit,
}

type Flows = Rc<RefCell<HashMap<SocketAddr, (Rc<Flow>, AbortHandle)>>>;

/// Carries datagrams to `to` and answers back.
pub(super) async fn serve(socket: UdpSocket, to: SocketAddr, shared: Rc<Shared>) {
    let socket = Rc::new(socket);
    let flows = Flows::default();
    let mut buffer = vec![0; LARGEST];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let known = flows.borrow().get(&client).map(|(flow, _)| flow.clone());
        let flow = match known {
            Some(flow) => flow,
            None => match open(to, &shared, &flows).await {
                // A datagram may be lost: that is what datagrams are.
                Err(_) => continue,
                Ok(flow) => {
                    let flow = Rc::new(flow);
                    let answers =
                        answers(flow.clone(), client, socket.clone(), flows.clone(), shared.clone());
                    let handle = tokio::task::spawn_local(answers).abort_handle();
                    flows.borrow_mut().insert(client, (flow.clone(), handle));
                    flow
                }
            },
        };
        flow.last.set(Instant::now());
        // One that is refused clears what an earlier one met (ICMP): the second try is this one's own.
        if let Err(error) = flow.socket.send(&buffer[..length]).await
            && error.kind() == io::ErrorKind::ConnectionRefused
        {
            let _ = flow.socket.try_send(&buffer[..length]);
        }
    }
}

/// Makes a socket for a new client; where there are too many, the one that was idle longest goes.
async fn open(to: SocketAddr, shared: &Shared, flows: &Flows) -> io::Result<Flow> {
    let mut place = None;
    if flows.borrow().len() < shared.udp_clients {
        place = Arc::clone(&shared.places).try_acquire_owned().ok();
    }
    let place = match place {
        Some(place) => place,
        None => {
            let oldest = flows.borrow().iter().min_by_key(|(_, (flow, _))| flow.last.get()).map(|(c, _)| *c);
            let gone = oldest.and_then(|client| flows.borrow_mut().remove(&client));
            let (flow, task) = gone.ok_or_else(|| io::Error::other("no place is left"))?;
            drop(flow);
            task.abort();
            // The place is free once the task has gone.
            tokio::task::yield_now().await;
            Arc::clone(&shared.places).try_acquire_owned().map_err(io::Error::other)?
        }
    };
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let socket = UdpSocket::bind(any).await?;
    socket.connect(to).await?;
    Ok(Flow { socket, last: Cell::new(Instant::now()), _place: place })
}

/// Carries answers back to one client, until it has been idle for too long.
async fn answers(
    flow: Rc<Flow>,
    client: SocketAddr,
    socket: Rc<UdpSocket>,
    flows: Flows,
    shared: Rc<Shared>,
) {
    loop {
        let until = flow.last.get() + IDLE;
        match tokio::time::timeout_at(until, flow.socket.readable()).await {
            // Something may have gone the other way meanwhile.
            Err(_) if flow.last.get() + IDLE > Instant::now() => continue,
            Err(_) | Ok(Err(_)) => break,
            Ok(Ok(())) => {}
        }
        {
            let mut buffer = shared.buffer.borrow_mut();
            // Refused: nobody listens there now, and somebody may later.
            if let Ok(length) = flow.socket.try_recv(&mut buffer) {
                flow.last.set(Instant::now());
                let _ = socket.try_send_to(&buffer[..length], client);
            }
        }
        tokio::task::yield_now().await;
    }
    flows.borrow_mut().remove(&client);
}
