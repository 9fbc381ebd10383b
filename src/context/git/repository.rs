//! A bare repository for each remote one: what was fetched once is not fetched again.
//!
//! Fetched commits are named `refs/rbuild/OBJECT`: where that name is, all of the commit's files are.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::image::Digest;
use crate::remote::GitAddress;
use crate::sys::RootDir;
use crate::sys::dir::remove_tree;
use crate::sys::lock::FileLock;

use super::Commit;
use super::command::LOCAL;
use super::command::Output;
use super::command::REMOTE;
use super::command::Runner;
use super::error::GitError;
use super::make_folder;

/// A repository of ours that nobody else uses while this is held.
pub(super) struct Repository {
    pub path: PathBuf,
    /// Where checkouts are made; empty when the repository is opened.
    pub staging: PathBuf,
    _lock: FileLock,
}

impl Repository {
    /// Waits until the repository is free, and makes it where it is missing.
    pub fn open(runner: &Runner<'_>, address: &GitAddress, commit: &Commit) -> Result<Repository, GitError> {
        let name = Digest::of(format!("{} {}", address.remote(), commit.object.len()).as_bytes());
        let folder = runner.options.folder.join("repositories");
        make_folder(&folder)?;
        let lock = wait(runner, &folder.join(format!("{}.lock", name.hex())))?;
        let staging = runner.options.folder.join("staging").join(name.hex());
        // What a process left that died in the middle.
        clear(&staging)?;
        make_folder(&staging)?;
        let repository = Repository { path: folder.join(name.hex()), staging, _lock: lock };
        make_folder(&repository.path)?;
        for left in ["shallow.lock", "config.lock", "packed-refs.lock", "HEAD.lock"] {
            let _ = std::fs::remove_file(repository.path.join(left));
        }
        let format = object_format(&commit.object);
        must("keep", address, repository.git(runner, LOCAL, &["init", "--quiet", "--bare", format])?)?;
        Ok(repository)
    }

    /// Makes sure that the commit is here with all its files; returns it, a tag peeled.
    pub fn fetch(
        &self,
        runner: &Runner<'_>,
        address: &GitAddress,
        commit: &Commit,
    ) -> Result<String, GitError> {
        let own = own_name(&commit.object);
        if let Some(id) = self.peel(runner, &own)? {
            return Ok(id);
        }
        let missing =
            || GitError::NoCommit { remote: address.remote().to_owned(), commit: commit.object.clone() };
        // By name first: every server can do that, and the name has hardly moved since it was resolved.
        if let Some(reference) = &commit.reference
            && address.commit().is_none()
        {
            let incoming = own_name("incoming");
            self.fetch_one(runner, address, reference, &incoming)?;
            let found = self.git(runner, LOCAL, &["rev-parse", "--verify", "--quiet", &incoming])?;
            if found.text() == commit.object {
                return self.name(runner, address, &commit.object)?.ok_or_else(missing);
            }
        }
        let by_commit = self.fetch_one(runner, address, &commit.object, &own)?;
        if by_commit.success
            && let Some(id) = self.peel(runner, &own)?
        {
            return Ok(id);
        }
        if !is_refusal(&by_commit.stderr) {
            must("fetch from", address, by_commit)?;
        }
        // The server gives names only: all of them, with their history, since the commit may lie in it.
        let shallow = self.path.join("shallow").exists();
        let mut arguments = fetch_arguments();
        arguments.extend(shallow.then_some("--unshallow"));
        arguments.extend([
            "--",
            address.remote(),
            "+refs/heads/*:refs/all/heads/*",
            "+refs/tags/*:refs/all/tags/*",
        ]);
        must("fetch from", address, self.git(runner, REMOTE, &arguments)?)?;
        self.name(runner, address, &commit.object)?.ok_or_else(missing)
    }

    /// Fetches one reference or object, without history where the server can do that.
    fn fetch_one(
        &self,
        runner: &Runner<'_>,
        address: &GitAddress,
        from: &str,
        to: &str,
    ) -> Result<Output, GitError> {
        let spec = format!("+{from}:{to}");
        let run = |depth: Option<&str>| {
            let mut arguments = fetch_arguments();
            arguments.extend(depth);
            arguments.extend(["--", address.remote(), &spec]);
            self.git(runner, REMOTE, &arguments)
        };
        let output = run(Some("--depth=1"))?;
        let no_depth =
            !output.success && (output.stderr.contains("shallow") || output.stderr.contains("depth"));
        let output = if no_depth { run(None)? } else { output };
        match output.success || is_refusal(&output.stderr) {
            true => Ok(output),
            false => Err(GitError::from_output("fetch from", address, &output.stderr)),
        }
    }

    /// Gives an object its name if it is here, and returns its commit.
    fn name(
        &self,
        runner: &Runner<'_>,
        address: &GitAddress,
        object: &str,
    ) -> Result<Option<String>, GitError> {
        let Some(id) = self.peel(runner, object)? else { return Ok(None) };
        must("keep", address, self.git(runner, LOCAL, &["update-ref", &own_name(object), object])?)?;
        Ok(Some(id))
    }

    /// Returns the commit that a name or object stands for, if it is here.
    fn peel(&self, runner: &Runner<'_>, name: &str) -> Result<Option<String>, GitError> {
        let commit = format!("{name}^{{commit}}");
        let output = self.git(runner, LOCAL, &["rev-parse", "--verify", "--quiet", &commit])?;
        Ok(Some(output.text()).filter(|id| output.success && crate::remote::is_commit(id)))
    }

    fn git(&self, runner: &Runner<'_>, protocols: &str, arguments: &[&str]) -> Result<Output, GitError> {
        let mut all: Vec<&std::ffi::OsStr> = vec!["--git-dir".as_ref(), self.path.as_os_str()];
        all.extend(arguments.iter().map(std::ffi::OsStr::new));
        runner.run(&self.path, protocols, &all)
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        // The next to open the repository would do it too.
        let _ = clear(&self.staging);
    }
}

/// Returns the name under which an object is kept.
pub(super) fn own_name(object: &str) -> String {
    format!("refs/rbuild/{object}")
}

/// Returns git init's option for objects with names of that length.
pub(super) fn object_format(object: &str) -> &'static str {
    match object.len() {
        64 => "--object-format=sha256",
        _ => "--object-format=sha1",
    }
}

fn fetch_arguments() -> Vec<&'static str> {
    vec![
        "fetch",
        "--quiet",
        "--no-tags",
        "--no-write-fetch-head",
        "--no-auto-maintenance",
        "--no-recurse-submodules",
    ]
}

/// Tells whether a server refuses to give an object, or a reference is gone: other ways are left then.
pub(super) fn is_refusal(stderr: &str) -> bool {
    ["not our ref", "unadvertised object", "couldn't find remote ref", "no such remote ref"]
        .iter()
        .any(|phrase| stderr.contains(phrase))
}

/// Makes an error of a command that failed.
pub(super) fn must(doing: &'static str, address: &GitAddress, output: Output) -> Result<Output, GitError> {
    match output.success {
        true => Ok(output),
        false => Err(GitError::from_output(doing, address, &output.stderr)),
    }
}

/// Waits for a lock, and for the user's patience.
fn wait(runner: &Runner<'_>, path: &Path) -> Result<FileLock, GitError> {
    let fail = |source| GitError::Files { path: path.to_owned(), source };
    loop {
        if let Some(lock) = FileLock::try_exclusive(path).map_err(fail)? {
            return Ok(lock);
        }
        if (runner.cancelled)() {
            return Err(GitError::Cancelled);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Removes a folder with all that is in it, if it is there.
pub(super) fn clear(path: &Path) -> Result<(), GitError> {
    let fail = |source| GitError::Files { path: path.to_owned(), source };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    make_folder(parent)?;
    let parent = RootDir::open(parent).map_err(fail)?;
    match remove_tree(parent.fd(), name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fail(error)),
        _ => Ok(()),
    }
}
