//! What the engine says while it works: events, and who hears them.
//!
//! Two levels: vertices (what `solve` sees) and steps (the numbered lines of a
//! Dockerfile, what a user sees; `build` translates). Not here: drawing them.

use std::path::PathBuf;
use std::sync::Arc;
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

/// A step of a build that is about to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStep {
    pub step: Step,
    /// The name of its stage, or its number; that of [`Step`] is only there where several are built.
    pub stage: String,
    /// Its stage's name as the Dockerfile has it; `None` for one without.
    pub stage_name: Option<String>,
    /// What is to be done for it.
    pub work: Work,
    /// The numbers of the steps whose files it reads.
    pub inputs: Vec<usize>,
}

/// What is to be done for a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Nothing: it changes the config only, or is `FROM scratch`.
    None,
    /// Its files are those of an image or of another stage (FROM).
    Base,
    /// It makes a layer: RUN, COPY, ADD, WORKDIR.
    Layer,
}

/// Bytes on their way: one layer that is received or sent, an archive that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// What it is a part of, in a few words: `pull debian:12`.
    pub of: Arc<str>,
    /// Which part; the short digest of a layer.
    pub part: String,
    /// Bytes so far; starts anew where a connection broke.
    pub done: u64,
    /// All bytes; 0 where that is not known.
    pub total: u64,
    /// Whether no more will come.
    pub ended: bool,
}

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A vertex is not cached and starts; `why` says why in one line.
    VertexStarted { vertex: usize, why: String },
    /// By which names builds to come will know a vertex, as hex digits: what it does, and its result (of an
    /// image, its layers); `None` where there is none, or not yet.
    VertexKeyed { vertex: usize, op: Option<String>, key: Option<String> },
    /// A vertex's result was found: in the cache, or by waiting for another build that made it.
    /// `snapshot` is the id of its layer; `None` when it has none. `from` is the cache of elsewhere
    /// that knew it; `None` when the store did.
    VertexCached { vertex: usize, snapshot: Option<String>, from: Option<String> },
    /// A piece of a vertex's output, as it came; not cut at line ends.
    VertexLog { vertex: usize, stream: Stream, data: Vec<u8> },
    /// A vertex that runs said nothing for so long; it has been running for `running`.
    VertexSilent { vertex: usize, silent: Duration, running: Duration },
    /// A vertex waits, before it runs or begins to: `what` says for what, and who has that.
    VertexWaits { vertex: usize, what: String },
    /// A vertex has done its work and others go on from its result; whether its layer stays is
    /// not known yet. `snapshot` is the id of that layer; `None` when it changed nothing.
    VertexCommitted { vertex: usize, snapshot: Option<String> },
    /// A vertex's result is committed, and known to stay. `snapshot` is the id of the layer that
    /// was kept (an older one, when the content is equal); `None` when it changed nothing.
    /// Of an image it is the topmost layer; images and contexts send only this event.
    VertexFinished { vertex: usize, elapsed: Duration, snapshot: Option<String> },
    /// A vertex failed; the error itself is returned by the engine.
    VertexFailed { vertex: usize },

    /// The whole log of the build is written to this file.
    LogFile { path: PathBuf },
    /// The steps there are, before the first begins; once more where all begins anew.
    Planned { steps: Arc<[PlannedStep]> },
    /// The work for a step begins; its line may come later, for lines come in order.
    WorkStarted { number: usize },
    /// The work for a step ended, well or not.
    WorkEnded { number: usize },
    /// A step begins.
    StepStarted { step: Step },
    /// A step that began is not cached; `why` says why in one line.
    StepMissed { step: Step, why: String },
    /// A step is answered from the cache; `from` is that of elsewhere, where it was one.
    StepCached { step: Step, from: Option<String> },
    /// A piece of a step's output.
    StepLog { step: Step, stream: Stream, data: Vec<u8> },
    /// A step that runs said nothing for so long; it has been running for `running`.
    StepSilent { step: Step, silent: Duration, running: Duration },
    /// A step waits: `what` says for what, and who has that. Its line may come later.
    StepWaits { step: Step, what: String },
    /// A step is done; `id` is what `run`, `inspect` and `tag` accept for it (12 hex digits).
    StepFinished { step: Step, id: String },
    /// A step failed.
    StepFailed { step: Step },
    /// A step that ran was stopped, because another failed or the user wished so.
    StepStopped { step: Step },

    /// A line about an image that is pulled.
    Pull { text: String },
    /// Bytes of a transfer.
    Transfer(Transfer),
    /// All of a transfer is there, or it was given up; `of` as in [`Transfer`].
    TransferEnded { of: Arc<str> },
    /// Something worth knowing that is no error; shown once per text.
    Note { text: String },
    /// A warning that concerns no line of a Dockerfile; shown once per text.
    Warning { text: String },
    /// A finding in a Dockerfile.
    Finding { file: String, source: Arc<str>, diagnostic: Diagnostic },
}
