//! The files of one commit of a repository of this machine, in a folder of ours.
//!
//! The folder stays from commit to commit and only what differs is written, so what is known of the digests
//! of its files stays true. Nothing is in it but what was committed; submodules are empty folders. One
//! process at a time may use it. Not here: repositories elsewhere (`context`).

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use super::ServiceError;
use super::git::LocalGit;

/// A folder for the files, and git's notes about them.
#[derive(Debug)]
pub struct Checkout {
    folder: PathBuf,
}

impl Checkout {
    /// Nothing is made before it is needed.
    pub fn at(folder: PathBuf) -> Checkout {
        Checkout { folder }
    }

    /// Makes the folder hold the files of a commit, and returns it. `git` names the repository.
    pub fn update(&self, git: &LocalGit, commit: &str) -> Result<PathBuf, ServiceError> {
        let tree = self.folder.join("tree");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&tree)
            .map_err(ServiceError::at("make", &tree))?;
        // What a git left that was killed; nobody else is here.
        let _ = std::fs::remove_file(self.folder.join("index.lock"));
        let mut git = git.clone();
        git.variables.push(("GIT_INDEX_FILE", self.folder.join("index").into_os_string()));
        let mut work_tree = OsString::from("--work-tree=");
        work_tree.push(&tree);
        let settings = ["submodule.recurse=false", "core.fsmonitor=false", "core.sparseCheckout=false"];
        let mut words = vec![work_tree];
        for setting in settings.into_iter().chain(["core.hooksPath=/dev/null", "core.bare=false"]) {
            words.extend(["-c".into(), setting.into()]);
        }
        words.extend(["read-tree", "--reset", "-u", commit].map(OsString::from));
        git.run(&self.folder, "cannot write the files of the commit", &words)?;
        Ok(tree)
    }
}

/// Returns a path inside a folder whose files come from elsewhere: no link may be on the way, for it could
/// lead anywhere. `relative` may be `.`.
pub fn inside(folder: &Path, relative: &Path) -> Result<PathBuf, ServiceError> {
    let mut path = folder.to_owned();
    for component in relative.components() {
        match component {
            Component::CurDir => continue,
            Component::Normal(name) => path.push(name),
            _ => {
                let what = format!("`{}` leads out of the repository", relative.display());
                return Err(ServiceError::refused(what));
            }
        }
        let found = std::fs::symlink_metadata(&path);
        let found = found.map_err(|source| ServiceError::Files {
            doing: "find in the repository",
            path: relative.to_owned(),
            source,
        })?;
        if found.is_symlink() {
            let what = format!("`{}` is a link, or lies behind one", relative.display());
            return Err(ServiceError::refused(what).with_hint("name the place that it leads to"));
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("sub/file"), "").unwrap();
        std::os::unix::fs::symlink("/etc", folder.path().join("link")).unwrap();
        let check = |relative: &str, expect: Option<&str>| {
            let found = inside(folder.path(), Path::new(relative)).ok();
            assert_eq!(found, expect.map(|name| folder.path().join(name)), "{relative}");
        };
        check(".", Some(""));
        check("sub/file", Some("sub/file"));
        check("./sub", Some("sub"));
        check("link", None);
        check("link/passwd", None);
        check("../x", None);
        check("/etc", None);
        check("missing", None);
    }
}
