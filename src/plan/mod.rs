//! Tree and arguments and base configs to the instruction graph.
//!
//! Pure: no clock, no environment, no files, no network. [`outline()`] says which
//! images must be known, [`lower()`] makes the [`graph::Graph`]; both start from
//! `stages`, which sorts a file into stages and finds out what each needs.

pub mod call;
pub mod change;
pub mod check;
mod config;
mod copy;
mod epoch;
pub mod fields;
mod gofmt;
pub mod graph;
mod lower;
mod mount;
mod onbuild;
mod outline;
mod path;
pub mod render;
mod request;
mod run;
mod scope;
mod signal;
mod stage;
mod stages;
mod variables;
mod words;

#[cfg(test)]
mod tests;

pub use check::{Checked, Warnings, check, warnings};
pub use gofmt::parse_duration;
pub use lower::{Lowered, lower};
pub use outline::{EpochNeed, ImageNeed, Outline, outline};
pub use request::{Base, Bases, Entitlements, NamedContext, Request};
pub use scope::looks_secret;
