//! Images as files: OCI layouts and docker archives are written, plain tars are imported.
//!
//! `import` makes an image of one tar or directory; `export` writes images as
//! one tar that other tools load; `pieces` finds or makes the blobs of an
//! export, `tar_stream` frames them. Not here: the layer's own tar (`layer`),
//! what is kept (`store`), registries. Reading OCI layouts and docker archives
//! comes with `load`; its place is a file beside `import`.

mod error;
mod export;
mod import;
mod pieces;
mod stream;
mod tar_stream;

pub use error::ArchiveError;
pub use export::{ExportImage, ExportOptions, Format, export, export_file};
pub use import::{ImportOptions, Imported, import, import_directory};
