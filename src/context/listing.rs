//! What a build can see of a context, what the ignore rules leave out, and which rule it was.
//!
//! For people (`rbuild context`): the whole directory is walked, also below what is
//! left out, to count it. Nothing is read or hashed. Not here: what the sources of one
//! COPY mean (`select`), the words for people (`cli`).

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::sys::dir::read_dir;
use crate::sys::root_dir::open_no_follow;
use crate::sys::root_dir::stat_at;

use super::error::ContextError;
use super::error::MAX_DEPTH;
use super::filter::Deciding;
use super::tree::Tree;

/// How many files and directories there are, and how long the regular files are in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// All that is no directory.
    pub files: u64,
    pub directories: u64,
    pub bytes: u64,
}

/// One file or directory that a build can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub path: PathBuf,
    pub kind: FileType,
    /// In bytes; 0 for all but regular files.
    pub size: u64,
}

/// A context as a build sees it.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// A directory stands before what is in it; names in byte order.
    pub seen: Vec<Seen>,
    pub seen_count: Count,
    pub left_out: Count,
    /// The rules that leave something out, in the order of their lines.
    pub rules: Vec<(Deciding, Count)>,
    /// Directories that cannot be read; what is in them is in no count.
    pub unreadable: Vec<PathBuf>,
}

/// What the rules say of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// As looked for: relative to the context, `.` and `..` resolved.
    pub path: PathBuf,
    pub exists: bool,
    pub left_out: bool,
    /// It is a directory that is left out, but a rule may take back something below it.
    pub perhaps_below: bool,
    /// The rule that decided; `None` when none is about the path.
    pub rule: Option<Deciding>,
}

impl Tree {
    /// Returns the name of the ignore file that applies, if there is one.
    pub fn ignore_file(&self) -> Option<&str> {
        self.ignore.as_ref().map(|filter| filter.file())
    }

    /// Lists what a build can see.
    pub fn list(&self) -> Result<Listing, ContextError> {
        let read = |source| ContextError::Read { path: PathBuf::from("."), source };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let top = self.root.open_at(Path::new("."), flags, Mode::empty()).map_err(read)?;
        let mut walk = Walk {
            tree: self,
            at: PathBuf::new(),
            depth: 0,
            by_line: BTreeMap::new(),
            out: Listing::default(),
        };
        walk.directory(&top)?;
        let Walk { by_line, mut out, .. } = walk;
        out.rules = by_line.into_values().collect();
        Ok(out)
    }

    /// Says what the rules say of one path of the context.
    pub fn why(&self, path: &Path) -> Why {
        let mut clean = PathBuf::new();
        for component in path.components() {
            match component {
                std::path::Component::Normal(name) => clean.push(name),
                std::path::Component::ParentDir => {
                    clean.pop();
                }
                _ => {}
            }
        }
        let stat = self.root.try_stat(&clean, false).ok().flatten();
        let (left_out, rule) = match &self.ignore {
            Some(filter) if !clean.as_os_str().is_empty() => filter.decision(&clean),
            _ => (false, None),
        };
        let is_dir = stat.is_some_and(|stat| stat.is_dir());
        let perhaps_below =
            left_out && is_dir && self.ignore.as_ref().is_some_and(|filter| !filter.prunes(&clean));
        Why { path: clean, exists: stat.is_some(), left_out, perhaps_below, rule }
    }
}

struct Walk<'t> {
    tree: &'t Tree,
    at: PathBuf,
    depth: usize,
    by_line: BTreeMap<usize, (Deciding, Count)>,
    out: Listing,
}

impl Walk<'_> {
    fn directory(&mut self, dir: &OwnedFd) -> Result<(), ContextError> {
        if self.depth > MAX_DEPTH {
            return Err(ContextError::TooDeep(self.at.clone()));
        }
        let Ok(names) = read_dir(dir) else {
            self.out.unreadable.push(self.at.clone());
            return Ok(());
        };
        for (name, kind) in names {
            self.at.push(&name);
            self.depth += 1;
            let (left_out, rule) = match &self.tree.ignore {
                Some(filter) => filter.decision(&self.at),
                None => (false, None),
            };
            let size = match kind {
                // One that went away meanwhile has no size.
                FileType::RegularFile => stat_at(dir, &name).map_or(0, |stat| stat.size),
                _ => 0,
            };
            if kind == FileType::Directory {
                let before = self.out.seen.len();
                self.out.seen.push(Seen { path: self.at.clone(), kind, size });
                match open_no_follow(dir, &name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
                    Ok(below) => self.directory(&below)?,
                    Err(_) => self.out.unreadable.push(self.at.clone()),
                }
                // One that is left out comes in with the first file below it that is not.
                let comes_in = !left_out || self.out.seen.len() > before + 1;
                match comes_in {
                    true => self.out.seen_count.directories += 1,
                    false => {
                        self.out.seen.truncate(before);
                        self.leave_out(rule, Count { directories: 1, ..Count::default() });
                    }
                }
            } else if left_out {
                self.leave_out(rule, Count { files: 1, bytes: size, ..Count::default() });
            } else {
                self.out.seen.push(Seen { path: self.at.clone(), kind, size });
                self.out.seen_count.add(Count { files: 1, bytes: size, ..Count::default() });
            }
            self.depth -= 1;
            self.at.pop();
        }
        Ok(())
    }

    fn leave_out(&mut self, rule: Option<Deciding>, count: Count) {
        self.out.left_out.add(count);
        if let Some(rule) = rule {
            self.by_line.entry(rule.line).or_insert_with(|| (rule, Count::default())).1.add(count);
        }
    }
}

impl Count {
    fn add(&mut self, other: Count) {
        self.files += other.files;
        self.directories += other.directories;
        self.bytes += other.bytes;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::DockerfilePlace;
    use super::super::open_directory;
    use super::*;

    fn context(rules: &str, files: &[&str]) -> (tempfile::TempDir, Tree) {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join(".dockerignore"), rules).unwrap();
        for file in files {
            let path = outer.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match file.ends_with('/') {
                true => fs::create_dir_all(path).unwrap(),
                false => fs::write(path, "12345").unwrap(),
            }
        }
        let tree = open_directory(outer.path(), None).unwrap().with_ignore(&DockerfilePlace::Input).unwrap();
        (outer, tree)
    }

    #[test]
    fn lists_what_is_seen_and_counts_the_rest_by_rule() {
        let files = ["a", "n/x/y", "n/z", "logs/a.log", "logs/keep.log", "empty/"];
        let (_outer, tree) = context("# c\nn\n**/*.log\n!**/keep.log\nlogs\n!logs/keep.log\nempty", &files);
        let listing = tree.list().unwrap();
        let seen: Vec<String> = listing.seen.iter().map(|s| s.path.display().to_string()).collect();
        assert_eq!(seen, [".dockerignore", "a", "logs", "logs/keep.log"]);
        assert_eq!((listing.seen_count.files, listing.seen_count.directories), (3, 1));
        assert_eq!(listing.left_out, Count { files: 3, directories: 3, bytes: 15 });
        let rules: Vec<(usize, &str, u64, u64)> =
            listing.rules.iter().map(|(r, c)| (r.line, r.text.as_str(), c.files, c.directories)).collect();
        assert_eq!(rules, [(2, "n", 2, 2), (3, "**/*.log", 1, 0), (7, "empty", 0, 1)]);
    }

    #[test]
    fn says_which_rule_decided() {
        let (_outer, tree) = context("*\n!src\nsrc/*.o", &["src/a.o", "src/b.c", "docs/x"]);
        let check = |path: &str, left_out: bool, line: Option<usize>, exists: bool| {
            let why = tree.why(Path::new(path));
            assert_eq!(
                (why.left_out, why.rule.map(|r| r.line), why.exists),
                (left_out, line, exists),
                "{path}"
            );
        };
        check("src/a.o", true, Some(3), true);
        check("/src/../src/./b.c", false, Some(2), true);
        check("docs/x", true, Some(1), true);
        check("none", true, Some(1), false);
        check(".", false, None, true);
        let (_outer, tree) = context("d\n!d/keep", &["d/keep", "d/drop"]);
        assert!(tree.why(Path::new("d")).perhaps_below);
        assert!(!tree.why(Path::new("d/drop")).perhaps_below);
        assert_eq!(tree.why(Path::new("other")).rule, None);
        assert_eq!(tree.ignore_file(), Some(".dockerignore"));
    }
}
