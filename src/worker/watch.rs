//! When something is to be said of a step that runs, or done about it: it is silent, or takes too long.
//!
//! A clock without threads: who waits for output asks how long, and what is due then. Not here:
//! stopping a process (`run`), and the words (`report`).

use std::time::{Duration, Instant};

/// How long a step may be silent before that is told.
pub const SILENCE: Duration = Duration::from_secs(60);

/// Watches one step.
#[derive(Debug)]
pub struct Watch {
    started: Instant,
    heard: Instant,
    /// The first silence that is told.
    first: Duration,
    /// The next one; twice as long each time, and anew after output.
    next: Duration,
    deadline: Option<Instant>,
    too_late: Option<Duration>,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    Silent {
        silent: Duration,
        running: Duration,
    },
    /// To be stopped; told once.
    TooLate,
}

impl Watch {
    /// Begins now; `silence` is the first silence to be told, `limit` how long the step may take.
    pub fn new(silence: Duration, limit: Option<Duration>) -> Watch {
        Watch::since(Instant::now(), silence, limit)
    }

    fn since(started: Instant, silence: Duration, limit: Option<Duration>) -> Watch {
        let deadline = limit.and_then(|limit| started.checked_add(limit));
        // A silence of nothing would be told without end.
        let first = silence.max(Duration::from_millis(1));
        Watch { started, heard: started, first, next: first, deadline, too_late: None }
    }

    /// Notes output.
    pub fn heard(&mut self) {
        self.heard_at(Instant::now());
    }

    fn heard_at(&mut self, now: Instant) {
        (self.heard, self.next) = (now, self.first);
    }

    /// Returns how long to wait for output; `None` is for ever.
    pub fn pause(&self) -> Option<Duration> {
        self.pause_at(Instant::now())
    }

    fn pause_at(&self, now: Instant) -> Option<Duration> {
        // What was stopped ends soon, and only that is waited for.
        if self.too_late.is_some() {
            return None;
        }
        let told = self.heard.checked_add(self.next);
        let due = [told, self.deadline].into_iter().flatten().min()?;
        Some(due.saturating_duration_since(now))
    }

    /// Tells what is due now.
    pub fn is_time(&mut self) -> Option<Due> {
        self.is_time_at(Instant::now())
    }

    fn is_time_at(&mut self, now: Instant) -> Option<Due> {
        let silent = now.saturating_duration_since(self.heard);
        if self.too_late.is_none() && self.deadline.is_some_and(|deadline| now >= deadline) {
            self.too_late = Some(silent);
            return Some(Due::TooLate);
        }
        if silent < self.next {
            return None;
        }
        while silent >= self.next {
            self.next = self.next.saturating_mul(2);
        }
        Some(Due::Silent { silent, running: now.saturating_duration_since(self.started) })
    }

    /// Tells whether the step was to be stopped, and how long it had been silent by then.
    pub fn too_late(&self) -> Option<Duration> {
        self.too_late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn silence_is_told_at_growing_intervals_and_anew_after_output() {
        let start = Instant::now();
        let mut watch = Watch::since(start, seconds(60), None);
        let at = |after: u64| start + seconds(after);
        let told = |silent, running| Some(Due::Silent { silent: seconds(silent), running: seconds(running) });
        assert_eq!(watch.pause_at(at(10)), Some(seconds(50)));
        assert_eq!(watch.is_time_at(at(59)), None);
        assert_eq!(watch.is_time_at(at(60)), told(60, 60));
        assert_eq!(watch.is_time_at(at(61)), None);
        assert_eq!(watch.pause_at(at(61)), Some(seconds(59)));
        assert_eq!(watch.is_time_at(at(120)), told(120, 120));
        assert_eq!(watch.is_time_at(at(240)), told(240, 240));
        watch.heard_at(at(300));
        assert_eq!(watch.is_time_at(at(359)), None);
        assert_eq!(watch.is_time_at(at(360)), told(60, 360));
        // A machine that slept is told once.
        assert_eq!(watch.is_time_at(at(10_000)), told(9_700, 10_000));
        assert_eq!(watch.is_time_at(at(10_001)), None);
    }

    #[test]
    fn a_limit_is_told_once_whether_there_is_output_or_not() {
        let start = Instant::now();
        let mut watch = Watch::since(start, seconds(60), Some(seconds(90)));
        let at = |after: u64| start + seconds(after);
        watch.heard_at(at(80));
        assert_eq!(watch.pause_at(at(80)), Some(seconds(10)));
        assert_eq!(watch.is_time_at(at(89)), None);
        assert_eq!(watch.too_late(), None);
        assert_eq!(watch.is_time_at(at(91)), Some(Due::TooLate));
        assert_eq!(watch.too_late(), Some(seconds(11)));
        assert_eq!(watch.pause_at(at(92)), None);
        assert_eq!(watch.is_time_at(at(92)), None);
    }
}
