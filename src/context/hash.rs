//! Digests of files' contents: of one file, and of large ones on all cores.
//!
//! A file is read between two looks at it: one that was written to meanwhile is read again, and is an error if
//! that goes on. Not here: which files (`select`), and what is remembered (`digest_cache`).

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::io::Read;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::image::FileDigest;
use crate::image::FileHasher;
use crate::image::PIECE;
use crate::image::PieceDigest;
use crate::sys::RootDir;
use crate::sys::Stat;
use crate::sys::root_dir::fstat;
use crate::sys::root_dir::open_no_follow;

use super::error::ContextError;

/// Larger files are hashed by [`hash_large`], in bytes.
pub const LARGE: u64 = 256 * 1024;
/// More threads than that wait for memory.
const MAX_THREADS: usize = 16;
/// Below so many bytes a thread costs more than it saves.
const WORTH_BYTES: u64 = 2 << 20;
const STACK: usize = 512 * 1024;
/// How often a file that changes under the reader is read again.
const ATTEMPTS: usize = 3;

/// A file to be hashed, by its path in the tree.
#[derive(Debug)]
pub struct Large {
    pub path: PathBuf,
    /// What was said of its size; if that is no longer so, it is hashed all the same.
    pub size: u64,
}

/// Hashes `name` in an open directory (O_PATH will do); returns what stat said before it was read, too.
///
/// `path` is for messages; `buffer` is made as large as it must be.
pub fn hash_file(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    path: &Path,
    buffer: &mut Vec<u8>,
) -> Result<(FileDigest, Stat, File), ContextError> {
    let fail = |source: io::Error| ContextError::Read { path: path.to_owned(), source };
    // One byte more than the longest, so that one read tells that this was all.
    buffer.resize(LARGE as usize + 1, 0);
    for _ in 0..ATTEMPTS {
        let mut file = File::from(open_no_follow(dir, name, OFlags::RDONLY, Mode::empty()).map_err(fail)?);
        let before = fstat(&file).map_err(fail)?;
        if !before.is_file() {
            break;
        }
        let digest = read_to_end(&mut file, before.size, buffer).map_err(fail)?;
        let after = fstat(&file).map_err(fail)?;
        if same_content(&before, &after) {
            return Ok((digest, before, file));
        }
    }
    Err(ContextError::Changing(path.to_owned()))
}

fn read_to_end(file: &mut File, size: u64, buffer: &mut [u8]) -> io::Result<FileDigest> {
    let mut hasher = FileHasher::new();
    let mut total = 0;
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(hasher.finish()),
            // The size says that nothing follows; a second look at it that it still does.
            Ok(n) if total == 0 && n as u64 == size && n < buffer.len() => {
                return Ok(FileDigest::of(&buffer[..n]));
            }
            Ok(n) => {
                total += n;
                hasher.update(&buffer[..n]);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// What reading one piece of a file gave.
struct Part {
    digest: PartDigest,
    stat: Stat,
}

enum PartDigest {
    Whole(FileDigest),
    Piece(PieceDigest),
}

/// Hashes large files, each on all cores; returns, in the same order, what [`hash_file`] does.
pub fn hash_large(root: &RootDir, files: &[Large]) -> Result<Vec<(FileDigest, Stat)>, ContextError> {
    let pieces: Vec<(usize, u64)> = (0..files.len())
        .flat_map(|file| (0..files[file].size.div_ceil(PIECE).max(1)).map(move |number| (file, number)))
        .collect();
    let bytes: u64 = files.iter().map(|file| file.size).sum();
    let threads = match bytes < WORTH_BYTES {
        true => 1,
        false => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
    };
    let next = AtomicUsize::new(0);
    let work = || {
        let mut buffer = vec![0; LARGE as usize];
        let mut parts = Vec::new();
        while let Some(&(file, number)) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            parts.push((file, number, read_piece(root, &files[file], number, &mut buffer)));
        }
        parts
    };
    let mut parts = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads.min(MAX_THREADS).min(pieces.len()))
            .filter_map(|_| std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work).ok())
            .collect();
        let mut parts = work();
        for helper in helpers {
            match helper.join() {
                Ok(more) => parts.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        parts
    });
    parts.sort_unstable_by_key(|(file, number, _)| (*file, *number));
    let mut out = Vec::with_capacity(files.len());
    let mut buffer = Vec::new();
    for (file, parts) in files.iter().zip(parts.chunk_by(|a, b| a.0 == b.0)) {
        let parts: Option<Vec<&Part>> = parts.iter().map(|(.., part)| part.as_ref()).collect();
        out.push(match parts.as_deref().and_then(join) {
            Some(whole) => whole,
            // It changed or cannot be read; one reader finds out which.
            None => {
                let fail = |source| ContextError::Read { path: file.path.clone(), source };
                let (parent, name) = root.parent_and_name(&file.path).map_err(fail)?;
                let (digest, stat, _) = hash_file(parent.as_fd(), &name, &file.path, &mut buffer)?;
                (digest, stat)
            }
        });
    }
    Ok(out)
}

/// Puts the pieces of one file together; `None` unless all were read of the same content.
fn join(parts: &[&Part]) -> Option<(FileDigest, Stat)> {
    let stat = parts.first()?.stat;
    if !parts.iter().all(|part| part.stat.ino == stat.ino && same_content(&part.stat, &stat)) {
        return None;
    }
    let mut pieces = Vec::with_capacity(parts.len());
    for part in parts {
        match part.digest {
            PartDigest::Whole(digest) => return Some((digest, stat)),
            PartDigest::Piece(piece) => pieces.push(piece),
        }
    }
    Some((FileDigest::of_pieces(&pieces), stat))
}

/// Hashes one piece; `None` where the file is not what it was, or cannot be read.
fn read_piece(root: &RootDir, large: &Large, number: u64, buffer: &mut [u8]) -> Option<Part> {
    let file = File::from(root.open_at(&large.path, OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty()).ok()?);
    let before = fstat(&file).ok()?;
    if !before.is_file() || before.size != large.size {
        return None;
    }
    let is_whole = large.size <= PIECE;
    let mut hasher = if is_whole { FileHasher::new() } else { FileHasher::of_piece(number) };
    let mut at = number * PIECE;
    let end = large.size.min(at + PIECE);
    while at < end {
        let want = buffer.len().min((end - at) as usize);
        match file.read_at(&mut buffer[..want], at) {
            Ok(0) => return None,
            Ok(n) => {
                hasher.update(&buffer[..n]);
                at += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    same_content(&before, &fstat(&file).ok()?).then(|| Part {
        digest: match is_whole {
            true => PartDigest::Whole(hasher.finish()),
            false => PartDigest::Piece(hasher.finish_piece()),
        },
        stat: before,
    })
}

/// Tells whether nothing was written between two looks at a file.
pub fn same_content(a: &Stat, b: &Stat) -> bool {
    let times = |s: &Stat| (s.mtime_seconds, s.mtime_nanos, s.ctime_seconds, s.ctime_nanos);
    a.size == b.size && times(a) == times(b)
}

/// Tells whether a file may hold other bytes than those hashed after `began`, though [`same_content`] says not.
///
/// `began` is of [`crate::sys::clock::file_clock`]. A change within the same tick of that clock leaves
/// the same times: gitformat-index(5) and git's "racy-git" tell the same of git's index. On file systems
/// that keep whole seconds, FAT's even ones, a tick is as long as that.
pub fn may_change_unseen(stat: &Stat, began: (i64, u32)) -> bool {
    let ctime = (stat.ctime_seconds, stat.ctime_nanos);
    ctime >= began || ctime.1 == 0 && ctime.0.saturating_add(1) >= began.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(seed: usize, size: u64) -> Vec<u8> {
        (0..size as usize).map(|i| ((i + seed) * 31 % 251) as u8).collect()
    }

    #[test]
    fn pieces_and_small_files_have_the_digest_of_the_whole() {
        let outer = tempfile::tempdir().unwrap();
        let root = RootDir::open(outer.path()).unwrap();
        let sizes = [LARGE + 1, PIECE, PIECE + 1, 0, 3 * PIECE - 5, 7, 2 * PIECE];
        let files: Vec<Large> = sizes
            .iter()
            .enumerate()
            .map(|(i, &size)| {
                std::fs::write(outer.path().join(i.to_string()), content(i, size)).unwrap();
                Large { path: i.to_string().into(), size }
            })
            .collect();
        let expect: Vec<FileDigest> =
            sizes.iter().enumerate().map(|(i, &size)| FileDigest::of(content(i, size))).collect();
        let digests =
            |found: Vec<(FileDigest, Stat)>| found.into_iter().map(|(digest, _)| digest).collect::<Vec<_>>();
        assert_eq!(digests(hash_large(&root, &files).unwrap()), expect);
        let mut buffer = Vec::new();
        for (file, digest) in files.iter().zip(&expect) {
            let found = hash_file(root.fd(), file.path.as_os_str(), &file.path, &mut buffer).unwrap();
            assert_eq!((found.0, found.1.size), (*digest, file.size));
        }
        // What stat said at first need not hold any more.
        let wrong: Vec<Large> =
            files.iter().map(|f| Large { path: f.path.clone(), size: f.size ^ 0x40_0001 }).collect();
        assert_eq!(digests(hash_large(&root, &wrong).unwrap()), expect);
    }

    #[test]
    fn what_changed_in_the_tick_of_the_hashing_may_change_again() {
        let outer = tempfile::tempdir().unwrap();
        std::fs::write(outer.path().join("a"), "x").unwrap();
        let stat = RootDir::open(outer.path()).unwrap().stat(Path::new("a"), false).unwrap();
        let check = |ctime: (i64, u32), began, expect| {
            let stat = Stat { ctime_seconds: ctime.0, ctime_nanos: ctime.1, ..stat };
            assert_eq!(may_change_unseen(&stat, began), expect, "{ctime:?} {began:?}");
        };
        check((9, 4), (9, 5), false);
        check((9, 5), (9, 5), true);
        check((9, 6), (9, 5), true);
        check((8, 0), (10, 5), false);
        check((9, 0), (10, 5), true);
        check((10, 0), (10, 5), true);
    }

    #[test]
    fn names_the_file_it_cannot_read() {
        let outer = tempfile::tempdir().unwrap();
        let root = RootDir::open(outer.path()).unwrap();
        root.make_node(Path::new("fifo"), rustix::fs::FileType::Fifo, 0o644, 0).unwrap();
        for (name, text) in [("gone", "`gone`"), ("fifo", "`fifo`")] {
            let error = hash_large(&root, &[Large { path: name.into(), size: 0 }]).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
            let name = OsStr::new(name);
            hash_file(root.fd(), name, Path::new(name), &mut Vec::new()).unwrap_err();
        }
    }
}
