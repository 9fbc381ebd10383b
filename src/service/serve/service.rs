//! The queue of builds: what is asked for, what runs, what came of it.
//!
//! Builds of one project run one after another, those of several projects beside each other. Of one branch or
//! tag one build waits at most: it builds what is newest once it starts. Everything is on disk before it is
//! answered. Not here: one build (`run`).

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::books::Books;
use super::config::{Config, Project};
use super::names::RefName;
use super::rate::Bucket;
use super::record::{Build, State, now};
use super::run::{self, Ending};
use super::seen::Seen;
use crate::context::{Git, GitOptions};
use crate::service::ServiceError;

/// What the service works with.
pub struct ServiceOptions {
    /// rbuild itself, and the options it gets before the command.
    pub program: PathBuf,
    pub globals: Vec<OsString>,
    /// Variables that no build is to see.
    pub hidden: Vec<OsString>,
    /// A folder of its own, made where it is missing.
    pub data: PathBuf,
    /// How repositories elsewhere are reached; the folder in it does not count.
    pub git: GitOptions,
    /// Gets a line for the server's own log.
    pub say: Box<dyn Fn(&str) + Send + Sync>,
}

/// A server's builds.
pub struct Service {
    pub(super) config: Config,
    pub(super) options: ServiceOptions,
    pub(super) git: Git,
    pub(super) books: Books,
    started: Instant,
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    builds: BTreeMap<u64, Build>,
    seen: Seen,
    rates: HashMap<String, Bucket>,
    /// What runs: the project, and the flag that ends it.
    running: HashMap<u64, (String, Arc<AtomicBool>)>,
    stopping: bool,
}

/// What became of a trigger.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Accepted {
    Queued(u64),
    /// A build that waits already does it too.
    Joined(u64),
}

/// Why a trigger starts nothing.
#[derive(Debug)]
pub(super) enum Refused {
    Seen,
    TooMany { seconds: u64 },
    Full,
    Stopping,
    Disk(ServiceError),
}

impl Service {
    /// Opens the folder of the service; what waited or ran when the last one ended waits now.
    pub fn open(config: Config, options: ServiceOptions) -> Result<Service, ServiceError> {
        let (books, builds) = Books::open(&options.data)?;
        let seen = options.data.join("deliveries");
        let seen = Seen::open(&seen).map_err(ServiceError::at("read", &seen))?;
        let git = Git::new(GitOptions { folder: options.data.join("git"), ..options.git.clone() });
        let inner = Inner { builds, seen, rates: HashMap::new(), running: HashMap::new(), stopping: false };
        let waiting = inner.waiting();
        if waiting > 0 {
            (options.say)(&format!("{waiting} builds of an earlier run wait"));
        }
        let (inner, changed) = (Mutex::new(inner), Condvar::new());
        Ok(Service { config, options, git, books, started: Instant::now(), inner, changed })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, words: &str) {
        (self.options.say)(words);
    }

    /// Asks for a build of a branch or tag.
    pub(super) fn trigger(
        &self,
        project: &Project,
        reference: &RefName,
        commit: Option<String>,
        cause: &str,
        once: &[String],
    ) -> Result<Accepted, Refused> {
        let mut inner = self.lock();
        if inner.stopping {
            return Err(Refused::Stopping);
        }
        if inner.seen.any(once) {
            return Err(Refused::Seen);
        }
        let passed = self.started.elapsed();
        let bucket =
            inner.rates.entry(project.name.clone()).or_insert_with(|| Bucket::new(project.rate, passed));
        bucket.take(passed).map_err(|seconds| Refused::TooMany { seconds })?;
        let accepted = self.queue(&mut inner, &project.name, reference, commit, cause)?;
        let path = self.options.data.join("deliveries");
        inner.seen.add(once).map_err(|error| Refused::Disk(ServiceError::at("write", &path)(error)))?;
        drop(inner);
        self.changed.notify_all();
        Ok(accepted)
    }

    fn queue(
        &self,
        inner: &mut Inner,
        project: &str,
        reference: &RefName,
        commit: Option<String>,
        cause: &str,
    ) -> Result<Accepted, Refused> {
        let waits = |build: &&mut Build| {
            build.state == State::Pending && build.project == project && build.reference == *reference
        };
        if let Some(build) = inner.builds.values_mut().find(waits) {
            build.triggers = build.triggers.saturating_add(1);
            build.commit = commit.or(build.commit.take());
            self.books.write(build).map_err(Refused::Disk)?;
            return Ok(Accepted::Joined(build.id));
        }
        if inner.waiting() >= self.config.queue {
            return Err(Refused::Full);
        }
        let id = inner.builds.last_key_value().map_or(0, |(id, _)| *id) + 1;
        let build = Build {
            id,
            project: project.to_owned(),
            reference: reference.clone(),
            commit,
            state: State::Pending,
            cause: cause.to_owned(),
            triggers: 1,
            images: Vec::new(),
            pushed: Vec::new(),
            queued: now(),
            started: None,
            ended: None,
            error: None,
            process: None,
        };
        self.books.write(&build).map_err(Refused::Disk)?;
        inner.builds.insert(id, build);
        self.say(&format!("build {id}: {project} {reference}, asked for by {cause}"));
        Ok(Accepted::Queued(id))
    }

    /// Asks for what a build did once more; `None` where there is no such build.
    pub(super) fn rebuild(&self, id: u64) -> Option<Result<Accepted, Refused>> {
        let mut inner = self.lock();
        let build = inner.builds.get(&id)?;
        let (project, reference) = (build.project.clone(), build.reference.clone());
        let cause = format!("rebuild of {id}");
        let done = match inner.stopping {
            true => Err(Refused::Stopping),
            false => self.queue(&mut inner, &project, &reference, None, &cause),
        };
        drop(inner);
        self.changed.notify_all();
        Some(done)
    }

    /// Cancels a build; tells whether there was something to cancel, `None` where there is no such build.
    pub(super) fn cancel(&self, id: u64) -> Option<Result<bool, ServiceError>> {
        let mut inner = self.lock();
        if let Some((_, cancel)) = inner.running.get(&id) {
            cancel.store(true, Ordering::SeqCst);
            return Some(Ok(true));
        }
        let build = inner.builds.get_mut(&id)?;
        if build.state != State::Pending {
            return Some(Ok(false));
        }
        build.state = State::Cancelled;
        build.ended = Some(now());
        Some(self.books.write(build).map(|()| true))
    }

    /// Returns a build.
    pub(super) fn build(&self, id: u64) -> Option<Build> {
        self.lock().builds.get(&id).cloned()
    }

    /// Returns the newest builds, newest first.
    pub(super) fn builds(&self, most: usize) -> Vec<Build> {
        self.lock().builds.values().rev().take(most).cloned().collect()
    }

    /// Changes what is known of a build, here and on disk.
    pub(super) fn update(&self, id: u64, change: impl FnOnce(&mut Build)) {
        let mut inner = self.lock();
        let Some(build) = inner.builds.get_mut(&id) else { return };
        change(build);
        if let Err(error) = self.books.write(build) {
            // The build goes on; after a restart it is done again.
            self.say(&format!("build {id}: {}", crate::report::chain(&error)));
        }
    }

    /// Tells whether a running build is to end, and why.
    pub(super) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Ends all: what runs is stopped, and waits for the next start.
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.changed.notify_all();
    }

    /// Does builds until [`Service::stop`].
    pub(super) fn work(&self) {
        while let Some((id, cancel)) = self.take() {
            let ending = run::run(self, id, &cancel);
            self.end(id, ending);
        }
    }

    /// Waits for a build that may run now; `None` once all ends.
    fn take(&self) -> Option<(u64, Arc<AtomicBool>)> {
        let mut inner = self.lock();
        loop {
            if inner.stopping {
                return None;
            }
            let busy = |build: &Build| inner.running.values().any(|(project, _)| *project == build.project);
            let next = inner.builds.values().find(|build| build.state == State::Pending && !busy(build));
            if let Some(id) = next.map(|build| build.id) {
                let cancel = Arc::new(AtomicBool::new(false));
                let Inner { builds, running, .. } = &mut *inner;
                if let Some(build) = builds.get_mut(&id) {
                    build.state = State::Building;
                    build.started = Some(now());
                    running.insert(id, (build.project.clone(), cancel.clone()));
                }
                return Some((id, cancel));
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn end(&self, id: u64, ending: Ending) {
        self.update(id, |build| {
            build.process = None;
            build.ended = Some(now());
            match &ending {
                Ending::Finished => build.state = State::Finished,
                Ending::Failed(why) => {
                    build.state = State::Failed;
                    build.error = Some(why.clone());
                }
                Ending::Cancelled => build.state = State::Cancelled,
                Ending::Stopped => {
                    (build.state, build.started, build.ended) = (State::Pending, None, None);
                    build.pushed.clear();
                }
            }
        });
        self.say(&match ending {
            Ending::Finished => format!("build {id}: finished"),
            Ending::Failed(why) => format!("build {id}: failed: {why}"),
            Ending::Cancelled => format!("build {id}: cancelled"),
            Ending::Stopped => format!("build {id}: stopped; it waits for the next start"),
        });
        let mut inner = self.lock();
        inner.running.remove(&id);
        for old in inner.unwanted(id, self.config.keep) {
            inner.builds.remove(&old);
            self.books.remove(old);
        }
        drop(inner);
        self.changed.notify_all();
    }
}

impl Inner {
    fn waiting(&self) -> usize {
        self.builds.values().filter(|build| build.state == State::Pending).count()
    }

    /// Returns the oldest builds that are over, of the project of one, beyond those that are kept. The newest of
    /// all stays, so that no number comes twice.
    fn unwanted(&self, id: u64, keep: usize) -> Vec<u64> {
        let Some(project) = self.builds.get(&id).map(|build| &build.project) else { return Vec::new() };
        let newest = self.builds.last_key_value().map(|(id, _)| *id);
        let over =
            self.builds.values().rev().filter(|build| build.state.is_over() && build.project == *project);
        over.skip(keep).map(|build| build.id).filter(|id| Some(*id) != newest).collect()
    }
}
