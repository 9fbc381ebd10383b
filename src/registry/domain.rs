//! Whether two hosts belong to the same people, so that one may see the other's credentials.
//!
//! They do where they are the same host, or have the same registrable domain: the name one level
//! below a public suffix, by the list at publicsuffix.org. Pure.

use std::net::IpAddr;

use super::host::is_loopback;

/// Tells whether two hosts (names or addresses, without port) belong together.
pub fn same_owner(one: &str, other: &str) -> bool {
    let (one, other) = (normal(one), normal(other));
    if one == other || (is_loopback(&one) && is_loopback(&other)) {
        return true;
    }
    match (registrable(&one), registrable(&other)) {
        (Some(one), Some(other)) => one == other,
        _ => false,
    }
}

fn normal(host: &str) -> String {
    host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase()
}

fn registrable(host: &str) -> Option<&str> {
    if host.parse::<IpAddr>().is_ok() {
        return None;
    }
    psl::domain_str(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_one_domain_belong_together() {
        let check = |one: &str, other: &str, expect: bool| {
            assert_eq!(same_owner(one, other), expect, "{one} {other}");
            assert_eq!(same_owner(other, one), expect, "{other} {one}");
        };
        check("registry-1.docker.io", "auth.docker.io", true);
        check("registry.gitlab.com", "gitlab.com", true);
        check("registry.example.co.uk", "auth.example.co.uk", true);
        check("Registry.Example.com.", "auth.example.com", true);
        check("a.b.corp.lan", "corp.lan", true);
        check("registry", "registry", true);
        check("10.0.0.1", "10.0.0.1", true);
        check("127.0.0.1", "localhost", true);
        check("registry.example.com", "example.com.evil.net", false);
        check("registry.example.com", "evil-example.com", false);
        check("a.co.uk", "b.co.uk", false);
        check("a.github.io", "b.github.io", false);
        check("evil.herokuapp.com", "mine.herokuapp.com", false);
        check("registry.lan", "auth.lan", false);
        check("registry", "auth", false);
        check("10.0.0.1", "10.0.0.2", false);
        check("1.2.3.4", "5.2.3.4", false);
        check("co.uk", "a.co.uk", false);
        check("a.xn--gmqw5a.xn--j6w193g", "b.xn--gmqw5a.xn--j6w193g", false);
        check("a.x.xn--gmqw5a.xn--j6w193g", "b.x.xn--gmqw5a.xn--j6w193g", true);
        check("com", "com.", true);
        check("", "a", false);
    }
}
