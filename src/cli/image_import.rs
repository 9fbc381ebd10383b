//! `rbuild import`: an image from the files of a tar archive or a directory.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use clap::Args;

use super::build::parse_tag;
use super::error::{CommandError, code};
use super::ui;
use super::world::World;
use crate::archive::{self, ImportOptions};
use crate::build::{self, BuildError};
use crate::layer::LeftOut;

/// Make an image from the files of a tar archive or a directory.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    mmdebstrap --variant=minbase bookworm - | rbuild import - debian:bookworm\n  \
    rbuild import -c 'CMD [\"/bin/sh\"]' rootfs.tar.gz tools:1\n  \
    rbuild import ./rootfs tools:2")]
pub struct ImportArgs {
    /// A tar archive (plain or packed with gzip, bzip2, xz or zstd), a directory, or `-` for standard input
    #[arg(value_name = "FILE | DIR | -")]
    pub source: String,
    /// The image's name
    #[arg(value_name = "NAME[:TAG]")]
    pub name: Option<String>,
    /// Apply a Dockerfile instruction to the image, as in `CMD ["sh"]`
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    pub changes: Vec<String>,
    /// The comment of the image's history
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    pub message: String,
}

/// Runs the command.
pub fn import(world: &World, args: ImportArgs) -> Result<(), CommandError> {
    let names = args.name.iter().map(|name| parse_tag(name)).collect::<Result<Vec<_>, _>>()?;
    let config = build::changed_config(&args.changes).map_err(|error| match error {
        BuildError::Dockerfile(findings) => {
            ui::note(&findings.render(ui::err_is_terminal()));
            CommandError::silent(code::USAGE)
        }
        error => error.into(),
    })?;
    let shown = if args.source == "-" { "standard input" } else { &args.source };
    let comment = match args.message.as_str() {
        "" => format!("Imported from {}", if args.source == "-" { "-" } else { &args.source }),
        message => message.to_owned(),
    };
    let options = ImportOptions { config, comment, names, now: jiff::Timestamp::now() };
    if args.source == "-" && ui::in_is_terminal() {
        return Err(CommandError::usage("an archive is expected on standard input, which is a terminal")
            .hint("pipe it: `mmdebstrap --variant=minbase bookworm - | rbuild import - debian:bookworm`"));
    }
    let unreadable = |e: io::Error| CommandError::new(format!("cannot read `{}`: {e}", args.source));
    if args.source.starts_with("http://") || args.source.starts_with("https://") {
        return Err(CommandError::usage(format!(
            "`{}`: import from a URL is not supported by this version",
            args.source
        ))
        .hint("pipe it: `curl URL | rbuild import - NAME`"));
    }
    // Before the store is made: a wrong name must leave nothing behind.
    let source = match args.source.as_str() {
        "-" => Source::Stream(Box::new(io::stdin().lock())),
        path => {
            let path = PathBuf::from(path);
            match std::fs::metadata(&path).map_err(unreadable)?.is_dir() {
                true => Source::Directory(path),
                false => Source::Stream(Box::new(File::open(&path).map_err(unreadable)?)),
            }
        }
    };
    let store = world.open_store()?;
    let imported = match source {
        Source::Directory(path) => archive::import_directory(&store, &path, options),
        Source::Stream(reader) => archive::import(&store, reader, options),
    };
    let imported = imported.map_err(|error| {
        let text = super::error::chain(&error);
        CommandError::new(format!("cannot import {shown}: {text}"))
    })?;
    let left_out = imported.left_out;
    if left_out != LeftOut::default() {
        ui::note(&format!(
            "warning: left out on disk, for an ordinary user cannot make them: {} devices, the owners of {} files; \
             they stay in the image when it is written to an archive\n",
            left_out.devices, left_out.owners
        ));
    }
    ui::line(&imported.image.to_string());
    Ok(())
}

enum Source {
    Directory(PathBuf),
    Stream(Box<dyn Read>),
}
