//! The outer tar of an image archive in a file, its bodies written side by side.
//!
//! All lengths are known before, so every entry has its place: several threads write at once, and what
//! comes out is what `tar_stream` would write. Not here: what the bodies are (`export`).

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::ArchiveError;
use super::tar_stream::{BLOCK, END, Entry, wrong_length};

/// So many bodies are written at once at most.
const MOST_AT_ONCE: usize = 4;

/// Gives the bytes of one body.
type Body<'a> = Box<dyn Fn(&mut dyn Write) -> Result<(), ArchiveError> + Sync + 'a>;

/// An archive whose entries have their places.
#[derive(Default)]
pub(super) struct TarPlaces<'a> {
    length: u64,
    /// What is written as it stands, and where.
    fixed: Vec<(u64, Vec<u8>)>,
    bodies: Vec<Placed<'a>>,
}

struct Placed<'a> {
    name: String,
    start: u64,
    size: u64,
    body: Body<'a>,
}

impl<'a> TarPlaces<'a> {
    pub fn directory(&mut self, name: &str) -> io::Result<()> {
        self.header(name, Entry::Directory)
    }

    /// Adds a file.
    pub fn file(&mut self, name: &str, bytes: Vec<u8>) -> io::Result<()> {
        let entry = Entry::File(bytes.len() as u64);
        self.header(name, entry)?;
        self.fixed.push((self.length, bytes));
        self.pass(entry);
        Ok(())
    }

    /// Adds a file whose bytes `body` gives; they must be `size` many.
    pub fn stream(&mut self, name: &str, size: u64, body: Body<'a>) -> io::Result<()> {
        let entry = Entry::File(size);
        self.header(name, entry)?;
        self.bodies.push(Placed { name: name.to_owned(), start: self.length, size, body });
        self.pass(entry);
        Ok(())
    }

    /// Writes it all into an empty file.
    pub fn write(mut self, file: &File) -> Result<(), ArchiveError> {
        self.fixed.push((self.length, END.to_vec()));
        for (start, bytes) in &self.fixed {
            file.write_all_at(bytes, *start).map_err(ArchiveError::Write)?;
        }
        let next = AtomicUsize::new(0);
        let failure: Mutex<Option<ArchiveError>> = Mutex::new(None);
        let failure_of = || failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let work = || {
            while let Some(placed) = self.bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = placed.write(file) {
                    // The others need not start; the first error is told.
                    next.store(self.bodies.len(), Ordering::Relaxed);
                    failure_of().get_or_insert(error);
                }
            }
        };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 1..processors.min(MOST_AT_ONCE).min(self.bodies.len()) {
                // Where no more can be had, those that are there do the work.
                let _ = std::thread::Builder::new().name("save".to_owned()).spawn_scoped(scope, work);
            }
            work();
        });
        match failure_of().take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn header(&mut self, name: &str, entry: Entry) -> io::Result<()> {
        self.fixed.push((self.length, entry.header(name)?.to_vec()));
        self.length += BLOCK as u64;
        Ok(())
    }

    /// Counts what an entry has behind its header; zeros are what is not written.
    fn pass(&mut self, entry: Entry) {
        if let Entry::File(size) = entry {
            self.length += size + entry.padding() as u64;
        }
    }
}

impl Placed<'_> {
    fn write(&self, file: &File) -> Result<(), ArchiveError> {
        let mut out = Place { file, at: self.start, end: self.start + self.size, count: 0 };
        (self.body)(&mut out)?;
        match out.count == self.size {
            true => Ok(()),
            false => Err(ArchiveError::Write(wrong_length(&self.name, out.count, self.size))),
        }
    }
}

/// Writes to a part of a file, and counts what does not fit, too.
struct Place<'a> {
    file: &'a File,
    at: u64,
    end: u64,
    count: u64,
}

impl Write for Place<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        if fits == 0 {
            self.count += bytes.len() as u64;
            return Ok(bytes.len());
        }
        let count = self.file.write_at(&bytes[..fits], self.at)?;
        self.at += count as u64;
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tar_stream::TarStream;
    use super::*;

    #[test]
    fn it_is_what_a_stream_would_be() {
        let sizes = [0u64, 1, 511, 512, 513, 70_000, 3, 1_000_000];
        let bytes = |size: u64| vec![size as u8; size as usize];
        let (mut stream, mut places) = (TarStream::new(Vec::new()), TarPlaces::default());
        stream.directory("d/").unwrap();
        places.directory("d/").unwrap();
        for (number, size) in sizes.into_iter().enumerate() {
            let name = format!("d/{number}");
            stream.stream(&name, size, |out| out.write_all(&bytes(size))).unwrap();
            let body = move |out: &mut dyn Write| {
                bytes(size).chunks(1000).try_for_each(|part| out.write_all(part)).map_err(ArchiveError::Write)
            };
            places.stream(&name, size, Box::new(body)).unwrap();
        }
        stream.file("end", b"the end").unwrap();
        places.file("end", b"the end".to_vec()).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        places.write(file.as_file()).unwrap();
        assert!(std::fs::read(file.path()).unwrap() == stream.finish().unwrap());
    }

    #[test]
    fn a_body_of_another_length_is_an_error_and_touches_no_other() {
        for length in [0, 1, 3, 2000] {
            let mut places = TarPlaces::default();
            let body =
                move |out: &mut dyn Write| out.write_all(&vec![1; length]).map_err(ArchiveError::Write);
            places.stream("a", 2, Box::new(body)).unwrap();
            places.file("b", vec![2; 1024]).unwrap();
            let file = tempfile::NamedTempFile::new().unwrap();
            let error = places.write(file.as_file()).unwrap_err();
            assert!(crate::report::chain(&error).contains("not the 2 that were announced"), "{error}");
            assert!(std::fs::read(file.path()).unwrap()[3 * BLOCK..][..1024] == [2; 1024]);
        }
    }
}
