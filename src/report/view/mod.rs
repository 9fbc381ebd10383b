//! The terminal view: what runs, at the bottom of the screen; what is done, above it.
//!
//! `model` makes events a state, `draw` the state lines, `paint` the lines bytes; `tail` is the end of a
//! step's output. Here is the thread that does that some ten times a second, whatever happens in between:
//! who reports an event never waits for the terminal.

mod draw;
mod model;
mod paint;
mod tail;
#[cfg(test)]
mod tests;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Event, Reporter};
use model::Model;
use paint::Painter;

pub use draw::{Signs, Size, Style, bytes, seconds};
pub use model::Counts;

/// The time between two frames.
const FRAME: Duration = Duration::from_millis(100);

/// What is drawn on.
pub trait Screen: Send {
    /// Returns the size now; `None` where it cannot be told.
    fn size(&self) -> Option<Size>;

    /// Writes bytes, all of them.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// A size where none can be told.
const USUAL: Size = Size { columns: 80, rows: 24 };

/// Shows events on a terminal. Dropping it leaves what is done on the screen, and the cursor below.
pub struct View {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    began: Instant,
}

struct Shared {
    state: Mutex<State>,
    ended: Condvar,
    canvas: Mutex<Canvas>,
}

struct State {
    model: Model,
    ended: bool,
    /// Whether somebody else writes to the terminal.
    paused: bool,
}

struct Canvas {
    screen: Box<dyn Screen>,
    painter: Painter,
    style: Style,
    /// Whether the terminal is gone.
    gone: bool,
}

impl View {
    /// Begins to show; what is first is seen a tenth of a second later, or at the end.
    pub fn new(screen: Box<dyn Screen>, style: Style) -> View {
        let state = State { model: Model::new(style.colour), ended: false, paused: false };
        let canvas = Canvas { screen, painter: Painter::default(), style, gone: false };
        let shared = Shared { state: Mutex::new(state), ended: Condvar::new(), canvas: Mutex::new(canvas) };
        let (shared, began) = (Arc::new(shared), Instant::now());
        let own = shared.clone();
        // Without a thread all is shown at the end.
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(move || own.run(began));
        View { shared, thread: Mutex::new(thread.ok()), began }
    }

    /// Leaves the terminal to others: what changes disappears, what is done stays, and nothing is drawn
    /// until [`View::resume`].
    pub fn pause(&self) {
        locked(&self.shared.state).paused = true;
        self.shared.draw(self.began.elapsed());
    }

    /// Goes on below whatever was written meanwhile, which ended with a line end.
    pub fn resume(&self) {
        locked(&self.shared.state).paused = false;
    }

    /// Ends the view: what changes disappears, what is done stays. Returns what became of the steps, and
    /// how long all took.
    pub fn end(&self) -> (Counts, Duration) {
        locked(&self.shared.state).ended = true;
        self.shared.ended.notify_all();
        if let Some(thread) = locked(&self.thread).take() {
            let _ = thread.join();
        }
        self.shared.draw_or_not(self.began.elapsed());
        (locked(&self.shared.state).model.counts(), self.began.elapsed())
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.end();
    }
}

impl Reporter for View {
    fn event(&self, event: Event) {
        let now = self.began.elapsed();
        let taken = catch_unwind(AssertUnwindSafe(|| locked(&self.shared.state).model.event(event, now)));
        if taken.is_err() {
            self.shared.give_up();
        }
    }
}

impl Shared {
    fn run(&self, began: Instant) {
        let mut state = locked(&self.state);
        while !state.ended {
            let waited = self.ended.wait_timeout(state, FRAME);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.ended {
                break;
            }
            if state.paused {
                continue;
            }
            drop(state);
            self.draw_or_not(began.elapsed());
            state = locked(&self.state);
        }
    }

    /// Draws a frame. A mistake in a drawing must cost no more than the drawing: after one, nothing is
    /// drawn any more, and what is drawn for goes on.
    fn draw_or_not(&self, now: Duration) {
        if catch_unwind(AssertUnwindSafe(|| self.draw(now))).is_err() {
            self.give_up();
        }
    }

    fn give_up(&self) {
        locked(&self.canvas).gone = true;
    }

    /// Draws a frame; the last one where all has ended.
    fn draw(&self, now: Duration) {
        let mut canvas = locked(&self.canvas);
        let canvas = &mut *canvas;
        if canvas.gone {
            return;
        }
        let size = canvas.screen.size().filter(|size| size.columns > 0 && size.rows > 0).unwrap_or(USUAL);
        let style = canvas.style;
        let mut state = locked(&self.state);
        let kept = state.model.take_kept();
        let live =
            if state.ended || state.paused { Vec::new() } else { draw::live(&state.model, now, size, style) };
        drop(state);
        let width = size.columns.saturating_sub(1).max(1);
        let kept: Vec<String> = kept.iter().flat_map(|kept| draw::kept(kept, width, style)).collect();
        let frame = canvas.painter.frame(&kept, live, size, style);
        if !frame.is_empty() {
            canvas.gone = canvas.screen.write(&frame).is_err();
        }
    }
}

/// Locks what is whole after every step, so that a panic elsewhere does not matter.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
