//! What the commands of containers share: finding them, asking their supervisors, errors of several.
//!
//! Not here: each command.

use std::io;

use super::error::{CommandError, chain, code};
use super::ui;
use super::world::World;
use crate::container::control::{Connection, Reply, Request};
use crate::container::{Settings, StartError, Started, State};
use crate::store::{KeptContainer, Store};

/// Does something to each of the containers that a user named, prints the name of each where it was
/// done, and an error where it was not; the rest is still done.
pub fn each(
    names: &[String],
    mut act: impl FnMut(&str) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let mut failed = None;
    for name in names {
        match act(name) {
            Ok(()) => ui::line(name),
            Err(error) => {
                ui::note(&error.text());
                failed = Some(error.code);
            }
        }
    }
    failed.map_or(Ok(()), |code| Err(CommandError::silent(code)))
}

/// Connects to the supervisor of a container that runs.
pub fn connect(store: &Store, kept: &KeptContainer) -> Result<Connection, CommandError> {
    let not_running = || CommandError::new(format!("Container {} is not running", kept.id));
    if !State::of(store, &kept.id)?.is_alive() {
        return Err(not_running());
    }
    Connection::open(&store.container_dir(&kept.id))?.ok_or_else(not_running)
}

/// Asks a supervisor, and waits for its answer; `None` where it ended without one.
pub fn ask(connection: &Connection, request: &Request) -> Result<Option<Reply>, CommandError> {
    match connection.send(request, &[]) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(None),
        sent => sent?,
    }
    match connection.receive::<Reply>()? {
        Some((Reply::Refused(why), _)) => Err(CommandError::new(why)),
        Some((reply, _)) => Ok(Some(reply)),
        None => Ok(None),
    }
}

/// Ends a container that runs; one that does not is no error.
pub fn stop(
    store: &Store,
    kept: &KeptContainer,
    signal: Option<i32>,
    timeout_s: Option<i64>,
) -> Result<(), CommandError> {
    // Whoever listens hears: its state would not tell of one that is just being started.
    let Some(connection) = Connection::open(&store.container_dir(&kept.id))? else { return Ok(()) };
    ask(&connection, &Request::Stop { signal, timeout_s }).map(drop)
}

/// Starts a container in the background.
pub fn start(world: &World, store: &Store, kept: &KeptContainer) -> Result<(), CommandError> {
    store.let_go()?;
    let supervisor = world.supervisor(false).map_err(not_started)?;
    let Started { warnings, .. } = supervisor.start(&world.order(store, kept), None).map_err(not_started)?;
    for warning in warnings {
        ui::note(&format!("{warning}\n"));
    }
    Ok(())
}

/// Says why a container did not start.
pub fn not_started(error: StartError) -> CommandError {
    match error {
        StartError::Failed(failure) => {
            let mut error = CommandError::new(failure.message).code(failure.exit_code);
            error.hints = failure.hints;
            error
        }
        other => CommandError::new(chain(&other)).code(code::RUN_FAILED),
    }
}

/// Reads a signal's name or number.
pub fn signal(text: &str) -> Result<i32, CommandError> {
    crate::container::signal::parse(text)
        .ok_or_else(|| CommandError::usage(format!("Invalid signal: {text}")))
}

/// Returns a container and its settings.
pub fn find(store: &Store, name: &str) -> Result<(KeptContainer, Settings), CommandError> {
    let kept = store.find_container(name)?;
    let settings = Settings::of(&kept)?;
    Ok((kept, settings))
}
