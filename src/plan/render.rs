//! The graph as text for people and programs: JSON, DOT, Mermaid and SVG.
//!
//! # The JSON
//!
//! ```text
//! {
//!   "version": 1,
//!   "target": NUMBER of the first stage to build, as in the file,
//!   "targets": [NUMBER] of all of them, in the order asked for,
//!   "stages": [{
//!     "index": number in the file, from 0,
//!     "name": string or null,
//!     "platform": "linux/amd64",
//!     "output": id of the last vertex, or null for nothing on scratch,
//!     "steps": [{ "text", "line", "vertex": id or null }]
//!   }],
//!   "vertices": [{
//!     "id": number, also the place in this list,
//!     "kind": "image" | "context" | "http" | "git" | "run" | "copy" | "add" | "workdir",
//!     "instruction": one line, its keyword in capitals,
//!     "line": from 1; 0 for what ONBUILD brought,
//!     "stage": name or number of the first stage that needs it,
//!     "cached": true, false, or null where it is not known,
//!     "reference", "platform", "image": of an image only
//!   }],
//!   "edges": [{ "from": id or null for the empty state, "to": id, "kind": KIND }]
//! }
//! ```
//! KIND is "base"; "below" for the state a `COPY --link` is put on; "source"; "mount"; or "seed" for
//! what a new cache mount starts with. Vertices come after all they read from.

use std::fmt::Write as _;

use serde_json::Value;
use serde_json::json;

use crate::draw::{Link, Look, Node, Picture, svg};

use super::graph::EdgeKind;
use super::graph::Graph;
use super::graph::Op;
use super::graph::Vertex;
use super::graph::VertexId;

/// How a graph is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    /// Graphviz.
    Dot,
    /// A Mermaid flowchart.
    Mermaid,
    /// A picture.
    Svg,
}

/// Writes a graph; `cached` tells of a vertex whether the cache has it, where that is known.
pub fn render(graph: &Graph, format: Format, cached: &dyn Fn(VertexId) -> Option<bool>) -> String {
    match format {
        Format::Json => render_json(graph, cached),
        Format::Dot => render_dot(graph, cached),
        Format::Mermaid => render_mermaid(graph, cached),
        Format::Svg => render_svg(graph, cached),
    }
}

/// Returns the word for what a vertex does.
pub fn kind(op: &Op) -> &'static str {
    match op {
        Op::Image(_) => "image",
        Op::Context(_) => "context",
        Op::Http(_) => "http",
        Op::Git(_) => "git",
        Op::Run(_) => "run",
        Op::Copy(copy) if copy.add => "add",
        Op::Copy(_) => "copy",
        Op::Workdir(_) => "workdir",
    }
}

/// Returns the word for what an edge means.
pub fn edge_kind(kind: EdgeKind) -> &'static str {
    match kind {
        EdgeKind::Base => "base",
        EdgeKind::Below => "below",
        EdgeKind::Source => "source",
        EdgeKind::Mount => "mount",
        EdgeKind::Seed => "seed",
    }
}

fn ids(graph: &Graph) -> impl Iterator<Item = (VertexId, &Vertex)> {
    graph.vertices.iter().enumerate().map(|(i, vertex)| (VertexId(i), vertex))
}

fn render_json(graph: &Graph, cached: &dyn Fn(VertexId) -> Option<bool>) -> String {
    let id = |id: Option<VertexId>| id.map(|id| id.0);
    let stages: Vec<Value> = graph
        .stages
        .iter()
        .map(|stage| {
            let steps: Vec<Value> = stage
                .steps
                .iter()
                .map(|step| json!({ "text": step.text, "line": step.line, "vertex": id(step.vertex) }))
                .collect();
            json!({
                "index": stage.index,
                "name": stage.name,
                "platform": stage.platform.to_string(),
                "output": id(stage.output),
                "steps": steps,
            })
        })
        .collect();
    let vertices: Vec<Value> = ids(graph)
        .map(|(id, vertex)| {
            let mut value = json!({
                "id": id.0,
                "kind": kind(&vertex.op),
                "instruction": vertex.text,
                "line": vertex.line,
                "stage": vertex.stage,
                "cached": cached(id),
            });
            if let Op::Image(image) = &vertex.op {
                value["reference"] = json!(image.reference);
                value["platform"] = json!(image.platform.to_string());
                value["image"] = json!(image.image.to_string());
            }
            value
        })
        .collect();
    let edges: Vec<Value> = ids(graph)
        .flat_map(|(to, vertex)| {
            vertex.inputs.iter().map(
                move |input| json!({ "from": id(input.from), "to": to.0, "kind": edge_kind(input.kind) }),
            )
        })
        .collect();
    let document = json!({
        "version": 1,
        "target": graph.target_stages().next().map(|stage| stage.index),
        "targets": graph.target_stages().map(|stage| stage.index).collect::<Vec<_>>(),
        "stages": stages,
        "vertices": vertices,
        "edges": edges,
    });
    let mut text = serde_json::to_string_pretty(&document).expect("strings, numbers and lists have a JSON");
    text.push('\n');
    text
}

/// Returns the vertices by the stage that needs them first, in the order of their first vertex.
fn by_stage(graph: &Graph) -> Vec<(&str, Vec<(VertexId, &Vertex)>)> {
    let mut groups: Vec<(&str, Vec<(VertexId, &Vertex)>)> = Vec::new();
    for (id, vertex) in ids(graph) {
        match groups.iter_mut().find(|(stage, _)| *stage == vertex.stage) {
            Some((_, members)) => members.push((id, vertex)),
            None => groups.push((&vertex.stage, vec![(id, vertex)])),
        }
    }
    groups
}

/// Returns the lines of a vertex's box.
fn caption(vertex: &Vertex, cached: Option<bool>) -> Vec<String> {
    let mut lines = vec![shorten(&vertex.text)];
    match &vertex.op {
        Op::Image(image) => lines.push(format!("{} {}", image.platform, image.image.short())),
        _ if vertex.line > 0 => lines.push(format!("line {}", vertex.line)),
        _ => {}
    }
    if cached == Some(true) {
        lines.push("cached".to_owned());
    }
    lines
}

fn shorten(text: &str) -> String {
    const LIMIT: usize = 80;
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn render_dot(graph: &Graph, cached: &dyn Fn(VertexId) -> Option<bool>) -> String {
    let mut out = String::from("digraph rbuild {\n  rankdir=LR;\n  node [shape=box, fontname=monospace];\n");
    for (number, (stage, members)) in by_stage(graph).into_iter().enumerate() {
        let _ = writeln!(out, "  subgraph cluster_{number} {{\n    label=\"{}\";", escape_dot(stage));
        for (id, vertex) in members {
            let lines: Vec<String> =
                caption(vertex, cached(id)).iter().map(|line| escape_dot(line)).collect();
            let style = match (cached(id), &vertex.op) {
                (Some(true), _) => ", style=filled, fillcolor=palegreen",
                (_, Op::Image(_) | Op::Context(_) | Op::Http(_) | Op::Git(_)) => ", style=rounded",
                _ => "",
            };
            let _ = writeln!(out, "    v{} [label=\"{}\"{style}];", id.0, lines.join("\\n"));
        }
        out.push_str("  }\n");
    }
    for (to, vertex) in ids(graph) {
        for input in &vertex.inputs {
            let Some(from) = input.from else { continue };
            let style = match input.kind {
                EdgeKind::Base | EdgeKind::Below => "solid",
                EdgeKind::Source => "dashed",
                EdgeKind::Mount | EdgeKind::Seed => "dotted",
            };
            let kind = edge_kind(input.kind);
            let _ = writeln!(out, "  v{} -> v{} [style={style}, tooltip={kind}];", from.0, to.0);
        }
    }
    out.push_str("}\n");
    out
}

fn escape_dot(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

fn render_mermaid(graph: &Graph, cached: &dyn Fn(VertexId) -> Option<bool>) -> String {
    let mut out = String::from("flowchart LR\n");
    for (number, (stage, members)) in by_stage(graph).into_iter().enumerate() {
        let _ = writeln!(out, "  subgraph s{number}[\"{}\"]", escape_mermaid(stage));
        for (id, vertex) in members {
            let lines: Vec<String> =
                caption(vertex, cached(id)).iter().map(|line| escape_mermaid(line)).collect();
            let label = lines.join("<br/>");
            let _ = match &vertex.op {
                Op::Image(_) | Op::Context(_) => writeln!(out, "    v{}([\"{label}\"])", id.0),
                _ => writeln!(out, "    v{}[\"{label}\"]", id.0),
            };
        }
        out.push_str("  end\n");
    }
    for (to, vertex) in ids(graph) {
        for input in &vertex.inputs {
            let Some(from) = input.from else { continue };
            let _ = match input.kind {
                EdgeKind::Base => writeln!(out, "  v{} --> v{}", from.0, to.0),
                kind => writeln!(out, "  v{} -. {} .-> v{}", from.0, edge_kind(kind), to.0),
            };
        }
    }
    let hits: Vec<String> =
        ids(graph).filter(|(id, _)| cached(*id) == Some(true)).map(|(id, _)| format!("v{}", id.0)).collect();
    if !hits.is_empty() {
        let _ = writeln!(out, "  classDef cached fill:#cfc\n  class {} cached", hits.join(","));
    }
    out
}

fn render_svg(graph: &Graph, cached: &dyn Fn(VertexId) -> Option<bool>) -> String {
    let stages = by_stage(graph);
    let mut picture = Picture { title: "Instruction graph".to_owned(), ..Picture::default() };
    for (id, vertex) in ids(graph) {
        let look = match (cached(id), &vertex.op) {
            (_, Op::Image(_) | Op::Context(_) | Op::Http(_) | Op::Git(_)) => Look::Source,
            (Some(true), _) => Look::Cached,
            _ => Look::Plain,
        };
        let detail = match caption(vertex, cached(id)) {
            lines if lines.len() > 1 => lines[1..].join(" · "),
            _ => kind(&vertex.op).to_owned(),
        };
        let group = stages.iter().position(|(stage, _)| *stage == vertex.stage).unwrap_or(0);
        picture.nodes.push(Node { group, text: vertex.text.clone(), detail, look });
        for input in &vertex.inputs {
            let kind = edge_kind(input.kind).to_owned();
            picture.links.extend(input.from.map(|from| Link { from: from.0, to: id.0, kind }));
        }
    }
    picture.groups = stages.iter().map(|(stage, _)| format!("stage {stage}")).collect();
    svg(&picture)
}

/// Writes what Mermaid could take for markup as its numbered entities.
fn escape_mermaid(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '#' | '<' | '>' | '&' | '`' | '\\' | '[' | ']' | '{' | '}' | '|' | '*' | '_' | ';' => {
                let _ = write!(out, "#{};", c as u32);
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
