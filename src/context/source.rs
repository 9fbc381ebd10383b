//! Sources as they are written: cleaned, taken apart, and matched against names.
//!
//! Not here: the files they stand for (`select`).

use crate::pattern;

use super::error::ContextError;

/// A source path as components; a leading `/`, `.` and `..` at the root mean nothing (as docker has it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePath {
    pub components: Vec<String>,
}

impl SourcePath {
    /// Takes a path or pattern apart.
    pub fn parse(text: &str) -> SourcePath {
        let mut components: Vec<String> = Vec::new();
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    components.pop();
                }
                part => components.push(part.to_owned()),
            }
        }
        SourcePath { components }
    }

    /// Splits before the first component that is a pattern.
    pub fn split(&self) -> (&[String], &[String]) {
        let at = self.components.iter().position(|c| is_pattern(c)).unwrap_or(self.components.len());
        self.components.split_at(at)
    }
}

/// Tells whether a component holds `*`, `?` or `[` that no backslash takes the meaning from.
pub fn is_pattern(component: &str) -> bool {
    let mut bytes = component.bytes();
    while let Some(b) = bytes.next() {
        match b {
            b'\\' => {
                bytes.next();
            }
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// Returns the name a component without pattern means: backslashes removed.
pub fn literal(component: &str) -> String {
    let mut out = String::with_capacity(component.len());
    let mut chars = component.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}

/// Matches one name against one component, as Go's filepath.Match does.
pub fn component_matches(component: &str, name: &str) -> Result<bool, ContextError> {
    pattern::matches(component, name).map_err(|e| bad(component, &e))
}

/// Makes the error of a pattern that cannot be used.
pub fn bad(pattern: &str, error: &impl std::fmt::Display) -> ContextError {
    ContextError::Pattern { pattern: pattern.to_owned(), why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_sources() {
        let check = |text: &str, expect: &str| {
            assert_eq!(SourcePath::parse(text).components.join("/"), expect, "{text}");
        };
        check("a.txt", "a.txt");
        check("/a.txt", "a.txt");
        check("../../a.txt", "a.txt");
        check("a/../../b", "b");
        check("./a//b/.", "a/b");
        check(".", "");
        check("/", "");
        check("..", "");
        check("a/", "a");
    }

    #[test]
    fn tells_patterns_from_names() {
        let check = |text: &str, pattern: bool, name: &str| {
            assert_eq!(is_pattern(text), pattern, "{text}");
            assert_eq!(literal(text), name, "{text}");
        };
        check("a", false, "a");
        check("a*", true, "a*");
        check("a?", true, "a?");
        check("[ab]", true, "[ab]");
        check(r"a\*b", false, "a*b");
        check(r"a\\", false, r"a\");
        check(r"\\*", true, r"\*");
    }
}
