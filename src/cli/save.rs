//! `rbuild save`: images as one archive that docker, podman and rbuild load.

use std::io;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::error::CommandError;
use super::world::World;
use super::{find, ui};
use crate::archive::{self, ExportImage, ExportOptions, Format};
use crate::image::{ImageId, Platform, Reference};
use crate::layer::Compression;
use crate::store::{Found, Store};

/// Save images to an archive.
#[derive(Debug, Args)]
#[command(
    after_help = "A name without a tag saves all tags of its repository; an ID saves an image without names.\n\n\
    Examples:\n  \
    rbuild save -o flask.tar flask:1\n  \
    rbuild save debian flask:1 | ssh host docker load\n  \
    rbuild save --format oci --compression zstd -o layout.tar flask:1\n\n\
    See also: rbuild load, rbuild export, rbuild push"
)]
pub struct SaveArgs {
    /// Names or ids of images
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Write to a file (mode 0600), instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Which tools the archive is for: both kinds hold both indexes, and layers are plain in `docker`
    #[arg(long, value_name = "FORMAT", default_value = "docker")]
    pub format: SaveFormat,
    /// How layers are compressed [default: not in docker archives; in OCI ones as they came, else gzip]
    #[arg(long, value_name = "KIND")]
    pub compression: Option<SaveCompression>,
    /// The compression's level: 0 to 9 for gzip, 1 to 22 for zstd
    #[arg(long, value_name = "N", requires = "compression")]
    pub compression_level: Option<i32>,
    /// Fail unless the images are for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
}

/// The kinds of archives, by docker's and by podman's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SaveFormat {
    #[value(alias = "docker-archive")]
    Docker,
    #[value(alias = "oci-archive")]
    Oci,
}

/// The compressions, by BuildKit's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SaveCompression {
    #[value(alias = "none")]
    Uncompressed,
    Gzip,
    Zstd,
}

/// Runs the command.
pub fn save(world: &World, args: SaveArgs) -> Result<(), CommandError> {
    let options = options(&args)?;
    if args.output.is_none() && ui::out_is_terminal() {
        return Err(no_terminal());
    }
    let store = world.open_store()?;
    let images = images(&store, &args.images)?;
    if let Some(wanted) = &args.platform {
        for image in &images {
            let there = store.image(&image.id)?.config.platform();
            if there.to_string().parse().as_ref() != Ok(wanted) {
                let name = image.names.first().map_or(image.id.short(), Reference::to_string);
                return Err(CommandError::new(format!("the image {name} is for {there}, not {wanted}")));
            }
        }
    }
    match &args.output {
        Some(path) => archive::export_file(&store, &images, &options, path, 0o600)?,
        None => archive::export(&store, &images, &options, io::stdout().lock())?,
    }
    Ok(())
}

/// Makes docker's error for an archive that would go to a terminal.
pub fn no_terminal() -> CommandError {
    CommandError::usage("cowardly refusing to save to a terminal. Use the -o flag or redirect")
}

fn options(args: &SaveArgs) -> Result<ExportOptions, CommandError> {
    let mut options = match args.format {
        SaveFormat::Docker => ExportOptions::of(Format::Docker),
        SaveFormat::Oci => ExportOptions::of(Format::Oci),
    };
    let packing = &mut options.packing;
    let (compression, levels) = match args.compression {
        None => {
            // What an image came with need not be made anew, where all readers take it.
            packing.force = args.format == SaveFormat::Docker;
            return Ok(options);
        }
        Some(SaveCompression::Uncompressed) => (Compression::None, 0..=0),
        Some(SaveCompression::Gzip) => (Compression::Gzip, 0..=9),
        Some(SaveCompression::Zstd) => (Compression::Zstd, 1..=22),
    };
    if let Some(level) = args.compression_level.filter(|level| !levels.contains(level)) {
        let (least, most) = (levels.start(), levels.end());
        let why = match most {
            0 => "there is nothing to compress".to_owned(),
            _ => format!("the levels are {least} to {most}"),
        };
        return Err(CommandError::usage(format!("bad --compression-level {level}: {why}")));
    }
    (packing.compression, packing.level, packing.force) = (compression, args.compression_level, true);
    Ok(options)
}

/// Finds what is to be saved, each image once, with the names it was called by.
fn images(store: &Store, words: &[String]) -> Result<Vec<ExportImage>, CommandError> {
    let mut images: Vec<ExportImage> = Vec::new();
    let mut add = |id: ImageId, name: Option<Reference>| {
        let at = images.iter().position(|image| image.id == id).unwrap_or_else(|| {
            images.push(ExportImage { id, names: Vec::new() });
            images.len() - 1
        });
        let names = &mut images[at].names;
        names.extend(name.filter(|name| !names.contains(name)));
    };
    for word in words {
        let of_repository = tags_of(store, word)?;
        if !of_repository.is_empty() {
            of_repository.into_iter().for_each(|(name, id)| add(id, Some(name)));
            continue;
        }
        match find::find(store, word)? {
            Found::Image { id, name } => add(id, name.filter(|name| name.digest().is_none())),
            Found::Step(_) => {
                return Err(CommandError::new(format!("`{word}` is a build step, not an image")).hint(format!(
                    "give it a name first: `rbuild tag {word} NAME`; or take its files: `rbuild export {word}`"
                )));
            }
        }
    }
    Ok(images)
}

/// Returns all tags of the repository that a word without tag names; none for any other word.
fn tags_of(store: &Store, word: &str) -> Result<Vec<(Reference, ImageId)>, CommandError> {
    let Ok(repository) = word.parse::<Reference>() else { return Ok(Vec::new()) };
    if repository.tag().is_some() || repository.digest().is_some() {
        return Ok(Vec::new());
    }
    let same = |name: &Reference| name.full_name() == repository.full_name() && name.digest().is_none();
    Ok(store.tags()?.into_iter().filter(|(name, _)| same(name)).collect())
}
