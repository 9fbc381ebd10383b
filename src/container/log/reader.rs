//! The reader of a log: its entries, oldest first, from all its files.
//!
//! It may be asked again after it had no more: what was written meanwhile comes then, from the files that
//! followed, too. Lines that are none are left out. Not here: when it is worth asking again (`sys::watch`).

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::entry::{Entry, decode, time_of};
use super::files;

/// Which of the entries are wanted, by their time; both ends count in.
#[derive(Debug, Clone, Copy, Default)]
pub struct Period {
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// How many of the entries there are already are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    All,
    /// The last of those that are in the period.
    Last(u64),
}

/// How many bytes are read at a time.
const BLOCK: usize = 64 << 10;

/// Longer lines are none: those written here have 16 KiB of bytes, each six bytes long at most, and as much again.
const LONGEST: usize = 1 << 20;

/// Reads a container's log.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    period: Period,
    current: Option<Lines>,
    later: VecDeque<File>,
    is_over: bool,
}

impl LogReader {
    /// Opens the log at this path; one that does not exist has no entries yet.
    pub fn open(path: &Path, period: Period, tail: Tail) -> io::Result<LogReader> {
        let mut later = VecDeque::from(files::open_all(path)?);
        if let Tail::Last(mut left) = tail {
            let mut wanted = VecDeque::new();
            while let Some(mut file) = later.pop_back() {
                let start = start_of_tail(&file, &mut left, &period)?;
                file.seek(SeekFrom::Start(start))?;
                wanted.push_front(file);
                if left == 0 {
                    break;
                }
            }
            later = wanted;
        }
        Ok(LogReader { path: path.to_owned(), period, current: None, later, is_over: false })
    }

    /// Returns the next entry; `None` where there is none now.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        while !self.is_over {
            let Some(current) = &mut self.current else {
                if self.later.is_empty() {
                    self.later = files::open_all(&self.path)?.into();
                }
                match self.later.pop_front() {
                    Some(file) => self.current = Some(Lines::new(file)),
                    None => return Ok(None),
                }
                continue;
            };
            let Some(line) = current.next()? else {
                if self.later.is_empty() {
                    // What was written to this one until the next began is read before the next is.
                    self.later = files::after(&self.path, &current.file)?.into();
                    match self.later.is_empty() {
                        true => return Ok(None),
                        false => continue,
                    }
                }
                self.current = self.later.pop_front().map(Lines::new);
                continue;
            };
            if self.period.since.is_some_and(|since| time_of(line).is_some_and(|time| time < since)) {
                continue;
            }
            let Some(entry) = decode(line) else { continue };
            if self.period.since.is_some_and(|since| entry.time < since) {
                continue;
            }
            if self.period.until.is_some_and(|until| entry.time > until) {
                self.is_over = true;
                break;
            }
            return Ok(Some(entry));
        }
        Ok(None)
    }

    /// Tells whether the period has ended: nothing more comes, whatever is written.
    pub fn is_over(&self) -> bool {
        self.is_over
    }
}

/// The lines of one file.
#[derive(Debug)]
struct Lines {
    file: File,
    buffer: Vec<u8>,
    /// Where the next line begins, and up to where no end was found.
    start: usize,
    searched: usize,
    /// Within a line that is too long.
    skips: bool,
}

impl Lines {
    fn new(file: File) -> Lines {
        Lines { file, buffer: Vec::new(), start: 0, searched: 0, skips: false }
    }

    /// Returns the next line that has its end.
    fn next(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            if let Some(found) = found {
                let (from, to) = (self.start, self.searched + found + 1);
                (self.start, self.searched) = (to, to);
                if std::mem::take(&mut self.skips) {
                    continue;
                }
                return Ok(Some(&self.buffer[from..to]));
            }
            self.buffer.drain(..self.start);
            if self.buffer.len() > LONGEST {
                self.buffer.clear();
                self.skips = true;
            }
            (self.start, self.searched) = (0, self.buffer.len());
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Reads more; tells whether there was some.
    fn fill(&mut self) -> io::Result<bool> {
        let had = self.buffer.len();
        self.buffer.resize(had + BLOCK, 0);
        let count = loop {
            match self.file.read(&mut self.buffer[had..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(had + count.as_ref().map_or(0, |count| *count));
        if count? > 0 {
            return Ok(true);
        }
        // Somebody emptied the file to make room, as people do with docker's.
        if self.file.metadata()?.len() < self.file.stream_position()? {
            self.file.seek(SeekFrom::Start(0))?;
            (self.buffer, self.start, self.searched, self.skips) = (Vec::new(), 0, 0, false);
            return self.fill();
        }
        Ok(false)
    }
}

/// Returns where in a file its last `left` entries of the period begin, and takes those there are off `left`,
/// which is 0 where nothing before is wanted.
fn start_of_tail(file: &File, left: &mut u64, period: &Period) -> io::Result<u64> {
    let mut at = file.metadata()?.len();
    // The bytes from `at` on, up to the end of the line whose start is looked for.
    let mut held: Vec<u8> = Vec::new();
    let mut unsearched = 0;
    // Where what is wanted begins, as far as is known: first behind the last line that has its end.
    let mut start = None;
    loop {
        while let Some(found) = held[..unsearched].iter().rposition(|byte| *byte == b'\n') {
            let line = found + 1;
            if start.is_some() && !is_wanted(&held[line..], left, period) {
                return Ok(at + held.len() as u64);
            }
            start = Some(at + line as u64);
            if *left == 0 {
                return Ok(at + line as u64);
            }
            held.truncate(line);
            unsearched = found;
        }
        if at == 0 {
            if start.is_some() && !held.is_empty() && !is_wanted(&held, left, period) {
                return Ok(held.len() as u64);
            }
            return Ok(0);
        }
        if held.len() > LONGEST {
            held.clear();
        }
        let count = at.min(BLOCK as u64);
        at -= count;
        let mut block = vec![0; count as usize];
        file.read_exact_at(&mut block, at)?;
        unsearched = block.len();
        block.extend_from_slice(&held);
        held = block;
    }
}

/// Counts an entry; `false` where it and all before it are too old.
fn is_wanted(line: &[u8], left: &mut u64, period: &Period) -> bool {
    let Some(time) = time_of(line).or_else(|| decode(line).map(|entry| entry.time)) else { return true };
    if period.since.is_some_and(|since| time < since) {
        *left = 0;
        return false;
    }
    if period.until.is_none_or(|until| time <= until) {
        *left = left.saturating_sub(1);
    }
    true
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::entry::Stream;
    use super::super::options::LogConfig;
    use super::super::writer::LogWriter;
    use super::*;

    struct Log {
        _directory: tempfile::TempDir,
        path: PathBuf,
    }

    impl Log {
        fn new() -> Log {
            let directory = tempfile::tempdir().unwrap();
            Log { path: directory.path().join("log"), _directory: directory }
        }

        /// Writes lines that say their second.
        fn with(seconds: std::ops::Range<u32>) -> Log {
            let log = Log::new();
            seconds.for_each(|second| log.add(second));
            log
        }

        fn add(&self, second: u32) {
            let time = Timestamp::from_second(second.into()).unwrap();
            let mut file = files::open_to_write(&self.path).unwrap();
            write!(file, "{{\"log\":\"{second}\\n\",\"stream\":\"stdout\",\"time\":\"{time}\"}}\n").unwrap();
        }

        fn read(&self, tail: Tail, since: Option<i64>, until: Option<i64>) -> String {
            let time = |second: i64| Timestamp::from_second(second).unwrap();
            let period = Period { since: since.map(time), until: until.map(time) };
            all(&mut LogReader::open(&self.path, period, tail).unwrap())
        }
    }

    fn all(reader: &mut LogReader) -> String {
        let mut texts = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            texts.push(String::from_utf8(entry.bytes).unwrap().trim_end().to_owned());
        }
        texts.join(" ")
    }

    #[test]
    fn the_last_and_those_of_a_time() {
        let log = Log::with(0..10);
        let check = |tail, since, until, expect: &str| {
            assert_eq!(log.read(tail, since, until), expect, "{tail:?} {since:?} {until:?}");
        };
        check(Tail::All, None, None, "0 1 2 3 4 5 6 7 8 9");
        check(Tail::Last(3), None, None, "7 8 9");
        check(Tail::Last(0), None, None, "");
        check(Tail::Last(10), None, None, "0 1 2 3 4 5 6 7 8 9");
        check(Tail::Last(99), None, None, "0 1 2 3 4 5 6 7 8 9");
        check(Tail::All, Some(7), None, "7 8 9");
        check(Tail::All, Some(3), Some(5), "3 4 5");
        check(Tail::Last(2), Some(3), Some(5), "4 5");
        check(Tail::Last(5), Some(8), None, "8 9");
        check(Tail::Last(5), Some(20), None, "");
        check(Tail::All, None, Some(2), "0 1 2");
    }

    #[test]
    fn the_last_lines_of_several_files() {
        let log = Log::with(0..4);
        files::turn_over(&log.path, 3).unwrap();
        (4..8).for_each(|second| log.add(second));
        files::turn_over(&log.path, 3).unwrap();
        assert_eq!(log.read(Tail::All, None, None), "0 1 2 3 4 5 6 7");
        assert_eq!(log.read(Tail::Last(6), None, None), "2 3 4 5 6 7");
        assert_eq!(log.read(Tail::Last(4), None, None), "4 5 6 7");
        assert_eq!(log.read(Tail::Last(5), Some(6), None), "6 7");
        log.add(8);
        assert_eq!(log.read(Tail::Last(1), None, None), "8");
    }

    #[test]
    fn long_logs_are_searched_from_the_end() {
        let log = Log::with(0..5000);
        let numbers: Vec<String> = (3000..5000).map(|n| n.to_string()).collect();
        assert_eq!(log.read(Tail::Last(2000), None, None), numbers.join(" "));
    }

    #[test]
    fn what_is_no_line_is_left_out() {
        let log = Log::with(0..2);
        let mut file = files::open_to_write(&log.path).unwrap();
        file.write_all(b"torn\n\n").unwrap();
        file.write_all(&vec![b'x'; LONGEST + 3 * BLOCK]).unwrap();
        file.write_all(b"\n").unwrap();
        log.add(2);
        file.write_all(b"{\"log\":\"not who").unwrap();
        assert_eq!(log.read(Tail::All, None, None), "0 1 2");
        assert_eq!(log.read(Tail::Last(2), None, None), "1 2");
        assert_eq!(log.read(Tail::Last(1), None, None), "2");
        assert_eq!(log.read(Tail::Last(0), None, None), "");
    }

    #[test]
    fn what_comes_is_read_through_turned_files() {
        let log = Log::with(0..2);
        let mut reader = LogReader::open(&log.path, Period::default(), Tail::Last(1)).unwrap();
        assert_eq!(all(&mut reader), "1");
        log.add(2);
        files::turn_over(&log.path, 3).unwrap();
        log.add(3);
        files::turn_over(&log.path, 3).unwrap();
        assert_eq!(all(&mut reader), "2 3");
        log.add(4);
        assert_eq!(all(&mut reader), "4");
        // Emptied by hand.
        File::options().write(true).open(&log.path).unwrap().set_len(0).unwrap();
        assert_eq!(all(&mut reader), "");
        log.add(5);
        assert_eq!(all(&mut reader), "5");
    }

    #[test]
    fn one_file_that_begins_anew_is_read_to_its_end() {
        let log = Log::with(0..2);
        let mut reader = LogReader::open(&log.path, Period::default(), Tail::Last(1)).unwrap();
        assert_eq!(all(&mut reader), "1");
        log.add(2);
        files::turn_over(&log.path, 1).unwrap();
        log.add(3);
        assert_eq!(all(&mut reader), "2 3");
    }

    #[test]
    fn half_a_line_is_waited_for() {
        let log = Log::new();
        let mut reader = LogReader::open(&log.path, Period::default(), Tail::All).unwrap();
        assert_eq!(reader.next_entry().unwrap(), None);
        let mut file = files::open_to_write(&log.path).unwrap();
        file.write_all(b"{\"log\":\"x\",\"stream\":\"stderr\",").unwrap();
        assert_eq!(reader.next_entry().unwrap(), None);
        file.write_all(b"\"time\":\"2026-01-31T12:00:00Z\"}\n").unwrap();
        let entry = reader.next_entry().unwrap().unwrap();
        assert_eq!((entry.bytes.as_slice(), entry.stream), (&b"x"[..], Stream::Stderr));
    }

    #[test]
    fn a_period_ends() {
        let log = Log::with(0..3);
        let until = Some(Timestamp::from_second(1).unwrap());
        let mut reader = LogReader::open(&log.path, Period { since: None, until }, Tail::All).unwrap();
        assert_eq!(all(&mut reader), "0 1");
        assert!(reader.is_over());
    }

    #[test]
    fn a_reader_keeps_up_with_a_writer() {
        let log = Log::new();
        let options = ["max-size=20k".to_owned(), "max-file=100".to_owned()];
        let config = LogConfig::parse(None, &options, &Default::default(), &[]).unwrap();
        let writer = LogWriter::open(&log.path, &config).unwrap();
        let mut reader = LogReader::open(&log.path, Period::default(), Tail::All).unwrap();
        let mut seen = 0;
        std::thread::scope(|scope| {
            let written = scope.spawn(|| {
                for n in 0..5000 {
                    writer.write(Stream::Stdout, format!("{n}\n").as_bytes());
                }
            });
            loop {
                let is_done = written.is_finished();
                while let Some(entry) = reader.next_entry().unwrap() {
                    assert_eq!(String::from_utf8(entry.bytes).unwrap(), format!("{seen}\n"));
                    seen += 1;
                }
                if is_done {
                    break;
                }
            }
        });
        assert_eq!(seen, 5000);
    }
}
