//! `rbuild builds`: the builds that were done here, and what is known of each.
//!
//! Not here: the page about one (`report`).

mod list;
mod logs;
mod open;
mod remove;
mod show;

use clap::{Args, Subcommand};

pub use logs::{output_of, print_log};
pub use open::Viewer;

use super::error::CommandError;
use super::world::World;
use crate::report::record::BuildRecord;
use crate::store::{BuildState, KeptBuild, Store, StoreError};

/// List past builds; show, log, open or remove one.
///
/// The last 100 builds are kept. A build is named by its id or the start of it; `^1` is the one before the
/// last. Where no build is named it is the last one.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  rbuild builds\n  rbuild builds --filter status=failed\n  rbuild builds show\n  \
    rbuild builds logs 3f2a\n  rbuild builds logs --step 4\n  rbuild builds open ^1\n  rbuild builds rm --all\n\n\
    See also: rbuild report"
)]
pub struct BuildsArgs {
    #[command(subcommand)]
    pub command: Option<BuildsCommand>,
    #[command(flatten)]
    pub list: list::ListArgs,
}

/// The words of `rbuild builds`.
#[derive(Debug, Subcommand)]
pub enum BuildsCommand {
    /// List builds, newest first
    #[command(visible_alias = "list")]
    Ls(list::ListArgs),
    /// Show all that is known of a build
    #[command(visible_alias = "inspect")]
    Show(show::ShowArgs),
    /// Print what a build said
    Logs(logs::LogsArgs),
    /// Show the page about a build in a browser
    Open(open::OpenArgs),
    /// Forget builds: their logs and records; images and cache stay
    #[command(visible_alias = "remove")]
    Rm(remove::RemoveArgs),
}

impl BuildsArgs {
    /// Starts what shows a page, which then waits for one; `None` for words that show none. To be done before
    /// the process enters a user namespace.
    pub fn viewer(&self) -> Result<Option<Viewer>, CommandError> {
        match &self.command {
            Some(BuildsCommand::Open(_)) => Viewer::start().map(Some),
            _ => Ok(None),
        }
    }
}

/// Runs the command.
pub fn builds(world: &World, args: BuildsArgs, viewer: Option<Viewer>) -> Result<(), CommandError> {
    let store = world.open_store()?;
    match (args.command, viewer) {
        (None, _) => list::list(&store, &args.list),
        (Some(BuildsCommand::Ls(args)), _) => list::list(&store, &args),
        (Some(BuildsCommand::Show(args)), _) => show::show(&store, &args),
        (Some(BuildsCommand::Logs(args)), _) => logs::logs(&store, &args),
        (Some(BuildsCommand::Rm(args)), _) => remove::remove(&store, &args),
        (Some(BuildsCommand::Open(args)), Some(viewer)) => open::open(&store, &args, viewer),
        (Some(BuildsCommand::Open(_)), None) => Err(CommandError::new("there is nothing that shows pages")),
    }
}

/// Finds the build that a user names: by id, the start of one, `^N`, or the last one where none is named.
pub fn find(store: &Store, name: Option<&str>) -> Result<KeptBuild, CommandError> {
    let back = match name {
        None => Some(0),
        Some(name) => name.strip_prefix('^').map(|n| n.parse::<usize>()).transpose().map_err(|_| {
            CommandError::usage(format!("bad build `{}`: `^N` is the Nth before the last", name))
        })?,
    };
    let found = match (back, name) {
        (Some(back), _) => store.builds()?.into_iter().nth(back),
        (None, name) => store.find_build(name.unwrap_or_default()).map_err(|error| match error {
            StoreError::Ambiguous { text, ids } => CommandError::new(format!(
                "`{text}` is ambiguous: it is the start of the builds {}",
                ids.join(", ")
            )),
            error => error.into(),
        })?,
    };
    found.ok_or_else(|| match name {
        None => CommandError::new("nothing was built here yet"),
        Some(name) => CommandError::new(format!("No such build: {name}"))
            .hint("`rbuild builds` lists those that are kept; the last 100 are"),
    })
}

/// Reads the record of a build that has ended; an error says what stands in the way.
pub fn record(build: &KeptBuild) -> Result<BuildRecord, CommandError> {
    match &build.state {
        BuildState::Ended(bytes) => BuildRecord::from_bytes(bytes).map_err(|error| {
            CommandError::new(format!("the record of build {} cannot be read: {error}", build.id))
        }),
        BuildState::Running => Err(CommandError::new(format!("build {} is running", build.id))
            .hint(format!("`rbuild builds logs {}` prints what it said so far", build.id))),
        BuildState::CutShort => {
            Err(CommandError::new(format!("build {} was cut short: it left no record", build.id))
                .hint(format!("`rbuild builds logs {}` prints what it said", build.id)))
        }
    }
}

/// Returns what becomes of a build, in a word.
pub fn status(build: &KeptBuild) -> &'static str {
    match &build.state {
        BuildState::Running => "running",
        BuildState::CutShort => "cut short",
        BuildState::Ended(bytes) => {
            BuildRecord::from_bytes(bytes).map_or("unreadable", |r| r.status.as_str())
        }
    }
}

/// Shows a length of time: `3ms`, `1.2s`, `2m 5s`.
pub fn time(ms: u64) -> String {
    let seconds = ms / 1000;
    match ms {
        0..1000 => format!("{ms}ms"),
        1000..60_000 => format!("{}.{}s", seconds, ms % 1000 / 100),
        60_000..3_600_000 => format!("{}m {}s", seconds / 60, seconds % 60),
        _ => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        for (ms, expect) in
            [(0, "0ms"), (999, "999ms"), (1250, "1.2s"), (125_000, "2m 5s"), (3_660_000, "1h 1m")]
        {
            assert_eq!(time(ms), expect);
        }
    }
}
