//! Finds the files that the sources of a COPY, ADD or bind mount stand for.
//!
//! Only what a source can reach is looked at, and a directory that the ignore
//! rules leave out is not entered. A link named as a source is followed inside
//! the root; links inside a copied directory stay links. The rules for names are
//! docker's: Go's filepath.Match component by component, `..` stops at the root,
//! a pattern may match nothing, a name must exist.
//!
//! What is no regular file, directory or link: in a build context a device is an
//! error, and so is a FIFO or socket that a source names; inside a copied directory
//! a FIFO is copied as a FIFO and a socket is left out. None is ever opened. In a
//! state (`COPY --from`) devices and FIFOs are copied.

mod crew;
mod file;
mod parents;
mod walk;

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::sys::Stat;
use crate::sys::clock::file_clock;
use crate::sys::dir::read_dir;
use crate::sys::root_dir::Escape;
use crate::sys::root_dir::open_no_follow;
use crate::sys::root_dir::stat_at;
use crate::sys::xattr;
use crate::sys::xattr::Target;

use super::digest_cache::Known;
use super::error::ContextError;
use super::error::show;
use super::filter::Filter;
use super::filter::Verdict;
use super::hash::Large;
use super::hash::hash_large;
use super::near;
use super::selection::Entry;
use super::selection::EntryKind;
use super::selection::Selected;
use super::selection::Selection;
use super::source::SourcePath;
use super::source::component_matches;
use super::source::is_pattern;
use super::source::literal;
use super::tree::Tree;
use file::FileReader;
use file::Origin;
use file::Scope;
use walk::Found;
use walk::walk;

/// One source as written, expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path or pattern.
    Path(String),
    /// A heredoc: a file of this name with these bytes.
    Inline { name: String, data: String },
}

/// How sources are read.
#[derive(Debug, Clone, Default)]
pub struct SelectOptions {
    /// Patterns in the syntax of .dockerignore, relative to each copied directory; a
    /// file that is itself a source is matched by its name (`--exclude`).
    pub exclude: Vec<String>,
    /// Whether the path of a source is kept, from the root or from `/./` on (`--parents`).
    pub parents: bool,
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// Finds and hashes the files that `sources` stand for.
pub fn select(tree: &Tree, sources: &[Source], options: &SelectOptions) -> Result<Selection, ContextError> {
    let exclude = match options.exclude.is_empty() {
        true => None,
        false => Some(Filter::of_patterns(&options.exclude)?),
    };
    let scope = Scope { tree, exclude };
    let mut selector = Selector {
        scope: &scope,
        selected: Vec::new(),
        hashed: Vec::new(),
        large: Vec::new(),
        sockets: Vec::new(),
        began: file_clock(),
    };
    for source in sources {
        match source {
            Source::Path(text) if options.parents => selector.with_parents(text)?,
            Source::Path(text) => selector.path(text)?,
            Source::Inline { name, data } => {
                selector.selected.push(Selected::Inline { name: name.clone(), data: data.clone() });
            }
        }
    }
    selector.finish()
}

struct Selector<'a> {
    scope: &'a Scope<'a>,
    selected: Vec<Selected>,
    /// Files whose digest was computed just now, by the numbers of source and entry.
    hashed: Vec<(usize, usize)>,
    /// Files whose digest is still to be computed.
    large: Vec<(usize, usize)>,
    sockets: Vec<PathBuf>,
    began: (i64, u32),
}

impl Selector<'_> {
    /// Selects what a path or pattern means without `--parents`.
    fn path(&mut self, text: &str) -> Result<(), ContextError> {
        let source = SourcePath::parse(text);
        let (prefix, patterns) = source.split();
        let written: PathBuf = prefix.iter().map(|c| literal(c)).collect();
        let real = self.resolve(&written)?;
        let stat = self.stat(&real, &written)?;
        if patterns.is_empty() {
            return self.add(&written, real, &stat, true);
        }
        let mut matched = Vec::new();
        if stat.is_dir() {
            let fd =
                self.scope.tree.root.open_at(&real, DIRECTORY, Mode::empty()).map_err(|e| read(&real, e))?;
            self.matches(&fd, &real, patterns, &mut matched)?;
        }
        for path in matched {
            let real = self.resolve(&path)?;
            let stat = self.stat(&real, &path)?;
            self.add(&path, real, &stat, false)?;
        }
        Ok(())
    }

    /// Collects the paths below an open directory that match, in order; no link is followed.
    fn matches(
        &self,
        dir: &OwnedFd,
        at: &Path,
        patterns: &[String],
        out: &mut Vec<PathBuf>,
    ) -> Result<(), ContextError> {
        let Some((first, rest)) = patterns.split_first() else { return Ok(()) };
        for (name, kind) in names(dir, at, first)? {
            let path = at.join(&name);
            let is_dir = kind == FileType::Directory;
            if self.scope.ignored(&path, is_dir) == Verdict::Out {
                continue;
            }
            if rest.is_empty() {
                out.push(path);
            } else if is_dir {
                let below =
                    open_no_follow(dir, &name, DIRECTORY, Mode::empty()).map_err(|e| read(&path, e))?;
                self.matches(&below, &path, rest, out)?;
            }
        }
        Ok(())
    }

    /// Selects one file or directory: `written` is the path before links were followed.
    fn add(&mut self, written: &Path, real: PathBuf, stat: &Stat, named: bool) -> Result<(), ContextError> {
        let is_dir = stat.is_dir();
        let verdict = self.scope.ignored(&real, is_dir).max(self.scope.ignored(written, is_dir));
        if verdict == Verdict::Out {
            return if named { Err(self.not_found(written)) } else { Ok(()) };
        }
        if is_dir {
            let fd =
                self.scope.tree.root.open_at(&real, DIRECTORY, Mode::empty()).map_err(|e| read(&real, e))?;
            let found = walk(self.scope, real.clone(), fd, None)?;
            if verdict == Verdict::Perhaps && found.entries.is_empty() {
                self.sockets.extend(found.sockets);
                return if named { Err(self.not_found(written)) } else { Ok(()) };
            }
            self.take(real, found);
            return Ok(());
        }
        let name = Path::new(written.file_name().unwrap_or_default());
        if self.scope.exclude.as_ref().is_some_and(|filter| filter.verdict(name, false) != Verdict::In) {
            return Ok(());
        }
        let special = match stat.kind {
            FileType::Socket => Some("socket"),
            FileType::Fifo if !self.scope.tree.owners => Some("FIFO"),
            _ => None,
        };
        if let Some(kind) = special {
            return Err(ContextError::Special { path: written.to_owned(), kind });
        }
        let (parent, real_name) = self.scope.tree.root.parent_and_name(&real).map_err(|e| read(&real, e))?;
        let made = FileReader::new(self.scope).read(parent.as_fd(), &real_name, &real, name, *stat)?;
        let number = (self.selected.len(), 0);
        match made.origin {
            Origin::Known => {}
            Origin::Hashed => self.hashed.push(number),
            Origin::Large => self.large.push(number),
        }
        self.selected.push(Selected::File { origin: real, entry: made.entry });
        Ok(())
    }

    /// Takes in what a walk found.
    fn take(&mut self, root: PathBuf, found: Found) {
        let index = self.selected.len();
        self.hashed.extend(found.hashed.into_iter().map(|number| (index, number)));
        self.large.extend(found.large.into_iter().map(|number| (index, number)));
        self.sockets.extend(found.sockets);
        self.selected.push(Selected::Directory { root, entries: found.entries });
    }

    /// Hashes what is not known yet, and makes the selection.
    fn finish(mut self) -> Result<Selection, ContextError> {
        let tree = self.scope.tree;
        if !self.large.is_empty() {
            let file = |&number: &(usize, usize)| {
                let (path, entry) = place(&mut self.selected, number);
                Large { path, size: entry.stat.size }
            };
            let files: Vec<Large> = self.large.iter().map(file).collect();
            let digests = hash_large(&tree.root, &files)?;
            for (number, (digest, stat)) in self.large.iter().zip(digests) {
                let (_, entry) = place(&mut self.selected, *number);
                (entry.kind, entry.stat) = (EntryKind::File(digest), stat);
            }
            self.hashed.append(&mut self.large);
        }
        if let Some(cache) = &tree.digests {
            let learned = self.hashed.iter().filter_map(|&number| {
                let (path, entry) = place(&mut self.selected, number);
                let EntryKind::File(digest) = entry.kind else { return None };
                Some((path, entry.stat, Known { digest, has_xattrs: !entry.xattrs.is_empty() }))
            });
            cache.add(learned);
        }
        Ok(Selection::new(self.selected, tree.owners, self.sockets, self.began))
    }

    fn resolve(&self, written: &Path) -> Result<PathBuf, ContextError> {
        self.scope.tree.root.resolve(written, Escape::Clamp).map_err(|e| read(written, e))
    }

    fn stat(&self, real: &Path, written: &Path) -> Result<Stat, ContextError> {
        match self.scope.tree.root.stat(real, false) {
            Ok(stat) => Ok(stat),
            Err(e) if absent(&e) => Err(self.not_found(written)),
            Err(e) => Err(read(written, e)),
        }
    }

    fn not_found(&self, written: &Path) -> ContextError {
        let root = &self.scope.tree.root;
        let excluded = self.scope.tree.ignore.as_ref().and_then(|filter| {
            let real = root.resolve(written, Escape::Clamp).ok()?;
            let reason = filter.reason(&real).or_else(|| filter.reason(written))?;
            root.stat(&real, false).is_ok().then_some(reason)
        });
        let hint = excluded.or_else(|| {
            let stat = root.stat(written, false).ok()?;
            stat.is_symlink()
                .then(|| format!("`{}` is a link that leads nowhere inside the root", show(written)))
        });
        let visible = |path: &Path| match &self.scope.tree.ignore {
            Some(filter) => filter.reason(path).is_none(),
            None => true,
        };
        let hint = hint.or_else(|| near::hint(root, written, &visible));
        ContextError::NotFound { path: written.to_owned(), hint }
    }
}

/// Returns the names in a directory that a component means: one look-up where it is no pattern.
fn names(dir: &OwnedFd, at: &Path, component: &str) -> Result<Vec<(OsString, FileType)>, ContextError> {
    if !is_pattern(component) {
        let name = OsString::from(literal(component));
        return match stat_at(dir, &name) {
            Ok(stat) => Ok(vec![(name, stat.kind)]),
            Err(e) if absent(&e) => Ok(Vec::new()),
            Err(e) => Err(read(&at.join(name), e)),
        };
    }
    // A bad pattern is an error even in an empty directory.
    component_matches(component, "")?;
    let mut out = Vec::new();
    for (name, kind) in read_dir(dir).map_err(|e| read(at, e))? {
        if component_matches(component, &name.to_string_lossy())? {
            out.push((name, kind));
        }
    }
    Ok(out)
}

/// Returns a file's path in the tree, and its entry.
fn place(selected: &mut [Selected], number: (usize, usize)) -> (PathBuf, &mut Entry) {
    match &mut selected[number.0] {
        Selected::Directory { root, entries } => {
            let entry = &mut entries[number.1];
            (root.join(&entry.path), entry)
        }
        Selected::File { origin, entry } => (origin.clone(), entry),
        Selected::Inline { .. } => unreachable!("a heredoc is no file that is hashed"),
    }
}

/// Returns the attributes that are copied: not overlayfs's own, and not the host's.
fn xattrs(target: Target<'_>) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut out = Vec::new();
    for name in xattr::list(target)? {
        if xattr::is_overlay(&name) || xattr::is_of_host(&name) {
            continue;
        }
        match xattr::get(target, &name) {
            Ok(Some(value)) => out.push((name, value)),
            Ok(None) => {}
            // Capabilities of a user namespace that is none of ours: they mean nothing here
            // (capabilities(7), "Namespaced file capabilities").
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::OVERFLOW.raw_os_error()) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(out)
}

fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn read(path: &Path, source: io::Error) -> ContextError {
    ContextError::Read { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
