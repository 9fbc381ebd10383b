//! How help is shown: the commands in groups, the options of a build under headings, topics.
//!
//! What a command says of itself stands with the command. Not here: the words (`command_line`).

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::Command;

use super::headings::HEADINGS;
use super::{command_line, exit_codes, ui};

/// The commands as they are listed; one that is in no row is listed at the end.
const GROUPS: [(&str, &[&str]); 8] = [
    ("Build", &["build", "check", "context", "graph", "why", "shell", "parse", "expand"]),
    ("Images", &["images", "tag", "rmi", "import", "export", "load", "save", "image"]),
    (
        "Containers",
        &[
            "run",
            "create",
            "start",
            "restart",
            "stop",
            "kill",
            "wait",
            "pause",
            "unpause",
            "attach",
            "exec",
            "top",
            "stats",
            "ps",
            "logs",
            "port",
            "rename",
            "rm",
            "commit",
            "cp",
            "volume",
            "container",
        ],
    ),
    ("Registry", &["search", "pull", "push", "login", "logout", "registry"]),
    ("Automation", &["hook", "serve"]),
    ("Look", &["builds", "report", "inspect", "history", "diff", "layers"]),
    ("Disk", &["du", "prune", "cache", "system", "builder"]),
    ("Machine", &["doctor", "config", "completion", "man"]),
];

/// What `rbuild help TOPIC` knows besides commands.
pub const TOPICS: [&str; 1] = ["exit-codes"];

/// Returns the help that a command line asks for and that clap does not draw: that of the whole program,
/// and topics. What clap draws, of the command in `words`, gets its headings here.
pub fn prepare(parser: &mut Command, words: &[OsString]) -> Option<String> {
    let at = command_line::first_word(parser, words);
    let word = |at: usize| words.get(at).and_then(|word| word.to_str());
    match (word(at), word(at + 1)) {
        (None, _) if at >= words.len() => return (at == words.len()).then(|| program(parser, true)),
        (Some("--help"), _) => return Some(program(parser, true)),
        (Some("-h"), _) => return Some(program(parser, false)),
        (Some("help"), Some("exit-codes")) => return Some(exit_codes::text(ui::out_columns())),
        _ => {}
    }
    if words.iter().any(|word| word == "--help" || word == "-h")
        && let Some(command) = word(at).and_then(|name| parser.find_subcommand_mut(name))
    {
        *command = under_headings(std::mem::take(command));
    }
    None
}

/// Puts the options of a build under their headings; a command that has few stays as it is.
pub fn under_headings(command: Command) -> Command {
    if command.get_arguments().all(|arg| arg.get_id() != "contexts") {
        return command;
    }
    command.mut_args(|arg| {
        let found = HEADINGS.iter().find(|(_, ids)| ids.contains(&arg.get_id().as_str()));
        match found {
            // Another option of that name has its own place.
            Some((heading, _)) if !arg.is_positional() => arg.help_heading(*heading),
            _ => arg,
        }
    })
}

/// Draws the help of the whole program; `long`: with global options and examples.
fn program(parser: &Command, long: bool) -> String {
    let mut command = parser.clone().mut_subcommands(|command| command.hide(true));
    let groups = groups(parser);
    let template = match long {
        true => format!("{{about-with-newline}}\n{USAGE}\n{groups}{{all-args}}{{after-help}}\n"),
        false => format!("{{about-with-newline}}\n{USAGE}\n{groups}`rbuild --help` says more.\n"),
    };
    command = command.help_template(template);
    drawn(&command.render_help())
}

const USAGE: &str = "\x1b[1mUsage:\x1b[0m rbuild [OPTIONS] PATH             build the Dockerfile of a directory\n       \
    rbuild COMMAND [OPTIONS] ...\n";

/// Writes the commands that are not hidden, in groups.
fn groups(parser: &Command) -> String {
    let shown: Vec<&Command> = parser.get_subcommands().filter(|command| !command.is_hide_set()).collect();
    let width = shown.iter().map(|command| command.get_name().len()).max().unwrap_or(0);
    let mut text = String::new();
    let mut write = |title: &str, commands: &[&Command]| {
        if commands.is_empty() {
            return;
        }
        let _ = writeln!(text, "\x1b[1m{title}:\x1b[0m");
        for command in commands {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let room = ui::out_columns().map(|columns| columns.saturating_sub(width + 4).max(24));
            let mut lines = super::wrap::wrap(&about, room).into_iter();
            let name = command.get_name();
            let _ = writeln!(text, "  {name:width$}  {}", lines.next().unwrap_or_default());
            for line in lines {
                let _ = writeln!(text, "  {:width$}  {line}", "");
            }
        }
        text.push('\n');
    };
    for (title, names) in GROUPS {
        let of_group: Vec<&Command> = names
            .iter()
            .filter_map(|name| shown.iter().find(|command| command.get_name() == *name).copied())
            .collect();
        write(title, &of_group);
    }
    let grouped = |command: &Command| GROUPS.iter().any(|(_, names)| names.contains(&command.get_name()));
    let rest: Vec<&Command> = shown.iter().filter(|command| !grouped(command)).copied().collect();
    write("More", &rest);
    text
}

/// Draws what clap styled: in colour where standard output is a terminal that wants it.
pub fn drawn(text: &clap::builder::StyledStr) -> String {
    if ui::out_in_colour() { text.ansi().to_string() } else { text.to_string() }
}

#[cfg(test)]
mod tests;
