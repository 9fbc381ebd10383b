//! Images as files: OCI layouts and docker archives are written, plain tars are imported, a directory
//! in OCI layout is read.
//!
//! `import` makes an image of one tar or directory, `layout` of a layout; `export` writes images as one
//! tar that other tools load, `tar_stream` frames it; `rootfs` writes the files of layers together;
//! `whole_file` is a file that is there whole or not at all. Not here: manifests and the blobs of layers
//! (`content`), a layer's own tar (the room `layer`), what is kept (`store`), registries, reading archives
//! of layouts and of docker.

mod error;
mod export;
mod import;
mod layout;
mod rootfs;
mod tar_stream;
mod whole_file;

pub use error::ArchiveError;
pub use export::{ExportImage, ExportOptions, Format, export, export_file};
pub use import::{ImportOptions, Imported, import, import_directory};
pub use layout::load_layout;
pub use rootfs::export_rootfs;
pub use whole_file::write_whole;
