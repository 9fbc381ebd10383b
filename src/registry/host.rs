//! Which servers stand for a registry.
//!
//! Pure. Not here: asking them (`transport`).

use std::net::IpAddr;

use crate::image::Reference;

/// The registry of names without a host.
pub const DOCKER_HUB: &str = "docker.io";

/// A server that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `host[:port]`.
    pub host: String,
    /// Whether http will do, and any certificate.
    pub insecure: bool,
}

impl Endpoint {
    /// Returns the server of a registry itself, as docker knows it.
    pub fn of(reference: &Reference) -> Endpoint {
        let host = match reference.domain() {
            DOCKER_HUB => "registry-1.docker.io",
            domain => domain,
        };
        Endpoint { host: host.to_owned(), insecure: is_loopback(host) }
    }
}

/// Tells whether a `host[:port]` is this machine.
pub fn is_loopback(host: &str) -> bool {
    let name = name_of(host);
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Takes the port off `host[:port]`, and the brackets off an IPv6 address.
pub fn name_of(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    host.split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_this_machine() {
        for host in ["localhost", "LOCALHOST:5000", "127.0.0.1", "127.1.2.3:80", "[::1]", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example.com", "128.0.0.1", "127.0.0.1.example.com", "[::2]:1", "", "127.1"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
