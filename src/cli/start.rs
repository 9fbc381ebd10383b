//! `rbuild start`: containers that were made or have ended, started again.

use clap::Args;

use super::attached::{Attached, attachment, detach_keys};
use super::containers::{each, find, not_started, start as start_one};
use super::error::CommandError;
use super::world::World;
use super::{foreground, ui};
use crate::container::State;
use crate::store::Store;

/// Start containers that were made or have ended.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rbuild start web\n  rbuild start -ai shell\n\n\
    See also: rbuild create, rbuild stop, rbuild restart")]
pub struct StartArgs {
    /// Take part in the container's output and signals, and wait for its end
    #[arg(short, long)]
    pub attach: bool,
    /// Pass standard input on, too
    #[arg(short, long)]
    pub interactive: bool,
    /// The keys that leave the container running: letters, or ctrl-LETTER, with commas between
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub detach_keys: String,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

/// Starts the containers; the result is the exit code of the one that is attached.
pub fn start(world: &World, args: StartArgs) -> Result<u8, CommandError> {
    let store = world.open_store()?;
    if args.attach || args.interactive {
        let [name] = args.containers.as_slice() else {
            return Err(CommandError::usage("you cannot start and attach multiple containers at once"));
        };
        return attached(world, &store, name, &args);
    }
    each(&args.containers, |name| {
        let (kept, _) = find(&store, name)?;
        match State::of(&store, &kept.id)?.is_alive() {
            true => Ok(()),
            false => start_one(world, &store, &kept),
        }
    })?;
    Ok(0)
}

fn attached(world: &World, store: &Store, name: &str, args: &StartArgs) -> Result<u8, CommandError> {
    let keys = detach_keys(&args.detach_keys)?;
    let (kept, settings) = find(store, name)?;
    if State::of(store, &kept.id)?.is_alive() {
        return super::attach::attach_to(store, &kept, &settings, args.interactive, keys, true);
    }
    let signals = foreground::signals()?;
    let (attachment, input) = attachment(args.interactive && settings.open_stdin, settings.terminal)?;
    let mut order = world.order(store, &kept.id);
    order.attached = true;
    store.let_go()?;
    let mut started = crate::container::start(&order, Some(attachment)).map_err(not_started)?;
    for warning in std::mem::take(&mut started.warnings) {
        ui::note(&format!("{warning}\n"));
    }
    let connection = &started.connection;
    let taking_part = Attached { connection, terminal: settings.terminal, input, keys, pass_signals: true };
    let code = taking_part.until_the_end(signals)?;
    if code.is_some() {
        started.reap();
    }
    Ok(code.unwrap_or(0))
}
