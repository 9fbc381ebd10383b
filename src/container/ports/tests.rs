//! Tests of what is carried: real sockets, between this network namespace and a new one.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{BoundPorts, Forwarder, parse};
use crate::sys::netns;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A namespace, `None` where none can be made.
fn namespace() -> Option<OwnedFd> {
    netns::create().map_err(|error| println!("left out: needs CAP_SYS_ADMIN ({error})")).ok()
}

/// Runs something in a namespace, once `ready` has made its socket there.
fn inside<S: Send + 'static>(
    namespace: &OwnedFd,
    ready: impl FnOnce() -> S + Send + 'static,
    work: impl FnOnce(S) + Send + 'static,
) -> JoinHandle<()> {
    let namespace = namespace.try_clone().unwrap();
    let (say, said) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        netns::enter(&namespace).unwrap();
        let socket = ready();
        say.send(()).unwrap();
        work(socket);
    });
    said.recv().unwrap();
    thread
}

fn publish(spec: &str) -> (BoundPorts, SocketAddr) {
    let bound = BoundPorts::bind(&parse(&[spec.to_owned()]).unwrap(), None, "c").unwrap();
    let mapping = bound.mappings()[0];
    let address = SocketAddr::new(mapping.host_address, mapping.host_port);
    (bound, address)
}

fn serve(bound: &BoundPorts, namespace: &OwnedFd) -> Forwarder {
    bound.serve(namespace.as_fd(), HERE).unwrap()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Answers each connection with what it said, once it has said all.
fn echo(listener: TcpListener, times: usize) {
    for _ in 0..times {
        let (mut stream, _) = listener.accept().unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        stream.write_all(&said).unwrap();
    }
}

#[test]
fn streams_go_both_ways_and_end_by_halves() {
    let Some(namespace) = namespace() else { return };
    let (bound, address) = publish("127.0.0.1::5000");
    let server = inside(&namespace, || TcpListener::bind("127.0.0.1:5000").unwrap(), |l| echo(l, 3));
    let _forwarder = serve(&bound, &namespace);
    // More than all buffers hold together, so that it has to wait for its other end.
    for size in [0, 1, 20 << 20] {
        let said: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        let mut stream = connect(address);
        let mut writer = stream.try_clone().unwrap();
        let content = said.clone();
        let writing = std::thread::spawn(move || {
            writer.write_all(&content).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        writing.join().unwrap();
        assert!(heard == said, "{} of {size} bytes", heard.len());
    }
    server.join().unwrap();
}

#[test]
fn a_port_that_nobody_listens_on_is_closed_and_later_served() {
    let Some(namespace) = namespace() else { return };
    let (bound, address) = publish("127.0.0.1::5000");
    let forwarder = serve(&bound, &namespace);
    let closed = connect(address).read(&mut [0; 1]);
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    drop(forwarder);
    // The same port again, in another namespace: a container that starts again.
    let again = netns::create().unwrap();
    let server = inside(&again, || TcpListener::bind("127.0.0.1:5000").unwrap(), |l| echo(l, 1));
    let _forwarder = serve(&bound, &again);
    let mut stream = connect(address);
    stream.write_all(b"hi").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "hi");
    server.join().unwrap();
}

#[test]
fn connections_end_with_the_forwarder() {
    let Some(namespace) = namespace() else { return };
    let (bound, address) = publish("127.0.0.1::5000");
    let server = inside(
        &namespace,
        || TcpListener::bind("127.0.0.1:5000").unwrap(),
        |listener| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"x").unwrap();
            // Until it is closed.
            let _ = stream.read(&mut [0; 1]);
        },
    );
    let forwarder = serve(&bound, &namespace);
    let mut stream = connect(address);
    stream.read_exact(&mut [0; 1]).unwrap();
    drop(forwarder);
    let end = stream.read(&mut [0; 1]);
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    server.join().unwrap();
}

#[test]
fn many_connections_at_once() {
    let Some(namespace) = namespace() else { return };
    let (bound, address) = publish("127.0.0.1::5000");
    let server = inside(&namespace, || TcpListener::bind("127.0.0.1:5000").unwrap(), |l| echo(l, 100));
    let _forwarder = serve(&bound, &namespace);
    let mut streams: Vec<TcpStream> = (0..100).map(|_| connect(address)).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.write_all(number.to_string().as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, number.to_string());
    }
    server.join().unwrap();
}

#[test]
fn datagrams_are_answered_to_who_sent_them() {
    let Some(namespace) = namespace() else { return };
    let (bound, address) = publish("127.0.0.1::53/udp");
    let server = inside(
        &namespace,
        || UdpSocket::bind("127.0.0.1:53").unwrap(),
        |socket| {
            let mut buffer = [0; 100];
            loop {
                let (length, client) = socket.recv_from(&mut buffer).unwrap();
                if &buffer[..length] == b"end" {
                    return;
                }
                socket.send_to(&buffer[..length], client).unwrap();
            }
        },
    );
    let _forwarder = serve(&bound, &namespace);
    let client = |name: &str| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.connect(address).unwrap();
        (socket, name.to_owned())
    };
    let clients = [client("one"), client("two"), client("three")];
    for _ in 0..2 {
        for (socket, name) in &clients {
            socket.send(name.as_bytes()).unwrap();
        }
        for (socket, name) in &clients {
            let mut buffer = [0; 100];
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], name.as_bytes());
        }
    }
    clients[0].0.send(b"end").unwrap();
    server.join().unwrap();
}
