//! The tree of a Dockerfile: what was written, where, and nothing of what it means.
//!
//! Every node has its span. Words are kept as written, quotes and `$` intact:
//! expansion (`words`) needs to see them. Flags and heredocs of the whole
//! language are here, whether or not the planner supports them yet.

use crate::report::Span;

use super::flags;
use super::words::{self, Json};

/// A parsed file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dockerfile {
    /// `# syntax=`, `# escape=`, `# check=`, in order.
    pub directives: Vec<Directive>,
    /// The escape character: `\` or a backtick.
    pub escape: char,
    pub instructions: Vec<Instruction>,
}

/// One parser directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// Lower case.
    pub name: String,
    pub value: String,
    pub span: Span,
}

/// One instruction with all that belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Instruction {
    /// The keyword as written (`run`, `RUN`).
    pub keyword: String,
    pub keyword_span: Span,
    /// The whole instruction, its continuation lines and heredocs included.
    pub span: Span,
    /// First and last line, from 1.
    pub lines: (usize, usize),
    /// The instruction on one line: continuations joined, comments inside them gone,
    /// heredoc bodies not included. What BuildKit calls `original`.
    pub original: String,
    /// The flags as written, in order; those an instruction knows also stand in its kind.
    pub flags: Vec<Flag>,
    /// Lines of comment directly above, without `#` and surrounding blanks.
    pub comments: Vec<String>,
    pub kind: Kind,
}

/// A `--name[=value]` word.
///
/// Unlike other words a flag's value has its quotes and escapes removed already, as
/// the language has it: they only group. Variables in it are not expanded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    pub name: String,
    pub value: Option<Word>,
    pub span: Span,
}

/// A word as written: unexpanded, quotes intact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    pub span: Span,
}

/// What an instruction is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    From(From),
    Arg(Vec<ArgDefinition>),
    Env(Vec<Pair>),
    Label(Vec<Pair>),
    Run(Run),
    Copy(Transfer),
    Add(Transfer),
    Workdir(Word),
    User(Word),
    Cmd(CommandLine),
    Entrypoint(CommandLine),
    Expose(Vec<Word>),
    Volume(Vec<Word>),
    Shell(Vec<String>),
    Stopsignal(Word),
    Healthcheck(Healthcheck),
    Onbuild(Box<Instruction>),
    Maintainer(String),
    /// Could not be understood; a diagnostic says why.
    Invalid,
}

/// `FROM [--platform=p] image [AS name]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    pub platform: Option<Word>,
    pub image: Word,
    /// As written; stages are matched in lower case.
    pub name: Option<Word>,
}

/// `name[=default]` of ARG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDefinition {
    pub name: String,
    pub default: Option<Word>,
    pub span: Span,
}

/// `key=value` of ENV and LABEL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub key: Word,
    pub value: Word,
    /// Whether it was written in the old form, `ENV key the rest of the line`.
    pub legacy: bool,
}

/// Shell form or exec form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// The text as the shell gets it: continuations joined, otherwise untouched.
    Shell(String),
    /// A JSON list.
    Exec(Vec<String>),
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub command: CommandLine,
    /// Values of `--mount`, `key=value` pairs with commas, unexpanded.
    pub mounts: Vec<Word>,
    pub network: Option<Word>,
    pub security: Option<Word>,
    pub devices: Vec<Word>,
    pub heredocs: Vec<Heredoc>,
}

/// `COPY` and `ADD`; a flag that only one of them knows is never set by the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    pub sources: Vec<TransferSource>,
    pub destination: Word,
    pub from: Option<Word>,
    pub chown: Option<Word>,
    pub chmod: Option<Word>,
    pub link: bool,
    pub parents: bool,
    pub exclude: Vec<Word>,
    pub checksum: Option<Word>,
    pub keep_git_dir: Option<bool>,
    pub unpack: Option<bool>,
    /// Whether it was written as a JSON list (then words hold no quotes to remove).
    pub json: bool,
}

/// One source of a COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferSource {
    /// A path, pattern, URL or git address.
    Path(Word),
    Heredoc(Heredoc),
}

/// `<<[-]NAME` and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    pub name: String,
    /// Whether variables in the body are expanded (no part of the name was quoted).
    pub expand: bool,
    /// `<<-`: leading tabs were removed.
    pub strip_tabs: bool,
    /// The number before `<<`, if any.
    pub descriptor: Option<u32>,
    /// The lines, each with its line end; leading tabs removed where `strip_tabs`.
    pub body: String,
    pub span: Span,
}

/// `HEALTHCHECK`.
#[allow(clippy::large_enum_variant)] // one per file at most: a box would save nothing
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    None,
    Command {
        command: CommandLine,
        interval: Option<Word>,
        timeout: Option<Word>,
        start_period: Option<Word>,
        start_interval: Option<Word>,
        retries: Option<Word>,
    },
}

impl Instruction {
    /// Returns the heredocs of a RUN, COPY or ADD, or of the one inside an ONBUILD.
    pub fn heredocs(&self) -> Vec<&Heredoc> {
        match &self.kind {
            Kind::Run(run) => run.heredocs.iter().collect(),
            Kind::Copy(transfer) | Kind::Add(transfer) => transfer
                .sources
                .iter()
                .filter_map(|source| match source {
                    TransferSource::Heredoc(heredoc) => Some(heredoc),
                    TransferSource::Path(_) => None,
                })
                .collect(),
            Kind::Onbuild(inner) => inner.heredocs(),
            _ => Vec::new(),
        }
    }

    /// Returns what follows the keyword and the flags, as written on one line.
    pub fn arguments(&self) -> &str {
        flags::split(words::keyword(&self.original).1).1.trim()
    }

    /// Tells whether the arguments are a JSON list, where the instruction takes one.
    pub fn is_json(&self) -> bool {
        match &self.kind {
            Kind::Run(Run { command, .. }) | Kind::Cmd(command) | Kind::Entrypoint(command) => {
                matches!(command, CommandLine::Exec(_))
            }
            Kind::Healthcheck(Healthcheck::Command { command, .. }) => {
                matches!(command, CommandLine::Exec(_))
            }
            Kind::Copy(transfer) | Kind::Add(transfer) => transfer.json,
            Kind::Volume(_) | Kind::Shell(_) => matches!(words::json_list(self.arguments()), Json::List(_)),
            _ => false,
        }
    }

    /// Returns the description of a stage or an argument: the rest of the comment above
    /// that begins with its name. Case does not count in a stage's name.
    pub fn description(&self, name: &str) -> Option<&str> {
        let is_name = |word: &str| match &self.kind {
            Kind::From(_) => word.eq_ignore_ascii_case(name),
            _ => word == name,
        };
        self.comments
            .iter()
            .find_map(|comment| comment.split_once(' ').filter(|(first, _)| is_name(first)))
            .map(|(_, rest)| rest.trim())
    }

    /// Returns the instruction as text that parses to the same again: one line, then
    /// the heredocs' bodies. For the trigger inside an ONBUILD this is what an image's
    /// `OnBuild` list holds.
    pub fn text(&self) -> String {
        let mut text = self.original.clone();
        for heredoc in self.heredocs() {
            text.push('\n');
            text.push_str(&heredoc.body);
            text.push_str(&heredoc.name);
        }
        text
    }
}

impl Kind {
    /// Returns the keyword in capitals; `None` for an instruction nobody knows.
    pub fn keyword(&self) -> Option<&'static str> {
        Some(match self {
            Kind::From(_) => "FROM",
            Kind::Arg(_) => "ARG",
            Kind::Env(_) => "ENV",
            Kind::Label(_) => "LABEL",
            Kind::Run(_) => "RUN",
            Kind::Copy(_) => "COPY",
            Kind::Add(_) => "ADD",
            Kind::Workdir(_) => "WORKDIR",
            Kind::User(_) => "USER",
            Kind::Cmd(_) => "CMD",
            Kind::Entrypoint(_) => "ENTRYPOINT",
            Kind::Expose(_) => "EXPOSE",
            Kind::Volume(_) => "VOLUME",
            Kind::Shell(_) => "SHELL",
            Kind::Stopsignal(_) => "STOPSIGNAL",
            Kind::Healthcheck(_) => "HEALTHCHECK",
            Kind::Onbuild(_) => "ONBUILD",
            Kind::Maintainer(_) => "MAINTAINER",
            Kind::Invalid => return None,
        })
    }
}
