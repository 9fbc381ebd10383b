//! `rbuild logout`: forgets the credentials for a registry.

use clap::Args;

use super::error::CommandError;
use super::ui;
use super::world::{Global, registry_options};
use crate::registry::key_of;

/// Forget the credentials for a registry; without SERVER, for Docker Hub.
#[derive(Debug, Args)]
#[command(
    after_help = "Without SERVER it is docker.io.\n\nExamples:\n  rbuild logout\n  rbuild logout registry.lan:5000\n\n\
    See also: rbuild login"
)]
pub struct LogoutArgs {
    /// The registry: HOST or HOST:PORT; Docker Hub where it is left out
    #[arg(value_name = "SERVER")]
    pub server: Option<String>,
}

/// Runs the command.
pub fn logout(global: &Global, args: LogoutArgs) -> Result<(), CommandError> {
    let server = args.server.as_deref().unwrap_or_default();
    let key = key_of(server);
    let options = registry_options(global.daemon_json.as_deref());
    match options.credentials.erase(server)? {
        true => ui::line(&format!("Removing login credentials for {key}")),
        false => ui::line(&format!("Not logged in to {key}")),
    }
    Ok(())
}
