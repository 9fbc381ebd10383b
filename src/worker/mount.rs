//! `RUN --mount`: what the plan asks for becomes what the sandbox mounts.
//!
//! Everything made for a step lasts as long as its [`StepMounts`]. `bind` shows files of contexts
//! and states, `cache` directories that outlive the build, `secret` reads secrets; agents are `ssh`'s.
//! Not here: mounting (`sandbox`), reading the flags (`plan`).

mod bind;
mod cache;
mod error;
mod secret;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

pub use error::MountError;
pub use secret::{MAX_SECRET_BYTES, Secrets};

use super::error::WorkerError;
use super::ssh::{Agents, Forwarded};
use super::store_worker::StoreWorker;
use crate::plan::graph::{MountKind, RunMount, RunOp};
use crate::sandbox::{BindSource, MountSource, StepMount};
use crate::solve::{Cancel, InputView, Selected, View};
use crate::store::{CacheMount, Draft, EmptiedMounts, StoreError};
use crate::sys::RootDir;

/// The variable by which programs find an agent: ssh-agent(1).
const AGENT_VARIABLE: &str = "SSH_AUTH_SOCK";

/// What the mounts of one build share.
#[derive(Default)]
pub(super) struct Mounts {
    binds: bind::Binds,
    emptied: EmptiedMounts,
    secrets: secret::Secrets,
    agents: Agents,
}

/// The mounts of one step.
pub(super) struct StepMounts {
    pub(super) mounts: Vec<StepMount>,
    /// Variables that go over those of the image.
    pub(super) env: Vec<(String, OsString)>,
    _agents: Vec<Forwarded>,
    _caches: Vec<CacheMount>,
    _copied: Vec<std::sync::Arc<bind::Copied>>,
    _written: Vec<Draft>,
    /// Trees that files are shown of.
    _views: Vec<RootDir>,
}

impl StoreWorker<'_> {
    /// Returns the target of the mount that shows an input, and the path in that.
    pub(super) fn bind_source<'o>(&self, op: &'o RunOp, input: usize) -> Option<(&'o str, &'o str)> {
        op.mounts.iter().find_map(|mount| match &mount.kind {
            MountKind::Bind { input: own, source, .. } if *own == input => {
                Some((mount.target.as_str(), source.as_str()))
            }
            _ => None,
        })
    }

    /// Digests what an input of a RUN shows.
    pub(super) fn select_mount(
        &self,
        op: &RunOp,
        input: usize,
        view: &View,
    ) -> Result<Selected, WorkerError> {
        let Some((target, source)) = self.bind_source(op, input) else {
            return Err(StoreError::NotFound("the source of a mount".to_owned()).into());
        };
        self.select_bind(target, source, view)
    }

    /// Makes all that a step's mounts need.
    pub(super) fn step_mounts(
        &self,
        op: &RunOp,
        inputs: &[InputView],
        cancel: &Cancel,
    ) -> Result<StepMounts, WorkerError> {
        let mut made: Vec<(usize, StepMount)> = Vec::with_capacity(op.mounts.len());
        let mut step = StepMounts {
            mounts: Vec::new(),
            env: Vec::new(),
            _agents: Vec::new(),
            _caches: Vec::new(),
            _copied: Vec::new(),
            _written: Vec::new(),
            _views: Vec::new(),
        };
        for (index, mount) in op.mounts.iter().enumerate() {
            if let Some(source) = self.source(mount, inputs, &mut step)? {
                made.push((index, StepMount { target: PathBuf::from(&mount.target), source }));
            }
        }
        // An image that says where its agent is keeps its word.
        let agent = format!("{AGENT_VARIABLE}=");
        if op.env.iter().any(|entry| entry.starts_with(&agent)) {
            step.env.retain(|(name, _)| name != AGENT_VARIABLE);
        }
        // Last, since others wait for them.
        let caches = self.caches(&op.mounts, inputs, cancel)?;
        for (index, source) in caches.mounts {
            made.push((index, StepMount { target: PathBuf::from(&op.mounts[index].target), source }));
        }
        step._caches = caches.held;
        made.sort_by_key(|(index, _)| *index);
        step.mounts = made.into_iter().map(|(_, mount)| mount).collect();
        Ok(step)
    }

    /// Makes one mount that is no cache; `None` where there is nothing to mount.
    fn source(
        &self,
        mount: &RunMount,
        inputs: &[InputView],
        step: &mut StepMounts,
    ) -> Result<Option<MountSource>, WorkerError> {
        let options = &self.options.step;
        match &mount.kind {
            MountKind::Cache { .. } => Ok(None),
            MountKind::Tmpfs { size } => {
                Ok(Some(MountSource::Tmpfs { size: size.unwrap_or(0), mode: 0o1777 }))
            }
            MountKind::Bind { input, source, writable } => {
                let nothing = View::State(Vec::new());
                let view = inputs.get(*input).map_or(&nothing, |input| &input.view);
                let bound = self.bind(&mount.target, source, view, *writable)?;
                step._copied.extend(bound.copied);
                step._written.extend(bound.written);
                step._views.extend(bound.view);
                Ok(Some(bound.source))
            }
            MountKind::Secret { id, file, env, required, mode, uid, gid } => {
                let Some(value) = self.mounts.secrets.get(&options.secrets, id)? else {
                    return match required {
                        true => Err(MountError::NoSecret(id.clone()).into()),
                        false => Ok(None),
                    };
                };
                if let Some(name) = env {
                    if value.contains(&0) {
                        let (id, name) = (id.clone(), name.clone());
                        return Err(MountError::SecretInVariable { id, name }.into());
                    }
                    step.env.push((name.clone(), OsString::from_vec(value.to_vec())));
                }
                let shown = MountSource::File { content: value.to_vec(), mode: *mode, uid: *uid, gid: *gid };
                Ok(file.then_some(shown))
            }
            MountKind::Ssh { id, required, mode, uid, gid } => {
                let Some(source) = options.agents.get(id) else {
                    return match required {
                        true => Err(MountError::NoAgent(id.clone()).into()),
                        false => Ok(None),
                    };
                };
                let upstream = self.mounts.agents.socket(id, source).map_err(MountError::from)?;
                let place = self.options.store.temp_dir()?;
                let forwarded =
                    Forwarded::start(place, upstream, (*mode, *uid, *gid)).map_err(MountError::from)?;
                let fd = forwarded.open().map_err(MountError::from)?;
                step._agents.push(forwarded);
                if !step.env.iter().any(|(name, _)| name == AGENT_VARIABLE) {
                    step.env.push((AGENT_VARIABLE.to_owned(), mount.target.clone().into()));
                }
                let source = BindSource::Fd(fd);
                Ok(Some(MountSource::Bind { source, read_only: true, make_points: false }))
            }
        }
    }
}
