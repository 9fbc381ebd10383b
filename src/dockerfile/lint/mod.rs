//! The checks that need only the tree, named as BuildKit names them.
//!
//! Described at <https://docs.docker.com/reference/build-checks/>. All are warnings.
//! Not here: checks that need arguments, stages or the context (`plan`), and which of
//! them a `# check=` directive skips.

use std::collections::HashMap;

use crate::report::{Diagnostic, Span};

use super::ast::{CommandLine, Dockerfile, Instruction, Kind, Pair};
use super::check_options;
use super::lines::{Item, Lines};

mod run;
mod shell;

/// Checks a tree; `source` is the text its spans point into. In the order of the file.
pub fn lint(file: &Dockerfile, source: &str) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    instruction_casing(file, &mut found);
    stages(file, source, &mut found);
    repeated(file, &mut found);
    run::check(file, &mut found);
    for instruction in &file.instructions {
        empty_continuation(instruction, file.escape, source, &mut found);
        description(instruction, &mut found);
        let inner = match &instruction.kind {
            Kind::Onbuild(inner) => inner,
            _ => instruction,
        };
        match &inner.kind {
            Kind::Env(pairs) | Kind::Label(pairs) => legacy(inner, pairs, &mut found),
            Kind::Maintainer(_) => found.push(
                Diagnostic::warning(
                    "MaintainerDeprecated",
                    inner.span,
                    "MAINTAINER instruction is deprecated in favor of using label",
                )
                .with_hint("write `LABEL org.opencontainers.image.authors=...`"),
            ),
            _ => {}
        }
    }
    found.sort_by_key(|problem| problem.span);
    found
}

/// ConsistentInstructionCasing: keywords in the case most of them have.
fn instruction_casing(file: &Dockerfile, found: &mut Vec<Diagnostic>) {
    let is_lower = |keyword: &str| keyword.chars().all(|c| c.is_lowercase());
    let is_upper = |keyword: &str| keyword.chars().all(|c| c.is_uppercase());
    let known = || file.instructions.iter().filter(|i| i.kind != Kind::Invalid);
    let lower = known().filter(|i| is_lower(&i.keyword)).count();
    let upper = known().filter(|i| is_upper(&i.keyword)).count();
    let want_lower = lower > upper;
    for instruction in known() {
        let keyword = &instruction.keyword;
        let good = if want_lower { is_lower(keyword) } else { is_upper(keyword) };
        if !good {
            let case = if want_lower { "lowercase" } else { "uppercase" };
            found.push(Diagnostic::warning(
                "ConsistentInstructionCasing",
                instruction.keyword_span,
                format!("command `{keyword}` should match the case of the command majority ({case})"),
            ));
        }
    }
}

/// StageNameCasing, ReservedStageName, DuplicateStageName, FromAsCasing.
fn stages(file: &Dockerfile, source: &str, found: &mut Vec<Diagnostic>) {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for instruction in &file.instructions {
        let Kind::From(from) = &instruction.kind else { continue };
        let Some(name) = &from.name else { continue };
        let lower = name.text.to_lowercase();
        if lower != name.text {
            let message = format!("stage name `{}` should be lowercase", name.text);
            found.push(Diagnostic::warning("StageNameCasing", name.span, message));
        }
        if matches!(lower.as_str(), "scratch" | "context") {
            let message = format!("stage name should not use reserved name `{}`", name.text);
            found.push(Diagnostic::warning("ReservedStageName", name.span, message));
        }
        let line = instruction.lines.0;
        if let Some(first) = seen.insert(lower, line) {
            let message = format!(
                "duplicate stage name `{}`, stage names should be unique (first: line {first})",
                name.text
            );
            found.push(Diagnostic::warning("DuplicateStageName", name.span, message));
        }
        let between = source.get(from.image.span.end..name.span.start).unwrap_or_default();
        let Some(at) = between.to_ascii_lowercase().find("as") else { continue };
        let written = &between[at..at + 2];
        let keyword = &instruction.keyword;
        let good = match (keyword == &keyword.to_lowercase(), keyword == &keyword.to_uppercase()) {
            (true, _) => written == written.to_lowercase(),
            (_, true) => written == written.to_uppercase(),
            // A keyword in both cases is ConsistentInstructionCasing's.
            _ => true,
        };
        if !good {
            let start = from.image.span.end + at;
            let message = format!("`{written}` and `{}` keywords' casing do not match", instruction.keyword);
            found.push(Diagnostic::warning("FromAsCasing", Span::new(start, start + 2), message));
        }
    }
}

/// MultipleInstructionsDisallowed and JSONArgsRecommended, which go by stage.
fn repeated(file: &Dockerfile, found: &mut Vec<Diagnostic>) {
    let mut shells = Shells::default();
    let mut last: HashMap<&str, &Instruction> = HashMap::new();
    for instruction in &file.instructions {
        shells.pass(instruction);
        match &instruction.kind {
            Kind::From(_) => last.clear(),
            Kind::Cmd(line) | Kind::Entrypoint(line) if shells.current().is_none() => {
                if matches!(line, CommandLine::Shell(text) if !text.is_empty()) {
                    let keyword = &instruction.keyword;
                    let message = format!(
                        "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS \
                         signals"
                    );
                    found.push(Diagnostic::warning("JSONArgsRecommended", instruction.span, message));
                }
            }
            _ => {}
        }
        let keyword = match &instruction.kind {
            Kind::Cmd(_) => "CMD",
            Kind::Entrypoint(_) => "ENTRYPOINT",
            Kind::Healthcheck(_) => "HEALTHCHECK",
            _ => continue,
        };
        if let Some(before) = last.insert(keyword, instruction) {
            let message = format!(
                "multiple {keyword} instructions should not be used in the same stage because only the last one \
                 will be used"
            );
            found.push(Diagnostic::warning("MultipleInstructionsDisallowed", before.span, message));
        }
    }
}

/// The SHELL in force, from instruction to instruction; a stage has that of its base.
#[derive(Debug, Default)]
struct Shells<'a> {
    current: Option<&'a [String]>,
    name: Option<String>,
    stages: HashMap<String, Option<&'a [String]>>,
}

impl<'a> Shells<'a> {
    /// Takes an instruction into account.
    fn pass(&mut self, instruction: &'a Instruction) {
        match &instruction.kind {
            Kind::From(from) => {
                if let Some(name) = self.name.take() {
                    self.stages.insert(name, self.current);
                }
                let base = from.image.text.to_lowercase();
                self.current = self.stages.get(&base).copied().flatten();
                self.name = from.name.as_ref().map(|name| name.text.to_lowercase());
            }
            Kind::Shell(words) => self.current = Some(words),
            _ => {}
        }
    }

    /// Returns what SHELL said, if there was one. A base image's is not known here.
    fn current(&self) -> Option<&'a [String]> {
        self.current
    }
}

/// InvalidDefinitionDescription: the comment above a stage or an argument begins with its name.
fn description(instruction: &Instruction, found: &mut Vec<Diagnostic>) {
    let names: Vec<&str> = match &instruction.kind {
        Kind::From(from) => from.name.iter().map(|name| name.text.as_str()).collect(),
        Kind::Arg(definitions) => definitions.iter().map(|definition| definition.name.as_str()).collect(),
        _ => return,
    };
    let mut comments = instruction.comments.iter().rev();
    let Some(comment) = comments.find(|text| check_options::comment(text).is_none()) else { return };
    let first = comment.split(' ').next().unwrap_or_default();
    let Some(example) = names.first() else { return };
    if names.iter().any(|name| name.eq_ignore_ascii_case(first)) {
        return;
    }
    let keyword = instruction.keyword.to_uppercase();
    let example = if names.len() > 1 { "<arg_key>" } else { example };
    found.push(
        Diagnostic::warning(
            "InvalidDefinitionDescription",
            instruction.keyword_span,
            format!("comment for {keyword} should follow the format: `# {example} <description>`"),
        )
        .with_hint("if it is no description, put an empty line below it"),
    );
}

/// NoEmptyContinuation.
fn empty_continuation(instruction: &Instruction, escape: char, source: &str, found: &mut Vec<Diagnostic>) {
    let start = source[..instruction.span.range(source.len()).start].rfind('\n').map_or(0, |at| at + 1);
    if let Some(Item::Line(line)) = Lines::new(&source[start..], 0).next_item(escape)
        && let Some(empty) = line.empty.first()
    {
        let span = Span::new(start + empty.start, start + empty.end);
        found.push(
            Diagnostic::warning("NoEmptyContinuation", span, "empty continuation line").with_hint(
                "remove the empty line, or continue it with the escape character; it ends nothing",
            ),
        );
    }
}

/// LegacyKeyValueFormat.
fn legacy(instruction: &Instruction, pairs: &[Pair], found: &mut Vec<Diagnostic>) {
    for pair in pairs.iter().filter(|pair| pair.legacy) {
        let keyword = instruction.keyword.to_uppercase();
        let message = format!(
            "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
        );
        found.push(Diagnostic::warning("LegacyKeyValueFormat", pair.key.span.join(pair.value.span), message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse;

    #[test]
    fn finds() {
        let check = |text: &str, expect: &[(usize, &str)]| {
            let parsed = parse(text.as_bytes());
            let found: Vec<(usize, &str)> = lint(&parsed.file, &parsed.source)
                .iter()
                .filter(|problem| problem.code != "InvalidDefinitionDescription")
                .map(|problem| (problem.span.unwrap().line(text), problem.code))
                .collect();
            assert_eq!(found, expect, "{text:?}");
        };
        check("FROM a AS b\nCMD [\"c\"]\n", &[]);
        check(
            "FROM a AS Bee\nFROM b AS scratch\nFROM c AS bee",
            &[(1, "StageNameCasing"), (2, "ReservedStageName"), (3, "DuplicateStageName")],
        );
        check("FROM a as b", &[(1, "FromAsCasing")]);
        check("from a as b\nrun c", &[]);
        check("from a AS b", &[(1, "FromAsCasing")]);
        check(
            "FROM a\nrun b\nRUN c\nRun d",
            &[(2, "ConsistentInstructionCasing"), (4, "ConsistentInstructionCasing")],
        );
        check("From a As b\nFROM c", &[(1, "ConsistentInstructionCasing")]);
        check("from a As b", &[(1, "FromAsCasing")]);
        check("FROM a\nSHELL [\"s\"]\nFROM b AS c\nSHELL [\"s\"]\nFROM c\nCMD d", &[]);
        check("FROM a\nRUN b \\\n\n  c\nRUN <<E\n\nE\n", &[(3, "NoEmptyContinuation")]);
        check("FROM a\nCMD b\nENTRYPOINT c", &[(2, "JSONArgsRecommended"), (3, "JSONArgsRecommended")]);
        check(
            "FROM a\nSHELL [\"s\"]\nCMD b\nFROM c\nCMD [\"d\"]\nCMD [\"e\"]",
            &[(5, "MultipleInstructionsDisallowed")],
        );
        check(
            "FROM a\nMAINTAINER b\nENV c d\nONBUILD LABEL e f",
            &[(2, "MaintainerDeprecated"), (3, "LegacyKeyValueFormat"), (4, "LegacyKeyValueFormat")],
        );
    }

    #[test]
    fn descriptions_begin_with_the_name() {
        let check = |text: &str, expect: &[usize]| {
            let parsed = parse(text.as_bytes());
            let found = lint(&parsed.file, &parsed.source);
            let wrong = found.iter().filter(|problem| problem.code == "InvalidDefinitionDescription");
            let lines: Vec<usize> = wrong.map(|problem| problem.span.unwrap().line(text)).collect();
            assert_eq!(lines, expect, "{text:?}");
        };
        check("FROM a AS b", &[]);
        check("# b builds\nFROM a AS b", &[]);
        check("# B builds\nFROM a AS b", &[]);
        check("# builds b\nFROM a AS b", &[2]);
        check("# builds\n\nFROM a AS b", &[]);
        check("# builds\nFROM a", &[]);
        check("# x\n# v the version\nARG v=1 w=2\nFROM a", &[]);
        check("# the version\nARG v=1\nFROM a\n# other\nRUN b", &[2]);
        check("FROM a\n# check=skip=all\nARG v", &[]);
    }
}
