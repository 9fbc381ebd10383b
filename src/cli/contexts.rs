//! `--build-context NAME=VALUE`: what a named context stands for.
//!
//! Not here: reading it (`build`).

use std::path::PathBuf;

use super::build::is_remote;
use super::error::CommandError;
use crate::build::NamedContextFrom;
use crate::image::Reference;

/// Parses `NAME=VALUE`.
pub fn parse(text: &str) -> Result<(String, NamedContextFrom), CommandError> {
    let bad = |why: String| {
        CommandError::usage(format!("bad --build-context `{text}`: {why}")).hint(
            "it is written NAME=DIRECTORY, NAME=URL, NAME=docker-image://REFERENCE or NAME=oci-layout://PATH[:TAG|@DIGEST]",
        )
    };
    let (name, value) = match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => (name, value),
        _ => return Err(bad("it needs a name and a value".to_owned())),
    };
    if name.eq_ignore_ascii_case("scratch") || name == "context" {
        return Err(bad(format!("the name `{name}` is taken")));
    }
    let context = if let Some(reference) = value.strip_prefix("docker-image://") {
        if let Err(error) = reference.parse::<Reference>() {
            return Err(bad(error.to_string()));
        }
        NamedContextFrom::Image(reference.to_owned())
    } else if let Some(rest) = value.strip_prefix("oci-layout://") {
        let (path, reference) = layout(rest);
        NamedContextFrom::OciLayout { path, reference }
    } else if is_remote(value) {
        NamedContextFrom::Remote(value.to_owned())
    } else {
        let path = PathBuf::from(value);
        if !path.is_dir() {
            return Err(bad(format!("`{value}` is no directory")));
        }
        NamedContextFrom::Directory(path)
    };
    Ok((name.to_owned(), context))
}

/// Takes `PATH[:TAG|@DIGEST]` apart; the reference is empty where there is none.
fn layout(text: &str) -> (PathBuf, String) {
    if let Some((path, digest)) = text.rsplit_once('@')
        && digest.contains(':')
    {
        return (path.into(), digest.to_owned());
    }
    match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') && !path.is_empty() => (path.into(), tag.to_owned()),
        _ => (text.into(), String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_told_apart() {
        let check = |text: &str, expect: NamedContextFrom| {
            assert_eq!(parse(text).unwrap(), ("n".to_owned(), expect), "{text}");
        };
        check("n=/tmp", NamedContextFrom::Directory("/tmp".into()));
        check("n=https://h/a.tar", NamedContextFrom::Remote("https://h/a.tar".into()));
        check("n=docker-image://alpine:3", NamedContextFrom::Image("alpine:3".into()));
        let layout = |path: &str, reference: &str| NamedContextFrom::OciLayout {
            path: path.into(),
            reference: reference.into(),
        };
        check("n=oci-layout:///a/b", layout("/a/b", ""));
        check("n=oci-layout://a/b:1", layout("a/b", "1"));
        check("n=oci-layout://a:5/b", layout("a:5/b", ""));
        check("n=oci-layout://a@sha256:00", layout("a", "sha256:00"));
        for bad in ["n", "=x", "n=", "n=/no/such", "n=docker-image://A", "scratch=/tmp", "context=/tmp"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
