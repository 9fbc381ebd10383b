//! What `-p`, `-P` and `--expose` ask for. Pure.
//!
//! The words are docker's: docs.docker.com, "Publishing ports". Not here: taking the ports (`bind`).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The most ports that one container publishes.
const MOST: usize = 4096;

/// What a port is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// A port of a container: `80/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContainerPort {
    pub port: u16,
    pub protocol: Protocol,
}

impl fmt::Display for ContainerPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

/// Asks for a port of the host that leads to one of the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRequest {
    /// `None` is docker's `ip` of daemon.json, or every address of the host.
    pub host_address: Option<IpAddr>,
    /// The first and the last of those that will do; `None` is any that is free.
    pub host_ports: Option<(u16, u16)>,
    pub container: ContainerPort,
}

/// Why words ask for no port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    #[error("No port specified: {0}<empty>")]
    NoPort(String),
    #[error("Invalid containerPort: {0}")]
    ContainerPort(String),
    #[error("Invalid hostPort: {0}")]
    HostPort(String),
    #[error("Invalid proto: {0}")]
    Protocol(String),
    #[error("sctp ports cannot be published: tcp and udp are carried")]
    Sctp,
    #[error("Invalid ip address: {0}")]
    Address(String),
    #[error("Invalid ranges specified for container and host Ports: {container} and {host}")]
    Ranges { container: String, host: String },
    #[error("invalid publish opts format (should be name=value but got '{0}')")]
    Option(String),
    #[error("a container publishes at most {MOST} ports")]
    TooMany,
    #[error("invalid range format for --expose: {0}")]
    Expose(String),
}

/// Reads the values of `-p`.
pub fn parse(specs: &[String]) -> Result<Vec<PortRequest>, PortError> {
    let mut requests = Vec::new();
    for spec in specs {
        requests.extend(one(&plain(spec)?)?);
        if requests.len() > MOST {
            return Err(PortError::TooMany);
        }
    }
    // The same twice is one.
    let mut unique: Vec<PortRequest> = Vec::new();
    for request in requests {
        if !unique.contains(&request) {
            unique.push(request);
        }
    }
    Ok(unique)
}

/// Reads the values of `--expose`, and the names of an image's ports: `80`, `80/udp`, `80-90/tcp`.
pub fn exposed<'a>(specs: impl IntoIterator<Item = &'a str>) -> Result<Vec<ContainerPort>, PortError> {
    let mut ports = Vec::new();
    for spec in specs {
        if spec.contains(':') {
            return Err(PortError::Expose(spec.to_owned()));
        }
        let (range, protocol) = protocol(spec)?;
        let (first, last) = container_range(range)?;
        ports.extend((first..=last).map(|port| ContainerPort { port, protocol }));
        if ports.len() > MOST {
            return Err(PortError::TooMany);
        }
    }
    ports.sort_unstable();
    ports.dedup();
    Ok(ports)
}

/// Adds what `-P` asks for: a free port for each that is exposed and has none yet.
pub fn with_all(mut requests: Vec<PortRequest>, exposed: &[ContainerPort]) -> Vec<PortRequest> {
    let missing: Vec<_> =
        exposed.iter().filter(|port| requests.iter().all(|request| request.container != **port)).collect();
    requests.extend(missing.into_iter().map(|&container| PortRequest {
        host_address: None,
        host_ports: None,
        container,
    }));
    requests
}

/// Makes of the long form, `published=8080,target=80,protocol=tcp`, the short one.
fn plain(spec: &str) -> Result<String, PortError> {
    if !spec.contains('=') {
        return Ok(spec.to_owned());
    }
    let (mut target, mut published, mut protocol) = ("", "", "tcp");
    for part in spec.split(',') {
        match part.split_once('=') {
            Some(("target", value)) => target = value,
            Some(("published", value)) => published = value,
            Some(("protocol", value)) => protocol = value,
            _ => return Err(PortError::Option(part.to_owned())),
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

/// Reads one short form: `[[ADDRESS:][PORT[-PORT]]:]PORT[-PORT][/PROTOCOL]`.
fn one(spec: &str) -> Result<Vec<PortRequest>, PortError> {
    let (ports, protocol) = protocol(spec)?;
    let (rest, container) = ports.rsplit_once(':').unwrap_or(("", ports));
    let (address, host) = match rest.rsplit_once(':') {
        // The brackets of an IPv6 address hold colons of their own.
        _ if rest.ends_with(']') => (rest, ""),
        Some((address, host)) => (address, host),
        None => ("", rest),
    };
    if container.is_empty() {
        return Err(PortError::NoPort(spec.to_owned()));
    }
    let host_address = (!address.is_empty()).then(|| parse_address(address)).transpose()?;
    let (first, last) = container_range(container)?;
    let host_range = match host {
        "" => None,
        text => Some(range(text).ok_or_else(|| PortError::HostPort(text.to_owned()))?),
    };
    let count = last - first;
    let ranges = || PortError::Ranges { container: container.to_owned(), host: host.to_owned() };
    let host_ports = |index: u16| match host_range {
        None | Some((0, 0)) => Ok(None),
        Some((0, _)) => Err(PortError::HostPort(host.to_owned())),
        Some((from, to)) if to - from == count => Ok(Some((from + index, from + index))),
        // Any of the range will do for a single port.
        Some(any) if count == 0 => Ok(Some(any)),
        Some(_) => Err(ranges()),
    };
    let request = |index: u16| {
        let container = ContainerPort { port: first + index, protocol };
        Ok(PortRequest { host_address, host_ports: host_ports(index)?, container })
    };
    (0..=count).map(request).collect()
}

fn protocol(spec: &str) -> Result<(&str, Protocol), PortError> {
    let (ports, name) = spec.split_once('/').unwrap_or((spec, "tcp"));
    if ports.is_empty() {
        return Err(PortError::NoPort(spec.to_owned()));
    }
    match name.to_ascii_lowercase().as_str() {
        "tcp" | "" => Ok((ports, Protocol::Tcp)),
        "udp" => Ok((ports, Protocol::Udp)),
        "sctp" => Err(PortError::Sctp),
        _ => Err(PortError::Protocol(name.to_owned())),
    }
}

fn parse_address(text: &str) -> Result<IpAddr, PortError> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = IpAddr::from_str(bare.unwrap_or(text)).ok();
    // An IPv6 address without brackets cannot be told from its ports.
    let written = address.filter(|address| address.is_ipv6() == bare.is_some());
    written.ok_or_else(|| PortError::Address(text.to_owned()))
}

fn container_range(text: &str) -> Result<(u16, u16), PortError> {
    range(text).filter(|(first, _)| *first > 0).ok_or_else(|| PortError::ContainerPort(text.to_owned()))
}

fn range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    match text.split_once('-') {
        None => number(text).map(|port| (port, port)),
        Some((first, last)) => number(first).zip(number(last)).filter(|(first, last)| first <= last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(request: &PortRequest) -> String {
        let address = request.host_address.map(|address| format!("{address} ")).unwrap_or_default();
        let host = request.host_ports.map_or_else(|| "any".to_owned(), |(from, to)| format!("{from}-{to}"));
        format!("{address}{host}->{}", request.container)
    }

    fn read(specs: &[&str]) -> Result<Vec<String>, String> {
        let specs: Vec<String> = specs.iter().map(|&spec| spec.to_owned()).collect();
        parse(&specs).map(|found| found.iter().map(shown).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_asked_for() {
        let check = |spec: &str, expect: &[&str]| {
            let expect: Vec<String> = expect.iter().map(|&text| text.to_owned()).collect();
            assert_eq!(read(&[spec]), Ok(expect), "{spec}");
        };
        check("80", &["any->80/tcp"]);
        check("80/udp", &["any->80/udp"]);
        check("80/UDP", &["any->80/udp"]);
        check("8080:80", &["8080-8080->80/tcp"]);
        check("0:80", &["any->80/tcp"]);
        check(":80", &["any->80/tcp"]);
        check("127.0.0.1:8080:80", &["127.0.0.1 8080-8080->80/tcp"]);
        check("127.0.0.1::80/udp", &["127.0.0.1 any->80/udp"]);
        check("[::1]:8080:80", &["::1 8080-8080->80/tcp"]);
        check("[::1]::80", &["::1 any->80/tcp"]);
        check("[::]:1:1/tcp", &[":: 1-1->1/tcp"]);
        check("8000-8002:80-82", &["8000-8000->80/tcp", "8001-8001->81/tcp", "8002-8002->82/tcp"]);
        check("8000-8010:80", &["8000-8010->80/tcp"]);
        check("80-81", &["any->80/tcp", "any->81/tcp"]);
        check(
            "127.0.0.1:8000-8001:80-81/udp",
            &["127.0.0.1 8000-8000->80/udp", "127.0.0.1 8001-8001->81/udp"],
        );
        check("published=8080,target=80", &["8080-8080->80/tcp"]);
        check("target=80,protocol=udp", &["any->80/udp"]);
    }

    #[test]
    fn what_asks_for_nothing() {
        let check = |spec: &str, expect: &str| {
            assert_eq!(read(&[spec]).unwrap_err(), expect, "{spec}");
        };
        check("", "No port specified: <empty>");
        check("8080:", "No port specified: 8080:<empty>");
        check("/tcp", "No port specified: /tcp<empty>");
        check("a", "Invalid containerPort: a");
        check("0", "Invalid containerPort: 0");
        check("8080:65536", "Invalid containerPort: 65536");
        check("8080:82-80", "Invalid containerPort: 82-80");
        check("8080:+80", "Invalid containerPort: +80");
        check("b:80", "Invalid hostPort: b");
        check("70000:80", "Invalid hostPort: 70000");
        check("0-5:80", "Invalid hostPort: 0-5");
        check("8080:80/foo", "Invalid proto: foo");
        check("8080:80/sctp", "sctp ports cannot be published: tcp and udp are carried");
        check("localhost:8080:80", "Invalid ip address: localhost");
        check("1.2.3:8080:80", "Invalid ip address: 1.2.3");
        check("::1:8080:80", "Invalid ip address: ::1");
        check("[127.0.0.1]:8080:80", "Invalid ip address: [127.0.0.1]");
        check(
            "8000-8005:80-81",
            "Invalid ranges specified for container and host Ports: 80-81 and 8000-8005",
        );
        check("published=1,target", "invalid publish opts format (should be name=value but got 'target')");
        check("mode=host,target=1", "invalid publish opts format (should be name=value but got 'mode=host')");
        check("1-65535", "a container publishes at most 4096 ports");
    }

    #[test]
    fn all_that_is_exposed() {
        let ports = exposed(["80/tcp", "53/udp", "90-91", "80"]).unwrap();
        let names: Vec<String> = ports.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["53/udp", "80/tcp", "90/tcp", "91/tcp"]);
        let requests = with_all(parse(&["8080:80".to_owned()]).unwrap(), &ports);
        let requests: Vec<String> = requests.iter().map(shown).collect();
        assert_eq!(requests, ["8080-8080->80/tcp", "any->53/udp", "any->90/tcp", "any->91/tcp"]);
        for bad in ["", "8080:80", "0", "x", "80/foo"] {
            assert!(exposed([bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_same_twice_is_one() {
        assert_eq!(read(&["8080:80", "8080:80/tcp"]), Ok(vec!["8080-8080->80/tcp".to_owned()]));
    }
}
