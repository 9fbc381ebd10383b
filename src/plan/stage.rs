//! One stage, instruction after instruction: the state, the config and the history so far.
//!
//! What each instruction does to them: `config`, `run`, `copy`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::dockerfile;
use crate::dockerfile::ast::Heredoc;
use crate::dockerfile::ast::Instruction;
use crate::dockerfile::ast::Kind;
use crate::dockerfile::ast::Word;
use crate::dockerfile::expand::Expanded;
use crate::image::ContainerConfig;
use crate::image::History;
use crate::image::ImageConfig;
use crate::image::Platform;
use crate::remote;
use crate::report::Diagnostic;
use crate::report::Span;

use super::Bases;
use super::Request;
use super::change::Change;
use super::graph::ContextOp;
use super::graph::CopyOp;
use super::graph::CopySource;
use super::graph::EdgeKind;
use super::graph::ImageOp;
use super::graph::Input;
use super::graph::Op;
use super::graph::PlannedHistory;
use super::graph::Stage;
use super::graph::Step;
use super::graph::Vertex;
use super::graph::VertexId;
use super::lower::Place;
use super::lower::Vertices;
use super::scope::NOT_ENVIRONMENT;
use super::stages::Origin;
use super::stages::Plan;
use super::variables::Args;
use super::variables::Variables;
use super::words;

/// PATH of a config that has none, as BuildKit sets it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What BuildKit writes as the comment of its history entries.
const HISTORY_COMMENT: &str = "buildkit.dockerfile.v0";

/// The configs, history lines and operations of a plan together take no more bytes
/// than this: a value may hold another twice, and a hostile file grows with 2^lines.
pub(super) const MAX_PLAN: usize = 128 << 20;

/// A finished stage, with what only stages built from it need to know.
#[derive(Debug, Clone)]
pub(super) struct Built {
    pub(super) stage: Stage,
    pub(super) args: Args,
    pub(super) workdir_set: bool,
    pub(super) made: Option<VertexId>,
}

/// What all stages share while they are lowered.
pub(super) struct Shared<'a> {
    pub(super) plan: &'a Plan<'a>,
    pub(super) bases: &'a Bases,
    pub(super) vertices: Vertices,
    pub(super) built: BTreeMap<usize, Built>,
    pub(super) findings: Vec<Diagnostic>,
    /// Names of the ARGs that were met.
    pub(super) declared: Vec<String>,
    /// Bytes of [`MAX_PLAN`] used so far.
    pub(super) spent: usize,
}

/// A stage in the making.
pub(super) struct Builder<'s, 'a> {
    pub(super) shared: &'s mut Shared<'a>,
    pub(super) request: &'a Request,
    pub(super) index: usize,
    pub(super) label: String,
    pub(super) ignore_cache: bool,
    pub(super) platform: Platform,
    pub(super) base_config: Arc<ImageConfig>,
    /// The config so far; without history, layers and creation time, and without ENV,
    /// which is among the variables until the stage is finished.
    pub(super) image: ImageConfig,
    pub(super) variables: Variables,
    /// The last state.
    pub(super) state: Option<VertexId>,
    /// The last vertex that an instruction of a Dockerfile made; whose time history takes.
    pub(super) made: Option<VertexId>,
    pub(super) history: Vec<PlannedHistory>,
    pub(super) steps: Vec<Step>,
    pub(super) cmd_set: bool,
    pub(super) workdir_set: bool,
    /// The escape character of the text the current instruction comes from.
    pub(super) escape: char,
    /// The FROM that brought the current instruction, when ONBUILD did.
    pub(super) trigger: Option<Span>,
    /// The current instruction as one line.
    pub(super) text: String,
    /// Its line; 0 for what ONBUILD brought.
    pub(super) line: usize,
    pub(super) span: Span,
    /// The container config after FROM.
    start: ContainerConfig,
    /// What the current instruction does to it.
    changes: Vec<Change>,
}

/// Lowers one stage; findings go to `shared`. Returns `None` when its base failed.
pub(super) fn build(shared: &mut Shared<'_>, index: usize, triggers: &[Instruction]) -> Option<Built> {
    let plan = shared.plan;
    let body = plan.stages[index].body;
    let mut builder = match Builder::start(shared, index) {
        Ok(builder) => builder?,
        Err(error) => {
            shared.findings.push(error);
            return None;
        }
    };
    let place = plan.stages[index].from.image.span;
    for instruction in triggers {
        builder.apply(instruction, Some(place));
    }
    for instruction in body {
        builder.apply(instruction, None);
    }
    Some(builder.finish())
}

impl<'s, 'a> Builder<'s, 'a> {
    /// Executes FROM. `Ok(None)` when the base stage failed, which is told already.
    fn start(shared: &'s mut Shared<'a>, index: usize) -> Result<Option<Builder<'s, 'a>>, Diagnostic> {
        let plan = shared.plan;
        let stage = &plan.stages[index];
        let label = plan.label(index);
        let text = one_line(stage.instruction);
        let line = stage.instruction.lines.0;
        let span = stage.instruction.span;
        let place = stage.from.image.span;

        let mut platform = plan.request.platform.clone();
        let mut state = None;
        let mut history = Vec::new();
        let mut args = Vec::new();
        let mut workdir_set = false;
        let mut made = None;
        let (base_config, mut image) = match stage.base.clone()? {
            Origin::Scratch => empty_image(&platform),
            Origin::Context(name) => {
                let mut whole = Place { text: text.clone(), span, line, stage: label.clone() };
                let source = whole.clone().vertex(Op::Context(ContextOp { name }));
                let source = shared.vertices.add(source);
                whole.text = text.clone();
                let op = CopyOp {
                    add: false,
                    sources: vec![CopySource::Path { input: 1, path: "/".to_owned() }],
                    destination: "/".to_owned(),
                    chown: None,
                    chmod: None,
                    link: false,
                    parents: false,
                    exclude: Vec::new(),
                    unpack: None,
                    source_date_epoch: plan.source_date_epoch,
                };
                let inputs = vec![
                    Input { kind: EdgeKind::Base, from: None },
                    Input { kind: EdgeKind::Source, from: Some(source) },
                ];
                let vertex = Vertex { inputs, ..whole.vertex(Op::Copy(op)) };
                let id = shared.vertices.add(vertex);
                (state, made) = (Some(id), Some(id));
                history.push(line_of(text.clone(), made));
                empty_image(&platform)
            }
            Origin::Stage(base) => {
                let Some(built) = shared.built.get(&base) else { return Ok(None) };
                platform = built.stage.platform.clone();
                state = built.stage.output;
                history.clone_from(&built.stage.history);
                args.clone_from(&built.args);
                workdir_set = built.workdir_set;
                made = built.made;
                let spent = history.iter().map(history_size).sum::<usize>();
                let configs = (built.stage.base_config.clone(), built.stage.config.clone());
                shared.spend(spent, place)?;
                configs
            }
            Origin::Image(reference) => {
                platform = plan.wanted_platform(index).clone();
                let first = Place { text: text.clone(), span, line, stage: label.clone() };
                let (id, config) = shared.image(&reference, &platform, place, first)?;
                state = Some(id);
                let image = inherit(&config);
                (config, image)
            }
        };
        // Triggers were for this stage; those built from it get only its own.
        image.config.on_build.clear();
        if image.config.env_value("PATH").is_none() {
            image.config.set_env("PATH", DEFAULT_PATH);
        }
        let start = image.config.clone();
        shared.spend(config_size(&start), place)?;
        let variables = Variables::new(args, std::mem::take(&mut image.config.env));
        let mut builder = Builder {
            request: plan.request,
            index,
            ignore_cache: plan.request.ignores_cache(stage.name.as_deref()),
            label,
            platform,
            base_config,
            image,
            variables,
            state,
            made,
            history,
            steps: Vec::new(),
            cmd_set: false,
            workdir_set,
            escape: plan.escape,
            trigger: None,
            text,
            line,
            span,
            start,
            changes: Vec::new(),
            shared,
        };
        builder.step(state)?;
        Ok(Some(builder))
    }

    /// Executes one instruction; `trigger` is the FROM's place for what ONBUILD brought.
    fn apply(&mut self, instruction: &Instruction, trigger: Option<Span>) {
        if self.shared.spent > MAX_PLAN {
            return;
        }
        self.trigger = trigger;
        self.text = one_line(instruction);
        if matches!(instruction.kind, Kind::Add(_) | Kind::Copy(_)) {
            // Passwords of addresses are not to be seen in progress, records and logs.
            self.text = remote::redact(&self.text);
        }
        self.line = instruction.lines.0;
        self.span = instruction.span;
        self.escape = self.shared.plan.escape;
        if trigger.is_some() {
            self.text.insert_str(0, "ONBUILD ");
            self.line = 0;
            self.span = Span::default();
            self.escape = '\\';
        }
        let done = match &instruction.kind {
            Kind::From(_) | Kind::Invalid => return,
            Kind::Run(run) => self.run(instruction, run).map(Some),
            Kind::Copy(transfer) => self.copy(instruction, transfer, false).map(Some),
            Kind::Add(transfer) => self.copy(instruction, transfer, true).map(Some),
            Kind::Workdir(word) => self.workdir(word),
            other => self.configure(instruction, other).map(|()| None),
        };
        if let Err(error) = done.and_then(|vertex| self.step(vertex)) {
            self.shared.findings.push(error);
        }
    }

    /// Changes the config of containers.
    pub(super) fn change(&mut self, change: Change) {
        match &change {
            Change::Env(pairs) => pairs.iter().for_each(|(name, value)| self.variables.set_env(name, value)),
            other => other.apply(&mut self.image.config),
        }
        self.changes.push(change);
    }

    /// Writes down the step that was just taken.
    fn step(&mut self, vertex: Option<VertexId>) -> Result<(), Diagnostic> {
        let changes = std::mem::take(&mut self.changes);
        let size = 256 + changes.iter().map(Change::size).sum::<usize>();
        self.shared.spend(size, self.at(self.span))?;
        self.steps.push(Step {
            text: self.text.clone(),
            span: self.span,
            line: self.line,
            vertex,
            state: self.state,
            changes,
            history_len: self.history.len(),
        });
        Ok(())
    }

    fn finish(mut self) -> Built {
        let (args, env) = self.variables.into_parts();
        self.image.config.env = env;
        if self.shared.plan.targets.contains(&self.index) {
            for (key, value) in &self.request.labels {
                self.image.config.labels.insert(key.clone(), value.clone());
            }
        }
        Built {
            args,
            workdir_set: self.workdir_set,
            made: self.made,
            stage: Stage {
                index: self.index,
                name: self.shared.plan.stages[self.index].name.clone(),
                platform: self.platform,
                steps: self.steps,
                output: self.state,
                base_config: self.base_config,
                start: self.start,
                config: self.image,
                history: self.history,
            },
        }
    }

    /// Returns the place to point at: the instruction's own, or the FROM that brought it.
    pub(super) fn at(&self, span: Span) -> Span {
        self.trigger.unwrap_or(span)
    }

    /// Makes an error at a place of the current instruction.
    pub(super) fn error(&self, code: &'static str, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(code, self.at(span), message)
    }

    /// Writes down a warning at a place of the current instruction.
    pub(super) fn warn(&mut self, code: &'static str, span: Span, message: impl Into<String>) {
        let warning = Diagnostic::warning(code, self.at(span), message);
        self.shared.findings.push(warning);
    }

    /// Returns the value of a variable.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        self.variables.value(name).map(str::to_owned)
    }

    /// Replaces the variables of a word.
    pub(super) fn expand(&mut self, word: &Word) -> Result<String, Diagnostic> {
        let expanded = words::plain(word, self.escape, &|name| self.value(name));
        self.settle(expanded, word.span)
    }

    /// Replaces the variables of a word whose quotes mean themselves: one of a JSON
    /// list, or a flag's value, from which the parser took them.
    pub(super) fn expand_bare(&mut self, word: &Word) -> Result<String, Diagnostic> {
        let expanded = words::bare(word, self.escape, &|name| self.value(name));
        self.settle(expanded, word.span)
    }

    /// Replaces the variables of a heredoc's body.
    pub(super) fn expand_body(&mut self, heredoc: &Heredoc) -> Result<String, Diagnostic> {
        let expanded = words::body(heredoc, &|name| self.value(name));
        self.settle(expanded, heredoc.span)
    }

    /// Replaces the variables of a word that may become several.
    pub(super) fn expand_several(&mut self, word: &Word) -> Result<Vec<String>, Diagnostic> {
        let expanded = words::several(word, self.escape, &|name| self.value(name))
            .map_err(|e| Diagnostic { span: Some(self.at(word.span)), ..e })?;
        self.report_unset(&expanded.unset, word.span);
        Ok(expanded.words)
    }

    fn settle(&mut self, expanded: Result<Expanded, Diagnostic>, span: Span) -> Result<String, Diagnostic> {
        let expanded = expanded.map_err(|e| Diagnostic { span: Some(self.at(span)), ..e })?;
        self.report_unset(&expanded.unset, span);
        Ok(expanded.text)
    }

    fn report_unset(&mut self, unset: &[String], span: Span) {
        for name in unset {
            if self.variables.is_declared(name) || NOT_ENVIRONMENT.contains(&name.as_str()) {
                continue;
            }
            // Looking for a slip takes time; among so many names there is always one.
            let known: Vec<&str> = match self.variables.count() <= 256 {
                true => self.variables.names().collect(),
                false => Vec::new(),
            };
            let near = dockerfile::nearest(name, &known).map(|near| format!("did you mean `${near}`?"));
            let message = format!("usage of undefined variable `${name}`");
            let mut warning = Diagnostic::warning("UndefinedVar", self.at(span), message);
            warning.hint = near;
            self.shared.findings.push(warning);
        }
    }

    /// Adds a vertex that works on the current state, and makes its result the state.
    pub(super) fn advance(
        &mut self,
        op: Op,
        under: EdgeKind,
        others: Vec<Input>,
    ) -> Result<VertexId, Diagnostic> {
        self.shared.spend(op_size(&op), self.at(self.span))?;
        let mut inputs = vec![Input { kind: under, from: self.state }];
        inputs.extend(others);
        let id = self.shared.vertices.add(Vertex {
            op,
            inputs,
            text: self.text.clone(),
            span: self.span,
            line: self.line,
            stage: self.label.clone(),
            ignore_cache: self.ignore_cache,
        });
        self.state = Some(id);
        self.made = Some(id);
        Ok(id)
    }

    /// Writes a history line for the current state.
    pub(super) fn commit(&mut self, created_by: String, layer: bool) -> Result<(), Diagnostic> {
        let mut line = line_of(created_by, self.made);
        line.entry.empty_layer = !layer;
        self.shared.spend(history_size(&line), self.at(self.span))?;
        self.history.push(line);
        Ok(())
    }

    /// Puts the words of the shell in front of a command in shell form.
    pub(super) fn with_shell(&self, command: String) -> Vec<String> {
        let mut args = match &self.image.config.shell {
            Some(shell) if !shell.is_empty() => shell.clone(),
            _ => vec!["/bin/sh".to_owned(), "-c".to_owned()],
        };
        args.push(command);
        args
    }
}

impl<'a> Shared<'a> {
    /// Starts with nothing.
    pub(super) fn new(plan: &'a Plan<'a>, bases: &'a Bases) -> Shared<'a> {
        Shared {
            plan,
            bases,
            vertices: Vertices::default(),
            built: BTreeMap::new(),
            findings: Vec::new(),
            declared: Vec::new(),
            spent: 0,
        }
    }

    /// Counts bytes that the plan keeps; an error once there are too many.
    pub(super) fn spend(&mut self, bytes: usize, span: Span) -> Result<(), Diagnostic> {
        self.spent = self.spent.saturating_add(bytes);
        if self.spent > MAX_PLAN { Err(too_large(span)) } else { Ok(()) }
    }

    /// Adds the vertex of an image; findings point at `at`.
    pub(super) fn image(
        &mut self,
        reference: &str,
        platform: &Platform,
        at: Span,
        place: Place,
    ) -> Result<(VertexId, Arc<ImageConfig>), Diagnostic> {
        let Some(base) = self.bases.get(reference, platform) else {
            return Err(Diagnostic::error(
                "unresolved-image",
                at,
                format!("the image `{reference}` for {platform} was not resolved"),
            ));
        };
        let actual = base.config.platform();
        if (&actual.os, &actual.architecture) != (&platform.os, &platform.architecture) {
            self.findings.push(Diagnostic::warning(
                "InvalidBaseImagePlatform",
                at,
                format!(
                    "base image `{reference}` was pulled with platform `{actual}`, expected `{platform}` for current build"
                ),
            ));
        }
        let op = ImageOp { reference: reference.to_owned(), platform: platform.clone(), image: base.image };
        let id = self.vertices.add(place.vertex(Op::Image(op)));
        Ok((id, base.config.clone()))
    }
}

/// Makes the history line of a layer.
fn line_of(created_by: String, vertex: Option<VertexId>) -> PlannedHistory {
    let comment = Some(HISTORY_COMMENT.to_owned());
    let entry = History { created_by: Some(created_by), comment, ..History::default() };
    PlannedHistory { entry, vertex }
}

/// Makes the error for a file that would take too much memory.
pub(super) fn too_large(span: Span) -> Diagnostic {
    Diagnostic::error(
        "plan-too-large",
        span,
        format!("up to here the file's configs and commands take more than {} MiB", MAX_PLAN >> 20),
    )
}

/// Returns the config of nothing, and what an image starts with that has no image beneath it:
/// BuildKit writes the root folder where images of other builders may leave the folder out.
fn empty_image(platform: &Platform) -> (Arc<ImageConfig>, ImageConfig) {
    let nothing = ImageConfig::empty(platform);
    let mut image = nothing.clone();
    image.config.working_dir = "/".to_owned();
    (Arc::new(nothing), image)
}

/// Returns what a new image takes from the config of its base.
fn inherit(base: &ImageConfig) -> ImageConfig {
    let mut image =
        ImageConfig { created: None, history: Vec::new(), rootfs: Default::default(), ..base.clone() };
    // What else builders left there (`container_config`, `docker_version`, inline
    // caches) tells of the base's own build.
    image.other.retain(|name, _| name == "os.features");
    image
}

fn config_size(config: &ContainerConfig) -> usize {
    let lists = [&config.env, &config.on_build].into_iter().flatten();
    let options = [&config.cmd, &config.entrypoint, &config.shell].into_iter().flatten().flatten();
    let maps = config.labels.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>()
        + config.exposed_ports.keys().chain(config.volumes.keys()).map(|k| k.len() + 32).sum::<usize>();
    512 + maps + lists.chain(options).map(|text| text.len() + 24).sum::<usize>()
}

fn history_size(line: &PlannedHistory) -> usize {
    256 + line.entry.created_by.as_ref().map_or(0, String::len)
}

fn op_size(op: &Op) -> usize {
    let texts = |list: &[String]| list.iter().map(|text| text.len() + 24).sum::<usize>();
    let kept = 512
        + match op {
            Op::Run(run) => {
                let mounts = run.mounts.iter().map(|mount| mount.target.len() + 256).sum::<usize>();
                texts(&run.args) + texts(&run.env_unkeyed) + mounts
            }
            Op::Copy(copy) => {
                let source = |source: &CopySource| match source {
                    CopySource::Path { path, .. } => path.len() + 48,
                    CopySource::Download { name, .. } => name.len() + 48,
                    CopySource::Inline { name, data } => name.len() + data.len() + 48,
                };
                copy.destination.len() + copy.sources.iter().map(source).sum::<usize>() + texts(&copy.exclude)
            }
            Op::Workdir(workdir) => workdir.path.len() + workdir.user.len(),
            Op::Image(_) | Op::Context(_) | Op::Http(_) | Op::Git(_) => 0,
        };
    // The environment is shared; it counts for the time it takes to tell operations apart.
    let seen = match op {
        Op::Run(run) => run.env.iter().map(|entry| entry.len() + 16).sum(),
        _ => 0,
    };
    // Twice: once in the graph and once where equal work is looked up.
    2 * kept + seen
}

/// Returns an instruction on one line, its keyword in capitals.
pub(super) fn one_line(instruction: &Instruction) -> String {
    let original = instruction.original.trim();
    let keyword = instruction.keyword.len();
    match (original.get(..keyword), original.get(keyword..)) {
        (Some(head), Some(rest)) if head.eq_ignore_ascii_case(&instruction.keyword) => {
            format!("{}{rest}", head.to_ascii_uppercase())
        }
        _ => original.to_owned(),
    }
}
