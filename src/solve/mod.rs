//! The engine: which vertices are cached, which run, and when.
//!
//! It is generic over two traits: a [`Worker`] does what vertices ask for, a
//! [`CacheSource`] keeps records of what was done. Not here: paths, mounts,
//! images and files; the engine never sees one. What is in a key and what is
//! not: `docs/cache-key.md`.

mod cancel;
mod difference;
mod imports;
mod key;
mod node;
mod outcome;
mod probe;
mod record;
mod scheduler;
mod survey;
mod traits;
mod values;
mod why;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod imports_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod why_tests;

pub use cancel::{Cancel, Hook};
pub use difference::{Difference, FileChange, How};
pub use imports::{Imported, ImportedLayer, Imports, selection_name};
pub use key::{Fields, Value, cache_key, op_digest, op_kind, step_digest};
pub use outcome::{Options, Outcome, Shared, SolveError, Solved};
pub use probe::{lacking, probe};
pub use record::{InputKey, InputKind, Record};
pub use scheduler::solve;
pub use survey::{Verdict, survey};
pub use traits::{
    CacheError, CacheSource, Earlier, EarlierEnd, Existing, Guard, InputView, Layer, Log, Produced, Said,
    Selected, Task, View, Worker,
};
pub use why::{Explanation, Nearest};
