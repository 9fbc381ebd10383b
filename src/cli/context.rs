//! `rbuild context`: what a build can see of a directory, and which ignore rule decides on a path.
//!
//! Not here: the walk and the rules (`context`). Needs no store and no image.

use std::path::Path;

use clap::Args;
use rustix::fs::FileType;
use serde_json::{Value, json};

use super::error::CommandError;
use super::units::size;
use super::{table, ui};
use crate::context::{
    Count, Deciding, DockerfilePlace, Listing, Tree, Why, locate_dockerfile, open_directory, show,
};

/// Show what a build can see of a directory, and what .dockerignore leaves out.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    rbuild context .                          all that COPY and ADD can reach\n  \
    rbuild context --top 20 .                 the 20 largest files: what to leave out next\n  \
    rbuild context --why node_modules/x .     the rule that decides on a path\n\n\
    --format json prints one object; sizes are bytes, paths relative to the context:\n  \
    {\"ignoreFile\": FILE or null,\n   \
     \"seen\": {\"files\": N, \"directories\": N, \"bytes\": N},\n   \
     \"leftOut\": {\"files\": N, \"directories\": N, \"bytes\": N,\n               \
     \"rules\": [{\"file\": F, \"line\": N, \"rule\": TEXT, \"files\": N, \"directories\": N, \"bytes\": N}]},\n   \
     \"entries\": [{\"path\": P, \"type\": \"file|directory|link|fifo|socket|device\", \"size\": N}],\n   \
     \"unreadable\": [P]}\n\
    with --why:\n  \
    {\"path\": P, \"exists\": BOOL, \"seen\": BOOL, \"rule\": {\"file\": F, \"line\": N, \"rule\": TEXT} or null}\n\n\
    See also: rbuild check, rbuild build")]
pub struct ContextArgs {
    /// The build context: a directory
    #[arg(value_name = "PATH", default_value = ".")]
    pub context: String,
    /// The Dockerfile, whose own FILE.dockerignore goes before .dockerignore; `-` has none
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<String>,
    /// Say which rule decides on a path of the context
    #[arg(long, value_name = "PATH", conflicts_with_all = ["top", "all"])]
    pub why: Option<String>,
    /// List only the N largest files
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// List everything, however much it is
    #[arg(long, conflicts_with = "top")]
    pub all: bool,
    /// How to write it; json is never cut short
    #[arg(long, default_value = "text", value_parser = ["text", "json"])]
    pub format: String,
}

/// How many lines are shown without `--all`.
const LINES: usize = 1000;

/// Runs the command.
pub fn context(args: ContextArgs) -> Result<(), CommandError> {
    if args.context == "-" {
        return Err(CommandError::usage("standard input is no directory").hint("unpack it, and name that"));
    }
    let directory = Path::new(&args.context);
    let place = match args.file.as_deref() {
        Some("-") => DockerfilePlace::Input,
        Some(file) => locate_dockerfile(directory, Path::new(file)),
        None => {
            let lower = !directory.join("Dockerfile").exists() && directory.join("dockerfile").exists();
            DockerfilePlace::Inside(if lower { "dockerfile" } else { "Dockerfile" }.into())
        }
    };
    let tree = open_directory(directory, None)?.with_ignore(&place)?;
    let is_json = args.format == "json";
    if let Some(path) = &args.why {
        let why = tree.why(Path::new(path));
        match is_json {
            true => ui::line(&why_json(&why).to_string()),
            false => ui::out(&why_text(&tree, &why)),
        }
        return Ok(());
    }
    let listing = tree.list()?;
    match is_json {
        true => ui::line(&listing_json(&tree, listing, args.top).to_string()),
        false => ui::out(&listing_text(&tree, listing, args.top, if args.all { usize::MAX } else { LINES })),
    }
    Ok(())
}

fn listing_text(tree: &Tree, listing: Listing, top: Option<usize>, lines: usize) -> String {
    let (count, left_out) = (listing.seen_count, listing.left_out);
    let entries = chosen(listing.seen, top);
    let mut rows = vec![vec!["SIZE".to_owned(), "TYPE".to_owned(), "PATH".to_owned()]];
    rows.extend(entries.iter().take(lines).map(|seen| {
        let length = if seen.kind == FileType::RegularFile { size(seen.size) } else { "-".to_owned() };
        vec![length, word(seen.kind).to_owned(), show(&seen.path)]
    }));
    let mut out = table::layout(&rows);
    if entries.len() > lines {
        let more = entries.len() - lines;
        out.push_str(&format!("... and {more} more: --all lists them, --top N the largest\n"));
    }
    out.push_str(&format!("\nSeen: {}\n", sum(count)));
    match tree.ignore_file() {
        None => out.push_str("There is no .dockerignore: nothing is left out\n"),
        Some(_) => out.push_str(&format!("Left out: {}\n", sum(left_out))),
    }
    for (rule, count) in &listing.rules {
        out.push_str(&format!("  {}: {}\n", place(rule), sum(*count)));
    }
    for path in &listing.unreadable {
        out.push_str(&format!("Cannot be read: {}\n", show(path)));
    }
    out
}

fn listing_json(tree: &Tree, listing: Listing, top: Option<usize>) -> Value {
    let count =
        |count: Count| json!({"files": count.files, "directories": count.directories, "bytes": count.bytes});
    let rules = listing.rules.iter().map(|(rule, left_out)| {
        let mut row = rule_json(rule);
        let Count { files, directories, bytes } = *left_out;
        row["files"] = files.into();
        row["directories"] = directories.into();
        row["bytes"] = bytes.into();
        row
    });
    let mut left_out = count(listing.left_out);
    left_out["rules"] = rules.collect();
    let entry = |seen: &crate::context::Seen| json!({"path": seen.path.to_string_lossy(), "type": word(seen.kind), "size": seen.size});
    json!({
        "ignoreFile": tree.ignore_file(),
        "seen": count(listing.seen_count),
        "leftOut": left_out,
        "unreadable": listing.unreadable.iter().map(|p| p.to_string_lossy()).collect::<Vec<_>>(),
        "entries": chosen(listing.seen, top).iter().map(entry).collect::<Vec<_>>(),
    })
}

/// Returns all by path, or the largest files, the largest first.
fn chosen(mut seen: Vec<crate::context::Seen>, top: Option<usize>) -> Vec<crate::context::Seen> {
    if let Some(top) = top {
        seen.retain(|seen| seen.kind == FileType::RegularFile);
        seen.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.path.cmp(&b.path)));
        seen.truncate(top);
    }
    seen
}

fn why_text(tree: &Tree, why: &Why) -> String {
    let path = match why.path.as_os_str().is_empty() {
        true => ".".to_owned(),
        false => show(&why.path),
    };
    let mut out = match (&why.rule, tree.ignore_file()) {
        (Some(rule), _) if why.left_out => format!("`{path}` is left out by {}\n", place(rule)),
        (Some(rule), _) => format!("`{path}` is seen: taken back by {}\n", place(rule)),
        (None, Some(file)) => format!("`{path}` is seen: no rule of {file} is about it\n"),
        (None, None) => format!("`{path}` is seen: there is no .dockerignore\n"),
    };
    if why.perhaps_below {
        out.push_str("It is a directory, and a later rule may take back something below it\n");
    }
    if !why.exists {
        out.push_str("There is no such file in the context\n");
    }
    out
}

fn why_json(why: &Why) -> Value {
    json!({
        "path": why.path.to_string_lossy(),
        "exists": why.exists,
        "seen": !why.left_out,
        "rule": why.rule.as_ref().map(rule_json),
    })
}

fn rule_json(rule: &Deciding) -> Value {
    json!({"file": rule.file, "line": rule.line, "rule": rule.text})
}

fn place(rule: &Deciding) -> String {
    format!("line {} of {}: `{}`", rule.line, rule.file, show(Path::new(&rule.text)))
}

fn sum(count: Count) -> String {
    let number = |n: u64, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    let files = number(count.files, "file", "files");
    let directories = number(count.directories, "directory", "directories");
    format!("{files}, {directories}, {}", size(count.bytes))
}

fn word(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "link",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => "device",
    }
}
