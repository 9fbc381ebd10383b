//! `rbuild load`: the images of an archive, as docker, podman, skopeo or rbuild wrote it.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::error::{CommandError, chain};
use super::progress::Bars;
use super::world::World;
use super::{ui, units};
use crate::archive::{self, ArchiveError, LoadProgress, LoadedImage, Source};
use crate::image::Platform;
use crate::layer::LeftOut;
use crate::report::Transfer;

/// Load images from an archive or a directory.
#[derive(Debug, Args)]
#[command(
    after_help = "Reads docker archives and OCI layouts, as tars (plain or packed with gzip, bzip2, xz or\n\
    zstd) or unpacked in a directory. An image's ID is what it was.\n\nExamples:\n  \
    rbuild load -i images.tar\n  \
    docker save flask | rbuild load\n  \
    rbuild load -i ./layout --platform linux/arm64\n\n\
    See also: rbuild save, rbuild import, rbuild pull"
)]
pub struct LoadArgs {
    /// Read this file or directory, instead of standard input
    #[arg(short, long, value_name = "FILE | DIR")]
    pub input: Option<PathBuf>,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
    /// Of an image for several platforms, load this one
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
}

/// Runs the command.
pub fn load(world: &World, args: LoadArgs) -> Result<(), CommandError> {
    let shown = match &args.input {
        Some(path) => format!("`{}`", path.display()),
        None => "the archive on standard input".to_owned(),
    };
    let source = match args.input {
        // Before the store is made: a wrong name must leave nothing behind.
        Some(path) => match std::fs::metadata(&path) {
            Ok(_) => Source::Path(path),
            Err(e) => return Err(CommandError::new(format!("cannot open {shown}: {e}"))),
        },
        None if ui::in_is_terminal() => {
            return Err(CommandError::usage("requested load from stdin, but stdin is empty").hint(
                "name a file: `rbuild load -i images.tar`; or pipe one: `docker save flask | rbuild load`",
            ));
        }
        None => Source::Stream(File::from(io::stdin().as_fd().try_clone_to_owned()?)),
    };
    let store = world.open_store()?;
    let bars = Bars::new(!args.quiet);
    let phases: [Arc<str>; 2] = ["read the archive".into(), "load".into()];
    let progress = |progress: LoadProgress| show(&bars, &phases, progress);
    let loaded = archive::load(&store, source, args.platform.as_ref(), &progress);
    bars.end();
    let loaded = loaded.map_err(|error| failed(&shown, &error))?;
    loaded.iter().for_each(say);
    let left_out = loaded.iter().fold(LeftOut::default(), |sum, image| LeftOut {
        devices: sum.devices + image.left_out.devices,
        owners: sum.owners + image.left_out.owners,
        xattrs: sum.xattrs + image.left_out.xattrs,
    });
    ui::left_out(&left_out);
    Ok(())
}

fn say(image: &LoadedImage) {
    for (name, before) in &image.names {
        if let Some(before) = before {
            ui::line(&format!(
                "The image {name} already exists, renaming the old one with ID {before} to empty string"
            ));
        }
        ui::line(&format!("Loaded image: {name}"));
    }
    if image.names.is_empty() {
        ui::line(&format!("Loaded image ID: {}", image.id));
    }
    if let Some(tag) = &image.tag_only {
        ui::note(&format!(
            "hint: the archive calls {} only `{tag}`; `rbuild tag {} NAME:TAG` names it\n",
            image.id.short(),
            image.id.short()
        ));
    }
}

fn failed(shown: &str, error: &ArchiveError) -> CommandError {
    let command = CommandError::new(format!("cannot load {shown}: {}", chain(error)));
    match error {
        ArchiveError::NoImages(_) => {
            command.hint("`rbuild import` makes an image of a tar that holds the files of a system")
        }
        ArchiveError::Spool { .. } => command.hint(
            "free some space, or unpack the archive elsewhere: `rbuild load -i FILE` reads a tar that is not \
             compressed where it lies",
        ),
        _ => command,
    }
}

fn show(bars: &Bars, [read, load]: &[Arc<str>; 2], progress: LoadProgress) {
    let (part, done, total, ended) = match progress {
        LoadProgress::Spooled { bytes } => {
            let part = "archive".to_owned();
            let transfer = Transfer { of: read.clone(), part, done: bytes, total: 0, ended: false };
            return bars.transfer(transfer);
        }
        LoadProgress::Layer { diff_id, bytes, of } => (diff_id.short(), bytes, of, false),
        LoadProgress::LayerDone { diff_id, bytes } => {
            // In a pipe docker says nothing of layers.
            bars.line(&format!("{}: Loaded layer {}", diff_id.short(), units::size(bytes)), |_| ());
            (diff_id.short(), bytes, bytes, true)
        }
    };
    bars.ended(read);
    bars.transfer(Transfer { of: load.clone(), part, done, total, ended });
}
