//! RUN: one process in a sandbox on a state; what it changes is the layer.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};

use super::copy;
use super::error::WorkerError;
use super::store_worker::{NewLayer, StoreWorker};
use crate::image::SnapshotId;
use crate::layer::inherit_root;
use crate::plan::graph::{NetworkMode, RunOp};
use crate::report::{Event, Stream};
use crate::sandbox::network::{PrivateNetwork, private_resolv_conf};
use crate::sandbox::{BindSource, Exit, Network, Root, Stdio, StepEnvironment, User, Volume, step_spec};
use crate::solve::{Cancel, Log};
use crate::store::Draft;
use crate::sys::users::{self, Owner};

/// What container engines leave in the layer of the first command on an empty root.
const MOUNT_POINTS: [&str; 3] = ["dev", "proc", "sys"];

impl StoreWorker<'_> {
    /// Runs a command on a state and returns the layer it made, not yet committed.
    pub(super) fn run(
        &self,
        op: &RunOp,
        base: &[SnapshotId],
        log: Log<'_>,
        cancel: &Cancel,
    ) -> Result<NewLayer, WorkerError> {
        let store = self.options.store;
        let xattrs = store.options().xattrs;
        let layer = self.new_layer(base)?;
        let user = users::lookup(&layer.base, &op.user)?;
        match layer.base.try_stat(Path::new(&op.workdir), true) {
            Ok(Some(_)) => inherit_root((!base.is_empty()).then_some(&layer.base), &layer.upper, xattrs)?,
            // An image may name a working directory that it does not have.
            _ => {
                let root = Owner { uid: 0, gid: 0 };
                copy::make_directory(&layer.base, &layer.upper, &op.workdir, root, xattrs)?;
            }
        }
        let command = op.args.join(" ");
        let network = self.network(op.network)?;
        let result = self.run_in(op, base, &layer.draft, user, &network, log, cancel);
        if let (Joined::Private(network), Ok(pool)) = (network, self.options.networks) {
            pool.give_back(network);
        }
        match result {
            Err(_) if cancel.is_cancelled() => return Err(WorkerError::Cancelled),
            Err(error) => return Err(error),
            Ok(_) if cancel.is_cancelled() => return Err(WorkerError::Cancelled),
            Ok(Exit::Code(0)) => {}
            Ok(exit) => return Err(WorkerError::Exit { command, exit }),
        }
        for name in MOUNT_POINTS {
            let missing = |root: &crate::sys::RootDir| {
                root.try_stat(Path::new(name), false).is_ok_and(|found| found.is_none())
            };
            if missing(&layer.base) && missing(&layer.upper) {
                layer
                    .upper
                    .create_dir(Path::new(name), 0o755)
                    .map_err(|source| WorkerError::Io { what: format!("cannot make `/{name}`"), source })?;
            }
        }
        Ok(layer)
    }

    /// Takes the network a step asks for.
    fn network(&self, mode: NetworkMode) -> Result<Joined, WorkerError> {
        match (mode, self.options.networks) {
            (NetworkMode::None, _) => Ok(Joined::None),
            (NetworkMode::Host, _) => Ok(Joined::Host),
            (NetworkMode::Default, Ok(pool)) => Ok(Joined::Private(pool.take()?)),
            (NetworkMode::Default, Err(why)) => {
                let text = format!(
                    "warning: RUN steps use the network of this machine, for {why}; see `rbuild doctor`"
                );
                self.options.reporter.event(Event::Warning { text });
                Ok(Joined::Host)
            }
        }
    }

    #[allow(clippy::too_many_arguments)] // what `run` has at hand, for one process
    fn run_in(
        &self,
        op: &RunOp,
        base: &[SnapshotId],
        draft: &Draft,
        user: users::User,
        network: &Joined,
        log: Log<'_>,
        cancel: &Cancel,
    ) -> Result<Exit, WorkerError> {
        let options = &self.options;
        let pipe = |what: &'static str| move |source| WorkerError::Io { what: what.to_owned(), source };
        let root = Root::Overlay {
            lowers: options.store.lowers(base),
            upper: draft.dir.clone(),
            work: draft.work.clone(),
            xattrs: options.store.options().xattrs,
        };
        let mut step = StepEnvironment::new(root, op.args.iter().map(Into::into).collect());
        let env = op.env.iter().map(|entry| &**entry);
        step.env = env.chain(op.env_unkeyed.iter().map(String::as_str)).map(Into::into).collect();
        step.home = user.home;
        step.cwd = PathBuf::from(&op.workdir);
        step.user = User { uid: user.uid, gid: user.gid, groups: user.groups };
        step.network = match network {
            Joined::None => Network::None,
            Joined::Host => Network::Host,
            Joined::Private(network) => {
                let namespace = network.namespace().try_clone_to_owned();
                Network::Join(namespace.map_err(pipe("cannot share the network namespace"))?)
            }
        };
        step.resolv_conf = match network {
            Joined::None => Vec::new(),
            Joined::Host => options.resolv_conf.clone().into_bytes(),
            Joined::Private(_) => private_resolv_conf(&options.resolv_conf).into_bytes(),
        };
        let mounted = |volume: &super::Volume| Volume {
            source: BindSource::Path(volume.host.clone()),
            target: PathBuf::from(&volume.destination),
            read_only: volume.read_only,
        };
        step.volumes = options.volumes.iter().map(mounted).collect();
        step.script = op.script.as_ref().map(|s| (s.name.clone(), s.body.clone().into_bytes()));
        step.ca_cert = options.ca_cert.clone();

        let (stdout, their_stdout) = io::pipe().map_err(pipe("cannot make a pipe"))?;
        let (stderr, their_stderr) = io::pipe().map_err(pipe("cannot make a pipe"))?;
        let stdio =
            Stdio { stdin: None, stdout: Some(their_stdout.into()), stderr: Some(their_stderr.into()) };
        let failed = |error| WorkerError::Sandbox { command: op.args.join(" "), error };
        let launcher = options.launcher.get().map_err(failed)?;
        let running = launcher.spawn(step_spec(step), stdio).map_err(failed)?;
        let stop = running.stop_handle().map_err(failed)?;
        let _hook = cancel.on_cancel(move || drop(stop.kill()));
        pump(stdout.into(), stderr.into(), log).map_err(pipe("cannot read the output of the step"))?;
        running.wait().map_err(failed)
    }
}

/// The network a step got.
enum Joined {
    None,
    Host,
    Private(PrivateNetwork),
}

/// Passes on what a process writes until both its outputs are closed, by it and all its children.
fn pump(stdout: OwnedFd, stderr: OwnedFd, log: Log<'_>) -> io::Result<()> {
    let mut streams =
        vec![(Stream::Stdout, io::PipeReader::from(stdout)), (Stream::Stderr, io::PipeReader::from(stderr))];
    let mut buffer = vec![0u8; 64 * 1024];
    while !streams.is_empty() {
        let mut polled: Vec<PollFd<'_>> =
            streams.iter().map(|(_, fd)| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)).collect();
        match poll(&mut polled, None) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result?,
        };
        let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut still_open = Vec::with_capacity(streams.len());
        for ((stream, mut fd), ready) in streams.into_iter().zip(ready) {
            let open = match ready.then(|| fd.read(&mut buffer)) {
                None => true,
                Some(Ok(length)) => {
                    log(stream, &buffer[..length]);
                    length > 0
                }
                Some(Err(e)) if e.kind() == io::ErrorKind::Interrupted => true,
                Some(Err(e)) => return Err(e),
            };
            if open {
                still_open.push((stream, fd));
            }
        }
        streams = still_open;
    }
    Ok(())
}
