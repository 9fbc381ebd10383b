//! An image in a directory of the OCI image layout becomes one of the store.
//!
//! The format: image-spec, "OCI Image Layout". Nothing in it is trusted: every blob is read through the
//! directory as its root and compared with the digest and the size that name it. Not here: archives of
//! layouts, and giving names.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::image::{
    Descriptor, DiffId, Digest, ImageConfig, ImageId, ImageIndex, ImageManifest, Platform, SnapshotId,
};
use crate::store::{ImageRecord, Store};
use crate::sys::RootDir;

use super::ArchiveError;
use crate::content::{self, Document, ExpectedLayer, METADATA_LIMIT};

/// How deep indexes may lie in each other.
const MAX_NESTING: usize = 4;
/// The name that an index gives to one of its manifests: image-spec, "Annotations".
const NAME: &str = "org.opencontainers.image.ref.name";

/// Stores the image that `reference` names: a tag, a digest, or, empty, the only image or `latest`.
pub fn load_layout(
    store: &Store,
    directory: &Path,
    reference: &str,
    platform: &Platform,
) -> Result<ImageId, ArchiveError> {
    let layout = Layout::open(directory)?;
    let (manifest_bytes, manifest) = layout.find(reference, platform)?;
    let config_bytes = layout.blob(manifest.config())?;
    let config: ImageConfig = serde_json::from_slice(&config_bytes)
        .map_err(|e| layout.bad(format!("the config {} cannot be read: {e}", manifest.config().digest())))?;
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers().len() {
        return Err(layout.bad(format!(
            "the config names {} layers, and the manifest {}",
            diff_ids.len(),
            manifest.layers().len()
        )));
    }
    let mut layers: Vec<SnapshotId> = Vec::with_capacity(diff_ids.len());
    for (descriptor, diff_id) in manifest.layers().iter().zip(diff_ids) {
        layers.push(layout.layer(store, descriptor, *diff_id)?);
    }
    let record = ImageRecord { config: config_bytes, manifest: Some(manifest_bytes), layers };
    Ok(store.put_image(&record)?)
}

struct Layout {
    path: PathBuf,
    root: RootDir,
}

impl Layout {
    fn open(path: &Path) -> Result<Layout, ArchiveError> {
        let bad = |why: String| ArchiveError::Layout { path: path.to_owned(), why };
        let root = RootDir::open(path).map_err(|e| bad(format!("it cannot be opened: {e}")))?;
        let layout = Layout { path: path.to_owned(), root };
        layout.small(Path::new("oci-layout"), METADATA_LIMIT)?;
        Ok(layout)
    }

    fn bad(&self, why: String) -> ArchiveError {
        ArchiveError::Layout { path: self.path.clone(), why }
    }

    fn small(&self, path: &Path, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        self.root
            .read_small(path, limit as usize)
            .map_err(|e| self.bad(format!("its file `{}` cannot be read: {e}", path.display())))
    }

    fn digest(&self, descriptor: &Descriptor) -> Result<Digest, ArchiveError> {
        let text = descriptor.digest().to_string();
        text.parse().map_err(|e| self.bad(format!("the digest `{text}` is not one: {e}")))
    }

    fn blob_path(digest: &Digest) -> PathBuf {
        Path::new("blobs/sha256").join(digest.hex())
    }

    /// Reads a small blob, compared with its descriptor.
    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ArchiveError> {
        let digest = self.digest(descriptor)?;
        let bytes = self.small(&Layout::blob_path(&digest), METADATA_LIMIT)?;
        if Digest::of(&bytes) != digest || bytes.len() as u64 != descriptor.size() {
            return Err(self.bad(format!("its blob {digest} has other bytes than its name says")));
        }
        Ok(bytes)
    }

    fn index(&self, bytes: &[u8]) -> Result<ImageIndex, ArchiveError> {
        serde_json::from_slice(bytes).map_err(|e| self.bad(format!("its index cannot be read: {e}")))
    }

    /// Finds the manifest that is meant.
    fn find(&self, reference: &str, platform: &Platform) -> Result<(Vec<u8>, ImageManifest), ArchiveError> {
        let index = self.index(&self.small(Path::new("index.json"), METADATA_LIMIT)?)?;
        let name = |descriptor: &Descriptor| {
            let annotations = descriptor.annotations().as_ref()?;
            annotations.get(NAME).cloned()
        };
        let chosen: Vec<&Descriptor> = match reference {
            "" => {
                let latest: Vec<&Descriptor> = index
                    .manifests()
                    .iter()
                    .filter(|d| name(d).is_some_and(|n| names(&n, "latest")))
                    .collect();
                if latest.is_empty() { index.manifests().iter().collect() } else { latest }
            }
            digest if digest.contains(':') => {
                index.manifests().iter().filter(|d| d.digest().to_string() == digest).collect()
            }
            tag => index.manifests().iter().filter(|d| name(d).is_some_and(|n| names(&n, tag))).collect(),
        };
        if chosen.is_empty() {
            let all: Vec<String> = index.manifests().iter().filter_map(name).collect();
            let there = if all.is_empty() { "no names".to_owned() } else { all.join(", ") };
            return Err(self.bad(format!("it has no image `{reference}`; it has {there}")));
        }
        self.choose(&chosen, platform, 0)
    }

    fn choose(
        &self,
        descriptors: &[&Descriptor],
        platform: &Platform,
        depth: usize,
    ) -> Result<(Vec<u8>, ImageManifest), ArchiveError> {
        if depth > MAX_NESTING {
            return Err(self.bad("its indexes lie too deep in each other".to_owned()));
        }
        let Some(descriptor) = content::choose(descriptors.iter().copied(), platform) else {
            return Err(self.bad(format!("it has no image for {platform}")));
        };
        let bytes = self.blob(descriptor)?;
        let kind = descriptor.media_type().to_string();
        match content::read_document(&bytes, Some(&kind)).map_err(|e| self.bad(e.to_string()))? {
            Document::Index(index) => {
                self.choose(&index.manifests().iter().collect::<Vec<_>>(), platform, depth + 1)
            }
            Document::Manifest(manifest) => Ok((bytes, *manifest)),
        }
    }

    /// Unpacks a layer, unless the store has it.
    fn layer(
        &self,
        store: &Store,
        descriptor: &Descriptor,
        diff_id: DiffId,
    ) -> Result<SnapshotId, ArchiveError> {
        let digest = self.digest(descriptor)?;
        let size = descriptor.size();
        let path = Layout::blob_path(&digest);
        let file = self
            .root
            // A pipe in the place of a blob is not waited for.
            .open_at(&path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())
            .map_err(|e| self.bad(format!("its blob {digest} cannot be opened: {e}")))?;
        let file = File::from(file);
        let meta = file.metadata().map_err(|e| self.bad(format!("its blob {digest} cannot be read: {e}")))?;
        if !meta.is_file() {
            return Err(self.bad(format!("its blob {digest} is no file")));
        }
        let expected = ExpectedLayer { digest, size, diff_id };
        if meta.len() == size
            && let Some(there) = content::already_there(store, &expected)?
        {
            return Ok(there);
        }
        // One more than it may be, so that a longer blob is not taken for one that was cut.
        Ok(content::receive_layer(store, file.take(size.saturating_add(1)), &expected)?)
    }
}

/// Tells whether a name of an index, `latest` or `example.org/app:latest`, has this tag.
fn names(name: &str, tag: &str) -> bool {
    name == tag || name.rsplit_once(':').is_some_and(|(_, last)| last == tag)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::store::testing;

    /// Makes a layout of one image with one layer; returns the layer's digest and size.
    fn layout(path: &Path, blob: &[u8], named: Option<(&str, u64)>, diff_id: &Digest) {
        let blobs = path.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let put = |bytes: &[u8]| {
            let digest = Digest::of(bytes);
            fs::write(blobs.join(digest.hex()), bytes).unwrap();
            (digest.to_string(), bytes.len() as u64)
        };
        let part = |kind: &str, (digest, size): (String, u64)| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": size});
        let own = put(blob);
        let named = named.map_or(own, |(digest, size)| (digest.to_owned(), size));
        let rootfs = json!({"type": "layers", "diff_ids": [diff_id.to_string()]});
        let config = json!({"architecture": "amd64", "os": "linux", "rootfs": rootfs});
        let config = part("config.v1+json", put(config.to_string().as_bytes()));
        let layer = part("layer.v1.tar", named);
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        let manifest = part("manifest.v1+json", put(manifest.to_string().as_bytes()));
        fs::write(path.join("oci-layout"), "{}").unwrap();
        fs::write(path.join("index.json"), json!({"schemaVersion": 2, "manifests": [manifest]}).to_string())
            .unwrap();
    }

    #[test]
    fn a_layer_of_the_store_is_not_had_by_naming_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(&directory.path().join("store"));
        let path = directory.path().join("layout");
        let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
        let load = || load_layout(&store, &path, "", &platform).map_err(|error| error.to_string());
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(6);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, "secret", &b"secret"[..]).unwrap();
        let tar = tar.into_inner().unwrap();
        let diff_id = Digest::of(&tar);
        layout(&path, &tar, None, &diff_id);
        load().unwrap();
        load().unwrap();
        let absent = Digest::of(b"absent").to_string();
        let other = Digest::of(b"other");
        for (blob, named, expect) in [
            (&b"other"[..], Some((absent.as_str(), 5)), "cannot be opened"),
            (b"other", None, ""),
            (b"other", Some((diff_id.to_string().as_str(), tar.len() as u64)), "cannot be opened"),
            (&tar, Some((diff_id.to_string().as_str(), 7)), ""),
            (b"other", Some((other.to_string().as_str(), 7)), ""),
        ] {
            fs::remove_dir_all(&path).unwrap();
            layout(&path, blob, named, &diff_id);
            let error = load().unwrap_err();
            assert!(error.contains(expect), "{named:?}: {error}");
        }
    }
}
