//! `--name[=value]` words after an instruction's keyword.
//!
//! Not here: what a flag's value means.

use crate::report::{Diagnostic, Span};

use super::ast::{Flag, Word};
use super::lines::Line;
use super::suggest;

/// How a flag may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// `--link`, `--link=true`, `--link=false`; once.
    Bool,
    /// `--chown=value`; once.
    Value,
    /// `--exclude=value`; any number of times.
    Values,
}

/// The flags an instruction knows.
pub(super) type Known = &'static [(&'static str, Takes)];

/// Splits the flags off; gives them as written (quotes intact) and the rest.
///
/// The first word that does not begin with `--` ends them, as does `--` itself.
/// Quotes and `\` group, whatever the escape directive says.
///
/// Grammar: flags
pub(super) fn split(input: &str) -> (Vec<&str>, &str) {
    let mut words = Vec::new();
    let mut rest = input.trim_start();
    while rest.starts_with("--") {
        let end = end_of_flag(rest);
        let word = &rest[..end];
        rest = rest[end..].trim_start();
        if word == "--" {
            break;
        }
        words.push(word);
    }
    (words, rest)
}

/// Returns where the flag at the start of `input` ends.
fn end_of_flag(input: &str) -> usize {
    let mut quote = None;
    let mut chars = input.char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => return at,
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (_, '\\') => {
                chars.next();
            }
            _ => {}
        }
    }
    input.len()
}

/// Removes quotes and escapes.
fn unquote(input: &str) -> String {
    let mut out = String::with_capacity(input.len());
    let mut quote = None;
    let mut chars = input.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (_, '\\') => out.extend(chars.next()),
            _ => out.push(c),
        }
    }
    out
}

/// Reads one flag.
///
/// Grammar: flag
pub(super) fn flag(word: &str, line: &Line) -> Flag {
    let plain = unquote(word.strip_prefix("--").unwrap_or(word));
    let span = line.locate(word);
    match plain.split_once('=') {
        None => Flag { name: plain, value: None, span },
        Some((name, value)) => {
            let written = word.find('=').map_or(word, |at| &word[at + 1..]);
            let value = Word { text: value.to_owned(), span: line.locate(written) };
            Flag { name: name.to_owned(), value: Some(value), span }
        }
    }
}

/// Checks flags against those an instruction knows.
pub(super) fn check(flags: &[Flag], known: Known) -> Result<(), Diagnostic> {
    let mut seen: Vec<&str> = Vec::new();
    for flag in flags {
        let Flag { name, value, span } = flag;
        let Some((_, takes)) = known.iter().find(|(known, _)| known == name) else {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            let near = suggest::did_you_mean(name, &names);
            let problem = Diagnostic::error("unknown-flag", *span, format!("unknown flag: --{name}{near}"));
            return Err(if names.is_empty() {
                problem.with_hint("this instruction has no flags")
            } else {
                problem.with_hint(format!("known here: --{}", names.join(", --")))
            });
        };
        if *takes != Takes::Values && seen.contains(&name.as_str()) {
            return Err(Diagnostic::error(
                "duplicate-flag",
                *span,
                format!("duplicate flag specified: --{name}"),
            ));
        }
        seen.push(name);
        match (takes, value) {
            (Takes::Bool, Some(value)) if !is_bool(&value.text) => {
                let message = format!("expecting boolean value for flag --{name}, not: `{}`", value.text);
                return Err(Diagnostic::error("bad-flag", *span, message)
                    .with_hint("write `true` or `false`, or leave the value out"));
            }
            (Takes::Value | Takes::Values, None) => {
                return Err(missing(name, *span));
            }
            _ => {}
        }
    }
    Ok(())
}

fn missing(name: &str, span: Span) -> Diagnostic {
    Diagnostic::error("bad-flag", span, format!("missing a value on flag: --{name}"))
        .with_hint(format!("write `--{name}=...`"))
}

/// Tells whether a boolean flag may be set to this.
fn is_bool(text: &str) -> bool {
    text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false")
}

/// Returns a flag's value; of a flag given several times, the first.
pub(super) fn value(flags: &[Flag], name: &str) -> Option<Word> {
    values(flags, name).into_iter().next()
}

/// Returns all values of a flag.
pub(super) fn values(flags: &[Flag], name: &str) -> Vec<Word> {
    flags.iter().filter(|f| f.name == name).filter_map(|f| f.value.clone()).collect()
}

/// Returns what a boolean flag was set to.
pub(super) fn boolean(flags: &[Flag], name: &str) -> Option<bool> {
    let flag = flags.iter().find(|f| f.name == name)?;
    Some(flag.value.as_ref().is_none_or(|value| value.text.eq_ignore_ascii_case("true")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits() {
        let check = |input, words: &[&str], rest| assert_eq!(split(input), (words.to_vec(), rest));
        check("a b", &[], "a b");
        check("--a=1  --b c", &["--a=1", "--b"], "c");
        check("--a='x y' --b=\\  c", &["--a='x y'", "--b=\\ "], "c");
        check("--a -- --b", &["--a"], "--b");
        check("-a --b", &[], "-a --b");
        check("--a='open b", &["--a='open b"], "");
    }

    #[test]
    fn unquotes() {
        let check = |input, expect| assert_eq!(unquote(input), expect);
        check("a=\"x y\"'z'", "a=x yz");
        check("a=\\\"x\\ y", "a=\"x y");
        check("a=\\", "a=");
    }
}
