//! RUN: one process in a sandbox on a state; what it changes is the layer.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::copy;
use super::error::WorkerError;
use super::mount::StepMounts;
use super::shell::Place;
use super::store_worker::{NewLayer, StoreWorker, base_of};
use super::watch::{Due, SILENCE, Watch};
use crate::image::SnapshotId;
use crate::layer::inherit_root;
use crate::net::{is_on_loopback, show_proxy};
use crate::plan::graph::{NetworkMode, RunOp, Security, VertexId};
use crate::report::{Event, Stream};
use crate::sandbox::isolation::CHROOT_WARNING;
use crate::sandbox::network::PrivateNetwork;
use crate::sandbox::{
    self, BindSource, Exit, Isolation, Network, Stdio, StepEnvironment, User, Volume, hosts_file, step_spec,
};
use crate::solve::{Cancel, InputView, Log, Said};
use crate::store::{Draft, PreparedRoot};
use crate::sys::RootDir;
use crate::sys::users::{self, Owner};

/// What container engines leave in the layer of the first command on an empty root.
const MOUNT_POINTS: [&str; 3] = ["dev", "proc", "sys"];

impl StoreWorker<'_> {
    /// Runs a command on a state and returns the layer it made, not yet committed.
    ///
    /// What a command that fails left is kept for a shell, where that was asked for.
    pub(super) fn run(
        &self,
        id: VertexId,
        op: &RunOp,
        inputs: &[InputView],
        log: Log<'_>,
        cancel: &Cancel,
    ) -> Result<NewLayer, WorkerError> {
        self.check_allowed(op)?;
        let base = base_of(inputs);
        let Started { mut layer, user, is_whole } = self.start_layer(op, base)?;
        let view = is_whole.then_some(&layer.base);
        let command = op.args.join(" ");
        self.warn_of_chroot();
        let mut mounts = self.step_mounts(op, inputs, log, cancel)?;
        let network = self.network(op.network)?;
        let own = user.clone();
        let result = self.run_in(op, base, view, &layer.draft, own, &mut mounts, &network, log, cancel);
        // What a step with all rights made of its network is nothing for the next one.
        if op.security == Security::Sandbox {
            match network {
                Joined::Empty(network) => self.empty_networks.give_back(network),
                Joined::Private(network) => drop(self.options.networks.get().map(|p| p.give_back(network))),
                Joined::Host => {}
            }
        }
        let caches = mounts.take_opened_caches();
        drop(mounts);
        let failure = match result {
            Err(_) if cancel.is_cancelled() => return Err(WorkerError::Cancelled),
            Ok(_) if cancel.is_cancelled() => return Err(WorkerError::Cancelled),
            Ok((Ended::Itself(Exit::Code(0)), _, root)) => {
                self.options.store.finish_root(root, &layer.base, &mut layer.draft)?;
                None
            }
            Ok((ended, oom, mut root)) => {
                if let Some(why) = root.failure() {
                    self.options.reporter.event(Event::Warning { text: format!("warning: {why}") });
                }
                let error = match ended {
                    Ended::Itself(exit) => {
                        let full = is_full(&layer.draft.dir);
                        WorkerError::Exit { command, exit, oom, full }
                    }
                    Ended::TooLate { silent } => {
                        let after = self.options.step.timeout.unwrap_or_default();
                        WorkerError::TooLate { command, after, silent }
                    }
                };
                Some((error, Some(root)))
            }
            Err(error) => Some((error, None)),
        };
        if let Some((error, root)) = failure {
            if error.is_the_commands() {
                self.keep_failed(id, || Place::failed(op, inputs, layer, user, caches, root));
            }
            return Err(error);
        }
        for name in MOUNT_POINTS {
            let missing =
                |root: &RootDir| root.try_stat(Path::new(name), false).is_ok_and(|found| found.is_none());
            if missing(&layer.base) && missing(&layer.upper) {
                layer
                    .upper
                    .create_dir(Path::new(name), 0o755)
                    .map_err(|source| WorkerError::Io { what: format!("cannot make `/{name}`"), source })?;
                layer.draft.changed();
            }
        }
        Ok(layer)
    }

    /// Starts the layer of a command, with the directory that it works in.
    pub(super) fn start_layer(&self, op: &RunOp, base: &[SnapshotId]) -> Result<Started, WorkerError> {
        let xattrs = self.options.store.options().xattrs;
        let layer = self.new_layer(base)?;
        let user = users::lookup(&layer.base, &op.user)?;
        let is_whole = match layer.base.try_stat(Path::new(&op.workdir), true) {
            Ok(Some(_)) => {
                inherit_root((!base.is_empty()).then_some(&layer.base), &layer.upper, xattrs)?;
                true
            }
            // An image may name a working directory that it does not have.
            _ => {
                let root = Owner { uid: 0, gid: 0 };
                copy::make_directory(&layer.base, &layer.upper, &op.workdir, root, xattrs).map_err(|e| {
                    match e {
                        copy::CopyError::NotADirectory(at) => {
                            WorkerError::NoDirectory { path: op.workdir.clone(), at }
                        }
                        error => error.into(),
                    }
                })?;
                false
            }
        };
        Ok(Started { layer, user, is_whole })
    }

    /// Refuses what the command line did not consent to, whoever made the graph.
    pub(super) fn check_allowed(&self, op: &RunOp) -> Result<(), WorkerError> {
        let allowed = self.options.entitlements;
        if op.security == Security::Insecure && !allowed.security_insecure {
            return Err(WorkerError::NotAllowed("security.insecure"));
        }
        if op.network == NetworkMode::Host && !allowed.network_host {
            return Err(WorkerError::NotAllowed("network.host"));
        }
        Ok(())
    }

    /// Says once in a build that its steps are less apart than usual.
    fn warn_of_chroot(&self) {
        let mut noted = self.noted.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.options.launcher.isolation() == Isolation::Chroot && noted.insert("chroot".to_owned()) {
            self.options.reporter.event(Event::Warning { text: CHROOT_WARNING.to_owned() });
        }
    }

    /// Takes the network a step asks for.
    pub(super) fn network(&self, mode: NetworkMode) -> Result<Joined, WorkerError> {
        if self.options.launcher.isolation() == Isolation::Chroot {
            // The warning about the isolation says so already.
            return match mode {
                NetworkMode::None => Err(WorkerError::NotIsolated("`--network none`".to_owned())),
                NetworkMode::Host | NetworkMode::Default => Ok(Joined::Host),
            };
        }
        match mode {
            NetworkMode::None => return Ok(Joined::Empty(self.empty_networks.take()?)),
            NetworkMode::Host => return Ok(Joined::Host),
            NetworkMode::Default => {}
        }
        match self.options.networks.get() {
            Ok(pool) => Ok(Joined::Private(pool.take()?)),
            Err(why) => {
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
        view: Option<&RootDir>,
        draft: &Draft,
        user: users::User,
        mounts: &mut StepMounts,
        network: &Joined,
        log: Log<'_>,
        cancel: &Cancel,
    ) -> Result<(Ended, bool, PreparedRoot), WorkerError> {
        let options = &self.options;
        let pipe = |what: &'static str| move |source| WorkerError::Io { what: what.to_owned(), source };
        let mut prepared = options.store.prepare_root(base, draft)?;
        self.note_snapshotter()?;
        let root = prepared.take_plan().expect("a root that was just prepared has its plan").into();
        let mut step = self.environment(op, root, user, mounts, network)?;
        let shared = view.map(|view| view.fd().try_clone_to_owned()).transpose();
        step.view = shared.map_err(pipe("cannot share the view of the layers"))?;

        let (stdout, their_stdout) = io::pipe().map_err(pipe("cannot make a pipe"))?;
        let (stderr, their_stderr) = io::pipe().map_err(pipe("cannot make a pipe"))?;
        let stdio =
            Stdio { stdin: None, stdout: Some(their_stdout.into()), stderr: Some(their_stderr.into()) };
        let failed = |error| WorkerError::Sandbox { command: op.args.join(" "), error };
        let launcher = options.launcher.get().map_err(failed)?;
        let running = launcher.spawn(step_spec(step), stdio).map_err(failed)?;
        self.note(running.notes());
        let (stop, ours) = (running.stop_handle().map_err(failed)?, running.stop_handle().map_err(failed)?);
        let _hook = cancel.on_cancel(move || drop(stop.kill()));
        let mut watch = Watch::new(options.step.silence.unwrap_or(SILENCE), options.step.timeout);
        let (mut room, mut no_room) = (options.store.watch_room(), None);
        let mut tick = || match room.as_mut()?.look() {
            Ok(again) => Some(again),
            Err(error) => {
                (no_room, room) = (Some(error), None);
                drop(ours.kill());
                None
            }
        };
        let read = pump(stdout.into(), stderr.into(), log, &mut watch, &|| drop(ours.kill()), &mut tick);
        read.map_err(pipe("cannot read the output of the step"))?;
        let exit = running.wait().map_err(failed)?;
        if let Some(error) = no_room {
            return Err(error.into());
        }
        let ended = watch.too_late().map_or(Ended::Itself(exit), |silent| Ended::TooLate { silent });
        Ok((ended, running.oom_killed(), prepared))
    }

    /// Puts together all that a command sees.
    pub(super) fn environment(
        &self,
        op: &RunOp,
        root: sandbox::Root,
        user: users::User,
        mounts: &mut StepMounts,
        network: &Joined,
    ) -> Result<StepEnvironment, WorkerError> {
        let options = &self.options;
        let pipe = |what: &'static str| move |source| WorkerError::Io { what: what.to_owned(), source };
        let mut step = StepEnvironment::new(root, op.args.iter().map(Into::into).collect());
        let hidden = |entry: &&str| {
            let name = entry.split('=').next();
            !mounts.env.iter().any(|(over, _)| Some(over.as_str()) == name)
        };
        let env = op.env.iter().map(|entry| &**entry).chain(op.env_unkeyed.iter().map(String::as_str));
        step.env = env.filter(hidden).map(Into::into).collect();
        for (name, value) in std::mem::take(&mut mounts.env) {
            let mut entry = std::ffi::OsString::from(name);
            entry.push("=");
            entry.push(value);
            step.env.push(entry);
        }
        step.mounts = std::mem::take(&mut mounts.mounts);
        if let Some(hostname) = &op.hostname {
            step.hostname = hostname.clone();
            step.hosts = hosts_file(hostname);
        }
        step.extra_hosts = options.step.extra_hosts.clone();
        step.shm_size = options.step.shm_size.unwrap_or(step.shm_size);
        step.limits = options.step.limits.clone();
        step.cgroup = options.step.cgroup.clone();
        options.step.security.apply(&mut step);
        step.security = match op.security {
            Security::Sandbox => sandbox::Security::Sandbox,
            Security::Insecure => sandbox::Security::Insecure,
        };
        step.home = user.home;
        step.cwd = PathBuf::from(&op.workdir);
        step.user = User { uid: user.uid, gid: user.gid, groups: user.groups };
        let share = pipe("cannot share the network namespace");
        step.network = match network {
            Joined::Host => Network::Host,
            Joined::Empty(network) => Network::Join(network.try_clone().map_err(share)?),
            Joined::Private(network) => {
                Network::Join(network.namespace().try_clone_to_owned().map_err(share)?)
            }
        };
        step.resolv_conf = match network {
            Joined::Empty(_) => Vec::new(),
            Joined::Host => options.step.dns.of_host(&options.resolv_conf).into_bytes(),
            Joined::Private(_) => options.step.dns.of_private(&options.resolv_conf).into_bytes(),
        };
        let mounted = |volume: &super::Volume| Volume {
            source: BindSource::Path(volume.host.clone()),
            target: PathBuf::from(&volume.destination),
            read_only: volume.read_only,
            make_points: false,
        };
        step.volumes = options.volumes.iter().map(mounted).collect();
        step.script = op.script.as_ref().map(|s| (s.name.clone(), s.body.clone().into_bytes()));
        step.ca_cert = options.ca_cert.clone();

        if let Joined::Private(_) = network {
            self.warn_loopback(&step.env);
        }
        Ok(step)
    }

    /// Tells what is taken instead of overlayfs, once in a build.
    fn note_snapshotter(&self) -> Result<(), WorkerError> {
        if let Some(notice) = self.options.store.snapshotter()?.notice()
            && self.noted.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(notice.clone())
        {
            self.options.reporter.event(Event::Warning { text: format!("warning: {notice}") });
        }
        Ok(())
    }

    /// Tells of proxies that a network of the step's own does not lead to, once in a build.
    fn warn_loopback(&self, env: &[std::ffi::OsString]) {
        let proxy = |entry: &std::ffi::OsString| {
            let (name, value) = entry.to_str()?.split_once('=')?;
            let upper = name.to_ascii_uppercase();
            let is_proxy = upper.ends_with("_PROXY") && upper != "NO_PROXY";
            (is_proxy && is_on_loopback(value)).then(|| show_proxy(value).ok()).flatten()
        };
        let Some(proxy) = env.iter().find_map(proxy) else { return };
        let mut noted = self.noted.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if noted.insert("proxy on the loopback".to_owned()) {
            let text = format!(
                "warning: the proxy {proxy} is on the loopback of this machine, which RUN steps in a network of \
                 their own do not reach; build with `--network host`, or name the proxy by another address of \
                 this machine, which it must listen on"
            );
            self.options.reporter.event(Event::Warning { text });
        }
    }

    /// Tells what of the options has no effect here, once in a build.
    pub(super) fn note(&self, notes: &[sandbox::Note]) {
        for note in notes {
            let mut noted = self.noted.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if noted.insert(note.what.clone()) {
                self.options.reporter.event(Event::Warning { text: format!("warning: {note}") });
            }
        }
    }
}

/// Tells whether there is no room, or no inode, left where a directory is.
fn is_full(directory: &Path) -> bool {
    // With less than this nobody writes on.
    const LEAST_BYTES: u64 = 64 << 10;
    let Ok(stat) = rustix::fs::statvfs(directory) else { return false };
    let bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
    bytes < LEAST_BYTES || (stat.f_files > 0 && stat.f_favail == 0)
}

/// What a command starts with.
pub(super) struct Started {
    pub layer: NewLayer,
    pub user: users::User,
    /// Whether the view of what lies beneath has all that the root will have.
    pub is_whole: bool,
}

/// The network a step got.
pub(super) enum Joined {
    Host,
    /// Nothing but loopback.
    Empty(OwnedFd),
    Private(PrivateNetwork),
}

/// How a step's process ended.
enum Ended {
    Itself(Exit),
    /// It was stopped for its time was over; it had said nothing for so long.
    TooLate {
        silent: Duration,
    },
}

/// Passes on what a process writes until both its outputs are closed, by it and all its children.
///
/// `stop` is called once its time is over, which ends it and them;
/// `tick` is called meanwhile; it returns after how long it is to be called again, at the latest.
fn pump(
    stdout: OwnedFd,
    stderr: OwnedFd,
    log: Log<'_>,
    watch: &mut Watch,
    stop: &dyn Fn(),
    tick: &mut dyn FnMut() -> Option<Duration>,
) -> io::Result<()> {
    let mut streams =
        vec![(Stream::Stdout, io::PipeReader::from(stdout)), (Stream::Stderr, io::PipeReader::from(stderr))];
    let mut buffer = vec![0u8; 64 * 1024];
    while !streams.is_empty() {
        let mut polled: Vec<PollFd<'_>> =
            streams.iter().map(|(_, fd)| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)).collect();
        // What is due first: a line about silence, the end of its time, a look at the room that is left.
        let pause = [watch.pause(), tick()].into_iter().flatten().min();
        let pause = pause.and_then(|pause| Timespec::try_from(pause).ok());
        let count = match poll(&mut polled, pause.as_ref()) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result?,
        };
        if count > 0 {
            watch.heard();
        }
        match watch.is_time() {
            Some(Due::Silent { silent, running }) => log(Said::Silent { silent, running }),
            Some(Due::TooLate) => stop(),
            None => {}
        }
        let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut still_open = Vec::with_capacity(streams.len());
        for ((stream, mut fd), ready) in streams.into_iter().zip(ready) {
            let open = match ready.then(|| fd.read(&mut buffer)) {
                None => true,
                Some(Ok(length)) => {
                    log(Said::Output(stream, &buffer[..length]));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Entitlements;
    use crate::report::Silent;
    use crate::sandbox::network::NoNetwork;
    use crate::sandbox::{LazyLauncher, LazyNetworks};
    use crate::store::testing;
    use crate::worker::{FetchOptions, Fetcher, Sources, StepOptions, StoreWorkerOptions};

    #[test]
    fn rights_are_asked_for_when_it_runs() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let launcher = LazyLauncher::new("/proc/self/exe".into());
        let networks = LazyNetworks::without(NoNetwork::NotInstalled);
        let sources = Sources::new(Fetcher::new(&store, FetchOptions::default(), Box::new(|_| None)));
        let refused = |network, security, entitlements| {
            let worker = StoreWorker::new(StoreWorkerOptions {
                store: &store,
                launcher: &launcher,
                networks: &networks,
                resolv_conf: String::new(),
                reporter: &Silent,
                sources: &sources,
                volumes: Vec::new(),
                ca_cert: None,
                step: StepOptions::default(),
                entitlements,
                imports: None,
            });
            let op = RunOp {
                args: vec!["true".to_owned()],
                env: [].into(),
                env_unkeyed: Vec::new(),
                workdir: "/".to_owned(),
                user: String::new(),
                network,
                security,
                mounts: Vec::new(),
                extra_hosts: Vec::new(),
                hostname: None,
                volumes: Vec::new(),
                script: None,
                source_date_epoch: None,
            };
            worker.check_allowed(&op).err().map(|error| error.to_string())
        };
        let (none, host) =
            (Entitlements::default(), Entitlements { network_host: true, ..Default::default() });
        let all = Entitlements { security_insecure: true, ..host };
        let security = "security.insecure is not allowed".to_owned();
        assert_eq!(refused(NetworkMode::Default, Security::Sandbox, none), None);
        assert_eq!(
            refused(NetworkMode::Host, Security::Sandbox, none),
            Some("network.host is not allowed".into())
        );
        assert_eq!(refused(NetworkMode::Default, Security::Insecure, host), Some(security));
        assert_eq!(refused(NetworkMode::Host, Security::Insecure, all), None);
    }
}
