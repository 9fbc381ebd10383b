//! File name patterns: Go's `filepath.Match`, and `.dockerignore` rules.
//!
//! Pure: no file is opened here. Not here: the patterns in `${v#p}`
//! (`dockerfile::expand`), which are a shell's.

mod glob;
mod ignore;

pub use glob::{BadPattern, Pattern, matches};
pub use ignore::{Decision, Ignore, IgnoreError, IgnoreProblem, Rule};
