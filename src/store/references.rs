//! References: names of images.
//!
//! A file's name is the digest of the reference, since a reference may be
//! longer than a file name and hold `/`; the reference stands inside.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::image::{Digest, ImageId, Reference};

use super::error::{names_in, read_if_there, remove_file};
use super::{Store, StoreError};

impl Store {
    /// Makes a reference name an image; returns the one it named before.
    ///
    /// The tag `latest` where the reference has neither tag nor digest; one with a digest is
    /// kept by that, its tag dropped. Writes nothing where it names the image already.
    pub fn tag(&self, reference: &Reference, image: &ImageId) -> Result<Option<ImageId>, StoreError> {
        self.hold()?;
        let _lock = self.names_lock()?;
        if !self.has_image(image) {
            return Err(StoreError::NotFound(image.to_string()));
        }
        self.set_reference(reference, image)
    }

    /// Returns the image a reference names; whether the image is whole, [`Store::image`] tells.
    pub fn resolve(&self, reference: &Reference) -> Result<Option<ImageId>, StoreError> {
        let name = stored_name(reference);
        let Some(bytes) = read_if_there(&self.reference_path(&name))? else { return Ok(None) };
        match parse(&bytes) {
            Ok((there, image)) if there == name => Ok(Some(image)),
            Ok((there, _)) => Err(broken(&name, &format!("its file is that of `{there}`"))),
            Err(why) => Err(broken(&name, &why)),
        }
    }

    /// Takes a name away; returns the image it named.
    pub fn untag(&self, reference: &Reference) -> Result<Option<ImageId>, StoreError> {
        self.hold()?;
        let _lock = self.names_lock()?;
        let image = self.resolve(reference)?;
        self.drop_reference(reference)?;
        Ok(image)
    }

    /// Lists all names and what they name, sorted; broken ones are left to [`Store::verify`].
    pub fn tags(&self) -> Result<Vec<(Reference, ImageId)>, StoreError> {
        let mut tags = Vec::new();
        for (_, entry) in self.references()? {
            tags.extend(entry.ok());
        }
        tags.sort();
        Ok(tags)
    }

    /// Returns the names of an image, sorted.
    pub fn names_of(&self, image: &ImageId) -> Result<Vec<Reference>, StoreError> {
        Ok(self.tags()?.into_iter().filter(|(_, id)| id == image).map(|(name, _)| name).collect())
    }

    /// Returns when the last of these names was given.
    pub fn last_tag_time(&self, names: &[Reference]) -> Option<Timestamp> {
        let time = |name: &Reference| {
            let file = std::fs::metadata(self.reference_path(&stored_name(name))).ok()?;
            Timestamp::try_from(file.modified().ok()?).ok()
        };
        names.iter().filter_map(time).max()
    }

    /// Lists the reference files with what they say, or why they say nothing.
    #[expect(clippy::type_complexity, reason = "a list of files, each readable or not")]
    pub(super) fn references(
        &self,
    ) -> Result<Vec<(String, Result<(Reference, ImageId), String>)>, StoreError> {
        let mut references = Vec::new();
        for file in names_in(&self.paths.references)? {
            let Some(bytes) = read_if_there(&self.paths.references.join(&file))? else { continue };
            let entry = parse(&bytes).and_then(|(name, image)| {
                if Digest::of(&name).hex() != file {
                    return Err(format!("its file is not that of `{name}`"));
                }
                Ok((name.parse::<Reference>().map_err(|e| e.to_string())?, image))
            });
            references.push((file, entry));
        }
        Ok(references)
    }

    /// Writes a reference; the caller holds the names' lock.
    pub(super) fn set_reference(
        &self,
        reference: &Reference,
        image: &ImageId,
    ) -> Result<Option<ImageId>, StoreError> {
        // One that is broken is simply written anew.
        let before = self.resolve(reference).unwrap_or(None);
        if before != Some(*image) {
            let name = stored_name(reference);
            self.publish(&self.reference_path(&name), format!("{name}\n{image}\n").as_bytes())?;
        }
        Ok(before)
    }

    /// Removes a reference; the caller holds the names' lock.
    pub(super) fn drop_reference(&self, reference: &Reference) -> Result<(), StoreError> {
        remove_file(&self.reference_path(&stored_name(reference)))
    }

    fn reference_path(&self, name: &str) -> PathBuf {
        self.paths.references.join(Digest::of(name).hex())
    }
}

/// Returns the one text of a reference that it is stored by.
fn stored_name(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => format!("{}@{digest}", reference.full_name()),
        (None, tag) => format!("{}:{}", reference.full_name(), tag.unwrap_or("latest")),
    }
}

fn parse(bytes: &[u8]) -> Result<(String, ImageId), String> {
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    match text.split('\n').collect::<Vec<_>>()[..] {
        [name, image, ""] => Ok((name.to_owned(), image.parse().map_err(|e| format!("{e}"))?)),
        _ => Err("its file is not two lines".to_owned()),
    }
}

fn broken(name: &str, why: &str) -> StoreError {
    StoreError::broken(format!("the reference `{name}`"), why)
}

#[cfg(test)]
mod tests {
    use super::super::{images, testing};
    use super::*;

    #[test]
    fn names_are_normalised_and_of_any_length() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let id = images::testing::image(&store, "a", &["a"]);
        let long = format!("host.example:5000/{}/x:{}", vec!["abc"; 50].join("/"), "T".repeat(128));
        let digest = format!("debian@sha256:{}", "0".repeat(64));
        for (tag, ask) in [
            ("debian", "docker.io/library/debian:latest"),
            ("debian:Bookworm", "debian:Bookworm"),
            ("[::1]:5000/x", "[::1]:5000/x:latest"),
            (long.as_str(), long.as_str()),
            (digest.as_str(), digest.as_str()),
        ] {
            assert_eq!(store.resolve(&ask.parse().unwrap()).unwrap(), None);
            assert_eq!(store.tag(&tag.parse().unwrap(), &id).unwrap(), None);
            assert_eq!(store.resolve(&ask.parse().unwrap()).unwrap(), Some(id));
        }
        assert_eq!(store.resolve(&"debian:bookworm".parse().unwrap()).unwrap(), None);
        assert_eq!(store.tags().unwrap().len(), 5);

        let other = images::testing::image(&store, "b", &["a"]);
        assert_eq!(store.tag(&"debian".parse().unwrap(), &other).unwrap(), Some(id));
        assert_eq!(store.names_of(&id).unwrap().len(), 4);
        assert_eq!(store.untag(&"debian:latest".parse().unwrap()).unwrap(), Some(other));
        assert_eq!(store.untag(&"debian:latest".parse().unwrap()).unwrap(), None);
        let nothing = ImageId(Digest::of("nothing"));
        assert!(store.tag(&"x".parse().unwrap(), &nothing).unwrap_err().is_not_found());
    }

    #[test]
    fn a_broken_reference_is_reported_and_can_be_written_anew() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let id = images::testing::image(&store, "a", &["a"]);
        let name: Reference = "debian".parse().unwrap();
        for text in ["", "x", "docker.io/library/other:latest\nsha256:1\n", "\0\0\0\0"] {
            store.tag(&name, &id).unwrap();
            std::fs::write(store.reference_path("docker.io/library/debian:latest"), text).unwrap();
            assert!(matches!(store.resolve(&name), Err(StoreError::Broken { .. })), "{text}");
            assert!(store.tags().unwrap().is_empty());
            store.tag(&name, &id).unwrap();
            assert_eq!(store.resolve(&name).unwrap(), Some(id));
        }
        let other = format!("docker.io/library/other:latest\n{id}\n");
        std::fs::write(store.reference_path("docker.io/library/debian:latest"), other).unwrap();
        assert!(matches!(store.resolve(&name), Err(StoreError::Broken { .. })));
    }
}
