//! `rbuild builds rm`: builds forgotten.

use clap::Args;

use super::super::error::CommandError;
use super::super::ui;
use crate::store::{BuildState, KeptBuild, Store};

/// Forget builds: their logs and records; images and cache stay.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rbuild builds rm 3f2a\n  rbuild builds rm --all\n\n\
    See also: rbuild builds, rbuild builder prune")]
pub struct RemoveArgs {
    /// Which builds
    #[arg(value_name = "BUILD", required_unless_present = "all")]
    pub builds: Vec<String>,
    /// All that have ended
    #[arg(long, conflicts_with = "builds")]
    pub all: bool,
}

/// Runs the command. All builds are found before one goes.
pub fn remove(store: &Store, args: &RemoveArgs) -> Result<(), CommandError> {
    let builds: Vec<KeptBuild> = match args.all {
        true => store.builds()?.into_iter().filter(|build| build.state != BuildState::Running).collect(),
        false => args.builds.iter().map(|name| super::find(store, Some(name))).collect::<Result<_, _>>()?,
    };
    if let Some(running) = builds.iter().find(|build| build.state == BuildState::Running) {
        return Err(CommandError::new(format!("build {} is running", running.id)).hint("end it first"));
    }
    for build in builds {
        store.remove_build(&build)?;
        ui::line(&build.id);
    }
    Ok(())
}
