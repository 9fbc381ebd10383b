//! `rbuild rm`: containers, their writable layers and logs, removed.

use std::time::{Duration, Instant};

use clap::Args;

use super::containers::each;
use super::error::CommandError;
use super::world::World;
use crate::container::control::{Connection, Request};
use crate::container::signal::KILL;
use crate::container::{Settings, State, mounts};
use crate::store::{ContainerLock, KeptContainer, Store, StoreError};

/// How long a supervisor may take to let go of a container that has ended.
const LETTING_GO: Duration = Duration::from_secs(10);

/// Remove containers.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rbuild rm web\n  rbuild rm -f $(rbuild ps -aq)\n\n\
    See also: rbuild stop, rbuild rmi")]
pub struct RmArgs {
    /// Kill a container that runs, and do not mind one that is not there
    #[arg(short, long)]
    pub force: bool,
    /// Remove its anonymous volumes, too
    #[arg(short, long)]
    pub volumes: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

/// Removes the containers.
pub fn rm(world: &World, args: RmArgs) -> Result<(), CommandError> {
    let store = world.open_store()?;
    let mut names = args.containers;
    if args.force {
        names.retain(|name| {
            let is_missing = matches!(store.find_container(name), Err(StoreError::NoContainer(_)));
            if is_missing {
                super::ui::note(&format!("Error: No such container: {name}\n"));
            }
            !is_missing
        });
    }
    each(&names, |name| match store.find_container(name) {
        Ok(kept) => {
            remove(&store, &kept, args.force)?;
            if args.volumes {
                mounts::remove_anonymous(&store, &Settings::of(&kept)?.mounts)?;
            }
            Ok(())
        }
        // Somebody else was faster.
        Err(StoreError::NoContainer(_)) if args.force => Ok(()),
        Err(error) => Err(error.into()),
    })
}

/// Removes a container; `force`: also one that runs.
pub fn remove(store: &Store, kept: &KeptContainer, force: bool) -> Result<(), CommandError> {
    match lock(store, kept, force)? {
        Some(lock) => Ok(store.remove_container(kept, lock)?),
        // It went with `--rm`.
        None => Ok(()),
    }
}

/// Takes a container's lock, which its supervisor is about to let go, or with `force` is made to; `None` where the
/// container is gone.
fn lock(store: &Store, kept: &KeptContainer, force: bool) -> Result<Option<ContainerLock>, CommandError> {
    let until = Instant::now() + LETTING_GO;
    loop {
        // Each time: one that was being started may run by now.
        if !force && State::of(store, &kept.id)?.is_alive() {
            return Err(CommandError::new(format!(
                "You cannot remove a running container {}. Stop the container before attempting removal or force remove",
                kept.id
            ))
            .hint(format!("`rbuild stop {0}`, or `rbuild rm -f {0}`", kept.name)));
        }
        // Whoever listens hears, whatever the state says: it could be starting.
        if force && let Some(connection) = Connection::open(&store.container_dir(&kept.id))? {
            let stop = Request::Stop { signal: Some(KILL), timeout_s: Some(0) };
            super::containers::ask(&connection, &stop)?;
        }
        if let Some(lock) = store.lock_container(&kept.id)? {
            return Ok(Some(lock));
        }
        if store.container(&kept.id)?.is_none() {
            return Ok(None);
        }
        if Instant::now() >= until {
            return Err(CommandError::new(format!(
                "container {} is being started or stopped",
                kept.id.short()
            ))
            .hint("wait for that, and remove it then"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
