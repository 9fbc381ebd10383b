//! The layers of an image: which there are, and those that are missing received, several at once.
//!
//! Not here: how one is verified and unpacked (`content`).

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use super::super::error::RegistryError;
use super::super::repository::Repository;
use super::rest::Rest;
use super::{Cancelled, PullError, PullEvent, resolve};
use crate::content::{ExpectedLayer, already_there, receive_layer, receive_partial};
use crate::image::{Descriptor, DiffId, ImageConfig, ImageManifest, SnapshotId};
use crate::net::Problem;
use crate::store::{Origin, Store};

/// How many layers come at once.
const AT_ONCE: usize = 4;
/// The stack of the thread of a layer, in bytes; it counts as memory where that is limited.
const STACK: usize = 512 * 1024;

/// A layer that an image needs.
pub struct Wanted {
    expected: ExpectedLayer,
    /// Registries need not have it (image-spec, "Non-Distributable Layers").
    foreign: bool,
}

/// Lists the layers of a manifest and checks them against its config.
pub fn wanted(manifest: &ImageManifest, config: &ImageConfig) -> Result<Vec<Wanted>, PullError> {
    let (layers, diff_ids) = (manifest.layers(), &config.rootfs.diff_ids);
    if layers.len() != diff_ids.len() {
        let why = format!("its manifest names {} layers, and its config {}", layers.len(), diff_ids.len());
        return Err(PullError::Unusable(why));
    }
    let one = |(layer, diff_id): (&Descriptor, &DiffId)| {
        let foreign = is_foreign(layer.media_type().as_ref())?;
        let digest = resolve::digest_of(layer)?;
        Ok(Wanted { expected: ExpectedLayer { digest, size: layer.size(), diff_id: *diff_id }, foreign })
    };
    layers.iter().zip(diff_ids).map(one).collect()
}

/// Tells whether a media type is that of a layer nobody may distribute; an error where it is of none that can
/// be unpacked.
fn is_foreign(media_type: &str) -> Result<bool, PullError> {
    let is = |start: &str, packed: [&str; 2]| {
        media_type.strip_prefix(start).is_some_and(|end| end.is_empty() || packed.contains(&end))
    };
    let (oci, docker) = (["+gzip", "+zstd"], [".gzip", ".zstd"]);
    if is("application/vnd.oci.image.layer.v1.tar", oci)
        || is("application/vnd.docker.image.rootfs.diff.tar", docker)
    {
        return Ok(false);
    }
    if is("application/vnd.oci.image.layer.nondistributable.v1.tar", oci)
        || is("application/vnd.docker.image.rootfs.foreign.diff.tar", docker)
    {
        return Ok(true);
    }
    Err(PullError::Unusable(match media_type.contains("encrypted") {
        true => format!("a layer of it is encrypted (`{media_type}`), which rbuild cannot read"),
        false => {
            format!("a layer of it is `{media_type}`, which is no tar, plain or packed with gzip or zstd")
        }
    }))
}

/// Receives what is missing of the layers; returns all, in their order, in which they are told of, too.
///
/// After an error the others stop; what came of them stays.
pub fn receive(
    repository: &Repository<'_>,
    store: &Store,
    wanted: &[Wanted],
    tell: &(dyn Fn(PullEvent) + Sync),
    cancelled: Cancelled<'_>,
) -> Result<Vec<SnapshotId>, PullError> {
    let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
    let stop = || stopped.load(Ordering::Relaxed) || cancelled();
    let receiver = Receiver { repository, store, tell, cancelled: &stop };
    let (done, results) = mpsc::channel();
    let work = |done: mpsc::Sender<_>| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(layer) = wanted.get(index) else { break };
            // Of equal layers the second waits for the first, and then is there.
            let result = if stop() { Err(PullError::Cancelled) } else { receiver.one(layer) };
            if result.is_err() {
                stopped.store(true, Ordering::Relaxed);
            }
            if done.send((index, result)).is_err() {
                break;
            }
        }
    };
    let mut found: Vec<Option<SnapshotId>> = vec![None; wanted.len()];
    let mut failure = None;
    std::thread::scope(|scope| {
        let mut waiting: Vec<Option<bool>> = vec![None; wanted.len()];
        let mut told = 0;
        for number in 0..AT_ONCE.min(wanted.len()) {
            let (done, work) = (done.clone(), &work);
            let thread = std::thread::Builder::new().name(format!("pull {number}")).stack_size(STACK);
            if let Err(error) = thread.spawn_scoped(scope, move || work(done)) {
                stopped.store(true, Ordering::Relaxed);
                failure = Some(PullError::Thread(error));
                break;
            }
        }
        drop(done);
        for (index, result) in results {
            match result {
                Ok((layer, was_there)) => {
                    found[index] = Some(layer);
                    waiting[index] = Some(was_there);
                }
                // Those that were stopped for the sake of an error say nothing of it.
                Err(error) if failure.as_ref().is_none_or(PullError::is_cancelled) => failure = Some(error),
                Err(_) => {}
            }
            while let Some(was_there) = waiting.get(told).copied().flatten() {
                tell(PullEvent::Layer { digest: wanted[told].expected.digest, was_there });
                told += 1;
            }
        }
    });
    match failure {
        Some(error) => Err(error),
        None => {
            let layers: Vec<SnapshotId> = found.into_iter().flatten().collect();
            for (layer, wanted) in layers.iter().zip(wanted) {
                // What is pushed to the same registry can be taken over from here.
                let origin = Origin {
                    digest: wanted.expected.digest,
                    registry: repository.domain.clone(),
                    repository: repository.path.clone(),
                };
                store.note_origin(layer, origin)?;
            }
            Ok(layers)
        }
    }
}

struct Receiver<'a> {
    repository: &'a Repository<'a>,
    store: &'a Store,
    tell: &'a (dyn Fn(PullEvent) + Sync),
    cancelled: Cancelled<'a>,
}

/// So many bytes pass between two events that tell of them.
const TELL_EVERY: u64 = 128 << 10;

/// Tells of the bytes that come.
struct Counted<'a, R> {
    rest: R,
    layer: &'a ExpectedLayer,
    done: u64,
    told: u64,
    tell: &'a (dyn Fn(PullEvent) + Sync),
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.rest.read(buffer)?;
        self.done += count as u64;
        if self.done - self.told >= TELL_EVERY || self.done >= self.layer.size {
            self.told = self.done;
            let (digest, total) = (self.layer.digest, self.layer.size);
            (self.tell)(PullEvent::Bytes { digest, done: self.done, total });
        }
        Ok(count)
    }
}

impl Receiver<'_> {
    /// Makes one layer be in the store; tells whether it was.
    fn one(&self, wanted: &Wanted) -> Result<(SnapshotId, bool), PullError> {
        let (store, expected) = (self.store, &wanted.expected);
        if let Some(layer) = already_there(store, expected)? {
            return Ok((layer, true));
        }
        let mut partial = store.partial(&expected.digest, expected.size, &self.cancelled)?;
        if partial.contended()
            && let Some(layer) = already_there(store, expected)?
        {
            partial.discard()?;
            return Ok((layer, false));
        }
        if let Some(layer) = self.of_blob(expected) {
            partial.discard()?;
            return Ok((layer, false));
        }
        loop {
            let resumed = partial.there() > 0;
            let mut rest =
                Rest::new(self.repository, expected.digest, expected.size, partial.there(), self.cancelled);
            let there = partial.there();
            (self.tell)(PullEvent::Bytes { digest: expected.digest, done: there, total: expected.size });
            let mut counted =
                Counted { rest: &mut rest, layer: expected, done: there, told: there, tell: self.tell };
            let error = match receive_partial(store, &mut partial, &mut counted, expected, self.cancelled) {
                Ok(layer) => {
                    partial.discard()?;
                    return Ok((layer, false));
                }
                Err(error) => error,
            };
            match rest.failure {
                _ if (self.cancelled)() => return Err(PullError::Cancelled),
                Some(failure) if failure.is_not_found() && wanted.foreign => {
                    partial.discard()?;
                    return Err(PullError::Foreign(expected.digest));
                }
                Some(failure) => {
                    if is_lie(&failure) {
                        partial.discard()?;
                    }
                    return Err(PullError::of_blob(failure, self.cancelled));
                }
                // What was there may have been torn when the machine stopped.
                None if resumed => partial.restart()?,
                None => {
                    partial.discard()?;
                    return Err(PullError::Layer { digest: expected.digest, source: error });
                }
            }
        }
    }

    /// Makes the layer of its blob, where that is kept and whole: a process that died, or an image that
    /// shares it and whose layer was unpacked from other bytes.
    fn of_blob(&self, expected: &ExpectedLayer) -> Option<SnapshotId> {
        if self.store.blob_size(&expected.digest) != Some(expected.size) {
            return None;
        }
        let blob = self.store.open_blob(&expected.digest).ok()?;
        receive_layer(self.store, blob.take(expected.size), expected).ok()
    }
}

/// Tells whether the server's answers contradict what is said elsewhere, so that its bytes are worth nothing.
fn is_lie(error: &RegistryError) -> bool {
    match error {
        RegistryError::Size { .. } | RegistryError::Digest { .. } | RegistryError::Protocol { .. } => true,
        RegistryError::Net(error) => matches!(error.problem(), Problem::TooLarge(_)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_tars_packed_or_not() {
        let check = |media_type: &str, expect: &str| {
            let found = match is_foreign(media_type) {
                Ok(false) => "own".to_owned(),
                Ok(true) => "foreign".to_owned(),
                Err(error) => error.to_string(),
            };
            assert!(found.contains(expect), "{media_type}: {found}");
        };
        for end in ["", "+gzip", "+zstd"] {
            check(&format!("application/vnd.oci.image.layer.v1.tar{end}"), "own");
            check(&format!("application/vnd.oci.image.layer.nondistributable.v1.tar{end}"), "foreign");
        }
        for end in ["", ".gzip", ".zstd"] {
            check(&format!("application/vnd.docker.image.rootfs.diff.tar{end}"), "own");
            check(&format!("application/vnd.docker.image.rootfs.foreign.diff.tar{end}"), "foreign");
        }
        check("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "is encrypted");
        check("application/vnd.oci.image.layer.v1.tar+lz4", "which is no tar");
        check("application/vnd.oci.image.layer.v1.tarball", "which is no tar");
        check("application/vnd.docker.image.rootfs.diff.tar+gzip", "which is no tar");
        check("text/plain", "which is no tar");
    }
}
