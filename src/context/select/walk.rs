//! A walk through a directory of a tree: what is in it, in order, each file hashed when it is met.
//!
//! A directory stands before what is in it, names come in byte order, and everything is opened in the open
//! directory that it is in. Threads share a large walk (`crew`): one that has nothing to do is given the second
//! half of what is left of some directory, as far up as possible; what it finds comes in where that directory
//! ends. Not here: sources and patterns (`select`), single files (`file`).

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::FileType;
use rustix::fs::Mode;

use crate::sys::dir::read_dir;
use crate::sys::root_dir::fstat;
use crate::sys::root_dir::open_no_follow;
use crate::sys::root_dir::stat_at;
use crate::sys::xattr::Target;

use super::super::error::ContextError;
use super::super::error::MAX_DEPTH;
use super::super::filter::Verdict;
use super::super::selection::Entry;
use super::super::selection::EntryKind;
use super::DIRECTORY;
use super::absent;
use super::crew;
use super::file::FileReader;
use super::file::Made;
use super::file::Origin;
use super::file::Scope;
use super::parents::Sought;
use super::read;
use super::xattrs;

/// From so much work on a thread is worth starting: names, and units of 4 KiB that were hashed.
const WORTH: u64 = 1024;
/// So many names are worth giving away; a directory always is.
const WORTH_GIVING: usize = 32;

type Crew = crew::Crew<Job, Done>;
pub(super) type Names = VecDeque<(OsString, FileType)>;

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub entries: Vec<Entry>,
    /// Numbers of the entries whose digests were computed just now.
    pub hashed: Vec<usize>,
    /// Numbers of those whose digests are still to be computed.
    pub large: Vec<usize>,
    pub sockets: Vec<PathBuf>,
}

impl Found {
    fn append(&mut self, mut later: Found) {
        let first = self.entries.len();
        self.entries.append(&mut later.entries);
        self.hashed.extend(later.hashed.iter().map(|number| first + number));
        self.large.extend(later.large.iter().map(|number| first + number));
        self.sockets.append(&mut later.sockets);
    }

    /// Takes in one file.
    pub fn push(&mut self, made: Made) {
        let number = self.entries.len();
        match made.origin {
            Origin::Known => {}
            Origin::Hashed => self.hashed.push(number),
            Origin::Large => self.large.push(number),
        }
        self.entries.push(made.entry);
    }
}

/// The rest of a directory, given to another thread.
struct Job {
    level: Level,
    at: PathBuf,
    lands: PathBuf,
    depth: usize,
}

/// What one thread found in its part of the walk, in order.
struct Done {
    parts: Vec<Part>,
    /// What ended it after all that.
    error: Option<ContextError>,
}

enum Part {
    Found(Found),
    /// What the job of this number found.
    Job(usize),
}

/// A directory whose names are being gone through.
struct Level {
    dir: OwnedFd,
    names: Names,
    /// Only what a `--parents` pattern reaches is wanted.
    is_sought: bool,
    /// How many directories were waiting before the current name.
    waiting: usize,
    /// Jobs that were given the rest of the names, the last ones first.
    given: Vec<usize>,
}

/// Walks all of an open directory, `at` in the tree; with `sought`, only what a `--parents` pattern reaches.
pub(super) fn walk(
    scope: &Scope<'_>,
    at: PathBuf,
    dir: OwnedFd,
    sought: Option<&Sought<'_>>,
) -> Result<Found, ContextError> {
    let first = |crew: &Crew, start: &dyn Fn()| {
        let mut walker = Walker::new(scope, crew, at, PathBuf::new(), 0);
        walker.start = Some(start);
        walker.sought = sought;
        let entered = walker.level(dir, 0, sought.is_some());
        walker.finish(entered)
    };
    let job = |crew: &Crew, job: Job| {
        let walker = Walker::new(scope, crew, job.at, job.lands, job.depth);
        walker.finish(Ok(job.level))
    };
    let (done, mut jobs) = Crew::run(first, job);
    let mut found = Found::default();
    collect(done, &mut jobs, &mut found)?;
    Ok(found)
}

/// Puts together what was found, in the order of one thread; the first error in that order is the one to show.
fn collect(done: Done, jobs: &mut [Option<Done>], found: &mut Found) -> Result<(), ContextError> {
    for part in done.parts {
        match part {
            Part::Found(part) if found.entries.is_empty() && found.sockets.is_empty() => *found = part,
            Part::Found(part) => found.append(part),
            Part::Job(number) => {
                let done = jobs.get_mut(number).and_then(Option::take);
                collect(done.expect("a job is done once, and a panic ends all"), jobs, found)?;
            }
        }
    }
    done.error.map_or(Ok(()), Err)
}

/// One thread's part of a walk.
pub(super) struct Walker<'w> {
    scope: &'w Scope<'w>,
    crew: &'w Crew,
    reader: FileReader<'w>,
    /// Starts other threads; taken when it was called.
    start: Option<&'w dyn Fn()>,
    sought: Option<&'w Sought<'w>>,
    work: u64,
    /// In the tree.
    at: PathBuf,
    /// Relative to the destination.
    lands: PathBuf,
    /// How many directories above the first level there are.
    depth: usize,
    levels: Vec<Level>,
    found: Found,
    /// What came before `found`.
    parts: Vec<Part>,
    /// Directories above `at` that are left out themselves, and come in with the first file below.
    waiting: Vec<Entry>,
}

impl<'w> Walker<'w> {
    fn new(scope: &'w Scope<'w>, crew: &'w Crew, at: PathBuf, lands: PathBuf, depth: usize) -> Walker<'w> {
        Walker {
            scope,
            crew,
            reader: FileReader::new(scope),
            start: None,
            sought: None,
            work: 0,
            at,
            lands,
            depth,
            levels: Vec::new(),
            found: Found::default(),
            parts: Vec::new(),
            waiting: Vec::new(),
        }
    }

    fn finish(mut self, first: Result<Level, ContextError>) -> Done {
        let walked = first.and_then(|level| {
            self.levels.push(level);
            self.run()
        });
        self.parts.push(Part::Found(self.found));
        Done { parts: self.parts, error: walked.err() }
    }

    fn run(&mut self) -> Result<(), ContextError> {
        while let Some(mut level) = self.levels.pop() {
            self.waiting.truncate(level.waiting);
            if self.crew.is_hungry() {
                self.give(&mut level);
            }
            let Some((name, kind)) = level.names.pop_front() else {
                self.leave(level);
                continue;
            };
            self.at.push(&name);
            self.lands.push(&name);
            level.waiting = self.waiting.len();
            self.count(1);
            let entered = match self.sought.filter(|_| level.is_sought) {
                None => self.visit(&level.dir, &name, kind),
                Some(sought) => self.visit_sought(&level.dir, &name, kind, sought),
            }?;
            self.levels.push(level);
            match entered {
                Some(below) => self.levels.push(below),
                None => {
                    self.at.pop();
                    self.lands.pop();
                }
            }
        }
        Ok(())
    }

    fn leave(&mut self, level: Level) {
        for number in level.given.into_iter().rev() {
            self.parts.push(Part::Found(std::mem::take(&mut self.found)));
            self.parts.push(Part::Job(number));
        }
        // The first level has no name in this walk.
        if !self.levels.is_empty() {
            self.at.pop();
            self.lands.pop();
        }
    }

    fn count(&mut self, work: u64) {
        self.work += work;
        if self.work > WORTH
            && let Some(start) = self.start.take()
        {
            start();
        }
    }

    /// Gives half of what is left of some directory away; `lowest` is the one at hand.
    fn give(&mut self, lowest: &mut Level) {
        // What waits would have to come in on two threads.
        if !self.waiting.is_empty() {
            return;
        }
        let depth = self.levels.len();
        for number in 0..=depth {
            let is_lowest = number == depth;
            let level = if is_lowest { &mut *lowest } else { &mut self.levels[number] };
            // Who gives from the lowest must keep something to do.
            let keep = (level.names.len() + usize::from(is_lowest)) / 2;
            let rest = level.names.len() - keep;
            let is_dir = |name: &(OsString, FileType)| name.1 == FileType::Directory;
            if level.is_sought || rest < WORTH_GIVING && !level.names.range(keep..).any(is_dir) {
                continue;
            }
            // Out of descriptors: the work is done here.
            let Ok(dir) = level.dir.try_clone() else { return };
            let names = level.names.split_off(keep);
            let up =
                |path: &PathBuf| path.ancestors().nth(depth - number).map(PathBuf::from).unwrap_or_default();
            let job = Job {
                level: Level { dir, names, is_sought: false, waiting: 0, given: Vec::new() },
                at: up(&self.at),
                lands: up(&self.lands),
                depth: self.depth + number,
            };
            level.given.push(self.crew.give(job));
            return;
        }
    }

    /// Reads the names of a directory so many levels deep, or those of them that may lead to a match.
    fn level(&self, dir: OwnedFd, depth: usize, is_sought: bool) -> Result<Level, ContextError> {
        if depth > MAX_DEPTH {
            return Err(ContextError::TooDeep(self.at.clone()));
        }
        let names = match self.sought.filter(|_| is_sought) {
            Some(sought) => sought.names_of(&dir, &self.at, depth)?,
            None => read_dir(&dir).map_err(|e| read(&self.at, e))?,
        };
        Ok(Level { dir, names: names.into(), is_sought, waiting: self.waiting.len(), given: Vec::new() })
    }

    /// Takes in one name; returns the directory to go into.
    fn visit(&mut self, dir: &OwnedFd, name: &OsStr, kind: FileType) -> Result<Option<Level>, ContextError> {
        let is_dir = kind == FileType::Directory;
        let mut verdict = self.scope.ignored(&self.at, is_dir);
        if let Some(exclude) = &self.scope.exclude {
            verdict = verdict.max(exclude.verdict(&self.lands, is_dir));
        }
        match (kind, verdict) {
            (_, Verdict::Out) => Ok(None),
            (FileType::Directory, verdict) => self.enter(dir, name, verdict == Verdict::In, false),
            // Only a directory can come in for what is below it.
            (_, Verdict::Perhaps) => Ok(None),
            (FileType::Socket, _) => {
                self.found.sockets.push(self.at.clone());
                Ok(None)
            }
            (_, Verdict::In) => {
                let stat = match stat_at(dir, name) {
                    Ok(stat) => stat,
                    Err(e) if absent(&e) => return Ok(None),
                    Err(e) => return Err(read(&self.at, e)),
                };
                let made = match self.reader.read(dir.as_fd(), name, &self.at, &self.lands, stat) {
                    Err(ContextError::Read { source, .. }) if absent(&source) => return Ok(None),
                    made => made?,
                };
                if made.origin == Origin::Hashed {
                    self.count(1 + made.entry.stat.size / 4096);
                }
                self.found.entries.append(&mut self.waiting);
                self.found.push(made);
                Ok(None)
            }
        }
    }

    /// Goes on with one name: a match comes in whole, a directory that may lead to one waits.
    fn visit_sought(
        &mut self,
        dir: &OwnedFd,
        name: &OsStr,
        kind: FileType,
        sought: &Sought<'_>,
    ) -> Result<Option<Level>, ContextError> {
        if sought.matches(&self.lands) {
            return self.visit(dir, name, kind);
        }
        if kind != FileType::Directory || !sought.may_match_below(&self.lands) {
            return Ok(None);
        }
        let excluded = self.scope.exclude.as_ref().map_or(Verdict::In, |e| e.verdict(&self.lands, true));
        if self.scope.ignored(&self.at, true).max(excluded) == Verdict::Out {
            return Ok(None);
        }
        self.enter(dir, name, false, true)
    }

    /// Opens a directory and puts it into the list, or among the waiting; `None` for one that went away.
    fn enter(
        &mut self,
        dir: &OwnedFd,
        name: &OsStr,
        is_wanted: bool,
        is_sought: bool,
    ) -> Result<Option<Level>, ContextError> {
        let below = match open_no_follow(dir, name, DIRECTORY, Mode::empty()) {
            Ok(below) => below,
            Err(e) if absent(&e) => return Ok(None),
            Err(e) => return Err(read(&self.at, e)),
        };
        let stat = fstat(&below).map_err(|e| read(&self.at, e))?;
        let xattrs = xattrs(Target::Fd(below.as_fd())).map_err(|e| read(&self.at, e))?;
        let kind = EntryKind::Directory;
        let entry = Entry { path: self.lands.clone(), stat, kind, xattrs, on_the_way: is_sought };
        match is_wanted {
            true => {
                self.found.entries.append(&mut self.waiting);
                self.found.entries.push(entry);
            }
            false => self.waiting.push(entry),
        }
        // The level at hand is not among the levels while it is looked at.
        self.level(below, self.depth + self.levels.len() + 1, is_sought).map(Some)
    }
}
