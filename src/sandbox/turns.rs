//! Steps of one launcher one at a time, where nothing else keeps them from handing each other open files.
//!
//! Two processes of one network namespace meet at an abstract socket: unix(7). What either has open it can send, and
//! a directory outside of one's root is a way out of a chroot. Not here: when that is so (`launcher`).

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Turns {
    taken: Mutex<bool>,
    free: Condvar,
}

/// The turn of one step, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn(Arc<Turns>);

impl Turns {
    /// Waits until nobody has the turn, and takes it.
    pub fn take(self: &Arc<Turns>) -> Turn {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken {
            taken = self.free.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken = true;
        Turn(self.clone())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.free.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn never_two_at_a_time() {
        let (turns, at_work) = (Arc::new(Turns::default()), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let turn = turns.take();
                    assert_eq!(at_work.fetch_add(1, Ordering::SeqCst), 0);
                    std::thread::yield_now();
                    at_work.fetch_sub(1, Ordering::SeqCst);
                    drop(turn);
                });
            }
        });
        drop(turns.take());
    }
}
