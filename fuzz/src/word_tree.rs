//! Words as trees: made from decisions, written out as text.
//!
//! What a tree means: `word_model`.

use super::choices::Choices;

/// How a word is read.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// The escape character.
    pub escape: char,
    /// Whether quotes mean something.
    pub quotes: bool,
}

/// A part of a word.
#[derive(Debug)]
pub enum Part {
    Plain(char),
    Escaped(char),
    Single(String),
    /// Holds only [`Part::Plain`], [`Part::Escaped`] and [`Part::Variable`].
    Double(Vec<Part>),
    Variable(Variable),
}

/// What begins with `$`.
#[derive(Debug)]
pub struct Variable {
    pub name: &'static str,
    pub form: Form,
}

/// What is done with a variable.
#[derive(Debug)]
pub enum Form {
    /// `$v`, or `${v}` where the text after it would lengthen the name.
    Bare,
    Braced,
    /// `${v:-w}` and its kin; `operator` is `-`, `+` or `?`.
    Condition {
        operator: char,
        colon: bool,
        word: Vec<Part>,
    },
    /// `${v#p}` and its kin.
    Trim {
        suffix: bool,
        longest: bool,
        pattern: Vec<PatternPart>,
    },
    /// `${v/p/r}` and `${v//p/r}`.
    Replace {
        all: bool,
        pattern: Vec<PatternPart>,
        replacement: Vec<Part>,
    },
}

/// A part of a pattern.
#[derive(Debug)]
pub enum PatternPart {
    Star,
    Any,
    /// A character that stands for itself.
    Literal(char),
    /// Text in single quotes, which do not take `*` and `?` their meaning.
    Single(String),
    Variable(Variable),
}

/// Names that may be used; `word_model` gives some of them values.
const NAMES: [&str; 9] = ["a", "b", "u", "_x1", "Name", "1", "12", "@", "?"];
const TEXT: [char; 16] = ['a', 'b', ' ', '/', '}', '*', '?', '.', 'é', '\t', '{', ':', '-', '#', '=', '%'];
const SPECIAL: [char; 6] = ['$', '\'', '"', '\\', '`', '}'];
const IN_PATTERN: [char; 9] = ['a', 'b', '/', '}', '*', '?', '.', 'é', '['];
const IN_QUOTES: [char; 10] = ['a', 'b', ' ', '/', '}', '*', '?', '$', '"', '#'];

/// Makes a word. `stop` is the character that ends it.
pub fn word(choices: &mut Choices<'_>, reading: Reading, stop: Option<char>, depth: usize) -> Vec<Part> {
    let length = choices.below(5);
    (0..length).map(|_| part(choices, reading, stop, depth)).collect()
}

fn part(choices: &mut Choices<'_>, reading: Reading, stop: Option<char>, depth: usize) -> Part {
    match choices.below(6) {
        0 | 1 => plain_or_escaped(choices, reading, stop, reading.quotes),
        2 if reading.quotes => Part::Single(choices.text(&IN_QUOTES, 3)),
        3 if reading.quotes => {
            let length = choices.below(4);
            Part::Double((0..length).map(|_| double_part(choices, reading, depth)).collect())
        }
        _ => variable(choices, reading, depth).map_or(Part::Plain('a'), Part::Variable),
    }
}

fn plain_or_escaped(choices: &mut Choices<'_>, reading: Reading, stop: Option<char>, quotes: bool) -> Part {
    let c = if choices.one_in(4) { choices.of(&SPECIAL) } else { choices.of(&TEXT) };
    let special = c == '$' || c == reading.escape || Some(c) == stop || quotes && (c == '\'' || c == '"');
    if special || choices.one_in(5) { Part::Escaped(c) } else { Part::Plain(c) }
}

/// In double quotes only three characters can be escaped.
fn double_part(choices: &mut Choices<'_>, reading: Reading, depth: usize) -> Part {
    if choices.one_in(3)
        && let Some(variable) = variable(choices, reading, depth)
    {
        return Part::Variable(variable);
    }
    let c = if choices.one_in(4) { choices.of(&SPECIAL) } else { choices.of(&TEXT) };
    if c == '"' || c == '$' || c == reading.escape { Part::Escaped(c) } else { Part::Plain(c) }
}

fn variable(choices: &mut Choices<'_>, reading: Reading, depth: usize) -> Option<Variable> {
    let deeper = depth.checked_sub(1)?;
    let name = choices.of(&NAMES);
    let form = match choices.below(6) {
        0 => Form::Bare,
        1 => Form::Braced,
        2 | 3 => Form::Condition {
            operator: choices.of(&['-', '+', '-', '+', '?']),
            colon: choices.one_in(2),
            word: word(choices, reading, Some('}'), deeper),
        },
        4 => Form::Trim {
            suffix: choices.one_in(2),
            longest: choices.one_in(2),
            pattern: pattern(choices, reading, deeper),
        },
        _ => Form::Replace {
            all: choices.one_in(2),
            pattern: pattern(choices, reading, deeper),
            replacement: word(choices, reading, Some('}'), deeper),
        },
    };
    Some(Variable { name, form })
}

/// Makes a pattern of at least one part: `${v/}` and `${v//}` would be read otherwise.
fn pattern(choices: &mut Choices<'_>, reading: Reading, depth: usize) -> Vec<PatternPart> {
    let length = 1 + choices.below(4);
    let part = |choices: &mut Choices<'_>| match choices.below(6) {
        0 => PatternPart::Star,
        1 => PatternPart::Any,
        2 if reading.quotes => PatternPart::Single(choices.text(&['a', 'b', '/', '}', '*', '?'], 2)),
        3 => variable(choices, reading, depth).map_or(PatternPart::Any, PatternPart::Variable),
        _ => PatternPart::Literal(choices.of(&IN_PATTERN)),
    };
    (0..length).map(|_| part(choices)).collect()
}

/// Writes a word.
pub fn write(parts: &[Part], reading: Reading, out: &mut String) {
    for (index, part) in parts.iter().enumerate() {
        match part {
            Part::Plain(c) => out.push(*c),
            Part::Escaped(c) => out.extend([reading.escape, *c]),
            Part::Single(text) => *out += &format!("'{text}'"),
            Part::Double(inner) => {
                out.push('"');
                write(inner, reading, out);
                out.push('"');
            }
            Part::Variable(variable) => {
                let mut after = String::new();
                if let Some(Part::Plain(c)) = parts.get(index + 1) {
                    after.push(*c);
                }
                write_variable(variable, reading, &after, out);
            }
        }
    }
}

fn write_variable(variable: &Variable, reading: Reading, after: &str, out: &mut String) {
    let name = variable.name;
    let lengthens = after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    match &variable.form {
        Form::Bare if !lengthens => *out += &format!("${name}"),
        Form::Bare | Form::Braced => *out += &format!("${{{name}}}"),
        Form::Condition { operator, colon, word } => {
            *out += &format!("${{{name}{}{operator}", if *colon { ":" } else { "" });
            write(word, reading, out);
            out.push('}');
        }
        Form::Trim { suffix, longest, pattern } => {
            let operator = if *suffix { "%" } else { "#" };
            *out += &format!("${{{name}{}", operator.repeat(1 + usize::from(*longest)));
            write_pattern(pattern, reading, out);
            out.push('}');
        }
        Form::Replace { all, pattern, replacement } => {
            *out += &format!("${{{name}{}", if *all { "//" } else { "/" });
            write_pattern(pattern, reading, out);
            out.push('/');
            write(replacement, reading, out);
            out.push('}');
        }
    }
}

fn write_pattern(parts: &[PatternPart], reading: Reading, out: &mut String) {
    for (index, part) in parts.iter().enumerate() {
        match part {
            PatternPart::Star => out.push('*'),
            PatternPart::Any => out.push('?'),
            PatternPart::Literal(c) => out.push_str(&literal(*c, reading.escape)),
            PatternPart::Single(text) => *out += &format!("'{text}'"),
            PatternPart::Variable(variable) => {
                let after = match parts.get(index + 1) {
                    Some(PatternPart::Literal(c)) => literal(*c, reading.escape),
                    _ => String::new(),
                };
                write_variable(variable, reading, &after, out);
            }
        }
    }
}

/// Writes a character that stands for itself in a pattern.
pub fn literal(c: char, escape: char) -> String {
    if matches!(c, '*' | '?' | '/' | '}') || c == escape { format!("{escape}{c}") } else { c.to_string() }
}
