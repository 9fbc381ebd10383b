//! A shell where a command ran, or would run: the same root, mounts, user, network and limits.
//!
//! What is changed there is thrown away with the [`Shell`]: it is never a layer. The caches of
//! `RUN --mount=type=cache` are the real ones, but without their locks, so that nobody waits for a shell.
//! Not here: when one is opened and what its words mean (`build`), terminals (`cli`).

mod busybox;
mod tools;

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

pub use busybox::{BadBusybox, Busybox, NoBusybox};
pub use tools::Word;

use tools::{BIN, PLACE, Tools};

use super::error::WorkerError;
use super::mount::{OpenedCaches, StepMounts};
use super::run::{Joined, Started};
use super::store_worker::{NewLayer, StoreWorker, base_of};
use crate::image::SnapshotId;
use crate::plan::graph::{RunOp, VertexId};
use crate::sandbox::{
    BindSource, ExecFailure, Isolation, MountSource, Running, SandboxError, Stdio, StepMount, TerminalSize,
    step_spec,
};
use crate::solve::{Cancel, InputView, View};
use crate::store::{Draft, PreparedRoot};
use crate::sys::RootDir;
use crate::sys::users::User;

/// The shells that are looked for in an image, the more comfortable first.
const SHELLS: [&str; 4] = ["/bin/bash", "/usr/bin/bash", "/bin/sh", "/usr/bin/sh"];

/// The search path of an environment that has none: what the sandbox looks through then.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where a shell can be opened: a state, a layer above it that is thrown away, and all that a command sees.
pub struct Place {
    op: RunOp,
    /// With the ids that the disk knows layers by.
    inputs: Vec<InputView>,
    draft: Draft,
    /// The root that the command had, where it ran.
    root: Option<PreparedRoot>,
    /// The merged view of what lies beneath.
    base: RootDir,
    upper: RootDir,
    user: User,
    /// The caches that the command had, or is to have.
    caches: OpenedCaches,
}

/// How to open a shell.
#[derive(Debug, Default)]
pub struct ShellRequest {
    /// A program and its arguments; none is a shell.
    pub command: Vec<String>,
    /// A terminal of its own instead of `stdio`.
    pub terminal: Option<TerminalSize>,
    /// TERM, where the step sets none and there is a terminal.
    pub term: String,
    pub stdio: Stdio,
    /// What stands in for a shell where the image has none.
    pub busybox: Option<Busybox>,
    /// Whether there are the commands `retry` and `abort`.
    pub commands: bool,
}

/// A shell that runs. Dropping it ends it, and leaves nothing.
pub struct Shell {
    pub running: Running,
    /// The controlling end of its terminal.
    pub terminal: Option<OwnedFd>,
    tools: Tools,
    _mounts: StepMounts,
    _network: Joined,
    _place: Place,
}

impl Shell {
    /// Returns the word that a command of the shell said last; does not wait.
    pub fn word(&mut self) -> Option<Word> {
        self.tools.word()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // What it works on is removed next. One that has ended is no error, and is not waited for.
        let _ = self.running.kill();
        let mut fds = [PollFd::from_borrowed_fd(self.running.pidfd(), PollFlags::IN)];
        while poll(&mut fds, None) == Err(Errno::INTR) {}
    }
}

/// What is started: the program, and what makes it possible.
struct Attempt {
    args: Vec<OsString>,
    /// What runs the commands `retry` and `abort`.
    interpreter: String,
    with_busybox: bool,
}

impl Place {
    /// Makes the place of a command that failed.
    pub(super) fn failed(
        op: &RunOp,
        inputs: &[InputView],
        layer: NewLayer,
        user: User,
        caches: OpenedCaches,
        root: Option<PreparedRoot>,
    ) -> Place {
        let NewLayer { draft, upper, base } = layer;
        Place { op: op.clone(), inputs: inputs.to_vec(), draft, root, base, upper, user, caches }
    }

    /// Returns the layers that it stands on or mounts.
    pub fn layers(&self) -> Vec<SnapshotId> {
        let mut layers = Vec::new();
        for input in &self.inputs {
            if let View::State(state) = &input.view {
                layers.extend(state.iter().cloned());
            }
        }
        layers
    }

    /// Tells whether a program is there, as far as can be told without a mount.
    fn has(&self, path: &str) -> bool {
        let there =
            |root: &RootDir| matches!(root.try_stat(Path::new(path), true), Ok(Some(stat)) if stat.is_file());
        there(&self.base) || there(&self.upper)
    }

    /// Lists what is tried, in this order.
    fn attempts(&self, request: &ShellRequest) -> Result<Vec<Attempt>, NoBusybox> {
        let shells: Vec<&str> = SHELLS.into_iter().filter(|shell| self.has(shell)).collect();
        let own = |program: &str| Attempt {
            args: vec![program.into()],
            interpreter: program.to_owned(),
            with_busybox: false,
        };
        if !request.command.is_empty() {
            let args = request.command.iter().map(Into::into).collect();
            let interpreter = shells.first().copied().unwrap_or_default().to_owned();
            let with_busybox = shells.is_empty() && request.busybox.is_some();
            return Ok(vec![Attempt { args, interpreter, with_busybox }]);
        }
        let mut attempts: Vec<Attempt> = shells.into_iter().map(own).collect();
        if request.busybox.is_some() {
            let busybox = format!("{BIN}/busybox");
            attempts.push(Attempt {
                args: vec![format!("{BIN}/sh").into()],
                interpreter: format!("{busybox} sh"),
                with_busybox: true,
            });
        }
        if attempts.is_empty() { Err(NoBusybox) } else { Ok(attempts) }
    }
}

impl StoreWorker<'_> {
    /// Keeps what commands that fail leave, for [`StoreWorker::take_failed`].
    pub fn keeping_failed(mut self) -> Self {
        self.failed = Some(Mutex::default());
        self
    }

    pub(super) fn keep_failed(&self, id: VertexId, place: impl FnOnce() -> Place) {
        if let Some(failed) = &self.failed {
            failed.lock().unwrap_or_else(PoisonError::into_inner).insert(id, place());
        }
    }

    /// Takes what the command of a vertex left; whatever others left is removed.
    pub fn take_failed(&self, id: VertexId) -> Option<Place> {
        let mut failed = self.failed.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: HashMap<VertexId, Place> = std::mem::take(&mut failed);
        all.remove(&id)
    }

    /// Makes a place on a state, for a command that has not run; waits for its caches, and lets go of them.
    pub fn place(&self, op: &RunOp, inputs: &[InputView], cancel: &Cancel) -> Result<Place, WorkerError> {
        self.check_allowed(op)?;
        let inputs = self.all_here(inputs, cancel)?;
        let Started { layer, user, .. } = self.start_layer(op, base_of(&inputs))?;
        let caches = self.caches(&op.mounts, &inputs, &|_| {}, cancel)?;
        let mut opened = OpenedCaches::new();
        for (index, source) in caches.mounts {
            if let MountSource::Bind { source: BindSource::Fd(fd), .. } = source {
                opened.insert(index, fd);
            }
        }
        Ok(Place::failed(op, &inputs, layer, user, opened, None))
    }

    /// Opens a shell in a place.
    pub fn open_shell(&self, mut place: Place, mut request: ShellRequest) -> Result<Shell, WorkerError> {
        let attempts = place.attempts(&request)?;
        let network = self.network(place.op.network)?;
        let mut streams = Some(std::mem::take(&mut request.stdio));
        let count = attempts.len();
        for (number, attempt) in attempts.into_iter().enumerate() {
            let is_last = number + 1 == count;
            let stdio = match is_last {
                true => streams.take().unwrap_or_default(),
                false => copy_of(&streams)?,
            };
            match self.try_open(&mut place, &request, attempt, number, &network, stdio) {
                Ok((running, terminal, tools, mounts)) => {
                    return Ok(Shell {
                        running,
                        terminal,
                        tools,
                        _mounts: mounts,
                        _network: network,
                        _place: place,
                    });
                }
                // What the step itself removed or broke is tried no more.
                Err(WorkerError::Sandbox { error, .. }) if !is_last && is_unusable(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Err(NoBusybox.into())
    }

    fn try_open(
        &self,
        place: &mut Place,
        request: &ShellRequest,
        attempt: Attempt,
        number: usize,
        network: &Joined,
        stdio: Stdio,
    ) -> Result<(Running, Option<OwnedFd>, Tools, StepMounts), WorkerError> {
        let op = &place.op.clone();
        let command = attempt.args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let busybox = request.busybox.as_ref().filter(|_| attempt.with_busybox);
        let commands = request.commands.then_some(attempt.interpreter.as_str());
        let mut tools = Tools::make(self.options.store, commands, busybox)?;
        let mut mounts = self.shell_mounts(op, &place.inputs, &place.caches)?;
        // One that served a mount serves no other: overlayfs marks it.
        let work = place.draft.work.with_file_name(format!("work-of-shell-{number}"));
        let io = |what: &str| {
            let what = what.to_owned();
            move |source| WorkerError::Io { what, source }
        };
        std::fs::create_dir(&work).map_err(io("cannot make a directory in the store"))?;
        place.draft.work = work;
        let store = self.options.store;
        let mut root = store.prepare_again(place.root.take(), base_of(&place.inputs), &place.draft)?;
        let plan = root.take_plan().expect("a root that was just prepared has its plan").into();
        place.root = Some(root);
        let mut step = self.environment(op, plan, place.user.clone(), &mut mounts, network)?;
        step.args = attempt.args;
        step.terminal = request.terminal;
        let has = |step: &[OsString], start: &str| {
            step.iter().any(|entry| entry.as_encoded_bytes().starts_with(start.as_bytes()))
        };
        if request.terminal.is_some() && !has(&step.env, "TERM=") {
            step.env.push(format!("TERM={}", request.term).into());
        }
        if let Some(directory) = tools.directory() {
            if !has(&step.env, "PATH=") {
                step.env.push(format!("PATH={DEFAULT_PATH}").into());
            }
            for entry in step.env.iter_mut().filter(|entry| entry.as_encoded_bytes().starts_with(b"PATH=")) {
                entry.push(":");
                entry.push(BIN);
            }
            let source = BindSource::Path(directory.to_owned());
            let source = MountSource::Bind { source, read_only: true, make_points: false };
            step.mounts.push(StepMount { target: PLACE.into(), source });
        }
        let failed = |error| WorkerError::Sandbox { command: command.clone(), error };
        let launcher = self.options.launcher.get().map_err(failed)?;
        let mut running = launcher.spawn(step_spec(step), stdio).map_err(failed)?;
        self.note(running.notes());
        if self.options.launcher.isolation() == Isolation::Chroot
            && let Some(root) = place.root.as_ref().and_then(PreparedRoot::directory)
        {
            tools.listen_in(root)?;
        }
        let terminal = running.take_terminal();
        Ok((running, terminal, tools, mounts))
    }
}

fn copy_of(streams: &Option<Stdio>) -> Result<Stdio, WorkerError> {
    let copy = |fd: &Option<OwnedFd>| fd.as_ref().map(OwnedFd::try_clone).transpose();
    let Some(streams) = streams else { return Ok(Stdio::default()) };
    let all = || {
        Ok(Stdio {
            stdin: copy(&streams.stdin)?,
            stdout: copy(&streams.stdout)?,
            stderr: copy(&streams.stderr)?,
        })
    };
    all().map_err(|source| WorkerError::Io {
        what: "cannot share standard input and output".to_owned(),
        source,
    })
}

/// Tells whether another shell may do where this one did not start.
fn is_unusable(error: &SandboxError) -> bool {
    let failure = error.exec().map(|error| &error.failure);
    !matches!(failure, None | Some(ExecFailure::TooLong | ExecFailure::NulByte))
}
