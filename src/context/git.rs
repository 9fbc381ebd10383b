//! Build contexts and sources of ADD from git repositories.
//!
//! The work is done by the program git, held to its own folder and to none of the user's or the
//! system's settings (`command`). `resolve` asks what a name stands for, `repository` keeps what was
//! fetched, `work_tree` keeps what was checked out, `access` says who one is. Not here: what an
//! address means (`remote`).

mod access;
mod command;
mod error;
mod repository;
mod resolve;
mod work_tree;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::remote::GitAddress;
use crate::sys::RootDir;
use crate::sys::lock::FileLock;

use super::tree::Tree;
use command::Runner;
pub use error::GitError;
use repository::Repository;

/// Where git is, what it may keep, and how it reaches the world.
#[derive(Debug, Clone)]
pub struct GitOptions {
    /// An absolute folder for repositories and checkouts; made where it is missing, for its owner alone.
    pub folder: PathBuf,
    /// Where git and ssh are looked for (PATH).
    pub path: OsString,
    /// `http_proxy` and the like, as in the environment; other names are ignored.
    pub proxies: Vec<(String, OsString)>,
    /// Certificates of authorities to trust instead of the system's, a PEM file.
    pub certificates: Option<PathBuf>,
    /// The socket of an ssh agent; without one there are no keys.
    pub ssh_agent: Option<PathBuf>,
    /// The hosts that ssh may talk to; without a file, the first key seen of a host is kept and held to.
    pub known_hosts: Option<PathBuf>,
}

impl GitOptions {
    fn home(&self) -> PathBuf {
        self.folder.join("home")
    }
}

/// What one request may use, and when it ends.
#[derive(Clone, Copy)]
pub struct GitAccess<'a> {
    /// Returns a secret by its name: `GIT_AUTH_TOKEN`, `GIT_AUTH_HEADER`, and these with `.HOST`.
    pub secret: &'a dyn Fn(&str) -> Option<Vec<u8>>,
    /// Asked about twenty times a second; git is killed soon after it says so.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

/// What an address stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The commit, 40 or 64 hexadecimal digits.
    ///
    /// Where the address gives an object in full that is a tag's, the tag; [`GitTree::commit`] knows better.
    pub id: String,
    /// What the name stands for directly: an annotated tag's own object, else the commit.
    pub object: String,
    /// The whole name (`refs/heads/main`); `None` where a commit was asked for.
    pub reference: Option<String>,
}

/// Files from a repository.
#[derive(Debug)]
pub struct GitTree {
    /// A context: owners do not count. Files are 0644 or 0755, directories 0755.
    pub tree: Tree,
    pub commit: String,
    /// The commit's time, in seconds since 1970.
    pub commit_time: i64,
    /// The repository's name.
    pub name: String,
    /// Where the files lie, the same from build to build: what a digest cache goes by.
    pub path: PathBuf,
}

/// Repositories and checkouts in one folder. Several processes may use it at once.
#[derive(Debug)]
pub struct Git {
    options: GitOptions,
    program: OnceLock<PathBuf>,
}

impl Git {
    /// Nothing is read or made before it is needed.
    pub fn new(options: GitOptions) -> Git {
        Git { options, program: OnceLock::new() }
    }

    /// Asks what the address stands for. Nothing is asked where it gives the whole commit.
    pub fn resolve(&self, address: &GitAddress, access: GitAccess<'_>) -> Result<Commit, GitError> {
        if let Some(commit) = address.commit() {
            let by_name = address.reference().filter(|name| name.starts_with("refs/"));
            let commit = Commit {
                id: commit.to_owned(),
                object: commit.to_owned(),
                reference: by_name.map(str::to_owned),
            };
            resolve::check(address, &commit)?;
            return Ok(commit);
        }
        let commit = resolve::ask(&self.runner(address, access)?, address)?;
        resolve::check(address, &commit)?;
        Ok(commit)
    }

    /// Returns the files of a commit that [`Git::resolve`] returned for the same address.
    ///
    /// Nothing is asked and no program runs where the commit was checked out before.
    pub fn checkout(
        &self,
        address: &GitAddress,
        commit: &Commit,
        access: GitAccess<'_>,
    ) -> Result<GitTree, GitError> {
        let folder = self.options.folder.join("checkouts");
        make_folder(&folder)?;
        let name = work_tree::name(address, commit);
        let place = folder.join(&name);
        let lock = folder.join(format!("{name}.lock"));
        // Who removes old checkouts takes this lock alone.
        let lock = FileLock::shared(&lock).map_err(|source| GitError::Files { path: lock, source })?;
        // Its mtime is the last use: what is not used for longest makes room first.
        let _ = lock.file().set_modified(std::time::SystemTime::now());
        if let Some(found) = work_tree::Kept::open(&place)? {
            return open(address, found, lock);
        }
        let runner = self.runner(address, access)?;
        let repository = Repository::open(&runner, address, commit)?;
        // Another process may have done it while we waited for the repository.
        if work_tree::Kept::open(&place)?.is_none() {
            let id = repository.fetch(&runner, address, commit)?;
            work_tree::make(&runner, &repository, address, commit, &id, &place)?;
        }
        let gone = || GitError::Files { path: place.clone(), source: std::io::ErrorKind::NotFound.into() };
        open(address, work_tree::Kept::open(&place)?.ok_or_else(gone)?, lock)
    }

    fn runner<'a>(&'a self, address: &GitAddress, access: GitAccess<'a>) -> Result<Runner<'a>, GitError> {
        make_folder(&self.options.folder)?;
        make_folder(&self.options.home())?;
        let runner = |program: &Path| Runner {
            program: program.to_owned(),
            options: &self.options,
            settings: Vec::new(),
            cancelled: access.cancelled,
        };
        let program = match self.program.get() {
            Some(program) => program,
            None => {
                let program = command::find_git(&self.options.path).ok_or(GitError::Missing)?;
                let version = runner(&program).run(&self.options.home(), command::LOCAL, &["version"])?;
                command::check_version(&version.text())?;
                self.program.get_or_init(|| program)
            }
        };
        Ok(Runner { settings: access::http_settings(address, &access)?, ..runner(program) })
    }
}

/// Opens what is wanted of a checkout.
fn open(address: &GitAddress, kept: work_tree::Kept, lock: FileLock) -> Result<GitTree, GitError> {
    let root =
        RootDir::open(&kept.files).map_err(|source| GitError::Files { path: kept.files.clone(), source })?;
    let (root, path) = match address.subdir() {
        None => (root, kept.files),
        Some(subdir) => {
            let fail = |error: std::io::Error| GitError::Subdir {
                remote: address.remote().to_owned(),
                subdir: subdir.to_owned(),
                why: match error.kind() {
                    std::io::ErrorKind::NotFound => "does not exist",
                    std::io::ErrorKind::NotADirectory => "is not a directory",
                    std::io::ErrorKind::CrossesDevices => "is a link that leads out of the repository",
                    _ => "cannot be opened",
                },
            };
            let fd = root.open_dir_beneath(Path::new(subdir)).map_err(fail)?;
            (RootDir::from_fd(fd), kept.files.join(subdir))
        }
    };
    let mut tree = Tree::context(root);
    tree.lock = Some(std::sync::Arc::new(lock));
    let name = address.short_name().to_owned();
    Ok(GitTree { tree, commit: kept.commit, commit_time: kept.time, name, path })
}

/// Makes a folder of ours, for its owner alone.
fn make_folder(path: &Path) -> Result<(), GitError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| GitError::Files { path: path.to_owned(), source })
}
