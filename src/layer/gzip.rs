//! gzip on several processors: members of one size, compressed side by side, written in their order.
//!
//! A gzip file may have any number of members (RFC 1952, section 2.2), and every reader of layers takes
//! them for one stream. Where a member ends depends on the bytes alone, so the output does not depend
//! on the number of processors. Less than one member is compressed where it is, without a thread.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use flate2::{Compression, GzBuilder};

/// How many bytes a member holds; part of the form that digests of packed layers name.
const MEMBER: usize = 1 << 20;
/// The most threads of one stream: a member each has some megabytes.
const MOST_THREADS: usize = 4;

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
        while self.waiting.len() >= 2 * pool.threads.len() {
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
fn pack(bytes: &[u8], level: Compression) -> io::Result<Vec<u8>> {
    let out = Vec::with_capacity(bytes.len() / 2);
    let mut encoder = GzBuilder::new().mtime(0).operating_system(255).write(out, level);
    encoder.write_all(bytes)?;
    encoder.finish()
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
            pool.threads.push(std::thread::Builder::new().name("gzip".to_owned()).spawn(work)?);
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
