//! `rbuild images`: the list of images, newest first, a line for each name.

use std::collections::BTreeMap;

use clap::Args;
use globset::GlobMatcher;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::error::CommandError;
use super::filter::{self, Filter};
use super::world::World;
use super::{find, rows, ui, units};
use crate::image::{ImageId, Reference};
use crate::store::{Found, Store, StoredImage};

/// List images.
#[derive(Debug, Args)]
#[command(
    after_help = "Filters: dangling=BOOL, label=KEY[=VALUE], label!=KEY[=VALUE], reference=PATTERN, before=IMAGE, \
    since=IMAGE, until=TIME\nFields: ID, Repository, Tag, Digest, CreatedSince, CreatedAt, Size\n\n\
    Examples:\n  rbuild images\n  rbuild images -q --filter dangling=true\n  \
    rbuild images --format '{{.Repository}}:{{.Tag}} {{.Size}}'\n\n\
    See also: rbuild inspect, rbuild rmi, rbuild system df"
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
    let known = ["dangling", "label", "reference", "before", "since", "until"];
    let filters = filter::parse(&args.filters, &known)?;
    let store = world.open_store()?;
    let conditions = Conditions::new(&store, &args, &filters)?;
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
        if conditions.image(&image, &listed.names) {
            let names: Vec<&Reference> = listed.names.iter().filter(|name| conditions.name(name)).collect();
            if !names.is_empty() || listed.names.is_empty() && !conditions.wants_names() {
                rows.extend(image_rows(&store, &args, &image, &names));
            }
        }
    }
    // Newest first; names of one image stay together, in order.
    rows.sort_by(|a, b| (&b.0, &a.1, &a.2).cmp(&(&a.0, &b.1, &b.2)));
    let rows: Vec<Value> = rows.into_iter().map(|row| row.3).collect();
    if args.quiet && args.format.is_none() {
        rows.iter().for_each(|row| ui::line(row["ID"].as_str().unwrap_or_default()));
        return Ok(());
    }
    let mut columns = vec![("Repository", "REPOSITORY"), ("Tag", "TAG")];
    if args.digests {
        columns.push(("Digest", "DIGEST"));
    }
    columns.extend([("ID", "IMAGE ID"), ("CreatedSince", "CREATED"), ("Size", "SIZE")]);
    rows::print(&rows, args.format.as_deref(), &columns)
}

/// A row with what it is sorted by: time, id, name.
type Row = (Option<Timestamp>, ImageId, (String, String), Value);

/// Makes the rows of an image: one for each tag, and where digests are shown for each digest of
/// its repository; one for a repository of which there are digests alone; one for an image without names.
fn image_rows(store: &Store, args: &ImagesArgs, image: &StoredImage, names: &[&Reference]) -> Vec<Row> {
    let created = image.config.created.clone().unwrap_or_default();
    let size = find::size(store, &image.layers);
    let row = |repository: &str, tag: &str, digest: &str| {
        let value = json!({
            "Repository": repository,
            "Tag": tag,
            "Digest": digest,
            "ID": if args.no_trunc { image.id.to_string() } else { image.id.short() },
            "CreatedSince": find::seconds_since(&created).map_or("N/A".to_owned(), units::ago),
            "CreatedAt": find::utc(&created, "%Y-%m-%d %H:%M:%S +0000 UTC"),
            "Size": units::size(size),
            "VirtualSize": units::exact_size(size),
            "Containers": "N/A", "SharedSize": "N/A", "UniqueSize": "N/A",
        });
        (time(image), image.id, (repository.to_owned(), tag.to_owned()), value)
    };
    if names.is_empty() {
        return vec![row(NONE, NONE, NONE)];
    }
    let with_digests = args.digests || args.format.as_deref().is_some_and(|text| text.contains(".Digest"));
    let mut repositories: BTreeMap<String, (Vec<&str>, Vec<String>)> = BTreeMap::new();
    for name in names {
        let (tags, digests) = repositories.entry(name.familiar_name()).or_default();
        match (name.digest(), name.tag()) {
            (Some(digest), _) => digests.push(digest.to_string()),
            (None, tag) => tags.push(tag.unwrap_or(NONE)),
        }
    }
    let mut rows = Vec::new();
    for (repository, (mut tags, mut digests)) in repositories {
        if tags.is_empty() {
            tags.push(NONE);
        }
        if digests.is_empty() || !with_digests {
            digests = vec![NONE.to_owned()];
        }
        for tag in tags {
            rows.extend(digests.iter().map(|digest| row(&repository, tag, digest)));
        }
    }
    rows
}

const NONE: &str = "<none>";

/// Returns when an image was made.
fn time(image: &StoredImage) -> Option<Timestamp> {
    image.config.created.as_deref().and_then(|created| created.parse().ok())
}

/// What images and names must pass.
struct Conditions<'a> {
    filters: &'a [Filter],
    /// Patterns of names, with what is negated; a name passes where one of them says so.
    patterns: Vec<(Pattern, bool)>,
    /// Times that images must be made before, and after.
    before: Vec<Option<Timestamp>>,
    since: Vec<Option<Timestamp>>,
    dangling: Option<bool>,
}

impl<'a> Conditions<'a> {
    fn new(store: &Store, args: &ImagesArgs, filters: &'a [Filter]) -> Result<Conditions<'a>, CommandError> {
        let mut conditions = Conditions {
            filters,
            patterns: Vec::new(),
            before: Vec::new(),
            since: Vec::new(),
            dangling: None,
        };
        if let Some(name) = &args.name {
            conditions.patterns.push((Pattern::new(name)?, false));
        }
        for filter in filters {
            match filter.key.as_str() {
                "reference" => conditions.patterns.push((Pattern::new(&filter.value)?, filter.negated)),
                "before" => conditions.before.push(created_of(store, &filter.value)?),
                "until" => conditions.before.push(Some(filter::until(filter)?)),
                "since" => conditions.since.push(created_of(store, &filter.value)?),
                "dangling" => conditions.dangling = Some(filter::boolean(filter)?),
                _ => {}
            }
        }
        Ok(conditions)
    }

    fn wants_names(&self) -> bool {
        !self.patterns.is_empty()
    }

    fn name(&self, name: &Reference) -> bool {
        let (nots, patterns): (Vec<_>, Vec<_>) = self.patterns.iter().partition(|(_, negated)| *negated);
        (patterns.is_empty() || patterns.iter().any(|(pattern, _)| pattern.matches(name)))
            && !nots.iter().any(|(pattern, _)| pattern.matches(name))
    }

    fn image(&self, image: &StoredImage, names: &[Reference]) -> bool {
        let created = time(image);
        let is_dangling = names.iter().all(|name| name.digest().is_some());
        let labels = &image.config.config.labels;
        self.before.iter().all(|before| created < *before)
            && self.since.iter().all(|since| created > *since)
            // As docker has it: what has digests alone is dangling, and is among those with names, too.
            && self.dangling.is_none_or(|wanted| if wanted { is_dangling } else { !names.is_empty() })
            && self.filters.iter().filter(|f| f.key == "label").all(|f| filter::label(f, labels))
    }
}

/// A pattern of `name`, `name:tag` or `name@digest`, short or in full.
struct Pattern(GlobMatcher);

impl Pattern {
    fn new(text: &str) -> Result<Pattern, CommandError> {
        Ok(Pattern(filter::glob(text)?))
    }

    fn matches(&self, name: &Reference) -> bool {
        let rest = match (name.digest(), name.tag()) {
            (Some(digest), _) => format!("@{digest}"),
            (None, tag) => format!(":{}", tag.unwrap_or("latest")),
        };
        [name.familiar_name(), name.full_name()]
            .into_iter()
            .any(|repository| self.0.is_match(format!("{repository}{rest}")) || self.0.is_match(repository))
    }
}

fn created_of(store: &Store, name: &str) -> Result<Option<Timestamp>, CommandError> {
    match find::find(store, name)? {
        Found::Image { id, .. } => Ok(time(&store.image(&id)?)),
        Found::Step(id) => {
            let step = store.step(&id)?.ok_or_else(|| find::no_such(name))?;
            Ok(step.history.and_then(|entry| entry.created).and_then(|created| created.parse().ok()))
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
            (
                "debian@sha256:0*",
                "debian@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                true,
            ),
            (
                "debian",
                "debian@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                true,
            ),
            ("docker.io/library/debian:*", "debian:x", true),
            ("debian:sid", "debian:bookworm", false),
        ] {
            assert_eq!(
                Pattern::new(pattern).unwrap().matches(&name.parse().unwrap()),
                expect,
                "{pattern} {name}"
            );
        }
    }
}
