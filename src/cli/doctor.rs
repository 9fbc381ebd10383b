//! `rbuild doctor`: what this machine has, what it lacks, what that is needed for, how to get it.
//!
//! What sandboxes need is `sandbox::facts`; the rest, by group, is in the files of this folder. Not here:
//! deciding anything by it (whoever needs a thing tries it).

mod network;
mod programs;
mod settings;
mod show;
mod store;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::error::{CommandError, chain, code};
use super::world::{self, Global};
use crate::sandbox::facts::{self, Fact, Group};
use crate::sandbox::{Isolation, isolation, snapshotter_fact};
use crate::sys::userns;

/// Say what this machine has, what it lacks, and how to get it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    rbuild doctor\n  \
    rbuild --root /srv/rbuild doctor           whether the store could be there\n  \
    rbuild doctor --format json                for scripts: works, and a list of facts\n\n\
    What is tried is tried for real: an overlay is mounted, a device opened. `missing` is what nothing can be\n\
    built without, `note` what some builds need; the exit code is 1 where something is `missing`.\n\n\
    See also: rbuild config, rbuild system df")]
pub struct DoctorArgs {
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// How the facts are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people, in groups
    #[default]
    Text,
    /// An object: `works`, and `facts` with group, name, status, needed_for, detail, fix
    Json,
}

/// Runs the command; the exit code is 1 where something is missing that nothing can be built without.
/// No other thread may run yet.
pub fn doctor(global: &Global, args: DoctorArgs) -> Result<(), CommandError> {
    // Before namespaces: root of one is no root for a chroot.
    let was_root = rustix::process::geteuid().is_root();
    // First: whatever makes a thread closes the way into a user namespace.
    let identity = userns::enter_if_needed();
    let mut surroundings = world::surroundings();
    surroundings.root &= was_root;
    let no_namespaces = identity.as_ref().err().map(|error| chain(error));
    let wanted = world::isolation_setting().and_then(|word| word.parse().ok()).unwrap_or_default();
    let isolation = isolation::choose(wanted, no_namespaces.clone().map_or(Ok(()), Err), &surroundings).ok();
    // There builds work as they are.
    let identity = if isolation == Some(Isolation::Chroot) { Ok(userns::stay()) } else { identity };
    let path = std::env::var("PATH").unwrap_or_default();
    let rootless = identity.as_ref().map_or(true, |identity| identity.rootless);
    let settings = settings::facts();
    // Where the settings are broken, the place is asked for that would be without them.
    let root = world::root_of(global, rootless).unwrap_or_else(|_| PathBuf::from("/var/lib/rbuild"));
    // Tried where the store is or will be: what works depends on the file system.
    let scratch = root.ancestors().find(|path| path.is_dir());
    let scratch = scratch.map_or_else(std::env::temp_dir, Path::to_path_buf);
    let mut facts = match &identity {
        Ok(identity) => facts::inspect(identity, &scratch, &path),
        Err(error) => {
            let (why, fix) = (chain(error), "see user_namespaces(7); as root they are not needed");
            let fact = Fact::new("user namespaces", false, why, fix);
            vec![fact.of(Group::User, "builds of ordinary users").required()]
        }
    };
    facts.extend(facts::around(&surroundings, no_namespaces.as_deref(), isolation));
    let overlay = facts.iter().find(|fact| fact.name == "overlayfs").is_some_and(|fact| fact.ok);
    facts.push(snapshotter_fact::snapshotter(overlay, &scratch, &path));
    facts.extend(store::facts(&root, &scratch));
    facts.extend(network::facts());
    facts.extend(programs::facts(&path));
    facts.extend(settings);
    // Stable: within a group the order is that of the checks.
    facts.sort_by_key(|fact| fact.group);
    show::show(&facts, args.format)?;
    match works(&facts) {
        true => Ok(()),
        false => Err(CommandError::silent(code::FAILED)),
    }
}

/// Tells whether anything can be built.
fn works(facts: &[Fact]) -> bool {
    facts.iter().all(|fact| fact.ok || !fact.required)
}

/// Finds a program in the directories of a PATH.
fn find_in(path: &str, name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let can_run = |file: &PathBuf| {
        file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(path).map(|folder| folder.join(name)).find(can_run)
}
