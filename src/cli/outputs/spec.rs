//! One `-o`: its type and attributes, in BuildKit's form, checked by name.
//!
//! Not here: what the attributes mean (`outputs`).

use super::super::csv::fields;
use super::super::error::CommandError;

/// The type of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Local,
    Tar,
    Oci,
    Docker,
    Image,
    Registry,
    CacheOnly,
}

/// The types with their words.
const TYPES: [(&str, Type); 7] = [
    ("local", Type::Local),
    ("tar", Type::Tar),
    ("oci", Type::Oci),
    ("docker", Type::Docker),
    ("image", Type::Image),
    ("registry", Type::Registry),
    ("cacheonly", Type::CacheOnly),
];

const LOCAL: &[&str] = &["dest", "mode", "platform-split"];
const TAR: &[&str] = &["dest", "platform-split"];
const PACKED: &[&str] = &["compression", "compression-level", "force-compression", "oci-mediatypes", "name"];
const ARCHIVE: &[&str] = &["dest", "tar"];
const IMAGE: &[&str] = &["push", "push-by-digest", "registry.insecure"];
/// Attributes that mean something to BuildKit and nothing here, and why.
const NOTHING_HERE: &[(&str, &str)] = &[
    ("name-canonical", "an image that was pushed has its NAME@DIGEST in any case"),
    ("dangling-name-prefix", "an image without a name is known by its id"),
    ("store", "the image is put in the store in any case"),
    ("unpack", "layers are always unpacked"),
    ("oci-artifact", "this version makes no attestations"),
    ("attestation-inline", "this version makes no attestations"),
    ("attestation-prefix", "this version makes no attestations"),
    ("prefer-nondist-layers", "layers are never left to other servers"),
    ("compatibility-version", "images are of one form"),
    ("rewrite-timestamp", "with SOURCE_DATE_EPOCH, the files of new layers have no later time in any case"),
];

/// An output as it was written.
#[derive(Debug)]
pub struct Spec {
    pub text: String,
    pub kind: Type,
    /// Without `type`, and without those that have no effect.
    attributes: Vec<(String, String)>,
}

impl Type {
    fn known(self) -> Vec<&'static str> {
        let lists: &[&[&'static str]] = match self {
            Type::Local => &[LOCAL],
            Type::Tar => &[TAR],
            Type::Oci | Type::Docker => &[ARCHIVE, PACKED],
            Type::Image | Type::Registry => &[IMAGE, PACKED],
            Type::CacheOnly => &[],
        };
        lists.concat()
    }

    fn is_image(self) -> bool {
        matches!(self, Type::Oci | Type::Docker | Type::Image | Type::Registry)
    }

    pub fn word(self) -> &'static str {
        TYPES.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }
}

impl Spec {
    /// Makes the one of a type without attributes.
    pub fn of(kind: Type, text: &str) -> Spec {
        Spec { text: text.to_owned(), kind, attributes: Vec::new() }
    }

    /// Reads an output; notes go to `notes`.
    ///
    /// A word alone is a directory; `-` alone is a tar on standard output.
    pub fn parse(text: &str, notes: &mut Vec<String>) -> Result<Spec, CommandError> {
        let bad = |why: String| {
            CommandError::usage(format!("bad output `{text}`: {why}"))
                .hint("an output is written type=TYPE,KEY=VALUE,... or is a directory")
        };
        if text.is_empty() {
            return Err(bad("it is empty".to_owned()));
        }
        let fields = fields(text).ok_or_else(|| bad("a quote is not closed".to_owned()))?;
        if let [word] = &fields[..]
            && !word.contains('=')
        {
            let kind = if word == "-" { Type::Tar } else { Type::Local };
            let attributes = vec![("dest".to_owned(), word.clone())];
            return Ok(Spec { text: text.to_owned(), kind, attributes });
        }
        let mut kind = None;
        let mut attributes = Vec::new();
        for field in fields {
            let (key, value) =
                field.split_once('=').ok_or_else(|| bad(format!("`{field}` is no KEY=VALUE")))?;
            // The key of an annotation is the user's own.
            let key = match key.trim() {
                key if key.starts_with("annotation") => key.to_owned(),
                key => key.to_ascii_lowercase(),
            };
            match key.as_str() {
                "type" => kind = Some(value.to_owned()),
                _ => attributes.push((key, value.to_owned())),
            }
        }
        let word = kind.ok_or_else(|| bad("it has no type".to_owned()))?;
        let Some(&(_, kind)) = TYPES.iter().find(|(known, _)| *known == word) else {
            let all = TYPES.map(|(word, _)| word).join(", ");
            return Err(bad(format!("there is no type `{word}`; the types are {all}")));
        };
        let known = kind.known();
        let mut own = Vec::new();
        for (key, value) in attributes {
            let nothing = NOTHING_HERE.iter().find(|(name, _)| *name == key && kind.is_image());
            if let Some((name, why)) = nothing {
                if !matches!(value.as_str(), "false" | "0") || *name == "store" {
                    notes.push(format!("note: {name} of -o has no effect: {why}"));
                }
            } else if known.contains(&key.as_str()) || (kind.is_image() && key.starts_with("annotation")) {
                own.push((key, value));
            } else {
                let known = match known.is_empty() {
                    true => "it has none".to_owned(),
                    false => format!("it has {}", known.join(", ")),
                };
                let annotations = if kind.is_image() { ", annotation.KEY" } else { "" };
                return Err(bad(format!("type={word} has no attribute `{key}`; {known}{annotations}")));
            }
        }
        Ok(Spec { text: text.to_owned(), kind, attributes: own })
    }

    /// Makes an error about it.
    pub fn bad(&self, why: impl std::fmt::Display) -> CommandError {
        CommandError::usage(format!("bad output `{}`: {why}", self.text))
    }

    /// Returns an attribute; the last one counts.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.attributes.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Returns an attribute that is true or false, as Go reads it; empty is true.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, CommandError> {
        match self.get(key) {
            None => Ok(None),
            Some("" | "1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
            Some(other) => Err(self.bad(format!("{key} is true or false, not `{other}`"))),
        }
    }

    /// Returns all attributes.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(Type, Vec<String>, usize), String> {
        let mut notes = Vec::new();
        let spec = Spec::parse(text, &mut notes).map_err(|error| error.text())?;
        let attributes = spec.attributes().map(|(key, value)| format!("{key}={value}")).collect();
        Ok((spec.kind, attributes, notes.len()))
    }

    fn check(text: &str, kind: Type, attributes: &[&str], notes: usize) {
        let own = attributes.iter().map(|a| (*a).to_owned()).collect();
        assert_eq!(parsed(text), Ok((kind, own, notes)), "{text}");
    }

    #[test]
    fn outputs_are_read() {
        check("out/dir", Type::Local, &["dest=out/dir"], 0);
        check("-", Type::Tar, &["dest=-"], 0);
        check("type=oci,dest=a.tar", Type::Oci, &["dest=a.tar"], 0);
        check("type=image,\"name=a,b\",push=true", Type::Image, &["name=a,b", "push=true"], 0);
        check("type=image,unpack=true,store=false,name-canonical=", Type::Image, &[], 3);
        check("type=registry,unpack=false", Type::Registry, &[], 0);
        check("TYPE=oci,DEST=A", Type::Oci, &["dest=A"], 0);
        check("type=oci,annotation.Key=V", Type::Oci, &["annotation.Key=V"], 0);
        check("type=cacheonly", Type::CacheOnly, &[], 0);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (bad, expect) in [
            ("", "it is empty"),
            ("dest=x", "it has no type"),
            ("type=zip,dest=x", "the types are local, tar, oci, docker, image, registry, cacheonly"),
            ("type=oci,dest", "`dest` is no KEY=VALUE"),
            ("type=oci,nope=1", "type=oci has no attribute `nope`; it has dest, tar, compression"),
            ("type=local,compression=gzip", "it has dest, mode, platform-split\n"),
            ("type=local,unpack=true", "no attribute `unpack`"),
            ("type=cacheonly,dest=x", "it has none"),
            ("type=oci,\"dest=x", "a quote is not closed"),
        ] {
            let error = parsed(bad).unwrap_err();
            assert!(error.contains(expect), "{bad}: {error}");
        }
    }
}
