//! The encoding that keys are digests of; `docs/cache-key.md` specifies it.
//!
//! Every item carries its type and its length, so that no two lists of items
//! have the same bytes. Not here: which fields an operation has (the worker
//! says), digests of files and layers (`context`, `layer`).

use serde::{Deserialize, Serialize};

use crate::image::{CacheKey, Digest, Hasher, OpDigest, SelectionDigest};
use crate::plan::graph::Op;

use super::record::{InputKey, InputKind};

/// What an operation does, as plain named values in a fixed order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fields(pub Vec<(String, Value)>);

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    Bool(bool),
    Number(i64),
    Text(String),
    List(Vec<Value>),
}

impl Fields {
    /// Makes an empty list.
    pub fn new() -> Fields {
        Fields::default()
    }

    /// Adds a field at the end.
    pub fn push(&mut self, name: &str, value: impl Into<Value>) {
        self.0.push((name.to_owned(), value.into()));
    }

    /// Returns the first field of this name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Number(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Value {
        Value::Text(value)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(values: Vec<T>) -> Value {
        Value::List(values.into_iter().map(Into::into).collect())
    }
}

/// Returns the word for an operation's kind; it is part of the key.
pub fn op_kind(op: &Op) -> &'static str {
    match op {
        Op::Image(_) => "image",
        Op::Context(_) => "context",
        Op::Http(_) => "http",
        Op::Git(_) => "git",
        Op::Run(_) => "run",
        Op::Copy(_) => "copy",
        Op::Workdir(_) => "workdir",
    }
}

/// Returns the digest of what an operation does, without its inputs.
pub fn op_digest(kind: &str, fields: &Fields) -> OpDigest {
    let mut encoder = Encoder::new("rbuild op v1");
    encoder.text(kind);
    encoder.fields(fields.0.iter());
    OpDigest(encoder.finish())
}

/// Returns the digest of an operation and the content of its inputs, in their order.
pub fn cache_key(op: &OpDigest, inputs: &[InputKey]) -> CacheKey {
    let mut encoder = Encoder::new("rbuild cache key v1");
    encoder.digest(&op.0);
    encoder.count(b'I', inputs.len());
    for input in inputs {
        encoder.text(match input.kind {
            InputKind::Base => "base",
            InputKind::Source => "source",
            InputKind::Mount => "mount",
        });
        encoder.digest(&input.digest);
    }
    CacheKey(encoder.finish())
}

/// Names one step by what defines it: operation, what defines its base, and selected files.
///
/// Unlike the cache key it is known before any layer's content digest is, and unlike the ids of
/// layers it is the same in every process, whichever of two equal layers each stands on. Processes
/// that want the same step meet on it; nothing is ever found by it. Steps that are defined
/// differently but have equal keys do not meet: both are done, and the older result stays.
pub fn step_digest(op: &OpDigest, base: &Digest, selected: &[SelectionDigest]) -> Digest {
    let mut encoder = Encoder::new("rbuild step v2");
    encoder.digest(&op.0);
    encoder.digest(base);
    encoder.count(b'S', selected.len());
    for selection in selected {
        encoder.digest(&selection.0);
    }
    encoder.finish()
}

/// Feeds typed items, each with its length, to a hasher.
struct Encoder(Hasher);

impl Encoder {
    fn new(domain: &str) -> Encoder {
        let mut encoder = Encoder(Hasher::new());
        encoder.text(domain);
        encoder
    }

    fn count(&mut self, tag: u8, count: usize) {
        self.0.update(&[tag]);
        self.0.update(&(count as u64).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.count(b't', text.len());
        self.0.update(text.as_bytes());
    }

    fn digest(&mut self, digest: &Digest) {
        self.0.update(b"d");
        self.0.update(digest.as_bytes());
    }

    fn fields<'a>(&mut self, fields: impl Iterator<Item = &'a (String, Value)>) {
        let fields: Vec<_> = fields.collect();
        self.count(b'F', fields.len());
        for (name, value) in fields {
            self.text(name);
            self.value(value);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Text(text) => self.text(text),
            Value::Bool(value) => self.0.update(&[b'b', u8::from(*value)]),
            Value::Number(number) => {
                self.0.update(b"n");
                self.0.update(&number.to_le_bytes());
            }
            Value::List(values) => {
                self.count(b'l', values.len());
                for value in values {
                    self.value(value);
                }
            }
        }
    }

    fn finish(self) -> Digest {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Fields {
        let mut fields = Fields::new();
        fields.push("args", vec!["/bin/sh", "-c", "echo hi"]);
        fields.push("env", vec!["PATH=/bin"]);
        fields.push("epoch", 1_700_000_000);
        fields.push("link", true);
        fields.push("user", "");
        fields
    }

    fn input(kind: InputKind, of: &str) -> InputKey {
        InputKey { kind, digest: Digest::of(of), detail: String::new(), files: Default::default() }
    }

    /// Whoever changes these digests throws every cache away, and says so with the version in
    /// the domain text.
    #[test]
    fn digests_are_pinned() {
        let op = op_digest("run", &sample());
        let inputs = [input(InputKind::Base, "base"), input(InputKind::Mount, "files")];
        let selected = [SelectionDigest(Digest::of("files"))];
        let found = [
            ("op", op.hex()),
            ("key", cache_key(&op, &inputs).hex()),
            ("step", step_digest(&op, &Digest::of("base"), &selected).hex()),
        ];
        let expect = [
            ("op", "33507b38b1552c8ad4e814be4721fd2a26c58ad0e3ed1011c72a38577d2d48e1"),
            ("key", "ea3f190e3c14befdf48659cb295529fe7f8bf521c40b03b77e8116232b6c1c70"),
            ("step", "c5fc4a678f8481f013bde9d16e7337b2105421d53ae8e59faba474250eb23491"),
        ];
        assert_eq!(
            found.map(|(name, hex)| format!("{name} {hex}")),
            expect.map(|(name, hex)| format!("{name} {hex}"))
        );
    }

    #[test]
    fn whatever_differs_is_told_apart() {
        let list = |items: &[&str]| {
            let mut fields = Fields::new();
            fields.push("a", items.to_vec());
            fields
        };
        let text = |name: &str, value: &str| {
            let mut fields = Fields::new();
            fields.push(name, value);
            fields
        };
        let mut two = text("a", "x");
        two.push("b", "y");
        let mut number = Fields::new();
        number.push("a", 1);
        let mut flag = Fields::new();
        flag.push("a", true);
        let all = [
            Fields::new(),
            list(&[]),
            list(&[""]),
            list(&["", ""]),
            list(&["ab"]),
            list(&["a", "b"]),
            text("a", "ab"),
            text("aa", "b"),
            text("a", "1"),
            two,
            number,
            flag,
        ];
        let mut seen = std::collections::BTreeSet::new();
        for fields in &all {
            assert!(seen.insert(op_digest("run", fields)), "{fields:?}");
            assert!(seen.insert(op_digest("copy", fields)), "{fields:?}");
        }
        let op = op_digest("run", &sample());
        let (a, b) = (input(InputKind::Base, "a"), input(InputKind::Base, "b"));
        let source = input(InputKind::Source, "a");
        let keys = [
            cache_key(&op, &[]),
            cache_key(&op, std::slice::from_ref(&a)),
            cache_key(&op, std::slice::from_ref(&source)),
            cache_key(&op, &[a.clone(), b.clone()]),
            cache_key(&op, &[b, a]),
        ];
        assert_eq!(keys.iter().collect::<std::collections::BTreeSet<_>>().len(), keys.len());
    }

    #[test]
    fn what_explains_is_not_in_the_key() {
        let op = op_digest("run", &sample());
        let plain = input(InputKind::Source, "a");
        let mut told = plain.clone();
        told.detail = "context".into();
        told.files.insert("a.c".into(), "1".into());
        assert_eq!(cache_key(&op, &[plain]), cache_key(&op, &[told]));
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Number),
            ".{0,6}".prop_map(Value::Text),
        ];
        leaf.prop_recursive(2, 8, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Value::List))
    }

    proptest! {
        #[test]
        fn plain_fields_give_the_same_digest_after_a_round_trip(
            list in prop::collection::vec(("[a-z]{0,3}", values()), 0..5)
        ) {
            let fields = Fields(list);
            let text = serde_json::to_string(&fields).unwrap();
            let back: Fields = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(op_digest("run", &back), op_digest("run", &fields));
            prop_assert_eq!(back, fields);
        }

        #[test]
        fn equal_digests_mean_equal_fields(
            a in prop::collection::vec(("[ab]{0,2}", values()), 0..3),
            b in prop::collection::vec(("[ab]{0,2}", values()), 0..3),
        ) {
            let (a, b) = (Fields(a), Fields(b));
            prop_assert_eq!(a == b, op_digest("run", &a) == op_digest("run", &b));
        }
    }
}
