//! What a word's tree means, said as plainly as possible: no parser, no limits, and patterns
//! matched by trying every part of the value.

use std::collections::BTreeSet;

use super::word_tree::{Form, Part, PatternPart, Reading, Variable, literal};

/// The values of the variables; any other name is not set.
pub type Values = [(&'static str, String)];

/// Why a word has no meaning.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// `${v?...}`: name and message.
    Required(String, String),
    /// A value used as a pattern is none.
    BadPattern,
}

/// What a word means.
#[derive(Debug, PartialEq, Eq)]
pub struct Meaning {
    pub text: String,
    pub words: Vec<String>,
    pub unset: BTreeSet<String>,
}

/// Tells what a word means.
pub fn meaning(word: &[Part], reading: Reading, values: &Values) -> Result<Meaning, Failure> {
    let mut model = Model { reading, values, unset: BTreeSet::new() };
    let chars = model.word(word)?;
    let mut words = vec![String::new()];
    for &(c, quoted) in &chars {
        if c.is_whitespace() && !quoted {
            words.push(String::new());
        } else {
            words.last_mut().expect("there is always one").push(c);
        }
    }
    words.retain(|word| !word.is_empty());
    Ok(Meaning { text: chars.iter().map(|&(c, _)| c).collect(), words, unset: model.unset })
}

struct Model<'a> {
    reading: Reading,
    values: &'a Values,
    unset: BTreeSet<String>,
}

impl Model<'_> {
    /// The characters, each with whether it was quoted.
    fn word(&mut self, parts: &[Part]) -> Result<Vec<(char, bool)>, Failure> {
        let mut out = Vec::new();
        for part in parts {
            match part {
                Part::Plain(c) => out.push((*c, false)),
                Part::Escaped(c) => out.push((*c, true)),
                Part::Single(text) => out.extend(text.chars().map(|c| (c, true))),
                Part::Double(inner) => out.extend(self.word(inner)?.into_iter().map(|(c, _)| (c, true))),
                Part::Variable(variable) => {
                    out.extend(self.variable(variable)?.chars().map(|c| (c, false)));
                }
            }
        }
        Ok(out)
    }

    fn text(&mut self, parts: &[Part]) -> Result<String, Failure> {
        Ok(self.word(parts)?.into_iter().map(|(c, _)| c).collect())
    }

    fn value(&self, name: &str) -> Option<String> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    }

    fn value_or_note(&mut self, name: &str) -> String {
        let value = self.value(name);
        if value.is_none() {
            self.unset.insert(name.to_owned());
        }
        value.unwrap_or_default()
    }

    fn variable(&mut self, variable: &Variable) -> Result<String, Failure> {
        let name = variable.name;
        match &variable.form {
            Form::Bare | Form::Braced => Ok(self.value_or_note(name)),
            Form::Condition { operator, colon, word } => {
                let value = self.value(name);
                let unset = value.is_none();
                let missing = unset || *colon && value.as_deref() == Some("");
                match (operator, missing) {
                    ('-', true) | ('+', false) => self.text(word),
                    ('+', true) => Ok(String::new()),
                    ('?', true) => {
                        let mut message = self.text(word)?;
                        if message.is_empty() {
                            let what = if unset { "unset" } else { "empty" };
                            message = format!("is not allowed to be {what}");
                        }
                        Err(Failure::Required(name.to_owned(), message))
                    }
                    _ => Ok(value.unwrap_or_default()),
                }
            }
            Form::Trim { suffix, longest, pattern } => {
                let pattern = self.pattern(pattern)?;
                let value: Vec<char> = self.value_or_note(name).chars().collect();
                let pattern = tokens(&pattern, self.reading.escape).ok_or(Failure::BadPattern)?;
                // Shortest first: of what is cut off, a suffix starts late when it is short.
                let mut cuts: Vec<usize> = (0..=value.len()).collect();
                if *suffix != *longest {
                    cuts.reverse();
                }
                for cut in cuts {
                    let (front, back) = value.split_at(cut);
                    let (removed, kept) = if *suffix { (back, front) } else { (front, back) };
                    if matches(&pattern, removed) {
                        return Ok(kept.iter().collect());
                    }
                }
                Ok(value.into_iter().collect())
            }
            Form::Replace { all, pattern, replacement } => {
                let pattern = self.pattern(pattern)?;
                let replacement = self.text(replacement)?;
                let value: Vec<char> = self.value_or_note(name).chars().collect();
                let pattern = tokens(&pattern, self.reading.escape).ok_or(Failure::BadPattern)?;
                Ok(replace(&pattern, &value, &replacement, *all))
            }
        }
    }

    /// The text of a pattern, in which the escape character still stands.
    fn pattern(&mut self, parts: &[PatternPart]) -> Result<String, Failure> {
        let mut out = String::new();
        for part in parts {
            match part {
                PatternPart::Star => out.push('*'),
                PatternPart::Any => out.push('?'),
                PatternPart::Literal(c) => out += &literal(*c, self.reading.escape),
                PatternPart::Single(text) => out += text,
                PatternPart::Variable(variable) => out += &self.variable(variable)?,
            }
        }
        Ok(out)
    }
}

#[derive(Debug, Clone, Copy)]
enum Token {
    Star,
    Any,
    Char(char),
}

fn tokens(pattern: &str, escape: char) -> Option<Vec<Token>> {
    let mut out = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        out.push(if c == escape {
            let escaped = chars.next()?;
            if !("*?/}".contains(escaped) || escaped == escape) {
                return None;
            }
            Token::Char(escaped)
        } else if c == '*' {
            Token::Star
        } else if c == '?' {
            Token::Any
        } else {
            Token::Char(c)
        });
    }
    Some(out)
}

fn matches(pattern: &[Token], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [Token::Star, Token::Star, ..] => matches(&pattern[1..], text),
        [Token::Star, rest @ ..] => (0..=text.len()).any(|skipped| matches(rest, &text[skipped..])),
        [Token::Any, rest @ ..] => !text.is_empty() && matches(rest, &text[1..]),
        [Token::Char(c), rest @ ..] => text.first() == Some(c) && matches(rest, &text[1..]),
    }
}

/// Replaces from left to right, the longest match at each place; nothing is matched
/// directly after a match by taking no character.
fn replace(pattern: &[Token], value: &[char], replacement: &str, all: bool) -> String {
    let mut out = String::new();
    let mut at = 0;
    let mut last_end = None;
    while at <= value.len() {
        let end = (at..=value.len()).rev().find(|&end| matches(pattern, &value[at..end]));
        let end = end.filter(|&end| end > at || last_end != Some(at));
        if let Some(end) = end {
            out += replacement;
            last_end = Some(end);
            if !all {
                out.extend(&value[end..]);
                return out;
            }
            if end > at {
                at = end;
                continue;
            }
        }
        out.extend(value.get(at));
        at += 1;
    }
    out
}
