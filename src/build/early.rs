//! What a build says before its log is open: pulls, notes and warnings, held back for it; and which transfers
//! there are, at any time.
//!
//! The log is opened once there is a plan, and images are pulled to make one. Not here: the log (`log`), what is
//! kept of a build (`recorder`).

use std::sync::{Mutex, PoisonError};

use super::recorder::Recorder;
use crate::report::{Event, Reporter};

/// How many events are held back; the screen has all of them.
const MOST: usize = 4096;

/// Passes events on; tells the recorder of transfers, and keeps for the log what came before it.
pub struct Early<'a> {
    sink: &'a dyn Reporter,
    recorder: &'a Recorder,
    /// `None` once the log is there.
    held: Mutex<Option<Vec<Event>>>,
}

impl<'a> Early<'a> {
    /// Makes a reporter that passes on to `sink`.
    pub fn new(sink: &'a dyn Reporter, recorder: &'a Recorder) -> Early<'a> {
        Early { sink, recorder, held: Mutex::new(Some(Vec::new())) }
    }

    /// Takes what was held back; from now on nothing is.
    pub fn take(&self) -> Vec<Event> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }
}

impl Reporter for Early<'_> {
    fn event(&self, event: Event) {
        match &event {
            Event::Transfer(_) | Event::TransferEnded { .. } => self.recorder.moved(&event),
            Event::Pull { .. } | Event::Note { .. } | Event::Warning { .. } => {
                let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(held) = held.as_mut().filter(|held| held.len() < MOST) {
                    held.push(event.clone());
                }
            }
            _ => {}
        }
        self.sink.event(event);
    }
}
