//! From a request to the graph: the Dockerfile is read, parsed, its images looked up.
//!
//! Not here: executing the graph.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{BuildError, Findings};
use super::request::{BuildRequest, ContextFrom, DockerfileFrom, Engine, MAX_DOCKERFILE_BYTES};
use crate::context::{self, ContextError, DockerfilePlace, Tree};
use crate::dockerfile;
use crate::image::Platform;
use crate::plan::graph::{Graph, Op, Vertex};
use crate::plan::{self, Base, Bases, ImageNeed, Request};
use crate::report::{Diagnostic, Severity};
use crate::store::{Found, TempDir};
use crate::sys::root_dir::RootDir;
use crate::worker::Sources;

/// A build that is ready to be solved.
pub struct Prepared {
    /// The Dockerfile's name, as the user knows it.
    pub file: String,
    pub source: Arc<str>,
    pub graph: Graph,
    pub warnings: Vec<Diagnostic>,
    pub source_date_epoch: Option<i64>,
    /// The contexts, and what is fetched.
    pub sources: Sources,
    /// Where a context that came as an archive is unpacked; removed after the tree.
    _unpacked: Option<TempDir>,
}

impl Prepared {
    /// Joins diagnostics with the text they are about.
    pub fn findings(&self, diagnostics: Vec<Diagnostic>) -> Findings {
        Findings { file: self.file.clone(), source: self.source.clone(), diagnostics }
    }
}

/// Reads, parses and plans.
pub fn prepare(engine: &Engine, request: &mut BuildRequest) -> Result<Prepared, BuildError> {
    let from = std::mem::replace(&mut request.context, ContextFrom::Nothing);
    let mut unpacked = None;
    let (root, tree) = match from {
        ContextFrom::Directory(path) => {
            let tree = context::open_directory(&path, Some(engine.store.stat_cache_dir()))?;
            (Some(path), tree)
        }
        ContextFrom::Tar(file) => {
            let folder = unpacked.insert(engine.store.temp_dir()?);
            (None, context::from_tar(file, folder.path())?)
        }
        ContextFrom::Remote(address) => {
            return Err(BuildError::Unsupported(format!("the build context `{address}` is remote")));
        }
        ContextFrom::Nothing => {
            let empty = RootDir::open(engine.store.empty_dir())
                .map_err(|source| BuildError::Output { path: engine.store.empty_dir().to_owned(), source })?;
            (None, Tree::context(empty))
        }
    };
    let (file, place, bytes) = read_dockerfile(&tree, root.as_deref(), &request.dockerfile)?;
    let tree = tree.with_ignore(&place)?;

    let parsed = dockerfile::parse(&bytes);
    let findings = |diagnostics| Findings { file: file.clone(), source: parsed.source.clone(), diagnostics };
    if bytes.len() as u64 > MAX_DOCKERFILE_BYTES {
        let span = crate::report::Span::default();
        let message = format!("the Dockerfile is larger than {} MiB", MAX_DOCKERFILE_BYTES >> 20);
        return Err(BuildError::Dockerfile(findings(vec![Diagnostic::error("too-large", span, message)])));
    }
    if parsed.has_errors() {
        return Err(BuildError::Dockerfile(findings(parsed.diagnostics)));
    }
    let asked = plan_request(request);
    let sources = Sources::new();
    sources.insert("context", tree);
    let mut bases = Bases::new();
    loop {
        let outline = plan::outline(&parsed.file, &asked, &bases)
            .map_err(|diagnostics| BuildError::Dockerfile(findings(diagnostics)))?;
        let missing: Vec<ImageNeed> = outline.missing(&bases).cloned().collect();
        if missing.is_empty() {
            break;
        }
        let mut errors = Vec::new();
        for need in missing {
            match find_base(engine, &need)? {
                Ok(base) => bases.insert(&need.reference, &need.platform, base),
                Err(diagnostic) => errors.push(diagnostic),
            }
        }
        if !errors.is_empty() {
            return Err(BuildError::Dockerfile(findings(errors)));
        }
    }
    let lowered = plan::lower(&parsed.file, &asked, &bases)
        .map_err(|diagnostics| BuildError::Dockerfile(findings(diagnostics)))?;
    let mut warnings = parsed.diagnostics;
    warnings.extend(lowered.warnings);
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

fn read_dockerfile(
    tree: &Tree,
    root: Option<&Path>,
    from: &DockerfileFrom,
) -> Result<(String, DockerfilePlace, Vec<u8>), BuildError> {
    match from {
        DockerfileFrom::Bytes { name, bytes } => Ok((name.clone(), DockerfilePlace::Input, bytes.clone())),
        DockerfileFrom::Remote(url) => {
            Err(BuildError::Unsupported(format!("the Dockerfile `{url}` is remote")))
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

fn plan_request(request: &BuildRequest) -> Request {
    let mut asked = Request::new(Platform::host());
    asked.platform = request.platform.clone().unwrap_or_else(Platform::host);
    asked.build_args = request.build_args.clone();
    asked.targets = request.wanted.iter().filter_map(|wanted| wanted.target.clone()).collect();
    asked.entitlements = request.entitlements;
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

/// Finds a base image in the store; the inner error is one of the Dockerfile.
fn find_base(engine: &Engine, need: &ImageNeed) -> Result<Result<Base, Diagnostic>, BuildError> {
    let name = &need.reference;
    let error = |code, message: String| Diagnostic::error(code, need.span, message);
    let found = match engine.store.find(name) {
        Ok(found) => Some(found),
        Err(problem) if problem.is_not_found() => None,
        Err(problem) => return Ok(Err(error("base-image", format!("base image `{name}`: {problem}")))),
    };
    let id = match found {
        Some(Found::Image { id, .. }) => id,
        Some(Found::Step(id)) => super::image_of_step(engine.store, &id)?,
        None => {
            let hint = format!(
                "this version cannot pull; import it from a tar of its files, as in \
                 `mmdebstrap --variant=minbase bookworm - | rbuild import - {name}`"
            );
            let message = format!("base image `{name}` is not in the store");
            return Ok(Err(error("base-image", message).with_hint(hint)));
        }
    };
    let image = match engine.store.image(&id) {
        Ok(image) => image,
        Err(problem) => return Ok(Err(error("base-image", format!("base image `{name}`: {problem}")))),
    };
    let platform = image.config.platform();
    if platform.os != need.platform.os || platform.architecture != need.platform.architecture {
        let message = format!("base image `{name}` is for {platform}, and {} is asked for", need.platform);
        return Ok(Err(error("base-platform", message)));
    }
    Ok(Ok(Base { image: id, config: Arc::new(image.config) }))
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
    use crate::report::Silent;
    use crate::sandbox::LazyLauncher;
    use crate::sandbox::network::NoNetwork;
    use crate::solve::Cancel;
    use crate::store::{ImageRecord, Store, testing};

    /// A store with an image, `base`, and a build context.
    struct Place {
        directory: tempfile::TempDir,
        store: Store,
        launcher: LazyLauncher,
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
            Place { directory, store, launcher, cancel: Cancel::new(), single_id: None }
        }

        fn file(self, name: &str, text: &str) -> Place {
            fs::write(self.directory.path().join(name), text).unwrap();
            self
        }

        fn engine(&self) -> Engine<'_> {
            Engine {
                store: &self.store,
                launcher: &self.launcher,
                networks: Err(&NoNetwork::NotInstalled),
                resolv_conf: String::new(),
                single_id: self.single_id.clone(),
                reporter: &Silent,
                cancel: &self.cancel,
            }
        }

        fn prepare(&self, from: ContextFrom, dockerfile: DockerfileFrom) -> Result<Prepared, String> {
            let mut request = BuildRequest::new(from, dockerfile);
            request.network = NetworkMode::None;
            prepare(&self.engine(), &mut request).map_err(|error| match error {
                BuildError::Dockerfile(findings) => findings.render(false),
                other => other.to_string(),
            })
        }

        fn prepare_context(&self, dockerfile: DockerfileFrom) -> Result<Prepared, String> {
            let context = self.directory.path().join("context");
            self.prepare(ContextFrom::Directory(context), dockerfile)
        }
    }

    #[track_caller]
    fn refused(prepared: Result<Prepared, String>, expect: &[&str]) {
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
        let place = place.file("context/dockerfile", "FROM base\nENV LOWER=1\n");
        let lower = place.prepare_context(DockerfileFrom::Context(None)).unwrap();
        assert!(lower.source.contains("LOWER") && lower.file.ends_with("context/dockerfile"));
        // `Dockerfile` comes first.
        let place = place.file("context/Dockerfile", "FROM base\n");
        let upper = place.prepare_context(DockerfileFrom::Context(None)).unwrap();
        assert!(!upper.source.contains("LOWER"));
        let place = place.file("outside", "FROM scratch\n");
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
            &["`missing:1` is not in the store", "Dockerfile:2:6", "rbuild import"],
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
        let place = place.file("context/Dockerfile", "FROM other\n");
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
