//! The metadata of a layer's top directory.
//!
//! Overlayfs shows the top directory of the uppermost layer, so each new
//! upper directory takes over what the root below has. Whether a step changed
//! it can be told only by remembering what it started with: a digest of that
//! is kept in an attribute in overlayfs's own name space, which no layer ever
//! carries to the outside. A layer without the mark started with 0755 0:0.

use std::os::fd::AsFd;

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::image::{Digest, Hasher};
use crate::sys::root_dir::{fstat, open_no_follow};
use crate::sys::xattr;
use crate::sys::{OverlayXattrs, RootDir, Stat};

use super::LayerError;
use super::walk::{Xattrs, read_xattrs};

/// Gives a new layer's top directory mode, owner and attributes of the root below it.
///
/// `below` is the merged view the layer will lie on, `None` where there is
/// nothing: then it becomes 0755 0:0. Call it once, on the empty directory.
pub fn inherit_root(
    below: Option<&RootDir>,
    upper: &RootDir,
    marks: OverlayXattrs,
) -> Result<(), LayerError> {
    let change = |action| LayerError::file(action, b".");
    let to = open_top(upper)?;
    let mut stat = fstat(&to).map_err(change("read"))?;
    (stat.mode, stat.uid, stat.gid) = (0o755, 0, 0);
    let mut xattrs = Vec::new();
    if let Some(below) = below {
        let from = open_top(below)?;
        let seen = fstat(&from).map_err(change("read"))?;
        (stat.mode, stat.uid, stat.gid) = (seen.mode, seen.uid, seen.gid);
        xattrs = read_xattrs(xattr::of(&from), marks, b".")?.portable;
    }
    let owner = (Some(Uid::from_raw(stat.uid)), Some(Gid::from_raw(stat.gid)));
    match rustix::fs::fchown(&to, owner.0, owner.1) {
        // An owner that the user namespace does not have cannot be taken over.
        Ok(()) | Err(Errno::INVAL | Errno::PERM) => {}
        Err(e) => return Err(change("change the owner of")(e.into())),
    }
    rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.mode))
        .map_err(|e| change("change the mode of")(e.into()))?;
    for (name, value) in &xattrs {
        xattr::try_set(xattr::of(&to), name, value).map_err(change("set an attribute of"))?;
    }
    // What could not be set is no change of the layer's: the mark says what is there.
    let xattrs = read_xattrs(xattr::of(&to), marks, b".")?.portable;
    let stat = fstat(&to).map_err(change("read"))?;
    let mark = fingerprint(&stat, &xattrs);
    if mark == default_fingerprint() {
        return Ok(());
    }
    xattr::set(xattr::of(&to), mark_name(marks).as_bytes(), mark.as_bytes())
        .map_err(change("set an attribute of"))
}

/// Tells whether a layer's top directory differs from what it started with.
pub(super) fn root_changed(stat: &Stat, xattrs: &Xattrs) -> bool {
    let now = fingerprint(stat, &xattrs.portable);
    match &xattrs.root_mark {
        Some(mark) => mark[..] != now.as_bytes()[..],
        None => now != default_fingerprint(),
    }
}

/// Returns the name of the attribute that remembers the start.
pub(super) fn mark_name(marks: OverlayXattrs) -> String {
    format!("{}rbuild.root", marks.prefix())
}

fn open_top(root: &RootDir) -> Result<std::os::fd::OwnedFd, LayerError> {
    open_no_follow(root.as_fd(), ".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
        .map_err(LayerError::file("open", b"."))
}

fn default_fingerprint() -> Digest {
    fingerprint_of(0o755, 0, 0, &[])
}

fn fingerprint(stat: &Stat, xattrs: &[(Vec<u8>, Vec<u8>)]) -> Digest {
    fingerprint_of(stat.mode, stat.uid, stat.gid, xattrs)
}

fn fingerprint_of(mode: u32, uid: u32, gid: u32, xattrs: &[(Vec<u8>, Vec<u8>)]) -> Digest {
    let mut hasher = Hasher::new();
    for number in [mode, uid, gid] {
        hasher.update(&number.to_le_bytes());
    }
    for (name, value) in xattrs {
        for bytes in [name, value] {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        }
    }
    hasher.finish()
}
