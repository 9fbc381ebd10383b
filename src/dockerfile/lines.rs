//! Physical lines to logical ones: continuations joined, comments in them removed,
//! and for every byte of the joined text where it came from.
//!
//! Not here: heredoc bodies (`heredoc` takes their lines from here, raw).

use nom::Offset;

use crate::report::Span;

/// A line of the file as it stands there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Physical<'a> {
    /// Without line end (`\n`, `\r\n`).
    pub text: &'a str,
    /// With line end.
    pub whole: &'a str,
    /// The offset of its first byte.
    pub start: usize,
}

/// One instruction on one line.
#[derive(Debug)]
pub(super) struct Line {
    /// The joined text, leading and trailing blanks gone.
    pub text: String,
    /// The pieces it is joined from: offset here, offset in the source; sorted by both.
    pieces: Vec<(usize, usize)>,
    /// All its physical lines, without the last line end.
    pub span: Span,
    /// The number of its first line, from 1.
    pub first: usize,
    /// Empty lines between its continuation lines.
    pub empty: Vec<Span>,
}

/// What stands at a place of the file.
#[derive(Debug)]
pub(super) enum Item<'a> {
    Blank,
    /// Without `#` and surrounding blanks.
    Comment(&'a str),
    Line(Line),
}

/// Goes through a file line by line.
#[derive(Debug, Clone)]
pub(super) struct Lines<'a> {
    source: &'a str,
    position: usize,
    number: usize,
}

impl<'a> Lines<'a> {
    /// Starts at the line that begins at `position`.
    pub fn new(source: &'a str, position: usize) -> Lines<'a> {
        let number = source.as_bytes()[..position].iter().filter(|&&b| b == b'\n').count();
        Lines { source, position, number }
    }

    /// Returns the number (from 1) of the line read last; 0 before the first.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Takes the next physical line.
    pub fn next_physical(&mut self) -> Option<Physical<'a>> {
        let rest = &self.source[self.position..];
        if rest.is_empty() {
            return None;
        }
        let length = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let whole = &rest[..length];
        let start = self.position;
        self.position += length;
        self.number += 1;
        Some(Physical { text: whole.trim_end_matches(['\n', '\r']), whole, start })
    }

    /// Takes the next blank line, comment, or instruction with its continuation lines.
    ///
    /// Grammar: line
    pub fn next_item(&mut self, escape: char) -> Option<Item<'a>> {
        let physical = self.next_physical()?;
        let trimmed = physical.text.trim_start();
        if let Some(comment) = trimmed.strip_prefix('#') {
            return Some(Item::Comment(comment.trim()));
        }
        if trimmed.is_empty() {
            return Some(Item::Blank);
        }
        let start = physical.start + physical.text.offset(trimmed);
        let mut line = Line {
            text: String::new(),
            pieces: Vec::new(),
            span: Span::new(start, physical.start + physical.text.trim_end().len()),
            first: self.number,
            empty: Vec::new(),
        };
        let mut more = line.push(trimmed, start, escape);
        while more {
            let Some(physical) = self.next_physical() else { break };
            let trimmed = physical.text.trim_start();
            if trimmed.starts_with('#') {
                continue;
            }
            if trimmed.is_empty() {
                line.empty.push(Span::new(physical.start, physical.start + physical.text.len()));
                continue;
            }
            line.span.end = physical.start + physical.text.trim_end().len();
            more = line.push(physical.text, physical.start, escape);
        }
        line.trim();
        Some(if line.text.is_empty() { Item::Blank } else { Item::Line(line) })
    }
}

impl Line {
    /// Adds a physical line's text; tells whether another one continues it.
    fn push(&mut self, text: &str, start: usize, escape: char) -> bool {
        let kept = continued(text, escape);
        self.pieces.push((self.text.len(), start));
        self.text.push_str(kept.unwrap_or(text));
        kept.is_some()
    }

    /// Removes blanks at both ends.
    fn trim(&mut self) {
        self.text.truncate(self.text.trim_end().len());
        let lead = self.text.len() - self.text.trim_start().len();
        if lead > 0 {
            self.text.drain(..lead);
            let first = self.pieces.partition_point(|&(joined, _)| joined <= lead) - 1;
            self.pieces.drain(..first);
            for (joined, source) in &mut self.pieces {
                *source += lead.saturating_sub(*joined);
                *joined = joined.saturating_sub(lead);
            }
        }
    }

    /// Returns where a byte of the text stands in the source.
    fn source_offset(&self, at: usize) -> usize {
        let piece = self.pieces.partition_point(|&(joined, _)| joined <= at).max(1) - 1;
        let (joined, source) = self.pieces[piece];
        source + (at - joined)
    }

    /// Returns where a part of [`Line::text`] stands in the source. `part` must be a
    /// slice of it; an empty part gives an empty span.
    pub fn locate(&self, part: &str) -> Span {
        let start = self.text.offset(part);
        let end = start + part.len();
        let from = self.source_offset(start);
        // The last byte's place plus one: the byte after it may stand on another line.
        let to = if part.is_empty() { from } else { self.source_offset(end - 1) + 1 };
        Span::new(from, to)
    }
}

/// Returns the text before the escape character when a line is continued.
///
/// The escape character must be the last one but for blanks, and not be escaped itself.
///
/// Grammar: continuation
fn continued(text: &str, escape: char) -> Option<&str> {
    let kept = text.trim_end_matches([' ', '\t', '\r']).strip_suffix(escape)?;
    if kept.ends_with(escape) { None } else { Some(kept) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continues() {
        let check = |text, expect| assert_eq!(continued(text, '\\'), expect, "{text:?}");
        check("RUN a \\", Some("RUN a "));
        check("RUN a \\ \t", Some("RUN a "));
        check("\\", Some(""));
        check("RUN a \\\\", None);
        check("RUN a", None);
        check("", None);
    }

    #[test]
    fn joins_and_keeps_offsets() {
        let source = "\n  RUN a \\\r\n# no\r\n\r\n  b \\\r\n c\r\nX";
        let mut lines = Lines::new(source, 0);
        assert!(matches!(lines.next_item('\\'), Some(Item::Blank)));
        let Some(Item::Line(line)) = lines.next_item('\\') else { panic!("no line") };
        assert_eq!(line.text, "RUN a   b  c");
        assert_eq!((line.first, lines.number(), line.empty.len()), (2, 6, 1));
        for word in line.text.split_whitespace() {
            assert_eq!(&source[line.locate(word).range(source.len())], word);
        }
        assert_eq!(&source[line.span.range(source.len())], source[3..].strip_suffix("\r\nX").unwrap());
    }

    #[test]
    fn leading_continuation_is_no_text() {
        let source = "\\\n  FROM a";
        let Some(Item::Line(line)) = Lines::new(source, 0).next_item('\\') else { panic!("no line") };
        assert_eq!(line.text, "FROM a");
        assert_eq!(line.locate(&line.text), Span::new(4, 10));
        assert!(matches!(Lines::new("\\\n\\\n", 0).next_item('\\'), Some(Item::Blank)));
    }
}
