//! The full log of a build: everything a step says, as it says it, nothing clipped.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::recorder::Recorder;
use crate::report::{Event, Plain, Reporter};
use crate::store::BuildLog;

/// Passes events on and writes them to the build's log as well; tells the recorder where in it each went.
pub struct Tee<'a> {
    sink: &'a dyn Reporter,
    /// Locked while an event is written, so that what the log grows by is that event's.
    log: Mutex<Option<Plain<Shared>>>,
    length: Arc<AtomicU64>,
    recorder: &'a Recorder,
}

/// A log file; what an event says is written at once, so that a build that is killed has a log.
struct Shared {
    file: std::io::BufWriter<BuildLog>,
    length: Arc<AtomicU64>,
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.length.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl<'a> Tee<'a> {
    /// Makes a reporter that passes on to `sink` and writes to `log`.
    pub fn new(sink: &'a dyn Reporter, log: BuildLog, recorder: &'a Recorder) -> Tee<'a> {
        let length = Arc::new(AtomicU64::new(0));
        let file = std::io::BufWriter::new(log);
        let log = Mutex::new(Some(Plain::new(Shared { file, length: length.clone() }, false)));
        Tee { sink, log, length, recorder }
    }

    /// Writes what was shown before there was a log.
    pub fn log_again(&self, events: Vec<Event>) {
        if let Some(log) = &*self.log.lock().unwrap_or_else(PoisonError::into_inner) {
            events.into_iter().for_each(|event| log.event(event));
        }
    }

    /// Closes the log: what comes is passed on only.
    pub fn close(&self) {
        *self.log.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Reporter for Tee<'_> {
    fn event(&self, event: Event) {
        // Of bytes on their way, and of what only a screen shows, the log says nothing.
        let shown_only = matches!(
            event,
            Event::LogFile { .. }
                | Event::Planned { .. }
                | Event::StepSilent { .. }
                | Event::StepWaits { .. }
                | Event::WorkStarted { .. }
                | Event::WorkEnded { .. }
                | Event::Transfer(_)
                | Event::TransferEnded { .. }
        );
        if !shown_only {
            let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            let before = self.length.load(Ordering::Relaxed);
            if let Some(log) = &*log {
                log.event(event.clone());
            }
            self.recorder.shown(&event, (before, self.length.load(Ordering::Relaxed)));
        }
        self.sink.event(event);
    }
}
