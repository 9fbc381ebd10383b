//! `rbuild history`: how an image was made, newest first.

use clap::Args;
use serde_json::{Value, json};

use super::error::CommandError;
use super::template::Template;
use super::world::World;
use super::{find, table, ui, units};
use crate::build;
use crate::report::clean::clean_text;
use crate::store::Found;

/// Show how an image was made.
#[derive(Debug, Args)]
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
        let by = clean_text(entry.created_by.as_deref().unwrap_or_default()).replace(['\n', '\t'], " ");
        let by = if args.no_trunc { by } else { truncate(&by, COMMAND_WIDTH) };
        rows.push(json!({
            "ID": "<missing>",
            "CreatedAt": find::utc(&created, "%Y-%m-%dT%H:%M:%SZ"),
            "CreatedSince": find::seconds_since(&created).map_or("N/A".to_owned(), units::ago),
            "CreatedBy": by,
            "Size": if args.human { units::size(size) } else { size.to_string() },
            "Comment": entry.comment.clone().unwrap_or_default(),
        }));
    }
    if let Some(last) = rows.last_mut() {
        last["ID"] = json!(id);
    }
    rows.reverse();
    if args.quiet {
        rows.iter().for_each(|row| ui::line(&text(row, "ID")));
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
    print_rows(&rows, args.format.as_deref(), &columns)
}

/// Prints rows as a table, or through the format the user gave.
pub fn print_rows(
    rows: &[Value],
    format: Option<&str>,
    columns: &[(&str, &str)],
) -> Result<(), CommandError> {
    let all: Vec<Vec<String>> = match format {
        None | Some("table") => {
            let header = columns.iter().map(|(_, title)| (*title).to_owned()).collect();
            let lines = rows.iter().map(|row| columns.iter().map(|(key, _)| text(row, key)).collect());
            std::iter::once(header).chain(lines).collect()
        }
        Some("json") => {
            rows.iter().for_each(|row| ui::line(&row.to_string()));
            return Ok(());
        }
        Some(format) => {
            let (is_table, body) = match format.strip_prefix("table ") {
                Some(body) => (true, body),
                None => (false, format),
            };
            let body = body.replace("\\t", "\t").replace("\\n", "\n");
            let template = Template::parse(&body).map_err(|e| CommandError::usage(e.to_string()))?;
            if !is_table {
                for row in rows {
                    ui::line(&template.render(row)?);
                }
                return Ok(());
            }
            let titles: serde_json::Map<String, Value> = rows
                .first()
                .and_then(Value::as_object)
                .map(|row| row.keys().map(|key| (key.clone(), title(key, columns))).collect())
                .unwrap_or_else(|| columns.iter().map(|(k, t)| ((*k).to_owned(), json!(t))).collect());
            let split = |line: String| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
            let mut lines = vec![split(template.render(&Value::Object(titles))?)];
            for row in rows {
                lines.push(split(template.render(row)?));
            }
            lines
        }
    };
    ui::out(&table::layout(&all));
    Ok(())
}

/// Returns the heading of a field: the table's own, or the name in capitals.
fn title(key: &str, columns: &[(&str, &str)]) -> Value {
    if let Some((_, title)) = columns.iter().find(|(known, _)| *known == key) {
        return json!(title);
    }
    let mut words = String::new();
    let mut lower = false;
    for c in key.chars() {
        if c.is_uppercase() && lower {
            words.push(' ');
        }
        lower = c.is_lowercase();
        words.extend(c.to_uppercase());
    }
    json!(words)
}

fn text(row: &Value, key: &str) -> String {
    row[key].as_str().unwrap_or_default().to_owned()
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

    #[test]
    fn headings() {
        let columns = [("ID", "IMAGE ID")];
        assert_eq!(title("ID", &columns), "IMAGE ID");
        assert_eq!(title("CreatedSince", &columns), "CREATED SINCE");
    }
}
