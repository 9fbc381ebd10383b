//! Which requests are no client's, but a browser's for a page from elsewhere: refused (403 DENIED).
//!
//! A registry on the loopback without users trusts who is on this machine, and a browser is, whatever page it
//! shows. Not here: users (`auth`).

use http::request::Parts;
use http::{Method, StatusCode, Version, header};

use super::errors::{ApiError, Code};
use crate::sys::browser::{address_of, host_of, is_foreign, is_localhost};

/// How much of a name is told back.
const SHOWN: usize = 200;

/// By which names the registry may be called, and whose pages may change it.
#[derive(Debug)]
pub struct Callers {
    /// In lower case.
    names: Vec<String>,
    /// Whether any name will do: who comes by it must show a password or see the certificate, or may come anyway.
    any: bool,
}

impl Callers {
    /// `names`: what was asked for, besides addresses and `localhost`.
    pub fn new(names: &[String], any: bool) -> Callers {
        Callers { names: names.iter().map(|name| plain(name)).collect(), any }
    }

    fn knows(&self, host: &str) -> bool {
        self.names.contains(&plain(host))
    }

    /// Says why a request is refused, if it is.
    pub fn admit(&self, parts: &Parts) -> Result<(), ApiError> {
        let mut hosts = parts.headers.get_all(header::HOST).iter();
        let first = hosts.next();
        // RFC 9112, section 3.2.
        if hosts.next().is_some() || first.is_none() && parts.version == Version::HTTP_11 {
            return Err(ApiError::new(Code::Unsupported)
                .status(StatusCode::BAD_REQUEST)
                .because("a request has one header Host")
                .closing());
        }
        let named = first.map(|host| host.to_str().unwrap_or("?"));
        // Of a whole address as target, the host counts before the header's; no browser sends one.
        for authority in named.into_iter().chain(parts.uri.authority().map(|authority| authority.as_str())) {
            let host = host_of(authority);
            if !self.any && !is_localhost(host) && address_of(host).is_none() && !self.knows(host) {
                let host: String = host.chars().take(SHOWN).collect();
                return Err(ApiError::new(Code::Denied).saying(format!(
                    "a registry without users on the loopback is called by localhost or an address, not by \
                     `{host}`, which a web page may have made lead here; if the name is yours, start it with \
                     --allow-host {host}"
                )));
            }
        }
        let reads = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
        if !reads && is_foreign(&parts.headers, |host| self.knows(host)) {
            return Err(ApiError::new(Code::Denied).saying(
                "a browser sent this for a web page from elsewhere (Origin, Sec-Fetch-Site), which may change \
                 nothing here; --allow-host NAME lets pages of a host",
            ));
        }
        Ok(())
    }
}

fn plain(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn status(any: bool, method: &str, target: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let callers = Callers::new(&["Registry.lan".to_owned()], any);
        callers.admit(&parts).map_or_else(|error| error.reply().status.as_u16(), |()| 200)
    }

    #[test]
    fn names_that_lead_here_are_not_enough() {
        let check = |host: &str, expect: u16| {
            assert_eq!(status(false, "GET", "/v2/", &[("host", host)]), expect, "{host}");
            assert_eq!(status(true, "GET", "/v2/", &[("host", host)]), 200, "{host}");
        };
        for host in [
            "localhost:5000",
            "127.0.0.1:5000",
            "[::1]:5000",
            "192.0.2.7",
            "REGISTRY.lan:5000",
            "a.localhost",
        ] {
            check(host, 200);
        }
        for host in
            ["evil.example:5000", "localhost.evil.example", "127.0.0.1.evil.example", "", "registry.lan.evil"]
        {
            check(host, 403);
        }
        assert_eq!(status(false, "GET", "http://evil.example/v2/", &[("host", "localhost")]), 403);
        assert_eq!(status(true, "GET", "/v2/", &[]), 400);
        assert_eq!(status(true, "GET", "/v2/", &[("host", "localhost"), ("host", "localhost")]), 400);
    }

    #[test]
    fn pages_from_elsewhere_change_nothing() {
        let check = |method: &str, name: &str, value: &str, expect: u16| {
            for any in [true, false] {
                let headers = [("host", "localhost:5000"), (name, value)];
                assert_eq!(status(any, method, "/v2/", &headers), expect, "{method} {name}: {value}");
            }
        };
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            check(method, "origin", "https://evil.example", 403);
            check(method, "sec-fetch-site", "cross-site", 403);
            check(method, "origin", "http://registry.lan", 200);
            check(method, "user-agent", "docker/20.10", 200);
        }
        check("GET", "sec-fetch-site", "cross-site", 200);
    }
}
