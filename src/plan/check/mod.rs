//! All that can be said about a file without building it: `rbuild check`, and the
//! warnings of a build.
//!
//! [`check()`] looks at every stage, base images known or not; [`warnings()`] at what a
//! build has planned already. Which checks there are: `dockerfile::rules`. Those that
//! need only the tree are in `dockerfile::lint`; those that come up while instructions
//! are lowered are in `stages`, `stage` and `config`; the rest is here: `from`, `copy`.
//! `filter` keeps what the file wants to hear. Not here: how it is printed.

mod copy;
mod every;
mod filter;
mod from;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::dockerfile;
use crate::dockerfile::Parsed;
use crate::dockerfile::check_options::CheckOptions;
use crate::pattern::Ignore;
use crate::report::Diagnostic;

use super::Bases;
use super::ImageNeed;
use super::Lowered;
use super::Request;

pub(super) use every::assume_missing;
use filter::Filter;

/// The build argument that takes the place of a file's check directive.
const CHECK_ARG: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// What [`check()`] found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Checked {
    /// What the checks found, in the order of the file; all are warnings.
    pub findings: Vec<Diagnostic>,
    /// Why the file cannot be built, as far as that shows without building.
    pub errors: Vec<Diagnostic>,
    /// The error that the findings are, where the file says `check=error=true`.
    pub violation: Option<Diagnostic>,
    /// Images of which nothing is known: they are taken to be as wanted, and a variable
    /// that one of them may set is not called undefined.
    pub unknown: Vec<ImageNeed>,
}

/// Checks a file: all stages, or with a target those it needs.
///
/// No image has to be in `bases`; more is found with those that [`Checked::unknown`]
/// names. `ignore` are the rules of .dockerignore, if there is a context.
pub fn check(parsed: &Parsed, request: &Request, bases: &Bases, ignore: Option<&Ignore>) -> Checked {
    let mut checked = Checked::default();
    let options = match options(parsed, request) {
        Ok(options) => options,
        Err(error) => return Checked { errors: vec![error], ..checked },
    };
    if parsed.has_errors() {
        checked.errors = parsed.diagnostics.iter().filter(|problem| problem.is_error()).cloned().collect();
        return checked;
    }
    let every = every::every_stage(&parsed.file, request, bases, ignore);
    checked.errors = every.errors;
    checked.unknown = every.unknown;
    let mut findings = every.warnings;
    findings.extend(tree(parsed));
    let filter = Filter::new(&parsed.file, options);
    filter.explain(&mut findings);
    checked.findings = filter.keep(findings, false);
    checked.violation = filter.violation(&checked.findings);
    checked
}

/// What a build has to say about its file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Warnings {
    /// In the order of the file; what concerns no place comes last.
    pub list: Vec<Diagnostic>,
    /// The error that they are, where the file says `check=error=true`: the build must
    /// not go on.
    pub violation: Option<Diagnostic>,
}

/// Returns the warnings of a build: those of its plan and those of the tree, each once.
///
/// Checks that are only for who asks (`Rule::in_build`) are left out. An error is one of
/// the build argument BUILDKIT_DOCKERFILE_CHECK.
pub fn warnings(
    parsed: &Parsed,
    request: &Request,
    ignore: Option<&Ignore>,
    lowered: &Lowered,
) -> Result<Warnings, Diagnostic> {
    let options = options(parsed, request)?;
    let mut findings = lowered.warnings.clone();
    findings.extend(copy::ignored(&parsed.file, &lowered.graph.vertices, ignore));
    findings.extend(from::platforms(&parsed.file));
    findings.extend(tree(parsed));
    let filter = Filter::new(&parsed.file, options);
    filter.explain(&mut findings);
    let list = filter.keep(findings, true);
    let violation = filter.violation(&list);
    Ok(Warnings { list, violation })
}

/// Returns what the tree alone tells.
fn tree(parsed: &Parsed) -> Vec<Diagnostic> {
    let mut found = dockerfile::lint(&parsed.file, &parsed.source);
    found.extend(parsed.diagnostics.iter().filter(|problem| !problem.is_error()).cloned());
    found
}

/// Returns what the command line or the file says about checks.
fn options(parsed: &Parsed, request: &Request) -> Result<CheckOptions, Diagnostic> {
    if let Some(text) = request.build_args.get(CHECK_ARG) {
        return CheckOptions::parse(text).map_err(|why| Diagnostic {
            span: None,
            ..Diagnostic::error(
                "bad-directive",
                Default::default(),
                format!("build argument {CHECK_ARG}: {why}"),
            )
        });
    }
    let directive = parsed.file.directives.iter().find(|directive| directive.name == "check");
    // One that cannot be read is among the errors of the parser.
    Ok(directive.and_then(|d| CheckOptions::parse(&d.value).ok()).unwrap_or_default())
}

/// Drops what stands there twice, and sorts by place.
fn in_order(mut findings: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut seen = BTreeSet::new();
    findings.retain(|f| seen.insert((f.code, f.span, f.message.clone())));
    findings.sort_by_key(|f| (f.span.is_none(), f.span));
    findings
}
