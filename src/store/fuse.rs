//! fuse-overlayfs at work: one process that shows the layers of one root.
//!
//! The mount is made here and attached nowhere; the program gets the open `/dev/fuse` to serve
//! (libfuse's mount point `/dev/fd/N`). So nothing is ever mounted on the host, and when the last user of
//! the mount is gone, in whatever way, the kernel tells the program, which ends. Not here: the form in
//! which it leaves the upper directory (`layer::from_fuse_overlayfs`).

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::sys::snapshotter::new_fuse_mount;
use crate::sys::spawn;

/// The number under which the program finds the device.
const DEVICE: i32 = 9;
/// How long it may take to write back what is in memory once nobody uses the mount.
const PATIENCE: Duration = Duration::from_secs(120);

/// The program that serves a mount.
#[derive(Debug)]
pub(super) struct Served {
    child: Child,
}

impl Served {
    /// Starts it on layers (topmost first); also returns the mount.
    pub fn start(
        program: &Path,
        lowers: &[PathBuf],
        upper: &Path,
        work: &Path,
    ) -> io::Result<(Served, OwnedFd)> {
        let (device, mount) = new_fuse_mount()?;
        // It is no filesystem of the kernel's, which takes 4096 bytes of options; arguments may be long.
        let mut options = OsString::from("lowerdir=");
        for (index, lower) in lowers.iter().enumerate() {
            if index > 0 {
                options.push(":");
            }
            options.push(escaped(lower));
        }
        options.push(",upperdir=");
        options.push(escaped(upper));
        options.push(",workdir=");
        options.push(escaped(work));
        let mut command = Command::new(program);
        command.arg("-f").arg("-o").arg(options).arg(format!("/dev/fd/{DEVICE}"));
        command.env_clear().current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        spawn::inherit(&mut command, vec![(device, DEVICE)]);
        // A terminal's signals are for rbuild.
        command.process_group(0);
        let mut child = command.spawn()?;
        // Its own copy of the device keeps the mount alive no longer.
        drop(command);
        // The first call waits for its first answer: either it serves, or it has ended.
        let stat = rustix::fs::statat(&mount, "", rustix::fs::AtFlags::EMPTY_PATH).and_then(|_| {
            rustix::fs::openat(&mount, ".", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())
        });
        match stat {
            Ok(_) => Ok((Served { child }, mount)),
            Err(errno) => {
                drop(mount);
                let _ = child.kill();
                let said = last_words(&mut child);
                let _ = child.wait();
                Err(io::Error::other(format!("fuse-overlayfs does not serve ({errno}): {said}")))
            }
        }
    }

    /// Tells what it ended of, where it ended before its mount did.
    pub fn failure(&mut self) -> Option<String> {
        // One that ends well was told that nobody uses its mount any more: the step is over.
        let status = self.child.try_wait().ok()?.filter(|status| !status.success())?;
        Some(format!("fuse-overlayfs ended: {status}: {}", last_words(&mut self.child)))
    }

    /// Waits until it has written everything and ended, which it does once the mount is gone.
    pub fn finish(mut self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    let said = last_words(&mut self.child);
                    return Err(io::Error::other(format!("fuse-overlayfs ended: {status}: {said}")));
                }
                None if Instant::now() > deadline => {
                    return Err(io::Error::other("fuse-overlayfs does not end"));
                }
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the last line that an ended program wrote as an error.
fn last_words(child: &mut Child) -> String {
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(16 * 1024).read_to_end(&mut said);
    }
    let said = String::from_utf8_lossy(&said);
    said.lines().next_back().unwrap_or_default().to_owned()
}

/// Writes a path such that the options' `,` and the list's `:` in it are ordinary characters.
fn escaped(path: &Path) -> OsString {
    let mut bytes = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        if matches!(byte, b'\\' | b':' | b',') {
            bytes.push(b'\\');
        }
        bytes.push(byte);
    }
    OsString::from_vec(bytes)
}
