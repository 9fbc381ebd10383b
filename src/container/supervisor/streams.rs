//! What a container writes and reads: to its log, to and from the clients that are attached.
//!
//! A client that takes nothing holds the container up, as a full pipe does; one that is gone is dropped, and
//! so is every one that takes nothing when the container is to end and its program has.
//! Not here: the log's form (`log`), what else clients ask (`clients`).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::Shared;
use super::clients::{set_size, thread};
use crate::container::control::{Connection, Reply};
use crate::container::log::{LogWriter, Stream};
use crate::sandbox::{Running, TerminalSize};

/// What poll(2) promises to fit where it says that a pipe can be written.
const PIECE: usize = 4096;
/// The most bytes that are read after the program's end: what the largest pipe of a user's holds, and more.
pub(super) const MOST_AT_END: usize = 2 << 20;

/// The streams of a container.
pub(super) struct Streams {
    log: LogWriter,
    /// Never held while anything is written: who takes nothing must not hold up those who come and go.
    clients: Mutex<Vec<Arc<Client>>>,
    input: Mutex<Option<File>>,
    next: Mutex<u64>,
}

/// Who is attached.
struct Client {
    number: u64,
    connection: Connection,
    stdout: Mutex<Option<File>>,
    stderr: Mutex<Option<File>>,
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
        let (stdout, stderr) = (Mutex::new(stdout.map(File::from)), Mutex::new(stderr.map(File::from)));
        locked(&self.clients).push(Arc::new(Client { number, connection, stdout, stderr }));
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

    /// Tells all clients how the program ended, and waits no longer for those that take nothing.
    pub fn abandon(&self, code: i32, out_of_memory: bool) {
        for client in locked(&self.clients).iter() {
            let _ = client.connection.send(&Reply::Exited { code, out_of_memory }, &[]);
            client.connection.shut_down();
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
        let clients = locked(&self.clients).clone();
        for client in clients {
            let mut to = locked(match stream {
                Stream::Stdout => &client.stdout,
                Stream::Stderr => &client.stderr,
            });
            if let Some(file) = &*to
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

/// Passes on what a program writes, on a thread of its own, until it has ended and all is passed on.
///
/// Its end may be handed to somebody outside of the container (SCM_RIGHTS), who is not waited for.
pub(super) fn pump(shared: &Arc<Shared>, of: &Arc<Running>, from: OwnedFd, stream: Stream) -> io::Result<()> {
    let (ours, of) = (shared.clone(), of.clone());
    shared.change(|live| live.pumps += 1);
    let started = thread(move || {
        let mut from = File::from(from);
        let mut buffer = vec![0; 64 * 1024];
        let mut left = MOST_AT_END;
        while left > 0 {
            match is_ended(&of, &from) {
                None => break,
                Some(ended) => match from.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => {
                        ours.streams.write(stream, &buffer[..count]);
                        left = left.saturating_sub(if ended { count } else { 0 });
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    // A terminal whose other end is gone gives EIO.
                    Err(_) => break,
                },
            }
        }
        ours.change(|live| live.pumps -= 1);
    });
    if started.is_err() {
        shared.change(|live| live.pumps -= 1);
    }
    started
}

/// Waits until there is something to read, and tells whether the program had ended before; `None` where
/// it has and there is nothing.
fn is_ended(of: &Running, from: &File) -> Option<bool> {
    loop {
        let mut fds = [PollFd::from_borrowed_fd(of.pidfd(), PollFlags::IN), PollFd::new(from, PollFlags::IN)];
        if rustix::event::poll(&mut fds, None).is_err() {
            continue;
        }
        let [ended, readable] = fds.map(|fd| !fd.revents().is_empty());
        match (ended, readable) {
            (_, true) => return Some(ended),
            // What was written before the end was there before it.
            (true, false) => {
                let mut fds = [PollFd::new(from, PollFlags::IN)];
                let now = Timespec { tv_sec: 0, tv_nsec: 0 };
                return matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(1..)).then_some(true);
            }
            (false, false) => {}
        }
    }
}

/// Passes on what a client sends, on a thread of its own, until it ends.
pub(super) fn feed(shared: Arc<Shared>, from: OwnedFd) -> io::Result<()> {
    thread(move || {
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
    })
}
