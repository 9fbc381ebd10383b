//! Containers from images: for now those that run in the foreground and leave nothing.
//!
//! `process` merges the image's config with the user's wishes; [`start`] puts the
//! process on a throw-away layer above the image's. Not here: terminals, signals
//! and exit codes of the command line (`cli`).

pub mod log;
pub mod names;
mod process;

pub use process::{NoCommand, Start, Wishes};

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::image::{ContainerConfig, ImageId, SnapshotId};
use crate::layer::{LayerError, inherit_root};
use crate::sandbox::network::{NetworkError, NetworkPool, NoNetwork, PrivateNetwork, PublishedPort};
use crate::sandbox::{
    LazyLauncher, Network, Running, SandboxError, Stdio, StepEnvironment, TerminalSize, User, Volume,
    private_resolv_conf, step_spec,
};
use crate::store::{Draft, PreparedRoot, Store, StoreError};
use crate::sys::RootDir;
use crate::sys::root_dir::Escape;
use crate::sys::users::{self, UserError};

/// Says why a container did not start.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    #[error(transparent)]
    NoCommand(#[from] NoCommand),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error(transparent)]
    User(#[from] UserError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("{what}")]
    Io { what: String, source: std::io::Error },
    #[error("ports cannot be published: {why}; {fix}")]
    NoPorts { why: String, fix: &'static str },
}

/// The network a container asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkChoice {
    Default,
    None,
    Host,
}

/// What to start, and with what.
pub struct StartRequest<'a> {
    pub store: &'a Store,
    pub launcher: &'a LazyLauncher,
    pub networks: Result<&'a NetworkPool, &'a NoNetwork>,
    /// The host's /etc/resolv.conf.
    pub resolv_conf: &'a str,
    /// Lowest first.
    pub layers: &'a [SnapshotId],
    /// Whose they are; `None` for those of a build step.
    pub image: Option<ImageId>,
    pub config: &'a ContainerConfig,
    pub wishes: &'a Wishes,
    /// Twelve hex digits; also the host name.
    pub id: &'a str,
    pub network: NetworkChoice,
    pub ports: &'a [PublishedPort],
    pub volumes: Vec<Volume>,
    pub terminal: Option<TerminalSize>,
    pub stdio: Stdio,
}

/// A container that runs. Dropped after the process ended, it leaves nothing.
pub struct Container {
    pub running: Running,
    /// The controlling end of its terminal.
    pub terminal: Option<OwnedFd>,
    /// Whether it shares the host's network for want of a program that makes private ones.
    pub shares_network: bool,
    _network: Option<PrivateNetwork>,
    _root: PreparedRoot,
    _draft: Draft,
}

/// Starts a container.
pub fn start(request: StartRequest<'_>) -> Result<Container, ContainerError> {
    let store = request.store;
    let xattrs = store.options().xattrs;
    store.hold()?;
    let start = process::start(request.config, request.wishes, request.id)?;
    let view = store.view(request.layers)?;
    let draft = store.draft()?;
    let upper = RootDir::open(&draft.dir).map_err(|source| ContainerError::Io {
        what: format!("cannot open `{}`", draft.dir.display()),
        source,
    })?;
    inherit_root((!request.layers.is_empty()).then_some(&view), &upper, xattrs)?;
    let user = users::lookup(&view, &start.user)?;
    let workdir = Path::new(&start.workdir);
    if view.try_stat(workdir, true).ok().flatten().is_none() {
        // Where the image's links lead: made as it is named, it would cover them.
        let real = view.resolve(workdir, Escape::Clamp);
        real.and_then(|real| upper.create_dir_all(&real, 0o755)).map_err(|source| ContainerError::Io {
            what: format!("cannot make the working directory `{}`", start.workdir),
            source,
        })?;
    }
    let private = match (request.network, request.networks) {
        (NetworkChoice::Default, Ok(pool)) => Some(pool.dedicated(request.ports)?),
        (NetworkChoice::Default, Err(why)) if !request.ports.is_empty() => {
            return Err(ContainerError::NoPorts { why: why.to_string(), fix: why.fix() });
        }
        _ => None,
    };
    let shares_network = request.network == NetworkChoice::Default && private.is_none();
    let mut prepared = store.prepare_root(request.layers, &draft)?;
    let root = prepared.take_plan().expect("a root that was just prepared has its plan").into();
    let mut step = StepEnvironment::new(root, start.args.iter().map(Into::into).collect());
    step.env = start.env.iter().map(Into::into).collect();
    step.home = user.home;
    step.cwd = PathBuf::from(&start.workdir);
    step.user = User { uid: user.uid, gid: user.gid, groups: user.groups };
    step.hostname = request.id.to_owned();
    step.hosts = hosts(request.id, private.is_some());
    step.terminal = request.terminal;
    (step.network, step.resolv_conf) = match (&private, request.network) {
        (Some(network), _) => {
            let namespace = network.namespace().try_clone_to_owned().map_err(|source| {
                ContainerError::Io { what: "cannot share the network namespace".to_owned(), source }
            })?;
            (Network::Join(namespace), private_resolv_conf(request.resolv_conf).into_bytes())
        }
        (None, NetworkChoice::None) => (Network::None, Vec::new()),
        (None, _) => (Network::Host, request.resolv_conf.as_bytes().to_vec()),
    };
    step.volumes = request.volumes;
    store.hold_for_container(request.layers, request.id, request.image.as_ref())?;
    let mut running = request.launcher.get()?.spawn(step_spec(step), request.stdio)?;
    // It may run for days: from here on only its own layers are kept from a sweep.
    store.let_go()?;
    let terminal = running.take_terminal();
    Ok(Container { running, terminal, shares_network, _network: private, _root: prepared, _draft: draft })
}

/// Returns a container's /etc/hosts.
fn hosts(hostname: &str, private: bool) -> Vec<u8> {
    let own = if private { "10.0.2.100" } else { "127.0.1.1" };
    format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{own}\t{hostname}\n")
        .into_bytes()
}
