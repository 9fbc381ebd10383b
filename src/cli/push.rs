//! `rbuild push`: an image goes to the registry of its name.
//!
//! The words are docker's, as it prints them without a terminal. Not here: pushing (`registry`).

use std::sync::Arc;

use clap::Args;

use super::error::CommandError;
use super::progress::Bars;
use super::reach::ReachArgs;
use super::ui;
use super::world::World;
use crate::content::{ManifestOptions, Packing};
use crate::image::{DiffId, ImageId, Platform, Reference};
use crate::layer::Compression;
use crate::registry::{LayerState, PushRequest, push as push_image};
use crate::store::Store;

/// Push an image to the registry of its name.
#[derive(Debug, Args)]
#[command(
    after_help = "The name says where to: HOST[:PORT]/REPOSITORY[:TAG]; without a host it is Docker Hub.\n\n\
    Examples:\n  \
    rbuild tag app:1 registry.example.com:5000/app:1\n  \
    rbuild push registry.example.com:5000/app:1\n  \
    rbuild build -t registry.example.com:5000/app:2 --push .\n\n\
    See also: rbuild tag, rbuild login, rbuild pull"
)]
pub struct PushArgs {
    /// The image, by a name of it
    #[arg(value_name = "NAME[:TAG]")]
    pub name: String,
    /// Push all tags of the repository
    #[arg(short, long)]
    pub all_tags: bool,
    /// Print only the whole name
    #[arg(short, long)]
    pub quiet: bool,
    /// Pack layers anew in this way; without it those that came from elsewhere stay as they were
    #[arg(long, value_name = "HOW", value_parser = ["gzip", "zstd"])]
    pub compression: Option<String>,
    /// Push only an image of this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Content trust (Notary) is no more
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide = true)]
    pub disable_content_trust: Option<bool>,
    #[command(flatten)]
    pub reach: ReachArgs,
}

/// Runs the command.
pub fn push(world: &World, args: PushArgs) -> Result<(), CommandError> {
    let parsed: Reference = args.name.parse().map_err(|e| CommandError::usage(format!("{e}")))?;
    if parsed.digest().is_some() {
        return Err(CommandError::usage("cannot push a digest reference"));
    }
    if args.all_tags && parsed.tag().is_some() {
        return Err(CommandError::usage("tag can't be used with --all-tags/-a"));
    }
    let platform = args.platform.as_ref().map(|text| text.parse::<Platform>()).transpose();
    let platform = platform.map_err(|e| CommandError::usage(format!("bad --platform: {e}")))?;
    let packing = args.compression.as_deref().map(|word| Packing {
        compression: if word == "zstd" { Compression::Zstd } else { Compression::Gzip },
        level: None,
        force: true,
    });
    args.reach.apply(world)?;
    let bars = Arc::new(Bars::new(!args.quiet && ui::out_is_terminal()));
    Bars::show_retries(&bars, world, args.quiet);
    let say = |text: &str| {
        if !args.quiet {
            bars.line(text, ui::line);
        }
    };
    let store = world.open_store()?;
    let cancel = world.cancel_on_signals()?;
    if !args.all_tags && parsed.tag().is_none() {
        say("Using default tag: latest");
    }
    say(&format!("The push refers to repository [{}]", parsed.full_name()));
    for (name, image) in images(&store, &parsed, args.all_tags)? {
        if let Some(wanted) = &platform {
            check_platform(&store, &name, &image, wanted)?;
        }
        let tag = name.tag().unwrap_or("latest").to_owned();
        let request = PushRequest {
            image,
            name: name.clone(),
            tags: vec![tag.clone()],
            packing,
            manifest: ManifestOptions::default(),
        };
        let of: Arc<str> = format!("push {name}").into();
        let progress = |layer: &DiffId, state: LayerState| {
            if let Some(transfer) = state.transfer(&of, layer) {
                bars.transfer(transfer);
            }
            if let LayerState::Sending { .. } = state {
                return;
            }
            say(&format!("{}: {}", layer.0.short(), word(&state)));
        };
        let stopped = || cancel.is_cancelled();
        let pushed = push_image(&store, world.registries(), &request, &progress, &stopped);
        bars.ended(&of);
        let pushed = pushed.map_err(|error| {
            if error.is_cancelled() {
                let message = "stopped; layers that have arrived need not be pushed again".to_owned();
                return CommandError { message, ..world.interrupted() };
            }
            let hint = error.hint();
            let mut error = CommandError::from(error);
            error.hints.extend(hint.map(str::to_owned));
            error
        })?;
        say(&format!("{tag}: digest: {} size: {}", pushed.digest, pushed.size));
        if args.quiet {
            bars.end();
            ui::line(&format!("{}:{tag}", name.full_name()));
        }
    }
    Ok(())
}

/// Returns what docker calls the state of a layer.
fn word(state: &LayerState) -> String {
    match state {
        LayerState::Preparing => "Preparing".to_owned(),
        LayerState::Exists => "Layer already exists".to_owned(),
        LayerState::Mounted(from) => {
            format!("Mounted from {}", from.strip_prefix("library/").unwrap_or(from))
        }
        LayerState::Pushed => "Pushed".to_owned(),
        LayerState::Sending { .. } => "Pushing".to_owned(),
    }
}

/// Finds the images that are meant, with the names they are pushed by.
fn images(
    store: &Store,
    name: &Reference,
    all_tags: bool,
) -> Result<Vec<(Reference, ImageId)>, CommandError> {
    let of_repository =
        |(there, _): &(Reference, ImageId)| there.full_name() == name.full_name() && there.digest().is_none();
    let there: Vec<(Reference, ImageId)> = store.tags()?.into_iter().filter(of_repository).collect();
    if there.is_empty() {
        let name = name.familiar_name();
        return Err(CommandError::new(format!("An image does not exist locally with the tag: {name}")));
    }
    if all_tags {
        return Ok(there);
    }
    let name = name.clone().with_default_tag();
    match store.resolve(&name)? {
        Some(image) => Ok(vec![(name, image)]),
        None => Err(CommandError::new(format!("tag does not exist: {name}"))),
    }
}

fn check_platform(
    store: &Store,
    name: &Reference,
    image: &ImageId,
    wanted: &Platform,
) -> Result<(), CommandError> {
    let found = store.image(image)?.config.platform();
    match found == *wanted {
        true => Ok(()),
        false => Err(CommandError::new(format!(
            "image with reference {name} was found but does not match the specified platform: \
             wanted {wanted}, actual: {found}"
        ))),
    }
}
