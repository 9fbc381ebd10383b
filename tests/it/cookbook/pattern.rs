//! Lines that a story expects, and whether a program printed them.
//!
//! A line is text with words for what differs from run to run: `<id12>`, `<size>`, ... (see [`KINDS`]).
//! `<a=id12>` keeps what it found; `$a`, later, is that. Two or more blanks are any two or more, as in
//! tables. A line `...` is any lines. Other text in angle brackets, as docker's `<none>`, is text.

use std::collections::BTreeMap;

/// What was found so far, by name.
pub type Values = BTreeMap<String, String>;

/// The words, and what each stands for.
const KINDS: [(&str, Finder); 9] = [
    ("id12", |text| all_of(text, 12, is_hex)),
    ("id64", |text| all_of(text, 64, is_hex)),
    ("sha256", |text| {
        text.strip_prefix("sha256:").map_or(vec![], |rest| longer(all_of(rest, 64, is_hex), 7))
    }),
    ("size", size),
    ("n", |text| at_most(text, |c| c.is_ascii_digit())),
    ("port", |text| at_most(text, |c| c.is_ascii_digit())),
    // As docker words them: `About a minute`, `5 seconds`.
    ("time", time),
    ("word", |text| at_most(text, |c| !c.is_whitespace())),
    ("any", |text| at_most(text, |_| true)),
];

/// Returns how many bytes of a text's beginning a word can stand for, each possible count.
type Finder = fn(&str) -> Vec<usize>;

fn is_hex(c: char) -> bool {
    matches!(c, '0'..='9' | 'a'..='f')
}

/// Exactly so many characters, and no more of the kind.
fn all_of(text: &str, count: usize, is: fn(char) -> bool) -> Vec<usize> {
    let found = text.chars().take_while(|c| is(*c)).count();
    if found == count { vec![count] } else { vec![] }
}

/// One or more characters, the most first.
fn at_most(text: &str, is: fn(char) -> bool) -> Vec<usize> {
    let ends = text.char_indices().take_while(|(_, c)| is(*c)).map(|(at, c)| at + c.len_utf8());
    let mut ends: Vec<usize> = ends.collect();
    ends.reverse();
    ends
}

fn longer(lengths: Vec<usize>, by: usize) -> Vec<usize> {
    lengths.into_iter().map(|length| length + by).collect()
}

fn size(text: &str) -> Vec<usize> {
    let number = text.chars().take_while(|c| c.is_ascii_digit() || *c == '.').count();
    let unit = ["B", "kB", "MB", "GB"].into_iter().find(|unit| text[number..].starts_with(unit));
    unit.filter(|_| number > 0).map_or(vec![], |unit| vec![number + unit.len()])
}

fn time(text: &str) -> Vec<usize> {
    for fixed in ["Less than a second", "About a minute", "About an hour", "1 second"] {
        if text.starts_with(fixed) {
            return vec![fixed.len()];
        }
    }
    let number = text.chars().take_while(char::is_ascii_digit).count();
    let unit = [" seconds", " minutes", " hours"].into_iter().find(|unit| text[number..].starts_with(unit));
    unit.filter(|_| number > 0).map_or(vec![], |unit| vec![number + unit.len()])
}

/// A piece of an expected line.
enum Part<'a> {
    Text(&'a str),
    Blanks,
    Word(Finder, Option<&'a str>),
    Value(&'a str),
}

/// What is wrong with an expected line itself.
fn parts(line: &str) -> Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let blanks = rest.len() - rest.trim_start_matches(' ').len();
        if blanks > 1 {
            parts.push(Part::Blanks);
            rest = &rest[blanks..];
            continue;
        }
        if let Some((part, length)) = word(rest)?.or_else(|| value(rest)) {
            parts.push(part);
            rest = &rest[length..];
            continue;
        }
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let end = rest[first..].find(['<', '$', ' ']).map_or(rest.len(), |at| first + at);
        parts.push(Part::Text(&rest[..end]));
        rest = &rest[end..];
    }
    Ok(parts)
}

/// Reads `<kind>` or `<name=kind>`; other text in angle brackets is text.
fn word(text: &str) -> Result<Option<(Part<'_>, usize)>, String> {
    let Some((inner, _)) = text.strip_prefix('<').and_then(|rest| rest.split_once('>')) else {
        return Ok(None);
    };
    let (name, kind) = inner.split_once('=').map_or((None, inner), |(name, kind)| (Some(name), kind));
    match (KINDS.iter().find(|(known, _)| *known == kind), name) {
        (Some((_, finder)), name) => Ok(Some((Part::Word(*finder, name), inner.len() + 2))),
        (None, Some(_)) => Err(format!("`{kind}` is no word of the stories")),
        (None, None) => Ok(None),
    }
}

/// Reads `$name`.
fn value(text: &str) -> Option<(Part<'_>, usize)> {
    let rest = text.strip_prefix('$')?;
    let length = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_lowercase() || c == '_').len();
    (length > 0).then(|| (Part::Value(&rest[..length]), length + 1))
}

fn match_parts(parts: &[Part<'_>], text: &str, values: &Values) -> Option<Values> {
    let Some((part, rest)) = parts.split_first() else {
        return text.is_empty().then(|| values.clone());
    };
    match part {
        Part::Text(expected) => match_parts(rest, text.strip_prefix(expected)?, values),
        Part::Blanks => {
            let after = text.trim_start_matches(' ');
            (text.len() - after.len() > 1).then(|| match_parts(rest, after, values)).flatten()
        }
        Part::Value(name) => match_parts(rest, text.strip_prefix(values.get(*name)?.as_str())?, values),
        Part::Word(finder, name) => finder(text).into_iter().find_map(|length| {
            let mut values = values.clone();
            if let Some(name) = name {
                values.insert((*name).to_owned(), text[..length].to_owned());
            }
            match_parts(rest, &text[length..], &values)
        }),
    }
}

/// Compares lines with those expected; returns what is known afterwards, or how many of the expected
/// lines were found before the first that was not.
///
/// Panics: an expected line has a word that does not exist, or a value that nothing was kept as.
#[track_caller]
pub fn compare(expected: &[&str], got: &[&str], values: &Values) -> Result<Values, usize> {
    let mut kept: Vec<&str> = values.keys().map(String::as_str).collect();
    let mut lines = Vec::new();
    for line in expected {
        let parts = parts(line).unwrap_or_else(|why| panic!("`{line}`: {why}"));
        for part in &parts {
            match part {
                Part::Value(name) => assert!(kept.contains(name), "`{line}`: nothing was kept as `{name}`"),
                Part::Word(_, Some(name)) => kept.push(name),
                _ => {}
            }
        }
        lines.push((*line == "...", parts));
    }
    let mut furthest = 0;
    compare_lines(&lines, got, values, 0, &mut furthest).ok_or(furthest)
}

fn compare_lines(
    lines: &[(bool, Vec<Part<'_>>)],
    got: &[&str],
    values: &Values,
    at: usize,
    furthest: &mut usize,
) -> Option<Values> {
    *furthest = at.max(*furthest);
    let Some(((any_lines, parts), rest)) = lines.split_first() else {
        return got.is_empty().then(|| values.clone());
    };
    if *any_lines {
        return (0..=got.len()).find_map(|skip| compare_lines(rest, &got[skip..], values, at + 1, furthest));
    }
    let (first, others) = got.split_first()?;
    let values = match_parts(parts, first, values)?;
    compare_lines(rest, others, &values, at + 1, furthest)
}

#[test]
fn lines_are_found() {
    let check = |expected: &str, got: &str, found: bool| {
        let split = |text: &'static str| text.lines().collect::<Vec<_>>();
        let (expected, got): (&'static str, &'static str) =
            (expected.to_owned().leak(), got.to_owned().leak());
        let outcome = compare(&split(expected), &split(got), &Values::new());
        assert_eq!(outcome.is_ok(), found, "{expected:?} {got:?}");
    };
    check("a\nb", "a\nb", true);
    check("a", "a\nb", false);
    check("a\n...\nd", "a\nb\nc\nd", true);
    check("...\nd", "d", true);
    check("...\nd", "d\ne", false);
    check("id <id12>", "id 0123456789ab", true);
    check("id <id12>", "id 0123456789abc", false);
    check("<none>  <size>", "<none>      4.2MB", true);
    check("<size>", "MB", false);
    check("Up <time>  x", "Up 5 seconds   x", true);
    check("<a=n> is $a", "12 is 12", true);
    check("<a=n> is $a", "12 is 13", false);
    check("<any>!", "Hi, you!", true);
    check("a  b", "a b", false);
    check("costs $", "costs $", true);
}

#[test]
fn what_is_kept() {
    let known = Values::from([("a".to_owned(), "1".to_owned())]);
    let found = compare(&["$a <b=word>"], &["1 two"], &known).unwrap();
    assert_eq!(found.get("b").map(String::as_str), Some("two"));
    assert_eq!(compare(&["x", "$a", "y"], &["x", "1", "z"], &known), Err(2));
}
