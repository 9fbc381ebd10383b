//! What a solve would do, and why: all that can be known without doing any of it.
//!
//! Runs nothing, takes no lock, writes nothing, fetches nothing. Not here: why in words (`why`).

use crate::image::{CacheKey, Digest};
use crate::plan::graph::{EdgeKind, Graph, Op, VertexId};

use super::cancel::Cancel;
use super::key;
use super::node::base_of;
use super::probe::{Probe, State};
use super::record::{InputKey, InputKind};
use super::scheduler::input_detail;
use super::traits::{CacheSource, Task, Worker};
use super::why::{self, Beneath, Case, Explanation};

/// What would become of a vertex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is there: an image, a directory.
    Here,
    /// It would be fetched: an image that is not in the store, a file of the web, a Git repository.
    Fetched,
    /// The cache answers it.
    Cached,
    /// It would be executed.
    Runs(Explanation),
    /// Whether it would be is known once these are there. What it does itself is compared already.
    Unknown { after: Vec<VertexId>, explanation: Explanation },
}

/// Tells of each vertex what would become of it. `no_cache` as in [`super::Options`].
pub fn survey<W, C>(graph: &Graph, worker: &W, cache: &C, no_cache: bool, cancel: &Cancel) -> Vec<Verdict>
where
    W: Worker + ?Sized,
    C: CacheSource + ?Sized,
{
    let probe = Probe { graph, worker, cache, cancel };
    let (answers, states, _) = probe.all();
    let mut survey = Survey { probe, answers, states, keys: Vec::new(), verdicts: Vec::new(), no_cache };
    for v in 0..graph.vertices.len() {
        let (verdict, key) = survey.vertex(v);
        survey.verdicts.push(verdict);
        survey.keys.push(key);
    }
    survey.verdicts
}

struct Survey<'a, W: ?Sized, C: ?Sized> {
    probe: Probe<'a, W, C>,
    answers: Vec<Option<bool>>,
    states: Vec<Option<State>>,
    /// Those of results; of an image, the chain of its layers.
    keys: Vec<Option<Digest>>,
    verdicts: Vec<Verdict>,
    no_cache: bool,
}

impl<W: Worker + ?Sized, C: CacheSource + ?Sized> Survey<'_, W, C> {
    fn vertex(&self, v: usize) -> (Verdict, Option<Digest>) {
        let vertex = &self.probe.graph.vertices[v];
        match (&vertex.op, self.answers[v]) {
            (Op::Image(_), Some(_)) => {
                return (Verdict::Here, self.states[v].as_ref().map(|state| state.chain.0));
            }
            (Op::Context(_), _) => return (Verdict::Here, None),
            (Op::Image(_) | Op::Http(_) | Op::Git(_), _) => return (Verdict::Fetched, None),
            (Op::Run(_) | Op::Copy(_) | Op::Workdir(_), _) => {}
        }
        // Without the config of its image it is not known what a step does.
        if let Some(image) = self.absent_image(v) {
            let explanation = Explanation::default();
            return (Verdict::Unknown { after: vec![VertexId(image)], explanation }, None);
        }
        let is_cached = self.answers[v] == Some(true);
        let (explanation, key) = self.explain(v, is_cached);
        let verdict = match self.answers[v] {
            Some(true) => Verdict::Cached,
            Some(false) => Verdict::Runs(explanation),
            None => Verdict::Unknown { after: self.awaited(v), explanation },
        };
        (verdict, key.map(|key| key.0))
    }

    /// Returns the image that a vertex is built on, where that is not here.
    fn absent_image(&self, v: usize) -> Option<usize> {
        let mut next = base_of(&self.probe.graph.vertices[v]);
        while let Some(u) = next {
            if matches!(self.verdicts[u], Verdict::Fetched) {
                return Some(u);
            }
            next = base_of(&self.probe.graph.vertices[u]);
        }
        None
    }

    /// Compares with what is known; of what is cached only the key is wanted.
    fn explain(&self, v: usize, is_cached: bool) -> (Explanation, Option<CacheKey>) {
        let Probe { graph, worker, cache, .. } = self.probe;
        let task = Task { id: VertexId(v), vertex: &graph.vertices[v] };
        let fields = worker.fields(task);
        let op = key::op_digest(key::op_kind(&task.vertex.op), &fields);
        let (mut inputs, mut missing, mut selections) = (Vec::new(), false, true);
        for (i, input) in task.vertex.inputs.iter().enumerate() {
            let Some(kind) = InputKind::of(input.kind) else { continue };
            let found = match kind {
                InputKind::Base => {
                    let chain = match base_of(task.vertex) {
                        None => Some(crate::image::ChainDigest::scratch()),
                        Some(base) => self.states[base].as_ref().map(|state| state.chain),
                    };
                    chain.map(|chain| (chain.0, Default::default()))
                }
                InputKind::Source | InputKind::Mount => {
                    let mut selected = self.probe.select(task, i, &self.states);
                    if let Some(selected) = selected.as_mut().filter(|_| !is_cached) {
                        worker.list(task, i, selected);
                    }
                    selections &= selected.is_some();
                    selected.map(|selected| (selected.digest.0, selected.files))
                }
            };
            match found {
                Some((digest, files)) => {
                    inputs.push(InputKey { kind, digest, detail: input_detail(graph, input.from), files });
                }
                None => missing = true,
            }
        }
        if !selections {
            inputs.retain(|input| input.kind == InputKind::Base);
        }
        let key = (!missing).then(|| key::cache_key(&op, &inputs));
        if is_cached {
            return (Explanation::default(), key);
        }
        let beneath =
            |u: usize| Beneath { runs: matches!(self.verdicts[u], Verdict::Runs(_)), key: self.keys[u] };
        let case = Case {
            graph,
            vertex: v,
            fields: &fields,
            op,
            inputs: &inputs,
            selections,
            key,
            runs: self.answers[v] == Some(false),
            no_cache: self.no_cache,
            beneath: &beneath,
        };
        (why::explain(&case, cache), key)
    }

    /// Returns what must be done before more can be known of a vertex: of what it reads, the first that would
    /// be executed or fetched on each way.
    fn awaited(&self, v: usize) -> Vec<VertexId> {
        let mut found = Vec::new();
        let inputs = self.probe.graph.vertices[v].inputs.iter();
        let read = inputs.filter(|input| !matches!(input.kind, EdgeKind::Below | EdgeKind::Seed));
        for from in read.filter_map(|input| input.from) {
            match &self.verdicts[from.0] {
                Verdict::Here | Verdict::Cached => {}
                Verdict::Runs(_) | Verdict::Fetched => found.push(from),
                Verdict::Unknown { after, .. } => found.extend(after),
            }
        }
        found.sort();
        found.dedup();
        found
    }
}
