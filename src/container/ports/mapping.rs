//! What is published, as people and programs read it: `ps`, `port`, `inspect`. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::request::{ContainerPort, PortRequest};

/// A port of the host that leads to one of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    pub host_address: IpAddr,
    pub host_port: u16,
    pub container: ContainerPort,
}

/// Writes ports as `docker ps` does: `0.0.0.0:32769->5000/tcp, :::32769->5000/tcp, 80/udp`.
///
/// Neighbours are one range, where what is published has the same numbers on both sides. `exposed` are those
/// that the image names, published or not.
pub fn described(mappings: &[PortMapping], exposed: &[ContainerPort]) -> String {
    struct Range {
        address: Option<IpAddr>,
        protocol: super::Protocol,
        first: u16,
        last: u16,
    }
    let shown = |range: &Range| {
        let ports = match range.first == range.last {
            true => range.first.to_string(),
            false => format!("{}-{}", range.first, range.last),
        };
        match range.address {
            Some(address) => format!("{address}:{ports}->{ports}/{}", range.protocol),
            None => format!("{ports}/{}", range.protocol),
        }
    };
    let mut all: Vec<(ContainerPort, Option<(IpAddr, u16)>)> =
        mappings.iter().map(|m| (m.container, Some((m.host_address, m.host_port)))).collect();
    let published = |port: &&ContainerPort| mappings.iter().any(|m| m.container == **port);
    all.extend(exposed.iter().filter(|port| !published(port)).map(|port| (*port, None)));
    all.sort_by_key(|(port, host)| (port.port, host.map(|(a, p)| (a.to_string(), p)), port.protocol));
    let (mut done, mut open, mut moved): (Vec<String>, Vec<Range>, Vec<String>) = Default::default();
    for (port, host) in all {
        if let Some((address, host_port)) = host
            && host_port != port.port
        {
            moved.push(format!("{address}:{host_port}->{port}"));
            continue;
        }
        let address = host.map(|(address, _)| address);
        let same = open.iter_mut().find(|range| (range.address, range.protocol) == (address, port.protocol));
        match same {
            Some(range) if range.last.checked_add(1) == Some(port.port) => range.last = port.port,
            Some(range) => {
                done.push(shown(range));
                (range.first, range.last) = (port.port, port.port);
            }
            None => {
                let (first, last) = (port.port, port.port);
                open.push(Range { address, protocol: port.protocol, first, last });
            }
        }
    }
    done.extend(open.iter().map(shown));
    done.extend(moved);
    done.join(", ")
}

/// Writes a line for each, as `docker port` does: `5000/tcp -> 0.0.0.0:32769`.
pub fn lines(mappings: &[PortMapping]) -> Vec<String> {
    let mut sorted: Vec<&PortMapping> = mappings.iter().collect();
    sorted.sort_by_key(|mapping| mapping.container);
    sorted.iter().map(|m| format!("{} -> {}:{}", m.container, m.host_address, m.host_port)).collect()
}

/// Returns `NetworkSettings.Ports` of `docker inspect`; what is only exposed is `null`.
pub fn ports_json(mappings: &[PortMapping], exposed: &[ContainerPort]) -> Value {
    let mut ports: BTreeMap<String, Option<Vec<Value>>> =
        exposed.iter().map(|port| (port.to_string(), None)).collect();
    for mapping in mappings {
        let host = json!({
            "HostIp": mapping.host_address.to_string(),
            "HostPort": mapping.host_port.to_string(),
        });
        ports.entry(mapping.container.to_string()).or_default().get_or_insert_default().push(host);
    }
    json!(ports)
}

/// Returns `HostConfig.PortBindings` of `docker inspect`: what was asked for.
pub fn bindings_json(requests: &[PortRequest]) -> Value {
    let mut ports: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for request in requests {
        let port = match request.host_ports {
            None => String::new(),
            Some((first, last)) if first == last => first.to_string(),
            Some((first, last)) => format!("{first}-{last}"),
        };
        let address = request.host_address.map(|address| address.to_string()).unwrap_or_default();
        let host = json!({ "HostIp": address, "HostPort": port });
        ports.entry(request.container.to_string()).or_default().push(host);
    }
    json!(ports)
}

#[cfg(test)]
mod tests {
    use super::super::{exposed, parse};
    use super::*;

    fn mapping(address: &str, host_port: u16, container: &str) -> PortMapping {
        PortMapping {
            host_address: address.parse().unwrap(),
            host_port,
            container: exposed([container]).unwrap()[0],
        }
    }

    #[test]
    fn as_ps_shows_them() {
        let check = |mappings: &[PortMapping], names: &[&str], expect: &str| {
            let ports = exposed(names.iter().copied()).unwrap();
            assert_eq!(described(mappings, &ports), expect);
        };
        check(&[], &[], "");
        check(&[], &["5000"], "5000/tcp");
        let both = [mapping("0.0.0.0", 32769, "5000"), mapping("::", 32769, "5000")];
        check(&both, &["5000"], "0.0.0.0:32769->5000/tcp, :::32769->5000/tcp");
        check(
            &both,
            &["80", "81", "53/udp"],
            "53/udp, 80-81/tcp, 0.0.0.0:32769->5000/tcp, :::32769->5000/tcp",
        );
        let local = |port| mapping("127.0.0.1", port, &port.to_string());
        check(&[local(80), local(81), local(83)], &[], "127.0.0.1:80-81->80-81/tcp, 127.0.0.1:83->83/tcp");
    }

    #[test]
    fn as_port_shows_them() {
        let both = [mapping("0.0.0.0", 1, "5000"), mapping("::", 1, "5000"), mapping("::1", 2, "53/udp")];
        assert_eq!(lines(&both), ["53/udp -> ::1:2", "5000/tcp -> 0.0.0.0:1", "5000/tcp -> :::1"]);
    }

    #[test]
    fn as_inspect_shows_them() {
        let both = [mapping("0.0.0.0", 32769, "5000"), mapping("::", 32769, "5000")];
        let expect = json!({
            "5000/tcp": [
                {"HostIp": "0.0.0.0", "HostPort": "32769"},
                {"HostIp": "::", "HostPort": "32769"},
            ],
            "80/udp": null,
        });
        assert_eq!(ports_json(&both, &exposed(["80/udp", "5000"]).unwrap()), expect);
        let specs = ["127.0.0.1:5000:5000", "80", "8000-8002:81"].map(str::to_owned);
        let expect = json!({
            "5000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "5000"}],
            "80/tcp": [{"HostIp": "", "HostPort": ""}],
            "81/tcp": [{"HostIp": "", "HostPort": "8000-8002"}],
        });
        assert_eq!(bindings_json(&parse(&specs).unwrap()), expect);
    }
}
