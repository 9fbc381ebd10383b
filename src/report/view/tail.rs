//! The end of a step's output: kept within bounds, shown as lines without controls.
//!
//! The whole output is in the build's log. Not here: drawing.

use std::collections::VecDeque;

use super::super::clean::Cleaner;

/// The most output kept of a step.
const KEPT_BYTES: usize = 1 << 20;
/// Pieces smaller than this are put together.
const PIECE_BYTES: usize = 4 << 10;
/// So much of the end is looked at for the last lines, which are drawn many times a second.
const LOOKED_AT: usize = 8 << 10;

/// Output as it came; the oldest makes room.
#[derive(Debug, Clone, Default)]
pub struct Tail {
    pieces: VecDeque<Vec<u8>>,
    bytes: usize,
    /// How many lines made room.
    dropped: usize,
}

impl Tail {
    /// Adds a piece; quick, as a step's output passes through here.
    pub fn push(&mut self, piece: Vec<u8>) {
        self.bytes += piece.len();
        match self.pieces.back_mut() {
            Some(last) if last.len() + piece.len() <= PIECE_BYTES => last.extend_from_slice(&piece),
            _ => self.pieces.push_back(piece),
        }
        while self.bytes > KEPT_BYTES && self.pieces.len() > 1 {
            if let Some(oldest) = self.pieces.pop_front() {
                self.bytes -= oldest.len();
                self.dropped += oldest.iter().filter(|&&byte| byte == b'\n').count();
            }
        }
    }

    /// Returns the last lines, at most so many, without controls and colours.
    pub fn last_lines(&self, most: usize) -> Vec<String> {
        let mut pieces = Vec::new();
        let mut bytes = 0;
        for piece in self.pieces.iter().rev().take_while(|_| most > 0) {
            let part = &piece[piece.len().saturating_sub(LOOKED_AT - bytes)..];
            pieces.push(part);
            bytes += part.len();
            if bytes >= LOOKED_AT {
                break;
            }
        }
        let whole: Vec<u8> = pieces.into_iter().rev().flatten().copied().collect();
        let start = match bytes >= LOOKED_AT {
            // Begun within a line, unless all of it is one.
            true => whole.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1),
            false => 0,
        };
        let cleaned = Cleaner::default().clean(&whole[start..]);
        let text = String::from_utf8_lossy(&cleaned);
        let lines = text.lines().map(one_line).filter(|line| !line.trim().is_empty());
        let mut lines: Vec<String> = lines.collect();
        lines.split_off(lines.len().saturating_sub(most))
    }

    /// Returns all that is kept, whole lines, without what a terminal would obey but colours, and the
    /// number of lines that are not.
    pub fn all(&self) -> (String, usize) {
        let mut whole: Vec<u8> = self.pieces.iter().flatten().copied().collect();
        let mut dropped = self.dropped;
        if dropped > 0 {
            let end = whole.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            whole.drain(..end);
            dropped += usize::from(end > 0);
        }
        (String::from_utf8_lossy(&Cleaner::default().clean(&whole)).into_owned(), dropped)
    }
}

/// Returns what a line looks like in the end: what stands behind its last return, tabs as spaces, no colours.
fn one_line(line: &str) -> String {
    let line = line.trim_end_matches('\r');
    let line = line.rsplit('\r').next().unwrap_or_default();
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            // The cleaner left nothing but colours.
            '\x1b' => {
                chars.by_ref().find(|c| *c == 'm');
            }
            '\t' => {
                let column = super::super::line::columns(&out);
                out.extend(std::iter::repeat_n(' ', 8 - column % 8));
            }
            c => out.push(c),
        }
    }
    out
}

/// Takes the colours out of cleaned text.
pub fn without_colours(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => {
                chars.by_ref().find(|c| *c == 'm');
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(pieces: &[&[u8]], most: usize) -> Vec<String> {
        let mut tail = Tail::default();
        pieces.iter().for_each(|piece| tail.push(piece.to_vec()));
        tail.last_lines(most)
    }

    #[test]
    fn the_last_lines_are_shown_as_they_look_in_the_end() {
        assert_eq!(last(&[b"a\nb\n", b"c"], 2), ["b", "c"]);
        assert_eq!(last(&[b"a\n\n  \nb\n"], 3), ["a", "b"]);
        assert_eq!(last(&[b"10%\r20%\r30%"], 3), ["30%"]);
        assert_eq!(last(&[b"10%\r20%\r\r\n"], 3), ["20%"]);
        assert_eq!(last(&[b"a\tb\n\x1b[1;31mred\x1b[0m\tx"], 3), ["a       b", "red     x"]);
        assert_eq!(last(&[b"x\x1b[2J\x1b]0;ti", b"tle\x07y\x1b[10;1H"], 3), ["xy"]);
        assert!(last(&[b"a\n"], 0).is_empty());
    }

    #[test]
    fn of_much_output_the_end_is_kept() {
        let mut tail = Tail::default();
        (0..1_000_000).for_each(|n| tail.push(format!("line {n}\n").into_bytes()));
        assert!(tail.bytes <= KEPT_BYTES && tail.pieces.len() < 400);
        assert_eq!(tail.last_lines(2), ["line 999998", "line 999999"]);
        let (text, dropped) = tail.all();
        assert_eq!(text.lines().next(), Some(format!("line {dropped}").as_str()));
        assert_eq!(text.lines().count() + dropped, 1_000_000);
    }

    #[test]
    fn one_endless_line_is_no_trouble() {
        let mut tail = Tail::default();
        (0..3000).for_each(|_| tail.push(vec![b'x'; 1000]));
        assert_eq!(tail.last_lines(3).len(), 1);
        assert!(tail.last_lines(3)[0].len() <= LOOKED_AT);
    }

    #[test]
    fn colours_go() {
        assert_eq!(without_colours("a\x1b[1mb\x1b[0m"), "ab");
    }
}
