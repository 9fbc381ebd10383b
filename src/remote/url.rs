//! URLs and the scp form taken apart, as Go's `net/url` and BuildKit's `util/sshutil` do.
//!
//! Not here: what the parts mean (`git`, `http`).

use super::error::AddressError;

/// A user's name and password, as they are written before the `@`, decoded.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub user: String,
    pub password: Option<String>,
}

/// Shows neither.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// The parts of `scheme://[user[:password]@]host[:port]/path?query#fragment`.
pub(super) struct Url<'a> {
    /// The whole text.
    pub text: &'a str,
    /// In lower case.
    pub scheme: String,
    pub credentials: Option<Credentials>,
    /// With the port.
    pub host: &'a str,
    pub path: &'a str,
    pub query: Option<&'a str>,
    /// Decoded.
    pub fragment: Option<String>,
}

/// Returns the scheme of a text that begins as a URL, in lower case.
pub(super) fn scheme(text: &str) -> Option<String> {
    let (scheme, _) = text.split_once("://")?;
    let good = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric());
    good.then(|| scheme.to_ascii_lowercase())
}

impl<'a> Url<'a> {
    /// Takes a text apart that has a [`scheme`].
    pub fn split(text: &'a str) -> Result<Url<'a>, AddressError> {
        let fail = |problem: String| AddressError::new(text, problem);
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let scheme = scheme.to_ascii_lowercase();
        let bad_authority = |problem: &str| AddressError::authority(&scheme, problem);
        if text.chars().any(char::is_control) {
            return Err(bad_authority("it holds a control character"));
        }
        let (rest, fragment) = cut(rest, '#');
        let (rest, query) = cut(rest, '?');
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        // An empty port is fine, but it may also be a password that begins with `/`, `?` or `#`.
        if user.is_none() && host.ends_with(':') && text.contains('@') {
            return Err(bad_authority(NO_PORT));
        }
        check_host(host).map_err(|why| bad_authority(&why))?;
        let credentials = user
            .map(read_credentials)
            .transpose()
            .map_err(|why| bad_authority(&format!("in the user name or password, {why}")))?;
        decode(path).map_err(|why| fail(format!("in the path, {why}")))?;
        let fragment =
            fragment.map(decode).transpose().map_err(|why| fail(format!("after the `#`, {why}")))?;
        Ok(Url { text, scheme, credentials, host, path, query, fragment })
    }

    /// Tells how the decoded path ends.
    pub fn path_ends_with(&self, end: &str) -> bool {
        decode(self.path).is_ok_and(|path| path.ends_with(end))
    }

    /// Returns `scheme://host/path`: no user, no query, no fragment; what a URL cannot hold is encoded.
    pub fn plain(&self) -> String {
        format!("{}://{}{}", self.scheme, self.host, encode(self.path))
    }
}

/// The parts of `[user@]host:path?query#fragment`.
pub(super) struct Scp<'a> {
    pub text: &'a str,
    pub user: Option<&'a str>,
    pub host: &'a str,
    pub path: &'a str,
    pub query: Option<&'a str>,
    /// As written.
    pub fragment: Option<&'a str>,
}

impl<'a> Scp<'a> {
    /// Takes a text apart, or returns `None` where it has not this form.
    pub fn split(text: &'a str) -> Option<Scp<'a>> {
        let (place, rest) = text.split_once(':')?;
        let (user, host) = match place.split_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, place),
        };
        let word = |text: &str, more: &[u8]| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
        };
        if !word(host, b"-.") || user.is_some_and(|user| !word(user, b"-_")) || text.contains('\n') {
            return None;
        }
        let (before, fragment) = cut(rest, '#');
        let (path, query) = cut(before, '?');
        // `name:/path` and `name:` are URLs with a scheme to Go, and so no scp form.
        let scheme = user.is_none() && place.starts_with(|c: char| c.is_ascii_alphabetic());
        match scheme && (path.is_empty() || path.starts_with('/')) {
            true => None,
            false => Some(Scp { text, user, host, path, query, fragment }),
        }
    }
}

fn cut(text: &str, at: char) -> (&str, Option<&str>) {
    match text.split_once(at) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

const NO_PORT: &str = "what follows the host's `:` is no port (write `/`, `?`, `#`, `@` and `:` in a password \
                       as %2F, %3F, %23, %40 and %3A)";

fn check_host(host: &str) -> Result<(), String> {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, rest)) => match (rest.is_empty(), rest.strip_prefix(':')) {
            (true, _) => (name, None),
            (false, Some(port)) => (name, Some(port)),
            (false, None) => return Err("only a port can follow the host".into()),
        },
        None => cut(host, ':'),
    };
    let inside_brackets = host.starts_with('[');
    let good = |c: char| {
        c.is_alphanumeric() || matches!(c, '-' | '.' | '_') || inside_brackets && matches!(c, ':' | '%')
    };
    if name.is_empty() {
        return Err("it has no host".into());
    }
    // Programs would take it for an option.
    if name.starts_with('-') || !name.chars().all(good) {
        return Err("its host cannot be one".into());
    }
    match port {
        Some(port) if !port.is_empty() && port.parse::<u16>().is_err() => Err(NO_PORT.into()),
        _ => Ok(()),
    }
}

fn read_credentials(text: &str) -> Result<Credentials, String> {
    if text.contains(char::is_whitespace) {
        return Err("a space must be written as %20".into());
    }
    let (user, password) = cut(text, ':');
    let read = |text: &str| match decode(text) {
        Ok(text) if text.contains(char::is_control) => Err("there is a control character".to_owned()),
        other => other,
    };
    Ok(Credentials { user: read(user)?, password: password.map(read).transpose()? })
}

/// Undoes percent-encoding (RFC 3986, section 2.1); the result must be UTF-8.
pub(super) fn decode(text: &str) -> Result<String, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let digits = rest.get(..2).and_then(|d| Some((hex(d[0])? << 4) | hex(d[1])?));
        out.push(digits.ok_or("a `%` is not followed by two hexadecimal digits")?);
        rest = &rest[2..];
    }
    String::from_utf8(out).map_err(|_| "the bytes are no UTF-8".into())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|d| d as u8)
}

/// Encodes what no URL may hold as it is (spaces, quotes, other scripts); what is encoded stays.
pub(super) fn encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b'!'..=b'~' if !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}') => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}
