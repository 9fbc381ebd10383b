//! Snapshots: each is one layer, an overlay upper directory, with what is known of it.
//!
//! A draft is made under `tmp/` and committed by one rename, which copies
//! nothing. Not here: digests (`digests`), what survives a power cut (`durability`).

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::Mode;
use serde::{Deserialize, Serialize};

use crate::image::{Digest, SnapshotId};
use crate::layer::{Compression, LeftOut};
use crate::sys::RootDir;
use crate::sys::Snapshotter;
use crate::sys::atomic;
use crate::sys::overlay::mount_view;
use crate::sys::read::read_opened;

use super::error::failed;
use super::temporary::remove_tree;
use super::trees::Tree;
use super::{Store, StoreError, TempDir, durability, locked};

/// What made a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotKind {
    /// It came with an image: imported, loaded or pulled.
    Image,
    Run,
    /// COPY or ADD.
    Copy,
    Workdir,
}

impl SnapshotKind {
    /// Returns its word in file names.
    pub fn as_str(self) -> &'static str {
        match self {
            SnapshotKind::Image => "image",
            SnapshotKind::Run => "run",
            SnapshotKind::Copy => "copy",
            SnapshotKind::Workdir => "workdir",
        }
    }
}

/// What is known of a layer when it is committed.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotMeta {
    pub kind: SnapshotKind,
    /// When it was made: the time of its history line.
    pub created: Timestamp,
    /// The blob it was unpacked from, kept to export it exactly.
    pub blob: Option<LayerBlob>,
    /// What a rootless store could not put on disk: exact only in the blob.
    pub left_out: LeftOut,
}

impl SnapshotMeta {
    /// Makes the description of a layer that came from no blob.
    pub fn new(kind: SnapshotKind, created: Timestamp) -> SnapshotMeta {
        SnapshotMeta { kind, created, blob: None, left_out: LeftOut::default() }
    }
}

/// A layer as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerBlob {
    pub digest: Digest,
    /// In bytes, compressed.
    pub size: u64,
    pub compression: Compression,
}

/// A layer that is being made; dropped without a commit it leaves nothing.
#[derive(Debug)]
pub struct Draft {
    /// The upper directory: what the layer will hold. Mode 0755; whoever mounts it gives
    /// it the mode, owner and attributes of the merged root.
    pub dir: PathBuf,
    /// An empty directory beside it, for overlayfs to work in; used for one mount only.
    pub work: PathBuf,
    temporary: TempDir,
    /// The tree that the layer was made in.
    pub(super) tree: Option<Tree>,
    /// Whether something was done to the layer that the tree lacks.
    was_changed: bool,
}

impl Draft {
    /// Tells that files of the draft were changed after its root was finished ([`Store::finish_root`]).
    pub fn changed(&mut self) {
        self.was_changed = true;
    }

    /// Makes a directory that goes with the draft.
    pub(super) fn beside(&self, name: &str) -> Result<PathBuf, StoreError> {
        let path = self.temporary.path().join(name);
        std::fs::create_dir(&path).map_err(failed("make", &path))?;
        Ok(path)
    }

    /// Returns where a sandbox lists the mount points that it makes.
    pub(super) fn points(&self) -> PathBuf {
        self.temporary.path().join("points")
    }

    /// Makes the directory that fuse-overlayfs works in, instead of one that served before.
    pub(super) fn fuse_work(&self) -> Result<PathBuf, StoreError> {
        let path = self.temporary.path().join("fuse");
        remove_tree(&path).map_err(failed("remove", &path))?;
        std::fs::create_dir(&path).map_err(failed("make", &path))?;
        Ok(path)
    }

    /// Removes what lies beside the layer for the sake of its root.
    pub(super) fn clear(&self) -> Result<(), StoreError> {
        for name in ["points", "fuse"] {
            let path = self.temporary.path().join(name);
            remove_tree(&path).map_err(failed("remove", &path))?;
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct MetaFile {
    /// The start of the kernel that wrote the layer.
    boot: String,
    kind: SnapshotKind,
    created: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blob: Option<BlobFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left_out: Option<LeftOutFile>,
}

#[derive(Serialize, Deserialize)]
struct LeftOutFile {
    devices: u64,
    owners: u64,
    xattrs: u64,
}

#[derive(Serialize, Deserialize)]
struct BlobFile {
    digest: Digest,
    size: u64,
    compression: String,
}

/// What stands on disk for a snapshot id.
#[derive(Debug)]
pub(super) enum State {
    /// Whole; `marked` tells whether it is known to be on the disk.
    Whole {
        meta: SnapshotMeta,
        marked: bool,
    },
    /// Written before the kernel started anew, and never marked: may be torn.
    Suspect {
        meta: SnapshotMeta,
    },
    /// There, but not usable.
    Broken {
        why: String,
    },
    Gone,
}

impl Store {
    /// Starts a layer.
    pub fn draft(&self) -> Result<Draft, StoreError> {
        let temporary = self.temp_dir()?;
        let (dir, work) = (temporary.path().join("fs"), temporary.path().join("work"));
        for path in [&dir, &work] {
            rustix::fs::mkdir(path, Mode::RWXU).map_err(|e| failed("make", path)(e.into()))?;
        }
        // Whatever the umask is.
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).map_err(failed("make", &dir))?;
        Ok(Draft { dir, work, temporary, tree: None, was_changed: false })
    }

    /// Starts a draft on an upper directory that is kept elsewhere; what it needs besides is temporary.
    pub(super) fn draft_on(&self, dir: PathBuf) -> Result<Draft, StoreError> {
        let temporary = self.temp_dir()?;
        let work = temporary.path().join("work");
        rustix::fs::mkdir(&work, Mode::RWXU).map_err(|e| failed("make", &work)(e.into()))?;
        Ok(Draft { dir, work, temporary, tree: None, was_changed: false })
    }

    /// Makes a draft a layer of its own; nothing is copied. Nothing may be mounted on it any more.
    pub fn commit(&self, mut draft: Draft, meta: SnapshotMeta) -> Result<SnapshotId, StoreError> {
        remove_tree(&draft.work).map_err(failed("remove", &draft.work))?;
        let from = draft.temporary.path();
        let bytes = meta_bytes(&meta);
        atomic::publish(&from.join("meta.new"), &from.join("meta"), &bytes, false)
            .map_err(failed("write", &from.join("meta")))?;
        loop {
            let bits = atomic::random_bits().map_err(failed("commit", from))?;
            let id = SnapshotId::from_bits(bits);
            if atomic::rename_new(from, &self.paths.snapshot(&id)).map_err(failed("commit", from))? {
                let (tree, was_changed) = (draft.tree.take(), draft.was_changed);
                draft.temporary.keep();
                locked(&self.unmarked).insert(id.clone());
                if let Some(tree) = tree {
                    self.keep_tree(tree, &id, was_changed);
                }
                return Ok(id);
            }
        }
    }

    /// Removes a layer that was committed and is found by nobody: no record, no index, no image
    /// speaks of it. What cannot be removed is left to the next sweep.
    pub fn discard(&self, id: &SnapshotId) {
        self.forget(id);
        locked(&self.unmarked).remove(id);
        let Ok((aside, _hold)) = self.temp_path() else { return };
        // Moved first: a layer that is half removed must never be seen in its place.
        if std::fs::rename(self.paths.snapshot(id), &aside).is_ok() {
            let _ = remove_tree(&aside);
        }
    }

    /// Returns the upper directory of a layer; whether it is there is not looked at.
    pub fn snapshot_dir(&self, id: &SnapshotId) -> PathBuf {
        self.paths.snapshot(id).join("fs")
    }

    /// Returns what is known of a layer; `None` where it is not there, broken, or perhaps torn.
    pub fn meta(&self, id: &SnapshotId) -> Result<Option<SnapshotMeta>, StoreError> {
        if let Some(meta) = self.known_whole(id) {
            return Ok(Some(meta));
        }
        // Before it is read: whoever makes room beside us (`beside`) takes no layer that is touched.
        if self.is_holding() && self.is_first_use(id) {
            self.touch(id)?;
        }
        match self.snapshot_state(id)? {
            State::Whole { meta, marked } => {
                if !marked {
                    locked(&self.unmarked).insert(id.clone());
                }
                self.know_whole(id, &meta);
                Ok(Some(meta))
            }
            State::Suspect { .. } | State::Broken { .. } | State::Gone => Ok(None),
        }
    }

    /// Tells whether a layer is there and may be used.
    pub fn has_snapshot(&self, id: &SnapshotId) -> Result<bool, StoreError> {
        Ok(self.meta(id)?.is_some())
    }

    /// Notes that layers are in use now; the only thing a build that is all cached changes in them.
    pub fn mark_used(&self, layers: &[SnapshotId]) -> Result<(), StoreError> {
        let to_touch = layers.iter().filter(|id| !self.is_holding() || self.is_first_use(id));
        to_touch.into_iter().try_for_each(|id| self.touch(id))
    }

    fn touch(&self, id: &SnapshotId) -> Result<(), StoreError> {
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
        let path = self.paths.snapshot(id).join("meta");
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        match rustix::fs::utimensat(rustix::fs::CWD, &path, &times, flags) {
            // On a file system that cannot be written to any more nobody removes anything either.
            Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::ROFS) => Ok(()),
            Err(errno) => Err(failed("touch", &path)(errno.into())),
        }
    }

    /// Returns the directories of layers (given lowest first) as overlayfs wants them: topmost
    /// first, and each once, for it refuses a directory that it has already. Of a layer that
    /// stands twice in a state, the lower one changes nothing.
    pub fn lowers(&self, layers: &[SnapshotId]) -> Vec<PathBuf> {
        let mut seen = BTreeSet::new();
        let once = layers.iter().rev().filter(|id| seen.insert(*id));
        once.map(|id| self.snapshot_dir(id)).collect()
    }

    /// Returns a merged read-only view of layers, lowest first.
    ///
    /// It lives as long as the `RootDir`, and is attached nowhere; or a tree of links where nothing can
    /// be mounted, which nobody may write to.
    pub fn view(&self, layers: &[SnapshotId]) -> Result<RootDir, StoreError> {
        self.hold()?;
        if layers.is_empty() {
            return RootDir::open(&self.paths.empty).map_err(StoreError::View);
        }
        for id in layers {
            if !self.has_snapshot(id)? {
                return Err(StoreError::NoSnapshot(id.clone()));
            }
        }
        if self.snapshotter()?.snapshotter != Snapshotter::Overlay {
            return self.tree_to_read(layers);
        }
        let mut paths = self.lowers(layers);
        if paths.len() == 1 {
            // Overlayfs wants two; the merged root then still has the attributes of the first.
            paths.push(self.paths.empty.clone());
        }
        match mount_view(&paths, self.options.xattrs) {
            Ok(fd) => Ok(RootDir::from_fd(fd)),
            // Too many layers are too many whatever mounts them.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput && error.raw_os_error().is_none() => {
                Err(StoreError::View(error))
            }
            Err(error) if self.overlay_failed(&error.to_string()) => self.tree_to_read(layers),
            Err(error) => Err(StoreError::View(error)),
        }
    }

    /// Returns a merged read-only view of layers, lowest first, with one more directory of layer form on top.
    pub(super) fn view_beneath(&self, layers: &[SnapshotId], upper: &Path) -> Result<RootDir, StoreError> {
        let base = self.view(layers)?;
        if self.snapshotter()?.snapshotter == Snapshotter::Overlay {
            let mut paths = vec![upper.to_owned()];
            paths.extend(self.lowers(layers));
            if paths.len() == 1 {
                paths.push(self.paths.empty.clone());
            }
            return mount_view(&paths, self.options.xattrs).map(RootDir::from_fd).map_err(StoreError::View);
        }
        if std::fs::read_dir(upper).map_err(failed("read", upper))?.next().is_none() {
            return Ok(base);
        }
        drop(base);
        self.tree_with(layers, upper)
    }

    pub(super) fn snapshot_state(&self, id: &SnapshotId) -> Result<State, StoreError> {
        let directory = self.paths.snapshot(id);
        let path = directory.join("meta");
        let (bytes, mode) = match read_with_mode(&path) {
            Ok(read) => read,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(match directory.symlink_metadata() {
                    Ok(_) => State::Broken { why: "its description is missing".to_owned() },
                    Err(_) => State::Gone,
                });
            }
            Err(e) => return Err(failed("read", &path)(e)),
        };
        let (boot, meta) = match parse_meta(&bytes) {
            Ok(parsed) => parsed,
            Err(why) => return Ok(State::Broken { why }),
        };
        match directory.join("fs").symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Ok(State::Broken { why: "its `fs` is no directory".to_owned() }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(State::Broken { why: "its directory `fs` is missing".to_owned() });
            }
            Err(e) => return Err(failed("read", &directory)(e)),
        }
        let marked = mode & 0o200 == 0;
        if !marked && boot != durability::current_boot() {
            return Ok(State::Suspect { meta });
        }
        Ok(State::Whole { meta, marked })
    }

    /// Writes a layer's description anew, as one of this start of the kernel.
    pub(super) fn adopt(&self, id: &SnapshotId, meta: &SnapshotMeta) -> Result<(), StoreError> {
        self.forget(id);
        self.publish(&self.paths.snapshot(id).join("meta"), &meta_bytes(meta))?;
        locked(&self.unmarked).insert(id.clone());
        Ok(())
    }
}

fn read_with_mode(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    let mut file = std::fs::File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    Ok((read_opened(&mut file)?, mode))
}

fn meta_bytes(meta: &SnapshotMeta) -> Vec<u8> {
    let file = MetaFile {
        boot: durability::current_boot().to_owned(),
        kind: meta.kind,
        created: meta.created.to_string(),
        blob: meta.blob.as_ref().map(|blob| BlobFile {
            digest: blob.digest,
            size: blob.size,
            compression: compression_word(blob.compression).to_owned(),
        }),
        left_out: (meta.left_out != LeftOut::default()).then_some(LeftOutFile {
            devices: meta.left_out.devices,
            owners: meta.left_out.owners,
            xattrs: meta.left_out.xattrs,
        }),
    };
    serde_json::to_vec(&file).expect("strings and numbers")
}

fn parse_meta(bytes: &[u8]) -> Result<(String, SnapshotMeta), String> {
    let unreadable = |e: &dyn std::fmt::Display| format!("its description cannot be read: {e}");
    let file: MetaFile = serde_json::from_slice(bytes).map_err(|e| unreadable(&e))?;
    let blob = match file.blob {
        None => None,
        Some(blob) => Some(LayerBlob {
            digest: blob.digest,
            size: blob.size,
            compression: compression_of(&blob.compression).ok_or_else(|| unreadable(&blob.compression))?,
        }),
    };
    let created = file.created.parse().map_err(|e| unreadable(&e))?;
    let left_out = file
        .left_out
        .map(|l| LeftOut { devices: l.devices, owners: l.owners, xattrs: l.xattrs })
        .unwrap_or_default();
    Ok((file.boot, SnapshotMeta { kind: file.kind, created, blob, left_out }))
}

pub(super) fn compression_word(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    }
}

pub(super) fn compression_of(word: &str) -> Option<Compression> {
    [Compression::None, Compression::Gzip, Compression::Zstd]
        .into_iter()
        .find(|c| compression_word(*c) == word)
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn a_draft_becomes_a_layer_or_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let draft = store.draft().unwrap();
        let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&draft.dir).unwrap());
        std::fs::write(draft.dir.join("file"), "x").unwrap();
        std::fs::create_dir_all(draft.work.join("work/index")).unwrap();
        let meta = SnapshotMeta {
            kind: SnapshotKind::Image,
            created: "2024-05-06T07:08:09.123456789Z".parse().unwrap(),
            blob: Some(LayerBlob { digest: Digest::of("x"), size: 7, compression: Compression::Zstd }),
            left_out: LeftOut { devices: 3, owners: 4, xattrs: 5 },
        };
        let id = store.commit(draft, meta.clone()).unwrap();
        let there = store.snapshot_dir(&id);
        assert_eq!(std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&there).unwrap()), inode);
        assert_eq!(std::fs::metadata(&there).unwrap().permissions().mode() & 0o7777, 0o755);
        assert_eq!(store.meta(&id).unwrap(), Some(meta));
        assert!(!store.paths.snapshot(&id).join("work").exists());

        let dropped = store.draft().unwrap().dir.clone();
        assert!(!dropped.exists());
        assert_eq!(store.meta(&SnapshotId::from_bits(7)).unwrap(), None);
    }

    #[test]
    fn a_broken_layer_is_a_miss() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let breaks: [fn(&Path); 6] = [
            |p| std::fs::write(p.join("meta"), "").unwrap(),
            |p| std::fs::write(p.join("meta"), "{}").unwrap(),
            |p| std::fs::write(p.join("meta"), [0; 64]).unwrap(),
            |p| std::fs::remove_file(p.join("meta")).unwrap(),
            |p| std::fs::remove_dir_all(p.join("fs")).unwrap(),
            |p| std::fs::remove_dir_all(p).unwrap(),
        ];
        for break_it in breaks {
            let id = testing::layer(&store, "a", "b");
            assert!(store.has_snapshot(&id).unwrap());
            break_it(&store.paths.snapshot(&id));
            assert!(!store.has_snapshot(&id).unwrap());
        }
    }
}
