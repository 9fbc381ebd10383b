//! Content digests of many files: on a few threads when there is real work.
//!
//! Not here: which files (`select`), and what is remembered (`digest_cache`).

use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::image::FileDigest;
use crate::image::FileHasher;
use crate::sys::RootDir;
use crate::sys::Stat;
use crate::sys::root_dir::fstat;

use super::error::ContextError;

/// Below so many bytes and files a thread costs more than it saves.
const WORTH_BYTES: u64 = 4 << 20;
const WORTH_FILES: usize = 256;
const MAX_THREADS: usize = 4;
/// How often a file that changes under the reader is read again.
const ATTEMPTS: usize = 3;

/// A file to be hashed, by its path in the tree.
#[derive(Debug)]
pub struct Pending {
    pub path: PathBuf,
    /// Only the size matters here: it says whether threads pay.
    pub size: u64,
}

/// Hashes files; returns, in the same order, each digest with what stat said before the file was read.
pub fn hash_files(root: &RootDir, files: &[Pending]) -> Result<Vec<(FileDigest, Stat)>, ContextError> {
    let bytes: u64 = files.iter().map(|file| file.size).sum();
    if bytes < WORTH_BYTES && files.len() < WORTH_FILES {
        let mut buffer = buffer();
        return files.iter().map(|file| hash_file(root, &file.path, &mut buffer)).collect();
    }
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = processors.min(MAX_THREADS).min(files.len());
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let results = Mutex::new((0..files.len()).map(|_| None).collect::<Vec<_>>());
    let work = || {
        let mut buffer = buffer();
        while !failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = files.get(index) else { break };
            let result = hash_file(root, &file.path, &mut buffer);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            results.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    // After a failure some were never started; the first error in order is the one to show.
    results.into_iter().flatten().collect()
}

fn buffer() -> Vec<u8> {
    vec![0; 128 * 1024]
}

fn hash_file(root: &RootDir, path: &Path, buffer: &mut [u8]) -> Result<(FileDigest, Stat), ContextError> {
    let fail = |source: io::Error| ContextError::Read { path: path.to_owned(), source };
    for _ in 0..ATTEMPTS {
        let fd = root.open_at(path, OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty()).map_err(fail)?;
        let mut file = std::fs::File::from(fd);
        let before = fstat(&file).map_err(fail)?;
        if !before.is_file() {
            break;
        }
        let mut hasher = FileHasher::new();
        loop {
            match file.read(buffer) {
                Ok(0) => break,
                Ok(n) => hasher.update(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(fail(e)),
            }
        }
        let after = fstat(&file).map_err(fail)?;
        if same_content(&before, &after) {
            return Ok((hasher.finish(), before));
        }
    }
    Err(ContextError::Changing(path.to_owned()))
}

/// Tells whether nothing was written between two looks at a file.
pub fn same_content(a: &Stat, b: &Stat) -> bool {
    let times = |s: &Stat| (s.mtime_seconds, s.mtime_nanos, s.ctime_seconds, s.ctime_nanos);
    a.size == b.size && times(a) == times(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_in_order_on_any_number_of_threads() {
        let outer = tempfile::tempdir().unwrap();
        let files: Vec<Pending> = (0..WORTH_FILES + 10)
            .map(|i| {
                std::fs::write(outer.path().join(i.to_string()), format!("content {i}")).unwrap();
                Pending { path: i.to_string().into(), size: 10 }
            })
            .collect();
        let root = RootDir::open(outer.path()).unwrap();
        let expect: Vec<FileDigest> =
            (0..files.len()).map(|i| FileDigest::of(format!("content {i}"))).collect();
        let digests = |files: &[Pending]| -> Vec<FileDigest> {
            hash_files(&root, files).unwrap().into_iter().map(|(digest, _)| digest).collect()
        };
        assert_eq!(digests(&files), expect);
        assert_eq!(digests(&files[..5]), expect[..5]);
    }

    #[test]
    fn names_the_file_it_cannot_read() {
        let outer = tempfile::tempdir().unwrap();
        let root = RootDir::open(outer.path()).unwrap();
        let error = hash_files(&root, &[Pending { path: "gone".into(), size: 0 }]).unwrap_err();
        assert!(error.to_string().contains("`gone`"), "{error}");
        root.make_node(Path::new("fifo"), rustix::fs::FileType::Fifo, 0o644, 0).unwrap();
        hash_files(&root, &[Pending { path: "fifo".into(), size: 0 }]).unwrap_err();
    }
}
