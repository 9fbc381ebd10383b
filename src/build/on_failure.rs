//! What becomes of a build whose command failed: a look inside the step, and on with it or not.
//!
//! Nothing is locked meanwhile, so that other builds go on, and may do the same step. A build that goes on begins
//! anew from what is cached: the step runs from its clean start, and nothing that was written in a shell gets
//! into a layer. Not here: terminals and words (`cli`), the shell itself (`worker`).

use super::Findings;
use super::error::BuildError;
use crate::image::SnapshotId;
use crate::plan::graph::{Graph, VertexId};
use crate::report::Step;
use crate::store::Store;
use crate::worker::{Place, Shell, ShellRequest, StoreWorker};

/// How a build goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Everything that is not done is tried again.
    Retry,
    Abort,
}

/// Whoever is asked when a command failed.
pub trait OnFailure {
    /// Hears of a command that failed; all other steps have ended. The build waits for the answer.
    fn failed(&self, failed: FailedStep<'_>) -> Next;
}

/// A command that failed.
pub struct FailedStep<'a> {
    /// What there is to say of it.
    pub findings: Findings,
    pub step: Step,
    pub opener: Opener<'a>,
}

/// Opens a shell in one place, once.
pub struct Opener<'a> {
    pub(super) worker: &'a StoreWorker<'a>,
    pub(super) store: &'a Store,
    pub(super) place: Place,
    /// What must not be removed meanwhile, beside what the place stands on.
    pub(super) pinned: Vec<SnapshotId>,
}

impl Opener<'_> {
    /// Opens the shell. From then on the store is free for others, but for the layers that are needed here.
    pub fn open(self, request: ShellRequest) -> Result<Shell, BuildError> {
        let mut layers = self.pinned;
        layers.extend(self.place.layers());
        layers.sort();
        layers.dedup();
        let shell = self.worker.open_shell(self.place, request)?;
        self.store.hold_only(&layers)?;
        Ok(shell)
    }
}

/// Returns the step that a user knows a vertex by: the first that shows it.
pub fn step_of(graph: &Graph, vertex: VertexId) -> Step {
    let total = graph.stages.iter().map(|stage| stage.steps.len()).sum();
    let mut number = 0;
    for stage in &graph.stages {
        for step in &stage.steps {
            number += 1;
            if step.vertex == Some(vertex) {
                let name = stage.name.clone().unwrap_or_else(|| stage.index.to_string());
                return Step {
                    number,
                    total,
                    stage: (graph.stages.len() > 1).then_some(name),
                    text: step.text.clone(),
                    line: step.line,
                };
            }
        }
    }
    let vertex = graph.vertex(vertex);
    Step { number: 0, total, stage: None, text: vertex.text.clone(), line: vertex.line }
}
