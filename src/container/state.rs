//! What became of a container: written by its supervisor, read by everybody.
//!
//! A state that says "running" of a container that nobody holds is of a supervisor that was killed:
//! [`State::of`] tells the truth of it. Not here: words for people (`cli`).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::health::Health;
use super::ports::PortMapping;
use super::signal;
use crate::store::{ContainerId, Store, StoreError};

/// Where a container stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Status {
    /// Never started, or its first start failed.
    #[default]
    Created,
    Running,
    /// All its processes are held still.
    Paused,
    /// Ended, and about to be started again.
    Restarting,
    Exited,
}

/// The state of a container.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    pub status: Status,
    /// Its first process, as the host counts; while it runs.
    pub pid: Option<u32>,
    pub started: Option<Timestamp>,
    pub finished: Option<Timestamp>,
    pub exit_code: i32,
    pub out_of_memory: bool,
    /// Why it could not be started, or how its supervisor ended.
    pub error: String,
    /// How often it was started again by its policy.
    pub restarts: u32,
    /// Whether a user stopped it.
    pub stopped: bool,
    /// The ports of this machine that lead to it, while it runs.
    pub ports: Vec<PortMapping>,
    /// Of a container with checks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

impl State {
    /// Reads the state of a container.
    pub fn of(store: &Store, id: &ContainerId) -> Result<State, StoreError> {
        // Looked at first: a supervisor writes its last state before it lets go.
        let held = store.is_container_held(id)?;
        let mut state = State::read(store, id)?;
        if !held && state.is_alive() {
            state.killed();
        }
        Ok(state)
    }

    /// Reads the state of a container whose lock the caller has just taken, and puts right what a supervisor left
    /// that was killed: from now on all who look would take it for that of one who lives.
    pub fn settle(store: &Store, id: &ContainerId) -> Result<State, StoreError> {
        let mut state = State::read(store, id)?;
        if state.is_alive() {
            state.killed();
            state.keep(store, id)?;
        }
        Ok(state)
    }

    fn read(store: &Store, id: &ContainerId) -> Result<State, StoreError> {
        let Some(bytes) = store.container_state(id)? else { return Ok(State::default()) };
        serde_json::from_slice(&bytes).map_err(|error| StoreError::Broken {
            entry: format!("the state of container {}", id.short()),
            why: error.to_string(),
        })
    }

    fn killed(&mut self) {
        self.status = Status::Exited;
        self.pid = None;
        self.ports = Vec::new();
        self.exit_code = 128 + signal::KILL;
        self.error = "its supervisor was killed".to_owned();
        self.health.iter_mut().for_each(Health::ended);
    }

    /// Tells whether a process of it runs, or is about to again.
    pub fn is_alive(&self) -> bool {
        matches!(self.status, Status::Running | Status::Paused | Status::Restarting)
    }

    /// Keeps the state. For whoever holds the container.
    pub fn keep(&self, store: &Store, id: &ContainerId) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(self).map_err(|error| StoreError::Broken {
            entry: format!("the state of container {}", id.short()),
            why: error.to_string(),
        })?;
        store.put_container_state(id, &bytes)
    }
}
