//! Digests a layer while it is being written: reads each thing as soon as it is there.
//!
//! Who writes the layer announces what is finished, in the order of the layer (`walk`); a second
//! thread opens it, and what is on the disk then goes to the same sinks as in `digest_layer`.
//! Of a directory only the time is taken from the announcement, or all of its metadata where it
//! gets them at the end; of a large file also, so that its bytes can be read while they are written.
//!
//! Nothing depends on this. Where anything does not fit (another order, a file announced twice, a
//! directory that became something else, an entry that was never announced, any error) there is no
//! result, and the layer is read through as any other.

mod progress;
mod reader;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use rustix::fs::FileType;

use crate::image::FileDigest;
use crate::sys::{OverlayXattrs, RootDir};

use super::{LayerDigests, Times};

use progress::Progress;
pub use progress::Writing;

/// An announcement is passed on with so many others, or when so many bytes wait to be read.
const BATCH: usize = 64;
const BATCH_BYTES: u64 = 256 << 10;
/// How many such may wait: what was written last is still in the processor's cache.
const WAITING: usize = 8;

/// Its buffers are not on the stack.
const STACK: usize = 512 << 10;

/// What something will be once the layer is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Becomes {
    /// In seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
    /// The rest, where it is not what the disk says now.
    pub rest: Option<Metadata>,
}

/// What a file or directory has besides its content and its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What is announced of anything but directories.
#[derive(Debug, Clone, Copy)]
pub struct Announced {
    pub kind: FileType,
    /// Whether it may get further names.
    pub several: bool,
    /// In bytes; of what is complete only to know how much there is to read.
    pub size: u64,
    /// Of a regular file's bytes, where that is known. It is believed.
    pub digest: Option<FileDigest>,
}

/// Announces what is written to the thread that reads it.
///
/// Dropped without [`Follower::finish`] it stops that thread.
#[derive(Debug)]
pub struct Follower {
    /// `None` once anything did not fit.
    queue: Option<SyncSender<Batch>>,
    batch: Batch,
    /// The directory of the last announcement.
    at: Vec<u8>,
    thread: Option<JoinHandle<Option<LayerDigests>>>,
}

/// Announcements, and the names in them one after the other.
#[derive(Debug, Default)]
struct Batch {
    items: Vec<Item>,
    names: Vec<u8>,
    bytes: u64,
}

#[derive(Debug)]
enum Item {
    /// A directory in the current one, and now the current one.
    Enter {
        name: usize,
        becomes: Becomes,
    },
    Leave,
    /// All else, complete; `several`: it may get further names.
    File {
        name: usize,
        kind: FileType,
        several: bool,
        digest: Option<FileDigest>,
    },
    /// A file that is being written.
    Large {
        name: usize,
        size: u64,
        digest: Option<FileDigest>,
        becomes: Becomes,
        progress: Progress,
    },
    /// There is no more.
    End,
}

impl Follower {
    /// Starts following a new layer, in which nothing is yet.
    pub fn start(upper: &RootDir, xattrs: OverlayXattrs, times: Times) -> io::Result<Follower> {
        let upper = upper.try_clone()?;
        let (queue, batches) = sync_channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("follow".to_owned())
            .stack_size(STACK)
            .spawn(move || reader::read(&upper, xattrs, times, &batches))?;
        Ok(Follower { queue: Some(queue), batch: Batch::default(), at: Vec::new(), thread: Some(thread) })
    }

    /// Announces a directory that was made; what is in it follows.
    pub fn directory(&mut self, parent: &Path, name: &OsStr, becomes: Becomes) {
        if !self.go_to(parent) {
            return;
        }
        if !self.at.is_empty() {
            self.at.push(b'/');
        }
        self.at.extend_from_slice(name.as_bytes());
        let name = self.batch.name(name);
        self.add(Item::Enter { name, becomes }, 0);
    }

    /// Announces anything else that was made and will not change any more.
    pub fn file(&mut self, parent: &Path, name: &OsStr, file: Announced) {
        if self.go_to(parent) {
            let name = self.batch.name(name);
            let Announced { kind, several, size, digest } = file;
            self.add(Item::File { name, kind, several, digest }, size);
        }
    }

    /// Announces a file of which nothing but its name is there yet, with what it becomes.
    pub fn large(
        &mut self,
        parent: &Path,
        name: &OsStr,
        file: Announced,
        becomes: Becomes,
    ) -> Option<Writing> {
        if !self.go_to(parent) {
            return None;
        }
        let progress = Progress::default();
        let name = self.batch.name(name);
        let Announced { size, digest, .. } = file;
        self.add(Item::Large { name, size, digest, becomes, progress: progress.clone() }, size);
        Some(progress.write())
    }

    /// Stops following: something happens that cannot be followed.
    pub fn give_up(&mut self) {
        self.queue = None;
    }

    /// Ends it, once the layer is complete, and returns its digests, if it could be followed.
    pub fn finish(mut self) -> Option<LayerDigests> {
        if self.go_to(Path::new("")) {
            self.add(Item::End, BATCH_BYTES);
        }
        self.queue = None;
        let result = self.thread.take()?.join();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Leaves directories until `directory` is the current one; false where it never was.
    fn go_to(&mut self, directory: &Path) -> bool {
        let wanted = directory.as_os_str().as_bytes();
        while self.queue.is_some() && self.at != wanted {
            let inside = wanted.is_empty() || wanted.len() < self.at.len() && self.at[wanted.len()] == b'/';
            if self.at.is_empty() || wanted.starts_with(&self.at) && !inside {
                // It is deeper than what was announced.
                self.give_up();
                break;
            }
            let up = self.at.iter().rposition(|&b| b == b'/').unwrap_or(0);
            self.at.truncate(up);
            self.add(Item::Leave, 0);
        }
        self.queue.is_some()
    }

    fn add(&mut self, item: Item, bytes: u64) {
        // Who waits for bytes that are being written must hear of them first.
        let at_once = matches!(item, Item::Large { .. });
        self.batch.items.push(item);
        self.batch.bytes = self.batch.bytes.saturating_add(bytes);
        if self.batch.items.len() < BATCH && self.batch.bytes < BATCH_BYTES && !at_once {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        if self.queue.as_ref().is_some_and(|queue| queue.send(batch).is_err()) {
            // It found something that does not fit.
            self.queue = None;
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // Nobody wants its result.
            let _ = thread.join();
        }
    }
}

impl Batch {
    /// Adds a name and returns its length.
    fn name(&mut self, name: &OsStr) -> usize {
        self.names.extend_from_slice(name.as_bytes());
        name.len()
    }
}

#[cfg(test)]
mod tests;
