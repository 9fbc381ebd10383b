//! Which files a COPY wrote, kept beside its layer, and the way from a COPY to its last layer.
//!
//! The next COPY like it links the files that are the same from there instead of writing them again
//! (docs/decisions/018-unchanged-files-are-linked.md). Only what a copy can be sure of is listed:
//! regular files with one name and no attributes, with the digest that the context gave. Not here:
//! which files those are and the linking (`worker::copy`).
//!
//! `snapshots/ID/copied`, all numbers little-endian:
//! ```text
//! magic[24]  count u64  names_length u64
//! names
//! count records of 72 bytes, sorted by name:
//!   name_offset u32  name_length u32  size u64  mtime_s i64
//!   mtime_ns u32  mode u32  uid u32  gid u32  digest[32]
//! crc32 u32 of all before it
//! ```
//! A file that is cut short, damaged or of another version is ignored; without it all is copied.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::image::{Digest, FileDigest, SnapshotId};
use crate::sys::RootDir;

use super::error::failed;
use super::{Store, StoreError};

const MAGIC: &[u8; 24] = b"rbuild copied files v1\n\0";
const HEADER: usize = 24 + 8 + 8;
const RECORD: usize = 72;
/// The name of the list in the layer's folder.
const NAME: &str = "copied";
/// Longer lists are not ours: two million files with long names fit well below.
const MAX_FILE: u64 = 1 << 30;

/// What a regular file of a layer is, so that another one is known to be the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopiedFile {
    pub digest: FileDigest,
    pub size: u64,
    /// In seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// The files of a layer in the making; paths are relative to the layer.
#[derive(Debug, Default)]
pub struct CopiedFiles {
    names: Vec<u8>,
    /// Start and length of the path among the names.
    files: Vec<(usize, usize, CopiedFile)>,
    /// Paths whose file is another one now.
    replaced: HashSet<Vec<u8>>,
    unknown: bool,
}

/// The layer that a COPY like this one made last.
#[derive(Debug)]
pub struct EarlierCopy {
    root: RootDir,
    list: List,
    /// The record after the one found last: they are asked for in about their order.
    next: usize,
    path: Vec<u8>,
}

/// A list in memory; records are read in place.
#[derive(Debug)]
struct List {
    bytes: Vec<u8>,
    records: usize,
    count: usize,
}

impl CopiedFiles {
    /// Adds a file.
    pub fn push(&mut self, directory: &Path, name: &OsStr, file: CopiedFile) {
        let start = self.names.len();
        join(directory, name, &mut self.names);
        self.files.push((start, self.names.len() - start, file));
    }

    /// Takes a file out whose name something else has now.
    pub fn replaced(&mut self, path: &Path) {
        self.replaced.insert(path.as_os_str().as_bytes().to_vec());
    }

    /// Takes all out: files may be others than those that were added.
    pub fn forget(&mut self) {
        self.unknown = true;
    }

    fn encode(&self) -> Option<Vec<u8>> {
        let name = |at: &(usize, usize, CopiedFile)| &self.names[at.0..at.0 + at.1];
        let mut files: Vec<_> = self.files.iter().filter(|at| !self.replaced.contains(name(at))).collect();
        if self.unknown || files.is_empty() || u32::try_from(self.names.len()).is_err() {
            return None;
        }
        files.sort_unstable_by_key(|at| name(at));
        let mut out = Vec::with_capacity(HEADER + self.names.len() + files.len() * RECORD + 4);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&(files.len() as u64).to_le_bytes());
        out.extend_from_slice(&(self.names.len() as u64).to_le_bytes());
        out.extend_from_slice(&self.names);
        for (start, length, file) in files {
            out.extend_from_slice(&(*start as u32).to_le_bytes());
            out.extend_from_slice(&(*length as u32).to_le_bytes());
            out.extend_from_slice(&file.size.to_le_bytes());
            out.extend_from_slice(&file.mtime.0.to_le_bytes());
            for number in [file.mtime.1, file.mode, file.uid, file.gid] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            out.extend_from_slice(file.digest.as_bytes());
        }
        let mut crc = flate2::Crc::new();
        crc.update(&out);
        out.extend_from_slice(&crc.sum().to_le_bytes());
        Some(out)
    }
}

impl EarlierCopy {
    /// Returns the top directory of its files.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.fd()
    }

    /// Returns what is listed of a file.
    pub fn find(&mut self, directory: &Path, name: &OsStr) -> Option<CopiedFile> {
        self.path.clear();
        join(directory, name, &mut self.path);
        let index = match self.list.name(self.next) {
            Some(expected) if expected == self.path => self.next,
            _ => self.list.find(&self.path)?,
        };
        self.next = index + 1;
        self.list.file(index)
    }
}

fn join(directory: &Path, name: &OsStr, out: &mut Vec<u8>) {
    let directory = directory.as_os_str().as_bytes();
    out.extend_from_slice(directory);
    if !directory.is_empty() {
        out.push(b'/');
    }
    out.extend_from_slice(name.as_bytes());
}

impl Store {
    /// Keeps the list of a layer that stays, and makes the layer the last one of its COPY.
    ///
    /// `copy` names the COPY: what it says, and what it reads. Where nothing is listed, neither is done.
    pub fn set_copied(&self, id: &SnapshotId, copy: &Digest, files: &CopiedFiles) -> Result<(), StoreError> {
        let Some(bytes) = files.encode() else { return Ok(()) };
        self.publish(&self.paths.snapshot(id).join(NAME), &bytes)?;
        match rustix::fs::mkdir(&self.paths.by_copy, rustix::fs::Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(failed("make", &self.paths.by_copy)(errno.into())),
        }
        let path = self.paths.by_copy.join(copy.hex());
        let (temporary, _hold) = self.temp_path()?;
        std::os::unix::fs::symlink(id.as_str(), &temporary).map_err(failed("write", &temporary))?;
        std::fs::rename(&temporary, &path).map_err(failed("write", &path))
    }

    /// Returns the last layer of a COPY; `None` where there is none, it may not be whole, or its list is damaged.
    pub fn earlier_copy(&self, copy: &Digest) -> Result<Option<EarlierCopy>, StoreError> {
        // Nobody may remove it meanwhile.
        self.hold()?;
        let Some(id) = super::digests::read_index(&self.paths.by_copy.join(copy.hex()))? else {
            return Ok(None);
        };
        if !self.has_snapshot(&id)? {
            return Ok(None);
        }
        let Some(list) = List::read(&self.paths.snapshot(&id).join(NAME)) else { return Ok(None) };
        let Ok(root) = RootDir::open(&self.snapshot_dir(&id)) else { return Ok(None) };
        Ok(Some(EarlierCopy { root, list, next: 0, path: Vec::new() }))
    }

    /// Tells whether a layer has a list that cannot be read.
    pub(super) fn copied_is_damaged(&self, id: &SnapshotId) -> bool {
        let path = self.paths.snapshot(id).join(NAME);
        path.symlink_metadata().is_ok() && List::read(&path).is_none()
    }
}

impl List {
    fn read(path: &Path) -> Option<List> {
        let metadata = std::fs::symlink_metadata(path).ok()?;
        if !metadata.is_file() || metadata.len() > MAX_FILE {
            return None;
        }
        List::parse(std::fs::read(path).ok()?)
    }

    /// Returns `None` for anything but a whole file of this version.
    fn parse(bytes: Vec<u8>) -> Option<List> {
        if bytes.get(..24)? != MAGIC {
            return None;
        }
        let count = usize::try_from(u64_at(&bytes, 24)?).ok()?;
        let names = usize::try_from(u64_at(&bytes, 32)?).ok()?;
        let records = HEADER.checked_add(names)?;
        let end = records.checked_add(count.checked_mul(RECORD)?)?;
        if end.checked_add(4)? != bytes.len() {
            return None;
        }
        let mut crc = flate2::Crc::new();
        crc.update(&bytes[..end]);
        (crc.sum() == u32_at(&bytes, end)?).then_some(List { bytes, records, count })
    }

    fn name(&self, index: usize) -> Option<&[u8]> {
        let at = self.at(index)?;
        let start = HEADER.checked_add(u32_at(&self.bytes, at)? as usize)?;
        let end = start.checked_add(u32_at(&self.bytes, at + 4)? as usize)?;
        (end <= self.records).then(|| self.bytes.get(start..end)).flatten()
    }

    fn file(&self, index: usize) -> Option<CopiedFile> {
        let (at, b) = (self.at(index)?, &self.bytes);
        Some(CopiedFile {
            size: u64_at(b, at + 8)?,
            mtime: (u64_at(b, at + 16)? as i64, u32_at(b, at + 24)?),
            mode: u32_at(b, at + 28)?,
            uid: u32_at(b, at + 32)?,
            gid: u32_at(b, at + 36)?,
            digest: FileDigest::from_bytes(b.get(at + 40..at + 72)?.try_into().ok()?),
        })
    }

    fn at(&self, index: usize) -> Option<usize> {
        (index < self.count).then(|| self.records + index * RECORD)
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

    use super::super::testing;
    use super::*;

    fn file(number: u32) -> CopiedFile {
        let mtime = (-i64::from(number), number);
        let (uid, gid) = (number + 1, number + 2);
        let digest = FileDigest::of(number.to_le_bytes());
        CopiedFile { digest, size: number.into(), mtime, mode: 0o644, uid, gid }
    }

    fn files(names: &[(&str, &str)]) -> CopiedFiles {
        let mut files = CopiedFiles::default();
        for (number, (directory, name)) in names.iter().enumerate() {
            files.push(Path::new(directory), OsStr::new(name), file(number as u32));
        }
        files
    }

    fn copy(text: &str) -> Digest {
        Digest::of(text)
    }

    #[test]
    fn the_last_layer_of_a_copy_is_found_with_its_files() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let (one, two) = (testing::layer(&store, "a", "1"), testing::layer(&store, "a", "2"));
        assert!(store.earlier_copy(&copy("x")).unwrap().is_none());
        let listed = files(&[("", "z"), ("app", "b"), ("app", "a"), ("app/a.d", "c"), ("app/a", "d")]);
        store.set_copied(&one, &copy("x"), &listed).unwrap();
        let mut earlier = store.earlier_copy(&copy("x")).unwrap().unwrap();
        for (number, path) in ["z", "app/b", "app/a", "app/a.d/c", "app/a/d"].iter().enumerate() {
            let path = Path::new(path);
            let found = earlier.find(path.parent().unwrap(), path.file_name().unwrap());
            assert_eq!(found, Some(file(number as u32)), "{path:?}");
        }
        assert_eq!(earlier.find(Path::new("app"), OsStr::new("c")), None);
        assert_eq!(earlier.find(Path::new(""), OsStr::new("app")), None);
        assert!(store.earlier_copy(&copy("y")).unwrap().is_none());

        store.set_copied(&two, &copy("x"), &files(&[("", "a")])).unwrap();
        let mut earlier = store.earlier_copy(&copy("x")).unwrap().unwrap();
        assert!(crate::sys::root_dir::stat_at(earlier.root(), "a").is_ok());
        assert_eq!(earlier.find(Path::new(""), OsStr::new("a")), Some(file(0)));
        store.discard(&two);
        assert!(store.earlier_copy(&copy("x")).unwrap().is_none(), "it dangles");
    }

    #[test]
    fn what_was_replaced_is_not_listed() {
        let mut listed = files(&[("", "a"), ("", "b")]);
        listed.replaced(Path::new("a"));
        let list = List::parse(listed.encode().unwrap()).unwrap();
        assert_eq!((list.count, list.find(b"a"), list.find(b"b")), (1, None, Some(0)));
        listed.forget();
        assert_eq!(listed.encode(), None);
        assert_eq!(CopiedFiles::default().encode(), None);
    }

    #[test]
    fn a_damaged_list_or_a_layer_that_is_not_whole_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let layer = testing::layer(&store, "a", "1");
        store.set_copied(&layer, &copy("x"), &files(&[("", "a"), ("d", "b")])).unwrap();
        let path = store.paths.snapshot(&layer).join(NAME);
        let good = std::fs::read(&path).unwrap();
        let usable = || store.earlier_copy(&copy("x")).unwrap().is_some();
        assert!(usable() && !store.copied_is_damaged(&layer));
        for length in 0..good.len() {
            std::fs::write(&path, &good[..length]).unwrap();
            assert!(!usable() && store.copied_is_damaged(&layer), "cut at {length}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, bad).unwrap();
            assert!(!usable(), "byte {at} changed");
        }
        std::fs::write(&path, &good).unwrap();
        assert!(usable());
        std::fs::write(store.paths.snapshot(&layer).join("meta"), "").unwrap();
        assert!(!usable());
    }

    #[test]
    fn the_way_to_a_layer_goes_with_it() {
        let directory = tempfile::tempdir().unwrap();
        {
            let store = testing::open(directory.path());
            let layer = testing::layer(&store, "a", "1");
            store.set_copied(&layer, &copy("x"), &files(&[("", "a")])).unwrap();
        }
        let store = testing::open(directory.path());
        assert!(store.paths.by_copy.join(copy("x").hex()).symlink_metadata().is_ok());
        assert_eq!(store.sweep_if_free().unwrap().unwrap().layers.len(), 1);
        assert!(store.paths.by_copy.join(copy("x").hex()).symlink_metadata().is_err());
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
            if let Some(list) = List::parse(bytes) {
                list.find(b"a");
                for index in 0..list.count.min(1000) {
                    list.file(index);
                }
            }
        }
    }
}
