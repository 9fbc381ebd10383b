//! What is remembered of a vertex that was done.
//!
//! A record keeps the plain values its key is a digest of: only so can a miss
//! be explained (`why`). Not here: where records lie (`store`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::image::{CacheKey, Digest, LayerDigest, OpDigest, SnapshotId};
use crate::plan::graph::EdgeKind;

use super::key::Fields;

/// One result, found by its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub key: CacheKey,
    pub op: OpDigest,
    /// `run`, `copy` or `workdir`.
    pub kind: String,
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
    fn a_record_survives_json() {
        let record = record(run(&["A=1"], "app"), vec![input(InputKind::Base, "a", &[("f", "1")])]);
        let text = serde_json::to_string(&record).unwrap();
        assert!(text.contains(r#"["env",["A=1"]]"#), "{text}");
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}
