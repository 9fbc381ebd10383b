//! What is said when the program itself is at fault: a panic as an error for people.
//!
//! Not here: errors that are foreseen (`error`).

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::{CommandError, code};
use super::ui;
use crate::report::{Event, Reporter, redact};

/// The log of the build that goes on, if one does.
static LOG: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Whether it was told: one fault may end several threads.
static TOLD: AtomicBool = AtomicBool::new(false);

/// Runs the program; where it panics, says so as an error and returns its exit code.
pub fn guard(program: impl FnOnce() -> u8) -> u8 {
    std::panic::set_hook(Box::new(tell));
    // Nothing is looked at again: the process ends.
    catch_unwind(AssertUnwindSafe(program)).unwrap_or(code::FAILED)
}

/// A reporter that remembers the log of the build which it hears of.
pub struct Watching<'a>(pub &'a dyn Reporter);

impl Reporter for Watching<'_> {
    fn event(&self, event: Event) {
        if let (Event::LogFile { path }, Ok(mut log)) = (&event, LOG.lock()) {
            *log = Some(path.clone());
        }
        self.0.event(event);
    }
}

fn tell(info: &PanicHookInfo<'_>) {
    if TOLD.swap(true, Ordering::SeqCst) {
        return;
    }
    let payload = info.payload();
    let words = payload.downcast_ref::<&str>().copied();
    let words = words.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no words");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let log = LOG.try_lock().ok().and_then(|log| log.clone());
    ui::note(&described(words, &place, log.as_deref()).text());
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        ui::note(&format!("{backtrace}\n"));
    }
}

fn described(words: &str, place: &str, log: Option<&Path>) -> CommandError {
    let version = env!("CARGO_PKG_VERSION");
    let error = CommandError::new(format!(
        "this is a fault of rbuild {version}, not of what you asked for: {} ({place})",
        redact(words)
    ));
    let error = error.hint(
        "please report it, with the command and these lines; the images in the store are as they were, and a new build \
         goes on from the steps that were done",
    );
    match log {
        Some(log) => error.hint(format!("the log of the build, as far as it came: {}", log.display())),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Silent;

    #[test]
    fn the_log_is_remembered() {
        Watching(&Silent).event(Event::LogFile { path: "/store/1/log".into() });
        assert_eq!(LOG.lock().unwrap().as_deref(), Some(Path::new("/store/1/log")));
    }

    #[test]
    fn a_fault_is_told_as_one() {
        let text = described("index 3 of 2", "src/x.rs:1:2", Some(Path::new("/store/log"))).text();
        let version = env!("CARGO_PKG_VERSION");
        let first = format!(
            "error: this is a fault of rbuild {version}, not of what you asked for: index 3 of 2 (src/x.rs:1:2)\n"
        );
        assert!(text.starts_with(&first), "{text}");
        assert!(text.ends_with("hint: the log of the build, as far as it came: /store/log\n"), "{text}");
        assert_eq!(described("a\x1b[2Jb", "", None).text().lines().count(), 2);
    }
}
