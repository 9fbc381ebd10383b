//! Files that the same COPY wrote before: linked from its last layer instead of written again.
//!
//! Only where a copy would be no different: the same path in the layer, bytes, mode, owner, time, and
//! no attributes (docs/decisions/018-unchanged-files-are-linked.md). What two layers share must never
//! change in place: nothing here or later in a copy touches a file that was linked, save to take
//! its name away.

use std::ffi::OsStr;
use std::io;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use crate::context::Entry;
use crate::image::FileDigest;
use crate::store::CopiedFile;
use crate::sys::Stat;
use crate::sys::root_dir::stat_at;

use super::Copier;
use super::CopyError;
use super::place::Place;

impl Copier<'_> {
    /// Links a file from the earlier layer; false where it must be copied.
    ///
    /// What the source holds now does not matter: the digest says what it held when it was selected.
    pub(super) fn link_earlier(
        &mut self,
        entry: &Entry,
        digest: &FileDigest,
        place: &Place,
        name: &OsStr,
    ) -> Result<bool, CopyError> {
        let (Some(earlier), Some(from)) = (&mut self.aids.earlier, &place.earlier) else { return Ok(false) };
        let Some(listed) = earlier.find(&place.path, name) else { return Ok(false) };
        let wanted = self.listed(entry, digest, place);
        if wanted != Some(listed) || !stat_at(from, name).is_ok_and(|stat| is_as_listed(&stat, &listed)) {
            return Ok(false);
        }
        let make = || rustix::fs::linkat(from, name, &place.upper, name, AtFlags::empty());
        match self.make(place, name, "link", make) {
            Ok(()) => {
                self.aids.files.push(&place.path, name, listed);
                Ok(true)
            }
            Err(CopyError::Write { source, .. }) if a_copy_will_do(&source) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Notes a file that was written, for the next COPY like this one.
    pub(super) fn list(&mut self, entry: &Entry, digest: &FileDigest, place: &Place, name: &OsStr) {
        if let Some(file) = self.listed(entry, digest, place) {
            self.aids.files.push(&place.path, name, file);
        }
    }

    /// Returns what a copy of a file is; `None` for one that is never linked.
    fn listed(&self, entry: &Entry, digest: &FileDigest, place: &Place) -> Option<CopiedFile> {
        // Files with several names are linked among themselves.
        let several = self.several.contains(&(entry.stat.dev, entry.stat.ino));
        if !place.plain || several || !entry.xattrs.is_empty() {
            return None;
        }
        let owner = self.owner_of(&entry.stat).0;
        Some(CopiedFile {
            digest: *digest,
            size: entry.stat.size,
            mtime: self.time_of(&entry.stat),
            mode: self.mode_of(&entry.stat),
            uid: owner.uid,
            gid: owner.gid,
        })
    }
}

/// Tells whether a file of the earlier layer is what its list says, as far as a look at it shows.
fn is_as_listed(stat: &Stat, listed: &CopiedFile) -> bool {
    stat.is_file()
        && stat.size == listed.size
        && (stat.mode, stat.uid, stat.gid) == (listed.mode, listed.uid, listed.gid)
        && (stat.mtime_seconds, stat.mtime_nanos) == listed.mtime
}

/// Tells whether a link was refused for a reason that a copy does not meet: too many links, another
/// filesystem, links not permitted, the file gone.
fn a_copy_will_do(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(Errno::MLINK | Errno::XDEV | Errno::PERM | Errno::NOENT | Errno::OPNOTSUPP)
    )
}
