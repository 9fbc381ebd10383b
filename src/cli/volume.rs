//! `rbuild volume`: directories that outlive containers, made, listed, shown and removed.
//!
//! Words, columns and errors are docker's. Not here: what a container does with one (`container_args`).

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};

use super::error::CommandError;
use super::filter::{self, Filter};
use super::prune::confirmed;
use super::template::{Shape, Template, Zero};
use super::world::World;
use super::{rows, ui, units};
use crate::store::{KeptVolume, Store, StoreError, VolumeRequest};

/// Manage volumes.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rbuild volume create data\n  rbuild run --rm -v data:/var/lib/data flask\n  \
    rbuild volume ls -qf dangling=true\n\n\
    See also: rbuild run, rbuild system df"
)]
pub struct VolumeGroup {
    #[command(subcommand)]
    pub command: VolumeCommand,
}

/// The words of `rbuild volume`.
#[derive(Debug, Subcommand)]
pub enum VolumeCommand {
    /// Make a volume, and print its name
    Create(CreateArgs),
    /// Show all that is known of volumes
    Inspect(InspectArgs),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// Remove anonymous volumes that no container uses; with -a all that none uses
    Prune(PruneArgs),
    /// Remove volumes
    #[command(visible_alias = "remove")]
    Rm(RemoveArgs),
}

/// Make a volume, and print its name; one that is there already stays as it is.
#[derive(Debug, Args)]
#[command(after_help = "A volume is a directory in the store. With the options type=none, o=bind and \
    device=/DIRECTORY it stands for that\ndirectory of this machine; there are no other options.\n\n\
    Examples:\n  rbuild volume create data\n  rbuild volume create --label project=flask data\n  \
    rbuild volume create -o type=none -o o=bind -o device=/srv/data data\n\n\
    See also: rbuild volume ls, rbuild run")]
pub struct CreateArgs {
    /// Its name; 64 random digits where none is given
    #[arg(value_name = "VOLUME")]
    pub name: Option<String>,
    /// Docker's older way to say the name
    #[arg(long = "name", value_name = "VOLUME", hide = true)]
    pub old_name: Option<String>,
    /// Who keeps the files: `local` alone is there
    #[arg(short, long, value_name = "NAME", default_value = "local", value_parser = ["local"])]
    pub driver: String,
    /// Give it a label
    #[arg(long = "label", value_name = "KEY[=VALUE]")]
    pub labels: Vec<String>,
    /// What it stands for
    #[arg(short, long = "opt", value_name = "KEY=VALUE")]
    pub options: Vec<String>,
}

/// Show all that is known of volumes, as docker's JSON.
#[derive(Debug, Args)]
#[command(after_help = "Fields: Name, Driver, Mountpoint, Labels, Options, CreatedAt, Scope\n\n\
    Examples:\n  rbuild volume inspect data\n  rbuild volume inspect -f '{{.Mountpoint}}' data\n\n\
    See also: rbuild volume ls, rbuild inspect")]
pub struct InspectArgs {
    /// Print through a Go template, or `json`
    #[arg(short, long, value_name = "TEMPLATE")]
    pub format: Option<String>,
    /// Their names
    #[arg(required = true, value_name = "VOLUME")]
    pub volumes: Vec<String>,
}

/// List volumes.
#[derive(Debug, Args)]
#[command(
    after_help = "Filters: name=PART, label=KEY[=VALUE], driver=local, dangling=BOOL (used by no container)\n\
    Fields: Name, Driver, Scope, Mountpoint, Labels, Label \"KEY\", Links, Size\n\n\
    Examples:\n  rbuild volume ls\n  rbuild volume ls -q --filter dangling=true\n  \
    rbuild volume ls --format '{{.Name}}: {{.Mountpoint}}'\n\n\
    See also: rbuild volume inspect, rbuild system df"
)]
pub struct ListArgs {
    /// Only volumes for which this holds
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    pub filters: Vec<String>,
    /// Print through a Go template, `table TEMPLATE` or `json`
    #[arg(long, value_name = "TEMPLATE")]
    pub format: Option<String>,
    /// Only names
    #[arg(short, long)]
    pub quiet: bool,
}

/// Remove anonymous volumes that no container uses; with -a all that none uses.
#[derive(Debug, Args)]
#[command(after_help = "Filters: label=KEY[=VALUE], label!=KEY[=VALUE]\n\n\
    Examples:\n  rbuild volume prune\n  rbuild volume prune -af --filter label=project=flask\n\n\
    See also: rbuild volume rm, rbuild system prune")]
pub struct PruneArgs {
    /// Those with a name, too
    #[arg(short, long)]
    pub all: bool,
    /// Only volumes for which this holds
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    pub filters: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
}

/// Remove volumes, with all that is in them.
#[derive(Debug, Args)]
#[command(after_help = "One that a container uses stays, also while that does not run.\n\n\
    Examples:\n  rbuild volume rm data\n  rbuild volume rm $(rbuild volume ls -qf dangling=true)\n\n\
    See also: rbuild volume prune, rbuild rm")]
pub struct RemoveArgs {
    /// Do not mind one that is not there
    #[arg(short, long)]
    pub force: bool,
    /// Their names
    #[arg(required = true, value_name = "VOLUME")]
    pub volumes: Vec<String>,
}

/// Runs the command.
pub fn volume(world: &World, group: VolumeGroup) -> Result<(), CommandError> {
    let store = world.open_store()?;
    match group.command {
        VolumeCommand::Create(args) => create(&store, &args),
        VolumeCommand::Inspect(args) => inspect(&store, &args),
        VolumeCommand::Ls(args) => list(&store, &args),
        VolumeCommand::Prune(args) => prune(&store, &args),
        VolumeCommand::Rm(args) => remove(&store, &args),
    }
}

fn create(store: &Store, args: &CreateArgs) -> Result<(), CommandError> {
    let pairs = |texts: &[String]| -> BTreeMap<String, String> {
        let pair = |text: &String| {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            (key.to_owned(), value.to_owned())
        };
        texts.iter().map(pair).collect()
    };
    let name = match (&args.name, &args.old_name) {
        (Some(_), Some(_)) => {
            return Err(CommandError::usage(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
            ));
        }
        (name, old) => name.as_ref().or(old.as_ref()),
    };
    let request = VolumeRequest {
        name: name.cloned(),
        labels: pairs(&args.labels),
        options: pairs(&args.options),
        // Nobody will know it by a name.
        anonymous: name.is_none(),
    };
    let made = store.create_volume(&request)?;
    if !args.options.is_empty() && made.options != request.options {
        return Err(CommandError::new(format!(
            "the volume {} is there already, with other options",
            made.name
        )));
    }
    store.sync()?;
    ui::line(&made.name);
    Ok(())
}

fn inspect(store: &Store, args: &InspectArgs) -> Result<(), CommandError> {
    let template = match args.format.as_deref() {
        None | Some("json" | "") => None,
        Some(text) => Some(Template::parse(text).map_err(|e| CommandError::usage(e.to_string()))?),
    };
    let (mut values, mut failed) = (Vec::new(), None);
    for name in &args.volumes {
        match store.volume(name)? {
            Some(kept) => values.push(value_of(store, &kept)),
            None => {
                let error = CommandError::from(StoreError::NoVolume(name.clone()));
                ui::note(&error.text());
                failed = Some(error.code);
            }
        }
    }
    match template {
        Some(template) => {
            for value in &values {
                ui::line(&template.render_as(value, &SHAPE)?);
            }
        }
        None if args.format.as_deref() == Some("json") => ui::line(&Value::Array(values).to_string()),
        None => ui::line(&pretty(&Value::Array(values))?),
    }
    failed.map_or(Ok(()), |code| Err(CommandError::silent(code)))
}

/// What docker's types say of volumes; their order is that of the alphabet.
pub static SHAPE: Shape = Shape {
    fields: &[
        ("Labels", Zero::Map),
        ("Options", Zero::Map),
        ("Status", Zero::Map),
        ("UsageData", Zero::Pointer),
    ],
    order: &[],
};

/// Writes JSON as docker does: four blanks a level.
fn pretty(value: &Value) -> Result<String, CommandError> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns a volume in the shape of `docker volume inspect` (Engine API v1.43, Volume).
pub fn value_of(store: &Store, kept: &KeptVolume) -> Value {
    // As Go writes a map that nobody made.
    let map = |map: &BTreeMap<String, String>| if map.is_empty() { Value::Null } else { json!(map) };
    json!({
        "CreatedAt": kept.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "Driver": kept.driver,
        "Labels": map(&kept.labels),
        "Mountpoint": store.volume_data(kept).to_string_lossy(),
        "Name": kept.name,
        "Options": map(&kept.options),
        "Scope": "local",
    })
}

fn list(store: &Store, args: &ListArgs) -> Result<(), CommandError> {
    let filters = filter::parse(&args.filters, &["name", "label", "driver", "dangling"])?;
    let users = store.volume_users()?;
    let mut chosen = Vec::new();
    for kept in store.volumes()? {
        if passes(&kept, users.contains_key(&kept.name), &filters)? {
            chosen.push(kept);
        }
    }
    // As docker: a template says what is printed, whatever else is said.
    if args.quiet && args.format.as_deref().is_none_or(|format| format == "table") {
        chosen.iter().for_each(|kept| ui::line(&kept.name));
        return Ok(());
    }
    let row = |kept: &KeptVolume| {
        let labels: Vec<String> = kept.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        json!({
            // Of volumes of a cluster; there are none.
            "Availability": "N/A",
            "Driver": kept.driver,
            "Group": "N/A",
            "Labels": labels.join(","),
            "Links": users.get(&kept.name).map_or(0, Vec::len).to_string(),
            "Mountpoint": store.volume_data(kept).to_string_lossy(),
            "Name": kept.name,
            "Scope": "local",
            "Size": "N/A",
            "Status": "N/A",
        })
    };
    let rows: Vec<Value> = chosen.iter().map(row).collect();
    let labels: Vec<_> = chosen.into_iter().map(|kept| kept.labels).collect();
    let columns = [("Driver", "DRIVER"), ("Name", "VOLUME NAME")];
    rows::print_labelled(&rows, &labels, args.format.as_deref(), &columns)
}

fn passes(kept: &KeptVolume, used: bool, filters: &[Filter]) -> Result<bool, CommandError> {
    for one in filters {
        let passes = match one.key.as_str() {
            "name" => kept.name.contains(&one.value) != one.negated,
            "label" => filter::label(one, &kept.labels),
            "driver" => (kept.driver == one.value) != one.negated,
            _ => filter::boolean(one)? != used,
        };
        if !passes {
            return Ok(false);
        }
    }
    Ok(true)
}

fn remove(store: &Store, args: &RemoveArgs) -> Result<(), CommandError> {
    let mut failed = None;
    for name in &args.volumes {
        match store.remove_volume(name) {
            Ok(()) => ui::line(name),
            Err(StoreError::NoVolume(_)) if args.force => ui::line(name),
            Err(error) => {
                let error = CommandError::from(error);
                ui::note(&error.text());
                failed = Some(error.code);
            }
        }
    }
    failed.map_or(Ok(()), |code| Err(CommandError::silent(code)))
}

fn prune(store: &Store, args: &PruneArgs) -> Result<(), CommandError> {
    let filters = filter::parse(&args.filters, &["label"])?;
    let what = if args.all { "all local volumes" } else { "anonymous local volumes" };
    if !confirmed(
        args.force,
        &format!("WARNING! This will remove {what} not used by at least one container.\n"),
    ) {
        return Ok(());
    }
    let freed = remove_unused(store, args.all, &filters)?;
    ui::line(&format!("Total reclaimed space: {}", units::exact_size(freed)));
    Ok(())
}

/// Removes volumes that no container uses, and prints their names; returns the bytes that are free now.
pub fn remove_unused(store: &Store, all: bool, filters: &[Filter]) -> Result<u64, CommandError> {
    let users = store.volume_users()?;
    let (mut names, mut freed) = (String::new(), 0u64);
    for kept in store.volumes()? {
        if users.contains_key(&kept.name)
            || !(all || kept.anonymous)
            || !filters.iter().filter(|one| one.key == "label").all(|one| filter::label(one, &kept.labels))
        {
            continue;
        }
        let size = store.volume_size(&kept).unwrap_or(0);
        match store.remove_volume(&kept.name) {
            Ok(()) => {
                names.push_str(&format!("{}\n", kept.name));
                freed = freed.saturating_add(size);
            }
            // A container was made meanwhile that uses it, or somebody else has removed it.
            Err(StoreError::VolumeInUse { .. } | StoreError::NoVolume(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if !names.is_empty() {
        ui::line(&format!("Deleted Volumes:\n{names}"));
    }
    Ok(freed)
}
