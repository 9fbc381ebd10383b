//! Which branches and tags of a repository become which images. Pure.

use globset::{GlobBuilder, GlobMatcher};
use regex::Regex;

use super::names::{Kind, RefName};
use crate::image::is_tag;

/// A rule: a pattern of names, and the tag of the image.
#[derive(Debug)]
pub struct Rule {
    kind: Kind,
    pattern: Pattern,
    tag: String,
}

#[derive(Debug)]
enum Pattern {
    Exact(String),
    Glob(GlobMatcher),
    Regex(Regex),
}

/// The largest program that a pattern may become, in bytes.
const REGEX_LIMIT: usize = 1 << 20;

impl Rule {
    /// Reads a rule. The pattern is a name, a glob (`*` stops at `/`, `**` does not) or `/a regular expression/`.
    /// The tag may hold `{branch}` or `{tag}`, `{sha}`, `{short_sha}` and, for an expression's groups, `{1}` to `{9}`.
    pub fn new(kind: Kind, pattern: &str, tag: &str) -> Result<Rule, String> {
        let inner = pattern.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
        let pattern = match inner {
            Some(expression) => {
                let built = regex::RegexBuilder::new(expression).size_limit(REGEX_LIMIT).build();
                Pattern::Regex(built.map_err(|error| format!("bad regular expression: {error}"))?)
            }
            None if pattern.contains(['*', '?', '[', '{']) => {
                let glob = GlobBuilder::new(pattern).literal_separator(true).build();
                Pattern::Glob(glob.map_err(|error| format!("bad pattern: {error}"))?.compile_matcher())
            }
            None => {
                let name = match kind {
                    Kind::Branch => RefName::branch(pattern),
                    Kind::Tag => RefName::tag(pattern),
                };
                name.map_err(|why| format!("`{pattern}` is no name: {why}"))?;
                Pattern::Exact(pattern.to_owned())
            }
        };
        let rule = Rule { kind, pattern, tag: tag.to_owned() };
        // With values that are good in any place, what is left is what the template itself says.
        let (example, unknown) = rule.fill(&|word| rule.is_known(word).then(|| "1".to_owned()));
        if let Some(word) = unknown {
            let name = if kind == Kind::Tag { "{tag}" } else { "{branch}" };
            return Err(format!(
                "`{{{word}}}` stands for nothing in a tag: there are {name}, {{sha}}, {{short_sha}}, and {{1}} to {{9}} \
                 for the groups of a regular expression"
            ));
        }
        match is_tag(&example) {
            true => Ok(rule),
            false => {
                Err(format!("`{tag}` gives no tag: 1 to 128 of A-Z a-z 0-9 _ . -, not starting with . or -"))
            }
        }
    }

    fn is_known(&self, word: &str) -> bool {
        match (word, &self.pattern) {
            ("sha" | "short_sha" | "sourceref", _) => true,
            ("branch", _) => self.kind == Kind::Branch,
            ("tag", _) => self.kind == Kind::Tag,
            (word, Pattern::Regex(regex)) => {
                word.parse::<usize>().is_ok_and(|group| (1..regex.captures_len()).contains(&group))
            }
            _ => false,
        }
    }

    /// Puts values in place of `{words}`; returns the first word that has none, too.
    fn fill(&self, value: &dyn Fn(&str) -> Option<String>) -> (String, Option<String>) {
        let (mut text, mut unknown) = (String::new(), None);
        let mut rest = self.tag.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            text += before;
            let Some((word, after)) = after.split_once('}') else {
                return (text, Some(after.to_owned()));
            };
            match value(word) {
                Some(value) => text += &value,
                None => unknown = unknown.or_else(|| Some(word.to_owned())),
            }
            rest = after;
        }
        (text + rest, unknown)
    }

    /// Tells whether a name is one of the rule's.
    pub fn matches(&self, name: &RefName) -> bool {
        self.kind == name.kind()
            && match &self.pattern {
                Pattern::Exact(text) => text == name.short(),
                Pattern::Glob(glob) => glob.is_match(name.short()),
                Pattern::Regex(regex) => regex.is_match(name.short()),
            }
    }

    /// Returns the one name that the rule is about, where it has no pattern.
    pub fn only(&self) -> Option<RefName> {
        match (&self.pattern, self.kind) {
            (Pattern::Exact(text), Kind::Branch) => RefName::branch(text).ok(),
            (Pattern::Exact(text), Kind::Tag) => RefName::tag(text).ok(),
            _ => None,
        }
    }

    /// Returns the image's tag for a commit; `None` where the rule is not about the name, or nothing is left of it.
    pub fn tag(&self, name: &RefName, commit: &str) -> Option<String> {
        if !self.matches(name) {
            return None;
        }
        let groups = match &self.pattern {
            Pattern::Regex(regex) => regex.captures(name.short()),
            _ => None,
        };
        let (text, _) = self.fill(&|word| match word {
            "sha" => Some(commit.to_owned()),
            "short_sha" => Some(commit.chars().take(7).collect()),
            "branch" | "tag" | "sourceref" => Some(name.short().to_owned()),
            word => {
                let group = groups.as_ref()?.get(word.parse().ok()?);
                Some(group.map_or(String::new(), |group| group.as_str().to_owned()))
            }
        });
        let good = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' };
        let text: String = text.chars().map(good).collect();
        let text: String = text.trim_start_matches(['.', '-']).chars().take(128).collect();
        is_tag(&text).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn names_become_tags() {
        let check = |kind, pattern: &str, tag: &str, name: &str, expect: Option<&str>| {
            let rule = Rule::new(kind, pattern, tag).unwrap();
            let found = rule.tag(&RefName::new(name).unwrap(), COMMIT);
            assert_eq!(found.as_deref(), expect, "{pattern} {tag} {name}");
        };
        use Kind::{Branch, Tag};
        check(Branch, "main", "latest", "refs/heads/main", Some("latest"));
        check(Branch, "main", "latest", "refs/tags/main", None);
        check(Branch, "main", "latest", "refs/heads/main2", None);
        check(Branch, "*", "{branch}", "refs/heads/x", Some("x"));
        check(Branch, "*", "{branch}", "refs/heads/a/b", None);
        check(Branch, "**", "{branch}", "refs/heads/a/b", Some("a-b"));
        check(
            Branch,
            "release/*",
            "{branch}-{short_sha}",
            "refs/heads/release/2+1",
            Some("release-2-1-0123456"),
        );
        check(Tag, "v*", "{tag}", "refs/tags/v1.0", Some("v1.0"));
        check(Tag, "/^v([0-9]+)\\.([0-9]+)/", "{1}-of-{2}", "refs/tags/v1.20.3", Some("1-of-20"));
        check(Tag, "/^v([0-9.]+)$/", "{1}", "refs/tags/v1.2x", None);
        check(Tag, "/^(x)?(.*)$/", "{1}{2}", "refs/tags/a@b", Some("a-b"));
        check(Branch, "/.*/", "{sha}", "refs/heads/x", Some(COMMIT));
        check(Branch, "/^([@+]*)$/", "{1}", "refs/heads/+", None);
    }

    #[test]
    fn what_gives_no_tag_is_told_before() {
        let check = |pattern: &str, tag: &str, words: &str| {
            let error = Rule::new(Kind::Branch, pattern, tag).unwrap_err();
            assert!(error.contains(words), "{pattern} {tag}: {error}");
        };
        check("main", "", "gives no tag");
        check("main", "a/b", "gives no tag");
        check("main", "-x", "gives no tag");
        check("main", "{tag}", "stands for nothing");
        check("main", "{1}", "stands for nothing");
        check("/x/", "{1}", "stands for nothing");
        check("main", "{branch", "stands for nothing");
        check("/(/", "x", "bad regular expression");
        check("/(a{1000}){1000}/", "x", "bad regular expression");
        check("[", "x", "bad pattern");
        check("a b", "x", "is no name");
    }

    #[test]
    fn a_rule_of_one_name_says_it() {
        let only = |pattern| Rule::new(Kind::Branch, pattern, "x").unwrap().only();
        assert_eq!(only("main"), Some(RefName::branch("main").unwrap()));
        assert_eq!(only("m*"), None);
    }
}
