//! Where everything lies, and how a store comes to be.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::image::{CacheKey, Digest, ImageId, OpDigest, SnapshotId};
use crate::sys::atomic;
use crate::sys::overlay::OverlayXattrs;
use crate::sys::read::read_small;
use crate::sys::snapshotter::takes_whiteouts;

use super::error::failed;
use super::temporary::remove_tree;
use super::{SnapshotKind, StoreError};

/// The format this version reads and writes.
const VERSION: u64 = 1;

/// The directories that a new store has.
const DIRECTORIES: [&str; 17] = [
    "empty",
    "blobs",
    "blobs/sha256",
    "snapshots",
    "images",
    "references",
    "steps",
    "created",
    "index",
    "index/content",
    "index/diff",
    "cache",
    "cache/records",
    "cache/files",
    "builds",
    "leases",
    "tmp",
];

/// The places in a store.
#[derive(Debug)]
pub(super) struct Paths {
    pub base: PathBuf,
    pub lock: PathBuf,
    pub names_lock: PathBuf,
    pub sweep: PathBuf,
    /// How much the store takes, where that is limited.
    pub size: PathBuf,
    pub size_lock: PathBuf,
    /// Its time is when too old pieces were last looked for.
    pub pruned: PathBuf,
    pub empty: PathBuf,
    pub blobs: PathBuf,
    pub snapshots: PathBuf,
    pub images: PathBuf,
    pub references: PathBuf,
    pub steps: PathBuf,
    pub created: PathBuf,
    pub by_content: PathBuf,
    pub by_diff: PathBuf,
    /// Made by the first COPY.
    pub by_copy: PathBuf,
    pub records: PathBuf,
    pub stat_cache: PathBuf,
    pub downloads: PathBuf,
    pub git: PathBuf,
    /// Made by the first cache mount.
    pub cache_mounts: PathBuf,
    /// Made by the first blob that is received in parts.
    pub partials: PathBuf,
    pub builds: PathBuf,
    /// Made by the first container, as the next.
    pub containers: PathBuf,
    pub container_names: PathBuf,
    /// Made by the first volume.
    pub volumes: PathBuf,
    pub leases: PathBuf,
    pub locks: PathBuf,
    pub tmp: PathBuf,
}

impl Paths {
    pub fn new(base: PathBuf) -> Paths {
        Paths {
            lock: base.join("lock"),
            names_lock: base.join("names.lock"),
            sweep: base.join("sweep"),
            size: base.join("size"),
            size_lock: base.join("size.lock"),
            pruned: base.join("pruned"),
            empty: base.join("empty"),
            blobs: base.join("blobs/sha256"),
            snapshots: base.join("snapshots"),
            images: base.join("images"),
            references: base.join("references"),
            steps: base.join("steps"),
            created: base.join("created"),
            by_content: base.join("index/content"),
            by_diff: base.join("index/diff"),
            by_copy: base.join("index/copy"),
            records: base.join("cache/records"),
            stat_cache: base.join("cache/files"),
            downloads: base.join("cache/downloads"),
            git: base.join("cache/git"),
            cache_mounts: base.join("cache/mounts"),
            partials: base.join("cache/partials"),
            builds: base.join("builds"),
            containers: base.join("containers"),
            container_names: base.join("container-names"),
            volumes: base.join("volumes"),
            leases: base.join("leases"),
            locks: base.join("locks"),
            tmp: base.join("tmp"),
            base,
        }
    }

    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }

    pub fn snapshot(&self, id: &SnapshotId) -> PathBuf {
        self.snapshots.join(id.as_str())
    }

    pub fn image(&self, id: &ImageId) -> PathBuf {
        self.images.join(id.hex())
    }

    pub fn records_of(&self, op: &OpDigest) -> PathBuf {
        self.records.join(op.hex())
    }

    pub fn record(&self, op: &OpDigest, key: &CacheKey) -> PathBuf {
        self.records_of(op).join(key.hex())
    }

    pub fn content(&self, content: &Digest, kind: SnapshotKind) -> PathBuf {
        self.by_content.join(format!("{}-{}", content.hex(), kind.as_str()))
    }
}

/// Tells whether a store of this format is at a directory.
pub(super) fn is_at(root: &Path) -> bool {
    root.join(format!("v{VERSION}")).is_dir()
}

/// Opens or makes the store; see [`super::Store::open`]. Also returns the form of its marks.
pub(super) fn open(root: &Path, xattrs: OverlayXattrs) -> Result<(Paths, OverlayXattrs), StoreError> {
    if let Some(found) = newest_format(root)?
        && found > VERSION
    {
        return Err(StoreError::NewerFormat { root: root.to_owned(), found, known: VERSION });
    }
    let base = root.join(format!("v{VERSION}"));
    let metadata = match std::fs::metadata(&base) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            make(root, &base, xattrs)?;
            std::fs::metadata(&base).map_err(failed("open the store", &base))?
        }
        Err(e) => return Err(failed("open the store", &base)(e)),
    };
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        return Err(StoreError::OtherOwner { root: root.to_owned(), owner: metadata.uid(), user });
    }
    let paths = Paths::new(base);
    let form = check_format(root, &paths, xattrs)?;
    Ok((paths, form))
}

/// Returns the highest N of the folders `vN`; `None` where the root holds none or is not there.
fn newest_format(root: &Path) -> Result<Option<u64>, StoreError> {
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("open the store", root)(e)),
    };
    let mut newest = None;
    for entry in entries {
        let name = entry.map_err(failed("open the store", root))?.file_name();
        let number = name.to_str().and_then(|n| n.strip_prefix('v')).and_then(|n| n.parse::<u64>().ok());
        newest = newest.max(number);
    }
    Ok(newest)
}

fn format_text(xattrs: OverlayXattrs) -> &'static str {
    match xattrs {
        OverlayXattrs::Trusted => "rbuild store\noverlay trusted\n",
        OverlayXattrs::User => "rbuild store\noverlay user\n",
        OverlayXattrs::Files => "rbuild store\noverlay files\n",
    }
}

fn kind_of_user(xattrs: OverlayXattrs) -> &'static str {
    match xattrs {
        OverlayXattrs::Trusted => "as root",
        OverlayXattrs::User => "in a user namespace (rootless)",
        OverlayXattrs::Files => "on a file system without whiteouts",
    }
}

fn check_format(root: &Path, paths: &Paths, xattrs: OverlayXattrs) -> Result<OverlayXattrs, StoreError> {
    let path = paths.base.join("format");
    let bytes = read_small(&path).map_err(failed("open the store", &path))?;
    let text = String::from_utf8_lossy(&bytes);
    let found = match &*text {
        t if t == format_text(OverlayXattrs::Trusted) => OverlayXattrs::Trusted,
        t if t == format_text(OverlayXattrs::User) => OverlayXattrs::User,
        // Of no user's kind, since overlayfs never mounts them.
        t if t == format_text(OverlayXattrs::Files) => return Ok(OverlayXattrs::Files),
        _ => {
            let why = format!("`{}` is not what rbuild writes there", path.display());
            return Err(StoreError::Damaged { root: root.to_owned(), why });
        }
    };
    if found != xattrs {
        return Err(StoreError::OtherOverlay {
            root: root.to_owned(),
            found: kind_of_user(found),
            wanted: kind_of_user(xattrs),
        });
    }
    Ok(found)
}

/// Makes an empty store beside its place and renames it there; another process may be first.
fn make(root: &Path, base: &Path, xattrs: OverlayXattrs) -> Result<(), StoreError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.mode(0o700);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(root)
        .map_err(failed("make the store", root))?;
    let bits = atomic::random_bits().map_err(failed("make the store", root))?;
    let draft = root.join(format!(".new-{bits:016x}"));
    let made = (|| {
        builder.create(&draft)?;
        for name in DIRECTORIES {
            builder.create(draft.join(name))?;
        }
        builder.create(draft.join("locks"))?;
        // The root of an image without layers, which anybody in a container may look at.
        std::fs::set_permissions(draft.join("empty"), PermissionsExt::from_mode(0o755))?;
        let form = if takes_whiteouts(&draft.join("tmp"))? { xattrs } else { OverlayXattrs::Files };
        std::fs::write(draft.join("format"), format_text(form))?;
        atomic::rename_new(&draft, base)
    })();
    if !matches!(made, Ok(true)) {
        let _ = remove_tree(&draft);
    }
    made.map(|_| ()).map_err(failed("make the store", root))
}

#[cfg(test)]
mod tests {
    use super::super::{Store, StoreOptions};
    use super::*;

    fn open_as(root: &Path, xattrs: OverlayXattrs) -> Result<Store, StoreError> {
        Store::open(root, StoreOptions { xattrs, sync: false })
    }

    #[test]
    fn is_made_once_and_closed_to_others() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("a/b");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| open_as(&root, OverlayXattrs::Trusted).unwrap());
            }
        });
        let names: Vec<_> = std::fs::read_dir(&root).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["v1"]);
        for (path, mode) in [(root.clone(), 0o700), (root.join("v1"), 0o700), (root.join("v1/empty"), 0o755)]
        {
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, mode);
        }
    }

    #[test]
    fn refuses_what_it_cannot_use() {
        let directory = tempfile::tempdir().unwrap();
        open_as(directory.path(), OverlayXattrs::Trusted).unwrap();
        let error = open_as(directory.path(), OverlayXattrs::User).unwrap_err().to_string();
        assert!(error.contains("was made as root; it cannot be used in a user namespace"), "{error}");

        std::fs::create_dir(directory.path().join("v0")).unwrap();
        open_as(directory.path(), OverlayXattrs::Trusted).unwrap();
        std::fs::create_dir(directory.path().join("v12")).unwrap();
        let error = open_as(directory.path(), OverlayXattrs::Trusted).unwrap_err().to_string();
        assert!(error.contains("newer rbuild (format v12)"), "{error}");
        std::fs::remove_dir(directory.path().join("v12")).unwrap();

        std::fs::write(directory.path().join("v1/format"), "").unwrap();
        let error = open_as(directory.path(), OverlayXattrs::Trusted).unwrap_err().to_string();
        assert!(error.contains("is damaged"), "{error}");

        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(open_as(&file, OverlayXattrs::Trusted).is_err());
    }
}
