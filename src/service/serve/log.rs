//! The output of one build: as much of it as is kept, the end always.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use futures_util::stream::{self, Stream};

use super::service::Service;

/// How many bytes are kept from the start, and from the end of what is longer.
const HEAD: u64 = 8 << 20;
const TAIL: usize = 256 << 10;

/// Writes a build's log.
#[derive(Debug)]
pub struct BuildLog {
    file: File,
    left: u64,
    tail: VecDeque<u8>,
    left_out: u64,
}

impl BuildLog {
    /// Writes to a new file.
    pub fn new(file: File) -> BuildLog {
        BuildLog { file, left: HEAD, tail: VecDeque::new(), left_out: 0 }
    }

    /// Writes a line of our own.
    pub fn note(&mut self, words: &str) {
        // A full disk shows in the build itself.
        let _ = writeln!(self, "== {words}");
    }

    /// Writes the end of what was too long.
    pub fn finish(mut self) {
        let (first, second) = self.tail.as_slices();
        if self.left_out > 0 {
            let _ = writeln!(self.file, "\n== {} bytes are left out here", self.left_out);
        }
        let _ = self.file.write_all(first).and_then(|()| self.file.write_all(second));
    }
}

impl Write for BuildLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left > 0 {
            let fits = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let count = self.file.write(&bytes[..fits])?;
            self.left -= count as u64;
            return Ok(count);
        }
        self.tail.extend(bytes);
        let over = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..over);
        self.left_out += over as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a build's log piece by piece; with `follow` until the build is over.
pub(super) fn stream(
    service: Arc<Service>,
    id: u64,
    follow: bool,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::unfold((service, None::<File>), move |(service, mut file)| async move {
        loop {
            // Asked first: what was written until then is read after it.
            let over = service.build(id).is_none_or(|build| build.state.is_over());
            let path = service.books.file(id, "log");
            let read = tokio::task::spawn_blocking(move || {
                let bytes = read_piece(&mut file, &path);
                (bytes, file)
            });
            let Ok((bytes, opened)) = read.await else { return None };
            file = opened;
            match bytes {
                Ok(bytes) if !bytes.is_empty() => return Some((Ok(Bytes::from(bytes)), (service, file))),
                Ok(_) if over || !follow || service.is_stopping() => return None,
                Ok(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                Err(error) => return Some((Err(error), (service, file))),
            }
        }
    })
}

fn read_piece(file: &mut Option<File>, path: &std::path::Path) -> io::Result<Vec<u8>> {
    let opened = match file {
        Some(file) => file,
        None => match File::open(path) {
            Ok(opened) => file.insert(opened),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        },
    };
    let mut bytes = vec![0; 64 << 10];
    let count = opened.read(&mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_and_end_are_kept() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut log = BuildLog::new(file.reopen().unwrap());
        log.note("first");
        let line = [b'x'; 1 << 16];
        for _ in 0..200 {
            log.write_all(&line).unwrap();
        }
        log.note("last");
        log.finish();
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert!(text.starts_with("== first\n") && text.ends_with("== last\n"));
        assert!(text.contains("bytes are left out") && text.len() < (9 << 20), "{}", text.len());
    }
}
