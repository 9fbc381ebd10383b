//! The parser: what holds for any bytes, and that what was written is what is read.

use rbuild::dockerfile::ast::{CommandLine, Instruction, Kind};
use rbuild::dockerfile::{Parsed, expand, lint, parse, parse_onbuild};
use rbuild::report::{Span, excerpt};

use super::choices::Choices;

/// Reads the bytes both as a Dockerfile and as decisions that make instructions.
pub fn check(bytes: &[u8]) {
    any_bytes(bytes);
    let mut choices = Choices::new(bytes);
    pairs(&mut choices);
    json(&mut choices);
    heredocs(&mut choices);
}

fn any_bytes(bytes: &[u8]) {
    let parsed = parse(bytes);
    let findings: Vec<_> =
        parsed.diagnostics.iter().cloned().chain(lint(&parsed.file, &parsed.source)).collect();
    for finding in &findings {
        finding.span.into_iter().for_each(|span| inside(&parsed, span));
        let text = excerpt::render(finding, "Dockerfile", &parsed.source, false);
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    }
    let mut last = 0;
    for instruction in &parsed.file.instructions {
        inside(&parsed, instruction.span);
        inside(&parsed, instruction.keyword_span);
        instruction.flags.iter().for_each(|flag| inside(&parsed, flag.span));
        instruction.heredocs().iter().for_each(|heredoc| inside(&parsed, heredoc.span));
        assert!(instruction.span.start >= last, "instructions overlap at {last}");
        last = instruction.span.end;
        let invalid = matches!(instruction.kind, Kind::Invalid);
        assert!(!invalid || parsed.has_errors(), "an instruction is invalid, and no error says so");
    }
    if !parsed.has_errors() && parsed.file.escape == '\\' {
        parsed.file.instructions.iter().for_each(text_parses_again);
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(trigger) = parse_onbuild(text)
    {
        text_parses_again(&trigger);
    }
}

fn inside(parsed: &Parsed, span: Span) {
    assert!(parsed.source.get(span.start..span.end).is_some(), "{span:?}");
}

/// What an image's `OnBuild` list would hold parses to the same instruction.
fn text_parses_again(instruction: &Instruction) {
    match &instruction.kind {
        Kind::From(_) | Kind::Maintainer(_) => return,
        Kind::Onbuild(inner) => return text_parses_again(inner),
        _ => {}
    }
    let text = instruction.text();
    let again = parse_onbuild(&text).unwrap_or_else(|error| panic!("{text:?}: {error:?}"));
    assert_eq!(again.text(), text);
    let written = |instruction: &Instruction| {
        (instruction.original.clone(), without_spans(&format!("{:?}", instruction.kind)))
    };
    assert_eq!(written(&again), written(instruction), "{text:?}");
}

/// Removes where things stood.
fn without_spans(tree: &str) -> String {
    let mut parts = tree.split("Span { ");
    let first = parts.next().unwrap_or_default().to_owned();
    first + &parts.filter_map(|part| Some(part.split_once('}')?.1)).collect::<String>()
}

/// Parses one instruction behind a FROM.
fn only(text: &str) -> Kind {
    let parsed = parse(format!("FROM a\n{text}\n").as_bytes());
    assert!(!parsed.has_errors(), "{text:?}: {:?}", parsed.diagnostics);
    assert_eq!(parsed.file.instructions.len(), 2, "{text:?}");
    parsed.file.instructions.into_iter().nth(1).map(|instruction| instruction.kind).expect("there are two")
}

/// ENV with values quoted in several ways: as many pairs, and the values, as were written.
fn pairs(choices: &mut Choices<'_>) {
    const IN_VALUES: [char; 10] = ['a', ' ', '\\', '\'', '"', '=', '$', '\t', '#', 'é'];
    let mut text = "ENV".to_owned();
    let mut expect = Vec::new();
    for index in 0..1 + choices.below(3) {
        let value = choices.text(&IN_VALUES, 6);
        text += &" \t  "[..1 + choices.below(3)];
        text += &format!("k{index}=");
        match choices.below(3) {
            0 => text.extend(value.chars().flat_map(|c| ['\\', c])),
            1 => text += &format!("'{}'", value.replace('\'', "'\"'\"'")),
            _ => {
                let special = |c| matches!(c, '"' | '\\' | '$');
                let written: String =
                    value.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect();
                text += &format!("\"{written}\"");
            }
        }
        // The escape character of a continuation is none of the value's.
        if choices.one_in(3) {
            text += " \\\n# a comment\n ";
        }
        expect.push((format!("k{index}"), value));
    }
    text += " end=x";
    expect.push(("end".to_owned(), "x".to_owned()));
    let Kind::Env(pairs) = only(&text) else { panic!("{text:?}") };
    let found: Vec<(String, String)> = pairs
        .into_iter()
        .map(|pair| {
            assert!(!pair.legacy, "{text:?}");
            let value = expand::expand(&pair.value.text, '\\', &|_| None);
            (pair.key.text, value.unwrap_or_else(|error| panic!("{text:?}: {error}")).text)
        })
        .collect();
    assert_eq!(found, expect, "{text:?}");
}

/// A JSON list is the exec form; with anything behind it, text for a shell.
fn json(choices: &mut Choices<'_>) {
    const IN_STRINGS: [char; 11] = ['a', ' ', '"', '\\', '\'', '[', ']', ',', '<', '/', 'é'];
    let strings: Vec<String> = (0..choices.below(4)).map(|_| choices.text(&IN_STRINGS, 5)).collect();
    let written: Vec<String> = strings.iter().map(|string| json_string(choices, string)).collect();
    let comma = choices.of(&[",", ", ", " , "]);
    let list = format!("[{}]", written.join(comma));
    let keyword = choices.of(&["RUN", "CMD", "entrypoint"]);
    let command = |text: &str| match only(&format!("{keyword} {text}")) {
        Kind::Run(run) => run.command,
        Kind::Cmd(command) | Kind::Entrypoint(command) => command,
        other => panic!("{text:?} is {other:?}"),
    };
    assert_eq!(command(&list), CommandLine::Exec(strings.clone()), "{list:?}");
    let other = format!("{list} {}", choices.of(&["x", "&& y", "]", ","]));
    if !other.contains("<<") {
        assert_eq!(command(&other), CommandLine::Shell(other.clone()));
    }
    if strings.len() >= 2 {
        let text = format!("COPY {list}");
        let Kind::Copy(copy) = only(&text) else { panic!("{text:?}") };
        assert!(copy.json && copy.sources.len() + 1 == strings.len(), "{text:?}");
        assert_eq!(Some(&copy.destination.text), strings.last());
    }
}

fn json_string(choices: &mut Choices<'_>, string: &str) -> String {
    let mut out = "\"".to_owned();
    for c in string.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if choices.one_in(4) => out += &format!("\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out + "\""
}

/// Bodies of heredocs arrive as they were written, but for the tabs that `-` removes.
fn heredocs(choices: &mut Choices<'_>) {
    const IN_LINES: [char; 10] = ['a', ' ', '\t', '\\', '#', '$', '"', 'E', 'é', '<'];
    let (mut first, mut rest) = (String::new(), String::new());
    let mut expect = Vec::new();
    for index in 0..1 + choices.below(2) {
        let name = format!("{}{index}", choices.of(&["EOF", "E", "end-of-it"]));
        let (quote, dash) = (choices.of(&["", "'", "\""]), choices.of(&["", "-"]));
        first += &format!(" <<{dash}{quote}{name}{quote}");
        let mut body = String::new();
        for _ in 0..choices.below(4) {
            let line = choices.text(&IN_LINES, 6);
            rest += &format!("{line}\n");
            body += if dash.is_empty() { &line } else { line.trim_start_matches('\t') };
            body.push('\n');
        }
        rest += &format!("{}{name}\n", if dash.is_empty() { "" } else { choices.of(&["", "\t", "\t\t"]) });
        expect.push((name, body, quote.is_empty()));
    }
    for (keyword, tail) in [("RUN", ""), ("RUN cat", " >/x"), ("COPY", " /x/"), ("onbuild ADD", " /x")] {
        let text = format!("{keyword}{first}{tail}\n{}", rest.strip_suffix('\n').unwrap_or(&rest));
        let parsed = parse(format!("FROM a\n{text}\nUSER u\n").as_bytes());
        assert!(!parsed.has_errors(), "{text:?}: {:?}", parsed.diagnostics);
        let [_, instruction, after] = &parsed.file.instructions[..] else { panic!("{text:?}") };
        assert!(matches!(after.kind, Kind::User(_)), "{text:?}");
        let found: Vec<(String, String, bool)> =
            instruction.heredocs().iter().map(|h| (h.name.clone(), h.body.clone(), h.expand)).collect();
        assert_eq!(found, expect, "{text:?}");
        text_parses_again(instruction);
    }
}
