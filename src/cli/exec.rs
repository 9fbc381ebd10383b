//! `rbuild exec`: a further command in a container that runs.
//!
//! Streams, terminals, signals and exit codes are docker's. Not here: starting it (`container`).

use std::os::fd::AsFd;
use std::path::PathBuf;

use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec};
use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;

use super::attached::{Attached, attachment, detach_keys};
use super::container_env::environment;
use super::containers::connect;
use super::error::CommandError;
use super::world::World;
use super::{foreground, ui};
use crate::container::control::{Connection, ExecRequest, Reply, Request};
use crate::container::{Attachment, Streams};

/// Run a command in a container that runs.
#[derive(Debug, Args)]
#[command(
    override_usage = "rbuild exec [OPTIONS] CONTAINER COMMAND [ARG]...",
    after_help = "Examples:\n  rbuild exec -it web sh\n  rbuild exec web cat /etc/hosts\n  \
        rbuild exec -d -u www -w /srv -e MODE=fast web ./refresh\n\n\
        The exit code is the command's own, 128 + n where signal n ended it, 127 where it was not found,\n\
        126 where it could not be executed, 1 where the container does not run. The command goes on when this\n\
        one is killed or left by the detach keys, and ends with the container.\n\n\
    See also: rbuild run, rbuild attach, rbuild top"
)]
pub struct ExecArgs {
    /// Run the command in the background
    #[arg(short, long)]
    pub detach: bool,
    /// Pass standard input on
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// The user the command runs as [default: the container's]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// The directory the command starts in [default: the container's]
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Set an environment variable; without a value, take it from the environment
    #[arg(short, long = "env", value_name = "KEY[=VALUE]")]
    pub env: Vec<String>,
    /// Set the environment variables of a file, one on each line
    #[arg(long = "env-file", value_name = "FILE")]
    pub env_files: Vec<PathBuf>,
    /// Give the command all rights that rbuild itself has
    #[arg(long)]
    pub privileged: bool,
    /// The keys that leave the command running: letters, or ctrl-LETTER, with commas between
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub detach_keys: String,
    /// A name or an id; then the command and its arguments
    // One list: what follows the container is the command's, options too.
    #[arg(value_name = "CONTAINER", required = true, trailing_var_arg = true, num_args = 2..)]
    pub container_and_command: Vec<String>,
}

/// Runs the command; the result is its exit code.
pub fn exec(world: &World, args: ExecArgs) -> Result<u8, CommandError> {
    let keys = detach_keys(&args.detach_keys)?;
    if args.tty && args.interactive && !args.detach && !ui::in_is_terminal() {
        return Err(CommandError::new("the input device is not a TTY")
            .hint("leave out -t where standard input is no terminal"));
    }
    let Some((container, command)) = args.container_and_command.split_first() else {
        return Err(CommandError::usage("a container and a command are needed"));
    };
    let env = environment(&args.env, &args.env_files)?;
    let store = world.open_store()?;
    let kept = store.find_container(container)?;
    let connection = connect(&store, &kept)?;
    drop(store);
    // A terminal that is closed ends this process alone: SIGHUP is not passed on.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH])?;
    let (attachment, ours) = match args.detach {
        true => (Attachment::default(), None),
        false => attachment(Streams { stdin: args.interactive, stdout: true, stderr: true }, args.tty)
            .map(|(theirs, ours)| (theirs, Some(ours)))?,
    };
    let Attachment { stdin, stdout, stderr } = &attachment;
    let request = Request::Exec(Box::new(ExecRequest {
        args: command.to_vec(),
        env,
        user: args.user.filter(|user| !user.is_empty()),
        workdir: args.workdir.filter(|workdir| !workdir.is_empty()),
        privileged: args.privileged,
        terminal: args.tty.then(foreground::terminal_size),
        stdin: stdin.is_some(),
        stdout: stdout.is_some(),
        stderr: stderr.is_some(),
    }));
    let fds: Vec<_> = [stdin, stdout, stderr].into_iter().flatten().map(AsFd::as_fd).collect();
    connection.send(&request, &fds)?;
    drop(fds);
    drop(attachment);
    until_answered(&connection, &mut signals)?;
    match connection.receive::<Reply>()? {
        Some((Reply::ExecStarted { warnings }, _)) => {
            warnings.iter().for_each(|warning| ui::note(&format!("{warning}\n")));
        }
        Some((Reply::Failed(failure), _)) => {
            let mut error = CommandError::new(failure.message).code(failure.exit_code);
            error.hints = failure.hints;
            return Err(error);
        }
        Some((Reply::Refused(why), _)) => return Err(CommandError::new(why).code(126)),
        // It ended between the question and the answer.
        _ => return Err(CommandError::new(format!("Container {} is not running", kept.id))),
    }
    let Some(ours) = ours else { return Ok(0) };
    let attached = Attached { connection: &connection, terminal: args.tty, ours, keys, pass_signals: true };
    Ok(attached.until_the_end(signals)?.unwrap_or(0))
}

/// Waits for an answer. A container that is too busy to start anything may never give one: a signal then
/// ends this command.
fn until_answered(connection: &Connection, signals: &mut Signals) -> Result<(), CommandError> {
    let look = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    loop {
        let mut fds = [PollFd::from_borrowed_fd(connection.fd(), PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&look)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            _ => return Ok(()),
        }
        let ending = signals.pending().find(|signal| matches!(*signal, SIGINT | SIGTERM | SIGQUIT));
        if let Some(signal) = ending {
            return Err(CommandError::silent(128 + u8::try_from(signal).unwrap_or(0)));
        }
    }
}
