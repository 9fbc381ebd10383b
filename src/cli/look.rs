//! Looking at containers: what the commands that list and describe them share.
//!
//! Not here: what acts on those that run (`containers`, `run`, `start`, `stop`, ...).

mod details;
mod filters;
mod list;
mod logs;
mod port;
mod prune;
mod rename;
mod words;

pub use details::{SHAPE, details};
pub use list::{PsArgs, ps, usage_row};
pub use logs::{LogsArgs, logs};
pub use port::{PortArgs, port};
pub use prune::{ContainerPruneArgs, print_containers, prune, remove_stopped};
pub use rename::{RenameArgs, rename};

use super::error::CommandError;
use super::ui;
use crate::container::mounts::{self, MountPoint};
use crate::container::{Settings, State};
use crate::store::{KeptContainer, Store};

/// A container with all that is kept of it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub kept: KeptContainer,
    pub settings: Settings,
    pub state: State,
    pub mounts: Vec<MountPoint>,
}

impl Seen {
    /// Reads what belongs to a record.
    pub fn of(store: &Store, kept: KeptContainer) -> Result<Seen, CommandError> {
        let (settings, state) = (Settings::of(&kept)?, State::of(store, &kept.id)?);
        let mounts = mounts::describe(store, &settings.mounts);
        Ok(Seen { kept, settings, state, mounts })
    }

    /// Returns the ports that are exposed or published, each with where it is published now.
    fn ports(&self) -> Vec<words::Port> {
        let mut ports: Vec<words::Port> = Vec::new();
        if !self.state.is_alive() {
            return ports;
        }
        for port in &self.state.ports {
            ports.push(words::Port {
                inside: port.container.port,
                outside: Some((port.host_address.to_string(), port.host_port)),
                protocol: port.container.protocol.to_string(),
            });
        }
        for exposed in self.settings.config.exposed_ports.keys() {
            let (number, protocol) = exposed.split_once('/').unwrap_or((exposed, "tcp"));
            let is_published =
                |port: &words::Port| port.inside.to_string() == number && port.protocol == protocol;
            if let Ok(inside) = number.parse()
                && !ports.iter().any(is_published)
            {
                ports.push(words::Port { inside, outside: None, protocol: protocol.to_owned() });
            }
        }
        ports
    }
}

/// Finds a container by its name, its id or the unique start of that.
pub fn find(store: &Store, name: &str) -> Result<Seen, CommandError> {
    Seen::of(store, store.find_container(name)?)
}

/// Lists all containers, newest first; one that cannot be read is told of.
pub fn all(store: &Store) -> Result<Vec<Seen>, CommandError> {
    let mut seen = Vec::new();
    for listed in store.containers()?.into_iter().rev() {
        match Seen::of(store, listed.kept) {
            Ok(container) => seen.push(container),
            Err(error) => ui::note(&format!("warning: {}\n", error.message)),
        }
    }
    Ok(seen)
}
