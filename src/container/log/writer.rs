//! The writer of a log: bytes as they come in, whole lines out.
//!
//! One for a container, shared by the threads that read its standard output and error. As docker does it keeps
//! the start of a line until its end comes, and cuts lines at 16 KiB, though not inside of a character. A
//! write that fails loses entries and never more: the file keeps whole lines, the next that can be written
//! counts what was lost, and who writes is never told to stop.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::entry::{self, Beside, Stream};
use super::files;
use super::options::{LogConfig, LogDriver};

/// The longest piece of a line that an entry holds, in bytes; docker's own.
const PIECE: usize = 16 << 10;

/// How many bytes are gathered before they are written.
const GATHERED: usize = 64 << 10;

/// Writes what a container says into its log.
#[derive(Debug)]
pub struct LogWriter(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    /// `None` where nothing is kept.
    file: Option<File>,
    path: PathBuf,
    max_size: Option<u64>,
    max_file: u32,
    /// A JSON object, or nothing.
    attributes: String,
    /// Bytes of the file, as far as this writer knows.
    length: u64,
    /// The starts of lines whose ends did not come yet.
    started: [Vec<u8>; 2],
    /// Encoded and not written yet, and how many entries they are.
    gathered: Vec<u8>,
    entries: u64,
    lost: u64,
    stamps: Stamps,
}

impl LogWriter {
    /// Opens the log at this path for more; makes it where it is missing.
    pub fn open(path: &Path, config: &LogConfig) -> io::Result<LogWriter> {
        let (mut file, mut length) = (None, 0);
        if config.driver == LogDriver::JsonFile {
            let mut opened = files::open_to_write(path)?;
            length = end_of_lines(path, &mut opened)?;
            file = Some(opened);
        }
        let attributes = match config.attributes.is_empty() {
            true => String::new(),
            false => serde_json::to_string(&config.attributes).map_err(io::Error::other)?,
        };
        Ok(LogWriter(Mutex::new(Inner {
            file,
            path: path.to_owned(),
            max_size: config.max_size,
            max_file: config.files(),
            attributes,
            length,
            started: [Vec::new(), Vec::new()],
            gathered: Vec::new(),
            entries: 0,
            lost: 0,
            stamps: Stamps::default(),
        })))
    }

    /// Takes what was read from a stream. Waits for nothing but the disk, and never fails: see above.
    pub fn write(&self, stream: Stream, bytes: &[u8]) {
        self.inner().take(stream, bytes, Timestamp::now());
    }

    /// Writes the start of a line that has no end: nothing more comes from this stream.
    pub fn end(&self, stream: Stream) {
        self.inner().end(stream, Timestamp::now());
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // What a panic of another thread left is still whole lines.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.end(Stream::Stdout);
        self.end(Stream::Stderr);
    }
}

impl Inner {
    fn take(&mut self, stream: Stream, bytes: &[u8], now: Timestamp) {
        if self.file.is_none() {
            return;
        }
        self.stamps.read(now);
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let started = &mut self.started[stream as usize];
            if started.is_empty() && part.ends_with(b"\n") && part.len() <= PIECE {
                self.put(stream, part);
                continue;
            }
            started.extend_from_slice(part);
            let mut line = std::mem::take(started);
            let mut from = 0;
            while line.len() - from > PIECE {
                let to = from + piece(&line[from..]);
                self.put(stream, &line[from..to]);
                from = to;
            }
            if line.ends_with(b"\n") {
                self.put(stream, &line[from..]);
                line.clear();
            } else {
                line.drain(..from);
            }
            // Its room is kept for the next.
            self.started[stream as usize] = line;
        }
        self.flush();
    }

    fn end(&mut self, stream: Stream, now: Timestamp) {
        let line = std::mem::take(&mut self.started[stream as usize]);
        if !line.is_empty() {
            self.stamps.read(now);
            self.put(stream, &line);
            self.flush();
        }
    }

    /// Encodes an entry, and begins a new file before it where the one there is is full.
    fn put(&mut self, stream: Stream, bytes: &[u8]) {
        if self.max_size.is_some_and(|most| self.length + self.gathered.len() as u64 >= most) {
            self.flush();
            self.turn_over();
        }
        let lost = std::mem::take(&mut self.lost);
        let beside = Beside { stream, time: self.stamps.next(), attributes: &self.attributes, lost };
        entry::encode(&mut self.gathered, bytes, &beside);
        self.entries += 1 + lost;
        if self.gathered.len() >= GATHERED {
            self.flush();
        }
    }

    fn turn_over(&mut self) {
        if self.length == 0 {
            return;
        }
        if let Ok(file) = files::turn_over(&self.path, self.max_file) {
            self.file = Some(file);
        }
        // Where no file can be begun, the old one is written on, and the next is tried when it has grown again.
        self.length = 0;
    }

    fn flush(&mut self) {
        let Some(file) = &mut self.file else { return };
        if self.gathered.is_empty() {
            return;
        }
        match write_whole(file, &self.gathered) {
            Ok(()) => self.length += self.gathered.len() as u64,
            Err(_) => self.lost += self.entries,
        }
        self.gathered.clear();
        self.entries = 0;
    }
}

/// Writes all bytes or none.
fn write_whole(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(count) if count > 0 => written += count,
            failed => {
                let end = file.metadata()?.len();
                file.set_len(end.saturating_sub(written as u64))?;
                return Err(failed.err().unwrap_or_else(|| ErrorKind::WriteZero.into()));
            }
        }
    }
    Ok(())
}

/// Ends a line that a killed writer left without end; returns the length.
fn end_of_lines(path: &Path, append: &mut File) -> io::Result<u64> {
    let length = append.metadata()?.len();
    if length == 0 {
        return Ok(0);
    }
    let mut last = [0];
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last != *b"\n" {
        append.write_all(b"\n")?;
        return Ok(length + 1);
    }
    Ok(length)
}

/// Returns how much of a line that is longer than a piece the next piece takes: no character is cut.
fn piece(line: &[u8]) -> usize {
    let is_start = |at: &usize| line.get(*at).is_some_and(|byte| byte & 0xc0 != 0x80);
    (PIECE - 3..=PIECE).rev().find(is_start).unwrap_or(PIECE)
}

/// The times of entries: that of the reading, and a nanosecond more for each that came with it, so that no two
/// entries have the same, and the order of times is that of the lines.
#[derive(Debug, Default)]
struct Stamps {
    next: i128,
    /// The text of a second, and which it is.
    second: Option<(i128, String)>,
    text: String,
}

/// How far the clock may lag behind the last entry before it is taken for one that was put back.
const LAG: i128 = 1_000_000_000;

impl Stamps {
    fn read(&mut self, now: Timestamp) {
        let now = now.as_nanosecond();
        if now > self.next || self.next - now > LAG {
            self.next = now;
        }
    }

    /// Returns the next time: RFC 3339 with as many digits as it has, as Go's `RFC3339Nano`.
    fn next(&mut self) -> &str {
        let (second, fraction) = (self.next.div_euclid(LAG), self.next.rem_euclid(LAG));
        self.next += 1;
        if self.second.as_ref().is_none_or(|(known, _)| *known != second) {
            let time = Timestamp::from_nanosecond(second * LAG).unwrap_or_default();
            self.second = Some((second, time.strftime("%Y-%m-%dT%H:%M:%S").to_string()));
        }
        self.text.clear();
        self.text.push_str(self.second.as_ref().map_or("", |(_, text)| text));
        if fraction > 0 {
            use std::fmt::Write as _;
            let _ = write!(self.text, ".{fraction:09}");
            let end = self.text.trim_end_matches('0').len();
            self.text.truncate(end);
        }
        self.text.push('Z');
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::{Entry, decode};
    use super::*;

    struct Log {
        directory: tempfile::TempDir,
        config: LogConfig,
    }

    impl Log {
        fn new(options: &[&str]) -> Log {
            let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
            let config = LogConfig::parse(None, &options, &[("a".to_owned(), "b".to_owned())].into(), &[]);
            Log { directory: tempfile::tempdir().unwrap(), config: config.unwrap() }
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("log")
        }

        fn open(&self) -> LogWriter {
            LogWriter::open(&self.path(), &self.config).unwrap()
        }

        fn entries(&self) -> Vec<Entry> {
            let text = std::fs::read(self.path()).unwrap();
            text.split_inclusive(|byte| *byte == b'\n').filter_map(decode).collect()
        }

        fn texts(&self) -> Vec<String> {
            let text =
                |entry: Entry| format!("{} {}", entry.stream.as_str(), String::from_utf8_lossy(&entry.bytes));
            self.entries().into_iter().map(text).collect()
        }
    }

    #[test]
    fn lines_come_whole_and_streams_apart() {
        let log = Log::new(&[]);
        let writer = log.open();
        writer.write(Stream::Stdout, b"one\ntw");
        writer.write(Stream::Stderr, b"err");
        writer.write(Stream::Stdout, b"o\n\nprompt> ");
        assert_eq!(log.texts(), ["stdout one\n", "stdout two\n", "stdout \n"]);
        drop(writer);
        assert_eq!(log.texts()[3..], ["stdout prompt> ", "stderr err"]);
        let times: Vec<Timestamp> = log.entries().iter().map(|entry| entry.time).collect();
        assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
        // A start again goes on where it was.
        log.open().write(Stream::Stdout, b"again\n");
        assert_eq!(log.texts().len(), 6);
    }

    #[test]
    fn long_lines_come_in_pieces_and_characters_whole() {
        let log = Log::new(&[]);
        let writer = log.open();
        let line = format!("a{}", "ü".repeat(20_000));
        for chunk in line.as_bytes().chunks(1000) {
            writer.write(Stream::Stdout, chunk);
        }
        writer.write(Stream::Stdout, b"\n");
        // A whole line that comes at once is cut as well.
        writer.write(Stream::Stdout, format!("{line}\n").as_bytes());
        let pieces: Vec<Vec<u8>> = log.entries().into_iter().map(|entry| entry.bytes).collect();
        let lengths: Vec<usize> = pieces.iter().map(Vec::len).collect();
        assert_eq!(lengths, [16383, 16384, 7235, 16383, 16384, 7235]);
        assert_eq!(pieces.concat(), format!("{line}\n{line}\n").as_bytes());
        assert!(pieces.iter().all(|piece| std::str::from_utf8(piece).is_ok()));
    }

    #[test]
    fn a_line_of_one_piece_is_one_entry() {
        let log = Log::new(&[]);
        let writer = log.open();
        let line = [vec![b'x'; PIECE - 1], vec![b'\n']].concat();
        writer.write(Stream::Stdout, &line);
        writer.write(Stream::Stdout, &line[..100]);
        writer.write(Stream::Stdout, &line[100..]);
        assert_eq!(log.entries().iter().map(|entry| entry.bytes.len()).collect::<Vec<_>>(), [PIECE, PIECE]);
    }

    #[test]
    fn bytes_that_are_no_text_are_cut_anywhere() {
        let log = Log::new(&[]);
        let bytes: Vec<u8> = (0..PIECE * 3).map(|at| 0x80 + (at % 64) as u8).collect();
        log.open().write(Stream::Stdout, &bytes);
        assert_eq!(log.entries().into_iter().flat_map(|entry| entry.bytes).collect::<Vec<_>>(), bytes);
    }

    #[test]
    fn full_files_are_turned_over() {
        let log = Log::new(&["max-size=300", "max-file=3", "labels=a"]);
        let writer = log.open();
        let lines: String = (0..20).map(|n| format!("line {n}\n")).collect();
        writer.write(Stream::Stdout, lines.as_bytes());
        drop(writer);
        let mut all = Vec::new();
        for mut file in files::open_all(&log.path()).unwrap() {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            // As docker: a file ends with the line that makes it full.
            assert!(text.len() < 300 + 110, "{}", text.len());
            all.extend(text.lines().map(|line| decode(line.as_bytes()).unwrap()));
        }
        let last: Vec<_> =
            all.iter().rev().take(5).rev().map(|e| String::from_utf8_lossy(&e.bytes)).collect();
        assert_eq!(last, ["line 15\n", "line 16\n", "line 17\n", "line 18\n", "line 19\n"]);
        assert!(all.len() <= 12 && all[0].attributes["a"] == "b", "{}", all.len());
    }

    #[test]
    fn a_torn_line_is_ended() {
        let log = Log::new(&[]);
        std::fs::write(log.path(), "{\"log\":\"cut sh").unwrap();
        log.open().write(Stream::Stdout, b"next\n");
        assert_eq!(log.texts(), ["stdout next\n"]);
    }

    #[test]
    fn a_full_disk_loses_lines_and_says_how_many() {
        let log = Log::new(&[]);
        let writer = log.open();
        writer.write(Stream::Stdout, b"kept\n");
        // What every write to it answers is ENOSPC: full(4).
        writer.inner().file = Some(File::options().append(true).open("/dev/full").unwrap());
        writer.write(Stream::Stdout, b"a\nb\n");
        writer.write(Stream::Stdout, b"c\n");
        writer.inner().file = Some(files::open_to_write(&log.path()).unwrap());
        writer.write(Stream::Stdout, b"next\nlast\n");
        assert_eq!(log.texts(), ["stdout kept\n", "stdout next\n", "stdout last\n"]);
        assert_eq!(log.entries().iter().map(|entry| entry.lost).collect::<Vec<_>>(), [0, 3, 0]);
    }

    #[test]
    fn nothing_is_kept_where_nothing_is_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let config = LogConfig::parse(Some("none"), &[], &Default::default(), &[]).unwrap();
        LogWriter::open(&directory.path().join("log"), &config).unwrap().write(Stream::Stdout, b"x\n");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn times_have_the_digits_they_need() {
        let mut stamps = Stamps::default();
        for (time, expect) in [
            ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
            ("2026-01-31T12:00:00.5Z", "2026-01-31T12:00:00.5Z"),
            // The clock lags a little: times go on all the same.
            ("2026-01-31T12:00:00.4Z", "2026-01-31T12:00:00.500000001Z"),
            // It was put back.
            ("2026-01-31T11:00:00Z", "2026-01-31T11:00:00Z"),
        ] {
            stamps.read(time.parse().unwrap());
            assert_eq!(stamps.next(), expect);
        }
        assert_eq!(stamps.next(), "2026-01-31T11:00:00.000000001Z");
    }

    proptest::proptest! {
        #[test]
        fn no_byte_is_lost(chunks in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 0..9), 0..40)) {
            let log = Log::new(&[]);
            let writer = log.open();
            chunks.iter().for_each(|chunk| writer.write(Stream::Stdout, chunk));
            drop(writer);
            let read: Vec<u8> = log.entries().into_iter().flat_map(|entry| entry.bytes).collect();
            proptest::prop_assert_eq!(read, chunks.concat());
        }
    }
}
