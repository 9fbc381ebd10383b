//! Bytes to text: byte order mark, UTF-8, and what is no text at all.
//!
//! Not here: lines (`lines`).

use std::sync::Arc;

use crate::report::{Diagnostic, Span};

/// A file's text.
pub(super) struct Decoded {
    /// Without byte order mark; each bad byte sequence replaced by U+FFFD.
    pub text: Arc<str>,
    /// Where something was replaced.
    pub replaced: Vec<Span>,
}

/// Decodes UTF-8, dropping a byte order mark.
pub(super) fn decode(bytes: &[u8]) -> Decoded {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Decoded { text: Arc::from(text), replaced: Vec::new() };
    }
    let mut text = String::with_capacity(bytes.len());
    let mut replaced = Vec::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            let start = text.len();
            text.push(char::REPLACEMENT_CHARACTER);
            replaced.push(Span::new(start, text.len()));
        }
    }
    Decoded { text: Arc::from(text), replaced }
}

/// Refuses text with a NUL in it: it can reach no program and no file name.
pub(super) fn refuse(text: &str) -> Option<Diagnostic> {
    let at = text.find('\0')?;
    let problem = Diagnostic::error("nul", Span::new(at, at + 1), "the file contains a NUL byte");
    Some(problem.with_hint("a Dockerfile is text in UTF-8; this is another encoding or a binary file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_what_it_can() {
        let check = |bytes: &[u8], text: &str, replaced: usize| {
            let decoded = decode(bytes);
            assert_eq!((&*decoded.text, decoded.replaced.len()), (text, replaced));
        };
        check(b"", "", 0);
        check(b"\xef\xbb\xbfFROM a", "FROM a", 0);
        check(b"\xef\xbb\xbf\xef\xbb\xbfx", "\u{feff}x", 0);
        check(b"a\xffb\xc3", "a\u{fffd}b\u{fffd}", 2);
    }

    #[test]
    fn refuses_nul() {
        assert!(refuse("FROM a").is_none());
        assert_eq!(refuse("ab\0").and_then(|d| d.span), Some(Span::new(2, 3)));
    }
}
