//! `rbuild export`: the files of an image or a build step as a plain tar.

use std::io;
use std::path::PathBuf;

use clap::Args;

use super::error::CommandError;
use super::save::no_terminal;
use super::world::World;
use super::{find, ui};
use crate::archive;
use crate::layer::{LeftOut, ViewOptions};
use crate::store::Found;

/// Write the files of an image or a build step as a tar.
#[derive(Debug, Args)]
#[command(
    after_help = "The layers are merged: what was deleted is not in the tar, nor are the image's settings.\n\n\
    Examples:\n  \
    rbuild export -o rootfs.tar flask:1\n  \
    rbuild export flask:1 | tar -x -C rootfs\n  \
    rbuild export flask:1 | rbuild import -c 'CMD [\"flask\"]' - flask:flat\n\n\
    See also: rbuild save, rbuild import"
)]
pub struct ExportArgs {
    /// A name or id of an image, or the id of a build step
    #[arg(value_name = "IMAGE | STEP")]
    pub image: String,
    /// Write to a file (mode 0600), instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Runs the command.
pub fn export(world: &World, args: ExportArgs) -> Result<(), CommandError> {
    if args.output.is_none() && ui::out_is_terminal() {
        return Err(no_terminal());
    }
    let store = world.open_store()?;
    let layers = match find::find(&store, &args.image)? {
        Found::Image { id, .. } => store.image(&id)?.layers,
        Found::Step(id) => match store.step(&id)? {
            Some(step) => step.layers,
            None => return Err(find::no_such(&args.image)),
        },
    };
    let options = ViewOptions::default();
    let lost = match &args.output {
        Some(path) => archive::write_whole(path, 0o600, store.options().sync, |mut file| {
            archive::export_rootfs(&store, &layers, options, &mut file)
        })?,
        None => archive::export_rootfs(&store, &layers, options, &mut io::stdout().lock())?,
    };
    if lost != LeftOut::default() {
        ui::note(&format!(
            "warning: the tar lacks what an ordinary user's store could not keep ({})\n",
            ui::count_left_out(&lost)
        ));
    }
    Ok(())
}
