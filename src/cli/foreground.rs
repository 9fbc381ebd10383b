//! A process of a sandbox in the foreground: its streams, signals and terminal are this command's.
//!
//! Not here: containers, whose streams their supervisor has (`attached`).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::termios;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;

use super::error::{CommandError, chain, code};
use super::ui;
use crate::sandbox::{Running, SandboxError, Stdio, TerminalSize};
use crate::sys::terminal::RawMode;

/// Our ends of a container's standard streams.
#[derive(Default)]
pub(super) struct Pipes {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

/// Makes the standard streams of what is started, and our ends of them.
pub(super) fn pipes(interactive: bool) -> io::Result<(Stdio, Pipes)> {
    let (stdout, their_stdout) = io::pipe()?;
    let (stderr, their_stderr) = io::pipe()?;
    let mut stdio =
        Stdio { stdin: None, stdout: Some(their_stdout.into()), stderr: Some(their_stderr.into()) };
    let mut ours = Pipes { stdin: None, stdout: Some(stdout.into()), stderr: Some(stderr.into()) };
    if interactive {
        let (their_stdin, stdin) = io::pipe()?;
        stdio.stdin = Some(their_stdin.into());
        ours.stdin = Some(stdin.into());
    }
    Ok((stdio, ours))
}

/// Makes what hears the signals that are passed on; to be called before anything is started.
pub(super) fn signals() -> io::Result<Signals> {
    Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH])
}

/// Moves bytes and signals until what runs has ended; returns its exit code.
pub(super) fn attend(
    running: &Running,
    terminal: Option<OwnedFd>,
    mut signals: Signals,
    pipes: Pipes,
    interactive: bool,
) -> Result<u8, CommandError> {
    let mut raw = None;
    let mut readers = Vec::new();
    if let Some(master) = &terminal {
        if interactive && ui::in_is_terminal() {
            raw = Some(RawMode::enter(io::stdin().as_fd())?);
        }
        readers.push(pass_on(master.try_clone()?, Box::new(io::stdout())));
        if interactive {
            let input = io::stdin().as_fd().try_clone_to_owned()?;
            pass_on(input, Box::new(File::from(master.try_clone()?)));
        }
    }
    if let Some(stdout) = pipes.stdout {
        readers.push(pass_on(stdout, Box::new(io::stdout())));
    }
    if let Some(stderr) = pipes.stderr {
        readers.push(pass_on(stderr, Box::new(io::stderr())));
    }
    if let Some(stdin) = pipes.stdin {
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        pass_on(input, Box::new(File::from(stdin)));
    }
    let handle = signals.handle();
    let exit = std::thread::scope(|scope| {
        let stop = running.stop_handle();
        let master = terminal.as_ref();
        scope.spawn(move || {
            let mut asked = 0;
            for signal in signals.forever() {
                if signal == SIGWINCH {
                    if let Some(master) = master {
                        let _ = termios::tcsetwinsize(master, window_size());
                    }
                    continue;
                }
                let _ = running.signal(signal);
                asked += i32::from(matches!(signal, SIGINT | SIGTERM));
                // A first process may ignore signals; whoever asks three times means it.
                if asked >= 3
                    && let Ok(stop) = &stop
                {
                    let _ = stop.kill();
                }
            }
        });
        let exit = running.wait();
        handle.close();
        exit
    });
    drop(terminal);
    for reader in readers {
        let _ = reader.join();
    }
    drop(raw);
    let exit = exit.map_err(|error: SandboxError| CommandError::new(chain(&error)).code(code::RUN_FAILED))?;
    if exit == crate::sandbox::Exit::OutOfMemory {
        ui::note("error: the container was killed because memory ran out\n");
    }
    Ok(exit.code().clamp(0, 255) as u8)
}

/// Copies bytes on a thread of its own until either end is closed.
fn pass_on(from: OwnedFd, mut to: Box<dyn Write + Send>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut from = File::from(from);
        let mut buffer = vec![0u8; 64 * 1024];
        loop {
            match from.read(&mut buffer) {
                // A terminal whose other end is gone gives EIO.
                Ok(0) => return,
                Ok(n) => {
                    if to.write_all(&buffer[..n]).and_then(|()| to.flush()).is_err() {
                        return;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    })
}

/// Returns the size of the terminal that this command has; 80 columns where it has none.
pub(super) fn window_size() -> termios::Winsize {
    [io::stdout().as_fd(), io::stdin().as_fd()]
        .into_iter()
        .find_map(|fd| termios::tcgetwinsize(fd).ok())
        .unwrap_or(termios::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 })
}

/// Returns the size of the terminal that this command has.
pub(super) fn terminal_size() -> TerminalSize {
    let size = window_size();
    TerminalSize { rows: size.ws_row, columns: size.ws_col }
}
