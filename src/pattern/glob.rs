//! Go's `filepath.Match` on Unix: `*`, `?`, `[a-z]`, `[^a-z]`, `\c`.
//!
//! `*` and `?` never match a `/`; a class may. Unlike Go a pattern is read once and
//! can be used often. Described at <https://pkg.go.dev/path/filepath#Match>.

/// A pattern that is malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern `{0}`")]
pub struct BadPattern(pub String);

/// A compiled pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    chunks: Vec<Chunk>,
    /// Whether it ends in `*`.
    open: bool,
}

/// What stands between stars.
#[derive(Debug, Clone, Default)]
struct Chunk {
    /// Whether a `*` stands before it.
    star: bool,
    atoms: Vec<Atom>,
}

/// What matches one character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Atom {
    Char(char),
    /// `?`: anything but `/`.
    Any,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Atom {
    pub(super) fn matches(&self, c: char) -> bool {
        match self {
            Atom::Char(own) => *own == c,
            Atom::Any => c != '/',
            Atom::Class { negated, ranges } => {
                ranges.iter().any(|&(low, high)| low <= c && c <= high) != *negated
            }
        }
    }
}

/// Tells whether a pattern matches a whole name.
pub fn matches(pattern: &str, name: &str) -> Result<bool, BadPattern> {
    Pattern::new(pattern).map(|pattern| pattern.matches(name))
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// Grammar: name_pattern
    pub fn new(pattern: &str) -> Result<Pattern, BadPattern> {
        let bad = || BadPattern(pattern.to_owned());
        let mut chunks = Vec::new();
        let mut chunk = Chunk::default();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            if c == '*' {
                if !chunk.atoms.is_empty() {
                    chunks.push(std::mem::take(&mut chunk));
                }
                chunk.star = true;
            } else {
                chunk.atoms.push(atom(c, &mut chars).ok_or_else(bad)?);
            }
        }
        let open = chunk.star && chunk.atoms.is_empty();
        if !chunk.atoms.is_empty() {
            chunks.push(chunk);
        }
        Ok(Pattern { chunks, open })
    }

    /// Tells whether it matches a whole name.
    ///
    /// A star takes as little as it can and is never reconsidered, as in Go. Where `/` is
    /// matched by `/` alone that finds every match, since no star can cross one; where a class
    /// takes it, a later place may have fitted: `*[^a]*` does not match `ab/c`.
    pub fn matches(&self, name: &str) -> bool {
        let mut at = 0;
        for (index, chunk) in self.chunks.iter().enumerate() {
            let last = index + 1 == self.chunks.len() && !self.open;
            let fits = |from: usize| fit(&chunk.atoms, name, from).filter(|&to| !last || to == name.len());
            let found = match fits(at) {
                None if chunk.star => (at..name.len())
                    .take_while(|&skipped| name.as_bytes()[skipped] != b'/')
                    .find_map(|skipped| fits(skipped + 1)),
                found => found,
            };
            match found {
                Some(to) => at = to,
                None => return false,
            }
        }
        let rest = &name.as_bytes()[at..];
        if self.open { !rest.contains(&b'/') } else { rest.is_empty() }
    }
}

/// Fits atoms at a byte of a name; gives the byte after them.
///
/// As in Go a star skips bytes, so that the byte may be inside of a character. What is left
/// of that is, byte by byte, U+FFFD for `?` and classes, and no character of its own.
fn fit(atoms: &[Atom], name: &str, mut at: usize) -> Option<usize> {
    for atom in atoms {
        let (fits, width) = match name.get(at..) {
            Some(rest) => {
                let c = rest.chars().next()?;
                (atom.matches(c), c.len_utf8())
            }
            None => (!matches!(atom, Atom::Char(_)) && atom.matches(char::REPLACEMENT_CHARACTER), 1),
        };
        if !fits {
            return None;
        }
        at += width;
    }
    Some(at)
}

/// Reads an atom that begins with `c` (no star); `None` when it is malformed.
pub(super) fn atom(c: char, chars: &mut std::str::Chars<'_>) -> Option<Atom> {
    match c {
        '?' => Some(Atom::Any),
        '\\' => chars.next().map(Atom::Char),
        '[' => class(chars),
        c => Some(Atom::Char(c)),
    }
}

/// Reads the rest of a class.
///
/// Grammar: name_class
fn class(chars: &mut std::str::Chars<'_>) -> Option<Atom> {
    let peek = |chars: &std::str::Chars<'_>| chars.clone().next();
    let negated = peek(chars) == Some('^');
    if negated {
        chars.next();
    }
    let mut ranges = Vec::new();
    loop {
        if peek(chars) == Some(']') && !ranges.is_empty() {
            chars.next();
            return Some(Atom::Class { negated, ranges });
        }
        let low = class_char(chars)?;
        let high = if peek(chars) == Some('-') {
            chars.next();
            class_char(chars)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

fn class_char(chars: &mut std::str::Chars<'_>) -> Option<char> {
    match chars.next()? {
        '-' | ']' => None,
        '\\' => chars.next(),
        c => Some(c),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn matches_as_go_does() {
        let check = |pattern, name, expect| {
            assert_eq!(matches(pattern, name), Ok(expect), "{pattern} {name}");
        };
        check("abc", "abc", true);
        check("", "", true);
        check("", "a", false);
        check("*", "abc", true);
        check("*", "", true);
        check("*c", "abc", true);
        check("a*", "a", true);
        check("a*", "ab/c", false);
        check("a*/b", "abc/b", true);
        check("a*/b", "a/c/b", false);
        check("a*b*c*d*e*/f", "axbxcxdxe/f", true);
        check("a*b*c*d*e*/f", "axbxcxdxexxx/f", true);
        check("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false);
        check("a*b?c*x", "abxbbxdbxebxczzx", true);
        check("a*b?c*x", "abxbbxdbxebxczzy", false);
        check("ab[c]", "abc", true);
        check("ab[b-d]", "abc", true);
        check("ab[e-g]", "abc", false);
        check("ab[^c]", "abc", false);
        check("ab[^e-g]", "abc", true);
        check("a\\*b", "a*b", true);
        check("a\\*b", "ab", false);
        check("a?b", "aéb", true);
        check("a[^a]b", "aéb", true);
        check("a???b", "aéb", false);
        check("[a-ζ]*", "α", true);
        check("*[a-ζ]", "A", false);
        check("a?b", "a/b", false);
        check("a*b", "a/b", false);
        check("a[^x]b", "a/b", true);
        check("[\\]a]", "]", true);
        check("[\\-]", "-", true);
        check("[x\\-]", "x", true);
        check("[\\-x]", "-", true);
        check("[z-a]", "b", false);
        check("*x", "xxx", true);
        check("**", "abc", true);
        check("*[*]", "a*", true);
        check("]", "]", true);
        // A star is never reconsidered, even where a class takes a `/`.
        check("*[^a]*", "ééa/é", false);
        check("*[^a]*", "aaa/é", true);
        check("*[/]*", "a/b", true);
        check("*[^a]b", "x/b", true);
        // A star skips bytes.
        check("*[^é]", "é", true);
        check("*[^é]b", "éb", true);
        check("*[é]", "aé", true);
        check("*??", "é", false);
        check("*?", "日", true);
        check("*[^日][^日]", "日", true);
        check("*[^日][^日][^日]", "日", false);
        check("*\u{fffd}", "é", false);
        check("*[\u{fffd}]", "é", true);
    }

    #[test]
    fn refuses_as_go_does() {
        for pattern in
            ["[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[", "\\", "a*[", "[]", "[^]"]
        {
            assert_eq!(matches(pattern, "x"), Err(BadPattern(pattern.to_owned())), "{pattern}");
        }
    }

    #[test]
    fn takes_no_exponential_time() {
        let pattern = "a*".repeat(1000) + "b";
        assert_eq!(matches(&pattern, &"a".repeat(5000)), Ok(false));
    }

    proptest! {
        #[test]
        fn never_panics(pattern in "\\PC{0,20}", name in "\\PC{0,20}") {
            let _ = matches(&pattern, &name);
        }

        #[test]
        fn agrees_with_definition(pattern in "[ab/*?]{0,6}", name in "[ab/]{0,7}") {
            fn slow(p: &[u8], n: &[u8]) -> bool {
                match p.split_first() {
                    None => n.is_empty(),
                    Some((b'*', rest)) => {
                        (0..=n.len()).take_while(|&i| !n[..i].contains(&b'/')).any(|i| slow(rest, &n[i..]))
                    }
                    Some((b'?', rest)) => n.first().is_some_and(|&c| c != b'/') && slow(rest, &n[1..]),
                    Some((c, rest)) => n.first() == Some(c) && slow(rest, &n[1..]),
                }
            }
            prop_assert_eq!(matches(&pattern, &name), Ok(slow(pattern.as_bytes(), name.as_bytes())));
        }
    }
}
