//! Copying what one file holds into another: bytes, and times.
//!
//! Not here: attributes (`sys::xattr`), owners and modes, which are one call
//! each, and trees (`worker`).

use std::io;
use std::os::fd::AsFd;

use rustix::fs::AtFlags;
use rustix::fs::SeekFrom;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::io::Errno;

use crate::sys::root_dir::fstat;

/// How much of a file is copied before it is said how far it is.
const PIECE: u64 = 1 << 20;

/// Copies files of one tree into another, and remembers what their filesystems cannot do.
#[derive(Debug, Clone, Copy)]
pub struct Cloner {
    /// Whether blocks may be shared, as far as is known.
    shares: bool,
}

impl Default for Cloner {
    fn default() -> Cloner {
        Cloner { shares: true }
    }
}

impl Cloner {
    /// Copies the bytes of a regular file of `size` bytes, of which `blocks` of 512 are stored, into
    /// another, which is empty.
    ///
    /// Shares the blocks where the filesystem can (FICLONE), else lets the kernel copy
    /// (copy_file_range), else reads and writes; holes stay holes. `written` hears now and then how
    /// many bytes are there, counted from the start. Returns the number of bytes the file now has:
    /// fewer, where the source has become shorter.
    pub fn copy(
        &mut self,
        from: impl AsFd,
        to: impl AsFd,
        size: u64,
        blocks: u64,
        mut written: impl FnMut(u64),
    ) -> io::Result<u64> {
        if self.shares {
            match rustix::fs::ioctl_ficlone(&to, &from) {
                Ok(()) => {
                    let now = fstat(&to)?.size;
                    written(now);
                    return Ok(now);
                }
                // These are of the filesystems, not of the file.
                Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::NOTTY | Errno::NOSYS) => self.shares = false,
                Err(_) => {}
            }
        }
        if blocks.saturating_mul(512) < size {
            let now = copy_sparse(&from, &to, size)?;
            written(now);
            return Ok(now);
        }
        let mut done = 0;
        while done < size {
            let piece = (size - done).min(PIECE);
            let copied = copy_range(&from, &to, piece)?;
            if copied == 0 {
                break;
            }
            done += copied;
            written(done);
        }
        Ok(done)
    }
}

/// Copies the bytes of one regular file into another, which is empty; see [`Cloner::copy`].
///
/// One that does not know its size (files of /proc) is read to its end.
pub fn clone_file(from: impl AsFd, to: impl AsFd) -> io::Result<u64> {
    let stat = fstat(&from)?;
    match stat.size {
        0 => copy_range(&from, &to, u64::MAX),
        size => Cloner::default().copy(from, to, size, stat.blocks, |_| {}),
    }
}

/// Copies the parts of a file that hold data, and gives the copy the same length.
fn copy_sparse(from: &impl AsFd, to: &impl AsFd, size: u64) -> io::Result<u64> {
    let mut at = 0;
    loop {
        let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            // No data after `at`.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => {
                rustix::fs::seek(from, SeekFrom::Start(0))?;
                return copy_range(from, to, size);
            }
            Err(e) => return Err(e.into()),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(start))?;
        rustix::fs::seek(from, SeekFrom::Start(start))?;
        rustix::fs::seek(to, SeekFrom::Start(start))?;
        copy_range(from, to, end - start)?;
        at = end;
    }
    rustix::fs::ftruncate(to, size)?;
    Ok(size)
}

/// Copies up to `length` bytes from where each file is.
fn copy_range(from: &impl AsFd, to: &impl AsFd, length: u64) -> io::Result<u64> {
    let mut done = 0;
    while done < length {
        let chunk = (length - done).min(1 << 30) as usize;
        match rustix::fs::copy_file_range(from, None, to, None, chunk) {
            // Some filesystems say 0 at once although there are bytes.
            Ok(0) if done == 0 => return read_write(from, to, length),
            Ok(0) => break,
            Ok(n) => done += n as u64,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM | Errno::BADF)
                if done == 0 =>
            {
                return read_write(from, to, length);
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(done)
}

fn read_write(from: &impl AsFd, to: &impl AsFd, length: u64) -> io::Result<u64> {
    let mut buffer = vec![0u8; 256 * 1024];
    let mut done = 0;
    while done < length {
        let want = buffer.len().min((length - done).min(usize::MAX as u64) as usize);
        let n = match rustix::io::read(from, &mut buffer[..want]) {
            Ok(0) => break,
            Ok(n) => n,
            Err(Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        };
        write_all(to, &buffer[..n])?;
        done += n as u64;
    }
    Ok(done)
}

/// Writes all bytes to a descriptor.
pub fn write_all(to: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&to, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Returns time stamps for utimensat(2) with access and modification time equal.
pub fn timestamps(seconds: i64, nanos: u32) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// Sets an open file's access and modification time.
pub fn set_times(fd: impl AsFd, seconds: i64, nanos: u32) -> io::Result<()> {
    Ok(rustix::fs::futimens(fd, &timestamps(seconds, nanos))?)
}

/// Sets the access and modification time of `name` in `dir`; a link stands for itself.
pub fn set_times_at(
    dir: impl AsFd,
    name: impl rustix::path::Arg,
    seconds: i64,
    nanos: u32,
) -> io::Result<()> {
    Ok(rustix::fs::utimensat(dir, name, &timestamps(seconds, nanos), AtFlags::SYMLINK_NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::fs::FileExt;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn copies_bytes_and_keeps_holes() {
        let outer = tempfile::tempdir().unwrap();
        let from = outer.path().join("from");
        let to = outer.path().join("to");
        let mut file = File::create(&from).unwrap();
        file.write_all(&[1; 5000]).unwrap();
        file.write_all_at(&[2; 10], 8 << 20).unwrap();
        file.set_len(16 << 20).unwrap();
        let copy = File::create(&to).unwrap();
        let blocks = file.metadata().unwrap().blocks();
        let mut said = 0;
        let copied =
            Cloner::default().copy(File::open(&from).unwrap(), &copy, 16 << 20, blocks, |n| said = n);
        assert_eq!((copied.unwrap(), said), (16 << 20, 16 << 20));
        assert!(std::fs::read(&from).unwrap() == std::fs::read(&to).unwrap());
        assert!(copy.metadata().unwrap().blocks() * 512 < 1 << 20);
        set_times(&copy, -5, 7).unwrap();
        let meta = copy.metadata().unwrap();
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (-5, 7));
    }

    #[test]
    fn copies_in_pieces_and_no_more_than_there_is() {
        let outer = tempfile::tempdir().unwrap();
        let from = outer.path().join("from");
        let bytes: Vec<u8> = (0..3 * PIECE + 7).map(|i| (i % 251) as u8).collect();
        std::fs::write(&from, &bytes).unwrap();
        let check = |size: u64, expect: usize| {
            let to = outer.path().join("to");
            let mut said = Vec::new();
            let source = File::open(&from).unwrap();
            let blocks = u64::MAX / 512;
            let target = File::create(&to).unwrap();
            // As on a filesystem that shares no blocks.
            let mut cloner = Cloner { shares: false };
            let copied = cloner.copy(source, target, size, blocks, |n| said.push(n)).unwrap();
            assert_eq!(copied as usize, expect);
            assert_eq!(said.last().copied().unwrap_or(0) as usize, expect);
            assert!(said.is_sorted());
            assert!(std::fs::read(to).unwrap() == bytes[..expect]);
        };
        check(bytes.len() as u64, bytes.len());
        check(5, 5);
        check(0, 0);
        // It has become shorter since its size was read.
        check(bytes.len() as u64 + 100, bytes.len());
    }

    #[test]
    fn copies_files_that_do_not_know_their_size() {
        let outer = tempfile::tempdir().unwrap();
        let to = outer.path().join("to");
        let copied =
            clone_file(File::open("/proc/self/status").unwrap(), File::create(&to).unwrap()).unwrap();
        assert!(copied > 0 && std::fs::read(to).unwrap().len() as u64 == copied);
    }
}
