//! Why a step is not cached: which earlier result it is compared with, and what is said of it.
//!
//! It is compared with what the last builds of the same Dockerfile knew (`docs/why.md`), the one that comes
//! nearest; where no build is known, with the result of the same operation on other inputs. Not here: the words for what differs
//! (`difference`), what is cached (`scheduler`, `survey`).

use std::collections::{BTreeMap, BTreeSet};

use crate::image::{CacheKey, Digest, OpDigest};
use crate::plan::graph::{Graph, Op, VertexId};

use super::difference::{Difference, Place, differences, one_line};
use super::key::Fields;
use super::node::base_of;
use super::record::{InputKey, InputKind, Record};
use super::traits::{CacheSource, Earlier, EarlierEnd};
use super::values::{cut, words_changed};

/// What is said where nothing like it is known.
pub const NEVER: &str = "never built here";

/// Why a step is not cached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explanation {
    /// In one line.
    pub line: String,
    /// In full; empty where there is nothing to compare with.
    pub differences: Vec<Difference>,
    /// What it was compared with.
    pub nearest: Option<Nearest>,
}

/// An earlier result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nearest {
    /// Its instruction.
    pub text: String,
    /// When it was made, in milliseconds since 1970; `None` where the result itself is gone.
    pub created_unix_ms: Option<i64>,
    /// The last build of the same Dockerfile that had it, where one is known.
    pub build: Option<String>,
}

/// A step that is not cached, as far as it is known.
pub(super) struct Case<'a> {
    pub graph: &'a Graph,
    pub vertex: usize,
    pub fields: &'a Fields,
    pub op: OpDigest,
    /// Without the base where that is not known.
    pub inputs: &'a [InputKey],
    /// Whether the sources and mounts are known; else none of them is in `inputs`.
    pub selections: bool,
    pub key: Option<CacheKey>,
    /// Whether it is certain that it is executed.
    pub runs: bool,
    /// Whether `--no-cache` was given; else it was `--no-cache-filter`.
    pub no_cache: bool,
    /// Tells of what lies beneath, by its number.
    pub beneath: &'a dyn Fn(usize) -> Beneath,
}

/// What is known of a vertex that lies beneath another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Beneath {
    /// Whether it is executed in this build, as far as that is certain.
    pub runs: bool,
    /// The key of its result; of an image, the chain of its layers.
    pub key: Option<Digest>,
}

/// Explains a miss.
pub(super) fn explain<C: CacheSource + ?Sized>(case: &Case<'_>, cache: &C) -> Explanation {
    let vertex = &case.graph.vertices[case.vertex];
    let said = |line: String| Explanation { line, ..Explanation::default() };
    if vertex.ignore_cache {
        return said(match case.no_cache {
            true => "--no-cache".to_owned(),
            false => format!("--no-cache-filter={}", vertex.stage),
        });
    }
    let earlier = cache.earlier(VertexId(case.vertex));
    if let Some(one) = earlier.first().filter(|one| is_the_one_that_failed(case, one)) {
        let nearest =
            Nearest { text: one.text.clone(), created_unix_ms: None, build: Some(one.build.clone()) };
        return Explanation { line: failed(one.end), differences: Vec::new(), nearest: Some(nearest) };
    }
    if let Some(one) = nearest(case, cache, &earlier)
        && let Some(record) = one.op.zip(one.key).and_then(|(op, key)| cache.recall(&op, &CacheKey(key)))
    {
        return compared(case, cache, &record, Some(one), earlier.first());
    }
    if let Some(one) = earlier.first() {
        return without_record(case, cache, one);
    }
    match alike(case, cache.for_op(&case.op)) {
        Some(record) => compared(case, cache, &record, None, None),
        None => said(NEVER.to_owned()),
    }
}

/// Finds the build whose result differs in the fewest things, of those the last one.
fn nearest<'a, C>(case: &Case<'_>, cache: &C, earlier: &'a [Earlier]) -> Option<&'a Earlier>
where
    C: CacheSource + ?Sized,
{
    let place = Place { graph: case.graph, vertex: case.vertex };
    let mut seen = BTreeSet::new();
    let mut distance = |one: &Earlier| {
        let (op, key) = one.op.zip(one.key)?;
        // The same result in an older build is no nearer.
        if !seen.insert(key) {
            return None;
        }
        let record = cache.peek(&op, &CacheKey(key))?;
        let old = if case.selections { &record.inputs[..] } else { &[] };
        let found = differences(place, (case.fields, case.inputs), (&record.fields, old)).len();
        Some(found + usize::from(base_of_record(case.inputs) != base_of_record(&record.inputs)))
    };
    earlier
        .iter()
        .filter_map(|one| Some((distance(one)?, one)))
        .min_by_key(|(far, _)| *far)
        .map(|(_, one)| one)
}

/// Returns the digest of the base among the inputs of a key.
fn base_of_record(inputs: &[InputKey]) -> Option<Digest> {
    inputs.iter().find(|input| input.kind == InputKind::Base).map(|input| input.digest)
}

/// Finds the record of the same operation that comes nearest, though of another build: one that lay on the same
/// instruction and read mostly the same files. What is less like it says nothing about this step.
fn alike(case: &Case<'_>, records: Vec<Record>) -> Option<Record> {
    let base = |inputs: &[InputKey]| {
        inputs.iter().find(|input| input.kind == InputKind::Base).map(|input| input.detail.clone())
    };
    let own = base_of(&case.graph.vertices[case.vertex]).map(|base| &case.graph.vertices[base].text);
    let fits = |record: &Record| {
        let same_base = base(&record.inputs).is_none_or(|text| own.is_none_or(|own| *own == text));
        same_base && share_files(&files(case.inputs), &files(&record.inputs))
    };
    let likeness = |record: &Record| {
        let pairs = case.inputs.iter().zip(&record.inputs);
        let same = pairs.filter(|(a, b)| (a.kind, a.digest) == (b.kind, b.digest)).count();
        (same, record.created_unix_ms)
    };
    records.into_iter().filter(fits).max_by_key(likeness)
}

fn files(inputs: &[InputKey]) -> BTreeMap<&String, &String> {
    inputs.iter().flat_map(|input| &input.files).collect()
}

/// Tells whether half of the paths of the longer list are in both; where a list is not known, they may be.
fn share_files(one: &BTreeMap<&String, &String>, other: &BTreeMap<&String, &String>) -> bool {
    if one.is_empty() || other.is_empty() {
        return true;
    }
    let shared = one.keys().filter(|path| other.contains_key(*path)).count();
    2 * shared >= one.len().max(other.len())
}

/// Explains by an earlier result; `last` is the last build that had the step, with a result or without.
fn compared<C: CacheSource + ?Sized>(
    case: &Case<'_>,
    cache: &C,
    record: &Record,
    earlier: Option<&Earlier>,
    last: Option<&Earlier>,
) -> Explanation {
    let place = Place { graph: case.graph, vertex: case.vertex };
    let old = if case.selections { &record.inputs[..] } else { &[] };
    let mut found = differences(place, (case.fields, case.inputs), (&record.fields, old));
    let (now, before) = (base_of_record(case.inputs), base_of_record(&record.inputs));
    if before.is_some() && now != before && (now.is_some() || case.runs) {
        found.extend(beneath(case, cache, earlier.map(|one| one.build.as_str()), now.is_some()));
    }
    let nearest = Some(Nearest {
        text: record.text.clone(),
        created_unix_ms: Some(record.created_unix_ms),
        build: earlier.map(|one| one.build.clone()),
    });
    let line = match (found.is_empty(), last.map(|one| (one.end, one.op))) {
        (false, _) => one_line(&found),
        (true, Some((EarlierEnd::Failed, Some(op)))) if op == case.op => failed(EarlierEnd::Failed),
        // Nothing of itself is another; the rest is not known.
        (true, _) if case.key.is_none() && !case.runs => String::new(),
        (true, _) => "its result is not in the cache any more".to_owned(),
    };
    Explanation { line, differences: found, nearest }
}

/// Tells whether the last build did just this, and came to no result: an older result is nothing to compare with.
fn is_the_one_that_failed(case: &Case<'_>, one: &Earlier) -> bool {
    one.end != EarlierEnd::Done
        && one.op == Some(case.op)
        && one.key.is_some()
        && one.key == case.key.map(|key| key.0)
}

fn failed(end: EarlierEnd) -> String {
    match end {
        EarlierEnd::Done => "its result is not in the cache any more",
        EarlierEnd::Failed => "it failed in the last build",
        EarlierEnd::Stopped => "it was stopped in the last build",
    }
    .to_owned()
}

/// Explains by what a build wrote down of a step whose result is not here: it failed, or was removed.
fn without_record<C: CacheSource + ?Sized>(case: &Case<'_>, cache: &C, one: &Earlier) -> Explanation {
    let text = &case.graph.vertices[case.vertex].text;
    let nearest =
        Some(Nearest { text: one.text.clone(), created_unix_ms: None, build: Some(one.build.clone()) });
    let mut found = Vec::new();
    if one.text != *text {
        let line = format!("command changed: {}", words_changed(&one.text, text));
        found.push(Difference::of("instruction", Some(one.text.clone()), Some(text.clone())).worded(line));
    }
    if one.op == Some(case.op) && one.key.is_some() && case.key.map(|key| key.0) != one.key {
        found.extend(beneath(case, cache, Some(&one.build), case.key.is_some()).filter(|_| reads_base(case)));
    }
    let line = match &found[..] {
        [] if one.op == Some(case.op) => failed(one.end),
        [] if one.op.is_none() => NEVER.to_owned(),
        [] => "its variables, user or options changed".to_owned(),
        found => one_line(found),
    };
    Explanation { line, differences: found, nearest }
}

fn reads_base(case: &Case<'_>) -> bool {
    use crate::plan::graph::EdgeKind;
    case.graph.vertices[case.vertex].inputs.iter().any(|input| input.kind == EdgeKind::Base)
}

/// Says what of that which lies beneath is another than it was: the lowest, since the rest may follow from it.
fn beneath<C: CacheSource + ?Sized>(
    case: &Case<'_>,
    cache: &C,
    build: Option<&str>,
    is_known: bool,
) -> Option<Difference> {
    let vertices = &case.graph.vertices;
    let mut below = Vec::new();
    let mut next = base_of(&vertices[case.vertex]);
    while let Some(u) = next {
        below.push(u);
        next = base_of(&vertices[u]);
    }
    for u in below.iter().rev().copied() {
        let state = (case.beneath)(u);
        let before = build
            .and_then(|build| cache.earlier(VertexId(u)).into_iter().find(|earlier| earlier.build == build));
        let differs = before
            .as_ref()
            .is_some_and(|before| before.key.is_some() && state.key.is_some() && before.key != state.key);
        match &vertices[u].op {
            Op::Image(image) if differs => return Some(image_changed(before.as_ref(), &image.reference)),
            Op::Image(_) => {}
            _ if state.runs || differs => {
                let what = match vertices[u].line {
                    0 => cut(&vertices[u].text),
                    line => format!("line {line}"),
                };
                let one = Difference::of("earlier step", None, Some(what.clone()));
                return Some(one.worded(format!("an earlier step changed: {what}")));
            }
            _ => {}
        }
    }
    // Nothing that is known to differ: the image, where there is nothing else.
    let one = |name: &str| Difference::of(name, None, None);
    match below[..] {
        _ if !is_known => None,
        [only] if matches!(vertices[only].op, Op::Image(_)) => match &vertices[only].op {
            Op::Image(image) => Some(image_changed(None, &image.reference)),
            _ => None,
        },
        _ => Some(one("base").worded("what it is built on changed".to_owned())),
    }
}

fn image_changed(before: Option<&Earlier>, reference: &str) -> Difference {
    let written =
        |text: &str| text.split_whitespace().skip(1).find(|word| !word.starts_with("--")).map(str::to_owned);
    // What has a variable in it says nothing of what it was.
    let old = before.and_then(|before| written(&before.text)).filter(|old| !old.contains('$'));
    match old.filter(|old| old != reference) {
        Some(old) => {
            let line = format!("base image changed: {} -> {}", cut(&old), cut(reference));
            Difference::of("base image", Some(old), Some(reference.to_owned())).worded(line)
        }
        None => {
            let line = format!("base image changed ({})", cut(reference));
            Difference::of("base image", None, Some(reference.to_owned())).worded(line)
        }
    }
}
