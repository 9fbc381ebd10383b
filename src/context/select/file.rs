//! One file of a selection that is no directory: what counts of it, its bytes' digest included.
//!
//! Not here: which files there are (`walk`), and large files, which all threads hash together (`hash`).

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::FileType;

use crate::image::FileDigest;
use crate::sys::Stat;
use crate::sys::root_dir::read_link_at;
use crate::sys::xattr::Target;

use super::super::digest_cache::Known;
use super::super::digest_cache::Lookups;
use super::super::error::ContextError;
use super::super::filter::Filter;
use super::super::filter::Verdict;
use super::super::hash::LARGE;
use super::super::hash::hash_file;
use super::super::selection::Entry;
use super::super::selection::EntryKind;
use super::super::tree::Tree;
use super::read;
use super::xattrs;

/// What is the same for all files of a selection.
pub(super) struct Scope<'a> {
    pub tree: &'a Tree,
    pub exclude: Option<Filter>,
}

impl Scope<'_> {
    /// Says what the tree's rules say of a path.
    pub fn ignored(&self, path: &Path, is_dir: bool) -> Verdict {
        match &self.tree.ignore {
            Some(filter) if !path.as_os_str().is_empty() => filter.verdict(path, is_dir),
            _ => Verdict::In,
        }
    }
}

/// An entry, and where its digest is from.
pub(super) struct Made {
    pub entry: Entry,
    pub origin: Origin,
}

/// Where the digest of an entry is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was known, or the entry has none.
    Known,
    /// It was computed just now.
    Hashed,
    /// It is still to be computed.
    Large,
}

/// Reads files; each thread has its own.
pub(super) struct FileReader<'a> {
    scope: &'a Scope<'a>,
    known: Option<Lookups>,
    buffer: Vec<u8>,
}

impl<'a> FileReader<'a> {
    pub fn new(scope: &'a Scope<'a>) -> FileReader<'a> {
        let known = scope.tree.digests.as_ref().map(|cache| cache.lookups());
        FileReader { scope, known, buffer: Vec::new() }
    }

    /// Makes the entry of `name` in the open directory `dir`; `at` is its path in the tree.
    pub fn read(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        at: &Path,
        lands: &Path,
        stat: Stat,
    ) -> Result<Made, ContextError> {
        let owners = self.scope.tree.owners;
        let special = |kind| Err(ContextError::Special { path: at.to_owned(), kind });
        let kind = match stat.kind {
            FileType::RegularFile => return self.regular(dir, name, at, lands, stat),
            FileType::Symlink => EntryKind::Link(read_link_at(dir, name).map_err(|e| read(at, e))?),
            FileType::Fifo => EntryKind::Fifo,
            FileType::CharacterDevice if owners => EntryKind::CharDevice,
            FileType::BlockDevice if owners => EntryKind::BlockDevice,
            FileType::CharacterDevice | FileType::BlockDevice => return special("device"),
            FileType::Socket => return special("socket"),
            FileType::Directory | FileType::Unknown => return Err(ContextError::Changing(at.to_owned())),
        };
        let xattrs = xattrs(Target::Name(dir, name)).map_err(|e| read(at, e))?;
        let entry = Entry { path: lands.to_owned(), stat, kind, xattrs, on_the_way: false };
        Ok(Made { entry, origin: Origin::Known })
    }

    fn regular(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        at: &Path,
        lands: &Path,
        stat: Stat,
    ) -> Result<Made, ContextError> {
        let by_name = || xattrs(Target::Name(dir, name)).map_err(|e| read(at, e));
        let made = |digest, stat, xattrs, origin| {
            let kind = EntryKind::File(digest);
            Made { entry: Entry { path: lands.to_owned(), stat, kind, xattrs, on_the_way: false }, origin }
        };
        if let Some(Known { digest, has_xattrs }) =
            self.known.as_mut().and_then(|known| known.find(at, &stat))
        {
            // Setting an attribute changes the ctime.
            let xattrs = if has_xattrs { by_name()? } else { Vec::new() };
            return Ok(made(digest, stat, xattrs, Origin::Known));
        }
        if let Some(cache) = &self.scope.tree.digests {
            cache.begin();
        }
        if stat.size > LARGE {
            return Ok(made(FileDigest::from_bytes([0; 32]), stat, by_name()?, Origin::Large));
        }
        let (digest, stat, file) = hash_file(dir, name, at, &mut self.buffer)?;
        let xattrs = xattrs(Target::Fd(file.as_fd())).map_err(|e| read(at, e))?;
        Ok(made(digest, stat, xattrs, Origin::Hashed))
    }
}
