//! `rbuild pull`: an image, or all of a repository, from a registry.

use std::sync::Arc;

use clap::Args;

use super::error::CommandError;
use super::progress::Bars;
use super::reach::ReachArgs;
use super::ui;
use super::world::World;
use crate::image::{Platform, Reference};
use crate::registry::{self, PullError, PullEvent};
use crate::solve::Cancel;
use crate::store::Store;

/// Fetch an image from a registry.
#[derive(Debug, Args)]
#[command(
    after_help = "What came of an image stays when a pull is stopped, and the next one goes on from there.\n\n\
    Examples:\n  \
    rbuild pull debian:bookworm\n  \
    rbuild pull registry.example.com:5000/app:1\n  \
    rbuild pull --platform linux/arm64 debian@sha256:...\n\n\
    See also: rbuild push, rbuild login, rbuild images"
)]
pub struct PullArgs {
    /// The image; the tag `latest` where there is neither tag nor digest
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub name: String,
    /// Fetch the images of all tags of the repository
    #[arg(short, long)]
    pub all_tags: bool,
    /// Of an image for several platforms, take the one for this
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Print the image's whole name only
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub reach: ReachArgs,
}

/// Runs the command.
pub fn pull(world: &World, args: PullArgs) -> Result<(), CommandError> {
    let reference: Reference = args
        .name
        .parse()
        .map_err(|e| CommandError::usage(format!("`{}` cannot be pulled: {e}", args.name)))?;
    if reference.domain() == "docker.io" && reference.path() == "library/scratch" {
        return Err(CommandError::usage("'scratch' is a reserved name")
            .hint("`FROM scratch` is the empty image; it is nowhere to be had"));
    }
    let platform = args.platform.as_deref().map(str::parse::<Platform>).transpose();
    let platform = platform.map_err(|e| CommandError::usage(format!("bad --platform: {e}")))?;
    let bare = reference.tag().is_none() && reference.digest().is_none();
    if args.all_tags && !bare {
        return Err(CommandError::usage("tag can't be used with --all-tags/-a"));
    }
    let store = world.open_store()?;
    let cancel = world.cancel_on_signals()?;
    args.reach.apply(world)?;
    let bars = Arc::new(Bars::new(!args.quiet && ui::out_is_terminal()));
    Bars::show_retries(&bars, world, args.quiet);
    let print = |line: &str| {
        if !args.quiet {
            bars.line(line, ui::line);
        }
    };
    let puller = Puller { world, store: &store, cancel: &cancel, bars: &bars, say: &print };
    if args.all_tags {
        puller.all(&reference, platform.as_ref())?;
        bars.end();
        ui::line(&reference.full_name());
        return Ok(());
    }
    if bare {
        print("Using default tag: latest");
    }
    let reference = reference.with_default_tag();
    puller.one_and_status(&reference, platform.as_ref())?;
    bars.end();
    let suffix = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => format!("@{digest}"),
        (None, tag) => format!(":{}", tag.unwrap_or("latest")),
    };
    ui::line(&format!("{}{suffix}", reference.full_name()));
    Ok(())
}

/// Pulls one image for a command that needs it; what is told goes to standard error, unless `quiet`.
pub fn fetch(world: &World, store: &Store, reference: &Reference, quiet: bool) -> Result<(), CommandError> {
    let cancel = world.cancel_on_signals()?;
    let bars = Arc::new(Bars::new(!quiet));
    Bars::show_retries(&bars, world, quiet);
    let say = |line: &str| {
        if !quiet {
            bars.line(line, |line| ui::note(&format!("{line}\n")));
        }
    };
    Puller { world, store, cancel: &cancel, bars: &bars, say: &say }.one_and_status(reference, None)
}

struct Puller<'a> {
    world: &'a World,
    store: &'a Store,
    cancel: &'a Cancel,
    bars: &'a Bars,
    say: &'a (dyn Fn(&str) + Sync),
}

impl Puller<'_> {
    fn one_and_status(&self, reference: &Reference, platform: Option<&Platform>) -> Result<(), CommandError> {
        let newer = self.one(reference, platform)?;
        (self.say)(&PullEvent::Status { name: reference.to_string(), newer }.to_string());
        Ok(())
    }

    /// Pulls one image; tells whether its name stands for another one now.
    fn one(&self, reference: &Reference, platform: Option<&Platform>) -> Result<bool, CommandError> {
        let of: Arc<str> = format!("pull {reference}").into();
        let tell = |event: PullEvent| match event.transfer(&of) {
            Some(transfer) => self.bars.transfer(transfer),
            None => (self.say)(&event.to_string()),
        };
        let (registries, cancelled) = (self.world.registries(), || self.cancel.is_cancelled());
        let pulled = registry::pull(registries, self.store, reference, platform, &tell, &cancelled);
        self.bars.ended(&of);
        Ok(pulled.map_err(|error| self.failed(error))?.newer)
    }

    fn all(&self, name: &Reference, platform: Option<&Platform>) -> Result<(), CommandError> {
        let cancelled = || self.cancel.is_cancelled();
        let tags = self.world.registries().repository(name).tags(&cancelled);
        let tags = tags.map_err(|error| self.failed(PullError::of_tags(error, name)))?;
        if tags.is_empty() {
            return Err(CommandError::new(format!("the repository {} has no tags", name.familiar_name())));
        }
        let mut newer = false;
        for tag in tags {
            let reference: Reference = format!("{}:{tag}", name.full_name())
                .parse()
                .map_err(|e| CommandError::new(format!("the registry lists the tag `{tag}`: {e}")))?;
            newer |= self.one(&reference, platform)?;
        }
        (self.say)(&PullEvent::Status { name: name.familiar_name(), newer }.to_string());
        Ok(())
    }

    fn failed(&self, error: PullError) -> CommandError {
        if error.is_cancelled() {
            let message = "stopped; what came of the layers is kept for the next pull".to_owned();
            return CommandError { message, ..self.world.interrupted() };
        }
        let hint = error.hint();
        let mut error = CommandError::from(error);
        error.hints.extend(hint.map(str::to_owned));
        error
    }
}
