//! A cache in a directory of the OCI image layout (image-spec, "OCI Image Layout").
//!
//! Reading believes nothing but digests and goes through the directory as its root. Writing never changes
//! a file that is there: blobs are named by what they hold, and the index is replaced whole. Not here: what
//! the blobs mean.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};

use crate::content::METADATA_LIMIT;
use crate::image::Digest;
use crate::sys::{RootDir, atomic};

use super::error::RemoteCacheError;

/// The name that an index gives to a manifest: image-spec, "Annotations".
const NAME: &str = "org.opencontainers.image.ref.name";

/// A directory with a cache in it.
#[derive(Debug)]
pub struct Layout {
    path: PathBuf,
    root: RootDir,
}

impl Layout {
    /// Opens one that is there.
    pub fn open(path: &Path) -> Result<Layout, RemoteCacheError> {
        let failed = |e| bad(path, format!("it cannot be opened: {e}"));
        let layout = Layout { path: path.to_owned(), root: RootDir::open(path).map_err(failed)? };
        layout.small("oci-layout")?;
        Ok(layout)
    }

    /// Opens one to write to; makes it where it is missing.
    pub fn create(path: &Path) -> Result<Layout, RemoteCacheError> {
        let blobs = path.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).map_err(|source| RemoteCacheError::Write { path: blobs, source })?;
        let failed = |e| bad(path, format!("it cannot be opened: {e}"));
        let layout = Layout { path: path.to_owned(), root: RootDir::open(path).map_err(failed)? };
        if !path.join("oci-layout").exists() {
            layout.publish("oci-layout", &|out| out.write_all(br#"{"imageLayoutVersion":"1.0.0"}"#))?;
        }
        Ok(layout)
    }

    /// Returns the digest that the index has for a tag.
    pub fn digest_of(&self, tag: &str) -> Result<Digest, RemoteCacheError> {
        let index = self.index()?;
        let found = index["manifests"].as_array().into_iter().flatten().find(|entry| is_named(entry, tag));
        let digest = found.and_then(|entry| entry["digest"].as_str()).and_then(|text| text.parse().ok());
        digest.ok_or_else(|| bad(&self.path, format!("it has nothing of the name `{tag}`")))
    }

    /// Reads a manifest or a config, compared with its digest.
    pub fn metadata(&self, digest: &Digest) -> Result<Vec<u8>, RemoteCacheError> {
        let bytes = self.small(&blob(digest))?;
        match Digest::of(&bytes) == *digest {
            true => Ok(bytes),
            false => Err(RemoteCacheError::Digest { digest: *digest }),
        }
    }

    /// Opens a blob of so many bytes; they are not looked at. One that is longer gives a byte too many, and
    /// no more: a hole costs whoever made it nothing, and fills the disk of who copies it.
    pub fn open_blob(&self, digest: &Digest, size: u64) -> Result<impl Read + use<>, RemoteCacheError> {
        let failed = |source| RemoteCacheError::Blob { digest: *digest, source };
        // Whatever else may have been put there is not waited for.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let file = self.root.open_at(Path::new(&blob(digest)), flags, Mode::empty()).map_err(failed)?;
        let file = File::from(file);
        match file.metadata().map_err(failed)?.is_file() {
            true => Ok(file.take(size.saturating_add(1))),
            false => Err(failed(io::Error::other("it is no file"))),
        }
    }

    /// Tells whether a blob of this size is there.
    pub fn has(&self, digest: &Digest, size: u64) -> bool {
        let found = self.root.stat(Path::new(&blob(digest)), false);
        found.is_ok_and(|stat| stat.is_file() && stat.size == size)
    }

    /// Writes a blob.
    pub fn put(
        &self,
        digest: &Digest,
        write: &dyn Fn(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), RemoteCacheError> {
        self.publish(&blob(digest), write)
    }

    /// Gives a name to a manifest that is there; other names stay.
    pub fn set(&self, tag: &str, mut descriptor: Value) -> Result<(), RemoteCacheError> {
        let mut entries: Vec<Value> = match self.path.join("index.json").exists() {
            true => self.index()?["manifests"].as_array().cloned().unwrap_or_default(),
            false => Vec::new(),
        };
        entries.retain(|entry| !is_named(entry, tag));
        descriptor["annotations"] = json!({ NAME: tag });
        entries.push(descriptor);
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": entries,
        });
        self.publish("index.json", &|out| out.write_all(index.to_string().as_bytes()))
    }

    fn index(&self) -> Result<Value, RemoteCacheError> {
        let bytes = self.small("index.json")?;
        serde_json::from_slice(&bytes).map_err(|e| bad(&self.path, format!("its index cannot be read: {e}")))
    }

    fn small(&self, name: &str) -> Result<Vec<u8>, RemoteCacheError> {
        let read = self.root.read_small(Path::new(name), METADATA_LIMIT as usize);
        read.map_err(|e| bad(&self.path, format!("its file `{name}` cannot be read: {e}")))
    }

    /// Writes a file complete under another name first.
    fn publish(
        &self,
        name: &str,
        write: &dyn Fn(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), RemoteCacheError> {
        let path = self.path.join(name);
        let publish = || {
            let temporary = path.with_extension(format!("{:x}.part", atomic::random_bits()?));
            let written = (|| {
                let mut file = BufWriter::new(File::create_new(&temporary)?);
                write(&mut file)?;
                file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_data()?;
                std::fs::rename(&temporary, &path)
            })();
            if written.is_err() {
                // What could not be written is of no use; the error itself says why.
                let _ = std::fs::remove_file(&temporary);
            }
            written
        };
        publish().map_err(|source| RemoteCacheError::Write { path: path.clone(), source })
    }
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn is_named(entry: &Value, tag: &str) -> bool {
    entry["annotations"][NAME].as_str() == Some(tag)
}

fn bad(path: &Path, why: String) -> RemoteCacheError {
    RemoteCacheError::Layout { path: path.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn descriptor(text: &str) -> Value {
        json!({ "digest": Digest::of(text), "size": text.len(), "mediaType": "x" })
    }

    #[test]
    fn names_stand_beside_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/cache");
        assert!(Layout::open(&path).is_err());
        let layout = Layout::create(&path).unwrap();
        layout.set("one", descriptor("a")).unwrap();
        layout.set("two", descriptor("b")).unwrap();
        layout.set("one", descriptor("c")).unwrap();
        let layout = Layout::open(&path).unwrap();
        assert_eq!(layout.digest_of("one").unwrap(), Digest::of("c"));
        assert_eq!(layout.digest_of("two").unwrap(), Digest::of("b"));
        assert!(layout.digest_of("three").unwrap_err().to_string().contains("nothing of the name `three`"));
        assert_eq!(layout.index().unwrap()["manifests"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn blobs_are_what_their_names_say() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).unwrap();
        let digest = Digest::of("bytes");
        assert!(!layout.has(&digest, 5));
        layout.put(&digest, &|out| out.write_all(b"bytes")).unwrap();
        assert!(layout.has(&digest, 5) && !layout.has(&digest, 6));
        assert_eq!(layout.metadata(&digest).unwrap(), b"bytes");
        let path = directory.path().join(blob(&digest));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o600, 0o600);
        std::fs::write(&path, "other").unwrap();
        assert!(matches!(layout.metadata(&digest), Err(RemoteCacheError::Digest { .. })));
        // Half a blob is none.
        let failing = |out: &mut dyn Write| out.write_all(b"by").and(Err(io::Error::other("cut")));
        assert!(layout.put(&Digest::of("more"), &failing).is_err());
        assert_eq!(std::fs::read_dir(directory.path().join("blobs/sha256")).unwrap().count(), 1);
    }

    #[test]
    fn a_blob_that_is_longer_than_it_says_is_not_read_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).unwrap();
        let digest = Digest::of("bytes");
        layout.put(&digest, &|out| out.write_all(b"bytes")).unwrap();
        let read = |size| {
            let mut all = Vec::new();
            layout.open_blob(&digest, size).unwrap().take(100).read_to_end(&mut all).unwrap();
            all
        };
        assert_eq!(read(5), b"bytes");
        File::options()
            .write(true)
            .open(directory.path().join(blob(&digest)))
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        assert_eq!(read(5), b"bytes\0");
        assert_eq!(read(u64::MAX).len(), 100);
    }

    #[test]
    fn what_lies_outside_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("secret"), "bytes").unwrap();
        let path = directory.path().join("cache");
        let layout = Layout::create(&path).unwrap();
        let digest = Digest::of("bytes");
        std::os::unix::fs::symlink("../../../../secret", path.join(blob(&digest))).unwrap();
        assert!(layout.open_blob(&digest, 5).is_err() && layout.metadata(&digest).is_err());
        std::fs::remove_file(path.join(blob(&digest))).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path.join(blob(&digest)),
            rustix::fs::FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .unwrap();
        assert!(layout.open_blob(&digest, 5).is_err(), "nobody waits for who writes to it");
    }
}
