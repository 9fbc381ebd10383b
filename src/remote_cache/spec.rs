//! What a user asks for: caches to read, and a cache to write.
//!
//! Not here: the words of the command line (`cli`).

use std::fmt;
use std::path::PathBuf;

use crate::content::Packing;
use crate::image::{Digest, Reference};

/// A cache to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportFrom {
    /// A cache in a registry, or an image there that has one in it.
    Registry(Reference),
    /// A directory of the OCI image layout; a digest goes before the tag.
    Local { src: PathBuf, tag: String, digest: Option<Digest> },
}

/// Where a cache is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportTo {
    Registry(Reference),
    /// A directory of the OCI image layout.
    Local {
        dest: PathBuf,
        tag: String,
    },
    /// The config of the image itself.
    Inline,
}

/// Which layers a cache has; it has the records of all steps in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Those of the images that were built.
    #[default]
    Min,
    /// Those of all steps.
    Max,
}

/// A cache to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    pub to: ExportTo,
    pub mode: Mode,
    pub packing: Packing,
    /// Whether a failure is a warning only.
    pub ignore_error: bool,
}

impl fmt::Display for ImportFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImportFrom::Registry(reference) => write!(f, "{reference}"),
            ImportFrom::Local { src, .. } => write!(f, "{}", src.display()),
        }
    }
}

impl fmt::Display for ExportTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExportTo::Registry(reference) => write!(f, "{reference}"),
            ExportTo::Local { dest, .. } => write!(f, "{}", dest.display()),
            ExportTo::Inline => f.write_str("the image"),
        }
    }
}
