//! The engine with caches of elsewhere, against the fake world: what they spare, and what they cannot do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::fake::*;
use super::*;
use crate::image::{CacheKey, Digest, LayerDigest, OpDigest, SelectionDigest, SnapshotId};
use crate::plan::graph::{Graph, VertexId};
use crate::report::Silent;

/// What a build left behind, and the world whose disk it is read to.
#[derive(Default)]
struct Elsewhere {
    world: Arc<World>,
    records: BTreeMap<CacheKey, (OpDigest, Imported)>,
    selections: BTreeMap<Digest, SelectionDigest>,
    /// By the ids that stand for them; those that are not here have no files.
    layers: BTreeMap<SnapshotId, Option<Files>>,
    brought: Mutex<BTreeMap<SnapshotId, SnapshotId>>,
}

impl Elsewhere {
    /// Takes along what a solve in one world left, for another.
    fn of(solved: &Solved, from: &World, world: &Arc<World>) -> Elsewhere {
        let mut elsewhere = Elsewhere { world: world.clone(), ..Elsewhere::default() };
        for shared in solved.outcomes.iter().filter_map(|outcome| outcome.shared.clone()) {
            let record = shared.record;
            let layer = record.snapshot.map(|id| {
                let files = from.files(&id);
                let content = LayerDigest(digest_of(&("by its bytes", &files)));
                let bits = u64::from_le_bytes(content.0.as_bytes()[..8].try_into().unwrap());
                let snapshot = SnapshotId::from_bits(bits);
                elsewhere.layers.insert(snapshot.clone(), Some(files));
                ImportedLayer { snapshot, content, portable: record.content.unwrap() }
            });
            let source = "there".to_owned();
            let imported = Imported { layer, created_unix_ms: record.created_unix_ms, source };
            elsewhere.records.insert(record.key, (record.op, imported));
            elsewhere.selections.extend(shared.selections);
        }
        elsewhere
    }

    fn brought(&self) -> usize {
        self.brought.lock().unwrap().len()
    }
}

impl Imports for Elsewhere {
    fn has_op(&self, op: &OpDigest) -> bool {
        self.records.values().any(|(own, _)| own == op)
    }

    fn lookup(&self, op: &OpDigest, key: &CacheKey) -> Option<Imported> {
        self.records.get(key).filter(|(own, _)| own == op).map(|(_, imported)| imported.clone())
    }

    fn selection(&self, name: &Digest) -> Option<SelectionDigest> {
        self.selections.get(name).copied()
    }

    fn is_here(&self, layer: &SnapshotId) -> bool {
        !self.layers.contains_key(layer) || self.brought.lock().unwrap().contains_key(layer)
    }

    fn can_be_had(&self, layer: &SnapshotId) -> bool {
        self.layers.get(layer).is_none_or(Option::is_some)
    }

    fn bring(&self, layers: &[SnapshotId], _: &Cancel) -> Result<Vec<SnapshotId>, CacheError> {
        let mut brought = self.brought.lock().unwrap();
        let mut bring = |id: &SnapshotId| match (self.layers.get(id), brought.get(id)) {
            (None, _) => Ok(id.clone()),
            (_, Some(real)) => Ok(real.clone()),
            (Some(None), None) => Err("nobody has it".into()),
            (Some(Some(files)), None) => {
                let (real, _) = self.world.commit(files.clone(), "image");
                brought.insert(id.clone(), real.clone());
                Ok(real)
            }
        };
        layers.iter().map(&mut bring).collect()
    }
}

/// A world's memory with a cache of elsewhere behind it.
struct Both<'a>(&'a World, &'a Elsewhere);

impl CacheSource for Both<'_> {
    fn has_op(&self, op: &OpDigest) -> bool {
        self.0.has_op(op)
    }

    fn lookup(&self, op: &OpDigest, key: &CacheKey) -> Option<Record> {
        self.0.lookup(op, key)
    }

    fn for_op(&self, op: &OpDigest) -> Vec<Record> {
        self.0.for_op(op)
    }

    fn by_content(&self, content: &LayerDigest, kind: &str) -> Option<Existing> {
        self.0.by_content(content, kind)
    }

    fn imports(&self) -> Option<&dyn Imports> {
        Some(self.1)
    }

    fn publish(&self, record: Record) -> Result<(), CacheError> {
        self.0.publish(record)
    }

    fn try_step_lock(&self, step: &Digest) -> Result<Option<Box<dyn Guard>>, CacheError> {
        self.0.try_step_lock(step)
    }

    fn step_lock(&self, step: &Digest, cancel: &Cancel) -> Result<Box<dyn Guard>, CacheError> {
        self.0.step_lock(step, cancel)
    }
}

/// Two stages, a COPY between them, and a last step that says this.
fn project(last: &str) -> (Graph, VertexId) {
    let mut draw = Draw::new();
    let base = draw.image("base:2");
    let tools = draw.run(base, "put tools gcc");
    let built = draw.run(tools, "hash a.out");
    let workdir = draw.workdir(base, "/app");
    let copied = draw.copy(workdir, built, "a.out", "/app/a.out");
    let last = draw.run(copied, &format!("put last {last}"));
    draw.0.targets = Vec::new();
    (draw.0, last)
}

fn options() -> Options {
    Options { jobs: 4, digest_jobs: 2, share: true, no_cache: true }
}

fn solve_alone(graph: &Graph, world: &Arc<World>) -> (Solved, Vec<String>) {
    let fake = Fake::new(world);
    let solved = solve(graph, &fake, &**world, &options(), &Silent, &Cancel::new()).unwrap();
    (solved, fake.take_executed())
}

fn solve_with(graph: &Graph, world: &Arc<World>, elsewhere: &Arc<Elsewhere>) -> (Solved, Vec<String>) {
    let mut fake = Fake::new(world);
    fake.imports = Some(elsewhere.clone());
    let both = Both(world, elsewhere);
    let solved = solve(graph, &fake, &both, &options(), &Silent, &Cancel::new()).unwrap();
    (solved, fake.take_executed())
}

/// A cache with what the project left in a world of its own, for another world.
fn left(last: &str) -> (Elsewhere, Arc<World>) {
    let (there, here) = (Arc::default(), Arc::default());
    let (solved, executed) = solve_alone(&project(last).0, &there);
    assert_eq!(executed.len(), 5);
    (Elsewhere::of(&solved, &there, &here), here)
}

#[test]
fn all_is_answered_and_nothing_is_brought() {
    let (elsewhere, here) = left("x");
    let elsewhere = Arc::new(elsewhere);
    let (graph, last) = project("x");
    let (solved, executed) = solve_with(&graph, &here, &elsewhere);
    assert_eq!((executed.len(), elsewhere.brought()), (0, 0));
    let real = elsewhere.bring(&solved.layers(last), &Cancel::new()).unwrap();
    assert_eq!(here.merged(&real)["last"], "x");
    assert_eq!(elsewhere.brought(), 3, "those of the last state");
    assert!(here.records.lock().unwrap().is_empty(), "nothing of it is published");
}

#[test]
fn what_it_leaves_is_what_came() {
    let (elsewhere, here) = left("x");
    let elsewhere = Arc::new(elsewhere);
    let (solved, _) = solve_with(&project("x").0, &here, &elsewhere);
    let keys: BTreeSet<CacheKey> =
        solved.outcomes.iter().filter_map(|o| Some(o.shared.as_ref()?.record.key)).collect();
    assert_eq!(keys, elsewhere.records.keys().copied().collect());
    let selections: BTreeMap<Digest, SelectionDigest> =
        solved.outcomes.iter().filter_map(|o| o.shared.clone()).flat_map(|s| s.selections).collect();
    assert_eq!(selections, elsewhere.selections);
    assert_eq!(selections.len(), 1);
}

#[test]
fn a_step_on_top_brings_what_it_runs_on() {
    let (elsewhere, here) = left("x");
    let elsewhere = Arc::new(elsewhere);
    let (solved, executed) = solve_with(&project("y").0, &here, &elsewhere);
    assert_eq!((executed.as_slice(), elsewhere.brought()), (["RUN put last y".to_owned()].as_slice(), 2));
    let records = here.records.lock().unwrap().clone();
    assert_eq!(records.len(), 1);
    let shared = solved.outcomes.last().unwrap().shared.clone().unwrap();
    assert!(!records.contains_key(&shared.record.key), "its key here is made of what is here");
}

/// Whatever a cache says, who does not name it gets what it would get without.
#[test]
fn lies_reach_nobody_else() {
    let (graph, last) = project("y");
    let (honest, _) = solve_alone(&graph, &Arc::default());
    let (mut elsewhere, here) = left("x");
    for files in elsewhere.layers.values_mut() {
        files.as_mut().unwrap().insert("evil".into(), "1".into());
    }
    let elsewhere = Arc::new(elsewhere);
    let (poisoned, executed) = solve_with(&graph, &here, &elsewhere);
    assert_eq!(executed.len(), 1);
    let real = elsewhere.bring(&poisoned.layers(last), &Cancel::new()).unwrap();
    assert_eq!(here.merged(&real)["evil"], "1", "who names it gets what it has");
    let (solved, executed) = solve_alone(&graph, &here);
    assert_eq!(executed.len(), 5, "all of it runs");
    assert!(!here.merged(&solved.layers(last)).contains_key("evil"));
    assert_eq!(solved.outcome(last).chain, honest.outcome(last).chain);
}

#[test]
fn a_selection_that_is_not_as_told_is_looked_at() {
    let (mut elsewhere, here) = left("x");
    elsewhere.selections.values_mut().for_each(|digest| *digest = SelectionDigest(Digest::of("a lie")));
    let elsewhere = Arc::new(elsewhere);
    let (_, executed) = solve_with(&project("x").0, &here, &elsewhere);
    assert_eq!((executed.len(), elsewhere.brought()), (0, 2), "the builder's were brought and digested");
}

#[test]
fn layers_that_nobody_has_are_told_before_they_are_missed() {
    let (mut elsewhere, here) = left("x");
    let builders: Vec<SnapshotId> = {
        let is_tools = |files: &Option<Files>| {
            files.as_ref().is_some_and(|files| files.contains_key("tools") || files.contains_key("a.out"))
        };
        elsewhere.layers.iter().filter(|(_, files)| is_tools(files)).map(|(id, _)| id.clone()).collect()
    };
    assert_eq!(builders.len(), 2);
    for id in &builders {
        elsewhere.layers.insert(id.clone(), None);
    }
    let elsewhere = Arc::new(elsewhere);
    let mut fake = Fake::new(&here);
    fake.imports = Some(elsewhere.clone());
    let lacking = |graph: &Graph| super::lacking(graph, &fake, &Both(&here, &elsewhere), &Cancel::new());
    assert!(lacking(&project("x").0).is_empty(), "nobody needs their files");
    assert!(lacking(&project("y").0).is_empty(), "nor does a step that does not read them");
    let (mut graph, _) = project("x");
    let copy = graph.vertices.iter().position(|vertex| vertex.text.starts_with("COPY")).unwrap();
    graph.vertices[copy].ignore_cache = true;
    assert_eq!(lacking(&graph), builders.into_iter().collect());
    assert_eq!(elsewhere.brought(), 0);
}
