//! A logical line to an instruction: one function per instruction.
//!
//! Wording of errors follows Docker's where users know it. Not here: what the
//! values mean (`plan`): words are kept unexpanded and unchecked.

use std::collections::HashMap;

use crate::report::{Diagnostic, Span};

use super::ast::{
    ArgDefinition, CommandLine, Flag, From, Healthcheck, Heredoc, Instruction, Kind, Pair, Run, Transfer,
    TransferSource, Word,
};
use super::expand;
use super::flags::{self, Known, Takes};
use super::heredoc;
use super::lines::Line;
use super::suggest;
use super::words::{self, Json};

/// All keywords.
const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// The line an instruction stands on.
pub(super) struct Place<'a> {
    pub line: &'a Line,
    pub escape: char,
    /// Where the instruction ends, its heredocs included.
    pub end: usize,
    /// The number of its last line.
    pub last_line: usize,
}

/// What follows an instruction's keyword and flags.
struct Arguments<'a> {
    place: &'a Place<'a>,
    /// In capitals.
    keyword: String,
    keyword_span: Span,
    /// As written, without flags and surrounding blanks; a slice of the line's text.
    text: &'a str,
    flags: &'a [Flag],
    heredocs: Vec<Heredoc>,
}

type Parsed = Result<Kind, Diagnostic>;

/// Parses the instruction on a line; one that is wrong is [`Kind::Invalid`].
///
/// Grammar: instruction
pub(super) fn instruction(
    place: &Place<'_>,
    heredocs: Vec<Heredoc>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Instruction {
    parse(place, &place.line.text, heredocs, diagnostics)
}

/// Parses an instruction from a part of a line: all of it, or what follows ONBUILD.
fn parse(
    place: &Place<'_>,
    text: &str,
    heredocs: Vec<Heredoc>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Instruction {
    let line = place.line;
    let (keyword, rest) = words::keyword(text);
    let keyword_span = line.locate(keyword);
    let (raw_flags, rest) = flags::split(rest);
    let flags: Vec<Flag> = raw_flags.into_iter().map(|word| flags::flag(word, line)).collect();
    let arguments = Arguments {
        place,
        keyword: keyword.to_ascii_uppercase(),
        keyword_span,
        text: rest.trim(),
        flags: &flags,
        heredocs,
    };
    let kind = kind(arguments, keyword, diagnostics).unwrap_or_else(|problem| {
        diagnostics.push(problem);
        Kind::Invalid
    });
    let start = keyword_span.start;
    Instruction {
        keyword: keyword.to_owned(),
        keyword_span,
        span: Span::new(start, place.end.max(start)),
        lines: (line.first, place.last_line),
        original: text.to_owned(),
        flags,
        comments: Vec::new(),
        kind,
    }
}

/// Dispatches on the keyword.
fn kind(arguments: Arguments<'_>, written: &str, diagnostics: &mut Vec<Diagnostic>) -> Parsed {
    let parser: fn(Arguments<'_>) -> Parsed = match arguments.keyword.as_str() {
        "ADD" => add,
        "ARG" => arg,
        "CMD" | "ENTRYPOINT" => return command(arguments, diagnostics),
        "COPY" => copy,
        "ENV" => env,
        "EXPOSE" => expose,
        "FROM" => from,
        "HEALTHCHECK" => healthcheck,
        "LABEL" => label,
        "MAINTAINER" => maintainer,
        "ONBUILD" => return onbuild(arguments, diagnostics),
        "RUN" => return run(arguments, diagnostics),
        "SHELL" => shell,
        "STOPSIGNAL" => stopsignal,
        "USER" => user,
        "VOLUME" => volume,
        "WORKDIR" => workdir,
        _ => return Err(unknown(written, arguments.keyword_span)),
    };
    parser(arguments)
}

fn unknown(written: &str, span: Span) -> Diagnostic {
    let near = suggest::did_you_mean(written, &KEYWORDS);
    let problem =
        Diagnostic::error("unknown-instruction", span, format!("unknown instruction: {written}{near}"));
    if let Some(c) = written.chars().find(|c| c.is_whitespace() || *c == '\u{feff}' || *c == '\u{200b}') {
        let code = u32::from(c);
        return problem
            .with_hint(format!("it contains the invisible character U+{code:04X}; type a plain space"));
    }
    if near.is_empty() {
        return problem
            .with_hint("if it belongs to the line above, that line has to end in the escape character `\\`");
    }
    problem
}

impl Arguments<'_> {
    fn word(&self, text: &str) -> Word {
        Word { text: text.to_owned(), span: self.place.line.locate(text) }
    }

    fn words(&self, texts: Vec<&str>) -> Vec<Word> {
        texts.into_iter().map(|text| self.word(text)).collect()
    }

    /// The span of the arguments, or of the keyword where there are none.
    fn span(&self) -> Span {
        if self.text.is_empty() { self.keyword_span } else { self.place.line.locate(self.text) }
    }

    fn error(&self, code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(code, self.span(), message)
    }

    fn check_flags(&self, known: Known) -> Result<(), Diagnostic> {
        flags::check(self.flags, known)
    }

    fn at_least_one(&self) -> Result<(), Diagnostic> {
        if !self.text.is_empty() {
            return Ok(());
        }
        Err(self.error("missing-argument", format!("{} requires at least one argument", self.keyword)))
    }

    /// The whole rest as one word.
    fn exactly_one(&self) -> Result<Word, Diagnostic> {
        self.check_flags(&[])?;
        if self.text.is_empty() {
            let message = format!("{} requires exactly one argument", self.keyword);
            return Err(self.error("missing-argument", message));
        }
        Ok(self.word(self.text))
    }

    /// Shell form or exec form of some text.
    ///
    /// Grammar: command_line
    fn command_line(&self, text: &str) -> Result<CommandLine, Diagnostic> {
        match words::json_list(text) {
            Json::List(list) => Ok(CommandLine::Exec(list.into_iter().map(|(text, _)| text).collect())),
            Json::NotStrings => Err(self.not_strings()),
            Json::No => Ok(CommandLine::Shell(text.to_owned())),
        }
    }

    fn not_strings(&self) -> Diagnostic {
        self.error("not-strings", "when using JSON array syntax, arrays must be comprised of strings only")
            .with_hint("put every element in double quotes")
    }

    /// Words from a JSON list or split at blanks; tells whether it was JSON.
    ///
    /// Grammar: words_or_json
    fn words_or_json(&self) -> Result<(Vec<Word>, bool), Diagnostic> {
        match words::json_list(self.text) {
            Json::List(list) => {
                let word = |(text, raw)| Word { text, span: self.place.line.locate(raw) };
                Ok((list.into_iter().map(word).collect(), true))
            }
            Json::NotStrings => Err(self.not_strings()),
            Json::No => Ok((self.words(words::plain_words(self.text)), false)),
        }
    }

    fn warn_if_empty(&self, diagnostics: &mut Vec<Diagnostic>) {
        if self.text.is_empty() {
            let message = format!("{} without a command does nothing", self.keyword);
            diagnostics.push(Diagnostic::warning("EmptyCommand", self.keyword_span, message));
        }
    }
}

/// `FROM [--platform=p] image [AS name]`.
///
/// Grammar: from
fn from(arguments: Arguments<'_>) -> Parsed {
    arguments.check_flags(&[("platform", Takes::Value)])?;
    let words = words::plain_words(arguments.text);
    let (image, name) = match words[..] {
        [image] => (image, None),
        [image, r#as, name] if r#as.eq_ignore_ascii_case("as") => (image, Some(name)),
        _ => {
            return Err(arguments
                .error("from-arguments", "FROM requires either one or three arguments")
                .with_hint("write `FROM image` or `FROM image AS name`"));
        }
    };
    let name = name.map(|name| arguments.word(name));
    if let Some(name) = &name
        && !is_stage_name(&name.text)
    {
        let message = format!(
            "invalid name for build stage: `{}`, name can't start with a number or contain symbols",
            name.text
        );
        return Err(Diagnostic::error("stage-name", name.span, message)
            .with_hint("use letters, digits, `-`, `_` and `.`, beginning with a letter"));
    }
    Ok(Kind::From(From {
        platform: flags::value(arguments.flags, "platform"),
        image: arguments.word(image),
        name,
    }))
}

/// Tells whether a stage may be called so; capitals are allowed and mean the same.
///
/// Grammar: stage_name
fn is_stage_name(name: &str) -> bool {
    let lower = name.to_lowercase();
    lower.starts_with(|c: char| c.is_ascii_lowercase())
        && lower.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'))
}

/// `ARG name[=default] ...`.
///
/// Grammar: arg
fn arg(arguments: Arguments<'_>) -> Parsed {
    arguments.check_flags(&[])?;
    arguments.at_least_one()?;
    let mut definitions = Vec::new();
    for word in words::quoted_words(arguments.text, arguments.place.escape) {
        let (name, default) = match word.split_once('=') {
            Some((name, default)) => (name, Some(arguments.word(default))),
            None => (word, None),
        };
        let span = arguments.place.line.locate(word);
        if name.is_empty() {
            return Err(Diagnostic::error("blank-name", span, "ARG names can not be blank"));
        }
        let name = expand::unquote(name, arguments.place.escape)
            .map_err(|error| Diagnostic::error("bad-word", span, error.to_string()))?;
        definitions.push(ArgDefinition { name, default, span });
    }
    Ok(Kind::Arg(definitions))
}

/// `ENV key=value ...` and `ENV key value`.
///
/// Grammar: env
fn env(arguments: Arguments<'_>) -> Parsed {
    pairs(&arguments).map(Kind::Env)
}

/// `LABEL key=value ...` and `LABEL key value`.
///
/// Grammar: label
fn label(arguments: Arguments<'_>) -> Parsed {
    pairs(&arguments).map(Kind::Label)
}

/// Pairs; the old form when the first word has no `=`.
///
/// Grammar: pairs
fn pairs(arguments: &Arguments<'_>) -> Result<Vec<Pair>, Diagnostic> {
    arguments.check_flags(&[])?;
    arguments.at_least_one()?;
    let keyword = &arguments.keyword;
    let words = words::quoted_words(arguments.text, arguments.place.escape);
    if words.first().is_none_or(|word| !word.contains('=')) {
        let (key, value) = words::keyword(arguments.text);
        if value.is_empty() {
            return Err(arguments
                .error("missing-argument", format!("{keyword} must have two arguments"))
                .with_hint(format!("write `{keyword} {key}=value`")));
        }
        return Ok(vec![Pair { key: arguments.word(key), value: arguments.word(value), legacy: true }]);
    }
    let mut pairs = Vec::new();
    for word in words {
        let span = arguments.place.line.locate(word);
        let Some(at) = equals(word, arguments.place.escape) else {
            let message =
                format!("syntax error: can't find = in `{word}`; it must be of the form name=value");
            return Err(Diagnostic::error("missing-equals", span, message)
                .with_hint("put quotes round a value that contains spaces"));
        };
        let (key, value) = (&word[..at], &word[at + 1..]);
        if key.is_empty() {
            return Err(Diagnostic::error("blank-name", span, format!("{keyword} names can not be blank")));
        }
        pairs.push(Pair { key: arguments.word(key), value: arguments.word(value), legacy: false });
    }
    Ok(pairs)
}

/// Finds the `=` of a pair: the first outside of quotes, else the first.
fn equals(word: &str, escape: char) -> Option<usize> {
    let mut quote = None;
    let mut chars = word.char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (None, '=') => return Some(at),
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (open, c) if c == escape && open != Some('\'') => {
                chars.next();
            }
            _ => {}
        }
    }
    word.find('=')
}

/// `RUN`, shell form, exec form, or with heredocs.
///
/// Grammar: run
fn run(arguments: Arguments<'_>, diagnostics: &mut Vec<Diagnostic>) -> Parsed {
    arguments.check_flags(&[
        ("mount", Takes::Values),
        ("network", Takes::Value),
        ("security", Takes::Value),
        ("device", Takes::Values),
    ])?;
    arguments.warn_if_empty(diagnostics);
    Ok(Kind::Run(Run {
        command: arguments.command_line(arguments.text)?,
        mounts: flags::values(arguments.flags, "mount"),
        network: flags::value(arguments.flags, "network"),
        security: flags::value(arguments.flags, "security"),
        devices: flags::values(arguments.flags, "device"),
        heredocs: arguments.heredocs,
    }))
}

/// `CMD` and `ENTRYPOINT`.
///
/// Grammar: command
fn command(arguments: Arguments<'_>, diagnostics: &mut Vec<Diagnostic>) -> Parsed {
    arguments.check_flags(&[])?;
    arguments.warn_if_empty(diagnostics);
    let line = arguments.command_line(arguments.text)?;
    Ok(if arguments.keyword == "CMD" { Kind::Cmd(line) } else { Kind::Entrypoint(line) })
}

/// `COPY [flags] source ... destination`.
///
/// Grammar: copy
fn copy(arguments: Arguments<'_>) -> Parsed {
    arguments.check_flags(&[
        ("from", Takes::Value),
        ("chown", Takes::Value),
        ("chmod", Takes::Value),
        ("link", Takes::Bool),
        ("parents", Takes::Bool),
        ("exclude", Takes::Values),
    ])?;
    transfer(arguments).map(Kind::Copy)
}

/// `ADD [flags] source ... destination`.
///
/// Grammar: add
fn add(arguments: Arguments<'_>) -> Parsed {
    arguments.check_flags(&[
        ("chown", Takes::Value),
        ("chmod", Takes::Value),
        ("link", Takes::Bool),
        ("keep-git-dir", Takes::Bool),
        ("checksum", Takes::Value),
        ("unpack", Takes::Bool),
        ("exclude", Takes::Values),
    ])?;
    transfer(arguments).map(Kind::Add)
}

/// Sources and destination.
///
/// Grammar: transfer
fn transfer(arguments: Arguments<'_>) -> Result<Transfer, Diagnostic> {
    let keyword = &arguments.keyword;
    let (mut words, json) = arguments.words_or_json()?;
    let count = words.len();
    let (Some(destination), true) = (words.pop(), count >= 2) else {
        let given = if count == 0 { "none" } else { "only one" };
        let message = format!(
            "{keyword} requires at least two arguments, but {given} was provided. Destination could not be \
             determined"
        );
        return Err(arguments.error("missing-argument", message));
    };
    if !json && heredoc::start(&destination.text, false).is_some() {
        let message = format!("{keyword} cannot accept a heredoc as a destination");
        return Err(Diagnostic::error("heredoc-destination", destination.span, message));
    }
    let flags = arguments.flags;
    let mut heredocs: HashMap<Span, Heredoc> = HashMap::new();
    if !json {
        heredocs.extend(arguments.heredocs.iter().map(|heredoc| (heredoc.span, heredoc.clone())));
    }
    let source = |word: Word| match heredocs.remove(&word.span) {
        Some(heredoc) => TransferSource::Heredoc(heredoc),
        None => TransferSource::Path(word),
    };
    let sources = words.into_iter().map(source).collect();
    Ok(Transfer {
        sources,
        destination,
        from: flags::value(flags, "from"),
        chown: flags::value(flags, "chown"),
        chmod: flags::value(flags, "chmod"),
        link: flags::boolean(flags, "link").unwrap_or(false),
        parents: flags::boolean(flags, "parents").unwrap_or(false),
        exclude: flags::values(flags, "exclude"),
        checksum: flags::value(flags, "checksum"),
        keep_git_dir: flags::boolean(flags, "keep-git-dir"),
        unpack: flags::boolean(flags, "unpack"),
        json,
    })
}

/// `EXPOSE port ...`.
///
/// Grammar: expose
fn expose(arguments: Arguments<'_>) -> Parsed {
    arguments.check_flags(&[])?;
    arguments.at_least_one()?;
    Ok(Kind::Expose(arguments.words(words::plain_words(arguments.text))))
}

/// `VOLUME path ...` or a JSON list.
///
/// Grammar: volume
fn volume(arguments: Arguments<'_>) -> Parsed {
    arguments.check_flags(&[])?;
    arguments.at_least_one()?;
    let (words, _) = arguments.words_or_json()?;
    if words.is_empty() {
        return Err(arguments.error("missing-argument", "VOLUME requires at least one argument"));
    }
    if let Some(empty) = words.iter().find(|word| word.text.is_empty()) {
        let message = "VOLUME specified can not be an empty string";
        return Err(Diagnostic::error("empty-volume", empty.span, message));
    }
    Ok(Kind::Volume(words))
}

/// `USER user[:group]`.
///
/// Grammar: user
fn user(arguments: Arguments<'_>) -> Parsed {
    arguments.exactly_one().map(Kind::User)
}

/// `WORKDIR path`; blanks belong to the path.
///
/// Grammar: workdir
fn workdir(arguments: Arguments<'_>) -> Parsed {
    arguments.exactly_one().map(Kind::Workdir)
}

/// `STOPSIGNAL signal`.
///
/// Grammar: stopsignal
fn stopsignal(arguments: Arguments<'_>) -> Parsed {
    arguments.exactly_one().map(Kind::Stopsignal)
}

/// `MAINTAINER name`.
///
/// Grammar: maintainer
fn maintainer(arguments: Arguments<'_>) -> Parsed {
    arguments.exactly_one().map(|word| Kind::Maintainer(word.text))
}

/// `SHELL ["program", "argument", ...]`.
///
/// Grammar: shell
fn shell(arguments: Arguments<'_>) -> Parsed {
    arguments.check_flags(&[])?;
    match words::json_list(arguments.text) {
        Json::List(list) if list.is_empty() => {
            Err(arguments.error("missing-argument", "SHELL requires at least one argument"))
        }
        Json::List(list) => Ok(Kind::Shell(list.into_iter().map(|(text, _)| text).collect())),
        Json::NotStrings => Err(arguments.not_strings()),
        Json::No => Err(arguments
            .error("shell-form", "SHELL requires the arguments to be in JSON form")
            .with_hint("write for example `SHELL [\"/bin/bash\", \"-c\"]`")),
    }
}

/// `HEALTHCHECK NONE` or `HEALTHCHECK [flags] CMD command`.
///
/// Grammar: healthcheck
fn healthcheck(arguments: Arguments<'_>) -> Parsed {
    arguments.check_flags(&[
        ("interval", Takes::Value),
        ("timeout", Takes::Value),
        ("start-period", Takes::Value),
        ("start-interval", Takes::Value),
        ("retries", Takes::Value),
    ])?;
    arguments.at_least_one()?;
    let (typ, rest) = words::keyword(arguments.text);
    match typ.to_ascii_uppercase().as_str() {
        "NONE" if rest.is_empty() => Ok(Kind::Healthcheck(Healthcheck::None)),
        "NONE" => Err(arguments.error("too-many-arguments", "HEALTHCHECK NONE takes no arguments")),
        "CMD" => {
            let command = arguments.command_line(rest)?;
            if matches!(&command, CommandLine::Shell(text) if text.is_empty())
                || matches!(&command, CommandLine::Exec(words) if words.is_empty())
            {
                return Err(arguments.error("missing-argument", "missing command after HEALTHCHECK CMD"));
            }
            let value = |name| flags::value(arguments.flags, name);
            Ok(Kind::Healthcheck(Healthcheck::Command {
                command,
                interval: value("interval"),
                timeout: value("timeout"),
                start_period: value("start-period"),
                start_interval: value("start-interval"),
                retries: value("retries"),
            }))
        }
        _ => Err(Diagnostic::error(
            "healthcheck-type",
            arguments.place.line.locate(typ),
            format!("unknown type `{typ}` in HEALTHCHECK (try CMD)"),
        )),
    }
}

/// `ONBUILD instruction`.
///
/// Grammar: onbuild
fn onbuild(arguments: Arguments<'_>, diagnostics: &mut Vec<Diagnostic>) -> Parsed {
    arguments.check_flags(&[])?;
    arguments.at_least_one()?;
    check_trigger_keyword(words::keyword(arguments.text).0, arguments.span())?;
    let mut problems = Vec::new();
    let inner = parse(arguments.place, arguments.text, arguments.heredocs, &mut problems);
    let failed = problems.iter().any(Diagnostic::is_error);
    diagnostics.append(&mut problems);
    Ok(if failed { Kind::Invalid } else { Kind::Onbuild(Box::new(inner)) })
}

/// Refuses instructions that may not be triggers.
pub(super) fn check_trigger(instruction: &Instruction) -> Result<(), Diagnostic> {
    check_trigger_keyword(&instruction.keyword, instruction.keyword_span)
}

fn check_trigger_keyword(keyword: &str, span: Span) -> Result<(), Diagnostic> {
    match keyword.to_ascii_uppercase().as_str() {
        "ONBUILD" => {
            Err(Diagnostic::error("onbuild", span, "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"))
        }
        trigger @ ("FROM" | "MAINTAINER") => {
            Err(Diagnostic::error("onbuild", span, format!("{trigger} isn't allowed as an ONBUILD trigger")))
        }
        _ => Ok(()),
    }
}
