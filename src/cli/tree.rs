//! A Dockerfile's tree as JSON. The schema is in `docs/parse-json.md`.
//!
//! Not here: the command (`parse`).

use serde_json::{Value, json};

use crate::dockerfile::Parsed;
use crate::dockerfile::ast::{CommandLine, Healthcheck, Heredoc, Instruction, Kind, TransferSource, Word};
use crate::report::Diagnostic;

/// Makes the JSON of a file that has no errors.
pub fn tree(parsed: &Parsed) -> Value {
    let line = |at: usize| 1 + parsed.source[..at].matches('\n').count();
    let directive = |d: &crate::dockerfile::ast::Directive| json!({"name": d.name, "value": d.value, "line": line(d.span.start)});
    let warning = |d: &Diagnostic| json!({"line": d.span.map(|span| line(span.start)), "code": d.code, "message": d.message});
    json!({
        "escape": parsed.file.escape.to_string(),
        "directives": parsed.file.directives.iter().map(directive).collect::<Vec<_>>(),
        "instructions": parsed.file.instructions.iter().map(instruction).collect::<Vec<_>>(),
        "warnings": parsed.diagnostics.iter().map(warning).collect::<Vec<_>>(),
    })
}

fn instruction(instruction: &Instruction) -> Value {
    let flag = |flag: &crate::dockerfile::ast::Flag| json!({"name": flag.name, "value": flag.value.as_ref().map(|word| &word.text)});
    let mut value = json!({
        "name": instruction.keyword.to_lowercase(),
        "keyword": instruction.keyword,
        "lines": [instruction.lines.0, instruction.lines.1],
        "flags": instruction.flags.iter().map(flag).collect::<Vec<_>>(),
        "arguments": instruction.arguments(),
        "json": instruction.is_json(),
        "words": words(instruction),
    });
    if !instruction.comments.is_empty() {
        value["comments"] = json!(instruction.comments);
    }
    if let Kind::Onbuild(inner) = &instruction.kind {
        // Its heredocs are told there.
        value["instruction"] = self::instruction(inner);
        return value;
    }
    let heredocs: Vec<Value> = instruction.heredocs().into_iter().map(heredoc).collect();
    if !heredocs.is_empty() {
        value["heredocs"] = Value::Array(heredocs);
    }
    value
}

fn heredoc(heredoc: &Heredoc) -> Value {
    json!({
        "name": heredoc.name,
        "expand": heredoc.expand,
        "stripTabs": heredoc.strip_tabs,
        "descriptor": heredoc.descriptor,
        "body": heredoc.body,
    })
}

/// Returns the arguments one by one: unexpanded, with their quotes unless they were JSON.
fn words(instruction: &Instruction) -> Vec<String> {
    let texts = |words: &[Word]| words.iter().map(|word| word.text.clone()).collect();
    let line = |command: &CommandLine| match command {
        CommandLine::Shell(text) if text.is_empty() => Vec::new(),
        CommandLine::Shell(text) => vec![text.clone()],
        CommandLine::Exec(words) => words.clone(),
    };
    match &instruction.kind {
        Kind::From(from) => {
            let mut words = vec![from.image.text.clone()];
            if let Some(name) = &from.name {
                words.extend(["AS".to_owned(), name.text.clone()]);
            }
            words
        }
        Kind::Arg(definitions) => definitions
            .iter()
            .map(|definition| match &definition.default {
                Some(default) => format!("{}={}", definition.name, default.text),
                None => definition.name.clone(),
            })
            .collect(),
        Kind::Env(pairs) | Kind::Label(pairs) => {
            pairs.iter().flat_map(|pair| [pair.key.text.clone(), pair.value.text.clone()]).collect()
        }
        Kind::Run(run) => line(&run.command),
        Kind::Cmd(command) | Kind::Entrypoint(command) => line(command),
        Kind::Copy(transfer) | Kind::Add(transfer) => {
            let source = |source: &TransferSource| match source {
                TransferSource::Path(word) => word.text.clone(),
                TransferSource::Heredoc(heredoc) => format!("<<{}", heredoc.name),
            };
            let sources = transfer.sources.iter().map(source);
            sources.chain([transfer.destination.text.clone()]).collect()
        }
        Kind::Workdir(word) | Kind::User(word) | Kind::Stopsignal(word) => vec![word.text.clone()],
        Kind::Expose(words) | Kind::Volume(words) => texts(words),
        Kind::Shell(words) => words.clone(),
        Kind::Healthcheck(Healthcheck::None) => vec!["NONE".to_owned()],
        Kind::Healthcheck(Healthcheck::Command { command, .. }) => {
            [vec!["CMD".to_owned()], line(command)].concat()
        }
        Kind::Maintainer(name) => vec![name.clone()],
        Kind::Onbuild(_) | Kind::Invalid => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse;

    #[test]
    fn words_of_each_instruction() {
        let check = |text: &str, expect: &[&str], is_json: bool| {
            let parsed = parse(format!("FROM x\n{text}\n").as_bytes());
            assert!(!parsed.has_errors(), "{text}: {:?}", parsed.diagnostics);
            let found = &tree(&parsed)["instructions"][1];
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
        let found = tree(&parse(source.as_bytes()));
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
