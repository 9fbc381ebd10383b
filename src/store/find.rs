//! From what a user typed to an image or a step, by docker's rules.

use crate::image::{Digest, ImageId, Reference};

use super::{StepId, Store, StoreError};

/// What a text means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// An image; `name` is the reference it was found by, `None` when by its id.
    Image {
        id: ImageId,
        name: Option<Reference>,
    },
    Step(StepId),
}

impl Store {
    /// Finds an image by name, tag, digest, id or the unique start of an id, or a step by its id.
    ///
    /// A name comes before an id. Errors: [`StoreError::NotFound`], [`StoreError::Ambiguous`].
    pub fn find(&self, text: &str) -> Result<Found, StoreError> {
        let start = text.strip_prefix("sha256:").unwrap_or(text);
        if let Ok(digest) = Digest::from_hex(start) {
            let id = ImageId(digest);
            return match self.has_image(&id) {
                true => Ok(Found::Image { id, name: None }),
                false => Err(StoreError::NotFound(text.to_owned())),
            };
        }
        if let Ok(reference) = text.parse::<Reference>()
            && let Some(id) = self.find_by_name(&reference)?
        {
            return Ok(Found::Image { id, name: Some(reference.with_default_tag()) });
        }
        if start.is_empty() || !start.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(StoreError::NotFound(text.to_owned()));
        }
        self.find_by_start(text, start)
    }

    fn find_by_name(&self, reference: &Reference) -> Result<Option<ImageId>, StoreError> {
        if let Some(id) = self.resolve(reference)? {
            return Ok(Some(id));
        }
        let Some(digest) = reference.digest() else { return Ok(None) };
        // A digest names the manifest of an image that has the repository's name.
        for (name, id) in self.tags()? {
            if name.full_name() == reference.full_name() && self.manifest_digest(&id)? == Some(*digest) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    fn find_by_start(&self, text: &str, start: &str) -> Result<Found, StoreError> {
        let mut found = Vec::new();
        for id in self.image_ids()? {
            if id.hex().starts_with(start) {
                found.push((id.to_string(), Found::Image { id, name: None }));
            }
        }
        // `sha256:` is never in front of a step's id.
        if text == start {
            for id in self.step_ids()? {
                if id.as_str().starts_with(start) && self.step(&id)?.is_some() {
                    found.push((id.to_string(), Found::Step(id)));
                }
            }
        }
        match found.len() {
            0 => Err(StoreError::NotFound(text.to_owned())),
            1 => Ok(found.remove(0).1),
            _ => Err(StoreError::Ambiguous {
                text: text.to_owned(),
                ids: found.into_iter().take(5).map(|(id, _)| id).collect(),
            }),
        }
    }

    fn manifest_digest(&self, id: &ImageId) -> Result<Option<Digest>, StoreError> {
        match self.image(id) {
            Ok(image) => Ok(image.manifest.as_ref().map(Digest::of)),
            Err(StoreError::NotFound(_) | StoreError::Broken { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ImageRecord, images, steps, testing};
    use super::*;

    #[test]
    fn finds_as_docker_does() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let id = images::testing::image(&store, "a", &["a"]);
        let image = store.image(&id).unwrap();
        let record = ImageRecord {
            config: image.config_bytes,
            manifest: Some(b"{}".to_vec()),
            layers: image.layers.clone(),
        };
        store.put_image_as(&record, &["flask".parse().unwrap(), "dead:beef".parse().unwrap()]).unwrap();
        let (step, _) = store.put_step(&steps::example(image.layers, "RUN x")).unwrap();

        let check = |text: &str, expect: Option<Option<&str>>| {
            let expect = expect.map(|name| Found::Image { id, name: name.map(|n| n.parse().unwrap()) });
            match store.find(text) {
                Ok(found) => assert_eq!(Some(found), expect, "{text}"),
                Err(e) => assert!(e.is_not_found() && expect.is_none(), "{text}: {e}"),
            }
        };
        check("flask", Some(Some("flask:latest")));
        check("docker.io/library/flask:latest", Some(Some("flask:latest")));
        check("dead:beef", Some(Some("dead:beef")));
        let digest = format!("flask@{}", Digest::of("{}"));
        check(&digest, Some(Some(&digest)));
        check(&format!("other@{}", Digest::of("{}")), None);
        check(&id.to_string(), Some(None));
        check(&id.hex(), Some(None));
        check(&id.short(), Some(None));
        check(&format!("sha256:{}", id.short()), Some(None));
        for nothing in ["", "flask:1", "sha256:", "../x", "FLASK", "zz", &"0".repeat(64), "a b"] {
            check(nothing, None);
        }
        assert_eq!(store.find(step.as_str()).unwrap(), Found::Step(step.clone()));
        assert!(store.find(&format!("sha256:{step}")).unwrap_err().is_not_found());
    }

    #[test]
    fn a_start_of_two_ids_is_ambiguous() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(directory.path());
        let ids: Vec<ImageId> =
            (0..17).map(|n| images::testing::image(&store, &n.to_string(), &[])).collect();
        // Of 17 ids two start with the same of 16 digits.
        let twice = "0123456789abcdef"
            .chars()
            .find(|&c| ids.iter().filter(|id| id.hex().starts_with(c)).count() > 1)
            .unwrap();
        assert!(matches!(store.find(&twice.to_string()), Err(StoreError::Ambiguous { .. })));
    }
}
