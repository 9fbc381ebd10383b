//! How a step differs from what was done before: field by field, file by file, in words for people.
//!
//! Pure. Values of variables whose names look like secrets are never shown, nor are they where they stand in
//! other values. Not here: which earlier result a step is compared with (`why`), how one
//! value is written (`values`).

use std::collections::{BTreeMap, BTreeSet};

use crate::plan::graph::{EdgeKind, Graph, Op};
use crate::plan::looks_secret;
use crate::report::redact;

use super::key::{Fields, Value};
use super::record::InputKey;
use super::values::{HIDDEN, Mask, cut, documents, list, mounts, pairs, show, words_changed};

/// What stands for a value that is not there.
const NOT_SET: &str = "not set";

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What it is: `command`, `ARG VERSION`, `files`, `--chown`, `base image`.
    pub name: String,
    /// Whole; `None` where it was not set, or is no text.
    pub before: Option<String>,
    pub now: Option<String>,
    /// All files that differ, by path.
    pub files: Vec<FileChange>,
    /// The same in a few words.
    pub line: String,
}

/// One file that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    pub path: String,
    pub how: How,
}

/// How a file differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    Added,
    Removed,
    /// What of it changed: `content`, `mode 644 -> 755`.
    Changed(String),
}

impl Difference {
    /// Makes one of two values.
    pub(super) fn of(name: &str, before: Option<String>, now: Option<String>) -> Difference {
        let shown = |value: &Option<String>| value.as_deref().map_or_else(|| NOT_SET.to_owned(), cut);
        let line = format!("{name}: {} -> {}", shown(&before), shown(&now));
        Difference { name: name.to_owned(), before, now, files: Vec::new(), line }
    }

    pub(super) fn worded(self, line: String) -> Difference {
        Difference { line, ..self }
    }
}

/// Joins what differs to one line: the first three, and how many more.
pub fn one_line(differences: &[Difference]) -> String {
    const SHOWN: usize = 3;
    let mut line: Vec<String> = differences.iter().take(SHOWN).map(|one| one.line.clone()).collect();
    if differences.len() > SHOWN {
        line.push(format!("{} more", differences.len() - SHOWN));
    }
    line.join("; ")
}

/// A step as the graph has it: what its names mean.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub graph: &'a Graph,
    pub vertex: usize,
}

impl Place<'_> {
    /// Returns the instruction that gives a variable its value: ENV where the config has it by then, else ARG.
    fn word(self, name: &str) -> &'static str {
        let has = |env: &[String]| env.iter().any(|entry| entry.split('=').next() == Some(name));
        let is_ours = |step: &crate::plan::graph::Step| step.vertex.map(|id| id.0) == Some(self.vertex);
        for stage in &self.graph.stages {
            let Some(at) = stage.steps.iter().position(is_ours) else { continue };
            let mut config = stage.start.clone();
            let changes = stage.steps[..=at].iter().flat_map(|step| &step.changes);
            changes.for_each(|change| change.apply(&mut config));
            return if has(&config.env) { "ENV" } else { "ARG" };
        }
        "ARG"
    }

    /// Says where the files of a source or mount come from; empty for the build context itself.
    fn source(self, number: usize) -> String {
        let inputs = &self.graph.vertices[self.vertex].inputs;
        let from = inputs.iter().filter(|input| input.kind.is_selected()).nth(number).and_then(|i| i.from);
        let Some(from) = from.map(|id| self.graph.vertex(id)) else { return String::new() };
        match &from.op {
            Op::Context(context) if context.name == "context" => String::new(),
            Op::Context(context) => context.name.clone(),
            Op::Http(http) => redact(&http.url),
            Op::Git(git) => redact(&git.address.to_string()),
            Op::Image(image) => format!("--from={}", image.reference),
            Op::Run(_) | Op::Copy(_) | Op::Workdir(_) => format!("--from={}", from.stage),
        }
    }

    /// Tells whether the first selected input is a mount rather than a source.
    fn mounts(self) -> bool {
        self.graph.vertices[self.vertex].inputs.iter().any(|input| input.kind == EdgeKind::Mount)
    }
}

/// Compares the fields and the files of a step with those of an earlier one. Bases are not looked at.
pub(super) fn differences(
    place: Place<'_>,
    (fields, inputs): (&Fields, &[InputKey]),
    (old_fields, old_inputs): (&Fields, &[InputKey]),
) -> Vec<Difference> {
    let mask = Mask::of([fields, old_fields]);
    let mut found = Vec::new();
    for (name, now) in &fields.0 {
        let before = old_fields.get(name);
        if before != Some(now) {
            field(place, name, before, Some(now), &mask, &mut found);
        }
    }
    for (name, before) in &old_fields.0 {
        if fields.get(name).is_none() {
            field(place, name, Some(before), None, &mask, &mut found);
        }
    }
    let selected = |list: &[InputKey]| -> Vec<InputKey> {
        list.iter().filter(|input| input.kind != super::record::InputKind::Base).cloned().collect()
    };
    let (now, before) = (selected(inputs), selected(old_inputs));
    if now.len() != before.len() || now.iter().zip(&before).any(|(now, before)| now.kind != before.kind) {
        // Where a mount came or went, its field says so.
        if found.is_empty() {
            let what = if place.mounts() { "mounts" } else { "sources" };
            let count = |list: &[InputKey]| Some(list.len().to_string());
            let line = format!("{what} changed: {} -> {}", before.len(), now.len());
            found.push(Difference::of(what, count(&before), count(&now)).worded(line));
        }
        return found;
    }
    for (number, (now, before)) in now.iter().zip(&before).enumerate() {
        if now.digest != before.digest {
            found.push(files(&place.source(number), &before.files, &now.files));
        }
    }
    found
}

/// Compares two lists of files, as far as they are known.
fn files(source: &str, before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Difference {
    let prefix = if source.is_empty() { String::new() } else { format!("{source}: ") };
    let name = if source.is_empty() { "files".to_owned() } else { format!("files of {source}") };
    let mut changes = Vec::new();
    // A list that an older version wrote tells less, and is no list.
    let is_known = |list: &BTreeMap<String, String>| list.values().all(|mark| mark.contains(' '));
    if !before.is_empty() && !now.is_empty() && is_known(before) && is_known(now) {
        let paths: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
        for path in paths {
            let how = match (before.get(path), now.get(path)) {
                (Some(before), Some(now)) if before == now => continue,
                (Some(before), Some(now)) => How::Changed(marks(before, now)),
                (None, _) => How::Added,
                (_, None) => How::Removed,
            };
            changes.push(FileChange { path: path.clone(), how });
        }
    }
    let line = match &changes[..] {
        // The same files in another order, or under other names where they land.
        [] => "files changed".to_owned(),
        [FileChange { path, how: one }, FileChange { path: other, how: two }]
            if matches!((one, two), (How::Added, How::Removed) | (How::Removed, How::Added)) =>
        {
            let (from, to) = if *one == How::Removed { (path, other) } else { (other, path) };
            match before.get(from) == now.get(to) {
                true => format!("{} renamed to {}", cut(from), cut(to)),
                false => format!("{} (+1 more)", file_line(&changes[0])),
            }
        }
        [only] => file_line(only),
        [first, rest @ ..] => format!("{} (+{} more)", file_line(first), rest.len()),
    };
    Difference { name, before: None, now: None, files: changes, line: format!("{prefix}{line}") }
}

fn file_line(change: &FileChange) -> String {
    let path = cut(&change.path);
    match &change.how {
        How::Added => format!("{path} added"),
        How::Removed => format!("{path} removed"),
        How::Changed(what) if what == "content" => format!("{path} changed"),
        How::Changed(what) => format!("{path}: {what}"),
    }
}

/// Says what differs between two marks of one path: kind, mode, owner, content and the rest, each a word.
fn marks(before: &str, now: &str) -> String {
    let words = |mark: &'_ str| -> Vec<String> { mark.split(' ').map(str::to_owned).collect() };
    let (before, now) = (words(before), words(now));
    let word = |list: &[String], at: usize| list.get(at).cloned().unwrap_or_default();
    let kind = |letter: &str| match letter {
        "d" => "directory",
        "l" => "link",
        "f" => "file",
        _ => "special file",
    };
    if word(&before, 0) != word(&now, 0) {
        return format!("{} -> {}", kind(&word(&before, 0)), kind(&word(&now, 0)));
    }
    if word(&before, 3) != word(&now, 3) {
        return "content".to_owned();
    }
    for (at, what) in [(1, "mode"), (2, "owner")] {
        if word(&before, at) != word(&now, at) {
            return format!("{what} {} -> {}", word(&before, at), word(&now, at));
        }
    }
    "attributes or hard links".to_owned()
}

/// Adds what differs in one field.
fn field(
    place: Place<'_>,
    name: &str,
    before: Option<&Value>,
    now: Option<&Value>,
    mask: &Mask,
    out: &mut Vec<Difference>,
) {
    let text = |value: Option<&Value>| value.map(|value| mask.apply(&show(value)));
    let plain = |name: &str| Difference::of(name, text(before), text(now));
    match name {
        "args" => out.push(command(&list(before), &list(now), mask)),
        "env" => variables(place, &list(before), &list(now), mask, out),
        "mounts" => sets("--mount", mounts(&list(before)), mounts(&list(now)), mask, out),
        "volumes" => sets("--volume", pairs(&list(before)), pairs(&list(now)), mask, out),
        "extra-hosts" => sets("--add-host", list(before), list(now), mask, out),
        "exclude" => sets("--exclude", list(before), list(now), mask, out),
        "sources" => out.push(sources(&list(before), &list(now), mask)),
        "script" => out.push(document("here-document", text(before), text(now))),
        "op" => {
            let upper = |value| text(value).map(|text| text.to_uppercase());
            out.push(Difference::of("instruction", upper(before), upper(now)));
        }
        "user" => {
            let user = |value| text(value).map(|user| if user.is_empty() { "root".into() } else { user });
            out.push(Difference::of("USER", user(before), user(now)));
        }
        "workdir" | "path" => out.push(plain("WORKDIR")),
        "script-name" => out.push(plain("name of the here-document")),
        "hostname" => out.push(plain("host name")),
        "source-date-epoch" => out.push(plain("SOURCE_DATE_EPOCH")),
        "chown" | "chmod" | "link" | "parents" | "unpack" | "security" => {
            out.push(plain(&format!("--{name}")));
        }
        other => out.push(plain(other)),
    }
}

/// Tells how a command changed; of a shell's, whether the shell or its text did.
fn command(before: &[String], now: &[String], mask: &Mask) -> Difference {
    let joined = |words: &[String]| mask.apply(&words.join(" "));
    if let ([old_shell @ .., old], [shell @ .., new]) = (before, now)
        && !old_shell.is_empty()
        && !shell.is_empty()
        && old == new
        && shell != old_shell
    {
        return Difference::of("SHELL", Some(joined(old_shell)), Some(joined(shell)));
    }
    // What the shell is told, where both are told it by the same one.
    let (before, now) = match (before, now) {
        ([old_shell @ .., old], [shell @ .., new]) if shell == old_shell && is_shell(shell) => {
            (mask.apply(old), mask.apply(new))
        }
        _ => (joined(before), joined(now)),
    };
    document("command", Some(before), Some(now))
}

/// Tells whether words end as those in front of a script do: `/bin/sh -c`, `cmd /S /C`.
fn is_shell(words: &[String]) -> bool {
    words.len() > 1 && words.last().is_some_and(|word| word.starts_with(['-', '/']))
}

/// Tells how a longer text changed, by its words.
fn document(name: &str, before: Option<String>, now: Option<String>) -> Difference {
    let line = match (&before, &now) {
        (Some(before), Some(now)) => format!("{name} changed: {}", words_changed(before, now)),
        _ => return Difference::of(name, before, now),
    };
    Difference::of(name, before, now).worded(line)
}

/// Adds the variables that differ.
fn variables(place: Place<'_>, before: &[String], now: &[String], mask: &Mask, out: &mut Vec<Difference>) {
    let known = |list: &[String]| -> BTreeMap<String, String> {
        let pair = |entry: &String| {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            (name.to_owned(), value.to_owned())
        };
        list.iter().map(pair).collect()
    };
    let (old, new) = (known(before), known(now));
    let count = out.len();
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let (before, now) = (old.get(name), new.get(name));
        if before == now {
            continue;
        }
        let what = match now {
            Some(_) => format!("{} {name}", place.word(name)),
            // Whose it was nobody wrote down.
            None => format!("variable {name}"),
        };
        let secret = looks_secret(name);
        let shown =
            |value: Option<&String>| value.map(|v| if secret { HIDDEN.into() } else { mask.apply(v) });
        let one = Difference::of(&what, shown(before), shown(now));
        let line = match (secret, before, now) {
            (true, Some(_), Some(_)) => format!("{what} changed"),
            _ => one.line.clone(),
        };
        out.push(one.worded(line));
    }
    if out.len() == count {
        let line = "order of the variables changed".to_owned();
        out.push(Difference::of("variables", None, None).worded(line));
    }
}

/// Adds what came to a set and what left it.
fn sets(name: &str, before: Vec<String>, now: Vec<String>, mask: &Mask, out: &mut Vec<Difference>) {
    let (gone, come): (Vec<_>, Vec<_>) = (
        before.iter().filter(|item| !now.contains(item)).collect(),
        now.iter().filter(|item| !before.contains(item)).collect(),
    );
    let all = |list: &[String]| (!list.is_empty()).then(|| mask.apply(&list.join(" ")));
    let one = Difference::of(name, all(&before), all(&now));
    let text = |item: &String| cut(&mask.apply(item));
    let line = match (&gone[..], &come[..]) {
        ([], []) => format!("{name}: order changed"),
        ([old], [new]) => format!("{name}: {} -> {}", text(old), text(new)),
        ([], [new, rest @ ..]) => format!("{name} {} added{}", text(new), more(rest.len())),
        ([old, rest @ ..], []) => format!("{name} {} removed{}", text(old), more(rest.len())),
        ([old, ..], [new, ..]) => {
            format!("{name}: {} -> {}{}", text(old), text(new), more(gone.len().max(come.len()) - 1))
        }
    };
    out.push(one.worded(line));
}

fn more(count: usize) -> String {
    if count == 0 { String::new() } else { format!(" (+{count} more)") }
}

/// Tells how the sources of a COPY changed that are in its fields: here-documents, downloads, their order.
fn sources(before: &[String], now: &[String], mask: &Mask) -> Difference {
    let (old, new) = (documents(before), documents(now));
    let whole = |list: &[String]| (!list.is_empty()).then(|| mask.apply(&list.join(" ")));
    let one = Difference::of("sources", whole(before), whole(now));
    let names = |list: &[(String, String)]| list.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    if names(&old) == names(&new)
        && let Some(((name, before), (_, now))) = old.iter().zip(&new).find(|(old, new)| old != new)
    {
        let (before, now) = (mask.apply(before), mask.apply(now));
        return document(&format!("here-document {}", cut(name)), Some(before), Some(now));
    }
    one.worded("sources changed".to_owned())
}

#[cfg(test)]
#[path = "difference_tests.rs"]
mod tests;
