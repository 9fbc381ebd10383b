//! `rbuild tag`: one more name for an image; a build step becomes an image.

use clap::Args;

use super::build::parse_tag;
use super::error::CommandError;
use super::find;
use super::world::World;
use crate::store::Found;

/// Give an image one more name.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rbuild tag flask flask:1.2\n  rbuild tag ba58 registry.lan:5000/team/flask:1.2\n\n\
    See also: rbuild push, rbuild images, rbuild rmi"
)]
pub struct TagArgs {
    /// A name or id of an image, or the id of a build step
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// The new name
    #[arg(value_name = "TARGET")]
    pub target: String,
}

/// Runs the command.
pub fn tag(world: &World, args: TagArgs) -> Result<(), CommandError> {
    let name = parse_tag(&args.target)?;
    let store = world.open_store()?;
    let image = match find::find(&store, &args.source)? {
        Found::Image { id, .. } => id,
        Found::Step(id) => crate::build::image_of_step(&store, &id)?,
    };
    store.tag(&name, &image)?;
    store.sync()?;
    Ok(())
}
