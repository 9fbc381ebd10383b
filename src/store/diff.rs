//! What differs between the merged files of two stacks of layers.
//!
//! Only names that a layer of one stack alone speaks of can differ: the layers both stacks begin
//! with are never read. Files are the same where they are one inode, unchanged since; contents are
//! compared only where kind, owner, mode and size agree. Times do not count. Everything is opened
//! relative to the directory it is in, never through a link; depth is bounded by the disk alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags};

use crate::image::SnapshotId;
use crate::sys::dir::{DirStack, read_dir};
use crate::sys::root_dir::{open_no_follow, read_link_at, stat_at};
use crate::sys::upper::{is_opaque, read_layer_dir};
use crate::sys::xattr::{self, Target};
use crate::sys::{OverlayXattrs, RootDir, Stat};

use super::error::failed;
use super::{KeptContainer, Store, StoreError};

/// How a path differs; the words are `docker diff`'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Added,
    /// It, or something below it.
    Changed,
    Deleted,
}

impl Change {
    /// Returns its letter.
    pub fn letter(self) -> char {
        match self {
            Change::Added => 'A',
            Change::Changed => 'C',
            Change::Deleted => 'D',
        }
    }
}

/// The outcome of a comparison, and what it took.
#[derive(Debug, Default)]
pub struct Differences {
    /// Absolute paths, sorted by bytes. The root itself is never among them; of a deleted
    /// directory there is only its own path.
    pub paths: Vec<(PathBuf, Change)>,
    /// How many names were looked at.
    pub names: u64,
    /// How many bytes of files were read.
    pub bytes: u64,
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

impl Store {
    /// Compares the merged files of two stacks of layers, lowest first: from `old` to `new`.
    pub fn diff(&self, old: &[SnapshotId], new: &[SnapshotId]) -> Result<Differences, StoreError> {
        let (old_view, new_view) = (self.view(old)?, self.view(new)?);
        let common = old.iter().zip(new).take_while(|(a, b)| a == b).count();
        let own: BTreeSet<&SnapshotId> = old[common..].iter().chain(&new[common..]).collect();
        let mut touched = Touched::default();
        for layer in own {
            let path = self.snapshot_dir(layer);
            let read = RootDir::open(&path).and_then(|root| touched.add(&root, self.options.xattrs));
            read.map_err(failed("read", &path))?;
        }
        compare(&touched, &old_view, &new_view, false)
    }
}

impl Store {
    /// Tells what a container has changed of its image's files, by what is in its writable layer.
    ///
    /// Of one that runs, as far as that layer is mounted (overlayfs). As docker does, a file that was written to
    /// counts, whatever its content is now; a directory where its owner, mode or time is another.
    pub fn container_diff(&self, kept: &KeptContainer) -> Result<Differences, StoreError> {
        let (old, new) = (self.view(&kept.layers)?, self.container_view(kept)?);
        let path = self.container_layer(&kept.id);
        let mut touched = Touched::default();
        let read = RootDir::open(&path).and_then(|root| touched.add(&root, self.options.xattrs));
        read.map_err(failed("read", &path))?;
        compare(&touched, &old, &new, true)
    }
}

fn compare(
    touched: &Touched,
    old: &RootDir,
    new: &RootDir,
    written: bool,
) -> Result<Differences, StoreError> {
    let mut walk = Walk { touched, written, path: Vec::new(), found: BTreeMap::new(), names: 0, bytes: 0 };
    walk.tree(old, new).map_err(|error| {
        let path = PathBuf::from(OsString::from_vec(walk.path.clone()));
        failed("compare", &path)(error)
    })?;
    let Walk { found, names, bytes, .. } = walk;
    let paths = with_parents(found).into_iter();
    let paths = paths.map(|(path, change)| (PathBuf::from(OsString::from_vec(path)), change)).collect();
    Ok(Differences { paths, names, bytes })
}

/// Adds the directories that something changed in.
fn with_parents(mut found: BTreeMap<Vec<u8>, Change>) -> BTreeMap<Vec<u8>, Change> {
    for path in found.keys().cloned().collect::<Vec<_>>() {
        let mut rest = &path[..];
        while let Some(slash) = rest.iter().rposition(|byte| *byte == b'/').filter(|slash| *slash > 0) {
            rest = &rest[..slash];
            if found.contains_key(rest) {
                break;
            }
            found.insert(rest.to_vec(), Change::Changed);
        }
    }
    found
}

/// The names that some layers speak of, as a tree.
#[derive(Debug)]
struct Touched(Vec<Node>);

#[derive(Debug, Default)]
struct Node {
    /// Whether all below may differ: a file, a whiteout, an opaque directory.
    whole: bool,
    below: BTreeMap<OsString, usize>,
}

/// The tree's root.
const TOP: usize = 0;

impl Default for Touched {
    fn default() -> Touched {
        Touched(vec![Node::default()])
    }
}

impl Touched {
    /// Adds the names of an overlay upper directory.
    fn add(&mut self, upper: &RootDir, form: OverlayXattrs) -> io::Result<()> {
        let top = open_no_follow(upper.fd(), ".", DIRECTORY, Mode::empty())?;
        if is_opaque(&top, form)? {
            self.0[TOP].whole = true;
            return Ok(());
        }
        let mut levels = vec![(TOP, read_layer_dir(&top, form)?)];
        let mut stack = DirStack::new(top)?;
        while let Some((node, entries)) = levels.last_mut() {
            let node = *node;
            let Some((name, kind)) = entries.pop() else {
                levels.pop();
                stack.pop()?;
                continue;
            };
            let child = self.child(node, &name);
            if kind != FileType::Directory {
                self.0[child].whole = true;
                continue;
            }
            let below = open_no_follow(stack.current(), &name, DIRECTORY, Mode::empty())?;
            if is_opaque(&below, form)? {
                self.0[child].whole = true;
            } else if !self.0[child].whole {
                levels.push((child, read_layer_dir(&below, form)?));
                stack.push(below)?;
            }
        }
        Ok(())
    }

    fn child(&mut self, node: usize, name: &OsStr) -> usize {
        if let Some(child) = self.0[node].below.get(name) {
            return *child;
        }
        let child = self.0.len();
        self.0.push(Node::default());
        self.0[node].below.insert(name.to_owned(), child);
        child
    }
}

/// A directory whose names are being compared.
struct Level {
    /// With the node of each; `None` is all below.
    names: std::vec::IntoIter<(OsString, Option<usize>)>,
    /// How long the path is without a name of this level.
    path_length: usize,
    /// Whether the old side has the directory, too.
    in_both: bool,
}

struct Walk<'a> {
    touched: &'a Touched,
    /// Whether a file that was written to differs although it holds the same.
    written: bool,
    path: Vec<u8>,
    found: BTreeMap<Vec<u8>, Change>,
    names: u64,
    bytes: u64,
}

impl Walk<'_> {
    fn tree(&mut self, old: &RootDir, new: &RootDir) -> io::Result<()> {
        let top = |root: &RootDir| open_no_follow(root.fd(), ".", DIRECTORY, Mode::empty());
        let (old, new) = (top(old)?, top(new)?);
        let mut levels = vec![self.level(Some(&old), &new, Some(TOP))?];
        let (mut olds, mut news) = (DirStack::new(old)?, DirStack::new(new)?);
        while let Some(level) = levels.last_mut() {
            self.path.truncate(level.path_length);
            let in_both = level.in_both;
            let Some((name, node)) = level.names.next() else {
                levels.pop();
                news.pop()?;
                if in_both {
                    olds.pop()?;
                }
                continue;
            };
            self.path.push(b'/');
            self.path.extend_from_slice(name.as_bytes());
            self.names += 1;
            let old_dir = in_both.then(|| olds.current());
            let Some((old, new)) = self.name(old_dir, news.current(), &name)? else { continue };
            let node = if old.is_some() { node } else { None };
            levels.push(self.level(old.as_ref(), &new, node)?);
            news.push(new)?;
            if let Some(old) = old {
                olds.push(old)?;
            }
        }
        Ok(())
    }

    fn level(&self, old: Option<&OwnedFd>, new: &OwnedFd, node: Option<usize>) -> io::Result<Level> {
        let node = node.map(|node| &self.touched.0[node]).filter(|node| !node.whole);
        let names: Vec<(OsString, Option<usize>)> = match node {
            Some(node) => node.below.iter().map(|(name, child)| (name.clone(), Some(*child))).collect(),
            None => {
                let mut names: BTreeSet<OsString> =
                    read_dir(new)?.into_iter().map(|(name, _)| name).collect();
                if let Some(old) = old {
                    names.extend(read_dir(old)?.into_iter().map(|(name, _)| name));
                }
                names.into_iter().map(|name| (name, None)).collect()
            }
        };
        Ok(Level { names: names.into_iter(), path_length: self.path.len(), in_both: old.is_some() })
    }

    /// Compares one name; returns the directories to go into.
    fn name(
        &mut self,
        old_dir: Option<BorrowedFd<'_>>,
        new_dir: BorrowedFd<'_>,
        name: &OsStr,
    ) -> io::Result<Option<(Option<OwnedFd>, OwnedFd)>> {
        let old = old_dir.map(|dir| stat_if_there(dir, name)).transpose()?.flatten();
        let new = stat_if_there(new_dir, name)?;
        let open = |dir: BorrowedFd<'_>| open_no_follow(dir, name, DIRECTORY, Mode::empty());
        let (change, into) = match (old_dir.zip(old), new) {
            (None, None) => (None, None),
            (Some(_), None) => (Some(Change::Deleted), None),
            (None, Some(new)) => {
                (Some(Change::Added), new.is_dir().then(|| open(new_dir)).transpose()?.map(|dir| (None, dir)))
            }
            (Some((old_dir, old)), Some(new)) => {
                let differs = self.differ((old_dir, &old), (new_dir, &new), name)?;
                let into = match (old.is_dir(), new.is_dir()) {
                    (true, true) => Some((Some(open(old_dir)?), open(new_dir)?)),
                    (false, true) => Some((None, open(new_dir)?)),
                    _ => None,
                };
                (differs.then_some(Change::Changed), into)
            }
        };
        if let Some(change) = change {
            self.found.insert(self.path.clone(), change);
        }
        Ok(into)
    }

    fn differ(
        &mut self,
        (old_dir, old): (BorrowedFd<'_>, &Stat),
        (new_dir, new): (BorrowedFd<'_>, &Stat),
        name: &OsStr,
    ) -> io::Result<bool> {
        // A view tells the inodes of the layers' files, but has a device number of its own.
        let inode = |stat: &Stat| (stat.ino, stat.ctime_seconds, stat.ctime_nanos);
        let outside = |stat: &Stat| (stat.kind, stat.mode, stat.uid, stat.gid, stat.rdev);
        if outside(old) != outside(new) {
            return Ok(true);
        }
        if !old.is_dir() && old.size != new.size {
            return Ok(true);
        }
        if !old.is_dir() && inode(old) == inode(new) {
            return Ok(false);
        }
        if self.written {
            let time = |stat: &Stat| (stat.mtime_seconds, stat.mtime_nanos);
            return Ok(!old.is_dir() || time(old) != time(new));
        }
        if old.is_symlink() && read_link_at(old_dir, name)? != read_link_at(new_dir, name)? {
            return Ok(true);
        }
        if attributes(old_dir, name)? != attributes(new_dir, name)? {
            return Ok(true);
        }
        Ok(old.is_file() && !self.same_content(old_dir, new_dir, name)?)
    }

    fn same_content(&mut self, old: BorrowedFd<'_>, new: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
        let open = |dir| open_no_follow(dir, name, OFlags::RDONLY, Mode::empty()).map(std::fs::File::from);
        let (mut old, mut new) = (open(old)?, open(new)?);
        let mut buffers = (vec![0; 1 << 17], vec![0; 1 << 17]);
        loop {
            let count = fill(&mut old, &mut buffers.0)?;
            let other = fill(&mut new, &mut buffers.1)?;
            self.bytes += count as u64 + other as u64;
            if buffers.0[..count] != buffers.1[..other] {
                return Ok(false);
            }
            if count == 0 {
                return Ok(true);
            }
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut std::fs::File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(length)
}

/// Returns what a name stands for; sockets are no part of an image.
fn stat_if_there(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<Stat>> {
    match stat_at(dir, name) {
        Ok(stat) => Ok(Some(stat).filter(|stat| stat.kind != FileType::Socket)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Returns the attributes that a layer carries, sorted.
fn attributes(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let target = Target::Name(dir, name);
    let mut found = Vec::new();
    for key in xattr::list(target)? {
        if xattr::is_overlay(&key) || xattr::is_of_host(&key) {
            continue;
        }
        if let Some(value) = xattr::get(target, &key)? {
            found.push((key, value));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use jiff::Timestamp;

    use super::super::{SnapshotKind, SnapshotMeta, testing};
    use super::*;

    fn layer(store: &Store, make: impl FnOnce(&Path)) -> SnapshotId {
        let draft = store.draft().unwrap();
        make(&draft.dir);
        store.commit(draft, SnapshotMeta::new(SnapshotKind::Run, Timestamp::UNIX_EPOCH)).unwrap()
    }

    fn whiteout(path: &Path) {
        let (dir, name) = (path.parent().unwrap(), path.file_name().unwrap());
        let dir = RootDir::open(dir).unwrap();
        dir.make_node(Path::new(name), FileType::CharacterDevice, 0, 0).unwrap();
    }

    fn lines(found: &Differences) -> String {
        let line = |(path, change): &(PathBuf, Change)| format!("{} {}\n", change.letter(), path.display());
        found.paths.iter().map(line).collect()
    }

    fn base(dir: &Path) {
        std::fs::create_dir_all(dir.join("etc/deep/er")).unwrap();
        std::fs::create_dir_all(dir.join("gone/all")).unwrap();
        for name in ["etc/a", "etc/same", "etc/deep/er/x", "gone/all/f", "becomes-dir", "mode"] {
            std::fs::write(dir.join(name), name).unwrap();
        }
        std::fs::create_dir(dir.join("becomes-file")).unwrap();
        std::fs::write(dir.join("becomes-file/in"), "").unwrap();
        symlink("/etc", dir.join("link")).unwrap();
        symlink("etc", dir.join("to-dir")).unwrap();
    }

    fn change(dir: &Path) {
        std::fs::create_dir_all(dir.join("etc/deep/er")).unwrap();
        std::fs::write(dir.join("etc/a"), "A").unwrap();
        std::fs::write(dir.join("etc/same"), "etc/same").unwrap();
        std::fs::write(dir.join("etc/deep/er/new"), "").unwrap();
        whiteout(&dir.join("gone"));
        std::fs::create_dir_all(dir.join("becomes-dir/sub")).unwrap();
        std::fs::write(dir.join("becomes-file"), "").unwrap();
        std::fs::write(dir.join("mode"), "mode").unwrap();
        std::fs::set_permissions(dir.join("mode"), PermissionsExt::from_mode(0o755)).unwrap();
        symlink("/usr", dir.join("link")).unwrap();
        std::fs::create_dir_all(dir.join("added/dir")).unwrap();
    }

    const CHANGES: &str = "A /added\nA /added/dir\nC /becomes-dir\nA /becomes-dir/sub\nC /becomes-file\n\
        C /etc\nC /etc/a\nC /etc/deep\nC /etc/deep/er\nA /etc/deep/er/new\nD /gone\nC /link\nC /mode\n";

    #[test]
    fn tells_what_docker_would() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let below = layer(&store, base);
        let above = layer(&store, change);
        let one = [below.clone()];
        let two = [below.clone(), above.clone()];
        let found = store.diff(&one, &two).unwrap();
        assert_eq!(lines(&found), CHANGES);
        let back = store.diff(&two, &one).unwrap();
        assert!(lines(&back).contains("A /gone\nA /gone/all\nA /gone/all/f\n"), "{}", lines(&back));
        assert!(
            lines(&back).contains("D /added\n") && !lines(&back).contains("/added/dir"),
            "{}",
            lines(&back)
        );
        assert!(store.diff(&two, &two).unwrap().paths.is_empty());
        // The same files in other layers: compared, and equal.
        let again = [layer(&store, base), above];
        assert_eq!(lines(&store.diff(&one, &again).unwrap()), CHANGES);
        assert_eq!(lines(&store.diff(&again, &two).unwrap()), "");
        assert_eq!(lines(&store.diff(&[], &one).unwrap()).lines().filter(|l| !l.starts_with('A')).count(), 0);
    }

    #[test]
    fn an_opaque_directory_hides_what_is_below() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let below = layer(&store, base);
        let above = layer(&store, |dir| {
            std::fs::create_dir(dir.join("etc")).unwrap();
            std::fs::write(dir.join("etc/same"), "etc/same").unwrap();
            let etc = std::fs::File::open(dir.join("etc")).unwrap();
            xattr::set(xattr::of(&etc), store.options.xattrs.opaque().as_bytes(), b"y").unwrap();
        });
        let found = store.diff(std::slice::from_ref(&below), &[below.clone(), above]).unwrap();
        assert_eq!(lines(&found), "C /etc\nD /etc/a\nD /etc/deep\n");
    }

    /// What both images have is not read, nor is a layer's file compared with itself.
    #[test]
    fn reads_only_what_can_differ() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let many = layer(&store, |dir| {
            for n in 0..500 {
                std::fs::write(dir.join(format!("file{n}")), "some bytes").unwrap();
            }
        });
        let one = layer(&store, |dir| std::fs::write(dir.join("one"), "1").unwrap());
        let two = layer(&store, |dir| std::fs::write(dir.join("two"), "22").unwrap());
        let on_top = store.diff(&[many.clone(), one.clone()], &[many.clone(), two.clone()]).unwrap();
        assert_eq!((lines(&on_top).as_str(), on_top.names, on_top.bytes), ("D /one\nA /two\n", 2, 0));
        let elsewhere = store.diff(&[one, many.clone()], &[two, many]).unwrap();
        assert_eq!((lines(&elsewhere).as_str(), elsewhere.bytes), ("D /one\nA /two\n", 0));
    }
}
