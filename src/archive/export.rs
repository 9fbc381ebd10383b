//! Images as one tar: an OCI image layout that docker and podman load too.
//!
//! ```text
//! blobs/sha256/HEX   configs, manifests, layers
//! index.json         OCI image-spec, image-layout.md and image-index.md
//! manifest.json      docker's image-spec v1.2 ("Combined Image JSON + Filesystem Changeset Format")
//! oci-layout
//! ```
//! Both formats hold both indexes, as docker's own archives do since version
//! 25; they differ in the layers: gzip in `oci`, plain in `docker`, which
//! older dockers load without unpacking twice. Equal images are equal bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use crate::content::{Blob, Layer, ManifestOptions, Packing, config_blob, manifest_blob, pack_layers};
use crate::image::{DiffId, Digest, ImageId, MediaType, Reference};
use crate::layer::Compression;
use crate::store::{Store, StoredImage, TempDir};

use super::ArchiveError;
use super::ahead::write_behind;
use super::layout_dir::write_layout;
use super::tar_places::TarPlaces;
use super::tar_stream::TarStream;
use super::whole_file::write_whole;

/// Which archive to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Oci,
    Docker,
}

/// How to write an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportOptions {
    pub packing: Packing,
}

impl ExportOptions {
    /// Returns what a format is written with when nothing else is asked for.
    pub fn of(format: Format) -> ExportOptions {
        let compression = match format {
            Format::Oci => Compression::Gzip,
            Format::Docker => Compression::None,
        };
        ExportOptions { packing: Packing { compression, level: None, force: true } }
    }
}

/// What is written about images besides what they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Descriptions {
    pub manifest: ManifestOptions,
    /// Annotations of the index.
    pub index: BTreeMap<String, String>,
    /// Annotations of the index's entry of each image.
    pub descriptor: BTreeMap<String, String>,
}

/// One image of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportImage {
    pub id: ImageId,
    /// The names that loading the archive gives it; those with a digest are left out.
    pub names: Vec<Reference>,
}

/// What was written of one image: its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedManifest {
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    pub media_type: MediaType,
}

/// Writes images as one archive; what they share is in it once.
///
/// After an error what was written is of no use.
pub fn export(
    store: &Store,
    images: &[ExportImage],
    options: &ExportOptions,
    out: impl Write,
) -> Result<(), ArchiveError> {
    export_described(store, images, options, &Descriptions::default(), out).map(drop)
}

/// Does [`export`] into a file, which is there whole or not at all.
///
/// What is no regular file (a pipe, a terminal) is written directly. `mode` is that of a
/// new file, less the umask.
pub fn export_file(
    store: &Store,
    images: &[ExportImage],
    options: &ExportOptions,
    path: &Path,
    mode: u32,
) -> Result<(), ArchiveError> {
    write_whole(path, mode, store.options().sync, |file| {
        let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
        match is_file {
            true => Content::collect(store, images, options, &Descriptions::default())?.place(store, file),
            false => export(store, images, options, file),
        }
    })
}

/// Does [`export`] with descriptions; returns the images' manifests, in their order.
pub fn export_described(
    store: &Store,
    images: &[ExportImage],
    options: &ExportOptions,
    descriptions: &Descriptions,
    out: impl Write,
) -> Result<Vec<ExportedManifest>, ArchiveError> {
    let content = Content::collect(store, images, options, descriptions)?;
    write_behind(out, |out| content.stream(store, out))?;
    Ok(content.manifests)
}

/// Puts images into a directory in OCI layout, which is made, or added to.
pub fn export_directory(
    store: &Store,
    images: &[ExportImage],
    options: &ExportOptions,
    descriptions: &Descriptions,
    directory: &Path,
) -> Result<Vec<ExportedManifest>, ArchiveError> {
    let content = Content::collect(store, images, options, descriptions)?;
    write_layout(store, directory, content.blobs.values(), &content.index)?;
    Ok(content.manifests)
}

/// All that an archive holds.
struct Content {
    blobs: BTreeMap<Digest, Blob>,
    /// OCI's index, and docker's.
    index: Value,
    docker: Value,
    manifests: Vec<ExportedManifest>,
    /// What the blobs are written from.
    _directory: TempDir,
}

impl Content {
    /// Writes an archive as it comes.
    fn stream(&self, store: &Store, out: &mut dyn Write) -> Result<(), ArchiveError> {
        let mut tar = TarStream::new(out);
        let failed = ArchiveError::Write;
        tar.directory("blobs/").map_err(failed)?;
        tar.directory("blobs/sha256/").map_err(failed)?;
        for blob in self.blobs.values() {
            let write = |out: &mut dyn Write| blob.write(store, out).map_err(|e| Streamed(e.into()));
            tar.stream(&blob_name(blob), blob.size, write).map_err(|Streamed(e)| e)?;
        }
        for (name, bytes) in self.descriptions() {
            tar.file(name, &bytes).map_err(failed)?;
        }
        tar.finish().map_err(failed)?;
        Ok(())
    }

    /// Writes an archive into an empty file, several layers at once.
    fn place(&self, store: &Store, file: &File) -> Result<(), ArchiveError> {
        let mut tar = TarPlaces::default();
        let failed = ArchiveError::Write;
        tar.directory("blobs/").map_err(failed)?;
        tar.directory("blobs/sha256/").map_err(failed)?;
        for blob in self.blobs.values() {
            let body = |out: &mut dyn Write| Ok(blob.write(store, out)?);
            tar.stream(&blob_name(blob), blob.size, Box::new(body)).map_err(failed)?;
        }
        for (name, bytes) in self.descriptions() {
            tar.file(name, bytes).map_err(failed)?;
        }
        tar.write(file)
    }

    /// Returns what comes behind the blobs.
    fn descriptions(&self) -> [(&'static str, Vec<u8>); 3] {
        [
            ("index.json", to_bytes(&self.index)),
            ("manifest.json", to_bytes(&self.docker)),
            ("oci-layout", to_bytes(&json!({ "imageLayoutVersion": "1.0.0" }))),
        ]
    }

    fn collect(
        store: &Store,
        images: &[ExportImage],
        options: &ExportOptions,
        descriptions: &Descriptions,
    ) -> Result<Content, ArchiveError> {
        store.hold()?;
        let directory = store.temp_dir()?;
        let mut blobs: BTreeMap<Digest, Blob> = BTreeMap::new();
        let (mut index, mut docker, mut manifests) = (Vec::new(), Vec::new(), Vec::new());
        let stored = images.iter().map(|i| store.image(&i.id)).collect::<Result<Vec<_>, _>>()?;
        let made = layers_of(store, &stored, options, &directory)?;
        for (image, stored) in images.iter().zip(stored) {
            let layers: Vec<Blob> = stored.config.rootfs.diff_ids.iter().map(|id| made[id].clone()).collect();
            let names: Vec<Reference> = image
                .names
                .iter()
                .filter(|name| name.digest().is_none())
                .map(|name| name.clone().with_default_tag())
                .collect();
            let config = config_blob(&stored, &descriptions.manifest);
            let manifest = manifest_blob(&config, &layers, &descriptions.manifest);
            index.extend(index_entries(&manifest, &platform_of(&stored), &names, &descriptions.descriptor));
            docker.push(json!({
                "Config": blob_name(&config),
                "RepoTags": match names.is_empty() {
                    true => Value::Null,
                    false => names.iter().map(whole_name).collect(),
                },
                "Layers": layers.iter().map(blob_name).collect::<Vec<_>>(),
            }));
            manifests.push(ExportedManifest {
                digest: manifest.digest,
                size: manifest.size,
                media_type: manifest.media_type.clone(),
            });
            for blob in layers.into_iter().chain([config, manifest]) {
                blobs.insert(blob.digest, blob);
            }
        }
        let mut index = json!({
            "schemaVersion": 2,
            "mediaType": MediaType::ImageIndex,
            "manifests": index,
        });
        if !descriptions.index.is_empty() {
            index["annotations"] = json!(descriptions.index);
        }
        Ok(Content { blobs, index, docker: Value::Array(docker), manifests, _directory: directory })
    }
}

/// Lets an I/O error of the tar and one of a piece pass the same way.
struct Streamed(ArchiveError);

impl From<io::Error> for Streamed {
    fn from(error: io::Error) -> Streamed {
        Streamed(ArchiveError::Write(error))
    }
}

/// Returns the blobs of all layers, each layer once.
fn layers_of(
    store: &Store,
    images: &[StoredImage],
    options: &ExportOptions,
    directory: &TempDir,
) -> Result<BTreeMap<DiffId, Blob>, ArchiveError> {
    let mut layers: Vec<Layer> = Vec::new();
    for image in images {
        for id in &image.layers {
            let layer = Layer::find(store, &image.id, id)?;
            if !layers.iter().any(|there| there.diff_id == layer.diff_id) {
                layers.push(layer);
            }
        }
    }
    let blobs = pack_layers(store, &layers, &options.packing, directory)?;
    Ok(layers.iter().map(|layer| layer.diff_id).zip(blobs).collect())
}

/// Returns the index's lines of an image: one for each name, or one without.
fn index_entries(
    manifest: &Blob,
    platform: &Value,
    names: &[Reference],
    annotations: &BTreeMap<String, String>,
) -> Vec<Value> {
    let entry = |annotations: &BTreeMap<String, String>| {
        let mut entry = manifest.descriptor();
        entry["platform"] = platform.clone();
        if !annotations.is_empty() {
            entry["annotations"] = json!(annotations);
        }
        entry
    };
    if names.is_empty() {
        return vec![entry(annotations)];
    }
    let annotate = |name: &Reference| {
        // The tag alone is what OCI tools select by; the whole name is what containerd,
        // docker and podman restore.
        let mut annotations = annotations.clone();
        annotations.insert("io.containerd.image.name".to_owned(), whole_name(name));
        let tag = name.tag().unwrap_or("latest").to_owned();
        annotations.insert("org.opencontainers.image.ref.name".to_owned(), tag);
        entry(&annotations)
    };
    names.iter().map(annotate).collect()
}

/// Returns a name with its host: podman takes a short one for `localhost/...`.
fn whole_name(name: &Reference) -> String {
    format!("{}:{}", name.full_name(), name.tag().unwrap_or("latest"))
}

fn platform_of(image: &StoredImage) -> Value {
    let platform = image.config.platform();
    let mut value = json!({ "architecture": platform.architecture, "os": platform.os });
    if let Some(variant) = platform.variant {
        value["variant"] = variant.into();
    }
    value
}

fn blob_name(blob: &Blob) -> String {
    format!("blobs/sha256/{}", blob.digest.hex())
}

/// Writes JSON; a `Value`'s keys are sorted, so equal values are equal bytes.
fn to_bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("JSON values are JSON")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::import::tests::{options, store};
    use super::super::import::{import, import_directory, tar_of};
    use super::*;
    use crate::content::ContentError;
    use crate::layer::decompress;

    fn entries(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        tar::Archive::new(archive)
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                (entry.path().unwrap().display().to_string(), bytes)
            })
            .collect()
    }

    /// Two images, one from a tar (kept), one from a directory (made again).
    fn two(store: &Store) -> Vec<ExportImage> {
        let source = tempfile::tempdir().unwrap();
        std::fs::write(source.path().join("file"), vec![b'y'; 100_000]).unwrap();
        let one = import(store, tar_of(&[("a", "1")]).as_slice(), options("one:x")).unwrap();
        let two = import_directory(store, source.path(), options("host.example/two")).unwrap();
        assert!(store.meta(&two.layer).unwrap().unwrap().blob.is_none());
        let names = ["one:x".parse().unwrap(), "again".parse().unwrap()];
        vec![
            ExportImage { id: one.image, names: names.to_vec() },
            ExportImage { id: two.image, names: vec!["host.example/two".parse().unwrap()] },
        ]
    }

    fn check(format: Format) {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        let images = two(&store);
        let mut archive = Vec::new();
        export(&store, &images, &ExportOptions::of(format), &mut archive).unwrap();
        let mut again = Vec::new();
        export(&store, &images, &ExportOptions::of(format), &mut again).unwrap();
        assert_eq!(archive, again);
        let entries = entries(&archive);
        for (name, bytes) in &entries {
            if let Some(hex) = name.strip_prefix("blobs/sha256/").filter(|hex| !hex.is_empty()) {
                assert_eq!(Digest::of(bytes).hex(), hex);
            }
        }
        let json = |name: &str| serde_json::from_slice::<Value>(&entries[name]).unwrap();
        assert_eq!(json("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }));

        // By docker's index: configs, tags, and layers that have the DiffIDs of the config.
        let manifests = json("manifest.json");
        assert_eq!(
            manifests[0]["RepoTags"],
            json!(["docker.io/library/one:x", "docker.io/library/again:latest"])
        );
        assert_eq!(manifests[1]["RepoTags"], json!(["host.example/two:latest"]));
        for (image, manifest) in images.iter().zip(manifests.as_array().unwrap()) {
            let config = manifest["Config"].as_str().unwrap();
            assert_eq!(config, format!("blobs/sha256/{}", image.id.hex()));
            let layer = &entries[manifest["Layers"][0].as_str().unwrap()];
            let (compression, mut plain) = decompress(layer.as_slice()).unwrap();
            assert_eq!(compression.of_layer().unwrap(), ExportOptions::of(format).packing.compression);
            let diff_id = DiffId(Digest::of_reader(&mut plain).unwrap().0);
            assert_eq!(json(config)["rootfs"]["diff_ids"], json!([diff_id]));
        }

        // By OCI's index: one line for each name, and media types that say the truth.
        let index: crate::image::ImageIndex = serde_json::from_value(json("index.json")).unwrap();
        let names: Vec<String> = index
            .manifests()
            .iter()
            .map(|m| m.annotations().as_ref().unwrap()["io.containerd.image.name"].clone())
            .collect();
        let expect = ["docker.io/library/one:x", "docker.io/library/again:latest", "host.example/two:latest"];
        assert_eq!(names, expect);
        let blob = |digest: &str| &entries[&digest.replace("sha256:", "blobs/sha256/")];
        for line in index.manifests() {
            let manifest: crate::image::ImageManifest =
                serde_json::from_slice(blob(line.digest().as_ref())).unwrap();
            for part in manifest.layers().iter().chain([manifest.config()]) {
                assert_eq!(part.size(), blob(part.digest().as_ref()).len() as u64);
            }
            let media_type = match format {
                Format::Oci => MediaType::ImageLayerGzip,
                Format::Docker => MediaType::ImageLayer,
            };
            assert_eq!(*manifest.layers()[0].media_type(), media_type);
        }
    }

    #[test]
    fn an_oci_archive_holds_what_its_indexes_say() {
        check(Format::Oci);
    }

    #[test]
    fn a_docker_archive_holds_what_its_indexes_say() {
        check(Format::Docker);
    }

    #[test]
    fn a_layer_that_changed_is_not_exported() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        let images = two(&store);
        let layer = &store.image(&images[1].id).unwrap().layers[0];
        let file = store.snapshot_dir(layer).join("file");
        std::fs::write(&file, vec![b'z'; 100_000]).unwrap();
        for format in [Format::Oci, Format::Docker] {
            let error = export(&store, &images[1..], &ExportOptions::of(format), io::sink()).unwrap_err();
            assert!(matches!(error, ArchiveError::Content(ContentError::WrongLayer { .. })), "{error:?}");
        }
        let blob = store.meta(&store.image(&images[0].id).unwrap().layers[0]).unwrap().unwrap().blob.unwrap();
        let path = directory.path().join("v1/blobs/sha256").join(blob.digest.hex());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[600] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        for format in [Format::Oci, Format::Docker] {
            assert!(export(&store, &images[..1], &ExportOptions::of(format), io::sink()).is_err());
        }
    }

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory.path().join("store"));
        let images = two(&store);
        let out = directory.path().join("out");
        std::fs::create_dir(&out).unwrap();
        let path = out.join("image.tar");
        let options = ExportOptions::of(Format::Oci);
        export_file(&store, &images, &options, &path, 0o600).unwrap();
        assert!(entries(&std::fs::read(&path).unwrap()).contains_key("index.json"));
        let nothing = [ExportImage { id: ImageId(Digest::of("x")), names: vec![] }];
        std::fs::write(&path, "before").unwrap();
        assert!(export_file(&store, &nothing, &options, &path, 0o600).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"before");
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1);
        assert!(export_file(&store, &images, &options, &directory.path().join("no/such"), 0o600).is_err());
        export_file(&store, &images, &options, Path::new("/dev/null"), 0o600).unwrap();
    }
}
