//! What a container writes and reads: to its log, to and from the clients that are attached.
//!
//! A client that takes nothing holds the container up, as a full pipe does; one that is gone is dropped.
//! Not here: the log's form (`log`), what else clients ask (`clients`).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags};

use super::Shared;
use super::clients::set_size;
use crate::container::control::{Connection, Reply};
use crate::container::log::{LogWriter, Stream};
use crate::sandbox::TerminalSize;

/// What poll(2) promises to fit where it says that a pipe can be written.
const PIECE: usize = 4096;

/// The streams of a container.
pub(super) struct Streams {
    log: LogWriter,
    clients: Mutex<Vec<Client>>,
    input: Mutex<Option<File>>,
    next: Mutex<u64>,
}

/// Who is attached.
struct Client {
    number: u64,
    connection: Connection,
    stdout: Option<File>,
    stderr: Option<File>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Streams {
    pub fn new(log: LogWriter) -> Streams {
        Streams { log, clients: Mutex::default(), input: Mutex::default(), next: Mutex::default() }
    }

    /// Lets a client take part; returns its number.
    pub fn attach(&self, connection: Connection, stdout: Option<OwnedFd>, stderr: Option<OwnedFd>) -> u64 {
        let number = {
            let mut next = locked(&self.next);
            *next += 1;
            *next
        };
        let (stdout, stderr) = (stdout.map(File::from), stderr.map(File::from));
        locked(&self.clients).push(Client { number, connection, stdout, stderr });
        number
    }

    /// Lets a client go.
    pub fn detach(&self, number: u64) {
        locked(&self.clients).retain(|client| client.number != number);
    }

    /// Tells all clients how the program ended, and lets them go.
    pub fn ended(&self, code: i32, out_of_memory: bool) {
        for client in locked(&self.clients).drain(..) {
            let _ = client.connection.send(&Reply::Exited { code, out_of_memory }, &[]);
        }
    }

    /// Makes this what is written to when a client sends input.
    pub fn set_input(&self, input: Option<File>) {
        *locked(&self.input) = input;
    }

    /// Gives the terminal, where that is what input goes to, a size.
    pub fn resize(&self, size: TerminalSize) {
        if let Some(terminal) = &*locked(&self.input) {
            set_size(terminal, size);
        }
    }

    /// Ends the log's last lines.
    pub fn end_log(&self) {
        self.log.end(Stream::Stdout);
        self.log.end(Stream::Stderr);
    }

    fn write(&self, stream: Stream, bytes: &[u8]) {
        self.log.write(stream, bytes);
        let mut clients = locked(&self.clients);
        for client in clients.iter_mut() {
            let to = match stream {
                Stream::Stdout => &mut client.stdout,
                Stream::Stderr => &mut client.stderr,
            };
            if let Some(file) = to
                && write_to(file, &client.connection, bytes).is_err()
            {
                *to = None;
            }
        }
    }
}

/// Writes all bytes, unless the client goes meanwhile.
pub(super) fn write_to(mut file: &File, client: &Connection, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut fds =
            [PollFd::new(file, PollFlags::OUT), PollFd::from_borrowed_fd(client.fd(), PollFlags::RDHUP)];
        match rustix::event::poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
            Ok(_) if fds[1].revents().intersects(PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR) => {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            Ok(_) => {}
        }
        match file.write(&bytes[..bytes.len().min(PIECE)]) {
            Ok(count) => bytes = &bytes[count..],
            Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Passes on what a program writes, on a thread of its own, until nobody can write it any more.
pub(super) fn pump(shared: std::sync::Arc<Shared>, from: OwnedFd, stream: Stream) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut from = File::from(from);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => shared.streams.write(stream, &buffer[..count]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // A terminal whose other end is gone gives EIO.
                Err(_) => return,
            }
        }
    })
}

/// Passes on what a client sends, on a thread of its own, until it ends.
pub(super) fn feed(shared: std::sync::Arc<Shared>, from: OwnedFd) {
    std::thread::spawn(move || {
        let mut from = File::from(from);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    let input = locked(&shared.streams.input).as_ref().map(File::try_clone);
                    // What nobody reads is lost, as what is typed before a program starts would be.
                    if let Some(Ok(mut input)) = input {
                        let _ = input.write_all(&buffer[..count]);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        if shared.settings.stdin_once && !shared.settings.terminal {
            shared.streams.set_input(None);
        }
    });
}
