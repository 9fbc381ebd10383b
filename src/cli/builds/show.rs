//! `rbuild builds show`: all that is known of a build.

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use super::super::error::CommandError;
use super::super::template::Template;
use super::super::{table, ui, units};
use crate::draw::fit;
use crate::report::clean::{clean_text, without_codes};
use crate::report::record::{BuildRecord, StepRecord};
use crate::store::{KeptBuild, Store};

/// Show all that is known of a build.
#[derive(Debug, Args)]
#[command(
    after_help = "`--format json` prints the record as it is kept: docs/builds.md has its fields.\n\nExamples:\n  \
    rbuild builds show\n  rbuild builds show 3f2a --format '{{.status}} {{len .steps}}'\n\n\
    See also: rbuild builds logs, rbuild report"
)]
pub struct ShowArgs {
    /// Which build; the last one where none is named
    #[arg(value_name = "BUILD")]
    pub build: Option<String>,
    /// Print through a Go template, or `json`
    #[arg(long, value_name = "TEMPLATE")]
    pub format: Option<String>,
}

/// Runs the command.
pub fn show(store: &Store, args: &ShowArgs) -> Result<(), CommandError> {
    let build = super::find(store, args.build.as_deref())?;
    let record = super::record(&build)?;
    if let Some(format) = &args.format {
        let mut value = serde_json::to_value(&record)?;
        value["log"] = Value::from(build.log.display().to_string());
        let text = match format.as_str() {
            "json" => serde_json::to_string_pretty(&value)?,
            template => {
                Template::parse(template).map_err(|e| CommandError::usage(e.to_string()))?.render(&value)?
            }
        };
        ui::line(&text);
        return Ok(());
    }
    ui::out(&text(&record, &build));
    Ok(())
}

fn text(record: &BuildRecord, build: &KeptBuild) -> String {
    let began = Timestamp::from_millisecond(record.started_unix_ms).unwrap_or(build.started);
    let (steps, cached) = record.counts();
    let seconds = Timestamp::now().as_second() - began.as_second();
    let at = began.strftime("%Y-%m-%d %H:%M:%S UTC");
    let mut facts: Vec<(&str, String)> = vec![
        ("Build", record.id.clone()),
        ("Status", record.status.as_str().to_owned()),
        ("Began", format!("{at} ({})", units::ago(seconds))),
        ("Took", super::time(record.elapsed_ms)),
        ("Steps", format!("{steps}, {cached} of them cached")),
        ("Context", record.context.clone()),
        ("Dockerfile", record.dockerfile.clone()),
    ];
    facts.extend(
        record
            .options
            .iter()
            .map(|(name, value)| ("Option", format!("{name} {value}").trim_end().to_owned())),
    );
    for image in &record.images {
        let what = format!("{} in {} layers", units::size(image.bytes), image.layers);
        facts.push(("Image", format!("{} {} ({what})", image.id, image.tags.join(" "))));
    }
    facts.push(("Built by", format!("rbuild {}", record.rbuild)));
    facts.push(("Log", build.log.display().to_string()));
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    let mut out = String::new();
    for (name, value) in facts {
        out.push_str(&format!("{:<width$}{}\n", format!("{name}:"), one_line(&value)));
    }
    if !record.steps.is_empty() {
        let head = ["STEP", "STATE", "TOOK", "SIZE", "INSTRUCTION", "WHY"].map(str::to_owned).to_vec();
        let rows = record.steps.iter().map(|step| row(record, step));
        out.push('\n');
        out.push_str(&table::layout(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
    }
    for warning in &record.warnings {
        let place = if warning.line > 0 { format!(" (line {})", warning.line) } else { String::new() };
        out.push_str(&format!("\nwarning: {}: {}{place}", warning.code, one_line(&warning.message)));
    }
    if !record.warnings.is_empty() {
        out.push('\n');
    }
    if let Some(error) = &record.error {
        out.push_str(&format!("\n{}\n", without_codes(&clean_text(&error.text)).trim_end()));
    }
    out
}

fn row(record: &BuildRecord, step: &StepRecord) -> Vec<String> {
    let vertex = step.vertex.and_then(|vertex| record.vertices.get(vertex));
    let took = vertex.and_then(|vertex| Some(vertex.end_ms?.saturating_sub(vertex.start_ms?)));
    let why = vertex.and_then(|vertex| vertex.why.as_deref()).unwrap_or_default();
    vec![
        format!("{}/{}", step.number, record.steps.len()),
        step.state.as_str().to_owned(),
        took.map(super::time).unwrap_or_default(),
        vertex.and_then(|vertex| vertex.bytes).map(units::size).unwrap_or_default(),
        fit(&one_line(&step.text), 60),
        one_line(why),
    ]
}

fn one_line(text: &str) -> String {
    without_codes(&clean_text(text)).replace(['\n', '\r', '\t'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::record::{ErrorRecord, StepState, VertexRecord, WarningRecord};
    use crate::store::BuildState;

    #[test]
    fn what_is_known_is_shown() {
        let vertex = VertexRecord {
            why: Some("never built here".into()),
            start_ms: Some(10),
            end_ms: Some(260),
            bytes: Some(1240),
            ..VertexRecord::default()
        };
        let record = BuildRecord {
            id: "0123456789ab".into(),
            context: "/a\x1b[2Jb".into(),
            options: vec![("--no-cache".into(), String::new())],
            steps: vec![StepRecord {
                number: 1,
                text: "RUN x".into(),
                vertex: Some(0),
                state: StepState::Failed,
                ..StepRecord::default()
            }],
            vertices: vec![vertex],
            warnings: vec![WarningRecord { code: "C".into(), message: "m".into(), line: 3, hint: None }],
            error: Some(ErrorRecord { text: "error: it\nfailed\n".into(), ..ErrorRecord::default() }),
            ..BuildRecord::default()
        };
        let started = Timestamp::UNIX_EPOCH;
        let build =
            KeptBuild { id: record.id.clone(), log: "/log".into(), started, state: BuildState::CutShort };
        let text = text(&record, &build);
        for expect in [
            "Build:      0123456789ab\n",
            "Context:    /ab\n",
            "Option:     --no-cache\n",
            "1/1    failed   250ms   1.24kB   RUN x         never built here\n",
            "warning: C: m (line 3)\n",
            "\nerror: it\nfailed\n",
        ] {
            assert!(text.contains(expect), "{expect:?} in {text}");
        }
    }
}
