//! What a request tells of a browser that sends it for somebody's page: by which name the server is called, and
//! whose page it is.
//!
//! A page from anywhere makes a browser send requests to this machine. `Host` is the name in the address; who owns
//! the name may have made it lead here (DNS rebinding). `Origin` (RFC 6454) and `Sec-Fetch-Site` (W3C, Fetch
//! Metadata) say whose page it is. No page can set them. Pure. Not here: what is refused.

use std::net::IpAddr;

use http::{HeaderMap, header};

/// Returns the host of `HOST[:PORT]`, without the brackets of IPv6.
pub fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => authority.split_once(':').map_or(authority, |(name, _)| name),
    }
}

/// Tells whether a host is this machine's own by name: `localhost` and what is below it (RFC 6761, section 6.3).
pub fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// Reads a host that is an address: no name can be made to lead elsewhere then.
pub fn address_of(host: &str) -> Option<IpAddr> {
    let address = host.split_once('%').map_or(host, |(address, _)| address);
    address.parse().ok()
}

/// Tells whether a page of another origin than the server makes a browser send this. Who is no browser says
/// nothing of pages. `trusted`: hosts whose pages may.
pub fn is_foreign(headers: &HeaderMap, trusted: impl Fn(&str) -> bool) -> bool {
    let texts =
        |name| headers.get_all(name).iter().map(|value: &http::HeaderValue| value.to_str().unwrap_or(""));
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let authority = |origin: &str| origin.split_once("://").map(|(_, authority)| authority.to_owned());
    let origins: Vec<Option<String>> = texts("origin").map(authority).collect();
    let all = |good: &dyn Fn(&str) -> bool| origins.iter().all(|one| one.as_deref().is_some_and(good));
    if !origins.is_empty() && all(&|authority| trusted(host_of(authority))) {
        return false;
    }
    match texts("sec-fetch-site").next() {
        Some(_) => !texts("sec-fetch-site").all(|site| matches!(site, "same-origin" | "none")),
        None => !all(&|authority| authority.eq_ignore_ascii_case(host)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let check = |authority: &str, host: &str, is_local: bool, is_address: bool| {
            assert_eq!(host_of(authority), host);
            assert_eq!((is_localhost(host), address_of(host).is_some()), (is_local, is_address), "{host}");
        };
        check("localhost", "localhost", true, false);
        check("LocalHost.:80", "LocalHost.", true, false);
        check("a.localhost:1", "a.localhost", true, false);
        check("127.0.0.1:5000", "127.0.0.1", false, true);
        check("[::1]:5000", "::1", false, true);
        check("[fe80::1%25eth0]", "fe80::1%25eth0", false, true);
        check("localhost.example", "localhost.example", false, false);
        check("127.0.0.1.example:1", "127.0.0.1.example", false, false);
        check("xlocalhost", "xlocalhost", false, false);
        check("", "", false, false);
        check("[", "[", false, false);
    }

    #[test]
    fn pages() {
        let check = |all: &[(&'static str, &'static str)], expect: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, http::HeaderValue::from_static("localhost:5000"));
            for (name, value) in all {
                headers.append(*name, http::HeaderValue::from_static(value));
            }
            assert_eq!(is_foreign(&headers, |host| host == "ui.example"), expect, "{all:?}");
        };
        // No browser, our own page, what a person does.
        check(&[], false);
        check(&[("origin", "http://localhost:5000")], false);
        check(&[("sec-fetch-site", "same-origin")], false);
        check(&[("sec-fetch-site", "none")], false);
        // Others', also of other ports of this machine, of files and frames.
        check(&[("origin", "https://evil.example")], true);
        check(&[("origin", "http://localhost:3000")], true);
        check(&[("origin", "null")], true);
        check(&[("origin", "")], true);
        check(&[("sec-fetch-site", "cross-site")], true);
        check(&[("sec-fetch-site", "same-site"), ("origin", "http://localhost:5000")], true);
        check(&[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")], true);
        check(&[("origin", "http://localhost:5000"), ("origin", "http://evil.example")], true);
        // A page that was asked for.
        check(&[("sec-fetch-site", "cross-site"), ("origin", "https://ui.example:8443")], false);
        check(&[("origin", "https://ui.example.evil")], true);
    }
}
