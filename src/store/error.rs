//! What can go wrong with the store.

use std::io;
use std::path::{Path, PathBuf};

use crate::image::{Digest, ImageId, SnapshotId};
use crate::layer::LayerError;
use crate::sys::Snapshotter;
use crate::sys::read::read_small;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot {action} `{}`", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot {action} `{}`: no space left on the device", path.display())]
    Full { action: &'static str, path: PathBuf },
    #[error(
        "the store at `{}` was written by a newer rbuild (format v{found}); this one knows formats up to v{known}",
        root.display()
    )]
    NewerFormat { root: PathBuf, found: u64, known: u64 },
    #[error("`{}` in the store is a mount point: what is mounted there would be deleted with the store", path.display())]
    MountInside { path: PathBuf },
    #[error("the store at `{}` belongs to user {owner}, not to user {user}", root.display())]
    OtherOwner { root: PathBuf, owner: u32, user: u32 },
    #[error(
        "the store at `{}` was made {found}; it cannot be used {wanted}: choose another with --root",
        root.display()
    )]
    OtherOverlay { root: PathBuf, found: &'static str, wanted: &'static str },
    #[error("the store at `{}` is damaged: {why}", root.display())]
    Damaged { root: PathBuf, why: String },
    #[error("`{}` is no store of rbuild's", root.display())]
    NoStore { root: PathBuf },
    #[error("expected a blob {expected}, got {found}")]
    WrongDigest { expected: Digest, found: Digest },
    #[error("expected a blob of {expected} bytes, got {found}")]
    WrongSize { expected: u64, found: u64 },
    #[error("blob {0} is not in the store")]
    NoBlob(Digest),
    #[error("blob {digest} is larger than {limit} bytes")]
    BlobTooLarge { digest: Digest, limit: u64 },
    #[error("layer {0} is not in the store, or was torn by a crash")]
    NoSnapshot(SnapshotId),
    #[error("cannot merge the layers")]
    View(#[source] io::Error),
    #[error("cannot use the snapshotter `{snapshotter}`: {why}")]
    Snapshotter { snapshotter: Snapshotter, why: String },
    #[error("cannot merge the layers into a tree of files")]
    Merge(#[source] LayerError),
    #[error("cannot tell what the step changed")]
    Difference(#[source] LayerError),
    #[error("cannot merge the layers with fuse-overlayfs")]
    Fuse(#[source] io::Error),
    /// The entry is there, but what it needs is not, or is not what it should be.
    #[error("{entry} is broken: {why}")]
    Broken { entry: String, why: String },
    #[error("No such image: {0}")]
    NotFound(String),
    #[error("No such container: {0}")]
    NoContainer(String),
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove \
         (or rename) that container to be able to reuse that name."
    )]
    NameTaken { name: String, id: super::ContainerId },
    #[error("get {0}: no such volume")]
    NoVolume(String),
    #[error("create {name}: {why}")]
    VolumeName { name: String, why: String },
    #[error("remove {name}: volume is in use - {containers}")]
    VolumeInUse { name: String, containers: super::InUse },
    #[error("{0}")]
    VolumeOptions(String),
    #[error("cannot copy the image's files into the volume")]
    FillVolume(#[source] LayerError),
    #[error("`{text}` is ambiguous: it is the start of the ids {}", ids.join(", "))]
    Ambiguous { text: String, ids: Vec<String> },
    #[error(
        "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
        .0.short()
    )]
    SeveralNames(ImageId),
    #[error(
        "conflict: unable to remove repository reference \"{name}\" (must force) - container {container} is using \
         its referenced image {}",
        .id.short()
    )]
    NameInUse { name: String, id: ImageId, container: String },
    #[error(
        "conflict: unable to delete {} ({} be forced) - image is being used by {} container {container}",
        .id.short(), if *.running { "cannot" } else { "must" }, if *.running { "running" } else { "stopped" }
    )]
    ImageInUse { id: ImageId, container: String, running: bool },
    #[error("the user namespace does not map the owner {uid}:{gid}")]
    NoSuchOwner { uid: u32, gid: u32 },
    #[error("{0}")]
    NoRoom(Box<super::NoRoom>),
    #[error("a lock was not waited for: the build was cancelled")]
    Cancelled,
}

impl StoreError {
    /// Tells whether it says that something asked for is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, StoreError::NotFound(_))
    }

    /// Returns what to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            StoreError::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => "name another place with --root or RBUILD_ROOT",
                io::ErrorKind::ReadOnlyFilesystem => {
                    "the file system is read-only: name another place with --root or RBUILD_ROOT"
                }
                io::ErrorKind::NotADirectory => {
                    "the store is a directory: name one with --root or RBUILD_ROOT"
                }
                _ => return None,
            },
            StoreError::NoRoom(why) => return Some(why.hint()),
            StoreError::Full { .. } => {
                "`rbuild system prune` makes room; `--root` or RBUILD_ROOT name a place on another disk"
            }
            StoreError::NewerFormat { .. } => {
                "use the newer rbuild, or another store with --root or RBUILD_ROOT"
            }
            StoreError::MountInside { .. } => "unmount it, umount(8); nothing was removed",
            StoreError::OtherOwner { .. } => {
                "run it as that user, or name another place with --root or RBUILD_ROOT"
            }
            StoreError::Damaged { root, .. } => {
                return Some(format!(
                    "images and the cache in it are lost to this version: name another place with --root or \
                     RBUILD_ROOT, or remove `{}` and build again",
                    root.display()
                ));
            }
            StoreError::Broken { .. } | StoreError::WrongDigest { .. } | StoreError::WrongSize { .. } => {
                "what is in the store changed outside of rbuild, or the disk failed: pull or build that image again"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }

    /// Makes an error of an entry that cannot be used.
    pub(super) fn broken(entry: impl Into<String>, why: impl ToString) -> StoreError {
        StoreError::Broken { entry: entry.into(), why: why.to_string() }
    }
}

/// Joins an error's message with those of its causes.
pub(super) fn whole_message(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Gives an I/O error what was tried and where.
pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { action, path },
        _ => StoreError::Io { action, path, source },
    }
}

/// Reads a small file; `None` where it is not there.
pub(super) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match read_small(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(failed("read", path)(e)),
    }
}

/// Lists the names in a directory, less those with a leading dot, sorted; none where it is not there.
pub(super) fn names_in(path: &Path) -> Result<Vec<String>, StoreError> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed("list", path)(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("list", path))?;
        match entry.file_name().into_string() {
            Ok(name) if !name.starts_with('.') => names.push(name),
            _ => {}
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Removes a file; one that is not there is no error.
pub(super) fn remove_file(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(failed("remove", path)(e)),
    }
}
