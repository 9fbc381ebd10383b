//! A commit's files, checked out once and kept: `checkouts/NAME/files`.
//!
//! Made aside and renamed, so that a checkout is whole or not there.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::image::Digest;
use crate::remote::GitAddress;
use crate::remote::Mtime;
use crate::sys::RootDir;
use crate::sys::atomic;
use crate::sys::copy::set_times;
use crate::sys::copy::set_times_at;
use crate::sys::dir;
use crate::sys::dir::DirStack;
use crate::sys::root_dir::fstat;
use crate::sys::root_dir::open_no_follow;

use super::Commit;
use super::command::LOCAL;
use super::command::REMOTE;
use super::command::Runner;
use super::error::GitError;
use super::make_folder;
use super::repository::Repository;
use super::repository::clear;
use super::repository::is_refusal;
use super::repository::must;
use super::repository::object_format;
use super::repository::own_name;

/// A checkout that is there.
pub(super) struct Kept {
    pub files: PathBuf,
    pub commit: String,
    /// In seconds since 1970.
    pub time: i64,
}

impl Kept {
    /// Opens a checkout, or returns `None` where there is none.
    pub fn open(place: &Path) -> Result<Option<Kept>, GitError> {
        let about = place.join("commit");
        let text = match fs::read_to_string(&about) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(GitError::Files { path: about, source }),
        };
        let read =
            text.trim().split_once(' ').and_then(|(id, time)| Some((id.to_owned(), time.parse().ok()?)));
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the file is damaged: remove its folder");
        let (commit, time) = read.ok_or_else(|| GitError::Files { path: about, source: damaged() })?;
        Ok(Some(Kept { files: place.join("files"), commit, time }))
    }
}

/// Returns the name of a checkout: all that its files depend on. The directory wanted of it does not count.
pub(super) fn name(address: &GitAddress, commit: &Commit) -> String {
    let kept = match address.keeps_git_dir() {
        // The repository in it says where it comes from.
        true => format!("git {} {}", commit.object, commit.reference.as_deref().unwrap_or_default()),
        false => String::new(),
    };
    let times = if address.mtime() == Some(Mtime::Commit) { "commit" } else { "checkout" };
    let fields =
        [address.remote(), &commit.id, if address.submodules() { "submodules" } else { "" }, times, &kept];
    Digest::of(fields.join("\n").as_bytes()).hex().to_owned()
}

/// Checks a commit out that is in the repository, and publishes it as `place`.
pub(super) fn make(
    runner: &Runner<'_>,
    repository: &Repository,
    address: &GitAddress,
    commit: &Commit,
    id: &str,
    place: &Path,
) -> Result<(), GitError> {
    let staging = repository.staging.join("checkout");
    let files = staging.join("files");
    make_folder(&files)?;
    let git = |protocols: &str, arguments: &[&str]| runner.run(&files, protocols, arguments);
    let local =
        |arguments: &[&str]| git(LOCAL, arguments).and_then(|output| must("check out", address, output));

    local(&["init", "--quiet", object_format(id)])?;
    match address.keeps_git_dir() {
        true => copy_objects(&local, repository, commit)?,
        false => borrow_objects(repository, &files.join(".git"))
            .map_err(|source| GitError::Files { path: files.join(".git"), source })?,
    }
    // Relative addresses of submodules start here.
    local(&["config", "remote.origin.url", address.remote()])?;
    local(&["config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"])?;
    local(&["checkout", "--quiet", "--force", "--detach", "--no-recurse-submodules", id, "--"])?;
    if address.submodules() {
        submodules(runner, address, &files)?;
    }
    let time = local(&["log", "-1", "--format=%ct", id, "--"])?.text();
    let time: i64 = time.parse().map_err(|_| GitError::Failed {
        doing: "tell the time of a commit of",
        remote: address.remote().to_owned(),
        detail: format!("{id} has none"),
    })?;

    let times = (address.mtime() == Some(Mtime::Commit)).then_some(time);
    let published = settle(&files, address.keeps_git_dir(), times)
        .and_then(|()| fs::write(staging.join("commit"), format!("{id} {time}\n")))
        .and_then(|()| atomic::sync_file_system(&staging))
        .and_then(|()| atomic::rename_new(&staging, place));
    match published {
        Ok(_) => Ok(()),
        Err(source) => Err(GitError::Files { path: staging, source }),
    }
}

/// Fetches submodules and theirs: by the protocols of remote repositories only, so not from folders here.
fn submodules(runner: &Runner<'_>, address: &GitAddress, files: &Path) -> Result<(), GitError> {
    if !fs::symlink_metadata(files.join(".gitmodules")).is_ok_and(|about| about.is_file()) {
        return Ok(());
    }
    let update = ["submodule", "--quiet", "update", "--init", "--recursive"];
    let mut output = runner.run(files, REMOTE, &[&update[..], &["--depth=1"]].concat())?;
    let refused = ["shallow", "depth", "did not contain"].iter().any(|phrase| output.stderr.contains(phrase));
    if !output.success && (refused || is_refusal(&output.stderr)) {
        // Not every server gives a commit by its name, or without history: again, from the start.
        must(
            "check out",
            address,
            runner.run(files, LOCAL, &["submodule", "--quiet", "deinit", "--force", "--all"])?,
        )?;
        clear(&files.join(".git/modules"))?;
        output = runner.run(files, REMOTE, &update)?;
    }
    must("fetch the submodules of", address, output).map(drop)
}

/// Gives a new repository the objects it needs, as its own.
fn copy_objects(
    local: &dyn Fn(&[&str]) -> Result<super::command::Output, GitError>,
    repository: &Repository,
    commit: &Commit,
) -> Result<(), GitError> {
    let from = repository.path.to_string_lossy();
    let own = own_name(&commit.object);
    // A tag keeps its name; so does a branch, though the checkout is of no branch, as in BuildKit.
    let spec = match commit.reference.as_deref() {
        Some(name) if name.starts_with("refs/heads/") || name.starts_with("refs/tags/") => {
            format!("+{own}:{name}")
        }
        _ => own,
    };
    let options = ["--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"];
    let more = ["--update-head-ok", "--no-auto-maintenance", "--", from.as_ref(), spec.as_str()];
    local(&[&["fetch"][..], &options, &more].concat()).map(drop)
}

/// Lets a repository that is removed at once read the objects of ours.
fn borrow_objects(repository: &Repository, git_dir: &Path) -> io::Result<()> {
    let mut objects = repository.path.join("objects").into_os_string();
    objects.push("\n");
    fs::create_dir_all(git_dir.join("objects/info"))?;
    fs::write(git_dir.join("objects/info/alternates"), objects.as_encoded_bytes())?;
    match fs::copy(repository.path.join("shallow"), git_dir.join("shallow")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Gives every file the mode it has in git, whatever the umask; removes `.git` unless it stays.
///
/// With `times` (seconds since 1970) all files, links and directories get that time.
fn settle(files: &Path, keep_git: bool, times: Option<i64>) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let enter = |fd: &std::os::fd::OwnedFd| -> io::Result<Vec<(std::ffi::OsString, FileType)>> {
        let mut entries = dir::read_dir(fd)?;
        if !keep_git && let Some(at) = entries.iter().position(|(name, _)| name == ".git") {
            // A submodule has one too. No tree of git's can hold that name itself.
            dir::remove_tree(fd.as_fd(), &entries.remove(at).0)?;
        }
        rustix::fs::fchmod(fd, Mode::from_raw_mode(0o755))?;
        times.map_or(Ok(()), |seconds| set_times(fd, seconds, 0))?;
        Ok(entries)
    };
    let top = RootDir::open(files)?.open_at(Path::new("."), flags, Mode::empty())?;
    let mut pending = vec![enter(&top)?];
    let mut stack = DirStack::new(top)?;
    while let Some(entries) = pending.last_mut() {
        let Some((name, kind)) = entries.pop() else {
            pending.pop();
            stack.pop()?;
            continue;
        };
        match kind {
            FileType::Directory => {
                let fd = open_no_follow(stack.current(), &name, flags, Mode::empty())?;
                pending.push(enter(&fd)?);
                stack.push(fd)?;
            }
            FileType::RegularFile => {
                let fd = open_no_follow(stack.current(), &name, OFlags::RDONLY, Mode::empty())?;
                let mode = if fstat(&fd)?.mode & 0o100 != 0 { 0o755 } else { 0o644 };
                rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))?;
                times.map_or(Ok(()), |seconds| set_times(&fd, seconds, 0))?;
            }
            _ => times.map_or(Ok(()), |seconds| set_times_at(stack.current(), &name, seconds, 0))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn settles_what_a_strict_umask_made() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        fs::create_dir_all(place("a/.git/objects")).unwrap();
        fs::create_dir(place(".git")).unwrap();
        for (name, mode) in [("a/file", 0o600), ("a/run", 0o700), ("a/.git/x", 0o400), ("a/both", 0o4777)] {
            fs::write(place(name), "x").unwrap();
            fs::set_permissions(place(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        std::os::unix::fs::symlink("file", place("a/link")).unwrap();
        fs::set_permissions(place("a"), fs::Permissions::from_mode(0o700)).unwrap();
        settle(folder.path(), true, None).unwrap();
        assert!(place("a/.git/objects").exists());
        settle(folder.path(), false, Some(7)).unwrap();
        assert!(!place("a/.git").exists() && !place(".git").exists());
        let check = |name: &str, mode: u32| {
            let about = fs::symlink_metadata(place(name)).unwrap();
            assert_eq!((about.mode() & 0o7777, about.mtime()), (mode, 7), "{name}");
        };
        check("", 0o755);
        check("a", 0o755);
        check("a/file", 0o644);
        check("a/run", 0o755);
        check("a/both", 0o755);
        check("a/link", 0o777);
    }
}
