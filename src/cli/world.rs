//! What all commands share: the store, who we are, where programs are, signals.
//!
//! The only place that reads the environment for them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::config;
use super::error::{CommandError, chain};
use super::foreground::terminal_size;
use super::quota;
use super::reach::Reach;
use super::snapshotter::SnapshotterOption;
use crate::build::{Busybox, Engine};
use crate::container::{Order, Preparation, StartError, Supervisor};
use crate::context::GitOptions;
use crate::net::{Client, ClientOptions, ProxySettings, RetryListener, RetryPolicy};
use crate::registry::{ConfigFile, CredentialOptions, Registries, RegistryOptions, SettingsFile};
use crate::report::Reporter;
use crate::sandbox::facts;
use crate::sandbox::isolation::{self, NoIsolation, Surroundings, WantedIsolation};
use crate::sandbox::network::NoNetwork;
use crate::sandbox::{Isolation, LazyLauncher, LazyNetworks};
use crate::solve::Cancel;
use crate::store::{KeptContainer, Store, StoreOptions};
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

/// Who shows a line about what is tried again.
type Retries = Arc<Mutex<Option<Box<dyn Fn(&str) + Send + Sync>>>>;

/// What commands work with.
pub struct World {
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
    reach: OnceLock<Reach>,
    retries: Retries,
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
        let wanted = match isolation_setting().and_then(|word| word.parse().ok()).unwrap_or_default() {
            // A build of an ordinary user refuses it; the rest keeps to the user's own store.
            WantedIsolation::Chroot if !rustix::process::geteuid().is_root() => WantedIsolation::Default,
            wanted => wanted,
        };
        World::isolated(global, needs_namespace, wanted)
    }

    /// Does the same, for steps that are to be isolated this way.
    pub fn isolated(
        global: &Global,
        needs_namespace: bool,
        wanted: WantedIsolation,
    ) -> Result<World, CommandError> {
        config::get()?;
        let mut identity = match wanted {
            // Devices take a root that is nobody's map of one.
            WantedIsolation::Chroot => Ok(userns::stay()),
            _ => userns::enter_if_needed(),
        };
        let mut isolation = Isolation::Namespaces;
        if identity.is_err() || wanted == WantedIsolation::Chroot {
            let surroundings = surroundings();
            let found = identity.as_ref().map(drop).map_err(|error| chain(error));
            match isolation::choose(wanted, found, &surroundings) {
                Ok(chosen) => {
                    isolation = chosen;
                    identity = Ok(userns::stay());
                }
                Err(error) if needs_namespace => {
                    let mut told = CommandError::new(error.to_string());
                    told.hints = error.hints(&surroundings);
                    match &identity {
                        Err(cause @ UsernsError::SwitchedOff { .. }) => told.hints = facts::enabling(cause),
                        Err(cause) if surroundings.container.is_none() => {
                            told.hints = facts::enabling(cause);
                        }
                        Ok(_) if matches!(error, NoIsolation::NotRoot { .. }) => {
                            told.hints =
                                vec!["leave it out, and namespaces are used; or build as root".to_owned()];
                        }
                        _ => told = told.hint("`rbuild doctor` says what this machine lacks"),
                    }
                    return Err(told);
                }
                Err(_) => {}
            }
        }
        let rootless = identity.as_ref().map_or(true, |identity| identity.rootless);
        Ok(World {
            store_root: root_of(global, rootless)?,
            identity,
            sync: !global.no_sync,
            snapshotter: global.snapshotter.wish(snapshotter_setting())?,
            daemon_json: global.daemon_json.clone(),
            launcher: LazyLauncher::new(PathBuf::from("/proc/self/exe")).isolated(isolation),
            networks: match isolation {
                Isolation::Chroot => LazyNetworks::without(NoNetwork::NoNamespaces),
                Isolation::Namespaces => LazyNetworks::new(std::env::var("PATH").unwrap_or_default()),
            },
            registries: OnceLock::new(),
            insecure: OnceLock::new(),
            reach: OnceLock::new(),
            retries: Retries::default(),
            resolv_conf: read_small(Path::new("/etc/resolv.conf"))
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .unwrap_or_default(),
        })
    }

    /// Opens the store, making it where there is none.
    pub fn open_store(&self) -> Result<Store, CommandError> {
        let quota = quota::read(|limit| quota_variable(limit).or_else(|| config::limit(limit)))?;
        let opened = Store::open(&self.store_root, self.store_options()).map(|store| store.with_quota(quota));
        let opened = opened.inspect(|store| {
            // A root for a chroot is made without mounts.
            let chroot = self.launcher.isolation() == Isolation::Chroot;
            let wish = if chroot { Some(Snapshotter::Copy) } else { self.snapshotter };
            store.use_snapshotter(wish, std::env::var("PATH").unwrap_or_default());
        });
        opened.map_err(|error| {
            let hint = error.hint();
            let mut error = CommandError::from(error);
            error.hints.extend(hint);
            error
        })
    }

    /// Starts a supervisor for a container, which may not be there yet; `network`: it will likely have a private one.
    pub fn supervisor(&self, network: bool) -> Result<Supervisor, StartError> {
        Supervisor::begin(&Preparation {
            path: std::env::var("PATH").unwrap_or_default(),
            chroot: self.launcher.isolation() == Isolation::Chroot,
            network,
        })
    }

    /// Makes what the supervisor of a container needs to know.
    pub fn order(&self, store: &Store, kept: &KeptContainer) -> Order {
        Order {
            id: kept.id.clone(),
            name: kept.name.clone(),
            store_root: self.store_root.clone(),
            xattrs: store.options().xattrs,
            sync: self.sync,
            snapshotter: self.snapshotter.map(|snapshotter| snapshotter.to_string()),
            resolv_conf: self.resolv_conf.clone(),
            attached: false,
            terminal: terminal_size(),
        }
    }

    /// Returns how the store is opened.
    pub fn store_options(&self) -> StoreOptions {
        let xattrs = self.identity.as_ref().map_or(OverlayXattrs::User, |identity| identity.xattrs);
        StoreOptions { xattrs, sync: self.sync }
    }

    /// Lets registries be insecure, for this command; to be said before they are reached.
    pub fn allow_insecure(&self, hosts: Vec<String>) {
        let _ = self.insecure.set(hosts);
    }

    /// Says how the world is reached, for this command; to be said before it is.
    pub fn reach(&self, reach: Reach) {
        let _ = self.reach.set(reach);
    }

    /// Has lines about what is tried again shown by `say`.
    pub fn show_retries(&self, say: impl Fn(&str) + Send + Sync + 'static) {
        *self.retries.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(say));
    }

    fn listener(&self) -> RetryListener {
        let retries = self.retries.clone();
        RetryListener::new(move |line| {
            if let Some(say) = &*retries.lock().unwrap_or_else(PoisonError::into_inner) {
                say(line);
            }
        })
    }

    /// Tells whether an ordinary user runs this.
    pub fn is_rootless(&self) -> bool {
        self.identity.as_ref().map_or(true, |identity| identity.rootless)
    }

    /// Returns the files that docker's settings and ours are read from.
    pub fn settings_files(&self) -> Vec<SettingsFile> {
        registry_options(self.daemon_json.as_deref()).settings
    }

    /// Returns the variables that docker's config.json gives to RUN steps.
    pub fn step_proxies(&self) -> Result<Vec<(&'static str, String)>, CommandError> {
        let Some(file) = docker_config() else { return Ok(Vec::new()) };
        let host = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        let host = host.unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned());
        Ok(ConfigFile::read(&file)?.step_proxies(&host)?)
    }

    /// Returns the registries, as the environment and the options say how they are reached.
    pub fn registries(&self) -> &Registries {
        self.registries.get_or_init(|| {
            let insecure = self.insecure.get().cloned().unwrap_or_default();
            let mut options = registry_options(self.daemon_json.as_deref());
            if let Some(reach) = self.reach.get() {
                options.retry = reach.retry;
                options.no_other_proxies = reach.only;
                options.proxies = reach.proxies(options.proxies);
            }
            Registries::new(RegistryOptions { insecure, listener: self.listener(), ..options })
        })
    }

    /// Makes what fetches over http and https, through the proxies of the environment.
    pub fn http_client(&self) -> Client {
        let FetchOptions { proxies, retry, listener, .. } = self.fetch_options();
        Client::new(ClientOptions { proxies, retry, listener, ..ClientOptions::default() })
    }

    /// Returns how builds reach what is no registry.
    fn fetch_options(&self) -> FetchOptions {
        let mut options = FetchOptions { listener: self.listener(), ..fetch_options() };
        let Some(reach) = self.reach.get() else { return options };
        options.retry = reach.retry;
        let proxies = reach.fetch_proxies(options.proxies.clone());
        if proxies != options.proxies {
            options.proxy_variables = variables_for_git(&proxies);
            options.proxies = proxies;
        }
        options
    }

    /// Makes a flag that Ctrl-C, SIGTERM and SIGHUP raise.
    pub fn cancel_on_signals(&self) -> Result<Cancel, CommandError> {
        cancel_on_signals()
    }

    /// Returns the busybox that stands in for the shell an image lacks: RBUILD_BUSYBOX, else one that
    /// distributions install; `None` where there is none.
    pub fn busybox(&self) -> Result<Option<Busybox>, CommandError> {
        match std::env::var_os("RBUILD_BUSYBOX").filter(|value| !value.is_empty()) {
            None => Ok(Busybox::find()),
            Some(path) => match Busybox::at(Path::new(&path)) {
                Ok(found) => Ok(Some(found)),
                Err(error) => Err(CommandError::new(format!("RBUILD_BUSYBOX: {}", chain(&error)))),
            },
        }
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
            fetch: self.fetch_options(),
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

/// Calls something once Ctrl-C, SIGTERM or SIGHUP comes: for a server, which ends well that way.
pub fn on_stop(stop: impl Fn() + Send + 'static) -> Result<(), CommandError> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            stop();
        }
    })?;
    Ok(())
}

/// Returns the variables by which docker's registry is configured, and that are not empty.
pub fn registry_variables() -> Vec<(String, String)> {
    let all = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with("REGISTRY_"))?;
        Some((name, value.into_string().ok().filter(|value| !value.is_empty())?))
    });
    let mut all: Vec<(String, String)> = all.collect();
    all.sort();
    all
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
    RegistryOptions {
        proxies: proxies(),
        credentials: CredentialOptions {
            config_file: docker_config(),
            auth_config: std::env::var("DOCKER_AUTH_CONFIG").ok().filter(|text| !text.trim().is_empty()),
            path: variable("PATH").unwrap_or_default(),
        },
        settings,
        certificate_folders,
        ..RegistryOptions::default()
    }
}

/// Returns where docker's config.json is, if it can be anywhere.
fn docker_config() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = variable("DOCKER_CONFIG").or_else(|| variable("HOME").map(|home| home.join(".docker")));
    folder.map(|folder| folder.join("config.json"))
}

/// Returns the proxies of the environment.
pub fn environment_proxies() -> ProxySettings {
    ProxySettings::from_variables(|name| std::env::var(name).ok())
}

/// Returns the proxies of the configuration files, without those that a variable of the environment is empty for:
/// that is how one says "none".
pub fn configured_proxies() -> Result<ProxySettings, CommandError> {
    let none = |name: &str| {
        [name.to_owned(), name.to_ascii_uppercase()]
            .iter()
            .any(|name| std::env::var_os(name).is_some_and(|value| value.is_empty()))
    };
    let ProxySettings { http, https, all, no_proxy } = config::get()?.proxies();
    Ok(ProxySettings {
        http: http.filter(|_| !none("http_proxy")),
        https: https.filter(|_| !none("https_proxy")),
        all,
        no_proxy: no_proxy.filter(|_| !none("no_proxy")),
    })
}

/// Makes what git understands of proxies; curl beneath it takes the scheme's own in lower case alone.
fn variables_for_git(proxies: &ProxySettings) -> Vec<(String, OsString)> {
    proxies.variables().into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value.into())).collect()
}

/// Returns the time after which the first silence of a step is told; for tests, which cannot wait a minute.
pub fn silence() -> Option<Duration> {
    let millis = std::env::var("RBUILD_TEST_SILENCE_MS").ok()?.parse().ok()?;
    Some(Duration::from_millis(millis))
}

/// Reads from the environment how to reach the world.
fn fetch_options() -> FetchOptions {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        name.to_ascii_lowercase().ends_with("_proxy").then_some((name, value))
    });
    let from_files = ["http_proxy", "https_proxy", "no_proxy"].into_iter().filter_map(|name| {
        let is_set =
            [name.to_owned(), name.to_ascii_uppercase()].iter().any(|name| std::env::var_os(name).is_some());
        let value = if is_set { None } else { proxy_setting(name) };
        Some((name.to_owned(), value?.into()))
    });
    FetchOptions {
        proxies: proxies(),
        proxy_variables: variables.chain(from_files).collect(),
        retry: RetryPolicy::default(),
        listener: RetryListener::default(),
        ca_file: None,
        git_certificates: variable("GIT_SSL_CAINFO").or_else(|| variable("SSL_CERT_FILE")).map(PathBuf::from),
        path: variable("PATH").unwrap_or_default(),
        ssh_agent: None,
        known_hosts: variable("HOME")
            .map(|home| PathBuf::from(home).join(".ssh/known_hosts"))
            .filter(|f| f.is_file()),
    }
}

/// Returns the path of this program, to be called again later.
pub fn own_program() -> Result<PathBuf, CommandError> {
    Ok(std::env::current_exe()?)
}

/// Returns where `rbuild serve` keeps its builds where the configuration does not say.
pub fn serve_folder() -> Result<PathBuf, CommandError> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/rbuild-serve"));
    }
    let folder = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    match folder.or_else(|| home().map(|home| home.join(".local/state"))) {
        Some(folder) => Ok(folder.join("rbuild/serve")),
        None => Err(CommandError::new("cannot tell where to keep builds: HOME is not set")
            .hint("name a folder: `data` in the configuration")),
    }
}

/// Returns how repositories elsewhere are reached; the folder is the caller's to name.
pub fn git_options() -> GitOptions {
    let options = fetch_options();
    GitOptions {
        folder: PathBuf::new(),
        path: options.path,
        proxies: options.proxy_variables,
        certificates: options.git_certificates,
        ssh_agent: options.ssh_agent,
        known_hosts: options.known_hosts,
    }
}

/// Returns the names of the variables of git's that no build is to see: hooks run with those that say which
/// repository git works on. The one about certificates is nobody's but the user's.
pub fn git_variables() -> Vec<OsString> {
    let names = std::env::vars_os().map(|(name, _)| name);
    names.filter(|name| name.as_encoded_bytes().starts_with(b"GIT_") && name != "GIT_SSL_CAINFO").collect()
}

/// Panics where a test of the program's faults asks for it; no release does.
pub fn panic_if_asked() {
    #[cfg(debug_assertions)]
    if let Some(words) = std::env::var_os("RBUILD_TEST_PANIC") {
        panic!("{}", words.to_string_lossy());
    }
}

/// Returns what a variable says of a limit of the store (`max_used_space`: RBUILD_MAX_USED_SPACE), and its name.
fn quota_variable(limit: &str) -> Option<(String, String)> {
    let name = format!("RBUILD_{}", limit.to_ascii_uppercase());
    let text = std::env::var(&name).ok().filter(|text| !text.trim().is_empty())?;
    Some((text, name))
}

/// Returns the snapshotter that is asked for where the command line does not say.
fn snapshotter_setting() -> Option<String> {
    variable("RBUILD_SNAPSHOTTER").or_else(|| config::get_quietly()?.store.snapshotter.clone())
}

/// Returns the proxies that are in force.
pub fn proxies() -> ProxySettings {
    ProxySettings::from_variables(proxy_setting)
}

/// Returns a variable of a proxy, or what the configuration files have for it where it is set in no spelling.
fn proxy_setting(name: &str) -> Option<String> {
    let spellings = [name.to_owned(), name.to_ascii_lowercase(), name.to_ascii_uppercase()];
    if spellings.iter().any(|name| std::env::var_os(name).is_some()) {
        return std::env::var(name).ok();
    }
    let proxy = &config::get_quietly()?.proxy;
    match name {
        "http_proxy" => proxy.http.clone(),
        "https_proxy" => proxy.https.clone(),
        "no_proxy" => proxy.no.clone(),
        _ => None,
    }
}

/// Returns how progress is to be shown where the command line does not say, and who says so: BuildKit's
/// variable, else the configuration files.
pub fn progress_setting() -> Option<(String, &'static str)> {
    let variable = variable("BUILDKIT_PROGRESS").map(|word| (word, "BUILDKIT_PROGRESS"));
    variable.or_else(|| Some((config::get_quietly()?.build.progress.clone()?, "build.progress")))
}

/// Returns a variable that is set and not empty.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns the user's home directory.
pub fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Returns the configuration files, whether they are there or not; the later ones count more.
pub fn config_files() -> Vec<PathBuf> {
    let folder = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let user = folder.or_else(|| home().map(|home| home.join(".config")));
    let folders = std::iter::once(PathBuf::from("/etc")).chain(user);
    folders.map(|folder| folder.join("rbuild/config.toml")).collect()
}

/// Tells whether colours are welcome on a terminal (https://no-color.org).
pub fn colours_are_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && !terminal_is_dumb()
}

/// Returns what is to be done when a step fails where the command line does not say.
pub fn on_failure_variable() -> Option<String> {
    variable("RBUILD_ON_FAILURE").or_else(|| config::get_quietly()?.build.on_failure.clone())
}

/// Returns the kind of the terminal: term(7).
pub fn terminal_kind() -> String {
    let term = std::env::var("TERM").ok().filter(|term| !term.is_empty());
    term.unwrap_or_else(|| "xterm".to_owned())
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
pub fn isolation_setting() -> Option<String> {
    variable("RBUILD_ISOLATION").or_else(|| config::get_quietly()?.build.isolation.clone())
}

/// Looks for a container around this process.
pub fn surroundings() -> Surroundings {
    Surroundings::look(|name| std::env::var(name).ok())
}

/// Returns where the store is or will be; for a process that has entered no user namespace.
pub fn store_root(global: &Global) -> Result<PathBuf, CommandError> {
    root_of(global, !rustix::process::geteuid().is_root())
}

/// As [`store_root`], and says nothing of configuration files that are wrong.
pub fn store_root_quietly(global: &Global) -> Option<PathBuf> {
    if global.root.is_none() && std::env::var_os("RBUILD_ROOT").is_none() {
        config::get_quietly()?;
    }
    store_root(global).ok()
}

/// As [`store_root`]; `rootless`: an ordinary user's process.
pub fn root_of(global: &Global, rootless: bool) -> Result<PathBuf, CommandError> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let asked = variable("RBUILD_ROOT");
    let asked = match asked {
        None if global.root.is_none() => config::get()?.store.root.clone(),
        asked => asked,
    };
    let chosen = match (&global.root, asked) {
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
