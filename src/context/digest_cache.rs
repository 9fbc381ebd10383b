//! The stat cache: content digests of a context's files, kept from build to build.
//!
//! One file per context directory, in a folder that the store gives. A digest is
//! believed as long as size, mtime, ctime and inode of the file are what they
//! were. Not here: hashing itself (`hash`), and anything about trees without a
//! fixed place (tar contexts are hashed anew).
//!
//! Racy entries, as git's index has them (gitformat-index, "racy-git"): a file
//! changed within the same clock tick in which it was hashed keeps its times. So
//! an entry is only kept when the file's ctime lies before the moment hashing
//! began, read from a file made in the cache's own folder: the kernel stamps
//! both with the same clock. The mtime can be set at will, the ctime cannot.
//!
//! The file, all numbers little-endian:
//! ```text
//! magic[24]  saves u32  root_length u32  count u64  names_length u64
//! root bytes, names bytes
//! count records of 84 bytes, sorted by name:
//!   name_offset u32  name_length u32  size u64  mtime_s i64  ctime_s i64
//!   mtime_ns u32  ctime_ns u32  inode u64  last_used u32, its top bit: has xattrs
//!   digest[32]
//! crc32 u32 of all before it
//! ```
//! A file that is cut short, damaged, of another version or of another context is
//! ignored and written anew. It is replaced by rename and never waited for: of two
//! builds that save at once, the later one wins.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use crate::image::Digest;
use crate::image::FileDigest;
use crate::sys::Stat;

use super::hash::may_change_unseen;

const MAGIC: &[u8; 24] = b"rbuild digest cache v2\n\0";
const HEADER: usize = 24 + 4 + 4 + 8 + 8;
const RECORD: usize = 84;
/// Saves after which an entry that no build asked for is dropped.
const KEEP_UNUSED_SAVES: u32 = 8;
const XATTRS_BIT: u32 = 1 << 31;
/// Larger files are not ours: two million entries with long names fit well below.
const MAX_FILE: u64 = 1 << 30;

/// Content digests of the regular files of one context directory.
///
/// Shared by all selections of a build; [`DigestCache::save`] at its end.
#[derive(Debug)]
pub struct DigestCache {
    file: PathBuf,
    root: Vec<u8>,
    /// Set once the draft was made.
    begun: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What the file held; read at the first question.
    old: Option<Arc<Loaded>>,
    /// What was hashed since.
    new: Arc<HashMap<Vec<u8>, Record>>,
    /// The file to be, made when the first digest is added: its mtime is the moment hashing began.
    draft: Draft,
}

impl State {
    fn old(&mut self, file: &Path, root: &[u8]) -> Arc<Loaded> {
        self.old.get_or_insert_with(|| Arc::new(Loaded::read(file, root))).clone()
    }
}

/// What is known when it is asked for, read without a lock.
#[derive(Debug)]
pub struct Lookups {
    old: Arc<Loaded>,
    new: Arc<HashMap<Vec<u8>, Record>>,
    /// Where the next name probably is: files are asked for in about the order that they are kept in.
    next: usize,
}

impl Lookups {
    /// Returns what is known of the file at `path` (relative to the root), if it is still that file.
    pub fn find(&mut self, path: &Path, stat: &Stat) -> Option<Known> {
        let name = path.as_os_str().as_bytes();
        if !self.new.is_empty()
            && let Some(record) = self.new.get(name)
        {
            return record.is_of(stat).then_some(record.known);
        }
        let index = match self.old.name(self.next) {
            Some(there) if there == name => self.next,
            _ => self.old.find(name)?,
        };
        self.next = index + 1;
        let (record, _) = self.old.record(index)?;
        if !record.is_of(stat) {
            return None;
        }
        self.old.used[index].store(true, Ordering::Relaxed);
        Some(record.known)
    }
}

#[derive(Debug, Default)]
enum Draft {
    #[default]
    None,
    Open {
        file: tempfile::NamedTempFile,
        began: (i64, u32),
    },
    /// The folder cannot be written: nothing is kept.
    Unwritable,
}

/// What is remembered of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    pub digest: FileDigest,
    /// Whether it had extended attributes; setting one changes the ctime.
    pub has_xattrs: bool,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    size: u64,
    mtime: (i64, u32),
    ctime: (i64, u32),
    inode: u64,
    known: Known,
}

impl Record {
    fn is_of(&self, stat: &Stat) -> bool {
        self.size == stat.size
            && self.mtime == (stat.mtime_seconds, stat.mtime_nanos)
            && self.ctime == (stat.ctime_seconds, stat.ctime_nanos)
            && self.inode == stat.ino
    }
}

impl DigestCache {
    /// Opens the cache of one context directory; `folder` holds one file for each.
    ///
    /// Reads nothing yet, and cannot fail: without a usable file it starts empty.
    /// `root` should be canonical.
    pub fn open(folder: &Path, root: &Path) -> DigestCache {
        let root = root.as_os_str().as_bytes().to_vec();
        let file = folder.join(format!("{}.digests", &Digest::of(&root).hex()[..32]));
        DigestCache { file, root, begun: AtomicBool::new(false), state: Mutex::default() }
    }

    /// Makes a cache that knows one file and is never saved.
    pub fn of_one(path: &Path, stat: &Stat, known: Known) -> DigestCache {
        let (mtime, ctime) = ((stat.mtime_seconds, stat.mtime_nanos), (stat.ctime_seconds, stat.ctime_nanos));
        let record = Record { size: stat.size, mtime, ctime, inode: stat.ino, known };
        let new = Arc::new(HashMap::from([(path.as_os_str().as_bytes().to_vec(), record)]));
        // No file has this name, so nothing is read from it either.
        let state = State { old: Some(Arc::default()), new, draft: Draft::Unwritable };
        let begun = AtomicBool::new(true);
        DigestCache { file: PathBuf::new(), root: Vec::new(), begun, state: Mutex::new(state) }
    }

    /// Returns the path of the context.
    pub fn root(&self) -> &[u8] {
        &self.root
    }

    /// Returns what is known now; what is added later is not in it.
    pub fn lookups(&self) -> Lookups {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Lookups { old: state.old(&self.file, &self.root), new: state.new.clone(), next: 0 }
    }

    /// Notes that files are about to be hashed: what changes from now on is not kept.
    pub fn begin(&self) {
        if self.begun.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(state.draft, Draft::None) {
            let folder = self.file.parent().unwrap_or(Path::new("."));
            let made = tempfile::NamedTempFile::new_in(folder).and_then(|file| {
                let meta = file.as_file().metadata()?;
                Ok(Draft::Open { began: (meta.mtime(), meta.mtime_nsec() as u32), file })
            });
            state.draft = made.unwrap_or(Draft::Unwritable);
        }
        self.begun.store(true, Ordering::Release);
    }

    /// Keeps digests; `Stat` is that of before the file was read. Racy ones are dropped.
    ///
    /// [`DigestCache::begin`] must have come first, or nothing is kept.
    pub fn add(&self, learned: impl Iterator<Item = (PathBuf, Stat, Known)>) {
        let mut learned = learned.peekable();
        if learned.peek().is_none() {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Draft::Open { began, .. } = state.draft else { return };
        // Somebody may be reading it.
        let new = Arc::make_mut(&mut state.new);
        for (path, stat, known) in learned {
            if may_change_unseen(&stat, began) {
                continue;
            }
            let ctime = (stat.ctime_seconds, stat.ctime_nanos);
            let mtime = (stat.mtime_seconds, stat.mtime_nanos);
            let record = Record { size: stat.size, mtime, ctime, inode: stat.ino, known };
            new.insert(path.into_os_string().into_vec(), record);
        }
    }

    /// Writes the cache if anything was added; returns whether it wrote.
    ///
    /// An error loses nothing but time in the next build.
    pub fn save(&self) -> std::io::Result<bool> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let Draft::Open { mut file, .. } = std::mem::take(&mut state.draft) else { return Ok(false) };
        self.begun.store(false, Ordering::Release);
        if state.new.is_empty() {
            return Ok(false);
        }
        let old = state.old(&self.file, &self.root);
        let saves = old.saves.wrapping_add(1) & !XATTRS_BIT;
        let mut all: Vec<(&[u8], Record, u32)> =
            state.new.iter().map(|(name, record)| (name.as_slice(), *record, saves)).collect();
        for index in 0..old.count {
            let (Some((record, last_used)), Some(name)) = (old.record(index), old.name(index)) else {
                continue;
            };
            let last_used = if old.used[index].load(Ordering::Relaxed) { saves } else { last_used };
            let age = saves.wrapping_sub(last_used) & !XATTRS_BIT;
            if age <= KEEP_UNUSED_SAVES && !state.new.contains_key(name) {
                all.push((name, record, last_used));
            }
        }
        all.sort_unstable_by_key(|(name, ..)| *name);
        let bytes = encode(&self.root, saves, &all);
        file.write_all(&bytes)?;
        file.persist(&self.file).map_err(|e| e.error)?;
        state.old = Some(Arc::new(Loaded::parse(bytes, &self.root).unwrap_or_default()));
        state.new = Arc::default();
        Ok(true)
    }
}

fn encode(root: &[u8], saves: u32, all: &[(&[u8], Record, u32)]) -> Vec<u8> {
    let names: usize = all.iter().map(|(name, ..)| name.len()).sum();
    let mut out = Vec::with_capacity(HEADER + root.len() + names + all.len() * RECORD + 4);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&saves.to_le_bytes());
    out.extend_from_slice(&(root.len() as u32).to_le_bytes());
    out.extend_from_slice(&(all.len() as u64).to_le_bytes());
    out.extend_from_slice(&(names as u64).to_le_bytes());
    out.extend_from_slice(root);
    for (name, ..) in all {
        out.extend_from_slice(name);
    }
    let mut offset = 0u32;
    for (name, record, last_used) in all {
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(&(name.len() as u32).to_le_bytes());
        out.extend_from_slice(&record.size.to_le_bytes());
        out.extend_from_slice(&record.mtime.0.to_le_bytes());
        out.extend_from_slice(&record.ctime.0.to_le_bytes());
        out.extend_from_slice(&record.mtime.1.to_le_bytes());
        out.extend_from_slice(&record.ctime.1.to_le_bytes());
        out.extend_from_slice(&record.inode.to_le_bytes());
        let flags = if record.known.has_xattrs { XATTRS_BIT } else { 0 };
        out.extend_from_slice(&(last_used | flags).to_le_bytes());
        out.extend_from_slice(record.known.digest.as_bytes());
        offset = offset.wrapping_add(name.len() as u32);
    }
    let mut crc = flate2::Crc::new();
    crc.update(&out);
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out
}

/// A cache file in memory; records are read in place.
#[derive(Debug, Default)]
struct Loaded {
    bytes: Vec<u8>,
    saves: u32,
    names: usize,
    records: usize,
    count: usize,
    used: Vec<AtomicBool>,
}

impl Loaded {
    fn read(file: &Path, root: &[u8]) -> Loaded {
        let small = std::fs::metadata(file).is_ok_and(|m| m.is_file() && m.len() <= MAX_FILE);
        let bytes = if small { std::fs::read(file).unwrap_or_default() } else { Vec::new() };
        Loaded::parse(bytes, root).unwrap_or_default()
    }

    /// Returns `None` for anything but a whole file of this version and of this root.
    fn parse(bytes: Vec<u8>, root: &[u8]) -> Option<Loaded> {
        if bytes.get(..24)? != MAGIC {
            return None;
        }
        let saves = u32_at(&bytes, 24)?;
        let root_length = u32_at(&bytes, 28)? as usize;
        let count = usize::try_from(u64_at(&bytes, 32)?).ok()?;
        let names_length = usize::try_from(u64_at(&bytes, 40)?).ok()?;
        let names = HEADER.checked_add(root_length)?;
        if bytes.get(HEADER..names)? != root {
            return None;
        }
        let records = names.checked_add(names_length)?;
        let end = records.checked_add(count.checked_mul(RECORD)?)?;
        if end.checked_add(4)? != bytes.len() {
            return None;
        }
        let mut crc = flate2::Crc::new();
        crc.update(&bytes[..end]);
        if crc.sum() != u32_at(&bytes, end)? {
            return None;
        }
        let used = (0..count).map(|_| AtomicBool::new(false)).collect();
        Some(Loaded { bytes, saves, names, records, count, used })
    }

    fn name(&self, index: usize) -> Option<&[u8]> {
        if index >= self.count {
            return None;
        }
        let at = self.records + index * RECORD;
        let start = self.names.checked_add(u32_at(&self.bytes, at)? as usize)?;
        let end = start.checked_add(u32_at(&self.bytes, at + 4)? as usize)?;
        (end <= self.records).then(|| self.bytes.get(start..end)).flatten()
    }

    fn record(&self, index: usize) -> Option<(Record, u32)> {
        let at = self.records + index * RECORD;
        let b = &self.bytes;
        let flags = u32_at(b, at + 48)?;
        let digest: [u8; 32] = b.get(at + 52..at + 84)?.try_into().ok()?;
        let record = Record {
            size: u64_at(b, at + 8)?,
            mtime: (u64_at(b, at + 16)? as i64, u32_at(b, at + 32)?),
            ctime: (u64_at(b, at + 24)? as i64, u32_at(b, at + 36)?),
            inode: u64_at(b, at + 40)?,
            known: Known { digest: FileDigest::from_bytes(digest), has_xattrs: flags & XATTRS_BIT != 0 },
        };
        Some((record, flags & !XATTRS_BIT))
    }

    fn find(&self, name: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.name(middle)?.cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOT: &str = "/home/somebody/app";

    fn stat(ctime: (i64, u32)) -> Stat {
        Stat {
            kind: rustix::fs::FileType::RegularFile,
            mode: 0o644,
            uid: 0,
            gid: 0,
            nlink: 1,
            size: 5,
            blocks: 8,
            dev: 1,
            ino: 12,
            rdev: 0,
            mtime_seconds: 100,
            mtime_nanos: 7,
            ctime_seconds: ctime.0,
            ctime_nanos: ctime.1,
        }
    }

    fn known(text: &str) -> Known {
        Known { digest: FileDigest::of(text), has_xattrs: text.len() % 2 == 1 }
    }

    /// Opens a cache whose hashing began at `began`.
    fn begun(folder: &Path, began: (i64, u32)) -> DigestCache {
        let cache = DigestCache::open(folder, Path::new(ROOT));
        cache.begin();
        let mut state = cache.state.lock().unwrap();
        let Draft::Open { file, .. } = std::mem::take(&mut state.draft) else { panic!("no draft") };
        state.draft = Draft::Open { file, began };
        drop(state);
        cache
    }

    fn add(cache: &DigestCache, path: &Path, stat: Stat, known: Known) {
        cache.add(std::iter::once((path.to_owned(), stat, known)));
    }

    fn saved(folder: &Path, names: &[&str]) -> PathBuf {
        let cache = begun(folder, (200, 0));
        for name in names {
            add(&cache, Path::new(name), stat((100, 9)), known(name));
        }
        assert!(cache.save().unwrap());
        cache.file.clone()
    }

    fn files(folder: &Path) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn remembers_from_build_to_build_and_writes_only_news() {
        let folder = tempfile::tempdir().unwrap();
        saved(folder.path(), &["b", "a", "a/c"]);
        let again = DigestCache::open(folder.path(), Path::new(ROOT));
        for name in ["a", "a/c", "b"] {
            assert_eq!(again.lookups().find(Path::new(name), &stat((100, 9))), Some(known(name)), "{name}");
        }
        assert_eq!(again.lookups().find(Path::new("c"), &stat((100, 9))), None);
        assert!(!again.save().unwrap());
        assert_eq!(files(folder.path()), 1);
    }

    #[test]
    fn believes_nothing_that_changed() {
        let folder = tempfile::tempdir().unwrap();
        saved(folder.path(), &["a"]);
        let cache = DigestCache::open(folder.path(), Path::new(ROOT));
        let good = stat((100, 9));
        for (what, changed) in [
            ("size", Stat { size: 6, ..good }),
            ("mtime", Stat { mtime_nanos: 8, ..good }),
            ("ctime", Stat { ctime_seconds: 101, ..good }),
            ("inode, as after a rename", Stat { ino: 13, ..good }),
        ] {
            assert_eq!(cache.lookups().find(Path::new("a"), &changed), None, "{what}");
        }
        assert!(cache.lookups().find(Path::new("a"), &good).is_some());
    }

    #[test]
    fn keeps_no_racy_entry() {
        let check = |ctime, began, kept: bool| {
            let folder = tempfile::tempdir().unwrap();
            let cache = begun(folder.path(), began);
            add(&cache, Path::new("a"), stat(ctime), known("a"));
            assert_eq!(cache.save().unwrap(), kept, "{ctime:?} {began:?}");
            assert_eq!(cache.lookups().find(Path::new("a"), &stat(ctime)).is_some(), kept);
            assert_eq!(files(folder.path()), usize::from(kept), "no temporary file stays");
        };
        check((100, 5), (100, 6), true);
        check((100, 6), (100, 6), false);
        check((100, 7), (100, 6), false);
        check((101, 1), (100, 6), false);
        // Times of whole seconds: the same two are too close.
        check((100, 0), (100, 6), false);
        check((99, 0), (100, 6), false);
        check((98, 0), (100, 6), true);
    }

    #[test]
    fn a_file_just_written_is_racy_by_the_real_clock() {
        let folder = tempfile::tempdir().unwrap();
        let cache = DigestCache::open(folder.path(), Path::new(ROOT));
        cache.begin();
        let file = folder.path().join("x");
        std::fs::write(&file, "one").unwrap();
        let now = crate::sys::root_dir::fstat(std::fs::File::open(&file).unwrap()).unwrap();
        add(&cache, Path::new("x"), now, known("x"));
        assert_eq!(cache.lookups().find(Path::new("x"), &now), None);
    }

    #[test]
    fn ignores_damaged_and_foreign_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = saved(folder.path(), &["a", "b"]);
        let good = std::fs::read(&file).unwrap();
        let found = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            let cache = DigestCache::open(folder.path(), Path::new(ROOT));
            cache.lookups().find(Path::new("a"), &stat((100, 9)))
        };
        assert!(found(&good).is_some());
        for length in 0..good.len() {
            assert_eq!(found(&good[..length]), None, "cut at {length}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(found(&bad), None, "byte {at} changed");
        }
        std::fs::write(&file, &good).unwrap();
        assert_eq!(Loaded::parse(good, b"/home/another").map(|l| l.count), None);
    }

    #[test]
    fn drops_what_no_build_asks_for() {
        let folder = tempfile::tempdir().unwrap();
        saved(folder.path(), &["old", "used"]);
        for round in 0..=KEEP_UNUSED_SAVES {
            let cache = begun(folder.path(), (200, 0));
            assert!(cache.lookups().find(Path::new("used"), &stat((100, 9))).is_some());
            add(&cache, Path::new("new"), stat((101, i64::from(round) as u32 + 1)), known("new"));
            assert!(cache.save().unwrap());
        }
        let cache = DigestCache::open(folder.path(), Path::new(ROOT));
        assert!(cache.lookups().find(Path::new("used"), &stat((100, 9))).is_some());
        assert_eq!(cache.lookups().find(Path::new("old"), &stat((100, 9))), None);
    }

    #[test]
    fn works_without_a_folder() {
        let cache = DigestCache::open(Path::new("/nonexistent/folder"), Path::new(ROOT));
        cache.begin();
        add(&cache, Path::new("a"), stat((100, 9)), known("a"));
        assert_eq!(cache.lookups().find(Path::new("a"), &stat((100, 9))), None);
        assert!(!cache.save().unwrap());
    }

    proptest! {
        #[test]
        fn never_panics_on_foreign_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), whole: bool) {
            if whole {
                // Past the checksum, where wrong offsets and counts wait.
                let mut file = MAGIC.to_vec();
                file.extend_from_slice(&bytes);
                let mut crc = flate2::Crc::new();
                crc.update(&file);
                file.extend_from_slice(&crc.sum().to_le_bytes());
                bytes = file;
            }
            if let Some(loaded) = Loaded::parse(bytes, b"") {
                loaded.find(b"a");
                for index in 0..loaded.count {
                    loaded.record(index);
                }
            }
        }
    }
}
