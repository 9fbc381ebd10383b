//! The terminal of a shell in a build: keys in, output out, sizes along, until it ends or a word ends it.
//!
//! Not here: opening the shell (`build`), containers in the foreground (`run`).

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::error::CommandError;
use crate::build::{Shell, Word};
use crate::sandbox::Exit;
use crate::solve::Cancel;
use crate::sys::terminal::{self, RawMode, Size};

/// How often a word, another size and the end of the terminal are looked for.
const INTERVAL: Duration = Duration::from_millis(100);

/// A size where none can be told.
const USUAL: Size = Size { rows: 24, columns: 80 };

/// How a shell was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// It ended.
    Exit(Exit),
    /// One of its commands said this.
    Said(Word),
}

/// Returns the size of the terminal at standard input.
pub fn size() -> Size {
    terminal::size(io::stdin()).ok().filter(|size| size.rows > 0 && size.columns > 0).unwrap_or(USUAL)
}

/// Gives the terminal at standard input to a shell, whose output goes to `screen`, until the shell has ended.
///
/// Every process of it is dead then, and the terminal as it was. A terminal that goes away ends it, and so
/// does `cancel`.
pub fn attend(shell: &mut Shell, screen: BorrowedFd<'_>, cancel: &Cancel) -> Result<Left, CommandError> {
    let stdin = io::stdin();
    let keys = stdin.as_fd();
    let stop = shell.running.stop_handle()?;
    let own = stop.clone();
    let _hook = cancel.on_cancel(move || drop(own.kill()));
    let mut said = None;
    if let Some(control) = shell.terminal.take() {
        let raw = RawMode::enter(keys)?;
        let mut known = None;
        let copied = terminal::copy(&control, Some(keys), screen, INTERVAL, || {
            if said.is_none() {
                said = shell.word();
            }
            let size = terminal::size(keys).ok();
            if said.is_some() || size.is_none() {
                let _ = stop.kill();
            }
            let changed = size.filter(|size| known != Some(*size));
            known = size;
            changed
        });
        if copied.is_err() {
            let _ = stop.kill();
        }
        drop(raw);
        // Where it was killed, its prompt may stand there.
        let _ = io::stderr().lock().write_all(b"\r\x1b[K");
    }
    let exit = shell.running.wait()?;
    Ok(said.map_or(Left::Exit(exit), Left::Said))
}
