//! `rbuild export`: the files of a container, an image or a build step as a plain tar.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use super::error::CommandError;
use super::save::no_terminal;
use super::ui;
use super::world::World;
use crate::archive;
use crate::container::files;
use crate::layer::{LeftOut, ViewOptions};
use crate::store::{Found, KeptContainer, Store, StoreError};
use crate::sys::RootDir;

/// Write the files of a container, an image or a build step as a tar.
#[derive(Debug, Args)]
#[command(
    after_help = "The layers are merged: what was deleted is not in the tar, nor are the image's settings. \
    Of a container,\nwhat is in its volumes is not in it, either; it may run. A container goes before an image of \
    the same name.\n\n\
    Examples:\n  \
    rbuild export web > web.tar\n  \
    rbuild export -o rootfs.tar flask:1\n  \
    rbuild export flask:1 | tar -x -C rootfs\n  \
    rbuild export flask:1 | rbuild import -c 'CMD [\"flask\"]' - flask:flat\n\n\
    See also: rbuild commit, rbuild save, rbuild import"
)]
pub struct ExportArgs {
    /// A name or id of a container or an image, or the id of a build step
    #[arg(value_name = "CONTAINER | IMAGE | STEP")]
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
    match store.find_container(&args.image) {
        Ok(kept) => return of_container(&store, &kept, args.output.as_deref()),
        Err(StoreError::NoContainer(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let found = store.find(&args.image).map_err(|error| match error.is_not_found() {
        true => StoreError::NoContainer(args.image.clone()),
        false => error,
    })?;
    let layers = match found {
        Found::Image { id, .. } => store.image(&id)?.layers,
        Found::Step(id) => match store.step(&id)? {
            Some(step) => step.layers,
            None => return Err(StoreError::NoContainer(args.image).into()),
        },
    };
    let options = ViewOptions::default();
    let lost = match &args.output {
        Some(path) => archive::write_whole(path, 0o600, store.options().sync, |mut file| {
            archive::export_rootfs(&store, &layers, options, &mut file)
        })?,
        None => archive::export_rootfs(&store, &layers, options, &mut io::stdout().lock())?,
    };
    told(&lost);
    Ok(())
}

fn told(lost: &LeftOut) {
    if *lost != LeftOut::default() {
        ui::note(&format!(
            "warning: the tar lacks what an ordinary user's store could not keep ({})\n",
            ui::count_left_out(lost)
        ));
    }
}

/// Writes the files of a container.
fn of_container(store: &Store, kept: &KeptContainer, output: Option<&Path>) -> Result<(), CommandError> {
    store.hold()?;
    files::layer_is_current(store, kept)?;
    let upper = RootDir::open(&store.container_layer(&kept.id))?;
    let view = store.container_view(kept)?;
    let lost = match output {
        Some(path) => archive::write_whole(path, 0o600, store.options().sync, |mut file| {
            archive::export_container(store, &kept.layers, &upper, &view, &mut file)
        })?,
        None => archive::export_container(store, &kept.layers, &upper, &view, &mut io::stdout().lock())?,
    };
    told(&lost);
    Ok(())
}
