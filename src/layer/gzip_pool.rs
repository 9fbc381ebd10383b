//! The threads that compress for all gzip streams of a process, and what is on the way to and from them.
//!
//! Memory depends neither on the number of streams nor on that of processors: so many parts are in memory
//! at once and no more, and a stream has as many of them as the others. Threads start when there is work
//! for them, and end with the last stream. Not here: what a part becomes, and where it goes (`gzip`).

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use super::gzip::Packer;

/// The most threads of a process; each has a compressor of 0.7 MiB, and room for a part.
const MOST_THREADS: usize = 16;
/// How many parts are in memory at once, packed or not, but for the first of each stream.
const PARTS: usize = 32;
/// The stack of a thread in bytes, which counts as memory where that is limited: deflate's state is not on it.
const STACK: usize = 128 * 1024;

/// Threads, and the parts that wait for them.
pub struct Pool {
    state: Mutex<State>,
    work: Condvar,
    most_threads: usize,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// The parts that have a place, from before they are given to the pool until they are written or dropped.
    parts: usize,
    most_parts: usize,
    streams: usize,
    next_stream: u64,
    threads: usize,
    idle: usize,
}

struct Job {
    stream: u64,
    level: u32,
    bytes: Vec<u8>,
    reply: SyncSender<io::Result<Part>>,
    place: Place,
}

/// A part that was compressed; it counts as one on the way until it is dropped.
pub struct Part {
    pub packed: Vec<u8>,
    /// The buffer it was made of, to be filled again.
    pub buffer: Vec<u8>,
    _place: Place,
}

/// Counts a part until it is dropped.
pub struct Place(Arc<Pool>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.state().parts -= 1;
    }
}

impl Pool {
    /// Returns the pool of this process: as many threads as processors.
    pub fn of_process() -> Arc<Pool> {
        static POOL: OnceLock<Arc<Pool>> = OnceLock::new();
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        POOL.get_or_init(|| Pool::new(processors())).clone()
    }

    pub fn new(threads: usize) -> Arc<Pool> {
        let most_threads = threads.clamp(1, MOST_THREADS);
        Arc::new(Pool { state: Mutex::default(), work: Condvar::new(), most_threads })
    }

    /// Makes a stream that compresses here.
    pub fn stream(self: &Arc<Pool>, level: u32) -> Stream {
        let mut state = self.state();
        state.streams += 1;
        state.next_stream += 1;
        Stream { pool: self.clone(), id: state.next_stream, level, waiting: VecDeque::new() }
    }

    /// Locks what is whole after every step, so that a panic elsewhere does not matter.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a thread, unless there are enough.
    fn reinforce(self: &Arc<Pool>) -> io::Result<()> {
        {
            let mut state = self.state();
            if state.idle >= state.jobs.len() || state.threads >= self.most_threads {
                return Ok(());
            }
            state.threads += 1;
        }
        let mut thread = Thread { pool: self.clone(), is_counted: true };
        let builder = std::thread::Builder::new().name("gzip".to_owned()).stack_size(STACK);
        match builder.spawn(move || thread.serve()) {
            Ok(_) => Ok(()),
            // Those that are there do the work of this one, too.
            Err(_) if self.state().threads > 0 => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// One of the threads.
struct Thread {
    pool: Arc<Pool>,
    /// Whether the pool counts with it.
    is_counted: bool,
}

impl Thread {
    fn serve(&mut self) {
        let mut packer: Option<Packer> = None;
        while let Some(job) = self.next_job() {
            let packer = match &mut packer {
                Some(there) if there.level() == job.level => there,
                other => other.insert(Packer::new(job.level)),
            };
            let Job { bytes, reply, place, .. } = job;
            let mut packed = Vec::new();
            let part =
                packer.pack(&bytes, &mut packed).map(|()| Part { packed, buffer: bytes, _place: place });
            // Not wanted any more where nobody takes it.
            let _ = reply.send(part);
        }
    }

    /// Waits for a job; `None` when no stream is left that might have one.
    fn next_job(&mut self) -> Option<Job> {
        let mut state = self.pool.state();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.streams == 0 {
                // In the same moment: the next stream must not count with a thread that has gone.
                state.threads -= 1;
                self.is_counted = false;
                return None;
            }
            state.idle += 1;
            state = self.pool.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if !self.is_counted {
            return;
        }
        // It panicked, or was not started: nobody may wait for what it would have done.
        let mut state = self.pool.state();
        state.threads -= 1;
        let jobs = if state.threads == 0 { std::mem::take(&mut state.jobs) } else { VecDeque::new() };
        drop(state);
        // Each counts itself out, under the same lock.
        drop(jobs);
    }
}

/// The parts of one stream, which come back in their order.
pub struct Stream {
    pool: Arc<Pool>,
    id: u64,
    level: u32,
    waiting: VecDeque<Receiver<io::Result<Part>>>,
}

impl Stream {
    /// Takes a place for one more part; `None` where one must be taken back before.
    ///
    /// There is always one for the first, so that no stream waits for another.
    pub fn place(&self) -> Option<Place> {
        let mut state = self.pool.state();
        let own = self.waiting.len();
        let share = (PARTS / state.streams).max(1);
        if own > 0 && (own >= share || state.parts >= PARTS) {
            return None;
        }
        state.parts += 1;
        state.most_parts = state.most_parts.max(state.parts);
        Some(Place(self.pool.clone()))
    }

    /// Has a part compressed.
    pub fn send(&mut self, bytes: Vec<u8>, place: Place) -> io::Result<()> {
        let (reply, part) = sync_channel(1);
        let job = Job { stream: self.id, level: self.level, bytes, reply, place };
        self.pool.state().jobs.push_back(job);
        self.waiting.push_back(part);
        self.pool.work.notify_one();
        self.pool.reinforce()
    }

    /// Waits for the first of its parts that was not taken yet; `None` where all were.
    pub fn receive(&mut self) -> Option<io::Result<Part>> {
        let part = self.waiting.pop_front()?;
        Some(part.recv().unwrap_or_else(|_| Err(io::Error::other("a thread that compresses has ended"))))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        state.streams -= 1;
        let jobs = std::mem::take(&mut state.jobs);
        let (unwanted, wanted) = jobs.into_iter().partition(|job| job.stream == self.id);
        state.jobs = wanted;
        drop(state);
        // Each counts itself out, under the same lock.
        drop(unwanted);
        self.pool.work.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::gzip::{PART, ParallelGzip};
    use super::*;

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * at / 1000) as u8).collect()
    }

    /// Compresses `streams` streams at once; returns what they came to.
    fn packed(pool: &Arc<Pool>, streams: usize, bytes: &[u8]) -> Vec<Vec<u8>> {
        let one = || {
            let mut gzip = ParallelGzip::on(pool, Vec::new(), 2);
            gzip.write_all(bytes).unwrap();
            gzip.finish().unwrap()
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..streams).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn neither_bytes_nor_memory_depend_on_processors_or_streams() {
        let bytes = bytes(8 * PART + 5);
        let expect = packed(&Pool::new(1), 1, &bytes).pop().unwrap();
        for (threads, streams) in [(1, 3), (2, 5), (16, 20), (64, 1)] {
            let pool = Pool::new(threads);
            assert!(packed(&pool, streams, &bytes).iter().all(|one| *one == expect), "{threads} {streams}");
            let state = pool.state();
            assert!(state.most_parts <= PARTS + streams, "{} of {streams}", state.most_parts);
            assert_eq!((state.parts, state.streams, state.jobs.len()), (0, 0, 0));
            assert!(state.threads <= MOST_THREADS.min(threads), "{}", state.threads);
        }
    }

    #[test]
    fn a_stream_that_stands_still_stops_no_other() {
        let pool = Pool::new(2);
        let mut still = pool.stream(1);
        while let Some(place) = still.place() {
            still.send(bytes(PART), place).unwrap();
        }
        assert_eq!(still.waiting.len(), PARTS);
        let bytes = bytes(5 * PART);
        assert_eq!(packed(&pool, 3, &bytes).len(), 3);
        // What nobody wants any more is not counted, and not made.
        drop(still);
        while pool.state().threads > 0 {
            std::thread::yield_now();
        }
        assert_eq!(pool.state().parts, 0);
    }

    #[test]
    fn streams_share_alike() {
        let pool = Pool::new(1);
        let mut streams: Vec<Stream> = (0..4).map(|_| pool.stream(1)).collect();
        for stream in &mut streams {
            while let Some(place) = stream.place() {
                stream.send(bytes(10), place).unwrap();
            }
            assert_eq!(stream.waiting.len(), PARTS / 4);
        }
    }
}
