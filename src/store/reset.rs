//! Removing a whole store, what belongs to ids of a user namespace included: nothing of it is left.
//!
//! Not here: asking whoever is at the terminal (`cli`).

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use crate::sys::atomic;
use crate::sys::lock::FileLock;

use super::entries::lock_holders;
use super::error::{failed, names_in};
use super::layout::Paths;
use super::leases::clear_dead;
use super::temporary::remove_tree;
use super::{BuildState, ListedContainer, Quota, Store, StoreError, StoreOptions};

/// What a store's folder of any version has.
const MARKS: [&str; 4] = ["format", "snapshots", "images", "leases"];

/// Who uses a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreUser {
    /// What it is, in words: `build 0123456789ab`.
    pub what: String,
    /// The processes, as far as the kernel tells.
    pub processes: Vec<u32>,
    pub since: Option<Timestamp>,
}

/// A store that is to go.
#[derive(Debug)]
pub struct StoreToReset {
    root: PathBuf,
    options: StoreOptions,
    /// The folders `vN`.
    versions: Vec<PathBuf>,
    /// What was left by one that was being made or removed.
    drafts: Vec<PathBuf>,
    /// Whether something else is in the root, too.
    others: Vec<String>,
}

/// What became of a store that was to go.
#[derive(Debug, PartialEq, Eq)]
pub enum Reset {
    Done,
    /// Nothing was removed.
    InUse(Vec<StoreUser>),
}

impl StoreToReset {
    /// Looks at a directory; `None` where nothing is there. Errors: it is no store, or another user's.
    pub fn find(root: &Path, options: StoreOptions) -> Result<Option<StoreToReset>, StoreError> {
        let entries = match std::fs::read_dir(root) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed("read", root)(e)),
        };
        let (mut versions, mut drafts, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for entry in entries {
            let path = entry.map_err(failed("read", root))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_version = name.strip_prefix('v').is_some_and(|number| number.parse::<u64>().is_ok());
            match name.as_str() {
                _ if is_version && is_version_folder(&path) => versions.push(path),
                draft if is_draft(draft) => drafts.push(path),
                _ => others.push(name),
            }
        }
        // What a removal that was cut short has left may have lost most of what it is known by.
        if versions.is_empty() && !drafts.iter().any(|draft| marks(draft) > 0) {
            return Err(StoreError::NoStore { root: root.to_owned() });
        }
        let user = rustix::process::geteuid().as_raw();
        for path in versions.iter().chain(&drafts) {
            let owner = std::fs::symlink_metadata(path).map_err(failed("read", path))?.uid();
            if owner != user {
                return Err(StoreError::OtherOwner { root: root.to_owned(), owner, user });
            }
        }
        for path in versions.iter().chain(&drafts) {
            if let Some(path) = mount_inside(path) {
                return Err(StoreError::MountInside { path });
            }
        }
        Ok(Some(StoreToReset { root: root.to_owned(), options, versions, drafts, others }))
    }

    /// Returns the names of what is in its directory and no part of it, and stays.
    pub fn others(&self) -> &[String] {
        &self.others
    }

    /// Removes all of it, unless somebody uses it.
    pub fn remove(self) -> Result<Reset, StoreError> {
        let mut locks = Vec::new();
        for version in &self.versions {
            let store = self.store(version);
            let lock = &store.paths.lock;
            let alone = FileLock::try_exclusive(lock).map_err(failed("lock", lock))?;
            let users = store.users(alone.is_none())?;
            match alone {
                Some(lock) if users.is_empty() => locks.push(lock),
                _ => return Ok(Reset::InUse(users)),
            }
        }
        let mut gone = self.drafts.clone();
        for version in &self.versions {
            let bits = atomic::random_bits().map_err(failed("remove", version))?;
            // In one step: nobody finds half a store.
            let aside = self.root.join(format!(".gone-{bits:016x}"));
            std::fs::rename(version, &aside).map_err(failed("remove", version))?;
            gone.push(aside);
        }
        drop(locks);
        for path in gone {
            remove_tree(&path).map_err(failed("remove", &path))?;
        }
        match std::fs::remove_dir(&self.root) {
            Ok(()) => Ok(Reset::Done),
            // Something else is in it; it is a mount point, or a link; or what it is in is not ours.
            Err(e)
                if matches!(
                    e.raw_os_error().map(rustix::io::Errno::from_raw_os_error),
                    Some(
                        rustix::io::Errno::NOTEMPTY
                            | rustix::io::Errno::NOTDIR
                            | rustix::io::Errno::EXIST
                            | rustix::io::Errno::BUSY
                            | rustix::io::Errno::ACCESS
                            | rustix::io::Errno::PERM
                            | rustix::io::Errno::ROFS
                    )
                ) =>
            {
                Ok(Reset::Done)
            }
            Err(e) => Err(failed("remove", &self.root)(e)),
        }
    }

    /// Opens it as far as it takes to see who uses it; it may be damaged.
    fn store(&self, version: &Path) -> Store {
        Store {
            way: Mutex::default(),
            trees: Arc::default(),
            root: self.root.clone(),
            paths: Paths::new(version.to_owned()),
            options: self.options,
            hold: Mutex::new(None),
            unmarked: Mutex::default(),
            dirty: AtomicBool::new(false),
            known: Mutex::default(),
            quota: Quota::default(),
            room: Mutex::default(),
        }
    }
}

fn is_version_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) && marks(path) >= 2
}

/// Returns a mount point at or below a directory; `None` also where the kernel does not tell.
fn mount_inside(path: &Path) -> Option<PathBuf> {
    let path = path.canonicalize().ok()?;
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    mount_points(&mounts).find(|point| point.starts_with(&path))
}

/// Reads the mount points of a `/proc/PID/mountinfo`: blanks and the like are octal numbers in it, proc(5).
fn mount_points(mountinfo: &[u8]) -> impl Iterator<Item = PathBuf> {
    mountinfo.split(|&byte| byte == b'\n').filter_map(|line| {
        let mut rest = line.split(|&byte| byte == b' ').nth(4)?;
        let mut point = Vec::new();
        while let Some((&byte, after)) = rest.split_first() {
            let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
            match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| byte == b'\\') {
                Some(meant) => {
                    point.push(meant);
                    rest = &after[3..];
                }
                None => {
                    point.push(byte);
                    rest = after;
                }
            }
        }
        Some(PathBuf::from(OsString::from_vec(point)))
    })
}

fn marks(path: &Path) -> usize {
    MARKS.iter().filter(|mark| path.join(mark).symlink_metadata().is_ok()).count()
}

/// Tells whether a name is one of those that stores have while they are made or removed.
fn is_draft(name: &str) -> bool {
    let bits = name.strip_prefix(".new-").or(name.strip_prefix(".gone-"));
    bits.is_some_and(|bits| bits.len() == 16 && bits.bytes().all(|b| b.is_ascii_hexdigit()))
}

impl Store {
    /// Names who uses the store; `busy`: somebody does, of whatever kind.
    fn users(&self, busy: bool) -> Result<Vec<StoreUser>, StoreError> {
        let mut users = Vec::new();
        for build in self.builds()?.into_iter().filter(|build| build.state == BuildState::Running) {
            let processes = lock_holders(&build.log);
            users.push(StoreUser {
                what: format!("build {}", build.id),
                processes,
                since: Some(build.started),
            });
        }
        clear_dead(&self.paths)?;
        for ListedContainer { kept, .. } in self.containers()?.into_iter().filter(|listed| listed.running) {
            let lock = self.container_dir(&kept.id).join("lock");
            let since = std::fs::metadata(&lock).and_then(|metadata| metadata.modified()).ok();
            let since = since.and_then(|time| Timestamp::try_from(time).ok());
            let (what, processes) = (format!("container {}", kept.id.short()), lock_holders(&lock));
            users.push(StoreUser { what, processes, since });
        }
        let mut others: Vec<u32> = Vec::new();
        for lease in names_in(&self.paths.leases)? {
            others.extend(lock_holders(&self.paths.leases.join(lease)));
        }
        others.retain(|process| !users.iter().any(|user| user.processes.contains(process)));
        if !others.is_empty() || busy && users.is_empty() {
            users.push(StoreUser { what: "rbuild".to_owned(), processes: others, since: None });
        }
        Ok(users)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{containers, testing};
    use super::*;
    use crate::sys::OverlayXattrs;

    const OPTIONS: StoreOptions = StoreOptions { xattrs: OverlayXattrs::Trusted, sync: false };

    #[test]
    fn all_of_a_store_goes_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("store");
        assert!(StoreToReset::find(&root, OPTIONS).unwrap().is_none());
        drop(testing::layer(&testing::open(&root), "a", "b"));
        assert_eq!(StoreToReset::find(&root, OPTIONS).unwrap().unwrap().remove().unwrap(), Reset::Done);
        assert!(!root.exists());

        drop(testing::open(&root));
        std::fs::write(root.join("notes"), "mine").unwrap();
        std::fs::create_dir_all(root.join("v2")).unwrap();
        std::fs::create_dir_all(root.join(".new-0123456789abcdef")).unwrap();
        std::fs::create_dir_all(root.join(".new-ideas")).unwrap();
        let found = StoreToReset::find(&root, OPTIONS).unwrap().unwrap();
        assert_eq!(found.others().len(), 3);
        assert_eq!(found.remove().unwrap(), Reset::Done);
        let mut left: Vec<_> = std::fs::read_dir(&root).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".new-ideas", "notes", "v2"]);
        let error = StoreToReset::find(&root, OPTIONS).unwrap_err().to_string();
        assert!(error.ends_with("is no store of rbuild's"), "{error}");
        assert!(StoreToReset::find(&root.join("notes"), OPTIONS).is_err());
    }

    #[test]
    fn mount_points_are_read_as_the_kernel_writes_them() {
        let text = b"21 1 8:1 / / rw - ext4 /dev/a rw\n22 21 8:1 /x /s/a\\040b\\134 rw,x - ext4 /dev/a rw\n\n23 21\n";
        let points: Vec<PathBuf> = mount_points(text).collect();
        assert_eq!(points, [PathBuf::from("/"), PathBuf::from("/s/a b\\")]);
        assert!(mount_inside(Path::new("/proc")).is_some());
        assert_eq!(mount_inside(tempfile::tempdir().unwrap().path()), None);
    }

    #[test]
    fn a_link_to_a_store_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (root, link) = (directory.path().join("store"), directory.path().join("link"));
        drop(testing::open(&root));
        std::os::unix::fs::symlink(&root, &link).unwrap();
        assert_eq!(StoreToReset::find(&link, OPTIONS).unwrap().unwrap().remove().unwrap(), Reset::Done);
        assert_eq!(std::fs::read_dir(&link).unwrap().count(), 0);
    }

    #[test]
    fn one_in_use_stays() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let reset = || StoreToReset::find(directory.path(), OPTIONS).unwrap().unwrap().remove().unwrap();
        let log = store.build_log().unwrap();
        let Reset::InUse(users) = reset() else { panic!("it is in use") };
        assert_eq!(users[0].what, format!("build {}", log.id()));
        assert_eq!(users[0].processes, [std::process::id()]);
        drop(log);
        let container = containers::testing::container("c", vec![]);
        store.create_container(&container).unwrap();
        store.let_go().unwrap();
        let held = store.lock_container(&container.id).unwrap().unwrap();
        let Reset::InUse(users) = reset() else { panic!("it is in use") };
        assert_eq!(users[0].what, format!("container {}", container.id.short()));
        drop(held);
        drop(store);
        assert_eq!(reset(), Reset::Done);
    }

    #[test]
    fn a_damaged_store_goes_too() {
        let directory = tempfile::tempdir().unwrap();
        drop(testing::open(directory.path()));
        std::fs::write(directory.path().join("v1/format"), "?").unwrap();
        std::fs::remove_dir_all(directory.path().join("v1/builds")).unwrap();
        let found = StoreToReset::find(directory.path(), OPTIONS).unwrap().unwrap();
        assert_eq!(found.remove().unwrap(), Reset::Done);
        assert!(!directory.path().join("v1").exists());
        // One whose removal was cut short.
        std::fs::create_dir_all(directory.path().join(".gone-0123456789abcdef/images")).unwrap();
        let found = StoreToReset::find(directory.path(), OPTIONS).unwrap().unwrap();
        assert_eq!(found.remove().unwrap(), Reset::Done);
        assert!(!directory.path().exists());
        std::fs::create_dir_all(directory.path().join(".gone-0123456789abcdef")).unwrap();
        assert!(StoreToReset::find(directory.path(), OPTIONS).is_err());
    }
}
