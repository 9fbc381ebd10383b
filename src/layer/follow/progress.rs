//! How far a file is written: said by the one who writes it, waited for by the one who reads.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// The number of bytes that are there, counted from the start of the file.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    written: u64,
    /// Whether the file has its metadata, too, or will never have them.
    ended: Option<Ended>,
}

/// How the writing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Complete,
    Failed,
}

/// Ends the progress when it is dropped: as failed, unless it was told to be complete.
#[derive(Debug)]
pub struct Writing(Progress);

impl Progress {
    /// Takes the part of the one who writes.
    pub fn write(self) -> Writing {
        Writing(self)
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.changed.notify_one();
    }

    /// Waits until there is more than `read` bytes; returns how many, or how it ended where there is no more.
    pub fn wait(&self, read: u64) -> Result<u64, Ended> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.written > read {
                return Ok(state.written);
            }
            if let Some(ended) = state.ended {
                return Err(ended);
            }
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Writing {
    /// Says how many bytes are there.
    pub fn written(&self, bytes: u64) {
        self.0.set(|state| state.written = bytes);
    }

    /// Says that the file is as it will stay.
    pub fn complete(self) {
        self.0.set(|state| state.ended = Some(Ended::Complete));
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.set(|state| state.ended = state.ended.or(Some(Ended::Failed)));
    }
}
