//! Completion in shells: `rbuild completion SHELL` prints the script, which asks `rbuild __complete` for each
//! word.
//!
//! `place` finds what is being completed, `values` what it can be, from the store and the Dockerfile. The
//! scripts know nothing of commands: a new one is completed at once. What goes wrong here is never told; a
//! store is never made. Not here: files, which the shell completes itself.

mod place;
mod values;

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::{Args, CommandFactory, ValueEnum};

use super::command_line::CommandLine;
use super::ui;
use crate::report::excerpt::printable;

/// The hidden first word that scripts call us with; the words of the command line follow after `--`, the one
/// that is being written last.
pub const ASKED: &str = "__complete";

/// Print the script that makes a shell complete rbuild's commands, options and names.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    source <(rbuild completion bash)           for this shell; in ~/.bashrc for all\n  \
    rbuild completion zsh > ~/.zfunc/_rbuild   a directory of $fpath, before compinit\n  \
    rbuild completion fish > ~/.config/fish/completions/rbuild.fish\n\n\
    `make install` puts all three where shells find them. Names of images, stages, arguments, secrets and builds\n\
    are completed, too.\n\n\
    See also: rbuild man")]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
}

/// The shells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Runs `rbuild completion`.
pub fn completion(args: &CompletionArgs) {
    ui::out(match args.shell {
        Shell::Bash => include_str!("completion/rbuild.bash"),
        Shell::Zsh => include_str!("completion/_rbuild"),
        Shell::Fish => include_str!("completion/rbuild.fish"),
    });
}

/// What a word can become.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Whole words, and what to say of each.
    pub words: Vec<(String, String)>,
    pub paths: Option<Paths>,
}

/// Paths that the shell is to complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    pub directories_only: bool,
    /// What stands before the path in the word: `--file=`.
    pub prefix: String,
}

/// Answers a script: a line for each word, a tab before what is said of it; `:files` or `:dirs`, a tab and a
/// prefix, where paths go.
///
/// Names of a Dockerfile are anybody's, and bash writes a word into its line as it stands: one that any shell
/// would take for more than a word is left out.
pub fn answer(words: impl Iterator<Item = OsString>) {
    ui::out(&told(words));
}

fn told(words: impl Iterator<Item = OsString>) -> String {
    let words: Vec<String> =
        words.skip_while(|word| word == "--").map(|word| word.to_string_lossy().into_owned()).collect();
    let answer = complete(&words);
    let mut text = String::new();
    if let Some(paths) = answer.paths {
        let kind = if paths.directories_only { "dirs" } else { "files" };
        let _ = writeln!(text, ":{kind}\t{}", paths.prefix);
    }
    for (word, about) in answer.words {
        if word.chars().all(is_plain) {
            let about = printable(about.lines().next().unwrap_or_default());
            let _ = writeln!(text, "{word}\t{about}");
        }
    }
    text
}

/// Tells whether a character means itself to every shell, wherever in a word it stands, and to a terminal.
fn is_plain(char: char) -> bool {
    char.is_alphanumeric() || "-_.,:=/@+%".contains(char)
}

/// Finds what the last of the words can become.
fn complete(words: &[String]) -> Answer {
    let Some((current, before)) = words.split_last() else { return Answer::default() };
    let place = place::find(&CommandLine::command(), before, current);
    let mut answer = values::of(&place);
    answer.words.retain(|(word, _)| word.starts_with(current.as_str()));
    answer
}

#[cfg(test)]
mod tests;
