//! Bytes that one thread makes while another writes them.
//!
//! Not here: what they are.

use std::io::{self, Write};
use std::sync::mpsc::{SyncSender, sync_channel};

use super::ArchiveError;

/// How many bytes go over at once.
const PIECE: usize = 256 * 1024;
/// How many pieces wait at most.
const PIECES: usize = 4;
/// The stack of the thread that makes them, in bytes; it counts as memory where that is limited.
const STACK: usize = 512 * 1024;

/// Has a thread of its own make what this one writes to `out`; holds about a megabyte at most.
///
/// An error of `out` ends both, and is the one that is told.
pub(super) fn write_behind(
    mut out: impl Write,
    make: impl FnOnce(&mut dyn Write) -> Result<(), ArchiveError> + Send,
) -> Result<(), ArchiveError> {
    let (sender, pieces) = sync_channel(PIECES);
    std::thread::scope(|scope| {
        let maker = std::thread::Builder::new().name("make".to_owned()).stack_size(STACK);
        let maker = maker.spawn_scoped(scope, move || {
            let mut sent = Pieces { sender, piece: Vec::with_capacity(PIECE) };
            make(&mut sent)?;
            sent.send().map_err(ArchiveError::Write)
        });
        let maker = maker.map_err(ArchiveError::Write)?;
        let written = pieces.iter().try_for_each(|piece| out.write_all(&piece)).and_then(|()| out.flush());
        // Whoever makes more finds nobody who takes it.
        drop(pieces);
        let made = maker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written.map_err(ArchiveError::Write)?;
        made
    })
}

struct Pieces {
    sender: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
}

impl Pieces {
    fn send(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.sender.send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() == PIECE {
            self.send()?;
        }
        let count = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    /// Sends nothing: what is left goes when all is made.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_arrives_in_its_order() {
        for length in [0, 1, PIECE, PIECE + 1, 9 * PIECE + 7] {
            let bytes: Vec<u8> = (0..length).map(|at| (at * at / 1000) as u8).collect();
            let mut out = Vec::new();
            let make = |to: &mut dyn Write| {
                bytes.chunks(70_001).try_for_each(|part| to.write_all(part)).map_err(ArchiveError::Write)
            };
            write_behind(&mut out, make).unwrap();
            assert!(out == bytes, "{length}");
        }
    }

    #[test]
    fn the_error_of_the_receiver_is_told_and_ends_both() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let endless = |to: &mut dyn Write| {
            loop {
                to.write_all(&[0; 1000]).map_err(ArchiveError::Write)?;
            }
        };
        let ArchiveError::Write(error) = write_behind(Full, endless).unwrap_err() else { panic!("another") };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let fails = |_: &mut dyn Write| Err(ArchiveError::NoImages("none".to_owned()));
        let error = write_behind(Vec::new(), fails).unwrap_err();
        assert!(matches!(error, ArchiveError::NoImages(_)), "{error}");
    }
}
