//! The words for a step that says nothing, and for one that waits.
//!
//! Not here: who notices (`worker`), and where the words go (the sinks).

use std::time::Duration;

use super::Step;
use super::clean::{clean_text, without_codes};
use super::redact::mask;

/// The most characters of an instruction that are shown.
const LONGEST: usize = 80;

/// Says that a step runs without a word.
pub fn silence(step: &Step, silent: Duration, running: Duration) -> String {
    format!("still running: {} ({} without output, {} in all)", named(step), time(silent), time(running))
}

/// Says what a step waits for.
pub fn waiting(step: &Step, what: &str) -> String {
    format!("waiting: {} waits {}", named(step), without_codes(&clean_text(what)))
}

/// Names a step by its place and its text.
fn named(step: &Step) -> String {
    let text = mask(&without_codes(&clean_text(&step.text)));
    let text = match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    };
    match step.line {
        // What ONBUILD brought stands in no line of this file.
        0 => format!("step {} {text}", step.number),
        line => format!("line {line} {text}"),
    }
}

/// Shows a time in whole seconds as Go does: `45s`, `2m13s`, `1h0m5s`.
fn time(time: Duration) -> String {
    let whole = time.as_secs();
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m{}s", whole / 60, whole % 60),
        _ => format!("{}h{}m{}s", whole / 3600, whole / 60 % 60, whole % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(line: usize, text: &str) -> Step {
        Step { number: 2, total: 3, stage: None, text: text.to_owned(), line }
    }

    #[test]
    fn the_words() {
        let (one, two) = (Duration::from_secs(60), Duration::from_millis(133_900));
        assert_eq!(
            silence(&step(4, "RUN make"), one, two),
            "still running: line 4 RUN make (1m0s without output, 2m13s in all)"
        );
        assert_eq!(
            silence(&step(0, "RUN x"), Duration::from_secs(3605), Duration::from_secs(7)),
            "still running: step 2 RUN x (1h0m5s without output, 7s in all)"
        );
        assert_eq!(waiting(&step(4, "RUN make"), "for me"), "waiting: line 4 RUN make waits for me");
    }

    #[test]
    fn what_is_long_hostile_or_secret_is_not_shown() {
        let long = waiting(&step(1, &"é".repeat(100)), "for me");
        assert_eq!(long, format!("waiting: line 1 {}... waits for me", "é".repeat(80)));
        assert_eq!(waiting(&step(1, "RUN \x1b[2Ja"), "\x1b[2Jb"), "waiting: line 1 RUN a waits b");
        let secret = silence(&step(1, "RUN curl http://u:pw@h/"), Duration::ZERO, Duration::ZERO);
        assert!(!secret.contains("pw"), "{secret}");
    }
}
