//! Findings about a text: errors and warnings with the place they concern.
//!
//! Not here: the rules that find them (`dockerfile`, `plan`) and the drawing
//! of excerpts (`excerpt`).

use std::ops::Range;

/// A range of bytes in a source text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// Makes a span of `start..end`.
    pub fn new(start: usize, end: usize) -> Span {
        Span { start, end }
    }

    /// Returns the smallest span that holds both.
    pub fn join(self, other: Span) -> Span {
        Span { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// Returns the span as a range, cut to fit a text of `length` bytes.
    pub fn range(self, length: usize) -> Range<usize> {
        let end = self.end.min(length);
        self.start.min(end)..end
    }

    /// Returns the line (from 1) the span starts on.
    pub fn line(self, source: &str) -> usize {
        let start = self.start.min(source.len());
        1 + source.as_bytes()[..start].iter().filter(|&&b| b == b'\n').count()
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Warning,
    Error,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// The rule's name as BuildKit's checks spell it (`StageNameCasing`), or a
    /// lower-case word for an error (`unknown-instruction`).
    pub code: &'static str,
    /// One sentence, lower-case, no full stop; what the user typed in backticks.
    pub message: String,
    /// Where; `None` when it concerns the whole file.
    pub span: Option<Span>,
    /// What to do next.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// Makes an error at a place.
    pub fn error(code: &'static str, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Error, code, message: message.into(), span: Some(span), hint: None }
    }

    /// Makes a warning at a place.
    pub fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Warning,
            code,
            message: message.into(),
            span: Some(span),
            hint: None,
        }
    }

    /// Adds what to do next.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }

    /// Tells whether it is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}
