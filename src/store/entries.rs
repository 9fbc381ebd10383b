//! The pieces of the build cache: layers no image has, cache mounts, what was fetched from Git and the web, what
//! came of layers whose pull was stopped, and what rbuild keeps for itself (digests of context files, records of
//! builds, records without files).
//!
//! Reading takes no lock: what vanishes meanwhile is left out. Not here: which pieces are to go (`choose`).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::image::SnapshotId;

use super::error::{names_in, read_if_there};
use super::measure::{Linked, Measure, measured};
use super::usage::Layers;
use super::{Store, StoreError, leases};

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
    /// How many inodes it takes.
    pub inodes: u64,
    /// The layers right beneath it, where it is one and a step tells ([`Store::describe_cache`]).
    pub parents: Vec<String>,
    /// In how many of the builds that are kept it was, where that is known ([`Store::describe_cache`]).
    pub uses: Option<u64>,
    /// The bytes of those of its files that layers of images have, too: no removal frees them.
    pub(super) held: u64,
    /// The files that other pieces have, too.
    pub(super) linked: Vec<Linked>,
    pub(super) place: Place,
}

impl CacheEntry {
    /// Tells whether it may change where it lies; layers never do.
    pub fn is_mutable(&self) -> bool {
        self.kind != CacheKind::Regular
    }

    /// Tells whether its removal would free anything now.
    pub fn is_reclaimable(&self) -> bool {
        !self.in_use && !self.shared
    }
}

/// Returns the bytes of pieces together: a file that several have is counted once.
pub fn bytes_together<'a>(entries: impl IntoIterator<Item = &'a CacheEntry>) -> u64 {
    let mut seen = HashSet::new();
    entries.into_iter().fold(0u64, |sum, entry| {
        let again = entry.linked.iter().filter(|linked| !seen.insert(linked.file));
        let again = again.fold(0u64, |sum, linked| sum.saturating_add(linked.bytes));
        sum.saturating_add(entry.size.saturating_sub(again))
    })
}

/// Returns what frees pieces one after the other: how many bytes each of them alone has by then.
pub(super) struct Freeing {
    /// How many pieces have a file.
    having: HashMap<(u64, u64), usize>,
}

impl Freeing {
    pub fn new<'a>(entries: impl IntoIterator<Item = &'a CacheEntry>) -> Freeing {
        let mut having = HashMap::new();
        for linked in entries.into_iter().flat_map(|entry| &entry.linked) {
            *having.entry(linked.file).or_default() += 1;
        }
        Freeing { having }
    }

    /// Takes a piece away; returns the bytes that this frees.
    pub fn without(&mut self, entry: &CacheEntry) -> u64 {
        let mut freed = entry.size.saturating_sub(entry.held);
        for linked in &entry.linked {
            let Some(left) = self.having.get_mut(&linked.file) else { continue };
            *left = left.saturating_sub(1);
            if *left > 0 {
                freed = freed.saturating_sub(linked.bytes);
            }
        }
        freed
    }
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

impl Store {
    pub(super) fn entries(
        &self,
        layers: &Layers,
        of_images: &BTreeSet<SnapshotId>,
    ) -> Result<Vec<CacheEntry>, StoreError> {
        let (recorded, records) = self.recorded_layers()?;
        let mut pinned: BTreeSet<SnapshotId> = leases::living(&self.paths)?.1.into_iter().collect();
        pinned.extend(super::containers::layers_of_containers(&self.paths)?);
        let images = of_images.iter().filter_map(|id| layers.get(id));
        let of_images_too: HashSet<_> = images.flat_map(|layer| layer.linked()).map(|l| l.file).collect();
        let mut entries = Vec::new();
        for (id, layer) in layers {
            let shared = of_images.contains(id);
            if shared && !recorded.contains(id) {
                continue;
            }
            let (held, linked): (Vec<Linked>, Vec<Linked>) = match shared {
                true => (Vec::new(), layer.linked().to_vec()),
                false => layer.linked().iter().partition(|linked| of_images_too.contains(&linked.file)),
            };
            entries.push(CacheEntry {
                id: id.as_str().to_owned(),
                kind: CacheKind::Regular,
                description: format!("layer ({})", layer.made_by),
                size: layer.whole(),
                inodes: layer.inodes,
                parents: Vec::new(),
                uses: None,
                held: held.iter().fold(0, |sum, linked| sum.saturating_add(linked.bytes)),
                linked,
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

    /// Adds what only the steps and the records of builds tell: parents, and in how many builds a layer was.
    pub fn describe_cache(&self, entries: &mut [CacheEntry]) -> Result<(), StoreError> {
        let mut parents: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for id in self.step_ids()? {
            let Some(bytes) = read_if_there(&self.paths.steps.join(id.as_str()))? else { continue };
            let Ok(step) = serde_json::from_slice::<super::StepRecord>(&bytes) else { continue };
            for pair in step.layers.windows(2) {
                let below = parents.entry(pair[1].to_string()).or_default();
                below.insert(pair[0].to_string());
            }
        }
        let mut uses: BTreeMap<String, u64> = BTreeMap::new();
        for name in names_in(&self.paths.builds)? {
            let Some(bytes) = read_if_there(&self.paths.builds.join(name).join("record"))? else { continue };
            let Ok(record) = serde_json::from_slice::<serde_json::Value>(&bytes) else { continue };
            let vertices = record["vertices"].as_array().into_iter().flatten();
            let layers: BTreeSet<&str> = vertices.filter_map(|vertex| vertex["layer"].as_str()).collect();
            layers.into_iter().for_each(|layer| *uses.entry(layer.to_owned()).or_default() += 1);
        }
        for entry in entries.iter_mut().filter(|entry| entry.kind == CacheKind::Regular) {
            entry.parents = parents.remove(&entry.id).into_iter().flatten().collect();
            entry.uses = Some(uses.get(&entry.id).copied().unwrap_or(0));
        }
        Ok(())
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
            let (size, inodes) = (records.all(), records.inodes());
            entries.extend(found.map(|found| CacheEntry { size, inodes, ..found }));
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
    let measure = if place == Place::Records { Measure::default() } else { measured(files) };
    Some(CacheEntry {
        id,
        kind,
        description,
        size: measure.all(),
        inodes: measure.inodes(),
        parents: Vec::new(),
        uses: None,
        held: 0,
        linked: Vec::new(),
        created: first(created)?,
        used: first(used)?,
        shared: false,
        in_use: match &place {
            Place::Locked { lock, .. } => is_locked(lock),
            Place::WithLock(folder) => is_locked(&folder.join("lock")),
            _ => false,
        },
        place,
    })
}

/// Tells whether somebody holds a lock, without taking it: that could be in the way.
pub(super) fn is_locked(lock: &Path) -> bool {
    !lock_holders(lock).is_empty()
}

/// Returns who holds a lock, as far as the kernel tells.
///
/// proc_locks(5): the fifth word of a line is the process, the sixth ends with the file's inode. Where that cannot be
/// read nobody is known, and who wants the lock finds it taken.
pub(super) fn lock_holders(lock: &Path) -> Vec<u32> {
    let Ok(inode) = std::fs::metadata(lock).map(|m| m.ino().to_string()) else { return Vec::new() };
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let holder = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_it = words.get(1) == Some(&"FLOCK")
            && words.get(5).and_then(|file| file.rsplit(':').next()) == Some(&*inode);
        // One of another process namespace has no number here.
        is_it.then(|| words[4].parse().unwrap_or(0))
    };
    locks.lines().filter_map(holder).collect()
}

pub(super) fn time_of(path: &Path) -> Option<Timestamp> {
    Timestamp::try_from(std::fs::symlink_metadata(path).ok()?.modified().ok()?).ok()
}

pub(super) fn short(name: &str) -> String {
    name.chars().take(12).collect()
}
