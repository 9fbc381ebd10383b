//! Base images found: in the store, at a registry, or in a directory of OCI layout that a named context
//! stands for.
//!
//! Not here: which images are needed (`plan`), how several are pulled (`pulls`).

use std::path::Path;
use std::sync::Arc;

use super::error::BuildError;
use super::pulls::{self, Pull};
use super::request::{Engine, NamedContextFrom, PullPolicy};
use crate::archive;
use crate::image::{Digest, ImageConfig, ImageId, Reference};
use crate::plan::{Base, ImageNeed, NamedContext};
use crate::registry::PullError;
use crate::report::{Diagnostic, chain};
use crate::store::Found;

/// How the reference of an image in a layout begins: no reference of an image does.
const LAYOUT: &str = "oci-layout://";

/// The code of the finding that an image is for another platform.
const OTHER_PLATFORM: &str = "base-platform";

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

/// Finds base images, and pulls what the store has not; the inner errors are those of the Dockerfile.
///
/// The results are in the order of the list. Errors: the store, or the build was stopped.
pub fn find_all(
    engine: &Engine,
    policy: PullPolicy,
    needs: &[ImageNeed],
) -> Result<Vec<Result<Base, Diagnostic>>, BuildError> {
    let mut found = Vec::with_capacity(needs.len());
    let (mut pulls, mut of) = (Vec::new(), Vec::new());
    for (index, need) in needs.iter().enumerate() {
        let local = find(engine, policy, need)?;
        if let Some(pull) = pull_of(policy, need, &local) {
            pulls.push(pull);
            of.push(index);
        }
        found.push(local.result);
    }
    for (index, pulled) in of.into_iter().zip(pulls::pull_all(engine, &pulls)) {
        let need = &needs[index];
        found[index] = match pulled {
            Ok(id) => stored(engine, need, id)?,
            Err(error) if error.is_cancelled() => return Err(BuildError::Cancelled),
            Err(PullError::Store(error)) => return Err(error.into()),
            // What is here will do.
            Err(error) if policy == PullPolicy::Newer && found[index].is_ok() && error.is_of_registry() => {
                continue;
            }
            Err(error) => Err(not_pulled(need, found[index].as_ref().err(), &error)),
        };
    }
    Ok(found)
}

/// Tells whether an image that the store has not could be had from a registry.
pub fn can_be_pulled(policy: PullPolicy, reference: &str) -> bool {
    policy != PullPolicy::Never && !reference.starts_with(LAYOUT) && reference.parse::<Reference>().is_ok()
}

/// Stands for an image of which nothing is known; it is in no store.
pub fn unknown(need: &ImageNeed) -> Base {
    let name = format!("an image that is not here: {} {}", need.reference, need.platform);
    Base { image: ImageId(Digest::of(name)), config: Arc::new(ImageConfig::empty(&need.platform)) }
}

/// What the store has of an image.
struct Local {
    result: Result<Base, Diagnostic>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It is not of a registry: a step, an id, a layout.
    Own,
    Named,
    /// The name stands for an image of another platform.
    OtherPlatform,
    Missing,
}

/// Returns what is to be pulled for an image, if something is.
fn pull_of(policy: PullPolicy, need: &ImageNeed, local: &Local) -> Option<Pull> {
    let wanted = match local.kind {
        Kind::Own => false,
        Kind::Named => matches!(policy, PullPolicy::Always | PullPolicy::Newer),
        Kind::OtherPlatform | Kind::Missing => policy != PullPolicy::Never,
    };
    let reference = need.reference.parse::<Reference>().ok().filter(|_| wanted)?;
    let named = local.kind != Kind::OtherPlatform;
    Some(Pull { reference: reference.with_default_tag(), platform: need.platform.clone(), named })
}

/// Says why an image was not pulled; `local` says why the store's will not do, if so.
fn not_pulled(need: &ImageNeed, local: Option<&Diagnostic>, error: &PullError) -> Diagnostic {
    let name = &need.reference;
    let is_here = local.is_none();
    let message = match local {
        None => format!("base image `{name}` cannot be pulled: {}", chain(error)),
        Some(local) => format!("{}; it cannot be pulled: {}", local.message, chain(error)),
    };
    let diagnostic = Diagnostic::error("base-image", need.span, message);
    // A slip is likelier than a registry that cannot be reached.
    let near = need.hint.as_deref().or_else(|| local.and_then(|local| local.hint.as_deref()));
    let before = match near {
        Some(near) if near.ends_with('?') => format!("{near} Otherwise: "),
        Some(near) => format!("{near}; "),
        None => String::new(),
    };
    let import = format!(
        "without a registry, import it from a tar of its files, as in `mmdebstrap --variant=minbase bookworm - \
         | rbuild import - {name}`"
    );
    match (is_here, error.hint(), error) {
        (true, ..) => diagnostic.with_hint("without --pull the build takes what is in the store"),
        (_, Some(hint), _) => diagnostic.with_hint(format!("{before}{hint}; {import}")),
        (_, None, PullError::Registry(_)) => diagnostic.with_hint(format!("{before}{import}")),
        // The registry answered: it has none that will do.
        (_, None, _) => Diagnostic { hint: near.map(str::to_owned), ..diagnostic },
    }
}

/// Finds the image in the store that `name` is most likely a slip of.
fn near(engine: &Engine, name: &str) -> Option<String> {
    const MOST_NAMES: usize = 1024;
    let wanted = name.parse::<Reference>().ok()?.familiar_name();
    let tags = engine.store.tags().ok()?;
    let mut known = tags.into_iter().take(MOST_NAMES).map(|(name, _)| name);
    known.find(|known| is_slip(&wanted, &known.familiar_name())).map(|known| known.to_string())
}

/// Tells whether two names differ by one letter: added, left out, another, or swapped with its neighbour. Short
/// names are near to each other by chance.
fn is_slip(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let start = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let end = a[start..].iter().rev().zip(b[start..].iter().rev()).take_while(|(x, y)| x == y).count();
    let (left_a, left_b) = (&a[start..a.len() - end], &b[start..b.len() - end]);
    let swapped = matches!((left_a, left_b), ([p, q], [r, s]) if p == s && q == r);
    a.len().min(b.len()) >= 4 && a != b && (left_a.len().max(left_b.len()) == 1 || swapped)
}

/// Finds a base image in the store.
fn find(engine: &Engine, policy: PullPolicy, need: &ImageNeed) -> Result<Local, BuildError> {
    let name = &need.reference;
    let error = |code, message: String| Diagnostic::error(code, need.span, message);
    let own = |result| Ok(Local { result, kind: Kind::Own });
    if let Some(text) = name.strip_prefix(LAYOUT) {
        let (path, reference) = layout(text);
        return own(match archive::load_layout(engine.store, path, reference, &need.platform) {
            Ok(id) => stored(engine, need, id)?,
            Err(problem) => Err(error("base-image", chain(&problem))),
        });
    }
    let found = match engine.store.find(name) {
        Ok(found) => found,
        Err(problem) if problem.is_not_found() => {
            let message = format!("base image `{name}` is not in the store");
            let diagnostic = error("base-image", message);
            let slip = need.hint.is_none().then(|| near(engine, name)).flatten();
            let diagnostic = match (slip, policy) {
                _ if need.hint.is_some() => Diagnostic { hint: need.hint.clone(), ..diagnostic },
                (Some(near), _) => {
                    diagnostic.with_hint(format!("did you mean `{near}`, which is in the store?"))
                }
                (None, PullPolicy::Never) => diagnostic.with_hint(format!("`rbuild pull {name}` fetches it")),
                _ => diagnostic,
            };
            return Ok(Local { result: Err(diagnostic), kind: Kind::Missing });
        }
        Err(problem) => return own(Err(error("base-image", format!("base image `{name}`: {problem}")))),
    };
    match found {
        Found::Step(id) => own(stored(engine, need, super::image_of_step(engine.store, &id)?)?),
        Found::Image { id, name: None } => own(stored(engine, need, id)?),
        Found::Image { id, name: Some(_) } => {
            let result = stored(engine, need, id)?;
            let kind = match &result {
                Err(problem) if problem.code == OTHER_PLATFORM => Kind::OtherPlatform,
                // One that is broken is fetched anew.
                Err(_) => Kind::Missing,
                Ok(_) => Kind::Named,
            };
            Ok(Local { result, kind })
        }
    }
}

fn stored(engine: &Engine, need: &ImageNeed, id: ImageId) -> Result<Result<Base, Diagnostic>, BuildError> {
    let name = &need.reference;
    let error = |code, message: String| Diagnostic::error(code, need.span, message);
    let image = match engine.store.image(&id) {
        Ok(image) => image,
        Err(problem) => {
            let broken = error("base-image", format!("base image `{name}`: {problem}"));
            return Ok(Err(Diagnostic { hint: problem.hint(), ..broken }));
        }
    };
    let platform = image.config.platform();
    if platform.os != need.platform.os || platform.architecture != need.platform.architecture {
        let message = format!("base image `{name}` is for {platform}, and {} is asked for", need.platform);
        return Ok(Err(error(OTHER_PLATFORM, message)));
    }
    Ok(Ok(Base { image: id, config: Arc::new(image.config) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Platform;
    use crate::report::Span;

    #[test]
    fn slips_are_of_one_letter() {
        let check = |a: &str, b: &str, expect: bool| assert_eq!(is_slip(a, b), expect, "{a} {b}");
        check("debain", "debian", true);
        check("busybx", "busybox", true);
        check("nodee", "node", true);
        check("pythom", "python", true);
        for (a, b) in [("ruby", "rust"), ("bb", "b"), ("node", "node"), ("aaaa", "aaaaaa"), ("", "")] {
            check(a, b, false);
        }
    }

    #[test]
    fn what_is_pulled_follows_from_the_policy_and_the_store() {
        use Kind::{Missing, Named, OtherPlatform, Own};
        let check = |kind: Kind, expect: [bool; 4]| {
            let policies = [PullPolicy::Missing, PullPolicy::Always, PullPolicy::Newer, PullPolicy::Never];
            for (policy, expect) in policies.into_iter().zip(expect) {
                let (platform, span) = (Platform::host(), Span::default());
                let need = ImageNeed { reference: "a".into(), platform, span, hint: None };
                let result = Err(Diagnostic::error("base-image", span, "x"));
                let pull = pull_of(policy, &need, &Local { result, kind });
                assert_eq!(pull.is_some(), expect, "{policy:?}");
                // A build leaves a name to the image of another platform.
                assert!(pull.is_none_or(|pull| pull.named == (kind != OtherPlatform)));
            }
        };
        check(Own, [false; 4]);
        check(Named, [false, true, true, false]);
        check(OtherPlatform, [true, true, true, false]);
        check(Missing, [true, true, true, false]);
    }
}
