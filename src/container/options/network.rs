//! The network of a container: which, its names and addresses.
//!
//! Not here: published ports themselves (`ports`), making a network (`sandbox::network`).

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::container::ports::PortRequest;
use crate::sandbox::DnsOptions;

/// The address of a container in a network of its own: slirp4netns(1).
pub const CONTAINER_ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 2, 100));
/// Stands for the address of this machine, in `--add-host`.
pub const HOST_GATEWAY: &str = "host-gateway";

/// Which network a container has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum NetworkMode {
    /// One of its own, with a way out; docker's `bridge`.
    #[default]
    Default,
    /// Loopback alone.
    None,
    /// That of this machine.
    Host,
    /// That of another container, by its name or id as the user wrote it.
    Container(String),
}

/// What was said of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkOptions {
    pub mode: NetworkMode,
    /// `--hostname`.
    pub hostname: Option<String>,
    pub extra_hosts: Vec<ExtraHost>,
    pub dns: DnsOptions,
    pub ports: Vec<PortRequest>,
    /// `-P`: a free port for each that is exposed.
    pub publish_all: bool,
    /// The address that ports are published on that name none.
    pub publish_address: Option<IpAddr>,
}

/// A line for `/etc/hosts`: a name, and an address or [`HOST_GATEWAY`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraHost {
    pub name: String,
    pub address: String,
}

/// This machine has no address that a container could reach it by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "--add-host {0}:host-gateway: this machine has no address that containers could reach it by; write the address \
     itself"
)]
pub struct HostsError(String);

impl fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetworkMode::Default => f.write_str("default"),
            NetworkMode::None => f.write_str("none"),
            NetworkMode::Host => f.write_str("host"),
            NetworkMode::Container(name) => write!(f, "container:{name}"),
        }
    }
}

impl NetworkOptions {
    /// Returns the names and addresses for the end of `/etc/hosts`; `own` is this machine's address.
    pub fn hosts(&self, own: impl Fn() -> Option<IpAddr>) -> Result<Vec<(String, String)>, HostsError> {
        let host = |host: &ExtraHost| {
            let address = match host.address.as_str() {
                HOST_GATEWAY => own().ok_or_else(|| HostsError(host.name.clone()))?.to_string(),
                address => address.to_owned(),
            };
            Ok((host.name.clone(), address))
        };
        self.extra_hosts.iter().map(host).collect()
    }

    /// Writes `/etc/resolv.conf`, `host` being that of this machine; `private` in a network of its own.
    pub fn resolv_conf(&self, host: &str, private: bool) -> String {
        match (&self.mode, private) {
            (NetworkMode::None, _) if self.dns.is_default() => String::new(),
            (_, true) => self.dns.of_private(host),
            (_, false) => self.dns.of_host(host),
        }
    }
}

/// Writes the beginning of a container's `/etc/hosts`, with its own name where it has an address for it.
pub fn hosts_file(hostname: &str, address: Option<IpAddr>) -> Vec<u8> {
    let address = address.map_or_else(|| "127.0.1.1".to_owned(), |address| address.to_string());
    format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n{address}\t{hostname}\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, address: &str) -> NetworkOptions {
        let extra_hosts = vec![ExtraHost { name: name.to_owned(), address: address.to_owned() }];
        NetworkOptions { extra_hosts, ..NetworkOptions::default() }
    }

    #[test]
    fn hosts() {
        let own = || Some(IpAddr::from([198, 51, 100, 7]));
        let pair = |name: &str, address: &str| vec![(name.to_owned(), address.to_owned())];
        assert_eq!(with("db", "10.0.0.5").hosts(own), Ok(pair("db", "10.0.0.5")));
        assert_eq!(with("gw", HOST_GATEWAY).hosts(own), Ok(pair("gw", "198.51.100.7")));
        let error = with("gw", HOST_GATEWAY).hosts(|| None).unwrap_err().to_string();
        assert!(error.starts_with("--add-host gw:host-gateway: this machine has no address"), "{error}");
    }

    #[test]
    fn names_are_resolved_where_there_is_a_network() {
        let host = "nameserver 127.0.0.53\n";
        let none = NetworkOptions { mode: NetworkMode::None, ..NetworkOptions::default() };
        assert_eq!(none.resolv_conf(host, false), "");
        assert_eq!(NetworkOptions::default().resolv_conf(host, true), "nameserver 10.0.2.3\n");
        assert_eq!(NetworkOptions::default().resolv_conf(host, false), host);
    }

    #[test]
    fn its_own_name() {
        let text = String::from_utf8(hosts_file("web", Some(CONTAINER_ADDRESS))).unwrap();
        assert!(text.ends_with("\nff02::2\tip6-allrouters\n10.0.2.100\tweb\n"), "{text}");
    }
}
