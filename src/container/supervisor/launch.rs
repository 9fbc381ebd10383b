//! Starts a container's program on its writable layer, and clears up after it.
//!
//! Not here: when that is done (`life`).

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::Shared;
use super::connection::Connection;
use crate::container::control::Failure;
use crate::container::ports::PortMapping;
use crate::container::{ContainerError, mounts};
use crate::layer::inherit_root;
use crate::report::chain;
use crate::sandbox::network::{NetworkError, StartingNetwork};
use crate::sandbox::{Isolation, LazyNetworks, Running, Stdio, StepEnvironment, User, step_spec};
use crate::store::{Draft, PreparedRoot};
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
    connection: Connection,
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
        network: Option<Result<StartingNetwork, NetworkError>>,
        resolv_conf: String,
        first_time: bool,
    ) -> Launcher<'a> {
        let connection = Connection::new(network);
        Launcher { shared, networks, resolv_conf, first_time, connection, warnings: Vec::new() }
    }

    /// Gives up what was kept from one start to the next: there is none any more.
    pub fn leave(&mut self) {
        self.connection.leave();
    }

    /// Returns what of the settings had no effect at the first start.
    pub fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Returns the ports that are published.
    pub fn ports(&self) -> Vec<PortMapping> {
        self.connection.ports()
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
        // First of all: a port that is taken leaves nothing behind, and a network takes its time.
        let connected = self.connection.begin(shared, self.networks)?;
        if let Some(warning) = connected {
            self.warnings.push(warning);
        }
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
        let draft = store.container_draft(&kept.id)?;
        let mut root = store.prepare_container_root(&kept.layers, &draft, !settings.auto_remove)?;
        let plan = root.take_plan().expect("a root that was just prepared has its plan").into();
        let mut step = StepEnvironment::new(plan, settings.start.args.iter().map(Into::into).collect());
        step.env = settings.start.env.iter().map(Into::into).collect();
        step.home = user.home;
        step.cwd = PathBuf::from(&settings.start.workdir);
        // In the merged root: what is above it keeps its mode and owner, and it may be in a volume.
        step.make_cwd = true;
        step.user = User { uid: user.uid, gid: user.gid, groups: user.groups };
        step.hostname = settings.hostname.clone();
        step.terminal = settings.terminal.then(|| shared.live().size).flatten();
        settings.options.apply(&mut step, &view)?;
        drop(view);
        if shared.launcher.isolation() == Isolation::Chroot {
            mounts::refuse_copies(&settings.mounts)?;
        }
        let ready = mounts::ready(store, &settings.mounts)?;
        step.volumes.extend(ready.volumes);
        step.mounts.extend(ready.mounts);
        let (stdio, stdin, mut stdout, stderr) = self.streams().map_err(|source| ContainerError::Io {
            what: "cannot make the container's streams".to_owned(),
            source,
        })?;
        let launcher = shared.launcher.get()?;
        self.connection.ready(&mut step, shared, &self.resolv_conf)?;
        let mut running = launcher.spawn(step_spec(step), stdio)?;
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
    if let ContainerError::Ports(error) = &error {
        hints.extend(error.fix().map(str::to_owned));
    }
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
