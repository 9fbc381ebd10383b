//! `rbuild rmi`: removes names, and images that have none left.

use clap::Args;

use super::error::CommandError;
use super::world::World;
use super::{find, ui};
use crate::store::Found;

/// Remove names of images, and images that have none left.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rbuild rmi flask:1\n  rbuild rmi ba58 debian:bookworm\n  rbuild rmi $(rbuild images -q --filter dangling=true)\n\n\
    See also: rbuild images, rbuild image prune"
)]
pub struct RmiArgs {
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Remove an image by id although it has several names, a name although a container runs from
    /// its image; a missing image is no error
    #[arg(short, long)]
    pub force: bool,
    /// Keep the untagged images it was built from: build steps, which are the build cache here and
    /// always stay until `builder prune`
    #[arg(long)]
    pub no_prune: bool,
}

/// Runs the command.
pub fn rmi(world: &World, args: RmiArgs) -> Result<(), CommandError> {
    let store = world.open_store()?;
    let mut failed = Vec::new();
    for name in &args.images {
        match store.remove_image(name, args.force) {
            Ok(removal) => {
                removal.untagged.iter().for_each(|name| ui::line(&format!("Untagged: {name}")));
                removal.deleted.iter().for_each(|id| ui::line(&format!("Deleted: {id}")));
                removal.deleted_layers.iter().for_each(|id| ui::line(&format!("Deleted: {id}")));
            }
            Err(error) if error.is_not_found() && args.force => ui::note(&find::no_such(name).text()),
            Err(error) if error.is_not_found() => failed.push(match store.find(name) {
                Ok(Found::Step(_)) => CommandError::new(format!("`{name}` is a build step, not an image"))
                    .hint("steps need not be removed: they go when their layers do"),
                _ => find::no_such(name),
            }),
            Err(error) => failed.push(error.into()),
        }
    }
    let Some(last) = failed.pop() else { return Ok(()) };
    for error in failed {
        ui::note(&error.text());
    }
    Err(last)
}
