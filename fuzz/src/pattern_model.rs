//! File name patterns and ignore rules, said plainly: every way to read a pattern is tried.
//!
//! After <https://pkg.go.dev/path/filepath#Match> and
//! <https://docs.docker.com/build/concepts/context/#dockerignore-files>.

use std::collections::HashMap;

/// One piece of a pattern.
#[derive(Debug, Clone, PartialEq)]
enum Token {
    Char(char),
    /// `?`
    NoSlash,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// `*`
    Star,
    /// `**` that more follows: no directory or some.
    Directories,
    /// `**` at the end.
    Rest,
}

/// `filepath.Match`; `None` for a malformed pattern.
///
/// Go never reconsiders how much a `*` took. That can be seen only where a class takes a `/`,
/// which no `*` can: `*[^a]*` matches `b/c` by its documentation, and not by its code. What is
/// said here about those is `Some(None)`: nothing.
pub fn name_matches(pattern: &str, name: &str) -> Option<Option<bool>> {
    let tokens = tokens(pattern, false)?;
    let takes_slash = |token: &Token| matches!(token, Token::Class { .. }) && one_fits(token, '/');
    if name.contains('/') && tokens.contains(&Token::Star) && tokens.iter().any(takes_slash) {
        return Some(None);
    }
    Some(Some(fits(&tokens, &name.chars().collect::<Vec<_>>())))
}

/// Reads a pattern; `**` is special only in ignore rules.
fn tokens(pattern: &str, crossing: bool) -> Option<Vec<Token>> {
    let chars: Vec<char> = pattern.chars().collect();
    let mut out = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        match &chars[at..] {
            ['*', '*'] if crossing => {
                out.push(Token::Rest);
                at += 2;
            }
            ['*', '*', '/'] if crossing => {
                out.push(Token::Rest);
                at += 3;
            }
            ['*', '*', rest @ ..] if crossing => {
                out.push(Token::Directories);
                at += if rest[0] == '/' { 3 } else { 2 };
            }
            ['*', ..] => {
                out.push(Token::Star);
                at += 1;
            }
            ['?', ..] => {
                out.push(Token::NoSlash);
                at += 1;
            }
            ['\\', rest @ ..] => {
                out.push(Token::Char(*rest.first()?));
                at += 2;
            }
            ['[', rest @ ..] => {
                let (class, length) = class(rest)?;
                out.push(class);
                at += 1 + length;
            }
            rest => {
                out.push(Token::Char(rest[0]));
                at += 1;
            }
        }
    }
    Some(out)
}

/// Reads what follows a `[`; gives how long it is too.
fn class(chars: &[char]) -> Option<(Token, usize)> {
    let negated = chars.first() == Some(&'^');
    let mut at = usize::from(negated);
    let mut ranges = Vec::new();
    while ranges.is_empty() || chars.get(at) != Some(&']') {
        let low = bound(chars, &mut at)?;
        let mut high = low;
        if chars.get(at) == Some(&'-') {
            at += 1;
            high = bound(chars, &mut at)?;
        }
        ranges.push((low, high));
    }
    Some((Token::Class { negated, ranges }, at + 1))
}

fn bound(chars: &[char], at: &mut usize) -> Option<char> {
    let escaped = chars.get(*at) == Some(&'\\');
    *at += 1 + usize::from(escaped);
    let c = *chars.get(*at - 1)?;
    if !escaped && (c == '-' || c == ']') { None } else { Some(c) }
}

fn fits(tokens: &[Token], text: &[char]) -> bool {
    fits_from(tokens, text, &mut HashMap::new())
}

/// `known` holds what was found out, by how much of both was left.
fn fits_from(tokens: &[Token], text: &[char], known: &mut HashMap<(usize, usize), bool>) -> bool {
    let key = (tokens.len(), text.len());
    if let Some(&found) = known.get(&key) {
        return found;
    }
    let found = match tokens.split_first() {
        None => text.is_empty(),
        Some((Token::Rest, _)) => true,
        Some((Token::Star, rest)) => (0..=text.len())
            .take_while(|&end| !text[..end].contains(&'/'))
            .any(|end| fits_from(rest, &text[end..], known)),
        Some((Token::Directories, rest)) => (0..=text.len())
            .filter(|&end| end == 0 || text[end - 1] == '/')
            .any(|end| fits_from(rest, &text[end..], known)),
        Some((one, rest)) => match text.split_first() {
            Some((c, after)) => one_fits(one, *c) && fits_from(rest, after, known),
            None => false,
        },
    };
    known.insert(key, found);
    found
}

fn one_fits(token: &Token, c: char) -> bool {
    match token {
        Token::Char(own) => *own == c,
        Token::NoSlash => c != '/',
        Token::Class { negated, ranges } => {
            ranges.iter().any(|range| (range.0..=range.1).contains(&c)) != *negated
        }
        Token::Star | Token::Directories | Token::Rest => false,
    }
}

/// One ignore rule.
pub struct Rule {
    negated: bool,
    pattern: String,
}

/// Reads an ignore file; `None` when a rule is malformed.
pub fn rules(text: &str) -> Option<Vec<Rule>> {
    let mut rules = Vec::new();
    for line in text.strip_prefix('\u{feff}').unwrap_or(text).split('\n') {
        let trimmed = line.trim();
        if line.starts_with('#') || trimmed.is_empty() {
            continue;
        }
        let negated = trimmed.starts_with('!');
        let pattern = if negated { trimmed[1..].trim() } else { trimmed };
        if pattern.is_empty() {
            return None;
        }
        let mut pattern = clean(pattern);
        if pattern.starts_with('/') && pattern != "/" {
            pattern.remove(0);
        }
        tokens(&pattern, false)?;
        rules.push(Rule { negated, pattern });
    }
    Some(rules)
}

/// Go's `filepath.Clean`: its rules applied until nothing changes.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    while let Some(at) = parts.windows(2).position(|pair| pair[0] != ".." && pair[1] == "..") {
        parts.drain(at..at + 2);
    }
    while rooted && parts.first() == Some(&"..") {
        parts.remove(0);
    }
    match (rooted, parts.join("/")) {
        (true, joined) => format!("/{joined}"),
        (false, joined) if joined.is_empty() => ".".to_owned(),
        (false, joined) => joined,
    }
}

/// Tells whether a path is left out: the last rule that matches it or a parent decides.
pub fn excluded(rules: &[Rule], path: &str) -> bool {
    let mut excluded = false;
    for rule in rules {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        if ends.map(|end| &path[..end]).any(|path| rule_matches(&rule.pattern, path)) {
            excluded = !rule.negated;
        }
    }
    excluded
}

/// Tells whether a rule's pattern matches this very path.
fn rule_matches(pattern: &str, path: &str) -> bool {
    let plain = |text: &str| !text.contains(['*', '?', '[', ']', '\\']);
    // Docker takes these two for text that begins or ends a path, across components.
    if let Some(start) = pattern.strip_suffix("**")
        && plain(start)
    {
        return path.starts_with(start);
    }
    if let Some(end) = pattern.strip_prefix("**")
        && plain(end)
    {
        return path.ends_with(end) || end == format!("/{path}");
    }
    let tokens = tokens(pattern, true).unwrap_or_default();
    fits(&tokens, &path.chars().collect::<Vec<_>>())
}
