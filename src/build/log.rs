//! The full log of a build: everything a step says, as it says it, nothing clipped.

use std::io::Write;

use crate::report::{Event, Plain, Reporter};
use crate::store::BuildLog;

/// Passes events on and writes them to the build's log as well.
pub struct Tee<'a> {
    sink: &'a dyn Reporter,
    log: Plain<Shared>,
}

/// A log file; what an event says is written at once, so that a build that is killed has a log.
struct Shared(std::io::BufWriter<BuildLog>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl<'a> Tee<'a> {
    /// Makes a reporter that passes on to `sink` and writes to `log`.
    pub fn new(sink: &'a dyn Reporter, log: BuildLog) -> Tee<'a> {
        Tee { sink, log: Plain::new(Shared(std::io::BufWriter::new(log)), false) }
    }
}

impl Reporter for Tee<'_> {
    fn event(&self, event: Event) {
        // Of bytes on their way, and of what only a screen shows, the log says nothing.
        let shown_only = matches!(
            event,
            Event::LogFile { .. }
                | Event::Planned { .. }
                | Event::WorkStarted { .. }
                | Event::WorkEnded { .. }
                | Event::Transfer(_)
                | Event::TransferEnded { .. }
        );
        if !shown_only {
            self.log.event(event.clone());
        }
        self.sink.event(event);
    }
}
