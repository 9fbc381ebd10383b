//! Digests as registries take them: SHA-256 and SHA-512, found by their name.
//!
//! The engine's own [`Digest`] is SHA-256 alone; what clients push may be named by either (image-spec,
//! descriptor.md, "Registered algorithms"). An algorithm that nobody checks is refused.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha512};

use crate::image::Digest;

/// A digest of an algorithm that is checked here.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentDigest {
    algorithm: Algorithm,
    hex: String,
}

/// The algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

/// Both, in the order of their names.
pub(super) const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

impl Algorithm {
    /// Returns the name before the colon; also the folder's name.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    fn digits(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

impl ContentDigest {
    /// Returns the algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the lower-case hex digits.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// Makes one of an algorithm and its hex digits; `None` where they are not of that algorithm.
    pub fn from_hex(algorithm: Algorithm, hex: &str) -> Option<ContentDigest> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (hex.len() == algorithm.digits() && hex.bytes().all(digit))
            .then(|| ContentDigest { algorithm, hex: hex.to_owned() })
    }

    /// Digests bytes in memory.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> ContentDigest {
        let mut hasher = ContentHasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }
}

impl From<Digest> for ContentDigest {
    fn from(digest: Digest) -> ContentDigest {
        ContentDigest { algorithm: Algorithm::Sha256, hex: digest.hex() }
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ContentDigest {
    type Err = String;

    fn from_str(text: &str) -> Result<ContentDigest, String> {
        let Some((name, hex)) = text.split_once(':') else {
            return Err("a digest is ALGORITHM:HEX".to_owned());
        };
        let Some(algorithm) = ALGORITHMS.into_iter().find(|known| known.name() == name) else {
            return Err("the algorithms are sha256 and sha512".to_owned());
        };
        ContentDigest::from_hex(algorithm, hex)
            .ok_or_else(|| format!("{name} has {} lower-case hex digits", algorithm.digits()))
    }
}

impl Serialize for ContentDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContentDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ContentDigest, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Computes a [`ContentDigest`] piece by piece.
#[derive(Clone)]
pub enum ContentHasher {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl ContentHasher {
    /// Starts an empty digest.
    pub fn new(algorithm: Algorithm) -> ContentHasher {
        match algorithm {
            Algorithm::Sha256 => ContentHasher::Sha256(Sha256::new()),
            Algorithm::Sha512 => ContentHasher::Sha512(Box::default()),
        }
    }

    /// Returns what it computes.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            ContentHasher::Sha256(_) => Algorithm::Sha256,
            ContentHasher::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            ContentHasher::Sha256(hasher) => hasher.update(bytes),
            ContentHasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// Returns the digest of all bytes added.
    pub fn finish(self) -> ContentDigest {
        let algorithm = self.algorithm();
        let hex = match self {
            ContentHasher::Sha256(hasher) => hex_of(&hasher.finalize()),
            ContentHasher::Sha512(hasher) => hex_of(&hasher.finalize()),
        };
        ContentDigest { algorithm, hex }
    }
}

impl fmt::Debug for ContentHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentHasher({})", self.algorithm().name())
    }
}

fn hex_of(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).expect("a nibble");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_algorithms_are_those_of_the_test_vectors() {
        let sha256 = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let sha512 = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                      2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        assert_eq!(ContentDigest::of(Algorithm::Sha256, b"abc").to_string(), sha256);
        assert_eq!(ContentDigest::of(Algorithm::Sha512, b"abc").to_string(), sha512);
        assert_eq!(sha256.parse(), Ok(ContentDigest::of(Algorithm::Sha256, b"abc")));
        assert_eq!(sha512.parse(), Ok(ContentDigest::of(Algorithm::Sha512, b"abc")));
        assert_eq!(ContentDigest::from(Digest::of("abc")).to_string(), sha256);
    }

    #[test]
    fn others_are_refused() {
        let long = "a".repeat(64);
        for bad in [
            String::new(),
            "sha256".into(),
            "sha256:".into(),
            format!("sha384:{long}"),
            format!("SHA256:{long}"),
            format!("sha256:{}", long.to_uppercase()),
            format!("sha512:{long}"),
            "sha256:../../../../etc/passwd".into(),
            format!("md5:{}", &long[..32]),
            format!("sha256+b64:{long}"),
        ] {
            assert!(bad.parse::<ContentDigest>().is_err(), "{bad}");
        }
    }
}
