//! What hooks asked for and is not built yet: a file for each commit, in the order they came.
//!
//! Whoever adds one tries to be the worker afterwards; a worker looks once more after it has let go of the
//! lock. So one of the two sees the last one. An order names folders to send and registries to send them to: only
//! what the user wrote, here, is one. Not here: the work (`work`).

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use rustix::process::geteuid;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::service::ServiceError;
use crate::sys::atomic::{publish, random_bits};
use crate::sys::lock::{self, FileLock};
use crate::sys::read::read_small;

/// More than a rebase of any size that somebody still wants images of.
const MOST: usize = 1000;

/// A word of any bytes, in JSON with percent signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word(pub OsString);

impl Serialize for Word {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&percent_encode(self.0.as_bytes(), NON_ALPHANUMERIC))
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Word, D::Error> {
        let text = String::deserialize(from)?;
        Ok(Word(OsString::from_vec(percent_decode_str(&text).collect())))
    }
}

impl From<&Path> for Word {
    fn from(path: &Path) -> Word {
        Word(path.as_os_str().to_owned())
    }
}

impl AsRef<Path> for Word {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl AsRef<OsStr> for Word {
    fn as_ref(&self) -> &OsStr {
        &self.0
    }
}

/// A commit to be built, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub commit: String,
    pub short: String,
    pub git_dir: Word,
    /// The work tree.
    pub top: Word,
    /// The context, from the work tree or absolute; the same for the Dockerfile.
    pub context: Word,
    pub file: Option<Word>,
    /// The image's name, without a tag.
    pub name: String,
    /// The name to push to, without a tag.
    pub push: Option<String>,
    /// The files as they lie in the work tree, instead of the commit's.
    pub work_tree: bool,
    /// What waits from before is not built.
    pub latest_only: bool,
    /// Options of rbuild itself.
    pub globals: Vec<Word>,
}

/// What came of the last commit that was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    pub short: String,
    pub image: String,
    /// Why it failed.
    pub error: Option<String>,
    pub milliseconds: u64,
    /// Seconds since 1970.
    pub ended: i64,
}

/// The queue of one repository.
#[derive(Debug, Clone)]
pub struct Queue {
    /// The folder for it and the log.
    pub folder: PathBuf,
}

impl Queue {
    /// Returns the queue of a repository; nothing is made yet. `common`: what its work trees share.
    pub fn of(common: &Path) -> Queue {
        Queue { folder: common.join("rbuild") }
    }

    fn waiting(&self) -> PathBuf {
        self.folder.join("queue")
    }

    /// Returns where the worker writes what is said.
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn last_path(&self) -> PathBuf {
        self.folder.join("last")
    }

    fn lock_path(&self) -> PathBuf {
        self.folder.join("lock")
    }

    /// Adds a commit; returns how many wait now.
    pub fn add(&self, order: &Order) -> Result<usize, ServiceError> {
        let folder = self.waiting();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(ServiceError::at("make the folder", &folder))?;
        for folder in [&self.folder, &folder] {
            let found = std::fs::symlink_metadata(folder).map_err(ServiceError::at("read", folder))?;
            if !found.is_dir() || found.uid() != geteuid().as_raw() {
                let what = format!("`{}` belongs to somebody else", folder.display());
                return Err(ServiceError::refused(what)
                    .with_hint("what another user wrote there is not built; remove that folder"));
            }
        }
        let before = self.names()?.len();
        if before >= MOST {
            let what = format!("{MOST} commits wait to be built already");
            return Err(ServiceError::refused(what).with_hint("`rbuild hook log` tells what they wait for"));
        }
        let bytes = serde_json::to_vec(order).map_err(|error| ServiceError::refused(error.to_string()))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos();
        let write = random_bits().and_then(|bits| {
            let name = format!("{now:024}-{:08x}", bits as u32);
            publish(&self.folder.join(format!("new-{name}")), &folder.join(&name), &bytes, false)?;
            Ok(folder.join(name))
        });
        let path = write.map_err(ServiceError::at("write to the queue", &folder))?;
        if !std::fs::symlink_metadata(&path).is_ok_and(|found| is_own(&found)) {
            let _ = std::fs::remove_file(&path);
            let what =
                format!("anybody may write to `{}`, whatever the rights of its files say", folder.display());
            return Err(ServiceError::refused(what).with_hint("its file system keeps no owners or modes"));
        }
        Ok(before + 1)
    }

    /// Returns the names of what waits or is being built, oldest first. Only regular files are orders: a FIFO would
    /// be waited for, and a folder never goes away; and of those the user's own that nobody else can write to.
    fn names(&self) -> Result<Vec<OsString>, ServiceError> {
        let folder = self.waiting();
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(ServiceError::at("read", &folder))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(ServiceError::at("read", &folder))?;
            if entry.metadata().is_ok_and(|found| is_own(&found)) {
                names.push(entry.file_name());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Returns what waits or is being built, oldest first; what cannot be read is removed.
    pub fn orders(&self) -> Result<Vec<(OsString, Order)>, ServiceError> {
        let mut orders = Vec::new();
        for name in self.names()? {
            let path = self.waiting().join(&name);
            match read_small(&path).map(|bytes| serde_json::from_slice(&bytes)) {
                Ok(Ok(order)) if self.is_of_here(&order) => orders.push((name, order)),
                // Another version's, cut short by a full disk, or moved here from another repository.
                Ok(_) => drop(std::fs::remove_file(&path)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(ServiceError::at("read", &path)(error)),
            }
        }
        Ok(orders)
    }

    /// Tells whether an order is about this repository: its git directory is what work trees share, or below it.
    fn is_of_here(&self, order: &Order) -> bool {
        let whole = |path: &Path| std::fs::canonicalize(path).ok();
        let common = self.folder.parent().and_then(whole);
        common.zip(whole(order.git_dir.as_ref())).is_some_and(|(common, git_dir)| git_dir.starts_with(common))
    }

    /// Removes all that is kept here, before the first hook of ours is: it came with the repository.
    pub fn forget(&self) -> Result<(), ServiceError> {
        let failed = ServiceError::at("remove", &self.folder);
        match std::fs::symlink_metadata(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
            Ok(found) if !found.is_dir() => return std::fs::remove_file(&self.folder).map_err(failed),
            Ok(_) => {}
        }
        if self.worker().is_some() {
            return Err(ServiceError::refused("commits are still being built here")
                .with_hint("`rbuild hook log -f` waits for that"));
        }
        std::fs::remove_dir_all(&self.folder).map_err(failed)
    }

    /// Takes one away: it is built, or not wanted any more.
    pub fn remove(&self, name: &OsStr) {
        let _ = std::fs::remove_file(self.waiting().join(name));
    }

    /// Tells whether nothing waits and nothing is being built.
    pub fn is_empty(&self) -> Result<bool, ServiceError> {
        Ok(self.names()?.is_empty())
    }

    /// Becomes the worker, or `None` where somebody else is.
    pub fn try_lock(&self) -> Result<Option<FileLock>, ServiceError> {
        let path = self.lock_path();
        FileLock::try_exclusive(&path).map_err(ServiceError::at("lock", &path))
    }

    /// Tells whether there is a worker, and who it is where that can be known.
    pub fn worker(&self) -> Option<Option<u32>> {
        let path = self.lock_path();
        if !path.exists() || matches!(FileLock::try_shared(&path), Ok(Some(_))) {
            return None;
        }
        Some(lock::holder(&path))
    }

    /// Keeps what came of a commit.
    pub fn keep_last(&self, last: &Last) {
        if let Ok(bytes) = serde_json::to_vec(last) {
            let _ = publish(&self.folder.join("last.new"), &self.last_path(), &bytes, false);
        }
    }

    /// Returns what came of the last commit that was built.
    pub fn last(&self) -> Option<Last> {
        let path = self.last_path();
        if !path.is_file() {
            return None;
        }
        serde_json::from_slice(&read_small(&path).ok()?).ok()
    }
}

/// Tells whether a file is a regular one of this user, that no other can have written.
fn is_own(found: &Metadata) -> bool {
    found.is_file() && found.uid() == geteuid().as_raw() && found.mode() & 0o022 == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Makes a repository with any bytes in its name.
    fn repository() -> (tempfile::TempDir, Queue) {
        let folder = tempfile::tempdir().unwrap();
        let common = folder.path().join(OsStr::from_bytes(b"a\xff b/.git"));
        std::fs::create_dir_all(&common).unwrap();
        (folder, Queue::of(&common))
    }

    fn order(short: &str, queue: &Queue) -> Order {
        Order {
            commit: "0".repeat(40),
            short: short.to_owned(),
            git_dir: queue.folder.parent().unwrap().into(),
            top: Path::new("/a").into(),
            context: Path::new(".").into(),
            file: None,
            name: "app".to_owned(),
            push: None,
            work_tree: false,
            latest_only: false,
            globals: Vec::new(),
        }
    }

    #[test]
    fn keeps_the_order_and_any_bytes() {
        let (_folder, queue) = repository();
        assert!(queue.is_empty().unwrap() && queue.last().is_none() && queue.worker().is_none());
        for (count, short) in ["c", "a", "b"].into_iter().enumerate() {
            assert_eq!(queue.add(&order(short, &queue)).unwrap(), count + 1);
        }
        std::fs::write(queue.waiting().join("00"), "rubbish").unwrap();
        std::fs::set_permissions(queue.waiting().join("00"), PermissionsExt::from_mode(0o600)).unwrap();
        // What is no file is no order, and nothing waits for it.
        std::fs::create_dir(queue.waiting().join("01")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            queue.waiting().join("02"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        let all = queue.orders().unwrap();
        assert_eq!(all.iter().map(|(_, order)| order.short.as_str()).collect::<String>(), "cab");
        assert_eq!(all[0].1, order("c", &queue));
        for (name, _) in &all {
            queue.remove(name);
        }
        assert!(queue.is_empty().unwrap(), "what cannot be read is gone too");
    }

    #[test]
    fn what_others_wrote_is_no_order() {
        let (folder, queue) = repository();
        queue.add(&order("mine", &queue)).unwrap();
        let (bytes, waiting) = (serde_json::to_vec(&order("other", &queue)).unwrap(), queue.waiting());
        let put = |name: &str, mode: u32, bytes: &[u8]| {
            std::fs::write(waiting.join(name), bytes).unwrap();
            std::fs::set_permissions(waiting.join(name), PermissionsExt::from_mode(mode)).unwrap();
        };
        put("0-for-all", 0o602, &bytes);
        put("0-of-group", 0o620, &bytes);
        let found = |queue: &Queue| -> Vec<String> {
            queue.orders().unwrap().into_iter().map(|(_, order)| order.short).collect()
        };
        assert_eq!(found(&queue), ["mine"]);
        // Of another repository.
        let elsewhere = Queue::of(folder.path());
        put("0-elsewhere", 0o600, &serde_json::to_vec(&order("elsewhere", &elsewhere)).unwrap());
        assert_eq!(found(&queue), ["mine"]);
        if geteuid().is_root() {
            put("0-of-user", 0o600, &bytes);
            std::os::unix::fs::chown(waiting.join("0-of-user"), Some(12345), None).unwrap();
            assert_eq!(found(&queue), ["mine"]);
            std::os::unix::fs::chown(&queue.folder, Some(12345), None).unwrap();
            let error = queue.add(&order("more", &queue)).unwrap_err().to_string();
            assert!(error.contains("belongs to somebody else"), "{error}");
        }
        // Nor does anything wait for them.
        queue.remove(&queue.names().unwrap()[0]);
        assert!(queue.is_empty().unwrap());
        assert!(waiting.join("0-for-all").exists());
    }

    #[test]
    fn what_came_with_the_repository_goes() {
        let (_folder, queue) = repository();
        queue.forget().unwrap();
        queue.add(&order("a", &queue)).unwrap();
        let lock = queue.try_lock().unwrap();
        assert!(queue.forget().is_err() && lock.is_some());
        drop(lock);
        queue.forget().unwrap();
        assert!(!queue.folder.exists());
        let target = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(target.path(), &queue.folder).unwrap();
        assert!(queue.add(&order("a", &queue)).unwrap_err().to_string().contains("somebody else"));
        queue.forget().unwrap();
        assert!(target.path().exists() && std::fs::symlink_metadata(&queue.folder).is_err());
    }

    #[test]
    fn one_works() {
        let (_folder, queue) = repository();
        queue.add(&order("a", &queue)).unwrap();
        let lock = queue.try_lock().unwrap();
        assert!(lock.is_some() && queue.try_lock().unwrap().is_none() && queue.worker().is_some());
        drop(lock);
        assert!(queue.worker().is_none());
    }
}
