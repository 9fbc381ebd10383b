//! The page about one build: what came of it, its graph, when what ran and why, layers, warnings, output.
//!
//! Not here: reading the record and the log (`cli`).

use std::fmt::Write as _;

use super::bar::bar;
use super::graph::{self, Link, Look, Node, Picture};
use super::page::{Part, card, code, facts, page};
use super::sizes::{bytes, count, share, time};
use super::text::{escape, fit, plain};
use crate::report::record::{BuildRecord, BuildStatus, StepRecord, StepState, VertexRecord};

/// What the page is made of.
#[derive(Debug)]
pub struct ReportPage<'a> {
    pub record: &'a BuildRecord,
    /// When it began, for people.
    pub started: String,
    /// The output of each step that said something, by its number.
    pub output: Vec<StepOutput>,
    /// Where the whole log lies.
    pub log: String,
}

/// What a step said.
#[derive(Debug, Default)]
pub struct StepOutput {
    pub number: usize,
    /// The first part; all of it where nothing was left out.
    pub head: String,
    /// How many bytes were left out behind it.
    pub left_out: u64,
    pub tail: String,
}

/// Draws the page.
pub fn report_page(input: &ReportPage<'_>) -> String {
    let record = input.record;
    let parts = [
        Part { id: "error", title: "Why it failed", html: error(record) },
        Part { id: "warnings", title: "Warnings", html: warnings(record) },
        Part { id: "graph", title: "Graph", html: graph(record) },
        Part { id: "timeline", title: "Timeline", html: timeline(record) },
        Part { id: "steps", title: "Steps", html: steps(input) },
        Part { id: "layers", title: "Layers", html: layers(record) },
        Part { id: "request", title: "What was asked for", html: request(input) },
    ];
    page(&format!("Build {}: {}", record.id, title(record)), &head(input), &parts)
}

/// Returns what people call the build: the image's name, or where it was built from.
fn title(record: &BuildRecord) -> String {
    let tags = record.images.iter().flat_map(|image| &image.tags);
    let asked = record.options.iter().filter(|(name, _)| name == "--tag").map(|(_, value)| value);
    tags.chain(asked).next().cloned().unwrap_or_else(|| record.context.clone())
}

fn status(status: BuildStatus) -> String {
    let class = if status == BuildStatus::Completed { "good" } else { "bad" };
    format!("<span class=\"badge {class}\">{}</span>", status.as_str())
}

fn badge(state: StepState) -> String {
    let class = match state {
        StepState::Cached => " good",
        StepState::Failed | StepState::Stopped => " bad",
        StepState::Done | StepState::Waiting => "",
    };
    format!("<span class=\"badge{class}\">{}</span>", state.as_str())
}

fn head(input: &ReportPage<'_>) -> String {
    let record = input.record;
    let (steps, cached) = record.counts();
    let mut cards = card(&time(record.elapsed_ms), "time");
    cards += &card(&steps.to_string(), "steps");
    cards += &card(&format!("{cached} ({})", share(cached as u64, steps as u64)), "from the cache");
    if let Some(image) = record.images.first() {
        cards += &card(&bytes(image.bytes), "image");
        cards += &card(&image.layers.to_string(), "layers");
    }
    if !record.warnings.is_empty() {
        cards += &card(&record.warnings.len().to_string(), "warnings");
    }
    format!(
        "<h1>{} {}</h1>\n<p class=\"soft\">Build {} of {}, {}</p>\n<ul class=\"cards\">{cards}</ul>",
        escape(&title(record)),
        status(record.status),
        code(&record.id),
        code(&record.context),
        escape(&input.started),
    )
}

fn error(record: &BuildRecord) -> String {
    let Some(error) = &record.error else { return String::new() };
    let mut html = String::from("<div class=\"box bad\">");
    if let Some((step, vertex)) = error.vertex.and_then(|vertex| {
        let step = record.steps.iter().find(|step| step.vertex == Some(vertex))?;
        Some((step, &record.vertices[vertex]))
    }) {
        let end = match (error.exit_code, error.signal) {
            (Some(number), _) => format!(" with exit code {number}"),
            (None, Some(number)) => format!(": its process was killed by signal {number}"),
            (None, None) => String::new(),
        };
        let _ = write!(
            html,
            "<p><a href=\"#step-{}\">Step {}</a> failed{end}: {}</p>",
            step.number,
            step.number,
            code(&vertex.text)
        );
    }
    let _ = write!(html, "<pre tabindex=\"0\">{}</pre></div>", escape(&plain(&error.text)));
    html
}

fn warnings(record: &BuildRecord) -> String {
    let mut html = String::new();
    for warning in &record.warnings {
        let line = match warning.line {
            0 => String::new(),
            line => format!(", line {line} of {}", code(&record.dockerfile)),
        };
        let hint = warning.hint.as_ref().map(|hint| format!("<p>{}</p>", escape(&plain(hint))));
        let _ = writeln!(
            html,
            "<div class=\"box note\"><p><b>{}</b>{line}</p><p>{}</p>{}</div>",
            escape(&warning.code),
            escape(&plain(&warning.message)),
            hint.unwrap_or_default()
        );
    }
    html
}

/// Draws the graph of a record.
fn graph(record: &BuildRecord) -> String {
    if record.vertices.is_empty() {
        return String::new();
    }
    let mut groups: Vec<String> = Vec::new();
    let mut picture = Picture {
        title: "What the steps read from; the same is told in words below".to_owned(),
        ..Picture::default()
    };
    for (to, vertex) in record.vertices.iter().enumerate() {
        let group = groups.iter().position(|name| *name == vertex.stage).unwrap_or_else(|| {
            groups.push(vertex.stage.clone());
            groups.len() - 1
        });
        let node = Node { group, text: vertex.text.clone(), detail: detail(vertex), look: look(vertex) };
        picture.nodes.push(node);
        let links = vertex.inputs.iter().map(|input| Link { from: input.from, to, kind: input.kind.clone() });
        picture.links.extend(links);
    }
    picture.groups = groups.into_iter().map(|name| format!("stage {name}")).collect();
    format!(
        "<p class=\"soft\">A column for each stage. Green came from the cache; a dashed line is a copy of files, a \
         dotted one a mount.</p>\n<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"The drawing\">{}</div>",
        graph::inline(&picture)
    )
}

fn look(vertex: &VertexRecord) -> Look {
    match (vertex.kind.as_str(), vertex.state) {
        (_, StepState::Failed) => Look::Failed,
        ("image" | "context" | "http" | "git", _) => Look::Source,
        (_, StepState::Cached) => Look::Cached,
        (_, StepState::Waiting | StepState::Stopped) => Look::Faint,
        (_, StepState::Done) => Look::Plain,
    }
}

fn detail(vertex: &VertexRecord) -> String {
    let mut words = Vec::new();
    if vertex.line > 0 {
        words.push(format!("line {}", vertex.line));
    }
    match vertex.kind.as_str() {
        "image" | "context" | "http" | "git" => words.push(vertex.kind.clone()),
        _ => words.push(vertex.state.as_str().to_owned()),
    }
    words.extend(duration(vertex).map(time));
    words.extend(vertex.bytes.map(bytes));
    words.join(" · ")
}

fn duration(vertex: &VertexRecord) -> Option<u64> {
    Some(vertex.end_ms?.saturating_sub(vertex.start_ms?))
}

/// Returns where its work ended on the line of time, to the end of the build where it never did.
fn span(vertex: &VertexRecord, record: &BuildRecord) -> Option<(u64, u64)> {
    let start = vertex.start_ms?;
    Some((start, vertex.end_ms.unwrap_or(record.elapsed_ms).max(start)))
}

fn timeline(record: &BuildRecord) -> String {
    let mut ran: Vec<(&VertexRecord, (u64, u64))> =
        record.vertices.iter().filter_map(|vertex| Some((vertex, span(vertex, record)?))).collect();
    if record.vertices.is_empty() {
        return String::new();
    }
    if ran.is_empty() && record.transfers.is_empty() {
        return "<p>Nothing ran: all of it came from the cache.</p>".to_owned();
    }
    ran.sort_by_key(|(_, span)| *span);
    let whole = record.elapsed_ms.max(1);
    let mut rows = Vec::new();
    for (vertex, (start, end)) in &ran {
        let bad = matches!(vertex.state, StepState::Failed | StepState::Stopped);
        rows.push((*start, row(&vertex.text, "", (*start, *end), whole, if bad { "bad" } else { "full" })));
    }
    for transfer in &record.transfers {
        let end = transfer.end_ms.unwrap_or(record.elapsed_ms).max(transfer.start_ms);
        let size = bytes(transfer.bytes);
        rows.push((transfer.start_ms, row(&transfer.of, &size, (transfer.start_ms, end), whole, "note")));
    }
    rows.sort_by_key(|(start, _)| *start);
    let rows: String = rows.into_iter().map(|(_, row)| row).collect();
    let sum = ran.iter().map(|(_, (start, end))| end - start).fold(0, u64::saturating_add);
    format!(
        "<div class=\"wide\" tabindex=\"0\"><table><caption>What ran and what was received and sent, from the start to the end of the build ({}). All steps together \
         took {}.</caption>\n<thead><tr><th scope=\"col\">Step</th><th scope=\"col\">When</th><th scope=\"col\" \
         class=\"n\">Began after</th><th scope=\"col\" class=\"n\">Took</th></tr></thead>\n<tbody>\n{rows}</tbody></table></div>",
        time(record.elapsed_ms),
        time(sum)
    )
}

/// Draws a row of the timeline; `size` stands behind its name.
fn row(text: &str, size: &str, (start, end): (u64, u64), whole: u64, class: &str) -> String {
    let size = if size.is_empty() { String::new() } else { format!(" <span class=\"soft\">{size}</span>") };
    format!(
        "<tr><th scope=\"row\" class=\"code\">{}{size}</th><td class=\"bar\">{}</td><td class=\"n\">{}</td>\
         <td class=\"n\">{}</td></tr>\n",
        escape(&fit(text, 60)),
        bar(start, end, whole, class),
        time(start),
        time(end - start)
    )
}

fn steps(input: &ReportPage<'_>) -> String {
    let record = input.record;
    if record.steps.is_empty() {
        return String::new();
    }
    let mut html = format!(
        "<p class=\"soft\">In the order of their numbers, with what they said. The whole log: {}</p>\n",
        code(&input.log)
    );
    let several = record.stages.len() > 1;
    let mut stage = None;
    for step in &record.steps {
        if several && stage != Some(step.stage) {
            stage = Some(step.stage);
            let name = record.stages.get(step.stage).map(|stage| stage.name.as_str()).unwrap_or_default();
            let _ = writeln!(html, "<h3>Stage {}</h3>", code(name));
        }
        one_step(&mut html, input, step);
    }
    html
}

fn one_step(html: &mut String, input: &ReportPage<'_>, step: &StepRecord) {
    let record = input.record;
    let vertex = step.vertex.and_then(|vertex| record.vertices.get(vertex));
    let failed = step.state == StepState::Failed;
    let took = vertex.and_then(duration).map(time).unwrap_or_default();
    let size = vertex.and_then(|vertex| vertex.bytes).map(bytes).unwrap_or_default();
    let _ = write!(
        html,
        "<details id=\"step-{number}\"{open}><summary><span class=\"soft\">{number}</span><span class=\"text code\">{}\
         </span>{}<span class=\"time\">{took}</span><span class=\"time\">{size}</span></summary>\n<div class=\"inside\">",
        escape(&fit(&step.text, 240)),
        badge(step.state),
        number = step.number,
        open = if failed { " open" } else { "" },
    );
    let mut rows: Vec<(&str, String)> = Vec::new();
    if step.text.chars().count() > 200 {
        rows.push(("Instruction", code(&step.text)));
    }
    if step.line > 0 {
        rows.push(("Line", format!("{} of {}", step.line, code(&record.dockerfile))));
    }
    if let Some(vertex) = vertex {
        if let Some(why) = &vertex.why {
            rows.push(("Why it ran", escape(&plain(why)).into_owned()));
        }
        if let Some(from) = &vertex.cached_from {
            rows.push(("Cached in", code(from)));
        }
        let inputs: Vec<String> = vertex
            .inputs
            .iter()
            .filter_map(|input| Some((input, record.vertices.get(input.from)?)))
            .map(|(input, from)| format!("{} {}", escape(&input.kind), code(&fit(&from.text, 100))))
            .collect();
        if !inputs.is_empty() {
            rows.push(("Reads", inputs.join("<br>")));
        }
        if let (Some(start), Some(_)) = (vertex.start_ms, duration(vertex)) {
            rows.push(("Began after", time(start)));
        }
        if let Some(layer) = &vertex.layer {
            rows.push(("Layer", code(layer)));
        }
    }
    if !step.id.is_empty() {
        rows.push((
            "State after it",
            format!("{} (for <code>rbuild run</code> and <code>inspect</code>)", code(&step.id)),
        ));
    }
    html.push_str(&facts(&rows));
    if let Some(output) = input.output.iter().find(|output| output.number == step.number) {
        let label = format!("Output of step {}", step.number);
        let _ = write!(
            html,
            "<pre tabindex=\"0\" role=\"region\" aria-label=\"{label}\">{}",
            escape(&plain(&output.head))
        );
        if output.left_out > 0 {
            let _ = write!(
                html,
                "</pre>\n<p class=\"soft\">… {} left out here; the log has all of it …</p>\n<pre tabindex=\"0\" \
                 role=\"region\" aria-label=\"{label}, its end\">{}",
                bytes(output.left_out),
                escape(&plain(&output.tail))
            );
        }
        html.push_str("</pre>");
    }
    html.push_str("</div></details>\n");
}

fn layers(record: &BuildRecord) -> String {
    let made: Vec<&VertexRecord> = record.vertices.iter().filter(|vertex| vertex.bytes.is_some()).collect();
    if made.is_empty() {
        return String::new();
    }
    let most = made.iter().filter_map(|vertex| vertex.bytes).max().unwrap_or(1).max(1);
    let mut rows = String::new();
    for vertex in &made {
        let size = vertex.bytes.unwrap_or(0);
        let class = if vertex.state == StepState::Cached { "cached" } else { "full" };
        let what = match vertex.kind.as_str() {
            "image" => "all layers of the image",
            _ => vertex.state.as_str(),
        };
        let _ = writeln!(
            rows,
            "<tr><th scope=\"row\" class=\"code\">{}</th><td>{}</td><td class=\"bar\">{}</td><td class=\"n\">{}</td></tr>",
            escape(&fit(&vertex.text, 60)),
            escape(what),
            bar(0, size, most, class),
            bytes(size)
        );
    }
    let mut html = format!(
        "<div class=\"wide\" tabindex=\"0\"><table><caption>The files that each step put into its layer, {} in all.</caption>\n<thead><tr><th scope=\"col\">Made by</th>\
         <th scope=\"col\">State</th><th scope=\"col\">Share</th><th scope=\"col\" class=\"n\">Size</th></tr></thead>\n\
         <tbody>\n{rows}</tbody></table></div>",
        count(made.len(), "layer")
    );
    for image in &record.images {
        let name = image.tags.first().unwrap_or(&image.id);
        let _ = write!(
            html,
            "\n<p>{} has {} of {}. <code>rbuild layers {}</code> tells what is in them.</p>",
            code(name),
            bytes(image.bytes),
            count(image.layers, "layer"),
            escape(name)
        );
    }
    html
}

fn request(input: &ReportPage<'_>) -> String {
    let record = input.record;
    let mut rows = vec![("Context", code(&record.context)), ("Dockerfile", code(&record.dockerfile))];
    if !record.options.is_empty() {
        let option = |(name, value): &(String, String)| match value.is_empty() {
            true => code(name),
            false => code(&format!("{name} {value}")),
        };
        rows.push(("Options", record.options.iter().map(option).collect::<Vec<_>>().join("<br>")));
    }
    let platforms: std::collections::BTreeSet<&str> =
        record.stages.iter().map(|stage| stage.platform.as_str()).collect();
    if !platforms.is_empty() {
        rows.push(("Platform", escape(&platforms.into_iter().collect::<Vec<_>>().join(", ")).into_owned()));
    }
    for image in &record.images {
        let tags = image.tags.iter().map(|tag| code(tag)).collect::<Vec<_>>().join(" ");
        rows.push(("Image", format!("{tags} {}", code(&image.id))));
    }
    rows.push(("Began", escape(&input.started).into_owned()));
    rows.push(("Built by", escape(&format!("rbuild {}", record.rbuild)).into_owned()));
    facts(&rows)
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
