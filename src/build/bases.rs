//! Base images found: in the store, or in a directory of OCI layout that a named context stands for.
//!
//! Not here: which images are needed (`plan`).

use std::path::Path;
use std::sync::Arc;

use super::error::BuildError;
use super::request::{Engine, NamedContextFrom};
use crate::archive;
use crate::image::ImageId;
use crate::plan::{Base, ImageNeed, NamedContext};
use crate::report::{Diagnostic, chain};
use crate::store::Found;

/// How the reference of an image in a layout begins: no reference of an image does.
const LAYOUT: &str = "oci-layout://";

/// Returns what a named context is to the plan.
pub fn named(from: &NamedContextFrom) -> NamedContext {
    match from {
        NamedContextFrom::Directory(_) | NamedContextFrom::Remote(_) => NamedContext::Files,
        NamedContextFrom::Image(reference) => NamedContext::Image(reference.clone()),
        // The reference has no `|`: it is a tag or a digest.
        NamedContextFrom::OciLayout { path, reference } => {
            NamedContext::Image(format!("{LAYOUT}{}|{reference}", path.display()))
        }
    }
}

/// Takes apart what [`named`] put together.
fn layout(text: &str) -> (&Path, &str) {
    let (path, reference) = text.rsplit_once('|').unwrap_or((text, ""));
    (Path::new(path), reference)
}

/// Finds a base image in the store; the inner error is one of the Dockerfile.
pub fn find(engine: &Engine, need: &ImageNeed) -> Result<Result<Base, Diagnostic>, BuildError> {
    let name = &need.reference;
    let error = |code, message: String| Diagnostic::error(code, need.span, message);
    if let Some(text) = name.strip_prefix(LAYOUT) {
        let (path, reference) = layout(text);
        return match archive::load_layout(engine.store, path, reference, &need.platform) {
            Ok(id) => stored(engine, need, id),
            Err(problem) => Ok(Err(error("base-image", chain(&problem)))),
        };
    }
    let found = match engine.store.find(name) {
        Ok(found) => Some(found),
        Err(problem) if problem.is_not_found() => None,
        Err(problem) => return Ok(Err(error("base-image", format!("base image `{name}`: {problem}")))),
    };
    let id = match found {
        Some(Found::Image { id, .. }) => id,
        Some(Found::Step(id)) => super::image_of_step(engine.store, &id)?,
        None => {
            let hint = format!(
                "this version cannot pull; import it from a tar of its files, as in \
                 `mmdebstrap --variant=minbase bookworm - | rbuild import - {name}`"
            );
            let message = format!("base image `{name}` is not in the store");
            return Ok(Err(error("base-image", message).with_hint(hint)));
        }
    };
    stored(engine, need, id)
}

fn stored(engine: &Engine, need: &ImageNeed, id: ImageId) -> Result<Result<Base, Diagnostic>, BuildError> {
    let name = &need.reference;
    let error = |code, message: String| Diagnostic::error(code, need.span, message);
    let image = match engine.store.image(&id) {
        Ok(image) => image,
        Err(problem) => return Ok(Err(error("base-image", format!("base image `{name}`: {problem}")))),
    };
    let platform = image.config.platform();
    if platform.os != need.platform.os || platform.architecture != need.platform.architecture {
        let message = format!("base image `{name}` is for {platform}, and {} is asked for", need.platform);
        return Ok(Err(error("base-platform", message)));
    }
    Ok(Ok(Base { image: id, config: Arc::new(image.config) }))
}
