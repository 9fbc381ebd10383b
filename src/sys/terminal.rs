//! A caller's own terminal: raw mode, its size, and copying it from and to a sandbox's.
//!
//! Not here: the sandbox's terminal (`sandbox`), what keys mean (`cli`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, Winsize};
use serde::{Deserialize, Serialize};

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub rows: u16,
    pub columns: u16,
}

/// Tells whether a descriptor is a terminal.
pub fn is_terminal(fd: impl AsFd) -> bool {
    rustix::termios::isatty(fd)
}

/// Reads a terminal's size.
pub fn size(fd: impl AsFd) -> io::Result<Size> {
    let size = rustix::termios::tcgetwinsize(fd)?;
    Ok(Size { rows: size.ws_row, columns: size.ws_col })
}

/// Sets a terminal's size; whoever runs in it gets SIGWINCH.
pub fn set_size(fd: impl AsFd, size: Size) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(fd, size)?)
}

/// A terminal in raw mode: every key goes through as it is. Dropping it puts the old mode back.
#[derive(Debug)]
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Puts a terminal in raw mode.
    pub fn enter(terminal: impl AsFd) -> io::Result<RawMode> {
        let terminal = terminal.as_fd().try_clone_to_owned()?;
        let before = rustix::termios::tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&terminal, OptionalActions::Drain, &raw)?;
        Ok(RawMode { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone has no mode.
        let _ = rustix::termios::tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// Reads one line from a terminal, without showing what is typed where `hidden`; `None` when stopped.
///
/// `prompt` is called when the terminal is ready: what is typed from then on counts, and is hidden.
/// `stopped` is looked at many times a second, and the terminal is put back in any case.
pub fn read_line(
    terminal: impl AsFd,
    hidden: bool,
    prompt: &dyn Fn(),
    stopped: &dyn Fn() -> bool,
) -> io::Result<Option<Vec<u8>>> {
    let terminal = terminal.as_fd();
    let before = rustix::termios::tcgetattr(terminal)?;
    if hidden {
        let mut silent = before.clone();
        silent.local_modes.remove(rustix::termios::LocalModes::ECHO);
        rustix::termios::tcsetattr(terminal, OptionalActions::Now, &silent)?;
    }
    prompt();
    let line = read_line_as_is(terminal, stopped);
    if hidden {
        // A terminal that is gone has no mode.
        let _ = rustix::termios::tcsetattr(terminal, OptionalActions::Now, &before);
    }
    line
}

/// Lines of a terminal come whole; a longer one is cut.
fn read_line_as_is(terminal: BorrowedFd<'_>, stopped: &dyn Fn() -> bool) -> io::Result<Option<Vec<u8>>> {
    let timeout = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    let mut line = vec![0; 4096];
    while !stopped() {
        let mut fds = [PollFd::new(&terminal, rustix::event::PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        match rustix::io::read(terminal, &mut line) {
            Ok(count) => {
                line.truncate(count);
                let end = line.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                line.truncate(end.unwrap_or(count));
                return Ok(Some(line));
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(None)
}

/// Copies keys from `input` to a sandbox's terminal and its output to `output`, until it is closed.
///
/// Every `interval`, and after every piece, `changed` is asked for a new size of the
/// caller's own terminal (which SIGWINCH announced). An `input` that ends stops the keys only.
pub fn copy(
    sandbox: impl AsFd,
    input: Option<BorrowedFd<'_>>,
    output: BorrowedFd<'_>,
    interval: Duration,
    mut changed: impl FnMut() -> Option<Size>,
) -> io::Result<()> {
    let sandbox = sandbox.as_fd();
    let mut input = input;
    let mut buffer = vec![0; 16 * 1024];
    let timeout = Timespec { tv_sec: interval.as_secs() as _, tv_nsec: interval.subsec_nanos() as _ };
    loop {
        if let Some(size) = changed() {
            // One that has just been closed has no size.
            let _ = set_size(sandbox, size);
        }
        let (from_sandbox, from_input) = {
            let mut fds = vec![PollFd::new(&sandbox, PollFlags::IN)];
            fds.extend(input.as_ref().map(|input| PollFd::new(input, PollFlags::IN)));
            match rustix::event::poll(&mut fds, Some(&timeout)) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            (!fds[0].revents().is_empty(), fds.get(1).is_some_and(|fd| !fd.revents().is_empty()))
        };
        if from_sandbox {
            match rustix::io::read(sandbox, &mut buffer) {
                // EIO: the last program that had it open closed it: pty(7).
                Ok(0) | Err(Errno::IO) => return Ok(()),
                Ok(length) => write_all(output, &buffer[..length])?,
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        if from_input && let Some(fd) = input {
            match rustix::io::read(fd, &mut buffer) {
                Ok(0) | Err(Errno::IO) => input = None,
                Ok(length) => match write_all(sandbox, &buffer[..length]) {
                    // It is closing; what it still has to say is read above.
                    Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => input = None,
                    other => other?,
                },
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use rustix::pty::OpenptFlags;
    use rustix::termios::LocalModes;

    use super::*;

    fn terminal() -> (OwnedFd, OwnedFd) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let control = rustix::pty::openpt(flags).unwrap();
        rustix::pty::unlockpt(&control).unwrap();
        let terminal = rustix::pty::ioctl_tiocgptpeer(&control, flags).unwrap();
        (control, terminal)
    }

    #[test]
    fn raw_mode_is_taken_back() {
        let (_control, terminal) = terminal();
        let echoes = || rustix::termios::tcgetattr(&terminal).unwrap().local_modes.contains(LocalModes::ECHO);
        assert!(echoes());
        let raw = RawMode::enter(&terminal).unwrap();
        assert!(!echoes());
        drop(raw);
        assert!(echoes());
    }

    #[test]
    fn sizes_arrive_and_all_output_is_copied() {
        let (control, terminal) = terminal();
        let (mut reader, writer) = io::pipe().unwrap();
        let (keys, mut typist) = io::pipe().unwrap();
        typist.write_all(b"key\n").unwrap();
        drop(typist);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut sizes = vec![Size { rows: 7, columns: 9 }];
                copy(&control, Some(keys.as_fd()), writer.as_fd(), Duration::from_millis(1), || sizes.pop())
                    .unwrap();
                drop(writer);
            });
            let mut file = std::fs::File::from(terminal);
            let mut line = [0; 4];
            file.read_exact(&mut line).unwrap();
            assert_eq!(&line, b"key\n");
            assert_eq!(size(&file).unwrap(), Size { rows: 7, columns: 9 });
            file.write_all(b"said").unwrap();
            drop(file);
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert!(text.ends_with("said"), "{text:?}");
        });
    }
}
