//! `--cache-from` and `--cache-to`: the words of BuildKit's users to what is meant.
//!
//! Not here: reading and writing caches (`remote_cache`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use super::error::CommandError;
use crate::content::Packing;
use crate::image::{Digest, Reference, is_tag};
use crate::layer::Compression;
use crate::plan::graph::BuildArgs;
use crate::remote_cache::{Export, ExportTo, ImportFrom, Mode};

/// The argument of a build that asks for a cache in the image, as BuildKit's users know it.
const INLINE_ARGUMENT: &str = "BUILDKIT_INLINE_CACHE";

/// The options.
#[derive(Debug, Default, Args)]
pub struct CacheArgs {
    /// Take cached steps from elsewhere, too: an image or a cache in a registry, or
    /// type=registry,ref=REFERENCE or type=local,src=DIR[,tag=TAG][,digest=DIGEST]
    #[arg(long, value_name = "FROM")]
    pub cache_from: Vec<String>,
    /// Write the cache elsewhere, too: type=registry,ref=REFERENCE, type=local,dest=DIR or type=inline
    /// (into the image), with `,mode=max` the layers of all steps
    #[arg(long, value_name = "TO")]
    pub cache_to: Vec<String>,
}

impl CacheArgs {
    /// Returns the caches to read and those to write.
    pub fn parse(&self, build_args: &BuildArgs) -> Result<(Vec<ImportFrom>, Vec<Export>), CommandError> {
        let mut from = Vec::new();
        for text in &self.cache_from {
            from.extend(import(text)?);
        }
        let mut to = self.cache_to.iter().map(|text| export(text)).collect::<Result<Vec<_>, _>>()?;
        let asked =
            build_args.get(INLINE_ARGUMENT).is_some_and(|value| !["", "0", "false"].contains(&&**value));
        if asked && !to.iter().any(|export| export.to == ExportTo::Inline) {
            to.push(export("type=inline")?);
        }
        Ok((from, to))
    }
}

/// The `name=value` pairs of one option.
struct Attributes<'a> {
    option: &'static str,
    text: &'a str,
    values: BTreeMap<String, String>,
}

impl<'a> Attributes<'a> {
    fn parse(option: &'static str, text: &'a str) -> Result<Attributes<'a>, CommandError> {
        let mut values = BTreeMap::new();
        for field in text.split(',') {
            let (name, value) = field.split_once('=').ok_or_else(|| {
                CommandError::usage(format!("bad {option} `{text}`: `{field}` is not NAME=VALUE"))
            })?;
            values.insert(name.trim().to_ascii_lowercase(), value.to_owned());
        }
        Ok(Attributes { option, text, values })
    }

    fn bad(&self, why: &str) -> CommandError {
        CommandError::usage(format!("bad {} `{}`: {why}", self.option, self.text))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        self.values.remove(name)
    }

    fn need(&mut self, name: &str) -> Result<String, CommandError> {
        self.take(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| self.bad(&format!("it has no `{name}`")))
    }

    fn flag(&mut self, name: &str) -> Result<Option<bool>, CommandError> {
        match self.take(name).as_deref() {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => Err(self.bad(&format!("`{name}` is true or false, not `{other}`"))),
        }
    }

    fn reference(&mut self) -> Result<Reference, CommandError> {
        let text = self.need("ref")?;
        text.parse().map_err(|e| self.bad(&format!("`{text}` is not a reference: {e}")))
    }

    fn tag(&mut self) -> Result<String, CommandError> {
        let tag = self.take("tag").unwrap_or_else(|| "latest".to_owned());
        match is_tag(&tag) {
            true => Ok(tag),
            false => Err(self.bad(&format!("`{tag}` is not a tag"))),
        }
    }

    fn end(self) -> Result<(), CommandError> {
        match self.values.keys().next() {
            None => Ok(()),
            Some(name) => Err(self.bad(&format!("`{name}` is not known here"))),
        }
    }

    fn no_such_type(&self, kind: &str, known: &str) -> CommandError {
        match kind {
            "gha" | "s3" | "azblob" => self
                .bad(&format!("the type `{kind}` is not supported yet"))
                .hint(format!("there are {known}")),
            _ => self.bad(&format!("there is no type `{kind}`")).hint(format!("there are {known}")),
        }
    }
}

/// Parses one `--cache-from`; without `=` it names images, with commas between them.
fn import(text: &str) -> Result<Vec<ImportFrom>, CommandError> {
    const OPTION: &str = "--cache-from";
    if !text.contains('=') {
        let one = |text: &str| match text.parse() {
            Ok(reference) => Ok(ImportFrom::Registry(reference)),
            Err(e) => Err(CommandError::usage(format!("bad {OPTION} `{text}`: {e}"))),
        };
        return text.split(',').map(one).collect();
    }
    let mut given = Attributes::parse(OPTION, text)?;
    let from = match given.need("type")?.as_str() {
        "registry" => ImportFrom::Registry(given.reference()?),
        "local" => {
            let digest: Option<Digest> = match given.take("digest") {
                None => None,
                Some(text) => {
                    Some(text.parse().map_err(|e| given.bad(&format!("`{text}` is not a digest: {e}")))?)
                }
            };
            ImportFrom::Local { src: PathBuf::from(given.need("src")?), tag: given.tag()?, digest }
        }
        other => return Err(given.no_such_type(other, "registry and local")),
    };
    given.end()?;
    Ok(vec![from])
}

/// Parses one `--cache-to`; without `=` it names a reference.
fn export(text: &str) -> Result<Export, CommandError> {
    const OPTION: &str = "--cache-to";
    let written = match text.contains('=') {
        true => text.to_owned(),
        false => format!("type=registry,ref={text}"),
    };
    let mut given = Attributes::parse(OPTION, &written)?;
    let to = match given.need("type")?.as_str() {
        "registry" => ExportTo::Registry(given.reference()?),
        "local" => ExportTo::Local { dest: PathBuf::from(given.need("dest")?), tag: given.tag()? },
        "inline" => ExportTo::Inline,
        other => return Err(given.no_such_type(other, "registry, local and inline")),
    };
    if let ExportTo::Registry(reference) = &to
        && reference.digest().is_some()
    {
        return Err(given.bad("a cache is written under a tag, not a digest"));
    }
    let mode = match given.take("mode").as_deref() {
        None | Some("min") => Mode::Min,
        Some("max") if to == ExportTo::Inline => {
            return Err(given.bad("an image has the layers of its own steps only: it is always `mode=min`"));
        }
        Some("max") => Mode::Max,
        Some(other) => return Err(given.bad(&format!("`mode` is min or max, not `{other}`"))),
    };
    let compression = match given.take("compression").as_deref() {
        None | Some("gzip") => Compression::Gzip,
        Some("zstd") => Compression::Zstd,
        Some("uncompressed") => Compression::None,
        Some(other) => {
            let why = format!("`compression` is gzip, zstd or uncompressed, not `{other}`");
            return Err(given.bad(&why));
        }
    };
    let highest = if compression == Compression::Zstd { 22 } else { 9 };
    let level = match given.take("compression-level") {
        None => None,
        Some(text) => match text.parse::<i32>() {
            Ok(level) if (0..=highest).contains(&level) && compression != Compression::None => Some(level),
            _ => {
                let why = format!("`compression-level` is a number from 0 to {highest}, not `{text}`");
                return Err(given.bad(&why));
            }
        },
    };
    let force = given.flag("force-compression")?.unwrap_or(false);
    let ignore_error = given.flag("ignore-error")?.unwrap_or(false);
    for (name, why) in [
        ("image-manifest", "a cache is an image manifest here, which every registry keeps"),
        ("oci-mediatypes", "a cache has OCI's media types"),
    ] {
        if given.flag(name)? == Some(false) {
            return Err(given.bad(&format!("`{name}=false` is not supported: {why}")));
        }
    }
    given.end()?;
    Ok(Export { to, mode, packing: Packing { compression, level, force }, ignore_error })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(result: Result<impl std::fmt::Debug, CommandError>) -> String {
        match result {
            Ok(value) => format!("{value:?}"),
            Err(error) => format!("{} {}", error.message, error.hints.join(" ")),
        }
    }

    #[track_caller]
    fn from(text: &str, expect: &[&str]) {
        let found = match import(text) {
            Ok(all) => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(error) => shown(Err::<(), _>(error)),
        };
        assert!(expect.iter().all(|part| found.contains(part)), "{text}: {found}");
    }

    #[track_caller]
    fn to(text: &str, expect: &[&str]) {
        let found = shown(export(text));
        assert!(expect.iter().all(|part| found.contains(part)), "{text}: {found}");
    }

    #[test]
    fn caches_to_read() {
        from("app", &["app"]);
        from("app,host:5000/x:1", &["app", "host:5000/x:1"]);
        from("type=registry,ref=host:5000/x", &["host:5000/x"]);
        from("type=local,src=/c,tag=main", &["/c"]);
        assert_eq!(
            import("type=local,src=c").unwrap(),
            [ImportFrom::Local { src: "c".into(), tag: "latest".into(), digest: None }]
        );
        from("type=local,src=c,digest=x", &["is not a digest"]);
        from("type=local", &["no `src`"]);
        from("type=registry", &["no `ref`"]);
        from("type=registry,ref=A B", &["not a reference"]);
        from("type=registry,ref=a,x=1", &["`x` is not known"]);
        from("type=gha", &["not supported yet", "registry and local"]);
        from("type=s3,bucket=b", &["not supported yet"]);
        from("type=floppy", &["no type `floppy`"]);
        from("ref=a", &["no `type`"]);
        from("A B", &["bad --cache-from"]);
    }

    #[test]
    fn caches_to_write() {
        to("host/x:c", &["Registry", "Min", "Gzip", "ignore_error: false"]);
        to("type=registry,ref=x,mode=max,ignore-error=true", &["Max", "ignore_error: true"]);
        to("type=local,dest=d,compression=zstd,compression-level=19", &["Zstd", "Some(19)"]);
        to("type=local,dest=d,compression=uncompressed,force-compression=1", &["None", "force: true"]);
        to("type=inline", &["Inline"]);
        to("type=inline,mode=max", &["always `mode=min`"]);
        to("type=registry,ref=x,image-manifest=true,oci-mediatypes=true", &["Registry"]);
        to("type=registry,ref=x,image-manifest=false", &["not supported"]);
        to("type=registry,ref=x,oci-mediatypes=false", &["not supported"]);
        to("type=registry,ref=x,mode=most", &["min or max"]);
        to("type=registry,ref=x,compression=estargz", &["gzip, zstd or uncompressed"]);
        to("type=registry,ref=x,compression-level=10", &["from 0 to 9"]);
        to("type=local", &["no `dest`"]);
        to("type=azblob,name=x", &["not supported yet", "inline"]);
        to(&format!("type=registry,ref=x@sha256:{}", "0".repeat(64)), &["not a digest"]);
    }

    #[test]
    fn an_argument_asks_for_it_too() {
        let asked = |value: &str, to: &[&str]| {
            let args =
                CacheArgs { cache_to: to.iter().map(ToString::to_string).collect(), ..CacheArgs::default() };
            let build_args = BuildArgs::from([(INLINE_ARGUMENT.to_owned(), value.to_owned())]);
            args.parse(&build_args).unwrap().1.len()
        };
        assert_eq!((asked("1", &[]), asked("0", &[]), asked("true", &["type=inline"])), (1, 0, 1));
    }
}
