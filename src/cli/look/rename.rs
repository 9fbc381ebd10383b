//! `rbuild rename`: gives a container another name.

use clap::Args;

use crate::cli::error::CommandError;
use crate::cli::world::World;
use crate::container::names;

/// Give a container another name.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rbuild rename web web-old\n  rbuild rename 3f2a db\n\n\
    See also: rbuild ps, rbuild rm")]
pub struct RenameArgs {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// The name it is to have
    #[arg(value_name = "NEW_NAME")]
    pub name: String,
}

/// Runs the command.
pub fn rename(world: &World, args: RenameArgs) -> Result<(), CommandError> {
    let store = world.open_store()?;
    let mut kept = store.find_container(&args.container)?;
    let name = names::check(&args.name)?;
    if name == kept.name {
        return Err(CommandError::new("Renaming a container with the same name as its current name"));
    }
    Ok(store.rename_container(&mut kept, name)?)
}
