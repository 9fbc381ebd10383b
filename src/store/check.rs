//! Looking the whole store over: what is broken, in words.

use std::io::Read;

use crate::image::{Digest, SnapshotId};

use super::error::{failed, names_in};
use super::snapshots::State;
use super::{SnapshotKind, Store, StoreError};

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Entries only.
    Quick,
    /// Every blob and every layer is read through.
    Deep,
}

/// One entry that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What it is: `layer 0123456789ab`.
    pub entry: String,
    /// One sentence, lower-case, no full stop.
    pub why: String,
}

impl Store {
    /// Looks for entries that are broken. Changes nothing, save that layers proven whole are noted so.
    pub fn verify(&self, depth: Depth) -> Result<Vec<Problem>, StoreError> {
        let mut problems = Vec::new();
        let mut problem = |entry: String, why: String| problems.push(Problem { entry, why });
        for (file, reference) in self.references()? {
            match reference {
                Err(why) => problem(format!("reference file {file}"), why),
                Ok((name, image)) if !self.has_image(&image) => {
                    problem(format!("reference `{name}`"), format!("its image {image} is gone"));
                }
                Ok(_) => {}
            }
        }
        if depth == Depth::Deep {
            // Reads layers through whose last writes may be lost.
            for id in self.image_ids()? {
                if let Err(e @ StoreError::Broken { .. }) = self.image(&id) {
                    let text = e.to_string();
                    let (entry, why) = text.split_once(" is broken: ").unwrap_or(("image", &text));
                    problem(entry.to_owned(), why.to_owned());
                }
            }
        }
        for name in names_in(&self.paths.snapshots)? {
            match SnapshotId::try_from(name.clone()) {
                Err(_) => problem(format!("layer {name}"), "its name is no id".to_owned()),
                Ok(id) => {
                    if let Some(why) = self.verify_layer(&id, depth)? {
                        problem(format!("layer {id}"), why);
                    }
                }
            }
        }
        if depth == Depth::Quick {
            for id in self.image_ids()? {
                if let Some(why) = self.verify_image_entry(&id)? {
                    problem(format!("image {}", id.short()), why);
                }
            }
        }
        for name in names_in(&self.paths.blobs)? {
            match Digest::from_hex(&name) {
                Err(e) => problem(format!("blob {name}"), e.to_string()),
                Ok(digest) if depth == Depth::Deep => {
                    let mut reader = self.open_blob(&digest)?;
                    let mut buffer = vec![0; 1 << 16];
                    loop {
                        match reader.read(&mut buffer) {
                            Ok(0) => break,
                            Ok(_) => {}
                            Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
                                problem(format!("blob {digest}"), "its bytes have another digest".to_owned());
                                break;
                            }
                            Err(e) => return Err(failed("read", &self.paths.blob(&digest))(e)),
                        }
                    }
                }
                Ok(_) => {}
            }
        }
        for op in self.record_ops()? {
            for key in self.record_keys(&op)? {
                match self.record_layer(&self.paths.record(&op, &key))? {
                    Some(Err(why)) => problem(format!("cache record {}", key.short()), why),
                    Some(Ok(Some(layer))) if !self.paths.snapshot(&layer).exists() => {
                        problem(
                            format!("cache record {}", key.short()),
                            format!("its layer {layer} is gone"),
                        );
                    }
                    _ => {}
                }
            }
        }
        Ok(problems)
    }

    fn verify_layer(&self, id: &SnapshotId, depth: Depth) -> Result<Option<String>, StoreError> {
        let meta = match self.snapshot_state(id)? {
            State::Gone => return Ok(None),
            State::Broken { why } => return Ok(Some(why)),
            State::Suspect { .. } => {
                return Ok(Some(
                    "it was written shortly before the machine stopped, and never synced".to_owned(),
                ));
            }
            State::Whole { meta, .. } => meta,
        };
        if let Some(blob) = &meta.blob
            && self.blob_size(&blob.digest) != Some(blob.size)
        {
            return Ok(Some(format!("the blob {} it came from is missing or cut off", blob.digest)));
        }
        if self.copied_is_damaged(id) {
            return Ok(Some("its list of copied files is damaged; they are copied anew".to_owned()));
        }
        // A layer that came as a tar of somebody else's has the DiffID of that tar.
        if depth == Depth::Quick || (meta.kind == SnapshotKind::Image && meta.blob.is_some()) {
            return Ok(None);
        }
        let Some(digests) = self.digests(id)? else { return Ok(None) };
        match self.diff_id_on_disk(id, &meta)? {
            Some(found) if found != digests.diff_id => {
                Ok(Some(format!("its files give {found}, not {}", digests.diff_id)))
            }
            _ => Ok(None),
        }
    }

    /// Looks at an image's own entry and at what it names, without reading layers.
    fn verify_image_entry(&self, id: &crate::image::ImageId) -> Result<Option<String>, StoreError> {
        let path = self.paths.image(id);
        let Some(bytes) = super::error::read_if_there(&path)? else { return Ok(None) };
        let file: super::images::ImageFile = match serde_json::from_slice(&bytes) {
            Ok(file) => file,
            Err(e) => return Ok(Some(e.to_string())),
        };
        for digest in std::iter::once(&id.0).chain(&file.manifest) {
            match self.read_blob(digest, u64::MAX) {
                Ok(_) => {}
                Err(e @ (StoreError::NoBlob(_) | StoreError::Broken { .. })) => {
                    return Ok(Some(e.to_string()));
                }
                Err(e) => return Err(e),
            }
        }
        for layer in &file.layers {
            if !self.paths.snapshot(layer).exists() {
                return Ok(Some(format!("layer {layer} is gone")));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{images, testing};
    use super::*;
    use crate::image::{CacheKey, ImageId, OpDigest};

    #[test]
    fn a_good_store_has_no_problems_and_each_damage_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let id = images::testing::image(&store, "a", &["a"]);
        store.tag(&"one".parse().unwrap(), &id).unwrap();
        let layer = store.image(&id).unwrap().layers[0].clone();
        let (op, key) = (OpDigest(Digest::of("op")), CacheKey(Digest::of("key")));
        store.publish_record(&op, &key, Some(&layer), b"x").unwrap();
        assert_eq!(store.verify(Depth::Deep).unwrap(), []);

        let check = |depth: Depth, entry: &str, why: &str| {
            let problems = store.verify(depth).unwrap();
            let there = problems.iter().any(|p| p.entry == entry && p.why.contains(why));
            assert!(there, "{entry}: {why}: {problems:?}");
        };
        std::fs::write(store.snapshot_dir(&layer).join("a"), "changed").unwrap();
        assert_eq!(store.verify(Depth::Quick).unwrap(), []);
        check(Depth::Deep, &format!("layer {layer}"), "its files give");
        let blob = store.put_blob(b"blob").unwrap();
        std::fs::write(store.paths.blob(&blob), "torn").unwrap();
        check(Depth::Deep, &format!("blob {blob}"), "another digest");
        std::fs::write(store.paths.record(&op, &key), "torn").unwrap();
        check(Depth::Quick, &format!("cache record {}", key.short()), "record");
        std::fs::remove_dir_all(store.snapshot_dir(&layer)).unwrap();
        check(Depth::Quick, &format!("layer {layer}"), "`fs` is missing");
        std::fs::remove_dir_all(store.paths.snapshot(&layer)).unwrap();
        check(Depth::Quick, &format!("image {}", id.short()), "is gone");
        check(Depth::Deep, &format!("image {}", id.short()), "is gone");
        std::fs::remove_file(store.paths.image(&id)).unwrap();
        check(Depth::Quick, "reference `one:latest`", &format!("its image {id} is gone"));
        assert!(matches!(store.image(&ImageId(Digest::of("x"))), Err(StoreError::NotFound(_))));
    }
}
