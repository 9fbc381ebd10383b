//! Readers and writers that look at what passes.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use crate::image::{Digest, Hasher};

/// Passes bytes on, counting and digesting them.
pub struct DigestWriter<W> {
    out: W,
    hasher: Hasher,
    count: u64,
}

impl<W: Write> DigestWriter<W> {
    /// Makes a writer on another.
    pub fn new(out: W) -> DigestWriter<W> {
        DigestWriter { out, hasher: Hasher::new(), count: 0 }
    }

    /// Returns the digest and the number of the bytes that passed.
    pub fn finish(self) -> (W, Digest, u64) {
        (self.out, self.hasher.finish(), self.count)
    }
}

impl<W: Write> Write for DigestWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Reads bytes, counting them, and digesting them where asked.
pub struct DigestReader<R> {
    pub reader: R,
    pub hasher: Option<Hasher>,
    pub count: u64,
}

impl<R: Read> DigestReader<R> {
    pub fn new(reader: R, digests: bool) -> DigestReader<R> {
        DigestReader { reader, hasher: digests.then(Hasher::new), count: 0 }
    }
}

impl<R: Read> Read for DigestReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        self.count += count as u64;
        Ok(count)
    }
}

/// The bytes that go to a [`Tee`]'s thread at once.
const PIECE: usize = 256 * 1024;
/// Its stack in bytes; it counts as memory where that is limited.
const STACK: usize = 128 * 1024;
/// How many pieces may wait for it.
const PIECES: usize = 4;

/// Reads bytes and has another thread write them to a second place.
///
/// Holds about a megabyte at most: a writer that is slow slows the reader.
pub struct Tee<'scope, R, W> {
    reader: R,
    piece: Vec<u8>,
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    writer: ScopedJoinHandle<'scope, io::Result<W>>,
}

impl<'scope, R: Read, W: Write + Send + 'scope> Tee<'scope, R, W> {
    pub fn new(reader: R, scope: &'scope Scope<'scope, '_>, mut copy: W) -> io::Result<Self> {
        let (full, pieces) = sync_channel::<Vec<u8>>(PIECES);
        let (done, empty) = sync_channel(PIECES);
        let write = move || {
            for mut piece in pieces {
                copy.write_all(&piece)?;
                piece.clear();
                // Not needed again where nobody takes it.
                let _ = done.try_send(piece);
            }
            Ok(copy)
        };
        let writer = std::thread::Builder::new()
            .name("copy".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, write)?;
        Ok(Tee { reader, piece: Vec::with_capacity(PIECE), full, empty, writer })
    }

    /// Returns the second place once all that was read is there, or its error.
    pub fn finish(self) -> io::Result<W> {
        let Tee { piece, full, writer, .. } = self;
        // Where nobody listens any more, the thread's own error says why.
        let _ = full.send(piece);
        drop(full);
        writer.join().unwrap_or_else(|_| Err(io::Error::other("the writing thread panicked")))
    }
}

impl<R: Read, W> Read for Tee<'_, R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if self.piece.len() + count > PIECE {
            let next = self.empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE));
            let piece = std::mem::replace(&mut self.piece, next);
            self.full.send(piece).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        self.piece.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}
