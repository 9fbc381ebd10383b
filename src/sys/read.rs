//! Small files, read whole with as few system calls as can be.
//!
//! The standard library asks for the size first and then reads until nothing comes: five calls where
//! three do. Not here: files that others write to meanwhile, and those of any size.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The size in bytes up to which a file takes one read; larger ones are read to the end all the same.
const AT_ONCE: usize = 8 * 1024;

/// Reads a regular file.
pub fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    read_opened(&mut File::open(path)?)
}

/// Reads an open regular file from where it stands.
///
/// A read that gives less than was asked for has met the end of a regular file: read(2).
pub fn read_opened(file: &mut File) -> io::Result<Vec<u8>> {
    let mut buffer = [0; AT_ONCE];
    let length = loop {
        match file.read(&mut buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    let mut bytes = buffer[..length].to_vec();
    if length == AT_ONCE {
        file.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_any_size_are_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for size in [0, 1, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 5 * AT_ONCE] {
            let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            std::fs::write(&path, &bytes).unwrap();
            assert!(read_small(&path).unwrap() == bytes, "{size}");
        }
        assert_eq!(read_small(&directory.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(read_small(directory.path()).is_err());
    }
}
