//! Starts a container: its supervisor, which may be begun before the container is made, and the word from it whether the program runs.
//!
//! Not here: what the supervisor does (`supervisor`).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::control::{Connection, Failure, Reply, Request};
use super::supervisor::{NAME_ROOM, Order, Preparation, SUPERVISOR_NAME};

/// Says why a container was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot start the container's supervisor")]
    Supervisor(#[source] io::Error),
    #[error("the container's supervisor ended without a word")]
    Gone,
    #[error("{}", .0.message)]
    Failed(Failure),
}

/// The ends of a client's streams that the container is to use.
#[derive(Debug, Default)]
pub struct Attachment {
    /// What standard input is read from: a pipe that the client fills.
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

impl Attachment {
    /// Asks to take part in a container's streams.
    pub fn ask(&self, connection: &Connection) -> io::Result<()> {
        let (stdin, stdout, stderr) = (self.stdin.is_some(), self.stdout.is_some(), self.stderr.is_some());
        let fds: Vec<_> =
            [&self.stdin, &self.stdout, &self.stderr].into_iter().flatten().map(AsFd::as_fd).collect();
        connection.send(&Request::Attach { stdin, stdout, stderr }, &fds)
    }
}

/// A container that was started.
#[derive(Debug)]
pub struct Started {
    /// To its supervisor; attached where that was asked for.
    pub connection: Connection,
    /// What of the settings has no effect here.
    pub warnings: Vec<String>,
    supervisor: Child,
}

impl Started {
    /// Waits until the supervisor is gone, after it said that all has ended.
    pub fn reap(mut self) {
        drop(self.connection);
        let _ = self.supervisor.wait();
    }
}

/// A supervisor that has no container yet. When this is dropped, it ends.
#[derive(Debug)]
pub struct Supervisor {
    connection: Connection,
    child: Child,
}

impl Supervisor {
    /// Starts one: while it loads and prepares, the container can be made.
    pub fn begin(preparation: &Preparation) -> Result<Supervisor, StartError> {
        let failed = StartError::Supervisor;
        let (connection, theirs) = Connection::pair().map_err(failed)?;
        // It waits in the socket until the supervisor reads it.
        connection.send(preparation, &[]).map_err(failed)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0(SUPERVISOR_NAME).arg(" ".repeat(NAME_ROOM)).env_clear().current_dir("/");
        command.stdin(theirs.into_fd()).stdout(Stdio::null()).stderr(Stdio::null());
        // With the command the supervisor's end is closed here: or its death would not be seen.
        Ok(Supervisor { child: command.spawn().map_err(failed)?, connection })
    }

    /// Starts a container, attached to a client's streams where there are any.
    pub fn start(self, order: &Order, attachment: Option<Attachment>) -> Result<Started, StartError> {
        let Supervisor { connection, child: supervisor } = self;
        let begun = Started { connection, warnings: Vec::new(), supervisor };
        let told = begun.connection.send(order, &[]);
        let told = told.and_then(|()| attachment.map_or(Ok(()), |streams| streams.ask(&begun.connection)));
        match told.and_then(|()| begun.connection.receive::<Reply>()) {
            Ok(Some((Reply::Started { warnings }, _))) => Ok(Started { warnings, ..begun }),
            Ok(Some((Reply::Failed(failure), _))) => {
                begun.reap();
                Err(StartError::Failed(failure))
            }
            Ok(_) => {
                begun.reap();
                Err(StartError::Gone)
            }
            Err(error) => {
                begun.reap();
                Err(StartError::Supervisor(error))
            }
        }
    }
}
