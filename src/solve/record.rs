//! What is remembered of a vertex that was done, and why another one missed.
//!
//! A record keeps the plain values its key is a digest of: only so can a miss
//! be explained. Not here: where records lie (`store`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::image::{CacheKey, Digest, LayerDigest, OpDigest, SnapshotId};
use crate::plan::graph::EdgeKind;
use crate::plan::looks_secret;

use super::key::{Fields, Value};

/// One result, found by its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub key: CacheKey,
    pub op: OpDigest,
    /// `run`, `copy` or `workdir`.
    pub kind: String,
    /// What it shares with operations that differ in circumstances only; see [`super::family`].
    pub family: Digest,
    /// The instruction as one line, for people.
    pub text: String,
    pub fields: Fields,
    pub inputs: Vec<InputKey>,
    /// The layer; `None` when the vertex changed nothing (a WORKDIR that was there).
    pub snapshot: Option<SnapshotId>,
    /// The digest of the layer's content; `None` exactly when there is no layer.
    pub content: Option<LayerDigest>,
    /// When it was done, in milliseconds since 1970.
    pub created_unix_ms: i64,
}

/// One input as it stands in a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputKey {
    pub kind: InputKind,
    /// The chain digest of a base; the selection digest of a source or mount.
    pub digest: Digest,
    /// What it is, for people: a context's name, an instruction. Not in the key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Files to digests (or whatever tells them apart), as far as the worker chose to tell. Not
    /// in the key: the digest covers them all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
}

/// What an input is to its vertex: [`EdgeKind`] as records spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputKind {
    Base,
    Source,
    Mount,
}

impl InputKind {
    /// Returns how records spell an edge; `None` for one that is in no key.
    pub fn of(kind: EdgeKind) -> Option<InputKind> {
        match kind {
            EdgeKind::Base => Some(InputKind::Base),
            EdgeKind::Source => Some(InputKind::Source),
            EdgeKind::Mount => Some(InputKind::Mount),
            EdgeKind::Below | EdgeKind::Seed => None,
        }
    }
}

/// Says in one line how a vertex differs from the record that comes nearest.
///
/// `inputs` may be fewer than the vertex has: those whose digests are known so far.
pub fn explain(fields: &Fields, inputs: &[InputKey], nearest: &Record) -> String {
    let mut reasons = Vec::new();
    for (name, new) in &fields.0 {
        match nearest.fields.get(name) {
            Some(old) if old == new => {}
            Some(old) => reasons.push(changed(name, old, new)),
            None => reasons.push(format!("{name}: {} is new", show(new))),
        }
    }
    for (name, old) in &nearest.fields.0 {
        if fields.get(name).is_none() {
            reasons.push(format!("{name}: {} is gone", show(old)));
        }
    }
    if inputs.len() == nearest.inputs.len() {
        for (new, old) in inputs.iter().zip(&nearest.inputs) {
            if (new.kind, new.digest) != (old.kind, old.digest) {
                reasons.push(input_changed(new, old));
            }
        }
    }
    match reasons.is_empty() {
        true => "never built here".to_owned(),
        false => reasons.join("; "),
    }
}

fn input_changed(new: &InputKey, old: &InputKey) -> String {
    if new.kind != old.kind {
        return "inputs changed".to_owned();
    }
    if new.kind == InputKind::Base {
        return "base changed".to_owned();
    }
    let names = || new.files.keys().chain(old.files.keys().filter(|name| !new.files.contains_key(*name)));
    let mut differ: Vec<&str> =
        names().filter(|name| new.files.get(*name) != old.files.get(*name)).map(String::as_str).collect();
    differ.sort_unstable();
    // A side that told no files says nothing of which one differs.
    if differ.is_empty() || new.files.is_empty() || old.files.is_empty() {
        return "files changed".to_owned();
    }
    const SHOWN: usize = 3;
    let more = differ.len().saturating_sub(SHOWN);
    differ.truncate(SHOWN);
    match more {
        0 => format!("files changed: {}", differ.join(", ")),
        more => format!("files changed: {} and {more} more", differ.join(", ")),
    }
}

/// Tells how one field changed; lists of `KEY=value` by their keys.
fn changed(name: &str, old: &Value, new: &Value) -> String {
    if let (Some(old), Some(new)) = (variables(old), variables(new)) {
        let word = if name == "env" { "ARG or ENV" } else { name };
        let mut reasons = Vec::new();
        for (key, value) in &new {
            match old.get(key) {
                Some(before) if before == value => {}
                // A reason is shown and kept.
                Some(_) if looks_secret(key) => reasons.push(format!("{word} {key} changed")),
                None if looks_secret(key) => reasons.push(format!("{word} {key} is new")),
                Some(before) => reasons.push(format!("{word} {key}: {} -> {}", cut(before), cut(value))),
                None => reasons.push(format!("{word} {key}={} is new", cut(value))),
            }
        }
        let gone = old.keys().filter(|key| !new.contains_key(*key));
        reasons.extend(gone.map(|key| format!("{word} {key} is gone")));
        if !reasons.is_empty() {
            return reasons.join("; ");
        }
        return format!("{name}: order changed");
    }
    format!("{name}: {} -> {}", show(old), show(new))
}

fn variables(value: &Value) -> Option<BTreeMap<&str, &str>> {
    let Value::List(items) = value else { return None };
    items
        .iter()
        .map(|item| match item {
            Value::Text(text) => text.split_once('='),
            _ => None,
        })
        .collect()
}

fn show(value: &Value) -> String {
    match value {
        Value::Text(text) if text.is_empty() => "\"\"".to_owned(),
        Value::Text(text) => cut(text),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::List(values) => cut(&values.iter().map(show).collect::<Vec<_>>().join(" ")),
    }
}

/// Returns a text as one line that does not fill the screen.
fn cut(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut line: String = text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push_str("...");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::solve::key;

    fn record(fields: Fields, inputs: Vec<InputKey>) -> Record {
        let op = key::op_digest("run", &fields);
        Record {
            key: key::cache_key(&op, &inputs),
            op,
            kind: "run".into(),
            family: key::family("run", &fields),
            text: "RUN x".into(),
            fields,
            inputs,
            snapshot: Some(SnapshotId::from_bits(7)),
            content: Some(LayerDigest(Digest::of("layer"))),
            created_unix_ms: 1_700_000_000_123,
        }
    }

    fn run(env: &[&str], user: &str) -> Fields {
        let mut fields = Fields::new();
        fields.push("args", vec!["x"]);
        fields.push("env", env.to_vec());
        fields.push("user", user);
        fields
    }

    fn input(kind: InputKind, of: &str, files: &[(&str, &str)]) -> InputKey {
        let files = files.iter().map(|(path, digest)| (path.to_string(), digest.to_string())).collect();
        InputKey { kind, digest: Digest::of(of), detail: String::new(), files }
    }

    #[test]
    fn explains_fields() {
        let check = |old: &[&str], old_user: &str, new: &[&str], new_user: &str, expect: &str| {
            let nearest = record(run(old, old_user), vec![]);
            assert_eq!(explain(&run(new, new_user), &[], &nearest), expect);
        };
        check(&["VERSION=1.2"], "", &["VERSION=1.3"], "", "ARG or ENV VERSION: 1.2 -> 1.3");
        check(&["A=1"], "", &["A=1", "B=2"], "", "ARG or ENV B=2 is new");
        check(&["A=1", "B=2"], "", &["A=1"], "", "ARG or ENV B is gone");
        check(&["A=1", "B=2"], "", &["B=2", "A=1"], "", "env: order changed");
        check(&["API_KEY=1"], "", &["API_KEY=2"], "", "ARG or ENV API_KEY changed");
        check(&["A=1"], "", &["A=1", "TOKEN=2"], "", "ARG or ENV TOKEN is new");
        check(&["A=1"], "", &["A=1"], "app", "user: \"\" -> app");
        check(&["A=1"], "a", &["A=2"], "b", "ARG or ENV A: 1 -> 2; user: a -> b");
        check(&["A=1"], "", &["A=1"], "", "never built here");
        let long = format!("A={}\n", "x".repeat(100));
        let expect = format!("ARG or ENV A: 1 -> {}...", "x".repeat(60));
        check(&["A=1"], "", &[&long], "", &expect);
    }

    #[test]
    fn explains_inputs() {
        use InputKind::{Base, Source};
        let check = |old: InputKey, new: InputKey, expect: &str| {
            let nearest = record(run(&[], ""), vec![old]);
            assert_eq!(explain(&run(&[], ""), &[new], &nearest), expect);
        };
        check(input(Base, "a", &[]), input(Base, "b", &[]), "base changed");
        check(input(Source, "a", &[]), input(Source, "b", &[]), "files changed");
        check(input(Source, "a", &[("f", "1")]), input(Source, "b", &[]), "files changed");
        check(input(Base, "a", &[]), input(Source, "b", &[]), "inputs changed");
        check(
            input(Source, "a", &[("f", "1"), ("g", "1"), ("old", "1")]),
            input(Source, "b", &[("f", "1"), ("g", "2"), ("new", "1")]),
            "files changed: g, new, old",
        );
        check(
            input(Source, "a", &[("1", "1"), ("2", "1"), ("3", "1"), ("4", "1"), ("5", "1")]),
            input(Source, "b", &[("1", "2"), ("2", "2"), ("3", "2"), ("4", "2"), ("5", "2")]),
            "files changed: 1, 2, 3 and 2 more",
        );
    }

    #[test]
    fn a_record_survives_json() {
        let record = record(run(&["A=1"], "app"), vec![input(InputKind::Base, "a", &[("f", "1")])]);
        let text = serde_json::to_string(&record).unwrap();
        assert!(text.contains(r#"["env",["A=1"]]"#), "{text}");
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}
