//! `rbuild graph`: what a Dockerfile's instructions depend on, and which are cached.

use clap::Args;

use super::build::{SourceArgs, failed, request};
use super::error::CommandError;
use super::ui;
use super::world::World;
use crate::build::{self, PullPolicy};
use crate::plan::render::Format;
use crate::report::Plain;

/// Show what a Dockerfile's instructions depend on, and which are cached.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rbuild graph .\n  rbuild graph --format svg . > graph.svg\n\n\
    See also: rbuild report, rbuild check")]
pub struct GraphArgs {
    /// The build context: a directory, or `-` for a Dockerfile or a tar archive on standard input
    #[arg(value_name = "PATH | -", default_value = ".")]
    pub context: String,
    #[command(flatten)]
    pub source: SourceArgs,
    /// How to write it
    #[arg(long, default_value = "json", value_parser = ["json", "dot", "mermaid", "svg"])]
    pub format: String,
}

/// Runs the command.
pub fn graph(world: &World, args: GraphArgs) -> Result<(), CommandError> {
    let mut request = request(&args.context, &args.source)?;
    // A look at a Dockerfile fetches no images.
    request.pull = PullPolicy::Never;
    let sink = Plain::new(std::io::stderr(), ui::err_is_terminal()).colour(ui::err_in_colour());
    let store = world.open_store()?;
    let cancel = world.cancel_on_signals()?;
    let engine = world.engine(&store, &sink, &cancel)?;
    let format = match args.format.as_str() {
        "dot" => Format::Dot,
        "mermaid" => Format::Mermaid,
        "svg" => Format::Svg,
        _ => Format::Json,
    };
    let text = build::graph(&engine, request, format)
        .map_err(|error| failed(world, &args.context, &args.source, error))?;
    ui::out(&text);
    Ok(())
}
