//! Writing an image to the archives a build asks for.

use super::error::BuildError;
use super::request::{Output, OutputKind};
use crate::archive::{self, ExportImage, ExportOptions, Format};
use crate::image::{ImageId, Reference};
use crate::store::Store;

/// Writes one archive: whole, or not at all.
pub fn write(store: &Store, image: &ImageId, names: &[Reference], output: &Output) -> Result<(), BuildError> {
    let format = match output.kind {
        OutputKind::Oci => Format::Oci,
        OutputKind::Docker => Format::Docker,
    };
    let options = ExportOptions::of(format);
    let images = [ExportImage { id: *image, names: names.to_vec() }];
    match &output.dest {
        Some(path) => archive::export_file(store, &images, &options, path, 0o644)?,
        None => archive::export(store, &images, &options, std::io::stdout().lock())?,
    }
    Ok(())
}
