//! The two digests of a layer, in one pass over its files.
//!
//! The DiffID is the SHA-256 of the tar that `tar_write` would write. The
//! content digest is that of a plainer encoding which leaves out times that
//! mean "now", so that a step that ran again and did the same is seen to have
//! done the same; the bytes of a file are in it as their [`FileDigest`], so that
//! whoever knows that need not have the bytes. The encoding is specified in
//! `docs/layer-digest.md`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::image::{DiffId, FileDigest, FileHasher, Hasher, LayerDigest};
use crate::sys::{OverlayXattrs, RootDir};

use super::LayerError;
use super::entry::{Entry, Kind, Sink};
use super::tar_write::TarSink;
use super::walk::walk;

/// What the content digest starts with; a new encoding gets a new number.
const VERSION: &[u8] = b"rbuild layer v2\n";

/// What is known of a layer by its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerDigests {
    pub content: LayerDigest,
    pub diff_id: DiffId,
    /// The length of the uncompressed tar, in bytes.
    pub tar_size: u64,
    /// The sum of the sizes of the regular files, in bytes; hard links count once.
    pub file_bytes: u64,
    /// Files, directories, links, devices and whiteouts.
    pub entries: u64,
}

/// How a layer's digests are computed.
#[derive(Debug, Clone, Copy)]
pub struct DigestOptions<'a> {
    /// Where overlayfs keeps its marks in this upper directory.
    pub xattrs: OverlayXattrs,
    /// Which modification times count in the content digest.
    pub times: Times,
    /// The merged view of what lies beneath, for the layer of a RUN: overlayfs copies a directory
    /// up with its time, which a step that ran before may have made anew.
    pub below: Option<&'a RootDir>,
}

/// Which modification times count in a content digest. The DiffID always holds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// None: the layer of a COPY or a WORKDIR.
    Ignore,
    /// A time while the step ran counts as "now", one that the same path has beneath as
    /// "unchanged", any other as itself: the layer of a RUN.
    /// Seconds since 1970 and nanoseconds, both ends included.
    Now { from: (i64, u32), until: (i64, u32) },
    /// Every time counts as itself: a layer in which none is "now", since SOURCE_DATE_EPOCH took its place.
    All,
}

/// Computes both digests of an upper directory; every file is read once.
pub fn digest_layer(upper: &RootDir, options: &DigestOptions<'_>) -> Result<LayerDigests, LayerError> {
    let mut hasher = LayerHasher::new(options.times, options.below);
    walk(upper, options.xattrs, &mut hasher)?;
    hasher.finish()
}

/// Computes both digests of a layer from its entries.
///
/// They come in the order of `docs/layer-digest.md`, with the links and attributes that it says; the bytes of
/// a regular file come after it, as many as its size.
pub struct LayerHasher<'a> {
    tar: TarSink<Hasher>,
    content: ContentHasher<'a>,
    file_bytes: u64,
    entries: u64,
}

impl<'a> LayerHasher<'a> {
    /// Starts a layer without entries; see [`DigestOptions`].
    pub fn new(times: Times, below: Option<&'a RootDir>) -> LayerHasher<'a> {
        let (tar, content) = (TarSink::new(Hasher::new()), ContentHasher::new(times, below));
        LayerHasher { tar, content, file_bytes: 0, entries: 0 }
    }

    /// Takes the next entry.
    pub fn entry(&mut self, entry: &Entry<'_>) -> Result<(), LayerError> {
        self.tar.entry(entry)?;
        self.content.entry(entry);
        self.count(entry);
        Ok(())
    }

    /// Takes a regular file whose digest is known; its bytes must come all the same, for the DiffID.
    pub fn known_file(&mut self, entry: &Entry<'_>, digest: &FileDigest) -> Result<(), LayerError> {
        self.tar.entry(entry)?;
        self.content.known_file(entry, digest);
        self.count(entry);
        Ok(())
    }

    /// Takes the next bytes of the current regular file.
    pub fn data(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        self.tar.data(bytes)?;
        self.content.data(bytes);
        Ok(())
    }

    /// Returns the digests of all entries.
    pub fn finish(self) -> Result<LayerDigests, LayerError> {
        let (tar_hasher, tar_size) = self.tar.finish()?;
        Ok(LayerDigests {
            content: self.content.finish(),
            diff_id: DiffId(tar_hasher.finish()),
            tar_size,
            file_bytes: self.file_bytes,
            entries: self.entries,
        })
    }

    fn count(&mut self, entry: &Entry<'_>) {
        self.entries += 1;
        self.file_bytes += entry.size;
    }
}

impl Sink for LayerHasher<'_> {
    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), LayerError> {
        LayerHasher::entry(self, entry)
    }

    fn known_file(&mut self, entry: &Entry<'_>, digest: &FileDigest) -> Result<(), LayerError> {
        LayerHasher::known_file(self, entry, digest)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        LayerHasher::data(self, bytes)
    }
}

/// Computes a content digest alone. Whoever knows the digests of all regular files needs none of their bytes.
pub struct ContentHasher<'a> {
    hasher: Hasher,
    times: Times,
    below: Option<&'a RootDir>,
    scratch: Vec<u8>,
    /// Digests the current file, of which `left` bytes are still to come.
    file: FileHasher,
    left: u64,
}

impl<'a> ContentHasher<'a> {
    /// Starts a layer without entries; see [`DigestOptions`].
    pub fn new(times: Times, below: Option<&'a RootDir>) -> ContentHasher<'a> {
        let mut hasher = Hasher::new();
        hasher.update(VERSION);
        ContentHasher { hasher, times, below, scratch: Vec::new(), file: FileHasher::new(), left: 0 }
    }

    /// Takes the next entry; a regular file's bytes come by [`ContentHasher::data`].
    pub fn entry(&mut self, entry: &Entry<'_>) {
        self.record(entry);
        if entry.kind == Kind::File {
            self.left = entry.size;
            if self.left == 0 {
                self.hasher.update(self.file.finish().as_bytes());
            }
        }
    }

    /// Takes a regular file whose digest is known; bytes given of it are passed over.
    pub fn known_file(&mut self, entry: &Entry<'_>, digest: &FileDigest) {
        debug_assert_eq!(entry.kind, Kind::File);
        self.record(entry);
        self.hasher.update(digest.as_bytes());
    }

    /// Takes the next bytes of the current regular file.
    pub fn data(&mut self, bytes: &[u8]) {
        if self.left == 0 {
            return;
        }
        self.file.update(bytes);
        self.left =
            self.left.checked_sub(bytes.len() as u64).expect("a file has as many bytes as its entry says");
        if self.left == 0 {
            self.hasher.update(self.file.finish().as_bytes());
        }
    }

    /// Returns the content digest of all entries.
    pub fn finish(mut self) -> LayerDigest {
        debug_assert_eq!(self.left, 0, "a file's bytes are missing");
        self.hasher.update(b"e");
        LayerDigest(self.hasher.finish())
    }

    fn record(&mut self, entry: &Entry<'_>) {
        debug_assert_eq!(self.left, 0, "a file's bytes are missing");
        self.scratch.clear();
        encode(entry, self.time(entry), &mut self.scratch);
        self.hasher.update(&self.scratch);
    }

    /// Returns what the time of an entry counts as.
    fn time(&self, entry: &Entry<'_>) -> Time {
        let (from, until) = match self.times {
            Times::Ignore => return Time::Ignored,
            Times::All => return Time::At,
            Times::Now { from, until } => (from, until),
        };
        let own = (entry.mtime_seconds, entry.mtime_nanos);
        let now = (from..=until).contains(&own);
        if now && nanos_between(from, own) > TICK_NANOS {
            return Time::Now;
        }
        // At the very start it may be what the step before wrote in the same tick of the clock.
        let path = Path::new(OsStr::from_bytes(entry.path));
        let beneath = self.below.and_then(|below| below.try_stat(path, false).ok().flatten());
        match beneath.is_some_and(|stat| (stat.mtime_seconds, stat.mtime_nanos) == own) {
            true => Time::Unchanged,
            false if now => Time::Now,
            false => Time::At,
        }
    }
}

/// How long the clock that files are stamped by may stand still: a tick of the slowest kernels.
const TICK_NANOS: i128 = 10_000_000;

fn nanos_between(from: (i64, u32), to: (i64, u32)) -> i128 {
    (i128::from(to.0) - i128::from(from.0)) * 1_000_000_000 + i128::from(to.1) - i128::from(from.1)
}

/// What a modification time counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Time {
    Ignored,
    Now,
    /// As beneath.
    Unchanged,
    At,
}

fn encode(entry: &Entry<'_>, time: Time, out: &mut Vec<u8>) {
    out.push(match entry.kind {
        Kind::File => b'f',
        Kind::Directory => b'd',
        Kind::Symlink => b'l',
        Kind::HardLink => b'h',
        Kind::CharDevice => b'c',
        Kind::BlockDevice => b'b',
        Kind::Fifo => b'p',
        Kind::Whiteout => b'w',
        Kind::Opaque => b'o',
    });
    put(entry.path, out);
    match entry.kind {
        Kind::Whiteout | Kind::Opaque => return,
        // All else about it was said where the file came first.
        Kind::HardLink => return put(entry.link, out),
        _ => {}
    }
    for number in [entry.mode, entry.uid, entry.gid] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    match time {
        Time::Ignored => out.push(b'i'),
        Time::Now => out.push(b'n'),
        Time::Unchanged => out.push(b'u'),
        Time::At => {
            out.push(b't');
            out.extend_from_slice(&entry.mtime_seconds.to_le_bytes());
            out.extend_from_slice(&entry.mtime_nanos.to_le_bytes());
        }
    }
    out.extend_from_slice(&(entry.xattrs.len() as u64).to_le_bytes());
    for (name, value) in entry.xattrs {
        put(name, out);
        put(value, out);
    }
    match entry.kind {
        Kind::File => out.extend_from_slice(&entry.size.to_le_bytes()),
        Kind::Symlink => put(entry.link, out),
        Kind::CharDevice | Kind::BlockDevice => {
            out.extend_from_slice(&entry.major.to_le_bytes());
            out.extend_from_slice(&entry.minor.to_le_bytes());
        }
        _ => {}
    }
}

fn put(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(times: Times, entries: &[Entry<'_>]) -> String {
        digest_over(times, None, entries)
    }

    fn digest_over(times: Times, below: Option<&RootDir>, entries: &[Entry<'_>]) -> String {
        let (mut read, mut known) = (ContentHasher::new(times, below), ContentHasher::new(times, below));
        for entry in entries {
            read.entry(entry);
            if entry.kind == Kind::File {
                let bytes = vec![b'x'; entry.size as usize];
                bytes.chunks(2).for_each(|piece| read.data(piece));
                known.known_file(entry, &FileDigest::of(&bytes));
                known.data(&bytes);
            } else {
                known.entry(entry);
            }
        }
        let digest = read.finish().to_string();
        assert_eq!(known.finish().to_string(), digest, "whoever knows the digests needs no bytes");
        digest
    }

    const START: Times = Times::Now { from: (100, 5), until: (200, 7) };

    fn file() -> Entry<'static> {
        Entry {
            mode: 0o644,
            uid: 1,
            gid: 2,
            size: 3,
            mtime_seconds: 100,
            mtime_nanos: 5,
            ..Entry::bare(Kind::File, b"a/f")
        }
    }

    /// Cache records hold these digests: the encoding must never change without a new version.
    /// They were computed by a second implementation, made from the specification.
    #[test]
    fn the_encoding_is_pinned() {
        let xattrs = [(b"user.k".to_vec(), b"v".to_vec())];
        let entries = [
            Entry { kind: Kind::Directory, path: b"a", mode: 0o755, xattrs: &xattrs, ..file() },
            file(),
            Entry { kind: Kind::HardLink, path: b"a/g", link: b"a/f", ..file() },
            Entry::bare(Kind::Whiteout, b"a/gone"),
            Entry { kind: Kind::Symlink, path: b"a/l", link: b"f", mtime_seconds: 7, ..file() },
            Entry { kind: Kind::CharDevice, path: b"null", major: 1, minor: 3, ..file() },
            Entry::bare(Kind::Opaque, b"o"),
        ];
        assert_eq!(
            digest(Times::Ignore, &entries),
            "sha256:050fdfa0826ec0334e1252cc43f9718015cdb007edb150b77566fcce5e52ba36"
        );
        assert_eq!(
            digest(START, &entries),
            "sha256:3109159c0b273afa47d1c5aae74ed048f6368477c56600f3eb41abf48f5bdf81"
        );
        assert_eq!(
            digest(Times::Ignore, &[]),
            "sha256:3ccae7d7626e2427491e8a1821a367bd769d4157dd470790c0f7f315ec77ee9e"
        );
    }

    #[test]
    fn a_time_that_is_the_same_beneath_is_unchanged() {
        let directory = tempfile::tempdir().unwrap();
        let below = RootDir::open(directory.path()).unwrap();
        std::fs::create_dir(directory.path().join("a")).unwrap();
        let file_below = std::fs::File::create(directory.path().join("a/f")).unwrap();
        let digest_at = |seconds: u64, entry_seconds: i64| {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            file_below.set_modified(time).unwrap();
            let entry = Entry { mtime_seconds: entry_seconds, mtime_nanos: 0, ..file() };
            digest_over(START, Some(&below), &[entry])
        };
        assert_eq!(digest_at(10, 10), digest_at(20, 20));
        assert_ne!(digest_at(10, 10), digest_at(10, 20));
        assert_ne!(digest_at(10, 10), digest_over(START, Some(&below), &[file()]), "now is not unchanged");
        assert_eq!(digest_at(10, 10), digest_at(100, 100), "the step before, in the tick it ended in");
        assert_ne!(digest_at(10, 10), digest_at(150, 150), "a second write while the step runs is now");
        let elsewhere = Entry { path: b"a/g", mtime_seconds: 10, ..file() };
        assert_ne!(
            digest_over(START, Some(&below), &[elsewhere]),
            digest_over(START, Some(&below), &[Entry { mtime_seconds: 11, ..elsewhere }])
        );
    }

    #[test]
    fn everything_that_matters_counts_and_now_does_not() {
        let base = digest(START, &[file()]);
        let xattrs = [(b"user.k".to_vec(), b"v".to_vec())];
        for other in [
            Entry { path: b"a/g", ..file() },
            Entry { kind: Kind::Fifo, size: 0, ..file() },
            Entry { mode: 0o600, ..file() },
            Entry { uid: 9, ..file() },
            Entry { gid: 9, ..file() },
            Entry { size: 4, ..file() },
            Entry { xattrs: &xattrs, ..file() },
            Entry { mtime_nanos: 4, ..file() },
            Entry { mtime_seconds: 99, ..file() },
            // Set on purpose: `touch -d` into the future.
            Entry { mtime_seconds: 200, mtime_nanos: 8, ..file() },
            Entry { mtime_seconds: 1 << 40, ..file() },
        ] {
            assert_ne!(digest(START, &[other]), base, "{other:?}");
        }
        for same in [
            Entry { mtime_nanos: 6, ..file() },
            Entry { mtime_seconds: 101, mtime_nanos: 0, ..file() },
            Entry { mtime_seconds: 200, mtime_nanos: 7, ..file() },
        ] {
            assert_eq!(digest(START, &[same]), base, "{same:?}");
        }
        let early = Entry { mtime_seconds: 3, ..file() };
        assert_eq!(digest(Times::Ignore, &[file()]), digest(Times::Ignore, &[early]));
    }
}
