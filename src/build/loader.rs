//! A program that takes an image archive on its standard input: `docker load`, `podman load`.
//!
//! It is started before the build, and waits, since an ordinary user's build goes on in a user
//! namespace, and such a program must not: it would take itself for root's. Not here: which program
//! there is (`cli`).

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The most of its words that are kept.
const MOST_SAID: u64 = 64 * 1024;

/// A program that waits for an archive; dropped without one, it ends without having begun.
#[derive(Debug)]
pub struct Loader {
    /// As people know it: `docker`, `podman`.
    pub name: String,
    child: Child,
}

/// Why a program did not take an archive.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("`{name} load` failed{}", colon(.said))]
    Failed { name: String, said: String },
    #[error("`{name} load` cannot be waited for")]
    Wait { name: String, source: io::Error },
}

fn colon(said: &str) -> String {
    match said.trim() {
        "" => String::new(),
        said => format!(": {said}"),
    }
}

impl Loader {
    /// Starts a shell that becomes the program once there is something to load.
    pub fn start(name: &str, program: &Path) -> io::Result<Loader> {
        // read(1) of POSIX takes no byte behind the line: the archive is left to the program.
        let script = OsStr::new("read -r go && exec \"$0\" load");
        let child = Command::new("/bin/sh")
            .arg("-c")
            .arg(script)
            .arg(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Loader { name: name.to_owned(), child })
    }

    /// Has the program load what `write` writes; returns what it says.
    pub fn load<E: From<LoadError>>(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<String, E> {
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        let name = self.name.clone();
        let (written, said, failed) = std::thread::scope(|scope| {
            // Both are read while it is written to, or it would wait for a full pipe.
            let said = scope.spawn(move || stdout.map(read_all).unwrap_or_default());
            let failed = scope.spawn(move || stderr.map(read_all).unwrap_or_default());
            let written = match self.child.stdin.take() {
                None => Ok(()),
                Some(mut stdin) => match stdin.write_all(b"go\n") {
                    Ok(()) => write(&mut stdin),
                    // It has ended: what it says will tell why.
                    Err(_) => Ok(()),
                },
            };
            (written, said.join().unwrap_or_default(), failed.join().unwrap_or_default())
        });
        let status = self.child.wait().map_err(|source| LoadError::Wait { name: name.clone(), source })?;
        if !status.success() {
            let said = if failed.trim().is_empty() { said } else { failed };
            return Err(LoadError::Failed { name, said }.into());
        }
        written?;
        Ok(said)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // The end of its input ends it, whether it has begun or not.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Reads to the end, and keeps the start.
fn read_all(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = from.by_ref().take(MOST_SAID).read_to_end(&mut bytes);
    let _ = io::copy(&mut from, &mut io::sink());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn program(directory: &Path, text: &str) -> std::path::PathBuf {
        let path = directory.join("a program");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    fn load(text: &str, bytes: &[u8]) -> Result<String, String> {
        let directory = tempfile::tempdir().unwrap();
        let mut loader = Loader::start("docker", &program(directory.path(), text)).unwrap();
        let done = loader.load(|out| match out.write_all(bytes) {
            // As an archive that is not wanted any more.
            Err(source) => Err(LoadError::Wait { name: "write".to_owned(), source }),
            Ok(()) => Ok(()),
        });
        done.map_err(|error| error.to_string())
    }

    #[test]
    fn the_program_gets_every_byte_and_its_words_come_back() {
        let large = vec![b'x'; 300_000];
        assert_eq!(load("echo \"$1\"; wc -c", &large).unwrap().trim(), "load\n300000");
        assert_eq!(load("cat", b"go\ngo\n").unwrap(), "go\ngo\n");
        let said = load("echo it is full >&2; exit 3", &large).unwrap_err();
        assert_eq!(said, "`docker load` failed: it is full");
        assert!(load("cat >/dev/null; echo on stdout; exit 1", b"x").unwrap_err().ends_with(": on stdout"));
    }

    #[test]
    fn a_program_without_an_archive_never_begins() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("began");
        let path = program(directory.path(), &format!("touch '{}'", mark.display()));
        drop(Loader::start("docker", &path).unwrap());
        assert!(!mark.exists());
    }
}
