//! URLs: which are fetched, whom they belong to, and how they are shown.
//!
//! Not here: git addresses and what a build context may be.

use percent_encoding::percent_decode_str;
use url::Url;

use super::error::{NetError, Problem};
use super::request::Credentials;

/// Parts of the names of query parameters whose values are never shown.
const SECRET: [&str; 8] = ["token", "sig", "secret", "key", "pass", "auth", "credential", "code"];

/// Returns a URL as people may see it: without user info, fragment and the values of secret parameters.
///
/// Text that is no URL is shown up to its first `?`, without what stands before an `@`.
pub fn show_url(text: &str) -> String {
    match Url::parse(text) {
        Ok(url) if !url.cannot_be_a_base() => show(&url),
        _ => {
            let text = text.split(['?', '#']).next().unwrap_or_default();
            let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
            let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            let text = if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") };
            text.chars().filter(|c| !c.is_control()).collect()
        }
    }
}

/// Does [`show_url`] for a URL that was parsed.
pub fn show(url: &Url) -> String {
    let mut shown = url.clone();
    // A URL without a host has no user info either; nothing else makes these fail.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_fragment(None);
    let hidden = url.query().map(|query| {
        let pairs = query.split('&').map(|pair| match pair.split_once('=') {
            Some((name, _)) if is_secret(name) => format!("{name}=***"),
            _ => pair.to_owned(),
        });
        pairs.collect::<Vec<_>>().join("&")
    });
    shown.set_query(hidden.as_deref());
    shown.to_string()
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET.iter().any(|part| name.contains(part))
}

/// Reads an address that may be fetched: http or https, with a host.
pub fn parse(text: &str) -> Result<Url, NetError> {
    let fail = |problem| NetError::new(show_url(text), problem);
    let url = Url::parse(text).map_err(|e| fail(Problem::NotAUrl(e.to_string())))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(fail(Problem::Scheme(url.scheme().to_owned())));
    }
    Ok(url)
}

/// Whom credentials are for: scheme, host and port (RFC 6454, "origin").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Origin {
    /// Returns the origin of a URL.
    pub fn of(url: &Url) -> Origin {
        Origin {
            scheme: url.scheme().to_owned(),
            host: url.host_str().unwrap_or_default().to_owned(),
            port: url.port_or_known_default(),
        }
    }
}

/// Takes the user info out of a URL.
pub fn take_user_info(url: &mut Url) -> Option<Credentials> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let found = Credentials::Basic {
        user: decode(url.username()),
        password: decode(url.password().unwrap_or_default()),
    };
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_no_secrets() {
        let check = |text: &str, expect: &str| assert_eq!(show_url(text), expect, "{text}");
        check("https://example.com/a.tar.gz", "https://example.com/a.tar.gz");
        check("https://user:pw@example.com/a", "https://example.com/a");
        check("https://tok@example.com/a#frag", "https://example.com/a");
        check("https://h/a?version=2&X-Amz-Signature=abc", "https://h/a?version=2&X-Amz-Signature=***");
        check("https://h/a?access_TOKEN=abc", "https://h/a?access_TOKEN=***");
        check("https://h/a?flag&password=", "https://h/a?flag&password=***");
        check("http://user:pw@ho st/a?token=x", "http://ho st/a");
        check("user:pw@host", "host");
        check("", "");
    }

    #[test]
    fn takes_http_and_https_only() {
        let check = |text: &str, expect: &str| {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        parse("HTTPS://example.com").unwrap();
        check("ftp://example.com/a", "only http and https");
        check("file:///etc/passwd", "only http and https");
        check("http://", "not a URL");
        check("example", "not a URL");
    }

    #[test]
    fn origins_are_scheme_host_and_port() {
        let origin = |text: &str| Origin::of(&Url::parse(text).unwrap());
        assert_eq!(origin("https://a/x"), origin("https://A:443/y?z"));
        for other in ["http://a/", "https://a:444/", "https://b.a/", "https://a.b/"] {
            assert_ne!(origin("https://a/"), origin(other), "{other}");
        }
    }

    #[test]
    fn user_info_is_taken_out() {
        let check = |text: &str, expect: Option<(&str, &str)>| {
            let mut url = Url::parse(text).unwrap();
            let found = take_user_info(&mut url);
            let expect = expect
                .map(|(user, password)| Credentials::Basic { user: user.into(), password: password.into() });
            assert_eq!(found, expect, "{text}");
            assert_eq!(url.as_str(), "http://h/");
        };
        check("http://h", None);
        check("http://u@h", Some(("u", "")));
        check("http://u%40x:p%2Fq@h", Some(("u@x", "p/q")));
    }

    proptest::proptest! {
        #[test]
        fn shows_anything(text in ".*") {
            show_url(&text);
            let _ = parse(&text);
        }
    }
}
