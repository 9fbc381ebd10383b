//! The corpus of Dockerfiles: each with its expected tree or its expected errors.
//!
//! `testdata/dockerfiles/ok/x.dockerfile` has `x.tree` beside it, `err/x.dockerfile`
//! has `x.err`. Run with `UPDATE=1` to write what the parser gives now, and read the
//! difference before committing it.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rbuild::dockerfile::ast::{
    CommandLine, Healthcheck, Heredoc, Instruction, Kind, Pair, Transfer, TransferSource, Word,
};
use rbuild::dockerfile::{Parsed, lint, parse};
use rbuild::report::excerpt;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/dockerfiles").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "dockerfile"))
        .collect();
    files.sort();
    assert!(files.len() > 10, "{} is nearly empty", folder.display());
    files
}

/// Compares with the file next to `path`, or rewrites that.
fn compare(path: &Path, extension: &str, found: &str) {
    let expected = path.with_extension(extension);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&expected, found).unwrap();
    }
    let text = std::fs::read_to_string(&expected).unwrap_or_default();
    assert_eq!(found, text, "{} differs; run with UPDATE=1 to accept", expected.display());
}

#[test]
fn trees() {
    for path in files("ok") {
        let parsed = parse(&std::fs::read(&path).unwrap());
        assert!(!parsed.has_errors(), "{}: {:?}", path.display(), parsed.diagnostics);
        let mut found = tree(&parsed);
        for warning in parsed.diagnostics.iter().chain(&lint(&parsed.file, &parsed.source)) {
            let line = warning.span.map_or(0, |span| span.line(&parsed.source));
            writeln!(found, "warning {line}: {}: {}", warning.code, warning.message).unwrap();
        }
        compare(&path, "tree", &found);
    }
}

#[test]
fn errors() {
    for path in files("err") {
        let parsed = parse(&std::fs::read(&path).unwrap());
        assert!(parsed.has_errors(), "{} has no error", path.display());
        let found: Vec<String> = parsed
            .diagnostics
            .iter()
            .map(|problem| excerpt::render(problem, "Dockerfile", &parsed.source, false) + "\n")
            .collect();
        compare(&path, "err", &found.join("\n"));
    }
}

/// A compact dump: one line per instruction, one more indented per part.
fn tree(parsed: &Parsed) -> String {
    let mut out = String::new();
    for directive in &parsed.file.directives {
        writeln!(out, "directive {} = {}", directive.name, directive.value).unwrap();
    }
    for instruction in &parsed.file.instructions {
        node(&mut out, instruction, 0);
    }
    out
}

fn node(out: &mut String, instruction: &Instruction, indent: usize) {
    let pad = " ".repeat(indent);
    let (first, last) = instruction.lines;
    let lines = if first == last { first.to_string() } else { format!("{first}-{last}") };
    writeln!(out, "{pad}{lines} {}", instruction.kind.keyword().unwrap_or("INVALID")).unwrap();
    let mut part = |name: &str, text: String| writeln!(out, "{pad}  {name} {text}").unwrap();
    for comment in &instruction.comments {
        part("comment", format!("{comment:?}"));
    }
    for flag in &instruction.flags {
        let value = flag.value.as_ref().map_or(String::new(), |value| format!("={:?}", value.text));
        part("flag", format!("{}{value}", flag.name));
    }
    match &instruction.kind {
        Kind::From(from) => {
            part("image", quoted(&from.image));
            from.name.iter().for_each(|name| part("as", quoted(name)));
        }
        Kind::Arg(definitions) => {
            for definition in definitions {
                let default =
                    definition.default.as_ref().map_or(String::new(), |d| format!(" = {}", quoted(d)));
                part("name", format!("{}{default}", definition.name));
            }
        }
        Kind::Env(pairs) | Kind::Label(pairs) => pairs.iter().for_each(|pair| part("pair", pair_text(pair))),
        Kind::Run(run) => {
            part("command", command(&run.command));
            run.heredocs.iter().for_each(|heredoc| part("heredoc", heredoc_text(heredoc)));
        }
        Kind::Copy(transfer) | Kind::Add(transfer) => transfer_parts(transfer, &mut part),
        Kind::Workdir(word) | Kind::User(word) | Kind::Stopsignal(word) => part("word", quoted(word)),
        Kind::Cmd(line) | Kind::Entrypoint(line) => part("command", command(line)),
        Kind::Expose(words) | Kind::Volume(words) => words.iter().for_each(|word| part("word", quoted(word))),
        Kind::Shell(words) => part("command", format!("{words:?}")),
        Kind::Healthcheck(Healthcheck::None) => part("none", String::new()),
        Kind::Healthcheck(Healthcheck::Command { command: line, .. }) => part("command", command(line)),
        Kind::Onbuild(inner) => node(out, inner, indent + 2),
        Kind::Maintainer(name) => part("name", format!("{name:?}")),
        Kind::Invalid => {}
    }
}

fn quoted(word: &Word) -> String {
    format!("{:?}", word.text)
}

fn pair_text(pair: &Pair) -> String {
    let form = if pair.legacy { " legacy" } else { "" };
    format!("{} = {}{form}", quoted(&pair.key), quoted(&pair.value))
}

fn command(line: &CommandLine) -> String {
    match line {
        CommandLine::Shell(text) => format!("shell {text:?}"),
        CommandLine::Exec(words) => format!("exec {words:?}"),
    }
}

fn heredoc_text(heredoc: &Heredoc) -> String {
    let mut text = heredoc.name.clone();
    if let Some(descriptor) = heredoc.descriptor {
        write!(text, " descriptor {descriptor}").unwrap();
    }
    text += if heredoc.strip_tabs { " strip-tabs" } else { "" };
    text += if heredoc.expand { "" } else { " literal" };
    format!("{text} {:?}", heredoc.body)
}

fn transfer_parts(transfer: &Transfer, part: &mut dyn FnMut(&str, String)) {
    for source in &transfer.sources {
        match source {
            TransferSource::Path(word) => part("source", quoted(word)),
            TransferSource::Heredoc(heredoc) => part("heredoc", heredoc_text(heredoc)),
        }
    }
    part("destination", quoted(&transfer.destination));
    if transfer.json {
        part("json", String::new());
    }
}
