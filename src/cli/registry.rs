//! `rbuild registry`: serves images over the distribution API; `rbuild registry gc`: removes what none needs.
//!
//! Options win over the variables of docker's registry. Not here: serving (`registry::server`).

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
    Htpasswd, Limits, Line, LocalImages, Log, Server, ServerOptions, Source, Stop, TlsFiles,
};
use crate::store::{CollectOptions, Repositories, StoreError};
use crate::sys::browser::host_of;

/// Where it listens unless told otherwise.
const LISTEN: &str = "127.0.0.1:5000";
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

const ROOT_DIRECTORY: &str = "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY";
const READ_ONLY: &str = "REGISTRY_STORAGE_MAINTENANCE_READONLY";
const READ_ONLY_ENABLED: &str = "REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED";

/// Starts of variables that keep somebody out or something secret, in a way that is not ours. Without them the
/// registry would be more open than was asked for.
const GUARDS: [&str; 3] = ["REGISTRY_AUTH_", "REGISTRY_HTTP_TLS_CLIENTCAS", "REGISTRY_HTTP_TLS_LETSENCRYPT"];
const PASSWORDS: &str = "REGISTRY_AUTH_HTPASSWD_";

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

/// What the options say, and the variables where those say nothing.
#[derive(Debug)]
struct Settings {
    listen: String,
    read_only: bool,
    delete: bool,
    htpasswd: Option<PathBuf>,
    anonymous_pull: bool,
    tls: Option<TlsFiles>,
    /// The names that it is called by.
    hosts: Vec<String>,
    /// What was said and is not done.
    notes: Vec<String>,
}

impl Settings {
    fn new(args: ServeArgs, variables: &[(String, String)]) -> Result<Settings, CommandError> {
        let said =
            |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let listen = args.listen.or_else(|| said("REGISTRY_HTTP_ADDR").map(str::to_owned));
        let file = |option: Option<PathBuf>, name: &str| option.or_else(|| said(name).map(PathBuf::from));
        let tls = match (
            file(args.tls_cert, "REGISTRY_HTTP_TLS_CERTIFICATE"),
            file(args.tls_key, "REGISTRY_HTTP_TLS_KEY"),
        ) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            (None, None) => None,
            _ => return Err(CommandError::usage("TLS takes both a certificate and its key")),
        };
        let htpasswd = file(args.htpasswd, "REGISTRY_AUTH_HTPASSWD_PATH");
        let of_passwords = variables.iter().find(|(name, value)| {
            name.starts_with(PASSWORDS) || (name == "REGISTRY_AUTH" && value == "htpasswd")
        });
        // Served open, it would not be what was asked for.
        if let (None, Some((name, _))) = (&htpasswd, of_passwords) {
            return Err(CommandError::usage(format!("{name} is set, but no file of passwords is named"))
                .hint("name it with --htpasswd or REGISTRY_AUTH_HTPASSWD_PATH"));
        }
        let guards = |name: &str| GUARDS.iter().any(|guard| name.starts_with(guard));
        if let Some((name, _)) =
            variables.iter().find(|(name, _)| guards(name) && !name.starts_with(PASSWORDS))
        {
            return Err(CommandError::usage(format!("{name} is not known here"))
                .hint("passwords come from --htpasswd, certificates from --tls-cert and --tls-key"));
        }
        match said("REGISTRY_AUTH") {
            None | Some("htpasswd" | "none") => {}
            Some(other) => {
                return Err(CommandError::usage(format!(
                    "REGISTRY_AUTH: `{other}` is not known here: only `htpasswd` is"
                )));
            }
        }
        let truth = |name: &str| match said(name) {
            None => Ok(None),
            Some(text) => said_truth(text)
                .map(Some)
                .ok_or_else(|| CommandError::usage(format!("{name}: `{text}` is neither true nor false"))),
        };
        // Docker's documentation has this one as a map, too: `{"enabled":true}`.
        let map = said(READ_ONLY).map(|text| {
            said_map(text).ok_or_else(|| {
                CommandError::usage(format!(
                    "{READ_ONLY}: `{text}` is not of the form `{{\"enabled\":true}}`"
                ))
            })
        });
        let read_only = truth(READ_ONLY_ENABLED)?.or(map.transpose()?).unwrap_or(false);
        let listen = listen.unwrap_or_else(|| LISTEN.to_owned());
        let mut hosts = Vec::new();
        for name in &args.allow_host {
            hosts.push(host_name(name).ok_or_else(|| {
                CommandError::usage(format!("bad --allow-host `{name}`: it is no name of a host"))
            })?);
        }
        if let Some(address) = said("REGISTRY_HTTP_HOST") {
            let authority = address.split_once("://").map_or(address, |(_, rest)| rest);
            let name = host_name(authority.split('/').next().unwrap_or_default()).ok_or_else(|| {
                CommandError::usage(format!("REGISTRY_HTTP_HOST: `{address}` is no address of a registry"))
            })?;
            hosts.push(name);
        }
        hosts.extend(host_name(&listen));
        let honoured = [
            "REGISTRY_HTTP_ADDR",
            "REGISTRY_HTTP_HOST",
            "REGISTRY_HTTP_TLS_CERTIFICATE",
            "REGISTRY_HTTP_TLS_KEY",
            "REGISTRY_AUTH",
            "REGISTRY_AUTH_HTPASSWD_PATH",
            "REGISTRY_STORAGE_DELETE_ENABLED",
            ROOT_DIRECTORY,
            READ_ONLY,
            READ_ONLY_ENABLED,
        ];
        let others = variables.iter().filter(|(name, _)| !honoured.contains(&name.as_str()));
        let notes = others.map(|(name, _)| format!("{name} has no effect here")).collect();
        Ok(Settings {
            listen,
            read_only: args.read_only || read_only,
            delete: truth("REGISTRY_STORAGE_DELETE_ENABLED")?.unwrap_or(true),
            htpasswd,
            anonymous_pull: args.anonymous_pull,
            tls,
            hosts,
            notes,
        })
    }
}

/// Reads true or false as YAML has them.
fn said_truth(text: &str) -> Option<bool> {
    match text {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Reads `{"enabled": BOOL}`, or the same without braces and quotes, as YAML allows.
fn said_map(text: &str) -> Option<bool> {
    let text = text.trim();
    let text = text.strip_prefix('{').map_or(Some(text), |text| text.strip_suffix('}'))?;
    let (key, value) = text.split_once(':')?;
    (key.trim().trim_matches('"') == "enabled").then(|| said_truth(value.trim()))?
}

/// Returns the host of `HOST[:PORT]`, if it is a name or an address.
fn host_name(authority: &str) -> Option<String> {
    let host = host_of(authority);
    let sign =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_') || authority.starts_with('[');
    (!host.is_empty() && !authority.contains('/') && host.chars().all(sign)).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        args: RegistryArgs,
    }

    fn settings(words: &[&str], variables: &[(&str, &str)]) -> Result<Settings, CommandError> {
        let words = Words::try_parse_from([&["rbuild"], words].concat()).unwrap();
        let variables: Vec<(String, String)> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings::new(words.args.serve, &variables)
    }

    #[test]
    fn options_win_over_variables() {
        let none = settings(&[], &[]).unwrap();
        assert_eq!((none.listen.as_str(), none.delete, none.notes.len()), (LISTEN, true, 0));
        let variables = [
            ("REGISTRY_HTTP_ADDR", ":7000"),
            ("REGISTRY_AUTH_HTPASSWD_PATH", "/users"),
            ("REGISTRY_STORAGE_DELETE_ENABLED", "false"),
            ("REGISTRY_HTTP_TLS_CERTIFICATE", "/c"),
            ("REGISTRY_HTTP_TLS_KEY", "/k"),
            ("REGISTRY_HTTP_SECRET", "x"),
        ];
        let said = settings(&[], &variables).unwrap();
        assert_eq!((said.listen.as_str(), said.delete), (":7000", false));
        assert_eq!(said.htpasswd, Some(PathBuf::from("/users")));
        assert_eq!(said.tls.unwrap().key, PathBuf::from("/k"));
        assert_eq!(said.notes, ["REGISTRY_HTTP_SECRET has no effect here"]);
        let both = settings(&["--listen", "127.0.0.1:1", "--htpasswd", "/mine"], &variables).unwrap();
        assert_eq!((both.listen.as_str(), both.htpasswd), ("127.0.0.1:1", Some(PathBuf::from("/mine"))));
    }

    #[test]
    fn names_it_is_called_by() {
        let check = |words: &[&str], variables: &[(&str, &str)], expect: &[&str]| {
            assert_eq!(settings(words, variables).unwrap().hosts, expect, "{words:?} {variables:?}");
        };
        check(&[], &[], &["127.0.0.1"]);
        check(&["--listen", "registry.lan:5000"], &[], &["registry.lan"]);
        check(
            &["--listen", ":5000", "--allow-host", "a.lan", "--allow-host=b.lan:80"],
            &[],
            &["a.lan", "b.lan"],
        );
        check(&["--listen=:1"], &[("REGISTRY_HTTP_HOST", "https://c.lan:5000/x")], &["c.lan"]);
        assert!(settings(&["--allow-host", "a b"], &[]).is_err());
        assert!(settings(&["--allow-host", "https://a"], &[]).is_err());
        assert!(settings(&[], &[("REGISTRY_HTTP_HOST", "https://")]).is_err());
    }

    #[test]
    fn nothing_is_served_more_openly_than_was_said() {
        for variables in [
            [("REGISTRY_AUTH", "htpasswd")],
            [("REGISTRY_AUTH", "token")],
            [("REGISTRY_STORAGE_DELETE_ENABLED", "maybe")],
            [("REGISTRY_HTTP_TLS_KEY", "/k")],
            [("REGISTRY_AUTH_HTPASSWD_REALM", "mine")],
            [("REGISTRY_AUTH_TOKEN_REALM", "https://auth.example/token")],
            [("REGISTRY_HTTP_TLS_CLIENTCAS_0", "/ca")],
            [("REGISTRY_HTTP_TLS_LETSENCRYPT_EMAIL", "me@example.com")],
            [(READ_ONLY, "true")],
            [(READ_ONLY, "{\"enabled\":maybe}")],
            [(READ_ONLY_ENABLED, "maybe")],
        ] {
            assert!(settings(&[], &variables).is_err(), "{variables:?}");
        }
    }

    #[test]
    fn nothing_is_taken_where_the_variables_say_so() {
        let check = |variables: &[(&str, &str)], words: &[&str], expect| {
            let said = settings(words, variables).unwrap();
            assert_eq!((said.read_only, said.notes.len()), (expect, 0), "{variables:?} {words:?}");
        };
        check(&[], &[], false);
        check(&[(READ_ONLY, "{\"enabled\":true}")], &[], true);
        check(&[(READ_ONLY, "{\"enabled\": false}")], &[], false);
        check(&[(READ_ONLY, "enabled: true")], &[], true);
        check(&[(READ_ONLY_ENABLED, "true")], &[], true);
        check(&[(READ_ONLY, "{\"enabled\":true}"), (READ_ONLY_ENABLED, "false")], &[], false);
        check(&[(READ_ONLY_ENABLED, "false")], &["--read-only"], true);
    }

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
