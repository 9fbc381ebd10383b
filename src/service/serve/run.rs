//! One build: fetch what the branch or tag stands for now, build it, push it.
//!
//! Only the configured repository is asked. The commit that a request names is only compared: what is built is
//! what the name stands for, so no object that merely lies on the same host can be slipped in.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::config::{Project, Repository};
use super::log::BuildLog;
use super::names::RefName;
use super::record::{Build, Process, State};
use super::service::Service;
use crate::context::{GitAccess, GitError, GitTree};
use crate::remote::{Address, is_commit, parse_context};
use crate::report::chain;
use crate::service::ServiceError;
use crate::service::checkout::{Checkout, inside};
use crate::service::child::{End, Start};
use crate::service::git::LocalGit;
use crate::sys::atomic::create_new;

/// How much of a Dockerfile and a README is shown.
const SHOWN: u64 = 256 << 10;

/// What came of a build.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Finished,
    Failed(String),
    Cancelled,
    /// The server ends.
    Stopped,
}

/// The files of a commit.
struct Files {
    folder: PathBuf,
    commit: String,
    /// Held while they are used.
    _tree: Option<GitTree>,
}

struct Run<'a> {
    service: &'a Service,
    project: &'a Project,
    id: u64,
    cancel: &'a AtomicBool,
    deadline: Instant,
}

/// Does one build.
pub(super) fn run(service: &Service, id: u64, cancel: &AtomicBool) -> Ending {
    let Some(build) = service.build(id) else { return Ending::Failed("its record is gone".to_owned()) };
    let Some(project) = service.config.project(&build.project) else {
        return Ending::Failed("the project is not in the configuration any more".to_owned());
    };
    let deadline = Instant::now() + project.timeout;
    let run = Run { service, project, id, cancel, deadline };
    service.update(id, |build| build.process = None);
    let mut log = match service.books.log(id) {
        Ok(file) => BuildLog::new(file),
        Err(error) => return Ending::Failed(format!("cannot write the log: {error}")),
    };
    let done = run.all(&build, &mut log);
    let ending = match done {
        Ok(()) => Ending::Finished,
        // Why something ended is known here; its own words tell of the consequence.
        Err(_) if service.is_stopping() => Ending::Stopped,
        Err(_) if cancel.load(Ordering::SeqCst) => Ending::Cancelled,
        Err(_) if Instant::now() >= deadline => {
            Ending::Failed(format!("it took longer than {}", words_of(project.timeout)))
        }
        Err(why) => Ending::Failed(why),
    };
    log.note(&match &ending {
        Ending::Finished => "finished".to_owned(),
        Ending::Failed(why) => format!("failed: {why}"),
        Ending::Cancelled => "cancelled".to_owned(),
        Ending::Stopped => "stopped, since the server ends".to_owned(),
    });
    log.finish();
    ending
}

impl Run<'_> {
    fn is_over(&self) -> bool {
        self.cancel.load(Ordering::SeqCst) || Instant::now() >= self.deadline || self.service.is_stopping()
    }

    fn all(&self, build: &Build, log: &mut BuildLog) -> Result<(), String> {
        let project = self.project;
        log.note(&format!("{} {}", project.name, build.reference.as_str()));
        let files = self.fetch(&build.reference).map_err(|error| words(&error))?;
        log.note(&format!("commit {}", files.commit));
        if let Some(asked) = build.commit.as_ref().filter(|asked| **asked != files.commit) {
            log.note(&format!("asked for at {asked}, which it does not stand for now"));
        }
        let mut tags: Vec<String> = Vec::new();
        for tag in project.rules.iter().filter_map(|rule| rule.tag(&build.reference, &files.commit)) {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        let named = |name: &String| tags.iter().map(|tag| format!("{name}:{tag}")).collect::<Vec<_>>();
        let pushes: Vec<String> = project.push.iter().flat_map(&named).collect();
        let mut images = named(&project.image);
        images.extend(pushes.iter().filter(|name| !images.contains(name)).cloned().collect::<Vec<_>>());
        if images.is_empty() {
            return Err("no rule makes an image of it".to_owned());
        }
        self.service.update(self.id, |build| {
            build.commit = Some(files.commit.clone());
            build.images = images.clone();
        });
        let context = inside(&files.folder, &project.context).map_err(|error| words(&error))?;
        let dockerfile = inside(&files.folder, &project.dockerfile).map_err(|error| words(&error))?;
        let mut ignore = project.dockerfile.as_os_str().to_owned();
        ignore.push(".dockerignore");
        // The build reads it where it finds it, and it need not be there.
        if std::fs::symlink_metadata(files.folder.join(&ignore)).is_ok() {
            inside(&files.folder, Path::new(&ignore)).map_err(|error| words(&error))?;
        }
        self.show("dockerfile", &dockerfile);
        let readme = ["README.md", "readme.md", "README", "README.txt", "README.rst"];
        let readme = readme.iter().find_map(|name| {
            inside(&context, Path::new(name)).or_else(|_| inside(&files.folder, Path::new(name))).ok()
        });
        if let Some(readme) = readme {
            self.show("readme", &readme);
        }
        self.child("the build", &self.build_words(&images, &dockerfile, &context), &files.folder, log)?;
        for name in pushes {
            self.service.update(self.id, |build| build.state = State::Pushing);
            log.note(&format!("pushing {name}"));
            self.child("the push", &["push".into(), (&name).into()], &files.folder, log)?;
            self.service.update(self.id, |build| build.pushed.push(name));
        }
        Ok(())
    }

    fn build_words(&self, images: &[String], dockerfile: &Path, context: &Path) -> Vec<OsString> {
        let project = self.project;
        let mut words: Vec<OsString> = vec!["build".into(), "--progress=plain".into()];
        for image in images {
            words.extend(["-t".into(), image.into()]);
        }
        for (name, value) in &project.build_args {
            words.push(format!("--build-arg={name}={value}").into());
        }
        words.extend(project.target.iter().map(|target| format!("--target={target}").into()));
        if !project.platforms.is_empty() {
            words.push(format!("--platform={}", project.platforms.join(",")).into());
        }
        words.extend(["-f".into(), dockerfile.into(), "--".into(), context.into()]);
        words
    }

    /// Gets the files of what a name stands for now.
    fn fetch(&self, reference: &RefName) -> Result<Files, ServiceError> {
        match &self.project.repository {
            Repository::Remote { address, shown } => {
                let fail = |error: GitError| ServiceError::refused(chain(&error));
                let address = match parse_context(&format!("{address}#{}", reference.as_str())) {
                    Some(Ok(Address::Git(address))) => address,
                    _ => return Err(ServiceError::refused(format!("`{shown}` is no repository's address"))),
                };
                let cancelled = || self.is_over();
                let access = GitAccess { secret: &|_| None, cancelled: &cancelled };
                let git = &self.service.git;
                let commit = git.resolve(&address, access).map_err(fail)?;
                let tree = git.checkout(&address, &commit, access).map_err(fail)?;
                Ok(Files { folder: tree.path.clone(), commit: tree.commit.clone(), _tree: Some(tree) })
            }
            Repository::Local(path) => {
                let hidden = self.service.options.hidden.clone();
                let git = LocalGit { hidden, ..LocalGit::default() };
                let git_dir = git.path(
                    path,
                    "finds no repository",
                    &["rev-parse", "--path-format=absolute", "--git-common-dir"],
                )?;
                let git = LocalGit { git_dir: Some(git_dir), ..git };
                let name = format!("{}^{{commit}}", reference.as_str());
                let words = ["rev-parse", "--verify", "--quiet", "--end-of-options", &name];
                let gone = |_| {
                    let what = format!("`{}` is not in the repository", reference.as_str());
                    ServiceError::refused(what)
                };
                let commit = git.run(path, "does not know it", &words).map_err(gone)?;
                let commit = String::from_utf8(commit).unwrap_or_default();
                if !is_commit(&commit) {
                    return Err(ServiceError::refused("git gives no commit"));
                }
                let place = self.service.books.folder().join("checkouts").join(&self.project.name);
                let folder = Checkout::at(place).update(&git, &commit)?;
                Ok(Files { folder, commit, _tree: None })
            }
        }
    }

    /// Keeps the start of a file for the page about the build.
    fn show(&self, name: &str, from: &Path) {
        let to = self.service.books.file(self.id, name);
        let _ = std::fs::remove_file(&to);
        let mut bytes = Vec::new();
        let is_file = std::fs::symlink_metadata(from).is_ok_and(|found| found.is_file());
        let read = |bytes: &mut Vec<u8>| File::open(from)?.take(SHOWN).read_to_end(bytes);
        // One that is not there is the build's to tell.
        if is_file && read(&mut bytes).is_ok() {
            let _ = create_new(&to).and_then(|mut file| file.write_all(&bytes));
        }
    }

    fn child(&self, what: &str, words: &[OsString], folder: &Path, log: &mut BuildLog) -> Result<(), String> {
        let options = &self.service.options;
        let arguments = [&options.globals[..], words].concat();
        let start = Start {
            program: &options.program,
            arguments: &arguments,
            folder: folder.to_owned(),
            hidden: &options.hidden,
        };
        let mut started = |pid| self.service.update(self.id, |build| build.process = Process::of(pid));
        match start.run(log, &mut started, &|| self.is_over()) {
            Ok(End::Success) => Ok(()),
            Ok(End::Code(code)) => Err(format!("{what} ended with exit code {code}")),
            Ok(End::Signal(signal)) => Err(format!("{what} was killed by signal {signal}")),
            Ok(End::Stopped) => Err(format!("{what} was stopped")),
            Err(error) => Err(format!("{what} could not be started: {error}")),
        }
    }
}

fn words(error: &ServiceError) -> String {
    match error.hint() {
        None => chain(error),
        Some(hint) => format!("{} ({hint})", chain(error)),
    }
}

fn words_of(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}
