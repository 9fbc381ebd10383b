//! Starts a container's program on its writable layer, and clears up after it.
//!
//! Not here: when that is done (`life`).

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Shared;
use crate::container::control::Failure;
use crate::container::settings::NetworkChoice;
use crate::container::{ContainerError, mounts};
use crate::layer::inherit_root;
use crate::report::chain;
use crate::sandbox::isolation::CHROOT_CONTAINER_WARNING;
use crate::sandbox::network::{PrivateNetwork, PublishedPort};
use crate::sandbox::{
    Isolation, LazyNetworks, Network, Running, Stdio, StepEnvironment, User, private_resolv_conf, step_spec,
};
use crate::store::{Draft, PreparedRoot};
use crate::sys::root_dir::Escape;
use crate::sys::users;
use crate::sys::{RootDir, Snapshotter};

/// Starts the program any number of times.
pub(super) struct Launcher<'a> {
    shared: &'a Arc<Shared>,
    networks: &'a LazyNetworks,
    resolv_conf: String,
    /// Whether the writable layer is as it was made.
    first_time: bool,
    /// Made once: a container that is started again keeps its ports.
    network: Option<PrivateNetwork>,
    warnings: Vec<String>,
}

/// A program that runs, and what is to be cleared up after it.
pub(super) struct Launched {
    pub running: Arc<Running>,
    /// What it writes; of one with a terminal, all of it.
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    root: PreparedRoot,
    draft: Draft,
}

impl<'a> Launcher<'a> {
    pub fn new(
        shared: &'a Arc<Shared>,
        networks: &'a LazyNetworks,
        resolv_conf: String,
        first_time: bool,
    ) -> Launcher<'a> {
        Launcher { shared, networks, resolv_conf, first_time, network: None, warnings: Vec::new() }
    }

    /// Returns what of the settings had no effect at the first start.
    pub fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Returns the ports that are published.
    pub fn ports(&self) -> Vec<PublishedPort> {
        self.network.as_ref().map(|_| self.shared.settings.ports.clone()).unwrap_or_default()
    }

    /// Starts the program.
    pub fn launch(&mut self) -> Result<Launched, Failure> {
        let launched = self.try_launch().map_err(failure);
        // Layers beneath containers are kept for as long as these are.
        let _ = self.shared.store.let_go();
        launched
    }

    fn try_launch(&mut self) -> Result<Launched, ContainerError> {
        let shared = self.shared;
        let (store, settings, kept) = (&shared.store, &shared.settings, &shared.kept);
        store.hold()?;
        let layer = store.container_layer(&kept.id);
        let upper = RootDir::open(&layer).map_err(|source| ContainerError::Io {
            what: format!("cannot open `{}`", layer.display()),
            source,
        })?;
        let view = match self.first_time {
            true => {
                let view = store.view(&kept.layers)?;
                let beneath = (!kept.layers.is_empty()).then_some(&view);
                inherit_root(beneath, &upper, store.options().xattrs)?;
                view
            }
            false => store.container_view(kept)?,
        };
        self.first_time = false;
        let user = users::lookup(&view, &settings.start.user)?;
        let workdir = Path::new(&settings.start.workdir);
        if view.try_stat(workdir, true).ok().flatten().is_none() {
            // Where the image's links lead: made as it is named, it would cover them.
            let real = view.resolve(workdir, Escape::Clamp);
            real.and_then(|real| upper.create_dir_all(&real, 0o755)).map_err(|source| {
                let what = format!("cannot make the working directory `{}`", settings.start.workdir);
                ContainerError::Io { what, source }
            })?;
        }
        drop(view);
        self.connect()?;
        let draft = store.container_draft(&kept.id)?;
        let mut root = store.prepare_container_root(&kept.layers, &draft, !settings.auto_remove)?;
        let plan = root.take_plan().expect("a root that was just prepared has its plan").into();
        let mut step = StepEnvironment::new(plan, settings.start.args.iter().map(Into::into).collect());
        step.env = settings.start.env.iter().map(Into::into).collect();
        step.home = user.home;
        step.cwd = PathBuf::from(&settings.start.workdir);
        step.user = User { uid: user.uid, gid: user.gid, groups: user.groups };
        step.hostname = settings.hostname.clone();
        step.hosts = hosts(&settings.hostname, self.network.is_some());
        step.terminal = settings.terminal.then(|| shared.live().size).flatten();
        (step.network, step.resolv_conf) = self.network_of_step()?;
        let ready = mounts::ready(store, &settings.mounts)?;
        (step.volumes, step.mounts) = (ready.volumes, ready.mounts);
        let (stdio, stdin, mut stdout, stderr) = self.streams().map_err(|source| ContainerError::Io {
            what: "cannot make the container's streams".to_owned(),
            source,
        })?;
        let mut running = shared.launcher.get()?.spawn(step_spec(step), stdio)?;
        self.warnings.extend(running.notes().iter().map(|note| format!("warning: {note}")));
        if let Some(terminal) = running.take_terminal() {
            let ours = terminal.try_clone().map_err(|source| ContainerError::Io {
                what: "cannot use the container's terminal".to_owned(),
                source,
            })?;
            shared.streams.set_input(Some(File::from(ours)));
            stdout = Some(terminal);
        } else {
            shared.streams.set_input(stdin);
        }
        Ok(Launched { running: Arc::new(running), stdout, stderr, root, draft })
    }

    /// Makes the container's network where it has none yet.
    fn connect(&mut self) -> Result<(), ContainerError> {
        let settings = &self.shared.settings;
        if settings.network != NetworkChoice::Default || self.network.is_some() {
            return Ok(());
        }
        match self.networks.get() {
            Ok(pool) => self.network = Some(pool.dedicated(&settings.ports)?),
            Err(why) if !settings.ports.is_empty() => {
                return Err(ContainerError::NoPorts { why: why.to_string(), fix: why.fix() });
            }
            Err(_) if self.shared.launcher.isolation() == Isolation::Chroot => {
                self.warnings.push(CHROOT_CONTAINER_WARNING.to_owned());
            }
            Err(_) => self.warnings.push(
                "warning: the container uses the network of this machine, for it can have none of its own; see `rbuild doctor`"
                    .to_owned(),
            ),
        }
        Ok(())
    }

    /// Returns the network as the sandbox takes it, and the container's resolv.conf.
    fn network_of_step(&self) -> Result<(Network, Vec<u8>), ContainerError> {
        Ok(match (&self.network, self.shared.settings.network) {
            (Some(network), _) => {
                let namespace = network.namespace().try_clone_to_owned().map_err(|source| {
                    ContainerError::Io { what: "cannot share the network namespace".to_owned(), source }
                })?;
                (Network::Join(namespace), private_resolv_conf(&self.resolv_conf).into_bytes())
            }
            (None, NetworkChoice::None) => (Network::None, Vec::new()),
            (None, _) => (Network::Host, self.resolv_conf.as_bytes().to_vec()),
        })
    }

    /// Makes the program's streams, and our ends of them.
    #[allow(clippy::type_complexity)]
    fn streams(&self) -> io::Result<(Stdio, Option<File>, Option<OwnedFd>, Option<OwnedFd>)> {
        if self.shared.settings.terminal {
            return Ok((Stdio::default(), None, None, None));
        }
        let ((stdout, their_stdout), (stderr, their_stderr)) = (io::pipe()?, io::pipe()?);
        let (their_stdin, stdin) = match self.shared.settings.open_stdin {
            true => {
                let (theirs, ours) = io::pipe()?;
                (Some(theirs.into()), Some(File::from(OwnedFd::from(ours))))
            }
            false => (None, None),
        };
        let stdio = Stdio {
            stdin: their_stdin,
            stdout: Some(their_stdout.into()),
            stderr: Some(their_stderr.into()),
        };
        Ok((stdio, stdin, Some(stdout.into()), Some(stderr.into())))
    }

    /// Writes what the program changed into the writable layer, where that is not there already; returns
    /// what went wrong.
    pub fn finish(&self, launched: Launched) -> Option<String> {
        let Launched { running, root, mut draft, .. } = launched;
        drop(running);
        let store = &self.shared.store;
        if store.snapshotter().is_ok_and(|chosen| chosen.snapshotter == Snapshotter::Overlay) {
            return None;
        }
        let finished = store
            .view(&self.shared.kept.layers)
            .and_then(|base| store.finish_container_root(root, &base, &mut draft));
        let _ = store.let_go();
        finished.err().map(|error| chain(&error))
    }
}

/// Says in docker's codes why a container did not start.
fn failure(error: ContainerError) -> Failure {
    let mut hints = Vec::new();
    let mut exit_code = 125;
    let mut message = chain(&error);
    if let ContainerError::Sandbox(sandbox) = &error {
        if let Some(exec) = sandbox.exec() {
            (message, exit_code) = (chain(sandbox), exec.exit_code());
        }
        if sandbox.overlay_refused().is_some() {
            hints.push(
                "`--snapshotter copy` mounts no overlay; `rbuild doctor` says what there is".to_owned(),
            );
        }
    }
    Failure { message, hints, exit_code }
}

/// Returns a container's /etc/hosts.
fn hosts(hostname: &str, private: bool) -> Vec<u8> {
    let own = if private { "10.0.2.100" } else { "127.0.1.1" };
    format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{own}\t{hostname}\n")
        .into_bytes()
}
