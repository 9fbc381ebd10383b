//! Images as files, both ways: OCI layouts, docker archives, plain tars.
//!
//! Read: `load` brings the images of an archive into the store; what they are is told by `layout` (OCI)
//! or `docker`, out of files that lie in a directory (`files`) or a tar (`tar_files`), which `source`
//! finds or makes; `planned` is an image on its way. `import` makes an image of one tar or directory.
//! Written: `export` writes images as one tar that other tools load, framed by `tar_stream` as it comes
//! (`ahead`) or by `tar_places` in a file, or as a directory (`layout_dir`); `rootfs` and `local` write the files of layers together, as a tar or into a
//! directory; `whole_file` is a file that is there whole or not at all. Not
//! here: manifests and the blobs of layers (`content`), a layer's own tar (the room `layer`), what is
//! kept (`store`), registries.

mod ahead;
mod docker;
mod error;
mod export;
mod files;
mod import;
mod layout;
mod layout_dir;
mod load;
mod local;
mod planned;
mod rootfs;
mod source;
mod tar_files;
mod tar_places;
mod tar_stream;
mod whole_file;

pub use error::ArchiveError;
pub use export::{
    Descriptions, ExportImage, ExportOptions, ExportedManifest, Format, export, export_described,
    export_directory, export_file,
};
pub use import::{ImportOptions, Imported, import, import_directory};
pub use layout::load_layout;
pub use load::{LoadProgress, LoadedImage, contents, load};
pub use local::{LocalOptions, LocalResult, write_local};
pub use rootfs::{export_container, export_rootfs};
pub use source::Source;
pub use tar_files::TarFiles;
pub use whole_file::write_whole;
