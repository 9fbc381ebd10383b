//! The log of a repository's builds: two files, so that the newest part is always there and nothing grows.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// The size in bytes from which a log becomes the old one.
pub const LOG_LIMIT: u64 = 1 << 20;

/// Writes to the log.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    limit: u64,
}

impl Log {
    /// Opens it for writing at its end.
    pub fn open(path: &Path, limit: u64) -> io::Result<Log> {
        let file = {
            // A link could lead to any file of the user's.
            let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
            OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(no_follow).open(path)?
        };
        Ok(Log { path: path.to_owned(), size: file.metadata()?.len(), file, limit })
    }

    /// Writes a line of our own, with the time.
    pub fn note(&mut self, words: &str) {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
        // A full disk stops no build.
        let _ = writeln!(self, "== {now} {words}");
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size >= self.limit {
            std::fs::rename(&self.path, old(&self.path))?;
            *self = Log::open(&self.path, self.limit)?;
        }
        let count = self.file.write(bytes)?;
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The end of an output, held in memory until it may be written.
#[derive(Debug, Default)]
pub struct Tail {
    bytes: VecDeque<u8>,
}

impl Tail {
    /// Writes what is held.
    pub fn write_to(&self, log: &mut Log) {
        let (first, second) = self.bytes.as_slices();
        // A full disk stops no build.
        let _ = log.write_all(first).and_then(|()| log.write_all(second));
    }
}

impl Write for Tail {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend(bytes);
        let over = self.bytes.len().saturating_sub(usize::try_from(LOG_LIMIT).unwrap_or(usize::MAX));
        self.bytes.drain(..over);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn old(path: &Path) -> PathBuf {
    path.with_extension("1")
}

/// Reads the log, and goes on with what is added.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    /// The newer file, as far as it was read.
    file: Option<File>,
    started: bool,
}

impl Follow {
    /// Nothing is read yet.
    pub fn new(path: &Path) -> Follow {
        Follow { path: path.to_owned(), file: None, started: false }
    }

    /// Returns what was added since the last call; the first time, all that is kept.
    pub fn more(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if !std::mem::replace(&mut self.started, true)
            && let Some(mut file) = open(&old(&self.path))?
        {
            file.read_to_end(&mut bytes)?;
        }
        // What was written before it became the old one.
        if let Some(file) = &mut self.file {
            file.read_to_end(&mut bytes)?;
        }
        let Some(mut now) = open(&self.path)? else { return Ok(bytes) };
        let same = match &self.file {
            Some(file) => file.metadata()?.ino() == now.metadata()?.ino(),
            None => false,
        };
        if !same {
            now.seek(SeekFrom::Start(0))?;
            now.read_to_end(&mut bytes)?;
            self.file = Some(now);
        }
        Ok(bytes)
    }
}

/// Opens a regular file, `None` where there is none: what lies there may be somebody else's, and a FIFO would be
/// waited for.
fn open(path: &Path) -> io::Result<Option<File>> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => Ok(file.metadata()?.is_file().then_some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_bounded_and_can_be_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut follow = Follow::new(&path);
        assert!(follow.more().unwrap().is_empty());
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, rustix::fs::Mode::RWXU, 0).unwrap();
        assert!(follow.more().unwrap().is_empty(), "nobody writes to it");
        std::fs::remove_file(&path).unwrap();
        let mut log = Log::open(&path, 100).unwrap();
        let mut said = String::new();
        for number in 0..100 {
            writeln!(log, "line {number}").unwrap();
            said += &String::from_utf8(follow.more().unwrap()).unwrap();
        }
        assert_eq!(said, (0..100).map(|number| format!("line {number}\n")).collect::<String>());
        let sizes = [path.clone(), old(&path)].map(|path| std::fs::metadata(path).unwrap().len());
        assert!(sizes.iter().all(|size| *size <= 110), "{sizes:?}");
        let kept = String::from_utf8(Follow::new(&path).more().unwrap()).unwrap();
        assert!(kept.ends_with("line 99\n") && kept.contains("line 90\n"), "{kept}");
        let mut tail = Tail::default();
        tail.write_all(&vec![b'x'; LOG_LIMIT as usize]).unwrap();
        tail.write_all(b"end").unwrap();
        assert_eq!(tail.bytes.len() as u64, LOG_LIMIT);
        tail.write_to(&mut log);
        let held = follow.more().unwrap();
        assert!(held.starts_with(b"xxx") && held.ends_with(b"xend"));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(Log::open(&link, 100).is_err());
        log.note("words");
        let noted = String::from_utf8(follow.more().unwrap()).unwrap();
        assert!(noted.starts_with("== 2") && noted.ends_with("Z words\n"), "{noted}");
    }
}
