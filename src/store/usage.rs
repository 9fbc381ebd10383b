//! What takes space: images, what containers wrote, and the build cache, piece by piece.
//!
//! A layer of an image is the image's; of the build cache are the other layers, cache mounts, what
//! was fetched from Git and the web, what came of layers whose pull was stopped, and what rbuild keeps for itself (digests of context files, records
//! of builds, records without files). Reading takes no lock: what vanishes meanwhile is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::image::{ImageId, Reference, SnapshotId};

use super::error::names_in;
use super::measure::{Measure, bytes_of};
use super::snapshots::State;
use super::{RunningContainer, Store, StoreError, leases};

/// What takes space in a store. All sizes are in bytes.
#[derive(Debug, Default)]
pub struct Usage {
    pub images: Vec<ImageUsage>,
    /// All images together, each layer once, with the blobs that are kept of some.
    pub images_size: u64,
    /// What of that belongs to images no container runs from.
    pub images_reclaimable: u64,
    /// With what each wrote.
    pub containers: Vec<(RunningContainer, u64)>,
    /// Last used first.
    pub cache: Vec<CacheEntry>,
}

/// The space of one image.
#[derive(Debug)]
pub struct ImageUsage {
    pub id: ImageId,
    pub names: Vec<Reference>,
    /// As its config has it.
    pub created: String,
    /// The files of all its layers.
    pub size: u64,
    /// The part in layers that other images have, too.
    pub shared: u64,
    /// The part that is its own alone.
    pub unique: u64,
    /// How many containers run from it.
    pub containers: usize,
}

/// What kind of cache a piece is; the words are BuildKit's where it has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheKind {
    /// A layer.
    Regular,
    CacheMount,
    Git,
    Http,
    /// What rbuild keeps for itself.
    Internal,
}

impl CacheKind {
    /// Returns its word.
    pub fn as_str(self) -> &'static str {
        match self {
            CacheKind::Regular => "regular",
            CacheKind::CacheMount => "exec.cachemount",
            CacheKind::Git => "source.git.checkout",
            CacheKind::Http => "source.http",
            CacheKind::Internal => "internal",
        }
    }
}

/// A piece of the build cache.
#[derive(Debug, Clone)]
pub struct CacheEntry {
    pub id: String,
    pub kind: CacheKind,
    /// What it is, in a few words.
    pub description: String,
    pub size: u64,
    pub created: Timestamp,
    /// When it was last used, as far as that is known.
    pub used: Timestamp,
    /// Whether it is a layer of an image: that stays, and is counted there.
    pub shared: bool,
    /// Whether somebody uses it now.
    pub in_use: bool,
    pub(super) place: Place,
}

/// Where a piece lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Layer(SnapshotId),
    /// Files and the lock of who uses them.
    Locked {
        files: PathBuf,
        lock: PathBuf,
    },
    /// A folder that goes with the lock in it.
    WithLock(PathBuf),
    /// Written anew or replaced by rename: may go at any time.
    Free(PathBuf),
    /// May go while nobody uses the store.
    Alone(PathBuf),
    /// The cache records that speak of no layer.
    Records,
}

/// What is known of a layer's space.
struct Layer {
    files: u64,
    /// The blob it came as, where that is kept.
    blob: u64,
    created: Timestamp,
    used: Timestamp,
    made_by: &'static str,
}

impl Layer {
    fn space(&self) -> u64 {
        self.files.saturating_add(self.blob)
    }
}

impl Store {
    /// Measures everything.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let containers = self.containers()?;
        let layers = self.layers()?;
        let images = self.images()?;
        let mut owners: BTreeMap<&SnapshotId, usize> = BTreeMap::new();
        for image in images.iter().filter_map(|listed| listed.image.as_ref().ok()) {
            for layer in image.layers.iter().collect::<BTreeSet<_>>() {
                *owners.entry(layer).or_default() += 1;
            }
        }
        let space_of = |layer: &SnapshotId| layers.get(layer).map_or(0, Layer::space);
        let files_of = |layer: &SnapshotId| layers.get(layer).map_or(0, |layer| layer.files);
        let images_size = owners.keys().map(|layer| space_of(layer)).sum();
        let mut usage = Usage { images_size, ..Usage::default() };
        let mut active: BTreeSet<&SnapshotId> = BTreeSet::new();
        for listed in &images {
            let Ok(image) = &listed.image else { continue };
            let own: BTreeSet<&SnapshotId> = image.layers.iter().collect();
            let running = containers.iter().filter(|container| container.image == Some(listed.id)).count();
            if running > 0 {
                active.extend(&own);
            }
            let shared = own.iter().filter(|layer| owners.get(**layer).is_some_and(|count| *count > 1));
            let shared: u64 = shared.map(|layer| files_of(layer)).sum();
            let size: u64 = own.iter().map(|layer| files_of(layer)).sum();
            usage.images.push(ImageUsage {
                id: listed.id,
                names: listed.names.clone(),
                created: image.config.created.clone().unwrap_or_default(),
                size,
                shared,
                unique: size - shared,
                containers: running,
            });
        }
        let in_use: u64 = active.iter().map(|layer| space_of(layer)).sum();
        usage.images_reclaimable = usage.images_size - in_use;
        let of_images = owners.into_keys().cloned().collect();
        usage.cache = self.entries(&layers, &of_images)?;
        for container in containers {
            let size = self.container_size(&container)?;
            usage.containers.push((container, size));
        }
        Ok(usage)
    }

    /// Lists the build cache, last used first.
    pub fn cache_entries(&self) -> Result<Vec<CacheEntry>, StoreError> {
        let mut of_images = BTreeSet::new();
        for listed in self.images()? {
            of_images.extend(listed.image.into_iter().flat_map(|image| image.layers));
        }
        self.entries(&self.layers()?, &of_images)
    }

    fn layers(&self) -> Result<BTreeMap<SnapshotId, Layer>, StoreError> {
        let mut layers = BTreeMap::new();
        for name in names_in(&self.paths.snapshots)? {
            let Ok(id) = SnapshotId::try_from(name) else { continue };
            let (State::Whole { meta, .. } | State::Suspect { meta }) = self.snapshot_state(&id)? else {
                continue;
            };
            let blob = meta.blob.as_ref().and_then(|blob| self.blob_size(&blob.digest)).unwrap_or(0);
            let files = match self.digests(&id)? {
                Some(digests) => digests.file_bytes,
                None => bytes_of(&self.snapshot_dir(&id)),
            };
            let used = time_of(&self.paths.snapshot(&id).join("meta")).unwrap_or(meta.created);
            let made_by = meta.kind.as_str();
            layers.insert(id, Layer { files, blob, created: meta.created, used, made_by });
        }
        Ok(layers)
    }

    fn entries(
        &self,
        layers: &BTreeMap<SnapshotId, Layer>,
        of_images: &BTreeSet<SnapshotId>,
    ) -> Result<Vec<CacheEntry>, StoreError> {
        let (recorded, records) = self.recorded_layers()?;
        let pinned: BTreeSet<SnapshotId> = leases::living(&self.paths)?.1.into_iter().collect();
        let mut entries = Vec::new();
        for (id, layer) in layers {
            let shared = of_images.contains(id);
            if shared && !recorded.contains(id) {
                continue;
            }
            entries.push(CacheEntry {
                id: id.as_str().to_owned(),
                kind: CacheKind::Regular,
                description: format!("layer ({})", layer.made_by),
                size: layer.space(),
                created: layer.created,
                used: layer.used,
                shared,
                in_use: pinned.contains(id),
                place: Place::Layer(id.clone()),
            });
        }
        self.cache_mount_entries(&mut entries)?;
        self.fetched_entries(&mut entries)?;
        self.internal_entries(records, &mut entries)?;
        entries.sort_by(|a, b| (b.used, &a.id).cmp(&(a.used, &b.id)));
        Ok(entries)
    }

    /// Returns the layers that cache records speak of, and the bytes of the records that speak of none.
    fn recorded_layers(&self) -> Result<(BTreeSet<SnapshotId>, Measure), StoreError> {
        let (mut layers, mut rest) = (BTreeSet::new(), Measure::default());
        for op in self.record_ops()? {
            for key in self.record_keys(&op)? {
                let path = self.paths.record(&op, &key);
                match self.record_layer(&path)? {
                    Some(Ok(Some(layer))) => {
                        layers.insert(layer);
                    }
                    Some(Ok(None)) => rest.add(&path),
                    Some(Err(_)) | None => {}
                }
            }
        }
        Ok((layers, rest))
    }

    fn cache_mount_entries(&self, entries: &mut Vec<CacheEntry>) -> Result<(), StoreError> {
        for name in names_in(&self.paths.cache_mounts)? {
            let directory = self.paths.cache_mounts.join(&name);
            let meta = directory.join("meta");
            let id = std::fs::read(&meta).ok().and_then(|bytes| {
                let meta: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
                meta["id"].as_str().map(str::to_owned)
            });
            for number in names_in(&directory)?.iter().filter(|name| name.parse::<u32>().is_ok()) {
                let files = directory.join(number);
                let lock = directory.join(format!("{number}.lock"));
                let suffix = if number == "0" { String::new() } else { format!("-{number}") };
                entries.extend(entry(
                    format!("{}{suffix}", short(&name)),
                    CacheKind::CacheMount,
                    format!("cache mount {}", id.as_deref().unwrap_or_default()),
                    (&files, [&meta, &files], [&lock, &files]),
                    Place::Locked { files: files.clone(), lock: lock.clone() },
                ));
            }
        }
        Ok(())
    }

    fn fetched_entries(&self, entries: &mut Vec<CacheEntry>) -> Result<(), StoreError> {
        for (folder, what) in [("repositories", "git repository"), ("checkouts", "git checkout")] {
            let folder = self.paths.git.join(folder);
            for name in names_in(&folder)?.iter().filter(|name| !name.ends_with(".lock")) {
                let files = folder.join(name);
                let lock = folder.join(format!("{name}.lock"));
                // Made anew whenever a repository is used; of a checkout there is none.
                let staging = self.paths.git.join("staging").join(name);
                let used = if staging.exists() { &staging } else { &lock };
                entries.extend(entry(
                    short(name),
                    CacheKind::Git,
                    what.to_owned(),
                    (&files, [&files, &files], [used, &files]),
                    Place::Locked { files: files.clone(), lock: lock.clone() },
                ));
            }
        }
        for name in names_in(&self.paths.downloads)? {
            let files = self.paths.downloads.join(&name);
            let (lock, meta) = (files.join("lock"), files.join("meta"));
            entries.extend(entry(
                short(&name),
                CacheKind::Http,
                "download".to_owned(),
                (&files, [&meta, &files], [&lock, &files]),
                Place::WithLock(files.clone()),
            ));
        }
        for name in names_in(&self.paths.partials)? {
            let file = self.paths.partials.join(&name);
            entries.extend(entry(
                short(&name),
                CacheKind::Http,
                "part of a layer of a registry".to_owned(),
                (&file, [&file; 2], [&file; 2]),
                Place::Locked { files: file.clone(), lock: file.clone() },
            ));
        }
        Ok(())
    }

    fn internal_entries(&self, records: Measure, entries: &mut Vec<CacheEntry>) -> Result<(), StoreError> {
        for name in names_in(&self.paths.stat_cache)? {
            let path = self.paths.stat_cache.join(&name);
            let place = Place::Free(path.clone());
            let what = "digests of a context".to_owned();
            let times = (path.as_path(), [path.as_path(); 2], [path.as_path(); 2]);
            entries.extend(entry(short(&name), CacheKind::Internal, what, times, place));
        }
        for name in names_in(&self.paths.builds)? {
            let path = self.paths.builds.join(&name);
            let place = Place::Alone(path.clone());
            let what = "record of a build".to_owned();
            let log = path.join("log");
            let times = (path.as_path(), [path.as_path(); 2], [log.as_path(), &path]);
            entries.extend(entry(short(&name), CacheKind::Internal, what, times, place));
        }
        if records.all() > 0 {
            let path = &self.paths.records;
            let what = "records without files".to_owned();
            let times = (path.as_path(), [path.as_path(); 2], [path.as_path(); 2]);
            let found = entry("records".to_owned(), CacheKind::Internal, what, times, Place::Records);
            entries.extend(found.map(|found| CacheEntry { size: records.all(), ..found }));
        }
        Ok(())
    }
}

/// Describes files: where they are, and what has the time they were made and last used, or else
/// has. `None` where they are gone.
fn entry<P: AsRef<Path>>(
    id: String,
    kind: CacheKind,
    description: String,
    (files, created, used): (&Path, [P; 2], [P; 2]),
    place: Place,
) -> Option<CacheEntry> {
    let first = |paths: [P; 2]| paths.iter().find_map(|path| time_of(path.as_ref()));
    let size = if place == Place::Records { 0 } else { bytes_of(files) };
    Some(CacheEntry {
        id,
        kind,
        description,
        size,
        created: first(created)?,
        used: first(used)?,
        shared: false,
        in_use: is_locked(&place),
        place,
    })
}

/// Tells whether somebody holds the lock of a piece, without taking it: that could be in the way.
///
/// proc_locks(5): the sixth word of a line ends with the file's inode. Where that cannot be read nothing
/// is in use, and who removes the piece finds the lock taken.
fn is_locked(place: &Place) -> bool {
    let lock = match place {
        Place::Locked { lock, .. } => lock.clone(),
        Place::WithLock(folder) => folder.join("lock"),
        _ => return false,
    };
    let Ok(inode) = std::fs::metadata(&lock).map(|m| m.ino().to_string()) else { return false };
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    locks.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next();
        words.next() == Some("FLOCK")
            && words.nth(3).and_then(|file| file.rsplit(':').next()) == Some(&*inode)
    })
}

fn time_of(path: &Path) -> Option<Timestamp> {
    Timestamp::try_from(std::fs::symlink_metadata(path).ok()?.modified().ok()?).ok()
}

fn short(name: &str) -> String {
    name.chars().take(12).collect()
}
