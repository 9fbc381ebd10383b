//! `rbuild login`: credentials for a registry, tried and kept where docker keeps them.
//!
//! Not here: trying and keeping (`registry`).

use std::convert::Infallible;
use std::io::Read;
use std::str::FromStr;

use clap::Args;

use super::error::CommandError;
use super::ui;
use super::world::{Global, cancel_on_signals, interrupted, registry_options};
use crate::registry::{Registries, RegistryError, RegistryOptions, Secret, StoredIn};
use crate::solve::Cancel;
use crate::sys::terminal;

/// The longest password that is read from standard input.
const LONGEST: u64 = 1024 * 1024;

/// Log in to a registry; without SERVER, to Docker Hub.
#[derive(Debug, Args)]
#[command(
    after_help = "Credentials are docker's: $DOCKER_CONFIG/config.json, else ~/.docker/config.json, and the\n\
    credential helpers it names.\n\n\
    Examples:\n  \
    rbuild login registry.example.com\n  \
    echo \"$TOKEN\" | rbuild login -u me --password-stdin registry.example.com:5000\n\n\
    See also: rbuild logout, rbuild push"
)]
pub struct LoginArgs {
    /// The registry: HOST or HOST:PORT; Docker Hub where it is left out
    #[arg(value_name = "SERVER")]
    pub server: Option<String>,
    /// User name
    #[arg(short = 'u', long = "username", value_name = "NAME")]
    pub user: Option<String>,
    /// Password or personal access token; others on this machine can see it in the list of processes
    #[arg(short = 'p', long, value_name = "PASSWORD")]
    pub password: Option<Hidden>,
    /// Take the password or token from standard input
    #[arg(long)]
    pub password_stdin: bool,
}

/// A text that is not shown.
#[derive(Clone)]
pub struct Hidden(String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl FromStr for Hidden {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Hidden, Infallible> {
        Ok(Hidden(text.to_owned()))
    }
}

/// Runs the command.
pub fn login(global: &Global, args: LoginArgs) -> Result<(), CommandError> {
    let server = args.server.as_deref().unwrap_or_default();
    let user = args.user.filter(|user| !user.is_empty());
    let mut password = args.password.map(|password| password.0).filter(|password| !password.is_empty());
    if password.is_some() {
        ui::note("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n");
        if args.password_stdin {
            return Err(CommandError::usage("--password and --password-stdin are mutually exclusive"));
        }
    }
    if args.password_stdin {
        if user.is_none() {
            return Err(CommandError::usage("Must provide --username with --password-stdin"));
        }
        password = Some(password_from_stdin()?);
    }
    let options = registry_options(global.daemon_json.as_deref());
    let cancel = cancel_on_signals()?;
    let mut known_user = None;
    if user.is_none() && password.is_none() {
        let kept = options.credentials.find(server)?;
        known_user = kept.as_ref().and_then(|kept| kept.user().map(str::to_owned));
        if let Some(kept) = kept
            && try_kept(&options, server, kept, &cancel)?
        {
            ui::line("Login Succeeded");
            return Ok(());
        }
    }
    let secret = ask(user, password, known_user, &cancel)?;
    let secret = try_out(&options, server, secret, &cancel)?;
    if let StoredIn::File(path) = options.credentials.store(server, &secret)? {
        ui::note(&format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\n\
             Configure a credential helper to remove this warning. See\n\
             https://docs.docker.com/go/credential-store/\n\n",
            path.display()
        ));
    }
    ui::line("Login Succeeded");
    Ok(())
}

/// Tries what is kept; `false` where the registry no longer takes it.
fn try_kept(
    options: &RegistryOptions,
    server: &str,
    kept: Secret,
    cancel: &Cancel,
) -> Result<bool, CommandError> {
    ui::line("Authenticating with existing credentials...");
    match Registries::new(options.clone()).login(server, kept, &|| cancel.is_cancelled()) {
        Ok(_) => Ok(true),
        Err(RegistryError::BadCredentials { .. }) => {
            ui::note("Stored credentials invalid or expired\n");
            Ok(false)
        }
        Err(error) => Err(failed(error)),
    }
}

fn try_out(
    options: &RegistryOptions,
    server: &str,
    secret: Secret,
    cancel: &Cancel,
) -> Result<Secret, CommandError> {
    match Registries::new(options.clone()).login(server, secret, &|| cancel.is_cancelled()) {
        // What the error of other commands advises is what was just tried.
        Err(RegistryError::BadCredentials { host, .. }) => Err(CommandError::new(format!(
            "the user name or password for `{host}` was not accepted (unauthorized)"
        ))),
        done => done.map_err(failed),
    }
}

fn failed(error: RegistryError) -> CommandError {
    if error.is_cancelled() {
        return interrupted();
    }
    let hint = error.hint();
    let mut error = CommandError::from(error);
    error.hints.extend(hint.map(str::to_owned));
    error
}

/// Asks for what is missing.
fn ask(
    user: Option<String>,
    password: Option<String>,
    known_user: Option<String>,
    cancel: &Cancel,
) -> Result<Secret, CommandError> {
    if (user.is_none() || password.is_none()) && !ui::in_is_terminal() {
        return Err(CommandError::new("Cannot perform an interactive login from a non TTY device")
            .hint("give --username and --password-stdin"));
    }
    let user = match user {
        Some(user) => user,
        None => {
            let known = known_user.as_ref().map(|user| format!(" ({user})")).unwrap_or_default();
            let typed = prompt(&format!("Username{known}: "), false, cancel)?;
            let typed = Some(typed.trim().to_owned()).filter(|user| !user.is_empty());
            typed.or(known_user).ok_or_else(|| CommandError::new("username is required"))?
        }
    };
    let password = match password {
        Some(password) => password,
        None => prompt("Password: ", true, cancel)?,
    };
    if password.is_empty() {
        return Err(CommandError::new("password is required"));
    }
    Ok(Secret::Password { user, password })
}

fn prompt(text: &str, hidden: bool, cancel: &Cancel) -> Result<String, CommandError> {
    let line = terminal::read_line(std::io::stdin(), hidden, &|| ui::out(text), &|| cancel.is_cancelled())?;
    if hidden {
        // The typed line end was not shown either.
        ui::line("");
    }
    let line = line.ok_or_else(interrupted)?;
    String::from_utf8(line).map_err(|_| CommandError::new("what was typed is not UTF-8"))
}

/// Reads all of standard input, but for one line end.
fn password_from_stdin() -> Result<String, CommandError> {
    let mut text = String::new();
    std::io::stdin()
        .take(LONGEST)
        .read_to_string(&mut text)
        .map_err(|e| CommandError::new(format!("cannot read the password from standard input: {e}")))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    match text.is_empty() {
        true => Err(CommandError::new("password is required").hint("standard input was empty")),
        false => Ok(text.to_owned()),
    }
}
