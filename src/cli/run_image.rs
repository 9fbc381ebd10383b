//! The image of `rbuild run`: found in the store, or fetched first, as `docker run --pull` does.
//!
//! Not here: what is run (`run`).

use clap::{Args, ValueEnum};

use super::error::CommandError;
use super::world::World;
use super::{find, pull, ui};
use crate::image::{ContainerConfig, ImageId, Reference, ReferenceError, SnapshotId};
use crate::store::{Found, Store};

/// The options.
#[derive(Debug, Args)]
pub struct RunImageArgs {
    /// When the registry is asked for the image
    #[arg(long, value_name = "WHEN", value_enum, default_value = "missing")]
    pub pull: RunPull,
    /// Say nothing of a pull
    #[arg(short, long)]
    pub quiet: bool,
}

/// When the registry is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RunPull {
    /// Always; what the store has is not used where it cannot be asked
    Always,
    /// Where the store has no such image
    Missing,
    /// Never
    Never,
}

/// What runs: the image it is of, its layers and its config.
pub type Runnable = (Option<ImageId>, Vec<SnapshotId>, ContainerConfig);

/// Finds the layers and the config of what a user calls an image; pulls it first where that is wished.
pub fn find_or_pull(
    world: &World,
    store: &Store,
    name: &str,
    args: &RunImageArgs,
) -> Result<Runnable, CommandError> {
    let (found, parsed) = (store.find(name), name.parse::<Reference>());
    // What looks like an id can be one that is not here.
    if let (Err(error), Err(why)) = (&found, &parsed)
        && error.is_not_found()
        && !matches!(why, ReferenceError::LooksLikeId(_))
    {
        return Err(CommandError::new(why.to_string()));
    }
    match (found, parsed.ok().map(|reference| reference.with_default_tag())) {
        // What is found by an id is nothing that a registry knows.
        (Ok(Found::Image { name: Some(reference), .. }), _) if args.pull == RunPull::Always => {
            pull::fetch(world, store, &reference, args.quiet)?;
        }
        (Err(error), Some(reference)) if error.is_not_found() && args.pull != RunPull::Never => {
            if args.pull == RunPull::Missing && !args.quiet {
                ui::note(&format!("Unable to find image '{reference}' locally\n"));
            }
            pull::fetch(world, store, &reference, args.quiet)?;
        }
        _ => {}
    }
    match find::find(store, name)? {
        Found::Image { id, .. } => {
            let image = store.image(&id)?;
            Ok((Some(id), image.layers, image.config.config))
        }
        Found::Step(id) => {
            let step = store.step(&id)?.ok_or_else(|| find::no_such(name))?;
            Ok((None, step.layers, step.config))
        }
    }
}
