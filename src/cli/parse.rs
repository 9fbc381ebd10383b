//! `rbuild parse`: a Dockerfile's syntax tree.
//!
//! Needs nothing but the file. Not here: the tree's form (`tree`).

use clap::Args;

use super::build::{SourceArgs, request};
use super::check::unreadable;
use super::error::{CommandError, code};
use super::json::pretty;
use super::tree::tree;
use super::ui;
use crate::build::{ContextFrom, Findings, Source};

/// Print a Dockerfile's syntax tree.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rbuild parse Dockerfile\n  rbuild parse - < Dockerfile | jq '.instructions[].name'\n\n\
    See also: rbuild check, rbuild expand"
)]
pub struct ParseArgs {
    /// The Dockerfile; `-` is standard input
    #[arg(value_name = "FILE | -", default_value = "Dockerfile")]
    pub file: String,
    /// How to write the tree
    #[arg(long, default_value = "json", value_parser = ["json"])]
    pub format: String,
}

/// Runs the command; gives its exit code.
pub fn parse(args: ParseArgs) -> Result<u8, CommandError> {
    let source = SourceArgs { file: Some(args.file), ..SourceArgs::default() };
    let mut request = request(".", &source)?;
    request.context = ContextFrom::Nothing;
    let source = Source::read(request).map_err(unreadable)?;
    if source.parsed.has_errors() {
        let findings = Findings {
            file: source.file,
            source: source.parsed.source.clone(),
            diagnostics: source.parsed.diagnostics,
            failure: None,
        };
        ui::note(&findings.render(ui::err_in_colour()));
        return Ok(code::USAGE);
    }
    ui::out(&pretty(&tree(&source.parsed)));
    Ok(0)
}
