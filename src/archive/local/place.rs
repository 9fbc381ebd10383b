//! Single files in the destination: what is in the way goes, and is never followed.
//!
//! The walk makes every file; threads fill regular ones, which is most of the work. Not here: the walk.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::LocalResult;
use crate::sys::copy::{clone_file, set_times, set_times_at};
use crate::sys::dir::{DirStack, remove_tree};
use crate::sys::root_dir::{fstat, open_no_follow, read_link_at, stat_at};
use crate::sys::xattr::{self, Target};
use crate::sys::{RootDir, Stat};

/// The most threads that copy.
const MOST_THREADS: usize = 4;
/// How many files may wait for one; each has two descriptors.
const WAITING: usize = 32;

/// A file of the source.
pub struct Entry<'a> {
    pub name: &'a OsStr,
    pub kind: FileType,
    /// Its directory, from the root.
    pub folder: &'a Path,
}

/// Makes files.
pub struct Place<'a> {
    root: &'a RootDir,
    latest: Option<i64>,
    /// The first name of each file with several, by device and inode.
    first_names: HashMap<(u64, u64), PathBuf>,
    pub done: LocalResult,
}

impl<'a> Place<'a> {
    pub fn new(root: &'a RootDir, latest: Option<i64>) -> Place<'a> {
        Place { root, latest, first_names: HashMap::new(), done: LocalResult::default() }
    }

    /// Opens the directory of this name, making it where there is none.
    pub fn enter(&mut self, dest: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
        let make = || rustix::fs::mkdirat(dest, name, Mode::RWXU);
        match make() {
            Ok(()) => {}
            Err(Errno::EXIST) if stat_at(dest, name)?.is_dir() => {}
            Err(Errno::EXIST) => {
                remove_tree(dest, name)?;
                make()?;
            }
            Err(e) => return Err(e.into()),
        }
        open_no_follow(dest, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    /// Gives the current directory its mode, attributes and time, once all is in it.
    pub fn directory(&mut self, source: &DirStack, dest: &DirStack, stat: &Stat) -> io::Result<()> {
        let (from, to) = (source.current(), dest.current());
        self.done.left_out_xattrs += xattr::copy_xattrs(Target::Fd(from), Target::Fd(to))?;
        rustix::fs::fchmod(to, Mode::from_raw_mode(stat.mode))?;
        let (seconds, nanos) = time_of(self.latest, stat);
        set_times(to, seconds, nanos)
    }

    /// Writes what is no directory.
    pub fn entry(
        &mut self,
        source: BorrowedFd<'_>,
        dest: BorrowedFd<'_>,
        entry: &Entry<'_>,
        files: &mut Queue,
    ) -> io::Result<()> {
        let name = entry.name;
        let stat = stat_at(source, name)?;
        // In a layer that is looked at alone: there is nothing beneath it to hide.
        if stat.is_whiteout() || stat.kind == FileType::Socket {
            return Ok(());
        }
        if stat.kind != entry.kind {
            return Err(io::Error::other("the file changed while it was read"));
        }
        if stat.nlink > 1 && self.link(dest, entry, &stat)? {
            self.done.files += 1;
            return Ok(());
        }
        if stat.kind == FileType::RegularFile {
            let from = open_no_follow(source, name, OFlags::RDONLY, Mode::empty())?;
            if !fstat(&from)?.is_file() {
                return Err(io::Error::other("the file changed while it was read"));
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let to = make(dest, name, || open_no_follow(dest, name, flags, Mode::RUSR | Mode::WUSR))?;
            files.send(File { from, to, stat, path: entry.folder.join(name) })?;
            self.done.files += 1;
            return Ok(());
        }
        if stat.kind == FileType::Symlink {
            let text = read_link_at(source, name)?;
            make(dest, name, || Ok(rustix::fs::symlinkat(text.as_os_str(), dest, name)?))?;
        } else {
            let mode = Mode::RUSR | Mode::WUSR;
            match make(dest, name, || Ok(rustix::fs::mknodat(dest, name, stat.kind, mode, stat.rdev)?)) {
                Ok(()) => {}
                // No user namespace may make devices.
                Err(e) if stat.kind != FileType::Fifo && e.kind() == io::ErrorKind::PermissionDenied => {
                    self.done.left_out_devices += 1;
                    return Ok(());
                }
                Err(e) => return Err(e),
            }
            let mode = Mode::from_raw_mode(stat.mode);
            rustix::fs::chmodat(dest, name, mode, rustix::fs::AtFlags::empty())?;
        }
        let copied = xattr::copy_xattrs(Target::Name(source, name), Target::Name(dest, name))?;
        self.done.left_out_xattrs += copied;
        self.done.files += 1;
        let (seconds, nanos) = time_of(self.latest, &stat);
        set_times_at(dest, name, seconds, nanos)
    }

    /// Makes a further name of a file that was written already; false where it is the first, or must be copied.
    fn link(&mut self, dest: BorrowedFd<'_>, entry: &Entry<'_>, stat: &Stat) -> io::Result<bool> {
        let key = (stat.dev, stat.ino);
        let Some(first) = self.first_names.get(&key) else {
            self.first_names.insert(key, entry.folder.join(entry.name));
            return Ok(false);
        };
        let made = make(dest, entry.name, || {
            let (folder, name) = self.root.parent_and_name(first)?;
            let flags = rustix::fs::AtFlags::empty();
            Ok(rustix::fs::linkat(folder, name, dest, entry.name, flags)?)
        });
        match made {
            Ok(()) => Ok(true),
            // A path too long to say, the file's last possible name, or a place without hard links.
            Err(e)
                if matches!(
                    e.raw_os_error().map(Errno::from_raw_os_error),
                    Some(Errno::NAMETOOLONG | Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP)
                ) =>
            {
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }
}

/// Makes something of a name; what has the name goes.
fn make<T>(dest: BorrowedFd<'_>, name: &OsStr, make: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match make() {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        other => return other,
    }
    remove_tree(dest, name)?;
    make()
}

fn time_of(latest: Option<i64>, stat: &Stat) -> (i64, u32) {
    match latest {
        Some(latest) if stat.mtime_seconds >= latest => (latest, 0),
        _ => (stat.mtime_seconds, stat.mtime_nanos),
    }
}

/// A regular file to be filled.
struct File {
    from: OwnedFd,
    to: OwnedFd,
    stat: Stat,
    /// From the root, for messages.
    path: PathBuf,
}

/// Takes the files that are to be filled; the threads end when it is dropped.
pub struct Queue(SyncSender<File>);

impl Queue {
    fn send(&self, file: File) -> io::Result<()> {
        self.0.send(file).map_err(|_| io::Error::other("the threads that copy have ended"))
    }
}

/// What the threads that fill files share.
pub struct Copies {
    latest: Option<i64>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    done: Copied,
    failed: Option<(PathBuf, io::Error)>,
}

/// What was copied.
#[derive(Debug, Clone, Copy, Default)]
pub struct Copied {
    pub bytes: u64,
    pub left_out_xattrs: u64,
}

impl Copies {
    pub fn new(latest: Option<i64>) -> Copies {
        Copies { latest, state: Arc::default() }
    }

    /// Starts the threads; they end before the scope does, once the queue is gone.
    pub fn start<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) -> Queue {
        let (send, receive) = sync_channel(WAITING);
        let receive = Arc::new(Mutex::new(receive));
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        for _ in 0..threads {
            let receive = receive.clone();
            scope.spawn(move || self.work(&receive));
        }
        Queue(send)
    }

    /// Tells whether a file could not be filled.
    pub fn have_failed(&self) -> bool {
        locked(&self.state).failed.is_some()
    }

    /// Returns what was done, or the file that could not be filled, and why.
    pub fn finish(&self) -> Result<Copied, (PathBuf, io::Error)> {
        let mut state = locked(&self.state);
        match state.failed.take() {
            Some(failed) => Err(failed),
            None => Ok(state.done),
        }
    }

    fn work(&self, queue: &Mutex<Receiver<File>>) {
        loop {
            let file = locked(queue).recv();
            let Ok(file) = file else { return };
            if self.have_failed() {
                // The queue is emptied, so that the walk is not left waiting.
                continue;
            }
            match fill(&file, self.latest) {
                Ok(copied) => {
                    let mut state = locked(&self.state);
                    state.done.bytes += copied.bytes;
                    state.done.left_out_xattrs += copied.left_out_xattrs;
                }
                Err(error) => {
                    locked(&self.state).failed.get_or_insert((file.path, error));
                }
            }
        }
    }
}

fn fill(file: &File, latest: Option<i64>) -> io::Result<Copied> {
    let bytes = if file.stat.size > 0 { clone_file(&file.from, &file.to)? } else { 0 };
    let left_out_xattrs = xattr::copy_xattrs(Target::Fd(file.from.as_fd()), Target::Fd(file.to.as_fd()))?;
    // After the bytes, which clear set-user-ID.
    rustix::fs::fchmod(&file.to, Mode::from_raw_mode(mode_of(&file.stat, &fstat(&file.to)?)))?;
    let (seconds, nanos) = time_of(latest, &file.stat);
    set_times(&file.to, seconds, nanos)?;
    Ok(Copied { bytes, left_out_xattrs })
}

/// Returns the mode for a copy with an owner of its own: what ran as another runs as nobody special, as
/// chown(2) has it.
fn mode_of(from: &Stat, to: &Stat) -> u32 {
    let user = if from.uid == to.uid { 0 } else { Mode::SUID.as_raw_mode() };
    let group = if from.gid == to.gid { 0 } else { Mode::SGID.as_raw_mode() };
    from.mode & !(user | group)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
