//! The bytes of a streamed body, from the thread that writes them to the network.
//!
//! A bounded channel between a blocking writer and an asynchronous reader; either end may close it.
//! Not here: who writes, and which thread (`client`).

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// How many bytes go over at once.
const PIECE: usize = 128 * 1024;
/// How many pieces wait at most.
const MOST: usize = 4;

/// The channel; clones are the same one.
#[derive(Clone, Default)]
pub struct Pipe(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    room: Condvar,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Bytes>,
    waker: Option<Waker>,
    /// How the writer ended: with all of it, or not.
    ended: Option<bool>,
    /// Nobody reads any more.
    closed: bool,
    moved: u64,
}

impl Pipe {
    /// Makes an open channel.
    pub fn new() -> Pipe {
        Pipe::default()
    }

    /// Ends the reading side: a writer that waits, and every later write, fails.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.pieces.clear();
        self.0.room.notify_all();
    }

    /// Returns a number that stays the same only while the network holds the writer up.
    pub fn moved(&self) -> u64 {
        let mut state = self.lock();
        if state.pieces.is_empty() && state.ended.is_none() {
            state.moved += 1;
        }
        state.moved
    }

    /// Runs a writer to its end; an error is the writer's own, not that nobody reads any more.
    pub fn fill(
        &self,
        length: Option<u64>,
        write: &mut (dyn FnMut(&mut dyn io::Write) -> io::Result<()> + Send),
    ) -> io::Result<()> {
        // However the writer ends, by a panic too, the reader gets to know.
        let ending = Ending(self);
        let mut writer = Writer { pipe: self, buffer: Vec::with_capacity(PIECE), left: length };
        let written = write(&mut writer).and_then(|()| writer.finish());
        let mut state = ending.0.lock();
        if state.closed {
            return Ok(());
        }
        state.ended = Some(written.is_ok());
        written
    }

    /// Returns the reading side as a request's body.
    pub fn body(&self, length: Option<u64>) -> PipeBody {
        PipeBody { pipe: self.clone(), length }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("nobody panics while holding it")
    }
}

struct Ending<'p>(&'p Pipe);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ended.get_or_insert(false);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

struct Writer<'p> {
    pipe: &'p Pipe,
    buffer: Vec<u8>,
    /// How many bytes may still come, where that is known.
    left: Option<u64>,
}

impl Writer<'_> {
    fn send(&mut self) -> io::Result<()> {
        let piece = Bytes::from(std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE)));
        let mut state = self.pipe.lock();
        while state.pieces.len() >= MOST && !state.closed {
            state = self.pipe.0.room.wait(state).expect("nobody panics while holding it");
        }
        if state.closed {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "nobody takes the rest"));
        }
        state.pieces.push_back(piece);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        if let Some(left @ 1..) = self.left {
            return Err(io::Error::other(format!("{left} bytes less came than were announced")));
        }
        if self.buffer.is_empty() { Ok(()) } else { self.send() }
    }
}

impl io::Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.buffer.len());
        if let Some(left) = &mut self.left {
            *left = left
                .checked_sub(count as u64)
                .ok_or_else(|| io::Error::other("more bytes came than were announced"))?;
        }
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == PIECE {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        // What is held back goes out with the next piece or at the end.
        Ok(())
    }
}

/// The reading side.
pub struct PipeBody {
    pipe: Pipe,
    length: Option<u64>,
}

impl http_body::Body for PipeBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let mut state = self.pipe.lock();
        if let Some(piece) = state.pieces.pop_front() {
            state.moved += 1;
            self.pipe.0.room.notify_one();
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match (state.closed, state.ended) {
            (false, None) => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
            (false, Some(true)) => Poll::Ready(None),
            _ => Poll::Ready(Some(Err(io::Error::other("the body was not written to its end")))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for PipeBody {
    fn drop(&mut self) {
        self.pipe.close();
    }
}
