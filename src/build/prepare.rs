//! From a request to the graph: the Dockerfile is read, parsed, its images looked up.
//!
//! Not here: executing the graph.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{BuildError, Findings};
use super::request::{
    BuildRequest, ContextFrom, DockerfileFrom, Engine, MAX_DOCKERFILE_BYTES, NamedContextFrom, PullPolicy,
};
use super::{bases, contexts};
use crate::context::{self, ContextError, DockerfilePlace, Tree};
use crate::dockerfile;
use crate::image::Platform;
use crate::plan::graph::{Graph, Op, Vertex};
use crate::plan::{self, Bases, EpochNeed, ImageNeed, Request};
use crate::remote;
use crate::report::{Diagnostic, Severity};
use crate::store::TempDir;
use crate::worker::{AgentSource, Fetcher, Secrets, Sources};

/// A build that is ready to be solved.
pub struct Prepared<'a> {
    /// The Dockerfile's name, as the user knows it.
    pub file: String,
    pub source: Arc<str>,
    pub graph: Graph,
    pub warnings: Vec<Diagnostic>,
    pub source_date_epoch: Option<i64>,
    /// The contexts, and what is fetched.
    pub sources: Sources<'a>,
    /// Where contexts that came as archives are unpacked; removed after the trees.
    _unpacked: Vec<TempDir>,
}

impl Prepared<'_> {
    /// Joins diagnostics with the text they are about.
    pub fn findings(&self, diagnostics: Vec<Diagnostic>) -> Findings {
        Findings { file: self.file.clone(), source: self.source.clone(), diagnostics, failure: None }
    }
}

/// Reads, parses and plans.
pub fn prepare<'a>(engine: &Engine<'a>, request: &mut BuildRequest) -> Result<Prepared<'a>, BuildError> {
    prepare_with(engine, request, None)
}

/// The same; with a list, images that are not in the store are not pulled: they get there, and the plan goes on
/// as if they had an empty config and no layers that are known.
pub fn prepare_with<'a>(
    engine: &Engine<'a>,
    request: &mut BuildRequest,
    mut absent: Option<&mut Vec<String>>,
) -> Result<Prepared<'a>, BuildError> {
    let sources = Sources::new(fetcher(engine, request));
    let keep_git_dir = request.build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR").is_some_and(|v| is_true(v));
    let from = std::mem::replace(&mut request.context, ContextFrom::Nothing);
    let opened = contexts::open(engine, &sources, from, keep_git_dir)?;
    let mut unpacked: Vec<TempDir> = opened.unpacked.into_iter().collect();
    if let Some(dockerfile) = opened.dockerfile {
        request.dockerfile = dockerfile;
    }
    if let DockerfileFrom::Remote(url) = &request.dockerfile {
        let (name, bytes) = contexts::fetch_dockerfile(engine, &sources, url)?;
        request.dockerfile = DockerfileFrom::Bytes { name, bytes };
    }
    let (file, place, bytes) = read_dockerfile(&opened.tree, opened.root.as_deref(), &request.dockerfile)?;
    let tree = opened.tree.with_ignore(&place)?;

    let frontend = request.build_args.get("BUILDKIT_SYNTAX").map(String::as_str);
    let parsed = dockerfile::parse_as(&bytes, frontend);
    let findings = |diagnostics| Findings {
        file: file.clone(),
        source: parsed.source.clone(),
        diagnostics,
        failure: None,
    };
    if bytes.len() as u64 > MAX_DOCKERFILE_BYTES {
        let span = crate::report::Span::default();
        let message = format!("the Dockerfile is larger than {} MiB", MAX_DOCKERFILE_BYTES >> 20);
        return Err(BuildError::Dockerfile(findings(vec![Diagnostic::error("too-large", span, message)])));
    }
    if parsed.has_errors() {
        return Err(BuildError::Dockerfile(findings(parsed.diagnostics)));
    }
    let mut asked = plan_request(request);
    let ignore = tree.ignore_rules().cloned();
    sources.insert("context", tree, opened.time);
    let mut bases = Bases::new();
    loop {
        let outline = plan::outline(&parsed.file, &asked, &bases)
            .map_err(|diagnostics| BuildError::Dockerfile(findings(diagnostics)))?;
        if let Some(need) = &outline.epoch {
            if let EpochNeed::Context(name) = need
                && let Some(from) = request.contexts.get(name)
            {
                unpacked.extend(contexts::open_named(engine, &sources, name, from, keep_git_dir)?);
            }
            let time = contexts::epoch(engine, &sources, need)?;
            let value = time.map(|seconds| seconds.to_string()).unwrap_or_default();
            asked.build_args.insert("SOURCE_DATE_EPOCH".to_owned(), value);
            continue;
        }
        let missing: Vec<ImageNeed> = outline.missing(&bases).cloned().collect();
        if missing.is_empty() {
            break;
        }
        let mut errors = Vec::new();
        let pull = if absent.is_some() { PullPolicy::Never } else { request.pull };
        for (need, found) in missing.iter().zip(bases::find_all(engine, pull, &missing)?) {
            match found {
                Err(_) if absent.is_some() && bases::can_be_pulled(request.pull, &need.reference) => {
                    bases.insert(&need.reference, &need.platform, bases::unknown(need));
                    absent.iter_mut().for_each(|list| list.push(need.reference.clone()));
                }
                Ok(base) => bases.insert(&need.reference, &need.platform, base),
                Err(diagnostic) => errors.push(diagnostic),
            }
        }
        if !errors.is_empty() {
            return Err(BuildError::Step(findings(errors)));
        }
    }
    let lowered = plan::lower(&parsed.file, &asked, &bases)
        .map_err(|diagnostics| BuildError::Dockerfile(findings(diagnostics)))?;
    let told = plan::warnings(&parsed, &asked, ignore.as_ref(), &lowered)
        .map_err(|error| BuildError::Dockerfile(findings(vec![error])))?;
    let mut warnings = told.list;
    if let Some(violation) = told.violation {
        warnings.push(violation);
        return Err(BuildError::Dockerfile(findings(warnings)));
    }
    for vertex in &lowered.graph.vertices {
        if let Op::Context(context) = &vertex.op
            && let Some(from) = request.contexts.get(&context.name)
        {
            unpacked.extend(contexts::open_named(engine, &sources, &context.name, from, keep_git_dir)?);
        }
    }
    Ok(Prepared {
        file,
        source: parsed.source,
        graph: lowered.graph,
        warnings,
        source_date_epoch: lowered.source_date_epoch,
        sources,
        _unpacked: unpacked,
    })
}

pub(super) fn read_dockerfile(
    tree: &Tree,
    root: Option<&Path>,
    from: &DockerfileFrom,
) -> Result<(String, DockerfilePlace, Vec<u8>), BuildError> {
    match from {
        DockerfileFrom::Bytes { name, bytes } => Ok((name.clone(), DockerfilePlace::Input, bytes.clone())),
        DockerfileFrom::Remote(url) => {
            let what = format!("a look at the remote Dockerfile `{}`", remote::redact(url));
            Err(BuildError::Unsupported(what))
        }
        DockerfileFrom::File(path) => {
            let place = match root {
                Some(root) => context::locate_dockerfile(root, path),
                None => DockerfilePlace::Outside(path.clone()),
            };
            let bytes = context::read_dockerfile(tree, &place)?;
            Ok((path.display().to_string(), place, bytes))
        }
        DockerfileFrom::Context(name) => {
            let mut path = PathBuf::from(name.as_deref().unwrap_or("Dockerfile"));
            let lower = Path::new("dockerfile");
            let missing = |path: &Path| tree.root().stat(path, false).is_err();
            if name.is_none() && missing(&path) && !missing(lower) {
                path = lower.to_owned();
            }
            let place = DockerfilePlace::Inside(path.clone());
            let shown = match root {
                Some(root) if root != Path::new(".") => root.join(&path),
                _ => path,
            };
            let bytes = context::read_dockerfile(tree, &place).map_err(|error| match error {
                ContextError::DockerfileMissing { link, .. } => {
                    ContextError::DockerfileMissing { path: shown.clone(), link }
                }
                error => error,
            })?;
            Ok((shown.display().to_string(), place, bytes))
        }
    }
}

/// Makes what fetches for a build.
fn fetcher<'a>(engine: &Engine<'a>, request: &BuildRequest) -> Fetcher<'a> {
    let mut options = engine.fetch.clone();
    if let Some(file) = &request.ca_cert {
        options.ca_file = Some(file.clone());
    }
    if let Some(AgentSource::Socket(socket)) = request.step.agents.get("default") {
        options.ssh_agent = Some(socket.clone());
    }
    let (sources, secrets) = (request.step.secrets.clone(), Secrets::default());
    let secret = move |id: &str| secrets.get(&sources, id).ok().flatten().map(|bytes| bytes.to_vec());
    Fetcher::new(engine.store, options, Box::new(secret)).telling(engine.reporter)
}

/// Tells whether a build argument is set to yes, as Go's strconv.ParseBool reads it.
fn is_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

pub(super) fn plan_request(request: &BuildRequest) -> Request {
    let mut asked = Request::new(Platform::host());
    asked.platform = request.platform.clone().unwrap_or_else(Platform::host);
    asked.build_args = request.build_args.clone();
    for (name, value) in &request.proxies {
        if !request.build_args.keys().any(|given| given.eq_ignore_ascii_case(name)) {
            asked.build_args.insert(name.to_ascii_lowercase(), value.clone());
            asked.build_args.insert((*name).to_owned(), value.clone());
        }
    }
    asked.targets = request.wanted.iter().filter_map(|wanted| wanted.target.clone()).collect();
    asked.entitlements = request.entitlements;
    let named = |(name, from): (&String, &NamedContextFrom)| (name.clone(), bases::named(from));
    asked.contexts = request.contexts.iter().map(named).collect();
    asked.extra_hosts = request.step.extra_hosts.iter().map(|(name, _)| name.clone()).collect();
    asked.extra_hosts.sort();
    asked.extra_hosts.dedup();
    asked.no_cache_filter = request.no_cache_filter.clone();
    asked.labels = request.labels.clone();
    asked.network = request.network;
    asked.volumes = request.volumes.iter().map(|v| (v.destination.clone(), v.read_only)).collect();
    asked.no_cache = request.no_cache;
    asked
}

/// Refuses, before anything runs, a build that one user id cannot do.
pub fn check_single_id(engine: &Engine, graph: &Graph) -> Result<Option<Diagnostic>, BuildError> {
    let Some(hint) = &engine.single_id else { return Ok(None) };
    let is_root =
        |user: &str| user.is_empty() || user.split(':').all(|part| matches!(part, "" | "0" | "root"));
    let refuse = |vertex: &Vertex, why: String| {
        let message = format!("this build needs more than one user id: {why}");
        let span = (vertex.line > 0).then_some(vertex.span);
        Ok(Some(Diagnostic {
            severity: Severity::Error,
            code: "user-ids",
            message,
            span,
            hint: Some(hint.clone()),
        }))
    };
    for vertex in &graph.vertices {
        let user = match &vertex.op {
            Op::Run(run) => run.user.as_str(),
            Op::Workdir(workdir) => workdir.user.as_str(),
            Op::Copy(copy) => copy.chown.as_deref().unwrap_or_default(),
            Op::Image(_) | Op::Context(_) | Op::Http(_) | Op::Git(_) => continue,
        };
        if !is_root(user) {
            return refuse(vertex, format!("`{}` is for the user `{user}`", vertex.text));
        }
        if !matches!(vertex.op, Op::Run(_)) {
            continue;
        }
        let mut base = vertex.inputs.first().and_then(|input| input.from);
        while let Some(id) = base {
            let below = graph.vertex(id);
            if let Op::Image(image) = &below.op {
                let layers = engine.store.image(&image.image)?.layers;
                for layer in &layers {
                    let meta = engine.store.meta(layer)?;
                    if let Some(left_out) = meta.map(|m| m.left_out).filter(|l| l.owners > 0) {
                        let why = format!(
                            "it runs on `{}`, of which {} files belong to other users than root",
                            image.reference, left_out.owners
                        );
                        return refuse(vertex, why);
                    }
                }
            }
            base = below.inputs.first().and_then(|input| input.from);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Seek, Write};

    use super::*;
    use crate::image::ImageConfig;
    use crate::plan::graph::NetworkMode;
    use crate::registry::{Registries, RegistryOptions};
    use crate::report::Silent;
    use crate::sandbox::network::NoNetwork;
    use crate::sandbox::{LazyLauncher, LazyNetworks};
    use crate::solve::Cancel;
    use crate::store::{ImageRecord, Store, testing};
    use crate::worker::FetchOptions;

    /// A store with an image, `base`, and a build context.
    struct Place {
        directory: tempfile::TempDir,
        store: Store,
        launcher: LazyLauncher,
        networks: LazyNetworks,
        registries: Registries,
        cancel: Cancel,
        single_id: Option<String>,
    }

    impl Place {
        fn new() -> Place {
            let directory = tempfile::tempdir().unwrap();
            fs::create_dir(directory.path().join("context")).unwrap();
            let store = testing::open(&directory.path().join("store"));
            let config = ImageConfig::empty(&Platform::host());
            let record = ImageRecord { config: config.to_bytes(), manifest: None, layers: Vec::new() };
            store.put_image_as(&record, &["base".parse().unwrap()]).unwrap();
            let launcher = LazyLauncher::new("/proc/self/exe".into());
            let networks = LazyNetworks::without(NoNetwork::NotInstalled);
            let registries = Registries::new(RegistryOptions::default());
            Place { directory, store, launcher, networks, registries, cancel: Cancel::new(), single_id: None }
        }

        fn file(&self, name: &str, text: &str) {
            fs::write(self.directory.path().join(name), text).unwrap();
        }

        fn engine(&self) -> Engine<'_> {
            Engine {
                store: &self.store,
                launcher: &self.launcher,
                networks: &self.networks,
                resolv_conf: String::new(),
                fetch: FetchOptions::default(),
                registries: &self.registries,
                single_id: self.single_id.clone(),
                reporter: &Silent,
                cancel: &self.cancel,
            }
        }

        fn prepare(&self, from: ContextFrom, dockerfile: DockerfileFrom) -> Result<Prepared<'_>, String> {
            let mut request = BuildRequest::new(from, dockerfile);
            request.network = NetworkMode::None;
            request.pull = PullPolicy::Never;
            prepare(&self.engine(), &mut request).map_err(|error| match error {
                BuildError::Dockerfile(findings) | BuildError::Step(findings) => findings.render(false),
                other => other.to_string(),
            })
        }

        fn prepare_context(&self, dockerfile: DockerfileFrom) -> Result<Prepared<'_>, String> {
            let context = self.directory.path().join("context");
            self.prepare(ContextFrom::Directory(context), dockerfile)
        }
    }

    #[track_caller]
    fn refused(prepared: Result<Prepared<'_>, String>, expect: &[&str]) {
        let text = prepared.err().expect("an error");
        for expect in expect {
            assert!(text.contains(expect), "`{expect}` in {text}");
        }
    }

    #[test]
    fn finds_the_dockerfile() {
        let place = Place::new();
        refused(
            place.prepare_context(DockerfileFrom::Context(None)),
            &["context/Dockerfile` does not exist"],
        );
        place.file("context/dockerfile", "FROM base\nENV LOWER=1\n");
        let lower = place.prepare_context(DockerfileFrom::Context(None)).unwrap();
        assert!(lower.source.contains("LOWER") && lower.file.ends_with("context/dockerfile"));
        // `Dockerfile` comes first.
        place.file("context/Dockerfile", "FROM base\n");
        let upper = place.prepare_context(DockerfileFrom::Context(None)).unwrap();
        assert!(!upper.source.contains("LOWER"));
        place.file("outside", "FROM scratch\n");
        let outside = place.directory.path().join("outside");
        let prepared = place.prepare_context(DockerfileFrom::File(outside.clone())).unwrap();
        assert_eq!(
            (prepared.file.as_str(), prepared.graph.stages[0].output),
            (outside.to_str().unwrap(), None)
        );
    }

    #[test]
    fn errors_have_a_place() {
        let place = Place::new();
        let prepare = |text: &str| {
            let bytes = text.as_bytes().to_vec();
            place
                .prepare(ContextFrom::Nothing, DockerfileFrom::Bytes { name: "Dockerfile".to_owned(), bytes })
        };
        refused(prepare(""), &["cannot be empty"]);
        refused(
            prepare("FROM base\nRUNX y\n"),
            &["unknown instruction: RUNX (did you mean RUN?)", "Dockerfile:2:1"],
        );
        refused(
            prepare("FROM base\nFROM missing:1\n"),
            &["`missing:1` is not in the store", "Dockerfile:2:6", "rbuild pull missing:1"],
        );
        // What the target does not need is not looked up.
        assert!(prepare("FROM missing:1\nFROM base\n").is_ok());
        let large = format!("FROM base\n#{}\n", "x".repeat(MAX_DOCKERFILE_BYTES as usize));
        refused(prepare(&large), &["larger than 16 MiB"]);
    }

    #[test]
    fn an_image_of_another_platform_is_refused() {
        let place = Place::new();
        let config = ImageConfig::empty(&"linux/riscv64".parse().unwrap());
        let record = ImageRecord { config: config.to_bytes(), manifest: None, layers: Vec::new() };
        place.store.put_image_as(&record, &["other".parse().unwrap()]).unwrap();
        place.file("context/Dockerfile", "FROM other\n");
        refused(place.prepare_context(DockerfileFrom::Context(None)), &["riscv64"]);
    }

    #[test]
    fn an_archive_stays_unpacked_until_the_build_is_over() {
        let place = Place::new();
        let mut builder = tar::Builder::new(tempfile::tempfile().unwrap());
        let mut add = |name: &str, text: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(text.len() as u64);
            builder.append_data(&mut header, name, text.as_bytes()).unwrap();
        };
        add("Dockerfile", "FROM base\nCOPY f /\n");
        add("f", "x");
        let mut file = builder.into_inner().unwrap();
        file.flush().unwrap();
        file.rewind().unwrap();
        let prepared = place.prepare(ContextFrom::Tar(file), DockerfileFrom::Context(None)).unwrap();
        assert_eq!(
            prepared.sources.get("context").unwrap().root().read_small(Path::new("f"), 10).unwrap(),
            b"x"
        );
        let unpacked = || fs::read_dir(place.directory.path().join("store/v1/tmp")).unwrap().count();
        assert_eq!(unpacked(), 1);
        drop(prepared);
        assert_eq!(unpacked(), 0);
    }

    #[test]
    fn one_id_is_told_early() {
        let mut place = Place::new();
        place.single_id = Some("get more".to_owned());
        let check = |text: &str, expect: Option<&str>| {
            let graph = super::super::testing::graph(text);
            // The images of the graph are not in the store: none of its RUNs is looked at.
            match (check_single_id(&place.engine(), &graph), expect) {
                (Ok(None), None) => {}
                (Ok(Some(found)), Some(expect)) => {
                    assert!(found.message.contains(expect), "{}", found.message);
                    assert_eq!(found.hint.as_deref(), Some("get more"));
                }
                (other, expect) => panic!("{text}: {other:?}, not {expect:?}"),
            }
        };
        check("FROM base\nCOPY f /\nWORKDIR /w\n", None);
        check("FROM base\nUSER 0:0\nWORKDIR /w\n", None);
        check("FROM base\nUSER app\nWORKDIR /w\n", Some("`app`"));
        check("FROM base\nUSER app\nRUN x\n", Some("`RUN x`"));
        check("FROM base\nCOPY --chown=1:root f /\n", Some("`1:root`"));
        place.single_id = None;
        assert!(
            check_single_id(&place.engine(), &super::super::testing::graph("FROM base\nUSER app\nRUN x\n"))
                .unwrap()
                .is_none()
        );
    }
}
