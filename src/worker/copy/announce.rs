//! Tells who digests the layer meanwhile what is finished, and what becomes of what is not.
//!
//! What is told may turn out otherwise: then there is no digest, and nothing is lost but time
//! (`layer::Follower`).

use std::ffi::OsStr;

use rustix::fs::FileType;

use crate::context::Entry;
use crate::image::FileDigest;
use crate::layer::Announced;
use crate::layer::Becomes;
use crate::layer::Metadata;
use crate::layer::Writing;
use crate::sys::users::Owner;

use super::Copier;
use super::place::Place;

impl Copier<'_> {
    /// Tells who digests the layer that a directory was made, and what it becomes.
    ///
    /// `entry` is what it is a copy of; `None` for one that has its metadata already, but for the time.
    pub(super) fn announce_directory(
        &mut self,
        parent: &Place,
        name: &OsStr,
        place: &Place,
        entry: Option<&Entry>,
    ) {
        if self.aids.follower.is_none() {
            return;
        }
        let becomes = match entry {
            Some(entry) if !keeps_base(entry, place) => {
                let Owner { uid, gid } = self.owner_of(&entry.stat).0;
                let mode = self.mode_of(&entry.stat);
                let rest = Metadata { mode, uid, gid, xattrs: entry.xattrs.clone() };
                Some(Becomes { mtime: self.time_of(&entry.stat), rest: Some(rest) })
            }
            // A mode that changes later does not fit at the end.
            _ => {
                let own = self.restore.iter().find(|(path, _)| *path == place.path);
                own.map(|(_, time)| Becomes { mtime: self.clamped(*time), rest: None })
            }
        };
        match (&mut self.aids.follower, becomes) {
            (Some(follower), Some(becomes)) => follower.directory(&parent.path, name, becomes),
            (Some(follower), None) => follower.give_up(),
            (None, _) => {}
        }
    }

    /// Tells who digests the layer that something is as it will stay.
    pub(super) fn announce(&mut self, place: &Place, name: &OsStr, file: Announced) {
        if let Some(follower) = &mut self.aids.follower {
            follower.file(&place.path, name, file);
        }
    }

    /// Tells who digests the layer what a file will be that is about to be written.
    pub(super) fn announce_large(
        &mut self,
        entry: &Entry,
        file: Announced,
        place: &Place,
        name: &OsStr,
    ) -> Option<Writing> {
        let Owner { uid, gid } = self.owner_of(&entry.stat).0;
        let (mode, mtime) = (self.mode_of(&entry.stat), self.time_of(&entry.stat));
        let rest = Some(Metadata { mode, uid, gid, xattrs: entry.xattrs.clone() });
        let follower = self.aids.follower.as_mut()?;
        follower.large(&place.path, name, file, Becomes { mtime, rest })
    }
}

/// Tells whether a directory that only leads to what is copied keeps what it has in the base.
pub(super) fn keeps_base(entry: &Entry, place: &Place) -> bool {
    entry.on_the_way && place.base.is_some()
}

/// Announces a regular file with one name.
pub(super) fn regular_file(size: u64, digest: Option<FileDigest>) -> Announced {
    Announced { kind: FileType::RegularFile, several: false, size, digest }
}
