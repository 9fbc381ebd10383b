//! Images that a build needs and its store has not: asked for at once, then received one after the other.
//!
//! Not here: which images those are (`bases`), pulling itself (`registry`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::request::Engine;
use crate::image::{ImageId, Platform, Reference};
use crate::registry::{self, PullError, PullEvent, Resolved};
use crate::report::Event;

/// How many registries are asked at once.
const AT_ONCE: usize = 8;

/// An image to pull.
pub struct Pull {
    pub reference: Reference,
    pub platform: Platform,
    /// Whether the name may stand for it afterwards: not where it stands for one of another platform,
    /// which a build of this one must not change for others.
    pub named: bool,
}

/// Pulls images; the results are in the order of the list.
pub fn pull_all(engine: &Engine, pulls: &[Pull]) -> Vec<Result<ImageId, PullError>> {
    let resolved = resolve_all(engine, pulls);
    pulls.iter().zip(resolved).map(|(pull, resolved)| receive(engine, pull, resolved?)).collect()
}

fn resolve_all(engine: &Engine, pulls: &[Pull]) -> Vec<Result<Resolved, PullError>> {
    let cancelled = || engine.cancel.is_cancelled();
    let (registries, cancelled) = (engine.registries, &cancelled);
    let resolve =
        |pull: &Pull| registry::resolve(registries, &pull.reference, Some(&pull.platform), cancelled);
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<Result<Resolved, PullError>>>> =
        pulls.iter().map(|_| Mutex::new(None)).collect();
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(pull) = pulls.get(index) else { break };
            *results[index].lock().unwrap_or_else(PoisonError::into_inner) = Some(resolve(pull));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..AT_ONCE.min(pulls.len()) {
            // Without it there is one fewer at work: this thread does what is left.
            let _ = std::thread::Builder::new().name("resolve".to_owned()).spawn_scoped(scope, work);
        }
        work();
    });
    let result = |slot: Mutex<Option<_>>| slot.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.into_iter().map(|slot| result(slot).unwrap_or(Err(PullError::Cancelled))).collect()
}

fn receive(engine: &Engine, pull: &Pull, resolved: Resolved) -> Result<ImageId, PullError> {
    let of: Arc<str> = format!("pull {}", resolved.reference).into();
    let tell = |event: PullEvent| {
        engine.reporter.event(match event.transfer(&of) {
            Some(transfer) => Event::Transfer(transfer),
            None => Event::Pull { text: event.to_string() },
        });
    };
    let names = match (pull.named, resolved.by_tag()) {
        (true, tag) => tag.into_iter().chain([resolved.by_digest()]).collect(),
        // The index's digest may stand for the other platform's image.
        (false, _) => vec![resolved.by_own_digest()],
    };
    let cancelled = || engine.cancel.is_cancelled();
    let told = if pull.named { resolved.reference.clone() } else { resolved.by_own_digest() };
    let before = engine.store.resolve(&told).unwrap_or(None);
    tell(registry::pulling(&resolved.reference));
    let platform = Some(&pull.platform);
    let pulled =
        registry::fetch(engine.registries, engine.store, &resolved, platform, &names, &tell, &cancelled);
    engine.reporter.event(Event::TransferEnded { of: of.clone() });
    let pulled = pulled?;
    tell(PullEvent::Digest(resolved.digest));
    let newer = before != Some(pulled.image);
    tell(PullEvent::Status { name: resolved.reference.to_string(), newer });
    Ok(pulled.image)
}
