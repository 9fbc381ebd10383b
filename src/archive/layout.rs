//! Images in the OCI image layout: in a directory or in a tar.
//!
//! The format: image-spec, "OCI Image Layout". Nothing in it is trusted: every blob is compared with the
//! digest and the size that name it. Not here: docker's form of archive (`docker`), unpacking the layers
//! (`load`).

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

use crate::content::{self, Document, METADATA_LIMIT};
use crate::image::{Descriptor, Digest, ImageId, ImageIndex, ImageManifest, Platform, Reference};
use crate::store::Store;

use super::ArchiveError;
use super::files::{DirectoryFiles, Files, bad};
use super::planned::{PlannedImage, PlannedLayer, checked_config};

/// How deep indexes may lie in each other.
const MAX_NESTING: usize = 4;
/// The name that an index gives to one of its manifests: image-spec, "Annotations".
const NAME: &str = "org.opencontainers.image.ref.name";
/// The whole name, as containerd, docker and podman write it.
const WHOLE_NAME: &str = "io.containerd.image.name";
/// What marks a manifest as one about another manifest, and no image (BuildKit).
const ABOUT: &str = "vnd.docker.reference.type";

/// Stores the image that `reference` names: a tag, a digest, or, empty, the only image or `latest`.
pub fn load_layout(
    store: &Store,
    directory: &Path,
    reference: &str,
    platform: &Platform,
) -> Result<ImageId, ArchiveError> {
    let of_directory = |error| match error {
        ArchiveError::Unusable(why) => ArchiveError::Layout { path: directory.to_owned(), why },
        error => error,
    };
    let load = || {
        let files = DirectoryFiles::open(directory).map_err(|e| bad(format!("it cannot be opened: {e}")))?;
        let layout = Layout::open(&files)?;
        let image = layout.find(reference, platform)?;
        let layers = super::load::receive(store, &files, &[&image], &|_| {})?;
        image.put(store, &layers)
    };
    load().map_err(of_directory)
}

/// A layout that is being read.
pub(super) struct Layout<'a> {
    files: &'a dyn Files,
    index: ImageIndex,
}

#[derive(Deserialize)]
struct Version {
    #[serde(default, rename = "imageLayoutVersion")]
    version: Option<String>,
}

impl<'a> Layout<'a> {
    /// Tells whether files are those of a layout.
    pub fn is_one(files: &dyn Files) -> Result<bool, ArchiveError> {
        Ok(files.open("oci-layout")?.is_some() && files.open("index.json")?.is_some())
    }

    /// Reads the version and the index.
    pub fn open(files: &'a dyn Files) -> Result<Layout<'a>, ArchiveError> {
        let small = |name: &str| -> Result<Vec<u8>, ArchiveError> {
            let bytes = files.small(name, METADATA_LIMIT)?;
            bytes.ok_or_else(|| bad(format!("its file `{name}` cannot be read: there is none")))
        };
        let version: Version = serde_json::from_slice(&small("oci-layout")?)
            .map_err(|e| bad(format!("its file `oci-layout` cannot be read: {e}")))?;
        if let Some(version) = version.version.filter(|version| !version.starts_with("1.")) {
            return Err(bad(format!("its layout has version `{}`, not 1", version.escape_debug())));
        }
        let of_index = |e| bad(format!("its file `index.json`: {e}"));
        match content::read_document(&small("index.json")?, None).map_err(of_index)? {
            Document::Index(index) => Ok(Layout { files, index: *index }),
            Document::Manifest(_) => Err(bad("its file `index.json` is no index")),
        }
    }

    /// Returns all its images with their names: of each that is there for several platforms, one.
    ///
    /// Without a platform an image that is there for only one is taken whatever that is, and of several
    /// the one for this machine.
    pub fn images(&self, platform: Option<&Platform>) -> Result<Vec<PlannedImage>, ArchiveError> {
        let mut groups: Vec<(Option<&str>, Vec<&Descriptor>)> = Vec::new();
        for entry in self.index.manifests().iter().filter(|entry| is_image(entry)) {
            let name = annotation(entry, WHOLE_NAME).or_else(|| annotation(entry, NAME));
            match groups.iter_mut().find(|(there, _)| *there == name) {
                Some((_, entries)) if entries.iter().all(|there| there.digest() != entry.digest()) => {
                    entries.push(entry);
                }
                Some(_) => {}
                None => groups.push((name, vec![entry])),
            }
        }
        let mut images: Vec<PlannedImage> = Vec::new();
        for (text, entries) in groups {
            let (name, tag_only) = match text {
                None => (None, None),
                Some(text) => name_of(text)?,
            };
            let chosen: Vec<&Descriptor> = match (for_different_platforms(&entries), text) {
                _ if entries.len() == 1 => entries,
                (true, _) => vec![choose(&entries, platform)?],
                (false, None) => entries,
                (false, Some(text)) => {
                    return Err(bad(format!("it has {} images of the name `{text}`", entries.len())));
                }
            };
            for entry in chosen {
                let mut image = self.image(entry, platform)?;
                image.names.extend(name.clone());
                image.tag_only.clone_from(&tag_only);
                image.add_to(&mut images);
            }
        }
        Ok(images)
    }

    /// Returns the digests of the configs of all images whose manifests are there.
    pub fn configs(&self) -> Result<BTreeSet<Digest>, ArchiveError> {
        let (mut configs, mut seen) = (BTreeSet::new(), BTreeSet::new());
        let mut left: Vec<(Descriptor, usize)> =
            self.index.manifests().iter().map(|entry| (entry.clone(), 0)).collect();
        while let Some((entry, depth)) = left.pop() {
            let digest = digest_of(&entry)?;
            let is_new = depth <= MAX_NESTING && seen.insert(digest);
            if !is_new || self.files.open(&blob_name(&digest))?.is_none() {
                continue;
            }
            match self.document(&entry)?.1 {
                Document::Manifest(manifest) => {
                    configs.insert(digest_of(manifest.config())?);
                }
                Document::Index(index) => {
                    left.extend(index.manifests().iter().map(|entry| (entry.clone(), depth + 1)));
                }
            }
        }
        Ok(configs)
    }

    /// Finds the image that is meant by a tag, a digest, or nothing.
    fn find(&self, reference: &str, platform: &Platform) -> Result<PlannedImage, ArchiveError> {
        let all = self.index.manifests();
        let with_tag = |tag: &str| {
            all.iter().filter(|entry| annotation(entry, NAME).is_some_and(|n| names(n, tag))).collect()
        };
        let chosen: Vec<&Descriptor> = match reference {
            "" => {
                let latest: Vec<&Descriptor> = with_tag("latest");
                if latest.is_empty() { all.iter().collect() } else { latest }
            }
            digest if digest.contains(':') => {
                all.iter().filter(|entry| entry.digest().to_string() == digest).collect()
            }
            tag => with_tag(tag),
        };
        if chosen.is_empty() {
            let there: Vec<&str> = all.iter().filter_map(|entry| annotation(entry, NAME)).collect();
            let there = if there.is_empty() { "no names".to_owned() } else { there.join(", ") };
            return Err(bad(format!("it has no image `{reference}`; it has {there}")));
        }
        self.image(choose(&chosen, Some(platform))?, Some(platform))
    }

    /// Reads what an entry leads to, through indexes.
    fn image(&self, entry: &Descriptor, platform: Option<&Platform>) -> Result<PlannedImage, ArchiveError> {
        let (mut bytes, mut document) = self.document(entry)?;
        for _ in 0..=MAX_NESTING {
            match document {
                Document::Manifest(manifest) => return self.planned(bytes, &manifest, platform),
                Document::Index(index) => {
                    let entries: Vec<&Descriptor> =
                        index.manifests().iter().filter(|entry| is_image(entry)).collect();
                    (bytes, document) = self.document(choose(&entries, platform)?)?;
                }
            }
        }
        Err(bad("its indexes lie too deep in each other"))
    }

    fn planned(
        &self,
        bytes: Vec<u8>,
        manifest: &ImageManifest,
        platform: Option<&Platform>,
    ) -> Result<PlannedImage, ArchiveError> {
        if let Some(other) =
            manifest.layers().iter().find(|l| !content::is_layer_type(l.media_type().as_ref()))
        {
            let kind = other.media_type().to_string();
            return Err(bad(format!("it has something that is no image: a part of type `{kind}`")));
        }
        let config = self.blob(manifest.config())?;
        let diff_ids = checked_config(&config, manifest.layers().len(), platform)?;
        let layers = manifest.layers().iter().zip(diff_ids).map(|(layer, diff_id)| {
            let digest = digest_of(layer)?;
            Ok(PlannedLayer { file: blob_name(&digest), digest, size: layer.size(), diff_id })
        });
        let layers = layers.collect::<Result<Vec<_>, ArchiveError>>()?;
        Ok(PlannedImage::new(config, Some(bytes), layers))
    }

    fn document(&self, descriptor: &Descriptor) -> Result<(Vec<u8>, Document), ArchiveError> {
        let bytes = self.blob(descriptor)?;
        let kind = descriptor.media_type().to_string();
        let document = content::read_document(&bytes, Some(&kind)).map_err(|e| bad(e.to_string()))?;
        Ok((bytes, document))
    }

    /// Reads a small blob, compared with its descriptor.
    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ArchiveError> {
        let digest = digest_of(descriptor)?;
        let bytes = self.files.small(&blob_name(&digest), METADATA_LIMIT)?;
        let bytes = bytes.ok_or_else(|| bad(format!("its blob {digest} is missing")))?;
        match Digest::of(&bytes) == digest && bytes.len() as u64 == descriptor.size() {
            true => Ok(bytes),
            false => Err(bad(format!("its blob {digest} has other bytes than its name says"))),
        }
    }
}

/// Chooses among images for different platforms.
fn choose<'d>(
    entries: &[&'d Descriptor],
    platform: Option<&Platform>,
) -> Result<&'d Descriptor, ArchiveError> {
    if let ([only], None) = (entries, platform) {
        return Ok(only);
    }
    let host = Platform::host();
    let wanted = platform.unwrap_or(&host);
    content::choose(entries.iter().copied(), wanted).ok_or_else(|| {
        let there: Vec<String> = entries.iter().filter_map(|entry| platform_of(entry)).collect();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        bad(format!("it has no image for {wanted}; it has {there}"))
    })
}

fn platform_of(entry: &Descriptor) -> Option<String> {
    let platform = entry.platform().as_ref()?;
    let variant = platform.variant().as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
    Some(format!("{}/{}{variant}", platform.os(), platform.architecture()))
}

fn for_different_platforms(entries: &[&Descriptor]) -> bool {
    let platforms: BTreeSet<String> = entries.iter().filter_map(|entry| platform_of(entry)).collect();
    platforms.len() == entries.len()
}

fn annotation<'d>(entry: &'d Descriptor, key: &str) -> Option<&'d str> {
    entry.annotations().as_ref()?.get(key).map(String::as_str)
}

fn is_image(entry: &Descriptor) -> bool {
    annotation(entry, ABOUT).is_none() && platform_of(entry).is_none_or(|p| !p.starts_with("unknown/"))
}

/// Reads the name of an image: a whole one, or a tag alone, which names nothing by itself.
fn name_of(text: &str) -> Result<(Option<Reference>, Option<String>), ArchiveError> {
    if !text.contains([':', '/', '@']) {
        return Ok((None, Some(text.to_owned())));
    }
    let name: Reference = text.parse().map_err(|e| bad(format!("it has a bad name: {e}")))?;
    // A digest says which image it was, and is no name to give.
    Ok((Some(name).filter(|name| name.digest().is_none()).map(Reference::with_default_tag), None))
}

fn digest_of(descriptor: &Descriptor) -> Result<Digest, ArchiveError> {
    let text = descriptor.digest().to_string();
    text.parse().map_err(|e| bad(format!("the digest `{text}` is not one: {e}")))
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
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
            (&b"other"[..], Some((absent.as_str(), 5)), "is missing"),
            (b"other", None, ""),
            (b"other", Some((diff_id.to_string().as_str(), tar.len() as u64)), "is missing"),
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
