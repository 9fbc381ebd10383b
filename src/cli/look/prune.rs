//! `rbuild container prune`: removes containers that do not run.

use clap::Args;

use super::words;
use crate::cli::error::CommandError;
use crate::cli::filter::{self, Filter};
use crate::cli::prune::confirmed;
use crate::cli::world::World;
use crate::cli::{ui, units};
use crate::store::Store;

/// Remove all containers that do not run.
#[derive(Debug, Args)]
#[command(after_help = "Filters: until=TIME (made before), label=KEY[=VALUE], label!=KEY[=VALUE]; \
    a TIME is a duration as `24h`, a time as `2026-01-31T12:00:00` (UTC), or seconds since 1970\n\n\
    Examples:\n  rbuild container prune\n  rbuild container prune -f --filter until=24h\n\n\
    See also: rbuild ps, rbuild rm, rbuild system df")]
pub struct ContainerPruneArgs {
    /// Only containers for which this holds
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    pub filters: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
}

/// Runs the command.
pub fn prune(world: &World, args: ContainerPruneArgs) -> Result<(), CommandError> {
    let filters = filter::parse(&args.filters, &["until", "label"])?;
    if !confirmed(args.force, "WARNING! This will remove all stopped containers.\n") {
        return Ok(());
    }
    let store = world.open_store()?;
    let (removed, freed) = remove_stopped(&store, &filters)?;
    print_containers(&removed);
    ui::line(&format!("Total reclaimed space: {}", units::exact_size(freed)));
    Ok(())
}

/// Prints which went, if any did.
pub fn print_containers(removed: &[String]) {
    if !removed.is_empty() {
        ui::line(&format!("Deleted Containers:\n{}\n", removed.join("\n")));
    }
}

/// Removes what does not run and passes; returns the ids, and the bytes they had written.
pub fn remove_stopped(store: &Store, filters: &[Filter]) -> Result<(Vec<String>, u64), CommandError> {
    let mut until = None;
    for one in filters.iter().filter(|one| one.key == "until") {
        let time = filter::until(one)?;
        until = Some(until.map_or(time, |known: jiff::Timestamp| known.min(time)));
    }
    let (mut removed, mut freed) = (Vec::new(), 0u64);
    for seen in super::all(store)? {
        let labels = &seen.settings.config.labels;
        let passes = until.is_none_or(|until| seen.kept.created < until)
            && filters.iter().filter(|one| one.key == "label").all(|one| filter::label(one, labels));
        if !passes || !matches!(words::state(&seen.state), "created" | "exited") {
            continue;
        }
        // Somebody who starts or removes it holds it.
        let Some(lock) = store.lock_container(&seen.kept.id)? else { continue };
        let size = store.container_size(&seen.kept.id)?;
        store.remove_container(&seen.kept, lock)?;
        freed = freed.saturating_add(size);
        removed.push(seen.kept.id.to_string());
    }
    Ok((removed, freed))
}
