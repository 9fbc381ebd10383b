//! Solving with caches of elsewhere: once, or again where one of them turns out bad on the way.
//!
//! Not here: what they are and what is believed of them (`remote_cache`).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Prepared;
use super::book::StoreBook;
use super::error::BuildError;
use super::failure::{self, Tails};
use super::log::Tee;
use super::on_failure::{FailedStep, Next, OnFailure, Opener, step_of};
use super::recorder::Recorder;
use super::steps::StepReporter;
use crate::image::SnapshotId;
use crate::plan::graph::{Graph, VertexId};
use crate::remote_cache::{Caches, Gathered};
use crate::report::{Event, Reporter};
use crate::solve::{self, Cancel, Imports, SolveError, Solved};
use crate::store::Store;
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
    pub store: &'a Store,
    /// Who is asked where a command fails.
    pub on_failure: Option<&'a dyn OnFailure>,
}

impl Solving<'_> {
    /// Brings every vertex to a result, and the files of the images here.
    ///
    /// A cache whose layer is not what it should be is a warning: it is left out, and what it answered is
    /// solved again. What was executed by then is cached in the store.
    /// Where a command fails it is solved again for as long as whoever is asked wishes; what was done
    /// by then is cached, `--no-cache` or not.
    pub fn solve(&self) -> Result<Solved, BuildError> {
        let done = Mutex::default();
        let mut graph = Cow::Borrowed(&self.prepared.graph);
        loop {
            self.shun_what_nobody_has();
            let before = self.caches.map(Caches::count);
            let tails = Tails::default();
            let error = match self.once(&graph, &done, &tails) {
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
                _ if self.goes_on(&error, &tails)? => {
                    self.worker.begin_again();
                    for v in std::mem::take(&mut *locked(&done)) {
                        graph.to_mut().vertices[v].ignore_cache = false;
                    }
                }
                _ => {
                    if let SolveError::Vertex { vertex, error } = &*error {
                        self.recorder.failed_at(vertex.0, error);
                    }
                    let log = self.recorder.log_path();
                    return Err(failure::explain(self.prepared, *error, &tails, log));
                }
            }
        }
    }

    /// Asks whoever is to be asked where a command failed; tells whether to go on. By now no step is
    /// locked and none runs.
    fn goes_on(&self, error: &SolveError<WorkerError>, tails: &Tails) -> Result<bool, BuildError> {
        let (Some(on_failure), SolveError::Vertex { vertex, error }) = (self.on_failure, error) else {
            return Ok(false);
        };
        let Some(place) = self.worker.take_failed(*vertex) else { return Ok(false) };
        if self.cancel.is_cancelled() || !error.is_the_commands() {
            return Ok(false);
        }
        let log = self.recorder.log_path();
        let BuildError::Step(findings) = failure::of_vertex(self.prepared, *vertex, error, tails, log) else {
            return Ok(false);
        };
        let pinned = self.images.iter().flatten().cloned().collect();
        let opener = Opener { worker: self.worker, store: self.store, place, pinned };
        let step = step_of(&self.prepared.graph, *vertex);
        let next = on_failure.failed(FailedStep { findings, step, opener });
        // Others may have removed or made anything meanwhile.
        self.store.look_once()?;
        if self.cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        Ok(next == Next::Retry)
    }

    fn once(
        &self,
        graph: &Graph,
        done: &Mutex<BTreeSet<usize>>,
        tails: &Tails,
    ) -> Result<Solved, Box<SolveError<WorkerError>>> {
        let layers_of = |id: VertexId| self.images[id.0].clone();
        let steps = StepReporter::new(graph, self.tee, self.book, &layers_of, self.no_cache);
        steps.begin();
        let held = HeldBack { steps: &steps, recorder: self.recorder, caches: self.caches, done, tails };
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
    tails: &'a Tails,
    /// The vertices whose results are in the cache by now.
    done: &'a Mutex<BTreeSet<usize>>,
}

impl Reporter for HeldBack<'_> {
    fn event(&self, event: Event) {
        let is_caches = || self.caches.is_some_and(Caches::has_failures);
        if !matches!(event, Event::VertexFailed { .. }) || !is_caches() {
            if let Event::VertexFinished { vertex, .. } = &event {
                locked(self.done).insert(*vertex);
            }
            self.recorder.heard(&event);
            self.tails.heard(&event);
            self.steps.event(event);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
