//! A shell at any point of a build: what leads there is built, or cached, and then opened.
//!
//! Nothing of the shell is kept. The build is one like others: it has a log and a record, and its results are
//! in the cache. Not here: which point is meant (`point`), terminals (`cli`).

use super::book::StoreBook;
use super::error::BuildError;
use super::log::Tee;
use super::on_failure::Opener;
use super::point::{self, At};
use super::recorder::Recorder;
use super::request::{BuildRequest, BuildResult, Engine};
use super::solving::Solving;
use super::{Findings, Prepared, caches, image_layers, prepare, real, worker};
use crate::image::SnapshotId;
use crate::plan::graph::{Input, RunOp, VertexId};
use crate::report::{Event, Step};
use crate::solve::{Imports, InputView, Solved, View};
use crate::worker::StoreCache;

/// A point of a build that a shell can be opened at.
pub struct OpenPoint<'a> {
    pub step: Step,
    /// Before the step rather than after it.
    pub before: bool,
    /// What there is to say about the Dockerfile; none is an error.
    pub warnings: Findings,
    pub opener: Opener<'a>,
}

/// Builds what leads to a point, and hands the point to `attend`; the build has ended by then.
pub fn shell<R>(
    engine: &Engine,
    mut request: BuildRequest,
    at: &At,
    before: bool,
    attend: impl FnOnce(OpenPoint<'_>) -> R,
) -> Result<R, BuildError> {
    engine.store.look_once()?;
    let recorder = Recorder::new(&request);
    let planned = match plan(engine, &mut request, at, before) {
        Ok(planned) => planned,
        Err(error) => {
            recorder.end(engine, Err(&error));
            return Err(error);
        }
    };
    let Planned { prepared, op, inputs, step } = planned;
    recorder.warned(&prepared.source, &prepared.warnings);
    let images = image_layers(engine.store, &prepared.graph)?;
    let log = engine.store.build_log()?;
    let id = log.id().to_owned();
    engine.reporter.event(Event::LogFile { path: log.path().to_owned() });
    recorder.planned(&prepared.file, &prepared.graph, &images);
    recorder.logged(log.again().map_err(|source| BuildError::Output { path: log.path().into(), source })?);
    let tee = Tee::new(engine.reporter, log, &recorder);
    let caches = caches(engine, &request, &tee);
    let imports = caches.as_ref().map(|caches| caches as &dyn Imports);
    let worker = worker(engine, &prepared, &request, imports);
    let book = StoreBook::new(engine.store, &prepared.graph);
    let solving = Solving {
        prepared: &prepared,
        worker: &worker,
        cache: &StoreCache::new(engine.store).with_imports(imports),
        caches: caches.as_ref(),
        book: &book,
        tee: &tee,
        recorder: &recorder,
        images: &images,
        no_cache: request.no_cache,
        share: false,
        cancel: engine.cancel,
        store: engine.store,
        on_failure: None,
    };
    let place = solving.solve().and_then(|solved| {
        let own = solved.outcomes.iter().flat_map(|outcome| outcome.own.clone());
        let used: Vec<SnapshotId> = own.map(|id| real(caches.as_ref(), id)).collect();
        engine.store.mark_used(&used)?;
        engine.store.sync()?;
        Ok(worker.place(&op, &views(&prepared, &inputs, &solved), engine.cancel)?)
    });
    tee.close();
    let warnings = prepared.findings(prepared.warnings.clone());
    let built = BuildResult { images: Vec::new(), warnings, id };
    recorder.end(engine, place.as_ref().map(|_| &built));
    let opener = Opener { worker: &worker, store: engine.store, place: place?, pinned: Vec::new() };
    Ok(attend(OpenPoint { step, before, warnings: built.warnings, opener }))
}

struct Planned<'a> {
    /// Of it the part that leads to the point.
    prepared: Prepared<'a>,
    op: RunOp,
    inputs: Vec<Input>,
    /// As a build of the whole target shows it.
    step: Step,
}

fn plan<'a>(
    engine: &Engine<'a>,
    request: &mut BuildRequest,
    at: &At,
    before: bool,
) -> Result<Planned<'a>, BuildError> {
    let network = request.network;
    let mut prepared = prepare::prepare(engine, request)?;
    let point = point::find(&prepared.graph, &prepared.source, at, before)?;
    let step = point::shown(&prepared.graph, point);
    let (op, mut inputs) = point::command(&prepared.graph, point, network);
    let roots: Vec<VertexId> = inputs.iter().filter_map(|input| input.from).collect();
    let (graph, ids) = point::part(&prepared.graph, point, &roots);
    prepared.graph = graph;
    if let Some(refused) = prepare::check_single_id(engine, &prepared.graph)? {
        return Err(BuildError::Step(prepared.findings(vec![refused])));
    }
    inputs.iter_mut().for_each(|input| input.from = input.from.and_then(|from| ids[from.0]));
    Ok(Planned { prepared, op, inputs, step })
}

/// Returns what the inputs look like now that they are built.
fn views(prepared: &Prepared, inputs: &[Input], solved: &Solved) -> Vec<InputView> {
    let view = |from: Option<VertexId>| match from {
        None => View::State(Vec::new()),
        Some(from) => match prepared.graph.vertex(from).op.source_name() {
            Some(name) => View::Context(name),
            None => View::State(solved.layers(from)),
        },
    };
    inputs.iter().map(|input| InputView { kind: input.kind, view: view(input.from) }).collect()
}
