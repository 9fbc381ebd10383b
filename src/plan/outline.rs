//! Which images a build needs, before anything is known of them.

use crate::dockerfile::ast::Dockerfile;
use crate::image::Platform;
use crate::report::Diagnostic;
use crate::report::Span;

use super::Bases;
use super::Request;
use super::graph::Op;
use super::stages::Plan;

/// An image that must be found before the graph can be drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageNeed {
    /// As the file says it, variables replaced: the key for [`Bases::insert`].
    pub reference: String,
    pub platform: Platform,
    /// The first place that asks for it.
    pub span: Span,
    /// What to say if there is no such image: a stage of that name comes later, or one
    /// of a like name exists.
    pub hint: Option<String>,
}

/// Whose time SOURCE_DATE_EPOCH names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EpochNeed {
    /// That of a context: of its commit, or of the download it came from. `context` is the main one.
    Context(String),
    /// That of a download or a checkout.
    Source(Box<Op>),
}

/// What the target reaches, as far as the known bases tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    /// The numbers of the stages reached, in the order of the file.
    pub stages: Vec<usize>,
    /// Every image reached, known or not, each once.
    pub images: Vec<ImageNeed>,
    /// What must be known before the graph can be drawn: its time becomes the build argument
    /// SOURCE_DATE_EPOCH, empty where it has none.
    pub epoch: Option<EpochNeed>,
    /// Findings on FROM and the ARGs above it; [`super::lower()`] gives them again.
    pub warnings: Vec<Diagnostic>,
}

impl Outline {
    /// Returns the images that are still to be found.
    pub fn missing<'a>(&'a self, known: &'a Bases) -> impl Iterator<Item = &'a ImageNeed> {
        self.images.iter().filter(|need| known.get(&need.reference, &need.platform).is_none())
    }
}

/// Finds the stages and images the target needs.
///
/// An ONBUILD of a base may reach more, so call it again with the images found
/// until [`Outline::missing`] is empty.
pub fn outline(file: &Dockerfile, request: &Request, known: &Bases) -> Result<Outline, Vec<Diagnostic>> {
    let plan = Plan::new(file, request)?;
    let reach = plan.reach(known)?;
    Ok(Outline {
        stages: reach.stages.keys().copied().collect(),
        images: reach.images,
        epoch: plan.epoch,
        warnings: plan.warnings,
    })
}
