//! `rbuild start`: containers that were made or have ended, started again.

use clap::Args;

use super::attached::{Attached, attachment, detach_keys};
use super::containers::{each, find, not_started, start as start_one};
use super::error::CommandError;
use super::filter::{self, Filter};
use super::world::World;
use super::{foreground, ui};
use crate::container::{RestartPolicy, Settings, State, Streams};
use crate::store::Store;

/// Start containers that were made or have ended.
#[derive(Debug, Args)]
#[command(
    after_help = "Filters: restart-policy=POLICY (of unless-stopped, not those that somebody stopped), label=KEY[=VALUE]\n\n\
    Examples:\n  rbuild start web\n  rbuild start -ai shell\n  \
    rbuild start --all --filter restart-policy=always\n\n\
    See also: rbuild create, rbuild stop, rbuild restart"
)]
pub struct StartArgs {
    /// Take part in the container's output and signals, and wait for its end
    #[arg(short, long)]
    pub attach: bool,
    /// Pass standard input on, too
    #[arg(short, long)]
    pub interactive: bool,
    /// The keys that leave the container running: letters, or ctrl-LETTER, with commas between
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub detach_keys: String,
    /// Start all that do not run
    #[arg(long, conflicts_with_all = ["attach", "interactive", "containers"])]
    pub all: bool,
    /// With --all: only those for which this holds; several values of one key are alternatives
    #[arg(short, long = "filter", value_name = "KEY=VALUE", requires = "all")]
    pub filters: Vec<String>,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required_unless_present = "all")]
    pub containers: Vec<String>,
}

/// Starts the containers; the result is the exit code of the one that is attached.
pub fn start(world: &World, args: StartArgs) -> Result<u8, CommandError> {
    let store = world.open_store()?;
    if args.attach || args.interactive {
        let [name] = args.containers.as_slice() else {
            return Err(CommandError::usage("you cannot start and attach multiple containers at once"));
        };
        return attached(world, &store, name, &args);
    }
    let names = if args.all { chosen(&store, &args.filters)? } else { args.containers };
    each(&names, |name| {
        let (kept, _) = find(&store, name)?;
        match State::of(&store, &kept.id)?.is_alive() {
            true => Ok(()),
            false => start_one(world, &store, &kept),
        }
    })?;
    Ok(0)
}

/// Returns the names of those that do not run and pass the filters, oldest first.
fn chosen(store: &Store, filters: &[String]) -> Result<Vec<String>, CommandError> {
    let filters = filter::parse(filters, &["restart-policy", "label"])?;
    let policies: Vec<&Filter> = filters.iter().filter(|filter| filter.key == "restart-policy").collect();
    for filter in &policies {
        let known = !filter.negated && filter.value.parse::<RestartPolicy>().is_ok();
        if !known {
            return Err(CommandError::usage(format!("invalid restart policy '{}'", filter.value))
                .hint("it is no, on-failure, always or unless-stopped"));
        }
    }
    let mut names = Vec::new();
    for listed in store.containers()? {
        let state = State::of(store, &listed.kept.id)?;
        let settings = Settings::of(&listed.kept)?;
        let of_policy = |filter: &&Filter| is_of(&filter.value, settings.restart, state.stopped);
        let labelled =
            |filter: &Filter| filter.key != "label" || filter::label(filter, &settings.config.labels);
        let wanted = policies.is_empty() || policies.iter().any(of_policy);
        if !state.is_alive() && wanted && filters.iter().all(labelled) {
            names.push(listed.kept.name);
        }
    }
    Ok(names)
}

/// Tells whether a container is one that a policy starts again after the machine was.
fn is_of(policy: &str, own: RestartPolicy, stopped: bool) -> bool {
    own.name() == policy && !(own == RestartPolicy::UnlessStopped && stopped)
}

fn attached(world: &World, store: &Store, name: &str, args: &StartArgs) -> Result<u8, CommandError> {
    let keys = detach_keys(&args.detach_keys)?;
    let (kept, settings) = find(store, name)?;
    if State::of(store, &kept.id)?.is_alive() {
        return super::attach::attach_to(store, &kept, &settings, args.interactive, keys, true);
    }
    let signals = foreground::signals()?;
    let streams = Streams { stdin: args.interactive && settings.open_stdin, stdout: true, stderr: true };
    let (attachment, ours) = attachment(streams, settings.terminal)?;
    let mut order = world.order(store, &kept);
    order.attached = true;
    store.let_go()?;
    let supervisor = world.supervisor(false).map_err(not_started)?;
    let mut started = supervisor.start(&order, Some(attachment)).map_err(not_started)?;
    for warning in std::mem::take(&mut started.warnings) {
        ui::note(&format!("{warning}\n"));
    }
    let connection = &started.connection;
    let taking_part = Attached { connection, terminal: settings.terminal, ours, keys, pass_signals: true };
    let code = taking_part.until_the_end(signals)?;
    if code.is_some() {
        started.reap();
    }
    Ok(code.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_starts_with_the_machine() {
        let check = |policy: &str, own: &str, stopped: bool, expect: bool| {
            assert_eq!(is_of(policy, own.parse().unwrap(), stopped), expect, "{policy} {own} {stopped}");
        };
        check("always", "always", false, true);
        check("always", "always", true, true);
        check("always", "no", false, false);
        check("unless-stopped", "unless-stopped", false, true);
        check("unless-stopped", "unless-stopped", true, false);
        check("on-failure", "on-failure:3", false, true);
    }
}
