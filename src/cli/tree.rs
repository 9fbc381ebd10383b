//! A Dockerfile's tree as JSON. The schema is in `docs/parse-json.md`.
//!
//! Not here: the command (`parse`).

use std::borrow::Cow;

use serde::Serialize;

use super::json::Lines;
use crate::dockerfile::Parsed;
use crate::dockerfile::ast::{CommandLine, Healthcheck, Heredoc, Instruction, Kind, TransferSource, Word};

/// The whole of it. Here and below, fields are in the order of their names.
#[derive(Debug, Serialize)]
pub struct Tree<'a> {
    directives: Vec<DirectiveNode<'a>>,
    escape: char,
    instructions: Vec<InstructionNode<'a>>,
    warnings: Vec<Warning<'a>>,
}

#[derive(Debug, Serialize)]
struct DirectiveNode<'a> {
    line: usize,
    name: &'a str,
    value: &'a str,
}

#[derive(Debug, Serialize)]
struct Warning<'a> {
    code: &'a str,
    line: Option<usize>,
    message: &'a str,
}

#[derive(Debug, Serialize)]
struct InstructionNode<'a> {
    arguments: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    comments: &'a [String],
    flags: Vec<FlagNode<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    heredocs: Vec<HeredocNode<'a>>,
    /// What ONBUILD is followed by.
    #[serde(skip_serializing_if = "Option::is_none")]
    instruction: Option<Box<InstructionNode<'a>>>,
    json: bool,
    keyword: &'a str,
    lines: [usize; 2],
    name: String,
    words: Vec<Cow<'a, str>>,
}

#[derive(Debug, Serialize)]
struct FlagNode<'a> {
    name: &'a str,
    value: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HeredocNode<'a> {
    body: &'a str,
    descriptor: Option<u32>,
    expand: bool,
    name: &'a str,
    strip_tabs: bool,
}

/// Makes the tree of a file that has no errors.
pub fn tree(parsed: &Parsed) -> Tree<'_> {
    let lines = Lines::new(&parsed.source);
    let line = |at: usize| lines.place(at).line;
    Tree {
        directives: parsed
            .file
            .directives
            .iter()
            .map(|d| DirectiveNode { line: line(d.span.start), name: &d.name, value: &d.value })
            .collect(),
        escape: parsed.file.escape,
        instructions: parsed.file.instructions.iter().map(instruction).collect(),
        warnings: parsed
            .diagnostics
            .iter()
            .map(|d| Warning { code: d.code, line: d.span.map(|span| line(span.start)), message: &d.message })
            .collect(),
    }
}

fn instruction(instruction: &Instruction) -> InstructionNode<'_> {
    let inner = match &instruction.kind {
        Kind::Onbuild(inner) => Some(Box::new(self::instruction(inner))),
        _ => None,
    };
    let heredocs = match inner {
        // They are told there.
        Some(_) => Vec::new(),
        None => instruction.heredocs().into_iter().map(heredoc).collect(),
    };
    InstructionNode {
        arguments: instruction.arguments(),
        comments: &instruction.comments,
        flags: instruction
            .flags
            .iter()
            .map(|flag| FlagNode {
                name: &flag.name,
                value: flag.value.as_ref().map(|word| word.text.as_str()),
            })
            .collect(),
        heredocs,
        instruction: inner,
        json: instruction.is_json(),
        keyword: &instruction.keyword,
        lines: [instruction.lines.0, instruction.lines.1],
        name: instruction.keyword.to_lowercase(),
        words: words(instruction),
    }
}

fn heredoc(heredoc: &Heredoc) -> HeredocNode<'_> {
    HeredocNode {
        body: &heredoc.body,
        descriptor: heredoc.descriptor,
        expand: heredoc.expand,
        name: &heredoc.name,
        strip_tabs: heredoc.strip_tabs,
    }
}

/// Returns the arguments one by one: unexpanded, with their quotes unless they were JSON.
fn words(instruction: &Instruction) -> Vec<Cow<'_, str>> {
    match &instruction.kind {
        Kind::From(from) => {
            let name = from.name.iter().flat_map(|name| ["AS", &name.text]);
            std::iter::once(from.image.text.as_str()).chain(name).map(Cow::Borrowed).collect()
        }
        Kind::Arg(definitions) => definitions
            .iter()
            .map(|definition| match &definition.default {
                Some(default) => Cow::Owned(format!("{}={}", definition.name, default.text)),
                None => Cow::Borrowed(definition.name.as_str()),
            })
            .collect(),
        Kind::Env(pairs) | Kind::Label(pairs) => {
            pairs.iter().flat_map(|pair| [&pair.key, &pair.value]).map(text).collect()
        }
        Kind::Run(run) => line(&run.command),
        Kind::Cmd(command) | Kind::Entrypoint(command) => line(command),
        Kind::Copy(transfer) | Kind::Add(transfer) => {
            let source = transfer.sources.iter().map(|source| match source {
                TransferSource::Path(word) => text(word),
                TransferSource::Heredoc(heredoc) => Cow::Owned(format!("<<{}", heredoc.name)),
            });
            source.chain([text(&transfer.destination)]).collect()
        }
        Kind::Workdir(word) | Kind::User(word) | Kind::Stopsignal(word) => vec![text(word)],
        Kind::Expose(words) | Kind::Volume(words) => words.iter().map(text).collect(),
        Kind::Shell(words) => strings(words),
        Kind::Healthcheck(Healthcheck::None) => vec![Cow::Borrowed("NONE")],
        Kind::Healthcheck(Healthcheck::Command { command, .. }) => {
            [vec![Cow::Borrowed("CMD")], line(command)].concat()
        }
        Kind::Maintainer(name) => vec![Cow::Borrowed(name.as_str())],
        Kind::Onbuild(_) | Kind::Invalid => Vec::new(),
    }
}

fn text(word: &Word) -> Cow<'_, str> {
    Cow::Borrowed(&word.text)
}

fn strings(words: &[String]) -> Vec<Cow<'_, str>> {
    words.iter().map(|word| Cow::Borrowed(word.as_str())).collect()
}

fn line(command: &CommandLine) -> Vec<Cow<'_, str>> {
    match command {
        CommandLine::Shell(text) if text.is_empty() => Vec::new(),
        CommandLine::Shell(text) => vec![Cow::Borrowed(text.as_str())],
        CommandLine::Exec(words) => strings(words),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::dockerfile::parse;

    fn json_of(text: &str) -> Value {
        let parsed = parse(text.as_bytes());
        assert!(!parsed.has_errors(), "{text}: {:?}", parsed.diagnostics);
        serde_json::to_value(tree(&parsed)).unwrap()
    }

    #[test]
    fn words_of_each_instruction() {
        let check = |text: &str, expect: &[&str], is_json: bool| {
            let found = &json_of(&format!("FROM x\n{text}\n"))["instructions"][1];
            assert_eq!((&found["words"], &found["json"]), (&json!(expect), &json!(is_json)), "{text}");
        };
        check("FROM a AS b", &["a", "AS", "b"], false);
        check("ARG a b='c d'", &["a", "b='c d'"], false);
        check("ENV a=1 b=\"2\"", &["a", "1", "b", "\"2\""], false);
        check("ENV a b  c", &["a", "b  c"], false);
        check("RUN --network=none a  b", &["a  b"], false);
        check("RUN [\"a\", \"b c\"]", &["a", "b c"], true);
        check("RUN [ a ]", &["[ a ]"], false);
        check("CMD []", &[], true);
        check("COPY --chown=1 a b/ c/", &["a", "b/", "c/"], false);
        check("ADD [\"a b\", \"c\"]", &["a b", "c"], true);
        check("EXPOSE 1 2/udp", &["1", "2/udp"], false);
        check("VOLUME [\"/a\"]", &["/a"], true);
        check("VOLUME /a /b", &["/a", "/b"], false);
        check("SHELL [\"a\"]", &["a"], true);
        check("HEALTHCHECK NONE", &["NONE"], false);
        check("HEALTHCHECK CMD a b", &["CMD", "a b"], false);
        check("HEALTHCHECK CMD [\"a\", \"b\"]", &["CMD", "a", "b"], true);
        check("USER a", &["a"], false);
        check("MAINTAINER a b", &["a b"], false);
    }

    #[test]
    fn what_belongs_to_an_instruction() {
        let source = "# syntax=docker/dockerfile:1\n# escape=`\nFROM a\n# note\nONBUILD COPY --link <<-'E' b`\n /c\n\t$x\nE\n";
        let found = json_of(source);
        assert_eq!(found["escape"], "`");
        assert_eq!(found["directives"][1], json!({"name": "escape", "value": "`", "line": 2}));
        let outer = &found["instructions"][1];
        assert_eq!((&outer["name"], &outer["lines"]), (&json!("onbuild"), &json!([5, 8])));
        assert_eq!((&outer["comments"], &outer["heredocs"]), (&json!(["note"]), &Value::Null));
        let inner = &outer["instruction"];
        assert_eq!((&inner["name"], &inner["words"]), (&json!("copy"), &json!(["<<E", "b", "/c"])));
        assert_eq!(inner["flags"], json!([{"name": "link", "value": null}]));
        assert_eq!(inner["arguments"], "<<-'E' b /c");
        let heredoc =
            json!({"name": "E", "expand": false, "stripTabs": true, "descriptor": null, "body": "$x\n"});
        assert_eq!(inner["heredocs"], json!([heredoc]));
    }
}
