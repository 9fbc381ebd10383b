//! Online garbage collection: what no manifest needs goes, while clients push and pull.
//!
//! It begins at a moment when nobody adds anything. Looking takes no lock. What was found not to be needed is
//! removed under the exclusive lock, a few at a time, if it was not touched since the collection began, less the
//! time of grace: whoever came to rely on it meanwhile has touched it under the shared lock, and whoever comes
//! later finds it gone and is told so.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::FileType;

use crate::sys::lock::FileLock;

use super::super::StoreError;
use super::blobs::{blob_of, link_of};
use super::digest::ContentDigest;
use super::manifests::manifest_of;
use super::name::RepositoryName;
use super::{Repositories, is_absent, repository, touch_file};

/// How many files are removed before others get the lock.
const BATCH: usize = 64;

/// How long a file in `tmp/` can be of use to somebody.
const TEMPORARY: Duration = Duration::from_secs(24 * 3600);

/// What to collect.
#[derive(Debug, Clone)]
pub struct CollectOptions {
    /// Only tell.
    pub dry_run: bool,
    /// Whether manifests go that no tag leads to, by itself, through an index, or as their subject.
    pub delete_untagged: bool,
    /// How long what nothing needs is kept after somebody last relied on it.
    pub grace: Duration,
    /// How long an upload is kept that nobody goes on with.
    pub uploads: Duration,
}

/// What was removed, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    pub manifests: Vec<(RepositoryName, ContentDigest)>,
    pub blobs: Vec<ContentDigest>,
    pub uploads: usize,
    /// In bytes.
    pub freed: u64,
}

impl Repositories {
    /// Removes what nothing needs; waits while another collection is at it.
    ///
    /// A manifest that cannot be read ends it: what that needs is not known.
    pub fn collect(&self, options: &CollectOptions) -> Result<Collected, StoreError> {
        let path = self.base.join("gc.lock");
        let lock = FileLock::exclusive(&path).map_err(self.failed("lock", Path::new("gc.lock")))?;
        touch_file(lock.file()).map_err(self.failed("touch", Path::new("gc.lock")))?;
        // Whoever has touched what it relies on before this moment has said so in a manifest, too: nobody is between
        // the two now. Whoever comes later touches it later.
        let began = {
            let _lock = self.alone()?;
            SystemTime::now()
        };
        let cutoff = began.checked_sub(options.grace).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut collection = Collection { of: self, options, cutoff, collected: Collected::default() };
        let mut needed = BTreeSet::new();
        for name in self.all_repositories()? {
            collection.repository(&name, &mut needed)?;
        }
        collection.blobs(&needed)?;
        if !options.dry_run {
            self.clear_folders()?;
        }
        let (uploads, bytes) = self.clear_uploads(options.uploads, options.dry_run)?;
        collection.collected.uploads = uploads;
        collection.collected.freed += bytes;
        if !options.dry_run {
            self.clear_temporary()?;
        }
        Ok(collection.collected)
    }

    /// Returns when the last collection began, if there was one.
    pub fn last_collected(&self) -> Result<Option<SystemTime>, StoreError> {
        self.touched(Path::new("gc.lock"))
    }

    /// Removes the folders of repositories that nothing is in any more.
    fn clear_folders(&self) -> Result<(), StoreError> {
        // The longest first: what is inside before what it is in.
        for name in self.all_repositories()?.iter().rev() {
            let mut empty = Vec::new();
            for part in ["_layers", "_manifests", "_tags", "_referrers"] {
                self.empty_folders(&repository(name).join(part), &mut empty)?;
            }
            empty.push(repository(name));
            for batch in empty.chunks(BATCH) {
                // Who puts something into a folder makes it, under the shared lock.
                let _lock = self.alone()?;
                for path in batch {
                    match self.root.remove_dir(path) {
                        Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty || is_absent(&e) => {}
                        other => other.map_err(self.failed("remove", path))?,
                    }
                }
            }
        }
        Ok(())
    }

    /// Finds the folders below one, and itself, that hold no files; tells whether that holds for it.
    fn empty_folders(&self, path: &Path, found: &mut Vec<PathBuf>) -> Result<bool, StoreError> {
        let entries = match self.root.entries(path) {
            Ok(entries) => entries,
            Err(e) if is_absent(&e) => return Ok(true),
            Err(e) => return Err(self.failed("list", path)(e)),
        };
        let mut is_empty = true;
        for (name, kind) in entries {
            is_empty &= kind == FileType::Directory && self.empty_folders(&path.join(name), found)?;
        }
        if is_empty {
            found.push(path.to_owned());
        }
        Ok(is_empty)
    }

    fn clear_temporary(&self) -> Result<(), StoreError> {
        for name in self.names(Path::new("tmp"), FileType::RegularFile)? {
            let path = Path::new("tmp").join(name);
            let old = self.touched(&path)?.and_then(|time| time.elapsed().ok());
            if old.is_some_and(|old| old > TEMPORARY) {
                self.remove(&path)?;
            }
        }
        Ok(())
    }
}

struct Collection<'a> {
    of: &'a Repositories,
    options: &'a CollectOptions,
    cutoff: SystemTime,
    collected: Collected,
}

impl Collection<'_> {
    /// Looks at one repository; `needed` gets the blobs it goes on having.
    fn repository(
        &mut self,
        name: &RepositoryName,
        needed: &mut BTreeSet<ContentDigest>,
    ) -> Result<(), StoreError> {
        if self.options.delete_untagged {
            self.untagged(name)?;
        }
        let gone: BTreeSet<&ContentDigest> =
            self.collected.manifests.iter().filter(|(of, _)| of == name).map(|(_, digest)| digest).collect();
        let mut used = BTreeSet::new();
        for digest in self.of.manifests(name)? {
            if gone.contains(&digest) {
                continue;
            }
            if let Some((head, _)) = self.of.read_manifest(name, &digest)? {
                used.extend(head.blobs);
            }
        }
        let links = self.of.digests_in(&repository(name).join("_layers"))?;
        let (keep, candidates): (Vec<_>, Vec<_>) =
            links.into_iter().partition(|digest| used.contains(digest));
        needed.extend(keep);
        for batch in candidates.chunks(BATCH) {
            let _lock = self.of.alone()?;
            for digest in batch {
                let link = link_of(name, digest);
                match self.of.touched(&link)? {
                    Some(touched) if touched >= self.cutoff => {
                        needed.insert(digest.clone());
                    }
                    Some(_) if !self.options.dry_run => {
                        self.of.remove(&link)?;
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Removes the manifests of a repository that no tag leads to.
    fn untagged(&mut self, name: &RepositoryName) -> Result<(), StoreError> {
        let candidates = self.unreachable(name)?;
        for batch in candidates.chunks(BATCH) {
            let _lock = self.of.alone()?;
            // A tag may have come meanwhile, and an index with its tag.
            let still = self.unreachable(name)?;
            for digest in batch.iter().filter(|digest| still.contains(digest)) {
                let touched = self.of.touched(&manifest_of(name, digest))?;
                if touched.is_none_or(|touched| touched >= self.cutoff) {
                    continue;
                }
                if !self.options.dry_run {
                    self.of.remove_manifest(name, digest)?;
                }
                self.collected.manifests.push((name.clone(), digest.clone()));
            }
        }
        Ok(())
    }

    /// Lists the manifests that no tag leads to: not by itself, not through indexes, not as what they are about.
    fn unreachable(&self, name: &RepositoryName) -> Result<Vec<ContentDigest>, StoreError> {
        let mut heads = Vec::new();
        for digest in self.of.manifests(name)? {
            if let Some((head, _)) = self.of.read_manifest(name, &digest)? {
                heads.push((digest, head));
            }
        }
        let mut reached = BTreeSet::new();
        for tag in self.of.tags(name)?.unwrap_or_default() {
            reached.extend(self.of.tagged(name, &tag)?);
        }
        loop {
            let before = reached.len();
            for (digest, head) in &heads {
                if reached.contains(digest) {
                    reached.extend(head.manifests.iter().cloned());
                } else if head.subject.as_ref().is_some_and(|subject| reached.contains(subject)) {
                    reached.insert(digest.clone());
                }
            }
            if reached.len() == before {
                break;
            }
        }
        Ok(heads.into_iter().map(|(digest, _)| digest).filter(|digest| !reached.contains(digest)).collect())
    }

    /// Removes the blobs that no repository has.
    fn blobs(&mut self, needed: &BTreeSet<ContentDigest>) -> Result<(), StoreError> {
        let mut candidates = self.of.digests_in(Path::new("blobs"))?;
        candidates.retain(|digest| !needed.contains(digest));
        for batch in candidates.chunks(BATCH) {
            let _lock = self.of.alone()?;
            for digest in batch {
                let path: PathBuf = blob_of(digest);
                let Some(touched) = self.of.touched(&path)? else { continue };
                if touched >= self.cutoff {
                    continue;
                }
                let size = self.of.root.stat(&path, false).map_or(0, |stat| stat.size);
                if !self.options.dry_run {
                    self.of.remove(&path)?;
                }
                self.collected.freed += size;
                self.collected.blobs.push(digest.clone());
            }
        }
        Ok(())
    }
}
