//! The record of a build as a value: what was asked for, what became of every step, what came of it.
//!
//! It is kept as JSON beside the build's log, and is what lists, reports and other programs read. It holds no
//! secret: of secrets there are only ids, and passwords of addresses are taken out by who makes it. Not here:
//! collecting it (`build`), where it lies (`store`), drawing it (`draw`).

use serde::{Deserialize, Serialize};

/// The version of the format that this rbuild writes; readers accept fields they do not know.
pub const RECORD_VERSION: u32 = 1;

/// One build. Times in it are milliseconds from its start, unless their name says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildRecord {
    /// [`RECORD_VERSION`] of who wrote it.
    pub version: u32,
    /// 12 hex digits.
    pub id: String,
    /// The version of the program that built.
    pub rbuild: String,
    pub status: BuildStatus,
    pub started_unix_ms: i64,
    pub elapsed_ms: u64,
    /// The build context: an absolute path, an address, or `-`.
    pub context: String,
    /// The Dockerfile's name, as the user knows it.
    pub dockerfile: String,
    /// What the command line asked for: `--target`, `test`; the value is empty where there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<(String, String)>,
    /// Empty where the Dockerfile could not be planned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageRecord>,
    /// The steps of all stages, in the order of their numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepRecord>,
    /// The work behind the steps; each comes after all that it reads from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vertices: Vec<VertexRecord>,
    /// What was received and sent, in the order it began.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transfers: Vec<TransferRecord>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<WarningRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorRecord>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageRecord>,
}

/// How a build ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildStatus {
    Completed,
    #[default]
    Failed,
    /// Somebody stopped it.
    Canceled,
}

/// A stage that the targets need.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StageRecord {
    /// Its name, or its number in the file.
    pub name: String,
    pub platform: String,
}

/// A numbered step.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StepRecord {
    /// From 1, as the build showed it.
    pub number: usize,
    /// The place of its stage in [`BuildRecord::stages`].
    pub stage: usize,
    /// The instruction as one line.
    pub text: String,
    /// From 1; 0 for what ONBUILD brought.
    #[serde(skip_serializing_if = "is_zero")]
    pub line: usize,
    /// The place of its work in [`BuildRecord::vertices`]; none where it only changes the config.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vertex: Option<usize>,
    pub state: StepState,
    /// By which `run` and `inspect` know the state after it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Where its output lies in the log: pairs of the first byte and one past the last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<(u64, u64)>,
    /// Whether its output lies in more places than are told: some between the first and the last are not.
    #[serde(skip_serializing_if = "is_false")]
    pub more_output: bool,
}

/// What became of a step or of a piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// It was not its turn before the build ended.
    #[default]
    Waiting,
    /// The cache had its result.
    Cached,
    /// It was done.
    Done,
    Failed,
    /// It ran when the build was stopped.
    Stopped,
}

impl StepState {
    /// Returns its word.
    pub fn as_str(self) -> &'static str {
        match self {
            StepState::Waiting => "not run",
            StepState::Cached => "cached",
            StepState::Done => "done",
            StepState::Failed => "failed",
            StepState::Stopped => "stopped",
        }
    }
}

/// A piece of work.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VertexRecord {
    /// `image`, `context`, `http`, `git`, `run`, `copy`, `add` or `workdir`.
    pub kind: String,
    pub text: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub line: usize,
    /// The name of the first stage that needs it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stage: String,
    /// What it reads; without what is empty (`FROM scratch`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<InputRecord>,
    pub state: StepState,
    /// Why it ran, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The digest of what it does, as 64 hex digits; none for an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub op: Option<String>,
    /// The cache key of its result, of an image the digest of its layers; none where there is no result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The cache of elsewhere that knew it, where one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_from: Option<String>,
    /// When it began; none where nothing ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_ms: Option<u64>,
    /// When its result was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_ms: Option<u64>,
    /// The id of its layer, of an image the topmost; none where it changed nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// The bytes of the files in its layer, of an image in all of its layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// An edge of the graph.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct InputRecord {
    /// A place in [`BuildRecord::vertices`].
    pub from: usize,
    /// `base`, `below`, `source`, `mount` or `seed`.
    pub kind: String,
}

/// Bytes that were received or sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TransferRecord {
    /// In a few words: `pull debian:12`.
    pub of: String,
    pub start_ms: u64,
    /// None where it never ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_ms: Option<u64>,
    /// The bytes of all its parts, as far as they came.
    pub bytes: u64,
}

/// A finding in the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WarningRecord {
    /// The check's name.
    pub code: String,
    pub message: String,
    /// From 1; 0 where it is about no line.
    #[serde(skip_serializing_if = "is_zero")]
    pub line: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Why a build failed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorRecord {
    /// All that was told, excerpts of the Dockerfile included.
    pub text: String,
    /// The place in [`BuildRecord::vertices`] of the work that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vertex: Option<usize>,
    /// Of a process that ended by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The number of the signal that ended the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

/// An image that was built.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageRecord {
    /// The stage that was asked for; none is the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// `sha256:` and 64 hex digits.
    pub id: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The bytes of the files in all its layers.
    pub bytes: u64,
    /// How many layers it has.
    pub layers: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn is_false(value: &bool) -> bool {
    !*value
}

impl BuildStatus {
    /// Returns its word.
    pub fn as_str(self) -> &'static str {
        match self {
            BuildStatus::Completed => "completed",
            BuildStatus::Failed => "failed",
            BuildStatus::Canceled => "canceled",
        }
    }
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("a newer rbuild wrote it (format {0}; this one knows {RECORD_VERSION})")]
    Newer(u32),
    #[error("it is damaged: {0}")]
    Damaged(#[source] serde_json::Error),
}

impl BuildRecord {
    /// Reads a record.
    pub fn from_bytes(bytes: &[u8]) -> Result<BuildRecord, RecordError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_slice(bytes).map_err(RecordError::Damaged)?;
        if version > RECORD_VERSION {
            return Err(RecordError::Newer(version));
        }
        let mut record: BuildRecord = serde_json::from_slice(bytes).map_err(RecordError::Damaged)?;
        record.drop_bad_places();
        Ok(record)
    }

    /// Writes it.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and lists have a JSON")
    }

    /// Counts the steps, and those that the cache answered.
    pub fn counts(&self) -> (usize, usize) {
        let cached = self.steps.iter().filter(|step| step.state == StepState::Cached).count();
        (self.steps.len(), cached)
    }

    /// Removes places that lead nowhere, so that who reads a record may follow all of them.
    fn drop_bad_places(&mut self) {
        let (stages, vertices) = (self.stages.len(), self.vertices.len());
        for step in &mut self.steps {
            step.vertex = step.vertex.filter(|vertex| *vertex < vertices);
            step.stage = step.stage.min(stages.saturating_sub(1));
            step.output.retain(|(from, to)| from < to);
        }
        for (place, vertex) in self.vertices.iter_mut().enumerate() {
            vertex.inputs.retain(|input| input.from < place);
        }
        if let Some(error) = &mut self.error {
            error.vertex = error.vertex.filter(|vertex| *vertex < vertices);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_json() {
        let vertex = VertexRecord { kind: "run".into(), start_ms: Some(0), ..VertexRecord::default() };
        let record = BuildRecord {
            version: RECORD_VERSION,
            options: vec![("--target".into(), "a".into())],
            steps: vec![StepRecord { number: 1, output: vec![(3, 9)], ..StepRecord::default() }],
            vertices: vec![vertex],
            ..BuildRecord::default()
        };
        let bytes = record.to_bytes();
        assert_eq!(BuildRecord::from_bytes(&bytes).unwrap(), record);
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains(r#""start_ms":0"#) && !text.contains("more_output"), "{text}");
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let check = |text: &str, expect: &str| {
            let error = BuildRecord::from_bytes(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check(r#"{"version":2,"steps":"another thing"}"#, "a newer rbuild wrote it (format 2");
        check("", "damaged");
        check("{}", "damaged");
        check(r#"{"version":1,"steps":1}"#, "damaged");
        // What a later rbuild adds does no harm.
        assert!(BuildRecord::from_bytes(br#"{"version":1,"weather":"fine"}"#).is_ok());
    }

    #[test]
    fn places_that_lead_nowhere_are_dropped() {
        let text = r#"{"version":1,"stages":[{"name":"a"}],"steps":[{"stage":7,"vertex":9,"output":[[5,2],[1,2]]}],
            "vertices":[{"inputs":[{"from":0}]},{"inputs":[{"from":0},{"from":1}]}],"error":{"vertex":4}}"#;
        let record = BuildRecord::from_bytes(text.as_bytes()).unwrap();
        let step = &record.steps[0];
        assert_eq!((step.stage, step.vertex, &step.output[..]), (0, None, &[(1, 2)][..]));
        assert_eq!((record.vertices[0].inputs.len(), record.vertices[1].inputs.len()), (0, 1));
        assert_eq!(record.error.unwrap().vertex, None);
    }
}
