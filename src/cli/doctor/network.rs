//! Facts about the way out: name servers, proxies, certificates.

use std::path::Path;

use crate::cli::world;
use crate::net::show_url;
use crate::sandbox::facts::{Fact, Group};
use crate::sys::read::read_small;

/// Looks at how the world is reached; nothing is sent.
pub fn facts() -> Vec<Fact> {
    vec![
        name_servers().of(Group::Network, "registries, URLs and RUN steps that look names up"),
        proxies().of(Group::Network, "networks that have no other way out"),
        certificates().of(Group::Network, "https: registries, URLs, Git repositories"),
    ]
}

fn name_servers() -> Fact {
    let text = read_small(Path::new("/etc/resolv.conf")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let servers: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.split_whitespace().next())
        .collect();
    let detail = if servers.is_empty() { "none in /etc/resolv.conf".to_owned() } else { servers.join(", ") };
    Fact::new("name servers", !servers.is_empty(), detail, "write `nameserver ADDRESS` into /etc/resolv.conf")
}

fn proxies() -> Fact {
    let proxies = world::proxies();
    let named = [
        ("http", &proxies.http),
        ("https", &proxies.https),
        ("all", &proxies.all),
        ("no", &proxies.no_proxy),
    ];
    let set: Vec<String> = named
        .iter()
        .filter_map(|(name, value)| Some(format!("{name}: {}", show_url(value.as_ref()?))))
        .collect();
    let wrong = [&proxies.http, &proxies.https, &proxies.all]
        .into_iter()
        .flatten()
        .find(|value| !value.is_empty() && url::Url::parse(value).is_err() && !value.contains(':'));
    let detail = if set.is_empty() { "none set".to_owned() } else { set.join(", ") };
    Fact::new("proxies", wrong.is_none(), detail, "a proxy is written as http://HOST:PORT")
}

fn certificates() -> Fact {
    let found = rustls_native_certs::load_native_certs();
    let count = found.certs.len();
    let variable = world::variable("SSL_CERT_FILE").map(|file| format!(" from {file}")).unwrap_or_default();
    let why = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
    let detail =
        format!("{count} certificates of authorities{variable}{}", if count == 0 { &why } else { "" });
    let fix = "install the package `ca-certificates`, or set SSL_CERT_FILE to a file of certificates";
    Fact::new("certificates", count > 0, detail, fix)
}
