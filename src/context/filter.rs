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
        let path = path.to_string_lossy();
        let decision = self.rules.excluded(&path);
        let rule = decision.rule.filter(|_| decision.excluded)?;
        Some(format!("line {} of {} leaves it out: `{}`", rule.line, self.file, rule.text))
    }
}
