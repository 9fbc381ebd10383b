//! Blobs that were made of layers, kept for who asks next, up to so many bytes.
//!
//! They are in a directory of this process's own, which goes with it. What is open stays readable when it is
//! removed. Not here: which blobs there are (`local`).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::content::{Blob, ContentError, DigestWriter};
use crate::image::Digest;
use crate::store::{Store, StoreError, TempDir};

/// So many blobs are made at once at most; none twice at once.
const GATES: usize = 4;

/// The blobs that were made.
#[derive(Debug)]
pub struct MadeBlobs {
    directory: TempDir,
    /// In bytes; the one that was made last stays in any case.
    limit: u64,
    kept: Mutex<Kept>,
    gates: [Mutex<()>; GATES],
}

#[derive(Debug, Default)]
struct Kept {
    /// Size, and when it was last asked for.
    blobs: HashMap<Digest, (u64, u64)>,
    clock: u64,
}

impl MadeBlobs {
    /// Makes an empty one, with a directory in the store.
    pub fn new(store: &Store, limit: u64) -> Result<MadeBlobs, StoreError> {
        let directory = store.temp_dir()?;
        // The lease keeps the directory; it pins no layer, and stops no sweep.
        store.hold_only(&[])?;
        Ok(MadeBlobs { directory, limit, kept: Mutex::default(), gates: Default::default() })
    }

    /// Opens a blob, making it where it is not there.
    pub fn open(&self, store: &Store, blob: &Blob) -> Result<File, ContentError> {
        if let Some(file) = self.find(&blob.digest) {
            return Ok(file);
        }
        let gate = &self.gates[usize::from(blob.digest.as_bytes()[0]) % GATES];
        let _alone = gate.lock().unwrap_or_else(PoisonError::into_inner);
        // Another may have made it meanwhile.
        if let Some(file) = self.find(&blob.digest) {
            return Ok(file);
        }
        let path = self.directory.path().join(format!("{}.part", blob.digest.hex()));
        let made = write(store, blob, &path).and_then(|()| self.take(&path, &blob.digest, blob.size));
        made.inspect_err(|_| {
            let _ = std::fs::remove_file(&path);
        })
    }

    /// Makes a file one of them; its bytes are those of the digest.
    pub fn take(&self, path: &Path, digest: &Digest, size: u64) -> Result<File, ContentError> {
        let place = self.place(digest);
        let failed = |source| ContentError::Temporary { path: place.clone(), source };
        let mut kept = self.kept();
        std::fs::rename(path, &place).map_err(failed)?;
        let file = File::open(&place).map_err(failed)?;
        kept.clock += 1;
        let now = kept.clock;
        kept.blobs.insert(*digest, (size, now));
        self.make_room(&mut kept, digest);
        Ok(file)
    }

    fn find(&self, digest: &Digest) -> Option<File> {
        let mut kept = self.kept();
        kept.clock += 1;
        let now = kept.clock;
        kept.blobs.get_mut(digest)?.1 = now;
        match File::open(self.place(digest)) {
            Ok(file) => Some(file),
            // Somebody took it away: it is made again.
            Err(_) => {
                kept.blobs.remove(digest);
                None
            }
        }
    }

    /// Removes those that nobody asked for the longest, until the rest fits.
    fn make_room(&self, kept: &mut Kept, last: &Digest) {
        let mut all: u64 = kept.blobs.values().map(|(size, _)| size).sum();
        while all > self.limit {
            let others = kept.blobs.iter().filter(|(digest, _)| *digest != last);
            let Some((oldest, size)) =
                others.min_by_key(|(_, (_, used))| *used).map(|(d, (size, _))| (*d, *size))
            else {
                return;
            };
            let _ = std::fs::remove_file(self.place(&oldest));
            kept.blobs.remove(&oldest);
            all -= size;
        }
    }

    fn place(&self, digest: &Digest) -> PathBuf {
        self.directory.path().join(digest.hex())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the directory, for what is to become one of them.
    pub fn directory(&self) -> &TempDir {
        &self.directory
    }
}

fn write(store: &Store, blob: &Blob, path: &Path) -> Result<(), ContentError> {
    let failed = |source: io::Error| ContentError::Temporary { path: path.to_owned(), source };
    let mut out = DigestWriter::new(BufWriter::with_capacity(1 << 17, File::create(path).map_err(failed)?));
    blob.write(store, &mut out)?;
    let (mut out, digest, size) = out.finish();
    out.flush().map_err(failed)?;
    match (digest, size) == (blob.digest, blob.size) {
        true => Ok(()),
        false => Err(ContentError::Mismatch(format!("a blob was made as {digest}, not as {}", blob.digest))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::image::MediaType;
    use crate::store::testing;

    fn blob(text: &str) -> Blob {
        Blob::of_bytes(text.as_bytes().to_vec(), MediaType::ImageConfig)
    }

    #[test]
    fn what_was_asked_for_last_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = testing::open(folder.path());
        let made = MadeBlobs::new(&store, 10).unwrap();
        let read = |text: &str| {
            let mut found = String::new();
            made.open(&store, &blob(text)).unwrap().read_to_string(&mut found).unwrap();
            assert_eq!(found, text);
        };
        let names = || {
            let mut names: Vec<u64> = made.kept().blobs.values().map(|(size, _)| *size).collect();
            names.sort_unstable();
            assert_eq!(std::fs::read_dir(made.directory().path()).unwrap().count(), names.len());
            names
        };
        read("4444");
        read("333");
        assert_eq!(names(), [3, 4]);
        read("4444");
        read("55555");
        assert_eq!(names(), [4, 5], "333 was asked for the longest ago");
        let mut open = made.open(&store, &blob("55555")).unwrap();
        read("one that is larger than all");
        assert_eq!(names(), [27]);
        let mut text = String::new();
        open.read_to_string(&mut text).unwrap();
        assert_eq!(text, "55555", "what is open stays readable");
        std::fs::remove_file(made.place(&blob("one that is larger than all").digest)).unwrap();
        read("one that is larger than all");
    }

    #[test]
    fn the_same_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = testing::open(folder.path());
        let made = MadeBlobs::new(&store, 1 << 20).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| made.open(&store, &blob("all want this")).unwrap());
            }
        });
        assert_eq!(std::fs::read_dir(made.directory().path()).unwrap().count(), 1);
        let path = made.directory().path().to_owned();
        drop(made);
        assert!(!path.exists());
    }
}
