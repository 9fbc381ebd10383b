//! The marks of a layer's directory: whiteouts and opaque directories, in the form its store has.
//!
//! With overlayfs's own form a whiteout is a character device 0:0 under the name it hides, and an opaque
//! directory has an extended attribute (kernel, overlayfs.rst, "whiteouts and opaque directories"). Where
//! a file system refuses those, as overlayfs itself does, marks are files as in a layer's tar (OCI
//! image-spec, layer.md, "Whiteouts"), which fuse-overlayfs knows, too. Readers are shown one form.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::dir::read_dir;
use super::overlay::OverlayXattrs;
use super::root_dir::{open_no_follow, stat_at};
use super::xattr;

/// What the name of a mark that is a file starts with.
pub const MARK_PREFIX: &[u8] = b".wh.";
/// The file that makes its directory opaque.
const OPAQUE_FILE: &str = ".wh..wh..opq";

/// The kind under which [`read_layer_dir`] lists a whiteout that is a file, with the name that it hides.
///
/// `read_dir` never returns it: it asks where the directory does not tell.
pub const WHITEOUT_FILE: FileType = FileType::Unknown;

/// Returns the names in an open directory of a layer, sorted by bytes, without marks that are files:
/// a whiteout among those is listed as [`WHITEOUT_FILE`] where the layer has no file of the name itself.
pub fn read_layer_dir(dir: impl AsFd, form: OverlayXattrs) -> io::Result<Vec<(OsString, FileType)>> {
    let mut entries = read_dir(dir)?;
    if form != OverlayXattrs::Files {
        return Ok(entries);
    }
    let is_mark = |name: &OsStr| name.as_bytes().starts_with(MARK_PREFIX);
    if !entries.iter().any(|(name, _)| is_mark(name)) {
        return Ok(entries);
    }
    let (marks, mut plain): (Vec<_>, Vec<_>) = entries.drain(..).partition(|(name, _)| is_mark(name));
    for (mark, _) in marks.iter().filter(|(mark, _)| mark != OPAQUE_FILE) {
        let hidden = OsStr::from_bytes(&mark.as_bytes()[MARK_PREFIX.len()..]);
        if let Err(at) = plain.binary_search_by(|(name, _)| name.as_os_str().cmp(hidden)) {
            plain.insert(at, (hidden.to_owned(), WHITEOUT_FILE));
        }
    }
    Ok(plain)
}

/// Tells whether an open directory of a layer hides all that lower layers have in it.
pub fn is_opaque(dir: impl AsFd, form: OverlayXattrs) -> io::Result<bool> {
    match form {
        OverlayXattrs::Files => exists(dir, OsStr::new(OPAQUE_FILE)),
        _ => Ok(xattr::get(xattr::of(&dir), form.opaque().as_bytes())?.is_some_and(|value| value == b"y")),
    }
}

/// Makes an open directory of a layer opaque.
pub fn make_opaque(dir: &OwnedFd, form: OverlayXattrs) -> io::Result<()> {
    match form {
        OverlayXattrs::Files => make_mark(dir, OsStr::new(OPAQUE_FILE)),
        _ => xattr::set(xattr::of(dir), form.opaque().as_bytes(), b"y"),
    }
}

/// Hides a name of lower layers; `AlreadyExists` where the layer has a file or whiteout of the name.
pub fn make_whiteout(dir: impl AsFd, name: &OsStr, form: OverlayXattrs) -> io::Result<()> {
    if form != OverlayXattrs::Files {
        return Ok(rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0)?);
    }
    if exists(&dir, name)? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    make_mark(dir, &mark_of(name))
}

/// Removes a whiteout; tells whether there was one.
pub fn remove_whiteout(dir: impl AsFd, name: &OsStr, form: OverlayXattrs) -> io::Result<bool> {
    let mark = mark_of(name);
    let name = match form {
        OverlayXattrs::Files => mark.as_os_str(),
        _ if is_whiteout(&dir, name, form)? => name,
        _ => return Ok(false),
    };
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT | Errno::NAMETOOLONG) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Tells whether a layer hides a name of lower layers by a whiteout.
pub fn is_whiteout(dir: impl AsFd, name: &OsStr, form: OverlayXattrs) -> io::Result<bool> {
    match form {
        OverlayXattrs::Files => exists(dir, &mark_of(name)),
        _ => match stat_at(dir, name) {
            Ok(stat) => Ok(stat.is_whiteout()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        },
    }
}

fn mark_of(name: &OsStr) -> OsString {
    let mut mark = OsString::from(".wh.");
    mark.push(name);
    mark
}

fn make_mark(dir: impl AsFd, mark: &OsStr) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE;
    open_no_follow(dir, mark, flags, Mode::empty()).map(drop)
}

fn exists(dir: impl AsFd, name: &OsStr) -> io::Result<bool> {
    match stat_at(dir, name) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(false)
        }
        // A name that is too long for a mark has none.
        Err(error) if error.raw_os_error() == Some(Errno::NAMETOOLONG.raw_os_error()) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(dir: &std::path::Path, form: OverlayXattrs) -> Vec<(String, bool)> {
        let entries = read_layer_dir(std::fs::File::open(dir).unwrap(), form).unwrap();
        entries.into_iter().map(|(n, kind)| (n.into_string().unwrap(), kind == WHITEOUT_FILE)).collect()
    }

    #[test]
    fn marks_that_are_files_are_seen_as_what_they_mean() {
        let outer = tempfile::tempdir().unwrap();
        let dir = OwnedFd::from(std::fs::File::open(outer.path()).unwrap());
        let form = OverlayXattrs::Files;
        for name in ["a", "z", "both"] {
            std::fs::write(outer.path().join(name), "").unwrap();
        }
        make_whiteout(&dir, OsStr::new("m"), form).unwrap();
        make_whiteout(&dir, OsStr::new("m"), form).unwrap();
        let error = make_whiteout(&dir, OsStr::new("both"), form).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        std::fs::write(outer.path().join(".wh.both"), "").unwrap();
        assert!(!is_opaque(&dir, form).unwrap());
        make_opaque(&dir, form).unwrap();
        assert!(is_opaque(&dir, form).unwrap());
        let expect = [("a", false), ("both", false), ("m", true), ("z", false)];
        assert_eq!(listed(outer.path(), form), expect.map(|(n, w)| (n.to_owned(), w)));
        assert!(is_whiteout(&dir, OsStr::new("m"), form).unwrap());
        assert!(remove_whiteout(&dir, OsStr::new("m"), form).unwrap());
        assert!(!remove_whiteout(&dir, OsStr::new("m"), form).unwrap());
        assert!(!is_whiteout(&dir, OsStr::new(&"l".repeat(255)), form).unwrap());
        // In overlayfs's own form such names are ordinary ones.
        assert!(listed(outer.path(), OverlayXattrs::User).contains(&(".wh.both".to_owned(), false)));
    }
}
