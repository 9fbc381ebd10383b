//! `rbuild diff`: what a container has changed of its image; how two images differ, by file and config.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::diff_config::{self, ConfigChange};
use super::error::CommandError;
use super::world::World;
use super::{find, ui};
use crate::container::files;
use crate::image::{ImageConfig, SnapshotId};
use crate::report::clean::clean_text;
use crate::store::{Change, Found, Store, StoreError};

/// Show what a container has changed, or how an image differs from another.
///
/// Of a container: one line for each path that was added (`A`), changed (`C`) or deleted (`D`), and for the directories
/// above it (`C`); what is in its volumes is not its own. Of two images: one line for each path: `A` added, `C` changed (or something below it was), `D` deleted. Kind, owner,
/// mode, attributes and content count; times do not. Then one for each field of the config that differs: `A`,
/// `C` or `D` with its name and what it says.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rbuild diff web\n  rbuild diff flask:1 flask:2\n  rbuild diff --config flask:1 flask:2\n\n\
    See also: rbuild commit, rbuild history, rbuild layers"
)]
pub struct DiffArgs {
    /// A container; or a name or id of an image, or the id of a build step
    #[arg(value_name = "CONTAINER | IMAGE")]
    pub old: String,
    /// The image to compare an image with
    #[arg(value_name = "IMAGE")]
    pub new: Option<String>,
    /// Only files
    #[arg(long, conflicts_with = "config")]
    pub files: bool,
    /// Only the config: platform, ENV, CMD and the like
    #[arg(long)]
    pub config: bool,
    /// How to write it
    #[arg(long, default_value = "text", value_parser = ["text", "json"])]
    pub format: String,
}

/// Runs the command.
pub fn diff(world: &World, args: DiffArgs) -> Result<(), CommandError> {
    let store = world.open_store()?;
    store.hold()?;
    let Some(new) = &args.new else { return of_container(&store, &args) };
    let (old, new) = (side(&store, &args.old, !args.files)?, side(&store, new, !args.files)?);
    let files = match args.config {
        true => Vec::new(),
        false => store.diff(&old.layers, &new.layers)?.paths,
    };
    let config = match (&old.config, &new.config) {
        (Some(old), Some(new)) => diff_config::compare(old, new),
        _ => Vec::new(),
    };
    if args.format == "json" {
        let file = |(path, change): &(PathBuf, Change)| json!({ "path": path.to_string_lossy(), "change": word(change.letter()) });
        let field = |change: &ConfigChange| json!({ "field": change.field, "change": word(change.letter()), "old": change.old, "new": change.new });
        let files: Vec<_> = files.iter().map(file).collect();
        let config: Vec<_> = config.iter().map(field).collect();
        ui::line(&serde_json::to_string_pretty(&json!({ "files": files, "config": config }))?);
        return Ok(());
    }
    let mut text = String::new();
    for (path, change) in &files {
        text.push_str(&format!("{} {}\n", change.letter(), shown(path)));
    }
    for change in &config {
        text.push_str(&format!("{} {}\n", change.letter(), one_line(&change.line())));
    }
    ui::out(&text);
    Ok(())
}

/// Shows what a container has changed.
fn of_container(store: &Store, args: &DiffArgs) -> Result<(), CommandError> {
    if args.config {
        return Err(CommandError::usage("`--config` compares two images"));
    }
    let kept = match store.find_container(&args.old) {
        Err(error @ StoreError::NoContainer(_)) => {
            let error = CommandError::from(error);
            return Err(error.hint(format!("of images name two, as in `rbuild diff {} OTHER`", args.old)));
        }
        other => other?,
    };
    files::layer_is_current(store, &kept)?;
    let changes = store.container_diff(&kept)?.paths;
    if args.format == "json" {
        let file = |(path, change): &(PathBuf, Change)| json!({ "path": path.to_string_lossy(), "change": word(change.letter()) });
        let files: Vec<_> = changes.iter().map(file).collect();
        ui::line(&serde_json::to_string_pretty(&json!({ "files": files }))?);
        return Ok(());
    }
    let line = |(path, change): &(PathBuf, Change)| format!("{} {}\n", change.letter(), shown(path));
    ui::out(&changes.iter().map(line).collect::<String>());
    Ok(())
}

fn word(letter: char) -> &'static str {
    match letter {
        'A' => "added",
        'D' => "deleted",
        _ => "changed",
    }
}

/// One of the two that are compared.
struct Side {
    layers: Vec<SnapshotId>,
    config: Option<ImageConfig>,
}

fn side(store: &Store, name: &str, with_config: bool) -> Result<Side, CommandError> {
    Ok(match find::find(store, name)? {
        Found::Image { id, .. } => {
            let image = store.image(&id)?;
            Side { layers: image.layers, config: Some(image.config).filter(|_| with_config) }
        }
        Found::Step(id) => {
            let step = store.step(&id)?.ok_or_else(|| find::no_such(name))?;
            let config = ImageConfig { config: step.config, ..ImageConfig::empty(&step.platform) };
            Side { layers: step.layers, config: Some(config).filter(|_| with_config) }
        }
    })
}

/// A name that holds a line end must not look like two, nor one that holds a carriage return like another.
fn shown(path: &Path) -> String {
    one_line(&path.to_string_lossy())
}

fn one_line(text: &str) -> String {
    clean_text(text).replace('\n', "\\n").replace('\r', "\\r")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_line_that_shows_all_of_it() {
        let check = |path: &str, expect: &str| assert_eq!(shown(Path::new(path)), expect);
        check("/a b", "/a b");
        check("/a\nA /b", "/a\\nA /b");
        check("/secret\rA /other", "/secret\\rA /other");
        check("/a\x1b[2J\u{9b}2Jb", "/ab");
    }
}
