//! SSH agents for steps: those of the caller, and ones started here for private keys.
//!
//! A step never gets an agent's own socket: `proxy` stands between and passes on only what is needed
//! to sign. `key_agent` runs ssh-agent(1). Not here: which step gets which (`mount`).

mod key_agent;
mod proxy;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::step_options::AgentSource;
use key_agent::KeyAgent;
pub use proxy::Forwarded;

/// Says why there is no agent for a step.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    #[error("cannot start `{program}`")]
    Start { program: &'static str, source: io::Error },
    #[error("`ssh-agent` did not start: {0}")]
    Agent(String),
    #[error("cannot read the SSH key `{}`", path.display())]
    ReadKey { path: PathBuf, source: io::Error },
    #[error("`ssh-add` does not take the SSH key `{}`: {message}", path.display())]
    Key { path: PathBuf, message: String },
    #[error("cannot make a socket for the step")]
    Socket(#[source] io::Error),
    #[error("the user namespace does not map the owner {uid}:{gid} of the SSH agent's socket")]
    Owner { uid: u32, gid: u32 },
}

impl SshError {
    /// Returns what to do next, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            SshError::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("install OpenSSH's client (the package `openssh-client`), or forward an agent that runs")
            }
            SshError::Key { .. } => Some(
                "a key with a passphrase cannot be asked for here: give it to an agent with `ssh-add`, and forward that with `--ssh default`",
            ),
            _ => None,
        }
    }
}

/// The agents that were started for keys, by id; they end with the build.
#[derive(Default)]
pub struct Agents(Mutex<BTreeMap<String, KeyAgent>>);

impl Agents {
    /// Returns the socket of the agent of an id, started where it is to be.
    pub fn socket(&self, id: &str, source: &AgentSource) -> Result<PathBuf, SshError> {
        let keys = match source {
            AgentSource::Socket(path) => return Ok(path.clone()),
            AgentSource::Keys(keys) => keys,
        };
        let mut agents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(id) {
            return Ok(agent.socket().to_owned());
        }
        let agent = KeyAgent::start(keys)?;
        let socket = agent.socket().to_owned();
        agents.insert(id.to_owned(), agent);
        Ok(socket)
    }
}
