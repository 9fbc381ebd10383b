//! What a file offers to who builds it: its targets, and what a target takes.
//!
//! What `docker build --call=targets` and `--call=outline` tell. Not here: how it is
//! printed, and building.

use std::collections::BTreeSet;

use crate::dockerfile::ast::ArgDefinition;
use crate::dockerfile::ast::Dockerfile;
use crate::dockerfile::ast::Instruction;
use crate::dockerfile::ast::Kind;
use crate::dockerfile::ast::Run;
use crate::dockerfile::ast::Word;
use crate::dockerfile::expand;
use crate::report::Diagnostic;
use crate::report::Span;

use super::Bases;
use super::Request;
use super::check::assume_missing;
use super::lower;
use super::stages::Plan;
use super::words;

/// One stage of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// In lower case.
    pub name: Option<String>,
    pub description: Option<String>,
    /// Whether it is built when no target is named.
    pub default: bool,
    /// As written.
    pub base: String,
    /// As written.
    pub platform: Option<String>,
    pub span: Span,
}

/// What a target takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Takes {
    pub name: Option<String>,
    pub description: Option<String>,
    /// In the order of the file, as are the others.
    pub args: Vec<Arg>,
    pub secrets: Vec<Mounted>,
    pub ssh: Vec<Mounted>,
    /// Ids of cache mounts.
    pub caches: Vec<Mounted>,
}

/// A build argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    pub name: String,
    pub description: Option<String>,
    /// With what the request gives it, else its default, variables replaced.
    pub value: Option<String>,
    pub span: Span,
}

/// What a `RUN --mount` wants, by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    pub id: String,
    pub required: bool,
    pub span: Span,
}

/// Lists the stages of a file.
pub fn targets(file: &Dockerfile) -> Vec<Target> {
    let mut targets: Vec<Target> = file
        .instructions
        .iter()
        .filter_map(|instruction| {
            let Kind::From(from) = &instruction.kind else { return None };
            let written = from.name.as_ref().map(|name| name.text.as_str());
            let description = written.and_then(|name| instruction.description(name));
            Some(Target {
                name: written.map(str::to_ascii_lowercase),
                description: description.map(str::to_owned),
                default: false,
                base: from.image.text.clone(),
                platform: from.platform.as_ref().map(|word| word.text.clone()),
                span: instruction.span,
            })
        })
        .collect();
    if let Some(last) = targets.last_mut() {
        last.default = true;
    }
    targets
}

/// Finds what the target takes, in all the stages it needs.
///
/// No image has to be in `bases`; an ONBUILD of one that is not there is not seen. Errors
/// are those of the stages and their FROM; what cannot be built for other reasons is told
/// by a check.
pub fn takes(file: &Dockerfile, request: &Request, bases: &Bases) -> Result<Takes, Vec<Diagnostic>> {
    let plan = Plan::new(file, request)?;
    let reach = plan.reach(bases)?;
    let mut bases = bases.clone();
    assume_missing(&mut bases, &reach.images);
    let shared = lower::stages(&plan, &bases, &reach.stages);

    let target = &plan.stages[plan.targets[0]];
    let written = target.from.name.as_ref().map(|name| name.text.as_str());
    let mut takes = Takes {
        name: target.name.clone(),
        description: written.and_then(|name| target.instruction.description(name)).map(str::to_owned),
        ..Takes::default()
    };
    let globals = Globals::of(file, &plan);
    let mut wanted: Vec<String> = Vec::new();
    for (index, triggers) in &reach.stages {
        let stage = &plan.stages[*index];
        for word in [Some(&stage.from.image), stage.from.platform.as_ref()].into_iter().flatten() {
            wanted.extend(names_in(word, plan.escape));
        }
        let values = shared.built.get(index).map(|built| built.args.as_slice()).unwrap_or_default();
        for instruction in triggers.iter().chain(stage.body) {
            match &instruction.kind {
                Kind::Arg(definitions) => {
                    for definition in definitions {
                        let name = &definition.name;
                        if definition.default.is_none() && !request.build_args.contains_key(name) {
                            wanted.push(name.clone());
                            if globals.definition(name).is_some() {
                                continue;
                            }
                        }
                        let value =
                            values.iter().find(|(n, _)| n == name).and_then(|(_, value)| value.clone());
                        takes.add_arg(instruction, definition, value);
                    }
                }
                Kind::Run(run) => takes.add_mounts(instruction, run),
                _ => {}
            }
        }
    }
    globals.add(wanted, &plan, &mut takes);
    takes.args.sort_by_key(|arg| arg.span);
    Ok(takes)
}

impl Takes {
    fn add_arg(&mut self, instruction: &Instruction, definition: &ArgDefinition, value: Option<String>) {
        // Declared in several stages it is one argument.
        if self.args.iter().any(|arg| arg.name == definition.name) {
            return;
        }
        self.args.push(Arg {
            name: definition.name.clone(),
            description: instruction.description(&definition.name).map(str::to_owned),
            value,
            span: definition.span,
        });
    }

    fn add_mounts(&mut self, instruction: &Instruction, run: &Run) {
        for mount in &run.mounts {
            let options = Options::of(&mount.text);
            let (list, id) = match options.get("type") {
                Some("secret") => (&mut self.secrets, options.secret_id()),
                Some("ssh") => (&mut self.ssh, options.get("id").unwrap_or("default").to_owned()),
                Some("cache") => (&mut self.caches, options.cache_id()),
                _ => continue,
            };
            let required = options.is_required();
            match list.iter_mut().find(|known| known.id == id) {
                Some(known) => known.required |= required,
                None if id.is_empty() => {}
                None => list.push(Mounted { id, required, span: instruction.span }),
            }
        }
    }
}

/// The ARGs above the first FROM.
struct Globals<'a> {
    definitions: Vec<(&'a Instruction, &'a ArgDefinition)>,
}

impl<'a> Globals<'a> {
    fn of(file: &'a Dockerfile, plan: &Plan<'_>) -> Globals<'a> {
        let first = plan.stages[0].instruction.span.start;
        let above = file.instructions.iter().take_while(|i| i.span.start < first);
        let definitions = above
            .filter_map(|instruction| match &instruction.kind {
                Kind::Arg(definitions) => Some(definitions.iter().map(move |d| (instruction, d))),
                _ => None,
            })
            .flatten()
            .collect();
        Globals { definitions }
    }

    fn definition(&self, name: &str) -> Option<(&'a Instruction, &'a ArgDefinition)> {
        self.definitions.iter().rev().find(|(_, definition)| definition.name == name).copied()
    }

    /// Adds the arguments that are wanted, and those their defaults are made of.
    fn add(&self, mut wanted: Vec<String>, plan: &Plan<'_>, takes: &mut Takes) {
        let mut seen = BTreeSet::new();
        while let Some(name) = wanted.pop() {
            let Some((instruction, definition)) = self.definition(&name) else { continue };
            if !seen.insert(name.clone()) {
                continue;
            }
            if let Some(default) = &definition.default {
                wanted.extend(names_in(default, plan.escape));
            }
            takes.add_arg(instruction, definition, plan.globals.get(&name).map(str::to_owned));
        }
    }
}

/// Returns the variables that a word names, where they decide something.
fn names_in(word: &Word, escape: char) -> Vec<String> {
    let asked = std::cell::RefCell::new(Vec::new());
    let lookup = |name: &str| {
        asked.borrow_mut().push(name.to_owned());
        None
    };
    // An error of the word is told where it is expanded.
    let _ = words::plain(word, escape, &lookup);
    let _ = expand::expand_json(&word.text, escape, &lookup);
    asked.into_inner()
}

/// The options of a `--mount`, as written.
struct Options<'a>(Vec<(String, Option<&'a str>)>);

impl<'a> Options<'a> {
    fn of(text: &'a str) -> Options<'a> {
        let option = |part: &'a str| match part.split_once('=') {
            Some((key, value)) => (key.trim().to_ascii_lowercase(), Some(value)),
            None => (part.trim().to_ascii_lowercase(), None),
        };
        Options(text.split(',').map(option).collect())
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find(|(known, _)| known == key).and_then(|(_, value)| *value)
    }

    fn target(&self) -> Option<&'a str> {
        ["target", "dst", "destination"].into_iter().find_map(|key| self.get(key))
    }

    fn secret_id(&self) -> String {
        let target = || self.target().and_then(|target| target.trim_end_matches('/').rsplit('/').next());
        self.get("id").or_else(target).unwrap_or_default().to_owned()
    }

    fn cache_id(&self) -> String {
        self.get("id").or_else(|| self.target()).unwrap_or_default().to_owned()
    }

    fn is_required(&self) -> bool {
        let required = self.0.iter().find(|(key, _)| key == "required");
        required.is_some_and(|(_, value)| {
            value.is_none_or(|value| matches!(value, "true" | "1" | "True" | "TRUE"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse;

    const SOURCE: &str = "\
# TAG is of the base
ARG TAG=1 UNUSED=2
ARG FULL=$TAG-slim
# build makes the program
FROM debian:$FULL AS Build
# VERSION of the program
ARG VERSION=1.$TAG
ARG TAG
RUN --mount=type=secret,id=key,required --mount=type=ssh --mount=type=cache,target=/root/.cache x
RUN --mount=type=secret,target=/run/pass,required=false --mount=type=secret,id=key y
FROM debian AS other
ARG OTHER
# it is the last one
FROM --platform=linux/arm64 scratch
ARG FLAVOR
COPY --from=build /x /
";

    fn takes_of(target: Option<&str>) -> Takes {
        let mut request = Request::new("linux/amd64".parse().unwrap());
        request.targets = target.map(str::to_owned).into_iter().collect();
        request.build_args.insert("FLAVOR".to_owned(), "mint".to_owned());
        takes(&parse(SOURCE.as_bytes()).file, &request, &Bases::new()).unwrap()
    }

    #[test]
    fn lists_targets() {
        let found: Vec<String> = targets(&parse(SOURCE.as_bytes()).file)
            .into_iter()
            .map(|t| {
                let text = |text: Option<String>| text.unwrap_or("-".to_owned());
                format!(
                    "{} {} {} [{}] {}",
                    text(t.name),
                    t.base,
                    text(t.platform),
                    text(t.description),
                    t.default
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                "build debian:$FULL - [makes the program] false",
                "other debian - [-] false",
                "- scratch linux/arm64 [-] true"
            ]
        );
    }

    #[test]
    fn finds_what_a_target_takes() {
        let found = takes_of(None);
        let args: Vec<String> = found
            .args
            .iter()
            .map(|a| {
                let value = a.value.as_deref().unwrap_or("-");
                let line = a.span.line(SOURCE);
                format!("{line} {}={value} {}", a.name, a.description.as_deref().unwrap_or("-"))
            })
            .collect();
        assert_eq!(
            args,
            ["2 TAG=1 is of the base", "3 FULL=1-slim -", "7 VERSION=1. of the program", "15 FLAVOR=mint -"]
        );
        let ids = |list: &[Mounted]| -> Vec<String> {
            list.iter().map(|m| format!("{} {} {}", m.span.line(SOURCE), m.id, m.required)).collect()
        };
        assert_eq!(ids(&found.secrets), ["9 key true", "10 pass false"]);
        assert_eq!(ids(&found.ssh), ["9 default false"]);
        assert_eq!(ids(&found.caches), ["9 /root/.cache false"]);
        assert_eq!((found.name, found.description), (None, None));
    }

    #[test]
    fn a_target_takes_only_what_it_reaches() {
        let found = takes_of(Some("other"));
        let names: Vec<&str> = found.args.iter().map(|arg| arg.name.as_str()).collect();
        assert_eq!((names, found.secrets.len()), (vec!["OTHER"], 0));
        let found = takes_of(Some("BUILD"));
        assert_eq!(found.name.as_deref(), Some("build"));
        assert_eq!(found.description.as_deref(), Some("makes the program"));
        let request =
            Request { targets: vec!["no".to_owned()], ..Request::new("linux/amd64".parse().unwrap()) };
        assert!(takes(&parse(SOURCE.as_bytes()).file, &request, &Bases::new()).is_err());
    }
}
