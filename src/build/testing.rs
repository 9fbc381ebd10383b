//! What the tests of this room share: graphs from text, and a screen that remembers.

use std::sync::{Arc, Mutex};

use crate::image::{Digest, ImageConfig, ImageId, Platform, SnapshotId};
use crate::plan::graph::Graph;
use crate::plan::{self, Base, Bases, Request};
use crate::report::{Event, Reporter, Step};

/// Plans a Dockerfile. Every image exists; `trigger` has an ONBUILD.
pub fn graph(text: &str) -> Graph {
    let platform: Platform = "linux/amd64".parse().unwrap();
    let parsed = crate::dockerfile::parse(text.as_bytes());
    assert!(!parsed.has_errors(), "{:?}", parsed.diagnostics);
    let request = Request::new(platform.clone());
    let mut bases = Bases::new();
    loop {
        let outline = plan::outline(&parsed.file, &request, &bases).unwrap();
        let missing: Vec<_> = outline.missing(&bases).cloned().collect();
        if missing.is_empty() {
            return plan::lower(&parsed.file, &request, &bases).unwrap().graph;
        }
        for need in missing {
            let mut config = ImageConfig::empty(&platform);
            if need.reference == "trigger" {
                config.config.on_build = vec!["RUN triggered".to_owned()];
            }
            let base = Base { image: ImageId(Digest::of(&need.reference)), config: Arc::new(config) };
            bases.insert(&need.reference, &need.platform, base);
        }
    }
}

/// Makes the id of a layer: one hex digit, twelve times.
pub fn layer(digit: char) -> SnapshotId {
    SnapshotId::try_from(digit.to_string().repeat(12)).unwrap()
}

/// Writes down what steps show, a line each.
#[derive(Default)]
pub struct Screen(Mutex<Vec<String>>);

impl Screen {
    /// Returns what was shown since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Reporter for Screen {
    fn event(&self, event: Event) {
        let stage = |step: &Step| step.stage.as_ref().map(|stage| format!("[{stage}] ")).unwrap_or_default();
        let line = match event {
            Event::StepStarted { step } => {
                format!("{}{}/{} {}", stage(&step), step.number, step.total, step.text)
            }
            Event::StepMissed { step, why } => format!("{} {why}", step.number),
            Event::StepCached { step, .. } => format!("{} cached", step.number),
            Event::StepLog { step, data, .. } => {
                format!("{} says {}", step.number, String::from_utf8_lossy(&data))
            }
            Event::StepFinished { step, id } => format!("{} is {id}", step.number),
            Event::StepFailed { step } => format!("{} failed", step.number),
            Event::StepStopped { step } => format!("{} stopped", step.number),
            _ => return,
        };
        self.0.lock().unwrap().push(line);
    }
}
