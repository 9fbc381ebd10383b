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
    Descriptor, DiffId, Digest, ImageConfig, ImageId, ImageIndex, ImageManifest, MediaType, Platform,
    SnapshotId,
};
use crate::store::{ImageRecord, Store};
use crate::sys::RootDir;

use super::ArchiveError;
use super::layer::{Expected, unpack_layer};

/// The most bytes of an index, a manifest or a config (the distribution-spec advises 4 MiB).
const METADATA_LIMIT: u64 = 8 << 20;
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
        let is_for = |descriptor: &Descriptor| match descriptor.platform() {
            None => true,
            Some(p) => {
                p.os().to_string() == platform.os && p.architecture().to_string() == platform.architecture
            }
        };
        let exactly = |descriptor: &&&&Descriptor| {
            descriptor.platform().as_ref().is_some_and(|p| p.variant() == &platform.variant)
        };
        let fitting: Vec<&&Descriptor> = descriptors.iter().filter(|d| is_for(d)).collect();
        let Some(descriptor) = fitting.iter().find(exactly).or(fitting.first()) else {
            return Err(self.bad(format!("it has no image for {platform}")));
        };
        let bytes = self.blob(descriptor)?;
        match descriptor.media_type() {
            MediaType::ImageIndex => {
                let index = self.index(&bytes)?;
                self.choose(&index.manifests().iter().collect::<Vec<_>>(), platform, depth + 1)
            }
            // Docker's list has the same form.
            MediaType::Other(kind) if kind == "application/vnd.docker.distribution.manifest.list.v2+json" => {
                let index = self.index(&bytes)?;
                self.choose(&index.manifests().iter().collect::<Vec<_>>(), platform, depth + 1)
            }
            _ => {
                let manifest = serde_json::from_slice(&bytes).map_err(|e| {
                    self.bad(format!("the manifest {} cannot be read: {e}", descriptor.digest()))
                })?;
                Ok((bytes, manifest))
            }
        }
    }

    /// Unpacks a layer, unless the store has it.
    fn layer(
        &self,
        store: &Store,
        descriptor: &Descriptor,
        diff_id: DiffId,
    ) -> Result<SnapshotId, ArchiveError> {
        if let Some(there) = store.by_diff_id(&diff_id)? {
            return Ok(there);
        }
        let digest = self.digest(descriptor)?;
        let path = Layout::blob_path(&digest);
        let file = self
            .root
            // A pipe in the place of a blob is not waited for.
            .open_at(&path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())
            .map_err(|e| self.bad(format!("its blob {digest} cannot be opened: {e}")))?;
        let file = File::from(file);
        if !file.metadata().is_ok_and(|meta| meta.is_file()) {
            return Err(self.bad(format!("its blob {digest} is no file")));
        }
        let size = descriptor.size();
        // One more than it may be, so that a longer blob is not taken for one that was cut.
        unpack_layer(store, file.take(size.saturating_add(1)), &Expected { digest, size, diff_id })
    }
}

/// Tells whether a name of an index, `latest` or `example.org/app:latest`, has this tag.
fn names(name: &str, tag: &str) -> bool {
    name == tag || name.rsplit_once(':').is_some_and(|(_, last)| last == tag)
}
