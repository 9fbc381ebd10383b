//! Lines for a terminal: words in colours, of which it is known how many columns they take.
//!
//! Widths are those of Unicode's East Asian Width (UAX 11), "ambiguous" being narrow; where terminals differ
//! in emoji the larger one counts. Not here: which lines there are.

use unicode_width::UnicodeWidthChar;

use super::excerpt::printable;

/// What words look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    Plain,
    /// Of less interest.
    Dim,
    Bold,
    Good,
    Bad,
    Busy,
}

impl Ink {
    /// Returns the parameters of the control that chooses it (ECMA-48, 8.3.117).
    fn code(self) -> &'static str {
        match self {
            Ink::Plain => "",
            Ink::Dim => "2",
            Ink::Bold => "1",
            Ink::Good => "32",
            Ink::Bad => "31",
            Ink::Busy => "36",
        }
    }
}

/// A line of words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    words: Vec<(Ink, String)>,
}

impl Line {
    /// Makes an empty line.
    pub fn new() -> Line {
        Line::default()
    }

    /// Adds words; what would control a terminal is drawn as a picture.
    pub fn with(mut self, ink: Ink, text: &str) -> Line {
        if !text.is_empty() {
            self.words.push((ink, printable(text)));
        }
        self
    }

    /// Returns how many columns it takes.
    pub fn width(&self) -> usize {
        self.words.iter().map(|(_, text)| columns(text)).sum()
    }

    /// Returns how many rows of so many columns a terminal wraps it to; a wide character is never parted.
    pub fn rows(&self, columns: usize) -> usize {
        let (mut rows, mut column) = (1, 0);
        for width in self.words.iter().flat_map(|(_, text)| text.chars()).map(char_width) {
            if column + width > columns {
                (rows, column) = (rows + 1, 0);
            }
            column += width;
        }
        rows
    }

    /// Cuts it to so many columns; where something is cut off, `more` is its last character.
    pub fn cut(mut self, width: usize, more: char) -> Line {
        if self.width() <= width {
            return self;
        }
        let mut left = width.saturating_sub(char_width(more));
        for (_, text) in &mut self.words {
            let end = fitting(text, left);
            left -= columns(&text[..end]);
            if end < text.len() {
                text.truncate(end);
                left = 0;
            }
        }
        let last = self.words.iter().rposition(|(_, text)| !text.is_empty()).unwrap_or(0);
        if let Some((_, text)) = self.words.get_mut(last) {
            text.push(more);
        }
        self
    }

    /// Puts `right` at the end of a line of so many columns; this line gives way.
    pub fn with_right(self, right: Line, width: usize, more: char) -> Line {
        let space = width.saturating_sub(right.width() + 1);
        let mut line = self.cut(space, more);
        let gap = width.saturating_sub(line.width() + right.width());
        line.words.push((Ink::Plain, " ".repeat(gap.max(1))));
        line.words.extend(right.words);
        line.cut(width, more)
    }

    /// Returns its text.
    pub fn text(&self) -> String {
        self.words.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// Returns its text with controls for colours, which are off again at its end.
    pub fn painted(&self) -> String {
        let mut out = String::new();
        for (ink, text) in &self.words {
            match ink.code() {
                "" => out.push_str(text),
                code => out.push_str(&format!("\x1b[{code}m{text}\x1b[0m")),
            }
        }
        out
    }
}

/// Returns how many columns a text takes.
pub fn columns(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// Returns how many bytes of a text take at most so many columns; what combines with a character stays
/// with it.
fn fitting(text: &str, width: usize) -> usize {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += char_width(c);
        if used > width {
            return at;
        }
    }
    text.len()
}

fn char_width(c: char) -> usize {
    match c {
        // It asks for the picture of the character before it, which often takes one column more.
        '\u{fe0f}' => 1,
        // Some terminals show it as a space.
        '\u{ad}' => 1,
        c => c.width().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn columns_are_those_of_a_terminal() {
        let check = |text: &str, expect: usize| assert_eq!(columns(text), expect, "{text:?}");
        check("", 0);
        check("abc", 3);
        check("\u{fc}\u{436}\u{3b1}", 3);
        check("u\u{308}", 1);
        check("\u{4f60}\u{597d}", 4);
        check("\u{1f600}", 2);
        check("\u{ff21}", 2);
        check("a\u{200b}b", 2);
        // One or two, as the terminal likes: two.
        check("\u{2764}\u{fe0f}", 2);
    }

    #[test]
    fn lines_are_cut_between_characters() {
        let check = |text: &str, width: usize, expect: &str| {
            assert_eq!(Line::new().with(Ink::Plain, text).cut(width, '~').text(), expect);
        };
        check("abc", 3, "abc");
        check("abcd", 3, "ab~");
        check("\u{4f60}\u{597d}", 4, "\u{4f60}\u{597d}");
        check("\u{4f60}\u{597d}", 3, "\u{4f60}~");
        check("\u{4f60}\u{597d}", 2, "~");
        check("ae\u{301}bc", 3, "ae\u{301}~");
        check("abc", 0, "~");
    }

    #[test]
    fn lines_wrap_between_characters() {
        let check = |text: &str, columns: usize, expect: usize| {
            assert_eq!(Line::new().with(Ink::Plain, text).rows(columns), expect, "{text}");
        };
        check("", 5, 1);
        check("abcde", 5, 1);
        check("abcdef", 5, 2);
        check("\u{4f60}\u{597d}\u{4f60}", 5, 2);
        check("\u{4f60}\u{597d}\u{4f60}\u{597d}\u{4f60}", 5, 3);
    }

    #[test]
    fn the_right_end_stays() {
        let line = |text: &str, width| {
            let right = Line::new().with(Ink::Plain, "1.5s");
            Line::new().with(Ink::Plain, text).with_right(right, width, '~').text()
        };
        assert_eq!(line("RUN x", 12), "RUN x   1.5s");
        assert_eq!(line("RUN make all", 12), "RUN ma~ 1.5s");
    }

    #[test]
    fn colours_end_where_they_should() {
        let line = Line::new().with(Ink::Bad, "x\x1b[2J").with(Ink::Plain, " y");
        assert_eq!(line.painted(), "\x1b[31mx\u{241b}[2J\x1b[0m y");
    }

    proptest! {
        #[test]
        fn no_line_is_too_long(left in "\\PC{0,40}", right in "[a-z]{0,8}", width in 1usize..60) {
            let right = Line::new().with(Ink::Dim, &right);
            let line = Line::new().with(Ink::Bold, &left).with(Ink::Plain, &left);
            prop_assert!(line.clone().cut(width, '~').width() <= width);
            prop_assert!(line.with_right(right, width, '~').width() <= width.max(1));
        }
    }
}
