//! `rbuild diff`: how the files of two images differ.

use std::path::Path;

use clap::Args;

use super::error::CommandError;
use super::world::World;
use super::{find, ui};
use crate::image::SnapshotId;
use crate::report::clean::clean_text;
use crate::store::{Found, Store};

/// Show how the files of an image differ from those of another.
///
/// One line for each path: `A` added, `C` changed (or something below it was), `D` deleted. Kind, owner,
/// mode, attributes and content count; times do not.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  rbuild diff flask:1 flask:2")]
pub struct DiffArgs {
    /// A name or id of an image, or the id of a build step
    #[arg(value_name = "IMAGE")]
    pub old: String,
    /// The one to compare it with
    #[arg(value_name = "IMAGE")]
    pub new: Option<String>,
}

/// Runs the command.
pub fn diff(world: &World, args: DiffArgs) -> Result<(), CommandError> {
    let Some(new) = &args.new else {
        return Err(CommandError::usage("`diff` of one name is of a container, and this version keeps none")
            .hint(format!("name two images, as in `rbuild diff {} OTHER`", args.old)));
    };
    let store = world.open_store()?;
    store.hold()?;
    let found = store.diff(&layers(&store, &args.old)?, &layers(&store, new)?)?;
    let mut text = String::new();
    for (path, change) in &found.paths {
        text.push(change.letter());
        text.push(' ');
        text.push_str(&shown(path));
        text.push('\n');
    }
    ui::out(&text);
    Ok(())
}

/// A name that holds a line end must not look like two, nor one that holds a carriage return like another.
fn shown(path: &Path) -> String {
    clean_text(&path.to_string_lossy()).replace('\n', "\\n").replace('\r', "\\r")
}

fn layers(store: &Store, name: &str) -> Result<Vec<SnapshotId>, CommandError> {
    match find::find(store, name)? {
        Found::Image { id, .. } => Ok(store.image(&id)?.layers),
        Found::Step(id) => Ok(store.step(&id)?.ok_or_else(|| find::no_such(name))?.layers),
    }
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
