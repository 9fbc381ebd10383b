//! `rbuild prune` (`rbuild builder prune`), `rbuild image prune`, `rbuild system prune`: making room.
//!
//! Whoever is asked first is asked before anything is looked at: no lock is held meanwhile, and what
//! is unused is found out after the answer.

use clap::Args;
use jiff::Timestamp;

use super::error::CommandError;
use super::filter::{self, Filter};
use super::look::{print_containers, remove_stopped};
use super::world::World;
use super::{cache_filter, du, ui, units, when};
use crate::image::{ImageId, Reference};
use crate::store::{CacheEntry, CachePruned, ImagesRemoved, PruneRequest, Store, choose};

/// Remove images without a name; with -a all that no container runs from.
#[derive(Debug, Args)]
#[command(after_help = "Filters: until=TIME (made before), label=KEY[=VALUE], label!=KEY[=VALUE]; \
    a TIME is a duration as `24h`, a time as `2026-01-31T12:00:00` (UTC), or seconds since 1970\n\n\
    Examples:\n  rbuild image prune\n  rbuild image prune -af --filter until=240h\n\n\
    See also: rbuild rmi, rbuild system df")]
pub struct ImagePruneArgs {
    /// Remove all images that no container runs from, not only those without a name
    #[arg(short, long)]
    pub all: bool,
    /// Only images for which this holds
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    pub filters: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
}

/// Remove the build cache: layers no image has, cache mounts, and what was fetched for builds.
#[derive(Debug, Args)]
#[command(after_help = format!("{}\n\n\
    With --max-used-space or --min-free-space, the least recently used goes until that holds, and no piece whose going \
    would leave less than --reserved-space. --reserved-space alone: until no more than that is left.\n\
    What a running build, a container or an image needs stays.\n\n\
    Examples:\n  rbuild prune\n  rbuild prune -f --keep-duration 240h\n  \
    rbuild prune -f --max-used-space 20GB --reserved-space 5GB\n  \
    rbuild prune -f --filter type=exec.cachemount -v\n\n\
    See also: rbuild du, rbuild system prune", cache_filter::HELP))]
pub struct CachePruneArgs {
    /// Also forget which layers of images the cache knows, and what rbuild keeps for itself: digests
    /// of contexts, logs and records of builds
    #[arg(short, long)]
    pub all: bool,
    /// Only what this holds for
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    pub filters: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Keep this much, last used first
    #[arg(long, visible_alias = "keep-storage", value_name = "BYTES", value_parser = bytes)]
    pub reserved_space: Option<u64>,
    /// Remove no more than it takes for the cache to be this small
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub max_used_space: Option<u64>,
    /// Remove no more than it takes for so much to be free on the disk
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub min_free_space: Option<u64>,
    /// Remove no more than it takes for so many inodes to be free on the disk
    #[arg(long, value_name = "NUMBER")]
    pub min_free_inodes: Option<u64>,
    /// Keep what was used within this time (as `240h`)
    #[arg(long, visible_alias = "until", value_name = "DURATION", value_parser = time)]
    pub keep_duration: Option<Timestamp>,
    /// Tell all that is known of what went
    #[arg(short, long)]
    pub verbose: bool,
}

/// Remove containers that do not run, images without a name, and the build cache.
#[derive(Debug, Args)]
#[command(
    after_help = "Filters: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE] (of containers and images)\n\n\
    Examples:\n  rbuild system prune\n  rbuild system prune -af\n\n\
    See also: rbuild system df, rbuild builder prune"
)]
pub struct SystemPruneArgs {
    /// Remove all images that no container runs from, and all of the build cache
    #[arg(short, long)]
    pub all: bool,
    /// Only what this holds for
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    pub filters: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Remove anonymous volumes that no container uses, too
    #[arg(long)]
    pub volumes: bool,
}

fn bytes(text: &str) -> Result<u64, String> {
    units::parse_size(text).ok_or_else(|| format!("`{text}` is no size, as `512MB` or `10GB`"))
}

fn time(text: &str) -> Result<Timestamp, String> {
    when::parse(text, Timestamp::now()).ok_or_else(|| format!("`{text}` is no duration, as `24h` or `1h30m`"))
}

const IMAGE_FILTERS: [&str; 2] = ["until", "label"];
const ALL_IMAGES: &str = "all images without at least one container associated to them";

/// Runs `rbuild image prune`.
pub fn images(world: &World, args: ImagePruneArgs) -> Result<(), CommandError> {
    let filters = filter::parse(&args.filters, &IMAGE_FILTERS)?;
    let what = if args.all { ALL_IMAGES } else { "all dangling images" };
    if !confirmed(args.force, &format!("WARNING! This will remove {what}.\n")) {
        return Ok(());
    }
    let store = world.open_store()?;
    let removed = remove_images(&store, args.all, &filters)?;
    print_images(&removed);
    reclaimed(removed.freed, removed.deferred);
    Ok(())
}

/// Runs `rbuild prune`, which is `rbuild builder prune`, too.
pub fn cache(world: &World, args: CachePruneArgs) -> Result<(), CommandError> {
    let mut filter = cache_filter::parse(&args.filters)?;
    if let Some(until) = args.keep_duration {
        filter.until = Some(cache_filter::earlier(filter.until, until));
    }
    // Zero is no limit, as BuildKit has it.
    let limit = |limit: Option<u64>| limit.filter(|limit| *limit > 0);
    let request = PruneRequest {
        all: args.all,
        filter,
        keep: args.reserved_space.unwrap_or(0),
        max_used: limit(args.max_used_space),
        min_free: limit(args.min_free_space),
        min_free_inodes: limit(args.min_free_inodes),
    };
    let what = if args.all { "all build cache" } else { "all dangling build cache" };
    if !confirmed(args.force, &format!("WARNING! This will remove {what}. ")) {
        return Ok(());
    }
    let store = world.open_store()?;
    let (chosen, pruned) = remove_cache(&store, &request)?;
    match args.verbose {
        true => {
            let went: Vec<_> =
                chosen.into_iter().filter(|entry| pruned.removed.contains(&entry.id)).collect();
            ui::out(&du::verbose(&went));
        }
        false => print_cache(&pruned),
    }
    reclaimed(pruned.freed, pruned.deferred);
    Ok(())
}

/// Runs `rbuild system prune`.
pub fn system(world: &World, args: SystemPruneArgs) -> Result<(), CommandError> {
    let filters = filter::parse(&args.filters, &IMAGE_FILTERS)?;
    if args.volumes && filters.iter().any(|filter| filter.key == "until") {
        return Err(CommandError::new("The \"until\" filter is not supported with \"--volumes\""));
    }
    let mut request = PruneRequest { all: args.all, ..PruneRequest::default() };
    for one in filters.iter().filter(|filter| filter.key == "until") {
        request.filter.until = Some(cache_filter::earlier(request.filter.until, filter::until(one)?));
    }
    let mut warning = "WARNING! This will remove:\n".to_owned();
    let containers = "all stopped containers";
    let (images, cache) = if args.all {
        (ALL_IMAGES, "all build cache")
    } else {
        ("all dangling images", "unused build cache")
    };
    let volumes = args.volumes.then_some("all anonymous volumes not used by at least one container");
    for what in [containers, images, cache].into_iter().chain(volumes) {
        warning.push_str(&format!("  - {what}\n"));
    }
    if !args.filters.is_empty() {
        let shown = args.filters.join("\n    - ");
        warning.push_str(&format!("\n  Items to be pruned will be filtered with:\n    - {shown}\n"));
    }
    if !confirmed(args.force, &format!("{warning}\n")) {
        return Ok(());
    }
    let store = world.open_store()?;
    // First: an image that only a stopped container was made of is unused then.
    let (containers, written) = remove_stopped(&store, &filters)?;
    print_containers(&containers);
    let removed = remove_images(&store, args.all, &filters)?;
    print_images(&removed);
    // Labels are of images: docker prunes no cache by them.
    let pruned = match filters.iter().any(|filter| filter.key == "label") {
        true => CachePruned::default(),
        false => remove_cache(&store, &request)?.1,
    };
    print_cache(&pruned);
    let volumes = match args.volumes {
        true => super::volume::remove_unused(&store, false, &filters)?,
        false => 0,
    };
    let freed = [removed.freed, pruned.freed, volumes].into_iter().fold(written, u64::saturating_add);
    reclaimed(freed, removed.deferred || pruned.deferred);
    Ok(())
}

/// Asks, unless it was said beforehand; anything but `y` is no.
pub fn confirmed(force: bool, warning: &str) -> bool {
    if force {
        return true;
    }
    ui::out(&format!("{warning}Are you sure you want to continue? [y/N] "));
    let answer = ui::read_line();
    if answer.as_ref().is_none_or(|answer| !answer.ends_with('\n')) {
        // No line end was typed.
        ui::line("");
    }
    answer.is_some_and(|answer| answer.trim().eq_ignore_ascii_case("y"))
}

fn remove_images(store: &Store, all: bool, filters: &[Filter]) -> Result<ImagesRemoved, CommandError> {
    let mut until = None;
    for one in filters.iter().filter(|filter| filter.key == "until") {
        until = Some(cache_filter::earlier(until, filter::until(one)?));
    }
    let unused = |names: &[Reference]| all || names.iter().all(|name| name.digest().is_some());
    let mut chosen: Vec<ImageId> = Vec::new();
    for listed in store.images()? {
        let passes = match &listed.image {
            Ok(image) => {
                let created = image.config.created.as_deref().and_then(|created| created.parse().ok());
                let labels = &image.config.config.labels;
                until.is_none_or(|until| created.is_some_and(|created: Timestamp| created < until))
                    && filters.iter().filter(|f| f.key == "label").all(|f| filter::label(f, labels))
            }
            // Of one that is broken nothing is known but that it is there.
            Err(_) => filters.is_empty(),
        };
        if passes && unused(&listed.names) {
            chosen.push(listed.id);
        }
    }
    Ok(store.remove_images(&chosen, &unused)?)
}

/// Chooses what goes, and removes it; returns both.
fn remove_cache(
    store: &Store,
    request: &PruneRequest,
) -> Result<(Vec<CacheEntry>, CachePruned), CommandError> {
    let mut entries = store.cache_entries()?;
    store.describe_cache(&mut entries)?;
    let chosen = choose(&entries, request, &store.free()?);
    let pruned = store.remove_cache(&chosen)?;
    Ok((chosen, pruned))
}

fn print_images(removed: &ImagesRemoved) {
    if removed.removals.is_empty() {
        return;
    }
    let mut text = "Deleted Images:\n".to_owned();
    for removal in &removed.removals {
        removal.untagged.iter().for_each(|name| text.push_str(&format!("untagged: {name}\n")));
        removal.deleted.iter().for_each(|id| text.push_str(&format!("deleted: {id}\n")));
        removal.deleted_layers.iter().for_each(|id| text.push_str(&format!("deleted: {id}\n")));
    }
    ui::line(&text);
}

fn print_cache(pruned: &CachePruned) {
    if pruned.removed.is_empty() {
        return;
    }
    let mut text = "Deleted build cache objects:\n".to_owned();
    pruned.removed.iter().for_each(|id| text.push_str(&format!("{id}\n")));
    ui::line(&text);
}

fn reclaimed(bytes: u64, deferred: bool) {
    ui::line(&format!("Total reclaimed space: {}", units::exact_size(bytes)));
    if deferred {
        ui::note("note: builds are running: their end frees the layers that nothing needs any more\n");
    }
}
