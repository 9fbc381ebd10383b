//! The only place that prints, and that asks: results to standard output, the rest to standard error.
//!
//! A reader that went away (`rbuild images | head -1`) is no error.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::{self, BufRead, IsTerminal, Read, Write};

use std::sync::OnceLock;

use crate::layer::LeftOut;
use crate::report::clean::{Cleaner, clean_text, without_codes};

/// Prints a result; no line end is added. A terminal gets nothing that it would obey but colours; a file
/// or a pipe gets the text as it is.
pub fn out(text: &str) {
    let mut stdout = io::stdout().lock();
    let written = match stdout.is_terminal() {
        true => stdout.write_all(clean_text(text).as_bytes()),
        false => stdout.write_all(text.as_bytes()),
    };
    if let Err(error) = written.and_then(|()| stdout.flush())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        let _ = LOST.set(error.to_string());
    }
}

/// Why a result could not be printed, the first time.
static LOST: OnceLock<String> = OnceLock::new();

/// Returns why some result could not be printed; a reader that went away is no reason.
pub fn lost() -> Option<&'static str> {
    LOST.get().map(String::as_str)
}

/// Prints all that can be read. A terminal gets nothing that it would obey but colours; a reader that goes away
/// is no error.
pub fn copy(mut from: impl Read) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let mut cleaner = stdout.is_terminal().then(Cleaner::default);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let written = match &mut cleaner {
            Some(cleaner) => stdout.write_all(&cleaner.clean(&buffer[..count])),
            None => stdout.write_all(&buffer[..count]),
        };
        if written.and_then(|()| stdout.flush()).is_err() {
            return Ok(());
        }
    }
}

/// Standard output and error for bytes that somebody else wrote to his own.
///
/// Pieces are gathered; the order of the two streams is kept. A terminal gets nothing that it would obey but
/// colours.
#[derive(Debug)]
pub struct Streams {
    cleaners: [Option<Cleaner>; 2],
    gathered: Vec<u8>,
    /// Whose the gathered bytes are.
    is_error: bool,
    is_gone: bool,
}

impl Streams {
    /// Begins to print.
    pub fn new() -> Streams {
        let cleaners = [out_is_terminal(), err_is_terminal()].map(|terminal| terminal.then(Cleaner::default));
        Streams { cleaners, gathered: Vec::new(), is_error: false, is_gone: false }
    }

    /// Prints to standard output; `false` where the reader went away.
    pub fn out(&mut self, bytes: &[u8]) -> bool {
        self.put(bytes, false)
    }

    /// Prints to standard error; `false` where the reader went away.
    pub fn err(&mut self, bytes: &[u8]) -> bool {
        self.put(bytes, true)
    }

    fn put(&mut self, bytes: &[u8], is_error: bool) -> bool {
        if self.is_error != is_error || self.gathered.len() > 64 << 10 {
            self.flush();
            self.is_error = is_error;
        }
        match &mut self.cleaners[usize::from(is_error)] {
            Some(cleaner) => self.gathered.extend(cleaner.clean(bytes)),
            None => self.gathered.extend_from_slice(bytes),
        }
        !self.is_gone
    }

    /// Prints what is gathered; `false` where the reader went away.
    pub fn flush(&mut self) -> bool {
        let bytes = std::mem::take(&mut self.gathered);
        let written = match self.is_error {
            true => io::stderr().lock().write_all(&bytes),
            false => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(&bytes).and_then(|()| stdout.flush())
            }
        };
        if let Err(error) = written {
            self.is_gone = true;
            if error.kind() != io::ErrorKind::BrokenPipe {
                let _ = LOST.set(error.to_string());
            }
        }
        !self.is_gone
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Prints a result and a line end.
pub fn line(text: &str) {
    out(&format!("{text}\n"));
}

/// Prints what is no result: warnings, errors; without what a terminal would obey but colours.
pub fn note(text: &str) {
    let _ = io::stderr().lock().write_all(without_codes(&clean_text(text)).as_bytes());
}

/// Reads an answer from standard input; `None` at its end.
pub fn read_line() -> Option<String> {
    let mut line = String::new();
    let read = io::stdin().lock().take(1024).read_line(&mut line).ok()?;
    (read > 0).then_some(line)
}

/// Warns of what an ordinary user's store could not put on disk; says nothing where there is nothing.
pub fn left_out(left_out: &LeftOut) {
    if *left_out != LeftOut::default() {
        note(&format!(
            "warning: left out on disk, for an ordinary user cannot make them ({}); they stay in the image when it is \
             written to an archive\n",
            count_left_out(left_out)
        ));
    }
}

/// Counts what was left out, and names nothing of which there is none.
pub fn count_left_out(left_out: &LeftOut) -> String {
    let kinds = [
        (left_out.devices, "devices: "),
        (left_out.owners, "owners of files: "),
        (left_out.xattrs, "extended attributes: "),
    ];
    let counts: Vec<String> =
        kinds.iter().filter(|(count, _)| *count > 0).map(|(count, kind)| format!("{kind}{count}")).collect();
    counts.join(", ")
}

/// Tells whether standard output is a terminal.
pub fn out_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Tells whether standard output is a terminal whose user likes colours.
pub fn out_in_colour() -> bool {
    out_is_terminal() && super::world::colours_are_wanted()
}

/// Returns how many columns the terminal at standard output has; `None` where it is none.
pub fn out_columns() -> Option<usize> {
    crate::sys::terminal::size(io::stdout())
        .ok()
        .map(|size| size.columns.into())
        .filter(|columns| *columns > 0)
}

/// Tells whether standard input is a terminal.
pub fn in_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Tells whether standard error is a terminal whose user likes colours.
pub fn err_in_colour() -> bool {
    err_is_terminal() && super::world::colours_are_wanted()
}

/// Tells whether standard error is a terminal.
pub fn err_is_terminal() -> bool {
    io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_counted() {
        let check = |devices, owners, xattrs, expect: &str| {
            assert_eq!(count_left_out(&LeftOut { devices, owners, xattrs }), expect);
        };
        check(8, 0, 0, "devices: 8");
        check(0, 0, 1, "extended attributes: 1");
        check(2, 3, 0, "devices: 2, owners of files: 3");
    }
}
