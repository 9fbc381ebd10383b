//! What is published, and as `inspect` shows it. Pure. Not here: the words of `ps` and `port` (`cli`).

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
