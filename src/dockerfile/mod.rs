//! Bytes to tree: directives, lines, heredocs, words, instructions.
//!
//! Pure, and never fails: [`parse`] gives a tree of what it understood and
//! diagnostics for the rest. Not here: what the tree means (`plan`).
//!
//! The way through the files: `source` (bytes to text), `directive` (the first
//! comments), `lines` (continuations joined, offsets kept), `heredoc` (bodies),
//! `flags` and `words` (pieces of a line), `instruction` (one function per
//! instruction). Beside it: `expand` (variables and quotes in a word, for `plan`),
//! `lint` (checks that need only the tree), `rules` (all checks by name) and
//! `check_options` (which of them a file wants). The language itself is written
//! down in `grammar/`.

pub mod ast;
pub mod check_options;
mod directive;
pub mod expand;
mod flags;
mod heredoc;
mod instruction;
mod lines;
mod lint;
pub mod rules;
mod source;
mod suggest;
mod words;

use std::sync::Arc;

use crate::report::{Diagnostic, Span};

use ast::{Dockerfile, Instruction, Kind};
use instruction::Place;
use lines::{Item, Lines};

pub use lint::lint;
pub use suggest::{did_you_mean, nearest};

/// After this many errors the rest is not reported: the file is something else.
const MAX_ERRORS: usize = 50;

/// What [`parse`] gives.
#[derive(Debug, Clone)]
pub struct Parsed {
    pub file: Dockerfile,
    /// The text all spans point into: the input without its byte order mark, bytes
    /// that are no UTF-8 replaced.
    pub source: Arc<str>,
    /// In the order of the file. With an error among them the tree is incomplete.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// Tells whether any diagnostic is an error.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// Parses a Dockerfile.
///
/// Never fails and never panics, whatever the bytes; instructions that could not be
/// understood are [`Kind::Invalid`] and have an error among the diagnostics.
///
/// Grammar: dockerfile
pub fn parse(bytes: &[u8]) -> Parsed {
    parse_as(bytes, None)
}

/// Parses a Dockerfile for which the build argument BUILDKIT_SYNTAX names a frontend: then
/// what the file itself names does not count.
pub fn parse_as(bytes: &[u8], frontend: Option<&str>) -> Parsed {
    let decoded = source::decode(bytes);
    let mut parsed = Parsed {
        file: Dockerfile { directives: Vec::new(), escape: '\\', instructions: Vec::new() },
        source: decoded.text,
        diagnostics: Vec::new(),
    };
    let source = parsed.source.clone();
    if let Some(problem) = source::refuse(&source) {
        parsed.diagnostics.push(problem);
        return parsed;
    }

    let head = directive::directives(&source, frontend);
    parsed.diagnostics.extend(head.diagnostics);
    let foreign = head.foreign;
    parsed.file.directives = head.directives;
    parsed.file.escape = head.escape;
    if foreign {
        return parsed;
    }

    let mut lines = Lines::new(&source, head.end);
    read_instructions(&mut lines, &mut parsed);
    // Bad bytes in comments hurt nobody. Instructions are sorted, so that many of both
    // take no quadratic time.
    let instructions = &parsed.file.instructions;
    let inside = |span: &Span| {
        let next = instructions.partition_point(|i| i.span.end <= span.start);
        instructions.get(next).is_some_and(|i| i.span.start <= span.start)
    };
    if let Some(span) = decoded.replaced.into_iter().find(inside) {
        parsed.diagnostics.push(
            Diagnostic::error("invalid-utf8", span, "the text is not valid UTF-8")
                .with_hint("save the file as UTF-8"),
        );
    }
    check_order(&mut parsed);
    parsed.diagnostics.sort_by_key(|problem| problem.span);
    limit_errors(&mut parsed.diagnostics);
    parsed
}

/// Parses one instruction from an image's `OnBuild` list.
///
/// Its spans point into `text`. Directives are not read: the escape character is `\`.
pub fn parse_onbuild(text: &str) -> Result<Instruction, Diagnostic> {
    let mut parsed = Parsed {
        file: Dockerfile { directives: Vec::new(), escape: '\\', instructions: Vec::new() },
        source: Arc::from(text),
        diagnostics: Vec::new(),
    };
    let whole = Span::new(0, text.len());
    read_instructions(&mut Lines::new(text, 0), &mut parsed);
    if let Some(error) = parsed.diagnostics.into_iter().find(Diagnostic::is_error) {
        return Err(error);
    }
    let mut instructions = parsed.file.instructions;
    match (instructions.pop(), instructions.is_empty()) {
        (Some(instruction), true) => {
            instruction::check_trigger(&instruction)?;
            Ok(instruction)
        }
        _ => Err(Diagnostic::error("onbuild", whole, "an ONBUILD trigger has to be exactly one instruction")),
    }
}

/// Reads instructions until the end, comments going to the instruction below them.
fn read_instructions(lines: &mut Lines<'_>, parsed: &mut Parsed) {
    let escape = parsed.file.escape;
    let mut comments: Vec<String> = Vec::new();
    while let Some(item) = lines.next_item(escape) {
        let line = match item {
            Item::Blank => {
                comments.clear();
                continue;
            }
            Item::Comment(text) => {
                comments.push(text.to_owned());
                continue;
            }
            Item::Line(line) => line,
        };
        let (heredocs, end) = heredoc::bodies(&line, lines, &mut parsed.diagnostics);
        let place = Place { line: &line, escape, end, last_line: lines.number() };
        let mut instruction = instruction::instruction(&place, heredocs, &mut parsed.diagnostics);
        instruction.comments = std::mem::take(&mut comments);
        parsed.file.instructions.push(instruction);
        // Errors and warnings are rare in a file that goes on, so counting them is cheap.
        if parsed.diagnostics.len() > MAX_ERRORS
            && parsed.diagnostics.iter().filter(|d| d.is_error()).count() > MAX_ERRORS
        {
            return;
        }
    }
}

/// Checks that there is a stage and that nothing but ARG stands before it.
fn check_order(parsed: &mut Parsed) {
    let whole = Span::new(0, 0);
    let instructions = &parsed.file.instructions;
    if instructions.is_empty() {
        let message = if parsed.source.trim().is_empty() {
            "the Dockerfile cannot be empty"
        } else {
            "file with no instructions"
        };
        let mut problem =
            Diagnostic::error("empty", whole, message).with_hint("begin with `FROM` and a base image");
        problem.span = None;
        parsed.diagnostics.push(problem);
        return;
    }
    let first = instructions.iter().find(|i| !matches!(i.kind, Kind::Arg(_)));
    match first {
        Some(Instruction { kind: Kind::From(_) | Kind::Invalid, .. }) => {}
        Some(other) => parsed.diagnostics.push(
            Diagnostic::error(
                "no-stage",
                other.keyword_span,
                format!("no build stage in current context: `{}` before the first FROM", other.keyword),
            )
            .with_hint("only ARG may stand before the first FROM"),
        ),
        None => {
            let last = instructions.last().map_or(whole, |i| i.span);
            parsed.diagnostics.push(
                Diagnostic::error("no-stage", last, "dockerfile contains no stages to build")
                    .with_hint("add a `FROM` line"),
            );
        }
    }
}

/// Drops what comes after the first [`MAX_ERRORS`] errors, and says so.
fn limit_errors(diagnostics: &mut Vec<Diagnostic>) {
    let mut errors = 0;
    let kept = diagnostics.iter().position(|d| {
        errors += usize::from(d.is_error());
        errors > MAX_ERRORS
    });
    if let Some(kept) = kept {
        let span = diagnostics[kept].span.unwrap_or_default();
        diagnostics.truncate(kept);
        diagnostics.push(Diagnostic::error(
            "too-many-errors",
            span,
            format!("more than {MAX_ERRORS} errors; is this a Dockerfile?"),
        ));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn messages(text: &str) -> Vec<String> {
        parse(text.as_bytes()).diagnostics.into_iter().map(|d| d.message).collect()
    }

    /// Every span lies in the text, at character boundaries.
    fn check_spans(parsed: &Parsed) {
        let check = |span: Span| {
            assert!(span.start <= span.end, "{span:?}");
            assert!(parsed.source.get(span.start..span.end).is_some(), "{span:?} of {}", parsed.source.len());
        };
        parsed.diagnostics.iter().filter_map(|d| d.span).for_each(check);
        for instruction in &parsed.file.instructions {
            check(instruction.span);
            check(instruction.keyword_span);
            instruction.flags.iter().for_each(|flag| check(flag.span));
            instruction.heredocs().into_iter().for_each(|heredoc| check(heredoc.span));
            let line = instruction.span.line(&parsed.source);
            assert!(instruction.lines.0 <= line && line <= instruction.lines.1);
        }
    }

    #[test]
    fn orders() {
        let check = |text: &str, expect: &[&str]| assert_eq!(messages(text), expect, "{text:?}");
        check("", &["the Dockerfile cannot be empty"]);
        check(" \n\n", &["the Dockerfile cannot be empty"]);
        check("# only\n", &["file with no instructions"]);
        check("ARG a\n", &["dockerfile contains no stages to build"]);
        check("RUN a\nFROM b", &["no build stage in current context: `RUN` before the first FROM"]);
        check("ARG a\nFROM b\nRUN c", &[]);
        check("FROM a\0b", &["the file contains a NUL byte"]);
        check("RUNX a\nRUN b", &["unknown instruction: RUNX (did you mean RUN?)"]);
    }

    #[test]
    fn bad_bytes_matter_only_in_instructions() {
        assert_eq!(parse(b"# caf\xe9\nFROM a").diagnostics, []);
        let parsed = parse(b"FROM a\nRUN caf\xe9\nRUN \xe9");
        assert_eq!(parsed.diagnostics.len(), 1);
        assert_eq!(parsed.diagnostics[0].span.map(|span| span.line(&parsed.source)), Some(2));
    }

    #[test]
    fn stops_reporting() {
        let found = messages(&"nonsense\n".repeat(1000));
        assert_eq!(found.len(), MAX_ERRORS + 1);
        assert_eq!(found[MAX_ERRORS], "more than 50 errors; is this a Dockerfile?");
    }

    #[test]
    fn has_no_line_limit() {
        let parsed = parse(format!("FROM a\nRUN {}", "x".repeat(1 << 20)).as_bytes());
        assert_eq!(parsed.diagnostics, []);
        let lines = format!("FROM a\nRUN x{}", " \\\n  y".repeat(20_000));
        let parsed = parse(lines.as_bytes());
        assert_eq!(parsed.file.instructions[1].lines, (2, 20_002));
    }

    #[test]
    fn comments_above_describe() {
        let text = "# a is this\n# Build that\nARG a b\n# note\n# build  makes it\nFROM x AS Build\n# Build no\n\nFROM y AS build\n";
        let instructions = parse(text.as_bytes()).file.instructions;
        let check = |at: usize, name: &str, expect: Option<&str>| {
            assert_eq!(instructions[at].description(name), expect, "{at} {name}");
        };
        check(0, "a", Some("is this"));
        check(0, "b", None);
        check(0, "A", None);
        check(1, "Build", Some("makes it"));
        check(2, "build", None);
    }

    #[test]
    fn reads_triggers() {
        let check = |text: &str, expect: Result<&str, &str>| {
            let found = parse_onbuild(text).map(|i| i.text()).map_err(|d| d.message);
            assert_eq!(found, expect.map(str::to_owned).map_err(str::to_owned), "{text:?}");
        };
        check("RUN a", Ok("RUN a"));
        check("COPY <<E <<F /x\n1\nE\n2\nF", Ok("COPY <<E <<F /x\n1\nE\n2\nF"));
        check("RUN a\nRUN b", Err("an ONBUILD trigger has to be exactly one instruction"));
        check("", Err("an ONBUILD trigger has to be exactly one instruction"));
        check("FROM a", Err("FROM isn't allowed as an ONBUILD trigger"));
        check("onbuild RUN a", Err("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"));
        check("RUX a", Err("unknown instruction: RUX (did you mean RUN?)"));
    }

    #[test]
    fn triggers_survive_the_way_through_an_image() {
        let text = "FROM a\nONBUILD RUN --mount=type=cache,target=/c x \\\n  y <<-E\n\tbody\n\tE\n";
        let parsed = parse(text.as_bytes());
        let Kind::Onbuild(inner) = &parsed.file.instructions[1].kind else { panic!("no ONBUILD") };
        let again = parse_onbuild(&inner.text()).unwrap();
        let (Kind::Run(first), Kind::Run(second)) = (&inner.kind, &again.kind) else { panic!("no RUN") };
        assert_eq!((&first.command, &first.heredocs[0].body), (&second.command, &second.heredocs[0].body));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            check_spans(&parse(&bytes));
        }

        #[test]
        fn any_text(
            lines in proptest::collection::vec(
                "(FROM|RUN|COPY|ADD|ENV|ARG|onbuild|CMD|HEALTHCHECK|LABEL|#|EOF|[a-z]*|# escape=`)\
                 [ \t]{0,2}[-a-zé=\"'\\[\\]<>`$\\\\, EOF\t]{0,20}(\\\\|`|\r)?",
                0..12,
            )
        ) {
            let text = lines.join("\n");
            check_spans(&parse(text.as_bytes()));
            let _ = parse_onbuild(&text);
        }
    }
}
