//! Findings as `docker build --check` prints them.

use std::fmt::Write as _;

use super::super::json::Lines;
use super::{detail, url};
use crate::plan::Checked;
use crate::report::Span;
use crate::report::excerpt::printable;

/// So many lines of a finding are shown.
const MOST_LINES: usize = 12;

/// So many characters of a line are shown.
const MOST_CHARS: usize = 400;

const RULE: &str = "--------------------";

/// Writes all findings, and a last line that counts them where there are no errors.
pub(super) fn render(file: &str, source: &str, checked: &Checked) -> String {
    let lines = Lines::new(source);
    let mut text = String::new();
    for finding in &checked.findings {
        let page = url(finding).map(|url| format!(" - {url}")).unwrap_or_default();
        let _ = writeln!(text, "WARNING: {}{page}\n{}", finding.code, printable(&detail(finding)));
        if let Some(span) = finding.span {
            excerpt(&mut text, file, &lines, span);
        }
        text.push('\n');
    }
    if checked.errors.is_empty() {
        let _ = match checked.findings.len() {
            0 => writeln!(text, "Check complete, no warnings found."),
            1 => writeln!(text, "Check complete, 1 warning has been found!"),
            n => writeln!(text, "Check complete, {n} warnings have been found!"),
        };
    }
    text
}

/// Writes the lines of a place, marked, with some lines around them.
fn excerpt(text: &mut String, file: &str, lines: &Lines<'_>, span: Span) {
    let (start, end) = lines.places(span);
    let (first, last) = (start.line, end.line.min(start.line + MOST_LINES - 1));
    let around = if first == last { 2 } else { 1 };
    let from = first.saturating_sub(around).max(1);
    let to = (last + around).min(lines.count());
    let _ = writeln!(text, "{}:{first}\n{RULE}", printable(file));
    for number in from..=to.max(last) {
        let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
        let line: String = printable(lines.line(number)).chars().take(MOST_CHARS).collect();
        let _ = writeln!(text, "{}", format!(" {number:>3} | {mark} {line}").trim_end());
    }
    let _ = writeln!(text, "{RULE}");
}

#[cfg(test)]
mod tests {
    use super::super::testing::checked;
    use super::*;

    #[test]
    fn looks_like_dockers() {
        let source = "FROM scratch AS Bee\nCOPY a \\\n  $x\nCMD [\"c\"]\n";
        insta::assert_snapshot!(render("Dockerfile", source, &checked(source)), @r#"
        WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/
        stage name `Bee` should be lowercase
        Dockerfile:1
        --------------------
           1 | >>> FROM scratch AS Bee
           2 |     COPY a \
           3 |       $x
        --------------------

        WARNING: UndefinedVar - https://docs.docker.com/go/dockerfile/rule/undefined-var/
        usage of undefined variable `$x`
        Dockerfile:3
        --------------------
           1 |     FROM scratch AS Bee
           2 |     COPY a \
           3 | >>>   $x
           4 |     CMD ["c"]
        --------------------

        Check complete, 2 warnings have been found!
        "#);
        assert_eq!(
            render("f", "FROM scratch\n", &checked("FROM scratch\n")),
            "Check complete, no warnings found.\n"
        );
    }

    #[test]
    fn nothing_controls_a_terminal() {
        let source = "FROM scratch AS A\nCOPY \x1b[2J $x\u{202e}\n";
        let text = render("a\x1b", source, &checked(source));
        assert!(!text.contains('\x1b') && !text.contains('\u{202e}'), "{text:?}");
    }

    #[test]
    fn long_places_are_cut() {
        let source = format!("FROM scratch\nRUN <<E\n{}E\n", "x\n".repeat(1000));
        let mut checked = checked(&source);
        checked.findings[0].span = Some(Span::new(0, source.len()));
        assert!(render("f", &source, &checked).lines().count() < 30);
    }
}
