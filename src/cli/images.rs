//! `rbuild images`: the list of images, newest first, a line for each name.

use clap::Args;
use serde_json::{Value, json};

use super::error::CommandError;
use super::filter::{self, Filter};
use super::history::print_rows;
use super::world::World;
use super::{find, ui, units};
use crate::image::{ImageId, Reference};
use crate::store::{Store, StoredImage};

/// List images.
#[derive(Debug, Args)]
#[command(
    after_help = "Filters: dangling=BOOL, label=KEY[=VALUE], reference=PATTERN, before=IMAGE, since=IMAGE\n\n\
    Examples:\n  rbuild images\n  rbuild images -q --filter dangling=true\n  \
    rbuild images --format '{{.Repository}}:{{.Tag}} {{.Size}}'"
)]
pub struct ImagesArgs {
    /// Only images of this repository, or this name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub name: Option<String>,
    /// Show all images (build steps are not images here, so this adds nothing to the list)
    #[arg(short, long)]
    pub all: bool,
    /// Print only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Show whole ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Show digests
    #[arg(long)]
    pub digests: bool,
    /// Only images for which this holds
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    pub filters: Vec<String>,
    /// Print through a Go template, `table TEMPLATE` or `json`
    #[arg(long, value_name = "TEMPLATE")]
    pub format: Option<String>,
}

/// Runs the command.
pub fn images(world: &World, args: ImagesArgs) -> Result<(), CommandError> {
    let known = ["dangling", "label", "reference", "before", "since"];
    let filters = filter::parse(&args.filters, &known)?;
    let store = world.open_store()?;
    let mut rows = Vec::new();
    for listed in store.images()? {
        let image = match listed.image {
            Ok(image) => image,
            Err(error) => {
                let error = CommandError::from(error);
                ui::note(&format!("warning: {}\n", error.message));
                continue;
            }
        };
        if passes_image(&store, &filters, &image, &listed.names)? {
            rows.extend(image_rows(&store, &args, &filters, &image, &listed.names)?);
        }
    }
    // Newest first; names of one image stay together, in order.
    rows.sort_by(|a, b| (&b.0, &a.1, &a.2).cmp(&(&a.0, &b.1, &b.2)));
    let rows: Vec<Value> = rows.into_iter().map(|row| row.3).collect();
    if args.quiet {
        rows.iter().for_each(|row| ui::line(row["ID"].as_str().unwrap_or_default()));
        return Ok(());
    }
    let mut columns = vec![("Repository", "REPOSITORY"), ("Tag", "TAG")];
    if args.digests {
        columns.push(("Digest", "DIGEST"));
    }
    columns.extend([("ID", "IMAGE ID"), ("CreatedSince", "CREATED"), ("Size", "SIZE")]);
    print_rows(&rows, args.format.as_deref(), &columns)
}

/// A row with what it is sorted by: time, id, name.
type Row = (String, ImageId, String, Value);

fn image_rows(
    store: &Store,
    args: &ImagesArgs,
    filters: &[Filter],
    image: &StoredImage,
    names: &[Reference],
) -> Result<Vec<Row>, CommandError> {
    let created = image.config.created.clone().unwrap_or_default();
    let size = find::size(store, &image.layers);
    let row = |repository: String, tag: String| {
        let value = json!({
            "Repository": repository,
            "Tag": tag,
            "Digest": "<none>",
            "ID": if args.no_trunc { image.id.to_string() } else { image.id.short() },
            "CreatedSince": find::seconds_since(&created).map_or("N/A".to_owned(), units::ago),
            "CreatedAt": find::utc(&created, "%Y-%m-%d %H:%M:%S +0000 UTC"),
            "Size": units::size(size),
            "VirtualSize": units::size(size),
            "Containers": "N/A", "SharedSize": "N/A", "UniqueSize": "N/A",
        });
        (created.clone(), image.id, format!("{repository}:{tag}"), value)
    };
    let none = || "<none>".to_owned();
    if names.is_empty() {
        let wanted = args.name.is_none() && !filters.iter().any(|f| f.key == "reference");
        return Ok(if wanted { vec![row(none(), none())] } else { Vec::new() });
    }
    let mut rows = Vec::new();
    for name in names {
        let wanted = match &args.name {
            Some(wanted) => name_matches(wanted, name)?,
            None => true,
        };
        let mut passes = wanted;
        for filter in filters.iter().filter(|f| f.key == "reference") {
            passes &= name_matches(&filter.value, name)? != filter.negated;
        }
        if passes {
            rows.push(row(name.familiar_name(), name.tag().map_or_else(none, str::to_owned)));
        }
    }
    if args.quiet {
        rows.truncate(1);
    }
    Ok(rows)
}

/// Matches `name` or `name:tag`, both of which may be patterns.
fn name_matches(pattern: &str, name: &Reference) -> Result<bool, CommandError> {
    let after_slash = pattern.rfind('/').map_or(0, |slash| slash + 1);
    let (repository, tag) = match pattern[after_slash..].find(':') {
        Some(colon) => (&pattern[..after_slash + colon], Some(&pattern[after_slash + colon + 1..])),
        None => (pattern, None),
    };
    let repository = filter::glob(repository)?;
    if !repository.is_match(name.familiar_name()) && !repository.is_match(name.full_name()) {
        return Ok(false);
    }
    match tag {
        Some(tag) => Ok(filter::glob(tag)?.is_match(name.tag().unwrap_or_default())),
        None => Ok(true),
    }
}

fn passes_image(
    store: &Store,
    filters: &[Filter],
    image: &StoredImage,
    names: &[Reference],
) -> Result<bool, CommandError> {
    for filter in filters {
        let created = || image.config.created.clone().unwrap_or_default();
        let passes = match filter.key.as_str() {
            "dangling" => filter::boolean(filter)? == names.is_empty(),
            "label" => {
                let (key, value) = match filter.value.split_once('=') {
                    Some((key, value)) => (key, Some(value)),
                    None => (filter.value.as_str(), None),
                };
                let found = image.config.config.labels.get(key);
                found.is_some_and(|found| value.is_none_or(|value| value == found)) != filter.negated
            }
            "before" => created() < created_of(store, &filter.value)?,
            "since" => created() > created_of(store, &filter.value)?,
            _ => true,
        };
        if !passes {
            return Ok(false);
        }
    }
    Ok(true)
}

fn created_of(store: &Store, name: &str) -> Result<String, CommandError> {
    match find::find(store, name)? {
        crate::store::Found::Image { id, .. } => Ok(store.image(&id)?.config.created.unwrap_or_default()),
        crate::store::Found::Step(_) => {
            Err(CommandError::usage(format!("`{name}` is a build step, not an image")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_docker_matches_them() {
        for (pattern, name, expect) in [
            ("debian", "debian:bookworm", true),
            ("debian:bookworm", "debian:bookworm", true),
            ("debian:b*", "debian:bookworm", true),
            ("deb*", "debian:bookworm", true),
            ("deb*", "a/debian:x", false),
            ("*/deb*", "a/debian:x", true),
            ("localhost:5000/a", "localhost:5000/a:x", true),
            ("debian:sid", "debian:bookworm", false),
        ] {
            assert_eq!(name_matches(pattern, &name.parse().unwrap()).unwrap(), expect, "{pattern} {name}");
        }
    }
}
