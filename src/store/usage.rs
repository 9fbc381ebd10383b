//! What takes space: images, what containers wrote, and the build cache, in all.
//!
//! A layer of an image is the image's; what is of the build cache is told piece by piece (`entries`). A file that
//! several layers have (hard links) is counted with each of them, and once in what they are together.
//! Reading takes no lock: what vanishes meanwhile is left out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::Timestamp;

use crate::image::{ImageId, Reference, SnapshotId};

use super::entries::{CacheEntry, time_of};
use super::error::names_in;
use super::measure::{Linked, measured};
use super::snapshots::State;
use super::{KeptVolume, ListedContainer, RegistryUsage, Repositories, Store, StoreError};

/// What takes space in a store. All sizes are in bytes.
#[derive(Debug, Default)]
pub struct Usage {
    pub images: Vec<ImageUsage>,
    /// All images together, each layer once, with the blobs that are kept of some.
    pub images_size: u64,
    /// What of that belongs to images no container runs from.
    pub images_reclaimable: u64,
    /// With what each wrote.
    pub containers: Vec<(ListedContainer, u64)>,
    pub volumes: Vec<VolumeUsage>,
    /// Last used first.
    pub cache: Vec<CacheEntry>,
    /// What was pushed to the registry over this store, where there is one.
    pub registry: Option<RegistryUsage>,
}

/// The space of one volume.
#[derive(Debug)]
pub struct VolumeUsage {
    pub volume: KeptVolume,
    /// `None` where its files are not in the store.
    pub size: Option<u64>,
    /// How many containers use it.
    pub links: usize,
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

/// What is known of a layer's space.
pub(super) struct LayerSpace {
    /// Of the files that have no name elsewhere.
    own: u64,
    /// Files that other layers have, too.
    linked: Vec<Linked>,
    /// The blob it came as, where that is kept.
    blob: u64,
    pub inodes: u64,
    pub created: Timestamp,
    pub used: Timestamp,
    pub made_by: &'static str,
}

impl LayerSpace {
    /// Returns all its bytes.
    pub fn whole(&self) -> u64 {
        let linked = self.linked.iter().map(|linked| linked.bytes);
        linked.fold(self.own.saturating_add(self.blob), u64::saturating_add)
    }

    /// Returns the files that other layers have, too.
    pub fn linked(&self) -> &[Linked] {
        &self.linked
    }
}

/// What is known of all layers' space.
pub(super) type Layers = BTreeMap<SnapshotId, LayerSpace>;

/// Returns what layers take together: each file once; with the blobs that are kept of them, or without.
pub(super) fn together<'a>(
    layers: &Layers,
    of: impl IntoIterator<Item = &'a SnapshotId>,
    blobs: bool,
) -> u64 {
    let mut seen = HashSet::new();
    let mut sum = 0u64;
    for layer in of.into_iter().filter_map(|id| layers.get(id)) {
        sum = sum.saturating_add(layer.own).saturating_add(if blobs { layer.blob } else { 0 });
        for linked in layer.linked.iter().filter(|linked| seen.insert(linked.file)) {
            sum = sum.saturating_add(linked.bytes);
        }
    }
    sum
}

impl Store {
    /// Measures everything.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let containers = self.containers()?;
        let layers = self.layers()?;
        let images = self.images()?;
        // In how many images a layer is, and a file that several layers have.
        let mut owners: BTreeMap<&SnapshotId, usize> = BTreeMap::new();
        let mut having: HashMap<(u64, u64), usize> = HashMap::new();
        for image in images.iter().filter_map(|listed| listed.image.as_ref().ok()) {
            let mut files = HashSet::new();
            for layer in image.layers.iter().collect::<BTreeSet<_>>() {
                *owners.entry(layer).or_default() += 1;
                files.extend(layers.get(layer).into_iter().flat_map(|layer| &layer.linked).map(|l| l.file));
            }
            files.into_iter().for_each(|file| *having.entry(file).or_default() += 1);
        }
        let images_size = together(&layers, owners.keys().copied(), true);
        let mut usage = Usage { images_size, ..Usage::default() };
        let mut active: BTreeSet<&SnapshotId> = BTreeSet::new();
        for listed in &images {
            let Ok(image) = &listed.image else { continue };
            let own: BTreeSet<&SnapshotId> = image.layers.iter().collect();
            let running =
                containers.iter().filter(|container| container.kept.image == Some(listed.id)).count();
            if running > 0 {
                active.extend(&own);
            }
            let size = together(&layers, own.iter().copied(), false);
            let alone = |layer: &&SnapshotId| owners.get(*layer).is_none_or(|count| *count < 2);
            let mut seen = HashSet::new();
            let mut unique = 0u64;
            for (id, layer) in own.iter().filter_map(|id| Some((id, layers.get(*id)?))) {
                unique = unique.saturating_add(if alone(id) { layer.own } else { 0 });
                let mine =
                    |l: &&Linked| having.get(&l.file).is_none_or(|count| *count < 2) && seen.insert(l.file);
                unique = layer.linked.iter().filter(mine).fold(unique, |sum, l| sum.saturating_add(l.bytes));
            }
            usage.images.push(ImageUsage {
                id: listed.id,
                names: listed.names.clone(),
                created: image.config.created.clone().unwrap_or_default(),
                size,
                shared: size.saturating_sub(unique),
                unique,
                containers: running,
            });
        }
        usage.images_reclaimable = usage.images_size.saturating_sub(together(&layers, active, true));
        let of_images = owners.into_keys().cloned().collect();
        usage.cache = self.entries(&layers, &of_images)?;
        for container in containers {
            let size = self.container_size(&container.kept.id)?;
            usage.containers.push((container, size));
        }
        usage.registry = Repositories::usage_in(self)?;
        let users = self.volume_users()?;
        for volume in self.volumes()? {
            let (size, links) = (self.volume_size(&volume), users.get(&volume.name).map_or(0, Vec::len));
            usage.volumes.push(VolumeUsage { volume, size, links });
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

    pub(super) fn layers(&self) -> Result<Layers, StoreError> {
        let mut layers = BTreeMap::new();
        for name in names_in(&self.paths.snapshots)? {
            let Ok(id) = SnapshotId::try_from(name) else { continue };
            let (State::Whole { meta, .. } | State::Suspect { meta }) = self.snapshot_state(&id)? else {
                continue;
            };
            let blob = meta.blob.as_ref().and_then(|blob| self.blob_size(&blob.digest)).unwrap_or(0);
            // Only layers of COPYs share files with others; what the others take is known already.
            let known = match self.paths.snapshot(&id).join("copied").exists() {
                true => None,
                false => self.digests(&id)?,
            };
            let (own, linked, inodes) = match known {
                Some(digests) => (digests.file_bytes, Vec::new(), digests.entries.saturating_add(1)),
                None => {
                    let measure = measured(&self.snapshot_dir(&id));
                    (measure.freed(), measure.linked(), measure.inodes())
                }
            };
            let used = time_of(&self.paths.snapshot(&id).join("meta")).unwrap_or(meta.created);
            let made_by = meta.kind.as_str();
            layers.insert(id, LayerSpace { own, linked, blob, inodes, created: meta.created, used, made_by });
        }
        Ok(layers)
    }
}
