//! Several threads on one walk: whoever has none asks, whoever has much gives a part of it.
//!
//! What is given away keeps its place, so the result does not depend on who did what. Threads
//! are started only once there turned out to be work for them. Not here: what the work is (`walk`).

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// More threads gain little: they wait for each other in the kernel.
const MAX_THREADS: usize = 4;
/// Enough for a walk, which does not recurse; what stands ready counts as memory in use.
const STACK: usize = 512 * 1024;

/// The jobs of one walk, and their results.
pub(super) struct Crew<Job, Done> {
    state: Mutex<State<Job, Done>>,
    wake: Condvar,
    /// Somebody waits for whom there is no job yet. Looked at without the lock.
    hungry: AtomicBool,
}

struct State<Job, Done> {
    queue: VecDeque<(usize, Job)>,
    /// By the number of the job.
    done: Vec<Option<Done>>,
    running: usize,
    waiting: usize,
}

/// Counts as work that may give jobs, however it ends.
struct Running<'c, Job, Done>(&'c Crew<Job, Done>);

impl<Job: Send, Done: Send> Crew<Job, Done> {
    /// Does `first`, and all jobs that come of it with `job`; returns what `first` gave, and the results.
    ///
    /// `first` is given what starts the other threads.
    pub fn run<T>(
        first: impl FnOnce(&Crew<Job, Done>, &dyn Fn()) -> T,
        job: impl Fn(&Crew<Job, Done>, Job) -> Done + Sync,
    ) -> (T, Vec<Option<Done>>) {
        let state = State { queue: VecDeque::new(), done: Vec::new(), running: 0, waiting: 0 };
        let crew = Crew { state: Mutex::new(state), wake: Condvar::new(), hungry: AtomicBool::new(false) };
        let value = std::thread::scope(|threads| {
            let (crew, job) = (&crew, &job);
            let start = || {
                let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
                for _ in 1..processors.min(MAX_THREADS) {
                    let thread = std::thread::Builder::new().stack_size(STACK);
                    // Without it the others do all.
                    let _ = thread.spawn_scoped(threads, move || crew.work(job));
                }
            };
            let running = crew.running();
            let value = first(crew, &start);
            drop(running);
            crew.work(job);
            value
        });
        (value, crew.state.into_inner().unwrap_or_else(PoisonError::into_inner).done)
    }

    /// Tells whether a thread waits for a job.
    pub fn is_hungry(&self) -> bool {
        self.hungry.load(Ordering::Relaxed)
    }

    /// Gives a job away; returns its number.
    pub fn give(&self, job: Job) -> usize {
        let mut state = self.lock();
        let number = state.done.len();
        state.done.push(None);
        state.queue.push_back((number, job));
        self.note(&state);
        self.wake.notify_one();
        number
    }

    /// Does jobs until there are none and nobody is left who might give one.
    fn work(&self, job: &(impl Fn(&Crew<Job, Done>, Job) -> Done + Sync)) {
        let mut state = self.lock();
        loop {
            if let Some((number, next)) = state.queue.pop_front() {
                self.note(&state);
                drop(state);
                let running = self.running();
                let done = job(self, next);
                state = self.lock();
                state.done[number] = Some(done);
                drop(state);
                drop(running);
                state = self.lock();
            } else if state.running == 0 {
                return;
            } else {
                state.waiting += 1;
                self.note(&state);
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.waiting -= 1;
                self.note(&state);
            }
        }
    }

    fn running(&self) -> Running<'_, Job, Done> {
        self.lock().running += 1;
        Running(self)
    }
}

impl<Job, Done> Crew<Job, Done> {
    fn lock(&self) -> MutexGuard<'_, State<Job, Done>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, state: &State<Job, Done>) {
        self.hungry.store(state.waiting > state.queue.len(), Ordering::Relaxed);
    }
}

impl<Job, Done> Drop for Running<'_, Job, Done> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.running -= 1;
        if state.running == 0 {
            self.0.wake.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds the numbers of a range, and gives halves away.
    fn sum(crew: &Crew<std::ops::Range<u64>, u64>, mut range: std::ops::Range<u64>) -> u64 {
        let mut sum = 0;
        while let Some(number) = range.next() {
            sum += number;
            if crew.is_hungry() && range.end - range.start > 10 {
                let middle = range.start + (range.end - range.start) / 2;
                crew.give(middle..range.end);
                range.end = middle;
            }
        }
        sum
    }

    #[test]
    fn every_job_is_done_once() {
        for helped in [false, true] {
            let first = |crew: &Crew<_, _>, start: &dyn Fn()| {
                if helped {
                    start();
                }
                crew.give(100..200);
                sum(crew, 200..100_000)
            };
            let (own, others) = Crew::run(first, sum);
            let given: u64 = others.into_iter().map(|sum| sum.expect("every job was done")).sum();
            assert_eq!(own + given, (100..100_000).sum::<u64>());
        }
    }

    #[test]
    fn a_panic_ends_it() {
        let ends = std::panic::catch_unwind(|| {
            Crew::<u64, u64>::run(
                |crew, start| {
                    start();
                    (0..10).for_each(|number| assert_eq!(crew.give(number), number as usize));
                },
                |_, number| if number == 3 { panic!("on purpose") } else { number },
            )
        });
        assert!(ends.is_err());
    }
}
