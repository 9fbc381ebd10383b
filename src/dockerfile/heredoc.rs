//! Heredocs: `<<[-]NAME` in a RUN, COPY or ADD, and the lines that belong to it.
//!
//! Not here: what a shell makes of one, and variables in the body (`expand`).

use nom::IResult;
use nom::Parser;
use nom::bytes::complete::tag;
use nom::character::complete::{char, digit0};
use nom::combinator::{opt, rest};

use crate::report::Diagnostic;

use super::ast::Heredoc;
use super::flags;
use super::lines::{Line, Lines};
use super::words::{self, Json};

/// The word that begins a heredoc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Start {
    pub name: String,
    pub expand: bool,
    pub strip_tabs: bool,
    pub descriptor: Option<u32>,
}

/// Reads the bodies of all heredocs a line begins; gives them and where the
/// instruction ends.
pub(super) fn bodies(
    line: &Line,
    lines: &mut Lines<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> (Vec<Heredoc>, usize) {
    let mut end = line.span.end;
    let mut heredocs = Vec::new();
    for (word, start) in starts(&line.text) {
        let span = line.locate(word);
        let mut heredoc = Heredoc {
            name: start.name,
            expand: start.expand,
            strip_tabs: start.strip_tabs,
            descriptor: start.descriptor,
            body: String::new(),
            span,
        };
        if let Err(problem) = body(&mut heredoc, lines, &mut end) {
            diagnostics.push(problem);
        }
        heredocs.push(heredoc);
    }
    (heredocs, end)
}

/// Reads one heredoc's lines up to the one that holds its name alone.
///
/// Grammar: heredoc_body
fn body(heredoc: &mut Heredoc, lines: &mut Lines<'_>, end: &mut usize) -> Result<(), Diagnostic> {
    while let Some(physical) = lines.next_physical() {
        let (mut text, mut whole) = (physical.text, physical.whole);
        *end = physical.start + text.len();
        if heredoc.strip_tabs {
            text = text.trim_start_matches('\t');
            whole = whole.trim_start_matches('\t');
        }
        if text == heredoc.name {
            return Ok(());
        }
        heredoc.body.push_str(whole);
    }
    Err(Diagnostic::error(
        "unterminated-heredoc",
        heredoc.span,
        format!("unterminated heredoc: no line holds `{}` alone", heredoc.name),
    )
    .with_hint(format!("end it with a line that is exactly `{}`, without blanks around it", heredoc.name)))
}

/// Finds the words of an instruction that begin heredocs.
fn starts(text: &str) -> Vec<(&str, Start)> {
    let (keyword, arguments) = words::keyword(text);
    let (_, arguments) = flags::split(arguments);
    let shell = match keyword.to_ascii_uppercase().as_str() {
        "RUN" => true,
        "COPY" | "ADD" => false,
        "ONBUILD" => {
            // One level: an ONBUILD inside an ONBUILD is refused.
            let nested = words::keyword(arguments).0.eq_ignore_ascii_case("onbuild");
            return if nested { Vec::new() } else { starts(arguments) };
        }
        _ => return Vec::new(),
    };
    if !arguments.contains("<<") || matches!(words::json_list(arguments), Json::List(_)) {
        return Vec::new();
    }
    // The escape character of heredoc words is always the backslash, as in a shell.
    let words = if shell { words::quoted_words(arguments, '\\') } else { words::plain_words(arguments) };
    words.into_iter().filter_map(|word| Some((word, start(word, shell)?))).collect()
}

/// Reads `[descriptor]<<[-]NAME`. In a RUN the name ends where a shell's word does.
///
/// Grammar: heredoc_start
pub(super) fn start(word: &str, shell: bool) -> Option<Start> {
    let parsed: IResult<&str, (&str, &str, Option<char>, &str)> =
        (digit0, tag("<<"), opt(char('-')), rest).parse(word);
    let (_, (descriptor, _, dash, rest)) = parsed.ok()?;
    let (name, quoted) = name(rest, shell)?;
    Some(Start { name, expand: !quoted, strip_tabs: dash.is_some(), descriptor: descriptor.parse().ok() })
}

/// Removes quotes from a heredoc's name; tells whether there were any.
///
/// Grammar: heredoc_name
fn name(written: &str, shell: bool) -> Option<(String, bool)> {
    let mut name = String::new();
    let mut quoted = false;
    let mut quote = None;
    let mut chars = written.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '<') => return None,
            (None, ';' | '&' | '|' | '(' | ')' | '>') if shell => break,
            (None, '\'' | '"') => (quoted, quote) = (true, Some(c)),
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => {
                quoted = true;
                name.extend(chars.next());
            }
            _ => name.push(c),
        }
    }
    if name.is_empty() || quote.is_some() { None } else { Some((name, quoted)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_starts() {
        let check = |word, shell, expect: &str| {
            let found = start(word, shell).map_or("-".to_owned(), |s| {
                let descriptor = s.descriptor.map_or(String::new(), |d| d.to_string());
                format!("{descriptor}{}{} {}", if s.strip_tabs { "-" } else { "" }, s.name, s.expand)
            });
            assert_eq!(found, expect, "{word}");
        };
        check("<<EOF", true, "EOF true");
        check("<<-EOF", true, "-EOF true");
        check("3<<EOF", true, "3EOF true");
        check("<<'E F'", true, "E F false");
        check("<<E\"O\"F", true, "EOF false");
        check("<<\\EOF", true, "EOF false");
        check("<<EOF>out", true, "EOF true");
        check("<<EOF;", true, "EOF true");
        check("<<a;b", false, "a;b true");
        check("<<$x", true, "$x true");
        check("<<", true, "-");
        check("<<-", true, "-");
        check("<<<x", true, "-");
        check("<<a<<b", true, "-");
        check("x<<EOF", true, "-");
        check("<<''", true, "-");
        check("<<'open", true, "-");
        check("99999999999999<<EOF", true, "EOF true");
    }

    #[test]
    fn finds_starts() {
        let check = |text, expect: &[&str]| {
            let found: Vec<&str> = starts(text).into_iter().map(|(word, _)| word).collect();
            assert_eq!(found, expect, "{text}");
        };
        check("RUN cat <<A <<B", &["<<A", "<<B"]);
        check("run echo '<<A'", &[]);
        check("RUN [\"x\", \"<<A\"]", &[]);
        check("RUN [ -f x ] && cat <<A", &["<<A"]);
        check("RUN --mount=type=cache,target=/a cat <<A", &["<<A"]);
        check("ONBUILD RUN cat <<A", &["<<A"]);
        check("ONBUILD ONBUILD RUN cat <<A", &[]);
        check("COPY --chown=1 <<A b <<C /d", &["<<A", "<<C"]);
        check("CMD cat <<A", &[]);
        check("RUN echo $((1<<2))", &[]);
    }
}
