//! Breaks text into lines of a width, at blanks. Not here: how wide a terminal is (`ui`).

use unicode_width::UnicodeWidthStr;

/// Breaks a text; a word that is wider than a line has one to itself. `None` is no limit.
pub fn wrap(text: &str, width: Option<usize>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.lines() {
        let Some(width) = width else {
            lines.push(paragraph.to_owned());
            continue;
        };
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && line.width() + 1 + word.width() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_blanks() {
        let check = |text: &str, width, expect: &[&str]| assert_eq!(wrap(text, width), expect, "{text}");
        check("one two three", Some(7), &["one two", "three"]);
        check("one two three", None, &["one two three"]);
        check("incomprehensibilities a", Some(5), &["incomprehensibilities", "a"]);
        check("日本 語", Some(6), &["日本", "語"]);
        check("", Some(5), &[]);
    }
}
