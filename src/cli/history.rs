//! `rbuild history`: how an image was made, newest first.

use clap::Args;
use serde_json::json;

use super::error::CommandError;
use super::world::World;
use super::{find, rows, ui, units};
use crate::build;
use crate::report::clean::clean_text;
use crate::store::Found;

/// Show how an image was made.
#[derive(Debug, Args)]
#[command(
    after_help = "Fields: ID, CreatedSince, CreatedAt, CreatedBy, Size, Comment\n\nExamples:\n  rbuild history flask\n  rbuild history --no-trunc --format '{{.CreatedBy}}' flask\n\n\
    See also: rbuild layers, rbuild inspect, rbuild diff"
)]
pub struct HistoryArgs {
    /// A name or id of an image, or the id of a build step
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Show whole commands and ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Print only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Print sizes and times for people
    #[arg(short = 'H', long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1,
          default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pub human: bool,
    /// Print through a Go template, `table TEMPLATE` or `json`
    #[arg(long, value_name = "TEMPLATE")]
    pub format: Option<String>,
}

/// The commands are cut to this many characters.
const COMMAND_WIDTH: usize = 45;

/// Runs the command.
pub fn history(world: &World, args: HistoryArgs) -> Result<(), CommandError> {
    let store = world.open_store()?;
    let (id, config, layers) = match find::find(&store, &args.image)? {
        Found::Image { id, .. } => {
            let image = store.image(&id)?;
            let shown = if args.no_trunc { id.to_string() } else { id.short() };
            (shown, image.config, image.layers)
        }
        Found::Step(id) => {
            let (config, layers) = build::config_of_step(&store, &id)?;
            (id.to_string(), config, layers)
        }
    };
    let mut layers = layers.iter();
    let mut rows = Vec::new();
    for entry in &config.history {
        let layer = if entry.empty_layer { None } else { layers.next() };
        let size = layer.map_or(0, |layer| find::size(&store, std::slice::from_ref(layer)));
        let created = entry.created.clone().unwrap_or_default();
        let by = one_line(entry.created_by.as_deref());
        let by = if args.no_trunc { by } else { truncate(&by, COMMAND_WIDTH) };
        let at = find::utc(&created, "%Y-%m-%dT%H:%M:%SZ");
        let since = match find::seconds_since(&created).filter(|_| args.human) {
            Some(seconds) => units::ago(seconds),
            None if args.human => "N/A".to_owned(),
            None => at.clone(),
        };
        rows.push(json!({
            "ID": "<missing>",
            "CreatedAt": at,
            "CreatedSince": since,
            "CreatedBy": by,
            "Size": if args.human { units::size(size) } else { size.to_string() },
            "Comment": one_line(entry.comment.as_deref()),
        }));
    }
    if let Some(last) = rows.last_mut() {
        last["ID"] = json!(id);
    }
    rows.reverse();
    if args.quiet {
        rows.iter().for_each(|row| ui::line(row["ID"].as_str().unwrap_or_default()));
        return Ok(());
    }
    let time = if args.human { "CreatedSince" } else { "CreatedAt" };
    let columns = [
        ("ID", "IMAGE"),
        (time, if args.human { "CREATED" } else { "CREATED AT" }),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ];
    rows::print(&rows, args.format.as_deref(), &columns)
}

/// Makes the words of an image fit for a cell of a table.
fn one_line(text: Option<&str>) -> String {
    clean_text(text.unwrap_or_default()).replace(['\n', '\r', '\t'], " ")
}

fn truncate(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        None => text.to_owned(),
        Some(_) => text.chars().take(width - 1).chain(['\u{2026}']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_commands_are_cut() {
        assert_eq!(truncate("abc", 3), "abc");
        assert_eq!(truncate("abcd", 3), "ab\u{2026}");
    }
}
