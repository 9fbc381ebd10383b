//! The outer tar of an image archive: few entries, fixed headers, bodies streamed.
//!
//! ustar (POSIX.1-2024, pax, "ustar Interchange Format"): the reader may be
//! any tool. Owner 0:0, time 0, so that equal images are equal bytes. Bodies are checked by who gives
//! them. Not here: an archive whose parts are written side by side (`tar_places`).

use std::io::{self, Write};

pub(super) const BLOCK: usize = 512;

/// What ends an archive.
pub(super) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// What an entry of an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Directory,
    /// A file of so many bytes.
    File(u64),
}

impl Entry {
    /// Returns the block that comes before its bytes.
    pub fn header(self, name: &str) -> io::Result<[u8; BLOCK]> {
        let (kind, mode, size) = match self {
            Entry::Directory => (tar::EntryType::Directory, 0o755, 0),
            Entry::File(size) => (tar::EntryType::Regular, 0o644, size),
        };
        let mut header = tar::Header::new_ustar();
        header.set_path(name)?;
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        // Above 8 GiB the crate writes GNU's binary form, which every reader of today knows.
        header.set_size(size);
        header.set_cksum();
        Ok(*header.as_bytes())
    }

    /// Returns how many zeros fill up its last block.
    pub fn padding(self) -> usize {
        match self {
            Entry::Directory => 0,
            Entry::File(size) => (BLOCK - (size % BLOCK as u64) as usize) % BLOCK,
        }
    }
}

/// Says that a body does not have the length it was announced with.
pub(super) fn wrong_length(name: &str, count: u64, size: u64) -> io::Error {
    let message = format!("`{name}` has {count} bytes, not the {size} that were announced");
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Writes entries one after another.
pub(super) struct TarStream<W> {
    out: W,
}

impl<W: Write> TarStream<W> {
    /// Starts an archive.
    pub fn new(out: W) -> TarStream<W> {
        TarStream { out }
    }

    /// Writes a directory.
    pub fn directory(&mut self, name: &str) -> io::Result<()> {
        self.out.write_all(&Entry::Directory.header(name)?)
    }

    /// Writes a file.
    pub fn file(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.stream(name, bytes.len() as u64, |out| out.write_all(bytes))
    }

    /// Writes a file whose bytes `write` gives; they must be `size` many.
    ///
    /// Too few or too many are an `InvalidData` error; the stream is then of no use.
    pub fn stream<E: From<io::Error>>(
        &mut self,
        name: &str,
        size: u64,
        write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<(), E> {
        let entry = Entry::File(size);
        self.out.write_all(&entry.header(name)?)?;
        let mut body = Counted { out: &mut self.out, count: 0 };
        write(&mut body)?;
        if body.count != size {
            return Err(wrong_length(name, body.count, size).into());
        }
        Ok(self.out.write_all(&[0; BLOCK][..entry.padding()])?)
    }

    /// Writes the end marker.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&END)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

struct Counted<W> {
    out: W,
    count: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut tar = TarStream::new(Vec::new());
        tar.directory("blobs/").unwrap();
        tar.file("blobs/a", b"abc").unwrap();
        tar.stream("blobs/b", 512, |out| -> io::Result<()> { out.write_all(&[7; 512]) }).unwrap();
        let bytes = tar.finish().unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries: Vec<(String, u64, u64)> = archive
            .entries()
            .unwrap()
            .map(|e| {
                let e = e.unwrap();
                (e.path().unwrap().display().to_string(), e.size(), e.header().mtime().unwrap())
            })
            .collect();
        let expect = [("blobs/", 0, 0), ("blobs/a", 3, 0), ("blobs/b", 512, 0)];
        assert_eq!(entries, expect.map(|(n, s, t)| (n.to_owned(), s, t)));
    }

    #[test]
    fn a_body_of_another_length_is_an_error() {
        for length in [0, 1, 3] {
            let mut tar = TarStream::new(Vec::new());
            let body = vec![0; length];
            let result = tar.stream("a", 2, |out| -> io::Result<()> { out.write_all(&body) });
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
