//! `rbuild expand`: what a word of a Dockerfile becomes.
//!
//! For tests of the expansion rules, and for who wants to know. Not here: the rules
//! (`dockerfile::expand`).

use std::collections::HashMap;

use clap::Args;

use super::error::CommandError;
use super::ui;
use crate::dockerfile::expand as rules;
use crate::report::clean::clean_text;

/// Print what a word with variables expands to.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    rbuild expand --env TAG=1.2-rc3 '${TAG%%-*}'\n  \
    rbuild expand '${TAG:?must be given}'\n\n\
    The exit code is 1 when the word is wrong or says that a variable must be set. Variables that are\n\
    used but not set are named on standard error.\n\n\
    See also: rbuild parse")]
pub struct ExpandArgs {
    /// The word, as it stands in a Dockerfile
    #[arg(value_name = "WORD", allow_hyphen_values = true)]
    pub word: String,
    /// Set a variable; without a value, take it from the environment
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub env: Vec<String>,
    /// The escape character: `\` or a backtick
    #[arg(long, value_name = "CHAR", default_value = "\\", value_parser = ["\\", "`"])]
    pub escape: String,
    /// Expand as the body of a heredoc is: quotes mean nothing
    #[arg(long, conflicts_with = "words")]
    pub heredoc: bool,
    /// Split the result at blanks, as EXPOSE does, and print a word a line
    #[arg(long)]
    pub words: bool,
}

/// Runs the command; gives its exit code.
pub fn expand(args: ExpandArgs) -> Result<u8, CommandError> {
    let mut variables = HashMap::new();
    for entry in &args.env {
        match entry.split_once('=') {
            Some(("", _)) => return Err(CommandError::usage(format!("bad --env `{entry}`: it has no name"))),
            Some((name, value)) => {
                variables.insert(name.to_owned(), value.to_owned());
            }
            None => {
                if let Ok(value) = std::env::var(entry) {
                    variables.insert(entry.clone(), value);
                }
            }
        }
    }
    let lookup = |name: &str| variables.get(name).cloned();
    let escape = if args.escape == "`" { '`' } else { '\\' };
    let (text, unset) = if args.words {
        let expanded = rules::expand_words(&args.word, escape, &lookup)?;
        (expanded.words.join("\n"), expanded.unset)
    } else {
        let expanded = match args.heredoc {
            true => rules::expand_text(&args.word, &lookup)?,
            false => rules::expand(&args.word, escape, &lookup)?,
        };
        (expanded.text, expanded.unset)
    };
    ui::line(&text);
    for name in unset {
        ui::note(&format!("note: `{}` is not set\n", clean_text(&name)));
    }
    Ok(0)
}
