//! `rbuild system reset`: removes the whole store, which an ordinary user's `rm` cannot: its files belong to the ids
//! of a user namespace.

use clap::Args;
use jiff::Timestamp;

use super::error::CommandError;
use super::prune::confirmed;
use super::world::World;
use super::{ui, units};
use crate::store::{Reset, StoreToReset, StoreUser};

/// Remove the whole store: images, build cache, cache mounts, records of builds.
#[derive(Debug, Args)]
#[command(
    after_help = "Of an ordinary user's store most files belong to ids that only a user namespace knows, so \
    that `rm` may not remove them; this does.\nWhile builds or containers run nothing is removed.\n\n\
    Examples:\n  rbuild system reset\n  rbuild --root /data/rbuild system reset -f\n\n\
    See also: rbuild system prune, rbuild prune"
)]
pub struct ResetArgs {
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
}

/// Runs the command.
pub fn reset(world: &World, args: ResetArgs) -> Result<(), CommandError> {
    let root = &world.store_root;
    let find = || StoreToReset::find(root, world.store_options());
    let Some(found) = find()? else {
        ui::line(&format!("There is no store at {}", root.display()));
        return Ok(());
    };
    let others = match found.others() {
        [] => String::new(),
        others => format!("What is no part of it stays: {}\n", others.join(", ")),
    };
    let warning = format!(
        "WARNING! This will remove the store {}:\n  - all images\n  - all build cache, cache mounts included\n  \
         - all containers and volumes\n  - all logs and records of builds\n{others}\n",
        root.display()
    );
    if !confirmed(args.force, &warning) {
        return Ok(());
    }
    // Looked at again: it may be another by now.
    match find()?.map(StoreToReset::remove).transpose()? {
        Some(Reset::InUse(users)) => {
            let users: Vec<String> = users.iter().map(told).collect();
            let message = format!("the store {} is in use: {}", root.display(), users.join("; "));
            Err(CommandError::new(message).hint("wait until that has ended, or stop it; nothing was removed"))
        }
        Some(Reset::Done) | None => {
            ui::line(&format!("Removed {}", root.display()));
            Ok(())
        }
    }
}

fn told(user: &StoreUser) -> String {
    let mut text = user.what.clone();
    let processes: Vec<String> =
        user.processes.iter().filter(|process| **process > 0).map(u32::to_string).collect();
    match processes.len() {
        0 => {}
        1 => text.push_str(&format!(", process {}", processes[0])),
        _ => text.push_str(&format!(", processes {}", processes.join(" "))),
    }
    if let Some(since) = user.since {
        text.push_str(&format!(
            ", since {}",
            units::duration(Timestamp::now().as_second() - since.as_second())
        ));
    }
    text
}
