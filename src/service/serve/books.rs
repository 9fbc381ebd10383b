//! What is known of all builds, on disk: a folder for each, with its record, its log and two files of what was
//! built. One process at a time has it.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::record::{Build, State};
use crate::service::ServiceError;
use crate::sys::atomic::{create_new, publish};
use crate::sys::lock::FileLock;
use crate::sys::read::read_small;

/// The folder of a server.
#[derive(Debug)]
pub struct Books {
    folder: PathBuf,
    _lock: FileLock,
}

impl Books {
    /// Opens the folder, which nobody else has; reads all builds. Those that were under way wait again.
    pub fn open(folder: &Path) -> Result<(Books, BTreeMap<u64, Build>), ServiceError> {
        let builds = folder.join("builds");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&builds)
            .map_err(ServiceError::at("make", &builds))?;
        let lock = folder.join("lock");
        let lock = FileLock::try_exclusive(&lock).map_err(ServiceError::at("lock", &lock))?;
        let lock = lock.ok_or_else(|| {
            let what = format!("another `rbuild serve` works in `{}`", folder.display());
            ServiceError::refused(what).with_hint("give each its own folder: `data` in the configuration")
        })?;
        let books = Books { folder: folder.to_owned(), _lock: lock };
        let mut all = BTreeMap::new();
        for entry in std::fs::read_dir(&builds).map_err(ServiceError::at("read", &builds))? {
            let name = entry.map_err(ServiceError::at("read", &builds))?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse::<u64>().ok()) else { continue };
            // One that cannot be read was cut short before anything was done for it.
            let Some(mut build) = books.read(id) else { continue };
            if !build.state.is_over() {
                if let Some(process) = build.process.take() {
                    // It outlived the server, and would build beside the one that starts now.
                    process.end();
                }
                build.state = State::Pending;
                build.started = None;
                build.pushed.clear();
                books.write(&build)?;
            }
            all.insert(id, build);
        }
        Ok((books, all))
    }

    /// Returns the folder of everything.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns a file of a build.
    pub fn file(&self, id: u64, name: &str) -> PathBuf {
        self.folder.join("builds").join(id.to_string()).join(name)
    }

    fn read(&self, id: u64) -> Option<Build> {
        let build: Build = serde_json::from_slice(&read_small(&self.file(id, "record")).ok()?).ok()?;
        (build.id == id).then_some(build)
    }

    /// Writes a build's record; it is on the disk then.
    pub fn write(&self, build: &Build) -> Result<(), ServiceError> {
        let path = self.file(build.id, "record");
        let write = || {
            DirBuilder::new().recursive(true).mode(0o700).create(path.parent().unwrap_or(&self.folder))?;
            let bytes = serde_json::to_vec(build).map_err(io::Error::other)?;
            publish(&self.file(build.id, "record.new"), &path, &bytes, true)
        };
        // What a killed server left.
        let _ = std::fs::remove_file(self.file(build.id, "record.new"));
        write().map_err(ServiceError::at("write", &path))
    }

    /// Makes a build's log, an empty one.
    pub fn log(&self, id: u64) -> io::Result<File> {
        let path = self.file(id, "log");
        let _ = std::fs::remove_file(&path);
        create_new(&path)
    }

    /// Forgets a build.
    pub fn remove(&self, id: u64) {
        // Its record first: without one it is nothing.
        let _ = std::fs::remove_file(self.file(id, "record"));
        let _ = std::fs::remove_dir_all(self.folder.join("builds").join(id.to_string()));
    }
}
