//! Solving with caches of elsewhere: once, or again where one of them turns out bad on the way.
//!
//! Not here: what they are and what is believed of them (`remote_cache`).

use std::collections::BTreeSet;

use super::book::StoreBook;
use super::error::BuildError;
use super::log::Tee;
use super::recorder::Recorder;
use super::steps::StepReporter;
use super::{Prepared, solve_error};
use crate::image::SnapshotId;
use crate::plan::graph::{Graph, VertexId};
use crate::remote_cache::{Caches, Gathered};
use crate::report::{Event, Reporter};
use crate::solve::{self, Cancel, Imports, SolveError, Solved};
use crate::worker::{StoreCache, StoreWorker, WorkerError};

/// What a solve works with.
pub struct Solving<'a> {
    pub prepared: &'a Prepared<'a>,
    pub worker: &'a StoreWorker<'a>,
    pub cache: &'a StoreCache<'a>,
    pub caches: Option<&'a Caches<'a>>,
    pub book: &'a StoreBook<'a>,
    pub tee: &'a Tee<'a>,
    pub recorder: &'a Recorder,
    /// The layers of each image vertex.
    pub images: &'a [Vec<SnapshotId>],
    pub no_cache: bool,
    /// Whether others are to be told of the results.
    pub share: bool,
    pub cancel: &'a Cancel,
}

impl Solving<'_> {
    /// Brings every vertex to a result, and the files of the images here.
    ///
    /// A cache whose layer is not what it should be is a warning: it is left out, and what it answered is
    /// solved again. What was executed by then is cached in the store.
    pub fn solve(&self) -> Result<Solved, BuildError> {
        loop {
            self.shun_what_nobody_has();
            let before = self.caches.map(Caches::count);
            let error = match self.once() {
                Ok(solved) => return Ok(solved),
                Err(error) => error,
            };
            let import = matches!(*error, SolveError::Vertex { error: WorkerError::Import(_), .. });
            match self.caches {
                Some(caches) if import && !self.cancel.is_cancelled() => {
                    if before == Some(caches.count()) {
                        caches.drop_all(&error);
                    }
                }
                _ => {
                    if let SolveError::Vertex { vertex, error } = &*error {
                        self.recorder.failed_at(vertex.0, error);
                    }
                    return Err(solve_error(self.prepared, *error));
                }
            }
        }
    }

    fn once(&self) -> Result<Solved, Box<SolveError<WorkerError>>> {
        let graph = &self.prepared.graph;
        let layers_of = |id: VertexId| self.images[id.0].clone();
        let steps = StepReporter::new(graph, self.tee, self.book, &layers_of, self.no_cache);
        steps.begin();
        let held = HeldBack { steps: &steps, recorder: self.recorder, caches: self.caches };
        let options =
            solve::Options { share: self.share, no_cache: self.no_cache, ..solve::Options::default() };
        let solved = solve::solve(graph, self.worker, self.cache, &options, &held, self.cancel);
        // Digests of context files are worth keeping even when a step failed.
        self.worker.save_digests();
        let solved = solved.map_err(Box::new).and_then(|solved| self.bring_images(&solved).map(|()| solved));
        steps.end();
        if let Some(caches) = self.caches {
            steps.arrived(&|id| caches.real(id));
            for text in caches.take_failures() {
                self.tee.event(Event::Warning { text });
            }
        }
        solved
    }

    /// Brings the files of the images that were built here.
    fn bring_images(&self, solved: &Solved) -> Result<(), Box<SolveError<WorkerError>>> {
        let Some(caches) = self.caches else { return Ok(()) };
        for stage in self.prepared.graph.target_stages() {
            let Some(output) = stage.output else { continue };
            if let Err(error) = caches.bring(&solved.layers(output), self.cancel) {
                return Err(Box::new(match self.cancel.is_cancelled() {
                    true => SolveError::Cancelled,
                    false => SolveError::Vertex { vertex: output, error: WorkerError::Import(error) },
                }));
            }
        }
        Ok(())
    }

    /// A record without files is of use where nobody needs the files: leaves out the others.
    fn shun_what_nobody_has(&self) {
        let Some(caches) = self.caches else { return };
        // Each turn finds what the one before did not: a layer that is shunned is found no more.
        while !self.cancel.is_cancelled() {
            let lacking = solve::lacking(&self.prepared.graph, self.worker, self.cache, self.cancel);
            if lacking.is_empty() {
                break;
            }
            caches.shun(lacking);
        }
    }
}

/// Keeps a failure from the screen that is not the step's: it is done again.
struct HeldBack<'a> {
    steps: &'a StepReporter<'a>,
    recorder: &'a Recorder,
    caches: Option<&'a Caches<'a>>,
}

impl Reporter for HeldBack<'_> {
    fn event(&self, event: Event) {
        let is_caches = || self.caches.is_some_and(Caches::has_failures);
        if !matches!(event, Event::VertexFailed { .. }) || !is_caches() {
            self.recorder.heard(&event);
            self.steps.event(event);
        }
    }
}

/// Gathers what others may know of the results beneath `targets`; of all, where none is named.
pub fn gather(graph: &Graph, solved: &Solved, targets: Option<VertexId>) -> Gathered {
    let mut reached = BTreeSet::new();
    let mut next: Vec<usize> = match targets {
        Some(target) => vec![target.0],
        None => (0..graph.vertices.len()).collect(),
    };
    while let Some(v) = next.pop() {
        if reached.insert(v) {
            next.extend(graph.vertices[v].inputs.iter().filter_map(|input| input.from).map(|from| from.0));
        }
    }
    let steps = reached.iter().filter_map(|v| solved.outcomes[*v].shared.clone());
    Gathered { steps: steps.collect(), ..Gathered::default() }
}
