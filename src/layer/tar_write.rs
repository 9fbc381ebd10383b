//! The deterministic tar of a layer: the bytes whose SHA-256 is its DiffID.
//!
//! POSIX ustar headers, with a pax header (POSIX.1-2024, pax) only for what
//! ustar cannot say. Every field is fixed by the file alone: no user or group
//! names, whole seconds, sorted pax records, two blocks of zeros at the end.
//! These bytes name images for ever, so they are made here and not by a crate
//! whose next version may choose another form. Not here: compression, and
//! which files a layer has (`walk`).

use std::io::Write;

use crate::sys::{OverlayXattrs, RootDir};

use super::LayerError;
use super::entry::{Entry, Kind, OPAQUE_NAME, Sink, WHITEOUT_PREFIX};
use super::walk::walk;

/// The size of a tar block, in bytes.
const BLOCK: usize = 512;

/// Writes the deterministic tar of an upper directory.
pub fn write_layer(upper: &RootDir, xattrs: OverlayXattrs, out: &mut impl Write) -> Result<(), LayerError> {
    let mut tar = TarSink::new(out);
    walk(upper, xattrs, &mut tar)?;
    tar.finish()?;
    Ok(())
}

/// Writes entries as tar.
pub(super) struct TarSink<W> {
    out: W,
    written: u64,
    /// How many bytes of the current file are still to come.
    left: u64,
    padding: usize,
    scratch: Vec<u8>,
}

impl<W: Write> TarSink<W> {
    pub fn new(out: W) -> TarSink<W> {
        TarSink { out, written: 0, left: 0, padding: 0, scratch: Vec::new() }
    }

    /// Writes the end marker; returns the receiver and the number of bytes it was given.
    pub fn finish(mut self) -> Result<(W, u64), LayerError> {
        debug_assert_eq!(self.left, 0, "a file's bytes are missing");
        self.put(&[0; 2 * BLOCK])?;
        Ok((self.out, self.written))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        self.out.write_all(bytes).map_err(|source| LayerError::Write { source })?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

impl<W: Write> Sink for TarSink<W> {
    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), LayerError> {
        debug_assert_eq!(self.left, 0, "a file's bytes are missing");
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        encode(entry, &mut bytes);
        self.put(&bytes)?;
        self.scratch = bytes;
        self.left = entry.size;
        self.padding = padding(entry.size);
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        self.put(bytes)?;
        self.left =
            self.left.checked_sub(bytes.len() as u64).expect("the walk gives as many bytes as it said");
        if self.left == 0 {
            self.put(&[0; BLOCK][..self.padding])?;
        }
        Ok(())
    }
}

/// Returns how many zeros fill up the last block of `size` bytes.
fn padding(size: u64) -> usize {
    (BLOCK as u64 - size % BLOCK as u64) as usize % BLOCK
}

/// Appends the header blocks of an entry.
fn encode(entry: &Entry<'_>, out: &mut Vec<u8>) {
    let name = tar_name(entry);
    let (prefix, short) = match split_name(&name) {
        Some(parts) => parts,
        None => (&b""[..], &name[..100]),
    };
    let mut pax: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let number = |pax: &mut Vec<_>, key: &[u8], value: i128, max: u64| -> u64 {
        match u64::try_from(value) {
            Ok(fits) if fits <= max => fits,
            _ => {
                pax.push((key.to_vec(), value.to_string().into_bytes()));
                0
            }
        }
    };
    const MAX_7: u64 = 0o777_7777;
    const MAX_11: u64 = 0o777_7777_7777;
    let uid = number(&mut pax, b"uid", entry.uid.into(), MAX_7);
    let gid = number(&mut pax, b"gid", entry.gid.into(), MAX_7);
    let size = number(&mut pax, b"size", entry.size.into(), MAX_11);
    let mtime = number(&mut pax, b"mtime", entry.mtime_seconds.into(), MAX_11);
    if split_name(&name).is_none() {
        pax.push((b"path".to_vec(), name.clone()));
    }
    if entry.link.len() > 100 {
        pax.push((b"linkpath".to_vec(), entry.link.to_vec()));
    }
    for (key, value) in entry.xattrs {
        pax.push(([b"SCHILY.xattr.", key.as_slice()].concat(), value.clone()));
    }
    if !pax.is_empty() {
        pax.sort();
        let mut records = Vec::new();
        for (key, value) in &pax {
            pax_record(key, value, &mut records);
        }
        let mut header = Block::new();
        header.name(b"", &pax_header_name(&name));
        header.numbers(0o644, 0, 0, records.len() as u64, 0);
        header.finish(b'x', out);
        out.extend_from_slice(&records);
        out.resize(out.len() + padding(records.len() as u64), 0);
    }
    let mut header = Block::new();
    header.name(prefix, short);
    header.numbers(entry.mode, uid, gid, size, mtime);
    header.link(entry.link);
    header.device(entry.major, entry.minor);
    header.finish(type_flag(entry.kind), out);
}

fn type_flag(kind: Kind) -> u8 {
    match kind {
        Kind::File | Kind::Whiteout | Kind::Opaque => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

/// Returns the name an entry has in the tar: directories end in `/`, whiteouts have their prefix.
fn tar_name(entry: &Entry<'_>) -> Vec<u8> {
    let mut name = entry.path.to_vec();
    match entry.kind {
        Kind::Directory => name.push(b'/'),
        Kind::Whiteout => {
            let start = name.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
            name.splice(start..start, WHITEOUT_PREFIX.iter().copied());
        }
        Kind::Opaque => match name == b"." {
            true => name = OPAQUE_NAME.to_vec(),
            false => {
                name.push(b'/');
                name.extend_from_slice(OPAQUE_NAME);
            }
        },
        _ => {}
    }
    name
}

/// Splits a name into ustar's prefix (at most 155 bytes) and name (1 to 100); `None` where it does not fit.
fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= 100 {
        return Some((b"", name));
    }
    // The first slash that leaves a short enough name; a directory's last slash does not split.
    let from = name.len() - 101;
    let slash = name[from..name.len() - 1].iter().position(|&b| b == b'/')? + from;
    (1..=155).contains(&slash).then(|| (&name[..slash], &name[slash + 1..]))
}

/// Returns the name of a pax header, seen only by programs that do not know such headers.
fn pax_header_name(name: &[u8]) -> Vec<u8> {
    let trimmed = name.strip_suffix(b"/").unwrap_or(name);
    let base = trimmed.rsplit(|&b| b == b'/').next().unwrap_or_default();
    let mut out = b"PaxHeaders.0/".to_vec();
    out.extend(base.iter().take(80).map(|&b| if b.is_ascii_graphic() { b } else { b'_' }));
    out
}

/// Appends `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn pax_record(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// A ustar header being filled in (POSIX.1-2024, pax, "ustar Header Block").
struct Block([u8; BLOCK]);

impl Block {
    fn new() -> Block {
        let mut block = Block([0; BLOCK]);
        block.0[257..265].copy_from_slice(b"ustar\x0000");
        block.octal(329, 8, 0);
        block.octal(337, 8, 0);
        block
    }

    fn octal(&mut self, at: usize, width: usize, value: u64) {
        let digits = format!("{value:0width$o}", width = width - 1);
        debug_assert_eq!(digits.len(), width - 1, "numbers are checked to fit");
        self.0[at..at + digits.len()].copy_from_slice(digits.as_bytes());
    }

    fn name(&mut self, prefix: &[u8], name: &[u8]) {
        self.0[..name.len()].copy_from_slice(name);
        self.0[345..345 + prefix.len()].copy_from_slice(prefix);
    }

    fn numbers(&mut self, mode: u32, uid: u64, gid: u64, size: u64, mtime: u64) {
        self.octal(100, 8, mode.into());
        self.octal(108, 8, uid);
        self.octal(116, 8, gid);
        self.octal(124, 12, size);
        self.octal(136, 12, mtime);
    }

    fn link(&mut self, link: &[u8]) {
        let length = link.len().min(100);
        self.0[157..157 + length].copy_from_slice(&link[..length]);
    }

    fn device(&mut self, major: u32, minor: u32) {
        self.octal(329, 8, major.into());
        self.octal(337, 8, minor.into());
    }

    fn finish(mut self, type_flag: u8, out: &mut Vec<u8>) {
        self.0[156] = type_flag;
        self.0[148..156].fill(b' ');
        let sum: u64 = self.0.iter().map(|&b| u64::from(b)).sum();
        let digits = format!("{sum:06o}\0 ");
        self.0[148..156].copy_from_slice(digits.as_bytes());
        out.extend_from_slice(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;

    #[test]
    fn splits_names_as_ustar_has_it() {
        let check = |name: String, expect: Option<(usize, usize)>| {
            let lengths = split_name(name.as_bytes()).map(|(p, n)| (p.len(), n.len()));
            assert_eq!(lengths, expect, "{name}");
        };
        check("a".repeat(100), Some((0, 100)));
        check("a".repeat(101), None);
        check(format!("{}/{}", "p".repeat(155), "n".repeat(100)), Some((155, 100)));
        check(format!("{}/{}", "p".repeat(156), "n".repeat(100)), None);
        check(format!("{}/{}/", "p".repeat(10), "n".repeat(99)), Some((10, 100)));
        check(format!("{}/", "p".repeat(100)), None);
        check(format!("/{}", "p".repeat(100)), None);
    }

    #[test]
    fn pax_lengths_count_themselves() {
        for (key, value, expect) in
            [("a", "b", "6 a=b\n"), ("path", "123", "12 path=123\n"), ("aa", "bbb", "9 aa=bbb\n")]
        {
            let mut out = Vec::new();
            pax_record(key.as_bytes(), value.as_bytes(), &mut out);
            assert_eq!(out, expect.as_bytes());
            assert!(expect.starts_with(&expect.len().to_string()));
        }
        let mut out = Vec::new();
        pax_record(b"k", &[b'v'; 94], &mut out);
        assert_eq!((out.len(), &out[..4]), (101, &b"101 "[..]));
    }

    /// The bytes of a layer's tar name images: they must never change.
    #[test]
    fn the_form_is_pinned() {
        let mut tar = TarSink::new(Vec::new());
        let base =
            Entry { mode: 0o755, mtime_seconds: 1_700_000_000, ..Entry::bare(Kind::Directory, b"etc") };
        let long = [b"d/".repeat(140), b"\xff\xfe name\n".to_vec()].concat();
        let xattrs = [(b"user.x".to_vec(), b"a\n\0b".to_vec())];
        for entry in [
            base,
            Entry::bare(Kind::Opaque, b"etc"),
            Entry { kind: Kind::File, path: b"etc/f", mode: 0o4755, size: 3, xattrs: &xattrs, ..base },
        ] {
            tar.entry(&entry).unwrap();
        }
        tar.data(b"abc").unwrap();
        for entry in [
            Entry { kind: Kind::HardLink, path: b"etc/g", link: b"etc/f", ..base },
            Entry::bare(Kind::Whiteout, b"etc/gone"),
            Entry { kind: Kind::Symlink, path: b"l", link: &long, mode: 0o777, uid: 3_000_000, ..base },
            Entry { kind: Kind::CharDevice, path: b"null", major: 1, minor: 3, mtime_seconds: -7, ..base },
            Entry { kind: Kind::Fifo, path: &long, gid: 4_000_000_000, ..base },
        ] {
            tar.entry(&entry).unwrap();
        }
        let (bytes, written) = tar.finish().unwrap();
        assert_eq!(bytes.len() as u64, written);
        assert_eq!(
            Digest::of(&bytes).to_string(),
            "sha256:46250356e9c6bb332ecf39f8f0532ec6a1e9d53a05704d3bf6915c77ade598e2"
        );
        let empty = TarSink::new(Vec::new()).finish().unwrap().0;
        // The DiffID of docker's empty layer, known to every registry.
        assert_eq!(
            Digest::of(empty).to_string(),
            "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
        );
    }
}
