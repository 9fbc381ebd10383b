//! Bodies of answers: bytes in memory, and parts of files, read as fast as the client takes them.
//!
//! What the page cache has is read at once (preadv2, RWF_NOWAIT); for the rest a thread waits for the disk. Of
//! tmpfs, which knows no RWF_NOWAIT, all is in memory: a thread for each piece would cost twice the time.
//! Buffers are used again, so that a connection has two at most.

use std::fs::File;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tokio::task::JoinHandle;

/// How many bytes are read at once.
const PIECE: usize = 128 * 1024;
/// What statfs(2) calls tmpfs: linux/magic.h.
const TMPFS_MAGIC: u64 = 0x0102_1994;
/// How many buffers are kept for later.
const MOST_BUFFERS: usize = 64;

/// What an answer's body is.
#[derive(Debug)]
pub enum ReplyBody {
    Empty,
    Bytes(Option<Bytes>),
    File(FileBody),
}

/// Buffers that are used again.
#[derive(Debug, Default)]
pub struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    fn take(self: &Arc<Buffers>) -> Buffer {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Buffer { bytes: kept.unwrap_or_else(|| vec![0; PIECE]), filled: 0, pool: self.clone() }
    }
}

/// A buffer that goes back when the bytes in it were sent.
#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
    pool: Arc<Buffers>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut kept = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MOST_BUFFERS {
            kept.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// A part of a file.
#[derive(Debug)]
pub struct FileBody {
    file: Arc<File>,
    /// How a piece is read without a thread.
    at_once: ReadWriteFlags,
    at: u64,
    end: u64,
    buffers: Arc<Buffers>,
    /// A thread that reads.
    waiting: Option<JoinHandle<io::Result<Buffer>>>,
}

impl FileBody {
    /// Makes a body of the bytes from `at` up to, without, `end`; the file must have them.
    pub fn new(file: File, at: u64, end: u64, buffers: Arc<Buffers>) -> FileBody {
        let in_memory = rustix::fs::fstatfs(&file).is_ok_and(|of| of.f_type as u64 == TMPFS_MAGIC);
        let at_once = if in_memory { ReadWriteFlags::empty() } else { ReadWriteFlags::NOWAIT };
        FileBody { file: Arc::new(file), at_once, at, end, buffers, waiting: None }
    }

    /// Returns how many bytes are to come.
    pub fn left(&self) -> u64 {
        self.end.saturating_sub(self.at)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let left = self.left();
        if left == 0 {
            return Poll::Ready(None);
        }
        let read = match &mut self.waiting {
            Some(thread) => match Pin::new(thread).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(done) => {
                    self.waiting = None;
                    done.unwrap_or_else(|e| Err(io::Error::other(e)))
                }
            },
            None => {
                let mut buffer = self.buffers.take();
                let wanted = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
                let slice = &mut [IoSliceMut::new(&mut buffer.bytes[..wanted])];
                match preadv2(&*self.file, slice, self.at, self.at_once) {
                    Ok(count) => {
                        buffer.filled = count;
                        Ok(buffer)
                    }
                    // Not in memory, or a file system that cannot tell.
                    Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => {
                        let (file, at) = (self.file.clone(), self.at);
                        let thread = tokio::task::spawn_blocking(move || {
                            buffer.filled = file.read_at(&mut buffer.bytes[..wanted], at)?;
                            Ok(buffer)
                        });
                        self.waiting = Some(thread);
                        return self.poll(cx);
                    }
                    Err(e) => Err(e.into()),
                }
            }
        };
        Poll::Ready(Some(read.and_then(|buffer| match buffer.filled {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.at += count as u64;
                Ok(Bytes::from_owner(buffer))
            }
        })))
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            ReplyBody::Empty => Poll::Ready(None),
            ReplyBody::Bytes(bytes) => {
                Poll::Ready(bytes.take().filter(|b| !b.is_empty()).map(|b| Ok(Frame::data(b))))
            }
            ReplyBody::File(file) => file.poll(cx).map(|found| found.map(|read| read.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ReplyBody::Empty => true,
            ReplyBody::Bytes(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            ReplyBody::File(file) => file.left() == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            ReplyBody::Empty => 0,
            ReplyBody::Bytes(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            ReplyBody::File(file) => file.left(),
        })
    }
}
