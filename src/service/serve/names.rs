//! Names of branches and tags, and commits, as strangers write them: what is none is refused. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a push moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Branch,
    Tag,
}

/// A branch or a tag of a repository, by its whole name: `refs/heads/main`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RefName(String);

impl RefName {
    /// Reads a whole name; an error says what is wrong with it.
    ///
    /// Stricter than git-check-ref-format(1): letters, digits and `. _ - / + @`, so that the name can be no option,
    /// no path that leads elsewhere, and no part of an address.
    pub fn new(text: &str) -> Result<RefName, &'static str> {
        let short = text.strip_prefix("refs/heads/").or_else(|| text.strip_prefix("refs/tags/"));
        let short = short.ok_or("it is neither a branch (refs/heads/) nor a tag (refs/tags/)")?;
        if text.len() > 255 {
            return Err("it is longer than 255 bytes");
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/+@".contains(&byte);
        if !short.bytes().all(plain) {
            return Err("it has other signs than letters, digits and . _ - / + @");
        }
        let part = |part: &str| {
            !part.is_empty()
                && !part.starts_with(['-', '.'])
                && !part.ends_with('.')
                && !part.ends_with(".lock")
                && !part.contains("..")
                && part != "@"
        };
        match short.split('/').all(part) {
            true => Ok(RefName(text.to_owned())),
            false => Err("git allows no such name"),
        }
    }

    /// Makes the whole name of a branch.
    pub fn branch(name: &str) -> Result<RefName, &'static str> {
        RefName::new(&format!("refs/heads/{name}"))
    }

    /// Makes the whole name of a tag.
    pub fn tag(name: &str) -> Result<RefName, &'static str> {
        RefName::new(&format!("refs/tags/{name}"))
    }

    /// Returns the whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns what it is.
    pub fn kind(&self) -> Kind {
        if self.0.starts_with("refs/tags/") { Kind::Tag } else { Kind::Branch }
    }

    /// Returns the name as people say it: `main`.
    pub fn short(&self) -> &str {
        self.0.splitn(3, '/').nth(2).unwrap_or(&self.0)
    }
}

impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

impl TryFrom<String> for RefName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<RefName, &'static str> {
        RefName::new(&text)
    }
}

impl From<RefName> for String {
    fn from(name: RefName) -> String {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_names() {
        let check = |text: &str, short: &str, kind| {
            let name = RefName::new(text).unwrap();
            assert_eq!((name.short(), name.kind()), (short, kind));
        };
        check("refs/heads/main", "main", Kind::Branch);
        check("refs/heads/feature/a_b-1.x", "feature/a_b-1.x", Kind::Branch);
        check("refs/tags/v1.0+rc@2", "v1.0+rc@2", Kind::Tag);
    }

    #[test]
    fn names_that_are_tricks() {
        let long = format!("refs/heads/{}", "x".repeat(300));
        for text in [
            "",
            "main",
            "HEAD",
            "refs/heads/",
            "refs/notes/x",
            "refs/heads/-x",
            "refs/heads/a/-b",
            "refs/heads/..",
            "refs/heads/a..b",
            "refs/heads/../../etc",
            "refs/heads/a//b",
            "refs/heads/.a",
            "refs/heads/a.lock",
            "refs/heads/a b",
            "refs/heads/a\n",
            "refs/heads/a:b",
            "refs/heads/a#b",
            "refs/heads/a?b",
            "refs/heads/a%2e",
            "refs/heads/@",
            "refs/heads/a\0",
            "refs/heads/ä",
            "refs/heads/$(x)",
            "--upload-pack=x",
            &long,
        ] {
            assert!(RefName::new(text).is_err(), "{text:?}");
        }
    }
}
