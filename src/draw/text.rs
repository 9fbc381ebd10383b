//! Text from outside made harmless for HTML and XML, and made to fit.
//!
//! One rule for element content and quoted attributes of both: what markup is made of becomes entities, and
//! what XML does not know (XML 1.0, 2.2 Characters) becomes U+FFFD.

use std::borrow::Cow;

use crate::report::clean::{clean_text, without_codes};

/// Makes a text mean nothing but itself, in content and in attributes that are quoted.
pub fn escape(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| !matches!(c, '&' | '<' | '>' | '"' | '\'') && is_character(c);
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if is_character(c) => out.push(c),
            _ => out.push('\u{fffd}'),
        }
    }
    Cow::Owned(out)
}

/// Makes output of a program text: without what a terminal would obey, colours included, and without the
/// error numbers that Rust puts behind the words of the C library.
pub fn plain(text: &str) -> String {
    let cleaned = without_codes(&clean_text(text));
    let mut out = String::with_capacity(cleaned.len());
    let mut rest = cleaned.as_str();
    // What is left of escape sequences are colours: ESC [ ... m.
    while let Some(at) = rest.find('\u{1b}') {
        out.push_str(&rest[..at]);
        let colour = &rest[at..];
        rest = colour.find('m').map_or("", |end| &colour[end + 1..]);
    }
    out.push_str(rest);
    out
}

/// Tells whether a character may stand in XML and shows as text: line ends and tabs are the controls that may.
fn is_character(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => true,
        // Controls, and those that turn the direction of what follows.
        c if c.is_control() => false,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => false,
        '\u{fffe}' | '\u{ffff}' => false,
        _ => true,
    }
}

/// Cuts a text to so many columns of a font of fixed width, on one line, of several spaces one.
pub fn fit(text: &str, columns: usize) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let total: usize = text.chars().map(width).sum();
    if total <= columns {
        return text;
    }
    let mut out = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += width(c);
        if used > columns {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

/// Returns how many columns a character takes, near enough for a drawing: East Asian ones and emoji take two.
fn width(c: char) -> usize {
    match c as u32 {
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f => 2,
        0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd => 2,
        0x0300..=0x036f | 0x200b..=0x200f => 0,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_means_nothing() {
        let check = |text: &str, expect: &str| assert_eq!(escape(text), expect);
        check("RUN make", "RUN make");
        check("<script>alert('x')</script>", "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;");
        check("\" onload=\"x&amp;", "&quot; onload=&quot;x&amp;amp;");
        check("a\x00b\x1b[2Jc\u{85}d\u{202e}e\u{ffff}", "a\u{fffd}b\u{fffd}[2Jc\u{fffd}d\u{fffd}e\u{fffd}");
        check("tab\tline\n", "tab\tline\n");
        check("日本 é", "日本 é");
    }

    #[test]
    fn output_becomes_text() {
        let check = |text: &str, expect: &str| assert_eq!(plain(text), expect);
        check("\x1b[31mred\x1b[0m \x1b]0;title\x07end\n", "red end\n");
        check("\x1b[1;32mgreen", "green");
        check("m\x1b", "m");
        check("no (os error 2)", "no");
    }

    #[test]
    fn long_text_is_cut() {
        let check = |text: &str, columns: usize, expect: &str| assert_eq!(fit(text, columns), expect);
        check("abc", 3, "abc");
        check("abcd", 3, "ab…");
        check("a\nb", 3, "a b");
        check("日本語", 6, "日本語");
        check("日本語", 5, "日本…");
        check("", 0, "");
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_opens_markup_is_left(text in "\\PC*|[<>&\"'\\x00-\\x1f]*") {
            let escaped = escape(&text);
            proptest::prop_assert!(!escaped.contains(['<', '>', '"', '\'']));
        }
    }
}
