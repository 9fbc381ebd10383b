//! Images as files: OCI layouts and docker archives are written, plain tars are imported, a directory
//! in OCI layout is read.
//!
//! `import` makes an image of one tar or directory, `layout` of a layout; `export` writes images as one
//! tar that other tools load or as a layout (`layout_dir`), `tar_stream` frames it; `local` writes an image's
//! files, `out_file` is a file in a user's own place. Not here: manifests and the blobs of layers
//! (`content`), a layer's own tar (the room `layer`), what is kept (`store`), registries, reading archives
//! of layouts and of docker.

mod error;
mod export;
mod import;
mod layout;
mod layout_dir;
mod local;
mod out_file;
mod tar_stream;

pub use error::ArchiveError;
pub use export::{
    Descriptions, ExportImage, ExportOptions, ExportedManifest, Format, export, export_described,
    export_directory, export_file,
};
pub use import::{ImportOptions, Imported, import, import_directory};
pub use layout::load_layout;
pub use local::{LocalOptions, LocalResult, write_local, write_tar};
pub use out_file::write_file;
