//! `rbuild stop`, `kill`, `restart`, `wait`: the end of containers.

use clap::Args;

use super::containers::{self, ask, connect, each};
use super::error::CommandError;
use super::ui;
use super::world::World;
use crate::container::State;
use crate::container::control::{Connection, Reply, Request};
use crate::container::signal::KILL;

/// Stop containers that run: a signal, and after a time SIGKILL.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rbuild stop web\n  rbuild stop -t 1 web db\n\n\
    See also: rbuild start, rbuild kill, rbuild rm")]
pub struct StopArgs {
    /// How long to wait before SIGKILL; negative is for ever [default: the container's own, 10]
    #[arg(short, long, value_name = "SECONDS", visible_alias = "timeout", allow_negative_numbers = true)]
    pub time: Option<i64>,
    /// The signal to send first [default: the container's own, SIGTERM]
    #[arg(short, long, value_name = "SIGNAL")]
    pub signal: Option<String>,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

/// Stops the containers.
pub fn stop(world: &World, args: StopArgs) -> Result<(), CommandError> {
    let signal = args.signal.as_deref().map(containers::signal).transpose()?;
    let store = world.open_store()?;
    each(&args.containers, |name| {
        let kept = store.find_container(name)?;
        containers::stop(&store, &kept, signal, args.time)
    })
}

/// Stop containers and start them again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rbuild restart web\n  rbuild restart -t 1 web db\n\n\
    See also: rbuild stop, rbuild start")]
pub struct RestartArgs {
    /// How long to wait before SIGKILL; negative is for ever [default: the container's own, 10]
    #[arg(short, long, value_name = "SECONDS", visible_alias = "timeout", allow_negative_numbers = true)]
    pub time: Option<i64>,
    /// The signal to send first [default: the container's own, SIGTERM]
    #[arg(short, long, value_name = "SIGNAL")]
    pub signal: Option<String>,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

/// Stops the containers where they run, and starts them.
pub fn restart(world: &World, args: RestartArgs) -> Result<(), CommandError> {
    let signal = args.signal.as_deref().map(containers::signal).transpose()?;
    let store = world.open_store()?;
    each(&args.containers, |name| {
        let kept = store.find_container(name)?;
        containers::stop(&store, &kept, signal, args.time)?;
        containers::start(world, &store, &kept)
    })
}

/// Send a signal to containers that run.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rbuild kill web\n  rbuild kill -s HUP web\n\n\
    See also: rbuild stop, rbuild rm")]
pub struct KillArgs {
    /// The signal
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    pub signal: String,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

/// Sends the signal; one that kills is waited for.
pub fn kill(world: &World, args: KillArgs) -> Result<(), CommandError> {
    let signal = containers::signal(&args.signal)?;
    let store = world.open_store()?;
    each(&args.containers, |name| {
        let kept = store.find_container(name)?;
        let connection = connect(&store, &kept).map_err(|error| {
            CommandError::new(format!("Cannot kill container: {name}: {}", error.message))
        })?;
        ask(&connection, &Request::Kill(signal))?;
        if signal == KILL {
            // Its end is told when all is written down.
            ask(&connection, &Request::Wait)?;
        }
        Ok(())
    })
}

/// Wait until containers have ended, and print their exit codes.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rbuild wait job\n  rbuild run -d --name job flask && rbuild wait job\n\n\
    See also: rbuild start, rbuild stop"
)]
pub struct WaitArgs {
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

/// Waits for each container in turn.
pub fn wait(world: &World, args: WaitArgs) -> Result<(), CommandError> {
    let store = world.open_store()?;
    let mut failed = None;
    for name in &args.containers {
        let code = store.find_container(name).map_err(CommandError::from).and_then(|kept| {
            let state = State::of(&store, &kept.id)?;
            if state.is_alive()
                && let Some(connection) = Connection::open(&store.container_dir(&kept.id))?
                && let Some(Reply::Exited { code, .. }) = ask(&connection, &Request::Wait)?
            {
                return Ok(code);
            }
            Ok(State::of(&store, &kept.id)?.exit_code)
        });
        match code {
            Ok(code) => ui::line(&code.to_string()),
            Err(error) => {
                ui::note(&error.text());
                failed = Some(error.code);
            }
        }
    }
    failed.map_or(Ok(()), |code| Err(CommandError::silent(code)))
}
