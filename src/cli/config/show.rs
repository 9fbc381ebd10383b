//! `rbuild config`: the values in force, and where each comes from.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::keys::{KEYS, Key, SECTIONS};
use super::{Config, get};
use crate::cli::error::CommandError;
use crate::cli::world::{self, Global};
use crate::cli::{table, ui};
use crate::net::show_url;

/// Show the settings in force, and where each comes from.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    rbuild config                              what holds, and which file or variable says so\n  \
    rbuild config --default > ~/.config/rbuild/config.toml\n  \
    rbuild config --format json\n\n\
    Files: /etc/rbuild/config.toml, and over it $XDG_CONFIG_HOME/rbuild/config.toml (~/.config/rbuild/config.toml).\n\
    An option is over a variable, a variable over the files. A file with an unknown key is an error.\n\n\
    See also: rbuild doctor, rbuild-config(5)")]
pub struct ConfigArgs {
    /// Print a file with every key, what it does and its default, to begin one with
    #[arg(long, conflicts_with = "format")]
    pub default: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// How the settings are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table
    #[default]
    Table,
    /// A list of objects with key, value, from, file, variable, option
    Json,
}

/// A value and where it is from.
struct InForce {
    value: Option<String>,
    /// `default`, `environment` or `file`.
    from: &'static str,
    /// The variable or the file.
    place: Option<String>,
}

/// Runs the command. It needs no store.
pub fn config(global: &Global, args: ConfigArgs) -> Result<(), CommandError> {
    if args.default {
        ui::out(&default_file());
        return Ok(());
    }
    let config = get()?;
    if args.format == Format::Json {
        let all: Vec<_> = KEYS
            .iter()
            .map(|key| {
                let found = in_force(key, config, global);
                let place = |from: &str| found.place.as_ref().filter(|_| found.from == from);
                json!({
                    "key": key.path(), "value": found.value, "from": found.from, "file": place("file"),
                    "variable": place("environment"), "option": Some(key.option).filter(|option| !option.is_empty()),
                })
            })
            .collect();
        ui::line(&serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    let mut rows = vec![["KEY", "VALUE", "FROM"].map(str::to_owned).to_vec()];
    for key in KEYS {
        let found = in_force(key, config, global);
        let value = found.value.unwrap_or_else(|| key.default.to_owned());
        rows.push(vec![key.path(), value, found.place.unwrap_or_else(|| found.from.to_owned())]);
    }
    ui::out(&table::layout(&rows));
    Ok(())
}

fn in_force(key: &Key, config: &Config, global: &Global) -> InForce {
    let shown = |text: String| if key.section == "proxy" { show_url(&text) } else { text };
    if let Some((name, value)) = key.variables.iter().find_map(|name| Some((*name, world::variable(name)?))) {
        return InForce { value: Some(shown(value)), from: "environment", place: Some(format!("${name}")) };
    }
    if let Some((value, file)) = config.said(key) {
        return InForce { value: Some(shown(value)), from: "file", place: Some(file) };
    }
    let root = || world::store_root(global).ok().map(|path| path.display().to_string());
    let value = if key.path() == "store.root" { root() } else { None };
    InForce { value, from: "default", place: None }
}

/// Writes a file in which everything is commented out.
pub fn default_file() -> String {
    let mut text = String::from(
        "# Settings of rbuild. /etc/rbuild/config.toml holds for everyone, ~/.config/rbuild/config.toml for its user\n\
         # and over it; variables of the environment and options of a command are over both. What is commented out\n\
         # is an example; the default is named beside it. `rbuild config` shows what is in force.\n",
    );
    for section in SECTIONS {
        let _ = writeln!(text, "\n[{section}]");
        for key in KEYS.iter().filter(|key| key.section == section) {
            let _ = writeln!(text, "\n# {}", key.about);
            let mut over = vec![key.option];
            over.extend(key.variables);
            over.retain(|word| !word.is_empty());
            let over =
                if over.is_empty() { String::new() } else { format!(" Over it: {}.", over.join(", ")) };
            let _ = writeln!(text, "# Default: {}.{over}", key.default);
            let _ = writeln!(text, "# {} = {}", key.name, key.example);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_file_is_one() {
        let text = default_file();
        assert!(toml::from_str::<toml::Table>(&text).is_ok(), "{text}");
        // With all examples taken in it is one, too.
        let keys: Vec<String> = KEYS.iter().map(|key| format!("# {} = ", key.name)).collect();
        let taken: Vec<String> = text
            .lines()
            .map(|line| match keys.iter().any(|key| line.starts_with(key)) {
                true => line[2..].to_owned(),
                false => line.to_owned(),
            })
            .collect();
        let table: toml::Table = toml::from_str(&taken.join("\n")).unwrap();
        let count: usize = table.values().filter_map(|section| section.as_table()).map(|s| s.len()).sum();
        assert_eq!(count, KEYS.len());
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    }
}
