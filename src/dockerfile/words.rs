//! Pieces of a logical line: the keyword, words at blanks, words with quotes, JSON lists.
//!
//! All functions give slices of what they are given, so that the caller can locate
//! them. Not here: what quotes and `$` in a word mean (`expand`).

use nom::IResult;
use nom::Parser;
use nom::bytes::complete::{take_till, take_till1, take_while};
use nom::multi::many0;
use nom::sequence::terminated;

/// Tells whether a character separates words at the top of the language.
///
/// Grammar: blank
pub(super) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0b' | '\x0c' | '\r')
}

/// Splits off the first word; gives it and the rest without the blanks between.
///
/// Grammar: keyword
pub(super) fn keyword(input: &str) -> (&str, &str) {
    let parsed: IResult<&str, &str> = terminated(take_till(is_blank), take_while(is_blank)).parse(input);
    match parsed {
        Ok((rest, word)) => (word, rest.trim()),
        Err(_) => (input, ""),
    }
}

/// Splits at blanks; quotes mean nothing.
///
/// Grammar: plain_words
pub(super) fn plain_words(input: &str) -> Vec<&str> {
    let word = terminated(take_till1(is_blank), take_while(is_blank));
    let parsed: IResult<&str, Vec<&str>> = many0(word).parse(input.trim_start_matches(is_blank));
    parsed.map(|(_, words)| words).unwrap_or_default()
}

/// Splits at blanks outside of quotes; an escape character takes the one after it along.
///
/// A quote that is not closed runs to the end; an escape character at the very end is
/// dropped.
///
/// Grammar: quoted_words
pub(super) fn quoted_words(input: &str, escape: char) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = input.trim_start();
    while !rest.is_empty() {
        let (end, kept) = word_end(rest, escape);
        if kept > 0 {
            words.push(&rest[..kept]);
        }
        rest = rest[end..].trim_start();
    }
    words
}

/// Returns where the word at the start of `input` ends, and how much of it to keep.
fn word_end(input: &str, escape: char) -> (usize, usize) {
    let mut quote = None;
    let mut chars = input.char_indices();
    while let Some((at, c)) = chars.next() {
        if c == escape && quote != Some('\'') {
            if chars.next().is_none() {
                return (input.len(), at);
            }
            continue;
        }
        match quote {
            None if c.is_whitespace() => return (at, at),
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
    }
    (input.len(), input.len())
}

/// What a text that may be a JSON list is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Json<'a> {
    /// A list of strings, each with the text it was written as (quotes included).
    List(Vec<(String, &'a str)>),
    /// A list with something else in it.
    NotStrings,
    /// No JSON list.
    No,
}

/// Reads a JSON list of strings.
///
/// Grammar: json_list
pub(super) fn json_list(input: &str) -> Json<'_> {
    let input = input.trim();
    if !input.starts_with('[') {
        return Json::No;
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(input) else { return Json::No };
    let mut literals = literals(input).into_iter();
    let mut list = Vec::with_capacity(values.len());
    for value in values {
        match value {
            serde_json::Value::String(text) => list.push((text, literals.next().unwrap_or(input))),
            _ => return Json::NotStrings,
        }
    }
    Json::List(list)
}

/// Returns the string literals of a JSON text, in order.
fn literals(input: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut open = None;
    let mut chars = input.char_indices();
    while let Some((at, c)) = chars.next() {
        match (c, open) {
            ('"', None) => open = Some(at),
            ('"', Some(start)) => {
                found.push(&input[start..=at]);
                open = None;
            }
            ('\\', Some(_)) => {
                chars.next();
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_plain() {
        let check = |input, expect: &[&str]| assert_eq!(plain_words(input), expect, "{input:?}");
        check("", &[]);
        check("  a\t b \x0b", &["a", "b"]);
        check("\"a b\" 'c", &["\"a", "b\"", "'c"]);
        check("a\u{a0}b", &["a\u{a0}b"]);
    }

    #[test]
    fn splits_quoted() {
        let check = |input, expect: &[&str]| assert_eq!(quoted_words(input, '\\'), expect, "{input:?}");
        check("", &[]);
        check(" a=1  b=2 ", &["a=1", "b=2"]);
        check("a=\"x y\" 'b c'=d", &["a=\"x y\"", "'b c'=d"]);
        check("a=x\\ y b", &["a=x\\ y", "b"]);
        check("a=\"x\\\" y\" b", &["a=\"x\\\" y\"", "b"]);
        check("a='x\\' b", &["a='x\\'", "b"]);
        check("a=\"open b", &["a=\"open b"]);
        check("a=x\\", &["a=x"]);
        check("a \\", &["a"]);
        check("a=\\é b", &["a=\\é", "b"]);
        check("\"\" x", &["\"\"", "x"]);
        assert_eq!(quoted_words("a=x` y\\ b", '`'), ["a=x` y\\", "b"]);
    }

    #[test]
    fn reads_json() {
        let list = |input| match json_list(input) {
            Json::List(list) => list.into_iter().map(|(text, raw)| format!("{text}<{raw}>")).collect(),
            other => vec![format!("{other:?}")],
        };
        assert_eq!(list(r#" ["a", "b\"\u00e9"] "#), [r#"a<"a">"#, r#"b"é<"b\"\u00e9">"#]);
        assert_eq!(list("[]"), [] as [&str; 0]);
        assert_eq!(list(r#"["a", 1]"#), ["NotStrings"]);
        assert_eq!(list(r#"["a", null]"#), ["NotStrings"]);
        assert_eq!(list(r#"["a",]"#), ["No"]);
        assert_eq!(list("['a']"), ["No"]);
        assert_eq!(list(r#"["a"] && b"#), ["No"]);
        assert_eq!(list("a"), ["No"]);
        assert_eq!(list(&"[".repeat(100_000)), ["No"]);
    }
}
