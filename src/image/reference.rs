//! Image references: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`, docker's rules.
//!
//! The grammar is that of the distribution project's reference package
//! (docker's "familiar" short names included). Not here: looking a reference
//! up (`store`, `registry`).

use std::fmt;
use std::str::FromStr;

use super::Digest;

/// A parsed and normalised reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Says why a text is not a reference; the words docker's users know.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum ReferenceError {
    #[error("invalid reference format: `{0}`")]
    Format(String),
    #[error("invalid reference format: repository name (`{0}`) must be lowercase")]
    UpperCase(String),
    #[error(
        "invalid reference format: the tag of `{0}` must be 1 to 128 of A-Z a-z 0-9 _ . - and not start with . or -"
    )]
    Tag(String),
    #[error("invalid reference format: the digest of `{0}` must be sha256: and 64 hex digits")]
    Digest(String),
    #[error("invalid repository name (`{0}`), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    #[error("invalid reference format: repository name of `{0}` must not be more than 255 characters")]
    TooLong(String),
}

const DEFAULT_DOMAIN: &str = "docker.io";

impl Reference {
    /// Returns the registry's host, with its port if there is one.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Returns the repository's path inside its registry (`library/debian`).
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the tag, if one was written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest, if one was written.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Returns the repository without tag and digest, as docker shows it (`debian`), but in
    /// full where the short form would be read as something else.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.full_name();
        }
        let short = match self.path.strip_prefix("library/") {
            Some(rest) if !rest.contains('/') => rest,
            _ => &self.path,
        };
        let like_host = short.split_once('/').is_some_and(|(first, _)| looks_like_host(first));
        if like_host || Digest::from_hex(short).is_ok() { self.full_name() } else { short.to_owned() }
    }

    /// Returns the repository without tag and digest, in full (`docker.io/library/debian`).
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// Returns the reference with the tag `latest` where it has neither tag nor digest.
    pub fn with_default_tag(mut self) -> Reference {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        let format = || ReferenceError::Format(text.to_owned());
        if text.len() == 64 && Digest::from_hex(text).is_ok() {
            return Err(ReferenceError::LooksLikeId(text.to_owned()));
        }
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                (rest, Some(digest.parse().map_err(|_| ReferenceError::Digest(text.to_owned()))?))
            }
        };
        // A colon after the last slash starts the tag; one before is a port.
        let name_end = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[name_end..].find(':') {
            Some(colon) => (&rest[..name_end + colon], Some(&rest[name_end + colon + 1..])),
            None => (rest, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(ReferenceError::Tag(text.to_owned()));
        }
        let (domain, path) = match name.split_once('/') {
            Some((first, path)) if looks_like_host(first) => (first, path.to_owned()),
            Some(_) => (DEFAULT_DOMAIN, name.to_owned()),
            None => (DEFAULT_DOMAIN, format!("library/{name}")),
        };
        let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
        let path = match path.split_once('/') {
            None if domain == DEFAULT_DOMAIN => format!("library/{path}"),
            _ => path,
        };
        if name.is_empty() || !is_host(domain) {
            return Err(format());
        }
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceError::UpperCase(name.to_owned()));
        }
        if !path.split('/').all(is_path_component) {
            return Err(format());
        }
        if domain.len() + 1 + path.len() > 255 {
            return Err(ReferenceError::TooLong(text.to_owned()));
        }
        Ok(Reference { domain: domain.to_owned(), path, tag: tag.map(str::to_owned), digest })
    }
}

/// Tells a registry's host from the first part of a path, as docker does.
fn looks_like_host(word: &str) -> bool {
    word == "localhost" || word.contains(['.', ':']) || word.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|h| h.split_once(']')) {
        Some((v6, port)) => {
            return !v6.is_empty()
                && v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')
                && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
        }
        None => host.split_once(':').map_or((host, None), |(n, p)| (n, Some(p))),
    };
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// Tells whether a text may be a tag (distribution-spec: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`).
pub fn is_tag(tag: &str) -> bool {
    tag.len() <= 128
        && tag
            .bytes()
            .enumerate()
            .all(|(i, b)| b.is_ascii_alphanumeric() || b == b'_' || (i > 0 && (b == b'.' || b == b'-')))
        && !tag.is_empty()
}

/// Tells whether a path component is lower-case words joined by `.`, `_`, `__` or dashes.
pub fn is_path_component(component: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    if !word(first) || !word(last) {
        return false;
    }
    bytes.split(|&b| word(b)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-')
    })
}

/// Shows the reference as docker does: short name, tag, digest.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.familiar_name())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, full: &str, shown: &str) {
        let reference: Reference = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!((reference.full_name().as_str(), reference.to_string().as_str()), (full, shown));
        assert_eq!(reference.to_string().parse::<Reference>().as_ref(), Ok(&reference));
    }

    #[test]
    fn normalises_as_docker() {
        check("debian", "docker.io/library/debian", "debian");
        check("debian:bookworm", "docker.io/library/debian", "debian:bookworm");
        check("docker.io/debian", "docker.io/library/debian", "debian");
        check("index.docker.io/a/b:1", "docker.io/a/b", "a/b:1");
        check("localhost/x", "localhost/x", "localhost/x");
        check("docker.io/localhost/x", "docker.io/localhost/x", "docker.io/localhost/x");
        check("docker.io/a.b/x", "docker.io/a.b/x", "docker.io/a.b/x");
        let hex = format!("docker.io/library/{}", "f".repeat(64));
        check(&hex, &hex, &hex);
        check("localhost:5000/x/y:t", "localhost:5000/x/y", "localhost:5000/x/y:t");
        check("my.host/a__b/c-----d:V1.0", "my.host/a__b/c-----d", "my.host/a__b/c-----d:V1.0");
        check("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x");
        let digest = format!("a@sha256:{}", "0".repeat(64));
        check(&digest, "docker.io/library/a", &digest);
    }

    #[test]
    fn refuses_what_docker_refuses() {
        for bad in [
            "",
            ":",
            "a:",
            "a:-x",
            "A",
            "a/B",
            "a//b",
            "/a",
            "a/",
            "a_",
            "-a",
            "a..b",
            "a___b",
            "a:b:c",
            "a@sha256:1",
            "a b",
            "a:t t",
            "ho st/a",
            "-f",
            "../a",
            "http://a/b",
            "a.b:port/x",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
        assert!("f".repeat(64).parse::<Reference>().is_err());
        assert!(format!("{}/a", "a".repeat(300)).parse::<Reference>().is_err());
    }
}
