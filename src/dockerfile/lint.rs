//! The checks that need only the tree, named as BuildKit names them.
//!
//! Described at <https://docs.docker.com/reference/build-checks/>. All are warnings.
//! Not here: checks that need arguments, stages or the context (`plan`), and which of
//! them a `# check=` directive skips.

use std::collections::HashMap;

use crate::report::{Diagnostic, Span};

use super::ast::{CommandLine, Dockerfile, Instruction, Kind, Pair};
use super::lines::{Item, Lines};

/// Checks a tree; `source` is the text its spans point into. In the order of the file.
pub fn lint(file: &Dockerfile, source: &str) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    instruction_casing(file, &mut found);
    stages(file, source, &mut found);
    repeated(file, &mut found);
    for instruction in &file.instructions {
        empty_continuation(instruction, file.escape, source, &mut found);
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
        let is_upper = |text: &str| text.chars().all(|c| c.is_uppercase());
        if is_upper(written) != is_upper(&instruction.keyword) {
            let start = from.image.span.end + at;
            let message = format!("`{written}` and `{}` keywords' casing do not match", instruction.keyword);
            found.push(Diagnostic::warning("FromAsCasing", Span::new(start, start + 2), message));
        }
    }
}

/// MultipleInstructionsDisallowed and JSONArgsRecommended, which go by stage.
fn repeated(file: &Dockerfile, found: &mut Vec<Diagnostic>) {
    let mut shell = false;
    let mut last: HashMap<&str, &Instruction> = HashMap::new();
    for instruction in &file.instructions {
        match &instruction.kind {
            Kind::From(_) => {
                shell = false;
                last.clear();
            }
            Kind::Shell(_) => shell = true,
            Kind::Cmd(line) | Kind::Entrypoint(line) if !shell => {
                if matches!(line, CommandLine::Shell(_)) {
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
}
