//! An ssh-agent(1) of our own, which holds private keys as long as a build lasts.
//!
//! The keys go from their files to ssh-add(1) by a pipe: no copy is written. The agent is started
//! with a shell that kills it when our end of a pipe closes, so it ends with this process too.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use super::SshError;

/// Waits for the end of its input, then ends the agent that started it: ssh-agent(1), "command".
/// Where this process was killed, nobody else would remove the place of its socket.
const KEEPER: &str = "echo ready; read -r end; kill \"$SSH_AGENT_PID\"; rm -f \"$SSH_AUTH_SOCK\"; rmdir \"${SSH_AUTH_SOCK%/*}\"";

/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A running agent; ends when dropped.
pub(super) struct KeyAgent {
    keeper: Child,
    /// Closed to end the agent.
    input: Option<ChildStdin>,
    socket: PathBuf,
    /// Private to this user; removed last.
    _place: tempfile::TempDir,
}

impl KeyAgent {
    /// Starts an agent and gives it keys.
    pub(super) fn start(keys: &[PathBuf]) -> Result<KeyAgent, SshError> {
        let failed = |source| SshError::Start { program: "ssh-agent", source };
        // Not in the store: a socket's path is short (unix(7)).
        let place = tempfile::Builder::new().prefix("rbuild-ssh-").tempdir().map_err(failed)?;
        let socket = place.path().join("agent");
        let mut command = Command::new("ssh-agent");
        command.arg("-a").arg(&socket).args(["sh", "-c", KEEPER]);
        command.env_clear().env("PATH", PATH).current_dir("/");
        // Ctrl-C is for us: the shell must live until the agent is ended.
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut keeper = command.spawn().map_err(failed)?;
        let input = keeper.stdin.take();
        let mut ready = String::new();
        if let Some(stdout) = keeper.stdout.take() {
            BufReader::new(stdout.take(64)).read_line(&mut ready).map_err(failed)?;
        }
        if ready.trim() != "ready" {
            let mut message = String::new();
            if let Some(stderr) = keeper.stderr.take() {
                let _ = stderr.take(4096).read_to_string(&mut message);
            }
            let _ = keeper.kill();
            let _ = keeper.wait();
            return Err(SshError::Agent(message.trim().to_owned()));
        }
        let agent = KeyAgent { keeper, input, socket, _place: place };
        keys.iter().try_for_each(|key| agent.add(key))?;
        Ok(agent)
    }

    /// Returns where it listens.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    fn add(&self, key: &Path) -> Result<(), SshError> {
        let bytes =
            std::fs::read(key).map_err(|source| SshError::ReadKey { path: key.to_owned(), source })?;
        let failed = |source| SshError::Start { program: "ssh-add", source };
        let mut command = Command::new("ssh-add");
        command.args(["-q", "-"]).env_clear().env("PATH", PATH).current_dir("/");
        command.env("SSH_AUTH_SOCK", &self.socket);
        // Nobody is asked for a passphrase: ssh-add(1), "ENVIRONMENT".
        command.env("SSH_ASKPASS", "/bin/false").env("SSH_ASKPASS_REQUIRE", "force");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        if let Some(mut input) = child.stdin.take() {
            // It may end without reading all of it; its own words tell why.
            let _ = input.write_all(&bytes);
        }
        let output = child.wait_with_output().map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let message = match said.lines().map(str::trim).find(|line| !line.is_empty()) {
            Some(line) => line.to_owned(),
            None => "it is no private key, or has a passphrase".to_owned(),
        };
        Err(SshError::Key { path: key.to_owned(), message })
    }
}

impl Drop for KeyAgent {
    fn drop(&mut self) {
        self.input.take();
        let _ = self.keeper.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_it_leaves_nothing() {
        let mut agent = KeyAgent::start(&[]).unwrap();
        let place = agent.socket().parent().unwrap().to_owned();
        assert!(agent.socket().exists());
        // As if this process had been killed: the pipe ends, and nothing of ours is dropped.
        drop(agent.input.take());
        agent.keeper.wait().unwrap();
        assert!(!place.exists());
    }
}
