//! `rbuild attach`: takes part in a container that runs.

use clap::Args;

use super::attached::{Attached, attachment, detach_keys};
use super::containers::{connect, find};
use super::error::CommandError;
use super::foreground;
use super::world::World;
use crate::container::{Settings, State, Status, Streams};
use crate::store::{KeptContainer, Store};

/// Take part in the streams of a container that runs.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rbuild attach web\n  rbuild attach --no-stdin --sig-proxy=false web\n\n\
    Ctrl-P Ctrl-Q leaves a container with a terminal, which goes on running.\n\n\
    See also: rbuild run, rbuild start"
)]
pub struct AttachArgs {
    /// Do not pass standard input on
    #[arg(long)]
    pub no_stdin: bool,
    /// Pass signals on to the container
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true",
        num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    pub sig_proxy: bool,
    /// The keys that leave the container running: letters, or ctrl-LETTER, with commas between
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub detach_keys: String,
    /// A name or an id
    #[arg(value_name = "CONTAINER")]
    pub container: String,
}

/// Takes part until the container ends or the user leaves; returns the container's exit code.
pub fn attach(world: &World, args: AttachArgs) -> Result<u8, CommandError> {
    let keys = detach_keys(&args.detach_keys)?;
    let store = world.open_store()?;
    let (kept, settings) = find(&store, &args.container)?;
    attach_to(&store, &kept, &settings, !args.no_stdin, keys, args.sig_proxy)
}

/// Takes part in a container that runs.
pub fn attach_to(
    store: &Store,
    kept: &KeptContainer,
    settings: &Settings,
    stdin: bool,
    keys: Vec<u8>,
    pass_signals: bool,
) -> Result<u8, CommandError> {
    if State::of(store, &kept.id)?.status == Status::Paused {
        return Err(CommandError::new("You cannot attach to a paused container, unpause it first"));
    }
    let connection =
        connect(store, kept).map_err(|error| match error.message.contains("is not running") {
            true => CommandError::new("You cannot attach to a stopped container, start it first")
                .hint(format!("`rbuild start -a {}` does both", kept.name)),
            false => error,
        })?;
    let signals = foreground::signals()?;
    let streams = Streams { stdin: stdin && settings.open_stdin, stdout: true, stderr: true };
    let (attachment, ours) = attachment(streams, settings.terminal)?;
    attachment.ask(&connection)?;
    drop(attachment);
    if settings.terminal {
        let size = foreground::window_size();
        let resize = crate::container::control::Request::Resize { rows: size.ws_row, columns: size.ws_col };
        connection.send(&resize, &[])?;
    }
    let taking_part =
        Attached { connection: &connection, terminal: settings.terminal, ours, keys, pass_signals };
    Ok(taking_part.until_the_end(signals)?.unwrap_or(0))
}
