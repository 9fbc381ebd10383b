//! What the files of an image weigh: by layer and by folder, and what later layers hide of earlier ones.
//!
//! Layers are read as they lie on disk, lowest first, into one tree of names. A file that a later layer has
//! again, or deletes, takes room in the image and is seen by nobody: those bytes are wasted. A file of several
//! names counts once in its layer, at the first of them. Everything is opened relative to the directory it is
//! in, never through a link; depth is bounded by the disk alone. Contents are never read.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags};

use crate::image::SnapshotId;
use crate::sys::dir::DirStack;
use crate::sys::root_dir::{open_no_follow, stat_at};
use crate::sys::upper::{WHITEOUT_FILE, is_opaque, read_layer_dir};
use crate::sys::{OverlayXattrs, RootDir, Stat};

use super::error::failed;
use super::{Store, StoreError};

/// The files of a stack of layers. Sizes are in bytes, of regular files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ImageFiles {
    /// Lowest first.
    pub layers: Vec<LayerFiles>,
    /// The largest folders of the layers together, largest first; what is below a folder counts.
    pub folders: Vec<FolderFiles>,
    /// What is hidden, most bytes first.
    pub wasted: Vec<Wasted>,
    /// What all layers have together.
    pub bytes: u64,
    /// What of that is hidden, in how many files.
    pub wasted_bytes: u64,
    pub wasted_files: u64,
}

/// The files of one layer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LayerFiles {
    pub bytes: u64,
    /// How many names it has that are no directories.
    pub files: u64,
    /// How many of its bytes later layers hide.
    pub wasted: u64,
    /// Its largest folders, largest first.
    pub folders: Vec<FolderFiles>,
}

/// A folder with all that is below it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FolderFiles {
    /// Absolute.
    pub path: PathBuf,
    pub bytes: u64,
    pub files: u64,
    /// The places of the layers that the bytes are in, from 0.
    pub layers: Vec<usize>,
}

/// A file, or a folder with all that is below it, that a later layer hides.
#[derive(Debug, PartialEq, Eq)]
pub struct Wasted {
    /// Absolute.
    pub path: PathBuf,
    pub bytes: u64,
    pub files: u64,
    /// The place of the layer it is in, from 0.
    pub layer: usize,
    /// That of the layer that hides it.
    pub by: usize,
    /// Whether it is deleted there, rather than there again.
    pub deleted: bool,
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

impl Store {
    /// Weighs the files of a stack of layers, lowest first; tells of `top` folders and wasted paths.
    ///
    /// Whoever calls it holds the store ([`Store::hold`]).
    pub fn image_files(&self, layers: &[SnapshotId], top: usize) -> Result<ImageFiles, StoreError> {
        let mut tree = Tree::default();
        let mut found = ImageFiles::default();
        for (place, id) in layers.iter().enumerate() {
            if !self.has_snapshot(id)? {
                return Err(StoreError::NoSnapshot(id.clone()));
            }
            let path = self.snapshot_dir(id);
            let mut layer = Layer { place, tree: &mut tree, added: BTreeMap::new(), linked: HashSet::new() };
            let read = RootDir::open(&path).and_then(|root| layer.read(&root, self.options.xattrs));
            read.map_err(failed("read", &path))?;
            let added = std::mem::take(&mut layer.added);
            let (folders, whole) = tree.folders(added, top);
            found.layers.push(LayerFiles { bytes: whole.bytes, files: whole.files, wasted: 0, folders });
            found.bytes = found.bytes.saturating_add(whole.bytes);
        }
        let seen = tree.seen();
        found.folders = tree.folders(seen, top).0;
        found.wasted = std::mem::take(&mut tree.wasted);
        for wasted in &found.wasted {
            found.layers[wasted.layer].wasted += wasted.bytes;
            found.wasted_bytes += wasted.bytes;
            found.wasted_files += wasted.files;
        }
        found.wasted.retain(|wasted| wasted.bytes > 0);
        found.wasted.sort_by(|a, b| (b.bytes, &a.path, a.layer).cmp(&(a.bytes, &b.path, b.layer)));
        found.wasted.truncate(top);
        Ok(found)
    }
}

/// The names of all layers so far; a child comes after its parent.
#[derive(Debug)]
struct Tree {
    nodes: Vec<Node>,
    wasted: Vec<Wasted>,
}

#[derive(Debug, Default)]
struct Node {
    parent: usize,
    name: OsString,
    below: HashMap<OsString, usize>,
    /// The layer and the size of what is no directory.
    file: Option<(usize, u64)>,
    hidden: bool,
}

/// The tree's root, which is its own parent.
const TOP: usize = 0;

impl Default for Tree {
    fn default() -> Tree {
        Tree { nodes: vec![Node::default()], wasted: Vec::new() }
    }
}

#[derive(Debug, Default, Clone)]
struct Sum {
    bytes: u64,
    files: u64,
    layers: BTreeSet<usize>,
}

impl Sum {
    fn of(layer: usize, bytes: u64) -> Sum {
        let layers = if bytes > 0 { BTreeSet::from([layer]) } else { BTreeSet::new() };
        Sum { bytes, files: 1, layers }
    }

    fn add(&mut self, other: &Sum) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.files += other.files;
        self.layers.extend(&other.layers);
    }
}

impl Tree {
    fn child(&mut self, parent: usize, name: &OsStr) -> usize {
        if let Some(child) = self.nodes[parent].below.get(name) {
            return *child;
        }
        let child = self.nodes.len();
        self.nodes.push(Node { parent, name: name.to_owned(), ..Node::default() });
        self.nodes[parent].below.insert(name.to_owned(), child);
        child
    }

    fn path(&self, node: usize) -> PathBuf {
        let mut names = Vec::new();
        let mut at = node;
        while at != TOP {
            names.push(self.nodes[at].name.as_bytes());
            at = self.nodes[at].parent;
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        PathBuf::from(OsString::from_vec(if path.is_empty() { b"/".to_vec() } else { path }))
    }

    /// Notes that all files at and below some nodes are hidden by a layer; `path` is what they are told under.
    fn hide(&mut self, nodes: Vec<usize>, path: PathBuf, by: usize, deleted: bool) {
        let mut sums: BTreeMap<usize, Sum> = BTreeMap::new();
        let mut next = nodes;
        while let Some(at) = next.pop() {
            let node = &mut self.nodes[at];
            node.hidden = true;
            next.extend(node.below.drain().map(|(_, child)| child));
            if let Some((layer, bytes)) = node.file.take() {
                sums.entry(layer).or_default().add(&Sum::of(layer, bytes));
            }
        }
        let told = sums.into_iter().map(|(layer, sum)| Wasted {
            path: path.clone(),
            bytes: sum.bytes,
            files: sum.files,
            layer,
            by,
            deleted,
        });
        self.wasted.extend(told);
    }

    /// Returns what can be seen of each file, by node.
    fn seen(&self) -> BTreeMap<usize, Sum> {
        let files = self.nodes.iter().enumerate().filter(|(_, node)| !node.hidden);
        files.filter_map(|(at, node)| node.file.map(|(layer, bytes)| (at, Sum::of(layer, bytes)))).collect()
    }

    /// Adds up files by folder; returns the largest, and the sum of all.
    fn folders(&self, mut sums: BTreeMap<usize, Sum>, top: usize) -> (Vec<FolderFiles>, Sum) {
        let mut folders: Vec<(u64, usize, Sum)> = Vec::new();
        // A child comes after its parent: what is last has all that is below it by now.
        while let Some((at, sum)) = sums.pop_last() {
            if at == TOP {
                sums.clear();
                sums.insert(TOP, sum);
                break;
            }
            sums.entry(self.nodes[at].parent).or_default().add(&sum);
            if self.nodes[at].file.is_none() {
                folders.push((sum.bytes, at, sum));
            }
        }
        let whole = sums.remove(&TOP).unwrap_or_default();
        folders.retain(|(bytes, ..)| *bytes > 0);
        let mut folders: Vec<FolderFiles> = largest(folders, top)
            .into_iter()
            .map(|(bytes, at, sum)| FolderFiles {
                path: self.path(at),
                bytes,
                files: sum.files,
                layers: sum.layers.into_iter().collect(),
            })
            .collect();
        folders.sort_by(|a, b| (b.bytes, &a.path).cmp(&(a.bytes, &b.path)));
        (folders, whole)
    }
}

/// Returns the largest; of equals those that were met first.
fn largest(mut folders: Vec<(u64, usize, Sum)>, top: usize) -> Vec<(u64, usize, Sum)> {
    folders.sort_by(|a, b| (b.0, a.1).cmp(&(a.0, b.1)));
    folders.truncate(top);
    folders
}

/// A layer that is being read.
struct Layer<'a> {
    place: usize,
    tree: &'a mut Tree,
    /// Its files, by node.
    added: BTreeMap<usize, Sum>,
    /// Files of several names that were counted.
    linked: HashSet<(u64, u64)>,
}

impl Layer<'_> {
    /// Reads an overlay upper directory.
    fn read(&mut self, upper: &RootDir, form: OverlayXattrs) -> io::Result<()> {
        let top = open_no_follow(upper.fd(), ".", DIRECTORY, Mode::empty())?;
        self.directory(TOP, is_opaque(&top, form)?);
        let mut levels = vec![(TOP, sorted(&top, form)?)];
        let mut stack = DirStack::new(top)?;
        while let Some((node, entries)) = levels.last_mut() {
            let node = *node;
            let Some((name, kind)) = entries.pop() else {
                levels.pop();
                stack.pop()?;
                continue;
            };
            if kind == FileType::Socket {
                continue;
            }
            let child = self.tree.child(node, &name);
            if kind == WHITEOUT_FILE {
                self.whiteout(child);
                continue;
            }
            if kind != FileType::Directory {
                let stat = stat_at(stack.current(), &name)?;
                self.file(child, &stat);
                continue;
            }
            let below = open_no_follow(stack.current(), &name, DIRECTORY, Mode::empty())?;
            if self.tree.nodes[child].file.is_some() {
                self.replace(child, false);
            }
            let child = self.tree.child(node, &name);
            self.directory(child, is_opaque(&below, form)?);
            levels.push((child, sorted(&below, form)?));
            stack.push(below)?;
        }
        Ok(())
    }

    /// A directory of this layer; an opaque one hides all that was in it.
    fn directory(&mut self, node: usize, opaque: bool) {
        let below = &mut self.tree.nodes[node].below;
        if opaque && !below.is_empty() {
            let hidden = below.drain().map(|(_, child)| child).collect();
            let path = self.tree.path(node);
            self.tree.hide(hidden, path, self.place, true);
        }
    }

    fn was_there(&self, node: usize) -> bool {
        self.tree.nodes[node].file.is_some() || !self.tree.nodes[node].below.is_empty()
    }

    fn whiteout(&mut self, node: usize) {
        if self.was_there(node) {
            self.replace(node, true);
        }
    }

    fn file(&mut self, node: usize, stat: &Stat) {
        if stat.is_whiteout() {
            return self.whiteout(node);
        }
        let node = if self.was_there(node) { self.replace(node, false) } else { node };
        let counts = stat.is_file() && (stat.nlink < 2 || self.linked.insert((stat.dev, stat.ino)));
        let bytes = if counts { stat.size } else { 0 };
        self.tree.nodes[node].file = Some((self.place, bytes));
        self.added.insert(node, Sum::of(self.place, bytes));
    }

    /// Hides what is at a node, and puts an empty one in its place.
    fn replace(&mut self, node: usize, deleted: bool) -> usize {
        let path = self.tree.path(node);
        let (parent, name) = (self.tree.nodes[node].parent, self.tree.nodes[node].name.clone());
        self.tree.nodes[parent].below.remove(&name);
        self.tree.hide(vec![node], path, self.place, deleted);
        self.tree.child(parent, &name)
    }
}

/// Lists a directory, last name first: the order decides which name of a file counts.
fn sorted(dir: &std::os::fd::OwnedFd, form: OverlayXattrs) -> io::Result<Vec<(OsString, FileType)>> {
    let mut entries = read_layer_dir(dir, form)?;
    entries.sort_unstable_by(|a, b| b.0.cmp(&a.0));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use jiff::Timestamp;

    use super::super::{SnapshotKind, SnapshotMeta, testing};
    use super::*;

    fn layer(store: &Store, make: impl FnOnce(&Path)) -> SnapshotId {
        let draft = store.draft().unwrap();
        make(&draft.dir);
        store.commit(draft, SnapshotMeta::new(SnapshotKind::Run, Timestamp::UNIX_EPOCH)).unwrap()
    }

    fn write(path: PathBuf, size: usize) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, vec![b'x'; size]).unwrap();
    }

    fn whiteout(path: &Path) {
        let dir = RootDir::open(path.parent().unwrap()).unwrap();
        dir.make_node(Path::new(path.file_name().unwrap()), FileType::CharacterDevice, 0, 0).unwrap();
    }

    fn folders(folders: &[FolderFiles]) -> Vec<(&str, u64, u64, &[usize])> {
        folders.iter().map(|f| (f.path.to_str().unwrap(), f.bytes, f.files, &f.layers[..])).collect()
    }

    fn wasted(found: &ImageFiles) -> Vec<(&str, u64, u64, usize, usize, bool)> {
        let row = |w: &Wasted| (w.bytes, w.files, w.layer, w.by, w.deleted);
        let rows = found.wasted.iter().map(|w| (w.path.to_str().unwrap(), row(w)));
        rows.map(|(path, (bytes, files, layer, by, deleted))| (path, bytes, files, layer, by, deleted))
            .collect()
    }

    #[test]
    fn layers_and_folders_are_weighed() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let one = layer(&store, |dir| {
            write(dir.join("usr/lib/a"), 100);
            write(dir.join("usr/bin/b"), 50);
            write(dir.join("etc/c"), 1);
            std::fs::hard_link(dir.join("usr/bin/b"), dir.join("usr/bin/z")).unwrap();
            std::os::unix::fs::symlink("/etc", dir.join("usr/l")).unwrap();
        });
        let two = layer(&store, |dir| write(dir.join("usr/lib/d"), 7));
        let found = store.image_files(&[one, two], 10).unwrap();
        assert_eq!((found.bytes, found.wasted_bytes, found.layers.len()), (158, 0, 2));
        assert_eq!((found.layers[0].bytes, found.layers[0].files), (151, 5));
        assert_eq!(
            folders(&found.folders),
            [
                ("/usr", 157, 5, &[0, 1][..]),
                ("/usr/lib", 107, 2, &[0, 1]),
                ("/usr/bin", 50, 2, &[0]),
                ("/etc", 1, 1, &[0])
            ]
        );
        assert_eq!(folders(&found.layers[1].folders), [("/usr", 7, 1, &[1][..]), ("/usr/lib", 7, 1, &[1])]);
        let top = store.image_files(&[], 10).unwrap();
        assert_eq!(top, ImageFiles::default());
    }

    #[test]
    fn what_later_layers_hide_is_wasted() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let one = layer(&store, |dir| {
            for (name, size) in [
                ("f", 10),
                ("gone/a", 20),
                ("gone/b/c", 30),
                ("opaque/d", 40),
                ("to-dir", 5),
                ("to-file/e", 6),
            ] {
                write(dir.join(name), size);
            }
        });
        let two = layer(&store, |dir| {
            write(dir.join("gone/new"), 3);
            write(dir.join("f"), 11);
        });
        let three = layer(&store, |dir| {
            whiteout(&dir.join("gone"));
            write(dir.join("f"), 12);
            write(dir.join("opaque/z"), 1);
            let opaque = RootDir::open(&dir.join("opaque")).unwrap();
            crate::sys::xattr::set(crate::sys::xattr::of(&opaque), b"trusted.overlay.opaque", b"y").unwrap();
            write(dir.join("to-dir/in"), 2);
            write(dir.join("to-file"), 2);
            whiteout(&dir.join("never-was"));
        });
        let found = store.image_files(&[one.clone(), two.clone(), three.clone()], 20).unwrap();
        assert_eq!(
            wasted(&found),
            [
                ("/gone", 50, 2, 0, 2, true),
                ("/opaque", 40, 1, 0, 2, true),
                ("/f", 11, 1, 1, 2, false),
                ("/f", 10, 1, 0, 1, false),
                ("/to-file", 6, 1, 0, 2, false),
                ("/to-dir", 5, 1, 0, 2, false),
                ("/gone", 3, 1, 1, 2, true),
            ]
        );
        assert_eq!((found.wasted_bytes, found.wasted_files), (125, 8));
        let layers: Vec<(u64, u64)> = found.layers.iter().map(|layer| (layer.bytes, layer.wasted)).collect();
        assert_eq!(layers, [(111, 111), (14, 14), (17, 0)]);
        assert_eq!(folders(&found.folders), [("/to-dir", 2, 1, &[2][..]), ("/opaque", 1, 1, &[2])]);
        assert_eq!(store.image_files(&[one, two, three], 1).unwrap().wasted.len(), 1);
    }

    #[test]
    fn sizes_are_those_that_layers_are_known_by() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let id = layer(&store, |dir| {
            write(dir.join("a"), 10);
            std::fs::hard_link(dir.join("a"), dir.join("b")).unwrap();
        });
        let upper = RootDir::open(&store.snapshot_dir(&id)).unwrap();
        let options = crate::layer::DigestOptions {
            xattrs: crate::sys::OverlayXattrs::Trusted,
            times: crate::layer::Times::Ignore,
            below: None,
        };
        let digests = crate::layer::digest_layer(&upper, &options).unwrap();
        assert_eq!(store.image_files(&[id], 1).unwrap().bytes, digests.file_bytes);
    }

    #[test]
    fn a_layer_that_is_not_there_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let gone = SnapshotId::try_from("0123456789ab".to_owned()).unwrap();
        assert!(matches!(store.image_files(&[gone], 1), Err(StoreError::NoSnapshot(_))));
    }
}
