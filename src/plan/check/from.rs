//! Checks of FROM: FromPlatformFlagConstDisallowed, and ours, UntaggedBaseImage.
//!
//! Those that come up while a FROM is expanded are in `stages`.

use crate::dockerfile::ast::Dockerfile;
use crate::dockerfile::ast::Kind;
use crate::image::Platform;
use crate::image::Reference;
use crate::report::Diagnostic;

use super::super::stages::Origin;
use super::super::stages::Plan;

/// FromPlatformFlagConstDisallowed: a platform that is written out, in a stage that is
/// not named for it.
pub(super) fn platforms(file: &Dockerfile) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for instruction in &file.instructions {
        let Kind::From(from) = &instruction.kind else { continue };
        let Some(word) = from.platform.as_ref().filter(|word| !word.text.contains('$')) else { continue };
        let Ok(platform) = word.text.parse::<Platform>() else { continue };
        let name = from.name.as_ref().map(|name| name.text.to_lowercase()).unwrap_or_default();
        if name.contains(&platform.os) || name.contains(&platform.architecture) {
            continue;
        }
        found.push(
            Diagnostic::warning(
                "FromPlatformFlagConstDisallowed",
                word.span,
                format!("FROM --platform flag should not use constant value `{}`", word.text),
            )
            .with_hint("use $BUILDPLATFORM or $TARGETPLATFORM, or name the stage for the platform"),
        );
    }
    found
}

/// UntaggedBaseImage.
pub(super) fn untagged(plan: &Plan<'_>, stages: impl Iterator<Item = usize>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for index in stages {
        let stage = &plan.stages[index];
        let Ok(Origin::Image(text)) = &stage.base else { continue };
        let Ok(reference) = text.parse::<Reference>() else { continue };
        if reference.digest().is_some() {
            continue;
        }
        let message = match reference.tag() {
            None => format!("base image `{text}` has no tag, which means `latest`"),
            Some("latest") => format!("base image `{text}` is whatever is latest"),
            Some(_) => continue,
        };
        found.push(
            Diagnostic::warning("UntaggedBaseImage", stage.from.image.span, message)
                .with_hint("name a version, so that the same file gives the same image tomorrow"),
        );
    }
    found
}
