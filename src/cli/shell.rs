//! `rbuild shell`: a shell, or a command, at any point of a build.
//!
//! Not here: building up to there and what the shell has (`build`), its terminal (`attend`).

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use clap::Args;

use super::attend::{self, Left};
use super::build::{SourceArgs, ca_cert, failed, request};
use super::cache_options::CacheArgs;
use super::error::{CommandError, chain, code};
use super::foreground;
use super::isolation::IsolationArg;
use super::progress::{self, Progress};
use super::pull_policy::PullArg;
use super::reach::ReachArgs;
use super::resources::ResourceArgs;
use super::step_inputs::StepInputArgs;
use super::step_network::StepNetworkArgs;
use super::ui;
use super::world::{self, World};
use crate::build::{self, At, BuildError, OpenPoint, ShellRequest};
use crate::sandbox::Exit;
use crate::solve::Cancel;

/// Open a shell at any point of a build.
#[derive(Debug, Args)]
#[command(
    override_usage = "rbuild shell [OPTIONS] [PATH | URL] [-- COMMAND [ARG]...]",
    after_help = "Examples:\n  \
        rbuild shell .                             in what the target becomes\n  \
        rbuild shell --at 4 --before .             just before step 4, as a build prints its number\n  \
        rbuild shell --at :12 .                    after the instruction on line 12\n  \
        rbuild shell --at test .                   at the end of the stage `test`\n  \
        rbuild shell --at 4 . -- cat /etc/hosts    a command, for scripts: no terminal is needed\n\n\
        It has what a RUN has there: variables, user, directory, mounts, network, limits. Nothing that is\n\
        changed is kept, but for cache mounts. The exit code is the command's own.\n\n\
        See also: rbuild build, rbuild run"
)]
pub struct ShellArgs {
    /// The build context: a directory, a URL or a Git repository
    #[arg(value_name = "PATH | URL", default_value = ".")]
    pub context: String,
    /// Run this instead of a shell
    #[arg(value_name = "COMMAND", last = true)]
    pub command: Vec<String>,
    #[command(flatten)]
    pub source: SourceArgs,
    /// Where: the number of a step, a line as :LINE or LLINE, or a stage; without it the end of the target
    #[arg(long, value_name = "STEP|:LINE|STAGE")]
    pub at: Option<String>,
    /// Before the step rather than after it
    #[arg(long, requires = "at")]
    pub before: bool,
    /// Use nothing from the cache; what is built is put in the cache
    #[arg(long)]
    pub no_cache: bool,
    /// Use nothing from the cache for the steps of these stages
    #[arg(long, value_name = "STAGE,...", value_delimiter = ',')]
    pub no_cache_filter: Vec<String>,
    /// Take cached steps from elsewhere, too, as `rbuild build` does
    #[arg(long, value_name = "FROM")]
    pub cache_from: Vec<String>,
    /// Say nothing of the build
    #[arg(short, long)]
    pub quiet: bool,
    /// How to show progress, as in `rbuild build`; it goes to standard error
    #[arg(long, value_name = "HOW", value_parser = ["auto", "none", "plain", "quiet", "rawjson", "tty"])]
    pub progress: Option<String>,
    /// Bind a certificate file into RUN steps at /run/rbuild/ca.crt and point the usual programs to it
    #[arg(long, value_name = "FILE")]
    pub ca_cert: Option<PathBuf>,
    #[command(flatten)]
    pub steps: StepInputArgs,
    #[command(flatten)]
    pub pull: PullArg,
    #[command(flatten)]
    pub resources: ResourceArgs,
    #[command(flatten)]
    pub step_network: StepNetworkArgs,
    #[command(flatten)]
    pub reach: ReachArgs,
    #[command(flatten)]
    pub isolation: IsolationArg,
}

/// Runs the command; the result is the exit code of what was run.
pub fn shell(world: &World, args: ShellArgs) -> Result<u8, CommandError> {
    let progress = Progress::new(progress::mode(args.progress.as_deref(), args.quiet)?, true);
    opened(world, args, &progress).map_err(|error| progress.error(error))
}

fn opened(world: &World, args: ShellArgs, progress: &Progress) -> Result<u8, CommandError> {
    if args.context == "-" || args.source.file.as_deref() == Some("-") {
        return Err(CommandError::usage(
            "standard input is the shell's: it can be neither context nor Dockerfile",
        ));
    }
    let (at, stage) = point(args.at.as_deref());
    let mut source = args.source;
    if source.targets.len() > 1 {
        return Err(CommandError::usage("a shell is at one point: name one --target"));
    }
    // The stage that is named need not be one that the last one is built from.
    if let (Some(stage), true) = (stage, source.targets.is_empty()) {
        source.targets.push(stage);
    }
    let mut request = request(&args.context, &source)?;
    args.steps.apply(&mut request.step)?;
    let mut notes = args.resources.apply(&mut request.step)?;
    notes.extend(args.step_network.apply(&mut request.step, request.network)?);
    let (proxies, note) = args.reach.apply(world)?;
    request.proxies = proxies;
    notes.extend(note);
    request.no_cache = args.no_cache;
    request.no_cache_filter = args.no_cache_filter;
    request.pull = args.pull.policy()?;
    let caches = CacheArgs { cache_from: args.cache_from, cache_to: Vec::new() };
    request.cache_from = caches.parse(&request.build_args)?.0;
    request.ca_cert = ca_cert(args.ca_cert.as_deref())?;
    notes.iter().for_each(|line| progress.note(line));
    let store = world.open_store()?;
    let cancel = world.cancel_on_signals()?;
    let engine = world.engine(&store, progress.reporter(), &cancel)?;
    let before = args.before;
    let attended = build::shell(&engine, request, &at, before, |point| {
        attended(world, progress, &cancel, point, args.command)
    });
    attended.unwrap_or_else(|error| {
        Err(progress.failed(error, |error| match error {
            BuildError::Point(why) => CommandError::usage(format!("--at: {why}")).hint(
                "`rbuild graph --format mermaid` shows the steps; \
                    what another stage has, `--target` leads to",
            ),
            error => {
                let of_a_step = is_a_commands(&error);
                let error = failed(world, &args.context, &source, error);
                match of_a_step {
                    true => error.hint(
                        "a step on the way failed: `--at N --before` stops just before it, `rbuild build --on-failure shell` in it",
                    ),
                    false => error,
                }
            }
        }))
    })
}

fn attended(
    world: &World,
    progress: &Progress,
    cancel: &Cancel,
    point: OpenPoint<'_>,
    command: Vec<String>,
) -> Result<u8, CommandError> {
    progress.looked(&point.warnings);
    if cancel.is_cancelled() {
        return Err(world.interrupted());
    }
    let on_terminal = ui::in_is_terminal() && ui::out_is_terminal();
    let is_shell = command.is_empty();
    let signals = foreground::signals()?;
    let (stdio, pipes) = match on_terminal {
        true => Default::default(),
        false => foreground::pipes(true)?,
    };
    let request = ShellRequest {
        command,
        terminal: on_terminal.then(attend::size),
        term: world::terminal_kind(),
        stdio,
        busybox: world.busybox()?,
        commands: false,
    };
    let (before, step) = (point.before, point.step);
    let mut shell = point.opener.open(request).map_err(people)?;
    if !on_terminal {
        return foreground::attend(&shell.running, None, signals, pipes, false);
    }
    drop(signals);
    if is_shell {
        let place = if before { "before" } else { "after" };
        ui::note(&format!(
            "A shell {place} step {}/{}: {}. What is changed here is thrown away; `exit` leaves it.\n",
            step.number, step.total, step.text
        ));
    }
    let left = attend::attend(&mut shell, io::stdout().as_fd(), cancel)?;
    match left {
        _ if cancel.is_cancelled() => Err(world.interrupted()),
        Left::Exit(Exit::OutOfMemory) => {
            Err(CommandError::new("the command was killed because memory ran out").code(137))
        }
        Left::Exit(exit) => Ok(exit.code().clamp(0, 255) as u8),
        // There are no commands that say a word.
        Left::Said(_) => Ok(0),
    }
}

/// Tells whether the command of a step failed.
pub fn is_a_commands(error: &BuildError) -> bool {
    match error {
        BuildError::Step(findings) => findings.diagnostics.iter().any(|found| found.code == "step-failed"),
        _ => false,
    }
}

/// Makes the error of a shell that could not be opened one for people.
pub fn people(error: BuildError) -> CommandError {
    let BuildError::Fetch(error) = error else { return error.into() };
    let code = match &error {
        crate::worker::WorkerError::Sandbox { error, .. } => error.exec().map(|error| error.exit_code()),
        _ => None,
    };
    let hint = error.hint();
    let mut found = CommandError::new(format!("no shell can be opened: {}", chain(&error)));
    found.hints.extend(hint);
    found.code(code.unwrap_or(code::FAILED))
}

/// Reads `--at`; with a stage its name, as a target.
fn point(text: Option<&str>) -> (At, Option<String>) {
    let number = |text: &str| text.parse::<usize>().ok();
    let Some(text) = text else { return (At::End, None) };
    let line = text.strip_prefix([':', 'L', 'l']).and_then(number);
    match (number(text), line) {
        (Some(step), _) => (At::Step(step), None),
        (_, Some(line)) => (At::Line(line), None),
        _ => (At::Stage(text.to_owned()), Some(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read() {
        let check = |text: &str, expect: At| assert_eq!(point(Some(text)).0, expect, "{text}");
        check("3", At::Step(3));
        check(":12", At::Line(12));
        check("L12", At::Line(12));
        check("l7", At::Line(7));
        check("test", At::Stage("test".into()));
        check("L1x", At::Stage("L1x".into()));
        check("line", At::Stage("line".into()));
        check(":", At::Stage(":".into()));
        assert_eq!(point(None), (At::End, None));
        assert_eq!(point(Some("Test")).1.as_deref(), Some("Test"));
    }
}
