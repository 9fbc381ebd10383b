//! The log of a container: a line of JSON for each line that it wrote, as docker's json-file driver has it.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

/// One of the two streams that a container writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    Stdout,
    Stderr,
}

/// Writes the log.
pub struct LogWriter {
    file: File,
    pending: [Vec<u8>; 2],
}

#[derive(Serialize)]
struct Line<'a> {
    log: &'a str,
    stream: &'a str,
    time: String,
}

/// A line that is longer is written in parts.
const LONGEST: usize = 16 * 1024;

impl LogWriter {
    /// Opens the log in a container's directory, making it where it is missing.
    pub fn open(directory: &Path) -> io::Result<LogWriter> {
        let file = File::options().append(true).create(true).open(directory.join("log"))?;
        Ok(LogWriter { file, pending: Default::default() })
    }

    /// Takes bytes; whole lines are written.
    pub fn write(&mut self, stream: LogStream, bytes: &[u8]) -> io::Result<()> {
        let mut pending = std::mem::take(&mut self.pending[stream as usize]);
        pending.extend_from_slice(bytes);
        let mut rest = pending.as_slice();
        let mut text = Vec::new();
        while let Some(end) = rest.iter().position(|b| *b == b'\n').map(|at| at + 1) {
            self.line(stream, &rest[..end], &mut text)?;
            rest = &rest[end..];
        }
        while rest.len() >= LONGEST {
            self.line(stream, &rest[..LONGEST], &mut text)?;
            rest = &rest[LONGEST..];
        }
        self.pending[stream as usize] = rest.to_vec();
        self.file.write_all(&text)
    }

    /// Writes what is left of a last line.
    pub fn end(&mut self) -> io::Result<()> {
        for stream in [LogStream::Stdout, LogStream::Stderr] {
            let rest = std::mem::take(&mut self.pending[stream as usize]);
            let mut text = Vec::new();
            if !rest.is_empty() {
                self.line(stream, &rest, &mut text)?;
            }
            self.file.write_all(&text)?;
        }
        Ok(())
    }

    fn line(&self, stream: LogStream, bytes: &[u8], to: &mut Vec<u8>) -> io::Result<()> {
        let name = if stream == LogStream::Stdout { "stdout" } else { "stderr" };
        let log = String::from_utf8_lossy(bytes);
        serde_json::to_writer(
            &mut *to,
            &Line { log: &log, stream: name, time: Timestamp::now().to_string() },
        )?;
        to.push(b'\n');
        Ok(())
    }
}
