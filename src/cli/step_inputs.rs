//! Options of `build` that give RUN steps secrets and SSH agents, and empty their caches.
//!
//! The words are docker's. The environment is read here, files of secrets when a step needs them.
//! Not here: what steps see of them (`worker`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use clap::Args;

use super::csv::fields;
use super::error::CommandError;
use crate::build::{AgentSource, MAX_SECRET_BYTES, SecretSource, StepOptions};

/// What RUN steps can mount beside files.
#[derive(Debug, Default, Args)]
pub struct StepInputArgs {
    /// A secret for `RUN --mount=type=secret`; without src or env, the variable or else the file ID
    #[arg(long = "secret", value_name = "id=ID[,src=FILE|,env=VARIABLE]")]
    pub secrets: Vec<String>,
    /// An SSH agent, or private keys, for `RUN --mount=type=ssh`; without a path, the agent of SSH_AUTH_SOCK
    #[arg(long = "ssh", value_name = "default | ID[=SOCKET|KEY,...]")]
    pub agents: Vec<String>,
    /// Empty each cache mount before its first use (`--no-cache` keeps them)
    #[arg(long)]
    pub no_cache_mounts: bool,
}

type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl StepInputArgs {
    /// Puts what was given into the options of steps.
    pub fn apply(&self, step: &mut StepOptions) -> Result<(), CommandError> {
        let environment = |name: &str| std::env::var_os(name);
        step.secrets = secrets(&self.secrets, &environment)?;
        step.agents = agents(&self.agents, &environment)?;
        step.empty_cache_mounts = self.no_cache_mounts;
        Ok(())
    }
}

fn secrets(
    texts: &[String],
    environment: Environment<'_>,
) -> Result<BTreeMap<String, SecretSource>, CommandError> {
    let mut secrets = BTreeMap::new();
    for text in texts {
        let (id, source) = secret(text, environment)?;
        if secrets.insert(id.clone(), source).is_some() {
            return Err(CommandError::usage(format!("the secret `{id}` is given twice")));
        }
    }
    Ok(secrets)
}

fn secret(text: &str, environment: Environment<'_>) -> Result<(String, SecretSource), CommandError> {
    let bad = |why: String| {
        CommandError::usage(format!("invalid --secret `{text}`: {why}"))
            .hint("a secret is written id=ID,src=FILE or id=ID,env=VARIABLE")
    };
    let (mut id, mut kind, mut file, mut variable) = (None, None, None, None);
    for field in fields(text).ok_or_else(|| bad("a quote is not closed".to_owned()))? {
        let Some((key, value)) = field.split_once('=') else {
            return Err(bad(format!("`{field}` is no key=value")));
        };
        let value = value.to_owned();
        match key.trim().to_ascii_lowercase().as_str() {
            "id" => id = Some(value),
            "src" | "source" => file = Some(value),
            "env" => variable = Some(value),
            "type" if value == "file" || value == "env" => kind = Some(value),
            "type" => return Err(bad(format!("the type `{value}` is none of file and env"))),
            other => return Err(bad(format!("there is no key `{other}`"))),
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| bad("it has no id".to_owned()))?;
    if kind.as_deref() == Some("env") && variable.is_none() {
        variable = Some(file.take().unwrap_or_else(|| id.clone()));
    }
    let value = |name: &str| environment(name).map(|value| SecretSource::Value(value.into_vec().into()));
    let source = match (variable, file) {
        (Some(_), Some(_)) => return Err(bad("it has both a file and a variable".to_owned())),
        (Some(name), None) => {
            value(&name).ok_or_else(|| bad(format!("the environment variable `{name}` is not set")))?
        }
        (None, Some(file)) => from_file(Path::new(&file), &bad)?,
        (None, None) if kind.is_none() => match value(&id) {
            Some(source) => source,
            None => from_file(Path::new(&id), &bad)?,
        },
        (None, None) => from_file(Path::new(&id), &bad)?,
    };
    if let SecretSource::Value(bytes) = &source {
        check_size(bytes.len() as u64, &bad)?;
    }
    Ok((id, source))
}

fn from_file(path: &Path, bad: &dyn Fn(String) -> CommandError) -> Result<SecretSource, CommandError> {
    let metadata = std::fs::metadata(path).map_err(|e| bad(format!("`{}`: {e}", path.display())))?;
    if metadata.is_dir() {
        return Err(bad(format!("`{}` is a directory", path.display())));
    }
    check_size(metadata.len(), bad)?;
    Ok(SecretSource::File(std::path::absolute(path)?))
}

fn check_size(bytes: u64, bad: &dyn Fn(String) -> CommandError) -> Result<(), CommandError> {
    match bytes > MAX_SECRET_BYTES {
        true => {
            Err(bad(format!("it is larger than {} kB, the most a secret may have", MAX_SECRET_BYTES / 1024)))
        }
        false => Ok(()),
    }
}

fn agents(
    texts: &[String],
    environment: Environment<'_>,
) -> Result<BTreeMap<String, AgentSource>, CommandError> {
    let mut agents = BTreeMap::new();
    for text in texts {
        let (id, source) = agent(text, environment)?;
        if agents.insert(id.clone(), source).is_some() {
            return Err(CommandError::usage(format!("the SSH agent `{id}` is given twice")));
        }
    }
    Ok(agents)
}

fn agent(text: &str, environment: Environment<'_>) -> Result<(String, AgentSource), CommandError> {
    let bad = |why: String| {
        CommandError::usage(format!("invalid --ssh `{text}`: {why}"))
            .hint("an agent is written `default`, ID=SOCKET or ID=KEY,KEY")
    };
    let (id, paths) = text.split_once('=').unwrap_or((text, ""));
    if id.is_empty() {
        return Err(bad("it has no id".to_owned()));
    }
    let paths: Vec<PathBuf> = paths.split(',').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
    if paths.is_empty() {
        let Some(socket) = environment("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty()) else {
            return Err(bad("the environment variable `SSH_AUTH_SOCK` is not set".to_owned())
                .hint("start an agent (`eval $(ssh-agent); ssh-add`), or name a key"));
        };
        let socket = std::path::absolute(PathBuf::from(socket))?;
        return match is_socket(&socket, &bad)? {
            true => Ok((id.to_owned(), AgentSource::Socket(socket))),
            false => Err(bad(format!("`{}` of SSH_AUTH_SOCK is no socket", socket.display()))),
        };
    }
    let mut keys = Vec::with_capacity(paths.len());
    let several = paths.len() > 1;
    for path in paths {
        let path = std::path::absolute(path)?;
        match is_socket(&path, &bad)? {
            true if several => return Err(bad("a socket stands alone".to_owned())),
            true => return Ok((id.to_owned(), AgentSource::Socket(path))),
            false => keys.push(path),
        }
    }
    Ok((id.to_owned(), AgentSource::Keys(keys)))
}

fn is_socket(path: &Path, bad: &dyn Fn(String) -> CommandError) -> Result<bool, CommandError> {
    let metadata = std::fs::metadata(path).map_err(|e| bad(format!("`{}`: {e}", path.display())))?;
    match metadata.file_type() {
        kind if kind.is_socket() => Ok(true),
        kind if kind.is_dir() => Err(bad(format!("`{}` is a directory", path.display()))),
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<OsString> {
        match name {
            "TOKEN" => Some("t0".into()),
            _ => None,
        }
    }

    #[test]
    fn where_a_secret_comes_from() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(at("f"), "x").unwrap();
        std::fs::write(at("a,b"), "x").unwrap();
        std::fs::write(at("large"), vec![0; MAX_SECRET_BYTES as usize + 1]).unwrap();
        let value = SecretSource::Value(b"t0"[..].into());
        let file = |name: &str| SecretSource::File(PathBuf::from(at(name)));
        let check = |text: String, id: &str, expect: SecretSource| {
            let found = secret(&text, &environment).map_err(|error| error.text());
            assert_eq!(found, Ok((id.to_owned(), expect)), "{text}");
        };
        check(format!("id=s,src={}", at("f")), "s", file("f"));
        check(format!("type=file,id=s,source={}", at("f")), "s", file("f"));
        check(format!("id={}", at("f")), &at("f"), file("f"));
        check(format!("id=s,\"src={}\"", at("a,b")), "s", file("a,b"));
        check("id=s,env=TOKEN".into(), "s", value.clone());
        check("id=TOKEN".into(), "TOKEN", value.clone());
        check("id=TOKEN,type=env".into(), "TOKEN", value.clone());
        check("id=s,type=env,src=TOKEN".into(), "s", value);
        for (bad, expect) in [
            ("s".to_owned(), "no key=value"),
            ("src=x".into(), "it has no id"),
            ("id=s,src=/no/such/file".into(), "/no/such/file"),
            ("id=s,src=/".into(), "is a directory"),
            ("id=s,env=UNSET".into(), "`UNSET` is not set"),
            ("id=s,env=TOKEN,src=x".into(), "both a file and a variable"),
            ("id=s,type=dir".into(), "none of file and env"),
            ("id=s,value=x".into(), "there is no key `value`"),
            ("id=s,\"src=x".into(), "a quote is not closed"),
            (format!("id=s,src={}", at("large")), "larger than 500 kB"),
        ] {
            let error = secret(&bad, &environment).unwrap_err().text();
            assert!(error.contains(expect), "{bad}: {error}");
        }
        let twice = ["id=TOKEN".to_owned(), "id=TOKEN".to_owned()];
        assert!(secrets(&twice, &environment).unwrap_err().text().contains("given twice"));
    }

    #[test]
    fn where_an_agent_comes_from() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for key in ["k1", "k2"] {
            std::fs::write(at(key), "key").unwrap();
        }
        let own = |name: &str| (name == "SSH_AUTH_SOCK").then(|| at("socket").into_os_string());
        let text = |text: &str| text.replace("@", &format!("{}/", directory.path().display()));
        let check = |written: &str, id: &str, expect: AgentSource| {
            let found = agent(&text(written), &own).map_err(|error| error.text());
            assert_eq!(found, Ok((id.to_owned(), expect)), "{written}");
        };
        check("default", "default", AgentSource::Socket(at("socket")));
        check("mine", "mine", AgentSource::Socket(at("socket")));
        check("mine=@socket", "mine", AgentSource::Socket(at("socket")));
        check("mine=@k1,@k2", "mine", AgentSource::Keys(vec![at("k1"), at("k2")]));
        for (bad, expect) in [
            ("", "it has no id"),
            ("=x", "it has no id"),
            ("a=/no/such", "/no/such"),
            ("a=@", "is a directory"),
            ("a=@k1,@socket", "a socket stands alone"),
        ] {
            let error = agent(&text(bad), &own).unwrap_err().text();
            assert!(error.contains(expect), "{bad}: {error}");
        }
        let error = agent("default", &environment).unwrap_err().text();
        assert!(error.contains("`SSH_AUTH_SOCK` is not set"), "{error}");
    }
}
