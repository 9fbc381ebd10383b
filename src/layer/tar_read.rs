//! Reads foreign tar archives: ustar, pax, GNU (long names, sparse files), star and V7.
//!
//! Strict where programs are known to disagree, since an archive that two
//! readers see differently is a way to smuggle: lengths in pax headers are
//! believed (values may hold newlines), an archive must have an end marker
//! and nothing after it, one entry has one long name. Where it matters it does
//! as Go's archive/tar, which docker reads with: sizes of links and devices
//! are ignored, and so is what a global pax header says. Memory is bounded by
//! [`Limits`]. Names are handed on as they are; `unpack` judges them. What a field
//! says is read by `tar_fields`.
//!
//! The `tar` crate (0.4.46) reads none of this well enough: it splits pax
//! records at newlines, so that a binary attribute hides the records after it,
//! takes long names of any length into memory, writes the map of pax sparse
//! files into the file, and takes a truncated archive for a whole one. It
//! serves the tests as a second opinion.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Seek;

use super::LayerError;
use super::error::shown;
use super::tar_fields::{BLOCK, Pax, checksum_matches, decimal, header_name, number, pax_time, text};

/// The most bytes one pax header or GNU long name may have; a path has 4096, a value 65536.
const MAX_EXTENSION: u64 = 4 << 20;

/// How many bytes are read at once: inflate copies its window of 32 KiB each time.
const BUFFER: usize = 256 * 1024;

/// The most parts a sparse file may have.
const MAX_SPARSE_PARTS: usize = 1 << 20;

/// How much an archive may hold before it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub entries: u64,
    /// The sum of the files' lengths, holes included, in bytes.
    pub bytes: u64,
    /// The sum of the holes of sparse files, in bytes: they cost nothing in the archive.
    pub hole_bytes: u64,
}

impl Default for Limits {
    /// Ten million entries, 4 TiB of files, 256 GiB of holes.
    fn default() -> Limits {
        Limits { entries: 10_000_000, bytes: 4 << 40, hole_bytes: 256 << 30 }
    }
}

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    File,
    Directory,
    Symlink,
    HardLink,
    CharDevice,
    BlockDevice,
    Fifo,
}

/// One entry, as the archive describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarEntry {
    pub kind: EntryKind,
    /// The bytes of the name, not cleaned in any way.
    pub name: Vec<u8>,
    /// The target of a symbolic link, or the name of the entry a hard link repeats.
    pub link: Vec<u8>,
    /// `mode & 0o7777`.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime_seconds: i64,
    pub mtime_nanos: u32,
    /// The length of the file once unpacked, in bytes; 0 for all but regular files.
    pub size: u64,
    pub major: u32,
    pub minor: u32,
    /// From `SCHILY.xattr.*` records.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// For a sparse file, offset and length of each part that is in the archive, in order.
    pub sparse: Option<Vec<(u64, u64)>>,
}

/// Offset and length of each stored part of a sparse file, and the file's whole length.
type SparseMap = (Vec<(u64, u64)>, u64);

/// Reads an archive entry by entry.
pub struct TarReader<R> {
    inner: BufReader<R>,
    limits: Limits,
    position: u64,
    /// How many bytes of the current entry's data have not been read.
    left: u64,
    padding: u64,
    entries: u64,
    bytes: u64,
    hole_bytes: u64,
    current: Vec<u8>,
    ended: bool,
    may_just_end: bool,
}

impl<R: Read + Seek> TarReader<R> {
    /// Passes over what is left of the current entry without reading it.
    ///
    /// That the archive ends inside it is an error only of what is read next.
    pub fn seek_past_data(&mut self) -> Result<(), LayerError> {
        let left = self.left.saturating_add(self.padding);
        let distance = i64::try_from(left).map_err(|_| self.truncated())?;
        self.inner.seek_relative(distance).map_err(|e| self.failed(e))?;
        self.position += left;
        (self.left, self.padding) = (0, 0);
        Ok(())
    }
}

impl<R: Read> TarReader<R> {
    /// Starts reading an uncompressed archive.
    pub fn new(reader: R, limits: Limits) -> TarReader<R> {
        TarReader {
            inner: BufReader::with_capacity(BUFFER, reader),
            limits,
            position: 0,
            left: 0,
            padding: 0,
            entries: 0,
            bytes: 0,
            hole_bytes: 0,
            current: Vec::new(),
            ended: false,
            may_just_end: false,
        }
    }

    /// Takes an archive without an end marker for whole, where it ends between two entries.
    ///
    /// For one whose length and digest are known from elsewhere: some programs write layers so, and Go's
    /// archive/tar reads them.
    pub fn may_just_end(mut self) -> TarReader<R> {
        self.may_just_end = true;
        self
    }

    /// Returns the next entry; what is left of the one before is skipped.
    ///
    /// `None` is the end: the archive was read to the last byte of its reader,
    /// so a digest taken below covers all of it.
    pub fn next_entry(&mut self) -> Result<Option<TarEntry>, LayerError> {
        if self.ended {
            return Ok(None);
        }
        let mut pax: Option<Pax> = None;
        let mut long_name: Option<Vec<u8>> = None;
        let mut long_link: Option<Vec<u8>> = None;
        loop {
            self.skip_data()?;
            let at = self.position;
            let Some(block) = self.header()? else {
                if pax.is_some() || long_name.is_some() || long_link.is_some() {
                    return Err(self.bad(at, "a pax header or long name is not followed by an entry"));
                }
                return Ok(None);
            };
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(LayerError::Limit { limit: self.limits.entries, what: "entries" });
            }
            let stored = number(&block[124..136]).and_then(|n| u64::try_from(n).ok());
            let stored = stored.ok_or_else(|| self.bad(at, "the size is no number"))?;
            match block[156] {
                b'x' | b'X' => {
                    let bytes = self.extension(at, stored)?;
                    let parsed = Pax::parse(&bytes).map_err(|why| self.bad(at, why))?;
                    if pax.replace(parsed).is_some() {
                        return Err(self.bad(at, "two pax headers describe the same entry"));
                    }
                }
                b'g' => {
                    let bytes = self.extension(at, stored)?;
                    Pax::parse(&bytes).map_err(|why| self.bad(at, why))?;
                }
                b'L' | b'K' => {
                    let bytes = text(&self.extension(at, stored)?).to_vec();
                    let slot = if block[156] == b'L' { &mut long_name } else { &mut long_link };
                    if slot.replace(bytes).is_some() {
                        return Err(self.bad(at, "two long names describe the same entry"));
                    }
                }
                // GNU's volume label is no file.
                b'V' => self.expect_data(stored),
                _ => {
                    let pax = pax.take().unwrap_or_default();
                    let entry = self.entry(at, &block, stored, &pax, long_name.take(), long_link.take())?;
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// Reads bytes of the current entry as they are stored (without the holes); 0 at the end of the entry.
    pub fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, LayerError> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        loop {
            match self.inner.read(&mut buffer[..want]) {
                Ok(0) => return Err(self.truncated()),
                Ok(n) => {
                    self.left -= n as u64;
                    self.position += n as u64;
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed(e)),
            }
        }
    }

    /// Returns how many bytes of the archive were taken: after `next_entry`, where its data begins.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Reads the header block at the current position; `None` at the end marker.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, LayerError> {
        let at = self.position;
        let mut block = [0u8; BLOCK];
        self.current.clear();
        match self.fill(&mut block)? {
            0 if self.may_just_end => {
                self.ended = true;
                return Ok(None);
            }
            0 if at == 0 => return Err(LayerError::Empty),
            0 => return Err(LayerError::NoEndMarker { offset: at }),
            BLOCK => {}
            _ if at == 0 => return Err(LayerError::NotTar),
            _ => return Err(LayerError::Truncated { offset: self.position, inside: "a header".to_owned() }),
        }
        if block.iter().all(|&b| b == 0) {
            self.read_to_end()?;
            return Ok(None);
        }
        match checksum_matches(&block) {
            true => Ok(Some(block)),
            false if at == 0 => Err(LayerError::NotTar),
            false => Err(self.bad(at, "the checksum is wrong")),
        }
    }

    /// Reads on after the first block of zeros: nothing but zeros may follow.
    fn read_to_end(&mut self) -> Result<(), LayerError> {
        loop {
            let position = self.position;
            let chunk = match self.inner.fill_buf() {
                Ok(chunk) => chunk,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.failed(e)),
            };
            if chunk.is_empty() {
                self.ended = true;
                return Ok(());
            }
            if let Some(i) = chunk.iter().position(|&b| b != 0) {
                return Err(LayerError::TrailingData { offset: position + i as u64 });
            }
            let length = chunk.len();
            self.inner.consume(length);
            self.position += length as u64;
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, LayerError> {
        let mut done = 0;
        while done < buffer.len() {
            match self.inner.read(&mut buffer[done..]) {
                Ok(0) => break,
                Ok(n) => {
                    done += n;
                    self.position += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed(e)),
            }
        }
        Ok(done)
    }

    fn expect_data(&mut self, stored: u64) {
        self.left = stored;
        self.padding = (BLOCK as u64 - stored % BLOCK as u64) % BLOCK as u64;
    }

    /// Reads the data of a pax header or a long name.
    fn extension(&mut self, at: u64, stored: u64) -> Result<Vec<u8>, LayerError> {
        if stored > MAX_EXTENSION {
            let why = format!("a pax header or long name has {stored} bytes; {MAX_EXTENSION} are allowed");
            return Err(self.bad(at, why));
        }
        self.expect_data(stored);
        let mut bytes = Vec::new();
        let mut chunk = [0u8; 4096];
        loop {
            match self.read_data(&mut chunk)? {
                0 => return Ok(bytes),
                n => bytes.extend_from_slice(&chunk[..n]),
            }
        }
    }

    fn skip_data(&mut self) -> Result<(), LayerError> {
        self.left += std::mem::take(&mut self.padding);
        while self.left > 0 {
            let available = match self.inner.fill_buf() {
                Ok(chunk) => chunk.len(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.failed(e)),
            };
            if available == 0 {
                return Err(self.truncated());
            }
            let n = available.min(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.inner.consume(n);
            self.left -= n as u64;
            self.position += n as u64;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        at: u64,
        block: &[u8; BLOCK],
        stored: u64,
        pax: &Pax,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<TarEntry, LayerError> {
        let bad = |why: String| LayerError::Header { offset: at, why };
        let posix = &block[257..263] == b"ustar\0";
        let gnu = &block[257..265] == b"ustar  \0";
        let pax_name = pax.text("GNU.sparse.name").map_err(bad)?.or(pax.text("path").map_err(bad)?);
        let name = match (long_name, pax_name) {
            (Some(name), _) => name,
            (None, Some(name)) => name.to_vec(),
            (None, None) => header_name(block, posix),
        };
        self.current.clone_from(&name);
        let link = match (long_link, pax.text("linkpath").map_err(bad)?) {
            (Some(link), _) => link,
            (None, Some(link)) => link.to_vec(),
            (None, None) => text(&block[157..257]).to_vec(),
        };
        let id = |key: &str, field: &[u8]| -> Result<u32, LayerError> {
            let value = match pax.number(key).map_err(bad)? {
                Some(value) => Some(value),
                None => number(field).and_then(|n| u64::try_from(n).ok()),
            };
            // chown(2) takes the largest number as "leave it".
            let value = value.and_then(|v| u32::try_from(v).ok()).filter(|&v| v != u32::MAX);
            value.ok_or_else(|| LayerError::entry(&name, format!("the {key} is no user or group number")))
        };
        let uid = id("uid", &block[108..116])?;
        let gid = id("gid", &block[116..124])?;
        let (mtime_seconds, mtime_nanos) = match pax.get("mtime") {
            Some(value) => pax_time(value)
                .ok_or_else(|| LayerError::entry(&name, "the pax record `mtime` is no time"))?,
            None => {
                let seconds = number(&block[136..148]);
                (seconds.ok_or_else(|| LayerError::entry(&name, "the time is no number"))?, 0)
            }
        };
        let mode =
            number(&block[100..108]).ok_or_else(|| LayerError::entry(&name, "the mode is no number"))?;
        let flag = block[156];
        let kind = match flag {
            // V7 marks a directory by its name alone.
            0 | b'0' if name.ends_with(b"/") => EntryKind::Directory,
            0 | b'0' | b'7' | b'S' => EntryKind::File,
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::Symlink,
            b'3' => EntryKind::CharDevice,
            b'4' => EntryKind::BlockDevice,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            other => {
                let why = format!("entries of type `{}` are not supported", other.escape_ascii());
                return Err(LayerError::entry(&name, why));
            }
        };
        let is_device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice);
        let device = |field: &[u8]| -> Result<u32, LayerError> {
            if !is_device {
                return Ok(0);
            }
            let value = if posix || gnu { number(field) } else { Some(0) };
            let value = value.and_then(|v| u32::try_from(v).ok());
            value.ok_or_else(|| LayerError::entry(&name, "the device is no number"))
        };
        let mut entry = TarEntry {
            kind,
            link,
            mode: (mode & 0o7777) as u32,
            uid,
            gid,
            mtime_seconds,
            mtime_nanos,
            size: 0,
            major: device(&block[329..337])?,
            minor: device(&block[337..345])?,
            xattrs: Vec::new(),
            sparse: None,
            name,
        };
        for (key, value) in &pax.0 {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                entry.xattrs.retain(|(n, _)| n != name);
                entry.xattrs.push((name.to_vec(), value.clone()));
            }
        }
        if kind == EntryKind::File {
            let stored = pax.number("size").map_err(bad)?.unwrap_or(stored);
            self.expect_data(stored);
            self.file_size(block, pax, stored, &mut entry)?;
        } else if flag == 0 || flag == b'0' {
            self.expect_data(pax.number("size").map_err(bad)?.unwrap_or(stored));
        }
        Ok(entry)
    }

    /// Finds out how long a regular file is and which parts of it are stored.
    fn file_size(
        &mut self,
        block: &[u8; BLOCK],
        pax: &Pax,
        stored: u64,
        entry: &mut TarEntry,
    ) -> Result<(), LayerError> {
        let fail = |entry: &TarEntry, why: String| LayerError::entry(&entry.name, why);
        entry.size = stored;
        let parts = match block[156] {
            b'S' => Some(self.gnu_parts(block, stored, entry)?),
            _ => self.pax_parts(pax, entry)?,
        };
        if let Some((parts, real)) = parts {
            entry.size = real;
            let mut end = 0u64;
            let mut held = 0u64;
            for &(offset, length) in &parts {
                let next = offset.checked_add(length).filter(|&next| next <= real && offset >= end);
                end = next.ok_or_else(|| {
                    fail(entry, "the parts of the sparse file overlap or lie outside it".to_owned())
                })?;
                held += length;
            }
            if held != self.left {
                return Err(fail(entry, "the parts of the sparse file are not those stored".to_owned()));
            }
            self.hole_bytes = self.hole_bytes.saturating_add(real - held);
            if self.hole_bytes > self.limits.hole_bytes {
                return Err(LayerError::Limit {
                    limit: self.limits.hole_bytes,
                    what: "bytes of holes in sparse files",
                });
            }
            entry.sparse = Some(parts.into_iter().filter(|&(_, length)| length > 0).collect());
        }
        self.bytes = self.bytes.saturating_add(entry.size);
        match self.bytes > self.limits.bytes || i64::try_from(entry.size).is_err() {
            true => Err(LayerError::Limit { limit: self.limits.bytes, what: "bytes of files" }),
            false => Ok(()),
        }
    }

    /// Reads the map of GNU's old sparse format: four parts in the header, more in blocks after it.
    fn gnu_parts(
        &mut self,
        block: &[u8; BLOCK],
        stored: u64,
        entry: &TarEntry,
    ) -> Result<SparseMap, LayerError> {
        let bad = || LayerError::entry(&entry.name, "the map of the sparse file is damaged");
        let unsigned = |field: &[u8]| number(field).and_then(|n| u64::try_from(n).ok()).ok_or_else(bad);
        let mut parts = Vec::new();
        let mut read_parts = |fields: &[u8]| -> Result<(), LayerError> {
            for field in fields.chunks_exact(24) {
                // A part without bytes may still mark the end of the file.
                if field[0] == 0 {
                    break;
                }
                parts.push((unsigned(&field[..12])?, unsigned(&field[12..])?));
            }
            match parts.len() > MAX_SPARSE_PARTS {
                true => {
                    Err(LayerError::Limit { limit: MAX_SPARSE_PARTS as u64, what: "parts in a sparse file" })
                }
                false => Ok(()),
            }
        };
        read_parts(&block[386..482])?;
        let real = unsigned(&block[483..495])?;
        let mut more = block[482] != 0;
        while more {
            let mut extra = [0u8; BLOCK];
            if self.fill(&mut extra)? != BLOCK {
                return Err(self.truncated());
            }
            read_parts(&extra[..504])?;
            more = extra[504] != 0;
        }
        self.expect_data(stored);
        Ok((parts, real))
    }

    /// Reads the map of GNU's sparse formats 0.0, 0.1 and 1.0, which pax headers announce.
    fn pax_parts(&mut self, pax: &Pax, entry: &TarEntry) -> Result<Option<SparseMap>, LayerError> {
        let bad = |why: String| LayerError::entry(&entry.name, why);
        let damaged = || LayerError::entry(&entry.name, "the map of the sparse file is damaged");
        let version = (pax.get("GNU.sparse.major"), pax.get("GNU.sparse.minor"));
        let size = pax.number("GNU.sparse.size").map_err(bad)?;
        let real = pax.number("GNU.sparse.realsize").map_err(bad)?.or(size);
        let mut numbers = Vec::new();
        match version {
            (Some(b"1"), Some(b"0")) => self.stored_map(&mut numbers, entry)?,
            (None | Some(b"0"), None | Some(b"0" | b"1")) => match pax.get("GNU.sparse.map") {
                Some(map) => {
                    for field in map.split(|&b| b == b',') {
                        numbers.push(decimal(field).ok_or_else(damaged)?);
                    }
                }
                None => {
                    for (key, value) in &pax.0 {
                        if key == b"GNU.sparse.offset" || key == b"GNU.sparse.numbytes" {
                            numbers.push(decimal(value).ok_or_else(damaged)?);
                        }
                    }
                    if numbers.is_empty() && real.is_none() {
                        return Ok(None);
                    }
                }
            },
            _ => return Err(bad("this version of GNU's sparse format is not supported".to_owned())),
        }
        if numbers.len() % 2 != 0 || numbers.len() / 2 > MAX_SPARSE_PARTS {
            return Err(damaged());
        }
        let parts = numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        Ok(Some((parts, real.ok_or_else(damaged)?)))
    }

    /// Reads format 1.0's map: decimal lines at the start of the data, filled up to a block.
    fn stored_map(&mut self, numbers: &mut Vec<u64>, entry: &TarEntry) -> Result<(), LayerError> {
        let damaged = || LayerError::entry(&entry.name, "the map of the sparse file is damaged");
        let mut want = None;
        let mut line = Vec::new();
        while want.is_none_or(|want| numbers.len() < want) {
            let mut block = [0u8; BLOCK];
            let mut got = 0;
            while got < BLOCK {
                match self.read_data(&mut block[got..])? {
                    0 => return Err(damaged()),
                    n => got += n,
                }
            }
            for &byte in &block {
                if byte != b'\n' {
                    line.push(byte);
                    if line.len() > 20 {
                        // Zeros that fill the last block; too long a number otherwise.
                        break;
                    }
                    continue;
                }
                let value = decimal(&line).ok_or_else(damaged)?;
                line.clear();
                match want {
                    None if value > MAX_SPARSE_PARTS as u64 => return Err(damaged()),
                    None => want = Some(value as usize * 2),
                    Some(_) => numbers.push(value),
                }
                if want == Some(numbers.len()) {
                    break;
                }
            }
            if line.len() > 20 {
                return Err(damaged());
            }
        }
        Ok(())
    }

    fn bad(&self, offset: u64, why: impl Into<String>) -> LayerError {
        LayerError::Header { offset, why: why.into() }
    }

    fn truncated(&self) -> LayerError {
        let inside = match self.current.is_empty() {
            true => "a header".to_owned(),
            false => format!("`{}`", shown(&self.current)),
        };
        LayerError::Truncated { offset: self.position, inside }
    }

    /// Tells a compressed stream that ends too early from other failures.
    fn failed(&self, source: io::Error) -> LayerError {
        match source.kind() {
            io::ErrorKind::UnexpectedEof => self.truncated(),
            _ => LayerError::Read { offset: self.position, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn never_panics(mut bytes: Vec<u8>, flag: u8, fix in 0usize..3) {
            // Random bytes never have a right checksum: give them one.
            bytes.resize(bytes.len().max(512 * 3), 0);
            for start in (0..fix * 512).step_by(512) {
                let block = &mut bytes[start..start + 512];
                block[156] = b"xgLKSV0123567"[usize::from(flag) % 13];
                block[124..136].copy_from_slice(b"00000000100\0");
                block[148..156].fill(b' ');
                let sum: u64 = block.iter().map(|&b| u64::from(b)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
            let mut reader = TarReader::new(&bytes[..], Limits::default());
            while let Ok(Some(_)) = reader.next_entry() {}
            let _ = Pax::parse(&bytes);
        }
    }
}
