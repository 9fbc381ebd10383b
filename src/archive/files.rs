//! Where the files of an archive of images are: a directory, or a tar (`tar_files`).
//!
//! Nothing leads out: names are cleaned and refused where they climb, and a directory is read through
//! itself as the root. Not here: what the files mean (`layout`, `docker`).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};

use crate::sys::RootDir;

use super::ArchiveError;

/// One file, open from its start.
pub(super) struct Opened<'a> {
    pub reader: Box<dyn Read + Send + 'a>,
    /// In bytes.
    pub size: u64,
}

/// A set of named files that can be opened by several threads.
pub(super) trait Files: Sync {
    /// Opens a regular file by its cleaned name; links among the files are followed.
    ///
    /// `None` where nothing has the name.
    fn open(&self, name: &str) -> Result<Option<Opened<'_>>, ArchiveError>;

    /// Tells whether so many more bytes may be read into memory.
    fn may_read(&self, bytes: u64) -> bool {
        let _ = bytes;
        true
    }
}

/// The most bytes of JSON that are read of one archive, counted each time they are read.
const MOST_METADATA: u64 = 512 << 20;

/// Files of which only so much is read into memory: an archive may name one large file many times.
pub(super) struct Metered<'a> {
    files: &'a dyn Files,
    read: AtomicU64,
}

impl<'a> Metered<'a> {
    pub fn new(files: &'a dyn Files) -> Metered<'a> {
        Metered { files, read: AtomicU64::new(0) }
    }
}

impl Files for Metered<'_> {
    fn open(&self, name: &str) -> Result<Option<Opened<'_>>, ArchiveError> {
        self.files.open(name)
    }

    fn may_read(&self, bytes: u64) -> bool {
        self.read.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= MOST_METADATA
    }
}

/// Makes the error of an archive that cannot be used.
pub(super) fn bad(why: impl Into<String>) -> ArchiveError {
    ArchiveError::Unusable(why.into())
}

/// Takes `.` and empty parts out of a name; an error where it is absolute, climbs, or is none.
pub(super) fn clean_name(name: &str) -> Result<String, ArchiveError> {
    let climbs = name.starts_with('/') || name.split('/').any(|part| part == "..");
    if climbs || name.contains('\0') {
        return Err(bad(format!("it names a file outside of itself: `{}`", name.escape_debug())));
    }
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    Ok(parts.join("/"))
}

impl dyn Files + '_ {
    /// Opens a file by the name that another file of the archive gives it.
    pub fn named(&self, name: &str) -> Result<Opened<'_>, ArchiveError> {
        self.open(&clean_name(name)?)?.ok_or_else(|| bad(format!("its file `{name}` is missing")))
    }

    /// Reads a file of at most `limit` bytes; `None` where there is none.
    pub fn small(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, ArchiveError> {
        let Some(opened) = self.open(name)? else { return Ok(None) };
        if opened.size > limit {
            let size = opened.size;
            return Err(bad(format!("its file `{name}` has {size} bytes, more than the {limit} allowed")));
        }
        if !self.may_read(opened.size) {
            let why = "its manifests and configs have more than 512 MiB together";
            return Err(bad(format!("{why}, each counted as often as it is named")));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(opened.size).unwrap_or(0));
        // A file of a directory may grow while it is read.
        let read = opened.reader.take(limit.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|e| bad(format!("its file `{name}` cannot be read: {e}")))?;
        match bytes.len() as u64 > limit {
            true => Err(bad(format!("its file `{name}` has more than the {limit} bytes allowed"))),
            false => Ok(Some(bytes)),
        }
    }
}

/// The files of a directory.
pub(super) struct DirectoryFiles {
    root: RootDir,
}

impl DirectoryFiles {
    /// Opens a directory; its own path is trusted.
    pub fn open(path: &Path) -> io::Result<DirectoryFiles> {
        Ok(DirectoryFiles { root: RootDir::open(path)? })
    }
}

impl Files for DirectoryFiles {
    fn open(&self, name: &str) -> Result<Option<Opened<'_>>, ArchiveError> {
        let failed = |e: io::Error| bad(format!("its file `{name}` cannot be opened: {e}"));
        // A pipe in the place of a file is not waited for.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let file = match self.root.open_at(Path::new(name), flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(e) => return Err(failed(e)),
        };
        let metadata = file.metadata().map_err(failed)?;
        match metadata.is_file() {
            true => Ok(Some(Opened { reader: Box::new(file), size: metadata.len() })),
            false => Err(bad(format!("its file `{name}` is no regular file"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn names_stay_inside() {
        for (name, expect) in [("a/b", "a/b"), ("./a//b/.", "a/b"), ("a..b", "a..b"), ("", ""), (".", "")] {
            assert_eq!(clean_name(name).unwrap(), expect);
        }
        for name in ["/a", "..", "a/../b", "a/..", "a\0b"] {
            assert!(clean_name(name).unwrap_err().to_string().contains("outside"), "{name}");
        }
    }

    #[test]
    fn one_large_file_is_not_read_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let file = File::create(directory.path().join("large")).unwrap();
        file.set_len(8 << 20).unwrap();
        let files = DirectoryFiles::open(directory.path()).unwrap();
        let metered = Metered::new(&files);
        let files: &dyn Files = &metered;
        let read = (0..100).take_while(|_| files.small("large", 8 << 20).is_ok()).count();
        assert_eq!(read, 64);
    }

    #[test]
    fn a_directory_is_its_own_root() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        std::fs::create_dir_all(root.join("d")).unwrap();
        std::fs::write(directory.path().join("secret"), "secret").unwrap();
        std::fs::write(root.join("file"), "12345").unwrap();
        symlink("../file", root.join("d/link")).unwrap();
        symlink(directory.path().join("secret"), root.join("out")).unwrap();
        symlink("../../../secret", root.join("d/up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe"), Mode::RUSR).unwrap();
        let files = DirectoryFiles::open(&root).unwrap();
        let files: &dyn Files = &files;
        assert_eq!(files.small("d/link", 5).unwrap().unwrap(), b"12345");
        assert!(files.small("d/link", 4).unwrap_err().to_string().contains("more than"));
        for none in ["out", "d/up", "no", "file/x"] {
            assert!(files.small(none, 9).unwrap().is_none(), "{none}");
        }
        for bad in ["d", "pipe", "loop"] {
            assert!(files.small(bad, 9).is_err(), "{bad}");
        }
        assert!(files.named("../secret").is_err());
        assert!(files.named("no").err().unwrap().to_string().contains("missing"));
    }
}
