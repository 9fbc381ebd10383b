//! `rbuild diff`: how the files of two images differ.

use clap::Args;

use super::error::CommandError;
use super::world::World;
use super::{find, ui};
use crate::image::SnapshotId;
use crate::report::clean::clean_text;
use crate::store::{Found, Store};

/// Show how the files of an image differ from those of another.
///
/// One line for each path: `A` added, `C` changed (or something below it was), `D` deleted. Kind, owner,
/// mode, attributes and content count; times do not.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  rbuild diff flask:1 flask:2")]
pub struct DiffArgs {
    /// A name or id of an image, or the id of a build step
    #[arg(value_name = "IMAGE")]
    pub old: String,
    /// The one to compare it with
    #[arg(value_name = "IMAGE")]
    pub new: Option<String>,
}

/// Runs the command.
pub fn diff(world: &World, args: DiffArgs) -> Result<(), CommandError> {
    let Some(new) = &args.new else {
        return Err(CommandError::usage("`diff` of one name is of a container, and this version keeps none")
            .hint(format!("name two images, as in `rbuild diff {} OTHER`", args.old)));
    };
    let store = world.open_store()?;
    store.hold()?;
    let found = store.diff(&layers(&store, &args.old)?, &layers(&store, new)?)?;
    let mut text = String::new();
    for (path, change) in &found.paths {
        text.push(change.letter());
        text.push(' ');
        // A name that holds a line end must not look like two.
        text.push_str(&clean_text(&path.to_string_lossy()).replace('\n', "\\n"));
        text.push('\n');
    }
    ui::out(&text);
    Ok(())
}

fn layers(store: &Store, name: &str) -> Result<Vec<SnapshotId>, CommandError> {
    match find::find(store, name)? {
        Found::Image { id, .. } => Ok(store.image(&id)?.layers),
        Found::Step(id) => Ok(store.step(&id)?.ok_or_else(|| find::no_such(name))?.layers),
    }
}
