//! The folder of downloads.
//!
//! ```text
//! KEY/           KEY: SHA-256 of the URL and the file's name
//!   lock         flock: shared by whoever uses a version, exclusive to remove some; its mtime is the last use
//!   meta         JSON [Kept]: which version counts, and what the server said of it
//!   VERSION/NAME the file; a version never changes once it is there
//! ```
//! A new version is made elsewhere in the store, renamed to its place, and then named by `meta`, which
//! is replaced by rename too: whoever reads finds the old one or the new one, whole. Versions that
//! `meta` no longer names go when nobody uses any; all of a KEY goes when it was not used for 30 days
//! and something else is downloaded.
//!
//! A file is believed to be what it was while size, mtime, ctime and inode are equal and the kernel was
//! not restarted since (a power cut can tear a file without a trace); else it is read through.
//! Not here: asking servers (`fetch`).

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::image::{Digest, FileDigest, FileHasher, Hasher};
use crate::sys::lock::FileLock;
use crate::sys::{RootDir, Stat, atomic};

use super::name::is_file_name;

/// How long a download is kept that no build asks for.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);

/// What is remembered of a download.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// For people who look at the file.
    pub url: String,
    pub version: String,
    pub name: String,
    /// What `--checksum` is compared with.
    pub digest: Digest,
    /// What the file counts by in keys.
    pub content: FileDigest,
    pub size: u64,
    pub etag: Option<String>,
    /// As the server wrote it.
    pub last_modified: Option<String>,
    pub mtime: (i64, u32),
    pub ctime: (i64, u32),
    pub inode: u64,
    /// The start of the kernel in which the file was written or read through.
    pub boot: String,
}

impl Kept {
    /// Notes what stat says of the file now.
    pub fn stamp(&mut self, stat: &Stat) {
        self.size = stat.size;
        self.mtime = (stat.mtime_seconds, stat.mtime_nanos);
        self.ctime = (stat.ctime_seconds, stat.ctime_nanos);
        self.inode = stat.ino;
        self.boot = atomic::boot_id();
    }

    fn is_of(&self, stat: &Stat) -> bool {
        let mut now = self.clone();
        now.stamp(stat);
        *self == now
    }
}

/// Computes the two digests of a download.
#[derive(Default)]
pub struct BothDigests {
    digest: Hasher,
    content: FileHasher,
}

impl BothDigests {
    /// Returns the digests of all bytes written to it.
    pub fn finish(mut self) -> (Digest, FileDigest) {
        (self.digest.finish(), self.content.finish())
    }
}

impl io::Write for BothDigests {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.digest.update(bytes);
        self.content.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is kept of one URL, held so that no version in use is removed.
#[derive(Debug)]
pub struct Shelf {
    pub dir: PathBuf,
    pub lock: Arc<FileLock>,
}

impl Shelf {
    /// Opens the shelf of a key, and makes it where there is none.
    pub fn open(folder: &Path, key: &Digest) -> io::Result<Shelf> {
        let dir = folder.join(key.hex());
        let path = dir.join("lock");
        loop {
            DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
            match FileLock::try_exclusive(&path) {
                Ok(Some(lock)) if is_still(&lock, &path) => clean(&dir)?,
                Ok(_) => {}
                // Removed as unused since it was made.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            }
            match FileLock::shared(&path) {
                Ok(lock) if is_still(&lock, &path) => {
                    lock.file().set_modified(SystemTime::now())?;
                    return Ok(Shelf { dir, lock: Arc::new(lock) });
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Returns what is kept, if it still is what it was.
    pub fn find(&self) -> Option<Kept> {
        let mut kept = read_meta(&self.dir)?;
        let root = self.root(&kept).ok()?;
        let stat = root.stat(Path::new(&kept.name), false).ok().filter(Stat::is_file)?;
        if !kept.is_of(&stat) {
            let mut file = std::fs::File::open(self.dir.join(&kept.version).join(&kept.name)).ok()?;
            let mut digests = BothDigests::default();
            let size = io::copy(&mut file, &mut digests).ok()?;
            if (digests.finish(), size) != ((kept.digest, kept.content), kept.size) {
                return None;
            }
            kept.stamp(&stat);
            // A note that cannot be written costs the next build time.
            let _ = self.write(&kept);
        }
        Some(kept)
    }

    /// Returns the directory that holds the one file.
    pub fn root(&self, kept: &Kept) -> io::Result<RootDir> {
        RootDir::open(&self.dir.join(&kept.version))
    }

    /// Takes in a directory that holds the one file, and has it count from now on.
    pub fn put(&self, from: &Path, kept: &mut Kept) -> io::Result<()> {
        kept.version = format!("{:016x}", atomic::random_bits()?);
        std::fs::rename(from, self.dir.join(&kept.version))?;
        kept.stamp(&self.root(kept)?.stat(Path::new(&kept.name), false)?);
        self.write(kept)
    }

    fn write(&self, kept: &Kept) -> io::Result<()> {
        let temporary = self.dir.join(format!("meta.{:016x}", atomic::random_bits()?));
        atomic::publish(&temporary, &self.dir.join("meta"), &serde_json::to_vec(kept)?, false)
    }
}

fn read_meta(dir: &Path) -> Option<Kept> {
    let kept: Kept = serde_json::from_slice(&std::fs::read(dir.join("meta")).ok()?).ok()?;
    (is_file_name(&kept.name) && is_file_name(&kept.version)).then_some(kept)
}

/// Removes all but the lock, `meta`, and the version it names; nobody uses the shelf.
fn clean(dir: &Path) -> io::Result<()> {
    let current = read_meta(dir).map(|kept| kept.version);
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "lock" || name == "meta" || current.as_deref().is_some_and(|c| name == c) {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => std::fs::remove_dir_all(entry.path())?,
            false => std::fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

/// Removes what no build asked for in 30 days and nobody uses now.
///
/// An error costs space and nothing else.
pub fn remove_unused(folder: &Path) -> io::Result<()> {
    let now = SystemTime::now();
    for entry in std::fs::read_dir(folder)? {
        let dir = entry?.path();
        let path = dir.join("lock");
        let is_old = |m: std::fs::Metadata| {
            m.modified().is_ok_and(|used| now.duration_since(used).is_ok_and(|age| age > UNUSED))
        };
        if !std::fs::metadata(&path).is_ok_and(is_old) {
            continue;
        }
        if let Some(lock) = FileLock::try_exclusive(&path)?
            && is_still(&lock, &path)
            && lock.file().metadata().is_ok_and(is_old)
        {
            std::fs::remove_dir_all(&dir)?;
        }
    }
    Ok(())
}

/// Tells whether the path still names the locked file.
fn is_still(lock: &FileLock, path: &Path) -> bool {
    let id = |m: std::fs::Metadata| (m.dev(), m.ino());
    match (lock.file().metadata(), std::fs::metadata(path)) {
        (Ok(held), Ok(named)) => id(held) == id(named),
        _ => false,
    }
}
