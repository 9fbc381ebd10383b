//! Tests of the plan as a whole: a Dockerfile in, a compact text of the graph out.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use crate::dockerfile;
use crate::image::Digest;
use crate::image::ImageConfig;
use crate::image::ImageId;
use crate::image::Platform;
use crate::report::Diagnostic;

use super::Base;
use super::Bases;
use super::EpochNeed;
use super::Lowered;
use super::NamedContext;
use super::Request;
use super::graph::CopySource;
use super::graph::Graph;
use super::graph::Input;
use super::graph::MountKind;
use super::graph::NetworkMode;
use super::graph::Op;
use super::graph::RunOp;
use super::graph::Security;
use super::graph::VertexId;
use super::lower;
use super::outline;
use super::render;
use super::stages::Plan;

fn platform() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn request() -> Request {
    Request::new(platform())
}

fn with_args(args: &[(&str, &str)]) -> Request {
    let build_args = args.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Request { build_args, ..request() }
}

/// The images of the tests: any name exists; some have a config to inherit.
fn image(reference: &str, platform: &Platform) -> Base {
    let mut config = ImageConfig::empty(platform);
    match reference {
        "debian" => {
            config.config.env = vec!["PATH=/bin".to_owned(), "LANG=C".to_owned()];
            config.config.cmd = Some(vec!["bash".to_owned()]);
        }
        "trigger" => {
            config.config.on_build =
                vec!["COPY a /a".to_owned(), "RUN make".to_owned(), "COPY --from=extra /x /y".to_owned()];
        }
        "nested" => config.config.on_build = vec!["COPY --from=debian /x /y".to_owned()],
        "badtrigger" => config.config.on_build = vec!["NOPE".to_owned()],
        "home" => {
            config.config.working_dir = "/home".to_owned();
            config.config.user = "app".to_owned();
            config.config.shell = Some(vec!["/bin/bash".to_owned(), "-ec".to_owned()]);
            config.config.entrypoint = Some(vec!["/init".to_owned()]);
            config.config.labels.insert("from".to_owned(), "home".to_owned());
            config.created = Some("2020-01-01T00:00:00Z".to_owned());
            config.author = Some("them".to_owned());
        }
        "armonly" => config.architecture = "arm64".to_owned(),
        _ => {}
    }
    Base { image: ImageId(Digest::of(format!("{reference} {platform}"))), config: Arc::new(config) }
}

/// Parses, finds the images until none is missing, and lowers.
fn plan(text: &str, request: &Request) -> Result<Lowered, Vec<Diagnostic>> {
    let parsed = dockerfile::parse(text.as_bytes());
    assert!(!parsed.has_errors(), "{text}: {:?}", parsed.diagnostics);
    let mut bases = Bases::new();
    loop {
        let outline = outline(&parsed.file, request, &bases)?;
        let missing: Vec<_> = outline.missing(&bases).cloned().collect();
        if missing.is_empty() {
            return lower(&parsed.file, request, &bases);
        }
        for need in missing {
            bases.insert(&need.reference, &need.platform, image(&need.reference, &need.platform));
        }
    }
}

fn good(text: &str, request: &Request) -> Lowered {
    plan(text, request).unwrap_or_else(|errors| panic!("{text}\n{errors:#?}"))
}

fn graph(text: &str) -> Graph {
    good(text, &request()).graph
}

/// Writes a graph as the corpus has it: vertices, then stages with config and history.
fn dump(graph: &Graph) -> String {
    let mut out = String::new();
    let id = |id: Option<VertexId>| id.map_or("-".to_owned(), |id| id.0.to_string());
    for (number, vertex) in graph.vertices.iter().enumerate() {
        let inputs: Vec<String> =
            vertex.inputs.iter().map(|Input { kind, from }| format!("{kind:?}={}", id(*from))).collect();
        let ignore = if vertex.ignore_cache { " no-cache" } else { "" };
        let _ = writeln!(
            out,
            "{number}: {} [{}] stage {} line {}{ignore}",
            vertex.text,
            inputs.join(" "),
            vertex.stage,
            vertex.line
        );
        let _ = writeln!(out, "    {}", op(&vertex.op));
    }
    for (number, stage) in graph.stages.iter().enumerate() {
        let target = if graph.targets.contains(&number) { " target" } else { "" };
        let name = stage.name.as_deref().unwrap_or("-");
        let _ =
            writeln!(out, "stage {} {name} {}{target} -> {}", stage.index, stage.platform, id(stage.output));
        for step in &stage.steps {
            let _ = writeln!(
                out,
                "  step {} line {} vertex {} state {} history {}",
                step.text,
                step.line,
                id(step.vertex),
                id(step.state),
                step.history_len
            );
        }
        let _ = writeln!(out, "  config {}", serde_json::to_string(&stage.config).unwrap());
        for line in &stage.history {
            let empty = if line.entry.empty_layer { " empty" } else { "" };
            let by = line.entry.created_by.as_deref().unwrap_or_default();
            let _ = writeln!(out, "  history {by:?} at {}{empty}", id(line.vertex));
        }
    }
    out
}

fn op(op: &Op) -> String {
    match op {
        Op::Image(image) => format!("image {} {}", image.reference, image.platform),
        Op::Context(context) => format!("context {}", context.name),
        Op::Http(http) => format!("http {} as {:?} checksum {:?}", http.url, http.file_name, http.checksum),
        Op::Git(git) => format!("git {}", git.address.identity()),
        Op::Workdir(workdir) => format!("workdir {} user {:?}", workdir.path, workdir.user),
        Op::Run(run) => {
            let mut text = format!("run {:?} env {:?} in {}", run.args, run.env, run.workdir);
            if !run.user.is_empty() {
                let _ = write!(text, " as {}", run.user);
            }
            if run.network != NetworkMode::Default {
                let _ = write!(text, " network {:?}", run.network);
            }
            if run.security != Security::Sandbox {
                let _ = write!(text, " security {:?}", run.security);
            }
            for mount in &run.mounts {
                let _ = write!(text, " mount {} {:?}", mount.target, mount.kind);
            }
            if let Some(script) = &run.script {
                let _ = write!(text, " script {} {:?}", script.name, script.body);
            }
            text
        }
        Op::Copy(copy) => {
            let mut text = if copy.add { "add".to_owned() } else { "copy".to_owned() };
            for source in &copy.sources {
                let _ = match source {
                    CopySource::Path { input: 1, path } => write!(text, " {path:?}"),
                    CopySource::Path { input, path } => write!(text, " {input}:{path:?}"),
                    CopySource::Download { input, name } => write!(text, " {input}:download {name:?}"),
                    CopySource::Inline { name, data } => write!(text, " <<{name} {data:?}"),
                };
            }
            let _ = write!(text, " to {:?}", copy.destination);
            for (name, value) in [("chown", &copy.chown), ("chmod", &copy.chmod)] {
                if let Some(value) = value {
                    let _ = write!(text, " {name} {value}");
                }
            }
            for (name, set) in [("link", copy.link), ("parents", copy.parents)] {
                if set {
                    let _ = write!(text, " {name}");
                }
            }
            if !copy.exclude.is_empty() {
                let _ = write!(text, " exclude {:?}", copy.exclude);
            }
            if let Some(unpack) = copy.unpack {
                let _ = write!(text, " unpack {unpack}");
            }
            text
        }
    }
}

fn config_of(text: &str) -> ImageConfig {
    let graph = graph(text);
    graph.stages[graph.targets[0]].config.clone()
}

/// Returns the history lines of the target; those without a layer end in ` (empty)`.
fn history(text: &str, request: &Request) -> Vec<String> {
    let graph = good(text, request).graph;
    let lines = graph.stages[graph.targets[0]].history.iter().map(|h| {
        let by = h.entry.created_by.clone().unwrap();
        assert_eq!(h.entry.comment.as_deref(), Some("buildkit.dockerfile.v0"));
        if h.entry.empty_layer { format!("{by} (empty)") } else { by }
    });
    lines.collect()
}

fn env_of(run: &RunOp) -> Vec<&str> {
    run.env.iter().map(|entry| &**entry).collect()
}

fn runs(graph: &Graph) -> Vec<&RunOp> {
    let mut runs = Vec::new();
    for vertex in &graph.vertices {
        if let Op::Run(run) = &vertex.op {
            runs.push(run);
        }
    }
    runs
}

/// Checks the texts of all vertices, in order.
fn check_vertices(text: &str, request: &Request, expect: &[&str]) {
    let graph = good(text, request).graph;
    let texts: Vec<&str> = graph.vertices.iter().map(|v| v.text.as_str()).collect();
    assert_eq!(texts, expect, "{text}");
}

/// Checks the first error's message and the text its span covers.
fn check_error(text: &str, request: &Request, message: &str, place: &str) {
    let errors = plan(text, request).map(|l| dump(&l.graph)).expect_err(text);
    let first = &errors[0];
    assert!(first.is_error() && first.message.contains(message), "{text}\n{errors:#?}");
    let covered = first.span.map_or("", |span| &text[span.range(text.len())]);
    assert_eq!(covered, place, "{text}");
}

/// Checks all warnings as `code text-of-the-place`.
fn check_warnings(text: &str, request: &Request, expect: &[&str]) {
    let found: Vec<String> = good(text, request)
        .warnings
        .iter()
        .map(|w| format!("{} {}", w.code, w.span.map_or("", |span| &text[span.range(text.len())])))
        .collect();
    assert_eq!(found, expect, "{text}");
}

#[test]
fn corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/plan");
    let mut seen = 0;
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "dockerfile") {
            continue;
        }
        seen += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        let actual = match plan(&text, &request()) {
            Ok(lowered) => {
                let warnings = lowered.warnings.iter().map(|w| format!("warning {} {}\n", w.code, w.message));
                dump(&lowered.graph) + &warnings.collect::<String>()
            }
            Err(errors) => errors.iter().map(|e| format!("error {} {}\n", e.code, e.message)).collect(),
        };
        let expected = path.with_extension("graph");
        if std::env::var_os("UPDATE_TESTDATA").is_some() {
            std::fs::write(&expected, &actual).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != actual {
            wrong.push(format!("{}:\n{actual}", path.display()));
        }
    }
    assert!(seen >= 5, "the corpus is gone");
    assert!(wrong.is_empty(), "run with UPDATE_TESTDATA=1 and read the difference\n{}", wrong.join("\n"));
}

#[test]
fn only_reachable_stages_are_planned() {
    let text = "FROM debian AS a\nRUN a\nFROM nowhere AS unused\nRUN b\nFROM debian\nCOPY --from=a /x /y\n";
    check_vertices(text, &request(), &["FROM debian AS a", "RUN a", "COPY --from=a /x /y"]);
    let first = Request { targets: vec!["A".to_owned()], ..request() };
    check_vertices(text, &first, &["FROM debian AS a", "RUN a"]);
}

#[test]
fn a_base_named_before_the_stage_is_an_image() {
    let graph = graph("FROM base AS a\nFROM scratch AS base\nCOPY --from=a / /\n");
    assert_eq!(op(&graph.vertices[0].op), "image base linux/amd64");
}

#[test]
fn an_image_that_may_be_meant_as_a_stage_has_a_hint() {
    let hint = |text: &str| {
        let parsed = dockerfile::parse(text.as_bytes());
        outline(&parsed.file, &request(), &Bases::new()).unwrap().images[0].hint.clone()
    };
    assert_eq!(
        hint("FROM base AS a\nFROM scratch AS base\nCOPY --from=a / /\n").as_deref(),
        Some("the stage `base` is defined later: put it above its first use")
    );
    let slip = "FROM scratch AS build\nFROM scratch\nCOPY --from=biuld / /\n";
    assert_eq!(hint(slip).as_deref(), Some("did you mean the stage `build`?"));
    assert_eq!(hint("FROM debian AS build\n"), None);
}

#[test]
fn equal_work_is_one_vertex() {
    let text = "FROM debian AS a\nRUN x\nFROM debian AS b\nRUN x\nRUN y\nFROM scratch\nCOPY --from=a /1 /\nCOPY --from=b /2 /\n";
    check_vertices(
        text,
        &request(),
        &["FROM debian AS a", "RUN x", "RUN y", "COPY --from=a /1 /", "COPY --from=b /2 /"],
    );
    let filtered = Request { no_cache_filter: vec!["B".to_owned()], ..request() };
    let graph = good(text, &filtered).graph;
    let ignored: Vec<&str> =
        graph.vertices.iter().filter(|v| v.ignore_cache).map(|v| v.text.as_str()).collect();
    assert_eq!(ignored, ["RUN x", "RUN y"]);
    assert_eq!(graph.vertices.iter().filter(|v| v.text == "RUN x").count(), 2);
}

#[test]
fn no_cache_marks_every_step_but_no_source() {
    let all = Request { no_cache: true, ..request() };
    let graph = good("FROM debian\nWORKDIR /a\nCOPY . .\nRUN x\n", &all).graph;
    let ignored: Vec<bool> = graph.vertices.iter().map(|v| v.ignore_cache).collect();
    assert_eq!(ignored, [false, true, false, true, true]);
}

#[test]
fn arg_and_env_of_one_value_are_the_same_run() {
    let arg = graph("FROM debian\nARG Z=1\nENV A=1\nRUN x\n");
    let env = graph("FROM debian\nENV Z=1\nENV A=1\nRUN x\n");
    assert_eq!(runs(&arg), runs(&env));
    assert_eq!(env_of(runs(&arg)[0]), ["A=1", "LANG=C", "PATH=/bin", "Z=1"]);
    let none = graph("FROM debian\nARG Z\nENV A=1\nRUN x\n");
    assert_eq!(env_of(runs(&none)[0]), ["A=1", "LANG=C", "PATH=/bin"]);
}

#[test]
fn what_is_in_the_key_of_a_run() {
    let plain = graph("FROM debian\nRUN x\n");
    for same in ["LABEL a=b", "EXPOSE 80", "CMD x", "STOPSIGNAL 9", "VOLUME /v", "HEALTHCHECK NONE", "ARG Z"]
    {
        assert_eq!(runs(&plain), runs(&graph(&format!("FROM debian\n{same}\nRUN x\n"))), "{same}");
    }
    for other in ["ENV A=1", "ARG A=1", "USER u", "SHELL [\"/bin/bash\", \"-c\"]", "WORKDIR /w"] {
        assert_ne!(runs(&plain), runs(&graph(&format!("FROM debian\n{other}\nRUN x\n"))), "{other}");
    }
    let copy = |between: &str| {
        let graph = graph(&format!("FROM debian\n{between}COPY a /b\n"));
        graph.vertices.last().unwrap().op.clone()
    };
    for same in ["ENV A=1\n", "ARG A=1\n", "USER u\n", "WORKDIR /w\n", "LABEL a=b\n", "# c\n"] {
        assert_eq!(copy(""), copy(same), "{same}");
    }
}

#[test]
fn args_have_scopes() {
    let env = |text: &str, request: &Request| {
        let graph = good(text, request).graph;
        let env = runs(&graph).last().unwrap().env.clone();
        env.iter().filter(|e| !e.starts_with("PATH=")).map(|e| &**e).collect::<Vec<_>>().join(" ")
    };
    let a2 = with_args(&[("A", "2")]);
    for (text, request, expect) in [
        ("FROM x\nARG A=1\nRUN r", &request(), "A=1"),
        ("FROM x\nARG A=1\nRUN r", &a2, "A=2"),
        ("FROM x\nRUN r\nARG A=1", &a2, ""),
        ("ARG A=1\nFROM x\nRUN r", &request(), ""),
        ("ARG A=1\nFROM x\nARG A\nRUN r", &request(), "A=1"),
        ("ARG A=1\nFROM x\nARG A=3\nRUN r", &request(), "A=3"),
        ("ARG A=1\nFROM x\nARG A\nRUN r", &a2, "A=2"),
        ("FROM x\nARG A=1\nARG A\nRUN r", &request(), "A=1"),
        ("FROM x\nARG A=1 B=$A\nRUN r", &request(), "A=1 B=1"),
        ("FROM x\nARG A=1\nENV A=5\nRUN r", &a2, "A=5"),
        ("FROM x\nENV A=5\nARG A=1\nRUN r", &request(), "A=5"),
        ("FROM x AS b\nARG A=1\nFROM b\nRUN r", &request(), "A=1"),
        ("FROM x AS b\nARG A=1\nFROM x\nCOPY --from=b / /\nRUN r", &request(), ""),
        ("ARG A=x\nARG B=$A-y\nFROM x\nARG B\nRUN r", &request(), "B=x-y"),
        (
            "FROM x\nARG TARGETARCH\nARG BUILDPLATFORM\nRUN r",
            &request(),
            "BUILDPLATFORM=linux/amd64 TARGETARCH=amd64",
        ),
        ("FROM x\nARG TARGETSTAGE TARGETVARIANT\nRUN r", &request(), "TARGETSTAGE=default TARGETVARIANT="),
        ("FROM x\nENV a=1\nENV a=2 b=$a\nRUN r", &request(), "a=2 b=1"),
    ] {
        assert_eq!(env(text, request), expect, "{text}");
    }
}

#[test]
fn proxies_are_in_no_key_unless_declared() {
    let proxy = with_args(&[("http_proxy", "http://p")]);
    let graph = good("FROM debian\nRUN x\n", &proxy).graph;
    assert_eq!(env_of(runs(&graph)[0]), ["LANG=C", "PATH=/bin"]);
    assert_eq!(runs(&graph)[0].env_unkeyed, ["HTTP_PROXY=http://p", "http_proxy=http://p"]);
    let declared = "FROM debian\nARG http_proxy\nRUN x\n";
    let graph = good(declared, &proxy).graph;
    assert_eq!(env_of(runs(&graph)[0]), ["LANG=C", "PATH=/bin", "http_proxy=http://p"]);
    assert_eq!(runs(&graph)[0].env_unkeyed, ["HTTP_PROXY=http://p"]);
    assert_eq!(history(declared, &proxy)[1], "RUN |1 http_proxy=http://p /bin/sh -c x # buildkit");
    check_warnings("FROM debian\nRUN x\n", &proxy, &[]);
}

#[test]
fn history_is_written_as_buildkit_does() {
    for (text, expect) in [
        ("RUN apt-get update", "RUN /bin/sh -c apt-get update # buildkit"),
        ("RUN [\"a\", \"b c\"]", "RUN a b c # buildkit"),
        ("COPY a b", "COPY a b # buildkit"),
        ("COPY --link --chown=1:2 --chmod=755 a* b/", "COPY --chown=1:2 --chmod=755 a* b/ # buildkit"),
        ("COPY --from=debian /a b", "COPY /a b # buildkit"),
        ("COPY --parents a/b c/", "COPY --parents a/b c/ # buildkit"),
        ("ADD a.tar /x/", "ADD a.tar /x/ # buildkit"),
        ("COPY <<EOF /f\nhi\nEOF", "COPY <<EOF /f # buildkit"),
        ("ENV A=1 B=\"x y\"", "ENV A=1 B=x y (empty)"),
        ("ENV LEG a  b", "ENV LEG=a  b (empty)"),
        ("LABEL a=b \"c d\"='e'", "LABEL a=b c d=e (empty)"),
        ("ARG A=1 B", "ARG A=1 B (empty)"),
        ("CMD x \"y\"", "CMD [\"/bin/sh\" \"-c\" \"x \\\"y\\\"\"] (empty)"),
        ("CMD [\"x\"]", "CMD [\"x\"] (empty)"),
        ("CMD []", "CMD [] (empty)"),
        ("ENTRYPOINT [\"/bin/echo\"]", "ENTRYPOINT [\"/bin/echo\"] (empty)"),
        ("WORKDIR /x", "WORKDIR /x"),
        ("WORKDIR /", "WORKDIR / (empty)"),
        ("EXPOSE 5000", "EXPOSE [5000/tcp] (empty)"),
        ("EXPOSE 90 80-81/UDP", "EXPOSE [80/udp 81/udp 90/tcp] (empty)"),
        ("VOLUME /a /b", "VOLUME [/a /b] (empty)"),
        ("VOLUME [\"/a\"]", "VOLUME [/a] (empty)"),
        ("USER a:b", "USER a:b (empty)"),
        ("STOPSIGNAL SIGTERM", "STOPSIGNAL SIGTERM (empty)"),
        ("SHELL [\"/bin/bash\", \"-c\"]", "SHELL [/bin/bash -c] (empty)"),
        ("MAINTAINER me <m@x>", "MAINTAINER me <m@x> (empty)"),
        (
            "HEALTHCHECK --interval=90s --retries=3 CMD curl x",
            "HEALTHCHECK {Test:[CMD-SHELL curl x] Interval:1m30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:3} (empty)",
        ),
        (
            "HEALTHCHECK NONE",
            "HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0} (empty)",
        ),
    ] {
        assert_eq!(history(&format!("FROM debian\n{text}\n"), &request()), [expect], "{text}");
    }
    let args = "FROM debian\nARG A=1\nARG B C=3\nENV C=4\nRUN x\n";
    assert_eq!(history(args, &request())[3], "RUN |3 A=1 B= C=4 /bin/sh -c x # buildkit");
    assert_eq!(history("FROM debian\nONBUILD RUN x\n", &request()), [""; 0]);
    assert_eq!(
        history("FROM debian AS a\nENV A=1\nFROM a\nENV B=2\n", &request()),
        ["ENV A=1 (empty)", "ENV B=2 (empty)"]
    );
}

#[test]
fn history_takes_the_time_of_the_vertex_before() {
    let graph = graph("FROM debian\nENV A=1\nRUN x\nENV B=1\nWORKDIR /\nRUN y\n");
    let at: Vec<Option<usize>> = graph.stages[0].history.iter().map(|h| h.vertex.map(|v| v.0)).collect();
    assert_eq!(at, [None, Some(1), Some(1), Some(1), Some(2)]);
}

#[test]
fn configs() {
    let config = config_of("FROM debian\nENTRYPOINT [\"/e\"]\n").config;
    assert_eq!((config.entrypoint, config.cmd), (Some(vec!["/e".to_owned()]), None));
    let config = config_of("FROM debian\nCMD [\"c\"]\nENTRYPOINT [\"/e\"]\n").config;
    assert_eq!(config.cmd, Some(vec!["c".to_owned()]));
    assert!(config.args_escaped);
    let config = config_of("FROM debian AS a\nCMD [\"c\"]\nFROM a\nENTRYPOINT [\"/e\"]\n").config;
    assert_eq!(config.cmd, None);
    assert_eq!(config_of("FROM debian\nCMD []\n").config.cmd, Some(Vec::new()));

    let whole = config_of("FROM home\nRUN x\nCMD y\nWORKDIR z\nLABEL own=1\n");
    assert_eq!((whole.created.as_deref(), whole.author.as_deref()), (None, Some("them")));
    assert_eq!(whole.config.cmd.unwrap(), ["/bin/bash", "-ec", "y"]);
    assert_eq!(whole.config.working_dir, "/home/z");
    assert_eq!(whole.config.labels.len(), 2);
    assert_eq!(whole.config.env, ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
    assert_eq!(config_of("FROM scratch\n").config.env.len(), 1);

    let config = config_of("FROM debian\nENV LANG=D X=1\nENV X=2\n").config;
    assert_eq!(config.env, ["PATH=/bin", "LANG=D", "X=2"]);
    let config = config_of("FROM debian\nEXPOSE 80 443/udp\nVOLUME [\"/a b\"]\nSTOPSIGNAL 9\n").config;
    assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["443/udp", "80/tcp"]);
    assert_eq!(config.volumes.keys().collect::<Vec<_>>(), ["/a b"]);
    assert_eq!(config.stop_signal.as_deref(), Some("9"));
    let config = config_of("FROM debian\nARG P=80 443\nEXPOSE $P\n").config;
    assert_eq!(config.exposed_ports.len(), 1);
    let config = config_of("FROM debian\nENV P=\"80 443\"\nEXPOSE $P\n").config;
    assert_eq!(config.exposed_ports.len(), 2);
    let config =
        config_of("FROM debian\nHEALTHCHECK --interval=1s --start-interval=2ms CMD [\"a\"]\n").config;
    let health = config.healthcheck.unwrap();
    assert_eq!((health.test, health.interval), (vec!["CMD".to_owned(), "a".to_owned()], 1_000_000_000));
    assert_eq!(config_of("FROM debian\nMAINTAINER me\n").author.as_deref(), Some("me"));
}

#[test]
fn labels_of_the_command_line_come_last_and_only_on_the_target() {
    let labels = vec![("a".to_owned(), "cli".to_owned()), ("b".to_owned(), "cli".to_owned())];
    let labelled = Request { labels, ..request() };
    let graph =
        good("FROM debian AS x\nFROM debian\nCOPY --from=x / /\nLABEL a=file c=file\n", &labelled).graph;
    let shown: Vec<String> =
        graph.stages[1].config.config.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(shown, ["a=cli", "b=cli", "c=file"]);
    assert!(graph.stages[0].config.config.labels.is_empty());
    assert_eq!(graph.stages[1].history.len(), 2);
}

#[test]
fn onbuild_is_kept_then_executed_once() {
    let text = "FROM debian AS base\nONBUILD COPY a /a\nONBUILD RUN <<EOF\nx\nEOF\nFROM base AS child\nFROM child\nRUN end\n";
    let graph = graph(text);
    assert_eq!(graph.stages[0].config.config.on_build, ["COPY a /a", "RUN <<EOF\nx\nEOF"]);
    assert!(graph.stages[1].config.config.on_build.is_empty());
    let steps: Vec<&str> = graph.stages[1].steps.iter().map(|s| s.text.as_str()).collect();
    assert_eq!(steps, ["FROM base AS child", "ONBUILD COPY a /a", "ONBUILD RUN <<EOF"]);
    assert_eq!(graph.stages[1].steps[1].line, 0);
    assert_eq!(graph.stages[2].steps.len(), 2);
    assert_eq!(runs(&graph)[0].args, ["/bin/sh", "-c", "x\n"]);
}

#[test]
fn onbuild_of_an_image_reaches_new_stages_and_images() {
    check_vertices(
        "FROM alpine AS extra\nRUN prepare\nFROM trigger\nRUN end\n",
        &request(),
        &[
            "FROM alpine AS extra",
            "RUN prepare",
            "FROM trigger",
            "context",
            "ONBUILD COPY a /a",
            "ONBUILD RUN make",
            "ONBUILD COPY --from=extra /x /y",
            "RUN end",
        ],
    );
    let parsed = dockerfile::parse(b"FROM nested\n");
    let mut bases = Bases::new();
    let names = |bases: &Bases| {
        let outline = outline(&parsed.file, &request(), bases).unwrap();
        outline.missing(bases).map(|n| n.reference.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&bases), ["nested"]);
    bases.insert("nested", &platform(), image("nested", &platform()));
    assert_eq!(names(&bases), ["debian"]);
    check_error("FROM badtrigger\n", &request(), "trigger `ONBUILD NOPE`", "badtrigger");
}

#[test]
fn heredocs() {
    let run = |text: &str| {
        let graph = graph(&format!("FROM debian\n{text}"));
        op(&graph.vertices.last().unwrap().op).replace(" env [\"LANG=C\", \"PATH=/bin\"] in /", "")
    };
    assert_eq!(run("RUN <<EOF\nfalse\necho $A\nEOF\n"), r#"run ["/bin/sh", "-c", "false\necho $A\n"]"#);
    assert_eq!(
        run("RUN <<EOF\n#!/bin/x\n1\nEOF\n"),
        r##"run ["/bin/sh", "-c", "/dev/pipes/EOF"] script EOF "#!/bin/x\n1\n""##
    );
    assert_eq!(run("RUN cat <<EOF >/x\n1\nEOF\n"), r#"run ["/bin/sh", "-c", "cat <<EOF >/x\n1\nEOF"]"#);
    assert_eq!(
        run("ENV A=1\nCOPY <<a <<\"b\" c /d/\n$A \"q\"\na\n$A\nb\n"),
        r#"copy <<a "1 \"q\"\n" <<b "$A\n" "c" to "/d/""#
    );
    let graph = graph("FROM debian\nCOPY <<EOF /f\nx\nEOF\n");
    assert_eq!(graph.vertices.len(), 2);
    assert_eq!(graph.vertices[1].inputs.len(), 1);
}

#[test]
fn copies() {
    let copy = |text: &str| {
        let graph = graph(&format!("FROM home AS s\n{text}\n"));
        op(&graph.vertices.last().unwrap().op)
    };
    for (text, expect) in [
        ("COPY a b", r#"copy "a" to "/home/b""#),
        ("COPY a .", r#"copy "a" to "/home/""#),
        ("COPY a b /c/", r#"copy "a" "b" to "/c/""#),
        ("COPY [\"a b\", \"it's\", \"/c/\"]", r#"copy "a b" "it's" to "/c/""#),
        ("ENV D=/x\nCOPY a$D ${D}y", r#"copy "a/x" to "/xy""#),
        ("COPY --chmod=u=rwX,go=rX --chown=a a /b", r#"copy "a" to "/b" chown a chmod u=rwX,go=rX"#),
        ("COPY --link --exclude=*.o --exclude=t a /b", r#"copy "a" to "/b" link exclude ["*.o", "t"]"#),
        ("COPY --parents a/b c/d /x", r#"copy "a/b" "c/d" to "/x" parents"#),
        ("ADD --unpack=false a.tar /b", r#"add "a.tar" to "/b" unpack false"#),
        ("COPY ../../a /b", r#"copy "../../a" to "/b""#),
    ] {
        assert_eq!(copy(text), expect, "{text}");
    }
    let graph = graph("FROM debian\nFROM alpine\nCOPY --from=0 /a /a\nCOPY --from=scratch /b /b\n");
    assert_eq!(graph.vertices[2].inputs[1].from, Some(VertexId(0)));
    assert_eq!(graph.vertices[3].inputs[1].from, None);
}

#[test]
fn duplicate_names_later_wins() {
    let graph = graph("FROM a AS x\nFROM b AS x\nFROM x\nCOPY --from=X /1 /\n");
    assert_eq!(graph.stages.iter().map(|s| s.index).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn workdirs() {
    let text = "FROM debian\nWORKDIR /a\nUSER me\nWORKDIR b/../c\nWORKDIR /\nRUN x\n";
    let graph = graph(text);
    let ops: Vec<String> = graph.vertices[1..3].iter().map(|v| op(&v.op)).collect();
    assert_eq!(ops, ["workdir /a user \"\"", "workdir /a/c user \"me\""]);
    assert_eq!(runs(&graph)[0].workdir, "/");
    assert_eq!(graph.vertices.len(), 4);
}

#[test]
fn networks_and_volumes() {
    let none = Request { network: NetworkMode::None, ..request() };
    let host = Request { network: NetworkMode::Host, volumes: vec![("/v".to_owned(), true)], ..request() };
    for (text, request, expect) in [
        ("RUN x", &request(), NetworkMode::Default),
        ("RUN --network=none x", &request(), NetworkMode::None),
        ("RUN --network=default x", &none, NetworkMode::None),
        ("RUN --network=host x", &host, NetworkMode::Host),
        ("RUN x", &host, NetworkMode::Host),
    ] {
        let graph = good(&format!("FROM debian\n{text}\n"), request).graph;
        assert_eq!(runs(&graph)[0].network, expect, "{text}");
        assert_eq!(runs(&graph)[0].volumes, request.volumes);
    }
}

#[test]
fn platforms() {
    let cross = Request { platform: "linux/arm64".parse().unwrap(), build_platform: platform(), ..request() };
    let text = "FROM --platform=$BUILDPLATFORM debian AS b\nFROM b AS c\nFROM debian\nCOPY --from=c / /\nCOPY --from=alpine / /\n";
    let graph = good(text, &cross).graph;
    let images: Vec<String> =
        graph.vertices.iter().filter(|v| matches!(v.op, Op::Image(_))).map(|v| op(&v.op)).collect();
    assert_eq!(images, ["image debian linux/amd64", "image debian linux/arm64", "image alpine linux/arm64"]);
    let shown: Vec<String> = graph.stages.iter().map(|s| s.platform.to_string()).collect();
    assert_eq!(shown, ["linux/amd64", "linux/amd64", "linux/arm64"]);
}

#[test]
fn source_date_epoch() {
    let epoch = |text: &str, request: &Request| good(text, request).source_date_epoch;
    assert_eq!(epoch("FROM a\n", &with_args(&[("SOURCE_DATE_EPOCH", "12")])), Some(12));
    assert_eq!(epoch("ARG SOURCE_DATE_EPOCH=7\nFROM a\n", &request()), Some(7));
    assert_eq!(epoch("FROM a\n", &request()), None);
    check_error("FROM a\n", &with_args(&[("SOURCE_DATE_EPOCH", "x")]), "`x` is not a number of seconds", "");
}

#[test]
fn errors() {
    let r = request();
    for (text, message, place) in [
        ("FROM a AS a\nCOPY --from=a / /\n", "circular dependency detected on stage: `a`", "a"),
        ("FROM x AS a\nCOPY --from=b / /\nFROM x AS b\nCOPY --from=a / /\n", "circular dependency", "b"),
        (
            "FROM x AS a\nCOPY --from=b / /\nFROM x AS b\nFROM a\n",
            "cannot copy from stage `b`, it needs to be defined before current stage `a`",
            "b",
        ),
        ("FROM x\nCOPY --from=7 / /\n", "invalid stage index `7`", "7"),
        ("ARG A=b\nFROM x\nCOPY --from=$A / /\n", "variable expansion is not supported for --from", "$A"),
        ("FROM $NOPE\n", "should not be blank", "$NOPE"),
        ("FROM Debian\nRUN y\n", "must be lowercase", "Debian"),
        ("FROM --platform=$NOPE x\n", "empty platform value", "$NOPE"),
        ("FROM --platform=a/b/c/d x\n", "is not a platform", "a/b/c/d"),
        ("FROM x\nCOPY a b /c\n", "must be a directory", "/c"),
        ("FROM x\nADD a b c\n", "must be a directory", "c"),
        ("FROM x\nRUN --mount=type=cach,target=/c y\n", "unsupported mount type", "type=cach,target=/c"),
        ("FROM x\nRUN --mount=target=/,from=x y\n", "it is the root", "target=/,from=x"),
        ("FROM x\nRUN --mount=target=/a,from=$A y\n", "not supported for --from", "target=/a,from=$A"),
        (
            "FROM x AS a\nRUN --mount=target=/a,from=a y\n",
            "circular dependency detected on stage: `a`",
            "target=/a,from=a",
        ),
        ("FROM x\nRUN --device=a y\n", "`RUN --device` is not supported yet", "--device=a"),
        ("FROM x\nRUN --security=insecure y\n", "security.insecure is not allowed", "--security=insecure"),
        ("FROM x\nRUN --network=host y\n", "network.host is not allowed", "--network=host"),
        ("FROM x\nADD --checksum=sha256:1 https://a/b /c\n", "invalid checksum", "sha256:1"),
        ("FROM x\nCOPY git@github.com:a/b /c\n", "source can't be a git ref for COPY", "git@github.com:a/b"),
        ("FROM x\nCOPY https://a/b /c\n", "source can't be a URL for COPY", "https://a/b"),
        ("FROM x\nCOPY --chmod=999 a /b\n", "invalid chmod parameter", "999"),
        ("FROM x\nEXPOSE 70000\n", "invalid containerPort", "70000"),
        ("FROM x\nEXPOSE 80/foo\n", "invalid proto", "80/foo"),
        ("FROM x\nSTOPSIGNAL NOPE\n", "invalid signal: `NOPE`", "NOPE"),
        ("FROM x\nHEALTHCHECK --interval=1us CMD x\n", "cannot be less than 1ms", "1us"),
        ("FROM x\nHEALTHCHECK --timeout=5 CMD x\n", "is not a duration", "5"),
        ("FROM x\nHEALTHCHECK --retries=-1 CMD x\n", "cannot be negative", "-1"),
        ("FROM x\nVOLUME $NOPE\n", "can not be an empty string", "$NOPE"),
        ("FROM x\nENV A=${A:?needed}\n", "A: needed", "${A:?needed}"),
        ("FROM x\nWORKDIR ${:x}\n", "bad substitution", "${:x}"),
    ] {
        check_error(text, &r, message, place);
    }
    let target = Request { targets: vec!["biuld".to_owned()], ..request() };
    let errors = plan("FROM x AS build\nFROM x\n", &target).unwrap_err();
    assert_eq!(errors[0].message, "target stage `biuld` could not be found");
    assert_eq!(errors[0].hint.as_deref(), Some("did you mean `build`?"));
    // Errors of stages that nothing needs do not matter.
    assert!(plan("FROM $NOPE AS a\nRUN --mount=type=tmpfs,target=/x y\nFROM x\n", &r).is_ok());
    // All errors of a stage are told at once, in order.
    let errors = plan("FROM x\nSTOPSIGNAL NOPE\nEXPOSE x\n", &r).unwrap_err();
    assert_eq!(errors.iter().map(|e| e.code).collect::<Vec<_>>(), ["invalid-signal", "invalid-port"]);
}

#[test]
fn warnings() {
    let r = request();
    for (text, expect) in [
        ("FROM x\nENV A=$B\n", &["UndefinedVar $B"][..]),
        ("FROM x\nARG B\nENV A=$B C=${D:-1}\n", &[]),
        ("FROM x\nWORKDIR a\nWORKDIR b\n", &["WorkdirRelativePath a"]),
        ("FROM x\nWORKDIR /a\nWORKDIR b\n", &[]),
        ("FROM x\nENV API_KEY=1\n", &["SecretsUsedInArgOrEnv API_KEY"]),
        ("FROM x\nARG GITHUB_TOKEN\n", &["SecretsUsedInArgOrEnv GITHUB_TOKEN"]),
        ("FROM armonly\n", &["InvalidBaseImagePlatform armonly"]),
        ("FROM --platform=$TARGETPLATFORM x\n", &["RedundantTargetPlatform $TARGETPLATFORM"]),
        ("ARG A\nFROM x${A}\n", &[]),
        ("ARG A=a\nFROM $A\n", &[]),
        ("FROM x$NOPE\n", &["UndefinedArgInFrom x$NOPE"]),
        ("FROM x\nEXPOSE 80:80\n", &["ExposeInvalidFormat 80:80"]),
    ] {
        check_warnings(text, &r, expect);
    }
    check_warnings("ARG A\nFROM $A\n", &with_args(&[("A", "x")]), &["InvalidDefaultArgInFrom $A"]);
    let unused = with_args(&[("A", "1"), ("B", "2"), ("NO_PROXY", "3"), ("BUILDKIT_X", "4")]);
    let found = good("FROM x\nARG A\nFROM y\n", &unused).warnings;
    assert_eq!(found[0].message, "One or more build-args [B] were not consumed");
}

#[test]
fn renders() {
    let graph = graph(
        "FROM debian AS \"b\"\nRUN echo \"a\\b\" <x>\nFROM scratch\nCOPY --from=0 / /\n"
            .replace("AS \"b\"", "AS b")
            .as_str(),
    );
    let cached = |id: VertexId| (id.0 < 2).then_some(id.0 == 1);
    let json: serde_json::Value =
        serde_json::from_str(&render::render(&graph, render::Format::Json, &cached)).unwrap();
    assert_eq!(json["target"], 1);
    assert_eq!(json["vertices"][1]["instruction"], "RUN echo \"a\\b\" <x>");
    assert_eq!(json["vertices"][1]["cached"], true);
    assert_eq!(json["vertices"][2]["cached"], serde_json::Value::Null);
    assert_eq!(json["edges"][2], serde_json::json!({"from": 1, "to": 2, "kind": "source"}));
    assert_eq!(json["edges"][1], serde_json::json!({"from": null, "to": 2, "kind": "base"}));
    let dot = render::render(&graph, render::Format::Dot, &cached);
    assert!(dot.contains(r#"v1 [label="RUN echo \"a\\b\" <x>\nline 2\ncached", style=filled"#), "{dot}");
    assert!(dot.contains("v1 -> v2 [style=dashed, tooltip=source];"), "{dot}");
    let mermaid = render::render(&graph, render::Format::Mermaid, &cached);
    assert!(mermaid.contains("v1[\"RUN echo #34;a#92;b#34; #60;x#62;<br/>line 2<br/>cached\"]"), "{mermaid}");
    assert!(mermaid.contains("v1 -. source .-> v2"), "{mermaid}");
    assert!(mermaid.contains("class v1 cached"), "{mermaid}");
}

#[test]
fn fields_tell_operations_apart() {
    use super::fields::fields;
    let last = |text: &str, request: &Request| {
        let graph = good(&format!("FROM debian\n{text}\n"), request).graph;
        fields(&graph.vertices.last().unwrap().op)
    };
    let r = request();
    let volume = |ro| Request { volumes: vec![("/v".to_owned(), ro)], ..request() };
    let distinct = [
        last("RUN x", &r),
        last("RUN y", &r),
        last("RUN [\"x\"]", &r),
        last("USER a\nRUN x", &r),
        last("WORKDIR /a\nRUN x", &r),
        last("RUN --network=none x", &r),
        last("ENV A=1\nRUN x", &r),
        last("RUN x", &volume(true)),
        last("RUN x", &volume(false)),
        last("COPY a /b", &r),
        last("COPY a /b/", &r),
        last("ADD a /b", &r),
        last("ADD --unpack=false a /b", &r),
        last("COPY --link a /b", &r),
        last("COPY --chown=1 a /b", &r),
        last("COPY --chmod=1 a /b", &r),
        last("COPY --exclude=1 a /b", &r),
        last("COPY --parents a /b", &r),
        last("COPY <<e /b\n1\ne", &r),
        last("COPY <<e /b\n2\ne", &r),
        last("COPY <<e a /b/\n2\ne", &r),
        last("COPY a <<e /b/\n2\ne", &r),
        last("WORKDIR /b", &r),
        last("USER a\nWORKDIR /b", &r),
    ];
    for (i, a) in distinct.iter().enumerate() {
        for (j, b) in distinct.iter().enumerate() {
            assert_eq!(a == b, i == j, "{a:?} {b:?}");
        }
    }
    assert_eq!(last("RUN x", &r), last("RUN x", &with_args(&[("http_proxy", "p")])));
    assert_eq!(last("COPY a /b", &r), last("COPY c /b", &r));
    assert_eq!(last("ADD a /b", &r), last("ADD --unpack a /b", &r));
}

#[test]
fn a_small_file_cannot_make_a_huge_plan() {
    let doubled = "ENV A=$A$A\n".repeat(21);
    let many: String = (0..200).map(|i| format!("ENV B{i}=$A\nRUN x\n")).collect();
    let steps = format!("FROM x\nENV A=ab\n{doubled}{many}");
    let stages: String = (0..2_000).map(|i| format!("FROM s{i} AS s{}\nENV A{i}=1\n", i + 1)).collect();
    let chain = format!("FROM x AS s0\n{stages}");
    let ports = format!("FROM x\n{}", "EXPOSE 0-65535\n".repeat(100));
    let globals: String = (0..100).map(|i| format!("ARG B{i}=$A\n")).collect();
    let globals = format!("ARG A=ab\n{}{globals}FROM x\n", doubled.replace("ENV", "ARG"));
    for text in [steps, chain, ports, globals] {
        let errors = plan(&text, &request()).unwrap_err();
        assert_eq!(errors[0].code, "plan-too-large");
    }
    let long = format!("ARG A=ab\n{}FROM $A\n", doubled.replace("ENV", "ARG"));
    let errors = plan(&long, &request()).unwrap_err();
    assert!(errors[0].code == "invalid-reference" && errors[0].message.len() < 1000);
}

/// Returns the bytes that the plan of a file takes, as it counts them itself.
fn spent(text: &str) -> usize {
    let parsed = dockerfile::parse(text.as_bytes());
    let (request, bases) = (request(), Bases::new());
    let plan = Plan::new(&parsed.file, &request).unwrap();
    let reach = plan.reach(&bases).unwrap();
    let shared = lower::stages(&plan, &bases, &reach.stages);
    assert_eq!(shared.findings, [], "{text}");
    shared.spent
}

#[test]
fn a_plan_grows_as_its_file_does() {
    let check = |line: &dyn Fn(usize) -> String| {
        let of = |lines| spent(&format!("FROM scratch\n{}", (0..lines).map(line).collect::<String>()));
        let (one, two) = (of(1000), of(2000));
        assert!(two < one * 21 / 10, "{}: {one} bytes, then {two}", line(0));
    };
    check(&|i| format!("ENV A{i}=x\n"));
    check(&|i| format!("ENV A=x{i}\n"));
    check(&|i| format!("LABEL a{i}=x\n"));
    check(&|i| format!("ARG A{i}=x\n"));
    check(&|i| format!("EXPOSE {}\n", i + 1));
    check(&|i| format!("VOLUME /v{i}\n"));
    check(&|i| format!("ONBUILD RUN {i}\n"));
    check(&|i| format!("WORKDIR /w/{i}\n"));
    check(&|i| format!("RUN {i}\n"));
    check(&|i| format!("COPY a{i} /b\n"));
}

#[test]
fn runs_share_their_environment() {
    let runs: String = (0..100).map(|i| format!("RUN {i}\nLABEL a={i}\n")).collect();
    let graph = good(&format!("FROM debian\nENV A=1\n{runs}ENV A=2\nRUN x\n"), &request()).graph;
    let environments = graph.vertices.iter().filter_map(|vertex| match &vertex.op {
        Op::Run(run) => Some(run.env.as_ptr()),
        _ => None,
    });
    assert_eq!(environments.collect::<BTreeSet<_>>().len(), 2);
}

/// Lines that mean something, put together at random.
fn line() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "a",
        "b",
        "scratch",
        "$A",
        "${A:-b}",
        "/x",
        "0",
        "1",
        "--from=a",
        "--from=b",
        "--from=1",
        "A=1",
        "A",
        "80",
        "\"q",
        "<<E",
        "--chmod=7",
        "[\"a\"]",
        "AS a",
        "AS b",
        "${A:?m}",
        "CMD x",
        "NONE",
        "é",
        "\\",
    ]);
    let keyword = prop::sample::select(vec![
        "FROM a",
        "FROM",
        "RUN",
        "COPY",
        "ADD",
        "ENV",
        "ARG",
        "WORKDIR",
        "USER",
        "CMD",
        "ENTRYPOINT",
        "EXPOSE",
        "VOLUME",
        "LABEL",
        "SHELL",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "ONBUILD RUN",
        "ONBUILD COPY",
        "MAINTAINER",
        "E",
    ]);
    (keyword, prop::collection::vec(word, 0..4)).prop_map(|(k, words)| format!("{k} {}\n", words.join(" ")))
}

fn survive(text: &[u8]) {
    let file = dockerfile::parse(text).file;
    let request = with_args(&[("A", "1")]);
    let mut bases = Bases::new();
    for _ in 0..4 {
        let Ok(outline) = outline(&file, &request, &bases) else { break };
        for need in &outline.images {
            bases.insert(&need.reference, &need.platform, image(&need.reference, &need.platform));
        }
    }
    if let Ok(lowered) = lower(&file, &request, &bases) {
        for vertex in lowered.graph.vertices.iter().enumerate() {
            assert!(vertex.1.inputs.iter().all(|i| i.from.is_none_or(|from| from.0 < vertex.0)));
        }
        render::render(&lowered.graph, render::Format::Json, &|_| None);
        render::render(&lowered.graph, render::Format::Mermaid, &|_| None);
    }
}

proptest! {
    #[test]
    fn never_panics_on_lines(lines in prop::collection::vec(line(), 0..12)) {
        survive(format!("FROM a\n{}", lines.concat()).as_bytes());
    }

    #[test]
    fn never_panics_on_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        survive(&[b"FROM a\n".as_slice(), &bytes].concat());
    }
}

#[test]
fn named_contexts_stand_in() {
    let mut r = request();
    r.contexts.insert("files".to_owned(), NamedContext::Files);
    r.contexts.insert("alpine:3".to_owned(), NamedContext::Image("x".to_owned()));
    r.contexts.insert("dep".to_owned(), NamedContext::Image("debian".to_owned()));
    let ops = |text: &str| {
        let lowered = plan(text, &r).map_err(|e| e[0].message.clone()).unwrap();
        lowered.graph.vertices.iter().map(|v| op(&v.op)).collect::<Vec<_>>().join("; ")
    };
    let copy = |from: &str| format!("{from}; copy \"a\" to \"/b\"");
    assert_eq!(ops("FROM scratch\nCOPY --from=files a /b\n"), copy("context files"));
    assert_eq!(ops("FROM files\n"), "context files; copy \"/\" to \"/\"");
    // However its name is written.
    assert_eq!(ops("FROM docker.io/library/alpine:3\n"), "image x linux/amd64");
    assert_eq!(ops("FROM scratch\nCOPY --from=alpine:3 a /b\n"), copy("image x linux/amd64"));
    // The whole stage of its name, what it needs included.
    assert_eq!(
        ops("FROM nothere AS dep\nRUN x\nFROM scratch\nCOPY --from=dep a /b\n"),
        copy("image debian linux/amd64")
    );
    assert_eq!(ops("FROM nothere AS Files\nRUN x\nFROM files\n"), "context files; copy \"/\" to \"/\"");
}

#[test]
fn several_targets_share_their_stages() {
    let text = "FROM x AS a\nRUN a\nFROM a AS b\nRUN b\nFROM a AS c\nRUN c\nFROM x AS d\nRUN d\n";
    let r = Request { targets: vec!["c".to_owned(), "b".to_owned(), "C".to_owned()], ..request() };
    let graph = plan(text, &r).unwrap().graph;
    let names: Vec<_> = graph.target_stages().map(|s| s.name.clone().unwrap()).collect();
    assert_eq!(names, ["c", "b", "c"]);
    let runs = graph.vertices.iter().filter(|v| matches!(v.op, Op::Run(_)));
    assert_eq!(runs.map(|v| v.text.as_str()).collect::<Vec<_>>(), ["RUN a", "RUN b", "RUN c"]);
}

#[test]
fn a_time_may_have_a_name() {
    let need = |text: &str, value: &str| {
        let mut r = request();
        r.build_args.insert("SOURCE_DATE_EPOCH".to_owned(), value.to_owned());
        r.contexts.insert("files".to_owned(), NamedContext::Files);
        r.contexts.insert("image".to_owned(), NamedContext::Image("x".to_owned()));
        let parsed = dockerfile::parse(text.as_bytes());
        match outline(&parsed.file, &r, &Bases::new()) {
            Ok(found) => match found.epoch {
                None => "known".to_owned(),
                Some(EpochNeed::Context(name)) => format!("context {name}"),
                Some(EpochNeed::Source(source)) => op(&source),
            },
            Err(errors) => errors[0].message.clone(),
        }
    };
    let text = "FROM scratch AS web\nARG V=1\nADD https://h/$V.tar /\n\
                FROM scratch AS two\nADD https://h/1 https://h/2 /\nFROM x AS other\n";
    assert_eq!(need(text, "5"), "known");
    assert_eq!(need(text, ""), "known");
    assert_eq!(need(text, "context"), "context context");
    assert_eq!(need(text, "files"), "context files");
    assert_eq!(need(text, "WEB"), "http https://h/1.tar as \"1.tar\" checksum None");
    assert!(need(text, "two").contains("one ADD of one remote source"));
    assert!(need(text, "other").contains("must be `FROM scratch`"));
    assert!(need(text, "image").contains("is an image"));
    assert!(need(text, "yesterday").contains("is not a number of seconds"));
}

#[test]
fn the_name_of_the_host_is_one() {
    let with = |name: &str| {
        let mut r = request();
        r.build_args.insert("BUILDKIT_SANDBOX_HOSTNAME".to_owned(), name.to_owned());
        plan("FROM x\nRUN y\n", &r).map(drop).map_err(|errors| errors[0].code)
    };
    assert_eq!(with("build-1.example.org"), Ok(()));
    for bad in ["", "a b", "a\n1.2.3.4 example.org", &"x".repeat(65)] {
        assert_eq!(with(bad), Err("invalid-hostname"), "{bad:?}");
    }
}

#[test]
fn mounts_have_edges() {
    let text = "FROM x AS a\nRUN a\nFROM x\nWORKDIR /w\nENV T=t ID=i\n\
        RUN --mount=target=s --mount=type=bind,from=a,source=/b,target=$T,rw \
        --mount=type=cache,target=/c,from=a,id=$ID --mount=type=secret,id=$ID,env=E --mount=type=ssh \
        --mount=type=ssh --mount=type=secret,target=/k y\n";
    let graph = plan(text, &request()).unwrap().graph;
    let run = graph.vertices.last().unwrap();
    let kinds: Vec<_> = run.inputs.iter().map(|input| (input.kind, input.from.map(|f| f.0))).collect();
    use super::graph::EdgeKind::{Base, Mount, Seed};
    assert_eq!(kinds, [(Base, Some(2)), (Mount, Some(3)), (Mount, Some(1)), (Seed, Some(1))]);
    let Op::Run(run) = &run.op else { panic!("{run:?}") };
    let targets: Vec<&str> = run.mounts.iter().map(|mount| mount.target.as_str()).collect();
    let agents = ["/run/buildkit/ssh_agent.0", "/run/buildkit/ssh_agent.1"];
    assert_eq!(targets, ["/w/s", "/w/t", "/c", "/run/secrets/i", agents[0], agents[1], "/k"]);
    let secret = |mount: usize| match &run.mounts[mount].kind {
        MountKind::Secret { id, file, env, .. } => (id.clone(), *file, env.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(secret(3), ("i".to_owned(), false, Some("E".to_owned())));
    assert_eq!(secret(6), ("k".to_owned(), true, None));
}

#[test]
fn linked_copies_are_free_of_what_is_below() {
    let edge = |flags: &str| {
        let graph = plan(&format!("FROM x\nCOPY {flags} a /b\n"), &request()).unwrap().graph;
        graph.vertices.last().unwrap().inputs[0].kind
    };
    use super::graph::EdgeKind::{Base, Below};
    assert_eq!(edge(""), Base);
    assert_eq!(edge("--link"), Below);
    assert_eq!(edge("--link --chown=1:2 --chmod=755"), Below);
    assert_eq!(edge("--link --chown=app"), Base);
}
