//! SHA-256 digests and the ids made of them, each a type of its own.
//!
//! Not here: computing digests of files or trees (`layer`, `context`) and the
//! cache keys (`solve`).

use std::fmt;
use std::io::Read;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest, written `sha256:<64 lower-case hex>`.
///
/// Other algorithms are refused when parsed: every blob is checked while it is
/// read, and an algorithm nobody checks is an open door (CVE-2024-3727).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Says why a text is not a digest.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not a digest: {why}")]
pub struct DigestError {
    /// The text as it was given.
    pub text: String,
    why: &'static str,
}

impl Digest {
    /// Digests bytes held in memory.
    pub fn of(bytes: impl AsRef<[u8]>) -> Digest {
        Digest(Sha256::digest(bytes.as_ref()).into())
    }

    /// Digests all that a reader yields; returns the digest and the length.
    pub fn of_reader(mut reader: impl Read) -> std::io::Result<(Digest, u64)> {
        let mut hasher = Hasher::new();
        let mut buffer = vec![0u8; 64 * 1024];
        let mut length = 0u64;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok((hasher.finish(), length)),
                Ok(n) => {
                    hasher.update(&buffer[..n]);
                    length += n as u64;
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Wraps raw bytes that are known to be a SHA-256 digest.
    pub fn from_bytes(bytes: [u8; 32]) -> Digest {
        Digest(bytes)
    }

    /// Returns the 32 raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the 64 hex digits, without `sha256:`.
    pub fn hex(&self) -> String {
        hex_of(&self.0)
    }

    /// Returns the first 12 hex digits, as docker shows ids.
    pub fn short(&self) -> String {
        let mut hex = self.hex();
        hex.truncate(12);
        hex
    }

    /// Parses 64 lower-case hex digits without `sha256:`.
    pub fn from_hex(hex: &str) -> Result<Digest, DigestError> {
        parse_hex(hex).map(Digest).map_err(|why| DigestError { text: hex.to_owned(), why })
    }
}

/// Writes 32 bytes as lower-case hex digits.
pub(super) fn hex_of(bytes: &[u8; 32]) -> String {
    let mut out = String::with_capacity(64);
    for byte in bytes {
        out.push(char::from_digit(u32::from(byte >> 4), 16).expect("a nibble"));
        out.push(char::from_digit(u32::from(byte & 15), 16).expect("a nibble"));
    }
    out
}

/// Reads 64 lower-case hex digits, or says what is wrong with them.
pub(super) fn parse_hex(hex: &str) -> Result<[u8; 32], &'static str> {
    if hex.len() != 64 {
        return Err("it needs 64 hex digits");
    }
    let mut bytes = [0u8; 32];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        let nibble = |c: u8| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        };
        match (nibble(pair[0]), nibble(pair[1])) {
            (Some(high), Some(low)) => *byte = high << 4 | low,
            _ => return Err("only the digits 0-9 and a-f are allowed"),
        }
    }
    Ok(bytes)
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Digest, DigestError> {
        match text.strip_prefix("sha256:") {
            Some(hex) => Digest::from_hex(hex).map_err(|e| DigestError { text: text.to_owned(), why: e.why }),
            None => Err(DigestError { text: text.to_owned(), why: "it does not start with `sha256:`" }),
        }
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Computes a [`Digest`] piece by piece.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Starts an empty digest.
    pub fn new() -> Hasher {
        Hasher::default()
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest of all bytes added.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl std::io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Declares an id that is a digest but must not be exchanged with another.
macro_rules! digest_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl $name {
            /// Returns the 64 hex digits, without `sha256:`.
            pub fn hex(&self) -> String {
                self.0.hex()
            }

            /// Returns the first 12 hex digits.
            pub fn short(&self) -> String {
                self.0.short()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<$name, DigestError> {
                text.parse().map($name)
            }
        }
    };
}

digest_id! {
    /// The digest of a layer's uncompressed tar (OCI image-spec, config.md, "Layer DiffID").
    DiffId
}
digest_id! {
    /// The digest that names a stack of layers (OCI image-spec, config.md, "Layer ChainID").
    ChainId
}
digest_id! {
    /// The digest of an image's config blob: what docker calls the image id.
    ImageId
}
digest_id! {
    /// The digest of what a layer contains, times that mean "now" left out (`docs/cache-key.md`).
    LayerDigest
}
digest_id! {
    /// The digest that names a state by content: H(parent's chain digest, layer's content digest).
    ChainDigest
}
digest_id! {
    /// The digest of what a vertex does, without its inputs (`docs/cache-key.md`).
    OpDigest
}
digest_id! {
    /// The digest of an operation and the content of its inputs: what a cache record is found by.
    CacheKey
}
digest_id! {
    /// The digest of the files a COPY, ADD or bind mount selects.
    SelectionDigest
}

impl ChainId {
    /// Returns the chain id of `layers`, lowest first; `None` for no layer.
    pub fn of(layers: &[DiffId]) -> Option<ChainId> {
        let (first, rest) = layers.split_first()?;
        Some(
            rest.iter().fold(ChainId(first.0), |chain, layer| {
                ChainId(Digest::of(format!("{} {}", chain.0, layer.0)))
            }),
        )
    }
}

impl ChainDigest {
    /// Returns the digest of the empty state (`FROM scratch`).
    pub fn scratch() -> ChainDigest {
        ChainDigest(Digest::of("rbuild chain v1: scratch"))
    }

    /// Returns the digest of this state with one more layer on it.
    pub fn with(&self, layer: &LayerDigest) -> ChainDigest {
        let mut hasher = Hasher::new();
        hasher.update(b"rbuild chain v1: layer");
        hasher.update(self.0.as_bytes());
        hasher.update(layer.0.as_bytes());
        ChainDigest(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_it_prints_and_nothing_else() {
        let digest = Digest::of("abc");
        assert_eq!(
            digest.to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(digest.short(), "ba7816bf8f01");
        for bad in ["", "sha256:", "sha512:aa", "sha256:BA7816BF", "ba7816bf", "sha256:../../etc"] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
        assert!(format!("sha256:{}", "G".repeat(64)).parse::<Digest>().is_err());
    }

    #[test]
    fn chain_id_follows_the_image_spec() {
        let a = DiffId(Digest::of("a"));
        let b = DiffId(Digest::of("b"));
        assert_eq!(ChainId::of(&[]), None);
        assert_eq!(ChainId::of(&[a]), Some(ChainId(a.0)));
        assert_eq!(ChainId::of(&[a, b]), Some(ChainId(Digest::of(format!("{} {}", a.0, b.0)))));
    }
}
