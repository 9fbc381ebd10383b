//! Draws a finding as rustc does: message, place, the lines with the place underlined,
//! and what to do next.
//!
//! Nothing from a source reaches a terminal as a control: control characters and those
//! that change the direction of writing are drawn as pictures. Not here: which findings
//! there are.

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};

use super::clean::without_codes;
use super::redact::mask;
use super::{Diagnostic, Severity, Span};

/// So many lines of a place are shown.
const MOST_LINES: usize = 8;

/// So many bytes of the last line are shown after the place's begin.
const MOST_BYTES: usize = 400;

/// Renders one finding, without a line end after its last line.
///
/// The first line is the message with its severity and code, the second names
/// `file_name:line:column` (the file alone for a finding that has no span). `source` is
/// the text the span points into.
pub fn render(diagnostic: &Diagnostic, file_name: &str, source: &str, color: bool) -> String {
    render_with(diagnostic, file_name, source, color, &[])
}

/// Renders one finding as [`render`] does, with notes below its hint.
pub fn render_with(
    diagnostic: &Diagnostic,
    file_name: &str,
    source: &str,
    color: bool,
    notes: &[String],
) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let path = printable(file_name);
    let title = level.primary_title(printable(&without_codes(&diagnostic.message))).id(diagnostic.code);
    let mut group = match diagnostic.span {
        None => title.element(Origin::path(path)),
        Some(span) => {
            let part = Part::cut(source, span);
            let annotation = AnnotationKind::Primary.span(part.start..part.end);
            let snippet = Snippet::source(part.text).path(path).line_start(part.line).fold(false);
            title.element(snippet.annotation(annotation))
        }
    };
    if let Some(hint) = &diagnostic.hint {
        group = group.element(Level::HELP.message(printable(hint)));
    }
    for note in notes {
        group = group.element(Level::NOTE.message(printable(note)));
    }
    renderer.render(&[group])
}

/// The lines of a source that a span is on, made printable.
struct Part {
    text: String,
    /// The number of the first line, from 1.
    line: usize,
    /// Where the span is in `text`.
    start: usize,
    end: usize,
}

impl Part {
    fn cut(source: &str, span: Span) -> Part {
        let floor = |at: usize| (0..=at.min(source.len())).rev().find(|&at| source.is_char_boundary(at));
        let start = floor(span.start).unwrap_or(0);
        let end = floor(span.end).unwrap_or(0).max(start);
        // A line end belongs to the line it ends.
        let first = source[..start].rfind('\n').map_or(0, |at| at + 1);
        let mut last = source[start..]
            .match_indices('\n')
            .map(|(at, _)| start + at)
            .take(MOST_LINES)
            .find(|&at| at >= end)
            .or_else(|| source[start..].match_indices('\n').nth(MOST_LINES - 1).map(|(at, _)| start + at))
            .unwrap_or(source.len());
        if source[first..last].lines().count() <= 1 {
            last = floor(last.min(end.min(start + MOST_BYTES) + MOST_BYTES)).unwrap_or(last);
        }
        let mut part = Part { text: String::new(), line: span.line(source), start: 0, end: 0 };
        // An address may hold a password, and what is printed ends in logs.
        for (at, c) in mask(&source[first..last]).char_indices() {
            if first + at == start {
                part.start = part.text.len();
            }
            if first + at == end {
                part.end = part.text.len();
            }
            match c {
                '\r' if source[first + at..].starts_with("\r\n") => {}
                '\n' | '\t' => part.text.push(c),
                c => part.text.push(picture(c)),
            }
        }
        if start >= last {
            part.start = part.text.len();
        }
        if end >= last {
            part.end = part.text.len();
        }
        part.end = part.end.max(part.start);
        part
    }
}

/// Returns text in which nothing controls a terminal, on one line.
pub fn printable(text: &str) -> String {
    text.chars().map(picture).collect()
}

/// Returns the picture of a character that is none to be seen, else itself.
fn picture(c: char) -> char {
    match c {
        '\t' => ' ',
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\x7f' => '\u{2421}',
        '\u{80}'..='\u{9f}' => char::REPLACEMENT_CHARACTER,
        // Direction marks and line separators can make text appear other than it is.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            char::REPLACEMENT_CHARACTER
        }
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SOURCE: &str = "FROM a\nRUNX b\nRUN c \\\n  d\n";

    #[test]
    fn draws() {
        let problem = Diagnostic::error("unknown-instruction", Span::new(7, 11), "unknown instruction: RUNX");
        let text = render(&problem.with_hint("write RUN"), "Dockerfile", SOURCE, false);
        insta::assert_snapshot!(text, @r"
        error[unknown-instruction]: unknown instruction: RUNX
         --> Dockerfile:2:1
          |
        2 | RUNX b
          | ^^^^
          |
          = help: write RUN
        ");
        let warning = Diagnostic::warning("Multi", Span::new(18, 25), "two lines");
        insta::assert_snapshot!(render(&warning, "Dockerfile", SOURCE, false), @r"
        warning[Multi]: two lines
         --> Dockerfile:3:5
          |
        3 |   RUN c \
          |  _____^
        4 | |   d
          | |___^
        ");
        let mut whole = Diagnostic::error("empty", Span::default(), "the Dockerfile cannot be empty");
        whole.span = None;
        let text = render(&whole, "Dockerfile", "", false);
        assert_eq!(text, "error[empty]: the Dockerfile cannot be empty\n--> Dockerfile");
    }

    #[test]
    fn hides_controls() {
        let source = "FROM \x1b[31ma\u{202e}\u{9b}\x07\x7f\n";
        let problem = Diagnostic::error("x", Span::new(5, source.len() - 1), "bad \x1b]0;t\x07 \n\u{9b}");
        let text = render(&problem, "a\x1b\nb", source, false);
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        assert!(!text.contains('\u{202e}'));
        assert!(text.contains("FROM ␛[31ma"), "{text}");
        assert!(text.contains(&"^".repeat("␛[31ma���␡".chars().count() - 1)), "{text}");
    }

    #[test]
    fn color_is_asked_for() {
        let problem = Diagnostic::error("x", Span::new(0, 4), "m");
        assert!(!render(&problem, "f", SOURCE, false).contains('\x1b'));
        assert!(render(&problem, "f", SOURCE, true).contains('\x1b'));
    }

    #[test]
    fn cuts_what_is_long() {
        let source = format!("FROM {}\n{}", "x".repeat(100_000), "y\n".repeat(1000));
        let long = Diagnostic::error("x", Span::new(5, source.len()), "m");
        assert!(render(&long, "f", &source, false).len() < 10_000);
        let source = "y\n".repeat(1000);
        let text = render(&Diagnostic::error("x", Span::new(2, source.len()), "m"), "f", &source, false);
        assert!(text.lines().count() < 20, "{text}");
    }

    proptest! {
        #[test]
        fn never_panics(source in "[a-z\t\r\né]{0,40}", start in 0usize..60, length in 0usize..60) {
            let problem = Diagnostic::error("x", Span::new(start, start + length), "m");
            let text = render(&problem, "f", &source, false);
            let line = problem.span.unwrap().line(&source);
            prop_assert!(text.contains(&format!("f:{line}")), "{text}");
        }
    }
}
