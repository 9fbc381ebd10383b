//! The logs of builds: all that a build said, nothing clipped.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::sys::atomic;

use super::error::failed;
use super::{Store, StoreError};

/// Writes the log of one build.
#[derive(Debug)]
pub struct BuildLog {
    id: String,
    path: PathBuf,
    file: File,
}

impl BuildLog {
    /// Returns the build's id: 12 hex digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns where the log is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Write for BuildLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Store {
    /// Starts the log of a build.
    pub fn build_log(&self) -> Result<BuildLog, StoreError> {
        self.hold()?;
        loop {
            let bits = atomic::random_bits().map_err(failed("use", &self.paths.builds))?;
            let id = format!("{:012x}", bits & 0xffff_ffff_ffff);
            let directory = self.paths.builds.join(&id);
            match rustix::fs::mkdir(&directory, rustix::fs::Mode::RWXU) {
                Ok(()) => {}
                Err(rustix::io::Errno::EXIST) => continue,
                Err(errno) => return Err(failed("make", &directory)(errno.into())),
            }
            let path = directory.join("log");
            let file = atomic::create_new(&path).map_err(failed("write", &path))?;
            return Ok(BuildLog { id, path, file });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn every_build_has_a_log_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let (mut one, two) = (store.build_log().unwrap(), store.build_log().unwrap());
        assert_ne!(one.id(), two.id());
        one.write_all(b"Step 1/1\n").unwrap();
        assert_eq!(std::fs::read(one.path()).unwrap(), b"Step 1/1\n");
    }
}
