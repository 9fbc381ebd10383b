//! Names in a registry: repositories, tags, uploads. What is one of these types is a safe path.
//!
//! Their grammars have no empty component, no `.` and no `..`, and no component of a repository starts with
//! `_`, so that what is kept of a repository lies beside those below it.

use std::fmt;
use std::str::FromStr;

use crate::image::{is_path_component, is_tag};

use super::digest::ContentDigest;

/// The longest name of a repository, in bytes, as docker's registry has it.
const LONGEST: usize = 255;

/// A repository's name (distribution-spec, "Pulling manifests").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName(String);

impl RepositoryName {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RepositoryName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<RepositoryName, &'static str> {
        if text.is_empty() || text.len() > LONGEST {
            return Err("a repository's name has 1 to 255 characters");
        }
        match text.split('/').all(is_path_component) {
            true => Ok(RepositoryName(text.to_owned())),
            false => Err(
                "the parts of a repository's name are lower-case letters and digits, joined by . _ __ or -",
            ),
        }
    }
}

/// A tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagName(String);

impl TagName {
    /// Returns the tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TagName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<TagName, &'static str> {
        match is_tag(text) {
            true => Ok(TagName(text.to_owned())),
            false => Err("a tag is 1 to 128 of A-Z a-z 0-9 _ . - and does not start with . or -"),
        }
    }
}

/// What a manifest is asked for by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestName {
    Tag(TagName),
    Digest(ContentDigest),
}

/// What an upload is known by: 128 random bits, written as a UUID.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UploadId(String);

impl UploadId {
    pub(super) fn from_bits(high: u64, low: u64) -> UploadId {
        let hex = format!("{high:016x}{low:016x}");
        // The bits that say it is a random one (RFC 9562, version 4).
        let (a, b, c, d, e) = (&hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..]);
        UploadId(format!("{a}-{b}-4{c}-a{d}-{e}"))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UploadId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<UploadId, &'static str> {
        let is_one = text.len() == 36
            && text.bytes().enumerate().all(|(at, b)| match at {
                8 | 13 | 18 | 23 => b == b'-',
                _ => b.is_ascii_digit() || (b'a'..=b'f').contains(&b),
            });
        if is_one { Ok(UploadId(text.to_owned())) } else { Err("an upload is known by a UUID") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_paths_elsewhere() {
        for good in ["a", "a/b", "a.b/c_d/e__f/g-h---i", "library/debian", "localhost/x", &"a".repeat(255)] {
            assert_eq!(good.parse::<RepositoryName>().as_ref().map(RepositoryName::as_str), Ok(good));
        }
        let long = "a".repeat(256);
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            ".",
            "..",
            "a/..",
            "../a",
            "a/../b",
            "a/./b",
            "A",
            "a b",
            "_a",
            "a/_manifests",
            "a:1",
            "a@b",
            "a%2f",
            "a\\b",
            "a\0",
            "é",
            "a..b",
            "-a",
            &long,
        ] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn uploads_have_ids_of_one_form() {
        let id = UploadId::from_bits(u64::MAX, 0x0123_4567_89ab_cdef);
        assert_eq!(id.as_str(), "ffffffff-ffff-4fff-a123-456789abcdef");
        assert_eq!(id.as_str().parse(), Ok(id));
        for bad in
            ["", "..", "../x", "ffffffff-ffff-4fff-a123-456789abcdeF", "ffffffff/ffff-4fff-a123-456789abcdef"]
        {
            assert!(bad.parse::<UploadId>().is_err(), "{bad}");
        }
    }
}
