//! `rbuild serve`: images built when a repository is pushed to.
//!
//! Not here: the server (`service::serve`).

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::error::{CommandError, code};
use super::hook::told;
use super::ui;
use super::when;
use super::world::{self, Global};
use crate::report::excerpt;
use crate::service::serve::{self, Around, Config, Listening, Service, ServiceOptions};
use crate::sys::read::read_small;

/// Build images when a repository is pushed to: triggers over HTTP, a queue, a status page.
///
/// GitHub, GitLab, Gitea and Forgejo tell of pushes at /hooks/PROJECT, anything else asks for a build at
/// /trigger/PROJECT/TOKEN. Rules in the configuration say which branches and tags become which images. It ends
/// at SIGTERM and Ctrl-C; what was being built then, or waited, is built after the next start.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rbuild serve --config builds.toml --check\n  rbuild serve --config builds.toml\n  \
    rbuild serve --config /etc/rbuild/serve.toml --listen 127.0.0.1:9000\n\nSee also: rbuild hook, rbuild build, rbuild push"
)]
pub struct ServeArgs {
    /// The configuration: projects, their rules and secrets
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Where to listen; without it what the configuration says, else 127.0.0.1:8080
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Say whether the configuration is right, and end
    #[arg(long)]
    pub check: bool,
}

/// Runs the command; for a process that has entered no user namespace.
pub fn serve(global: &Global, args: &ServeArgs) -> Result<(), CommandError> {
    let config = read(&args.config)?;
    if args.check {
        let rules: usize = config.projects.iter().map(|project| project.rules.len()).sum();
        let projects = counted(config.projects.len(), "project");
        ui::line(&format!("{}: {projects}, {}", args.config.display(), counted(rules, "rule")));
        return Ok(());
    }
    // Files of a commit are to have the same rights whoever starts the server.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let asked = config.listen.as_deref().and_then(|text| text.parse().ok());
    let address = args.listen.or(asked).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080)));
    let tls = config.tls.clone();
    let tls = tls.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
    let listening = Listening::bind(address, tls).map_err(told)?;
    let cancel = world::cancel_on_signals()?;
    let options = ServiceOptions {
        program: world::own_program()?,
        globals: super::hook::global_words(global)?,
        hidden: world::git_variables(),
        data: match &config.data {
            Some(data) => data.clone(),
            None => world::serve_folder()?,
        },
        git: world::git_options(),
        say: Box::new(|line| ui::note(&format!("{line}\n"))),
    };
    let service = Arc::new(Service::open(config, options).map_err(told)?);
    ui::line(&format!("listening on {}://{}", listening.scheme(), listening.address()?));
    serve::serve(&service, listening, &|| cancel.is_cancelled()).map_err(told)?;
    ui::note("ended; what waited is built after the next start\n");
    Ok(())
}

/// Returns a number with what is counted.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Reads the configuration; what is wrong in it is drawn with its place.
fn read(path: &Path) -> Result<Config, CommandError> {
    let failed = |why: &dyn std::fmt::Display| {
        CommandError::usage(format!("cannot read the configuration `{}`: {why}", path.display()))
    };
    let bytes = read_small(path).map_err(|error| failed(&error))?;
    let text = String::from_utf8(bytes).map_err(|_| failed(&"it is not UTF-8"))?;
    let whole = std::path::absolute(path)?;
    let around = Around {
        folder: whole.parent().unwrap_or(Path::new("/")),
        read: &|path| read_small(path),
        duration: &|text| {
            let nanos = u64::try_from(when::duration(text)?).ok()?;
            Some(Duration::from_nanos(nanos))
        },
    };
    let config = serve::read_config(&text, &around).map_err(|finding| {
        ui::note(&format!(
            "{}\n",
            excerpt::render(&finding, &path.display().to_string(), &text, ui::err_in_colour())
        ));
        CommandError::silent(code::USAGE)
    })?;
    let mode = std::fs::metadata(path)?.permissions().mode();
    let holds_secrets = ["secret", "token", "status_token", "control_token"].iter().any(|name| {
        text.lines()
            .any(|line| line.trim_start().strip_prefix(name).is_some_and(|r| r.trim_start().starts_with('=')))
    });
    if holds_secrets && mode & 0o004 != 0 {
        ui::note(&format!(
            "warning: everybody on this machine can read the secrets in `{}`\n",
            path.display()
        ));
    }
    Ok(config)
}
