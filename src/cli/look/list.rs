//! `rbuild ps`: the list of containers, newest first.

use std::collections::BTreeMap;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::filters::Conditions;
use super::{Seen, words};
use crate::cli::error::CommandError;
use crate::cli::world::World;
use crate::cli::{find, rows, ui, units};
use crate::store::{Found, KeptContainer, Store};

/// List containers.
#[derive(Debug, Args)]
#[command(
    after_help = "Filters: id=PATTERN, name=PATTERN, label=KEY[=VALUE], label!=KEY[=VALUE], status=WORD, \
    exited=CODE, ancestor=IMAGE, before=CONTAINER, since=CONTAINER, until=TIME, volume=NAME|PATH, \
    publish=PORT[-PORT][/PROTOCOL], expose=PORT[-PORT][/PROTOCOL], health=WORD, network=NAME, is-task=BOOL\n\
    Fields: ID, Image, Command, CreatedAt, RunningFor, Ports, State, Status, Size, Names, Labels, \
    Label \"KEY\", Mounts, LocalVolumes, Networks\n\n\
    Examples:\n  rbuild ps\n  rbuild ps -aq --filter status=exited\n  \
    rbuild ps --format 'table {{.Names}}\\t{{.Ports}}'\n\n\
    See also: rbuild logs, rbuild inspect, rbuild port"
)]
pub struct PsArgs {
    /// Show all containers, not only those that run
    #[arg(short, long)]
    pub all: bool,
    /// Only containers for which this holds
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    pub filters: Vec<String>,
    /// Print through a Go template, `table TEMPLATE` or `json`
    #[arg(long, value_name = "TEMPLATE")]
    pub format: Option<String>,
    /// Show the last NUMBER containers that were made, whether they run or not
    #[arg(short = 'n', long, value_name = "NUMBER", allow_negative_numbers = true, default_value_t = -1)]
    pub last: i64,
    /// Show the last container that was made, whether it runs or not
    #[arg(short, long)]
    pub latest: bool,
    /// Show whole ids, commands and mounts
    #[arg(long)]
    pub no_trunc: bool,
    /// Print only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Show what containers wrote, and how large they are with their images
    #[arg(short, long)]
    pub size: bool,
}

/// Runs the command.
pub fn ps(world: &World, args: PsArgs) -> Result<(), CommandError> {
    let store = world.open_store()?;
    let conditions = Conditions::read(&store, &args.filters)?;
    let most = match (args.latest, usize::try_from(args.last)) {
        (true, _) => Some(1),
        (false, Ok(number)) if number > 0 => Some(number),
        _ => None,
    };
    let all = args.all || most.is_some() || conditions.ask_for_all();
    let wanted = super::all(&store)?
        .into_iter()
        .filter(|seen| (all || seen.state.is_alive()) && conditions.pass(seen))
        .take(most.unwrap_or(usize::MAX));
    let format = args.format.as_deref();
    if args.quiet {
        if format.is_some_and(|format| format != "table") {
            ui::note("WARNING: Ignoring custom format, because both --format and --quiet are set.\n");
        }
        wanted.for_each(|seen| ui::line(id(&seen, args.no_trunc)));
        return Ok(());
    }
    let sizes = args.size || format.is_some_and(asks_for_size);
    let now = Timestamp::now();
    let (mut rows, mut labels) = (Vec::new(), Vec::new());
    for seen in wanted {
        rows.push(row(&store, &seen, now, args.no_trunc, sizes)?);
        labels.push(seen.settings.config.labels);
    }
    let mut columns = vec![
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("Ports", "PORTS"),
        ("Names", "NAMES"),
    ];
    if args.size {
        columns.push(("Size", "SIZE"));
    }
    rows::print_labelled(&rows, &labels, format, &columns)
}

/// Tells whether a template shows sizes: by name, or all that there is (`{{json .}}`), as docker has it; not the
/// format `json`, which has them with -s alone.
fn asks_for_size(format: &str) -> bool {
    let whole = |action: &str| action.split_once("}}").is_some_and(|(action, _)| action.trim() == "json .");
    format.contains(".Size") || format.split("{{").skip(1).any(whole)
}

fn id(seen: &Seen, whole: bool) -> &str {
    if whole { seen.kept.id.as_str() } else { seen.kept.id.short() }
}

/// How many characters of a mount a table has.
const MOUNT: usize = 15;

fn row(store: &Store, seen: &Seen, now: Timestamp, whole: bool, sizes: bool) -> Result<Value, CommandError> {
    let Seen { kept, settings, state, .. } = seen;
    let size = match sizes {
        true => {
            let own = store.container_size(&kept.id)?;
            let beneath = find::size(store, &kept.layers);
            format!("{} (virtual {})", units::size(own), units::size(own.saturating_add(beneath)))
        }
        false => units::size(0),
    };
    let mounts: Vec<String> = super::details::mount_names(seen)
        .map(|name| if whole { name } else { words::cut(&name, MOUNT) })
        .collect();
    Ok(json!({
        "ID": id(seen, whole),
        "Image": image(store, seen, whole),
        "Command": words::command(&settings.start.args, whole),
        "CreatedAt": kept.created.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        "RunningFor": units::ago(now.duration_since(kept.created).as_secs()),
        "Ports": words::ports(seen.ports()),
        "State": words::state(state),
        "Status": words::status(state, state.health.as_ref().map(|health| health.status.name()), now),
        "Size": size,
        "Names": kept.name,
        "Labels": joined(&settings.config.labels),
        "Mounts": mounts.join(","),
        "LocalVolumes": kept.volumes.len().to_string(),
        "Networks": super::details::network_name(settings),
    }))
}

/// Returns the row of a container for reports of disk space, of which `size` is known.
pub fn usage_row(store: &Store, kept: &KeptContainer, size: u64) -> Result<Value, CommandError> {
    let mut row = row(store, &Seen::of(store, kept.clone())?, Timestamp::now(), false, false)?;
    row["Size"] = json!(units::exact_size(size));
    Ok(row)
}

fn joined(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// Returns what the user called the image, as long as that is still its name; then its id. As docker has it, a
/// name is shown without its digest unless all is to be seen `whole`.
fn image(store: &Store, seen: &Seen, whole: bool) -> String {
    let called = seen.kept.image_name.as_str();
    let Some(id) = seen.kept.image else { return called.to_owned() };
    let is_still = matches!(store.find(called), Ok(Found::Image { id: found, .. }) if found == id);
    let hex = called.strip_prefix("sha256:").unwrap_or(called);
    let by_id = id.to_string().trim_start_matches("sha256:").starts_with(hex);
    match (is_still && !by_id, whole) {
        (true, true) => called.to_owned(),
        (true, false) => called.split_once('@').map_or(called, |(name, _)| name).to_owned(),
        (false, true) => id.to_string(),
        (false, false) => id.short(),
    }
}
