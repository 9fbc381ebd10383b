//! `rbuild registry`: serves images over the distribution API; `rbuild registry gc`: removes what none needs.
//!
//! Not here: what options and variables say together (`settings`), serving (`registry::server`).

mod settings;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::error::CommandError;
use super::world::{Global, World, on_stop, registry_variables};
use super::{ui, units, when};
use crate::registry::server::{
    Htpasswd, Limits, Line, LocalImages, Log, Server, ServerOptions, Source, Stop,
};
use crate::store::{CollectOptions, Repositories, StoreError};
use settings::{ROOT_DIRECTORY, Settings};

/// How long an upload is kept that nobody goes on with.
const UPLOADS: Duration = Duration::from_secs(7 * 24 * 3600);

/// How many bytes of packed layers are kept for who pulls next, with `--serve-local`.
const MADE: u64 = 8 << 30;

/// Serve a registry of images: push to it, pull from it.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "What is pushed is kept under --root. Variables of docker's registry that are honoured: REGISTRY_HTTP_ADDR, \
    REGISTRY_HTTP_HOST, REGISTRY_HTTP_TLS_CERTIFICATE, REGISTRY_HTTP_TLS_KEY, REGISTRY_AUTH_HTPASSWD_PATH, \
    REGISTRY_STORAGE_DELETE_ENABLED, REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY, \
    REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED.\n\n\
    Examples:\n  rbuild registry\n  rbuild push localhost:5000/app\n  \
    rbuild registry --listen :443 --tls-cert tls.crt --tls-key tls.key --htpasswd users\n  \
    rbuild registry --serve-local --read-only\n  \
    rbuild registry gc --dry-run\n\n\
    See also: rbuild push, rbuild pull, rbuild search, rbuild login"
)]
pub struct RegistryArgs {
    #[command(subcommand)]
    pub command: Option<RegistryCommand>,
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// The words of `rbuild registry`.
#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// Remove what no image in the registry needs; others may push and pull meanwhile
    Gc(GcArgs),
}

/// How it is served.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Where to listen: HOST:PORT, or :PORT for all addresses; port 0 is a free one [default: 127.0.0.1:5000]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Take nothing, remove nothing
    #[arg(long)]
    pub read_only: bool,
    /// Let others pull all that `rbuild images` shows, too, under its name without a host
    #[arg(long)]
    pub serve_local: bool,
    /// Let in who is in this file only, as `htpasswd -B` writes it
    #[arg(long, value_name = "FILE")]
    pub htpasswd: Option<PathBuf>,
    /// Let others pull all the same
    #[arg(long, requires = "htpasswd")]
    pub anonymous_pull: bool,
    /// On the loopback without users, answer to this name as well: others than localhost and addresses are refused
    #[arg(long, value_name = "NAME")]
    pub allow_host: Vec<String>,
    /// The certificate to show (PEM, with those between it and the authority); read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// How often what no image needs is removed; 0s for never
    #[arg(long, value_name = "DURATION", default_value = "6h")]
    pub gc_interval: String,
    /// How long it is kept after somebody last relied on it
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    pub gc_grace: String,
    /// Remove manifests without a tag as well
    #[arg(long)]
    pub gc_delete_untagged: bool,
    /// Print no line for each request
    #[arg(short, long)]
    pub quiet: bool,
}

/// Remove what no image in the registry needs; others may push and pull meanwhile.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rbuild registry gc\n  rbuild registry gc --delete-untagged --dry-run\n\n\
    See also: rbuild registry, rbuild system df"
)]
pub struct GcArgs {
    /// Only tell what would go
    #[arg(long)]
    pub dry_run: bool,
    /// Remove manifests that no tag leads to, by itself, through an index or as their subject
    #[arg(long, short = 'm')]
    pub delete_untagged: bool,
    /// Keep what somebody pushed, mounted or asked for within this time
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    pub grace: String,
}

/// Has the variable of docker's registry say where everything is kept, unless the command line does.
pub fn place(global: &mut Global) {
    let said = registry_variables().into_iter().find(|(name, _)| name == ROOT_DIRECTORY);
    if let (None, Some((_, root))) = (&global.root, said) {
        global.root = Some(PathBuf::from(root));
    }
}

/// Reads a duration as Go writes them.
fn duration(option: &str, text: &str) -> Result<Duration, CommandError> {
    let nanos = when::duration(text.trim()).and_then(|nanos| u64::try_from(nanos).ok());
    nanos.map(Duration::from_nanos).ok_or_else(|| {
        CommandError::usage(format!("bad {option} `{text}`: it is no duration"))
            .hint("a duration is written `90s`, `10m` or `24h`")
    })
}

/// Runs the command.
pub fn registry(world: &World, args: RegistryArgs) -> Result<(), CommandError> {
    match args.command {
        Some(RegistryCommand::Gc(args)) => gc(world, &args),
        None => serve(world, args.serve),
    }
}

fn serve(world: &World, args: ServeArgs) -> Result<(), CommandError> {
    let (quiet, serve_local) = (args.quiet, args.serve_local);
    let collect = (duration("--gc-interval", &args.gc_interval)?, duration("--gc-grace", &args.gc_grace)?);
    let delete_untagged = args.gc_delete_untagged;
    let settings = Settings::new(args, &registry_variables())?;
    for note in &settings.notes {
        ui::note(&format!("warning: {note}\n"));
    }
    let store = Arc::new(world.open_store()?);
    let repositories = Arc::new(Repositories::open(&store)?.within_limits(store.clone()));
    // A lease: nobody removes the store underneath, and no sweep of images waits for it.
    store.hold_only(&[])?;
    let users = settings.htpasswd.as_deref().map(Htpasswd::open).transpose()?;
    let (guarded, encrypted) = (users.is_some(), settings.tls.is_some());
    let options = ServerOptions {
        read_only: settings.read_only,
        delete: settings.delete,
        users,
        anonymous_pull: settings.anonymous_pull,
        hosts: settings.hosts,
        tls: settings.tls,
        collect: (!collect.0.is_zero()).then(|| {
            let (dry_run, grace) = (false, collect.1);
            (collect.0, CollectOptions { dry_run, delete_untagged, grace, uploads: UPLOADS })
        }),
        log: log(quiet),
        limits: Limits::default(),
    };
    let mut sources: Vec<Arc<dyn Source>> = Vec::new();
    if serve_local {
        sources.push(Arc::new(LocalImages::open(store.root(), store.options(), MADE)?));
    }
    let server = Server::bind(&settings.listen, repositories, sources, options)?;
    let address = server.address();
    if let Some(warning) = exposed(address, guarded, encrypted) {
        ui::note(&format!("warning: {warning}\n"));
    }
    let stop = Stop::default();
    let stopped = stop.clone();
    on_stop(move || stopped.stop())?;
    ui::line(&format!("Listening on {}://{address}", if encrypted { "https" } else { "http" }));
    server.run(&stop)?;
    Ok(())
}

/// Says what is open to others.
fn exposed(address: SocketAddr, guarded: bool, encrypted: bool) -> Option<String> {
    if address.ip().to_canonical().is_loopback() {
        return None;
    }
    let lacks = match (guarded, encrypted) {
        (true, true) => return None,
        (false, false) => {
            "without passwords and without TLS: whoever reaches it can push, remove and read along"
        }
        (false, true) => "without passwords (--htpasswd): whoever reaches it can push and remove",
        (true, false) => "without TLS (--tls-cert, --tls-key): whoever is between can read the passwords",
    };
    Some(format!("{address} can be reached from other machines, {lacks}"))
}

fn log(quiet: bool) -> Log {
    Arc::new(move |line| {
        let now = Timestamp::now();
        match line {
            Line::Access(_) if quiet => {}
            Line::Access(text) | Line::Collected(text) => ui::note(&format!("{now:.3} {text}\n")),
            Line::Fault(text) => ui::note(&format!("{now:.3} error: {text}\n")),
        }
    })
}

fn gc(world: &World, args: &GcArgs) -> Result<(), CommandError> {
    let grace = duration("--grace", &args.grace)?;
    let store = world.open_store()?;
    let repositories = Repositories::open(&store)?;
    match store.hold_only(&[]) {
        // There would be no way to make room.
        Ok(()) | Err(StoreError::Full { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let (dry_run, delete_untagged) = (args.dry_run, args.delete_untagged);
    let options = CollectOptions { dry_run, delete_untagged, grace, uploads: UPLOADS };
    let collected = repositories.collect(&options)?;
    let done = if args.dry_run { "would be removed" } else { "removed" };
    for (name, digest) in &collected.manifests {
        ui::line(&format!("{done}: manifest {name}@{digest}"));
    }
    for digest in &collected.blobs {
        ui::line(&format!("{done}: blob {digest}"));
    }
    if collected.uploads > 0 {
        ui::line(&format!("{done}: {} unfinished uploads", collected.uploads));
    }
    let title = if args.dry_run { "Total reclaimable space" } else { "Total reclaimed space" };
    ui::line(&format!("{title}: {}", units::size(collected.freed)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_can_reach_is_said() {
        let check = |address: &str, guarded, encrypted, expect: Option<&str>| {
            let found = exposed(address.parse().unwrap(), guarded, encrypted);
            assert_eq!(found.is_some(), expect.is_some(), "{address} {found:?}");
            assert!(found.unwrap_or_default().contains(expect.unwrap_or_default()), "{address}");
        };
        check("127.0.0.1:1", false, false, None);
        check("[::1]:1", false, false, None);
        check("[::ffff:127.0.0.1]:1", false, false, None);
        check("0.0.0.0:1", false, false, Some("without passwords and without TLS"));
        check("[::]:1", true, false, Some("without TLS"));
        check("192.0.2.1:1", false, true, Some("without passwords"));
        check("192.0.2.1:1", true, true, None);
    }
}
