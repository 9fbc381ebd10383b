//! Tells what is cached right now, for showing a graph.
//!
//! Runs nothing, takes no lock, writes nothing; what it says may be outdated
//! the moment it is said. Not here: drawing the graph.

use crate::image::{ChainDigest, SnapshotId};
use crate::plan::graph::{Graph, Op, VertexId};

use super::cancel::Cancel;
use super::key;
use super::node::base_of;
use super::scheduler::input_keys;
use super::traits::{CacheSource, Selected, Task, View, Worker};

/// The state after a vertex that is cached.
struct State {
    chain: ChainDigest,
    layers: Vec<SnapshotId>,
}

/// Tells of each vertex whether it is cached; `None` where that cannot be known: for contexts,
/// where the worker fails to read an input, and after a miss (unless no record has the
/// operation at all, which is a miss whatever the inputs).
pub fn probe<W, C>(graph: &Graph, worker: &W, cache: &C, cancel: &Cancel) -> Vec<Option<bool>>
where
    W: Worker + ?Sized,
    C: CacheSource + ?Sized,
{
    let mut states: Vec<Option<State>> = Vec::with_capacity(graph.vertices.len());
    let mut answers = Vec::with_capacity(graph.vertices.len());
    for v in 0..graph.vertices.len() {
        let (answer, state) = probe_vertex(graph, v, worker, cache, cancel, &states);
        answers.push(answer);
        states.push(state);
    }
    answers
}

fn probe_vertex<W, C>(
    graph: &Graph,
    v: usize,
    worker: &W,
    cache: &C,
    cancel: &Cancel,
    states: &[Option<State>],
) -> (Option<bool>, Option<State>)
where
    W: Worker + ?Sized,
    C: CacheSource + ?Sized,
{
    let vertex = &graph.vertices[v];
    let task = Task { id: VertexId(v), vertex };
    let unknown = (None, None);
    match &vertex.op {
        Op::Context(_) | Op::Http(_) | Op::Git(_) => return unknown,
        Op::Image(_) => {
            let Ok(layers) = worker.image(task) else { return unknown };
            let chain = layers.iter().fold(ChainDigest::scratch(), |chain, layer| chain.with(&layer.content));
            let layers = layers.into_iter().map(|layer| layer.snapshot).collect();
            return (Some(true), Some(State { chain, layers }));
        }
        Op::Run(_) | Op::Copy(_) | Op::Workdir(_) => {}
    }
    let missed = (Some(false), None);
    if vertex.ignore_cache {
        return missed;
    }
    let op = key::op_digest(key::op_kind(&vertex.op), &worker.fields(task));
    if !cache.has_op(&op) {
        return missed;
    }
    let mut selected: Vec<Selected> = Vec::new();
    for (i, input) in vertex.inputs.iter().enumerate() {
        let view = match input.from {
            None => View::State(Vec::new()),
            Some(from) => match (graph.vertex(from).op.source_name(), &states[from.0]) {
                (Some(name), _) => View::Context(name),
                (None, Some(state)) => View::State(state.layers.clone()),
                (None, None) => return unknown,
            },
        };
        if input.kind.is_selected() {
            match worker.select(task, i, &view, cancel) {
                Ok(files) => selected.push(files),
                Err(_) => return unknown,
            }
        }
    }
    let base = base_of(vertex).and_then(|base| states[base].as_ref());
    let chain = base.map_or_else(ChainDigest::scratch, |base| base.chain);
    let key = key::cache_key(&op, &input_keys(graph, v, &selected, |_| Some(chain)));
    let Some(record) = cache.lookup(&op, &key).filter(|record| record.key == key) else { return missed };
    let mut layers = base.map(|base| base.layers.clone()).unwrap_or_default();
    layers.extend(record.snapshot);
    let chain = record.content.map_or(chain, |content| chain.with(&content));
    (Some(true), Some(State { chain, layers }))
}
