//! `rbuild import`: an image from the files of a tar archive, a directory or a URL.

use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;

use super::build::parse_tag;
use super::error::{CommandError, chain, code};
use super::ui;
use super::world::World;
use crate::archive::{self, ArchiveError, ImportOptions};
use crate::build::{self, BuildError};
use crate::image::Platform;
use crate::net::{NetError, Problem, Request, show_url};

/// Make an image from the files of a tar archive or a directory.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    mmdebstrap --variant=minbase bookworm - | rbuild import - debian:bookworm\n  \
    rbuild import -c 'CMD [\"/bin/sh\"]' rootfs.tar.gz tools:1\n  \
    rbuild import ./rootfs tools:2\n  \
    rbuild import https://example.org/rootfs.tar.xz tools:3\n\n\
    See also: rbuild load, rbuild export")]
pub struct ImportArgs {
    /// A tar archive (plain or packed with gzip, bzip2, xz or zstd), a directory, a URL, or `-` for standard input
    #[arg(value_name = "FILE | DIR | URL | -")]
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
    /// The platform of the image, where it is not this machine's
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
}

/// Runs the command.
pub fn import(world: &World, args: ImportArgs) -> Result<(), CommandError> {
    let names = args.name.iter().map(|name| parse_tag(name)).collect::<Result<Vec<_>, _>>()?;
    let config = build::changed_config(&args.changes).map_err(|error| match error {
        BuildError::Dockerfile(findings) => {
            ui::note(&findings.render(ui::err_in_colour()));
            CommandError::silent(code::USAGE)
        }
        error => error.into(),
    })?;
    // Neither an error nor the history tells a password.
    let source = if is_url(&args.source) { show_url(&args.source) } else { args.source.clone() };
    let shown = if source == "-" { "standard input" } else { &source };
    let comment = match args.message.as_str() {
        "" => format!("Imported from {source}"),
        message => message.to_owned(),
    };
    let mut config = config;
    if let Some(platform) = args.platform {
        (config.os, config.architecture, config.variant) =
            (platform.os, platform.architecture, platform.variant);
    }
    let options = ImportOptions { config, comment, names, now: jiff::Timestamp::now() };
    if args.source == "-" && ui::in_is_terminal() {
        return Err(CommandError::usage("an archive is expected on standard input, which is a terminal")
            .hint("pipe it: `mmdebstrap --variant=minbase bookworm - | rbuild import - debian:bookworm`"));
    }
    let unreadable = |e: io::Error| CommandError::new(format!("cannot read `{}`: {e}", args.source));
    // Before the store is made: a wrong name must leave nothing behind.
    let source = match args.source.as_str() {
        url if is_url(url) => Source::Url(url.to_owned()),
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
    let failed = |error: ArchiveError| CommandError::new(format!("cannot import {shown}: {}", chain(&error)));
    let imported = match source {
        Source::Directory(path) => archive::import_directory(&store, &path, options).map_err(failed)?,
        Source::Stream(reader) => archive::import(&store, reader, options).map_err(failed)?,
        Source::Url(url) => download(world, &url, |reader| archive::import(&store, reader, options), failed)?,
    };
    ui::left_out(&imported.left_out);
    ui::line(&imported.image.to_string());
    Ok(())
}

enum Source {
    Directory(PathBuf),
    Stream(Box<dyn Read>),
    Url(String),
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// Has `import` read what is at a URL while it comes.
fn download<T: Send>(
    world: &World,
    url: &str,
    import: impl FnOnce(Body) -> Result<T, ArchiveError> + Send,
    failed: impl Fn(ArchiveError) -> CommandError,
) -> Result<T, CommandError> {
    ui::note(&format!("Downloading from {}\n", show_url(url)));
    let client = world.http_client();
    let cancel = world.cancel_on_signals()?;
    let cancelled = || cancel.is_cancelled();
    let stopped = |error: NetError| match cancel.is_cancelled() {
        true => world.interrupted(),
        false => error.into(),
    };
    let reply = client.send(&Request::get(url), &cancelled).map_err(stopped)?;
    let (pipe, mut writer) = io::pipe()?;
    let broken = Arc::new(AtomicBool::new(false));
    let body = Body { pipe, broken: broken.clone() };
    let (received, imported) = std::thread::scope(|scope| {
        let import = scope.spawn(move || import(body));
        let received = reply.copy_to(MOST_BYTES, &cancelled, &mut |piece| writer.write_all(piece));
        broken.store(received.is_err(), Ordering::SeqCst);
        drop(writer);
        (received, import.join())
    });
    let imported = imported.map_err(|_| CommandError::new("the import panicked"))?;
    match (received, imported) {
        // Nobody reads any more: the import says why.
        (Err(error), Err(why)) if matches!(error.problem(), Problem::Write(_)) => Err(failed(why)),
        (Err(error), _) => Err(stopped(error)),
        (Ok(_), imported) => imported.map_err(failed),
    }
}

/// The most bytes of a download.
const MOST_BYTES: u64 = 64 << 30;

/// What comes from a URL; an end that came too early is no end.
struct Body {
    pipe: PipeReader,
    broken: Arc<AtomicBool>,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.pipe.read(buffer)? {
            0 if !buffer.is_empty() && self.broken.load(Ordering::SeqCst) => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the download ended early"))
            }
            count => Ok(count),
        }
    }
}
