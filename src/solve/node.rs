//! What the scheduler knows of one vertex, and what waits to be started.
//!
//! Not here: any decision (`scheduler`).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::image::{CacheKey, ChainDigest, Digest, LayerDigest, OpDigest, SnapshotId};
use crate::plan::graph::Vertex;

use super::key::Fields;
use super::traits::{Guard, Selected};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Waiting,
    Selecting,
    AwaitingBase,
    Locking,
    Queued,
    Running,
    Executed,
    Settled,
}

/// Work of one sort: how much may run at once, and what waits, lowest vertex first.
pub(super) struct Lane {
    pub(super) limit: usize,
    pub(super) running: usize,
    pub(super) waiting: BTreeSet<usize>,
}

impl Lane {
    pub(super) fn new(limit: usize) -> Lane {
        Lane { limit: limit.max(1), running: 0, waiting: BTreeSet::new() }
    }

    pub(super) fn start(&mut self) -> Option<usize> {
        if self.running == self.limit {
            return None;
        }
        let next = self.waiting.pop_first()?;
        self.running += 1;
        Some(next)
    }
}

/// All that is known of a vertex.
pub(super) struct Node {
    pub(super) phase: Phase,
    /// The edges whose vertex has no state yet.
    pub(super) missing: usize,
    /// The vertices that read it, one for each edge.
    pub(super) dependents: Vec<usize>,
    pub(super) base: Option<usize>,
    pub(super) fields: Fields,
    /// `None` for images and contexts, which have no key.
    pub(super) op: Option<OpDigest>,
    /// Of its result, once it was looked for or made.
    pub(super) key: Option<CacheKey>,
    /// Whether the cache held a record of the operation when it was asked.
    pub(super) has_op: Option<bool>,
    /// One for each source and mount, in the order of the inputs.
    pub(super) selected: Vec<Selected>,
    /// The name of its step, once somebody asked.
    pub(super) step: Option<Digest>,
    pub(super) guard: Option<Box<dyn Guard>>,
    /// Whether the lock was another's first.
    pub(super) contended: bool,
    /// The layers it puts on its base.
    pub(super) own: Vec<SnapshotId>,
    /// Whether the digest of its own layer is known, or there is none.
    pub(super) digested: bool,
    pub(super) content: Option<LayerDigest>,
    /// The same as every machine knows it; known when `content` is.
    pub(super) portable_content: Option<LayerDigest>,
    /// Whether others may have found its layer: then it is not this build's to discard.
    pub(super) kept: bool,
    pub(super) created: Option<i64>,
    /// The newest `created` of its state, layers of images included. Known when settled.
    pub(super) newest: i64,
    /// Known when settled.
    pub(super) chain: Option<ChainDigest>,
    /// The chain of what every machine knows its layers by. Known when settled.
    pub(super) portable: Option<ChainDigest>,
    /// Whether its base must settle before it is known whether its selections must be digested.
    pub(super) deferred: bool,
    pub(super) cached: bool,
    pub(super) why: Option<String>,
    pub(super) elapsed: Duration,
    /// New layers beneath it that may yet be replaced, but must stay while a thread reads them.
    pub(super) borrowed: Vec<SnapshotId>,
}

impl Node {
    /// Starts with what the graph says.
    pub(super) fn new(vertex: &Vertex) -> Node {
        Node {
            phase: Phase::Waiting,
            missing: vertex.inputs.iter().filter(|input| input.from.is_some()).count(),
            dependents: Vec::new(),
            base: base_of(vertex),
            fields: Fields::new(),
            op: None,
            key: None,
            has_op: None,
            selected: Vec::new(),
            step: None,
            guard: None,
            contended: false,
            own: Vec::new(),
            digested: false,
            content: None,
            portable_content: None,
            kept: false,
            created: None,
            newest: 0,
            chain: None,
            portable: None,
            deferred: false,
            cached: false,
            why: None,
            elapsed: Duration::ZERO,
            borrowed: Vec::new(),
        }
    }
}

/// Returns the vertex whose state this one works on.
pub(super) fn base_of(vertex: &Vertex) -> Option<usize> {
    vertex.inputs.iter().find(|input| input.kind.is_under())?.from.map(|from| from.0)
}
