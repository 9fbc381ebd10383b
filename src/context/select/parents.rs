//! Sources of `COPY --parents`: paths that are kept, from the root or from `/./` on.
//!
//! What is behind the pivot is a pattern of the whole path as in .dockerignore, with
//! `**` for any depth; what is before it is one as everywhere else, and its links are
//! followed. A directory on the way to a match comes along with its metadata, as an
//! entry of its own, and only when something below it matches.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::pattern::PathPattern;
use crate::sys::dir::read_dir;

use super::super::error::ContextError;
use super::super::filter::Verdict;
use super::super::source::SourcePath;
use super::super::source::bad;
use super::super::source::literal;
use super::DIRECTORY;
use super::Selector;
use super::names;
use super::read;
use super::walk::walk;

/// What is looked for below a base.
pub(super) struct Sought<'a> {
    /// The components before the first one that is a pattern: each is looked up, no directory is read.
    names: &'a [String],
    pattern: PathPattern,
}

impl Sought<'_> {
    /// Tells whether a path is one that is looked for.
    pub fn matches(&self, lands: &Path) -> bool {
        self.pattern.matches(&lands.to_string_lossy())
    }

    /// Tells whether something below a path may be.
    pub fn may_match_below(&self, lands: &Path) -> bool {
        self.pattern.may_match_below(&lands.to_string_lossy())
    }

    /// Returns the names in a directory, so many levels below the base, that may lead to a match.
    pub fn names_of(
        &self,
        dir: &OwnedFd,
        at: &Path,
        depth: usize,
    ) -> Result<Vec<(OsString, FileType)>, ContextError> {
        match self.names.get(depth) {
            Some(name) => names(dir, at, name),
            None => read_dir(dir).map_err(|e| read(at, e)),
        }
    }
}

impl Selector<'_> {
    /// Selects what a path or pattern means with `--parents`.
    pub(super) fn with_parents(&mut self, text: &str) -> Result<(), ContextError> {
        let (base, source) = match text.trim_start_matches("./").split_once("/./") {
            Some((base, source)) => (SourcePath::parse(base), SourcePath::parse(source)),
            None => (SourcePath::parse(""), SourcePath::parse(text)),
        };
        let mut bases = Vec::new();
        let (prefix, patterns) = base.split();
        let written: PathBuf = prefix.iter().map(|c| literal(c)).collect();
        let real = self.resolve(&written)?;
        if !self.stat(&real, &written)?.is_dir() {
            return Err(self.not_found(&written));
        }
        if patterns.is_empty() {
            bases.push(real);
        } else {
            let fd =
                self.scope.tree.root.open_at(&real, DIRECTORY, Mode::empty()).map_err(|e| read(&real, e))?;
            self.matches(&fd, &real, patterns, &mut bases)?;
        }
        let (names, rest) = source.split();
        let whole = source.components.join("/");
        let pattern = PathPattern::new(&whole).map_err(|e| bad(&whole, &e))?;
        let sought = Sought { names, pattern };
        let must_exist = patterns.is_empty() && rest.is_empty();
        for base in bases {
            let Ok(fd) = self.scope.tree.root.open_at(&base, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
            else {
                continue;
            };
            let wanted = (!source.components.is_empty()).then_some(&sought);
            let found = walk(self.scope, base.clone(), fd, wanted)?;
            if must_exist && wanted.is_some() && found.entries.is_empty() && found.sockets.is_empty() {
                self.require(&base.join(names.iter().map(|c| literal(c)).collect::<PathBuf>()))?;
            }
            if found.entries.is_empty() {
                self.sockets.extend(found.sockets);
            } else {
                self.take(base, found);
            }
        }
        Ok(())
    }

    /// Fails unless a path that nothing came of is there, and only `--exclude` left it out.
    fn require(&self, path: &Path) -> Result<(), ContextError> {
        let there = self.scope.tree.root.stat(path, false).is_ok_and(|stat| {
            self.scope.ignored(path, stat.is_dir()) == Verdict::In && self.scope.exclude.is_some()
        });
        if there { Ok(()) } else { Err(self.not_found(path)) }
    }
}
