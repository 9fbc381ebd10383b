//! What a COPY selects: the files in the order they land, and the digest of them all.
//!
//! The digest's encoding is specified in `docs/context-digest.md`. Not here:
//! finding the files (`select`) and writing them (`worker::copy`).

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use crate::image::Digest;
use crate::image::FileDigest;
use crate::image::Hasher;
use crate::image::SelectionDigest;
use crate::sys::Stat;

use super::error::show;

/// The files that the sources of one COPY, ADD or bind mount stand for.
#[derive(Debug, Clone)]
pub struct Selection {
    pub digest: SelectionDigest,
    /// One for every file or directory that a source named or matched, in order.
    pub sources: Vec<Selected>,
    /// Whether owners count in the digest and are kept by a copy.
    pub owners: bool,
    /// Paths of the sockets inside copied directories; they are left out, as docker leaves them out.
    pub sockets: Vec<PathBuf>,
    /// Before it was made, by the clock that files are stamped with: see [`super::may_change_unseen`].
    pub began: (i64, u32),
}

/// One named or matched source.
#[derive(Debug, Clone)]
pub enum Selected {
    /// The contents of a directory; each entry's path is relative to `root`. A directory
    /// stands before what is in it, and what is in it follows without a gap.
    Directory {
        /// In the tree, links resolved; empty for the tree's root.
        root: PathBuf,
        entries: Vec<Entry>,
    },
    /// One file that is no directory.
    File {
        /// In the tree, links resolved.
        origin: PathBuf,
        /// Its path is the name it gets in a destination that is a directory.
        entry: Entry,
    },
    /// A heredoc.
    Inline { name: String, data: String },
}

/// One file of a selection.
#[derive(Debug, Clone)]
pub struct Entry {
    pub path: PathBuf,
    pub stat: Stat,
    pub kind: EntryKind,
    /// Those that are copied, sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// A directory that `--parents` keeps for what is below it, and that no source names or matches.
    /// Not in the digest: it follows from the sources and the paths.
    pub on_the_way: bool,
}

/// What an entry is, with what only that kind has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    Directory,
    /// A regular file and the digest of its bytes.
    File(FileDigest),
    /// A symbolic link and its target.
    Link(OsString),
    Fifo,
    CharDevice,
    BlockDevice,
}

/// One file of a selection and what counts of it, to explain what changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Where it comes from; of a here-document its name, after `<<`.
    pub path: String,
    /// Five words: kind (`f`, `d`, `l`, ...), mode, owner, the start of a digest of the content, and that of
    /// all else; `-` is what does not count.
    pub mark: String,
}

impl Selection {
    /// Computes the digest of what was selected.
    pub(super) fn new(
        sources: Vec<Selected>,
        owners: bool,
        sockets: Vec<PathBuf>,
        began: (i64, u32),
    ) -> Selection {
        let digest = digest(&sources, owners);
        Selection { digest, sources, owners, sockets, began }
    }

    /// Tells whether nothing was selected: wildcards may match nothing.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Counts the files, directories and links selected.
    pub fn file_count(&self) -> usize {
        let count = |source: &Selected| match source {
            Selected::Directory { entries, .. } => entries.len(),
            Selected::File { .. } | Selected::Inline { .. } => 1,
        };
        self.sources.iter().map(count).sum()
    }

    /// Adds up the sizes of the regular files, in bytes.
    pub fn bytes(&self) -> u64 {
        let size = |entry: &Entry| if entry.stat.is_file() { entry.stat.size } else { 0 };
        let sizes = self.sources.iter().map(|source| match source {
            Selected::Directory { entries, .. } => entries.iter().map(size).sum(),
            Selected::File { entry, .. } => size(entry),
            Selected::Inline { data, .. } => data.len() as u64,
        });
        sizes.fold(0, u64::saturating_add)
    }

    /// Returns every file with a mark of its own: two lists of one COPY show what differs.
    pub fn listing(&self) -> Vec<Listed> {
        let mut links = HardLinks::default();
        let mut out = Vec::new();
        for (number, source) in self.sources.iter().enumerate() {
            let mut add = |path: &Path, entry: &Entry| {
                let mark = mark(entry, self.owners, links.earlier(number, entry));
                out.push(Listed { path: show(path), mark });
            };
            match source {
                Selected::Directory { root, entries } => {
                    entries.iter().for_each(|entry| add(&root.join(&entry.path), entry));
                }
                Selected::File { origin, entry } => add(origin, entry),
                Selected::Inline { name, data } => {
                    let mark = format!("f - - {} -", short(data.as_bytes()));
                    out.push(Listed { path: format!("<<{name}"), mark });
                }
            }
        }
        out
    }
}

fn short(bytes: &[u8]) -> String {
    let mut hex = Digest::of(bytes).hex();
    hex.truncate(16);
    hex
}

/// Writes what counts of an entry as five words; the whole digest alone decides.
fn mark(entry: &Entry, owners: bool, linked: Option<&(usize, PathBuf)>) -> String {
    let stat = &entry.stat;
    let (kind, content) = match &entry.kind {
        EntryKind::Directory => ('d', "-".to_owned()),
        EntryKind::File(digest) => ('f', short(digest.as_bytes())),
        EntryKind::Link(target) => ('l', short(target.as_bytes())),
        EntryKind::Fifo => ('p', "-".to_owned()),
        EntryKind::CharDevice => ('c', stat.rdev.to_string()),
        EntryKind::BlockDevice => ('b', stat.rdev.to_string()),
    };
    let mode = if stat.is_symlink() { "-".to_owned() } else { format!("{:o}", stat.mode & 0o7777) };
    let owner = if owners { format!("{}:{}", stat.uid, stat.gid) } else { "-".to_owned() };
    let mut rest = Vec::new();
    if let Some((_, path)) = linked.filter(|_| matches!(entry.kind, EntryKind::File(_))) {
        bytes(&mut rest, path.as_os_str().as_bytes());
    }
    for (name, value) in &entry.xattrs {
        bytes(&mut rest, name);
        bytes(&mut rest, value);
    }
    let rest = if rest.is_empty() { "-".to_owned() } else { short(&rest) };
    format!("{kind} {mode} {owner} {content} {rest}")
}

/// Finds the first of several names of one file among the entries seen so far.
#[derive(Default)]
struct HardLinks(HashMap<(u64, u64), (usize, PathBuf)>);

impl HardLinks {
    fn earlier(&mut self, source: usize, entry: &Entry) -> Option<&(usize, PathBuf)> {
        use std::collections::hash_map::Entry as Slot;
        if entry.stat.nlink < 2 || !matches!(entry.kind, EntryKind::File(_)) {
            return None;
        }
        match self.0.entry((entry.stat.dev, entry.stat.ino)) {
            Slot::Occupied(slot) => Some(&*slot.into_mut()),
            Slot::Vacant(slot) => {
                slot.insert((source, entry.path.clone()));
                None
            }
        }
    }
}

fn digest(sources: &[Selected], owners: bool) -> SelectionDigest {
    let mut hasher = Hasher::new();
    hasher.update(b"rbuild selection v2\n");
    hasher.update(&[u8::from(owners)]);
    let mut links = HardLinks::default();
    let mut encoded = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        match source {
            Selected::Directory { entries, .. } => {
                hasher.update(b"D");
                for entry in entries {
                    encode(entry, owners, links.earlier(number, entry), &mut encoded);
                    hasher.update(&encoded);
                }
            }
            Selected::File { entry, .. } => {
                hasher.update(b"F");
                encode(entry, owners, links.earlier(number, entry), &mut encoded);
                hasher.update(&encoded);
            }
            Selected::Inline { name, data } => {
                hasher.update(b"I");
                let mut field = Vec::new();
                bytes(&mut field, name.as_bytes());
                bytes(&mut field, data.as_bytes());
                hasher.update(&field);
            }
        }
        hasher.update(b".");
    }
    SelectionDigest(hasher.finish())
}

/// Encodes what counts of one entry, in place of what is in `out`; every field has a fixed length or its length in front.
fn encode(entry: &Entry, owners: bool, linked: Option<&(usize, PathBuf)>, out: &mut Vec<u8>) {
    let stat = &entry.stat;
    out.clear();
    out.push(match entry.kind {
        EntryKind::Directory => b'd',
        EntryKind::File(_) => b'f',
        EntryKind::Link(_) => b'l',
        EntryKind::Fifo => b'p',
        EntryKind::CharDevice => b'c',
        EntryKind::BlockDevice => b'b',
    });
    bytes(out, entry.path.as_os_str().as_bytes());
    // The mode of a link is no choice of anybody's.
    let mode = if stat.is_symlink() { 0 } else { stat.mode };
    out.extend_from_slice(&mode.to_le_bytes());
    if owners {
        out.extend_from_slice(&stat.uid.to_le_bytes());
        out.extend_from_slice(&stat.gid.to_le_bytes());
    }
    match &entry.kind {
        EntryKind::File(digest) => {
            out.extend_from_slice(&stat.size.to_le_bytes());
            out.extend_from_slice(digest.as_bytes());
            match linked {
                Some((source, path)) => {
                    out.push(1);
                    out.extend_from_slice(&(*source as u64).to_le_bytes());
                    bytes(out, path.as_os_str().as_bytes());
                }
                None => out.push(0),
            }
        }
        EntryKind::Link(target) => bytes(out, target.as_bytes()),
        EntryKind::CharDevice | EntryKind::BlockDevice => out.extend_from_slice(&stat.rdev.to_le_bytes()),
        EntryKind::Directory | EntryKind::Fifo => {}
    }
    out.extend_from_slice(&(entry.xattrs.len() as u64).to_le_bytes());
    for (name, value) in &entry.xattrs {
        bytes(out, name);
        bytes(out, value);
    }
}

fn bytes(out: &mut Vec<u8>, field: &[u8]) {
    out.extend_from_slice(&(field.len() as u64).to_le_bytes());
    out.extend_from_slice(field);
}

#[cfg(test)]
mod tests {
    use rustix::fs::FileType;

    use super::*;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        let (file_type, size) = match kind {
            EntryKind::Directory => (FileType::Directory, 4096),
            EntryKind::File(_) => (FileType::RegularFile, 6),
            EntryKind::Link(_) => (FileType::Symlink, 3),
            EntryKind::Fifo => (FileType::Fifo, 0),
            EntryKind::CharDevice => (FileType::CharacterDevice, 0),
            EntryKind::BlockDevice => (FileType::BlockDevice, 0),
        };
        let stat = Stat {
            kind: file_type,
            mode: 0o755,
            uid: 1000,
            gid: 100,
            nlink: 1,
            size,
            blocks: 8,
            dev: 3,
            ino: 4,
            rdev: 0x103,
            mtime_seconds: 5,
            mtime_nanos: 6,
            ctime_seconds: 7,
            ctime_nanos: 8,
        };
        Entry { path: path.into(), stat, kind, xattrs: Vec::new(), on_the_way: false }
    }

    fn sample() -> Vec<Selected> {
        let mut file = entry("bin/tool", EntryKind::File(FileDigest::of("hello\n")));
        file.xattrs.push((b"user.note".to_vec(), b"x".to_vec()));
        vec![
            Selected::Directory {
                root: "src".into(),
                entries: vec![
                    entry("bin", EntryKind::Directory),
                    file,
                    entry("link", EntryKind::Link("bin".into())),
                    entry("null", EntryKind::CharDevice),
                    entry("pipe", EntryKind::Fifo),
                ],
            },
            Selected::File { origin: "a/b".into(), entry: entry("b", EntryKind::File(FileDigest::of("b"))) },
            Selected::Inline { name: "EOF".into(), data: "text\n".into() },
        ]
    }

    /// Changing one of these changes every key: see docs/context-digest.md, "Changing it".
    /// They were computed by a second implementation, made from the specification.
    #[test]
    fn the_encoding_is_pinned() {
        let of = |sources: &[Selected], owners| digest(sources, owners).hex();
        assert_eq!(of(&[], false), "0334204431b0f518c266fbdd24e63ff47dc56ae7d76a64920596f55b7f447a13");
        assert_eq!(of(&sample(), false), "bafdf10d582fda26c2716f9287456f26ba4282af15e282aabd8335b30da8a41b");
        assert_eq!(of(&sample(), true), "7fb82a9b15e24348fa39c28b5a22cc501335ea7a9fb12054743f2d5dea2b9fdc");
    }

    #[test]
    fn what_counts_and_what_does_not() {
        let base = digest(&sample(), false);
        let with = |owners, change: &dyn Fn(&mut Entry)| {
            let mut sources = sample();
            let Selected::Directory { entries, .. } = &mut sources[0] else { panic!("a directory") };
            change(&mut entries[1]);
            digest(&sources, owners)
        };
        for (what, change) in [
            ("mtime", (&|e: &mut Entry| e.stat.mtime_seconds += 1) as &dyn Fn(&mut Entry)),
            ("ctime", &|e| e.stat.ctime_nanos += 1),
            ("owner", &|e| e.stat.uid += 1),
            ("group", &|e| e.stat.gid += 1),
            ("inode", &|e| e.stat.ino += 1),
            ("a name of the same file elsewhere", &|e| e.stat.nlink += 1),
            ("blocks", &|e| e.stat.blocks += 1),
        ] {
            assert_eq!(with(false, change), base, "{what} must not count");
        }
        for (what, change) in [
            ("mode", (&|e: &mut Entry| e.stat.mode ^= 0o4000) as &dyn Fn(&mut Entry)),
            ("content", &|e| e.kind = EntryKind::File(FileDigest::of("other"))),
            ("name", &|e| e.path = "bin/tool2".into()),
            ("kind", &|e| e.kind = EntryKind::Fifo),
            ("attribute", &|e| e.xattrs[0].1 = b"y".to_vec()),
            ("fewer attributes", &|e| e.xattrs.clear()),
        ] {
            assert_ne!(with(false, change), base, "{what} must count");
        }
        let owned = with(true, &|_| {});
        assert_ne!(owned, base);
        assert_ne!(with(true, &|e| e.stat.uid += 1), owned);
        assert_ne!(with(true, &|e| e.stat.gid += 1), owned);
        assert_eq!(with(true, &|e| e.stat.mtime_seconds += 1), owned);
    }

    #[test]
    fn links_between_selected_files_count() {
        let pair = |second_ino: u64| {
            let mut entries = vec![
                entry("a", EntryKind::File(FileDigest::of("x"))),
                entry("b", EntryKind::File(FileDigest::of("x"))),
            ];
            for entry in &mut entries {
                entry.stat.nlink = 2;
            }
            entries[1].stat.ino = second_ino;
            vec![Selected::Directory { root: PathBuf::new(), entries }]
        };
        assert_ne!(digest(&pair(4), false), digest(&pair(5), false));
    }

    #[test]
    fn lists_each_file_once_where_it_comes_from() {
        let selection = Selection::new(sample(), false, Vec::new(), (0, 0));
        let paths: Vec<String> = selection.listing().into_iter().map(|l| l.path).collect();
        assert_eq!(paths, ["src/bin", "src/bin/tool", "src/link", "src/null", "src/pipe", "a/b", "<<EOF"]);
    }

    #[test]
    fn a_mark_tells_what_counts() {
        let mark = |owners, change: &dyn Fn(&mut Entry)| {
            let mut entry = entry("f", EntryKind::File(FileDigest::of("x")));
            change(&mut entry);
            super::mark(&entry, owners, None)
        };
        let words = |mark: &str| mark.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let plain = words(&mark(false, &|_| {}));
        assert_eq!((plain[0].as_str(), plain[1].as_str(), plain[2].as_str()), ("f", "755", "-"));
        assert_eq!((plain[3].len(), plain[4].as_str()), (16, "-"));
        let differ = |owners, change: &dyn Fn(&mut Entry)| -> Vec<usize> {
            let (one, two) = (words(&mark(owners, &|_| {})), words(&mark(owners, change)));
            (0..5).filter(|&at| one[at] != two[at]).collect()
        };
        assert_eq!(differ(false, &|e| e.stat.mode = 0o644), [1]);
        assert_eq!(differ(true, &|e| e.stat.uid = 5), [2]);
        assert_eq!(differ(false, &|e| e.stat.uid = 5), [0; 0]);
        assert_eq!(differ(false, &|e| e.kind = EntryKind::File(FileDigest::of("y"))), [3]);
        assert_eq!(differ(false, &|e| e.xattrs.push((b"user.a".to_vec(), b"b".to_vec()))), [4]);
    }
}
