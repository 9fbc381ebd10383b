//! Annotations of a build's outputs: `--annotation` and the attributes `annotation*.KEY` of `-o`.
//!
//! The words are BuildKit's: of the manifest where nothing else is said, of the index, of the manifest's
//! entry in the index; each for one platform where one is named. Not here: where they are written.

use std::collections::BTreeMap;

use super::error::CommandError;
use crate::image::Platform;

/// What is annotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Manifest,
    Index,
    /// The manifest's entry in an index.
    ManifestDescriptor,
}

/// The words for them.
const KINDS: &str = "manifest, manifest-descriptor, index";

/// Annotations by what they are of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations {
    pub manifest: BTreeMap<String, String>,
    pub index: BTreeMap<String, String>,
    pub descriptor: BTreeMap<String, String>,
}

impl Annotations {
    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.manifest.is_empty() && self.index.is_empty() && self.descriptor.is_empty()
    }

    /// Takes those of another over, which count more.
    pub fn extend(&mut self, other: &Annotations) {
        let join = |own: &mut BTreeMap<String, String>, other: &BTreeMap<String, String>| {
            own.extend(other.iter().map(|(key, value)| (key.clone(), value.clone())));
        };
        join(&mut self.manifest, &other.manifest);
        join(&mut self.index, &other.index);
        join(&mut self.descriptor, &other.descriptor);
    }

    fn put(&mut self, kind: Kind, key: &str, value: &str) {
        let map = match kind {
            Kind::Manifest => &mut self.manifest,
            Kind::Index => &mut self.index,
            Kind::ManifestDescriptor => &mut self.descriptor,
        };
        map.insert(key.to_owned(), value.to_owned());
    }

    /// Adds one of `--annotation`: `[TYPE[PLATFORM],...:]KEY=VALUE`.
    pub fn add_option(&mut self, text: &str, platform: &Platform) -> Result<(), CommandError> {
        let bad = |why: String| {
            CommandError::usage(format!("invalid --annotation `{text}`: {why}"))
                .hint(format!("an annotation is written [TYPE:]KEY=VALUE; the types are {KINDS}"))
        };
        let (left, value) = text.split_once('=').ok_or_else(|| bad("it has no value".to_owned()))?;
        let (types, key) = match left.split_once(':') {
            Some((types, key)) => (types.split(',').collect(), key),
            None => (vec!["manifest"], left),
        };
        if key.trim().is_empty() {
            return Err(bad("it has no key".to_owned()));
        }
        for word in types {
            let (kind, of) = kind_of(word).map_err(bad)?;
            if is_for(of, platform).map_err(bad)? {
                self.put(kind, key, value);
            }
        }
        Ok(())
    }

    /// Adds an attribute of `-o`, if it is one of annotations: `annotation[-TYPE][PLATFORM].KEY`.
    ///
    /// `false`: it is none.
    pub fn add_attribute(&mut self, name: &str, value: &str, platform: &Platform) -> Result<bool, String> {
        let Some(rest) = name.strip_prefix("annotation") else { return Ok(false) };
        let Some((word, key)) = rest.split_once('.') else { return Ok(false) };
        // A platform has no dot, a key may have many.
        if key.is_empty() {
            return Err(format!("`{name}` has no key"));
        }
        let word = match word.strip_prefix('-') {
            Some(word) => word.to_owned(),
            None => format!("manifest{word}"),
        };
        let (kind, of) = kind_of(&word)?;
        if is_for(of, platform)? {
            self.put(kind, key, value);
        }
        Ok(true)
    }
}

/// Reads `TYPE[PLATFORM]`.
fn kind_of(word: &str) -> Result<(Kind, Option<&str>), String> {
    let (word, platform) = match word.split_once('[') {
        Some((word, rest)) => {
            let platform = rest.strip_suffix(']').ok_or_else(|| format!("`{word}[` is not closed"))?;
            (word, Some(platform))
        }
        None => (word, None),
    };
    let kind = match word {
        "manifest" => Kind::Manifest,
        "index" => Kind::Index,
        "manifest-descriptor" => Kind::ManifestDescriptor,
        "index-descriptor" => return Err("an index that is not in another has no descriptor".to_owned()),
        other => return Err(format!("there is no annotation type `{other}`")),
    };
    match (kind, platform) {
        (Kind::Index, Some(_)) => Err("an index is of no platform".to_owned()),
        _ => Ok((kind, platform)),
    }
}

/// Tells whether an annotation is for the platform that is built; one for another is a mistake.
fn is_for(of: Option<&str>, platform: &Platform) -> Result<bool, String> {
    let Some(of) = of else { return Ok(true) };
    let parsed: Platform = of.parse().map_err(|e| format!("`{of}`: {e}"))?;
    match parsed == *platform {
        true => Ok(true),
        false => Err(format!("it is for the platform {of}, and the build is for {platform}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform() -> Platform {
        "linux/amd64".parse().unwrap()
    }

    fn option(text: &str) -> Result<Annotations, String> {
        let mut annotations = Annotations::default();
        annotations.add_option(text, &platform()).map_err(|error| error.text())?;
        Ok(annotations)
    }

    fn map(key: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(key.to_owned(), value.to_owned())])
    }

    #[test]
    fn options_say_what_they_are_of() {
        let none = Annotations::default;
        let check = |text: &str, expect: Annotations| assert_eq!(option(text).unwrap(), expect, "{text}");
        check("a.b=c=d", Annotations { manifest: map("a.b", "c=d"), ..none() });
        check("index:a=", Annotations { index: map("a", ""), ..none() });
        let both = Annotations { manifest: map("a", "b"), descriptor: map("a", "b"), ..none() };
        check("manifest,manifest-descriptor:a=b", both);
        check("manifest[linux/amd64]:a=b", Annotations { manifest: map("a", "b"), ..none() });
        for (bad, expect) in [
            ("a", "it has no value"),
            ("=b", "it has no key"),
            ("index:=b", "it has no key"),
            ("layer:a=b", "no annotation type `layer`"),
            ("index-descriptor:a=b", "has no descriptor"),
            ("manifest[linux/arm64]:a=b", "the build is for linux/amd64"),
            ("index[linux/amd64]:a=b", "of no platform"),
            ("manifest[x:a=b", "is not closed"),
        ] {
            let error = option(bad).unwrap_err();
            assert!(error.contains(expect), "{bad}: {error}");
        }
    }

    #[test]
    fn attributes_say_what_they_are_of() {
        let mut all = Annotations::default();
        let mut add = |name: &str| all.add_attribute(name, "v", &platform());
        for name in [
            "annotation.a.b",
            "annotation-index.i",
            "annotation-manifest-descriptor.d",
            "annotation[linux/amd64].p",
        ] {
            assert_eq!(add(name), Ok(true), "{name}");
        }
        assert_eq!(add("annotations"), Ok(false));
        assert_eq!(add("dest"), Ok(false));
        assert!(add("annotation-layer.x").is_err() && add("annotation.").is_err());
        let manifest: Vec<&String> = all.manifest.keys().collect();
        assert_eq!(manifest, ["a.b", "p"]);
        assert_eq!((all.index, all.descriptor), (map("i", "v"), map("d", "v")));
    }
}
