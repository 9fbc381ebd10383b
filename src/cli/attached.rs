//! Taking part in a container: its streams are this command's, signals and sizes are passed on.
//!
//! The container's supervisor writes to our own standard output and error; we read standard input, in
//! which the keys that leave the container are looked for. Not here: sandboxed processes without a
//! supervisor (`foreground`).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM, SIGWINCH};
use signal_hook::iterator::Signals;

use super::error::{CommandError, chain};
use super::foreground::window_size;
use super::ui;
use crate::container::control::{Connection, Reply, Request};
use crate::container::{Attachment, Streams, signal};
use crate::sys::terminal::RawMode;

/// A container that this command takes part in.
pub struct Attached<'a> {
    pub connection: &'a Connection,
    /// Whether the container has a terminal.
    pub terminal: bool,
    pub ours: Ours,
    /// The bytes that leave it.
    pub keys: Vec<u8>,
    pub pass_signals: bool,
}

/// What of our streams stays with us.
pub struct Ours {
    /// The end of a pipe that leads to the container's standard input.
    input: Option<OwnedFd>,
    /// Our terminal, as it is while the container has it.
    raw: Option<RawMode>,
    /// Nothing comes back: with the end of the input all is done.
    input_alone: bool,
}

/// Makes what a container gets of our streams, and what stays with us. From here on until that is dropped
/// our terminal is as the container wants it: what it writes comes at once.
pub fn attachment(wanted: Streams, terminal: bool) -> io::Result<(Attachment, Ours)> {
    let (stdin, input) = match wanted.stdin {
        true => {
            let (theirs, ours) = io::pipe()?;
            (Some(theirs.into()), Some(ours.into()))
        }
        false => (None, None),
    };
    // All that a terminal shows comes as standard output.
    let out = wanted.stdout || (terminal && wanted.stderr);
    let stdout = out.then(|| io::stdout().as_fd().try_clone_to_owned()).transpose()?;
    let err = wanted.stderr && !terminal;
    let stderr = err.then(|| io::stderr().as_fd().try_clone_to_owned()).transpose()?;
    let raw = match terminal && wanted.stdin && ui::in_is_terminal() {
        true => Some(RawMode::enter(io::stdin().as_fd())?),
        false => None,
    };
    let input_alone = !wanted.stdout && !wanted.stderr;
    Ok((Attachment { stdin, stdout, stderr }, Ours { input, raw, input_alone }))
}

impl Attached<'_> {
    /// Takes part until the container has ended, and returns its exit code; `None` where the user left.
    pub fn until_the_end(self, mut signals: Signals) -> Result<Option<u8>, CommandError> {
        let Attached { connection, terminal, ours: Ours { input, raw, input_alone }, keys, pass_signals } =
            self;
        let left = std::sync::Arc::new(AtomicBool::new(false));
        let fed = std::sync::Arc::new(AtomicBool::new(false));
        if let Some(input) = input {
            let stdin = io::stdin().as_fd().try_clone_to_owned()?;
            let keys = if terminal { keys } else { Vec::new() };
            let (left, fed, connection) = (left.clone(), fed.clone(), connection.try_clone()?);
            std::thread::spawn(move || {
                if feed(File::from(stdin), File::from(input), &keys) {
                    left.store(true, Ordering::SeqCst);
                    connection.shut_down();
                } else if input_alone {
                    fed.store(true, Ordering::SeqCst);
                    connection.shut_down();
                }
            });
        }
        let handle = signals.handle();
        let ended = std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut asked = 0;
                for number in signals.forever() {
                    if number == SIGWINCH {
                        let size = window_size();
                        let resize = Request::Resize { rows: size.ws_row, columns: size.ws_col };
                        let _ = connection.send(&resize, &[]);
                        continue;
                    }
                    if !pass_signals {
                        connection.shut_down();
                        continue;
                    }
                    let _ = connection.send(&Request::Signal(number), &[]);
                    asked += i32::from(matches!(number, SIGINT | SIGTERM));
                    // A first process may ignore signals; whoever asks three times means it.
                    if asked >= 3 {
                        let _ = connection.send(&Request::Kill(signal::KILL), &[]);
                    }
                }
            });
            let ended = loop {
                match connection.receive::<Reply>() {
                    Ok(Some((Reply::Exited { code, out_of_memory }, _))) => {
                        break Ok(Some((code, out_of_memory)));
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => break Ok(None),
                    Err(error) => break Err(error),
                }
            };
            handle.close();
            ended
        });
        drop(raw);
        match ended {
            Ok(Some((code, out_of_memory))) => {
                if out_of_memory {
                    ui::note("error: the container was killed because memory ran out\n");
                }
                Ok(Some(code.clamp(0, 255) as u8))
            }
            _ if left.load(Ordering::SeqCst) => {
                ui::note("read escape sequence\n");
                Ok(None)
            }
            _ if fed.load(Ordering::SeqCst) => Ok(None),
            Ok(None) if !pass_signals => Ok(None),
            Ok(None) => Err(CommandError::new("the container's supervisor was killed")
                .hint("`rbuild ps -a` says what became of the container")),
            Err(error) => Err(CommandError::new(chain(&error))),
        }
    }
}

/// Passes input on until it ends; tells whether the keys were typed. Those are held back while they may
/// yet be the whole of it.
fn feed(mut from: File, mut to: File, keys: &[u8]) -> bool {
    let mut buffer = vec![0; 64 * 1024];
    let mut held = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return false,
        };
        let mut pass = Vec::with_capacity(count + held);
        for &byte in &buffer[..count] {
            if !keys.is_empty() && byte == keys[held] {
                held += 1;
                if held == keys.len() {
                    let _ = to.write_all(&pass);
                    return true;
                }
                continue;
            }
            pass.extend_from_slice(&keys[..held]);
            held = usize::from(!keys.is_empty() && byte == keys[0]);
            if held == 0 {
                pass.push(byte);
            }
        }
        if to.write_all(&pass).is_err() {
            return false;
        }
    }
}

/// Reads `--detach-keys`: letters and `ctrl-X`, with commas between; empty is none.
pub fn detach_keys(text: &str) -> Result<Vec<u8>, CommandError> {
    let key = |word: &str| match (word.strip_prefix("ctrl-"), word.as_bytes()) {
        (Some(letter), _) => match letter.as_bytes() {
            [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
            [b'@'] => Some(0),
            [b'['] => Some(27),
            [b'\\'] => Some(28),
            [b']'] => Some(29),
            [b'^'] => Some(30),
            [b'_'] => Some(31),
            _ => None,
        },
        (None, [byte]) => Some(*byte),
        _ => None,
    };
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
    keys.ok_or_else(|| {
        CommandError::usage(format!("invalid detach keys ({text})"))
            .hint("keys are letters or ctrl-LETTER, with commas between, as in ctrl-p,ctrl-q")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        assert_eq!(detach_keys("ctrl-p,ctrl-q").unwrap(), [16, 17]);
        assert_eq!(detach_keys("a,ctrl-[,ctrl-@").unwrap(), [b'a', 27, 0]);
        assert!(detach_keys("").unwrap().is_empty());
        for bad in ["ctrl-", "ab", "ctrl-é", "a,,b", "ctrl-P"] {
            assert!(detach_keys(bad).is_err(), "{bad}");
        }
    }

    #[track_caller]
    fn check_feed(input: &[u8], passed: &[u8], left: bool) {
        let (from, mut typed) = io::pipe().unwrap();
        let (mut read, to) = io::pipe().unwrap();
        typed.write_all(input).unwrap();
        drop(typed);
        let found = feed(File::from(OwnedFd::from(from)), File::from(OwnedFd::from(to)), &[16, 17]);
        let mut got = Vec::new();
        read.read_to_end(&mut got).unwrap();
        assert_eq!((got.as_slice(), found), (passed, left));
    }

    #[test]
    fn keys_are_found_and_others_passed_on() {
        check_feed(b"ab\x10\x11cd", b"ab", true);
        check_feed(b"a\x10b", b"a\x10b", false);
        check_feed(b"\x10\x10\x11", b"\x10", true);
        check_feed(b"\x11\x10", b"\x11", false);
    }
}
