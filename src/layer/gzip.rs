//! gzip on several processors: parts of one size, compressed side by side, written in their order.
//!
//! A gzip file may have any number of members (RFC 1952, section 2.2), and every reader of layers takes
//! them for one stream. Where one ends depends on the bytes alone, so the output does not depend on the
//! number of processors. Less than one part is compressed where it is, without a thread.
//! What deflate would not make smaller is stored (RFC 1951, section 3.2.4) without trying. Not here: the
//! threads (`gzip_pool`).

use std::io::{self, Write};
use std::sync::Arc;

use libdeflater::{CompressionLvl, Compressor};

use super::gzip_pool::{Pool, Stream};
use super::incompressible::{Estimate, PIECE};

/// How many bytes are compressed together; part of the form that digests of packed layers name.
pub(super) const PART: usize = 256 * 1024;

/// The start of a member: deflate, no name, no time, an unknown operating system (RFC 1952, section 2.3).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// Compresses what is written to it.
pub struct ParallelGzip<W> {
    out: W,
    level: u32,
    /// What of the current part has come.
    part: Vec<u8>,
    pool: Arc<Pool>,
    stream: Option<Stream>,
}

impl<W: Write> ParallelGzip<W> {
    /// Makes a writer; `level` is 0 to 9. No thread is started before the second part.
    pub fn new(out: W, level: u32) -> ParallelGzip<W> {
        ParallelGzip::on(&Pool::of_process(), out, level)
    }

    pub(super) fn on(pool: &Arc<Pool>, out: W, level: u32) -> ParallelGzip<W> {
        ParallelGzip { out, level, part: Vec::new(), pool: pool.clone(), stream: None }
    }

    /// Writes what is still held back, and returns the receiver.
    pub fn finish(mut self) -> io::Result<W> {
        if self.stream.is_none() {
            let mut packed = Vec::new();
            Packer::new(self.level).pack(&self.part, &mut packed)?;
            self.out.write_all(&packed)?;
            return Ok(self.out);
        }
        self.send()?;
        while let Some(part) = self.stream.as_mut().and_then(Stream::receive) {
            self.out.write_all(&part?.packed)?;
        }
        Ok(self.out)
    }

    /// Has the part compressed, after the packed ones are written that must make room for it.
    fn send(&mut self) -> io::Result<()> {
        let stream = self.stream.get_or_insert_with(|| self.pool.stream(self.level));
        let mut empty = Vec::new();
        let place = loop {
            if let Some(place) = stream.place() {
                break place;
            }
            let Some(part) = stream.receive() else { continue };
            let part = part?;
            self.out.write_all(&part.packed)?;
            empty = part.buffer;
        };
        empty.clear();
        empty.reserve_exact(PART);
        stream.send(std::mem::replace(&mut self.part, empty), place)
    }
}

impl<W: Write> Write for ParallelGzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Only when more comes, so that the last part is never empty.
        if self.part.len() == PART && !bytes.is_empty() {
            self.send()?;
        }
        let count = bytes.len().min(PART - self.part.len());
        self.part.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    /// Writes nothing of the current part: where it ends must not depend on who flushes.
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Compresses parts, one at a time.
pub(super) struct Packer {
    level: u32,
    deflate: Compressor,
    room: Vec<u8>,
}

impl Packer {
    /// Makes one; `level` is 0 to 9.
    pub fn new(level: u32) -> Packer {
        let known = i32::try_from(level).ok().and_then(|level| CompressionLvl::new(level).ok());
        Packer { level, deflate: Compressor::new(known.unwrap_or_default()), room: Vec::new() }
    }

    pub fn level(&self) -> u32 {
        self.level
    }

    /// Appends a part as gzip members: one, or one for each run of what is stored and what is not.
    ///
    /// Their headers hold nothing of the clock or the machine.
    pub fn pack(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        // Who asks for all or nothing gets it.
        if !(1..9).contains(&self.level) {
            return self.squeeze(bytes, out);
        }
        let mut estimate = Estimate::new();
        let stored: Vec<bool> = bytes.chunks(PIECE).map(|piece| estimate.is_incompressible(piece)).collect();
        if stored.is_empty() {
            return self.squeeze(bytes, out);
        }
        let mut rest = bytes;
        for run in stored.chunk_by(|a, b| a == b) {
            let (now, later) = rest.split_at(rest.len().min(run.len() * PIECE));
            match run[0] {
                true => store(now, out),
                false => self.squeeze(now, out)?,
            }
            rest = later;
        }
        Ok(())
    }

    /// Appends a member of compressed bytes.
    fn squeeze(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let most = self.deflate.gzip_compress_bound(bytes.len());
        if self.room.len() < most {
            self.room.resize(most, 0);
        }
        let length = self.deflate.gzip_compress(bytes, &mut self.room).map_err(io::Error::other)?;
        out.extend_from_slice(&self.room[..length]);
        Ok(())
    }
}

/// Appends a member of stored blocks; there is at least one byte.
fn store(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&HEADER);
    let last = bytes.len().div_ceil(usize::from(u16::MAX)) - 1;
    for (number, block) in bytes.chunks(usize::from(u16::MAX)).enumerate() {
        let length = block.len() as u16;
        out.push(u8::from(number == last));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    out.extend_from_slice(&libdeflater::crc32(bytes).to_le_bytes());
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn packed(bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut gzip = ParallelGzip::new(Vec::new(), 4);
        for piece in bytes.chunks(piece) {
            gzip.write_all(piece).unwrap();
            gzip.flush().unwrap();
        }
        gzip.finish().unwrap()
    }

    fn pack(bytes: &[u8], level: u32) -> Vec<u8> {
        let mut out = Vec::new();
        Packer::new(level).pack(bytes, &mut out).unwrap();
        out
    }

    fn text(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * at / 1000) as u8).collect()
    }

    #[test]
    fn what_is_packed_is_read_back_however_it_came() {
        for length in [0, 1, PART - 1, PART, PART + 1, 3 * PART, 9 * PART + 5] {
            let bytes = text(length);
            let one = packed(&bytes, 4096);
            assert!(one == packed(&bytes, 700_001) && one == packed(&bytes, 64 << 20), "{length}");
            let mut back = Vec::new();
            flate2::read::MultiGzDecoder::new(one.as_slice()).read_to_end(&mut back).unwrap();
            assert!(back == bytes, "{length}");
            // Each part is compressed alone.
            let alone: Vec<u8> = bytes.chunks(PART).flat_map(|part| pack(part, 4)).collect();
            assert!(one == if length == 0 { pack(b"", 4) } else { alone }, "{length}");
        }
    }

    #[test]
    fn what_deflate_cannot_make_smaller_is_stored() {
        let mut state = 1u64;
        let mut noise = |length: usize| -> Vec<u8> {
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            };
            (0..length).map(|_| next()).collect()
        };
        let words = |length: usize| b"some words and ".iter().copied().cycle().take(length).collect();
        let parts: [Vec<u8>; 6] =
            [noise(100_000), words(100_000), noise(PIECE), words(7), noise(300_000), words(900_000)];
        for from in 0..parts.len() {
            for to in from..parts.len() {
                let bytes = parts[from..=to].concat();
                for level in [0, 1, 4, 8, 9] {
                    let packed = pack(&bytes, level);
                    let mut back = Vec::new();
                    flate2::read::MultiGzDecoder::new(packed.as_slice()).read_to_end(&mut back).unwrap();
                    assert!(back == bytes, "{from} to {to}, level {level}");
                    assert!(
                        packed.len() <= bytes.len() + bytes.len() / 500 + 50,
                        "{from} to {to}, level {level}"
                    );
                }
            }
        }
        // Blocks that are stored hold the very bytes.
        let noise = noise(4 * PIECE);
        let packed = pack(&noise, 4);
        assert!(packed.windows(PIECE).any(|window| *window == noise[..PIECE]));
        let mixed = pack(&[noise, words(200_000)].concat(), 4);
        assert!(mixed.len() < 4 * PIECE + 3000, "{}", mixed.len());
    }

    #[test]
    fn a_receiver_that_fails_ends_it() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut gzip = ParallelGzip::new(Full, 1);
        let written = gzip.write_all(&text(80 * PART));
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::StorageFull);
        let small = ParallelGzip::new(Full, 1);
        assert_eq!(small.finish().err().unwrap().kind(), io::ErrorKind::StorageFull);
    }
}
