//! Which servers stand for a registry.
//!
//! Pure. Not here: asking them (`transport`).

use std::net::IpAddr;

use url::Url;

use super::settings::{Mirror, Settings, host_of};

/// The registry of names without a host.
pub const DOCKER_HUB: &str = "docker.io";
/// The server that has it.
pub const DOCKER_HUB_SERVER: &str = "registry-1.docker.io";

/// A server that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `host[:port]`.
    pub host: String,
    /// Whether http will do, and any certificate.
    pub insecure: bool,
    /// Whether it is asked by http alone: a mirror that is written so.
    pub plain: bool,
}

impl Endpoint {
    /// Returns the server of a registry itself.
    pub fn home(domain: &str, settings: &Settings) -> Endpoint {
        let host = match domain {
            DOCKER_HUB => DOCKER_HUB_SERVER,
            domain => domain,
        };
        Endpoint::new(host.to_owned(), settings)
    }

    /// Returns the servers to read from before the registry itself, in order.
    pub fn mirrors(domain: &str, settings: &Settings) -> Vec<Endpoint> {
        let mirror = |mirror: &Mirror| Endpoint {
            plain: mirror.plain,
            ..Endpoint::new(mirror.host.clone(), settings)
        };
        match domain {
            DOCKER_HUB => settings.mirrors.iter().map(mirror).collect(),
            _ => Vec::new(),
        }
    }

    /// Returns the server that a URL is of.
    pub fn of_url(url: &Url, settings: &Settings) -> Endpoint {
        Endpoint::new(host_of(url), settings)
    }

    fn new(host: String, settings: &Settings) -> Endpoint {
        let insecure = settings.is_insecure(&host);
        Endpoint { host, insecure, plain: false }
    }

    /// Tells whether a URL is of this server, and as safe as this server has to be.
    pub fn owns(&self, url: &Url) -> bool {
        let own = Url::parse(&format!("{}://{}/", url.scheme(), self.host));
        let same = own.is_ok_and(|own| own.origin() == url.origin());
        same && (url.scheme() == "https" || self.insecure || self.plain)
    }

    /// Tells whether this server, spoken to by https, may send us on to another by http.
    ///
    /// To insecure ones it may, but not to services of this machine, which are that without anybody having
    /// said so: what they are asked, a stranger would choose.
    pub fn may_lead_to_plain(&self, other: &Endpoint) -> bool {
        other.insecure && (is_loopback(&self.host) || !is_loopback(&other.host))
    }

    /// Tells whether credentials may go to a URL of this server.
    pub fn may_see_credentials(&self, url: &Url) -> bool {
        self.owns(url) && (url.scheme() == "https" || self.insecure)
    }

    /// Returns the command that stores credentials for it.
    pub fn login(&self) -> String {
        match self.host.as_str() {
            DOCKER_HUB_SERVER => "rbuild login".to_owned(),
            host => format!("rbuild login {host}"),
        }
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
    fn a_url_belongs_to_its_server() {
        let endpoint = |host: &str, insecure, plain| Endpoint { host: host.to_owned(), insecure, plain };
        let check = |endpoint: &Endpoint, url: &str, owns: bool, credentials: bool| {
            let url = Url::parse(url).unwrap();
            assert_eq!(
                (endpoint.owns(&url), endpoint.may_see_credentials(&url)),
                (owns, credentials),
                "{url}"
            );
        };
        let secure = endpoint("r.example.com", false, false);
        check(&secure, "https://r.example.com/v2/", true, true);
        check(&secure, "https://R.example.com:443/", true, true);
        check(&secure, "http://r.example.com/", false, false);
        check(&secure, "https://r.example.com:444/", false, false);
        check(&secure, "https://s3.example.com/", false, false);
        check(&secure, "https://r.example.com.evil.net/", false, false);
        let insecure = endpoint("r.example.com:5000", true, false);
        check(&insecure, "http://r.example.com:5000/", true, true);
        check(&insecure, "https://r.example.com:5000/", true, true);
        check(&insecure, "http://r.example.com/", false, false);
        let mirror = endpoint("m", false, true);
        check(&mirror, "http://m/", true, false);
    }

    #[test]
    fn a_stranger_does_not_lead_to_this_machine() {
        let endpoint = |host: &str, insecure| Endpoint { host: host.to_owned(), insecure, plain: false };
        let check = |from: &str, to: &str, insecure: bool, expect: bool| {
            let found = endpoint(from, false).may_lead_to_plain(&endpoint(to, insecure));
            assert_eq!(found, expect, "{from} {to} {insecure}");
        };
        check("r.example.com", "blobs.example.com", false, false);
        check("r.example.com", "blobs.lan:5000", true, true);
        check("r.example.com", "localhost:2375", true, false);
        check("r.example.com", "127.0.0.1:8080", true, false);
        check("r.example.com", "[::1]", true, false);
        check("localhost:5000", "127.0.0.1:8080", true, true);
    }

    #[test]
    fn mirrors_are_for_docker_io() {
        let mut settings = Settings::default();
        settings.mirrors.push(Mirror { host: "m".into(), plain: true });
        let hosts = |domain: &str| {
            let mirrors = Endpoint::mirrors(domain, &settings);
            let all = mirrors.into_iter().chain([Endpoint::home(domain, &settings)]);
            all.map(|endpoint| (endpoint.host, endpoint.plain)).collect::<Vec<_>>()
        };
        assert_eq!(hosts("docker.io"), [("m".to_owned(), true), ("registry-1.docker.io".to_owned(), false)]);
        assert_eq!(hosts("quay.io"), [("quay.io".to_owned(), false)]);
    }

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
