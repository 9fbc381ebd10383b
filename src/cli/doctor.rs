//! `rbuild doctor`: what this machine has, what it lacks, how to get it.

use std::path::Path;

use clap::Args;

use super::error::{CommandError, chain, code};
use super::world::World;
use super::{table, ui};
use crate::report::clean::without_codes;
use crate::sandbox::{facts, snapshotter_fact};

/// Say what this machine has, what it lacks, and how to get it.
#[derive(Debug, Args)]
pub struct DoctorArgs {}

/// The facts without which nothing can be built.
const NEEDED: [&str; 2] = ["kernel", "user namespaces"];

/// Runs the command; the exit code is 1 where something is missing that builds need.
pub fn doctor(world: &World, _: DoctorArgs) -> Result<(), CommandError> {
    let identity = match world.identity() {
        Ok(identity) => identity,
        Err(error) => {
            ui::line(&format!("missing   user namespaces   {}", without_codes(&chain(error))));
            for fact in world.isolation_facts() {
                let mark = if fact.ok { "ok     " } else { "missing" };
                ui::line(&format!("{mark}   {}   {}", fact.name, without_codes(&fact.detail)));
                if !fact.ok {
                    ui::line(&format!("\n{}: {}", fact.name, fact.fix));
                }
            }
            return Err(CommandError::silent(code::FAILED));
        }
    };
    // Tried where the store is or will be: what works depends on the file system.
    let scratch = world.store_root.ancestors().find(|path| path.is_dir());
    let scratch = scratch.map_or_else(std::env::temp_dir, Path::to_path_buf);
    let mut facts = facts::inspect(identity, &scratch, &std::env::var("PATH").unwrap_or_default());
    facts.extend(world.isolation_facts());
    let overlay = facts.iter().find(|fact| fact.name == "overlayfs").is_some_and(|fact| fact.ok);
    facts.push(snapshotter_fact::snapshotter(overlay, &scratch, &std::env::var("PATH").unwrap_or_default()));
    let rows: Vec<Vec<String>> = facts
        .iter()
        .map(|fact| {
            let mark = if fact.ok { "ok" } else { "missing" };
            vec![mark.to_owned(), fact.name.to_string(), without_codes(&fact.detail)]
        })
        .collect();
    ui::out(&table::layout(&rows));
    let mut lacking = false;
    for fact in facts.iter().filter(|fact| !fact.ok) {
        lacking |= NEEDED.contains(&fact.name);
        ui::line(&format!("\n{}: {}", fact.name, fact.fix));
    }
    match lacking {
        true => Err(CommandError::silent(code::FAILED)),
        false => Ok(()),
    }
}
