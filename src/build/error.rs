//! Why a build failed.

use std::path::PathBuf;
use std::sync::Arc;

use super::loader::LoadError;
use super::point::NoPoint;
use crate::archive::ArchiveError;
use crate::context::ContextError;
use crate::registry::PushError;
use crate::remote_cache::RemoteCacheError;
use crate::report::{Diagnostic, excerpt};
use crate::solve::CacheError;
use crate::store::StoreError;
use crate::worker::WorkerError;

/// Says why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile is wrong; nothing was run.
    #[error("{0}")]
    Dockerfile(Findings),
    /// A step failed, or cannot be done here; the warnings of the Dockerfile come before that.
    #[error("{0}")]
    Step(Findings),
    #[error(transparent)]
    Context(#[from] ContextError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Archive(ArchiveError),
    #[error("cannot write `{}`", path.display())]
    Output { path: PathBuf, source: std::io::Error },
    /// The image is built; a cache could not be written.
    #[error("cannot write the cache to {to}: {error}")]
    CacheExport { to: String, error: RemoteCacheError },
    #[error("cannot push to `{name}`: {error}")]
    Push { name: String, error: PushError },
    #[error("there is no name to push the image by")]
    NothingToPush,
    #[error(transparent)]
    Load(LoadError),
    #[error("cannot share the result of a step")]
    Cache(#[source] CacheError),
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// Its build was stopped before the layer was read through.
    #[error("step {0} has no image yet: its build was stopped too early; build again")]
    Unfinished(String),
    /// Something that the build needs could not be fetched.
    #[error("{0}")]
    Fetch(WorkerError),
    /// The point that a shell was asked for at is none of the target.
    #[error("{0}")]
    Point(#[from] NoPoint),
    #[error("the build context cannot be had: {0}")]
    Address(String),
    #[error("{0}, which this version does not support yet")]
    Unsupported(String),
    #[error("stopped")]
    Cancelled,
}

/// Findings with the text they are about.
#[derive(Debug, Clone)]
pub struct Findings {
    /// The Dockerfile's name, as the user knows it.
    pub file: String,
    pub source: Arc<str>,
    pub diagnostics: Vec<Diagnostic>,
    /// What is known of the process that failed, where one did.
    pub failure: Option<Box<Failure>>,
}

/// A process that failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The instruction as one line.
    pub step: String,
    /// The last lines it wrote, harmless; empty where it wrote none, or where they were shown already.
    pub last: String,
    /// Whether other steps wrote at the same time.
    pub mixed: bool,
    /// The file with all that the build said.
    pub log: PathBuf,
}

impl Findings {
    /// Draws all findings as [`Findings::render`] does, with what is known of the process that failed.
    pub fn render_failed(&self, color: bool) -> String {
        let Some(failure) = &self.failure else { return self.render(color) };
        let mut text = String::new();
        if !failure.last.is_empty() {
            // As BuildKit frames the output of a step above its error.
            let rule = "------";
            text = format!("{rule}\n > {}:\n{}\n{rule}\n", failure.step, failure.last.trim_end());
        }
        for finding in &self.diagnostics {
            let note = finding.is_error().then(|| format!("full log: {}", failure.log.display()));
            let drawn = excerpt::render_with(finding, &self.file, &self.source, color, note.as_slice());
            text.push_str(drawn.trim_end());
            text.push('\n');
        }
        text
    }

    /// Draws all findings with their excerpts.
    pub fn render(&self, color: bool) -> String {
        let drawn = self.diagnostics.iter().map(|d| excerpt::render(d, &self.file, &self.source, color));
        let mut text = String::new();
        for finding in drawn {
            text.push_str(finding.trim_end());
            text.push('\n');
        }
        text
    }
}

impl std::fmt::Display for Findings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let first = self.diagnostics.iter().find(|d| d.is_error()).or(self.diagnostics.first());
        f.write_str(first.map_or("the Dockerfile is wrong", |d| &d.message))
    }
}

impl From<ArchiveError> for BuildError {
    fn from(error: ArchiveError) -> BuildError {
        match error {
            ArchiveError::Stopped => BuildError::Cancelled,
            error => BuildError::Archive(error),
        }
    }
}

impl From<WorkerError> for BuildError {
    fn from(error: WorkerError) -> BuildError {
        match error {
            WorkerError::Cancelled => BuildError::Cancelled,
            error => BuildError::Fetch(error),
        }
    }
}
