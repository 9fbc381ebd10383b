//! Images as files: OCI layouts and docker archives are written, plain tars are imported, a directory
//! in OCI layout is read.
//!
//! `import` makes an image of one tar or directory, `layout` of a layout; `export` writes images as one
//! tar that other tools load, `tar_stream` frames it, or as a directory (`layout_dir`); `rootfs` and `local`
//! write the files of layers together, as a tar or into a directory; `whole_file` is a file that is there
//! whole or not at all. Not here: manifests and the blobs of layers
//! (`content`), a layer's own tar (the room `layer`), what is kept (`store`), registries, reading archives
//! of layouts and of docker.

mod error;
mod export;
mod import;
mod layout;
mod layout_dir;
mod local;
mod rootfs;
mod tar_stream;
mod whole_file;

pub use error::ArchiveError;
pub use export::{
    Descriptions, ExportImage, ExportOptions, ExportedManifest, Format, export, export_described,
    export_directory, export_file,
};
pub use import::{ImportOptions, Imported, import, import_directory};
pub use layout::load_layout;
pub use local::{LocalOptions, LocalResult, write_local};
pub use rootfs::export_rootfs;
pub use whole_file::write_whole;
