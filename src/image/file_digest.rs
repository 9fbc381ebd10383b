//! BLAKE3 digests: what the bytes of regular files are known by, in keys and between builds.
//!
//! Names that others read too (DiffIDs, blobs, manifests) and the keys themselves are SHA-256 (`digest`);
//! why not here: `docs/decisions/017-file-contents-are-known-by-blake3.md`. Not here: reading files (`context`,
//! `layer`).

use std::fmt;
use std::str::FromStr;

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use serde::{Deserialize, Serialize};

use super::digest::{hex_of, parse_hex};

/// The BLAKE3 digest of a regular file's bytes, written `blake3:<64 lower-case hex>`.
///
/// Another type than [`Digest`](super::Digest), so that neither is taken for the other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileDigest([u8; 32]);

/// Says why a text is not the digest of a file.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not the digest of a file: {why}")]
pub struct FileDigestError {
    /// The text as it was given.
    pub text: String,
    why: &'static str,
}

impl FileDigest {
    /// Digests bytes held in memory.
    pub fn of(bytes: impl AsRef<[u8]>) -> FileDigest {
        FileDigest(blake3::hash(bytes.as_ref()).into())
    }

    /// Wraps raw bytes that are known to be a BLAKE3 digest.
    pub fn from_bytes(bytes: [u8; 32]) -> FileDigest {
        FileDigest(bytes)
    }

    /// Returns the 32 raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the digest of a file from those of its pieces, in their order.
    ///
    /// Every piece but the last is [`PIECE`] bytes long, the last at least one; there are two or more.
    pub fn of_pieces(pieces: &[PieceDigest]) -> FileDigest {
        let (left, right) = halves(pieces);
        FileDigest(merge_subtrees_root(&chaining(left), &chaining(right), Mode::Hash).into())
    }
}

/// How long the pieces of a file are whose digests can be computed apart, in bytes.
///
/// A power of two, so that each is one subtree of BLAKE3's tree; above it, threads are worth it.
pub const PIECE: u64 = 1 << 22;

/// What one piece of a longer file contributes to the file's digest. It is no digest of the piece's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceDigest(ChainingValue);

/// Splits as BLAKE3 does: the left subtree is the largest power of two that leaves something.
fn halves(pieces: &[PieceDigest]) -> (&[PieceDigest], &[PieceDigest]) {
    assert!(pieces.len() > 1, "one piece is a file of its own");
    let highest = usize::BITS - 1 - (pieces.len() - 1).leading_zeros();
    pieces.split_at(1 << highest)
}

fn chaining(pieces: &[PieceDigest]) -> ChainingValue {
    match pieces {
        [one] => one.0,
        several => {
            let (left, right) = halves(several);
            merge_subtrees_non_root(&chaining(left), &chaining(right), Mode::Hash)
        }
    }
}

/// Computes a [`FileDigest`], or what a piece adds to one, bit by bit.
#[derive(Debug, Clone, Default)]
pub struct FileHasher(blake3::Hasher);

impl FileHasher {
    /// Starts an empty digest.
    pub fn new() -> FileHasher {
        FileHasher::default()
    }

    /// Starts the piece of this number, from 0, of a longer file.
    pub fn of_piece(number: u64) -> FileHasher {
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(number * PIECE);
        FileHasher(hasher)
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest of all bytes added, and starts again.
    pub fn finish(&mut self) -> FileDigest {
        let digest = FileDigest(self.0.finalize().into());
        self.0.reset();
        digest
    }

    /// Returns what a piece adds to its file's digest.
    pub fn finish_piece(self) -> PieceDigest {
        PieceDigest(self.0.finalize_non_root())
    }
}

impl fmt::Display for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blake3:{}", hex_of(&self.0))
    }
}

impl fmt::Debug for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for FileDigest {
    type Err = FileDigestError;

    fn from_str(text: &str) -> Result<FileDigest, FileDigestError> {
        let parsed = match text.strip_prefix("blake3:") {
            Some(hex) => parse_hex(hex),
            None => Err("it does not start with `blake3:`"),
        };
        parsed.map(FileDigest).map_err(|why| FileDigestError { text: text.to_owned(), why })
    }
}

impl Serialize for FileDigest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FileDigest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<FileDigest, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_it_prints_and_nothing_else() {
        let digest = FileDigest::of("abc");
        // The first vectors of the BLAKE3 paper's own implementation: b3sum of "abc" and of nothing.
        assert_eq!(
            digest.to_string(),
            "blake3:6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
        );
        assert_eq!(
            FileDigest::of("").to_string(),
            "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for bad in ["", "blake3:", "blake3:aa", &format!("sha256:{}", "0".repeat(64)), &"0".repeat(64)] {
            bad.parse::<FileDigest>().unwrap_err();
        }
    }

    #[test]
    fn a_hasher_starts_again() {
        let mut hasher = FileHasher::new();
        for text in ["abc", "", "abd"] {
            hasher.update(text.as_bytes());
            assert_eq!(hasher.finish(), FileDigest::of(text));
        }
    }

    #[test]
    fn pieces_make_the_digest_of_the_whole() {
        let piece = PIECE as usize;
        let bytes: Vec<u8> = (0..6 * piece).map(|i| (i * 31 % 251) as u8).collect();
        for length in [piece + 1, 2 * piece - 1, 2 * piece, 3 * piece, 3 * piece + 7, 5 * piece + 1024] {
            let pieces: Vec<PieceDigest> = bytes[..length]
                .chunks(piece)
                .enumerate()
                .map(|(number, bytes)| {
                    let mut hasher = FileHasher::of_piece(number as u64);
                    hasher.update(bytes);
                    hasher.finish_piece()
                })
                .collect();
            assert_eq!(FileDigest::of_pieces(&pieces), FileDigest::of(&bytes[..length]), "{length}");
        }
    }
}
