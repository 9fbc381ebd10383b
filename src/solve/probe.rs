//! Tells what is cached right now: for showing a graph, and to know which files a solve will miss.
//!
//! Runs nothing, takes no lock, writes nothing, fetches nothing; what it says may be outdated
//! the moment it is said. Not here: drawing the graph.

use std::collections::BTreeSet;

use crate::image::{ChainDigest, LayerDigest, SelectionDigest, SnapshotId};
use crate::plan::graph::{EdgeKind, Graph, Op, VertexId};

use super::cancel::Cancel;
use super::imports::selection_name;
use super::key;
use super::node::base_of;
use super::scheduler::input_keys;
use super::traits::{CacheSource, Selected, Task, View, Worker};

/// The state after a vertex that is cached.
pub(super) struct State {
    pub(super) chain: ChainDigest,
    portable: ChainDigest,
    layers: Vec<SnapshotId>,
}

impl State {
    fn scratch() -> State {
        let scratch = ChainDigest::scratch();
        State { chain: scratch, portable: scratch, layers: Vec::new() }
    }
}

/// Tells of each vertex whether it is cached; `None` where that cannot be known: for contexts,
/// where the worker fails to read an input, and after a miss (unless no record has the
/// operation at all, which is a miss whatever the inputs).
pub fn probe<W, C>(graph: &Graph, worker: &W, cache: &C, cancel: &Cancel) -> Vec<Option<bool>>
where
    W: Worker + ?Sized,
    C: CacheSource + ?Sized,
{
    Probe { graph, worker, cache, cancel }.all().0
}

/// Returns the layers that a solve would need the files of and that no cache of elsewhere can give:
/// those under what must perhaps be executed, and under the targets.
pub fn lacking<W, C>(graph: &Graph, worker: &W, cache: &C, cancel: &Cancel) -> BTreeSet<SnapshotId>
where
    W: Worker + ?Sized,
    C: CacheSource + ?Sized,
{
    let Some(imports) = cache.imports() else { return BTreeSet::new() };
    let (answers, states, own) = Probe { graph, worker, cache, cancel }.all();
    let mut needed = BTreeSet::new();
    let mut need = |from: VertexId| {
        // A state that is not known has known ones beneath it.
        let mut next = Some(from.0);
        while let Some(v) = next {
            if let Some(state) = &states[v] {
                needed.extend(state.layers.iter().cloned());
                break;
            }
            needed.extend(own[v].clone());
            next = base_of(&graph.vertices[v]);
        }
    };
    for (v, vertex) in graph.vertices.iter().enumerate() {
        if answers[v] != Some(true) {
            let reads = vertex.inputs.iter().filter(|input| input.kind != EdgeKind::Below);
            reads.filter_map(|input| input.from).for_each(&mut need);
        }
    }
    graph.target_stages().filter_map(|stage| stage.output).for_each(&mut need);
    needed.retain(|layer| !imports.can_be_had(layer));
    needed
}

pub(super) struct Probe<'a, W: ?Sized, C: ?Sized> {
    pub(super) graph: &'a Graph,
    pub(super) worker: &'a W,
    pub(super) cache: &'a C,
    pub(super) cancel: &'a Cancel,
}

/// What is known of all vertices: whether they are cached, their states, and their own layers.
pub(super) type Known = (Vec<Option<bool>>, Vec<Option<State>>, Vec<Option<SnapshotId>>);

impl<W: Worker + ?Sized, C: CacheSource + ?Sized> Probe<'_, W, C> {
    pub(super) fn all(&self) -> Known {
        let (mut answers, mut states, mut own) = (Vec::new(), Vec::new(), Vec::new());
        for v in 0..self.graph.vertices.len() {
            let (answer, state, layer) = self.vertex(v, &states);
            answers.push(answer);
            states.push(state);
            own.push(layer);
        }
        (answers, states, own)
    }

    fn vertex(
        &self,
        v: usize,
        states: &[Option<State>],
    ) -> (Option<bool>, Option<State>, Option<SnapshotId>) {
        let vertex = &self.graph.vertices[v];
        let task = Task { id: VertexId(v), vertex };
        let unknown = (None, None, None);
        match &vertex.op {
            Op::Context(_) | Op::Http(_) | Op::Git(_) => return unknown,
            Op::Image(_) => {
                let Ok(layers) = self.worker.image(task) else { return unknown };
                let mut state = State::scratch();
                for layer in layers {
                    state.chain = state.chain.with(&layer.content);
                    state.portable = state.portable.with(&layer.portable);
                    state.layers.push(layer.snapshot);
                }
                return (Some(true), Some(state), None);
            }
            Op::Run(_) | Op::Copy(_) | Op::Workdir(_) => {}
        }
        let missed = (Some(false), None, None);
        if vertex.ignore_cache {
            return missed;
        }
        let op = key::op_digest(key::op_kind(&vertex.op), &self.worker.fields(task));
        let imports = self.cache.imports().filter(|imports| imports.has_op(&op));
        if !self.cache.has_op(&op) && imports.is_none() {
            return missed;
        }
        let Some(selected) = self.selected(task, states) else { return unknown };
        let base = match base_of(vertex) {
            None => Some(&State::scratch()),
            Some(base) => states[base].as_ref(),
        };
        // Where the base is not known it is not in the key: else its selections would not be known.
        let (chain, portable) = base.map_or_else(
            || (ChainDigest::scratch(), ChainDigest::scratch()),
            |base| (base.chain, base.portable),
        );
        let key = |chain| key::cache_key(&op, &input_keys(self.graph, v, &selected, |_| Some(chain)));
        let here = key(chain);
        let found = match self.cache.lookup(&op, &here).filter(|record| record.key == here) {
            Some(record) => {
                record.snapshot.zip(record.content).map(|(layer, content)| (layer, content, content))
            }
            None => match imports.and_then(|imports| imports.lookup(&op, &key(portable))) {
                Some(imported) => imported.layer.map(|layer| (layer.snapshot, layer.content, layer.portable)),
                None => return missed,
            },
        };
        (Some(true), base.map(|base| with(base, found.clone())), found.map(|(layer, ..)| layer))
    }

    /// Returns what a vertex selects, as it is or as a cache of elsewhere says; `None` where that cannot
    /// be known.
    fn selected(&self, task: Task<'_>, states: &[Option<State>]) -> Option<Vec<Selected>> {
        let mut selected: Vec<Selected> = Vec::new();
        for (i, input) in task.vertex.inputs.iter().enumerate() {
            if input.kind.is_selected() {
                selected.push(self.select(task, i, states)?);
            } else if input.kind == EdgeKind::Base {
                self.view(input.from, states)?;
            }
        }
        Some(selected)
    }

    /// Returns what one input of a vertex selects.
    pub(super) fn select(&self, task: Task<'_>, input: usize, states: &[Option<State>]) -> Option<Selected> {
        let view = self.view(task.vertex.inputs[input].from, states)?;
        let absent = match (&view, self.cache.imports()) {
            (View::State(layers), Some(imports)) => layers.iter().any(|layer| !imports.is_here(layer)),
            _ => false,
        };
        match absent {
            true => Some(Selected { digest: self.claimed(task, input, states)?, files: Default::default() }),
            false => self.worker.select(task, input, &view, self.cancel).ok(),
        }
    }

    /// Returns what an input looks like; `None` for a state that is not known.
    fn view(&self, from: Option<VertexId>, states: &[Option<State>]) -> Option<View> {
        let Some(from) = from else { return Some(View::State(Vec::new())) };
        match self.graph.vertex(from).op.source_name() {
            Some(name) => Some(View::Context(name)),
            None => states[from.0].as_ref().map(|state| View::State(state.layers.clone())),
        }
    }

    fn claimed(&self, task: Task<'_>, input: usize, states: &[Option<State>]) -> Option<SelectionDigest> {
        let state = states[task.vertex.inputs[input].from?.0].as_ref()?;
        let name = selection_name(&state.portable, &self.worker.reads(task, input)?);
        self.cache.imports()?.selection(&name)
    }
}

fn with(base: &State, layer: Option<(SnapshotId, LayerDigest, LayerDigest)>) -> State {
    let mut state = State { chain: base.chain, portable: base.portable, layers: base.layers.clone() };
    if let Some((snapshot, content, portable)) = layer {
        state.chain = state.chain.with(&content);
        state.portable = state.portable.with(&portable);
        state.layers.push(snapshot);
    }
    state
}
