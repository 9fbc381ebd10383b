//! From a file to its graph: the stages that the target reaches, one after the other.

use std::collections::BTreeMap;
use std::collections::HashMap;

use crate::dockerfile::ast::Dockerfile;
use crate::dockerfile::ast::Instruction;
use crate::dockerfile::ast::Kind;
use crate::report::Diagnostic;
use crate::report::Severity;
use crate::report::Span;

use super::Bases;
use super::Request;
use super::graph::Graph;
use super::graph::Input;
use super::graph::Op;
use super::graph::Vertex;
use super::graph::VertexId;
use super::scope;
use super::stage;
use super::stage::Shared;
use super::stages::Plan;

/// A graph, and what there is to say about the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Lowered {
    pub graph: Graph,
    /// All findings of the plan, in the order of the file; none is an error.
    pub warnings: Vec<Diagnostic>,
    /// SOURCE_DATE_EPOCH of the build arguments or the file, in seconds since 1970.
    pub source_date_epoch: Option<i64>,
}

/// Draws the graph of what the target needs.
///
/// Every image that [`super::outline()`] names must be in `bases`. On failure all
/// errors are returned, those of unreachable stages excepted, and the warnings
/// after them.
pub fn lower(file: &Dockerfile, request: &Request, bases: &Bases) -> Result<Lowered, Vec<Diagnostic>> {
    let plan = Plan::new(file, request)?;
    if plan.epoch.is_some() {
        let message = "the time of SOURCE_DATE_EPOCH was not resolved";
        return Err(vec![Diagnostic::error("source-date-epoch", Span::default(), message)]);
    }
    let reach = plan.reach(bases)?;
    let shared = stages(&plan, bases, &reach.stages);
    let Shared { vertices, built, findings, declared, .. } = shared;
    let (mut errors, mut warnings): (Vec<_>, Vec<_>) =
        findings.into_iter().partition(|f| f.severity == Severity::Error);
    warnings.sort_by_key(|w| w.span.map(|s| s.start));
    if !errors.is_empty() {
        errors.sort_by_key(|e| e.span.map(|s| s.start));
        errors.extend(warnings);
        return Err(errors);
    }
    warnings.extend(unconsumed(file, request, &declared));
    let position = |target: &usize| {
        let found = built.keys().position(|index| index == target);
        found.expect("a target is reached, and a stage that failed left an error")
    };
    let targets = plan.targets.iter().map(position).collect();
    let stages = built.into_values().map(|b| b.stage).collect();
    let graph = Graph { vertices: vertices.list, stages, targets };
    Ok(Lowered { graph, warnings, source_date_epoch: plan.source_date_epoch })
}

/// Lowers stages, each after those it is built from; findings are in what is returned.
pub(super) fn stages<'a>(
    plan: &'a Plan<'a>,
    bases: &'a Bases,
    stages: &BTreeMap<usize, Vec<Instruction>>,
) -> Shared<'a> {
    let mut shared = Shared::new(plan, bases);
    shared.findings.clone_from(&plan.warnings);
    for (&index, triggers) in stages {
        if let Some(built) = stage::build(&mut shared, index, triggers) {
            shared.built.insert(index, built);
        }
    }
    shared
}

/// Warns of build arguments that no ARG takes, in any stage.
fn unconsumed(file: &Dockerfile, request: &Request, declared: &[String]) -> Option<Diagnostic> {
    let taken = |name: &str| {
        scope::is_predefined(name)
            || declared.iter().any(|n| n == name)
            || file.instructions.iter().any(|instruction| match &instruction.kind {
                Kind::Arg(definitions) => definitions.iter().any(|d| d.name == name),
                _ => false,
            })
    };
    let left: Vec<&str> = request.build_args.keys().map(String::as_str).filter(|n| !taken(n)).collect();
    (!left.is_empty()).then(|| Diagnostic {
        severity: Severity::Warning,
        code: "UnconsumedBuildArg",
        message: format!("One or more build-args [{}] were not consumed", left.join(" ")),
        span: None,
        hint: Some("an argument has an effect only where an `ARG` of that name stands".to_owned()),
    })
}

/// What asks for a source first: where it stands in the file.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) text: String,
    pub(super) span: Span,
    pub(super) line: usize,
    pub(super) stage: String,
}

impl Place {
    /// Makes the vertex of a source, which has no inputs.
    pub(super) fn vertex(self, op: Op) -> Vertex {
        let Place { text, span, line, stage } = self;
        Vertex { op, inputs: Vec::new(), text, span, line, stage, ignore_cache: false }
    }
}

/// The vertices so far; equal work is kept once.
#[derive(Debug, Default)]
pub(super) struct Vertices {
    list: Vec<Vertex>,
    known: HashMap<(Op, Vec<Input>, bool), VertexId>,
}

impl Vertices {
    /// Returns all vertices, in the order they were added.
    pub(super) fn list(&self) -> &[Vertex] {
        &self.list
    }

    /// Adds a vertex, or returns the one that does the same.
    pub(super) fn add(&mut self, vertex: Vertex) -> VertexId {
        let mut op = vertex.op.clone();
        if let Op::Image(image) = &mut op {
            // Two names for one image are one source.
            image.reference.clear();
        }
        let key = (op, vertex.inputs.clone(), vertex.ignore_cache);
        if let Some(&id) = self.known.get(&key) {
            return id;
        }
        let id = VertexId(self.list.len());
        self.known.insert(key, id);
        self.list.push(vertex);
        id
    }
}
