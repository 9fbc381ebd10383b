//! `rbuild system df`: what takes space in the store.

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::error::CommandError;
use super::template::Template;
use super::world::World;
use super::{find, look, rows, ui, units};
use crate::image::Reference;
use crate::store::{CacheEntry, ImageUsage, Usage, VolumeUsage, bytes_together};

/// Show what takes space: images, what containers write, and the build cache.
#[derive(Debug, Args)]
#[command(after_help = "Fields: Type, TotalCount, Active, Size, Reclaimable; with -v the lists Images, \
    Containers, Volumes, BuildCache\n\nExamples:\n  rbuild system df\n  rbuild system df -v\n\n\
    See also: rbuild system prune, rbuild layers")]
pub struct DfArgs {
    /// Print through a Go template, `table TEMPLATE` or `json`
    #[arg(long, value_name = "TEMPLATE")]
    pub format: Option<String>,
    /// Show each piece
    #[arg(short, long)]
    pub verbose: bool,
}

/// Runs the command.
pub fn df(world: &World, args: DfArgs) -> Result<(), CommandError> {
    let store = world.open_store()?;
    let mut usage = store.usage()?;
    if args.verbose {
        store.describe_cache(&mut usage.cache)?;
    }
    let format = args.format.as_deref();
    if !args.verbose {
        let columns = [
            ("Type", "TYPE"),
            ("TotalCount", "TOTAL"),
            ("Active", "ACTIVE"),
            ("Size", "SIZE"),
            ("Reclaimable", "RECLAIMABLE"),
        ];
        return rows::print(&summary(&usage), format, &columns);
    }
    let images: Vec<Value> = usage.images.iter().map(image_row).collect();
    let containers: Vec<Value> = usage
        .containers
        .iter()
        .filter_map(|(one, size)| {
            look::usage_row(&store, &one.kept, *size).map_err(|e| ui::note(&e.text())).ok()
        })
        .collect();
    let cache: Vec<Value> = usage.cache.iter().map(cache_row).collect();
    let volumes: Vec<Value> = usage.volumes.iter().map(volume_row).collect();
    if let Some(format) = format.filter(|format| *format != "table") {
        let all =
            json!({ "Images": images, "Containers": containers, "Volumes": volumes, "BuildCache": cache });
        let template = match format {
            "json" => "{{json .}}",
            other => other,
        };
        let template = Template::parse(template).map_err(|e| CommandError::usage(e.to_string()))?;
        ui::line(&template.render(&all)?);
        return Ok(());
    }
    ui::line("Images space usage:\n");
    let columns = [
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
    ];
    rows::print(&shortened(images), None, &columns)?;
    ui::line("\nContainers space usage:\n");
    let columns = [
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Size", "SIZE"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("Names", "NAMES"),
    ];
    rows::print(&containers, None, &columns)?;
    ui::line("\nLocal Volumes space usage:\n");
    rows::print(&volumes, None, &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")])?;
    let total = bytes_together(own(&usage));
    if let Some(registry) = &usage.registry {
        ui::line(&format!(
            "\nRegistry usage: {} in {} repositories",
            units::exact_size(registry.size),
            registry.repositories
        ));
    }
    ui::line(&format!("\nBuild cache usage: {}\n", units::exact_size(total)));
    let columns = [
        ("ID", "CACHE ID"),
        ("CacheType", "CACHE TYPE"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
        ("LastUsedSince", "LAST USED"),
        ("UsageCount", "USAGE"),
        ("Shared", "SHARED"),
    ];
    rows::print(&cache, None, &columns)
}

/// Returns the pieces of the cache that are not counted as images.
fn own(usage: &Usage) -> impl Iterator<Item = &CacheEntry> {
    usage.cache.iter().filter(|entry| !entry.shared)
}

fn summary(usage: &Usage) -> Vec<Value> {
    let row = |kind: &str, total: usize, active: usize, size: u64, reclaimable: String| {
        json!({
            "Type": kind,
            "TotalCount": total.to_string(),
            "Active": active.to_string(),
            "Size": units::exact_size(size),
            "Reclaimable": reclaimable,
        })
    };
    let with_part = |bytes: u64, of: u64| {
        let shown = units::exact_size(bytes);
        match (u128::from(bytes) * 100).checked_div(u128::from(of)) {
            Some(percent) => format!("{shown} ({percent}%)"),
            None => shown,
        }
    };
    let active = usage.images.iter().filter(|image| image.containers > 0).count();
    let containers: u64 = usage.containers.iter().map(|(_, size)| size).sum();
    let (running, stopped) =
        usage.containers.iter().fold((0, 0u64), |(running, stopped), (one, size)| match one.running {
            true => (running + 1, stopped),
            false => (running, stopped + size),
        });
    let cache = bytes_together(own(usage));
    let used = bytes_together(own(usage).filter(|entry| entry.in_use));
    let images = with_part(usage.images_reclaimable, usage.images_size);
    let used_volumes = usage.volumes.iter().filter(|volume| volume.links > 0).count();
    let size_of = |used: bool| {
        let chosen = usage.volumes.iter().filter(|volume| used || volume.links == 0);
        chosen.filter_map(|volume| volume.size).fold(0u64, u64::saturating_add)
    };
    let volumes = size_of(true);
    let free_volumes = with_part(size_of(false), volumes);
    let mut rows = vec![
        row("Images", usage.images.len(), active, usage.images_size, images),
        row("Containers", usage.containers.len(), running, containers, with_part(stopped, containers)),
        row("Local Volumes", usage.volumes.len(), used_volumes, volumes, free_volumes),
        row(
            "Build Cache",
            usage.cache.len(),
            usage.cache.iter().filter(|entry| entry.in_use).count(),
            cache,
            units::exact_size(cache - used),
        ),
    ];
    if let Some(registry) = &usage.registry {
        let reclaimable = with_part(registry.reclaimable, registry.size);
        rows.push(row("Registry", registry.repositories, registry.tagged, registry.size, reclaimable));
    }
    rows
}

fn image_row(image: &ImageUsage) -> Value {
    let name = image.names.iter().find(|name| name.digest().is_none()).or(image.names.first());
    let none = || "<none>".to_owned();
    json!({
        "Repository": name.map_or_else(none, Reference::familiar_name),
        "Tag": name.and_then(Reference::tag).map_or_else(none, str::to_owned),
        "Digest": "",
        "ID": image.id.to_string(),
        "CreatedAt": find::utc(&image.created, "%Y-%m-%d %H:%M:%S +0000 UTC"),
        "CreatedSince": find::seconds_since(&image.created).map_or("N/A".to_owned(), units::ago),
        "Size": units::size(image.size),
        "VirtualSize": units::exact_size(image.size),
        "SharedSize": units::exact_size(image.shared),
        "UniqueSize": units::exact_size(image.unique),
        "Containers": image.containers.to_string(),
    })
}

/// Cuts ids as tables do.
fn shortened(mut rows: Vec<Value>) -> Vec<Value> {
    for row in &mut rows {
        let short = row["ID"].as_str().map(|id| id.trim_start_matches("sha256:").chars().take(12).collect());
        row["ID"] = Value::String(short.unwrap_or_default());
    }
    rows
}

fn volume_row(volume: &VolumeUsage) -> Value {
    json!({
        "Name": volume.volume.name,
        "Driver": volume.volume.driver,
        "Links": volume.links.to_string(),
        "Size": volume.size.map_or("N/A".to_owned(), units::exact_size),
    })
}

fn cache_row(entry: &CacheEntry) -> Value {
    let at = |time: Timestamp| time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string();
    let since = |time: Timestamp| units::ago(Timestamp::now().as_second() - time.as_second());
    json!({
        "ID": entry.id,
        "CacheType": entry.kind.as_str(),
        "Description": entry.description,
        "Size": units::exact_size(entry.size),
        "CreatedAt": at(entry.created),
        "CreatedSince": since(entry.created),
        "LastUsedAt": at(entry.used),
        "LastUsedSince": since(entry.used),
        "UsageCount": entry.uses.unwrap_or(0).to_string(),
        "InUse": entry.in_use.to_string(),
        "Shared": entry.shared.to_string(),
        "Parent": entry.parents.first().cloned().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RegistryUsage;

    #[test]
    fn an_empty_store_has_nothing() {
        let rows = summary(&Usage::default());
        assert_eq!(rows.len(), 4);
        assert!(rows.iter().all(|row| row["Size"] == "0B" && row["Reclaimable"] == "0B"), "{rows:?}");
    }

    #[test]
    fn what_is_shared_is_counted_once_and_parts_are_told() {
        let usage = Usage { images_size: 2_000_000, images_reclaimable: 500_000, ..Usage::default() };
        assert_eq!(summary(&usage)[0]["Reclaimable"], "500kB (25%)");
        let registry = RegistryUsage { repositories: 3, tagged: 2, size: 4_000_000, reclaimable: 1_000_000 };
        let row = &summary(&Usage { registry: Some(registry), ..Usage::default() })[4];
        let expect = json!({
            "Type": "Registry", "TotalCount": "3", "Active": "2", "Size": "4MB", "Reclaimable": "1MB (25%)"
        });
        assert_eq!(*row, expect);
        let none = Usage { images_size: 2_000_000, ..Usage::default() };
        assert_eq!(summary(&none)[0]["Reclaimable"], "0B (0%)");
    }
}
