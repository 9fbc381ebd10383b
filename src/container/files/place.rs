//! Where `cp` puts what it copies, and under which name: docker's rules. Pure.
//!
//! docs.docker.com, "docker container cp": what happens depends on whether the source is a file or a directory,
//! whether it ends in `/.`, and on what the destination is.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Why docker refuses a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CopyRule {
    #[error("cannot copy directory")]
    DirectoryOverFile,
    #[error("no such directory")]
    NoSuchDirectory,
}

/// Where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The directory, as the destination says it.
    pub directory: OsString,
    /// The name in it; `.` for the contents of a directory.
    pub name: OsString,
}

/// Splits a path into the directory and the last name, which is `.` where it ends in `/` or `/.`.
pub fn split(path: &OsStr) -> (OsString, OsString) {
    let bytes = path.as_bytes();
    if bytes.ends_with(b"/") || bytes.ends_with(b"/.") || matches!(bytes, b"." | b"") {
        return (plain(bytes), OsString::from("."));
    }
    if bytes == b".." || bytes.ends_with(b"/..") {
        return (path.to_owned(), OsString::from("."));
    }
    match bytes.iter().rposition(|byte| *byte == b'/') {
        Some(0) => (OsString::from("/"), OsString::from_vec(bytes[1..].to_vec())),
        Some(at) => (plain(&bytes[..at]), OsString::from_vec(bytes[at + 1..].to_vec())),
        None => (OsString::from("."), path.to_owned()),
    }
}

/// Takes off slashes and dots at the end.
fn plain(mut bytes: &[u8]) -> OsString {
    while bytes.len() > 1 {
        bytes = match bytes.strip_suffix(b"/.").or(bytes.strip_suffix(b"/")) {
            Some(rest) => rest,
            None => break,
        };
    }
    match bytes {
        b"" => OsString::from("/"),
        bytes => OsString::from_vec(bytes.to_vec()),
    }
}

/// Returns the name under which a source is copied into a directory.
fn name_of(source: &OsStr) -> OsString {
    let bytes = source.as_bytes();
    if bytes.ends_with(b"/.") || bytes == b"." {
        return OsString::from(".");
    }
    let plain = plain(bytes);
    match split(&plain) {
        (_, name) if plain.as_bytes() != b"/" => name,
        _ => OsString::from("."),
    }
}

/// Tells where a source goes: `is_directory` says what it is, `there` whether the destination exists, and is
/// a directory.
pub fn place(
    source: &OsStr,
    is_directory: bool,
    destination: &OsStr,
    there: Option<bool>,
) -> Result<Target, CopyRule> {
    let bytes = destination.as_bytes();
    let asserts_directory = bytes.ends_with(b"/") || bytes.ends_with(b"/.") || bytes == b".";
    match there {
        Some(true) => Ok(Target { directory: plain(bytes), name: name_of(source) }),
        Some(false) if is_directory => Err(CopyRule::DirectoryOverFile),
        None if !is_directory && asserts_directory => Err(CopyRule::NoSuchDirectory),
        _ => {
            let (directory, name) = split(&plain(bytes));
            Ok(Target { directory, name })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, is_dir: bool, destination: &str, there: Option<bool>, expect: Result<&str, &str>) {
        let found = place(OsStr::new(source), is_dir, OsStr::new(destination), there);
        let found = found
            .map(|target| format!("{} {}", target.directory.display(), target.name.display()))
            .map_err(|error| error.to_string());
        assert_eq!(found.as_deref().map_err(String::as_str), expect, "{source} {destination}");
    }

    #[test]
    fn a_file_goes_where_docker_puts_it() {
        check("/a/f", false, "/d", Some(true), Ok("/d f"));
        check("/a/f", false, "/d/", Some(true), Ok("/d f"));
        check("/a/f", false, "/d/g", Some(false), Ok("/d g"));
        check("/a/f", false, "/d/g", None, Ok("/d g"));
        check("f", false, "g", None, Ok(". g"));
        check("f", false, "/g", None, Ok("/ g"));
        check("f", false, "/g/", None, Err("no such directory"));
        check("f", false, ".", Some(true), Ok(". f"));
        check("f", false, "..", Some(true), Ok(".. f"));
    }

    #[test]
    fn a_directory_goes_where_docker_puts_it() {
        check("/a/d", true, "/x", Some(true), Ok("/x d"));
        check("/a/d/", true, "/x", Some(true), Ok("/x d"));
        check("/a/d/.", true, "/x/", Some(true), Ok("/x ."));
        check(".", true, "/x", Some(true), Ok("/x ."));
        check("/", true, "/x", Some(true), Ok("/x ."));
        check("/a/d", true, "/x/new", None, Ok("/x new"));
        check("/a/d/.", true, "/x/new/", None, Ok("/x new"));
        check("/a/d", true, "/x/file", Some(false), Err("cannot copy directory"));
    }

    #[test]
    fn paths_are_split_where_the_last_name_begins() {
        let check = |path: &str, dir: &str, name: &str| {
            assert_eq!(split(OsStr::new(path)), (OsString::from(dir), OsString::from(name)), "{path}");
        };
        check("/a/b", "/a", "b");
        check("/a/b/", "/a/b", ".");
        check("/a/b/.", "/a/b", ".");
        check("/a", "/", "a");
        check("a", ".", "a");
        check("/", "/", ".");
        check("", "/", ".");
        check("a/..", "a/..", ".");
    }
}
