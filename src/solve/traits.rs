//! What the engine needs of the world: somebody who does the work, somebody who remembers it.
//!
//! Not here: implementations; `worker` has the real ones.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::image::{CacheKey, Digest, LayerDigest, OpDigest, SelectionDigest, SnapshotId};
use crate::plan::graph::{EdgeKind, Vertex, VertexId};
use crate::report::Stream;

use super::cancel::Cancel;
use super::imports::Imports;
use super::key::Fields;
use super::record::Record;

/// A vertex with its id; the id is good for remembering things between calls of one solve.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    pub id: VertexId,
    pub vertex: &'a Vertex,
}

/// What an input looks like when it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// A state: its layers, lowest first; none for scratch. The same snapshot may stand in it
    /// twice (an image may hold a layer twice); only the topmost of the two matters.
    State(Vec<SnapshotId>),
    /// A context, a download or a checkout, by the name that [`crate::plan::graph::Op::source_name`] gives it.
    Context(String),
}

/// An input of a vertex that is to be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputView {
    pub kind: EdgeKind,
    pub view: View,
}

/// One layer of a base image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    pub snapshot: SnapshotId,
    /// What it is keyed by in this store.
    pub content: LayerDigest,
    /// What it is keyed by everywhere: it follows from its DiffID.
    pub portable: LayerDigest,
    /// When the layer was made or came here, in milliseconds since 1970.
    pub created_unix_ms: i64,
}

/// The files a source or mount selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    pub digest: SelectionDigest,
    /// Path to digest, to explain a later miss with; may be cut short or empty.
    pub files: BTreeMap<String, String>,
}

/// What an earlier build of the same Dockerfile knew of a vertex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    /// The id of the build.
    pub build: String,
    /// Its instruction, as that Dockerfile had it.
    pub text: String,
    /// `None` for an image, and for what was not reached.
    pub op: Option<OpDigest>,
    /// The key of its result; of an image, the chain of its layers. `None` where it has none.
    pub key: Option<Digest>,
    pub end: EarlierEnd,
}

/// How it ended there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlierEnd {
    /// It ran, or was cached.
    Done,
    Failed,
    Stopped,
}

/// What an execution left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Produced {
    /// The new layer, committed; `None` when nothing was changed (a WORKDIR that is there).
    pub snapshot: Option<SnapshotId>,
    /// When the layer was made, in milliseconds since 1970.
    pub created_unix_ms: i64,
}

/// What is said of a step while it is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said<'a> {
    /// A piece of its output.
    Output(Stream, &'a [u8]),
    /// It runs, and there was no output for a while.
    Silent { silent: Duration, running: Duration },
    /// It waits, for what, and who has that; it goes on when it has it.
    Waits(&'a str),
}

/// Takes what is said of a step; may be called from several threads.
pub type Log<'a> = &'a (dyn Fn(Said<'_>) + Sync);

/// Does what vertices ask for. Called from many threads at once, for different vertices.
///
/// For one vertex the calls come in this order: `fields`, `select` for each source and mount,
/// `execute`, `digest`, and then `keep` or `discard`; a cached vertex ends after `select`.
pub trait Worker: Sync {
    type Error: std::error::Error + Send + Sync + 'static;

    /// Returns all that a Run, Copy or Workdir does, as `docs/cache-key.md` lists it.
    fn fields(&self, task: Task<'_>) -> Fields;

    /// Returns the layers of an Image, lowest first, with their content digests.
    fn image(&self, task: Task<'_>) -> Result<Vec<Layer>, Self::Error>;

    /// Brings the files of an Http or Git vertex here; returns when they are. Called on a thread of
    /// its own, once for each.
    fn fetch(&self, task: Task<'_>, cancel: &Cancel) -> Result<(), Self::Error>;

    /// Digests what a source or mount (`task.vertex.inputs[input]`) selects from `view`.
    /// Called on the solving thread while everything may still be cached.
    fn select(
        &self,
        task: Task<'_>,
        input: usize,
        view: &View,
        cancel: &Cancel,
    ) -> Result<Selected, Self::Error>;

    /// Lists the files that `select` found for an input, as far as it is worth it: asked only where a result
    /// is to be explained or recorded.
    fn list(&self, _task: Task<'_>, _input: usize, _selected: &mut Selected) {}

    /// Names what `select` reads of an input: equal names of equal states give equal digests. `None`
    /// where the worker has no name for it.
    fn reads(&self, _task: Task<'_>, _input: usize) -> Option<Digest> {
        None
    }

    /// Does it, and commits a layer. `inputs` are those of the vertex, in their order. Must
    /// return soon (with any error) once `cancel` is raised.
    fn execute(
        &self,
        task: Task<'_>,
        inputs: &[InputView],
        log: Log<'_>,
        cancel: &Cancel,
    ) -> Result<Produced, Self::Error>;

    /// Digests the content of a layer that `execute` made; slow, on a background thread. Must
    /// not yet make the layer findable by content: it may be discarded.
    fn digest(
        &self,
        task: Task<'_>,
        snapshot: &SnapshotId,
        cancel: &Cancel,
    ) -> Result<LayerDigest, Self::Error>;

    /// Hears that the digested layer stays, so that others may find it by content. Quick.
    fn keep(&self, task: Task<'_>, snapshot: &SnapshotId) -> Result<(), Self::Error>;

    /// Hears that nobody needs a layer that `execute` made. Must not fail: what cannot be
    /// removed is left to garbage collection.
    fn discard(&self, snapshot: &SnapshotId);
}

/// Is held while a step is done; dropping it lets the next one in.
pub trait Guard: Send {}

impl<T: Send> Guard for T {}

/// Why a cache could not do what it was asked.
pub type CacheError = Box<dyn std::error::Error + Send + Sync>;

/// A layer found by its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    pub snapshot: SnapshotId,
    /// When the layer was made, in milliseconds since 1970.
    pub created_unix_ms: i64,
}

/// Keeps records; shared by several builds at once.
///
/// Only records whose snapshots are there may be returned; a broken record is no record.
pub trait CacheSource: Sync {
    /// Tells whether any record may have this operation, whatever its inputs; `false` is certain.
    fn has_op(&self, op: &OpDigest) -> bool;

    /// Returns the record of this key, which has this operation.
    fn lookup(&self, op: &OpDigest, key: &CacheKey) -> Option<Record>;

    /// Returns records of this operation, to explain a miss with; may be cut short.
    fn for_op(&self, op: &OpDigest) -> Vec<Record>;

    /// Returns a record to compare with, not to use: it need not have its layer any more, which does not count as
    /// used.
    fn peek(&self, op: &OpDigest, key: &CacheKey) -> Option<Record> {
        self.lookup(op, key)
    }

    /// Returns the same with the files its step read, to explain a miss with.
    fn recall(&self, op: &OpDigest, key: &CacheKey) -> Option<Record> {
        self.peek(op, key)
    }

    /// Returns what earlier builds of the same Dockerfile knew of a vertex, the last one first.
    fn earlier(&self, _vertex: VertexId) -> Vec<Earlier> {
        Vec::new()
    }

    /// Returns the oldest layer of this content that an operation of this kind made and that
    /// was kept ([`Worker::keep`]); never one that may still be discarded.
    fn by_content(&self, content: &LayerDigest, kind: &str) -> Option<Existing>;

    /// Returns the caches of elsewhere that are asked where this one has no answer. Nothing of what
    /// they say is published here.
    fn imports(&self) -> Option<&dyn Imports> {
        None
    }

    /// Writes a record, replacing one of the same key.
    fn publish(&self, record: Record) -> Result<(), CacheError>;

    /// Takes the lock of a step ([`super::step_digest`]) when nobody, in this process or another,
    /// holds it.
    fn try_step_lock(&self, step: &Digest) -> Result<Option<Box<dyn Guard>>, CacheError>;

    /// Returns the process that holds the lock of a step, where that can be told.
    fn step_lock_holder(&self, _step: &Digest) -> Option<u32> {
        None
    }

    /// Waits for the lock of a step, or until `cancel` is raised (then returns an error).
    fn step_lock(&self, step: &Digest, cancel: &Cancel) -> Result<Box<dyn Guard>, CacheError>;
}
