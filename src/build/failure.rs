//! A failed step as a finding: the place in the Dockerfile, what it said last, where its log is, and a hint.
//!
//! `place` finds what in the instruction is to be underlined, `hints` what may help. Not here: how it is
//! drawn (`report::excerpt`), the words of an error (`worker::WorkerError`).

mod hints;
mod place;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::Prepared;
use super::error::{BuildError, Failure};
use crate::context::ContextError;
use crate::image::Platform;
use crate::plan::graph::{EdgeKind, Op, Stage, Vertex, VertexId};
use crate::report::clean::{clean_text, without_codes};
use crate::report::{Diagnostic, Event, Severity, redact};
use crate::solve::SolveError;
use crate::store::StoreError;
use crate::worker::WorkerError;
use hints::Seen;

/// So much of a step's output is kept for its error; the whole of it is in the log.
const KEPT_BYTES: usize = 16 << 10;

/// In so many last lines a reason is looked for: what was said long before the end is none.
const READ_LINES: usize = 60;

/// So many last lines are shown again where they were not just shown.
const SHOWN_LINES: usize = 20;

/// The ends of what the running steps say.
#[derive(Default)]
pub struct Tails(Mutex<HashMap<usize, Tail>>);

#[derive(Default, Clone)]
struct Tail {
    bytes: Vec<u8>,
    /// Whether others spoke meanwhile.
    mixed: bool,
}

impl Tails {
    /// Hears of the engine's work.
    pub fn heard(&self, event: &Event) {
        match event {
            Event::VertexLog { vertex, data, .. } => {
                let mut tails = self.lock();
                tails.entry(*vertex).or_default().push(data);
                if tails.len() > 1 {
                    tails.values_mut().for_each(|tail| tail.mixed = true);
                }
            }
            Event::VertexCommitted { vertex, .. } | Event::VertexFinished { vertex, .. } => {
                self.lock().remove(vertex);
            }
            _ => {}
        }
    }

    fn of(&self, vertex: usize) -> Tail {
        self.lock().get(&vertex).cloned().unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<usize, Tail>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tail {
    fn push(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(&data[data.len().saturating_sub(KEPT_BYTES)..]);
        if self.bytes.len() > 4 * KEPT_BYTES {
            self.bytes.drain(..self.bytes.len() - KEPT_BYTES);
        }
    }

    /// Returns the last lines, at most so many.
    fn lines(&self, most: usize) -> String {
        let start = self.bytes.len().saturating_sub(KEPT_BYTES);
        let text = String::from_utf8_lossy(&self.bytes[start..]);
        let text = text.trim_end_matches('\n');
        let from = text.rmatch_indices('\n').nth(most - 1).map_or(0, |(at, _)| at + 1);
        text[from..].to_owned()
    }
}

/// Makes the engine's error one with its place, and with all that may help. `log` is the build's whole log.
pub fn explain(
    prepared: &Prepared,
    error: SolveError<WorkerError>,
    tails: &Tails,
    log: Option<PathBuf>,
) -> BuildError {
    let (id, error) = match error {
        SolveError::Vertex { error: WorkerError::Cancelled, .. } | SolveError::Cancelled => {
            return BuildError::Cancelled;
        }
        SolveError::Vertex { vertex, error } => (vertex, error),
        SolveError::Cache { error, .. } => return BuildError::Cache(error),
        SolveError::Thread(error) => return BuildError::Thread(error),
    };
    of_vertex(prepared, id, &error, tails, log)
}

/// Makes the error of a vertex one with its place, and with all that may help.
pub fn of_vertex(
    prepared: &Prepared,
    id: VertexId,
    error: &WorkerError,
    tails: &Tails,
    log: Option<PathBuf>,
) -> BuildError {
    let vertex = prepared.graph.vertex(id);
    let tail = tails.of(id.0);
    let output = tail.lines(READ_LINES);
    let is_file = vertex.line > 0;
    let source = &prepared.source;
    let hint = hint(prepared, vertex, error, &output);
    let diagnostic = Diagnostic {
        severity: Severity::Error,
        code: error.code(),
        message: error.to_string(),
        span: is_file.then(|| place::of(source, vertex, error, &output)),
        hint,
    };
    // A warning often says why the step failed: it is told before the error, but not twice.
    let is_said = |warning: &&Diagnostic| {
        warning.code == "CopyIgnoredFile"
            && not_found(error)
            && warning.span.is_some_and(|at| vertex.span.start <= at.start && at.end <= vertex.span.end)
    };
    let warnings = prepared.warnings.iter().filter(|warning| !is_said(warning)).cloned();
    let mut findings = prepared.findings(warnings.chain([diagnostic]).collect());
    // One that was stopped has said something, too; one that did not start has not.
    let has_run = match error {
        WorkerError::Exit { .. } | WorkerError::TooLate { .. } => true,
        WorkerError::Store(StoreError::NoRoom(_)) => !output.is_empty(),
        _ => false,
    };
    if has_run {
        let last = without_codes(&clean_text(&overwritten(&tail.lines(SHOWN_LINES))));
        findings.failure =
            log.map(|log| Box::new(Failure { step: redact(&vertex.text), last, mixed: tail.mixed, log }));
    }
    BuildError::Step(findings)
}

/// Leaves of each line what stands there when it is done: a progress bar writes over itself.
fn overwritten(text: &str) -> String {
    let shown = |line: &str| line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default().to_owned();
    text.split('\n').map(shown).collect::<Vec<_>>().join("\n")
}

fn not_found(error: &WorkerError) -> bool {
    use crate::worker::CopyError;
    matches!(
        error,
        WorkerError::Context(ContextError::NotFound { .. })
            | WorkerError::Copy(CopyError::Context(ContextError::NotFound { .. }))
    )
}

/// Says what to do next, where that is known.
fn hint(prepared: &Prepared, vertex: &Vertex, error: &WorkerError, output: &str) -> Option<String> {
    let host = Platform::host();
    match (error, &vertex.op) {
        (WorkerError::Exit { exit, oom, full, .. }, Op::Run(run)) => {
            if *oom {
                return error.hint();
            }
            let is_its = |stage: &&Stage| match &stage.name {
                Some(name) => *name == vertex.stage,
                None => stage.index.to_string() == vertex.stage,
            };
            let platform = prepared.graph.stages.iter().find(is_its).map(|stage| &stage.platform);
            let foreign = platform.filter(|platform| platform.architecture != host.architecture);
            let seen = Seen {
                output,
                exit: *exit,
                command: &run.args.join(" "),
                user: &run.user,
                network: run.network,
                foreign: foreign.map(ToString::to_string),
                full: *full,
            };
            hints::of_output(&seen).or_else(|| error.hint())
        }
        (WorkerError::Sandbox { error: sandbox, .. }, Op::Run(run)) => match sandbox.exec() {
            Some(exec) => hints::of_exec(exec, run.args.first().map_or("", String::as_str)),
            None => error.hint(),
        },
        (_, Op::Copy(_)) if not_found(error) => {
            let reads_context = vertex.inputs.iter().skip(1).any(|input| {
                let from = input.from.map(|from| &prepared.graph.vertex(from).op);
                input.kind == EdgeKind::Source && matches!(from, Some(Op::Context(_)))
            });
            let written = &prepared.source[vertex.span.range(prepared.source.len())];
            let leaves =
                written.split_whitespace().any(|word| word.trim_matches(['"', '[', ',']).starts_with("../"));
            match error.hint() {
                None if leaves && reads_context => Some(
                    "a source cannot lie outside of the build context, so `../` at its start is left out: build \
                     from the parent directory, and name the Dockerfile with `-f`"
                        .to_owned(),
                ),
                hint => hint,
            }
        }
        _ => error.hint(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Stream;

    fn log(vertex: usize, data: &str) -> Event {
        Event::VertexLog { vertex, stream: Stream::Stdout, data: data.into() }
    }

    #[test]
    fn the_ends_of_outputs_are_kept() {
        let tails = Tails::default();
        (0..100_000).for_each(|n| tails.heard(&log(1, &format!("line {n}\n"))));
        let tail = tails.of(1);
        assert!(tail.bytes.len() <= 4 * KEPT_BYTES && !tail.mixed);
        assert_eq!(tail.lines(2), "line 99998\nline 99999");
        tails.heard(&log(1, &"x".repeat(1 << 20)));
        assert_eq!(tails.of(1).lines(3).len(), KEPT_BYTES);
        assert_eq!(tails.of(2).lines(3), "");
    }

    #[test]
    fn progress_bars_are_shown_once() {
        assert_eq!(overwritten("10%\r50%\r100%\nok\r\n\nend"), "100%\nok\n\nend");
    }

    #[test]
    fn who_spoke_alone_is_known() {
        let tails = Tails::default();
        tails.heard(&log(1, "a\nb\nc\n"));
        tails.heard(&Event::VertexCommitted { vertex: 1, snapshot: None });
        tails.heard(&log(2, "d"));
        let tail = tails.of(2);
        assert!(!tail.mixed && tail.lines(9) == "d");
        tails.heard(&log(3, "e\n"));
        tails.heard(&log(4, "f\n"));
        assert!(tails.of(3).mixed && tails.of(4).mixed);
    }
}
