//! Which proxy a URL is fetched through.
//!
//! The rules are those of Go's `httpproxy`, since docker and BuildKit have them: a proxy for each
//! scheme, `NO_PROXY` with names, networks and ports, and the loopback never by a proxy.
//! Beyond it, `ALL_PROXY` stands in where the scheme has none, as curl has it.
//! Not here: where the values come from; the caller passes them.

use std::net::IpAddr;

use url::{Host, Url};

use super::address::show_url;
use super::error::{NetError, Problem};

/// The values of the variables that name proxies; the lower-case spelling first where both are set.
///
/// Empty values are as good as none. A proxy is `[scheme://][user:password@]host[:port]`; the schemes
/// are http, https, socks4, socks4a, socks5 and socks5h; without one it is http.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// `http_proxy`, `HTTP_PROXY`.
    pub http: Option<String>,
    /// `https_proxy`, `HTTPS_PROXY`.
    pub https: Option<String>,
    /// `all_proxy`, `ALL_PROXY`.
    pub all: Option<String>,
    /// `no_proxy`, `NO_PROXY`: names with all below them, `.name` for only what is below, `*`,
    /// addresses, networks (`10.0.0.0/8`), each but the last with `:port` if wanted; by commas.
    pub no_proxy: Option<String>,
}

impl std::fmt::Debug for ProxySettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let show = |value: &Option<String>| value.as_deref().map(show_url);
        f.debug_struct("ProxySettings")
            .field("http", &show(&self.http))
            .field("https", &show(&self.https))
            .field("all", &show(&self.all))
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

impl ProxySettings {
    /// Takes the settings from variables by name, both spellings of each.
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> ProxySettings {
        let find = |name: &str| {
            let found = |name: &str| get(name).filter(|value| !value.trim().is_empty());
            found(name).or_else(|| found(&name.to_ascii_uppercase()))
        };
        ProxySettings {
            http: find("http_proxy"),
            https: find("https_proxy"),
            all: find("all_proxy"),
            no_proxy: find("no_proxy"),
        }
    }

    /// Fills what is missing from others: the proxies all together, and the exceptions.
    pub fn or(self, others: &ProxySettings) -> ProxySettings {
        let own = if self.has_any() { &self } else { others };
        let (http, https, all) = (own.http.clone(), own.https.clone(), own.all.clone());
        let no_proxy = self.no_proxy.clone().or_else(|| others.no_proxy.clone());
        ProxySettings { http, https, all, no_proxy }
    }

    /// Tells whether any proxy is named.
    pub fn has_any(&self) -> bool {
        [&self.http, &self.https, &self.all].into_iter().flatten().any(|proxy| !proxy.trim().is_empty())
    }

    /// Makes variables of the settings, by their upper-case names.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let all = [
            ("HTTP_PROXY", &self.http),
            ("HTTPS_PROXY", &self.https),
            ("ALL_PROXY", &self.all),
            ("NO_PROXY", &self.no_proxy),
        ];
        let set = |(name, value): (&'static str, &Option<String>)| Some((name, value.clone()?));
        all.into_iter().filter_map(set).collect()
    }

    /// Returns the proxy for a URL; `None` to go directly.
    pub fn proxy_for(&self, url: &Url) -> Result<Option<Url>, NetError> {
        let own = match url.scheme() {
            "https" => &self.https,
            _ => &self.http,
        };
        let set = |value: &Option<String>| value.clone().filter(|v| !v.trim().is_empty());
        match set(own).or_else(|| set(&self.all)) {
            Some(proxy) if self.is_proxied(url) => parse(proxy.trim()).map(Some),
            _ => Ok(None),
        }
    }

    fn is_proxied(&self, url: &Url) -> bool {
        let Some(host) = url.host() else { return true };
        let address = match &host {
            Host::Ipv4(a) => Some(IpAddr::V4(*a)),
            Host::Ipv6(a) => Some(a.to_ipv4_mapped().map_or(IpAddr::V6(*a), IpAddr::V4)),
            Host::Domain(_) => None,
        };
        let name = url.host_str().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
        if name == "localhost" || address.is_some_and(|a| a.is_loopback()) {
            return false;
        }
        let port = url.port_or_known_default();
        let rules = self.no_proxy.as_deref().unwrap_or_default();
        !rules.split(',').any(|rule| rule_matches(&rule.trim().to_ascii_lowercase(), &name, address, port))
    }
}

fn rule_matches(rule: &str, name: &str, address: Option<IpAddr>, port: Option<u16>) -> bool {
    if rule.is_empty() {
        return false;
    }
    if rule == "*" {
        return true;
    }
    if let Some((network, length)) = rule.split_once('/') {
        let (Ok(network), Ok(length)) = (network.parse(), length.parse()) else { return false };
        return address.is_some_and(|address| is_within(address, network, length));
    }
    let (rule, wanted) = split_port(rule);
    if wanted.is_some() && wanted != port {
        return false;
    }
    let bare = rule.strip_prefix('[').and_then(|r| r.strip_suffix(']')).unwrap_or(rule);
    if let Ok(rule) = bare.parse::<IpAddr>() {
        return address == Some(rule);
    }
    let rule = rule.strip_prefix('*').filter(|r| r.starts_with('.')).unwrap_or(rule);
    match rule.strip_prefix('.') {
        Some(domain) => !domain.is_empty() && name.strip_suffix(domain).is_some_and(|n| n.ends_with('.')),
        None => name.strip_suffix(rule).is_some_and(|n| n.is_empty() || n.ends_with('.')),
    }
}

/// Takes the port off `host:port`; an IPv6 address has colons of its own.
fn split_port(rule: &str) -> (&str, Option<u16>) {
    if rule.parse::<IpAddr>().is_ok() {
        return (rule, None);
    }
    match rule.rsplit_once(':') {
        Some((host, port)) => port.parse().map_or((rule, None), |port| (host, Some(port))),
        None => (rule, None),
    }
}

fn is_within(address: IpAddr, network: IpAddr, length: u32) -> bool {
    // All bits but the first `length` are shifted out; a shift by the whole width leaves nothing to compare.
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) if length <= 32 => {
            let differ = a.to_bits() ^ n.to_bits();
            differ.checked_shr(32 - length).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(n)) if length <= 128 => {
            let differ = a.to_bits() ^ n.to_bits();
            differ.checked_shr(128 - length).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Tells whether a proxy is on the loopback, which another network does not lead to.
pub fn is_on_loopback(proxy: &str) -> bool {
    let Ok(url) = parse(proxy.trim()) else { return false };
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            // Of socks addresses, too, which the parser keeps as they are written.
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => {
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|address| address.is_loopback())
        }
        None => false,
    }
}

/// Returns a proxy as people may see it; an error for what is none.
pub fn show_proxy(text: &str) -> Result<String, NetError> {
    parse(text.trim()).map(|url| super::address::show(&url).trim_end_matches('/').to_owned())
}

fn parse(text: &str) -> Result<Url, NetError> {
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let schemes = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];
    match Url::parse(&full) {
        Ok(url) if schemes.contains(&url.scheme()) && url.has_host() => Ok(url),
        _ => Err(NetError::new(show_url(&full), Problem::NotAProxy)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_chosen_by_scheme() {
        let settings = ProxySettings {
            http: Some("proxy:3128".into()),
            https: Some("https://u:p@secure".into()),
            ..Default::default()
        };
        let check = |settings: &ProxySettings, url: &str, expect: Option<&str>| {
            let found = settings.proxy_for(&Url::parse(url).unwrap()).unwrap();
            assert_eq!(found.as_ref().map(Url::as_str), expect, "{url}");
        };
        check(&settings, "http://example.com/", Some("http://proxy:3128/"));
        check(&settings, "https://example.com/", Some("https://u:p@secure/"));
        check(&settings, "http://localhost:5000/", None);
        check(&settings, "http://127.0.0.2/", None);
        check(&settings, "http://[::1]/", None);
        let all = ProxySettings { all: Some("socks5h://s:1080".into()), ..Default::default() };
        check(&all, "https://example.com/", Some("socks5h://s:1080"));
        check(&ProxySettings { http: Some(" ".into()), ..all }, "http://a/", Some("socks5h://s:1080"));
        check(&ProxySettings::default(), "http://a/", None);
        assert!(!format!("{settings:?}").contains("u:p"));
    }

    #[test]
    fn a_bad_proxy_is_an_error_without_its_password() {
        let settings = ProxySettings { http: Some("gopher://u:pw@x".into()), ..Default::default() };
        let error = settings.proxy_for(&Url::parse("http://a/").unwrap()).unwrap_err().to_string();
        assert!(error.contains("proxy") && !error.contains("pw"), "{error}");
    }

    #[test]
    fn where_a_proxy_is() {
        let check = |proxy: &str, expect: bool| assert_eq!(is_on_loopback(proxy), expect, "{proxy}");
        for here in [
            "127.0.0.1:3128",
            "http://u:p@localhost:1",
            "socks5://127.0.0.2:1",
            "http://[::1]:1",
            "LOCALHOST.",
        ] {
            check(here, true);
        }
        for elsewhere in ["proxy:3128", "http://10.0.0.1", "http://127.example.com", "gopher://127.0.0.1", ""]
        {
            check(elsewhere, false);
        }
        assert_eq!(show_proxy("u:pw@p:3128").unwrap(), "http://p:3128");
        assert_eq!(show_proxy("socks5h://p").unwrap(), "socks5h://p");
        assert!(show_proxy("http://").is_err());
    }

    #[test]
    fn what_is_missing_comes_from_others() {
        let settings = |http: &str, no_proxy: &str| ProxySettings {
            http: Some(http.to_owned()).filter(|text| !text.is_empty()),
            no_proxy: Some(no_proxy.to_owned()).filter(|text| !text.is_empty()),
            ..Default::default()
        };
        let check = |one: (&str, &str), two: (&str, &str), expect: (&str, &str)| {
            let found = settings(one.0, one.1).or(&settings(two.0, two.1));
            assert_eq!(found, settings(expect.0, expect.1));
        };
        check(("a", ""), ("b", "n"), ("a", "n"));
        check(("", "m"), ("b", "n"), ("b", "m"));
        check(("", ""), ("b", ""), ("b", ""));
        let variables = settings("a", "n").variables();
        assert_eq!(variables, [("HTTP_PROXY", "a".to_owned()), ("NO_PROXY", "n".to_owned())]);
    }

    #[test]
    fn exceptions_are_as_go_has_them() {
        let check = |no_proxy: &str, url: &str, direct: bool| {
            let settings = ProxySettings {
                http: Some("p".into()),
                no_proxy: Some(no_proxy.into()),
                ..Default::default()
            };
            let found = settings.proxy_for(&Url::parse(url).unwrap()).unwrap();
            assert_eq!(found.is_none(), direct, "{no_proxy} {url}");
        };
        check("example.com", "http://example.com/", true);
        check("example.com", "http://a.EXAMPLE.com/", true);
        check("example.com", "http://badexample.com/", false);
        check(".example.com", "http://a.example.com/", true);
        check(".example.com", "http://example.com/", false);
        check("*.example.com", "http://a.example.com/", true);
        check("a, Example.com ,b", "http://example.com/", true);
        check("*", "http://x/", true);
        check("example.com:80", "http://example.com/", true);
        check("example.com:8080", "http://example.com/", false);
        check("10.0.0.0/8", "http://10.1.2.3/", true);
        check("10.0.0.0/8", "http://11.1.2.3/", false);
        check("10.0.0.0/8", "http://10.example.com/", false);
        check("0.0.0.0/0", "http://11.1.2.3/", true);
        check("10.0.0.0/33", "http://10.0.0.0/", false);
        check("fe80::/10", "http://[fe80::1]/", true);
        check("fe80::1", "http://[fe80::1]:80/", true);
        check("[fe80::1]:80", "http://[fe80::1]/", true);
        check("[fe80::1]:81", "http://[fe80::1]/", false);
        check("10.0.0.1", "http://10.0.0.1/", true);
        check("10.0.0.1:81", "http://10.0.0.1/", false);
        check("10.0.0.1", "http://[::ffff:10.0.0.1]/", true);
        check("", "http://x/", false);
        check(".", "http://x/", false);
    }

    #[test]
    fn both_spellings_of_a_variable_count() {
        let get = |name: &str| match name {
            "http_proxy" => Some("lower".into()),
            "HTTP_PROXY" | "NO_PROXY" => Some("UPPER".into()),
            "https_proxy" => Some(String::new()),
            "HTTPS_PROXY" => Some("also".into()),
            _ => None,
        };
        let expect = ProxySettings {
            http: Some("lower".into()),
            https: Some("also".into()),
            all: None,
            no_proxy: Some("UPPER".into()),
        };
        assert_eq!(ProxySettings::from_variables(get), expect);
    }
}
