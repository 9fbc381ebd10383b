//! The log of a container: what its process writes, kept in the lines of docker's `json-file` driver.
//!
//! `options`: what `--log-driver` and `--log-opt` ask for. `entry`: one line of the file, both ways.
//! `writer`: bytes in, lines out, files that are turned over. `files`: which files a log is. `reader`: entries
//! out, the last of them, those of a time, and those that come. Not here: who pumps the bytes (the supervisor),
//! and how entries are shown (`cli`).

mod entry;
mod files;
mod options;
mod reader;
mod writer;

pub use entry::{Entry, Stream};
pub use options::{LogConfig, LogConfigError, LogDriver};
pub use reader::{LogReader, Period, Tail};
pub use writer::LogWriter;
