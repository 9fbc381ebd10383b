//! Every command teaches: what it is for, examples that parse, what to read next.

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;
use crate::cli::command_line::CommandLine;
use crate::cli::shell_words;

/// Calls `check` for every command that is not hidden, with its words.
fn for_all(check: &mut dyn FnMut(&str, &Command)) {
    fn walk(path: &str, command: &Command, check: &mut dyn FnMut(&str, &Command)) {
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
            let path = format!("{path} {}", sub.get_name());
            check(&path, sub);
            walk(&path, sub, check);
        }
    }
    let mut parser = CommandLine::command();
    parser.build();
    walk("rbuild", &parser, check);
}

fn after_help(command: &Command) -> String {
    let text = command.get_after_long_help().or(command.get_after_help());
    text.map(ToString::to_string).unwrap_or_default()
}

#[test]
fn every_command_has_a_purpose_examples_and_what_to_read_next() {
    let mut lacking = Vec::new();
    for_all(&mut |path, command| {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let help = after_help(command);
        let examples = examples(&help).len();
        if about.is_empty() || about.lines().count() != 1 {
            lacking.push(format!("{path}: its purpose in one line: {about:?}"));
        }
        if !(2..=12).contains(&examples) {
            lacking.push(format!("{path}: {examples} examples under `Examples:`"));
        }
        if !help.contains("See also: ") {
            lacking.push(format!("{path}: `See also: `"));
        }
    });
    assert!(lacking.is_empty(), "{}", lacking.join("\n"));
}

/// Returns the lines under `Examples:`.
fn examples(help: &str) -> Vec<String> {
    let after = help.split("Examples:\n").nth(1).unwrap_or_default();
    after.lines().take_while(|line| line.starts_with("  ")).map(|line| line.trim().to_owned()).collect()
}

/// Parses the commands of rbuild in a line of a shell.
fn parse_all(line: &str) -> Result<usize, (ErrorKind, String)> {
    let mut count = 0;
    for words in shell_words::commands(line) {
        if words.first().is_none_or(|word| word != "rbuild") {
            continue;
        }
        count += 1;
        let parser = CommandLine::command();
        let words = command_line::complete(&parser, words.iter().map(OsString::from))
            .map_err(|error| (ErrorKind::InvalidSubcommand, error.text()))?;
        let mut parser = parser;
        if prepare(&mut parser, &words).is_some() {
            continue;
        }
        if let Err(error) = parser.try_get_matches_from(words)
            && !matches!(
                error.kind(),
                clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion
            )
        {
            return Err((error.kind(), error.to_string()));
        }
    }
    Ok(count)
}

#[test]
fn every_example_parses() {
    let mut wrong = Vec::new();
    let mut check = |path: &str, help: &str| {
        for example in examples(help) {
            match parse_all(&example) {
                Ok(0) => wrong.push(format!("{path}: `{example}` has no rbuild in it")),
                Ok(_) => {}
                Err((_, error)) => wrong.push(format!("{path}: `{example}`: {error}")),
            }
        }
    };
    check("rbuild", &after_help(&CommandLine::command()));
    for_all(&mut |path, command| check(path, &after_help(command)));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_to_be_read_next_exists() {
    let mut commands = Vec::new();
    for_all(&mut |path, _| commands.push(path.to_owned()));
    for_all(&mut |path, command| {
        let help = after_help(command);
        let Some(line) = help.split("See also: ").nth(1) else { return };
        for other in line.lines().next().unwrap_or_default().split(", ") {
            let page = other.ends_with(')');
            assert!(page || commands.iter().any(|known| known == other), "{path}: see also `{other}`");
            assert_ne!(path, other, "a command that names itself");
        }
    });
}

#[test]
fn every_command_is_in_a_group() {
    let parser = CommandLine::command();
    let text = program(&parser, false);
    assert!(!text.contains("More:"), "{text}");
    for command in parser.get_subcommands().filter(|command| !command.is_hide_set()) {
        assert!(text.contains(&format!("\n  {} ", command.get_name())), "{}\n{text}", command.get_name());
    }
}

#[test]
fn options_of_a_build_stand_under_headings() {
    let mut parser = CommandLine::command();
    parser.build();
    let build = under_headings(parser.find_subcommand("build").unwrap().clone());
    let bare: Vec<&str> = build
        .get_arguments()
        .filter(|arg| !arg.is_positional() && !arg.is_hide_set() && arg.get_help_heading().is_none())
        .map(|arg| arg.get_id().as_str())
        .filter(|id| *id != "help")
        .collect();
    assert!(bare.is_empty(), "without a heading: {bare:?}");
    for (heading, ids) in HEADINGS {
        let there = ids.iter().any(|id| build.get_arguments().any(|arg| arg.get_id() == *id));
        assert!(there, "nothing stands under {heading}");
    }
}

/// The README and what lies under docs/ name no command or option that does not exist.
#[test]
fn documents_name_what_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = walkdir::WalkDir::new(root.join("docs"))
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.path().extension().is_some_and(|ending| ending == "md"))
        .map(|entry| entry.into_path())
        .collect();
    files.push(root.join("README.md"));
    let mut wrong = Vec::new();
    let mut parsed = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for line in shell_words::of_document(&text) {
            // The text that keys begin with, which is no command.
            if line.starts_with("rbuild op v1") {
                continue;
            }
            // Shapes, as `rbuild build [OPTIONS]`, are no commands.
            if line.contains("...") || line.contains('[') || line.contains('…') {
                continue;
            }
            match parse_all(&line) {
                Ok(count) => parsed += count,
                // A command is often named without all that it needs.
                Err((ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand, error)) => {
                    wrong.push(format!("{}: `{line}`: {error}", file.display()));
                }
                Err(_) => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(parsed > 60, "only {parsed} commands were found");
}
