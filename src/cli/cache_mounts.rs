//! `rbuild cache mounts`: the caches of `RUN --mount=type=cache`, listed, carried elsewhere, removed.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::error::CommandError;
use super::save::no_terminal;
use super::world::World;
use super::{rows, ui, units};
use crate::archive::{ArchiveError, write_whole};
use crate::store::{CacheMountId, CacheUse, KeptMount, MountFilesError, Store};

/// Manage the build cache.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rbuild cache mounts ls\n  rbuild cache mounts rm --all\n\n\
    See also: rbuild du, rbuild prune, rbuild cache mounts")]
pub struct CacheGroup {
    #[command(subcommand)]
    pub command: CacheCommand,
}

/// The words of `rbuild cache`.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Manage the caches of `RUN --mount=type=cache`
    #[command(arg_required_else_help = true)]
    Mounts(MountsGroup),
}

/// Manage cache mounts.
#[derive(Debug, Args)]
#[command(
    after_help = "A cache is named by its `id` in the Dockerfile (without one: its target, as `/root/.cache`) or \
    by the ID that `ls` shows.\n\n\
    Examples:\n  rbuild cache mounts ls\n  rbuild cache mounts export /root/.cache/pip -o pip.tar\n  \
    rbuild cache mounts import /root/.cache/pip pip.tar\n  rbuild cache mounts rm /root/.cache/pip\n\n\
    See also: rbuild du, rbuild prune"
)]
pub struct MountsGroup {
    #[command(subcommand)]
    pub command: MountsCommand,
}

/// The words of `rbuild cache mounts`.
#[derive(Debug, Subcommand)]
pub enum MountsCommand {
    /// List them, last used first
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Write the files of one as a tar
    Export(ExportArgs),
    /// Read the files of one from a tar, which may be compressed
    Import(ImportArgs),
    /// Remove some; a step that needs one then starts with an empty one
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
}

/// Arguments of `ls`.
#[derive(Debug, Args)]
#[command(
    after_help = "Fields: ID, Name, Size, Inodes, LastUsedSince, LastUsedAt, CreatedAt, Sharing, InUse, Mode, \
    Owner, Seeded\n\nExamples:\n  rbuild cache mounts ls\n  rbuild cache mounts ls --format '{{.Name}} {{.Size}}'\n\n\
    See also: rbuild du"
)]
pub struct LsArgs {
    /// Print through a Go template, `table TEMPLATE` or `json`
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "quiet")]
    pub format: Option<String>,
    /// Print IDs only
    #[arg(short, long)]
    pub quiet: bool,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
#[command(after_help = "Equal files are equal bytes: sorted, owners as numbers, times in whole seconds.\n\n\
    Examples:\n  rbuild cache mounts export go-mod -o go-mod.tar\n  rbuild cache mounts export go-mod | zstd > go-mod.tar.zst\n\n\
    See also: rbuild cache mounts import")]
pub struct ExportArgs {
    /// The id, or the ID of `ls`
    #[arg(value_name = "CACHE")]
    pub cache: String,
    /// Write to a file (mode 0600), instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rbuild cache mounts import go-mod go-mod.tar\n  \
    zstdcat go-mod.tar.zst | rbuild cache mounts import --merge go-mod\n\n\
    See also: rbuild cache mounts export")]
pub struct ImportArgs {
    /// The id, or the ID of `ls`; where there is none, one of this id is made
    #[arg(value_name = "CACHE")]
    pub cache: String,
    /// The archive; `-`: standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub file: String,
    /// Keep what is there, and put the files of the archive among it
    #[arg(long)]
    pub merge: bool,
    /// A new cache: the mode that the Dockerfile gives it
    #[arg(long, value_name = "MODE", value_parser = mode, default_value = "0755")]
    pub mode: u32,
    /// A new cache: the owner that the Dockerfile gives it
    #[arg(long, value_name = "ID", default_value_t = 0)]
    pub uid: u32,
    /// A new cache: the group that the Dockerfile gives it
    #[arg(long, value_name = "ID", default_value_t = 0)]
    pub gid: u32,
}

/// Arguments of `rm`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rbuild cache mounts rm /root/.cache/pip\n  rbuild cache mounts rm --all\n\n\
    See also: rbuild prune"
)]
pub struct RmArgs {
    /// Ids, or IDs of `ls`; all of that id go
    #[arg(value_name = "CACHE", required_unless_present = "all", conflicts_with = "all")]
    pub caches: Vec<String>,
    /// Remove all that no step uses
    #[arg(short, long)]
    pub all: bool,
}

fn mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| format!("`{text}` is no mode, as `0755`"))
}

/// Runs a command of the group.
pub fn cache_mounts(world: &World, group: CacheGroup) -> Result<(), CommandError> {
    let CacheCommand::Mounts(MountsGroup { command }) = group.command;
    match command {
        MountsCommand::Ls(args) => ls(&world.open_store()?, args),
        MountsCommand::Export(args) => export(world, args),
        MountsCommand::Import(args) => import(world, args),
        MountsCommand::Rm(args) => rm(&world.open_store()?, args),
    }
}

fn ls(store: &Store, args: LsArgs) -> Result<(), CommandError> {
    let mounts = store.kept_mounts()?;
    if args.quiet {
        mounts.iter().for_each(|mount| ui::line(&mount.name));
        return Ok(());
    }
    let rows: Vec<Value> = mounts.iter().map(row).collect();
    let columns = [
        ("ID", "ID"),
        ("Name", "NAME"),
        ("Size", "SIZE"),
        ("LastUsedSince", "LAST USED"),
        ("Sharing", "SHARING"),
        ("InUse", "IN USE"),
    ];
    rows::print(&rows, args.format.as_deref(), &columns)
}

fn row(mount: &KeptMount) -> Value {
    let at = |time: Timestamp| time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string();
    json!({
        "ID": mount.name,
        "Name": mount.id,
        "Size": units::exact_size(mount.size),
        "Inodes": mount.inodes.to_string(),
        "LastUsedSince": units::ago(Timestamp::now().as_second() - mount.used.as_second()),
        "LastUsedAt": at(mount.used),
        "CreatedAt": at(mount.created),
        "Sharing": mount.sharing.map_or("", CacheUse::as_str),
        "InUse": mount.in_use.to_string(),
        "Mode": format!("{:04o}", mount.mode),
        "Owner": format!("{}:{}", mount.uid, mount.gid),
        "Seeded": mount.seeded.to_string(),
    })
}

/// Returns the caches that a text names: by id, or by the start of what `ls` shows.
fn named(store: &Store, text: &str) -> Result<Vec<KeptMount>, CommandError> {
    let all = store.kept_mounts()?;
    let by_id: Vec<KeptMount> = all.iter().filter(|mount| mount.id == text).cloned().collect();
    if !by_id.is_empty() {
        return Ok(by_id);
    }
    let exact: Vec<KeptMount> = all.iter().filter(|mount| mount.name == text).cloned().collect();
    if !exact.is_empty() || text.is_empty() {
        return Ok(exact);
    }
    Ok(all.into_iter().filter(|mount| mount.name.starts_with(text)).collect())
}

fn none(text: &str) -> CommandError {
    CommandError::new(format!("No such cache mount: {text}")).hint("`rbuild cache mounts ls` lists them")
}

/// Returns the one cache that a text names; `None` where there is none.
fn one(store: &Store, text: &str) -> Result<Option<KeptMount>, CommandError> {
    let mut found = named(store, text)?;
    if found.len() > 1 {
        let names: Vec<&str> = found.iter().map(|mount| mount.name.as_str()).collect();
        return Err(CommandError::new(format!("several cache mounts are `{text}`: {}", names.join(", ")))
            .hint("they differ in mode, owner or what they started with: name one by its ID"));
    }
    Ok(found.pop())
}

fn export(world: &World, args: ExportArgs) -> Result<(), CommandError> {
    if args.output.is_none() && ui::out_is_terminal() {
        return Err(no_terminal());
    }
    let store = world.open_store()?;
    let mount = one(&store, &args.cache)?.ok_or_else(|| none(&args.cache))?;
    match &args.output {
        Some(path) => {
            let mut failed = None;
            let written = write_whole(path, 0o600, store.options().sync, |file| {
                let mut out = BufWriter::with_capacity(1 << 16, file);
                let exported = store.export_mount(&mount, &mut out);
                exported.map_err(|error| {
                    let why = io::Error::other(error.to_string());
                    failed = Some(error);
                    ArchiveError::Write(why)
                })?;
                out.flush().map_err(ArchiveError::Write)
            });
            match failed {
                Some(error) => Err(error.into()),
                None => Ok(written?),
            }
        }
        None => {
            let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
            store.export_mount(&mount, &mut out)?;
            Ok(out.flush()?)
        }
    }
}

fn import(world: &World, args: ImportArgs) -> Result<(), CommandError> {
    if args.file == "-" && ui::in_is_terminal() {
        return Err(CommandError::usage("an archive is expected on standard input, which is a terminal"));
    }
    let archive: Box<dyn Read> = match args.file.as_str() {
        "-" => Box::new(io::stdin().lock()),
        path => {
            Box::new(File::open(path).map_err(|e| CommandError::new(format!("cannot read `{path}`: {e}")))?)
        }
    };
    let store = world.open_store()?;
    let left_out = match one(&store, &args.cache)? {
        Some(mount) => store.import_mount(&mount, args.merge, archive)?,
        None => {
            let (id, mode) = (args.cache.clone(), args.mode);
            let id = CacheMountId { id, seed: None, mode, uid: args.uid, gid: args.gid };
            let made = store.import_new_mount(&id, archive)?;
            made.ok_or_else(|| {
                CommandError::new(format!("the cache mount `{}` was made meanwhile", args.cache))
            })?
        }
    };
    if left_out != Default::default() {
        let what = ui::count_left_out(&left_out);
        ui::note(&format!("warning: left out, for an ordinary user cannot make them ({what})\n"));
    }
    Ok(())
}

fn rm(store: &Store, args: RmArgs) -> Result<(), CommandError> {
    let mut chosen = Vec::new();
    let mut missing = None;
    match args.all {
        true => chosen = store.kept_mounts()?,
        false => {
            for text in &args.caches {
                match named(store, text)? {
                    found if found.is_empty() => missing = Some(none(text)),
                    found => chosen.extend(found),
                }
            }
        }
    }
    let mut freed = 0u64;
    let mut failed = missing;
    for mount in chosen {
        match store.remove_mount(&mount) {
            Ok(()) => {
                freed = freed.saturating_add(mount.size);
                ui::line(&mount.name);
            }
            // Nobody asked for this one.
            Err(MountFilesError::InUse(_)) if args.all => {
                ui::note(&format!("note: `{}` is in use by a step that runs, and stays\n", mount.id));
            }
            Err(MountFilesError::Gone(_)) => {}
            Err(error) => failed = Some(error.into()),
        }
    }
    ui::line(&format!("Total reclaimed space: {}", units::exact_size(freed)));
    failed.map_or(Ok(()), Err)
}
