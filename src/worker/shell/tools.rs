//! What a shell gets beside the step's own files: the commands `retry` and `abort`, and a busybox.
//!
//! A directory of the store's, mounted read-only at [`PLACE`], with the programs at the end of PATH. The
//! commands say a word into a pipe with a name, which a read-only mount does not keep them from. Whatever
//! runs in the step may say it, too: a word is all that it can say.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::busybox::Busybox;
use crate::store::{Store, StoreError, TempDir};
use crate::sys::RootDir;
use crate::worker::error::WorkerError;

/// Where it is mounted.
pub(super) const PLACE: &str = "/.rbuild";
/// What comes at the end of PATH.
pub(super) const BIN: &str = "/.rbuild/bin";

/// The most bytes of what is said that are kept; a word and its line end take six.
const MAX_SAID: usize = 256;

/// What a command of the shell asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    Retry,
    Abort,
}

/// The directory; removed when dropped.
pub(super) struct Tools {
    directory: Option<PathBuf>,
    /// The reading end.
    pipe: Option<File>,
    said: Vec<u8>,
    _temporary: Option<TempDir>,
}

impl Tools {
    /// Makes the directory; none where nothing is asked for. `commands`: what runs `retry` and `abort`.
    pub(super) fn make(
        store: &Store,
        commands: Option<&str>,
        busybox: Option<&Busybox>,
    ) -> Result<Tools, WorkerError> {
        if commands.is_none() && busybox.is_none() {
            return Ok(Tools { directory: None, pipe: None, said: Vec::new(), _temporary: None });
        }
        let temporary = store.temp_dir().map_err(|error: StoreError| WorkerError::Store(error))?;
        let directory = temporary.path().join("tools");
        let failed =
            |source| WorkerError::Io { what: "cannot make the commands of the shell".to_owned(), source };
        let pipe = fill(&directory, commands, busybox).map_err(failed)?;
        Ok(Tools { directory: Some(directory), pipe, said: Vec::new(), _temporary: Some(temporary) })
    }

    /// Returns what is to be mounted at [`PLACE`].
    pub(super) fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// Listens to the copy that lies in a root instead: in a chroot nothing is mounted.
    pub(super) fn listen_in(&mut self, root: &Path) -> Result<(), WorkerError> {
        if self.pipe.is_some() {
            let what = || "cannot hear the commands of the shell".to_owned();
            self.pipe = Some(copied_pipe(root).map_err(|source| WorkerError::Io { what: what(), source })?);
        }
        Ok(())
    }

    /// Returns the first word that was said since this was asked last; does not wait.
    pub(super) fn word(&mut self) -> Option<Word> {
        let mut buffer = [0; MAX_SAID];
        if let Ok(count) = self.pipe.as_mut()?.read(&mut buffer) {
            self.said.extend_from_slice(&buffer[..count]);
        }
        let end = self.said.iter().position(|byte| *byte == b'\n');
        let Some(end) = end else {
            if self.said.len() >= MAX_SAID {
                self.said.clear();
            }
            return None;
        };
        let line: Vec<u8> = self.said.drain(..=end).collect();
        match line.trim_ascii_end() {
            b"retry" => Some(Word::Retry),
            b"abort" => Some(Word::Abort),
            _ => None,
        }
    }
}

fn fill(directory: &Path, commands: Option<&str>, busybox: Option<&Busybox>) -> io::Result<Option<File>> {
    let bin = directory.join("bin");
    let open = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode));
    for path in [directory, &bin] {
        std::fs::create_dir(path)?;
        // Whatever the umask is: the step's user may be anybody.
        open(path, 0o755)?;
    }
    if let Some(busybox) = busybox {
        let own = bin.join("busybox");
        std::fs::copy(&busybox.path, &own)?;
        open(&own, 0o755)?;
        for name in busybox.commands.iter().filter(|name| !matches!(name.as_str(), "retry" | "abort")) {
            symlink("busybox", bin.join(name))?;
        }
    }
    let Some(interpreter) = commands else { return Ok(None) };
    for (word, what) in [("retry", "run the step again from its start"), ("abort", "end the build")] {
        let path = bin.join(word);
        // The second pipe is never written to: the shell is ended while this waits.
        let text = format!(
            "#!{interpreter}\n# rbuild: {what}\necho {word} > {PLACE}/say\nread never < {PLACE}/end\n"
        );
        std::fs::write(&path, text)?;
        open(&path, 0o755)?;
    }
    for (name, mode) in [("say", 0o622), ("end", 0o644)] {
        let path = directory.join(name);
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        open(&path, mode)?;
    }
    // With a writer of its own it never ends: fifo(7).
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(directory.join("say")).map(Some)
}

/// Opens the pipe of the copy in a root, where whoever has the shell may have put anything by now.
fn copied_pipe(root: &Path) -> io::Result<File> {
    let path = Path::new(PLACE).join("say");
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let pipe = RootDir::open(root)?.open_at(&path, flags, Mode::empty())?;
    match FileType::from_raw_mode(rustix::fs::fstat(&pipe)?.st_mode) {
        FileType::Fifo => Ok(pipe.into()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no pipe")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;

    use super::*;
    use crate::store::testing;

    #[test]
    fn words_are_heard_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let store = testing::open(place.path());
        let mut tools = Tools::make(&store, Some("/bin/sh"), None).unwrap();
        let directory = tools.directory().unwrap().to_owned();
        let mut pipe = OpenOptions::new().write(true).open(directory.join("say")).unwrap();
        assert_eq!(tools.word(), None);
        pipe.write_all(b"ret").unwrap();
        assert_eq!(tools.word(), None);
        pipe.write_all(b"ry\nother\nabort\n").unwrap();
        let words: Vec<Option<Word>> = (0..4).map(|_| tools.word()).collect();
        assert_eq!(words, [Some(Word::Retry), None, Some(Word::Abort), None]);
        for _ in 0..20 {
            pipe.write_all(&[b'x'; MAX_SAID]).unwrap();
            tools.word();
        }
        assert!(tools.said.len() <= 2 * MAX_SAID);
        drop(tools);
        assert!(!directory.exists());
    }

    #[test]
    fn the_programs_can_be_run_by_anybody() {
        let place = tempfile::tempdir().unwrap();
        let store = testing::open(place.path());
        let tools = Tools::make(&store, None, Busybox::find().as_ref()).unwrap();
        let bin = tools.directory().unwrap().join("bin");
        let said = Command::new(bin.join("echo")).arg("hello").output().unwrap();
        assert_eq!(said.stdout, b"hello\n");
        assert!(!bin.join("retry").exists());
        assert!(Tools::make(&store, None, None).unwrap().directory().is_none());
    }
}
