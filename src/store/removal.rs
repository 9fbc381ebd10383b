//! Removing images and names, by docker's rules.
//!
//! A name goes alone while the image has others; digests of a repository go with its last tag. An
//! image that a container runs from stays: by id that cannot be forced, by name what is forced is
//! the name's going. Not here: which layers are free then (`sweep`), which images are unused (who asks).

use crate::image::{ChainId, ImageConfig, ImageId, Reference, SnapshotId};

use super::error::{read_if_there, remove_file};
use super::images::ImageFile;
use super::sweep::Swept;
use super::{Found, ListedContainer, Store, StoreError};

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

/// What the removal of several images did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImagesRemoved {
    pub removals: Vec<Removal>,
    /// The bytes of the files that were deleted.
    pub freed: u64,
    /// Whether other builds are running, so that layers are freed when those end.
    pub deferred: bool,
}

/// An image's layers and what docker calls them, lowest first.
type Layers = Vec<(SnapshotId, ChainId)>;

impl Store {
    /// Removes a name, and with the last name the image and the layers nothing else needs.
    ///
    /// By id, the image goes with all its names; where they are several, only with `force`
    /// ([`StoreError::SeveralNames`]). Layers of cache records stay: they are the build cache.
    /// Errors: a container runs from it ([`StoreError::NameInUse`], [`StoreError::ImageInUse`]).
    pub fn remove_image(&self, text: &str, force: bool) -> Result<Removal, StoreError> {
        let Found::Image { id, name } = self.find(text)? else {
            return Err(StoreError::NotFound(text.to_owned()));
        };
        let user = self.container_of(&id)?;
        let mut removal = Removal::default();
        let layers = {
            let _lock = self.names_lock()?;
            // Read again under the lock: it may be another's by now.
            let mut names = self.names_of(&id)?;
            let same = |there: &&Reference, name: &Reference| {
                let by_digest = name.digest().is_some() && there.digest() == name.digest();
                *there == name || by_digest && there.full_name() == name.full_name()
            };
            let name = name.and_then(|name| names.iter().find(|there| same(there, &name)).cloned());
            removal.untagged = match name {
                Some(name) => names_to_take(&mut names, &name, text, &id, force, user.as_ref())?,
                None => {
                    if let Some(ListedContainer { kept, running }) = &user
                        && (*running || !force)
                    {
                        let (container, running) = (kept.id.short().to_owned(), *running);
                        return Err(StoreError::ImageInUse { id, container, running });
                    }
                    if !force && !is_of_one_name(&names) {
                        return Err(StoreError::SeveralNames(id));
                    }
                    names.sort_by_cached_key(Reference::to_string);
                    std::mem::take(&mut names)
                }
            };
            for reference in &removal.untagged {
                self.drop_reference(reference)?;
            }
            if !names.is_empty() || user.is_some_and(|user| user.running) {
                return Ok(removal);
            }
            self.delete_image(&id)?
        };
        removal.deleted = Some(id);
        match self.sweep_if_free()? {
            None => removal.deferred = true,
            Some(swept) => removal.deleted_layers = freed_of(layers, &swept),
        }
        Ok(removal)
    }

    /// Removes those of the images that no container runs from, with the names they have, if
    /// `unused` says of these that it is still to be.
    pub fn remove_images(
        &self,
        images: &[ImageId],
        unused: &dyn Fn(&[Reference]) -> bool,
    ) -> Result<ImagesRemoved, StoreError> {
        let mut removed = ImagesRemoved::default();
        let mut layers = Vec::new();
        for id in images {
            let _lock = self.names_lock()?;
            let mut names = self.names_of(id)?;
            names.sort_by_cached_key(Reference::to_string);
            let used = self.container_of(id)?.is_some();
            if used || !self.has_image(id) || !unused(&names) {
                continue;
            }
            for reference in &names {
                self.drop_reference(reference)?;
            }
            layers.push(self.delete_image(id)?);
            removed.removals.push(Removal { untagged: names, deleted: Some(*id), ..Removal::default() });
        }
        if layers.is_empty() {
            return Ok(removed);
        }
        match self.sweep_measured(Vec::new())? {
            None => removed.deferred = true,
            Some(mut swept) => {
                removed.freed = swept.freed;
                for (removal, layers) in removed.removals.iter_mut().zip(layers) {
                    let own: Vec<SnapshotId> = layers.iter().map(|(layer, _)| layer.clone()).collect();
                    removal.deleted_layers = freed_of(layers, &swept);
                    // A layer of several images is told once.
                    swept.layers.retain(|layer| !own.contains(layer));
                }
            }
        }
        Ok(removed)
    }

    /// Removes the image's own file; the caller holds the names' lock. Returns its layers.
    pub(super) fn delete_image(&self, id: &ImageId) -> Result<Layers, StoreError> {
        let layers = self.layers_with_chain_ids(id)?;
        remove_file(&self.paths.image(id))?;
        Ok(layers)
    }

    /// Returns what can be told of an image's layers; an image that is broken must go too.
    fn layers_with_chain_ids(&self, id: &ImageId) -> Result<Layers, StoreError> {
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

impl Store {
    /// Returns a container of an image, one that runs where there is one.
    pub(super) fn container_of(&self, id: &ImageId) -> Result<Option<ListedContainer>, StoreError> {
        let of_it = self.containers()?.into_iter().filter(|container| container.kept.image == Some(*id));
        Ok(of_it.max_by_key(|container| container.running))
    }
}

/// Takes from an image's names those that go with one of them.
fn names_to_take(
    names: &mut Vec<Reference>,
    name: &Reference,
    text: &str,
    id: &ImageId,
    force: bool,
    user: Option<&ListedContainer>,
) -> Result<Vec<Reference>, StoreError> {
    if let Some(user) = user
        && !force
        && is_of_one_name(names)
    {
        let container = user.kept.id.short().to_owned();
        return Err(StoreError::NameInUse { name: text.to_owned(), id: *id, container });
    }
    let same_repository = |there: &Reference| there.full_name() == name.full_name();
    let mut taken: Vec<Reference> = names.extract_if(.., |there| there == name).collect();
    // Digests of a repository go with its last tag.
    let tags_left = names.iter().any(|there| there.digest().is_none() && same_repository(there));
    if name.digest().is_none() && !tags_left {
        taken.extend(names.extract_if(.., |there| same_repository(there)));
    }
    Ok(taken)
}

/// Tells whether there is at most one tag, and all digests are of its repository.
fn is_of_one_name(names: &[Reference]) -> bool {
    let tags = names.iter().filter(|name| name.digest().is_none()).count();
    tags <= 1 && names.windows(2).all(|pair| pair[0].full_name() == pair[1].full_name())
}

/// Returns the layers that a sweep removed, topmost first.
fn freed_of(layers: Layers, swept: &Swept) -> Vec<ChainId> {
    let freed = layers.into_iter().rev().filter(|(layer, _)| swept.layers.contains(layer));
    freed.map(|(_, chain)| chain).collect()
}

#[cfg(test)]
mod tests {
    use super::super::error::names_in;
    use super::super::{containers, images, steps, testing};
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

    /// What docker 20.10 does with tags and digests, name by name.
    #[test]
    fn digests_go_with_the_last_tag_of_their_repository() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let digest = format!("r.example/a@{}", Digest::of("m"));
        let check = |names: &[&str], remove: &str, force: bool, expect: Result<(&[&str], bool), ()>| {
            let id = images::testing::image(&store, "a", &["a"]);
            for name in names {
                store.tag(&name.parse().unwrap(), &id).unwrap();
            }
            let name = if remove == "ID" { id.short() } else { remove.to_owned() };
            let found = store.remove_image(&name, force).map(|removal| {
                (
                    removal.untagged.iter().map(Reference::to_string).collect::<Vec<_>>(),
                    removal.deleted.is_some(),
                )
            });
            let text = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            assert_eq!(
                found.map_err(|_| ()),
                expect.map(|(names, gone)| (text(names), gone)),
                "{names:?} {remove}"
            );
            let _ = store.remove_image(&id.to_string(), true);
        };
        let (one, two, other) = ("r.example/a:1", "r.example/a:2", "other:1");
        check(&[one, two, &digest], one, false, Ok((&[one], false)));
        check(&[one, &digest], one, false, Ok((&[one, &digest], true)));
        check(&[one, &digest, other], one, false, Ok((&[one, &digest], false)));
        check(&[one, &digest], &digest, false, Ok((&[&digest], false)));
        check(&[&digest], &digest, false, Ok((&[&digest], true)));
        check(&[other, &digest], &digest, false, Ok((&[&digest], false)));
        check(&[&digest], "ID", false, Ok((&[&digest], true)));
        check(&[one, &digest], "ID", false, Ok((&[one, &digest], true)));
        check(&[one, two], "ID", false, Err(()));
        check(&[other, &digest], "ID", false, Err(()));
        check(&[other, &digest], "ID", true, Ok((&[other, &digest], true)));
        check(&[], "ID", false, Ok((&[], true)));
    }

    #[test]
    fn an_image_that_runs_stays() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let id = images::testing::image(&store, "a", &["a"]);
        for name in ["one", "two"] {
            store.tag(&name.parse().unwrap(), &id).unwrap();
        }
        let layers = store.image(&id).unwrap().layers;
        let mut container = containers::testing::container("c", layers);
        container.image = Some(id);
        store.create_container(&container).unwrap();
        let lock = store.lock_container(&container.id).unwrap().unwrap();
        let short = container.id.short();
        let refused = |text: &str, force: bool| store.remove_image(text, force).unwrap_err().to_string();

        let words = format!("(cannot be forced) - image is being used by running container {short}");
        assert!(refused(&id.short(), true).contains(&words));
        assert!(!store.remove_image("two", false).unwrap().untagged.is_empty());
        let words = format!(
            "unable to remove repository reference \"one\" (must force) - container {short} is using"
        );
        assert!(refused("one", false).contains(&words), "{}", refused("one", false));
        assert_eq!(store.remove_images(&[id], &|_| true).unwrap(), ImagesRemoved::default());
        let forced = store.remove_image("one", true).unwrap();
        assert_eq!((forced.untagged.len(), forced.deleted), (1, None));
        assert!(store.image(&id).is_ok());

        drop(lock);
        let words = format!("(must be forced) - image is being used by stopped container {short}");
        assert!(refused(&id.short(), false).contains(&words));
        assert_eq!(store.remove_image(&id.short(), true).unwrap().deleted, Some(id));
        assert!(store.container_view(&container).is_ok());
    }

    #[test]
    fn several_images_go_in_one_sweep_and_what_is_freed_is_measured() {
        let directory = tempfile::tempdir().unwrap();
        let ids = {
            let store = testing::open(directory.path());
            let ids = ["x", "yy"].map(|text| images::testing::image(&store, text, &[text, "same"]));
            store.tag(&"kept".parse().unwrap(), &ids[1]).unwrap();
            ids
        };
        let store = testing::open(directory.path());
        let removed = store.remove_images(&ids, &<[Reference]>::is_empty).unwrap();
        assert_eq!((removed.removals.len(), removed.deferred), (1, false));
        assert_eq!(removed.removals[0].deleted, Some(ids[0]));
        assert_eq!(removed.removals[0].deleted_layers.len(), 2);
        // The files x and same, the descriptions of two layers, the config.
        assert!(removed.freed > 5, "{}", removed.freed);
        assert!(store.image(&ids[1]).is_ok());
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
