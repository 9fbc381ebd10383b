//! `rbuild commit`: an image of what a container has changed.
//!
//! Not here: the layer (`container::files`), what an instruction means (`build`).

use clap::Args;

use super::build::parse_tag;
use super::containers;
use super::error::{CommandError, code};
use super::ui;
use super::world::World;
use crate::build::{self, BuildError};
use crate::container::files::{self, CommitRequest};

/// Make an image of a container's changes, and print its id.
#[derive(Debug, Args)]
#[command(
    after_help = "The image has the layers of the container's image, and one more; its settings are those that \
    the container was made\nwith, changed by each -c: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, \
    STOPSIGNAL, USER, VOLUME, WORKDIR.\nWhat is in volumes is not in it.\n\n\
    Examples:\n  rbuild commit web flask:patched\n  \
    rbuild commit -a 'Ann <ann@example.org>' -m 'with curl' -c 'CMD [\"bash\"]' web tools\n\n\
    See also: rbuild diff, rbuild export, rbuild history"
)]
pub struct CommitArgs {
    /// Who made it
    #[arg(short, long, value_name = "NAME", default_value = "")]
    pub author: String,
    /// Apply a Dockerfile instruction to the image, as in `CMD ["sh"]`
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    pub changes: Vec<String>,
    /// The comment of the image's history
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    pub message: String,
    /// Hold a container that runs still meanwhile
    #[arg(short, long, value_name = "BOOL", default_value_t = true, default_missing_value = "true",
        num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    pub pause: bool,
    /// A name or id
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// The image's name
    #[arg(value_name = "NAME[:TAG]")]
    pub name: Option<String>,
}

/// Runs the command.
pub fn commit(world: &World, args: CommitArgs) -> Result<(), CommandError> {
    let names = args.name.iter().map(|name| parse_tag(name)).collect::<Result<Vec<_>, _>>()?;
    let store = world.open_store()?;
    store.hold()?;
    let (kept, settings) = containers::find(&store, &args.container)?;
    let mut config = files::parent_config(&store, &kept)?;
    let command = settings.config.cmd.clone().unwrap_or_default().join(" ");
    config.config = settings.config;
    let config = build::changed_config_of(&config, &args.changes).map_err(|error| match error {
        BuildError::Dockerfile(findings) => {
            ui::note(&findings.render(ui::err_in_colour()));
            CommandError::silent(code::USAGE)
        }
        error => error.into(),
    })?;
    files::layer_is_current(&store, &kept)?;
    // Held still until this goes, however that happens.
    let _paused = if args.pause { files::pause(&store, &kept)? } else { None };
    let request = CommitRequest {
        config,
        author: args.author,
        comment: args.message,
        command,
        names,
        now: jiff::Timestamp::now(),
    };
    let image = files::commit(&store, &kept, request)?;
    ui::line(&image.to_string());
    Ok(())
}
