//! What a merged view lacks because an ordinary user could not put it on disk: devices, and owners
//! and attributes outside the user namespace.
//!
//! The blobs that the layers were unpacked from still say it. Read bottom up: what a layer hides of the
//! layers beneath it is forgotten. Paths are kept with NUL in the place of `/`, so that their order is
//! the order of a walk. Not here: the walk, and the tar that is written (`view`).

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::sys::root_dir::fstat;
use crate::sys::upper::is_whiteout;
use crate::sys::xattr::{self, Target};
use crate::sys::{OverlayXattrs, RootDir};

use super::LayerError;
use super::entry::{Entry, Kind, WHITEOUT_PREFIX};
use super::root::root_changed;
use super::tar_read::{EntryKind, Limits, TarEntry, TarReader};
use super::unpack::{LeftOut, clean};
use super::walk::read_xattrs;

/// So much is remembered at most; what is beyond it is counted only.
const MOST: usize = 300_000;

/// What is missing on disk, by path.
#[derive(Debug, Default)]
pub struct Missing {
    fixes: BTreeMap<Vec<u8>, Fix>,
    unknown: LeftOut,
}

/// What a file is in truth.
#[derive(Debug, Clone)]
pub(super) struct Fix {
    pub kind: Kind,
    /// Whether the file itself is missing, and not only something of it.
    pub is_missing: bool,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime_seconds: i64,
    pub mtime_nanos: u32,
    pub major: u32,
    pub minor: u32,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Fix {
    fn of(entry: &TarEntry, kind: Kind, is_missing: bool) -> Fix {
        let mut xattrs = portable(entry);
        xattrs.sort();
        Fix {
            kind,
            is_missing,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime_seconds: entry.mtime_seconds,
            mtime_nanos: entry.mtime_nanos,
            major: entry.major,
            minor: entry.minor,
            xattrs,
        }
    }

    /// Returns it as an entry of its own.
    pub fn entry<'a>(&'a self, path: &'a [u8]) -> Entry<'a> {
        Entry {
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime_seconds: self.mtime_seconds,
            mtime_nanos: self.mtime_nanos,
            major: self.major,
            minor: self.minor,
            xattrs: &self.xattrs,
            ..Entry::bare(self.kind, path)
        }
    }
}

/// Returns a path's place in the order of a walk.
pub(super) fn key_of(path: &[u8]) -> Vec<u8> {
    match path {
        b"." => Vec::new(),
        path => path.iter().map(|&byte| if byte == b'/' { 0 } else { byte }).collect(),
    }
}

/// Returns the path of such a place.
pub(super) fn path_of(key: &[u8]) -> Vec<u8> {
    match key {
        b"" => b".".to_vec(),
        key => key.iter().map(|&byte| if byte == 0 { b'/' } else { byte }).collect(),
    }
}

/// The attributes of an entry that a layer carries.
fn portable(entry: &TarEntry) -> Vec<(Vec<u8>, Vec<u8>)> {
    let carried = |(name, _): &&(Vec<u8>, Vec<u8>)| !xattr::is_overlay(name) && !xattr::is_of_host(name);
    entry.xattrs.iter().filter(carried).cloned().collect()
}

/// What a layer has in the place of a directory of the layers beneath it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum There {
    Nothing,
    Directory,
    /// A file, a whiteout, or a directory that shows nothing of those beneath.
    Hides,
}

impl Missing {
    /// Returns what cannot be told, because a layer's blob is not at hand or there is too much.
    pub fn unknown(&self) -> LeftOut {
        self.unknown
    }

    pub(super) fn fixes(&self) -> &BTreeMap<Vec<u8>, Fix> {
        &self.fixes
    }

    /// Adds the next layer, from the bottom up: its directory, what was left out of it, and its
    /// uncompressed tar if that is at hand (which is only read where something was left out).
    pub fn add_layer(
        &mut self,
        upper: &RootDir,
        marks: OverlayXattrs,
        left_out: LeftOut,
        tar: Option<impl Read>,
    ) -> Result<(), LayerError> {
        self.hide(upper, marks)?;
        if left_out == LeftOut::default() {
            return Ok(());
        }
        let Some(tar) = tar else {
            self.unknown.devices += left_out.devices;
            self.unknown.owners += left_out.owners;
            self.unknown.xattrs += left_out.xattrs;
            return Ok(());
        };
        let mut tar = TarReader::new(tar, Limits::default());
        while let Some(entry) = tar.next_entry()? {
            self.entry(upper, &entry, left_out.xattrs > 0)?;
        }
        Ok(())
    }

    fn entry(&mut self, upper: &RootDir, entry: &TarEntry, xattrs: bool) -> Result<(), LayerError> {
        let (parts, _) = clean(&entry.name);
        if parts.iter().any(|part| part.starts_with(WHITEOUT_PREFIX) || part.contains(&0)) {
            return Ok(());
        }
        let path = parts.join(&b'/');
        let key = key_of(&path);
        // A later entry of the same name takes the place of an earlier one.
        self.fixes.remove(&key);
        let on_disk = Path::new(OsStr::from_bytes(if path.is_empty() { b"." } else { &path }));
        let failed = || LayerError::file("read", &path);
        let there = upper.try_stat(on_disk, false).map_err(failed())?;
        let fix = match (entry.kind, there) {
            (EntryKind::CharDevice, None) => Fix::of(entry, Kind::CharDevice, true),
            (EntryKind::BlockDevice, None) => Fix::of(entry, Kind::BlockDevice, true),
            (EntryKind::HardLink, None) => {
                let target = key_of(&clean(&entry.link).0.join(&b'/'));
                match self.fixes.get(&target).filter(|fix| fix.is_missing) {
                    Some(device) => device.clone(),
                    None => return Ok(()),
                }
            }
            (_, None) | (EntryKind::HardLink, _) => return Ok(()),
            (kind, Some(stat)) => {
                let mut differs = (stat.uid, stat.gid) != (entry.uid, entry.gid);
                // Nobody sets attributes of links: they are not looked for.
                if xattrs && !differs && kind != EntryKind::Symlink {
                    let found = upper.open_at(on_disk, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty());
                    let fd = found.map_err(failed())?;
                    for (name, value) in &portable(entry) {
                        let there = xattr::get(Target::Path(fd.as_fd()), name).map_err(failed())?;
                        differs |= there.as_ref() != Some(value);
                    }
                }
                let kind = match kind {
                    EntryKind::File => Kind::File,
                    EntryKind::Directory => Kind::Directory,
                    EntryKind::Symlink => Kind::Symlink,
                    EntryKind::HardLink => Kind::HardLink,
                    EntryKind::CharDevice => Kind::CharDevice,
                    EntryKind::BlockDevice => Kind::BlockDevice,
                    EntryKind::Fifo => Kind::Fifo,
                };
                match differs {
                    true => Fix::of(entry, kind, false),
                    false => return Ok(()),
                }
            }
        };
        if self.fixes.len() >= MOST {
            self.unknown.devices += u64::from(fix.is_missing);
            self.unknown.owners += u64::from(!fix.is_missing);
            return Ok(());
        }
        self.fixes.insert(key, fix);
        Ok(())
    }

    /// Forgets what a layer hides of those beneath it.
    fn hide(&mut self, upper: &RootDir, marks: OverlayXattrs) -> Result<(), LayerError> {
        let mut seen: HashMap<Vec<u8>, There> = HashMap::new();
        let mut hidden = Vec::new();
        for key in self.fixes.keys() {
            if hides(upper, marks, key, &mut seen)? {
                hidden.push(key.clone());
            }
        }
        hidden.iter().for_each(|key| drop(self.fixes.remove(key)));
        Ok(())
    }
}

fn hides(
    upper: &RootDir,
    marks: OverlayXattrs,
    key: &[u8],
    seen: &mut HashMap<Vec<u8>, There>,
) -> Result<bool, LayerError> {
    let ends = key.iter().enumerate().filter(|&(_, &byte)| byte == 0).map(|(at, _)| at);
    for end in ends {
        let directory = &key[..end];
        let there = match seen.get(directory) {
            Some(&there) => there,
            None => {
                let there = look(upper, marks, &path_of(directory))?;
                seen.insert(directory.to_vec(), there);
                there
            }
        };
        match there {
            There::Nothing => return Ok(false),
            There::Hides => return Ok(true),
            There::Directory => {}
        }
    }
    if key.is_empty() {
        // The top directory is in every layer, mostly as it is in the one beneath.
        let fd = upper.open_at(Path::new("."), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
        let fd = fd.map_err(LayerError::file("open", b"."))?;
        let stat = fstat(&fd).map_err(LayerError::file("read", b"."))?;
        return Ok(root_changed(&stat, &read_xattrs(xattr::of(&fd), marks, b".")?));
    }
    Ok(look(upper, marks, &path_of(key))? != There::Nothing)
}

fn look(upper: &RootDir, marks: OverlayXattrs, path: &[u8]) -> Result<There, LayerError> {
    let on_disk = Path::new(OsStr::from_bytes(path));
    let failed = || LayerError::file("read", path);
    let Some(stat) = upper.try_stat(on_disk, false).map_err(failed())? else {
        let hides = marks == OverlayXattrs::Files
            && match upper.parent_and_name(on_disk) {
                Ok((dir, name)) => is_whiteout(&dir, &name, marks).map_err(failed())?,
                Err(_) => false,
            };
        return Ok(if hides { There::Hides } else { There::Nothing });
    };
    if !stat.is_dir() {
        return Ok(There::Hides);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let fd = upper.open_at(on_disk, flags, Mode::empty()).map_err(LayerError::file("open", path))?;
    match read_xattrs(xattr::of(&fd), marks, path)?.opaque {
        true => Ok(There::Hides),
        false => Ok(There::Directory),
    }
}
