//! What a build would do, and why, without doing it: for `why` and `--dry-run`.
//!
//! Nothing is run, pulled, written or tagged; of the store only the digests of context files are kept. What
//! decides the plan is fetched all the same, where it lies elsewhere: a context that is a URL or a Git
//! repository. Not here: what is compared with what (`solve`), what it looks like (`cli`).

use std::collections::BTreeMap;

use super::earlier::EarlierBuilds;
use super::error::BuildError;
use super::request::{BuildRequest, Engine};
use super::{Findings, asked, caches, prepare, worker};
use crate::plan::graph::Op;
use crate::remote_cache::Caches;
use crate::report::redact;
use crate::solve::{self, Imports, Verdict};
use crate::worker::StoreCache;

/// What a build would do.
#[derive(Debug, Clone)]
pub struct Explained {
    /// The Dockerfile's name, as the user knows it.
    pub dockerfile: String,
    /// The steps of all stages, in the order of their numbers.
    pub steps: Vec<ExplainedStep>,
    /// Images that would be pulled.
    pub absent: Vec<String>,
    pub warnings: Findings,
}

/// One step.
#[derive(Debug, Clone)]
pub struct ExplainedStep {
    /// From 1, as a build shows it.
    pub number: usize,
    /// The stage's name or number, where there are several.
    pub stage: Option<String>,
    /// The instruction as one line.
    pub text: String,
    /// From 1; 0 for what ONBUILD brought.
    pub line: usize,
    /// The line it ends on.
    pub last_line: usize,
    /// `None` where there is nothing to do: it changes the config only, or another step says it.
    pub verdict: Option<Verdict>,
    /// The numbers of the steps that an unknown one waits for.
    pub after: Vec<usize>,
    /// What must be fetched before, where that is no step: addresses, images.
    pub fetched: Vec<String>,
}

/// Tells of each step what would become of it.
pub fn explain(engine: &Engine, mut request: BuildRequest) -> Result<Explained, BuildError> {
    let context = asked::context(&request.context);
    let mut absent = Vec::new();
    let prepared = prepare::prepare_with(engine, &mut request, Some(&mut absent))?;
    let graph = &prepared.graph;
    let caches: Option<Caches<'_>> = caches(engine, &request, engine.reporter);
    let imports = caches.as_ref().map(|caches| caches as &dyn Imports);
    let worker = worker(engine, &prepared, &request, imports);
    let earlier = EarlierBuilds::new(engine.store, graph, context, &prepared.file);
    let earlier_of = |vertex| earlier.of(vertex);
    let cache = StoreCache::new(engine.store).with_imports(imports).with_earlier(&earlier_of);
    let verdicts = solve::survey(graph, &worker, &cache, request.no_cache, engine.cancel);
    worker.save_digests();
    if engine.cancel.is_cancelled() {
        return Err(BuildError::Cancelled);
    }

    let mut numbers = BTreeMap::new();
    let mut steps: Vec<ExplainedStep> = Vec::new();
    for stage in &graph.stages {
        let name = || stage.name.clone().unwrap_or_else(|| stage.index.to_string());
        for step in &stage.steps {
            let number = steps.len() + 1;
            let own = step.vertex.filter(|vertex| !numbers.contains_key(vertex));
            own.map(|vertex| numbers.insert(vertex, number));
            let verdict = own.map(|vertex| verdicts[vertex.0].clone());
            let (mut after, mut fetched) = (Vec::new(), Vec::new());
            if let Some(Verdict::Unknown { after: awaited, .. }) = &verdict {
                for vertex in awaited {
                    match &graph.vertex(*vertex).op {
                        Op::Image(image) => fetched.push(image.reference.clone()),
                        Op::Http(http) => fetched.push(redact(&http.url)),
                        Op::Git(git) => fetched.push(redact(&git.address.to_string())),
                        _ => after.extend(numbers.get(vertex).copied()),
                    }
                }
            }
            steps.push(ExplainedStep {
                number,
                stage: (graph.stages.len() > 1).then(name),
                text: redact(&step.text),
                line: step.line,
                last_line: match step.line {
                    0 => 0,
                    line => {
                        let text = prepared.source.get(step.span.start..step.span.end).unwrap_or_default();
                        line + text.trim_end().matches('\n').count()
                    }
                },
                verdict,
                after,
                fetched,
            });
        }
    }
    absent.sort();
    absent.dedup();
    let warnings = prepared.findings(prepared.warnings.clone());
    Ok(Explained { dockerfile: prepared.file.clone(), steps, absent, warnings })
}
