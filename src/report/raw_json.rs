//! The sink for programs: BuildKit's `SolveStatus`, one JSON object a line (docs/progress.md).
//!
//! Steps that do something are vertices; so are the build itself (`rbuild`: what is said of no step, and the
//! error that ends it), each image that is pulled, and the writing of the image. Not here: who reads it.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::clean::{clean_text, without_codes};
use super::pause::{silence, waiting};
use super::redact::mask;
use super::{Diagnostic, Event, PlannedStep, Reporter, Step, Stream, Transfer, Work};

/// The name of the vertex that is the build.
const BUILD: &str = "rbuild";

/// Writes events as JSON.
pub struct RawJson<W: Write + Send> {
    /// Returns the time, as RFC 3339 has it.
    clock: fn() -> String,
    /// Returns the page that describes a finding, by its code.
    page: fn(&str) -> Option<String>,
    state: Mutex<State<W>>,
}

struct State<W> {
    out: W,
    /// By the number of their steps.
    vertices: BTreeMap<usize, Vertex>,
    /// Of transfers and the build, by name: when they started.
    others: BTreeMap<String, Vertex>,
    failed: Option<usize>,
    said: HashSet<String>,
}

#[derive(Clone, Default)]
struct Vertex {
    digest: String,
    inputs: Vec<String>,
    name: String,
    started: Option<String>,
    ended: Option<String>,
    cached: bool,
}

impl Vertex {
    fn named(name: &str) -> Vertex {
        Vertex { digest: digest(&["other", name]), name: name.to_owned(), ..Vertex::default() }
    }

    fn to_json(&self, completed: Option<&str>, error: Option<&str>) -> Value {
        let mut vertex = json!({"digest": self.digest, "name": self.name});
        let mut set = |key: &str, value: Value| vertex[key] = value;
        if !self.inputs.is_empty() {
            set("inputs", json!(self.inputs));
        }
        if let Some(started) = &self.started {
            set("started", json!(started));
        }
        if let Some(completed) = completed {
            set("completed", json!(completed));
        }
        if self.cached {
            set("cached", json!(true));
        }
        if let Some(error) = error {
            set("error", json!(mask(&clean_text(error))));
        }
        vertex
    }
}

fn digest(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

impl<W: Write + Send> RawJson<W> {
    /// Makes a sink; the build starts now.
    pub fn new(out: W) -> RawJson<W> {
        RawJson::with_clock(out, || jiff::Timestamp::now().to_string())
    }

    fn with_clock(out: W, clock: fn() -> String) -> RawJson<W> {
        let state = State {
            out,
            vertices: BTreeMap::new(),
            others: BTreeMap::new(),
            failed: None,
            said: HashSet::new(),
        };
        RawJson { clock, page: |_| None, state: Mutex::new(state) }
    }

    /// Says which pages describe findings, by their codes.
    pub fn pages(self, page: fn(&str) -> Option<String>) -> RawJson<W> {
        RawJson { page, ..self }
    }

    /// Returns the writer.
    pub fn into_inner(self) -> W {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).out
    }

    /// Ends the build: `made` says what was written, a line each; or else the error that ended it.
    pub fn end(&self, made: Result<&[String], &str>) {
        let now = (self.clock)();
        let mut state = self.lock();
        match made {
            Ok(made) => {
                let vertex = Vertex { started: Some(now.clone()), ..Vertex::named("exporting to image") };
                let status = |text: &String| {
                    json!({"id": text, "vertex": vertex.digest, "current": 0, "timestamp": now,
                           "started": now, "completed": now})
                };
                let statuses: Vec<Value> = made.iter().map(status).collect();
                state.write(json!({"vertexes": [vertex.to_json(Some(&now), None)], "statuses": statuses}));
            }
            Err(error) => {
                if let Some(failed) = state.failed.and_then(|number| state.vertices.get(&number).cloned()) {
                    let completed = failed.ended.clone().unwrap_or_else(|| now.clone());
                    state.write(json!({"vertexes": [failed.to_json(Some(&completed), Some(error))]}));
                }
            }
        }
        let build = state.other(BUILD, &now);
        state.write(json!({"vertexes": [build.to_json(Some(&now), made.err())]}));
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Write> State<W> {
    /// Writes one line. A reader that went away must not fail the build.
    fn write(&mut self, value: Value) {
        let mut line = value.to_string();
        line.push('\n');
        let _ = self.out.write_all(line.as_bytes());
        let _ = self.out.flush();
    }

    fn planned(&mut self, steps: &[PlannedStep]) {
        let several = steps.iter().any(|planned| planned.step.stage.is_some());
        let mut of_stage: BTreeMap<&str, usize> = BTreeMap::new();
        for planned in steps.iter().filter(|planned| planned.work != Work::None) {
            *of_stage.entry(&planned.stage).or_default() += 1;
        }
        let mut at: BTreeMap<&str, usize> = BTreeMap::new();
        self.vertices.clear();
        for planned in steps.iter().filter(|planned| planned.work != Work::None) {
            let place = at.entry(&planned.stage).or_default();
            *place += 1;
            let stage = match &planned.stage_name {
                Some(name) => format!("{name} "),
                None if several => format!("stage-{} ", planned.stage),
                None => String::new(),
            };
            let text = mask(&clean_text(&planned.step.text));
            let name = format!("[{stage}{place}/{}] {text}", of_stage[planned.stage.as_str()]);
            let number = planned.step.number;
            let inputs = planned.inputs.iter().filter_map(|n| self.vertices.get(n)).map(|v| v.digest.clone());
            let vertex = Vertex {
                digest: digest(&["step", &number.to_string(), &name]),
                inputs: inputs.collect(),
                name,
                ..Vertex::default()
            };
            self.vertices.insert(number, vertex);
        }
        let all: Vec<Value> = self.vertices.values().map(|vertex| vertex.to_json(None, None)).collect();
        if !all.is_empty() {
            self.write(json!({"vertexes": all}));
        }
    }

    fn start(&mut self, number: usize, now: &str) {
        if let Some(vertex) = self.vertices.get_mut(&number).filter(|vertex| vertex.started.is_none()) {
            vertex.started = Some(now.to_owned());
            let line = json!({"vertexes": [vertex.to_json(None, None)]});
            self.write(line);
        }
    }

    fn complete(&mut self, number: usize, now: &str, error: Option<&str>) {
        if let Some(vertex) = self.vertices.get_mut(&number) {
            vertex.started.get_or_insert_with(|| now.to_owned());
            let completed = vertex.ended.get_or_insert_with(|| now.to_owned()).clone();
            let line = json!({"vertexes": [vertex.to_json(Some(&completed), error)]});
            self.write(line);
        }
    }

    /// Returns a vertex that is no step, and starts it if that is not done.
    fn other(&mut self, name: &str, now: &str) -> Vertex {
        if let Some(vertex) = self.others.get(name) {
            return vertex.clone();
        }
        let vertex = Vertex { started: Some(now.to_owned()), ..Vertex::named(name) };
        self.others.insert(name.to_owned(), vertex.clone());
        self.write(json!({"vertexes": [vertex.to_json(None, None)]}));
        vertex
    }

    fn log(&mut self, vertex: &str, stream: Stream, data: &[u8], now: &str) {
        let stream = if stream == Stream::Stdout { 1 } else { 2 };
        let log =
            json!({"vertex": vertex, "stream": stream, "data": STANDARD.encode(data), "timestamp": now});
        self.write(json!({"logs": [log]}));
    }

    fn transfer(&mut self, transfer: &Transfer, now: &str) {
        let vertex = self.other(&transfer.of, now);
        let mut status = json!({"id": transfer.part, "vertex": vertex.digest, "current": transfer.done,
                                "timestamp": now, "started": vertex.started});
        if transfer.total > 0 {
            status["total"] = json!(transfer.total);
        }
        if transfer.ended {
            status["completed"] = json!(now);
        }
        self.write(json!({"statuses": [status]}));
    }

    /// Says what is not of a step.
    fn say(&mut self, text: &str, now: &str) {
        let build = self.other(BUILD, now);
        let text = format!("{}\n", without_codes(&clean_text(text)));
        self.log(&build.digest, Stream::Stderr, text.as_bytes(), now);
    }

    /// Says something of a step that is none of its output.
    fn aside(&mut self, step: &Step, text: &str, now: &str) {
        if let Some(vertex) = self.vertices.get(&step.number) {
            let digest = vertex.digest.clone();
            self.log(&digest, Stream::Stderr, format!("{text}\n").as_bytes(), now);
        }
    }

    fn warn(&mut self, warning: Value) {
        if self.said.insert(warning.to_string()) {
            self.write(json!({"warnings": [warning]}));
        }
    }
}

fn finding(build: &str, file: &str, source: &str, diagnostic: &Diagnostic) -> Value {
    let short = format!("{}: {}", diagnostic.code, clean_text(&diagnostic.message));
    let mut warning = json!({"vertex": build, "level": 1, "short": base64(&short)});
    if let Some(hint) = &diagnostic.hint {
        warning["detail"] = json!([base64(&clean_text(hint))]);
    }
    let data = base64(&mask(source));
    warning["sourceInfo"] = json!({"filename": file, "data": data, "language": "Dockerfile"});
    if let Some(span) = diagnostic.span {
        let at = |byte: usize| {
            let before = source.get(..byte.min(source.len())).unwrap_or_default();
            let start = before.rfind('\n').map_or(0, |end| end + 1);
            json!({"line": 1 + before.matches('\n').count(), "character": before[start..].chars().count()})
        };
        warning["range"] = json!([{"start": at(span.start), "end": at(span.end)}]);
    }
    warning
}

impl<W: Write + Send> Reporter for RawJson<W> {
    fn event(&self, event: Event) {
        let now = (self.clock)();
        let mut state = self.lock();
        let state = &mut *state;
        match event {
            Event::Planned { steps } => {
                state.other(BUILD, &now);
                state.planned(&steps);
            }
            Event::WorkStarted { number } => state.start(number, &now),
            Event::WorkEnded { number } => {
                if let Some(vertex) = state.vertices.get_mut(&number) {
                    vertex.started.get_or_insert_with(|| now.clone());
                    vertex.ended.get_or_insert(now);
                }
            }
            Event::StepStarted { step } => state.start(step.number, &now),
            Event::StepMissed { step, why } => {
                if let Some(vertex) = state.vertices.get(&step.number) {
                    let id = format!("not cached: {}", mask(&without_codes(&clean_text(&why))));
                    let status = json!({"id": id, "vertex": vertex.digest, "current": 0, "timestamp": now,
                                        "started": now, "completed": now});
                    state.write(json!({"statuses": [status]}));
                }
            }
            Event::StepCached { step, .. } => {
                if let Some(vertex) = state.vertices.get_mut(&step.number) {
                    vertex.cached = true;
                }
            }
            Event::StepLog { step, stream, data } if !data.is_empty() => {
                if let Some(vertex) = state.vertices.get(&step.number) {
                    let digest = vertex.digest.clone();
                    state.log(&digest, stream, &data, &now);
                }
            }
            Event::StepSilent { step, silent, running } => {
                state.aside(&step, &silence(&step, silent, running), &now);
            }
            Event::StepWaits { step, what } => state.aside(&step, &waiting(&step, &what), &now),
            Event::StepFinished { step, .. } => state.complete(step.number, &now, None),
            Event::StepFailed { step } => state.failed = Some(step.number),
            Event::StepStopped { step } => state.complete(step.number, &now, Some("stopped")),
            Event::Pull { text } | Event::Note { text } => {
                if state.said.insert(text.clone()) {
                    state.say(&text, &now);
                }
            }
            Event::Warning { text } => {
                let build = state.other(BUILD, &now);
                let short = base64(&without_codes(&clean_text(&text)));
                state.warn(json!({"vertex": build.digest, "level": 1, "short": short}));
            }
            Event::Finding { file, source, diagnostic } => {
                let build = state.other(BUILD, &now);
                let mut warning = finding(&build.digest, &file, &source, &diagnostic);
                if let Some(url) = (self.page)(diagnostic.code) {
                    warning["url"] = json!(url);
                }
                state.warn(warning);
            }
            Event::Transfer(transfer) => state.transfer(&transfer, &now),
            Event::TransferEnded { of } => {
                if let Some(vertex) = state.others.get(&*of).cloned() {
                    state.write(json!({"vertexes": [vertex.to_json(Some(&now), None)]}));
                }
            }
            Event::StepLog { .. }
            | Event::LogFile { .. }
            | Event::VertexStarted { .. }
            | Event::VertexKeyed { .. }
            | Event::VertexCached { .. }
            | Event::VertexLog { .. }
            | Event::VertexSilent { .. }
            | Event::VertexWaits { .. }
            | Event::VertexCommitted { .. }
            | Event::VertexFinished { .. }
            | Event::VertexFailed { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Span, Step};
    use super::*;

    fn step(number: usize, text: &str) -> Step {
        Step { number, total: 3, stage: None, text: text.to_owned(), line: number }
    }

    fn planned(number: usize, text: &str, work: Work) -> PlannedStep {
        let inputs = (1..number).filter(|_| work == Work::Layer).collect();
        PlannedStep { step: step(number, text), stage: "0".into(), stage_name: None, work, inputs }
    }

    fn lines(events: Vec<Event>, end: Result<&[String], &str>) -> Vec<Value> {
        let sink = RawJson::with_clock(Vec::new(), || "2026-01-02T03:04:05Z".to_owned());
        events.into_iter().for_each(|event| sink.event(event));
        sink.end(end);
        let text = String::from_utf8(sink.into_inner()).unwrap();
        assert!(text.ends_with('\n'));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn plan() -> Event {
        let steps = [
            planned(1, "FROM base", Work::Base),
            planned(2, "ENV A=1", Work::None),
            planned(3, "RUN make", Work::Layer),
        ];
        Event::Planned { steps: steps.into() }
    }

    #[test]
    fn why_a_step_is_not_cached_is_a_status() {
        let why = "main.c changed \x1b[2J(+1 more)".to_owned();
        let lines = lines(vec![plan(), Event::StepMissed { step: step(3, "RUN make"), why }], Ok(&[]));
        let status = &lines[2]["statuses"][0];
        assert_eq!(status["id"], "not cached: main.c changed (+1 more)");
        assert_eq!(status["vertex"], lines[1]["vertexes"][1]["digest"]);
        assert!(status["completed"].is_string(), "{status}");
    }

    #[test]
    fn steps_are_vertices() {
        let run = step(3, "RUN make");
        let lines = lines(
            vec![
                plan(),
                Event::WorkStarted { number: 3 },
                Event::StepStarted { step: run.clone() },
                Event::StepLog { step: run.clone(), stream: Stream::Stderr, data: b"\xffhi\n".to_vec() },
                Event::WorkEnded { number: 3 },
                Event::StepFinished { step: run, id: "0123456789ab".into() },
            ],
            Ok(&["writing image sha256:1".to_owned()]),
        );
        let all = &lines[1]["vertexes"];
        assert_eq!(all.as_array().unwrap().len(), 2, "ENV is none: {all}");
        assert_eq!((&all[0]["name"], &all[1]["name"]), (&json!("[1/2] FROM base"), &json!("[2/2] RUN make")));
        assert_eq!(all[1]["inputs"], json!([all[0]["digest"]]));
        let started = &lines[2]["vertexes"][0];
        assert_eq!((&started["digest"], started["started"].is_string()), (&all[1]["digest"], true));
        let log = &lines[3]["logs"][0];
        assert_eq!((&log["data"], &log["stream"]), (&json!("/2hpCg=="), &json!(2)));
        assert_eq!(lines[4]["vertexes"][0]["completed"], "2026-01-02T03:04:05Z");
        assert_eq!(lines[5]["statuses"][0]["id"], "writing image sha256:1");
        assert_eq!((lines.len(), &lines[6]["vertexes"][0]["name"]), (7, &json!("rbuild")));
    }

    #[test]
    fn errors_tell_no_password_of_an_address() {
        let lines = lines(vec![plan()], Err("process \"fetch https://u:word@host/\" did not complete"));
        let last = lines.last().unwrap()["vertexes"][0]["error"].as_str().unwrap();
        assert_eq!(last, "process \"fetch https://******@host/\" did not complete");
    }

    #[test]
    fn errors_are_in_the_vertex_that_failed_and_in_the_build() {
        let run = step(3, "RUN make");
        let events = vec![plan(), Event::StepStarted { step: run.clone() }, Event::StepFailed { step: run }];
        let lines = lines(events, Err("exit code 2"));
        let ends = &lines[lines.len() - 2..];
        assert_eq!(
            (&ends[0]["vertexes"][0]["name"], &ends[1]["vertexes"][0]["name"]),
            (&json!("[2/2] RUN make"), &json!("rbuild"))
        );
        assert!(ends.iter().all(|line| line["vertexes"][0]["error"] == "exit code 2"), "{lines:?}");
    }

    #[test]
    fn cached_steps_started_and_completed() {
        let run = step(3, "RUN make");
        let lines = lines(
            vec![
                plan(),
                Event::StepStarted { step: run.clone() },
                Event::StepCached { step: run.clone(), from: None },
                Event::StepFinished { step: run, id: "x".into() },
            ],
            Ok(&[]),
        );
        let done = &lines[3]["vertexes"][0];
        assert!(done["cached"] == true && done["started"].is_string() && done["completed"].is_string());
    }

    #[test]
    fn transfers_are_statuses_and_findings_warnings() {
        let part = |done, ended| {
            Event::Transfer(Transfer { of: "pull a".into(), part: "l1".into(), done, total: 9, ended })
        };
        let diagnostic =
            Diagnostic::warning("StageNameCasing", Span::new(3, 5), "bad `A`").with_hint("use a");
        let finding = || Event::Finding {
            file: "Dockerfile".into(),
            source: "x\nyzA".into(),
            diagnostic: diagnostic.clone(),
        };
        let ended = Event::TransferEnded { of: "pull a".into() };
        let lines = lines(vec![part(4, false), part(9, true), ended, finding(), finding()], Ok(&[]));
        assert_eq!(lines[0]["vertexes"][0]["name"], "pull a");
        let status = &lines[1]["statuses"][0];
        assert_eq!(
            (&status["current"], &status["total"], &status["id"]),
            (&json!(4), &json!(9), &json!("l1"))
        );
        assert!(
            lines[2]["statuses"][0]["completed"].is_string()
                && lines[3]["vertexes"][0]["completed"].is_string()
        );
        let warning = &lines[5]["warnings"][0];
        assert_eq!(warning["short"], json!(base64("StageNameCasing: bad `A`")));
        assert_eq!(
            warning["range"][0],
            json!({"start": {"line": 2, "character": 1}, "end": {"line": 2, "character": 3}})
        );
        assert_eq!(warning["sourceInfo"]["data"], json!(base64("x\nyzA")));
        assert_eq!(lines.iter().filter(|line| line["warnings"].is_array()).count(), 1, "said once");
    }
}
