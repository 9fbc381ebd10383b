//! Layers on their way to a registry: packed and sent side by side, each at most once.
//!
//! While one is uploaded others are packed. What the registry has is neither packed (if its digest is
//! remembered) nor sent. Not here: the order of what comes after layers.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::{LayerState, Progress, PushError};
use crate::content::{Blob, ContentError, Layer, Packing, pack_layer_until};
use crate::image::{DiffId, Reference};
use crate::layer::Compression;
use crate::registry::{RegistryError, Repository};
use crate::store::{Origin, Store, TempDir};

/// How many layers are on their way at once; docker's number.
const AT_ONCE: usize = 5;
/// The stack of the thread of a layer, in bytes; it counts as memory where that is limited.
const STACK: usize = 512 * 1024;
/// From this level on zstd takes hundreds of megabytes for one stream.
const HUNGRY_LEVEL: i32 = 16;
/// So many bytes pass between two reports of them.
const SAY_EVERY: u64 = 128 << 10;
/// How many other repositories are tried to take a blob over from.
const MOST_MOUNTS: usize = 3;

/// A layer, and its blob where that is known already.
pub struct Job {
    pub layer: Layer,
    pub blob: Option<Blob>,
}

/// What all layers of a push have in common.
pub struct Pipeline<'a> {
    pub store: &'a Store,
    pub repository: &'a Repository<'a>,
    pub name: &'a Reference,
    pub packing: &'a Packing,
    pub directory: &'a TempDir,
    pub progress: Progress<'a>,
    pub cancel: &'a (dyn Fn() -> bool + Sync),
}

impl Pipeline<'_> {
    /// Sends all layers; returns their blobs, in the order of the jobs.
    pub fn run(&self, jobs: Vec<Job>) -> Result<Vec<Blob>, PushError> {
        for job in &jobs {
            (self.progress)(&job.layer.diff_id, LayerState::Preparing);
        }
        // An image may have a layer twice.
        let mut first: HashMap<DiffId, usize> = HashMap::new();
        let mut unique: Vec<&Job> = Vec::new();
        let places: Vec<usize> = jobs
            .iter()
            .map(|job| {
                *first.entry(job.layer.diff_id).or_insert_with(|| {
                    unique.push(job);
                    unique.len() - 1
                })
            })
            .collect();
        let done: Vec<Mutex<Option<Blob>>> = unique.iter().map(|_| Mutex::new(None)).collect();
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let failure: Mutex<Option<PushError>> = Mutex::new(None);
        let packers = Turns::new(packers(self.packing));
        let stopped = || stop.load(Ordering::Relaxed) || (self.cancel)();
        // The largest first: nothing is packed while the last one is sent.
        let mut order: Vec<&Job> = unique.clone();
        order.sort_by_key(|job| Reverse(job.layer.tar_size()));
        let work = || {
            while let Some(job) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                match self.send(job, &packers, &stopped) {
                    Ok(blob) => {
                        let place = first[&job.layer.diff_id];
                        *locked(&done[place]) = Some(blob);
                    }
                    Err(error) => {
                        // The first error is the cause; those of the others are that they were stopped.
                        locked(&failure).get_or_insert(error);
                        stop.store(true, Ordering::Relaxed);
                    }
                }
                if stopped() {
                    break;
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..unique.len().min(AT_ONCE) {
                let thread = std::thread::Builder::new().name("push".to_owned()).stack_size(STACK);
                if let Err(error) = thread.spawn_scoped(scope, work) {
                    locked(&failure).get_or_insert(PushError::Thread(error));
                    stop.store(true, Ordering::Relaxed);
                }
            }
            work();
        });
        if let Some(error) = locked(&failure).take() {
            return Err(if (self.cancel)() { PushError::Cancelled } else { error });
        }
        let blobs: Option<Vec<Blob>> = places.iter().map(|&place| locked(&done[place]).clone()).collect();
        blobs.ok_or(PushError::Cancelled)
    }

    fn send(&self, job: &Job, packers: &Turns, stopped: &dyn Fn() -> bool) -> Result<Blob, PushError> {
        let Job { layer, blob } = job;
        let say = |state| (self.progress)(&layer.diff_id, state);
        let blob = match blob {
            Some(blob) => blob.clone(),
            None => {
                let _turn = packers.take();
                pack_layer_until(self.store, layer, self.packing, self.directory, stopped)?
            }
        };
        if self.repository.has_blob(&blob.digest, stopped)? {
            say(LayerState::Exists);
        } else if let Some(from) = self.mount(layer, &blob, stopped)? {
            say(LayerState::Mounted(from));
        } else {
            let _turn = blob.is_packed_when_written().then(|| packers.take());
            let total = blob.size;
            let sent = |done| say(LayerState::Sending { done, total });
            upload(self.store, self.repository, &blob, &sent, stopped)?;
            say(LayerState::Pushed);
        }
        let origin = Origin {
            digest: blob.digest,
            registry: self.name.domain().to_owned(),
            repository: self.name.path().to_owned(),
        };
        self.store.note_origin(&layer.id, origin)?;
        // The disk is needed by those that are still to be packed.
        blob.clone().discard();
        Ok(blob)
    }

    /// Has the registry take a blob over from a repository that is known to have had it.
    fn mount(
        &self,
        layer: &Layer,
        blob: &Blob,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Option<String>, PushError> {
        let fits = |origin: &Origin| {
            origin.digest == blob.digest
                && origin.registry == self.name.domain()
                && origin.repository != self.name.path()
        };
        for origin in self.store.origins(&layer.id)?.into_iter().filter(fits).take(MOST_MOUNTS) {
            match self.repository.mount_blob(&blob.digest, &origin.repository, stopped) {
                Ok(true) => return Ok(Some(origin.repository)),
                Ok(false) => {}
                Err(error) if error.is_cancelled() => return Err(error.into()),
                // Not allowed there, or not able to: an upload will tell what is really wrong.
                Err(_) => {}
            }
        }
        Ok(None)
    }
}

/// Uploads a blob; `sent` hears now and then how many bytes are on their way.
pub fn upload(
    store: &Store,
    repository: &Repository<'_>,
    blob: &Blob,
    sent: &(dyn Fn(u64) + Sync),
    stopped: &dyn Fn() -> bool,
) -> Result<(), PushError> {
    let mut own: Option<ContentError> = None;
    let mut write =
        |out: &mut dyn Write| match blob.write(store, &mut Counted { out, done: 0, said: 0, sent }) {
            Ok(()) => Ok(()),
            // The connection's end, which the client knows how to go on from.
            Err(ContentError::Write(error)) => Err(error),
            Err(error) => {
                own = Some(error);
                Err(io::Error::other("the blob cannot be read"))
            }
        };
    let sent = repository.upload_blob(&blob.digest, blob.size, &mut write, stopped);
    match (own, sent) {
        (Some(error), Err(_)) => Err(error.into()),
        (_, sent) => sent.map_err(|error: RegistryError| error.into()),
    }
}

/// Says how many bytes were written.
struct Counted<'a> {
    out: &'a mut dyn Write,
    done: u64,
    said: u64,
    sent: &'a (dyn Fn(u64) + Sync),
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.done == 0 || self.done - self.said >= SAY_EVERY {
            self.said = self.done;
            (self.sent)(self.done);
        }
        let count = self.out.write(bytes)?;
        self.done += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// How many layers are packed at once.
fn packers(packing: &Packing) -> usize {
    let hungry =
        packing.compression == Compression::Zstd && packing.level.is_some_and(|level| level >= HUNGRY_LEVEL);
    match hungry {
        true => 1,
        false => std::thread::available_parallelism().map_or(1, usize::from).min(AT_ONCE),
    }
}

/// Lets so many through at once.
struct Turns {
    free: Mutex<usize>,
    freed: Condvar,
}

struct Turn<'a>(&'a Turns);

impl Turns {
    fn new(count: usize) -> Turns {
        Turns { free: Mutex::new(count), freed: Condvar::new() }
    }

    fn take(&self) -> Turn<'_> {
        let free = locked(&self.free);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *locked(&self.0.free) += 1;
        self.0.freed.notify_one();
    }
}

/// Locks what is whole after every step, so that a panic elsewhere does not matter.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
