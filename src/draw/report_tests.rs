//! Tests of the page about a build.

use super::super::sizes;
use super::*;
use crate::report::record::{ErrorRecord, ImageRecord, InputRecord, StageRecord, WarningRecord};

const EVIL: &str = "<script>alert('x')</script><img src=x onerror=\"y\">";

fn vertex(kind: &str, text: &str, state: StepState) -> VertexRecord {
    VertexRecord { kind: kind.into(), text: text.into(), stage: "0".into(), state, ..VertexRecord::default() }
}

/// A record is read back from a file, which may say anything.
#[test]
fn times_and_sizes_of_any_length_are_drawn() {
    let mut record = record();
    record.elapsed_ms = u64::MAX;
    for vertex in &mut record.vertices {
        (vertex.start_ms, vertex.end_ms, vertex.bytes) = (Some(0), Some(u64::MAX), Some(u64::MAX));
    }
    let (started, log) = (String::new(), String::new());
    assert!(
        report_page(&ReportPage { record: &record, started, output: Vec::new(), log })
            .contains("5124095576030 h")
    );
}

fn record() -> BuildRecord {
    let step = |number, text: &str, vertex, state| StepRecord {
        number,
        text: text.into(),
        line: number,
        vertex,
        state,
        id: "0123456789ab".into(),
        ..StepRecord::default()
    };
    let base = |from| vec![InputRecord { from, kind: "base".into() }];
    BuildRecord {
        version: 1,
        id: "aaaabbbbcccc".into(),
        elapsed_ms: 2000,
        status: BuildStatus::Completed,
        context: "/src/app".into(),
        dockerfile: "Dockerfile".into(),
        options: vec![("--build-arg".into(), "A=1".into()), ("--no-cache".into(), String::new())],
        stages: vec![StageRecord { name: "0".into(), platform: "linux/amd64".into() }],
        steps: vec![
            step(1, "FROM base", Some(0), StepState::Done),
            step(2, "RUN make", Some(1), StepState::Done),
            step(3, "RUN test", Some(2), StepState::Cached),
            step(4, "CMD x", None, StepState::Done),
        ],
        vertices: vec![
            VertexRecord { bytes: Some(1000), ..vertex("image", "FROM base", StepState::Done) },
            VertexRecord {
                inputs: base(0),
                why: Some("ARG or ENV A: 0 -> 1".into()),
                start_ms: Some(100),
                end_ms: Some(1600),
                bytes: Some(2_000_000),
                layer: Some("111122223333".into()),
                ..vertex("run", "RUN make", StepState::Done)
            },
            VertexRecord { inputs: base(1), bytes: Some(10), ..vertex("run", "RUN test", StepState::Cached) },
        ],
        images: vec![ImageRecord {
            id: "sha256:00".into(),
            tags: vec!["app:latest".into()],
            bytes: 2_001_010,
            layers: 3,
            ..ImageRecord::default()
        }],
        ..BuildRecord::default()
    }
}

fn drawn(record: &BuildRecord, output: Vec<StepOutput>) -> String {
    report_page(&ReportPage { record, started: "today".into(), output, log: "/store/log".into() })
}

#[test]
fn all_that_was_asked_of_a_report_is_there() {
    let output = StepOutput { number: 2, head: "compiling\n".into(), ..StepOutput::default() };
    let page = drawn(&record(), vec![output]);
    for expect in [
        "app:latest",
        "2.00 MB",
        "ARG or ENV A: 0 -&gt; 1",
        "1.5 s",
        "compiling",
        "done · 1.5 s · 2.00 MB",
        "1 (25.0%)",
        "--build-arg A=1",
        "111122223333",
        "base <code>FROM base</code>",
        "<svg class=\"graph\"",
        "id=\"timeline\"",
        "/store/log",
    ] {
        assert!(page.contains(expect), "{expect} in {page}");
    }
    for absent in ["id=\"error\"", "id=\"warnings\"", "Stage <code>"] {
        assert!(!page.contains(absent), "{absent}");
    }
}

#[test]
fn a_failure_is_told_first() {
    let mut record = record();
    record.status = BuildStatus::Failed;
    record.images.clear();
    record.steps[1].state = StepState::Failed;
    record.vertices[1].state = StepState::Failed;
    let text = "error: it did not complete".to_owned();
    record.error = Some(ErrorRecord { text, vertex: Some(1), exit_code: Some(3), signal: None });
    let page = drawn(&record, Vec::new());
    assert!(page.contains("with exit code 3") && page.contains("<details id=\"step-2\" open>"), "{page}");
    assert!(page.find("id=\"error\"") < page.find("id=\"graph\""));
}

#[test]
fn a_dockerfile_that_could_not_be_planned_has_a_page() {
    let error = ErrorRecord { text: "error: unknown instruction: RUNX".into(), ..ErrorRecord::default() };
    let page = drawn(&BuildRecord { error: Some(error), ..BuildRecord::default() }, Vec::new());
    assert!(page.contains("unknown instruction: RUNX") && !page.contains("id=\"graph\""), "{page}");
}

#[test]
fn nothing_from_outside_is_markup() {
    let mut record = record();
    let evil = || EVIL.to_owned();
    (record.context, record.dockerfile, record.id) = (evil(), evil(), evil());
    record.options = vec![(evil(), evil())];
    record.stages = vec![StageRecord { name: evil(), platform: evil() }; 2];
    for step in &mut record.steps {
        (step.text, step.id) = (evil(), evil());
    }
    for vertex in &mut record.vertices {
        (vertex.text, vertex.stage, vertex.kind) = (evil(), evil(), evil());
        (vertex.why, vertex.cached_from, vertex.layer) = (Some(evil()), Some(evil()), Some(evil()));
        vertex.inputs.iter_mut().for_each(|input| input.kind = evil());
    }
    record.warnings = vec![WarningRecord { code: evil(), message: evil(), line: 1, hint: Some(evil()) }];
    record.error = Some(ErrorRecord { text: evil(), vertex: Some(1), ..ErrorRecord::default() });
    record.images[0].tags = vec![evil()];
    record.images[0].id = evil();
    let output = StepOutput { number: 2, head: evil(), left_out: 1, tail: evil() };
    let input = ReportPage { record: &record, started: evil(), output: vec![output], log: evil() };
    let page = report_page(&input);
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("onerror=\""), "{page}");
    assert!(page.contains("&lt;script&gt;"));
}

#[test]
fn what_a_terminal_would_obey_is_no_text() {
    let output = StepOutput {
        number: 2,
        head: "\x1b[31mred\x1b[0m \x1b]0;title\x07end".into(),
        ..StepOutput::default()
    };
    assert!(drawn(&record(), vec![output]).contains(">red end</pre>"));
}

#[test]
fn what_is_left_out_of_long_output_is_counted() {
    let output = StepOutput { number: 2, head: "begin".into(), left_out: 5_000_000, tail: "finish".into() };
    let page = drawn(&record(), vec![output]);
    assert!(page.contains(&sizes::bytes(5_000_000)) && page.contains("begin") && page.contains("finish"));
}

#[test]
fn a_build_that_ran_nothing_says_so() {
    let mut record = record();
    record.vertices.iter_mut().for_each(|vertex| (vertex.start_ms, vertex.end_ms) = (None, Some(0)));
    assert!(drawn(&record, Vec::new()).contains("Nothing ran"));
}
