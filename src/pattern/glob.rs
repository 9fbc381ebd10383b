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
    /// A star takes as little as it can and is never reconsidered: since it cannot
    /// cross a `/`, the first place where what follows fits is as good as any later.
    pub fn matches(&self, name: &str) -> bool {
        let mut rest = name;
        for (index, chunk) in self.chunks.iter().enumerate() {
            let last = index + 1 == self.chunks.len() && !self.open;
            let accept = |after: &str| !last || after.is_empty();
            let found = match fit(&chunk.atoms, rest).filter(|after| accept(after)) {
                Some(after) => Some(after),
                None if chunk.star => skip(&chunk.atoms, rest, accept),
                None => None,
            };
            match found {
                Some(after) => rest = after,
                None => return false,
            }
        }
        if self.open { !rest.contains('/') } else { rest.is_empty() }
    }
}

/// Tries to fit after one, two, ... characters that are no `/`.
fn skip<'a>(atoms: &[Atom], name: &'a str, accept: impl Fn(&str) -> bool) -> Option<&'a str> {
    let mut rest = name;
    loop {
        let c = rest.chars().next().filter(|&c| c != '/')?;
        rest = &rest[c.len_utf8()..];
        if let Some(after) = fit(atoms, rest).filter(|after| accept(after)) {
            return Some(after);
        }
    }
}

/// Fits atoms at the front; gives what is left.
fn fit<'a>(atoms: &[Atom], name: &'a str) -> Option<&'a str> {
    let mut chars = name.chars();
    for atom in atoms {
        if !atom.matches(chars.next()?) {
            return None;
        }
    }
    Some(chars.as_str())
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
