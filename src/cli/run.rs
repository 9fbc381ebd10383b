//! `rbuild run` and `rbuild create`: a new container.
//!
//! `run` is create, start and, unless with `-d`, attach. Terminals, signals and exit codes are docker's.
//! Not here: the options (`container_args`), what a container is (`container`).

use clap::Args;

use super::attached::{Attached, attachment};
use super::container_args::{ContainerArgs, Made, make};
use super::containers::not_started;
use super::error::{CommandError, code};
use super::ui;
use super::world::World;
use crate::container::Streams;

/// Run a command in a new container from an image.
#[derive(Debug, Args)]
#[command(
    override_usage = "rbuild run [OPTIONS] IMAGE [COMMAND] [ARG]...",
    after_help = "Examples:\n  rbuild run --rm flask\n  rbuild run -it debian:bookworm bash\n  \
        rbuild run -d --name web -p 8080:80 flask\n  \
        rbuild run --rm -p 5000:5000 -v \"$PWD\":/src:ro -w /src flask python3 app.py\n\n\
        The exit code is the command's own, 128 + n where signal n ended it, 127 where it was not found,\n\
        126 where it could not be executed, 125 where the container could not be started.\n\n\
    See also: rbuild create, rbuild stop, rbuild images"
)]
pub struct RunArgs {
    /// Run the container in the background, and print its id
    #[arg(short, long)]
    pub detach: bool,
    /// The keys that leave the container running: letters, or ctrl-LETTER, with commas between
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub detach_keys: String,
    /// Pass signals on to the container
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true",
        num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    pub sig_proxy: bool,
    #[command(flatten)]
    pub container: ContainerArgs,
}

/// Make a container without starting it, and print its id.
#[derive(Debug, Args)]
#[command(
    override_usage = "rbuild create [OPTIONS] IMAGE [COMMAND] [ARG]...",
    after_help = "Examples:\n  rbuild create --name web -p 8080:80 flask\n  rbuild start -a $(rbuild create flask)\n\n\
    See also: rbuild start, rbuild run"
)]
pub struct CreateArgs {
    #[command(flatten)]
    pub container: ContainerArgs,
}

/// Makes a container and prints its id.
pub fn create(world: &World, args: CreateArgs) -> Result<(), CommandError> {
    let store = world.open_store()?;
    if args.container.options.isolation.isolation.is_some() {
        ui::note(
            "note: --isolation has no effect with create: $RBUILD_ISOLATION says how a container is started\n",
        );
    }
    let made = make(world, &store, &args.container, args.container.streams())?;
    ui::line(made.kept.id.as_str());
    Ok(())
}

/// Runs the command; the result is the exit code of the container.
pub fn run(world: &World, args: RunArgs) -> Result<u8, CommandError> {
    check(&args)?;
    run_inner(world, args).map_err(|error| match error.code {
        code::FAILED | code::USAGE => error.code(code::RUN_FAILED),
        _ => error,
    })
}

/// Refuses what docker refuses with 1, before it asks for a container.
fn check(args: &RunArgs) -> Result<(), CommandError> {
    if args.detach && !args.container.attach.is_empty() {
        return Err(CommandError::new("conflicting options: cannot specify both --attach and --detach"));
    }
    let wants_terminal = args.container.tty && args.container.streams().stdin && !args.detach;
    if wants_terminal && !ui::in_is_terminal() {
        return Err(CommandError::new("the input device is not a TTY")
            .hint("leave out -t where standard input is no terminal"));
    }
    Ok(())
}

fn run_inner(world: &World, args: RunArgs) -> Result<u8, CommandError> {
    let streams = if args.detach { Streams::default() } else { args.container.streams() };
    let keys = super::attached::detach_keys(&args.detach_keys)?;
    let store = world.open_store()?;
    // It loads while the container is made.
    let supervisor = world.supervisor(args.container.options.private_network()).map_err(not_started)?;
    let made = make(world, &store, &args.container, streams)?;
    let Made { kept, settings } = &made;
    let mut order = world.order(&store, kept);
    if args.detach {
        // First, as docker: one that does not start is there all the same, and can be looked at by it.
        ui::line(kept.id.as_str());
        let started = supervisor.start(&order, None).map_err(not_started)?;
        for warning in started.warnings {
            ui::note(&format!("{warning}\n"));
        }
        return Ok(0);
    }
    // Before the container runs: a signal in between must not end this process alone.
    let signals = super::foreground::signals()?;
    // Without -i there is no input of the container's to write to.
    let ours = Streams { stdin: streams.stdin && args.container.interactive, ..streams };
    let (attachment, ours) = attachment(ours, settings.terminal)?;
    order.attached = true;
    store.let_go()?;
    let mut started = supervisor.start(&order, Some(attachment)).map_err(not_started)?;
    for warning in std::mem::take(&mut started.warnings) {
        ui::note(&format!("{warning}\n"));
    }
    // It runs on when the input has ended; who wants to know more has its id.
    let unheard = !streams.stdout && !streams.stderr;
    if unheard {
        ui::line(kept.id.as_str());
        if !args.container.interactive {
            return Ok(0);
        }
    }
    let attached = Attached {
        connection: &started.connection,
        terminal: settings.terminal,
        ours,
        keys,
        pass_signals: args.sig_proxy,
    };
    let code = attached.until_the_end(signals)?;
    if code.is_some() {
        started.reap();
    }
    Ok(if unheard { 0 } else { code.unwrap_or(0) })
}
