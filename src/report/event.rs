//! What the engine says while it works: events, and who hears them.
//!
//! Two levels: vertices (what `solve` sees) and steps (the numbered lines of a
//! Dockerfile, what a user sees; `build` translates). Not here: drawing them.

use std::time::Duration;

use super::Diagnostic;

/// Hears events; called from many threads at once.
pub trait Reporter: Sync {
    /// Takes one event. Must return quickly: a step's output passes through here.
    fn event(&self, event: Event);
}

/// A reporter that drops all it hears.
pub struct Silent;

impl Reporter for Silent {
    fn event(&self, _: Event) {}
}

/// Which of a process's outputs a piece of log came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// A numbered step as a user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// From 1, in the order of the listing.
    pub number: usize,
    pub total: usize,
    /// The stage's name (or its number), where several stages are built at once.
    pub stage: Option<String>,
    /// The instruction as one line: `RUN apt-get update`.
    pub text: String,
    /// The line of the Dockerfile it starts on, from 1; 0 for one that ONBUILD brought.
    pub line: usize,
}

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A vertex is not cached and starts; `why` says why in one line.
    VertexStarted { vertex: usize, why: String },
    /// A vertex's result was found: in the cache, or by waiting for another build that made it.
    /// `snapshot` is the id of its layer; `None` when it has none. `from` is the cache of elsewhere
    /// that knew it; `None` when the store did.
    VertexCached { vertex: usize, snapshot: Option<String>, from: Option<String> },
    /// A piece of a vertex's output, as it came; not cut at line ends.
    VertexLog { vertex: usize, stream: Stream, data: Vec<u8> },
    /// A vertex has done its work and others go on from its result; whether its layer stays is
    /// not known yet. `snapshot` is the id of that layer; `None` when it changed nothing.
    VertexCommitted { vertex: usize, snapshot: Option<String> },
    /// A vertex's result is committed, and known to stay. `snapshot` is the id of the layer that
    /// was kept (an older one, when the content is equal); `None` when it changed nothing.
    /// Of an image it is the topmost layer; images and contexts send only this event.
    VertexFinished { vertex: usize, elapsed: Duration, snapshot: Option<String> },
    /// A vertex failed; the error itself is returned by the engine.
    VertexFailed { vertex: usize },

    /// A step begins.
    StepStarted { step: Step },
    /// A step is answered from the cache; `from` is that of elsewhere, where it was one.
    StepCached { step: Step, from: Option<String> },
    /// A piece of a step's output.
    StepLog { step: Step, stream: Stream, data: Vec<u8> },
    /// A step is done; `id` is what `run`, `inspect` and `tag` accept for it (12 hex digits).
    StepFinished { step: Step, id: String },
    /// A step failed.
    StepFailed { step: Step },
    /// A step that ran was stopped, because another failed or the user wished so.
    StepStopped { step: Step },

    /// A line about an image that is pulled.
    Pull { text: String },
    /// Something worth knowing that is no error; shown once per text.
    Note { text: String },
    /// A warning that concerns no line of a Dockerfile; shown once per text.
    Warning { text: String },
    /// A finding in a Dockerfile.
    Finding { file: String, source: std::sync::Arc<str>, diagnostic: Diagnostic },
}
