//! `.dockerignore` rules: which paths of a context are left out.
//!
//! The last rule that matches a path or one of its parent directories decides; `!`
//! takes back. `**` crosses directories. Described at
//! <https://docs.docker.com/build/concepts/context/#dockerignore-files>. Not here:
//! finding the file, walking the tree, one rule's pattern (`matcher`).

use super::glob::Pattern;
use super::matcher::Matcher;

/// The rules of one file.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    rules: Vec<Compiled>,
}

/// One rule as a user wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// From 1.
    pub line: usize,
    /// The line without surrounding blanks.
    pub text: String,
    /// Whether it begins with `!`.
    pub negated: bool,
}

/// What the rules say about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision<'a> {
    pub excluded: bool,
    /// The rule that decided; `None` when none matched.
    pub rule: Option<&'a Rule>,
}

/// A rule that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct IgnoreError {
    /// From 1.
    pub line: usize,
    pub problem: IgnoreProblem,
}

/// What is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreProblem {
    #[error("illegal exclusion pattern: `!`")]
    LoneExclamation,
    #[error(transparent)]
    BadPattern(#[from] super::BadPattern),
}

#[derive(Debug, Clone)]
struct Compiled {
    rule: Rule,
    matcher: Matcher,
}

impl Ignore {
    /// Reads a `.dockerignore` file. A byte order mark is dropped; `#` in the first
    /// column begins a comment.
    ///
    /// Grammar: ignore_file
    pub fn parse(bytes: &[u8]) -> Result<Ignore, IgnoreError> {
        let text = String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
        let lines = text.split('\n').enumerate().filter(|(_, line)| !line.starts_with('#'));
        Ignore::compile(lines.map(|(index, line)| (index + 1, line)))
    }

    /// Makes rules of patterns (`--exclude`): as in a file, but `#` begins no comment.
    pub fn from_patterns<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Ignore, IgnoreError> {
        Ignore::compile(patterns.into_iter().enumerate().map(|(index, pattern)| (index + 1, pattern)))
    }

    fn compile<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Result<Ignore, IgnoreError> {
        let mut rules = Vec::new();
        for (line, text) in lines {
            if let Some(rule) = compile_rule(line, text).map_err(|problem| IgnoreError { line, problem })? {
                rules.push(rule);
            }
        }
        Ok(Ignore { rules })
    }

    /// Tells whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Tells whether any rule begins with `!`.
    pub fn has_negated(&self) -> bool {
        self.rules.iter().any(|rule| rule.rule.negated)
    }

    /// Returns the rules in order.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().map(|rule| &rule.rule)
    }

    /// Decides on a path: relative to the context, separated by `/`, without `.` and `..`.
    pub fn excluded(&self, path: &str) -> Decision<'_> {
        let decided = self.decide(path);
        Decision {
            excluded: decided.is_some_and(|index| !self.rules[index].rule.negated),
            rule: decided.map(|index| &self.rules[index].rule),
        }
    }

    /// Tells whether a directory and all that can be below it are excluded, so that it
    /// need not be read.
    pub fn prune(&self, directory: &str) -> bool {
        match self.decide(directory) {
            Some(index) if !self.rules[index].rule.negated => {
                // The deciding rule matches all that is below too, so only a later rule
                // can take something back.
                let below = format!("{directory}/");
                let mut later = self.rules[index + 1..].iter().filter(|rule| rule.rule.negated);
                !later.any(|rule| rule.matcher.may_match_below(&below))
            }
            _ => false,
        }
    }

    /// Returns the rule that decides on a path. Only rules that would change what the
    /// rules before them said are tried, as Docker does.
    fn decide(&self, path: &str) -> Option<usize> {
        let mut decided = None;
        let mut excluded = false;
        for (index, rule) in self.rules.iter().enumerate() {
            if rule.rule.negated == excluded && rule.matcher.matches_path_or_parent(path) {
                excluded = !rule.rule.negated;
                decided = Some(index);
            }
        }
        decided
    }
}

/// Reads one rule.
///
/// Grammar: ignore_rule
fn compile_rule(line: usize, text: &str) -> Result<Option<Compiled>, IgnoreProblem> {
    let text = text.trim();
    let (negated, pattern) = match text.strip_prefix('!') {
        Some(rest) => (true, rest.trim()),
        None => (false, text),
    };
    if pattern.is_empty() {
        return if negated { Err(IgnoreProblem::LoneExclamation) } else { Ok(None) };
    }
    let clean = clean(pattern);
    let clean = if clean.len() > 1 { clean.strip_prefix('/').unwrap_or(&clean) } else { &clean };
    Pattern::new(clean)?;
    let rule = Rule { line, text: text.to_owned(), negated };
    Ok(Some(Compiled { rule, matcher: Matcher::new(clean)? }))
}

/// Shortens a path as Go's `filepath.Clean`: no `.`, no doubled `/`, `..` resolved.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn excluded(rules: &str, path: &str) -> bool {
        Ignore::parse(rules.as_bytes()).unwrap().excluded(path).excluded
    }

    #[test]
    fn decides() {
        let check = |rules: &str, path, expect| {
            assert_eq!(excluded(rules, path), expect, "{rules:?} {path}");
        };
        check("", "a", false);
        check("a", "a", true);
        check("a", "a/b/c", true);
        check("a", "ab", false);
        check("a", "b/a", false);
        check("/a", "a", true);
        check("./a/", "a", true);
        check(" a \r", "a", true);
        check("a/../b", "b", true);
        check("../a", "a", false);
        check(".", "a", false);
        check("/", "a", false);
        check("*", "a/b", true);
        check("*/b", "a/b/c", true);
        check("*/b", "b", false);
        check("*.py", "a.py", true);
        check("*.py", "d/a.py", false);
        check("a?", "ab", true);
        check("a?", "a/", false);
        check("[ab]c", "bc", true);
        check("[^ab]c", "bc", false);
        check("a\\*", "a*", true);
        check("a\\*", "ab", false);
        check("**", "a/b", true);
        check("**/a", "a", true);
        check("**/a", "x/y/a", true);
        check("**/a", "x/y/a/b", true);
        check("**/a", "xa", false);
        check("**a", "xa", true);
        check("**a", "x/ya", true);
        check("**a?", "xab", false);
        check("**/*.py", "x/y/z.py", true);
        check("**/*.py", "z.py", true);
        check("a/**", "a/b/c", true);
        check("a/**", "a", false);
        check("a/**/b", "a/b", true);
        check("a/**/b", "a/x/y/b", true);
        check("a/**/b", "a/xb", false);
        check("a**b", "ab", true);
        check("a**b", "ax/b", true);
        check("**/a/**", "x/a/y", true);
        check("**/a/**", "x/a", false);
        check("# a\n#b", "#b", false);
        check(" #b", "#b", true);
        check("\u{feff}a", "a", true);
        check("é/*", "é/ü", true);
        check("a.b", "axb", false);
        check("(a|b)+", "(a|b)+", true);
    }

    #[test]
    fn last_match_wins() {
        let check = |rules: &str, path, expect| {
            assert_eq!(excluded(rules, path), expect, "{rules:?} {path}");
        };
        check("*\n!a", "a", false);
        check("*\n!a", "b", true);
        check("*\n!a/b", "a/b/c", false);
        check("*\n!a/b", "a/c", true);
        check("*\n!a\na/b", "a/b", true);
        check("!a\n*", "a", true);
        check("*\n! a", "a", false);
        check("*\n!/a", "a", false);
        check("*\n!**/keep", "x/keep", false);
        check("a\n!a/b\na/b/c", "a/b/c", true);
        check("a\n!a/b\na/b/c", "a/b/d", false);
    }

    #[test]
    fn names_the_rule() {
        let ignore = Ignore::parse(b"# x\n*.o\n!keep.o\n").unwrap();
        let check = |path, expect: Option<(usize, &str)>| {
            assert_eq!(ignore.excluded(path).rule.map(|r| (r.line, r.text.as_str())), expect);
        };
        check("a.o", Some((2, "*.o")));
        check("keep.o", Some((3, "!keep.o")));
        check("a.c", None);
        assert!(ignore.has_negated() && !ignore.is_empty());
    }

    #[test]
    fn prunes() {
        let check = |rules: &str, directory, expect| {
            let ignore = Ignore::parse(rules.as_bytes()).unwrap();
            assert_eq!(ignore.prune(directory), expect, "{rules:?} {directory}");
        };
        check("a", "a", true);
        check("a", "b", false);
        check("a/*", "a", false);
        check("*\n!a/b/c", "a", false);
        check("*\n!a/b/c", "a/b", false);
        check("*\n!a/b/c", "a/x", true);
        check("*\n!a/b/c", "b", true);
        check("*\n!**/x", "b", false);
        check("*\n!a/*/x", "a/b", false);
        check("*\n!a/*/x", "b", true);
        check("*\n!a/**", "a", false);
        check("!a/b\na", "a", true);
        check("**/node_modules", "x/node_modules", true);
        check("*\n!a\na/b", "a/b", true);
    }

    #[test]
    fn refuses() {
        let check = |rules: &[u8], expect: &str| {
            assert_eq!(Ignore::parse(rules).unwrap_err().to_string(), expect);
        };
        check(b"a\n!\n", "line 2: illegal exclusion pattern: `!`");
        check(b"a[", "line 1: syntax error in pattern `a[`");
        check(b"\n\n**/a\\", "line 3: syntax error in pattern `**/a\\`");
    }

    #[test]
    fn long_patterns_and_no_exponential_time() {
        let rule = "**/a*".repeat(200) + "b";
        assert!(!excluded(&rule, &"a/".repeat(2000)));
        assert!(excluded(&("a?".repeat(100)), &"ab".repeat(100)));
    }

    #[test]
    fn takes_patterns() {
        let ignore = Ignore::from_patterns(["#a", "*.md"]).unwrap();
        assert!(ignore.excluded("#a").excluded && ignore.excluded("x.md").excluded);
        assert_eq!(ignore.rules().count(), 2);
    }

    proptest! {
        #[test]
        fn never_panics(rules in "\\PC{0,30}(\n\\PC{0,20}){0,3}", path in "\\PC{0,20}") {
            if let Ok(ignore) = Ignore::parse(rules.as_bytes()) {
                let _ = ignore.excluded(&path);
                let _ = ignore.prune(&path);
            }
        }

        /// What is pruned has nothing below it that is not excluded.
        #[test]
        fn prune_is_safe(
            rules in "(!?[ab*?]{1,3}(/[ab*]{1,3}){0,2}\n){1,4}",
            directory in "[ab]{1,2}(/[ab]{1,2}){0,1}",
            below in "[ab]{1,2}(/[ab]{1,2}){0,2}",
        ) {
            let ignore = Ignore::parse(rules.as_bytes()).unwrap();
            if ignore.prune(&directory) {
                let path = format!("{directory}/{below}");
                prop_assert!(ignore.excluded(&path).excluded, "{rules:?} {path}");
            }
        }

        /// Paths with one component behave as `filepath.Match` has it.
        #[test]
        fn one_component_is_match(pattern in "[ab?\\*]{1,5}", name in "[ab]{1,6}") {
            // `**` means something else in rules.
            let pattern = pattern.replace("**", "*").replace("**", "*");
            prop_assert_eq!(excluded(&pattern, &name), super::super::matches(&pattern, &name).unwrap());
        }
    }
}
