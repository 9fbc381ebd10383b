//! Archives of images become images of the store.
//!
//! First all that is small is read and checked, of all images; then the layers come, each once, several
//! at a time, each unpacked while it is read; at last the images are stored, and named. Where anything
//! is not what it should be, nothing has a name, and what was unpacked is swept away. Not here: the two
//! forms of archives (`layout`, `docker`), how a layer is verified (`content`).

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::content::{self, ExpectedLayer};
use crate::image::{DiffId, ImageId, Platform, Reference, SnapshotId};
use crate::layer::LeftOut;
use crate::store::Store;

use super::ArchiveError;
use super::docker;
use super::files::{Files, Metered, bad};
use super::layout::Layout;
use super::planned::{PlannedImage, PlannedLayer, Received};
use super::source::{self, Source};
use super::tar_files::TarFiles;

/// So many layers are unpacked at once at most.
const MOST_AT_ONCE: usize = 4;
/// So many bytes pass between two reports of progress.
const REPORT_EVERY: u64 = 1 << 19;

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadProgress {
    /// The archive is written to a temporary file; so many bytes are there.
    Spooled { bytes: u64 },
    /// So many bytes of a layer were read, of so many.
    Layer { diff_id: DiffId, bytes: u64, of: u64 },
    /// The layer is in the store.
    LayerDone { diff_id: DiffId, bytes: u64 },
}

/// What was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImage {
    pub id: ImageId,
    /// Each with the image that had the name before, if another.
    pub names: Vec<(Reference, Option<ImageId>)>,
    /// The tag that the archive calls it by, where that is all it says: no name for the store.
    pub tag_only: Option<String>,
    /// What could not be put on disk, as rootless; the blobs have it.
    pub left_out: LeftOut,
}

/// Loads all images of an archive. When this returns, they are on the disk.
pub fn load(
    store: &Store,
    source: Source,
    platform: Option<&Platform>,
    progress: &(dyn Fn(LoadProgress) + Sync),
) -> Result<Vec<LoadedImage>, ArchiveError> {
    store.hold()?;
    let archive = source::open(store, source, &|bytes| progress(LoadProgress::Spooled { bytes }))?;
    let images = plan(archive.files.as_ref(), platform)?;
    let received = receive(store, archive.files.as_ref(), &images.iter().collect::<Vec<_>>(), progress)?;
    for image in &images {
        image.put(store, &received)?;
    }
    // A name is taken from the image it had only for one that a power cut cannot tear.
    store.sync()?;
    let loaded = images.iter().map(|image| name(store, image, &received)).collect::<Result<Vec<_>, _>>()?;
    store.sync()?;
    Ok(loaded)
}

/// Says which images a tar holds, and their names, without unpacking anything.
///
/// All is checked but the layers.
pub fn contents(
    file: std::fs::File,
    platform: Option<&Platform>,
) -> Result<Vec<(ImageId, Vec<Reference>)>, ArchiveError> {
    let images = plan(&TarFiles::index(file)?, platform)?;
    Ok(images.into_iter().map(|image| (image.id, image.names)).collect())
}

/// Reads and checks all that is small of an archive.
pub(super) fn plan(
    files: &dyn Files,
    platform: Option<&Platform>,
) -> Result<Vec<PlannedImage>, ArchiveError> {
    let files: &dyn Files = &Metered::new(files);
    let images = if Layout::is_one(files)? {
        let layout = Layout::open(files)?;
        let of_docker = docker::configs(files)?;
        if !of_docker.is_empty() {
            let configs = layout.configs()?;
            // Two readers must not see two images in one archive.
            if let Some(other) = of_docker.iter().find(|config| !configs.contains(config)) {
                let why = "its files `index.json` and `manifest.json` name different images";
                return Err(bad(format!("{why}: only the second has {}", other.short())));
            }
        }
        layout.images(platform)?
    } else {
        let none = "it has neither `manifest.json` (docker) nor `oci-layout` and `index.json` (OCI)";
        docker::images(files, platform)?.ok_or_else(|| ArchiveError::NoImages(none.to_owned()))?
    };
    let mut owners: HashMap<&Reference, ImageId> = HashMap::new();
    for image in &images {
        for name in &image.names {
            if owners.insert(name, image.id).is_some_and(|other| other != image.id) {
                return Err(bad(format!("it gives the name `{name}` to two images")));
            }
        }
    }
    match images.is_empty() {
        true => Err(ArchiveError::NoImages("it has no images".to_owned())),
        false => Ok(images),
    }
}

/// Brings the layers of images into the store, each once, several at a time.
///
/// After an error those that came are swept away as soon as nobody uses the store.
pub(super) fn receive(
    store: &Store,
    files: &dyn Files,
    images: &[&PlannedImage],
    progress: &(dyn Fn(LoadProgress) + Sync),
) -> Result<Received, ArchiveError> {
    let mut layers: Vec<&PlannedLayer> = Vec::new();
    let mut seen = HashMap::new();
    for layer in images.iter().flat_map(|image| &image.layers) {
        if seen.insert((layer.digest, layer.size, layer.diff_id), ()).is_none() {
            layers.push(layer);
        }
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<(HashMap<_, SnapshotId>, Option<ArchiveError>)> = Mutex::default();
    let work = || {
        while let Some(layer) = layers.get(next.fetch_add(1, Ordering::Relaxed)) {
            let received = receive_one(store, files, layer, progress);
            let mut done = done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match received {
                Ok(id) => drop(done.0.insert((layer.digest, layer.size, layer.diff_id), id)),
                Err(error) => {
                    // The others need not start; the first error is told.
                    next.store(layers.len(), Ordering::Relaxed);
                    done.1.get_or_insert(error);
                }
            }
        }
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = processors.clamp(2, MOST_AT_ONCE).min(layers.len());
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    let (ids, error) = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(error) = error {
        store.sweep_if_free()?;
        return Err(error);
    }
    let id_of = |layer: &PlannedLayer| ids[&(layer.digest, layer.size, layer.diff_id)].clone();
    Ok(images.iter().flat_map(|image| &image.layers).map(|layer| (layer.clone(), id_of(layer))).collect())
}

fn receive_one(
    store: &Store,
    files: &dyn Files,
    layer: &PlannedLayer,
    progress: &(dyn Fn(LoadProgress) + Sync),
) -> Result<SnapshotId, ArchiveError> {
    let &PlannedLayer { digest, size, diff_id, .. } = layer;
    let opened = files.named(&layer.file)?;
    let expected = ExpectedLayer { digest, size, diff_id };
    if opened.size == size
        && let Some(there) = content::already_there(store, &expected)?
    {
        return Ok(there);
    }
    // One more than it may be, so that a longer blob is not taken for one that was cut.
    let reader = opened.reader.take(size.saturating_add(1));
    let reader = Counted { reader, diff_id, bytes: 0, told: 0, of: size, progress };
    let of_layer = |source| ArchiveError::Layer { file: layer.file.clone(), source };
    let id = content::receive_layer(store, reader, &expected).map_err(of_layer)?;
    progress(LoadProgress::LayerDone { diff_id, bytes: size });
    Ok(id)
}

/// Gives an image its names.
fn name(store: &Store, image: &PlannedImage, received: &Received) -> Result<LoadedImage, ArchiveError> {
    let mut names = Vec::with_capacity(image.names.len());
    for name in &image.names {
        let before = store.tag(name, &image.id)?;
        names.push((name.clone(), before.filter(|before| *before != image.id)));
    }
    let mut left_out = LeftOut::default();
    for layer in &image.layers {
        let Some(meta) = store.meta(&received[layer])? else { continue };
        left_out.devices += meta.left_out.devices;
        left_out.owners += meta.left_out.owners;
        left_out.xattrs += meta.left_out.xattrs;
    }
    let tag_only = image.tag_only.clone().filter(|_| names.is_empty());
    Ok(LoadedImage { id: image.id, names, tag_only, left_out })
}

/// Tells of the bytes that pass.
struct Counted<'a, R> {
    reader: R,
    diff_id: DiffId,
    bytes: u64,
    told: u64,
    of: u64,
    progress: &'a (dyn Fn(LoadProgress) + Sync),
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.bytes += count as u64;
        if self.bytes - self.told >= REPORT_EVERY {
            self.told = self.bytes;
            (self.progress)(LoadProgress::Layer { diff_id: self.diff_id, bytes: self.bytes, of: self.of });
        }
        Ok(count)
    }
}
