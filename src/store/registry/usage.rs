//! What the registry takes of the store's space.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::measure::measured;
use super::super::{Store, StoreError};
use super::{Repositories, repository};

/// The space of a registry, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RegistryUsage {
    /// How many repositories have a manifest.
    pub repositories: usize,
    /// How many of them have a tag.
    pub tagged: usize,
    /// All files.
    pub size: u64,
    /// The blobs that no repository has, and unfinished uploads.
    pub reclaimable: u64,
}

impl Repositories {
    /// Measures what a store's registry takes; `None` where there is none. Takes no lock, and makes nothing.
    pub fn usage_in(store: &Store) -> Result<Option<RegistryUsage>, StoreError> {
        if !store.paths.base.join("registry/repositories").is_dir() {
            return Ok(None);
        }
        Repositories::open(store)?.usage().map(Some)
    }

    fn usage(&self) -> Result<RegistryUsage, StoreError> {
        let (mut repositories, mut tagged) = (0, 0);
        let mut had = BTreeSet::new();
        for name in self.all_repositories()? {
            had.extend(self.digests_in(&repository(&name).join("_layers"))?);
            if !self.manifests(&name)?.is_empty() {
                repositories += 1;
                tagged += usize::from(self.tags(&name)?.is_some_and(|tags| !tags.is_empty()));
            }
        }
        let mut reclaimable = measured(&self.base.join("uploads")).all();
        for digest in self.digests_in(Path::new("blobs"))?.iter().filter(|digest| !had.contains(digest)) {
            let size = self.root.stat(&super::blobs::blob_of(digest), false).map_or(0, |stat| stat.size);
            reclaimable = reclaimable.saturating_add(size);
        }
        Ok(RegistryUsage { repositories, tagged, size: measured(&self.base).all(), reclaimable })
    }
}
