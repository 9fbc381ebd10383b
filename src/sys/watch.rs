//! Waiting for changes in a directory: inotify(7).
//!
//! Not here: what changed. Who waits looks again at what he wants to know.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

/// Changes in a directory: files that are written, made, renamed and removed. That one is opened, locked or closed
/// is none: who is woken may do that to look.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Watch {
    /// Begins to watch: nothing that changes from now on is missed.
    ///
    /// Errors: the directory is missing; the user has as many watches as the kernel allows
    /// (`fs.inotify.max_user_instances`).
    pub fn of(directory: &Path) -> io::Result<Watch> {
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let changes = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF;
        inotify::add_watch(&watch, directory, changes | WatchFlags::ONLYDIR)?;
        Ok(Watch(watch))
    }

    /// Waits until something changed since the last call, a descriptor can be read (or its other end is gone),
    /// or the time is up; tells whether one of the first two was it.
    pub fn wait(&self, also: Option<BorrowedFd<'_>>, limit: Option<Duration>) -> io::Result<bool> {
        let ready = poll([Some(self.0.as_fd()), also], limit)?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.0, &mut buffer);
        loop {
            match events.next() {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(ready),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Waits as `Watch::wait` does, of the descriptor and the time alone: for those who have no watch.
pub fn wait_for(also: Option<BorrowedFd<'_>>, limit: Duration) -> io::Result<bool> {
    poll([None, also], Some(limit))
}

fn poll(fds: [Option<BorrowedFd<'_>>; 2], limit: Option<Duration>) -> io::Result<bool> {
    let mut fds: Vec<PollFd<'_>> =
        fds.iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    match rustix::event::poll(&mut fds, limit.as_ref()) {
        Ok(count) => Ok(count > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn changes_end_the_wait() {
        let directory = tempfile::tempdir().unwrap();
        let watch = Watch::of(directory.path()).unwrap();
        let none = Some(Duration::ZERO);
        assert!(!watch.wait(None, none).unwrap());
        let path = directory.path().join("a");
        for (what, change) in [
            ("made", &(|| fs::write(&path, "x").unwrap()) as &dyn Fn()),
            ("renamed", &|| fs::rename(&path, directory.path().join("b")).unwrap()),
            ("removed", &|| fs::remove_file(directory.path().join("b")).unwrap()),
        ] {
            change();
            assert!(watch.wait(None, None).unwrap(), "{what}");
            assert!(!watch.wait(None, none).unwrap(), "{what}");
        }
        assert!(Watch::of(&path).is_err());
        fs::write(&path, "x").unwrap();
        assert!(watch.wait(None, none).unwrap());
        drop(fs::File::options().write(true).create(true).truncate(false).open(&path).unwrap());
        fs::read(&path).unwrap();
        assert!(!watch.wait(None, none).unwrap(), "looked at");
    }

    #[test]
    fn the_end_of_somebody_ends_the_wait() {
        let directory = tempfile::tempdir().unwrap();
        let watch = Watch::of(directory.path()).unwrap();
        let (mine, other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(!watch.wait(Some(mine.as_fd()), Some(Duration::ZERO)).unwrap());
        assert!(!wait_for(Some(mine.as_fd()), Duration::ZERO).unwrap());
        drop(other);
        assert!(watch.wait(Some(mine.as_fd()), None).unwrap());
        assert!(wait_for(Some(mine.as_fd()), Duration::MAX).unwrap());
        assert!(!wait_for(None, Duration::from_millis(1)).unwrap());
    }
}
