//! Which paths of a tree are left out: .dockerignore rules and `--exclude` patterns.
//!
//! Not here: the syntax and its meaning (`pattern`).

use std::path::Path;

use crate::pattern::Ignore;

use super::error::ContextError;

/// Rules with the name of the file they came from.
#[derive(Debug)]
pub struct Filter {
    file: String,
    rules: Ignore,
}

/// What rules say of a path; the later, the stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    In,
    /// A directory that is left out itself, but something below it may come in.
    Perhaps,
    /// It is left out with all that is below it.
    Out,
}

/// The rule that decided on a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deciding {
    /// The file it is from.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// As written, without surrounding blanks.
    pub text: String,
}

impl Filter {
    /// Reads the rules of an ignore file.
    pub fn of_file(file: String, bytes: &[u8]) -> Result<Filter, ContextError> {
        match Ignore::parse(bytes) {
            Ok(rules) => Ok(Filter { file, rules }),
            Err(e) => Err(ContextError::Ignore { file, why: e.to_string() }),
        }
    }

    /// Makes rules of the patterns of `--exclude`.
    pub fn of_patterns(patterns: &[String]) -> Result<Filter, ContextError> {
        let rules = Ignore::from_patterns(patterns.iter().map(String::as_str)).map_err(|e| {
            let pattern = patterns.get(e.line - 1).cloned().unwrap_or_default();
            ContextError::Pattern { pattern, why: e.problem.to_string() }
        })?;
        Ok(Filter { file: "--exclude".to_owned(), rules })
    }

    /// Returns the rules themselves.
    pub fn rules(&self) -> &Ignore {
        &self.rules
    }

    /// Decides on a path relative to the root of the rules.
    pub fn verdict(&self, path: &Path, is_dir: bool) -> Verdict {
        if self.rules.is_empty() {
            return Verdict::In;
        }
        let path = path.to_string_lossy();
        match self.rules.excluded(&path).excluded {
            false => Verdict::In,
            true if is_dir && !self.rules.prune(&path) => Verdict::Perhaps,
            true => Verdict::Out,
        }
    }

    /// Says which rule leaves a path out; `None` when none does.
    pub fn reason(&self, path: &Path) -> Option<String> {
        let (left_out, rule) = self.decision(path);
        let rule = rule.filter(|_| left_out)?;
        Some(format!("{}:{} leaves it out: `{}`", rule.file, rule.line, rule.text))
    }

    /// Tells whether a path is left out, and the rule that decided; `None` when none is about it.
    pub fn decision(&self, path: &Path) -> (bool, Option<Deciding>) {
        let path = path.to_string_lossy();
        let decision = self.rules.excluded(&path);
        let rule = decision.rule.map(|rule| Deciding {
            file: self.file.clone(),
            line: rule.line,
            text: rule.text.clone(),
        });
        (decision.excluded, rule)
    }

    /// Tells whether a directory is left out with all that can be below it.
    pub fn prunes(&self, directory: &Path) -> bool {
        self.rules.prune(&directory.to_string_lossy())
    }

    /// Returns the name of the file that the rules are from.
    pub fn file(&self) -> &str {
        &self.file
    }
}
