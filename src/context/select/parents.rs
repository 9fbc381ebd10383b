//! Sources of `COPY --parents`: paths that are kept, from the root or from `/./` on.
//!
//! What is behind the pivot is a pattern of the whole path as in .dockerignore, with
//! `**` for any depth; what is before it is one as everywhere else, and its links are
//! followed. A directory on the way to a match comes along with its metadata, as an
//! entry of its own, and only when something below it matches.

use std::ffi::OsStr;
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
use super::super::selection::Selected;
use super::super::source::SourcePath;
use super::super::source::bad;
use super::super::source::literal;
use super::DIRECTORY;
use super::Selector;
use super::Walk;
use super::read;

/// What is looked for below a base.
pub(super) struct Sought<'a> {
    /// The components before the first one that is a pattern: each is looked up, no directory is read.
    names: &'a [String],
    pattern: PathPattern,
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
            let fd = self.tree.root.open_at(&real, DIRECTORY, Mode::empty()).map_err(|e| read(&real, e))?;
            self.matches(&fd, &real, patterns, &mut bases)?;
        }
        let (names, rest) = source.split();
        let whole = source.components.join("/");
        let pattern = PathPattern::new(&whole).map_err(|e| bad(&whole, &e))?;
        let sought = Sought { names, pattern };
        let must_exist = patterns.is_empty() && rest.is_empty();
        for base in bases {
            let Ok(fd) = self.tree.root.open_at(&base, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) else {
                continue;
            };
            let index = self.selected.len();
            let mut walk = Walk::new(base.clone());
            let before = self.sockets.len();
            if source.components.is_empty() {
                self.walk(fd, &mut walk, index)?;
            } else {
                let found = self.names_of(&fd, &walk, &sought)?;
                self.walk_names(&fd, found, &mut walk, index, Some(&sought))?;
                if must_exist && walk.found.is_empty() && self.sockets.len() == before {
                    self.require(&base.join(names.iter().map(|c| literal(c)).collect::<PathBuf>()))?;
                }
            }
            if !walk.found.is_empty() {
                self.selected.push(Selected::Directory { root: base, entries: walk.found });
            }
        }
        Ok(())
    }

    /// Fails unless a path that nothing came of is there, and only `--exclude` left it out.
    fn require(&self, path: &Path) -> Result<(), ContextError> {
        let there = self
            .tree
            .root
            .stat(path, false)
            .is_ok_and(|stat| self.ignored(path, stat.is_dir()) == Verdict::In && self.exclude.is_some());
        if there { Ok(()) } else { Err(self.not_found(path)) }
    }

    /// Returns the names in the directory of a walk that may lead to a match.
    fn names_of(
        &self,
        dir: &OwnedFd,
        walk: &Walk,
        sought: &Sought<'_>,
    ) -> Result<Vec<(OsString, FileType)>, ContextError> {
        match sought.names.get(walk.depth) {
            Some(name) => self.names(dir, &walk.at, name),
            None => read_dir(dir).map_err(|e| read(&walk.at, e)),
        }
    }

    /// Goes on with one name: a match comes in whole, a directory that may lead to one waits.
    pub(super) fn visit_sought(
        &mut self,
        dir: &OwnedFd,
        name: &OsStr,
        kind: FileType,
        walk: &mut Walk,
        index: usize,
        sought: &Sought<'_>,
    ) -> Result<(), ContextError> {
        let lands = walk.lands.to_string_lossy();
        if sought.pattern.matches(&lands) {
            return self.visit(dir, name, kind, walk, index);
        }
        if kind != FileType::Directory || !sought.pattern.may_match_below(&lands) {
            return Ok(());
        }
        let excluded = self.exclude.as_ref().map_or(Verdict::In, |e| e.verdict(&walk.lands, true));
        if self.ignored(&walk.at, true).max(excluded) == Verdict::Out {
            return Ok(());
        }
        let Some(below) = self.enter(dir, name, walk, false)? else { return Ok(()) };
        let names = self.names_of(&below, walk, sought)?;
        self.walk_names(&below, names, walk, index, Some(sought))
    }
}
