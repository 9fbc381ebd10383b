//! What clients and a container's supervisor say to each other, and how they meet.
//!
//! A socket in the container's directory keeps the bounds of messages; each is JSON, with descriptors
//! beside it. What is longer than a socket takes at once (a command line may be) lies in a file in memory.
//! A connection takes any number of requests, answered in order. Not here: what the supervisor does with
//! them (`supervisor`).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::usage::Usage;
use crate::sandbox::TerminalSize;
use crate::sys::message;

/// The longest message in bytes: whatever command line and environment execve(2) takes fit, escaped.
const LIMIT: usize = 32 << 20;
/// The longest that goes through the socket itself: half of the least that one holds (socket(7), `wmem_default`).
const IN_SOCKET: usize = 64 << 10;
/// What a message says that lies in the first of its descriptors; no JSON starts like that.
const IN_FILE: &[u8] = b"\0";
/// The socket's name in the container's directory.
const SOCKET: &str = "socket";

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Takes part in the container's streams until the connection ends; the descriptors of those that
    /// are wanted come along in this order: one to read standard input from, those to write to.
    /// Answered by [`Reply::Exited`] alone, when the container has ended.
    Attach { stdin: bool, stdout: bool, stderr: bool },
    /// Sends a signal to the first process; not answered.
    Signal(i32),
    /// Gives the terminal another size; not answered.
    Resize { rows: u16, columns: u16 },
    /// Sends a signal that a user asked for; answered by [`Reply::Done`].
    Kill(i32),
    /// Ends the container for good: with its own signal or this one, then with SIGKILL after its own
    /// time or this one (negative: never). Answered by [`Reply::Done`] when it has ended.
    Stop { signal: Option<i32>, timeout_s: Option<i64> },
    /// Answered by [`Reply::Exited`] when the container has ended, for now or for good.
    Wait,
    /// Holds all processes of the container still until the connection ends; answered by [`Reply::Done`].
    Hold,
    /// Holds all processes of the container still until [`Request::Unpause`], or its end; answered by [`Reply::Done`].
    Pause,
    /// Answered by [`Reply::Done`].
    Unpause,
    /// Starts a further process in the container; the descriptors come along as with [`Request::Attach`].
    /// Answered by [`Reply::ExecStarted`] or [`Reply::Failed`], and where any descriptor came along by
    /// [`Reply::Exited`] when the process has ended. From then on signals and sizes on this connection are for it.
    Exec(Box<ExecRequest>),
    /// Asks for the numbers of the container's processes; answered by [`Reply::Processes`].
    Processes,
    /// Asks what the container's processes use; answered by [`Reply::Usage`].
    Usage,
    /// Asks for the root of the container that runs; answered by [`Reply::Root`] with a descriptor.
    Root,
}

/// A process to start in a container that runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `KEY=value` over the container's own; a bare `KEY` takes one away.
    pub env: Vec<String>,
    /// `user[:group]`, looked up in the container; `None` is the container's.
    pub user: Option<String>,
    pub workdir: Option<String>,
    pub privileged: bool,
    pub terminal: Option<TerminalSize>,
    /// Which descriptors come along.
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// What the supervisor answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// To whoever started it: the program runs.
    Started {
        /// What of the settings has no effect here.
        warnings: Vec<String>,
    },
    /// To whoever started it: the program does not run, and nothing else of the container.
    Failed(Failure),
    Exited {
        code: i32,
        out_of_memory: bool,
    },
    /// The process that was asked for runs.
    ExecStarted {
        /// What of what was asked for has no effect here.
        warnings: Vec<String>,
    },
    /// As this machine counts, in order.
    Processes(Vec<u32>),
    Usage(Usage),
    Done,
    Root,
    /// It cannot be done, for this reason.
    Refused(String),
}

/// Why a container did not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub message: String,
    pub hints: Vec<String>,
    /// For the command line: 125, 126 or 127.
    pub exit_code: u8,
}

/// A connection between a client and a supervisor.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
}

impl Connection {
    /// Connects to the supervisor of the container whose directory this is; `None` where none listens.
    pub fn open(directory: &Path) -> io::Result<Option<Connection>> {
        let socket = socket()?;
        let connected = with_address(directory, |address| rustix::net::connect(&socket, address));
        match connected {
            Ok(()) => Ok(Some(Connection { socket })),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Makes a connected pair: a client's and a supervisor's end.
    pub fn pair() -> io::Result<(Connection, Connection)> {
        let (one, other) = message::pair()?;
        Ok((Connection { socket: one }, Connection { socket: other }))
    }

    /// Takes an end that was inherited.
    pub fn from_fd(socket: OwnedFd) -> Connection {
        Connection { socket }
    }

    /// Gives up the descriptor, to be inherited.
    pub fn into_fd(self) -> OwnedFd {
        self.socket
    }

    /// Returns the descriptor; it is readable when a message came or the other end is gone.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Tells whether the other end is gone, or says what nobody heard yet.
    pub fn is_gone(&self) -> bool {
        let mut byte = [0];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        !matches!(rustix::net::recv(&self.socket, &mut byte, flags), Err(Errno::AGAIN))
    }

    /// Makes one more handle of the same connection.
    pub fn try_clone(&self) -> io::Result<Connection> {
        Ok(Connection { socket: self.socket.try_clone()? })
    }

    /// Sends one message.
    pub fn send(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        if bytes.len() <= IN_SOCKET {
            return message::send(&self.socket, &bytes, fds);
        }
        if bytes.len() > LIMIT {
            return Err(io::Error::other("a command and its environment are longer than 32 MiB"));
        }
        let mut file = File::from(rustix::fs::memfd_create("rbuild-message", MemfdFlags::CLOEXEC)?);
        file.write_all(&bytes)?;
        let all: Vec<_> = std::iter::once(file.as_fd()).chain(fds.iter().copied()).collect();
        message::send(&self.socket, IN_FILE, &all)
    }

    /// Receives one message; `None` when the other end is gone.
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let Some((bytes, mut fds)) = message::receive(&self.socket, 4 * IN_SOCKET)? else { return Ok(None) };
        if bytes != IN_FILE {
            return Ok(Some((serde_json::from_slice(&bytes)?, fds)));
        }
        let unfit = || io::Error::from(io::ErrorKind::InvalidData);
        let file = File::from(if fds.is_empty() { return Err(unfit()) } else { fds.remove(0) });
        let about = file.metadata()?;
        let length = usize::try_from(about.len()).ok().filter(|&length| about.is_file() && length <= LIMIT);
        let mut bytes = vec![0; length.ok_or_else(unfit)?];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(Some((serde_json::from_slice(&bytes)?, fds)))
    }

    /// Wakes whoever waits to receive on any handle of this connection, here and at the other end.
    pub fn shut_down(&self) {
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }
}

/// Listens for clients of the container whose directory this is, instead of a supervisor that was killed.
pub(super) fn listen(directory: &Path) -> io::Result<OwnedFd> {
    let socket = socket()?;
    match std::fs::remove_file(directory.join(SOCKET)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    with_address(directory, |address| rustix::net::bind(&socket, address))?;
    rustix::net::listen(&socket, 64)?;
    Ok(socket)
}

/// Waits for the next client.
pub(super) fn accept(listener: &OwnedFd) -> io::Result<Connection> {
    loop {
        match rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(socket) => return Ok(Connection { socket }),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Calls with the socket's address by way of its directory's descriptor: the path itself may be longer
/// than the 107 bytes that unix(7) takes.
fn with_address<T>(
    directory: &Path,
    call: impl FnOnce(&SocketAddrUnix) -> Result<T, rustix::io::Errno>,
) -> io::Result<T> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(CWD, directory, flags, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd());
    Ok(call(&SocketAddrUnix::new(path)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_any_length_keep_their_descriptors() {
        let (one, other) = Connection::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        for length in [10, IN_SOCKET - 100, IN_SOCKET + 1, 300 << 10, 3 << 20] {
            let said = Reply::Refused("\u{1}".repeat(length / 6) + &"x".repeat(length % 6));
            one.send(&said, &[writer.as_fd()]).unwrap();
            let (heard, fds) = other.receive::<Reply>().unwrap().unwrap();
            assert_eq!((heard == said, fds.len()), (true, 1), "{length}");
            File::from(fds.into_iter().next().unwrap()).write_all(b"x").unwrap();
        }
        drop(writer);
        assert_eq!(io::Read::read_to_end(&mut reader, &mut Vec::new()).unwrap(), 5);
        assert!(one.send(&Reply::Refused("x".repeat(LIMIT)), &[]).is_err());
        // Whoever means harm: no file, and one that never ends.
        message::send(&one.socket, IN_FILE, &[]).unwrap();
        assert!(other.receive::<Reply>().is_err());
        message::send(&one.socket, IN_FILE, &[reader.as_fd()]).unwrap();
        assert!(other.receive::<Reply>().is_err());
    }

    #[test]
    fn clients_meet_supervisors_below_long_paths() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("x".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        assert!(Connection::open(&deep).unwrap().is_none());
        let listener = listen(&deep).unwrap();
        let client = Connection::open(&deep).unwrap().unwrap();
        let server = accept(&listener).unwrap();
        client.send(&Request::Kill(9), &[]).unwrap();
        let (request, fds) = server.receive::<Request>().unwrap().unwrap();
        assert_eq!((request, fds.len()), (Request::Kill(9), 0));
        assert!(!client.is_gone());
        drop((listener, server));
        assert!(client.is_gone());
        assert!(client.receive::<Reply>().unwrap().is_none());
        // A socket that nobody listens at is of a supervisor that was killed.
        assert!(Connection::open(&deep).unwrap().is_none());
        assert!(listen(&deep).is_ok());
    }
}
