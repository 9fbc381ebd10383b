//! A place that files are read from.
//!
//! Not here: what is read from it (`select`), where the rules come from (`dockerfile`).

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::pattern::Ignore;
use crate::sys::RootDir;
use crate::sys::lock::FileLock;

use super::digest_cache::DigestCache;
use super::error::ContextError;
use super::filter::Filter;

/// A directory as the root of all sources, with what applies to reading it.
#[derive(Debug)]
pub struct Tree {
    pub(super) root: RootDir,
    /// What .dockerignore leaves out.
    pub(super) ignore: Option<Filter>,
    pub(super) owners: bool,
    pub(super) digests: Option<DigestCache>,
    /// Removed with the tree.
    pub(super) temporary: Option<tempfile::TempDir>,
    /// Held while the tree lives, so that nobody removes what it reads.
    pub(super) lock: Option<Arc<FileLock>>,
}

impl Tree {
    /// Returns the rules of its .dockerignore.
    pub fn ignore_rules(&self) -> Option<&Ignore> {
        self.ignore.as_ref().map(Filter::rules)
    }

    /// Makes a build context of a directory: owners do not count, and files become 0:0.
    pub fn context(root: RootDir) -> Tree {
        Tree { root, ignore: None, owners: false, digests: None, temporary: None, lock: None }
    }

    /// Makes a tree of a state (`COPY --from`): owners count and are kept, devices may be copied.
    pub fn state(root: RootDir) -> Tree {
        Tree { root, ignore: None, owners: true, digests: None, temporary: None, lock: None }
    }

    /// Keeps content digests in this cache; [`Tree::save_digests`] at the end of the build.
    pub fn with_digests(mut self, cache: DigestCache) -> Tree {
        self.digests = Some(cache);
        self
    }

    /// Returns the root that all paths start at.
    pub fn root(&self) -> &RootDir {
        &self.root
    }

    /// Returns where it lies, for a directory that is the same in the next build.
    pub fn path(&self) -> Option<&[u8]> {
        self.digests.as_ref().map(DigestCache::root)
    }

    /// Tells whether owners count and are kept.
    pub fn owners(&self) -> bool {
        self.owners
    }

    /// Writes the digest cache if there is one with news; returns whether it wrote.
    ///
    /// An error costs the next build time and nothing else.
    pub fn save_digests(&self) -> io::Result<bool> {
        self.digests.as_ref().map_or(Ok(false), DigestCache::save)
    }
}

/// Opens a build context directory, without ignore rules.
///
/// `digests` is the folder that holds the digest caches of all contexts.
pub fn open_directory(path: &Path, digests: Option<&Path>) -> Result<Tree, ContextError> {
    let fail = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ContextError::Missing(path.to_owned()),
        io::ErrorKind::NotADirectory => match path.exists() {
            true => ContextError::IsFile(path.to_owned()),
            false => ContextError::Missing(path.to_owned()),
        },
        _ => ContextError::Open { path: path.to_owned(), source },
    };
    // The context itself is the user's own word: links in it lead where they lead.
    let real = path.canonicalize().map_err(fail)?;
    let tree = Tree::context(RootDir::open(&real).map_err(fail)?);
    Ok(match digests {
        Some(folder) => tree.with_digests(DigestCache::open(folder, &real)),
        None => tree,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_wrong_with_a_context() {
        let outer = tempfile::tempdir().unwrap();
        let file = outer.path().join("file");
        std::fs::write(&file, "x").unwrap();
        std::os::unix::fs::symlink("nowhere", outer.path().join("dangling")).unwrap();
        let check = |path: &Path, expect: &str| {
            let message = open_directory(path, None).unwrap_err().to_string();
            assert!(message.contains(expect), "{message}");
        };
        check(&file, "is a file");
        check(&file.join("x"), "does not exist");
        check(&outer.path().join("none"), "does not exist");
        check(&outer.path().join("dangling"), "does not exist");
        open_directory(outer.path(), None).unwrap();
    }
}
