//! Where an archive comes from: a directory, a tar that is read where it lies, or a stream.
//!
//! What cannot be read at any place (a pipe, a compressed file) is first written, decompressed, to a
//! temporary file of the store; never to memory. Not here: what is in it.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::layer::{Compression, Packing, decompress};
use crate::store::{Store, TempDir};

use super::ArchiveError;
use super::files::{DirectoryFiles, Files};
use super::tar_files::TarFiles;

/// What is to be loaded.
#[derive(Debug)]
pub enum Source {
    /// A file or a directory.
    Path(PathBuf),
    /// What is open already, as standard input.
    Stream(File),
}

/// An archive that can be read at any place.
pub(super) struct OpenArchive {
    pub files: Box<dyn Files>,
    _spooled: Option<TempDir>,
}

/// Opens an archive; `note` hears how many bytes were written to a temporary file.
pub(super) fn open(
    store: &Store,
    source: Source,
    note: &(dyn Fn(u64) + Sync),
) -> Result<OpenArchive, ArchiveError> {
    let file = match source {
        Source::Path(path) => {
            let failed = |source| ArchiveError::Open { path: path.clone(), source };
            if std::fs::metadata(&path).map_err(failed)?.is_dir() {
                let files = DirectoryFiles::open(&path).map_err(failed)?;
                return Ok(OpenArchive { files: Box::new(files), _spooled: None });
            }
            File::open(&path).map_err(failed)?
        }
        Source::Stream(file) => file,
    };
    if is_plain(&file).map_err(ArchiveError::Read)? {
        return Ok(OpenArchive { files: Box::new(TarFiles::index(file)?), _spooled: None });
    }
    let directory = store.temp_dir()?;
    let spooled = spool(file, directory.path(), note)?;
    Ok(OpenArchive { files: Box::new(TarFiles::index(spooled)?), _spooled: Some(directory) })
}

/// Tells whether a file is a regular one from its start, and not compressed.
fn is_plain(mut file: &File) -> io::Result<bool> {
    if !file.metadata()?.is_file() || file.stream_position()? != 0 {
        return Ok(false);
    }
    let mut start = Vec::new();
    file.take(16).read_to_end(&mut start)?;
    file.rewind()?;
    Ok(Packing::sniff(&start) == Packing::Layer(Compression::None))
}

/// Writes what a stream holds, decompressed, to a temporary file.
fn spool(source: File, directory: &Path, note: &(dyn Fn(u64) + Sync)) -> Result<File, ArchiveError> {
    let (_, mut plain) = decompress(source).map_err(ArchiveError::Unpack)?;
    let path = directory.join("archive");
    let mut written = 0u64;
    let mut buffer = vec![0; 256 * 1024];
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(|source| ArchiveError::Spool { path: path.clone(), written, source })?;
    loop {
        let count = match plain.read(&mut buffer) {
            Ok(0) => return Ok(file),
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(ArchiveError::Read(e)),
        };
        file.write_all(&buffer[..count]).map_err(|source| ArchiveError::Spool {
            path: path.clone(),
            written,
            source,
        })?;
        written += count as u64;
        note(written);
    }
}
