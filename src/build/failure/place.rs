//! What of an instruction an error is about, where its text tells.
//!
//! Pure. A word is underlined only where it stands once; in doubt it is the whole instruction.

use super::hints::command_of;
use crate::context::ContextError;
use crate::plan::graph::{CopyOp, CopySource, Op, Vertex};
use crate::report::Span;
use crate::sandbox::Exit;
use crate::worker::{CopyError, WorkerError};

/// Returns the place that an error of a vertex is about; `output` is what its process said last.
pub fn of(source: &str, vertex: &Vertex, error: &WorkerError, output: &str) -> Span {
    let whole = vertex.span;
    let found = match (error, &vertex.op) {
        (WorkerError::Exit { exit: Exit::Code(126 | 127), .. }, _) => {
            command_of(output).and_then(|name| command(source, whole, name))
        }
        (WorkerError::Sandbox { error, .. }, _) => {
            error.exec().and_then(|exec| command(source, whole, &exec.program))
        }
        (
            WorkerError::Context(ContextError::NotFound { path, .. })
            | WorkerError::Copy(CopyError::Context(ContextError::NotFound { path, .. })),
            Op::Copy(copy),
        ) => written(copy, &path.to_string_lossy()).and_then(|text| word(source, whole, text)),
        (WorkerError::Context(ContextError::Checksum { expected, .. }), _) => {
            word(source, whole, &format!("--checksum={expected}"))
        }
        (WorkerError::Copy(CopyError::Chown(_)), Op::Copy(copy)) => {
            copy.chown.as_deref().and_then(|owner| word(source, whole, &format!("--chown={owner}")))
        }
        (WorkerError::User(_), Op::Run(run)) => user(source, whole, &run.user),
        (WorkerError::User(_), Op::Workdir(workdir)) => user(source, whole, &workdir.user),
        _ => None,
    };
    found.unwrap_or(whole)
}

/// Returns the source of a copy as the file has it, given how an error names it.
fn written<'a>(copy: &'a CopyOp, path: &str) -> Option<&'a str> {
    let bare = |text: &str| {
        let parts = text.split('/').filter(|part| !matches!(*part, "" | "." | ".."));
        parts.collect::<Vec<_>>().join("/")
    };
    let wanted = bare(path);
    copy.sources.iter().find_map(|source| match source {
        CopySource::Path { path, .. } if bare(path) == wanted => Some(path.as_str()),
        _ => None,
    })
}

/// Finds the USER instruction that names a user for the instruction at `before`, in the same stage.
fn user(source: &str, before: Span, name: &str) -> Option<Span> {
    let mut start = before.start.min(source.len());
    while start > 0 {
        let end = start - 1;
        start = source.get(..end)?.rfind('\n').map_or(0, |at| at + 1);
        let line = &source[start..end];
        let first = line.split_whitespace().next().unwrap_or_default();
        if first.eq_ignore_ascii_case("FROM") {
            return None;
        }
        if first.eq_ignore_ascii_case("USER") {
            return word(source, Span::new(start, end), name);
        }
    }
    None
}

/// Finds a word that stands once in a part of the file, between blanks, quotes, commas and brackets.
fn word(source: &str, within: Span, word: &str) -> Option<Span> {
    let is_edge = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | '[' | ']' | '=');
    once(source, within, word, |before, after| {
        before.is_none_or(is_edge) && after.is_none_or(|c| is_edge(c) || c == '\\')
    })
}

/// Finds the name of a program that stands once where a shell, or the exec form, expects one.
fn command(source: &str, within: Span, name: &str) -> Option<Span> {
    let is_edge = |c: char| c.is_whitespace() || "\"';&|()`[],<>".contains(c);
    once(source, within, name, |before, after| before.is_none_or(is_edge) && after.is_none_or(is_edge))
}

fn once(
    source: &str,
    within: Span,
    word: &str,
    fits: impl Fn(Option<char>, Option<char>) -> bool,
) -> Option<Span> {
    let text = source.get(within.range(source.len())).filter(|_| !word.is_empty())?;
    let mut places = text
        .match_indices(word)
        .map(|(at, _)| at)
        .filter(|&at| fits(text[..at].chars().next_back(), text[at + word.len()..].chars().next()));
    match (places.next(), places.next()) {
        (Some(at), None) => Some(Span::new(within.start + at, within.start + at + word.len())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(source: &str, found: Option<Span>) -> Option<(usize, &str)> {
        found.map(|span| (span.line(source), &source[span.range(source.len())]))
    }

    #[test]
    fn a_program_is_found_where_it_stands_once() {
        let check = |text: &str, name: &str, expect: Option<(usize, &str)>| {
            assert_eq!(at(text, command(text, Span::new(0, text.len()), name)), expect, "{text}: {name}");
        };
        check("RUN make && \\\n    gcc -o x x.c && \\\n    true", "gcc", Some((2, "gcc")));
        check("RUN [\"gcc\", \"-v\"]", "gcc", Some((1, "gcc")));
        check("RUN x=$(gcc)", "gcc", Some((1, "gcc")));
        check("RUN gcc a; gcc b", "gcc", None);
        check("RUN /opt/gcc -v", "gcc", None);
        check("RUN gcc-12", "gcc", None);
        check("RUN x", "", None);
    }

    #[test]
    fn a_word_is_found_where_it_stands_once() {
        let check = |text: &str, name: &str, expect: Option<(usize, &str)>| {
            assert_eq!(at(text, word(text, Span::new(0, text.len()), name)), expect, "{text}: {name}");
        };
        check("COPY a.txt \\\n b.txt /", "b.txt", Some((2, "b.txt")));
        check("COPY [\"a b\", \"/\"]", "a b", Some((1, "a b")));
        check("COPY --chown=app app /", "--chown=app", Some((1, "--chown=app")));
        check("COPY a a/", "a", Some((1, "a")));
        check("COPY $X /", "a", None);
    }

    #[test]
    fn the_user_is_found_above() {
        let check = |text: &str, name: &str, expect: Option<(usize, &str)>| {
            let start = text.rfind("RUN").unwrap();
            assert_eq!(at(text, user(text, Span::new(start, text.len()), name)), expect, "{text}");
        };
        check("FROM a\nUSER nosuch\nENV a=b\nRUN x", "nosuch", Some((2, "nosuch")));
        check("FROM a\nUSER nosuch\nFROM b\nRUN x", "nosuch", None);
        check("FROM a\nUSER $U\nRUN x", "nosuch", None);
        check("RUN x", "nosuch", None);
    }

    #[test]
    fn sources_are_known_by_what_they_name() {
        let path = |path: &str| CopySource::Path { input: 1, path: path.to_owned() };
        let copy = CopyOp {
            add: false,
            sources: vec![path("./a//b"), path("../c"), path("/d/")],
            destination: "/".into(),
            chown: None,
            chmod: None,
            link: false,
            parents: false,
            exclude: Vec::new(),
            unpack: None,
            source_date_epoch: None,
        };
        let check = |named: &str, expect: Option<&str>| assert_eq!(written(&copy, named), expect, "{named}");
        check("a/b", Some("./a//b"));
        check("c", Some("../c"));
        check("d", Some("/d/"));
        check("e", None);
    }
}
