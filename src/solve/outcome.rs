//! What goes into a solve beside the graph, and what comes out of it.
//!
//! Not here: how it gets there (`scheduler`).

use std::thread;

use crate::image::{ChainDigest, Digest, SelectionDigest, SnapshotId};
use crate::plan::graph::VertexId;

use super::record::Record;
use super::traits::CacheError;

/// How to solve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How many vertices may execute at once; at least 1.
    pub jobs: usize,
    /// How many layers may be digested at once, beside the jobs; at least 1.
    pub digest_jobs: usize,
    /// Whether the outcomes tell what other machines may know ([`Outcome::shared`]).
    pub share: bool,
    /// Whether all of the cache is left aside rather than what some stages find in it; only said, not done:
    /// the graph has it.
    pub no_cache: bool,
}

impl Default for Options {
    /// As many jobs as processors, but 4 at least: steps wait for the network more than they compute.
    fn default() -> Options {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Options { jobs: processors.max(4), digest_jobs: processors, share: false, no_cache: false }
    }
}

/// Says why a graph was not solved.
#[derive(Debug, thiserror::Error)]
pub enum SolveError<E: std::error::Error + 'static> {
    /// The worker failed at a vertex; it says all itself.
    #[error("{error}")]
    Vertex { vertex: VertexId, error: E },
    /// The cache could not lock or publish.
    #[error("cannot share the result of a step: {error}")]
    Cache {
        vertex: VertexId,
        /// The cache's own.
        #[source]
        error: CacheError,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
    /// Somebody asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// What became of every vertex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Solved {
    /// In the order of [`Graph::vertices`].
    pub outcomes: Vec<Outcome>,
}

/// What became of one vertex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The vertex whose state it works on.
    pub base: Option<VertexId>,
    /// The layers of an Image, lowest first; of others, the one it made or none.
    pub own: Vec<SnapshotId>,
    /// The digest of the whole state.
    pub chain: ChainDigest,
    /// What another machine may know of it, where that was asked for; of images and contexts nothing.
    pub shared: Option<Shared>,
    /// When its result was made, in milliseconds since 1970; `None` for images and contexts.
    pub created_unix_ms: Option<i64>,
    /// Whether nothing was executed for it in this solve.
    pub cached: bool,
    /// Why it was executed.
    pub why: Option<String>,
}

/// A result as other machines would look for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// Its key is portable ([`super::Imports`]), its content the word of whoever ran the step.
    pub record: Record,
    /// What its sources and mounts came to, by [`super::selection_name`].
    pub selections: Vec<(Digest, SelectionDigest)>,
}

impl Solved {
    /// Returns what became of a vertex.
    pub fn outcome(&self, id: VertexId) -> &Outcome {
        &self.outcomes[id.0]
    }

    /// Returns all layers of the state after a vertex, lowest first.
    pub fn layers(&self, id: VertexId) -> Vec<SnapshotId> {
        let mut layers = Vec::new();
        let mut next = Some(id);
        while let Some(id) = next {
            let outcome = self.outcome(id);
            layers.extend(outcome.own.iter().rev().cloned());
            next = outcome.base;
        }
        layers.reverse();
        layers
    }
}
