//! File name patterns: Go's `filepath.Match`, patterns with `**`, and `.dockerignore` rules.
//!
//! Pure: no file is opened here. Not here: the patterns in `${v#p}`
//! (`dockerfile::expand`), which are a shell's.

mod glob;
mod ignore;
mod matcher;

pub use glob::{BadPattern, Pattern, matches};
pub use ignore::{Decision, Ignore, IgnoreError, IgnoreProblem, Rule};
pub use matcher::PathPattern;
