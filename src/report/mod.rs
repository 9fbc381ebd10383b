//! What the engine says, and the sinks that show it.
//!
//! `event` holds the events, `diagnostic` findings about a text, `excerpt`
//! draws a finding as rustc does, `clean` makes output safe for a terminal,
//! `redact` takes passwords out of it, `chain` joins causes, `plain` and `quiet`
//! are sinks, `record` is what of a build is kept. Nothing here decides anything; sinks write to a writer they
//! are given.

mod chain;
pub mod clean;
mod diagnostic;
mod event;
pub mod excerpt;
mod plain;
mod quiet;
pub mod record;
mod redact;

pub use chain::chain;
pub use diagnostic::{Diagnostic, Severity, Span};
pub use event::{Event, Reporter, Silent, Step, Stream};
pub use plain::Plain;
pub use quiet::Quiet;
pub use redact::{mask, redact};
