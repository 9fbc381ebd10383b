//! Earlier builds of the same Dockerfile: which of their steps are those of this build.
//!
//! The records of builds are read when the first step misses, and never by a build that is cached. The steps of
//! two builds are laid side by side as `diff` lays lines: equal instructions in their order, and between them
//! those that are most alike. Not here: what is said of a miss (`solve`), what a record has (`report`).

use std::collections::BTreeSet;
use std::sync::OnceLock;

use crate::image::{Digest, OpDigest};
use crate::plan::graph::{Graph, VertexId};
use crate::plan::render::kind;
use crate::report::record::{BuildRecord, StepState, VertexRecord};
use crate::report::redact;
use crate::solve::{Earlier, EarlierEnd};
use crate::store::{BuildState, KeptBuild, Store};

/// So many builds of the same Dockerfile are looked at.
const SAME: usize = 8;
/// So many of others that are much like it, where there is none of the same.
const ALIKE: usize = 3;
/// The most pairs of steps that are compared; beyond, only equal instructions are found.
const MOST_PAIRS: usize = 4_000_000;

/// The builds that a store remembers, as far as they are of the same Dockerfile.
pub struct EarlierBuilds<'a> {
    store: &'a Store,
    graph: &'a Graph,
    /// As records name them.
    context: String,
    dockerfile: String,
    /// Of each vertex, the last build first.
    found: OnceLock<Vec<Vec<Earlier>>>,
}

impl<'a> EarlierBuilds<'a> {
    /// Makes one; nothing is read yet. `context` and `dockerfile` as records name them.
    pub fn new(store: &'a Store, graph: &'a Graph, context: String, dockerfile: &str) -> EarlierBuilds<'a> {
        EarlierBuilds { store, graph, context, dockerfile: redact(dockerfile), found: OnceLock::new() }
    }

    /// Returns what they knew of a vertex, the last build first.
    pub fn of(&self, vertex: VertexId) -> Vec<Earlier> {
        let found = self.found.get_or_init(|| self.read());
        found.get(vertex.0).cloned().unwrap_or_default()
    }

    fn read(&self) -> Vec<Vec<Earlier>> {
        let steps: Vec<StepText> = self.graph.vertices.iter().map(StepText::of).collect();
        let mut found = vec![Vec::new(); steps.len()];
        // Without records there is less to say, and no reason to fail.
        let (mut same, mut alike) = (Vec::new(), Vec::new());
        for record in self.store.builds().unwrap_or_default().into_iter().filter_map(read) {
            // Every build of standard input has the same name.
            let named = record.context == self.context && record.dockerfile == self.dockerfile;
            if named && record.context != "-" {
                same.push(record);
            } else if alike.len() < ALIKE && is_alike(&steps, &record) {
                alike.push(record);
            }
            if same.len() == SAME {
                break;
            }
        }
        for record in if same.is_empty() { &alike } else { &same } {
            let old: Vec<StepText> = record.vertices.iter().map(StepText::of_record).collect();
            for (new, at) in pairs(&steps, &old) {
                found[new].extend(earlier(&record.id, &record.vertices[at]));
            }
        }
        found
    }
}

fn read(build: KeptBuild) -> Option<BuildRecord> {
    match build.state {
        BuildState::Ended(bytes) => BuildRecord::from_bytes(&bytes).ok(),
        BuildState::Running | BuildState::CutShort => None,
    }
}

/// Returns what a record says of a vertex; `None` where it was not its turn.
fn earlier(build: &str, vertex: &VertexRecord) -> Option<Earlier> {
    let digest = |text: &Option<String>| text.as_deref().and_then(|hex| Digest::from_hex(hex).ok());
    let end = match vertex.state {
        StepState::Waiting => return None,
        StepState::Cached | StepState::Done => EarlierEnd::Done,
        StepState::Failed => EarlierEnd::Failed,
        StepState::Stopped => EarlierEnd::Stopped,
    };
    let (op, key) = (digest(&vertex.op).map(OpDigest), digest(&vertex.key));
    Some(Earlier { build: build.to_owned(), text: vertex.text.clone(), op, key, end })
}

/// A step as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct StepText {
    kind: String,
    stage: String,
    text: String,
}

impl StepText {
    fn of(vertex: &crate::plan::graph::Vertex) -> StepText {
        let text = redact(&vertex.text);
        StepText { kind: of_kind(kind(&vertex.op)), stage: vertex.stage.clone(), text }
    }

    fn of_record(vertex: &VertexRecord) -> StepText {
        let (stage, text) = (vertex.stage.clone(), vertex.text.clone());
        StepText { kind: of_kind(&vertex.kind), stage, text }
    }

    fn is(&self, other: &StepText) -> bool {
        self.kind == other.kind && self.text == other.text
    }
}

/// A COPY may become an ADD.
fn of_kind(kind: &str) -> String {
    if kind == "add" { "copy".to_owned() } else { kind.to_owned() }
}

/// Tells whether a build is of another place but mostly the same instructions: a second checkout, say.
fn is_alike(steps: &[StepText], record: &BuildRecord) -> bool {
    let old: BTreeSet<&str> = record.vertices.iter().map(|vertex| vertex.text.as_str()).collect();
    let new: BTreeSet<String> = steps.iter().map(|step| step.text.clone()).collect();
    let shared = new.iter().filter(|text| old.contains(text.as_str())).count();
    // One line and a base are much the same everywhere.
    shared > 2 && 2 * shared >= old.len().max(new.len())
}

/// Lays two builds side by side: the places of what is the same step in both.
fn pairs(new: &[StepText], old: &[StepText]) -> Vec<(usize, usize)> {
    let mut found = equal(new, old);
    let mut all = Vec::new();
    let (mut from_new, mut from_old) = (0, 0);
    found.push((new.len(), old.len()));
    for (to_new, to_old) in found {
        all.extend(most_alike(new, old, from_new..to_new, from_old..to_old));
        if to_new < new.len() {
            all.push((to_new, to_old));
        }
        (from_new, from_old) = (to_new + 1, to_old + 1);
    }
    all
}

/// Finds the longest list of equal instructions in the order of both; those of one stage count more.
fn equal(new: &[StepText], old: &[StepText]) -> Vec<(usize, usize)> {
    if new.len().saturating_mul(old.len()) > MOST_PAIRS {
        let same = new.iter().zip(old).enumerate().filter(|(_, (new, old))| new.is(old));
        return same.map(|(at, _)| (at, at)).collect();
    }
    let width = old.len() + 1;
    let mut best = vec![0u32; (new.len() + 1) * width];
    let worth = |a: &StepText, b: &StepText| match (a.is(b), a.stage == b.stage) {
        (true, true) => 3,
        (true, false) => 2,
        _ => 0,
    };
    for i in (0..new.len()).rev() {
        for j in (0..old.len()).rev() {
            let skip = best[(i + 1) * width + j].max(best[i * width + j + 1]);
            let take = match worth(&new[i], &old[j]) {
                0 => 0,
                worth => worth + best[(i + 1) * width + j + 1],
            };
            best[i * width + j] = skip.max(take);
        }
    }
    let (mut i, mut j, mut found) = (0, 0, Vec::new());
    while i < new.len() && j < old.len() {
        let worth = worth(&new[i], &old[j]);
        let here = best[i * width + j];
        if worth > 0 && here == worth + best[(i + 1) * width + j + 1] {
            found.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if here == best[(i + 1) * width + j] {
            i += 1;
        } else {
            j += 1;
        }
    }
    found
}

/// Pairs the instructions between two equal ones: the most alike first; those that are left, where there are
/// as many of a kind on both sides, in their order.
fn most_alike(
    new: &[StepText],
    old: &[StepText],
    new_range: std::ops::Range<usize>,
    old_range: std::ops::Range<usize>,
) -> Vec<(usize, usize)> {
    const MOST: usize = 64;
    if new_range.len() > MOST || old_range.len() > MOST {
        return Vec::new();
    }
    let (mut left_new, mut left_old): (Vec<usize>, Vec<usize>) = (new_range.collect(), old_range.collect());
    let mut scored = Vec::new();
    for &i in &left_new {
        for &j in left_old.iter().filter(|&&j| new[i].kind == old[j].kind && new[i].stage == old[j].stage) {
            scored.push((likeness(&new[i].text, &old[j].text), i, j));
        }
    }
    scored.sort_by_key(|&(likeness, i, j)| (std::cmp::Reverse(likeness), i, j));
    let mut found = Vec::new();
    for (likeness, i, j) in scored {
        if likeness >= 50 && left_new.contains(&i) && left_old.contains(&j) {
            left_new.retain(|&left| left != i);
            left_old.retain(|&left| left != j);
            found.push((i, j));
        }
    }
    let places: BTreeSet<(String, String)> =
        left_new.iter().map(|&i| (new[i].stage.clone(), new[i].kind.clone())).collect();
    for (stage, kind) in places {
        let of = |steps: &[StepText], left: &[usize]| -> Vec<usize> {
            left.iter().copied().filter(|&at| steps[at].kind == kind && steps[at].stage == stage).collect()
        };
        let (come, gone) = (of(new, &left_new), of(old, &left_old));
        if come.len() == gone.len() {
            found.extend(come.into_iter().zip(gone));
        }
    }
    found
}

/// Returns how many of a hundred words two instructions share, the keyword aside.
fn likeness(one: &str, other: &str) -> usize {
    let words = |text: &str| -> Vec<String> { text.split_whitespace().skip(1).map(str::to_owned).collect() };
    let (one, mut other) = (words(one), words(other));
    let all = one.len() + other.len();
    let mut shared = 0usize;
    for word in &one {
        if let Some(at) = other.iter().position(|there| there == word) {
            other.swap_remove(at);
            shared += 1;
        }
    }
    (200 * shared).checked_div(all).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(text: &str) -> Vec<StepText> {
        let mut stage = "0".to_owned();
        let step = |line: &str| {
            if let Some((_, name)) = line.split_once(" AS ") {
                stage = name.to_owned();
            }
            let kind = match line.split(' ').next().unwrap() {
                "FROM" => "image",
                "ADD" => "copy",
                other => &other.to_lowercase(),
            };
            StepText { kind: kind.to_owned(), stage: stage.clone(), text: line.to_owned() }
        };
        text.lines().map(step).collect()
    }

    #[track_caller]
    fn check(old: &str, new: &str, expect: &str) {
        let (old, new) = (steps(&old.replace('/', "\n")), steps(&new.replace('/', "\n")));
        let mut found: Vec<String> =
            pairs(&new, &old).iter().map(|(i, j)| format!("{}{}", i + 1, j + 1)).collect();
        found.sort();
        assert_eq!(found.join(" "), expect);
    }

    #[test]
    fn steps_are_laid_side_by_side() {
        check("FROM a/RUN x/RUN y", "FROM a/RUN x/RUN y", "11 22 33");
        check("FROM a/RUN x/RUN y", "FROM b/RUN x/RUN y", "11 22 33");
        // Edited, inserted, removed, moved.
        check("FROM a/RUN x/RUN y", "FROM a/RUN z/RUN y", "11 22 33");
        check("FROM a/RUN x/RUN y", "FROM a/RUN x/RUN new/RUN y", "11 22 43");
        check("FROM a/RUN x/RUN y/RUN z", "FROM a/RUN x/RUN z", "11 22 34");
        check("FROM a/RUN apt install b", "FROM a/RUN new/RUN apt install b c", "11 32");
        check("FROM a/RUN x/COPY f /", "FROM a/COPY g /", "11 23");
        check("FROM a/COPY f /", "FROM a/ADD f /", "11 22");
        // A stage that the other build did not have.
        check("FROM a AS one/RUN x/FROM a AS two/RUN x", "FROM a AS two/RUN x", "13 24");
        check("", "FROM a/RUN x", "");
        check("FROM a/RUN x", "", "");
    }

    #[test]
    fn long_files_are_laid_side_by_side_in_no_time() {
        let text =
            |from: usize| (from..from + 2500).map(|n| format!("RUN {n}")).collect::<Vec<_>>().join("/");
        let (one, two) = (text(0), text(0));
        let found = pairs(&steps(&one.replace('/', "\n")), &steps(&two.replace('/', "\n")));
        assert_eq!(found.len(), 2500);
    }

    #[test]
    fn other_places_must_be_much_alike() {
        let record = |text: &str| BuildRecord {
            vertices: steps(text)
                .into_iter()
                .map(|s| VertexRecord {
                    kind: s.kind,
                    text: s.text,
                    stage: s.stage,
                    ..VertexRecord::default()
                })
                .collect(),
            ..BuildRecord::default()
        };
        let new = steps("FROM a\nCOPY . /\nRUN make\nRUN test");
        let check = |old: &str, expect: bool| assert_eq!(is_alike(&new, &record(old)), expect, "{old}");
        check("FROM a\nCOPY . /\nRUN make\nRUN test", true);
        check("FROM a\nCOPY . /\nRUN make\nRUN other", true);
        check("FROM a\nRUN apt-get update", false);
        check("FROM a\nRUN 1\nRUN 2\nCOPY . /", false);
    }
}
