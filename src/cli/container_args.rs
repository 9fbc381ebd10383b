//! The options of `run` and `create`, and the container that they make.
//!
//! Not here: its image (`run_image`), how it is started (`run`).

use std::path::{Path, PathBuf};

use clap::Args;

use super::container_env::environment;
use super::container_options::{ContainerOptionArgs, publish_address, with_proxies};
use super::error::{CommandError, chain};
use super::health_options::HealthArgs;
use super::run_image::{RunImageArgs, find_or_pull};
use super::ui;
use super::world::World;
use crate::container::log::LogConfig;
use crate::container::mounts::{self, ContainerMount, MountWishes};
use crate::container::options::{NetworkMode, NetworkOptions};
use crate::container::{RestartPolicy, Settings, Streams, Wishes, merge, names, signal};
use crate::store::{ContainerId, KeptContainer, Store, StoreError};
use crate::sys::atomic;

/// How long a stop waits where nothing else is said, in seconds; docker's.
const STOP_TIMEOUT_S: i64 = 10;

/// The options.
#[derive(Debug, Args)]
pub struct ContainerArgs {
    /// Name the container
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Remove the container when it ends
    #[arg(long)]
    pub rm: bool,
    /// When the container is started again: no, on-failure[:MAX], always, unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no")]
    pub restart: String,
    /// Keep standard input open, and pass it on where this command is attached
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Take part in this stream alone; several times for several [default: stdout, stderr, and stdin with -i]
    #[arg(short, long, value_name = "STREAM", ignore_case = true, value_parser = ["stdin", "stdout", "stderr"])]
    pub attach: Vec<String>,
    /// Set an environment variable; without a value, take it from the environment
    #[arg(short, long = "env", value_name = "KEY[=VALUE]")]
    pub env: Vec<String>,
    /// Mount a volume, or a directory or file of this machine
    #[arg(short, long = "volume", value_name = "[VOLUME|HOST:]CONTAINER[:ro]")]
    pub volumes: Vec<String>,
    /// Mount a directory, a volume or files in memory, in docker's longer form
    #[arg(long = "mount", value_name = "type=bind|volume|tmpfs,src=SOURCE,dst=CONTAINER,...")]
    pub mounts: Vec<String>,
    /// Mount what another container has mounted
    #[arg(long = "volumes-from", value_name = "CONTAINER[:ro]")]
    pub volumes_from: Vec<String>,
    /// The directory the command starts in
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// The user the command runs as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Run this program instead of the image's ENTRYPOINT
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// Write the container's id to a file
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<PathBuf>,
    /// Where the output goes: json-file keeps it for `rbuild logs`, none does not
    #[arg(long, value_name = "DRIVER")]
    pub log_driver: Option<String>,
    /// How the output is kept: max-size=BYTES and max-file=NUMBER of files, labels=KEY,... and env=NAME,... beside lines
    #[arg(long = "log-opt", value_name = "KEY=VALUE")]
    pub log_options: Vec<String>,
    /// Set the environment variables of a file, one on each line
    #[arg(long = "env-file", value_name = "FILE")]
    pub env_files: Vec<PathBuf>,
    #[command(flatten)]
    pub health: HealthArgs,
    #[command(flatten)]
    pub options: ContainerOptionArgs,
    #[command(flatten)]
    pub image: RunImageArgs,
    /// A name or id of an image, or the id of a build step; then the command and its arguments
    // One list: what follows the image is the container's, options too.
    #[arg(value_name = "IMAGE", required = true, trailing_var_arg = true)]
    pub image_and_command: Vec<String>,
}

/// A container that was made.
pub struct Made {
    pub kept: KeptContainer,
    pub settings: Settings,
}

impl ContainerArgs {
    /// Returns the streams that are taken part in.
    pub fn streams(&self) -> Streams {
        let named = |name: &str| self.attach.iter().any(|stream| stream.eq_ignore_ascii_case(name));
        match self.attach.is_empty() {
            true => Streams { stdin: self.interactive, stdout: true, stderr: true },
            false => Streams { stdin: named("stdin"), stdout: named("stdout"), stderr: named("stderr") },
        }
    }
}

/// Makes a container that these streams are taken part in.
pub fn make(
    world: &World,
    store: &Store,
    args: &ContainerArgs,
    attached: Streams,
) -> Result<Made, CommandError> {
    let mut given = args.options.read(world.is_rootless())?;
    given.notes.iter().for_each(|note| ui::note(&format!("{note}\n")));
    let taken = given.options.files.tmpfs.iter().map(|(path, _)| path.display().to_string()).collect();
    let own = own_mounts(args, taken)?;
    let of_others = mounts_of_others(store, &args.volumes_from)?;
    let restart: RestartPolicy = args.restart.parse().map_err(|error| {
        CommandError::usage(chain(&error)).hint("it is no, on-failure[:MAX], always or unless-stopped")
    })?;
    if args.rm && restart != RestartPolicy::No {
        return Err(CommandError::usage("Conflicting options: --restart and --rm"));
    }
    let id = ContainerId::random()?;
    if let Some(name) = &args.name {
        names::check(name).map_err(|error| CommandError::usage(chain(&error)))?;
    }
    if let Some(relative) = args.workdir.as_deref().filter(|path| !path.is_empty() && !path.starts_with('/'))
    {
        return Err(CommandError::usage(format!(
            "the working directory '{relative}' is invalid, it needs to be an absolute path"
        )));
    }
    let cidfile = args.cidfile.as_deref().map(new_cidfile).transpose()?;
    let Some((image_name, command)) = args.image_and_command.split_first() else {
        return Err(CommandError::usage("an image is needed"));
    };
    let (image, layers, mut config) = find_or_pull(world, store, image_name, &args.image)?;
    args.health.apply(&mut config)?;
    let wishes = Wishes {
        entrypoint: args.entrypoint.clone(),
        args: command.to_vec(),
        env: with_proxies(&proxies(world), environment(&args.env, &args.env_files)?),
        workdir: args.workdir.clone(),
        user: args.user.clone(),
        terminal: args.tty,
    };
    let network = &mut given.options.network;
    if !network.ports.is_empty() || network.publish_all {
        network.publish_address = publish_address(&world.settings_files())?;
    }
    let hostname = hostname(store, &id, network)?;
    args.options.change(&given, &mut config)?;
    let options = given.options;
    let start = merge(&config, &wishes, &hostname)?;
    let log = LogConfig::parse(args.log_driver.as_deref(), &args.log_options, &config.labels, &start.env)
        .map_err(|error| CommandError::usage(chain(&error)))?;
    let stop_signal = match &options.stop_signal {
        Some(text) => signal::parse(text)
            .ok_or_else(|| CommandError::usage(format!("Invalid signal: {text} (--stop-signal)")))?,
        None => config.stop_signal.as_deref().and_then(signal::parse).unwrap_or(signal::TERM),
    };
    let stop_timeout_s = options.stop_timeout.unwrap_or(STOP_TIMEOUT_S);
    let mut mounts = mounts::merge(own, of_others, config.volumes.keys());
    let volumes = mounts::name_volumes(&mut mounts)?;
    let settings = Settings {
        config: wishes.applied_to(config),
        start,
        hostname,
        terminal: args.tty,
        open_stdin: args.interactive,
        stdin_once: args.interactive && attached.stdin,
        attached,
        options,
        mounts,
        restart,
        auto_remove: args.rm,
        stop_signal,
        stop_timeout_s,
        log,
    };
    let mut kept = KeptContainer {
        id,
        name: String::new(),
        created: jiff::Timestamp::now(),
        image,
        image_name: image_name.clone(),
        layers,
        volumes,
        settings: serde_json::to_value(&settings).map_err(CommandError::from)?,
    };
    match &args.name {
        Some(name) => {
            names::check(name)?.clone_into(&mut kept.name);
            store.create_container(&kept)?;
        }
        None => name_and_create(store, &mut kept)?,
    }
    if let Err(error) = prepare_mounts(store, &kept, &settings) {
        if let Some(lock) = store.lock_container(&kept.id)? {
            store.remove_container(&kept, lock)?;
        }
        mounts::remove_anonymous(store, &settings.mounts)?;
        return Err(error);
    }
    if let Some(mut file) = cidfile {
        std::io::Write::write_all(&mut file, kept.id.as_str().as_bytes())?;
    }
    Ok(Made { kept, settings })
}

/// Reads what the command line mounts.
fn own_mounts(args: &ContainerArgs, taken: Vec<String>) -> Result<Vec<ContainerMount>, CommandError> {
    let wishes = MountWishes { volumes: args.volumes.clone(), mounts: args.mounts.clone(), taken };
    if wishes == MountWishes::default() {
        return Ok(Vec::new());
    }
    let here = std::env::current_dir()
        .map_err(|error| CommandError::new(format!("cannot tell the working directory: {error}")))?;
    wishes.read(&here).map_err(|error| CommandError::usage(error.0))
}

/// Returns what other containers mount.
fn mounts_of_others(store: &Store, texts: &[String]) -> Result<Vec<ContainerMount>, CommandError> {
    let mut found = Vec::new();
    for text in texts {
        let (name, read_only) = mounts::volumes_from(text).map_err(|error| CommandError::usage(error.0))?;
        let settings = Settings::of(&store.find_container(name)?)?;
        found.extend(settings.mounts.into_iter().map(|mut mount| {
            mount.read_only |= read_only;
            mount
        }));
    }
    Ok(found)
}

/// Makes the volumes of a container, whose record names them already, and what else its mounts need.
fn prepare_mounts(store: &Store, kept: &KeptContainer, settings: &Settings) -> Result<(), CommandError> {
    if settings.mounts.is_empty() {
        return Ok(());
    }
    let view = store.view(&kept.layers)?;
    Ok(mounts::make(store, &settings.mounts, &view)?)
}

/// How many names are made up before a container goes without.
const NAMES: u32 = 20;

/// Keeps a container under a name that is made up.
fn name_and_create(store: &Store, kept: &mut KeptContainer) -> Result<(), CommandError> {
    for attempt in 0..NAMES {
        kept.name = names::made_up(atomic::random_bits()?, attempt);
        match store.create_container(kept) {
            Err(StoreError::NameTaken { .. }) => {}
            other => return Ok(other?),
        }
    }
    kept.id.short().clone_into(&mut kept.name);
    Ok(store.create_container(kept)?)
}

fn new_cidfile(path: &Path) -> Result<std::fs::File, CommandError> {
    std::fs::File::options().write(true).create_new(true).open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => CommandError::new(format!(
            "Container ID file found, make sure the other container isn't running or delete {}",
            path.display()
        )),
        _ => CommandError::new(format!("cannot write `{}`: {error}", path.display())),
    })
}

/// Returns the variables of docker's config.json; one that cannot be read is a warning.
fn proxies(world: &World) -> Vec<(&'static str, String)> {
    world.step_proxies().unwrap_or_else(|error| {
        ui::note(&format!("warning: no proxies for the container: {}\n", error.message));
        Vec::new()
    })
}

/// Returns the name that the container has; whose network is another one's is known by that one's id from here on.
fn hostname(store: &Store, id: &ContainerId, network: &mut NetworkOptions) -> Result<String, CommandError> {
    match (&network.hostname, &network.mode) {
        (Some(name), _) => Ok(name.clone()),
        (None, NetworkMode::Host) => Ok(rustix::system::uname().nodename().to_string_lossy().into_owned()),
        (None, NetworkMode::Container(name)) => {
            let other = store.find_container(name)?;
            let hostname = Settings::of(&other)?.hostname;
            network.mode = NetworkMode::Container(other.id.as_str().to_owned());
            Ok(hostname)
        }
        (None, NetworkMode::Default | NetworkMode::None) => Ok(id.short().to_owned()),
    }
}
