//! What must hold for any input: a `check` for each fuzz target.
//!
//! The fuzz targets call these; `tests/it/fuzz_corpus.rs` takes this file in as a module, and
//! runs the same checks on the corpus and on random bytes with the stable toolchain. A check
//! panics when something does not hold. `*_model` files hold plain second definitions of a
//! rule, slow and simple, which the real ones are compared with. Not here: the fuzzer.

pub mod archive;
mod choices;
pub mod dockerfile;
pub mod ignore;
pub mod load;
mod pattern_model;
pub mod reference;
mod word_model;
mod word_tree;
pub mod words;

/// A target's name and its check.
pub type Target = (&'static str, fn(&[u8]));

/// All targets; each has its folder in `fuzz/corpus/` and its file in `fuzz/fuzz_targets/`.
pub const TARGETS: [Target; 6] = [
    ("dockerfile", dockerfile::check),
    ("words", words::check),
    ("ignore", ignore::check),
    ("reference", reference::check),
    ("archive", archive::check),
    ("load", load::check),
];
