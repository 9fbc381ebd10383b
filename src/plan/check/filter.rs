//! Which findings a file wants to hear: its directive, comments above instructions.
//!
//! Not here: how those are read (`dockerfile::check_options`).

use crate::dockerfile::ast::Dockerfile;
use crate::dockerfile::ast::Instruction;
use crate::dockerfile::check_options;
use crate::dockerfile::check_options::CheckOptions;
use crate::dockerfile::rules;
use crate::report::Diagnostic;
use crate::report::Severity;

use super::in_order;

/// A file's wishes.
#[derive(Debug)]
pub(super) struct Filter<'a> {
    file: &'a Dockerfile,
    options: CheckOptions,
}

impl<'a> Filter<'a> {
    /// Makes a filter; `options` are those of the whole file.
    pub(super) fn new(file: &'a Dockerfile, options: CheckOptions) -> Filter<'a> {
        Filter { file, options }
    }

    /// Adds findings about the wishes themselves.
    pub(super) fn explain(&self, findings: &mut Vec<Diagnostic>) {
        let mut unknown = |options: &CheckOptions, span| {
            for (name, near) in options.unknown() {
                let message = format!("there is no check `{name}`");
                let mut finding = Diagnostic::warning("UnknownCheckRule", span, message);
                finding.hint = near.map(|near| format!("did you mean `{near}`?"));
                findings.push(finding);
            }
        };
        if let Some(directive) = self.file.directives.iter().find(|d| d.name == "check") {
            unknown(&self.options, directive.span);
        }
        let mut bad = Vec::new();
        for instruction in &self.file.instructions {
            for options in instruction.comments.iter().filter_map(|text| check_options::comment(text)) {
                match options {
                    Ok(options) => unknown(&options, instruction.keyword_span),
                    Err(why) => bad.push(Diagnostic::warning(
                        "InvalidCheckComment",
                        instruction.keyword_span,
                        format!("the comment above has no effect: {why}"),
                    )),
                }
            }
        }
        findings.append(&mut bad);
    }

    /// Keeps what is wanted, in order and each once.
    ///
    /// What is no check's (a build argument that nothing takes) always stays.
    pub(super) fn keep(&self, findings: Vec<Diagnostic>, in_build: bool) -> Vec<Diagnostic> {
        let wanted = |finding: &Diagnostic| match rules::rule(finding.code) {
            None => in_build,
            Some(rule) => (rule.in_build || !in_build) && self.at(finding).wants(rule),
        };
        in_order(findings.into_iter().filter(wanted).collect())
    }

    /// Returns the error that findings are, where the file asks for that.
    ///
    /// Advice that a build does not give cannot end one.
    pub(super) fn violation(&self, findings: &[Diagnostic]) -> Option<Diagnostic> {
        let failing = |finding: &&Diagnostic| {
            rules::rule(finding.code).is_some_and(|rule| rule.in_build) && self.at(finding).error
        };
        let mut names: Vec<&str> = findings.iter().filter(failing).map(|finding| finding.code).collect();
        names.sort_unstable();
        names.dedup();
        (!names.is_empty()).then(|| Diagnostic {
            severity: Severity::Error,
            code: "check",
            message: format!("lint violation found for rules: {}", names.join(", ")),
            span: None,
            hint: Some("checks have `error=true`, in the file or in BUILDKIT_DOCKERFILE_CHECK: a finding ends the build".to_owned()),
        })
    }

    /// Returns the options at a finding's place.
    fn at(&self, finding: &Diagnostic) -> CheckOptions {
        let mut options = self.options.clone();
        let comments = self.instruction(finding).map(|instruction| instruction.comments.as_slice());
        let more = comments.unwrap_or_default().iter().filter_map(|text| check_options::comment(text));
        more.flatten().for_each(|more| options.merge(&more));
        options
    }

    fn instruction(&self, finding: &Diagnostic) -> Option<&'a Instruction> {
        let start = finding.span?.start;
        let next = self.file.instructions.partition_point(|i| i.span.start <= start);
        let instruction = &self.file.instructions[next.checked_sub(1)?];
        (start <= instruction.span.end).then_some(instruction)
    }
}
