//! The quiet sink: nothing, unless a step fails; then that step and its output.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Mutex;

use super::{Event, Plain, Reporter};

/// The most output kept of a running step; the whole log is on disk.
const KEPT_BYTES: usize = 1 << 20;

/// Keeps the output of running steps and writes that of a failed one.
pub struct Quiet<W: Write + Send> {
    plain: Plain<W>,
    logs: Mutex<HashMap<usize, Vec<u8>>>,
}

impl<W: Write + Send> Quiet<W> {
    /// Makes a sink; `terminal` as for [`Plain::new`].
    pub fn new(out: W, terminal: bool) -> Quiet<W> {
        Quiet { plain: Plain::new(out, terminal), logs: Mutex::new(HashMap::new()) }
    }

    /// Returns the writer.
    pub fn into_inner(self) -> W {
        self.plain.into_inner()
    }
}

impl<W: Write + Send> Reporter for Quiet<W> {
    fn event(&self, event: Event) {
        let mut logs = self.logs.lock().unwrap_or_else(|e| e.into_inner());
        match event {
            Event::StepLog { step, data, .. } => {
                let log = logs.entry(step.number).or_default();
                log.extend_from_slice(&data);
                if log.len() > 2 * KEPT_BYTES {
                    log.drain(..log.len() - KEPT_BYTES);
                }
            }
            Event::StepFinished { step, .. } | Event::StepStopped { step } => {
                logs.remove(&step.number);
            }
            Event::StepFailed { step } => {
                let data = logs.remove(&step.number).unwrap_or_default();
                self.plain.event(Event::StepStarted { step: step.clone() });
                self.plain.event(Event::StepLog { step: step.clone(), stream: super::Stream::Stdout, data });
                self.plain.event(Event::StepFailed { step });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Step, Stream};
    use super::*;

    #[test]
    fn only_a_failed_step_is_shown() {
        let step = |number| Step { number, total: 2, stage: None, text: format!("RUN {number}"), line: 1 };
        let log =
            |number| Event::StepLog { step: step(number), stream: Stream::Stderr, data: b"out\n".to_vec() };
        let sink = Quiet::new(Vec::new(), false);
        sink.event(Event::StepStarted { step: step(1) });
        sink.event(log(1));
        sink.event(Event::StepFinished { step: step(1), id: "x".into() });
        sink.event(log(2));
        sink.event(Event::StepFailed { step: step(2) });
        assert_eq!(String::from_utf8(sink.into_inner()).unwrap(), "Step 2/2 : RUN 2\nout\n");
    }
}
