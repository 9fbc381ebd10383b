//! A file sorted into stages: what each is built from, and which ones a target reaches.
//!
//! Not here: what the instructions do (`stage`).

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::dockerfile;
use crate::dockerfile::ast;
use crate::dockerfile::ast::Dockerfile;
use crate::dockerfile::ast::Instruction;
use crate::dockerfile::ast::Kind;
use crate::dockerfile::ast::Word;
use crate::image::Platform;
use crate::image::Reference;
use crate::image::ReferenceError;
use crate::report::Diagnostic;
use crate::report::Span;

use super::Bases;
use super::NamedContext;
use super::Request;
use super::graph::BuildArgs;
use super::mount;
use super::onbuild;
use super::outline::EpochNeed;
use super::outline::ImageNeed;
use super::scope::Globals;
use super::words;

/// So many COPYs from later stages are told; each takes a walk over all stages.
const MAX_ORDER_ERRORS: usize = 20;

/// No reference and no platform is longer than this.
const MAX_NAME: usize = 1024;

/// Where a stage begins or a COPY reads from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Scratch,
    Stage(usize),
    Image(String),
    /// The files of a named context.
    Context(String),
}

/// One stage as written.
#[derive(Debug)]
pub(super) struct StagePlan<'a> {
    pub(super) instruction: &'a Instruction,
    pub(super) from: &'a ast::From,
    /// In lower case.
    pub(super) name: Option<String>,
    /// What FROM says, expanded, or why it cannot be said; told only if the stage is needed.
    pub(super) base: Result<Origin, Diagnostic>,
    pub(super) platform: Option<Platform>,
    /// All but FROM.
    pub(super) body: &'a [Instruction],
}

/// A file and a request, understood as stages.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) request: &'a Request,
    pub(super) escape: char,
    pub(super) globals: Globals,
    pub(super) stages: Vec<StagePlan<'a>>,
    /// The stages to build, in the order asked for.
    pub(super) targets: Vec<usize>,
    /// Seconds since 1970.
    pub(super) source_date_epoch: Option<i64>,
    /// Whose time SOURCE_DATE_EPOCH is to be, while that is not known.
    pub(super) epoch: Option<EpochNeed>,
    pub(super) warnings: Vec<Diagnostic>,
}

/// What a target needs.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// By number; with the triggers that the base brings, read.
    pub(super) stages: BTreeMap<usize, Vec<Instruction>>,
    pub(super) images: Vec<ImageNeed>,
}

/// A COPY --from another stage.
struct Edge {
    from: usize,
    to: usize,
    span: Span,
}

impl<'a> Plan<'a> {
    /// Sorts a file into stages, expands every FROM, finds the target.
    pub(super) fn new(file: &'a Dockerfile, request: &'a Request) -> Result<Plan<'a>, Vec<Diagnostic>> {
        let escape = if file.escape == '`' { '`' } else { '\\' };
        let starts: Vec<usize> = (0..file.instructions.len())
            .filter(|&i| matches!(file.instructions[i].kind, Kind::From(_)))
            .collect();
        let Some(&first) = starts.first() else {
            return Err(vec![Diagnostic {
                severity: crate::report::Severity::Error,
                code: "no-stage",
                message: "the file contains no stages to build".to_owned(),
                span: None,
                hint: Some("a Dockerfile begins with `FROM image`".to_owned()),
            }]);
        };
        let before = &file.instructions[..first];
        let globals = Globals::new(request, &request.build_args, before, escape).map_err(|e| vec![e])?;
        let defaults = Globals::new(request, &BuildArgs::new(), before, escape).ok();

        let mut plan = Plan {
            request,
            escape,
            source_date_epoch: None,
            globals,
            stages: Vec::with_capacity(starts.len()),
            targets: Vec::new(),
            epoch: None,
            warnings: Vec::new(),
        };
        let mut by_name: BTreeMap<String, usize> = BTreeMap::new();
        for (index, &start) in starts.iter().enumerate() {
            let end = starts.get(index + 1).copied().unwrap_or(file.instructions.len());
            let instruction = &file.instructions[start];
            let Kind::From(from) = &instruction.kind else { continue };
            let name = from.name.as_ref().map(|word| word.text.to_ascii_lowercase());
            let platform = plan.platform(from);
            // A named context stands in for the whole stage of its name.
            let instead = name.as_deref().and_then(|name| plan.named_context(name));
            let base = match (&platform, &instead) {
                (_, Some(origin)) => Ok(origin.clone()),
                (Err(error), _) => Err(error.clone()),
                (Ok(_), _) => plan.base(from, &by_name),
            };
            if let Some(defaults) = &defaults {
                plan.check_default(from, defaults, &by_name);
            }
            if let Some(name) = &name {
                by_name.insert(name.clone(), index);
            }
            plan.stages.push(StagePlan {
                instruction,
                from,
                name,
                base,
                platform: platform.unwrap_or_default(),
                body: if instead.is_some() { &[] } else { &file.instructions[start + 1..end] },
            });
        }
        plan.targets = plan.find_targets().map_err(|e| vec![e])?;
        plan.read_epoch().map_err(|e| vec![e])?;
        Ok(plan)
    }

    /// Returns a stage's name, or its number.
    pub(super) fn label(&self, index: usize) -> String {
        self.stages[index].name.clone().unwrap_or_else(|| index.to_string())
    }

    /// Returns the platform an image is wanted for by a FROM.
    pub(super) fn wanted_platform(&self, index: usize) -> &Platform {
        self.stages[index].platform.as_ref().unwrap_or(&self.request.platform)
    }

    fn expand_from(&mut self, word: &Word, flag: bool) -> Result<String, Diagnostic> {
        let globals = &self.globals;
        let lookup = |name: &str| globals.get(name).map(str::to_owned);
        let expanded = match flag {
            true => words::bare(word, self.escape, &lookup)?,
            false => words::plain(word, self.escape, &lookup)?,
        };
        for name in &expanded.unset {
            if self.globals.knows(name) {
                continue;
            }
            let mut warning = Diagnostic::warning(
                "UndefinedArgInFrom",
                word.span,
                format!("FROM argument `{name}` is not declared"),
            );
            warning.hint = Some(match dockerfile::nearest(name, &self.globals.names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "only an ARG above the first FROM has a value there".to_owned(),
            });
            self.warnings.push(warning);
        }
        Ok(expanded.text)
    }

    fn platform(&mut self, from: &ast::From) -> Result<Option<Platform>, Diagnostic> {
        let Some(word) = &from.platform else { return Ok(None) };
        let text = self.expand_from(word, true)?;
        if text.is_empty() {
            return Err(Diagnostic::error(
                "platform",
                word.span,
                format!("empty platform value from expression `{}`", word.text),
            ));
        }
        if text.len() > MAX_NAME {
            return Err(Diagnostic::error("platform", word.span, "the platform's name is too long"));
        }
        let platform: Platform =
            text.parse().map_err(|e| Diagnostic::error("platform", word.span, format!("{e}")))?;
        if matches!(word.text.as_str(), "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
            self.warnings.push(Diagnostic::warning(
                "RedundantTargetPlatform",
                word.span,
                format!("setting platform to predefined `{}` in FROM is redundant as this is the default behavior", word.text),
            ));
        }
        Ok(Some(platform))
    }

    fn base(&mut self, from: &ast::From, by_name: &BTreeMap<String, usize>) -> Result<Origin, Diagnostic> {
        let text = self.expand_from(&from.image, false)?;
        if text.is_empty() {
            return Err(Diagnostic::error(
                "blank-base",
                from.image.span,
                format!("base name (`{}`) should not be blank", from.image.text),
            )
            .with_hint(
                "give the variable a default in an ARG above the first FROM, or a value with --build-arg",
            ));
        }
        if let Some(&index) = by_name.get(&text.to_ascii_lowercase()) {
            return Ok(Origin::Stage(index));
        }
        match self.named_context(&text) {
            Some(origin) => Ok(origin),
            None => image(&text, from.image.span),
        }
    }

    /// Finds the named context that a name means; one of an image's name stands for that image,
    /// however it is written.
    fn named_context(&self, name: &str) -> Option<Origin> {
        if self.request.contexts.is_empty() {
            return None;
        }
        let reference = |text: &str| text.parse::<Reference>().ok().map(Reference::with_default_tag);
        let wanted = reference(name);
        let found = self.request.contexts.get_key_value(name).or_else(|| {
            self.request.contexts.iter().find(|(key, _)| {
                key.eq_ignore_ascii_case(name) || (wanted.is_some() && reference(key) == wanted)
            })
        });
        found.map(|(key, context)| match context {
            NamedContext::Files => Origin::Context(key.clone()),
            NamedContext::Image(reference) => Origin::Image(reference.clone()),
        })
    }

    /// Warns of a FROM that means nothing unless a build argument is given.
    fn check_default(&mut self, from: &ast::From, defaults: &Globals, by_name: &BTreeMap<String, usize>) {
        if !from.image.text.contains('$') {
            return;
        }
        let lookup = |name: &str| defaults.get(name).map(str::to_owned);
        let Ok(expanded) = words::plain(&from.image, self.escape, &lookup) else { return };
        let stage = by_name.contains_key(&expanded.text.to_ascii_lowercase());
        if !stage && (expanded.text.is_empty() || image(&expanded.text, from.image.span).is_err()) {
            self.warnings.push(Diagnostic::warning(
                "InvalidDefaultArgInFrom",
                from.image.span,
                format!(
                    "default value for ARG `{}` results in empty or invalid base image name",
                    from.image.text
                ),
            ));
        }
    }

    fn find_targets(&self) -> Result<Vec<usize>, Diagnostic> {
        match self.request.targets.is_empty() {
            true => Ok(vec![self.stages.len() - 1]),
            false => self.request.targets.iter().map(|wanted| self.find_target(wanted)).collect(),
        }
    }

    fn find_target(&self, wanted: &str) -> Result<usize, Diagnostic> {
        if let Some(index) = self.stage_named(wanted) {
            return Ok(index);
        }
        let names: Vec<&str> = self.stages.iter().filter_map(|s| s.name.as_deref()).collect();
        Err(Diagnostic {
            severity: crate::report::Severity::Error,
            code: "unknown-target",
            message: format!("target stage `{wanted}` could not be found"),
            span: None,
            hint: match (dockerfile::nearest(wanted, &names), names.is_empty()) {
                (Some(near), _) => Some(format!("did you mean `{near}`?")),
                (None, true) => Some("no stage has a name: `FROM image AS name` gives one".to_owned()),
                (None, false) => Some(format!("the stages are: {}", names.join(", "))),
            },
        })
    }

    /// Returns the last stage of a name.
    pub(super) fn stage_named(&self, name: &str) -> Option<usize> {
        let lower = name.to_ascii_lowercase();
        self.stages.iter().rposition(|stage| stage.name.as_deref() == Some(&lower))
    }

    /// Finds what a `--from` means. Where it stands does not matter for that.
    pub(super) fn origin(&self, word: &Word) -> Result<Origin, Diagnostic> {
        let text = word.text.as_str();
        if text.contains('$') {
            return Err(Diagnostic::error(
                "copy-from",
                word.span,
                "variable expansion is not supported for --from",
            )
            .with_hint("define a new stage with FROM, which can use an ARG from the global scope"));
        }
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return match text.parse::<usize>().ok().filter(|&n| n < self.stages.len()) {
                Some(index) => Ok(Origin::Stage(index)),
                None => {
                    Err(Diagnostic::error("copy-from", word.span, format!("invalid stage index `{text}`"))
                        .with_hint(format!("the file has the stages 0 to {}", self.stages.len() - 1)))
                }
            };
        }
        if let Some(index) = self.stage_named(text) {
            return Ok(Origin::Stage(index));
        }
        match self.named_context(text) {
            Some(origin) => Ok(origin),
            None => image(text, word.span),
        }
    }

    /// Finds all that the target needs, and checks that stages read only earlier ones.
    pub(super) fn reach(&self, known: &Bases) -> Result<Reach, Vec<Diagnostic>> {
        let mut reach = Reach::default();
        let mut errors = Vec::new();
        let mut edges: Vec<Edge> = Vec::new();
        let mut images: BTreeSet<(String, Platform)> = BTreeSet::new();
        let mut need = |reach: &mut Reach, reference: &str, platform: &Platform, span: Span| {
            if images.insert((reference.to_owned(), platform.clone())) {
                let hint = self.not_found_hint(reference);
                let reference = reference.to_owned();
                reach.images.push(ImageNeed { reference, platform: platform.clone(), span, hint });
            }
        };
        let mut waiting = self.targets.clone();
        while let Some(index) = waiting.pop() {
            if reach.stages.contains_key(&index) {
                continue;
            }
            let stage = &self.stages[index];
            let place = stage.from.image.span;
            let texts: Vec<String> = match &stage.base {
                Err(error) => {
                    errors.push(error.clone());
                    Vec::new()
                }
                Ok(Origin::Scratch | Origin::Context(_)) => Vec::new(),
                Ok(Origin::Stage(base)) => {
                    waiting.push(*base);
                    self.stages[*base].triggers()
                }
                Ok(Origin::Image(reference)) => {
                    let platform = self.wanted_platform(index);
                    need(&mut reach, reference, platform, place);
                    known.get(reference, platform).map_or(Vec::new(), |b| b.config.config.on_build.clone())
                }
            };
            let mut triggers = Vec::with_capacity(texts.len());
            for text in &texts {
                match onbuild::parse(text, place) {
                    Ok(instruction) => triggers.push(instruction),
                    Err(error) => errors.push(error),
                }
            }
            for (instruction, trigger) in
                triggers.iter().map(|i| (i, true)).chain(stage.body.iter().map(|i| (i, false)))
            {
                for word in origins(instruction) {
                    let span = if trigger { place } else { word.span };
                    match self.origin(&word) {
                        Ok(Origin::Scratch | Origin::Context(_)) => {}
                        Ok(Origin::Stage(to)) => {
                            edges.push(Edge { from: index, to, span });
                            waiting.push(to);
                        }
                        Ok(Origin::Image(reference)) => {
                            need(&mut reach, &reference, &self.request.platform, span);
                        }
                        Err(error) => errors.push(Diagnostic { span: Some(span), ..error }),
                    }
                }
            }
            reach.stages.insert(index, triggers);
        }
        for edge in edges.iter().filter(|edge| edge.to >= edge.from).take(MAX_ORDER_ERRORS) {
            errors.push(self.forward(edge, &edges));
        }
        if errors.is_empty() { Ok(reach) } else { Err(errors) }
    }

    /// Returns what may have been meant by an image that is also, or nearly, a stage's name.
    fn not_found_hint(&self, reference: &str) -> Option<String> {
        // Looking for a slip takes time; among so many names there is always one.
        let names: Vec<&str> = self.stages.iter().filter_map(|s| s.name.as_deref()).take(256).collect();
        match dockerfile::nearest(reference, &names)? {
            name if name.eq_ignore_ascii_case(reference) => {
                Some(format!("the stage `{name}` is defined later: put it above its first use"))
            }
            name => Some(format!("did you mean the stage `{name}`?")),
        }
    }

    /// Says what is wrong with reading from the same or a later stage.
    fn forward(&self, edge: &Edge, edges: &[Edge]) -> Diagnostic {
        let mut seen = BTreeSet::new();
        let mut waiting = vec![edge.to];
        while let Some(index) = waiting.pop() {
            if !seen.insert(index) {
                continue;
            }
            if let Ok(Origin::Stage(base)) = self.stages[index].base {
                waiting.push(base);
            }
            waiting.extend(edges.iter().filter(|e| e.from == index).map(|e| e.to));
        }
        let (from, to) = (self.label(edge.from), self.label(edge.to));
        match seen.contains(&edge.from) {
            true => Diagnostic::error(
                "stage-cycle",
                edge.span,
                format!("circular dependency detected on stage: `{from}`"),
            ),
            false => Diagnostic::error(
                "stage-order",
                edge.span,
                format!(
                    "cannot copy from stage `{to}`, it needs to be defined before current stage `{from}`"
                ),
            ),
        }
    }
}

impl StagePlan<'_> {
    /// Returns the ONBUILD texts this stage leaves for those built from it.
    pub(super) fn triggers(&self) -> Vec<String> {
        self.body
            .iter()
            .filter_map(|instruction| match &instruction.kind {
                Kind::Onbuild(inner) => Some(inner.text()),
                _ => None,
            })
            .collect()
    }
}

/// Returns all that an instruction names with `--from` or `from=`.
fn origins(instruction: &Instruction) -> Vec<Word> {
    match &instruction.kind {
        Kind::Copy(transfer) | Kind::Add(transfer) => transfer.from.iter().cloned().collect(),
        Kind::Run(run) => {
            let named = |word: &Word| Some(Word { text: mount::from_of(word)?, span: word.span });
            run.mounts.iter().filter_map(named).collect()
        }
        _ => Vec::new(),
    }
}

/// Checks that a text can name an image.
fn image(text: &str, span: Span) -> Result<Origin, Diagnostic> {
    if text == "scratch" {
        return Ok(Origin::Scratch);
    }
    if text.len() > MAX_NAME {
        return Err(Diagnostic::error("invalid-reference", span, "the name of the base is too long"));
    }
    match text.parse::<Reference>() {
        // A full image id is no reference; the store knows it.
        Ok(_) | Err(ReferenceError::LooksLikeId(_)) => Ok(Origin::Image(text.to_owned())),
        Err(error) => Err(Diagnostic::error("invalid-reference", span, error.to_string())),
    }
}
