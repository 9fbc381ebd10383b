//! Makes the record of a build while it goes on: hears the events of vertices and of steps.
//!
//! Not here: what a record has in it (`report::record`), where it is kept (`store`).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::Findings;
use super::asked;
use super::error::BuildError;
use super::request::{BuildRequest, BuildResult, Engine};
use crate::image::SnapshotId;
use crate::plan::graph::{Graph, Input};
use crate::plan::render::{edge_kind, kind};
use crate::report::record::{
    BuildRecord, BuildStatus, ErrorRecord, ImageRecord, InputRecord, RECORD_VERSION, StageRecord, StepRecord,
    StepState, TransferRecord, VertexRecord, WarningRecord,
};
use crate::report::{Diagnostic, Event, chain, redact};
use crate::sandbox::Exit;
use crate::store::{BuildLog, Store};
use crate::worker::WorkerError;

/// In how many places of the log a step's output is told to lie: the first, and the last.
const PLACES: (usize, usize) = (32, 224);

/// What a build leaves behind, as far as it is known.
pub struct Recorder {
    start: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    record: BuildRecord,
    /// Of each vertex: of an image all, of others the one it made, as far as that is known.
    layers: Vec<Vec<SnapshotId>>,
    /// Of each transfer the bytes of its parts.
    parts: Vec<BTreeMap<String, u64>>,
    log: Option<BuildLog>,
}

impl Recorder {
    /// Starts the record of what is asked for.
    pub fn new(request: &BuildRequest) -> Recorder {
        let record = BuildRecord {
            version: RECORD_VERSION,
            rbuild: env!("CARGO_PKG_VERSION").to_owned(),
            started_unix_ms: jiff::Timestamp::now().as_millisecond(),
            context: asked::context(&request.context),
            dockerfile: asked::dockerfile(&request.dockerfile),
            options: asked::options(request),
            ..BuildRecord::default()
        };
        let state = State { record, layers: Vec::new(), parts: Vec::new(), log: None };
        Recorder { start: Instant::now(), state: Mutex::new(state) }
    }

    /// Notes what there is to do; `images` are the layers of each image vertex.
    pub fn planned(&self, file: &str, graph: &Graph, images: &[Vec<SnapshotId>]) {
        let mut state = self.lock();
        let State { record, layers, .. } = &mut *state;
        record.dockerfile = redact(file);
        let name = |index: usize, name: &Option<String>| name.clone().unwrap_or_else(|| index.to_string());
        for (place, stage) in graph.stages.iter().enumerate() {
            let platform = stage.platform.to_string();
            record.stages.push(StageRecord { name: name(stage.index, &stage.name), platform });
            for step in &stage.steps {
                record.steps.push(StepRecord {
                    number: record.steps.len() + 1,
                    stage: place,
                    text: redact(&step.text),
                    line: step.line,
                    vertex: step.vertex.map(|vertex| vertex.0),
                    ..StepRecord::default()
                });
            }
        }
        for vertex in &graph.vertices {
            let known = |input: &Input| {
                Some(InputRecord { from: input.from?.0, kind: edge_kind(input.kind).to_owned() })
            };
            record.vertices.push(VertexRecord {
                kind: kind(&vertex.op).to_owned(),
                text: redact(&vertex.text),
                line: vertex.line,
                stage: vertex.stage.clone(),
                inputs: vertex.inputs.iter().filter_map(known).collect(),
                ..VertexRecord::default()
            });
        }
        *layers = images.to_vec();
    }

    /// Notes what there is to say of the Dockerfile.
    pub fn warned(&self, source: &str, warnings: &[Diagnostic]) {
        self.lock().record.warnings = warnings.iter().map(|found| warning(source, found)).collect();
    }

    /// Notes where the build's log is. The build counts as running until its record is kept.
    pub fn logged(&self, log: BuildLog) {
        self.lock().log = Some(log);
    }

    /// Returns where the build's log is.
    pub fn log_path(&self) -> Option<std::path::PathBuf> {
        self.lock().log.as_ref().map(|log| log.path().to_owned())
    }

    /// Hears of the engine's work.
    pub fn heard(&self, event: &Event) {
        if let Event::VertexKeyed { vertex, op, key } = event {
            if let Some(known) = self.lock().record.vertices.get_mut(*vertex) {
                known.op.clone_from(op);
                known.key.clone_from(key);
            }
            return;
        }
        let now = elapsed_ms(self.start);
        let (&vertex, snapshot) = match event {
            Event::VertexStarted { vertex, .. } | Event::VertexFailed { vertex } => (vertex, &None),
            Event::VertexCached { vertex, snapshot, .. }
            | Event::VertexCommitted { vertex, snapshot }
            | Event::VertexFinished { vertex, snapshot, .. } => (vertex, snapshot),
            _ => return,
        };
        let mut state = self.lock();
        let State { record, layers, .. } = &mut *state;
        let Some(known) = record.vertices.get_mut(vertex) else { return };
        match event {
            Event::VertexStarted { why, .. } => {
                (known.start_ms, known.why) = (Some(now), Some(redact(why)));
                known.state = StepState::Stopped;
            }
            Event::VertexCached { from, .. } => {
                (known.end_ms, known.state) = (Some(now), StepState::Cached);
                known.cached_from = from.as_deref().map(redact);
            }
            Event::VertexFailed { .. } => (known.end_ms, known.state) = (Some(now), StepState::Failed),
            // A layer that is replaced after the step was done took no time of its own.
            _ if known.state == StepState::Done => {}
            _ => (known.end_ms, known.state) = (Some(now), StepState::Done),
        }
        if known.kind != "image"
            && let Some(layer) = layers.get_mut(vertex)
        {
            *layer = snapshot.iter().filter_map(|id| SnapshotId::try_from(id.clone()).ok()).collect();
        }
    }

    /// Hears what was shown, and which bytes of the log that became.
    pub fn shown(&self, event: &Event, (from, to): (u64, u64)) {
        let (step, outcome) = match event {
            Event::StepLog { step, .. } => (step, None),
            Event::StepCached { step, .. } => (step, Some(StepState::Cached)),
            Event::StepFinished { step, .. } => (step, Some(StepState::Done)),
            Event::StepFailed { step } => (step, Some(StepState::Failed)),
            Event::StepStopped { step } => (step, Some(StepState::Stopped)),
            _ => return,
        };
        let mut state = self.lock();
        let Some(known) = state.record.steps.get_mut(step.number.wrapping_sub(1)) else { return };
        if outcome.is_none() && to > from {
            put(known, from, to);
        }
        match outcome {
            Some(StepState::Done) if known.state == StepState::Cached => {}
            Some(outcome) => known.state = outcome,
            None => {}
        }
        if let Event::StepFinished { id, .. } = event {
            known.id.clone_from(id);
        }
    }

    /// Hears of bytes on their way.
    pub fn moved(&self, event: &Event) {
        let now = elapsed_ms(self.start);
        let mut state = self.lock();
        let State { record, parts, .. } = &mut *state;
        let of = match event {
            Event::Transfer(transfer) => &transfer.of,
            Event::TransferEnded { of } => of,
            _ => return,
        };
        let of = redact(of);
        let open = record.transfers.iter().rposition(|known| known.of == of && known.end_ms.is_none());
        match (event, open) {
            (Event::Transfer(transfer), open) => {
                let place = open.unwrap_or_else(|| {
                    record.transfers.push(TransferRecord { of, start_ms: now, ..TransferRecord::default() });
                    parts.push(BTreeMap::new());
                    parts.len() - 1
                });
                let part = parts[place].entry(transfer.part.clone()).or_default();
                *part = transfer.done.max(*part);
            }
            (_, Some(place)) => record.transfers[place].end_ms = Some(now),
            _ => {}
        }
    }

    /// Hears which work failed, and how its process ended.
    pub fn failed_at(&self, vertex: usize, error: &WorkerError) {
        let (exit_code, signal) = match error {
            WorkerError::Exit { exit: Exit::Code(code), .. } => (Some(*code), None),
            WorkerError::Exit { exit: Exit::Signal(signal), .. } => (None, Some(*signal)),
            WorkerError::Exit { exit: Exit::OutOfMemory, .. } => (None, Some(9)),
            _ => (None, None),
        };
        let text = String::new();
        self.lock().record.error = Some(ErrorRecord { text, vertex: Some(vertex), exit_code, signal });
    }

    /// Keeps the record, once. That this fails is a warning: the build has done its work by then.
    pub fn end(&self, engine: &Engine<'_>, built: Result<&BuildResult, &BuildError>) {
        let start = self.start;
        let state = std::mem::take(&mut *self.lock());
        let kept = state.log.map_or_else(|| engine.store.build_log(), Ok).and_then(|log| {
            let mut record = state.record;
            record.id = log.id().to_owned();
            add_layers(engine.store, &mut record, &state.layers);
            for (transfer, parts) in record.transfers.iter_mut().zip(&state.parts) {
                transfer.bytes = parts.values().fold(0, |sum, part| sum.saturating_add(*part));
            }
            match built {
                Ok(result) => add_images(engine.store, &mut record, result),
                Err(error) => add_error(&mut record, error, &log),
            }
            record.elapsed_ms = elapsed_ms(start);
            engine.store.end_build(&log, &record.to_bytes())
        });
        if let Err(error) = kept {
            let text = format!("warning: the record of the build could not be kept: {}", chain(&error));
            engine.reporter.event(Event::Warning { text });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn elapsed_ms(start: Instant) -> u64 {
    start.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
}

/// Notes a piece of a step's output; of too many pieces those in the middle are left out.
fn put(step: &mut StepRecord, from: u64, to: u64) {
    match step.output.last_mut() {
        Some(last) if last.1 == from => last.1 = to,
        _ => step.output.push((from, to)),
    }
    if step.output.len() > PLACES.0 + PLACES.1 {
        step.output.remove(PLACES.0);
        step.more_output = true;
    }
}

fn warning(source: &str, finding: &Diagnostic) -> WarningRecord {
    WarningRecord {
        code: finding.code.to_owned(),
        message: redact(&finding.message),
        line: finding.span.map_or(0, |span| span.line(source)),
        hint: finding.hint.as_deref().map(redact),
    }
}

/// Adds what is known of the layers.
fn add_layers(store: &Store, record: &mut BuildRecord, layers: &[Vec<SnapshotId>]) {
    for (vertex, own) in record.vertices.iter_mut().zip(layers) {
        vertex.layer = own.last().map(ToString::to_string);
        let sizes: Option<Vec<u64>> = own.iter().map(|layer| bytes(store, layer)).collect();
        vertex.bytes = sizes.filter(|sizes| !sizes.is_empty()).map(|sizes| sizes.iter().sum());
    }
}

/// Returns the size of a layer's files, where it was read through.
fn bytes(store: &Store, layer: &SnapshotId) -> Option<u64> {
    store.digests(layer).ok().flatten().map(|digests| digests.file_bytes)
}

fn add_images(store: &Store, record: &mut BuildRecord, result: &BuildResult) {
    record.status = BuildStatus::Completed;
    for made in &result.images {
        let layers = store.image(&made.image).map(|image| image.layers).unwrap_or_default();
        record.images.push(ImageRecord {
            target: made.target.clone(),
            id: made.image.to_string(),
            tags: made.tags.iter().map(ToString::to_string).collect(),
            bytes: layers.iter().filter_map(|layer| bytes(store, layer)).sum(),
            layers: layers.len(),
        });
    }
}

/// Adds why the build failed, to the end of its log, too.
fn add_error(record: &mut BuildRecord, error: &BuildError, log: &BuildLog) {
    use std::io::Write as _;
    let mut text = match error {
        BuildError::Dockerfile(findings) | BuildError::Step(findings) => errors(findings),
        BuildError::Cancelled => "the build was stopped".to_owned(),
        error => chain(error),
    };
    text = redact(text.trim_end());
    record.status = match error {
        BuildError::Cancelled => BuildStatus::Canceled,
        _ => BuildStatus::Failed,
    };
    // A log that cannot be written any more (the disk is full) is one that lacks its last lines.
    let _ = log.again().and_then(|mut log| writeln!(log, "{text}"));
    record.error = Some(ErrorRecord { text, ..record.error.take().unwrap_or_default() });
}

/// Draws what is an error: warnings are in the record already.
fn errors(findings: &Findings) -> String {
    let mut errors = findings.clone();
    errors.diagnostics.retain(Diagnostic::is_error);
    match errors.diagnostics.is_empty() {
        true => findings.render(false),
        false => errors.render(false),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::request::{ContextFrom, DockerfileFrom};
    use super::super::testing::{graph, layer};
    use super::*;
    use crate::report::{Span, Step, Stream};

    fn request() -> BuildRequest {
        let dockerfile = DockerfileFrom::Remote("https://user:hush@host/Dockerfile".to_owned());
        let mut request =
            BuildRequest::new(ContextFrom::Remote("https://hush@host/r.git".to_owned()), dockerfile);
        let args = [("API_KEY", "hush"), ("URL", "http://a:hush@host/"), ("V", "1")];
        request.build_args = args.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        request.labels = vec![("auth".to_owned(), "hush".to_owned())];
        request.no_cache = true;
        request
    }

    #[test]
    fn what_was_asked_for_is_kept_without_secrets() {
        let recorder = Recorder::new(&request());
        let record = &recorder.lock().record;
        let options: Vec<String> =
            record.options.iter().map(|(name, value)| format!("{name} {value}")).collect();
        assert_eq!(
            options,
            [
                "--build-arg API_KEY=***",
                "--build-arg URL=http://host/",
                "--build-arg V=1",
                "--label auth=***",
                "--no-cache ",
            ]
        );
        assert_eq!(
            (record.context.as_str(), record.dockerfile.as_str()),
            ("https://host/r.git", "https://host/Dockerfile")
        );
    }

    #[test]
    fn events_add_up() {
        let graph = graph("FROM base\nRUN x\nRUN y\nCMD z\n");
        let recorder = Recorder::new(&request());
        recorder.planned("Dockerfile", &graph, &[vec![layer('e')], Vec::new(), Vec::new()]);
        let step = |number| Step { number, total: 4, stage: None, text: String::new(), line: number };
        let snapshot = |digit| Some(layer(digit).to_string());
        recorder.heard(&Event::VertexFinished {
            vertex: 0,
            elapsed: Duration::ZERO,
            snapshot: snapshot('e'),
        });
        recorder.shown(&Event::StepFinished { step: step(1), id: "1".into() }, (0, 10));
        recorder.heard(&Event::VertexCached { vertex: 1, snapshot: snapshot('a'), from: None });
        recorder.shown(&Event::StepCached { step: step(2), from: None }, (10, 20));
        recorder.shown(&Event::StepFinished { step: step(2), id: "2".into() }, (20, 30));
        recorder.heard(&Event::VertexKeyed { vertex: 1, op: Some("aa".into()), key: Some("bb".into()) });
        recorder.heard(&Event::VertexStarted { vertex: 2, why: "never built here".into() });
        let log = || Event::StepLog { step: step(3), stream: Stream::Stdout, data: Vec::new() };
        recorder.shown(&log(), (30, 35));
        recorder.shown(&log(), (35, 40));
        recorder.shown(&log(), (50, 60));
        recorder.heard(&Event::VertexFailed { vertex: 2 });
        recorder.shown(&Event::StepFailed { step: step(3) }, (60, 60));
        // What no step of the plan is does no harm.
        recorder.heard(&Event::VertexFailed { vertex: 9 });
        recorder.shown(&Event::StepFailed { step: step(9) }, (0, 0));

        let state = recorder.lock();
        let record = &state.record;
        use StepState::{Cached, Done, Failed, Waiting};
        let steps: Vec<StepState> = record.steps.iter().map(|step| step.state).collect();
        assert_eq!(steps, [Done, Cached, Failed, Waiting]);
        let vertices: Vec<StepState> = record.vertices.iter().map(|vertex| vertex.state).collect();
        assert_eq!(vertices, [Done, Cached, Failed]);
        assert_eq!(record.steps[2].output, [(30, 40), (50, 60)]);
        assert_eq!((record.steps[1].id.as_str(), record.steps[3].vertex), ("2", None));
        assert_eq!(
            (record.vertices[1].op.as_deref(), record.vertices[1].key.as_deref()),
            (Some("aa"), Some("bb"))
        );
        assert_eq!(record.vertices[2].why.as_deref(), Some("never built here"));
        assert_eq!(record.vertices[2].inputs, [InputRecord { from: 1, kind: "base".into() }]);
        assert!(record.vertices[1].start_ms.is_none() && record.vertices[2].start_ms.is_some());
        assert_eq!(state.layers, [vec![layer('e')], vec![layer('a')], vec![]]);
    }

    #[test]
    fn of_output_in_many_places_the_first_and_the_last_are_kept() {
        let mut step = StepRecord::default();
        for piece in 0..1000 {
            put(&mut step, piece * 10, piece * 10 + 5);
        }
        assert_eq!(step.output.len(), PLACES.0 + PLACES.1);
        assert_eq!((step.output[0], step.output[31], step.output[255]), ((0, 5), (310, 315), (9990, 9995)));
        assert!(step.more_output);
    }

    #[test]
    fn warnings_know_their_lines() {
        let recorder = Recorder::new(&request());
        recorder
            .warned("a\nb\n", &[Diagnostic::warning("Code", Span::new(2, 3), "see https://a:hush@host/")]);
        let expect =
            WarningRecord { code: "Code".into(), message: "see https://host/".into(), line: 2, hint: None };
        assert_eq!(recorder.lock().record.warnings, [expect]);
    }
}
