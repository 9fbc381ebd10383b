//! What all commands share: the store, who we are, where programs are, signals.
//!
//! The only place that reads the environment for them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::error::{CommandError, chain};
use super::snapshotter::SnapshotterOption;
use crate::build::Engine;
use crate::net::{Client, ClientOptions, ProxySettings};
use crate::registry::{CredentialOptions, Registries, RegistryOptions, SettingsFile};
use crate::report::Reporter;
use crate::sandbox::facts::{self, Fact};
use crate::sandbox::isolation::{self, Surroundings, WantedIsolation};
use crate::sandbox::network::{NetworkPool, NoNetwork};
use crate::sandbox::{Isolation, LazyLauncher, LazyNetworks};
use crate::solve::Cancel;
use crate::store::{Store, StoreOptions};
use crate::sys::read::read_small;
use crate::sys::userns::{self, Identity, UsernsError};
use crate::sys::{OverlayXattrs, Snapshotter};
use crate::worker::FetchOptions;

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Where images, layers and the cache are kept
    ///
    /// Without it: $RBUILD_ROOT; else /var/lib/rbuild for root, $XDG_DATA_HOME/rbuild or
    /// ~/.local/share/rbuild for others.
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub root: Option<PathBuf>,
    /// Do not wait until what was written is safe on the disk
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_sync: bool,
    #[command(flatten)]
    pub snapshotter: SnapshotterOption,
    /// Docker's settings for registries: insecure-registries, registry-mirrors, proxies
    ///
    /// Without it: /etc/docker/daemon.json and ~/.config/docker/daemon.json, if they are there.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub daemon_json: Option<PathBuf>,
}

/// What commands work with.
pub struct World {
    /// Why no namespaces can be had, if so.
    no_namespaces: Option<String>,
    identity: Result<Identity, UsernsError>,
    /// Where the store is.
    pub store_root: PathBuf,
    sync: bool,
    snapshotter: Option<Snapshotter>,
    daemon_json: Option<PathBuf>,
    /// Starts sandboxes.
    pub launcher: LazyLauncher,
    networks: LazyNetworks,
    registries: OnceLock<Registries>,
    insecure: OnceLock<Vec<String>>,
    /// The host's /etc/resolv.conf.
    pub resolv_conf: String,
}

/// The signal that asked to stop; 0 for none.
static STOPPED_BY: AtomicI32 = AtomicI32::new(0);

impl World {
    /// Looks around. An ordinary user's process enters a user namespace here, so no other
    /// thread may run yet; where that fails, only `doctor` goes on.
    pub fn new(global: &Global, needs_namespace: bool) -> Result<World, CommandError> {
        // A word that is none is told where steps are run.
        let wanted = isolation_variable().and_then(|word| word.parse().ok()).unwrap_or_default();
        World::isolated(global, needs_namespace, wanted)
    }

    /// Does the same, for steps that are to be isolated this way.
    pub fn isolated(
        global: &Global,
        needs_namespace: bool,
        wanted: WantedIsolation,
    ) -> Result<World, CommandError> {
        let mut identity = match wanted {
            WantedIsolation::Chroot if rustix::process::geteuid().is_root() => Ok(userns::stay()),
            _ => userns::enter_if_needed(),
        };
        let mut isolation = Isolation::Namespaces;
        let mut no_namespaces = None;
        if identity.is_err() || wanted == WantedIsolation::Chroot {
            let surroundings = surroundings();
            let found = identity.as_ref().map(drop).map_err(|error| chain(error));
            no_namespaces = found.clone().err();
            match isolation::choose(wanted, found, &surroundings) {
                Ok(chosen) => {
                    isolation = chosen;
                    identity = Ok(userns::stay());
                }
                Err(error) if needs_namespace => {
                    let mut told = CommandError::new(error.to_string());
                    told.hints = error.hints(&surroundings);
                    return Err(told.hint("`rbuild doctor` says what this machine lacks"));
                }
                Err(_) => {}
            }
        }
        let rootless = identity.as_ref().map_or(true, |identity| identity.rootless);
        Ok(World {
            store_root: store_root(global, rootless)?,
            no_namespaces,
            identity,
            sync: !global.no_sync,
            snapshotter: global.snapshotter.wish(std::env::var("RBUILD_SNAPSHOTTER").ok())?,
            daemon_json: global.daemon_json.clone(),
            launcher: LazyLauncher::new(PathBuf::from("/proc/self/exe")).isolated(isolation),
            networks: match isolation {
                Isolation::Chroot => LazyNetworks::without(NoNetwork::NoNamespaces),
                Isolation::Namespaces => LazyNetworks::new(std::env::var("PATH").unwrap_or_default()),
            },
            registries: OnceLock::new(),
            insecure: OnceLock::new(),
            resolv_conf: read_small(Path::new("/etc/resolv.conf"))
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .unwrap_or_default(),
        })
    }

    /// Returns who we are.
    pub fn identity(&self) -> Result<&Identity, &UsernsError> {
        self.identity.as_ref()
    }

    /// Returns what `doctor` says of the container around, and of how steps are isolated.
    pub fn isolation_facts(&self) -> Vec<Fact> {
        let isolation = self.identity.is_ok().then(|| self.launcher.isolation());
        facts::around(&surroundings(), self.no_namespaces.as_deref(), isolation)
    }

    /// Opens the store, making it where there is none.
    pub fn open_store(&self) -> Result<Store, CommandError> {
        let xattrs = self.identity.as_ref().map_or(OverlayXattrs::User, |identity| identity.xattrs);
        let opened = Store::open(&self.store_root, StoreOptions { xattrs, sync: self.sync });
        let opened = opened.inspect(|store| {
            // A root for a chroot is made without mounts.
            let chroot = self.launcher.isolation() == Isolation::Chroot;
            let wish = if chroot { Some(Snapshotter::Copy) } else { self.snapshotter };
            store.use_snapshotter(wish, std::env::var("PATH").unwrap_or_default());
        });
        opened.map_err(|error| {
            let hint = match &error {
                crate::store::StoreError::Io { source, .. }
                    if source.kind() == std::io::ErrorKind::PermissionDenied =>
                {
                    Some("name another place with --root or RBUILD_ROOT")
                }
                _ => None,
            };
            let mut error = CommandError::from(error);
            error.hints.extend(hint.map(str::to_owned));
            error
        })
    }

    /// Returns where private networks come from.
    pub fn networks(&self) -> Result<&NetworkPool, &NoNetwork> {
        self.networks.get()
    }

    /// Lets registries be insecure, for this command; to be said before they are reached.
    pub fn allow_insecure(&self, hosts: Vec<String>) {
        let _ = self.insecure.set(hosts);
    }

    /// Returns the registries, as the environment and the options say how they are reached.
    pub fn registries(&self) -> &Registries {
        self.registries.get_or_init(|| {
            let insecure = self.insecure.get().cloned().unwrap_or_default();
            Registries::new(RegistryOptions { insecure, ..registry_options(self.daemon_json.as_deref()) })
        })
    }

    /// Makes what fetches over http and https, through the proxies of the environment.
    pub fn http_client(&self) -> Client {
        Client::new(ClientOptions { proxies: fetch_options().proxies, ..ClientOptions::default() })
    }

    /// Makes a flag that Ctrl-C, SIGTERM and SIGHUP raise.
    pub fn cancel_on_signals(&self) -> Result<Cancel, CommandError> {
        cancel_on_signals()
    }

    /// Returns the error of a command that a signal stopped.
    pub fn interrupted(&self) -> CommandError {
        interrupted()
    }

    /// Makes what builds work with.
    pub fn engine<'a>(
        &'a self,
        store: &'a Store,
        reporter: &'a dyn Reporter,
        cancel: &'a Cancel,
    ) -> Result<Engine<'a>, CommandError> {
        let single = self.identity.as_ref().ok().filter(|identity| identity.rootless && identity.ids.single);
        Ok(Engine {
            store,
            launcher: &self.launcher,
            networks: &self.networks,
            resolv_conf: self.resolv_conf.clone(),
            fetch: fetch_options(),
            registries: self.registries(),
            single_id: single.map(|identity| identity.ids.why.clone()),
            reporter,
            cancel,
        })
    }
}

/// Makes a flag that Ctrl-C, SIGTERM and SIGHUP raise.
pub fn cancel_on_signals() -> Result<Cancel, CommandError> {
    let cancel = Cancel::new();
    let raised = cancel.clone();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if STOPPED_BY.swap(signal, Ordering::SeqCst) == 0 {
                raised.cancel();
            }
        }
    })?;
    Ok(cancel)
}

/// Returns the error of a command that a signal stopped.
pub fn interrupted() -> CommandError {
    let signal = STOPPED_BY.load(Ordering::SeqCst);
    CommandError::new("stopped; nothing was left behind")
        .code(128u8.saturating_add(signal.clamp(0, 64) as u8))
}

/// Reads from the environment how to reach registries; `daemon_json`: what stands in for docker's settings.
pub fn registry_options(daemon_json: Option<&Path>) -> RegistryOptions {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let home = variable("HOME").map(PathBuf::from);
    let config = variable("XDG_CONFIG_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let config = config.or_else(|| home.as_ref().map(|home| home.join(".config")));
    let ours = |folder: &Path| SettingsFile {
        path: folder.join("rbuild/registries.json"),
        is_dockers: false,
        required: false,
    };
    let dockers = |path: PathBuf, required| SettingsFile { path, is_dockers: true, required };
    let mut settings = vec![ours(Path::new("/etc"))];
    settings.extend(config.as_deref().map(ours));
    let mut certificate_folders = vec![PathBuf::from("/etc/docker/certs.d")];
    certificate_folders.extend(config.as_ref().map(|folder| folder.join("docker/certs.d")));
    match daemon_json {
        Some(file) => settings.push(dockers(file.to_owned(), true)),
        None => {
            settings.push(dockers(PathBuf::from("/etc/docker/daemon.json"), false));
            settings.extend(config.map(|folder| dockers(folder.join("docker/daemon.json"), false)));
        }
    }
    let docker = variable("DOCKER_CONFIG").map(PathBuf::from);
    let docker = docker.or_else(|| home.map(|home| home.join(".docker")));
    RegistryOptions {
        proxies: ProxySettings::from_variables(|name| std::env::var(name).ok()),
        credentials: CredentialOptions {
            config_file: docker.map(|folder| folder.join("config.json")),
            auth_config: std::env::var("DOCKER_AUTH_CONFIG").ok().filter(|text| !text.trim().is_empty()),
            path: variable("PATH").unwrap_or_default(),
        },
        settings,
        certificate_folders,
        ..RegistryOptions::default()
    }
}

/// Reads from the environment how to reach the world.
fn fetch_options() -> FetchOptions {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let proxies = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        name.to_ascii_lowercase().ends_with("_proxy").then_some((name, value))
    });
    FetchOptions {
        proxies: ProxySettings::from_variables(|name| std::env::var(name).ok()),
        proxy_variables: proxies.collect(),
        ca_file: None,
        git_certificates: variable("GIT_SSL_CAINFO").or_else(|| variable("SSL_CERT_FILE")).map(PathBuf::from),
        path: variable("PATH").unwrap_or_default(),
        ssh_agent: None,
        known_hosts: variable("HOME")
            .map(|home| PathBuf::from(home).join(".ssh/known_hosts"))
            .filter(|f| f.is_file()),
    }
}

/// Returns how progress is to be shown where the command line does not say: BuildKit's variable.
pub fn progress_variable() -> Option<String> {
    std::env::var("BUILDKIT_PROGRESS").ok().filter(|word| !word.is_empty())
}

/// Tells whether colours are welcome on a terminal (https://no-color.org).
pub fn colours_are_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && !terminal_is_dumb()
}

/// Tells whether the terminal can but write.
pub fn terminal_is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Tells whether the user's locale is of UTF-8: locale(7).
pub fn locale_is_utf8() -> bool {
    let first = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(|name| std::env::var(name).ok());
    let locale = first.into_iter().find(|value| !value.is_empty()).unwrap_or_default().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// Returns how steps are to be isolated where the command line does not say.
pub fn isolation_variable() -> Option<String> {
    std::env::var("RBUILD_ISOLATION").ok().filter(|word| !word.is_empty())
}

/// Looks for a container around this process.
pub fn surroundings() -> Surroundings {
    Surroundings::look(|name| std::env::var(name).ok())
}

fn store_root(global: &Global, rootless: bool) -> Result<PathBuf, CommandError> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let chosen = match (&global.root, variable("RBUILD_ROOT")) {
        (Some(root), _) => root.clone(),
        (None, Some(root)) => root,
        (None, None) if !rootless => PathBuf::from("/var/lib/rbuild"),
        (None, None) => match (variable("XDG_DATA_HOME"), variable("HOME")) {
            (Some(data), _) if data.is_absolute() => data.join("rbuild"),
            (_, Some(home)) => home.join(".local/share/rbuild"),
            _ => {
                return Err(CommandError::new("cannot tell where the store is: HOME is not set")
                    .hint("name a place with --root or RBUILD_ROOT"));
            }
        },
    };
    Ok(std::path::absolute(chosen)?)
}
