//! A container's network and its published ports, from before its program starts to its end.
//!
//! Begun first and waited for last: what connects a network takes some milliseconds. Not here: making one
//! (`sandbox::network`), carrying what goes through ports (`ports`).

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::Shared;
use crate::container::ContainerError;
use crate::container::options::{CONTAINER_ADDRESS, NetworkMode, hosts_file};
use crate::container::ports::{BoundPorts, Forwarder, PortMapping, exposed, with_all};
use crate::container::state::State;
use crate::sandbox::isolation::CHROOT_CONTAINER_WARNING;
use crate::sandbox::network::{NetworkError, PrivateNetwork, StartingNetwork, host_address};
use crate::sandbox::{Isolation, LazyNetworks, Network, StepEnvironment};
use crate::store::Store;
use crate::sys::RootDir;

/// The most bytes of another container's files that are read.
const LIMIT: usize = 64 << 10;

/// What a container is connected by. It keeps its ports until this is dropped.
#[derive(Default)]
pub(super) struct Connection {
    // Dropped in this order: nothing is carried into a network that is gone.
    forwarder: Option<Forwarder>,
    ports: Option<BoundPorts>,
    starting: Option<StartingNetwork>,
    network: Option<PrivateNetwork>,
    /// One that was begun before the container was known, or why it could not be.
    prepared: Option<Result<StartingNetwork, NetworkError>>,
}

/// The network of another container.
struct Joined {
    namespace: OwnedFd,
    hosts: Vec<u8>,
    resolv_conf: Vec<u8>,
}

impl Connection {
    /// Will use a network that is begun already, where there is one.
    pub fn new(prepared: Option<Result<StartingNetwork, NetworkError>>) -> Connection {
        Connection { prepared, ..Connection::default() }
    }

    /// Gives the ports back and ends the network, for good.
    pub fn leave(&mut self) {
        self.forwarder.take();
        self.ports.take();
        self.starting.take();
        if let Some(network) = self.network.take() {
            network.leave();
        }
    }

    /// Returns the ports that are published.
    pub fn ports(&self) -> Vec<PortMapping> {
        self.ports.as_ref().map(BoundPorts::mappings).unwrap_or_default()
    }

    /// Takes the ports and begins to make the network, where that was not done yet; returns a warning.
    pub fn begin(
        &mut self,
        shared: &Shared,
        networks: &LazyNetworks,
    ) -> Result<Option<String>, ContainerError> {
        let options = &shared.settings.options.network;
        let prepared = self.prepared.take();
        if options.mode != NetworkMode::Default || self.network.is_some() {
            return Ok(None);
        }
        let mut requests = options.ports.clone();
        if options.publish_all {
            let names = shared.settings.config.exposed_ports.keys().map(String::as_str);
            requests = with_all(requests, &exposed(names)?);
        }
        match networks.get() {
            Ok(pool) => {
                if self.ports.is_none() {
                    let bound = BoundPorts::bind(&requests, options.publish_address, &shared.kept.name)?;
                    self.ports = Some(bound);
                }
                self.starting = Some(prepared.unwrap_or_else(|| pool.begin())?);
                Ok(None)
            }
            Err(why) if !requests.is_empty() => {
                Err(ContainerError::NoPorts { why: why.to_string(), fix: why.fix() })
            }
            Err(_) if shared.launcher.isolation() == Isolation::Chroot => {
                Ok(Some(CHROOT_CONTAINER_WARNING.to_owned()))
            }
            Err(_) => Ok(Some(
                "warning: the container uses the network of this machine, for it can have none of its own; see \
                 `rbuild doctor`"
                    .to_owned(),
            )),
        }
    }

    /// Waits for the network, starts to carry, and puts all of it into what is started.
    pub fn ready(
        &mut self,
        step: &mut StepEnvironment,
        shared: &Shared,
        resolv_conf: &str,
    ) -> Result<(), ContainerError> {
        let failed = |what: &'static str| move |source| ContainerError::Io { what: what.to_owned(), source };
        let settings = &shared.settings;
        let options = &settings.options.network;
        if let Some(starting) = self.starting.take() {
            let network = starting.ready()?;
            if let Some(ports) = self.ports.as_ref().filter(|ports| !ports.is_empty()) {
                let serve = ports.serve(network.namespace(), CONTAINER_ADDRESS);
                self.forwarder = Some(serve.map_err(failed("cannot serve the published ports"))?);
            }
            self.network = Some(network);
        }
        step.extra_hosts = options.hosts(host_address)?;
        step.resolv_conf = options.resolv_conf(resolv_conf, self.network.is_some()).into_bytes();
        step.hosts = hosts_file(&settings.hostname, self.network.as_ref().map(|_| CONTAINER_ADDRESS));
        step.network = match (&self.network, &options.mode) {
            (Some(network), _) => {
                let namespace = network.namespace().try_clone_to_owned();
                Network::Join(namespace.map_err(failed("cannot share the network namespace"))?)
            }
            (None, NetworkMode::None) => Network::None,
            (None, NetworkMode::Container(name)) => {
                let joined = join(&shared.store, name)?;
                (step.hosts, step.resolv_conf) = (joined.hosts, joined.resolv_conf);
                Network::Join(joined.namespace)
            }
            (None, NetworkMode::Host | NetworkMode::Default) => {
                if let Ok(hosts) = std::fs::read("/etc/hosts") {
                    step.hosts = hosts;
                }
                Network::Host
            }
        };
        Ok(())
    }
}

/// Opens the network of a container that runs, and reads its files about it.
fn join(store: &Store, name: &str) -> Result<Joined, ContainerError> {
    let kept = store.find_container(name)?;
    let failed = |why: String| ContainerError::Join { name: kept.name.clone(), why };
    let running = || {
        let state = State::of(store, &kept.id)?;
        Ok::<_, ContainerError>(state.pid.filter(|_| state.is_alive()))
    };
    let pid = running()?.ok_or_else(|| failed("it does not run".to_owned()))?;
    let place = Path::new("/proc").join(pid.to_string());
    let open = || -> io::Result<Joined> {
        let namespace = File::open(place.join("ns/net"))?.into();
        let root = RootDir::open(&place.join("root"))?;
        let read = |path: &str| root.read_small(Path::new(path), LIMIT);
        Ok(Joined { namespace, hosts: read("/etc/hosts")?, resolv_conf: read("/etc/resolv.conf")? })
    };
    let joined = open().map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => failed(
            "the containers of an ordinary user are kept apart by user namespaces; publish a port of it, and reach it at \
             `--add-host NAME:host-gateway`"
                .to_owned(),
        ),
        _ => failed(error.to_string()),
    })?;
    // Its number may have gone to another process: then it does not run with it now.
    match running()? == Some(pid) {
        true => Ok(joined),
        false => Err(failed("it does not run".to_owned())),
    }
}
