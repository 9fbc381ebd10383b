//! What checks found, as text, JSON and SARIF.
//!
//! Not here: finding it (`plan::check`), and exit codes (`check`).

mod json;
mod sarif;
mod text;

use clap::ValueEnum;

use crate::dockerfile::rules;
use crate::plan::Checked;
use crate::report::Diagnostic;

/// How findings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// As `docker build --check` does
    #[default]
    Text,
    /// As `docker buildx build --call=check,format=json` does
    Json,
    /// SARIF 2.1.0
    Sarif,
}

/// Writes what was found.
///
/// `file` is the Dockerfile's name, `source` the text that spans point into. The text form
/// leaves errors out: they are told as those of a build are.
pub fn render(file: &str, source: &str, checked: &Checked, format: Format) -> String {
    match format {
        Format::Text => text::render(file, source, checked),
        Format::Json => json::render(file, source, checked),
        Format::Sarif => sarif::render(file, source, checked),
    }
}

/// Returns a finding's message with what to do.
fn detail(finding: &Diagnostic) -> String {
    match &finding.hint {
        Some(hint) => format!("{} ({hint})", finding.message),
        None => finding.message.clone(),
    }
}

/// Returns the page about a finding's check.
fn url(finding: &Diagnostic) -> Option<String> {
    rules::rule(finding.code)?.url()
}

/// Returns the heading of a finding's check.
fn description(finding: &Diagnostic) -> &'static str {
    rules::rule(finding.code).map_or("", |rule| rule.description)
}

#[cfg(test)]
mod testing {
    use crate::dockerfile::parse;
    use crate::image::Platform;
    use crate::plan::{self, Bases, Checked, Request};

    /// Checks a text, no image known.
    pub fn checked(source: &str) -> Checked {
        let platform: Platform = "linux/amd64".parse().unwrap();
        plan::check(&parse(source.as_bytes()), &Request::new(platform), &Bases::new(), None)
    }
}
