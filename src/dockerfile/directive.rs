//! Parser directives: `# syntax=`, `# escape=`, `# check=` at the top of a file.
//!
//! Only before anything else; the first line that is no known directive ends them.
//! Not here: what a check directive says (`check_options`).

use nom::IResult;
use nom::Parser;
use nom::bytes::complete::take_while;
use nom::character::complete::{alpha1, alphanumeric0, char, multispace0};
use nom::combinator::{recognize, rest};
use nom::sequence::{pair, preceded, separated_pair};

use crate::report::{Diagnostic, Span};

use super::ast::Directive;
use super::check_options::CheckOptions;
use super::lines::Lines;

/// What stands at the top of a file.
#[derive(Debug)]
pub(super) struct Head {
    pub directives: Vec<Directive>,
    pub escape: char,
    /// Where the rest begins.
    pub end: usize,
    pub diagnostics: Vec<Diagnostic>,
    /// Whether the file asks for a language other than the Dockerfile's; an error says so.
    pub foreign: bool,
}

/// Reads the directives.
///
/// Grammar: directives
///
/// A `frontend` named outside of the file overrides the file's own.
pub(super) fn directives(source: &str, frontend: Option<&str>) -> Head {
    let mut head =
        Head { directives: Vec::new(), escape: '\\', end: 0, diagnostics: Vec::new(), foreign: false };
    let frontend = frontend.map(str::trim).filter(|name| !name.is_empty());
    if let Some(name) = frontend
        && !is_dockerfile_frontend(name)
    {
        head.refuse(name, None);
    } else if let (Some(syntax), None) = (other_syntax(source), frontend) {
        head.frontend(&syntax, Span::new(0, source.find('\n').unwrap_or(source.len())));
    }
    let mut lines = Lines::new(source, 0);
    if source.starts_with("#!")
        && let Some(line) = lines.next_physical()
    {
        head.end = line.start + line.whole.len();
    }
    while let Some(line) = lines.next_physical() {
        let Some((name, value)) = directive(line.text) else { break };
        let span = Span::new(line.start, line.start + line.text.len());
        if !matches!(name.as_str(), "syntax" | "escape" | "check") {
            break;
        }
        head.end = line.start + line.whole.len();
        if head.directives.iter().any(|known| known.name == name) {
            let message = format!("only one {name} parser directive can be used");
            head.diagnostics.push(Diagnostic::error("duplicate-directive", span, message));
            continue;
        }
        match name.as_str() {
            "escape" => head.escape(value, span),
            "syntax" if frontend.is_none() => head.frontend(value, span),
            "syntax" => {}
            _ => head.check(value, span),
        }
        head.directives.push(Directive { name, value: value.to_owned(), span });
    }
    head
}

/// Reads `# name = value`; the name is given in lower case.
///
/// Grammar: known_directive
fn directive(line: &str) -> Option<(String, &str)> {
    let spaces = || take_while(char::is_whitespace);
    let name = recognize(pair(alpha1, alphanumeric0));
    let mut whole = preceded(
        (multispace0, char('#'), spaces()),
        separated_pair(name, (spaces(), char('='), spaces()), rest),
    );
    let parsed: IResult<&str, (&str, &str)> = whole.parse(line);
    let (_, (name, value)) = parsed.ok()?;
    let value = value.trim_end();
    if value.is_empty() { None } else { Some((name.to_ascii_lowercase(), value)) }
}

impl Head {
    fn escape(&mut self, value: &str, span: Span) {
        match value {
            "\\" => self.escape = '\\',
            "`" => self.escape = '`',
            _ => self.diagnostics.push(
                Diagnostic::error(
                    "bad-directive",
                    span,
                    format!("invalid escape token `{value}`: it does not match ` or \\"),
                )
                .with_hint("write `# escape=\\` or `# escape=` with a backtick"),
            ),
        }
    }

    /// Refuses a frontend that reads another language.
    fn frontend(&mut self, value: &str, span: Span) {
        let image = value.split_whitespace().next().unwrap_or(value);
        if !is_dockerfile_frontend(image) {
            self.refuse(image, Some(span));
        }
    }

    fn refuse(&mut self, image: &str, span: Option<Span>) {
        self.foreign = true;
        let hint = match span {
            Some(_) => "remove the line if this is a plain Dockerfile, or name `docker/dockerfile:1`",
            None => "leave the build argument BUILDKIT_SYNTAX out, or set it to `docker/dockerfile:1`",
        };
        let message = format!("the frontend `{image}` is not supported: rbuild reads Dockerfiles itself");
        let problem = Diagnostic::error("frontend", span.unwrap_or_default(), message).with_hint(hint);
        self.diagnostics.push(Diagnostic { span, ..problem });
    }

    fn check(&mut self, value: &str, span: Span) {
        if let Err(problem) = CheckOptions::parse(value) {
            self.diagnostics.push(
                Diagnostic::error("bad-directive", span, problem)
                    .with_hint("for example `# check=skip=JSONArgsRecommended;error=true`"),
            );
        }
    }
}

/// Tells whether a frontend's image reads the language that rbuild reads: Docker's own,
/// any release, from any registry.
fn is_dockerfile_frontend(image: &str) -> bool {
    let image = image.split('@').next().unwrap_or(image);
    let slash = image.rfind('/').map_or(0, |at| at + 1);
    let tag = image[slash..].find(':').map_or(image.len(), |at| slash + at);
    let name = &image[..tag];
    let known = ["docker/dockerfile", "docker/dockerfile-upstream"];
    name == "dockerfile.v0"
        || known
            .iter()
            .any(|known| name.strip_suffix(known).is_some_and(|p| p.is_empty() || p.ends_with('/')))
}

/// Finds the syntax named in ways that only other languages use: `//syntax=` and JSON.
fn other_syntax(source: &str) -> Option<String> {
    let text = if source.starts_with("#!") { source.split_once('\n')?.1 } else { source };
    if let Some(comment) = text.strip_prefix("//") {
        let line = comment.lines().next().unwrap_or_default();
        let line = format!("#{line}");
        let (name, value) = directive(&line)?;
        return (name == "syntax").then(|| value.to_owned());
    }
    if text.trim_start().starts_with('{') {
        let value: serde_json::Value = serde_json::from_str(text).ok()?;
        return value.get("syntax")?.as_str().map(str::to_owned);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_directives() {
        let check = |source: &str, expect: &[&str], end| {
            let head = directives(source, None);
            let found: Vec<String> =
                head.directives.iter().map(|d| format!("{}={}", d.name, d.value)).collect();
            assert_eq!(found, expect, "{source:?}");
            assert_eq!((head.end, head.diagnostics.len()), (end, 0), "{source:?}");
        };
        check("FROM a", &[], 0);
        check("# escape=`\nFROM a", &["escape=`"], 11);
        check(
            "#  EsCape = ` \r\n#syntax=docker/dockerfile:1\nX",
            &["escape=`", "syntax=docker/dockerfile:1"],
            44,
        );
        check("# a comment\n# escape=`\n", &[], 0);
        check("# unknown=1\n# escape=`\n", &[], 0);
        check("\n# escape=`\n", &[], 0);
        check("#!/usr/bin/env x\n# check=skip=all;error=true\n", &["check=skip=all;error=true"], 45);
        check("# escape=\n", &[], 0);
    }

    #[test]
    fn complains() {
        let check = |source: &str, expect: &str| {
            let head = directives(source, None);
            let found: Vec<&str> = head.diagnostics.iter().map(|d| d.message.as_str()).collect();
            assert!(found.iter().any(|message| message.contains(expect)), "{source:?}: {found:?}");
        };
        check("# escape=x\n", "invalid escape token `x`");
        check("# escape=`\n# escape=`\n", "only one escape parser directive can be used");
        check("# syntax=example/other:1\n", "the frontend `example/other:1` is not supported");
        check("//syntax=example/other\nx", "the frontend `example/other` is not supported");
        check("{\"syntax\": \"example/other\"}", "the frontend `example/other`");
        check("# check=skp=all\n", "unknown option of a check directive: skp (did you mean skip?)");
        check("# check=error=maybe\n", "not true or false");
        check("# check=all\n", "not of the form");
    }

    #[test]
    fn knows_frontends() {
        let check = |image, expect| assert_eq!(is_dockerfile_frontend(image), expect, "{image}");
        check("docker/dockerfile", true);
        check("docker/dockerfile:1.7-labs@sha256:00", true);
        check("docker.io/docker/dockerfile:1", true);
        check("localhost:5000/docker/dockerfile-upstream:master", true);
        check("dockerfile.v0", true);
        check("notdocker/dockerfile", false);
        check("docker/dockerfile2", false);
    }

    #[test]
    fn a_frontend_from_outside_counts_more() {
        let check = |source: &str, frontend: &str, expect: bool| {
            let head = directives(source, Some(frontend));
            assert_eq!(head.foreign, expect, "{source:?} {frontend}");
        };
        check("FROM a", "docker/dockerfile:1", false);
        check("# syntax=example/other\nFROM a", "docker.io/docker/dockerfile:1.10-labs", false);
        check("# syntax=example/other\nFROM a", "dockerfile.v0", false);
        check("//syntax=example/other\nFROM a", "docker/dockerfile-upstream@sha256:00", false);
        check("# syntax=docker/dockerfile:1\nFROM a", "example/other", true);
        check("# syntax=example/other\nFROM a", "", true);
        let head = directives("FROM a", Some("example/other"));
        assert!(head.diagnostics[0].hint.as_ref().unwrap().contains("BUILDKIT_SYNTAX"));
    }
}
