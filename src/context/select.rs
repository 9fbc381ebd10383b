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

mod parents;

use std::ffi::OsStr;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::image::FileDigest;
use crate::sys::Stat;
use crate::sys::dir::read_dir;
use crate::sys::root_dir::Escape;
use crate::sys::root_dir::fstat;
use crate::sys::root_dir::open_no_follow;
use crate::sys::root_dir::read_link_at;
use crate::sys::root_dir::stat_at;
use crate::sys::xattr;
use crate::sys::xattr::Target;

use super::digest_cache::Known;
use super::error::ContextError;
use super::error::MAX_DEPTH;
use super::error::show;
use super::filter::Filter;
use super::filter::Verdict;
use super::hash::Pending;
use super::hash::hash_files;
use super::selection::Entry;
use super::selection::EntryKind;
use super::selection::Selected;
use super::selection::Selection;
use super::source::SourcePath;
use super::source::component_matches;
use super::source::is_pattern;
use super::source::literal;
use super::tree::Tree;
use parents::Sought;

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
    let mut selector =
        Selector { tree, exclude, selected: Vec::new(), pending: Vec::new(), sockets: Vec::new() };
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
    tree: &'a Tree,
    exclude: Option<Filter>,
    selected: Vec<Selected>,
    /// Files whose digest is not known yet: (source, entry) and path in the tree.
    pending: Vec<((usize, usize), Pending)>,
    sockets: Vec<PathBuf>,
}

/// Where a walk is and what it found.
struct Walk {
    /// In the tree.
    at: PathBuf,
    /// Relative to the destination.
    lands: PathBuf,
    depth: usize,
    found: Vec<Entry>,
    /// Directories above `at` that are left out themselves, and come in with the first file below.
    waiting: Vec<Entry>,
}

impl Walk {
    fn new(at: PathBuf) -> Walk {
        Walk { at, lands: PathBuf::new(), depth: 0, found: Vec::new(), waiting: Vec::new() }
    }

    fn push(&mut self, entry: Entry) {
        self.found.append(&mut self.waiting);
        self.found.push(entry);
    }
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
            let fd = self.tree.root.open_at(&real, DIRECTORY, Mode::empty()).map_err(|e| read(&real, e))?;
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
        for (name, kind) in self.names(dir, at, first)? {
            let path = at.join(&name);
            let is_dir = kind == FileType::Directory;
            if self.ignored(&path, is_dir) == Verdict::Out {
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

    /// Returns the names in a directory that a component means: one look-up where it is no pattern.
    fn names(
        &self,
        dir: &OwnedFd,
        at: &Path,
        component: &str,
    ) -> Result<Vec<(OsString, FileType)>, ContextError> {
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

    /// Selects one file or directory: `written` is the path before links were followed.
    fn add(&mut self, written: &Path, real: PathBuf, stat: &Stat, named: bool) -> Result<(), ContextError> {
        let is_dir = stat.is_dir();
        let verdict = self.ignored(&real, is_dir).max(self.ignored(written, is_dir));
        if verdict == Verdict::Out {
            return if named { Err(self.not_found(written)) } else { Ok(()) };
        }
        let index = self.selected.len();
        if is_dir {
            let fd = self.tree.root.open_at(&real, DIRECTORY, Mode::empty()).map_err(|e| read(&real, e))?;
            let mut walk = Walk::new(real.clone());
            self.walk(fd, &mut walk, index)?;
            if verdict == Verdict::Perhaps && walk.found.is_empty() {
                return if named { Err(self.not_found(written)) } else { Ok(()) };
            }
            self.selected.push(Selected::Directory { root: real, entries: walk.found });
            return Ok(());
        }
        let name = Path::new(written.file_name().unwrap_or_default());
        if self.exclude.as_ref().is_some_and(|filter| filter.verdict(name, false) != Verdict::In) {
            return Ok(());
        }
        let special = match stat.kind {
            FileType::Socket => Some("socket"),
            FileType::Fifo if !self.tree.owners => Some("FIFO"),
            _ => None,
        };
        if let Some(kind) = special {
            return Err(ContextError::Special { path: written.to_owned(), kind });
        }
        let (parent, real_name) = self.tree.root.parent_and_name(&real).map_err(|e| read(&real, e))?;
        let found = self.entry(parent.as_fd(), &real_name, &real, name, *stat, (index, 0))?;
        self.selected.push(Selected::File { origin: real, entry: found });
        Ok(())
    }

    /// Walks an open directory; `index` is the number of the source.
    fn walk(&mut self, dir: OwnedFd, walk: &mut Walk, index: usize) -> Result<(), ContextError> {
        let names = read_dir(&dir).map_err(|e| read(&walk.at, e))?;
        self.walk_names(&dir, names, walk, index, None)
    }

    /// Walks some names of a directory. With `sought`, only what a `--parents` pattern reaches.
    fn walk_names(
        &mut self,
        dir: &OwnedFd,
        names: Vec<(OsString, FileType)>,
        walk: &mut Walk,
        index: usize,
        sought: Option<&Sought<'_>>,
    ) -> Result<(), ContextError> {
        if walk.depth > MAX_DEPTH {
            return Err(ContextError::TooDeep(walk.at.clone()));
        }
        for (name, kind) in names {
            walk.at.push(&name);
            walk.lands.push(&name);
            walk.depth += 1;
            let waiting = walk.waiting.len();
            match sought {
                None => self.visit(dir, &name, kind, walk, index)?,
                Some(sought) => self.visit_sought(dir, &name, kind, walk, index, sought)?,
            }
            walk.waiting.truncate(waiting);
            walk.depth -= 1;
            walk.at.pop();
            walk.lands.pop();
        }
        Ok(())
    }

    /// Takes in one name of a walk and all below it.
    fn visit(
        &mut self,
        dir: &OwnedFd,
        name: &OsStr,
        kind: FileType,
        walk: &mut Walk,
        index: usize,
    ) -> Result<(), ContextError> {
        let is_dir = kind == FileType::Directory;
        let mut verdict = self.ignored(&walk.at, is_dir);
        if let Some(exclude) = &self.exclude {
            verdict = verdict.max(exclude.verdict(&walk.lands, is_dir));
        }
        match (kind, verdict) {
            (_, Verdict::Out) => Ok(()),
            (FileType::Directory, verdict) => {
                let Some(below) = self.enter(dir, name, walk, verdict == Verdict::In)? else { return Ok(()) };
                self.walk(below, walk, index)
            }
            // Only a directory can come in for what is below it.
            (_, Verdict::Perhaps) => Ok(()),
            (FileType::Socket, _) => {
                self.sockets.push(walk.at.clone());
                Ok(())
            }
            (_, Verdict::In) => {
                let stat = match stat_at(dir, name) {
                    Ok(stat) => stat,
                    Err(e) if absent(&e) => return Ok(()),
                    Err(e) => return Err(read(&walk.at, e)),
                };
                // The directory waiting above comes in first: its number is the entry's.
                let number = walk.found.len() + walk.waiting.len();
                let found = self.entry(dir.as_fd(), name, &walk.at, &walk.lands, stat, (index, number))?;
                walk.push(found);
                Ok(())
            }
        }
    }

    /// Opens a directory of a walk and puts it into the list, or among the waiting.
    ///
    /// Returns `None` for one that went away meanwhile.
    fn enter(
        &mut self,
        dir: &OwnedFd,
        name: &OsStr,
        walk: &mut Walk,
        wanted: bool,
    ) -> Result<Option<OwnedFd>, ContextError> {
        let below = match open_no_follow(dir, name, DIRECTORY, Mode::empty()) {
            Ok(below) => below,
            Err(e) if absent(&e) => return Ok(None),
            Err(e) => return Err(read(&walk.at, e)),
        };
        let stat = fstat(&below).map_err(|e| read(&walk.at, e))?;
        let xattrs = xattrs(Target::Fd(below.as_fd())).map_err(|e| read(&walk.at, e))?;
        let found =
            Entry { path: walk.lands.clone(), stat, kind: EntryKind::Directory, xattrs, on_the_way: false };
        match wanted {
            true => walk.push(found),
            false => walk.waiting.push(found),
        }
        Ok(Some(below))
    }

    /// Makes the entry of a file that is no directory; `number` is where its digest goes.
    fn entry(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        lands: &Path,
        stat: Stat,
        number: (usize, usize),
    ) -> Result<Entry, ContextError> {
        let mut may_have_xattrs = true;
        let device = |kind| ContextError::Special { path: path.to_owned(), kind };
        let kind = match stat.kind {
            FileType::RegularFile => {
                let known = self.tree.digests.as_ref().and_then(|cache| cache.lookup(path, &stat));
                match known {
                    Some(Known { digest, has_xattrs }) => {
                        may_have_xattrs = has_xattrs;
                        EntryKind::File(digest)
                    }
                    None => {
                        let pending = Pending { path: path.to_owned(), size: stat.size };
                        self.pending.push((number, pending));
                        EntryKind::File(FileDigest::from_bytes([0; 32]))
                    }
                }
            }
            FileType::Symlink => EntryKind::Link(read_link_at(dir, name).map_err(|e| read(path, e))?),
            FileType::Fifo => EntryKind::Fifo,
            FileType::CharacterDevice if self.tree.owners => EntryKind::CharDevice,
            FileType::BlockDevice if self.tree.owners => EntryKind::BlockDevice,
            FileType::CharacterDevice | FileType::BlockDevice => return Err(device("device")),
            FileType::Socket => return Err(device("socket")),
            FileType::Directory | FileType::Unknown => return Err(ContextError::Changing(path.to_owned())),
        };
        let xattrs = match may_have_xattrs {
            true => xattrs(Target::Name(dir, name)).map_err(|e| read(path, e))?,
            false => Vec::new(),
        };
        Ok(Entry { path: lands.to_owned(), stat, kind, xattrs, on_the_way: false })
    }

    /// Hashes what is not known yet, and makes the selection.
    fn finish(mut self) -> Result<Selection, ContextError> {
        if !self.pending.is_empty() {
            if let Some(cache) = &self.tree.digests {
                cache.begin();
            }
            let (numbers, files): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending).into_iter().unzip();
            let digests = hash_files(&self.tree.root, &files)?;
            for ((number, file), (digest, stat)) in numbers.into_iter().zip(files).zip(digests) {
                let entry = match &mut self.selected[number.0] {
                    Selected::Directory { entries, .. } => &mut entries[number.1],
                    Selected::File { entry, .. } => entry,
                    Selected::Inline { .. } => unreachable!("a heredoc is never hashed from a file"),
                };
                entry.kind = EntryKind::File(digest);
                entry.stat = stat;
                if let Some(cache) = &self.tree.digests {
                    let known = Known { digest, has_xattrs: !entry.xattrs.is_empty() };
                    cache.add(&file.path, &stat, known);
                }
            }
        }
        Ok(Selection::new(self.selected, self.tree.owners, self.sockets))
    }

    fn ignored(&self, path: &Path, is_dir: bool) -> Verdict {
        match &self.tree.ignore {
            Some(filter) if !path.as_os_str().is_empty() => filter.verdict(path, is_dir),
            _ => Verdict::In,
        }
    }

    fn resolve(&self, written: &Path) -> Result<PathBuf, ContextError> {
        self.tree.root.resolve(written, Escape::Clamp).map_err(|e| read(written, e))
    }

    fn stat(&self, real: &Path, written: &Path) -> Result<Stat, ContextError> {
        match self.tree.root.stat(real, false) {
            Ok(stat) => Ok(stat),
            Err(e) if absent(&e) => Err(self.not_found(written)),
            Err(e) => Err(read(written, e)),
        }
    }

    fn not_found(&self, written: &Path) -> ContextError {
        let root = &self.tree.root;
        let excluded = self.tree.ignore.as_ref().and_then(|filter| {
            let real = root.resolve(written, Escape::Clamp).ok()?;
            let reason = filter.reason(&real).or_else(|| filter.reason(written))?;
            root.stat(&real, false).is_ok().then_some(reason)
        });
        let hint = excluded.or_else(|| {
            let stat = root.stat(written, false).ok()?;
            stat.is_symlink()
                .then(|| format!("`{}` is a link that leads nowhere inside the root", show(written)))
        });
        ContextError::NotFound { path: written.to_owned(), hint }
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
