//! The outer tar of an image archive: few entries, fixed headers, bodies streamed.
//!
//! ustar (POSIX.1-2024, pax, "ustar Interchange Format"): the reader may be
//! any tool. Owner 0:0, time 0, so that equal images are equal bytes.

use std::io::{self, Write};

use crate::image::Digest;

use crate::content::DigestWriter;

const BLOCK: usize = 512;

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
        self.header(name, tar::EntryType::Directory, 0o755, 0)
    }

    /// Writes a file.
    pub fn file(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.header(name, tar::EntryType::Regular, 0o644, bytes.len() as u64)?;
        self.out.write_all(bytes)?;
        self.pad(bytes.len() as u64)
    }

    /// Writes a file whose bytes `write` gives; they must be `size` many.
    ///
    /// Returns what `write` returned and the digest of the bytes. Too few or too many are
    /// an `InvalidData` error; the stream is then of no use.
    pub fn stream<T, E: From<io::Error>>(
        &mut self,
        name: &str,
        size: u64,
        write: impl FnOnce(&mut dyn Write) -> Result<T, E>,
    ) -> Result<(T, Digest), E> {
        self.header(name, tar::EntryType::Regular, 0o644, size)?;
        let mut body = DigestWriter::new(&mut self.out);
        let value = write(&mut body)?;
        let (_, digest, count) = body.finish();
        if count != size {
            let message = format!("`{name}` has {count} bytes, not the {size} that were announced");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message).into());
        }
        self.pad(size)?;
        Ok((value, digest))
    }

    /// Writes the end marker.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn header(&mut self, name: &str, kind: tar::EntryType, mode: u32, size: u64) -> io::Result<()> {
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
        self.out.write_all(header.as_bytes())
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = (size % BLOCK as u64) as usize;
        match over {
            0 => Ok(()),
            _ => self.out.write_all(&[0; BLOCK][over..]),
        }
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
        let ((), digest) =
            tar.stream("blobs/b", 512, |out| -> io::Result<()> { out.write_all(&[7; 512]) }).unwrap();
        assert_eq!(digest, Digest::of([7; 512]));
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
