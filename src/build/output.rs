//! What a build writes besides the image in the store.
//!
//! Not here: what users write for it (`cli`), doing it (`export`).

use std::path::PathBuf;

use crate::archive::{Descriptions, Format};
use crate::content::{ManifestOptions, Packing};
use crate::image::{Digest, ImageId, MediaType, Reference};

use super::loader::Loader;

/// One output of a build.
#[derive(Debug)]
pub enum Output {
    /// The image's files, in a directory; `delete`: what it does not have is removed there.
    Local {
        dest: PathBuf,
        delete: bool,
    },
    /// The image's files as one tar.
    Tar {
        dest: Dest,
    },
    Archive(ArchiveOutput),
    /// More names for the image in the store.
    Names(Vec<Reference>),
    Push(PushOutput),
    /// The image goes to another program's store.
    Load(Loader),
}

/// Where a file goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dest {
    Stdout,
    File(PathBuf),
}

/// Images as files that other tools read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveOutput {
    pub format: Format,
    pub place: ArchivePlace,
    /// The names in it; without any, those of the image.
    pub names: Vec<Reference>,
    pub packing: Packing,
    pub descriptions: Descriptions,
}

/// Where an archive goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchivePlace {
    /// One tar.
    Tar(Dest),
    /// A directory in OCI layout.
    Directory(PathBuf),
}

/// An image for a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushOutput {
    /// Where to; without any, under the names of the image.
    pub names: Vec<Reference>,
    /// Whether no tags are set.
    pub by_digest: bool,
    /// `None` is as [`crate::registry::PushRequest::packing`].
    pub packing: Option<Packing>,
    pub manifest: ManifestOptions,
    /// Annotations of the descriptor that the build tells.
    pub descriptor: std::collections::BTreeMap<String, String>,
}

/// The manifest that an output made of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeManifest {
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    pub media_type: MediaType,
    /// Of its descriptor.
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// What the outputs made of one image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputResult {
    /// That of the last output that made one.
    pub manifest: Option<MadeManifest>,
    /// All names that the image has got, in full: the store's, those in archives and registries.
    pub names: Vec<String>,
}

/// An image that goes out.
#[derive(Debug, Clone, Copy)]
pub struct Leaving<'a> {
    pub image: ImageId,
    pub tags: &'a [Reference],
}
