//! gzip on several processors: members of one size, compressed side by side, written in their order.
//!
//! A gzip file may have any number of members (RFC 1952, section 2.2), and every reader of layers takes
//! them for one stream. Where a member ends depends on the bytes alone, so the output does not depend
//! on the number of processors. Less than one member is compressed where it is, without a thread.
//! What deflate would not make smaller is stored (RFC 1951, section 3.2.4) without trying.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use super::incompressible::{Estimate, PIECE};

/// How many bytes a member holds; part of the form that digests of packed layers name.
const MEMBER: usize = 1 << 20;
/// The most threads of one stream: a member each has some megabytes.
const MOST_THREADS: usize = 4;
/// The stack of each in bytes, which counts as memory where that is limited: deflate's state is not on it.
const STACK: usize = 256 * 1024;

/// The start of a member: deflate, no name, no time, an unknown operating system (RFC 1952, section 2.3).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// How many bytes deflate may write at once at least.
const ROOM: usize = 32 * 1024;

/// Compresses what is written to it.
pub struct ParallelGzip<W> {
    out: W,
    level: Compression,
    /// What of the current member has come.
    member: Vec<u8>,
    pool: Option<Pool>,
    /// The members that are not written yet, in their order.
    waiting: VecDeque<Receiver<io::Result<Vec<u8>>>>,
}

impl<W: Write> ParallelGzip<W> {
    /// Makes a writer; no thread is started before the second member.
    pub fn new(out: W, level: Compression) -> ParallelGzip<W> {
        ParallelGzip { out, level, member: Vec::new(), pool: None, waiting: VecDeque::new() }
    }

    /// Writes what is still held back, and returns the receiver.
    pub fn finish(mut self) -> io::Result<W> {
        if self.pool.is_none() {
            let packed = pack(&self.member, self.level)?;
            self.out.write_all(&packed)?;
            return Ok(self.out);
        }
        self.send()?;
        while !self.waiting.is_empty() {
            self.receive()?;
        }
        Ok(self.out)
    }

    /// Gives the member to a thread.
    fn send(&mut self) -> io::Result<()> {
        if self.pool.is_none() {
            self.pool = Some(Pool::start(self.level)?);
        }
        let pool = self.pool.as_ref().expect("it was just started");
        // One each, and one to go on with: several streams of a push are in memory at once.
        while self.waiting.len() > pool.threads.len() {
            let packed = self.waiting.pop_front().map(take).expect("it is not empty")?;
            self.out.write_all(&packed)?;
        }
        let (reply, packed) = sync_channel(1);
        let bytes = std::mem::replace(&mut self.member, Vec::with_capacity(MEMBER));
        pool.send(Job { bytes, reply })?;
        self.waiting.push_back(packed);
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        let Some(packed) = self.waiting.pop_front() else { return Ok(()) };
        self.out.write_all(&take(packed)?)
    }
}

impl<W: Write> Write for ParallelGzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Only when more comes, so that the last member is never empty.
        if self.member.len() == MEMBER && !bytes.is_empty() {
            self.send()?;
        }
        let count = bytes.len().min(MEMBER - self.member.len());
        self.member.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    /// Writes nothing of the current member: where it ends must not depend on who flushes.
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Compresses one member; its header holds nothing of the clock or the machine.
pub(super) fn pack(bytes: &[u8], level: Compression) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len() / 2 + HEADER.len());
    out.extend_from_slice(&HEADER);
    // RFC 1952, section 2.3.1: whether the slowest or the fastest way was taken.
    out[8] = match level.level() {
        9 => 2,
        0 | 1 => 4,
        _ => 0,
    };
    let mut deflate = Compress::new(level, false);
    let mut rest = bytes;
    // Who asks for all or nothing gets it.
    if (1..9).contains(&level.level()) {
        let mut estimate = Estimate::new();
        let stored: Vec<bool> = bytes.chunks(PIECE).map(|piece| estimate.is_incompressible(piece)).collect();
        for run in stored.chunk_by(|a, b| a == b) {
            let (now, later) = rest.split_at(rest.len().min(run.len() * PIECE));
            if run[0] {
                store(now, &mut out);
            } else if later.is_empty() {
                break;
            } else {
                // Ends at a whole byte; what comes behind looks back to its own start at most.
                squeeze(&mut deflate, now, FlushCompress::Sync, &mut out)?;
                deflate.reset();
            }
            rest = later;
        }
    }
    squeeze(&mut deflate, rest, FlushCompress::Finish, &mut out)?;
    let mut crc = Crc::new();
    crc.update(bytes);
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&crc.amount().to_le_bytes());
    Ok(out)
}

/// Appends bytes as stored blocks that are not the last; `out` must be at a whole byte.
fn store(bytes: &[u8], out: &mut Vec<u8>) {
    for block in bytes.chunks(usize::from(u16::MAX)) {
        let length = block.len() as u16;
        out.push(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
}

/// Appends bytes compressed.
fn squeeze(deflate: &mut Compress, bytes: &[u8], flush: FlushCompress, out: &mut Vec<u8>) -> io::Result<()> {
    let start = deflate.total_in();
    loop {
        out.reserve(ROOM);
        let taken = usize::try_from(deflate.total_in() - start).unwrap_or(usize::MAX);
        let status = deflate.compress_vec(&bytes[taken..], out, flush)?;
        let taken = deflate.total_in() - start == bytes.len() as u64;
        match status {
            Status::StreamEnd => return Ok(()),
            // A flush is complete once room is left.
            Status::Ok | Status::BufError
                if flush != FlushCompress::Finish && taken && out.len() < out.capacity() =>
            {
                return Ok(());
            }
            _ => {}
        }
    }
}

fn take(packed: Receiver<io::Result<Vec<u8>>>) -> io::Result<Vec<u8>> {
    packed.recv().unwrap_or_else(|_| Err(gone()))
}

fn gone() -> io::Error {
    io::Error::other("a thread that compresses has ended")
}

struct Job {
    bytes: Vec<u8>,
    reply: SyncSender<io::Result<Vec<u8>>>,
}

/// Threads that compress; they end when it is dropped.
struct Pool {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    fn start(level: Compression) -> io::Result<Pool> {
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        let mut pool = Pool { jobs: Some(jobs), threads: Vec::with_capacity(count) };
        for _ in 0..count {
            let queue = queue.clone();
            let work = move || {
                loop {
                    let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(job) = job else { return };
                    // Not wanted any more where nobody takes it.
                    let _ = job.reply.send(pack(&job.bytes, level));
                }
            };
            pool.threads
                .push(std::thread::Builder::new().name("gzip".to_owned()).stack_size(STACK).spawn(work)?);
        }
        Ok(pool)
    }

    fn send(&self, job: Job) -> io::Result<()> {
        self.jobs.as_ref().ok_or_else(gone)?.send(job).map_err(|_| gone())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        drop(self.jobs.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn packed(bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut gzip = ParallelGzip::new(Vec::new(), Compression::new(4));
        for piece in bytes.chunks(piece) {
            gzip.write_all(piece).unwrap();
            gzip.flush().unwrap();
        }
        gzip.finish().unwrap()
    }

    fn text(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * at / 1000) as u8).collect()
    }

    #[test]
    fn what_is_packed_is_read_back_however_it_came() {
        for length in [0, 1, MEMBER - 1, MEMBER, MEMBER + 1, 3 * MEMBER, 9 * MEMBER + 5] {
            let bytes = text(length);
            let one = packed(&bytes, 4096);
            assert!(one == packed(&bytes, 700_001) && one == packed(&bytes, 64 << 20), "{length}");
            let mut back = Vec::new();
            flate2::read::MultiGzDecoder::new(one.as_slice()).read_to_end(&mut back).unwrap();
            assert!(back == bytes, "{length}");
            // The members are those of the pieces, each compressed alone.
            let alone: Vec<u8> =
                bytes.chunks(MEMBER).flat_map(|piece| pack(piece, Compression::new(4)).unwrap()).collect();
            assert!(
                one == if length == 0 { pack(b"", Compression::new(4)).unwrap() } else { alone },
                "{length}"
            );
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
                    let packed = pack(&bytes, Compression::new(level)).unwrap();
                    let mut back = Vec::new();
                    flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut back).unwrap();
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
        let packed = pack(&noise, Compression::new(4)).unwrap();
        assert!(packed.windows(PIECE).any(|window| *window == noise[..PIECE]));
        let mixed = pack(&[noise, words(200_000)].concat(), Compression::new(4)).unwrap();
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
        let mut gzip = ParallelGzip::new(Full, Compression::new(1));
        let written = gzip.write_all(&text(20 * MEMBER));
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::StorageFull);
        let small = ParallelGzip::new(Full, Compression::new(1));
        assert_eq!(small.finish().err().unwrap().kind(), io::ErrorKind::StorageFull);
    }
}
