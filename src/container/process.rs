//! What a container starts: the image's config and the command line's wishes made one.
//!
//! Pure. The rules are those of `docker run`: arguments replace CMD and are
//! appended to an exec-form ENTRYPOINT; `--entrypoint` drops the image's CMD.

use serde::{Deserialize, Serialize};

use crate::image::ContainerConfig;

/// The search path of containers whose image sets none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the command line asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// `--entrypoint`; `Some("")` resets that of the image.
    pub entrypoint: Option<String>,
    /// The words after the image.
    pub args: Vec<String>,
    /// `KEY=value`; a bare `KEY` removes the variable.
    pub env: Vec<String>,
    pub workdir: Option<String>,
    /// `user[:group]`.
    pub user: Option<String>,
    pub terminal: bool,
}

impl Wishes {
    /// Returns an image's config with what is wished: the config of the container.
    pub fn applied_to(&self, mut config: ContainerConfig) -> ContainerConfig {
        match &self.entrypoint {
            Some(entrypoint) => {
                config.entrypoint = (!entrypoint.is_empty()).then(|| vec![entrypoint.clone()]);
                config.cmd = (!self.args.is_empty()).then(|| self.args.clone());
            }
            None if !self.args.is_empty() => config.cmd = Some(self.args.clone()),
            None => {}
        }
        for entry in &self.env {
            match entry.split_once('=') {
                Some((key, value)) => config.set_env(key, value),
                None => config.env.retain(|e| e.split_once('=').is_none_or(|(key, _)| key != entry)),
            }
        }
        if let Some(workdir) = &self.workdir {
            config.working_dir.clone_from(workdir);
        }
        if let Some(user) = &self.user {
            config.user.clone_from(user);
        }
        config
    }
}

/// What to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Never empty.
    pub args: Vec<String>,
    /// Without HOME, which depends on the user.
    pub env: Vec<String>,
    /// Absolute.
    pub workdir: String,
    /// `user[:group]`; empty is root.
    pub user: String,
}

/// The image says no command and neither does the user.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("No command specified: the image has neither CMD nor ENTRYPOINT, and none was given")]
pub struct NoCommand;

/// Merges an image's config with what the command line asks for.
pub fn start(config: &ContainerConfig, wishes: &Wishes, hostname: &str) -> Result<Start, NoCommand> {
    let mut args = match &wishes.entrypoint {
        Some(entrypoint) if entrypoint.is_empty() => Vec::new(),
        Some(entrypoint) => vec![entrypoint.clone()],
        None => config.entrypoint.clone().unwrap_or_default(),
    };
    if !wishes.args.is_empty() {
        args.extend(wishes.args.iter().cloned());
    } else if wishes.entrypoint.is_none() {
        args.extend(config.cmd.clone().unwrap_or_default());
    }
    if args.is_empty() || args[0].is_empty() {
        return Err(NoCommand);
    }
    let mut environment = ContainerConfig::default();
    environment.set_env("PATH", DEFAULT_PATH);
    environment.set_env("HOSTNAME", hostname);
    if wishes.terminal {
        environment.set_env("TERM", "xterm");
    }
    for entry in config.env.iter().chain(&wishes.env) {
        match entry.split_once('=') {
            Some((key, value)) => environment.set_env(key, value),
            None => environment.env.retain(|e| e.split_once('=').is_none_or(|(key, _)| key != entry)),
        }
    }
    let workdir = match wishes.workdir.as_deref().unwrap_or(&config.working_dir) {
        "" => "/".to_owned(),
        path if path.starts_with('/') => path.to_owned(),
        path => format!("/{path}"),
    };
    let user = wishes.user.clone().unwrap_or_else(|| config.user.clone());
    Ok(Start { args, env: environment.env, workdir, user })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[track_caller]
    fn check(entrypoint: &str, cmd: &str, wish: Option<&str>, args: &str, expect: Option<&str>) {
        let list = |text: &str| (!text.is_empty()).then(|| words(text));
        let config = ContainerConfig { entrypoint: list(entrypoint), cmd: list(cmd), ..Default::default() };
        let wishes = Wishes { entrypoint: wish.map(str::to_owned), args: words(args), ..Default::default() };
        assert_eq!(start(&config, &wishes, "h").ok().map(|s| s.args), expect.map(words));
    }

    #[test]
    fn arguments_follow_docker() {
        check("", "echo hi", None, "", Some("echo hi"));
        check("", "echo hi", None, "/bin/date", Some("/bin/date"));
        check("/bin/echo", "a", None, "", Some("/bin/echo a"));
        check("/bin/echo", "a", None, "Hi Docker !", Some("/bin/echo Hi Docker !"));
        check("/bin/echo", "a", Some("sh"), "", Some("sh"));
        check("/bin/echo", "a", Some("sh"), "-c x", Some("sh -c x"));
        check("/bin/echo", "a", Some(""), "ls", Some("ls"));
        check("", "", None, "", None);
        check("/bin/echo", "a", Some(""), "", None);
    }

    #[test]
    fn environment_is_layered() {
        let config = ContainerConfig {
            env: vec!["PATH=/bin".into(), "A=1".into(), "B=2".into()],
            working_dir: "srv".into(),
            user: "app".into(),
            cmd: Some(words("x")),
            ..Default::default()
        };
        let wishes = Wishes { env: words("A=3 C=4 B"), terminal: true, ..Default::default() };
        let start = start(&config, &wishes, "host").unwrap();
        assert_eq!(start.env, words("PATH=/bin HOSTNAME=host TERM=xterm A=3 C=4"));
        assert_eq!((start.workdir.as_str(), start.user.as_str()), ("/srv", "app"));
    }
}
