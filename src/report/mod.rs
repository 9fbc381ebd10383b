//! What the engine says, and the sinks that show it.
//!
//! `event` holds the events, `diagnostic` findings about a text, `excerpt`
//! draws a finding as rustc does, `clean` makes output safe for a terminal,
//! `redact` takes passwords out of it, `chain` joins causes, `plain`, `quiet`, `raw_json`
//! and `view` (for a terminal, of `line`s) are sinks, `record` is what of a build is kept.
//! Nothing here decides anything; sinks write to a writer they are given.

mod chain;
pub mod clean;
mod diagnostic;
mod event;
pub mod excerpt;
mod line;
mod meter;
mod pause;
mod plain;
mod quiet;
mod raw_json;
pub mod record;
mod redact;
pub mod view;

pub use chain::chain;
pub use diagnostic::{Diagnostic, Severity, Span};
pub use event::{Event, PlannedStep, Reporter, Silent, Step, Stream, Transfer, Work};
pub use line::{Ink, Line};
pub use meter::{Meter, Metered};
pub use plain::Plain;
pub use quiet::Quiet;
pub use raw_json::RawJson;
pub use redact::{mask, redact};
