//! What the JSON of several commands has in common: places in a Dockerfile as BuildKit
//! writes them, and bytes in base64.

use serde::Serialize;

use crate::report::Span;

/// Where the lines of a text begin: places of many spans at little cost.
#[derive(Debug)]
pub struct Lines<'a> {
    pub text: &'a str,
    starts: Vec<usize>,
}

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// In characters, from 0.
    pub column: usize,
}

impl<'a> Lines<'a> {
    /// Finds the lines of a text.
    pub fn new(text: &'a str) -> Lines<'a> {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Lines { text, starts }
    }

    /// Returns the number of lines; what a last line end is followed by is none.
    pub fn count(&self) -> usize {
        self.starts.len() - usize::from(self.text.ends_with('\n') && self.starts.len() > 1)
    }

    /// Returns a line, from 1, without its end.
    pub fn line(&self, number: usize) -> &'a str {
        let start = self.starts.get(number.wrapping_sub(1)).copied().unwrap_or(self.text.len());
        let end = self.starts.get(number).copied().unwrap_or(self.text.len());
        self.text.get(start..end).unwrap_or_default().trim_end_matches(['\n', '\r'])
    }

    /// Returns the place of a byte.
    pub fn place(&self, at: usize) -> Place {
        let at = at.min(self.text.len());
        let line = self.starts.partition_point(|&start| start <= at);
        let start = self.starts[line - 1];
        Place { line, column: self.text.get(start..at).map_or(0, |part| part.chars().count()) }
    }

    /// Returns the first place of a span, and the one after its last character.
    pub fn places(&self, span: Span) -> (Place, Place) {
        let start = self.place(span.start);
        // A line end at its end belongs to the line it ends.
        let text = self.text.get(span.range(self.text.len())).unwrap_or_default();
        let end = self.place(span.start + text.trim_end_matches('\n').len());
        (start, end)
    }
}

/// `Location` of BuildKit's results.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Location {
    pub source_index: usize,
    pub ranges: Vec<Range>,
}

/// `Range` of BuildKit's results.
#[derive(Debug, Clone, Serialize)]
pub struct Range {
    pub start: Position,
    pub end: Position,
}

/// `Position` of BuildKit's results.
#[derive(Debug, Clone, Serialize)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// In characters, from 0; left out at 0, as BuildKit does.
    #[serde(skip_serializing_if = "is_zero")]
    pub character: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Location {
    /// Makes the location of a span.
    pub fn of(lines: &Lines<'_>, span: Span) -> Location {
        let (start, end) = lines.places(span);
        let position = |place: Place| Position { line: place.line, character: place.column };
        Location { source_index: 0, ranges: vec![Range { start: position(start), end: position(end) }] }
    }
}

/// Returns bytes in base64, as JSON of Go programs has them.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            out.push(if digit <= chunk.len() as u32 { char::from(DIGITS[index as usize]) } else { '=' });
        }
    }
    out
}

/// Writes a value over several lines, with a line end.
pub fn pretty(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes() {
        for (bytes, expect) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("FROM a\n", "RlJPTSBhCg=="),
        ] {
            assert_eq!(base64(bytes.as_bytes()), expect);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0x00]), "//4A");
    }

    #[test]
    fn finds_places() {
        let lines = Lines::new("ab\né c\n");
        let place = |line, column| Place { line, column };
        assert_eq!(lines.place(0), place(1, 0));
        assert_eq!(lines.place(2), place(1, 2));
        assert_eq!(lines.place(3), place(2, 0));
        assert_eq!(lines.place(6), place(2, 2));
        assert_eq!(lines.place(99), place(3, 0));
        assert_eq!(lines.places(Span::new(0, 3)), (place(1, 0), place(1, 2)));
        assert_eq!((lines.line(1), lines.line(2), lines.line(3), lines.line(0)), ("ab", "é c", "", ""));
        assert_eq!((lines.count(), Lines::new("").count(), Lines::new("a").count()), (2, 1, 1));
    }
}
