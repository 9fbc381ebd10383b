//! `rbuild du`: what takes space in the build cache, piece by piece, as `docker buildx du` shows it.

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::error::CommandError;
use super::world::World;
use super::{cache_filter, rows, table, ui, units};
use crate::store::{CacheEntry, Free, bytes_together};

/// Show what takes space in the build cache, piece by piece.
#[derive(Debug, Args)]
#[command(after_help = format!("{}\n\n\
    A `*` after an ID marks what may change: cache mounts, and what was fetched.\n\
    Fields: ID, Parents, CreatedAt, CreatedSince, Mutable, Reclaimable, Shared, Size, Description, UsageCount, \
    LastUsedAt, LastUsedSince, Type, InUse, Inodes\n\n\
    Examples:\n  rbuild du\n  rbuild du --verbose --filter type=exec.cachemount\n  \
    rbuild du --filter unused-for=720h --format '{{{{.ID}}}} {{{{.Size}}}}'\n\n\
    See also: rbuild prune, rbuild system df, rbuild cache mounts", cache_filter::HELP))]
pub struct DuArgs {
    /// Only what this holds for
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    pub filters: Vec<String>,
    /// Print through a Go template, `table TEMPLATE` or `json` (a line for each piece)
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "verbose")]
    pub format: Option<String>,
    /// Tell all that is known of each piece
    #[arg(short, long)]
    pub verbose: bool,
}

/// Runs the command.
pub fn du(world: &World, args: DuArgs) -> Result<(), CommandError> {
    let filter = cache_filter::parse(&args.filters)?;
    let store = world.open_store()?;
    let mut entries = store.cache_entries()?;
    store.describe_cache(&mut entries)?;
    entries.retain(|entry| filter.matches(entry));
    if let Some(format) = args.format.as_deref().filter(|format| *format != "table") {
        let rows: Vec<Value> = entries.iter().map(row).collect();
        let columns = [
            ("ID", "ID"),
            ("Reclaimable", "RECLAIMABLE"),
            ("Size", "SIZE"),
            ("LastUsedSince", "LAST ACCESSED"),
        ];
        return rows::print(&rows, Some(format), &columns);
    }
    let mut text = match args.verbose {
        true => verbose(&entries),
        false => listing(&entries),
    };
    text.push_str(&totals(&entries, &store.free()?));
    ui::out(&text);
    Ok(())
}

fn since(time: Timestamp) -> String {
    units::ago(Timestamp::now().as_second() - time.as_second())
}

fn id(entry: &CacheEntry) -> String {
    format!("{}{}", entry.id, if entry.is_mutable() { "*" } else { "" })
}

fn row(entry: &CacheEntry) -> Value {
    let at = |time: Timestamp| time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string();
    json!({
        "ID": entry.id,
        "Parents": entry.parents,
        "CreatedAt": at(entry.created),
        "CreatedSince": since(entry.created),
        "Mutable": entry.is_mutable(),
        "Reclaimable": entry.is_reclaimable(),
        "Shared": entry.shared,
        "Size": units::exact_size(entry.size),
        "Description": entry.description,
        "UsageCount": entry.uses,
        "LastUsedAt": at(entry.used),
        "LastUsedSince": since(entry.used),
        "Type": entry.kind.as_str(),
        "InUse": entry.in_use,
        "Inodes": entry.inodes,
    })
}

fn listing(entries: &[CacheEntry]) -> String {
    let header = ["ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED"].map(str::to_owned).to_vec();
    let lines = entries.iter().map(|entry| {
        vec![id(entry), entry.is_reclaimable().to_string(), units::exact_size(entry.size), since(entry.used)]
    });
    table::listing(&std::iter::once(header).chain(lines).collect::<Vec<_>>())
}

/// Tells all of each piece, in blocks as docker has them; what `prune --verbose` removed, too.
pub fn verbose(entries: &[CacheEntry]) -> String {
    let mut text = String::new();
    for entry in entries {
        let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<14}{value}\n"));
        line("ID:", &entry.id);
        if !entry.parents.is_empty() {
            line("Parents:", &entry.parents.join(", "));
        }
        line("Created at:", &entry.created.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string());
        line("Mutable:", &entry.is_mutable().to_string());
        line("Reclaimable:", &entry.is_reclaimable().to_string());
        line("Shared:", &entry.shared.to_string());
        line("In use:", &entry.in_use.to_string());
        line("Size:", &units::exact_size(entry.size));
        line("Inodes:", &entry.inodes.to_string());
        line("Description:", &entry.description);
        if let Some(uses) = entry.uses {
            line("Usage count:", &uses.to_string());
        }
        line("Last used:", &since(entry.used));
        line("Type:", entry.kind.as_str());
        text.push('\n');
    }
    text
}

/// Adds everything up: a file that several pieces have counts once.
fn totals(entries: &[CacheEntry], free: &Free) -> String {
    let sum = |which: &dyn Fn(&&CacheEntry) -> bool| bytes_together(entries.iter().filter(which));
    let (shared, private) = (sum(&|entry| entry.shared), sum(&|entry| !entry.shared));
    let inodes: u64 = entries.iter().map(|entry| entry.inodes).sum();
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    if shared > 0 {
        row("Shared:", units::exact_size(shared));
        row("Private:", units::exact_size(private));
    }
    row("Reclaimable:", units::exact_size(sum(&|entry| entry.is_reclaimable())));
    row("Total:", units::exact_size(bytes_together(entries)));
    row("Inodes:", inodes.to_string());
    let left = match free.inodes {
        u64::MAX => String::new(),
        inodes => format!(", {inodes} inodes"),
    };
    row("Free on disk:", format!("{}{left}", units::exact_size(free.bytes)));
    table::listing(&rows)
}
