//! What a server says of an error (distribution-spec, "Error Codes").
//!
//! Its words are shown, so they are cut and cleaned. Not here: what the client makes of them (`error`).

use serde::Deserialize;

use crate::report::clean::clean_text;

/// The most of an error's body that is read.
pub const LONGEST_BODY: u64 = 64 * 1024;

/// The most characters that are shown, and the most errors.
const LONGEST_SHOWN: usize = 400;
const MOST_SHOWN: usize = 3;

/// One error of the list a server answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// `MANIFEST_UNKNOWN` and the like.
    pub code: String,
    pub message: String,
}

#[derive(Deserialize)]
struct Body {
    errors: Vec<One>,
}

#[derive(Deserialize)]
struct One {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

/// Reads the body of an error; nothing for one that is not of the specification's form.
pub fn read(body: &[u8]) -> Vec<ServerError> {
    let Ok(body) = serde_json::from_slice::<Body>(body) else { return Vec::new() };
    let errors = body.errors.into_iter().take(MOST_SHOWN).map(|one| ServerError {
        code: show(&one.code.unwrap_or_default()),
        message: show(&one.message.unwrap_or_default()),
    });
    errors.collect()
}

/// Puts the errors in one line: `denied: requested access to the resource is denied`.
pub fn join(errors: &[ServerError]) -> String {
    let words = errors.iter().map(|error| {
        let code = error.code.to_lowercase().replace('_', " ");
        match (code.as_str(), error.message.as_str()) {
            ("", message) => message.to_owned(),
            (code, "") => code.to_owned(),
            (code, message) => format!("{code}: {message}"),
        }
    });
    words.filter(|words| !words.is_empty()).collect::<Vec<_>>().join("; ")
}

/// Makes a server's text fit to be shown: one line, without what a terminal obeys, cut.
pub fn show(text: &str) -> String {
    let cleaned = clean_text(text);
    let one_line = cleaned.split_whitespace().collect::<Vec<_>>().join(" ");
    let plain = without_colours(&one_line);
    match plain.char_indices().nth(LONGEST_SHOWN) {
        Some((end, _)) => format!("{}...", &plain[..end]),
        None => plain,
    }
}

/// Takes out what the cleaner leaves for a step's output: `ESC [ ... m`.
fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for (at, piece) in text.split('\x1b').enumerate() {
        let rest = if at == 0 { piece } else { piece.split_once('m').map_or("", |(_, rest)| rest) };
        plain.extend(rest.chars().filter(|c| !c.is_control()));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expect: &str) {
        assert_eq!(join(&read(body.as_bytes())), expect, "{body}");
    }

    #[test]
    fn reads_the_form_of_the_specification() {
        check(r#"{"errors":[{"code":"DENIED","message":"no","detail":{"a":1}}]}"#, "denied: no");
        check(r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#, "manifest unknown");
        check(r#"{"errors":[{"message":"a"},{"code":"B","message":"b"}]}"#, "a; b: b");
        check(r#"{"errors":[]}"#, "");
        check(r#"{"errors":[{"code":7}]}"#, "");
        check("<html>", "");
        check("", "");
    }

    #[test]
    fn words_are_harmless_and_short() {
        assert_eq!(show("a\x1b]0;title\x07b\nc\r\nd\u{9b}2J"), "ab c d");
        assert_eq!(show("\x1b[31mred\x1b[0m"), "red");
        assert!(show(&"é".repeat(5000)).len() < 1000);
        let many = format!(r#"{{"errors":[{}{{"code":"A"}}]}}"#, r#"{"code":"A"},"#.repeat(100));
        check(&many, "a; a; a");
    }
}
