//! The images of the store as repositories that can be pulled from, though nobody pushed them.
//!
//! The name decides the repository: `docker.io/library/flask:1`, written `flask:1`, is in `flask` and in
//! `library/flask`; of any other name the host does not count, so that `localhost:5000/x/y:1` is in `x/y`. Where
//! two names come to the same, docker.io's counts, then the first in their order. An image has the manifest that
//! `push` would give it: its own where it came with one, else one of layers packed with gzip.
//! Not here: what is made of layers and kept (`local_cache`), repositories that are pushed to (`store`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::local_cache::MadeBlobs;
use super::search::DESCRIPTION;
use super::source::Source;
use crate::content::{
    Blob, ContentError, Layer, ManifestOptions, Packing, config_blob, manifest_blob, pack_layer, pack_layers,
};
use crate::image::{Digest, ImageId, Reference, SnapshotId};
use crate::layer::Compression;
use crate::registry::push::PushError;
use crate::registry::push::as_it_came;
use crate::store::{
    ContentDigest, ManifestName, OpenBlob, RepositoryName, Store, StoreError, StoreOptions, StoredManifest,
    TagName,
};

/// How layers are packed: as `push` does it where nothing else is said.
const PACKING: Packing = Packing { compression: Compression::Gzip, level: None, force: false };

/// The images of a store, to be pulled.
#[derive(Debug)]
pub struct LocalImages {
    root: PathBuf,
    options: StoreOptions,
    made: MadeBlobs,
    /// Held while an image is packed: one after the other, each on all processors.
    packing: Mutex<()>,
    /// Files of the store whose bytes were compared with their digest.
    checked: Mutex<HashMap<Digest, Stamp>>,
    /// Has the lease of what was made.
    _store: Store,
}

/// What a file looked like: device, inode, size, time of change.
type Stamp = (u64, u64, u64, i64, i64);

/// One repository.
#[derive(Debug, Default)]
struct LocalRepository {
    tags: BTreeMap<String, ImageId>,
    /// Those with a tag here, and those that are here by a digest alone.
    images: BTreeSet<ImageId>,
    /// Whether it is listed; one of `library/` is known by its short name.
    listed: bool,
}

/// An image as manifest and blobs.
struct Parts {
    manifest: Blob,
    /// Config and layers.
    blobs: Vec<Blob>,
}

impl LocalImages {
    /// Opens the images of a store; of blobs that must be made, so many bytes are kept.
    pub fn open(root: &std::path::Path, options: StoreOptions, keep: u64) -> Result<LocalImages, StoreError> {
        let store = Store::open(root, options)?;
        Ok(LocalImages {
            root: root.to_owned(),
            options,
            made: MadeBlobs::new(&store, keep)?,
            packing: Mutex::default(),
            checked: Mutex::default(),
            _store: store,
        })
    }

    /// Opens the store for one request: what it knows and holds is of now.
    fn store(&self) -> Result<Store, StoreError> {
        Store::open(&self.root, self.options)
    }

    fn images_of(&self, store: &Store, name: &RepositoryName) -> Result<Option<LocalRepository>, StoreError> {
        Ok(repositories(store.tags()?).remove(name.as_str()))
    }

    /// Returns the parts of an image; `None` where it is gone.
    fn parts(&self, store: &Store, id: &ImageId) -> Result<Option<Parts>, StoreError> {
        if let Some(parts) = self.known_parts(store, id)? {
            return Ok(Some(parts));
        }
        let _alone = self.packing.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing of it goes while it is packed.
        store.hold()?;
        let image = match store.image(id) {
            Ok(image) => image,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        // An image may have a layer twice.
        let unique: BTreeSet<&SnapshotId> = image.layers.iter().collect();
        let found: Result<Vec<Layer>, _> = unique.iter().map(|layer| Layer::find(store, id, layer)).collect();
        let found = found.map_err(of_content)?;
        let packed = pack_layers(store, &found, &PACKING, self.made.directory()).map_err(of_content)?;
        for blob in &packed {
            if let Some(path) = blob.made_file() {
                self.made.take(path, &blob.digest, blob.size).map_err(of_content)?;
            }
        }
        let by_id: BTreeMap<&SnapshotId, &Blob> = unique.into_iter().zip(&packed).collect();
        let layers = image.layers.iter().map(|layer| by_id[layer].clone()).collect();
        let config = config_blob(&image, &ManifestOptions::default());
        Ok(Some(Parts::new(config, layers)))
    }

    /// Returns the parts of an image if nothing must be packed to know them; `None` where it is gone, too.
    fn known_parts(&self, store: &Store, id: &ImageId) -> Result<Option<Parts>, StoreError> {
        let image = match store.image(id) {
            Ok(image) => image,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        if let Some((manifest, config, layers)) = as_it_came(store, id).map_err(of_push)? {
            let blobs = std::iter::once(config).chain(layers).collect();
            return Ok(Some(Parts { manifest, blobs }));
        }
        let mut layers = Vec::with_capacity(image.layers.len());
        for layer in &image.layers {
            let layer = Layer::find(store, id, layer).map_err(of_content)?;
            let at_hand = layer.blob_at_hand(store)
                || store
                    .packed(&layer.id)?
                    .iter()
                    .any(|p| (p.compression, p.level) == (PACKING.compression, PACKING.level));
            if !at_hand {
                return Ok(None);
            }
            layers.push(pack_layer(store, &layer, &PACKING, self.made.directory()).map_err(of_content)?);
        }
        let config = config_blob(&image, &ManifestOptions::default());
        Ok(Some(Parts::new(config, layers)))
    }

    fn open_blob(&self, store: &Store, blob: &Blob) -> Result<OpenBlob, StoreError> {
        let file = match blob.stored() {
            Some(digest) => self.open_stored(store, digest)?,
            None => {
                // What it is made of stays until it is made.
                store.hold()?;
                self.made.open(store, blob).map_err(of_content)?
            }
        };
        Ok(OpenBlob { file, size: blob.size })
    }

    /// Opens a blob of the store, whose bytes are compared with its digest once.
    fn open_stored(&self, store: &Store, digest: &Digest) -> Result<File, StoreError> {
        let unreadable = |why: std::io::Error| broken(format!("blob {digest}"), &why);
        let reader = store.open_blob(digest)?;
        let file = reader.file().try_clone().map_err(unreadable)?;
        let meta = file.metadata().map_err(unreadable)?;
        let stamp = (meta.dev(), meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec());
        let checked = || self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked().get(digest) != Some(&stamp) {
            reader.check().map_err(unreadable)?;
            checked().insert(*digest, stamp);
        }
        Ok(file)
    }
}

impl Parts {
    fn new(config: Blob, layers: Vec<Blob>) -> Parts {
        let manifest = manifest_blob(&config, &layers, &ManifestOptions::default());
        let blobs = std::iter::once(config).chain(layers).collect();
        Parts { manifest, blobs }
    }
}

impl Source for LocalImages {
    fn repositories(&self) -> Result<Vec<RepositoryName>, StoreError> {
        let all = repositories(self.store()?.tags()?);
        let listed = all.iter().filter(|(_, repository)| repository.listed);
        Ok(listed.filter_map(|(name, _)| name.parse().ok()).collect())
    }

    fn tags(&self, name: &RepositoryName) -> Result<Option<Vec<TagName>>, StoreError> {
        let found = self.images_of(&self.store()?, name)?;
        Ok(found.map(|found| found.tags.keys().filter_map(|tag| tag.parse().ok()).collect()))
    }

    fn manifest(
        &self,
        name: &RepositoryName,
        which: &ManifestName,
    ) -> Result<Option<StoredManifest>, StoreError> {
        let store = self.store()?;
        let Some(repository) = self.images_of(&store, name)? else { return Ok(None) };
        let found = match which {
            ManifestName::Tag(tag) => match repository.tags.get(tag.as_str()) {
                Some(id) => self.parts(&store, id)?,
                None => None,
            },
            ManifestName::Digest(wanted) => {
                let mut found = None;
                for id in &repository.images {
                    // A digest that somebody was told is one of an image that was packed.
                    let parts = self.known_parts(&store, id)?;
                    found = parts.filter(|parts| ContentDigest::from(parts.manifest.digest) == *wanted);
                    if found.is_some() {
                        break;
                    }
                }
                found
            }
        };
        let Some(parts) = found else { return Ok(None) };
        let mut bytes = Vec::new();
        parts.manifest.write(&store, &mut bytes).map_err(of_content)?;
        Ok(Some(StoredManifest {
            digest: parts.manifest.digest.into(),
            media_type: parts.manifest.media_type.to_string(),
            bytes,
        }))
    }

    fn blob(&self, name: &RepositoryName, digest: &ContentDigest) -> Result<Option<OpenBlob>, StoreError> {
        let store = self.store()?;
        let Some(repository) = self.images_of(&store, name)? else { return Ok(None) };
        for id in &repository.images {
            let Some(parts) = self.known_parts(&store, id)? else { continue };
            if let Some(blob) = parts.blobs.iter().find(|blob| ContentDigest::from(blob.digest) == *digest) {
                return self.open_blob(&store, blob).map(Some);
            }
        }
        Ok(None)
    }

    fn description(&self, name: &RepositoryName) -> Result<Option<String>, StoreError> {
        let store = self.store()?;
        let Some(repository) = self.images_of(&store, name)? else { return Ok(None) };
        let id = repository.tags.get("latest").or(repository.tags.values().next_back());
        let Some(id) = id else { return Ok(None) };
        match store.image(id) {
            Ok(image) => Ok(image.config.config.labels.get(DESCRIPTION).cloned()),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Sorts the names of images into repositories.
fn repositories(names: Vec<(Reference, ImageId)>) -> BTreeMap<String, LocalRepository> {
    let (of_docker, others): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|(name, _)| name.domain() == "docker.io");
    let mut all: BTreeMap<String, LocalRepository> = BTreeMap::new();
    for (name, id) in of_docker.into_iter().chain(others) {
        let short = name.path().strip_prefix("library/").filter(|_| name.domain() == "docker.io");
        for repository in std::iter::once(name.path()).chain(short) {
            let is_alias = short.is_some() && short != Some(repository);
            let repository = all.entry(repository.to_owned()).or_default();
            repository.listed |= !is_alias;
            repository.images.insert(id);
            if let (None, Some(tag)) = (name.digest(), name.tag()) {
                repository.tags.entry(tag.to_owned()).or_insert(id);
            }
        }
    }
    all
}

fn broken(entry: String, why: &dyn std::error::Error) -> StoreError {
    StoreError::Broken { entry, why: crate::report::chain(why) }
}

fn of_content(error: ContentError) -> StoreError {
    match error {
        ContentError::Store(error) => error,
        other => broken("an image".to_owned(), &other),
    }
}

fn of_push(error: PushError) -> StoreError {
    match error {
        PushError::Store(error) => error,
        PushError::Content(error) => of_content(error),
        other => broken("an image".to_owned(), &other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_decide_the_repository() {
        let id = |text: &str| ImageId(Digest::of(text));
        let names = [
            ("flask:1", "a"),
            ("localhost:5000/x/y:1", "b"),
            ("localhost:5000/flask:1", "c"),
            ("localhost:5000/flask:2", "d"),
            ("me/app", "e"),
            ("r.example.com/me/app:latest", "f"),
            ("q.example.com/z:1", "g"),
            ("r.example.com/z:1", "h"),
            ("debian@sha256:0000000000000000000000000000000000000000000000000000000000000000", "i"),
        ];
        let names =
            names.map(|(name, image)| (name.parse::<Reference>().unwrap().with_default_tag(), id(image)));
        let mut names = names.to_vec();
        names.sort();
        let all = repositories(names);
        let check = |repository: &str, tag: &str, expect: Option<&str>| {
            let found = all.get(repository).and_then(|found| found.tags.get(tag));
            assert_eq!(found, expect.map(id).as_ref(), "{repository}:{tag}");
        };
        check("flask", "1", Some("a"));
        check("library/flask", "1", Some("a"));
        check("flask", "2", Some("d"));
        check("library/flask", "2", None);
        check("x/y", "1", Some("b"));
        check("me/app", "latest", Some("e"));
        check("z", "1", Some("g"));
        assert!(all["debian"].tags.is_empty() && all["debian"].images.contains(&id("i")));
        assert_eq!(all["flask"].images.len(), 3);
        let listed: Vec<&String> =
            all.iter().filter(|(_, found)| found.listed).map(|(name, _)| name).collect();
        assert_eq!(listed, ["debian", "flask", "me/app", "x/y", "z"]);
    }
}
