//! The front door: a request becomes an image.
//!
//! `prepare` reads, parses and plans; the engine (`solve`) does what is not
//! cached with the `worker`; `steps` shows it; `assemble` makes the config.
//! Not here: the command line (`cli`).

mod asked;
mod assemble;
mod bases;
mod book;
mod contexts;
mod earlier;
mod early;
mod error;
mod explain;
mod export;
mod failure;
mod loader;
mod log;
mod on_failure;
mod output;
mod point;
mod prepare;
mod pulls;
mod recorder;
mod request;
mod shell;
mod solving;
mod source;
mod steps;
#[cfg(test)]
mod testing;

pub use crate::sandbox::DnsOptions;
pub use crate::worker::{
    AgentSource, BadBusybox, Busybox, MAX_SECRET_BYTES, SecretSource, Shell, ShellRequest, StepOptions,
    Volume, Word,
};
pub use book::{config_of_step, image_of_step};
pub use error::{BuildError, Failure, Findings};
pub use explain::{Explained, ExplainedStep, explain};
pub use loader::{LoadError, Loader};
pub use on_failure::{FailedStep, Next, OnFailure, Opener};
pub use output::{ArchiveOutput, ArchivePlace, Dest, MadeManifest, Output, OutputResult, PushOutput};
pub use point::{At, NoPoint};
pub use prepare::Prepared;
pub use request::{
    BuildRequest, BuildResult, BuiltImage, ContextFrom, DockerfileFrom, Engine, MAX_DOCKERFILE_BYTES,
    NamedContextFrom, PullPolicy, Wanted,
};
pub use shell::{OpenPoint, shell};
pub use source::Source;

use assemble::{Contribution, assemble, identity};
use book::StoreBook;
use earlier::EarlierBuilds;
use early::Early;
use log::Tee;
use output::Leaving;
use recorder::Recorder;
use solving::{Solving, gather};

use crate::image::{ImageConfig, Platform, SnapshotId};
use crate::plan::Entitlements;
use crate::plan::graph::{Graph, NetworkMode, Op, VertexId};
use crate::plan::render::{Format, render};
use crate::remote_cache::{Caches, ExportTo, Exporter, Gathered, INLINE_KEY, inline};
use crate::report::{Diagnostic, Event, Reporter};
use crate::solve::{self, Imports, Solved};
use crate::store::{ImageRecord, Store};
use crate::worker::{StoreCache, StoreWorker, StoreWorkerOptions};

/// Builds an image, stores it, names it, and writes the archives asked for.
///
/// What the user is told is done is on the disk (unless the store was opened without syncing). However it
/// ends, a record of it is kept.
pub fn build(engine: &Engine, request: BuildRequest) -> Result<BuildResult, BuildError> {
    build_or_ask(engine, request, None)
}

/// The same; where a command fails, `on_failure` is asked how to go on.
pub fn build_or_ask(
    engine: &Engine,
    request: BuildRequest,
    on_failure: Option<&dyn OnFailure>,
) -> Result<BuildResult, BuildError> {
    engine.store.look_once()?;
    let recorder = Recorder::new(&request);
    let early = Early::new(engine.reporter, &recorder);
    let built = recorded(&engine.telling(&early), request, &recorder, &early, on_failure);
    recorder.end(engine, built.as_ref());
    built
}

fn recorded(
    engine: &Engine,
    mut request: BuildRequest,
    recorder: &Recorder,
    early: &Early,
    on_failure: Option<&dyn OnFailure>,
) -> Result<BuildResult, BuildError> {
    let context = asked::context(&request.context);
    let prepared = prepare::prepare(engine, &mut request)?;
    recorder.warned(&prepared.source, &prepared.warnings);
    if let Some(refused) = prepare::check_single_id(engine, &prepared.graph)? {
        return Err(BuildError::Step(prepared.findings(vec![refused])));
    }
    let images = image_layers(engine.store, &prepared.graph)?;
    let log = engine.store.build_log()?;
    let id = log.id().to_owned();
    engine.reporter.event(Event::LogFile { path: log.path().to_owned() });
    recorder.planned(&prepared.file, &prepared.graph, &images);
    recorder.logged(log.again().map_err(|source| BuildError::Output { path: log.path().into(), source })?);
    let tee = Tee::new(engine.reporter, log, recorder);
    tee.log_again(early.take());
    let book = StoreBook::new(engine.store, &prepared.graph);
    let caches = caches(engine, &request, &tee);
    let imports = caches.as_ref().map(|caches| caches as &dyn Imports);
    let worker = worker(engine, &prepared, &request, imports);
    let earlier = EarlierBuilds::new(engine.store, &prepared.graph, context, &prepared.file);
    let earlier_of = |vertex| earlier.of(vertex);
    let worker = if on_failure.is_some() { worker.keeping_failed() } else { worker };
    let cache = StoreCache::new(engine.store).with_imports(imports).with_earlier(&earlier_of);
    let solving = Solving {
        prepared: &prepared,
        worker: &worker,
        cache: &cache,
        caches: caches.as_ref(),
        book: &book,
        tee: &tee,
        recorder,
        images: &images,
        no_cache: request.no_cache,
        share: !request.cache_to.is_empty(),
        cancel: engine.cancel,
        store: engine.store,
        on_failure,
    };
    let solved = solving.solve()?;
    if let Some(error) = book.into_failure() {
        return Err(error.into());
    }

    let exporter = Exporter {
        store: engine.store,
        registries: engine.registries,
        caches: caches.as_ref(),
        reporter: &tee,
        cancel: engine.cancel,
    };
    let is_inline = request.cache_to.iter().any(|export| export.to == ExportTo::Inline);
    let mut gathered = gather(&prepared.graph, &solved, None);
    let mut images = Vec::with_capacity(request.wanted.len());
    for (wanted, &stage) in request.wanted.iter().zip(&prepared.graph.targets) {
        let (mut config, layers) = config(engine.store, &prepared, stage, &solved, caches.as_ref())?;
        let made = (identity(&config), config.created.clone().unwrap_or_default());
        if is_inline {
            let output = prepared.graph.stages[stage].output;
            let own = output.map(|output| gather(&prepared.graph, &solved, Some(output)));
            let own = Gathered { images: vec![made.clone()], ..own.unwrap_or_default() };
            let failed = |error| BuildError::CacheExport { to: ExportTo::Inline.to_string(), error };
            config.other.insert(INLINE_KEY.to_owned(), inline(&own, &exporter).map_err(failed)?);
        }
        gathered.images.push(made);
        gathered
            .layers
            .extend(prepared.graph.stages[stage].output.map(|id| solved.layers(id)).into_iter().flatten());
        let record = ImageRecord { config: config.to_bytes(), manifest: None, layers };
        let image = engine.store.put_image_as(&record, &wanted.tags)?;
        let Wanted { target, tags } = wanted.clone();
        images.push(BuiltImage { target, image, tags, output: OutputResult::default() });
    }
    let own = solved.outcomes.iter().flat_map(|outcome| outcome.own.clone());
    let used: Vec<SnapshotId> = own.map(|id| real(caches.as_ref(), id)).collect();
    engine.store.mark_used(&used)?;
    engine.store.sync()?;
    export_caches(&exporter, &request, &gathered, &tee)?;
    let leaving: Vec<Leaving> = images.iter().map(|i| Leaving { image: i.image, tags: &i.tags }).collect();
    let epoch = prepared.source_date_epoch;
    let results = export::write(engine, &tee, &leaving, &mut request.outputs, epoch)?;
    for (made, result) in images.iter_mut().zip(results) {
        made.output = result;
    }
    Ok(BuildResult { images, warnings: prepared.findings(prepared.warnings.clone()), id })
}

/// Draws the instruction graph of a request, with what the cache has.
pub fn graph(engine: &Engine, mut request: BuildRequest, format: Format) -> Result<String, BuildError> {
    let prepared = prepare::prepare(engine, &mut request)?;
    let worker = worker(engine, &prepared, &request, None);
    let cache = StoreCache::new(engine.store);
    let cached = solve::probe(&prepared.graph, &worker, &cache, engine.cancel);
    Ok(render(&prepared.graph, format, &|id| cached[id.0]))
}

/// Opens the caches of elsewhere; none where nothing may be answered from a cache.
fn caches<'a>(engine: &'a Engine, request: &BuildRequest, reporter: &'a dyn Reporter) -> Option<Caches<'a>> {
    if request.cache_from.is_empty() || request.no_cache {
        return None;
    }
    let platform = request.platform.clone().unwrap_or_else(Platform::host);
    let from = &request.cache_from;
    Some(Caches::open(engine.store, engine.registries, from, &platform, reporter, engine.cancel))
}

/// Writes the caches asked for. The image is built by then, and stays whatever becomes of them.
fn export_caches(
    exporter: &Exporter,
    request: &BuildRequest,
    gathered: &Gathered,
    tee: &Tee,
) -> Result<(), BuildError> {
    for export in request.cache_to.iter().filter(|export| export.to != ExportTo::Inline) {
        tee.event(Event::Note { text: format!("exporting cache to {}", export.to) });
        let exported = exporter.export(export, gathered);
        for text in exporter.caches.map(Caches::take_failures).unwrap_or_default() {
            tee.event(Event::Warning { text });
        }
        match exported {
            Ok(()) => {}
            Err(_) if exporter.cancel.is_cancelled() => return Err(BuildError::Cancelled),
            Err(error) if export.ignore_error => {
                let text = format!("warning: cannot write the cache to {}: {error}", export.to);
                tee.event(Event::Warning { text });
            }
            Err(error) => return Err(BuildError::CacheExport { to: export.to.to_string(), error }),
        }
    }
    Ok(())
}

/// Returns the id that the disk knows a layer by.
fn real(caches: Option<&Caches<'_>>, id: SnapshotId) -> SnapshotId {
    caches.map_or_else(|| id.clone(), |caches| caches.real(&id))
}

fn worker<'a>(
    engine: &'a Engine,
    prepared: &'a Prepared<'_>,
    request: &BuildRequest,
    imports: Option<&'a dyn Imports>,
) -> StoreWorker<'a> {
    StoreWorker::new(StoreWorkerOptions {
        store: engine.store,
        launcher: engine.launcher,
        networks: engine.networks,
        resolv_conf: engine.resolv_conf.clone(),
        reporter: engine.reporter,
        sources: &prepared.sources,
        volumes: request.volumes.clone(),
        ca_cert: request.ca_cert.clone(),
        step: request.step.clone(),
        imports,
        entitlements: Entitlements {
            // The network of all steps is the command line's own word.
            network_host: request.entitlements.network_host || request.network == NetworkMode::Host,
            ..request.entitlements
        },
    })
}

/// Returns the layers of each image vertex; of others, none.
fn image_layers(store: &Store, graph: &Graph) -> Result<Vec<Vec<SnapshotId>>, BuildError> {
    let layers = |op: &Op| match op {
        Op::Image(image) => Ok(store.image(&image.image)?.layers),
        _ => Ok(Vec::new()),
    };
    graph.vertices.iter().map(|vertex| layers(&vertex.op)).collect()
}

/// Makes the image's config and lists its layers.
fn config(
    store: &Store,
    prepared: &Prepared,
    stage: usize,
    solved: &Solved,
    caches: Option<&Caches<'_>>,
) -> Result<(ImageConfig, Vec<SnapshotId>), BuildError> {
    let stage = &prepared.graph.stages[stage];
    let layers = stage.output.map(|output| solved.layers(output)).unwrap_or_default();
    let layers: Vec<SnapshotId> = layers.into_iter().map(|id| real(caches, id)).collect();
    let mut diff_ids = Vec::with_capacity(layers.len());
    for layer in &layers {
        let digests = store.digests(layer)?;
        let digests = digests.ok_or_else(|| crate::store::StoreError::NoSnapshot(layer.clone()))?;
        diff_ids.push(digests.diff_id);
    }
    let epoch = prepared.source_date_epoch.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    let contribution = |id: VertexId| {
        let outcome = solved.outcome(id);
        let made = outcome.created_unix_ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        Contribution { layer: !outcome.own.is_empty(), created: epoch.or(made).map(|time| time.to_string()) }
    };
    let mut config = assemble(stage, diff_ids, &contribution);
    let name = identity(&config);
    // What a cache of elsewhere says is for this build alone, and is not kept.
    let told = || match store.known_created(&name) {
        Ok(None) => caches.and_then(|caches| caches.created(&name)),
        _ => None,
    };
    let created = match epoch.or_else(told) {
        Some(time) => time,
        None => store.first_created(&name, jiff::Timestamp::now())?,
    };
    config.created = Some(created.to_string());
    Ok((config, layers))
}

/// Returns the config that Dockerfile instructions (`CMD`, `ENV`, ...) make of an empty one:
/// what `import --change` asks for.
pub fn changed_config(changes: &[String]) -> Result<ImageConfig, BuildError> {
    changed(None, changes)
}

/// Returns the config that such instructions make of another: what `commit --change` asks for.
pub fn changed_config_of(base: &ImageConfig, changes: &[String]) -> Result<ImageConfig, BuildError> {
    let mut plain = base.clone();
    // They are for whoever builds on the image, not for what is changed now.
    let triggers = std::mem::take(&mut plain.config.on_build);
    let mut config = changed(Some(plain), changes)?.config;
    config.on_build.splice(0..0, triggers);
    Ok(ImageConfig { config, ..base.clone() })
}

fn changed(from: Option<ImageConfig>, changes: &[String]) -> Result<ImageConfig, BuildError> {
    let allowed = [
        "CMD",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "HEALTHCHECK",
        "LABEL",
        "ONBUILD",
        "SHELL",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    ];
    // A line that the user did not write, and that findings must not count.
    let base = if from.is_some() { "FROM container\n" } else { "FROM scratch\n" };
    let mut text = base.to_owned();
    for change in changes {
        text.push_str(change.trim());
        text.push('\n');
    }
    let parsed = crate::dockerfile::parse(text.as_bytes());
    let findings = |mut diagnostics: Vec<Diagnostic>| {
        for span in diagnostics.iter_mut().filter_map(|diagnostic| diagnostic.span.as_mut()) {
            span.start = span.start.saturating_sub(base.len());
            span.end = span.end.saturating_sub(base.len());
        }
        let source = parsed.source.get(base.len()..).unwrap_or_default();
        Findings { file: "--change".to_owned(), source: source.into(), diagnostics, failure: None }
    };
    if parsed.has_errors() {
        return Err(BuildError::Dockerfile(findings(parsed.diagnostics)));
    }
    for instruction in &parsed.file.instructions[1..] {
        let keyword = instruction.kind.keyword().unwrap_or_default();
        if !allowed.contains(&keyword) {
            let message =
                format!("`{keyword}` cannot be used in a change; it is one of {}", allowed.join(", "));
            let diagnostic = Diagnostic::error("change", instruction.keyword_span, message);
            return Err(BuildError::Dockerfile(findings(vec![diagnostic])));
        }
    }
    let platform = from.as_ref().map_or_else(crate::image::Platform::host, ImageConfig::platform);
    let request = crate::plan::Request::new(platform.clone());
    let (mut bases, on_scratch) = (crate::plan::Bases::new(), from.is_none());
    if let Some(from) = from {
        let image = crate::image::ImageId(crate::image::Digest::of(from.to_bytes()));
        let config = std::sync::Arc::new(from);
        bases.insert("container", &platform, crate::plan::Base { image, config });
    }
    let lowered = crate::plan::lower(&parsed.file, &request, &bases)
        .map_err(|diagnostics| BuildError::Dockerfile(findings(diagnostics)))?;
    let mut stages = lowered.graph.target_stages();
    let stage = stages.next().expect("a graph has at least one target");
    let mut config = stage.config.clone();
    // That of `FROM scratch`, which is not what was imported.
    if on_scratch && !parsed.file.instructions.iter().any(|i| i.kind.keyword() == Some("WORKDIR")) {
        config.config.working_dir.clear();
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<ImageConfig, String> {
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        changed_config(&changes).map_err(|error| match error {
            BuildError::Dockerfile(findings) => findings.render(false),
            other => other.to_string(),
        })
    }

    #[test]
    fn changes_make_a_config() {
        let config = changed(&["CMD [\"sh\"]", "ENV A=1 B=2", " user app ", "LABEL k=v", ""]).unwrap().config;
        assert_eq!(config.cmd, Some(vec!["sh".to_owned()]));
        assert_eq!((config.user.as_str(), config.labels["k"].as_str()), ("app", "v"));
        assert!(config.env.iter().any(|entry| entry == "B=2"), "{:?}", config.env);
    }

    #[test]
    fn changes_are_made_to_a_config() {
        let base = changed_config(
            &["ENV A=1 PATH=/bin", "CMD [\"sh\"]", "WORKDIR /a", "ONBUILD RUN old"].map(str::to_owned),
        )
        .unwrap();
        let changes =
            ["ENV A=2 PATH=/x:$PATH", "WORKDIR b", "EXPOSE 80", "ONBUILD RUN new"].map(str::to_owned);
        let config = changed_config_of(&base, &changes).unwrap().config;
        assert_eq!(config.env, ["PATH=/x:/bin", "A=2"]);
        assert_eq!((config.working_dir.as_str(), config.cmd), ("/a/b", Some(vec!["sh".to_owned()])));
        assert_eq!(config.on_build, ["RUN old", "RUN new"]);
        assert_eq!(changed_config_of(&base, &[]).unwrap(), base);
    }

    #[test]
    fn findings_count_the_lines_the_user_wrote() {
        for (bad, expect) in
            [("FOO x", "unknown instruction: FOO"), ("RUN x", "`RUN` cannot be used"), ("ENV", "ENV")]
        {
            let text = changed(&["CMD x", bad]).unwrap_err();
            assert!(text.contains(expect) && text.contains("--change:2:1"), "{text}");
            assert!(!text.contains("FROM"), "{text}");
        }
    }
}
