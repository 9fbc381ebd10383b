//! Images: a config blob, its layers here, and the manifest it came with.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::image::{Digest, ImageConfig, ImageId, Reference, SnapshotId};

use super::error::{failed, names_in, read_if_there, whole_message};
use super::{Store, StoreError};

/// The most bytes of a config or a manifest that are read (the distribution-spec advises 4 MiB).
const METADATA_LIMIT: u64 = 8 << 20;

/// What is given to store an image.
#[derive(Debug, Clone)]
pub struct ImageRecord {
    /// The config blob; its digest becomes the image id.
    pub config: Vec<u8>,
    /// The manifest as it came, for an image that was pulled or loaded.
    pub manifest: Option<Vec<u8>>,
    /// Lowest first, one for every DiffID of the config.
    pub layers: Vec<SnapshotId>,
}

/// An image as it is stored: whole, checked against its id.
#[derive(Debug, Clone)]
pub struct StoredImage {
    pub id: ImageId,
    pub config: ImageConfig,
    /// The bytes whose digest is the id.
    pub config_bytes: Vec<u8>,
    pub manifest: Option<Vec<u8>>,
    pub layers: Vec<SnapshotId>,
    /// When it came into the store.
    pub stored: Timestamp,
}

/// One image of the list, which may be broken.
#[derive(Debug)]
pub struct ListedImage {
    pub id: ImageId,
    /// All its names, sorted.
    pub names: Vec<Reference>,
    pub image: Result<StoredImage, StoreError>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ImageFile {
    pub layers: Vec<SnapshotId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    stored: String,
}

impl Store {
    /// Stores an image; writes nothing where it is there already. Its layers must have digests.
    pub fn put_image(&self, record: &ImageRecord) -> Result<ImageId, StoreError> {
        self.put_image_as(record, &[])
    }

    /// Stores an image and gives it names, which no removal can come between.
    pub fn put_image_as(&self, record: &ImageRecord, names: &[Reference]) -> Result<ImageId, StoreError> {
        self.hold()?;
        let id = ImageId(Digest::of(&record.config));
        let config: ImageConfig = serde_json::from_slice(&record.config)
            .map_err(|e| StoreError::broken(format!("the config of image {id}"), e))?;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != record.layers.len() {
            let why = format!("its config names {} layers, not {}", diff_ids.len(), record.layers.len());
            return Err(StoreError::broken(format!("image {id}"), why));
        }
        for (layer, diff_id) in record.layers.iter().zip(diff_ids) {
            if !self.has_snapshot(layer)? {
                return Err(StoreError::NoSnapshot(layer.clone()));
            }
            if self.digests(layer)?.is_none_or(|digests| digests.diff_id != *diff_id) {
                let why = format!("layer {layer} is not the {diff_id} of its config");
                return Err(StoreError::broken(format!("image {id}"), why));
            }
        }
        self.put_blob(&record.config)?;
        let manifest = record.manifest.as_ref().map(|bytes| self.put_blob(bytes)).transpose()?;

        let _lock = self.names_lock()?;
        let path = self.paths.image(&id);
        let there = read_if_there(&path)?.and_then(|b| serde_json::from_slice::<ImageFile>(&b).ok());
        // Kept as it is while good: a second build writes nothing.
        let good = match &there {
            None => false,
            Some(file) => {
                (file.layers == record.layers || self.all_there(&file.layers)?)
                    && (manifest.is_none() || manifest == file.manifest)
            }
        };
        if !good {
            let manifest = manifest.or(there.and_then(|file| file.manifest));
            let file =
                ImageFile { layers: record.layers.clone(), manifest, stored: Timestamp::now().to_string() };
            self.publish(&path, &serde_json::to_vec(&file).expect("strings"))?;
        }
        if !names.is_empty() {
            // A name is taken from the image it had only for one that a power cut cannot tear.
            self.sync()?;
        }
        for name in names {
            self.set_reference(name, &id)?;
        }
        Ok(id)
    }

    /// Returns an image, checked against its id; its layers are there.
    ///
    /// Errors: [`StoreError::NotFound`]; [`StoreError::Broken`] where a part is missing or
    /// not what it should be.
    pub fn image(&self, id: &ImageId) -> Result<StoredImage, StoreError> {
        if let Some(image) = self.known_image(id) {
            return Ok(image);
        }
        let Some(bytes) = read_if_there(&self.paths.image(id))? else {
            return Err(StoreError::NotFound(id.to_string()));
        };
        let broken = |why: &dyn std::fmt::Display| StoreError::broken(format!("image {}", id.short()), why);
        let file: ImageFile = serde_json::from_slice(&bytes).map_err(|e| broken(&e))?;
        let config_bytes = self.read_blob(&id.0, METADATA_LIMIT).map_err(|e| broken(&whole_message(&e)))?;
        let config: ImageConfig = serde_json::from_slice(&config_bytes).map_err(|e| broken(&e))?;
        let manifest = match &file.manifest {
            None => None,
            Some(digest) => {
                Some(self.read_blob(digest, METADATA_LIMIT).map_err(|e| broken(&whole_message(&e)))?)
            }
        };
        if file.layers.len() != config.rootfs.diff_ids.len() {
            return Err(broken(&"it has not the layers its config names"));
        }
        for (layer, diff_id) in file.layers.iter().zip(&config.rootfs.diff_ids) {
            if let Some(why) = self.recover(layer, Some(diff_id))? {
                return Err(broken(&why));
            }
        }
        let stored = file.stored.parse().map_err(|e: jiff::Error| broken(&e))?;
        let image = StoredImage { id: *id, config, config_bytes, manifest, layers: file.layers, stored };
        self.know_image(&image);
        Ok(image)
    }

    /// Tells whether an image of this id is in the store, whole or not.
    pub fn has_image(&self, id: &ImageId) -> bool {
        self.paths.image(id).exists()
    }

    /// Lists all images, sorted by id; a broken one is listed with its error.
    pub fn images(&self) -> Result<Vec<ListedImage>, StoreError> {
        let tags = self.tags()?;
        let mut images = Vec::new();
        for id in self.image_ids()? {
            let names = tags.iter().filter(|(_, image)| *image == id).map(|(name, _)| name.clone()).collect();
            match self.image(&id) {
                Err(e) if e.is_not_found() => {}
                image => images.push(ListedImage { id, names, image }),
            }
        }
        Ok(images)
    }

    /// Returns the size of an image's files on disk, in bytes, as `images` shows it.
    pub fn image_size(&self, image: &StoredImage) -> Result<u64, StoreError> {
        let mut size = 0u64;
        for layer in &image.layers {
            size = size.saturating_add(self.digests(layer)?.map_or(0, |digests| digests.file_bytes));
        }
        Ok(size)
    }

    pub(super) fn image_ids(&self) -> Result<Vec<ImageId>, StoreError> {
        let names = names_in(&self.paths.images)?;
        Ok(names.iter().filter_map(|name| Digest::from_hex(name).ok()).map(ImageId).collect())
    }

    pub(super) fn names_lock(&self) -> Result<crate::sys::lock::FileLock, StoreError> {
        let path = &self.paths.names_lock;
        crate::sys::lock::FileLock::exclusive(path).map_err(failed("lock", path))
    }

    fn all_there(&self, layers: &[SnapshotId]) -> Result<bool, StoreError> {
        for layer in layers {
            if !self.has_snapshot(layer)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::super::testing::layer;
    use super::*;
    use crate::image::Platform;
    use crate::layer::{DigestOptions, Times, digest_layer};
    use crate::sys::root_dir::RootDir;

    /// Stores an image of layers with one file each, really digested.
    pub fn image(store: &Store, author: &str, files: &[&str]) -> ImageId {
        let layers: Vec<SnapshotId> = files
            .iter()
            .map(|name| {
                let id = layer(store, name, name);
                let upper = RootDir::open(&store.snapshot_dir(&id)).unwrap();
                let options =
                    DigestOptions { xattrs: store.options.xattrs, times: Times::Ignore, below: None };
                store.set_digests(&id, &digest_layer(&upper, &options).unwrap()).unwrap();
                id
            })
            .collect();
        let config = config(store, author, &layers);
        store.put_image(&ImageRecord { config, manifest: None, layers }).unwrap()
    }

    /// Makes the config of an image of these layers; the author tells configs apart.
    pub fn config(store: &Store, author: &str, layers: &[SnapshotId]) -> Vec<u8> {
        let mut config = ImageConfig::empty(&Platform::host());
        config.author = Some(author.to_owned());
        config.rootfs.diff_ids =
            layers.iter().map(|id| store.digests(id).unwrap().unwrap().diff_id).collect();
        config.to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing as base;
    use super::*;

    #[test]
    fn an_image_comes_back_as_it_was_put() {
        let directory = tempfile::tempdir().unwrap();
        let store = base::open(directory.path());
        let id = testing::image(&store, "me", &["a", "b"]);
        let image = store.image(&id).unwrap();
        assert_eq!(image.config.author.as_deref(), Some("me"));
        assert_eq!(Digest::of(&image.config_bytes), id.0);
        assert_eq!(store.image_size(&image).unwrap(), 2);
        assert_eq!(store.images().unwrap().len(), 1);

        // Again: nothing is written. With a manifest: it is added, and then kept.
        let stored = image.stored;
        let record =
            ImageRecord { config: image.config_bytes.clone(), manifest: None, layers: image.layers.clone() };
        assert_eq!(store.put_image(&record).unwrap(), id);
        assert_eq!(store.image(&id).unwrap().stored, stored);
        let with = ImageRecord { manifest: Some(b"{}".to_vec()), ..record.clone() };
        store.put_image(&with).unwrap();
        store.put_image(&record).unwrap();
        assert_eq!(store.image(&id).unwrap().manifest.as_deref(), Some(&b"{}"[..]));
    }

    #[test]
    fn refuses_layers_that_are_not_those_of_the_config() {
        let directory = tempfile::tempdir().unwrap();
        let store = base::open(directory.path());
        let image = store.image(&testing::image(&store, "me", &["a", "b"])).unwrap();
        let put = |layers: Vec<SnapshotId>, config: &[u8]| {
            store.put_image(&ImageRecord { config: config.to_vec(), manifest: None, layers }).unwrap_err()
        };
        let swapped = vec![image.layers[1].clone(), image.layers[0].clone()];
        assert!(matches!(put(swapped, &image.config_bytes), StoreError::Broken { .. }));
        assert!(matches!(put(vec![], &image.config_bytes), StoreError::Broken { .. }));
        assert!(matches!(put(vec![], b"{"), StoreError::Broken { .. }));
        let gone = vec![image.layers[0].clone(), SnapshotId::from_bits(1)];
        assert!(matches!(put(gone, &image.config_bytes), StoreError::NoSnapshot(_)));
    }

    #[test]
    fn a_broken_image_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let store = base::open(directory.path());
        let id = testing::image(&store, "me", &["a"]);
        let layer = store.image(&id).unwrap().layers[0].clone();
        std::fs::remove_dir_all(store.paths.snapshot(&layer)).unwrap();
        let error = store.image(&id).unwrap_err().to_string();
        assert!(error.contains("is broken: layer") && error.contains("is gone"), "{error}");
        let id = testing::image(&store, "other", &["b"]);
        std::fs::write(store.paths.blob(&id.0), "{}").unwrap();
        assert!(matches!(store.image(&id), Err(StoreError::Broken { .. })));
        let id = testing::image(&store, "third", &["c"]);
        std::fs::write(store.paths.image(&id), "").unwrap();
        assert!(matches!(store.image(&id), Err(StoreError::Broken { .. })));
        assert_eq!(store.images().unwrap().iter().filter(|i| i.image.is_err()).count(), 3);
    }
}
