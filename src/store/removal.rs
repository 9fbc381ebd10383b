//! Removing images and names, by docker's rules.

use crate::image::{ChainId, ImageConfig, ImageId, Reference};

use super::error::{read_if_there, remove_file};
use super::images::ImageFile;
use super::{Found, Store, StoreError};

/// What a removal did, in the order docker prints it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removal {
    /// Names taken away: `Untagged: ...`.
    pub untagged: Vec<Reference>,
    /// The image, where its last name went: `Deleted: ...`.
    pub deleted: Option<ImageId>,
    /// Its layers that nothing else needed, topmost first, by ChainID: `Deleted: ...`.
    pub deleted_layers: Vec<ChainId>,
    /// Whether other builds are running, so that layers are freed when those end.
    pub deferred: bool,
}

impl Store {
    /// Removes a name, and with the last name the image and the layers nothing else needs.
    ///
    /// By id, the image goes with all its names; where they are several, only with `force`
    /// ([`StoreError::SeveralNames`]). Layers of cache records stay: they are the build cache.
    pub fn remove_image(&self, text: &str, force: bool) -> Result<Removal, StoreError> {
        let Found::Image { id, name } = self.find(text)? else {
            return Err(StoreError::NotFound(text.to_owned()));
        };
        let mut removal = Removal::default();
        let gone = {
            let _lock = self.names_lock()?;
            // Read again under the lock: it may be another's by now.
            let mut names = self.names_of(&id)?;
            if let Some(name) = &name {
                let taken: Vec<Reference> = names.extract_if(.., |there| there == name).collect();
                let same_repository = |there: &Reference| there.full_name() == name.full_name();
                removal.untagged.extend(taken);
                // What is left are digests of the same repository: they go with its last tag.
                if names.iter().all(|there| there.digest().is_some() && same_repository(there)) {
                    removal.untagged.append(&mut names);
                }
            } else {
                let tags = names.iter().filter(|there| there.digest().is_none()).count();
                let one_repository = names.windows(2).all(|pair| pair[0].full_name() == pair[1].full_name());
                if !force && names.len() > 1 && (tags > 1 || !one_repository) {
                    return Err(StoreError::SeveralNames(id));
                }
                removal.untagged.append(&mut names);
            }
            for reference in &removal.untagged {
                self.drop_reference(reference)?;
            }
            match names.is_empty() {
                false => None,
                true => {
                    let layers = self.layers_with_chain_ids(&id)?;
                    remove_file(&self.paths.image(&id))?;
                    Some(layers)
                }
            }
        };
        let Some(layers) = gone else { return Ok(removal) };
        removal.deleted = Some(id);
        match self.sweep_if_free()? {
            None => removal.deferred = true,
            Some(swept) => {
                let freed = layers.into_iter().rev().filter(|(layer, _)| swept.layers.contains(layer));
                removal.deleted_layers.extend(freed.map(|(_, chain)| chain));
            }
        }
        Ok(removal)
    }

    /// Returns what can be told of an image's layers; an image that is broken must go too.
    fn layers_with_chain_ids(
        &self,
        id: &ImageId,
    ) -> Result<Vec<(crate::image::SnapshotId, ChainId)>, StoreError> {
        let file = read_if_there(&self.paths.image(id))?
            .and_then(|bytes| serde_json::from_slice::<ImageFile>(&bytes).ok());
        let config = self
            .read_blob(&id.0, 8 << 20)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<ImageConfig>(&bytes).ok());
        let (Some(file), Some(config)) = (file, config) else { return Ok(Vec::new()) };
        let diff_ids = &config.rootfs.diff_ids;
        Ok(file
            .layers
            .into_iter()
            .zip((1..=diff_ids.len()).filter_map(|n| ChainId::of(&diff_ids[..n])))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::names_in;
    use super::super::{images, steps, testing};
    use super::*;
    use crate::image::{CacheKey, Digest, OpDigest};

    fn layers_of(store: &Store) -> usize {
        names_in(&store.paths.snapshots).unwrap().len()
    }

    #[test]
    fn the_last_name_takes_the_image_along() {
        let directory = tempfile::tempdir().unwrap();
        let id = {
            let store = testing::open(directory.path());
            let id = images::testing::image(&store, "a", &["a", "b"]);
            for name in ["one", "two:x"] {
                store.tag(&name.parse().unwrap(), &id).unwrap();
            }
            store.put_step(&steps::example(store.image(&id).unwrap().layers, "RUN x")).unwrap();
            id
        };
        let store = testing::open(directory.path());
        let refused = store.remove_image(&id.short(), false).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!(
                "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
                id.short()
            )
        );
        let first = store.remove_image("one", false).unwrap();
        assert_eq!(first.untagged, ["one:latest".parse().unwrap()]);
        assert_eq!((first.deleted, layers_of(&store)), (None, 2));
        let diff_ids = store.image(&id).unwrap().config.rootfs.diff_ids;
        let second = store.remove_image("two:x", false).unwrap();
        assert_eq!(second.deleted, Some(id));
        assert!(!second.deferred);
        let chains = [ChainId::of(&diff_ids).unwrap(), ChainId::of(&diff_ids[..1]).unwrap()];
        assert_eq!(second.deleted_layers, chains);
        for left in [&store.paths.snapshots, &store.paths.blobs, &store.paths.steps, &store.paths.by_diff] {
            assert_eq!(names_in(left).unwrap().len(), 0, "{}", left.display());
        }
        assert!(store.remove_image("two:x", false).unwrap_err().is_not_found());
    }

    #[test]
    fn by_id_with_force_all_names_go() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let id = images::testing::image(&store, "a", &["a"]);
        for name in ["one", "two"] {
            store.tag(&name.parse().unwrap(), &id).unwrap();
        }
        let removal = store.remove_image(&id.to_string(), true).unwrap();
        assert_eq!(removal.untagged, ["one:latest".parse().unwrap(), "two:latest".parse().unwrap()]);
        assert_eq!(removal.deleted, Some(id));
        assert!(removal.deferred, "this store itself holds its layers");
    }

    #[test]
    fn layers_stay_while_something_needs_them() {
        let directory = tempfile::tempdir().unwrap();
        {
            let store = testing::open(directory.path());
            let one = images::testing::image(&store, "a", &["shared", "own", "cached", "pinned"]);
            let layers = store.image(&one).unwrap().layers;
            let record = super::super::ImageRecord {
                config: images::testing::config(&store, "b", &layers[..1]),
                manifest: None,
                layers: layers[..1].to_vec(),
            };
            store.put_image_as(&record, &["two".parse().unwrap()]).unwrap();
            store.tag(&"one".parse().unwrap(), &one).unwrap();
            let (op, key) = (OpDigest(Digest::of("op")), CacheKey(Digest::of("key")));
            store.publish_record(&op, &key, Some(&layers[2]), b"x").unwrap();
        }
        let holder = testing::open(directory.path());
        let layers = {
            let Found::Image { id, .. } = holder.find("one").unwrap() else { panic!("an image") };
            holder.hold().unwrap();
            holder.image(&id).unwrap().layers
        };
        holder.hold_only(&layers[3..]).unwrap();
        let store = testing::open(directory.path());
        let removal = store.remove_image("one", false).unwrap();
        assert_eq!(removal.deleted_layers.len(), 1);
        let left: Vec<bool> = layers.iter().map(|id| store.has_snapshot(id).unwrap()).collect();
        assert_eq!(left, [true, false, true, true]);
        assert!(store.find("two").is_ok());

        // The pin ends with its holder.
        drop(holder);
        assert_eq!(store.sweep_if_free().unwrap().unwrap().layers, layers[3..]);
    }

    #[test]
    fn a_build_that_runs_defers_and_its_end_sweeps() {
        let directory = tempfile::tempdir().unwrap();
        {
            let store = testing::open(directory.path());
            let id = images::testing::image(&store, "a", &["a"]);
            store.tag(&"one".parse().unwrap(), &id).unwrap();
        }
        let build = testing::open(directory.path());
        build.hold().unwrap();
        let other = testing::open(directory.path());
        assert!(other.remove_image("one", false).unwrap().deferred);
        assert_eq!(layers_of(&other), 1);
        drop(build);
        assert_eq!(layers_of(&other), 0);
        assert!(!other.paths.sweep.exists());
    }

    #[test]
    fn a_broken_image_can_be_removed() {
        let directory = tempfile::tempdir().unwrap();
        {
            let store = testing::open(directory.path());
            let id = images::testing::image(&store, "a", &["a"]);
            store.tag(&"one".parse().unwrap(), &id).unwrap();
            std::fs::write(store.paths.image(&id), "").unwrap();
            std::fs::remove_file(store.paths.blob(&id.0)).unwrap();
        }
        let store = testing::open(directory.path());
        assert!(store.remove_image("one", false).unwrap().deleted.is_some());
        assert!(store.images().unwrap().is_empty());
        assert_eq!(layers_of(&store), 0);
    }
}
