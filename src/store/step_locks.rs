//! Step locks: two processes that want the same step; one does it, the other waits.

use std::time::Duration;

use crate::image::Digest;
use crate::sys::lock::{self, NamedLock};

use super::error::failed;
use super::{Store, StoreError};

/// The right to do one step; ends when dropped, or with the process.
#[derive(Debug)]
pub struct StepLock {
    contended: bool,
    _lock: NamedLock,
}

impl StepLock {
    /// Tells whether somebody else had it when it was asked for: the step may be done now.
    pub fn contended(&self) -> bool {
        self.contended
    }
}

impl Store {
    /// Takes the right to do a step, when nobody has it.
    pub fn try_step_lock(&self, step: &Digest) -> Result<Option<StepLock>, StoreError> {
        self.hold()?;
        let path = self.paths.locks.join(step.hex());
        let lock = NamedLock::try_take(&path).map_err(failed("lock", &path))?;
        Ok(lock.map(|lock| StepLock { contended: false, _lock: lock }))
    }

    /// Returns the process that has the right to do a step, where that can be told.
    pub fn step_lock_holder(&self, step: &Digest) -> Option<u32> {
        lock::holder(&self.paths.locks.join(step.hex()))
    }

    /// Waits for the right to do the step that a digest of operation and inputs names.
    ///
    /// `cancelled` is asked while waiting; once it says yes the error is [`StoreError::Cancelled`].
    pub fn step_lock(&self, step: &Digest, cancelled: &dyn Fn() -> bool) -> Result<StepLock, StoreError> {
        self.hold()?;
        let path = self.paths.locks.join(step.hex());
        let mut contended = false;
        // Asked again and again rather than waited for in the kernel: flock(2) cannot be
        // called off from another thread.
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(lock) = NamedLock::try_take(&path).map_err(failed("lock", &path))? {
                return Ok(StepLock { contended, _lock: lock });
            }
            contended = true;
            if cancelled() {
                return Err(StoreError::Cancelled);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::super::testing;
    use super::*;

    #[test]
    fn one_does_it_and_the_others_know() {
        let directory = tempfile::tempdir().unwrap();
        let step = Digest::of("step");
        let first = testing::open(directory.path());
        let lock = first.step_lock(&step, &|| false).unwrap();
        assert!(!lock.contended());
        assert!(!first.step_lock(&Digest::of("other"), &|| false).unwrap().contended());
        assert!(matches!(first.step_lock(&step, &|| true), Err(StoreError::Cancelled)));

        let (waiting, asked) = (AtomicUsize::new(0), mpsc::channel());
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let (store, waiting, asked) = (testing::open(directory.path()), &waiting, asked.0.clone());
                scope.spawn(move || {
                    let told = std::cell::Cell::new(false);
                    let lock = store.step_lock(&step, &|| {
                        if !told.replace(true) {
                            asked.send(()).unwrap();
                        }
                        false
                    });
                    assert!(lock.unwrap().contended());
                    waiting.fetch_add(1, Ordering::SeqCst);
                });
            }
            for _ in 0..3 {
                asked.1.recv().unwrap();
            }
            assert_eq!(waiting.load(Ordering::SeqCst), 0);
            drop(lock);
        });
        assert_eq!(waiting.load(Ordering::SeqCst), 3);
        assert_eq!(std::fs::read_dir(&first.paths.locks).unwrap().count(), 0);
    }
}
