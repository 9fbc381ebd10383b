//! `rbuild pause` and `unpause`: containers that are held still. Not here: how (`container`).

use clap::Args;

use super::containers::{ask, connect, each};
use super::error::CommandError;
use super::world::World;
use crate::container::control::Request;

/// Hold all processes of containers still.
#[derive(Debug, Args)]
#[command(
    after_help = "Each process gets SIGSTOP, and SIGCONT when it goes on. `stop`, `kill` and `rm -f` end a container \
    that is held still, too.\n\n\
    Examples:\n  rbuild pause web\n  rbuild pause $(rbuild ps -q)\n\n\
    See also: rbuild unpause, rbuild stop"
)]
pub struct PauseArgs {
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

/// Holds the containers still.
pub fn pause(world: &World, args: &PauseArgs) -> Result<(), CommandError> {
    ask_each(world, &args.containers, &Request::Pause)
}

/// Let containers go on that are held still.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rbuild unpause web\n  rbuild unpause $(rbuild ps -q --filter status=paused)\n\n\
    See also: rbuild pause, rbuild ps"
)]
pub struct UnpauseArgs {
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

/// Lets the containers go on.
pub fn unpause(world: &World, args: &UnpauseArgs) -> Result<(), CommandError> {
    ask_each(world, &args.containers, &Request::Unpause)
}

fn ask_each(world: &World, names: &[String], request: &Request) -> Result<(), CommandError> {
    let store = world.open_store()?;
    each(names, |name| {
        let kept = store.find_container(name)?;
        ask(&connect(&store, &kept)?, request).map(drop)
    })
}
