//! Every stage of a file lowered, whatever is known of its base images.
//!
//! What is not known is assumed: an image of the platform wanted, with nothing set.
//! Not here: what the stages are lowered for; the graph is thrown away.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::dockerfile::ast::Dockerfile;
use crate::dockerfile::ast::Instruction;
use crate::image::Digest;
use crate::image::ImageConfig;
use crate::image::ImageId;
use crate::pattern::Ignore;
use crate::report::Diagnostic;

use super::super::Base;
use super::super::Bases;
use super::super::ImageNeed;
use super::super::Request;
use super::super::graph::NetworkMode;
use super::super::lower;
use super::super::stages::Origin;
use super::super::stages::Plan;
use super::copy;
use super::from;
use super::in_order;

/// After this many stages that cannot be planned the rest is not tried: they mostly
/// fail for the same reason.
const MAX_FAILED: usize = 50;

/// What lowering all stages told.
#[derive(Debug, Default)]
pub(super) struct Every {
    pub(super) warnings: Vec<Diagnostic>,
    pub(super) errors: Vec<Diagnostic>,
    pub(super) unknown: Vec<ImageNeed>,
}

/// Lowers all stages, or with a target those it needs.
pub(super) fn every_stage(
    file: &Dockerfile,
    request: &Request,
    bases: &Bases,
    ignore: Option<&Ignore>,
) -> Every {
    let mut request = request.clone();
    // Consent is the command line's matter, not the file's.
    request.network = NetworkMode::Host;
    let mut plan = match Plan::new(file, &request) {
        Ok(plan) => plan,
        Err(errors) => return Every { errors, ..Every::default() },
    };
    let mut bases = bases.clone();
    let mut every = Every::default();
    let stages = reach(&mut plan, &mut bases, &mut every);
    let shared = lower::stages(&plan, &bases, &stages);
    let assumed: BTreeSet<usize> = stages.keys().copied().filter(|&i| is_assumed(&plan, i, &every)).collect();
    for finding in &shared.findings {
        if finding.is_error() {
            if !finding.code.ends_with("-not-allowed") {
                every.errors.push(finding.clone());
            }
        } else if !may_be_set_by_base(&plan, finding, &assumed) {
            every.warnings.push(finding.clone());
        }
    }
    every.warnings.extend(copy::ignored(file, shared.vertices.list(), ignore));
    every.warnings.extend(copy::untraversable(file, shared.vertices.list()));
    every.warnings.extend(from::platforms(file));
    every.warnings.extend(from::untagged(&plan, stages.keys().copied()));
    every.errors = in_order(every.errors);
    every
}

/// Finds the stages to look at; images nobody knows are assumed and written down.
fn reach(plan: &mut Plan<'_>, bases: &mut Bases, every: &mut Every) -> BTreeMap<usize, Vec<Instruction>> {
    let targets = plan.targets.clone();
    let mut roots = match plan.request.targets.is_empty() {
        true => (0..plan.stages.len()).collect(),
        false => targets.clone(),
    };
    roots.sort_unstable();
    let mut stages = BTreeMap::new();
    let mut failed = 0;
    for root in roots.into_iter().rev() {
        if stages.contains_key(&root) || failed > MAX_FAILED {
            continue;
        }
        plan.targets = vec![root];
        match plan.reach(bases) {
            Ok(reach) => {
                every.unknown.extend(assume_missing(bases, &reach.images));
                stages.extend(reach.stages);
            }
            Err(errors) => {
                failed += 1;
                every.errors.extend(errors);
            }
        }
    }
    plan.targets = targets;
    every.unknown.sort_by_key(|need| need.span);
    stages
}

/// Adds a base for each image that is not there; gives these images.
pub(in crate::plan) fn assume_missing(bases: &mut Bases, images: &[ImageNeed]) -> Vec<ImageNeed> {
    let mut missing = Vec::new();
    for need in images {
        if bases.get(&need.reference, &need.platform).is_none() {
            bases.insert(&need.reference, &need.platform, assumed(need));
            missing.push(need.clone());
        }
    }
    missing
}

/// Makes a base that is what is asked for, and sets nothing.
fn assumed(need: &ImageNeed) -> Base {
    let config = ImageConfig::empty(&need.platform);
    Base { image: ImageId(Digest::of(config.to_bytes())), config: Arc::new(config) }
}

/// Tells whether a stage is, over others or at once, from an image nobody knows.
fn is_assumed(plan: &Plan<'_>, stage: usize, every: &Every) -> bool {
    let mut stage = stage;
    loop {
        match &plan.stages[stage].base {
            // A base is an earlier stage, so this ends.
            Ok(Origin::Stage(base)) => stage = *base,
            Ok(Origin::Image(reference)) => {
                let platform = plan.wanted_platform(stage);
                return every.unknown.iter().any(|n| &n.reference == reference && &n.platform == platform);
            }
            _ => return false,
        }
    }
}

/// Tells whether a variable that is called undefined may come from an image nobody
/// knows. One whose name is nearly that of another is taken for a slip.
fn may_be_set_by_base(plan: &Plan<'_>, finding: &Diagnostic, assumed: &BTreeSet<usize>) -> bool {
    let Some(span) = finding.span.filter(|_| finding.code == "UndefinedVar" && finding.hint.is_none()) else {
        return false;
    };
    let next = plan.stages.partition_point(|stage| stage.instruction.span.start <= span.start);
    next.checked_sub(1).is_some_and(|stage| assumed.contains(&stage))
}
