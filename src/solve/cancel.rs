//! A request to stop that many threads can see, and be woken by.
//!
//! Not here: who asks (`cli` does, on a signal) and how a process is ended
//! (`worker` does, in a hook).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A flag that is raised once and stays up; clones share it.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Inner>);

#[derive(Default)]
struct Inner {
    raised: AtomicBool,
    hooks: Mutex<Hooks>,
}

type Callback = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Hooks {
    next: u64,
    waiting: BTreeMap<u64, Callback>,
}

impl Cancel {
    /// Makes a flag that is down.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Raises the flag and runs all hooks, on this thread. Not to be called from a signal handler
    /// itself: it takes a lock.
    pub fn cancel(&self) {
        let mut hooks = self.hooks();
        self.0.raised.store(true, Ordering::SeqCst);
        for (_, callback) in std::mem::take(&mut hooks.waiting) {
            callback();
        }
    }

    /// Tells whether the flag is up.
    pub fn is_cancelled(&self) -> bool {
        self.0.raised.load(Ordering::SeqCst)
    }

    /// Has `callback` run when the flag goes up; at once, here, when it is up already.
    ///
    /// Once the returned hook is dropped the callback neither runs nor is running. It must
    /// not touch this same flag or drop hooks of it: they are locked meanwhile.
    pub fn on_cancel(&self, callback: impl FnOnce() + Send + 'static) -> Hook {
        let mut hooks = self.hooks();
        let number = hooks.next;
        hooks.next += 1;
        match self.is_cancelled() {
            true => callback(),
            false => drop(hooks.waiting.insert(number, Box::new(callback))),
        }
        Hook { cancel: self.clone(), number }
    }

    fn hooks(&self) -> MutexGuard<'_, Hooks> {
        self.0.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cancel({})", self.is_cancelled())
    }
}

/// Keeps a callback of [`Cancel::on_cancel`]; dropping it takes the callback away.
#[must_use = "a hook that is dropped does nothing"]
pub struct Hook {
    cancel: Cancel,
    number: u64,
}

impl Drop for Hook {
    fn drop(&mut self) {
        let callback = self.cancel.hooks().waiting.remove(&self.number);
        // Dropped after the lock is released: what it captured may hold hooks of its own.
        drop(callback);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn hooks_run_once_and_only_while_kept() {
        let cancel = Cancel::new();
        let count = Arc::new(AtomicUsize::new(0));
        let bump = |by: usize| {
            let count = count.clone();
            move || {
                count.fetch_add(by, Ordering::SeqCst);
            }
        };
        let _kept = cancel.on_cancel(bump(1));
        drop(cancel.on_cancel(bump(10)));
        assert!(!cancel.is_cancelled());
        cancel.cancel();
        cancel.cancel();
        assert!(cancel.is_cancelled());
        assert_eq!(count.load(Ordering::SeqCst), 1);
        let _late = cancel.on_cancel(bump(100));
        assert_eq!(count.load(Ordering::SeqCst), 101);
    }

    #[test]
    fn one_flag_can_raise_another() {
        let (outer, inner) = (Cancel::new(), Cancel::new());
        let target = inner.clone();
        let _link = outer.on_cancel(move || target.cancel());
        outer.cancel();
        assert!(inner.is_cancelled());
    }
}
