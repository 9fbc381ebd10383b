//! The host's sockets of published ports, taken before anything of a container is there: whoever comes
//! second is told so, and nothing was started.
//!
//! Not here: what is done with them (`forward`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::forward::Forwarder;
use super::mapping::PortMapping;
use super::request::{PortRequest, Protocol};

/// How many connections wait to be accepted.
const BACKLOG: i32 = 1024;
/// How many free ports are tried, until one is free at both addresses.
const TRIES: usize = 64;

/// Why a port could not be published.
#[derive(Debug, thiserror::Error)]
#[error("driver failed programming external connectivity on endpoint {container}: {problem}")]
pub struct BindError {
    /// The container's name.
    container: String,
    problem: Problem,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("Bind for {address} failed: port is already allocated")]
    Taken { address: SocketAddrText },
    #[error("Bind for {address}-{last} failed: all ports are allocated")]
    AllTaken { address: SocketAddrText, last: u16 },
    #[error("listen {protocol} {address}: {source}")]
    Other { protocol: Protocol, address: SocketAddrText, source: io::Error },
}

/// An address and port as docker writes them, without brackets.
#[derive(Debug, Clone, Copy)]
struct SocketAddrText(IpAddr, u16);

impl std::fmt::Display for SocketAddrText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.0, self.1)
    }
}

impl BindError {
    /// Returns what to do about it.
    pub fn fix(&self) -> Option<&'static str> {
        match &self.problem {
            Problem::Taken { .. } | Problem::AllTaken { .. } => Some(
                "publish another port, as in `-p 8081:80`, or one that is free, `-p 80`; `rbuild ps` shows which \
                 containers publish which",
            ),
            Problem::Other { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Some(
                "ports below 1024 are root's: publish a higher one, as in `-p 8080:80`, or lower \
                 net.ipv4.ip_unprivileged_port_start by sysctl(8)",
            ),
            Problem::Other { source, .. } if source.kind() == io::ErrorKind::AddrNotAvailable => {
                Some("the address is none of this machine: `ip address` lists them")
            }
            Problem::Other { .. } => None,
        }
    }
}

/// Sockets that listen on the host. They keep their ports until this is dropped.
#[derive(Debug, Default)]
pub struct BoundPorts {
    pub(super) bound: Vec<Bound>,
}

#[derive(Debug)]
pub(super) struct Bound {
    pub mapping: PortMapping,
    pub socket: Socket,
}

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl BoundPorts {
    /// Takes a port for each request, all of them or none.
    ///
    /// `default` is the address of those that name none; without it they are bound on every IPv4 address,
    /// and on every IPv6 address where this machine has that. `container` is a name, for errors.
    ///
    /// # Errors
    /// The first port that cannot be had.
    pub fn bind(
        requests: &[PortRequest],
        default: Option<IpAddr>,
        container: &str,
    ) -> Result<BoundPorts, BindError> {
        let mut all = BoundPorts::default();
        // Those that ask for a certain one first: none of them may go to who takes any.
        let mut order: Vec<&PortRequest> = requests.iter().collect();
        order.sort_by_key(|request| match request.host_ports {
            Some((first, last)) => u32::from(last - first),
            None => u32::MAX,
        });
        for request in order {
            let bound = bind_one(request, default)
                .map_err(|problem| BindError { container: container.to_owned(), problem })?;
            all.bound.extend(bound);
        }
        all.bound.sort_by_key(|bound| bound.mapping.container);
        Ok(all)
    }

    /// Returns what is published where.
    pub fn mappings(&self) -> Vec<PortMapping> {
        self.bound.iter().map(|bound| bound.mapping).collect()
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bound.is_empty()
    }

    /// Carries between the ports and `address` in a network namespace, until the result is dropped.
    ///
    /// The ports stay taken: a container that starts again is served by them again.
    pub fn serve(&self, namespace: BorrowedFd<'_>, address: IpAddr) -> io::Result<Forwarder> {
        Forwarder::start(&self.bound, namespace, address)
    }
}

fn bind_one(request: &PortRequest, default: Option<IpAddr>) -> Result<Vec<Bound>, Problem> {
    let addresses = match request.host_address.or(default) {
        Some(address) => vec![address],
        None => vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
    };
    let Some((first, last)) = request.host_ports else {
        let mut result = bind_at(request, &addresses, 0);
        for _ in 1..TRIES {
            match result {
                // Free at the first address, and taken at the second.
                Err(Problem::Taken { .. }) => result = bind_at(request, &addresses, 0),
                other => return other,
            }
        }
        return result;
    };
    for port in first..=last {
        match bind_at(request, &addresses, port) {
            Err(Problem::Taken { .. }) if first != last => {}
            other => return other,
        }
    }
    Err(Problem::AllTaken { address: SocketAddrText(addresses[0], first), last })
}

/// Binds the same port at all addresses; 0 is one that is free.
fn bind_at(request: &PortRequest, addresses: &[IpAddr], port: u16) -> Result<Vec<Bound>, Problem> {
    let protocol = request.container.protocol;
    let mut bound: Vec<Bound> = Vec::new();
    for &address in addresses {
        let port = bound.first().map_or(port, |first| first.mapping.host_port);
        let text = SocketAddrText(address, port);
        let opened = open(protocol, SocketAddr::new(address, port));
        let fd = match opened {
            // A machine without IPv6.
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) if !bound.is_empty() => break,
            Err(Errno::ADDRINUSE) => return Err(Problem::Taken { address: text }),
            Err(errno) => return Err(Problem::Other { protocol, address: text, source: errno.into() }),
            Ok(fd) => fd,
        };
        let (socket, local) = match protocol {
            Protocol::Tcp => {
                let listener = TcpListener::from(fd);
                let local = listener.local_addr();
                (Socket::Tcp(listener), local)
            }
            Protocol::Udp => {
                let socket = UdpSocket::from(fd);
                let local = socket.local_addr();
                (Socket::Udp(socket), local)
            }
        };
        let local = local.map_err(|source| Problem::Other { protocol, address: text, source })?;
        let mapping =
            PortMapping { host_address: address, host_port: local.port(), container: request.container };
        bound.push(Bound { mapping, socket });
    }
    Ok(bound)
}

fn open(protocol: Protocol, address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    if address.is_ipv6() {
        // So that it says what it binds, and leaves IPv4 to the socket beside it.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol == Protocol::Tcp {
        // Connections that are over keep no port; one that listens still does: socket(7).
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    if protocol == Protocol::Tcp {
        rustix::net::listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn bind(spec: &str) -> Result<BoundPorts, BindError> {
        BoundPorts::bind(&parse(&[spec.to_owned()]).unwrap(), None, "web")
    }

    #[test]
    fn who_comes_second_is_told() {
        for protocol in ["tcp", "udp"] {
            let first = bind(&format!("127.0.0.1::80/{protocol}")).unwrap();
            let port = first.mappings()[0].host_port;
            assert!(port >= 1024);
            let error = bind(&format!("127.0.0.1:{port}:81/{protocol}")).unwrap_err();
            let expect = format!(
                "driver failed programming external connectivity on endpoint web: Bind for 127.0.0.1:{port} failed: \
                 port is already allocated"
            );
            assert_eq!(error.to_string(), expect);
            assert!(error.fix().is_some());
            let error = bind(&format!("0.0.0.0:{port}:81/{protocol}")).unwrap_err();
            assert!(error.to_string().contains(&format!("Bind for 0.0.0.0:{port} failed")), "{error}");
            drop(first);
            bind(&format!("127.0.0.1:{port}:81/{protocol}")).unwrap();
        }
    }

    #[test]
    fn a_range_gives_one_that_is_free() {
        let first = bind("127.0.0.1::80").unwrap();
        let port = first.mappings()[0].host_port;
        let Some(last) = port.checked_add(20) else { return };
        let second = bind(&format!("127.0.0.1:{port}-{last}:80")).unwrap();
        let found = second.mappings()[0].host_port;
        assert!((port + 1..=last).contains(&found), "{found}");
    }

    #[test]
    fn all_or_none() {
        let taken = bind("127.0.0.1::80").unwrap();
        let port = taken.mappings()[0].host_port;
        let free = bind("127.0.0.1::80").unwrap().mappings()[0].host_port;
        let specs = [format!("127.0.0.1:{free}:1"), format!("127.0.0.1:{port}:2")];
        BoundPorts::bind(&parse(&specs).unwrap(), None, "web").unwrap_err();
        bind(&format!("127.0.0.1:{free}:1")).unwrap();
    }

    #[test]
    fn an_address_of_another_machine() {
        let error = bind("192.0.2.1::80").unwrap_err();
        assert!(error.to_string().contains("listen tcp 192.0.2.1:0: "), "{error}");
        assert!(error.fix().is_some_and(|fix| fix.contains("none of this machine")));
    }

    #[test]
    fn a_default_address() {
        let requests = parse(&["80".to_owned()]).unwrap();
        let bound = BoundPorts::bind(&requests, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), "web").unwrap();
        let addresses: Vec<String> = bound.mappings().iter().map(|m| m.host_address.to_string()).collect();
        assert_eq!(addresses, ["127.0.0.1"]);
    }
}
