//! The build cache elsewhere: in a registry, in a directory, in an image.
//!
//! `spec` is what a user asks for, `format` what is written, `place` and `layout` where, `source` a cache
//! that is read, [`Caches`] (in `caches`) all of them as the engine asks them, `export` what a build leaves
//! behind. What is believed of a cache and what is not: `docs/remote-cache.md`. Not here: keys (`solve`),
//! the registry protocol (`registry`), layers and manifests as such (`content`).

mod caches;
mod error;
mod export;
mod format;
mod layout;
mod place;
mod source;
mod spec;

pub use caches::Caches;
pub use error::RemoteCacheError;
pub use export::{Exporter, Gathered, inline};
pub use format::{CONFIG_TYPE, INLINE_KEY};
pub use spec::{Export, ExportTo, ImportFrom, Mode};
