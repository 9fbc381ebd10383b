//! The patterns of `${v#p}` and its kin: `*`, `?`, an escape character.
//!
//! Matching goes from star to star and never back, so it takes pattern times text at
//! most. Not here: file name patterns (`pattern`), which know classes and `/`.

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct Glob {
    /// What stands between the stars; at least one part, each may be empty.
    parts: Vec<Vec<Atom>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Atom {
    Char(char),
    Any,
}

impl Atom {
    fn matches(self, c: char) -> bool {
        self == Atom::Any || self == Atom::Char(c)
    }
}

impl Glob {
    /// Compiles a pattern. `escape` may stand before `*`, `?`, itself, and before `/`
    /// and `}`, which `${}` needs; before anything else it gives `None`.
    ///
    /// Grammar: glob
    pub fn new(pattern: &str, escape: char) -> Option<Glob> {
        let mut parts = vec![Vec::new()];
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            let atom = match c {
                '*' => {
                    parts.push(Vec::new());
                    continue;
                }
                '?' => Atom::Any,
                c if c == escape => match chars.next()? {
                    literal @ ('*' | '?' | '/' | '}') => Atom::Char(literal),
                    literal if literal == escape => Atom::Char(literal),
                    _ => return None,
                },
                c => Atom::Char(c),
            };
            parts.last_mut()?.push(atom);
        }
        Some(Glob { parts })
    }

    /// Removes the shortest or longest match from the front.
    pub fn trim_prefix<'a>(&self, value: &'a str, longest: bool) -> &'a str {
        let chars: Vec<char> = value.chars().collect();
        let length = match_front(&self.parts, &chars, longest).unwrap_or(0);
        &value[bytes(&chars[..length])..]
    }

    /// Removes the shortest or longest match from the back.
    pub fn trim_suffix<'a>(&self, value: &'a str, longest: bool) -> &'a str {
        let chars: Vec<char> = value.chars().rev().collect();
        let parts: Vec<Vec<Atom>> =
            self.parts.iter().rev().map(|part| part.iter().rev().copied().collect()).collect();
        let length = match_front(&parts, &chars, longest).unwrap_or(0);
        &value[..value.len() - bytes(&chars[..length])]
    }

    /// Replaces the first match or all, always the longest; `None` when the result is
    /// longer than `limit`.
    pub fn replace(&self, value: &str, replacement: &str, all: bool, limit: usize) -> Option<String> {
        let chars: Vec<char> = value.chars().collect();
        let mut out = String::new();
        let mut at = 0;
        // No empty match directly after another match, as in other replacing tools.
        let mut after_match = false;
        while let Some((start, end)) = self.find(&chars, at) {
            if start == end && after_match && start == at {
                after_match = false;
            } else {
                out.extend(&chars[at..start]);
                out.push_str(replacement);
                at = end;
                after_match = true;
                if !all {
                    break;
                }
            }
            if out.len() > limit {
                return None;
            }
            if start == end {
                let Some(&c) = chars.get(at) else { break };
                out.push(c);
                at += 1;
                after_match = false;
            }
        }
        out.extend(&chars[at..]);
        if out.len() > limit { None } else { Some(out) }
    }

    /// Finds the first match at or after `from`.
    fn find(&self, chars: &[char], from: usize) -> Option<(usize, usize)> {
        let start = find_part(&self.parts[0], chars, from)?;
        // If the other parts do not fit after the first place of part 0, they fit after
        // no later one.
        let length = match_front(&self.parts, &chars[start..], true)?;
        Some((start, start + length))
    }
}

/// Returns the length of the shortest or longest match at the front.
fn match_front(parts: &[Vec<Atom>], chars: &[char], longest: bool) -> Option<usize> {
    let (first, rest) = parts.split_first()?;
    if !fits(first, chars) {
        return None;
    }
    let mut at = first.len();
    for (index, part) in rest.iter().enumerate() {
        let start = if longest && index + 1 == rest.len() {
            (at..=chars.len().checked_sub(part.len())?).rev().find(|&start| fits(part, &chars[start..]))?
        } else {
            find_part(part, chars, at)?
        };
        at = start + part.len();
    }
    Some(at)
}

fn find_part(part: &[Atom], chars: &[char], from: usize) -> Option<usize> {
    (from..=chars.len().checked_sub(part.len())?).find(|&start| fits(part, &chars[start..]))
}

fn fits(part: &[Atom], chars: &[char]) -> bool {
    part.len() <= chars.len() && part.iter().zip(chars).all(|(atom, &c)| atom.matches(c))
}

fn bytes(chars: &[char]) -> usize {
    chars.iter().map(|c| c.len_utf8()).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn replaces() {
        let check = |pattern, value: &str, all, expect: &str| {
            let glob = Glob::new(pattern, '\\').unwrap();
            assert_eq!(glob.replace(value, "-", all, 1000).unwrap(), expect, "{pattern} in {value}");
        };
        check("b", "abcb", false, "a-cb");
        check("b", "abcb", true, "a-c-");
        check("b*", "abcb", true, "a-");
        check("*", "abc", true, "-");
        check("*", "", true, "-");
        check("", "ab", false, "-ab");
        check("", "ab", true, "-a-b-");
        check("é", "aéb", true, "a-b");
        check("aa", "aaaaa", true, "--a");
        check("x*y", "axbxcyd", true, "a-d");
    }

    /// The plain definition: which prefixes a pattern matches.
    fn matches(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|skip| matches(rest, &text[skip..])),
            Some((&c, rest)) => {
                text.first().is_some_and(|&t| c == '?' || c == t) && matches(rest, &text[1..])
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_definition(pattern in "[ab*?]{0,6}", value in "[ab]{0,8}") {
            let glob = Glob::new(&pattern, '\\').unwrap();
            let p: Vec<char> = pattern.chars().collect();
            let v: Vec<char> = value.chars().collect();
            let ends: Vec<usize> = (0..=v.len()).filter(|&end| matches(&p, &v[..end])).collect();
            prop_assert_eq!(glob.trim_prefix(&value, false), &value[ends.first().copied().unwrap_or(0)..]);
            prop_assert_eq!(glob.trim_prefix(&value, true), &value[ends.last().copied().unwrap_or(0)..]);
            let starts: Vec<usize> = (0..=v.len()).filter(|&start| matches(&p, &v[start..])).collect();
            let all = v.len();
            prop_assert_eq!(glob.trim_suffix(&value, false), &value[..starts.last().copied().unwrap_or(all)]);
            prop_assert_eq!(glob.trim_suffix(&value, true), &value[..starts.first().copied().unwrap_or(all)]);
            let first = (0..=v.len())
                .find_map(|s| (s..=v.len()).rev().find(|&e| matches(&p, &v[s..e])).map(|e| (s, e)));
            prop_assert_eq!(glob.find(&v, 0), first);
        }
    }
}
