//! Who may see builds, and who may stop them and start them again. Pure.
//!
//! With a `status_token`: who shows it. Without one: programs of this machine alone, which a proxy in front is
//! not, nor a page elsewhere whose name was made to lead here. Changes always take the `control_token`.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;

use super::config::Config;
use super::verify::same;
use crate::sys::browser::{address_of, host_of, is_localhost};

/// Whether a request may go on.
#[derive(Debug, PartialEq, Eq)]
pub enum Access {
    Yes,
    /// Another or some token would do.
    Ask,
    /// There is none that would, and why.
    No(&'static str),
}

/// Decides about a request that changes nothing.
pub fn may_see(config: &Config, peer: SocketAddr, headers: &HeaderMap) -> Access {
    let Some(token) = &config.status_token else {
        let forwarded = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];
        return match peer.ip().to_canonical().is_loopback()
            && is_loopback_name(headers)
            && !forwarded.iter().any(|name| headers.contains_key(*name))
        {
            true => Access::Yes,
            false => {
                Access::No("without a status_token in the configuration only this machine may see builds")
            }
        };
    };
    match said(headers, true).is_some_and(|said| same(&token.0, &said)) {
        true => Access::Yes,
        false => Access::Ask,
    }
}

/// Decides about one that cancels or starts something. A browser sends `Basic` words by itself, wherever a page
/// sends it to, so only `Bearer` counts.
pub fn may_change(config: &Config, headers: &HeaderMap) -> Access {
    match &config.control_token {
        None => Access::No("without a control_token in the configuration nobody may cancel or rebuild"),
        Some(token) if said(headers, false).is_some_and(|said| same(&token.0, &said)) => Access::Yes,
        Some(_) => Access::Ask,
    }
}

/// Returns the token that a request shows: `Bearer TOKEN`, or as the password of any user.
fn said(headers: &HeaderMap, basic: bool) -> Option<Vec<u8>> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" => Some(rest.trim().as_bytes().to_vec()),
        "basic" if basic => {
            let pair = STANDARD.decode(rest.trim()).ok()?;
            let colon = pair.iter().position(|byte| *byte == b':')?;
            Some(pair[colon + 1..].to_vec())
        }
        _ => None,
    }
}

/// Tells whether the server is called by a name of this machine's loopback, whatever the port.
fn is_loopback_name(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(http::header::HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let name = host_of(host);
    is_localhost(name) || address_of(name).is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::super::config::Secret;
    use super::super::config::tests::{PROJECT, read_text};
    use super::*;

    const TOKEN: &str = "0123456789abcdefABCDEF";

    fn config(token: bool) -> Config {
        let rule = "[[project.rule]]\nbranch = \"main\"\ntag = \"x\"\n";
        let mut config = read_text(&format!("{PROJECT}{rule}")).unwrap();
        config.status_token = token.then(|| Secret(TOKEN.into()));
        config.control_token = config.status_token.clone();
        config
    }

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        all.iter().map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn without_a_token_this_machine_sees() {
        let check = |peer: &str, all: &[(&'static str, &str)], expect: bool| {
            let seen = may_see(&config(false), peer.parse().unwrap(), &headers(all)) == Access::Yes;
            assert_eq!(seen, expect, "{peer} {all:?}");
        };
        check("127.0.0.1:1", &[("host", "localhost:8080")], true);
        check("127.0.0.1:1", &[("host", "127.0.0.1")], true);
        check("[::1]:1", &[("host", "[::1]:8080")], true);
        check("[::ffff:127.0.0.1]:1", &[("host", "localhost")], true);
        check("192.0.2.1:1", &[("host", "localhost")], false);
        check("127.0.0.1:1", &[("host", "builds.example")], false);
        check("127.0.0.1:1", &[("host", "localhost.example")], false);
        check("127.0.0.1:1", &[("host", "192.0.2.1:8080")], false);
        check("127.0.0.1:1", &[("host", "builds.localhost:8080")], true);
        check("127.0.0.1:1", &[], false);
        check("127.0.0.1:1", &[("host", "localhost"), ("x-forwarded-for", "127.0.0.1")], false);
    }

    #[test]
    fn with_a_token_who_has_it() {
        let basic = format!("Basic {}", STANDARD.encode(format!("me:{TOKEN}")));
        let bearer = format!("Bearer {TOKEN}");
        let check = |value: &str, see: bool, change: bool| {
            let headers = headers(&[("host", "localhost"), ("authorization", value)]);
            let peer = "127.0.0.1:1".parse().unwrap();
            assert_eq!(may_see(&config(true), peer, &headers) == Access::Yes, see, "{value}");
            assert_eq!(may_change(&config(true), &headers) == Access::Yes, change, "{value}");
            assert!(may_change(&config(false), &headers) != Access::Yes, "{value}");
        };
        check(&bearer, true, true);
        check(&bearer.to_lowercase(), false, false);
        check(&basic, true, false);
        check("Bearer", false, false);
        check("Bearer x", false, false);
        check("", false, false);
    }
}
