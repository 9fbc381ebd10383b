//! Hooks put into a repository and taken away again; one of somebody else's is never lost.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::place::Place;
use super::queue::Queue;
use super::script::{self, Hook, KEPT, Kind};
use crate::service::ServiceError;
use crate::sys::atomic::{create_new, random_bits, rename_new};
use crate::sys::read::read_small;

/// What stands in a hook's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookState {
    Nothing,
    /// Ours, and the command in it.
    Ours(String),
    /// Somebody else's.
    Other,
}

/// A hook's place, and what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub kind: Kind,
    pub path: PathBuf,
    pub state: HookState,
    /// The hook of somebody else's that ours calls first.
    pub kept: Option<PathBuf>,
}

/// Where the hook that was there before is now.
pub type Kept = Option<PathBuf>;

/// Looks at a hook's place.
pub fn look(place: &Place, kind: Kind) -> Result<Found, ServiceError> {
    let path = place.hooks.join(kind.as_str());
    let state = match std::fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => HookState::Nothing,
        Err(error) => return Err(ServiceError::at("read the hook", &path)(error)),
        Ok(found) if !found.is_file() || found.len() > 1 << 20 => HookState::Other,
        Ok(_) => {
            let bytes = read_small(&path).map_err(ServiceError::at("read the hook", &path))?;
            match script::is_ours(&bytes) {
                true => HookState::Ours(script::command_in(&bytes).unwrap_or_default()),
                false => HookState::Other,
            }
        }
    };
    let kept = kept_path(&path);
    let kept = std::fs::symlink_metadata(&kept).is_ok().then_some(kept);
    Ok(Found { kind, path, state, kept })
}

/// Puts a hook into a repository, over one of ours.
///
/// Somebody else's is an error, or with `force` kept beside it, to be called first.
pub fn install(place: &Place, hook: &Hook, force: bool) -> Result<Kept, ServiceError> {
    if !place.hooks_are_its_own() && !force {
        let what = format!(
            "git's setting core.hooksPath says `{}`, which other repositories may use too",
            place.hooks.display()
        );
        return Err(ServiceError::refused(what).with_hint("--force installs the hook there all the same"));
    }
    std::fs::create_dir_all(&place.hooks).map_err(ServiceError::at("make the folder", &place.hooks))?;
    let found = look(place, hook.kind)?;
    let path = &found.path;
    let mut ours = false;
    for kind in Kind::ALL {
        ours |= matches!(look(place, kind)?.state, HookState::Ours(_));
    }
    if !ours {
        // A folder from elsewhere may have brought orders, and links to what would be written over.
        Queue::of(&place.common).forget()?;
    }
    if found.state == HookState::Other {
        if !force {
            let what = format!("there is a hook already that is not rbuild's: `{}`", path.display());
            return Err(ServiceError::refused(what).with_hint(format!(
                "--force keeps it as `{}{KEPT}` and has it called first",
                hook.kind.as_str()
            )));
        }
        let kept = kept_path(path);
        if !rename_new(path, &kept).map_err(ServiceError::at("keep the hook", path))? {
            let what = format!("there are two hooks already: `{}` and `{}`", path.display(), kept.display());
            return Err(ServiceError::refused(what).with_hint("remove one of them"));
        }
    }
    write(path, &hook.text()).map_err(ServiceError::at("write the hook", path))?;
    Ok(look(place, hook.kind)?.kept)
}

/// Takes our hook away, and puts the one that was there before back; tells what it did with which file.
pub fn uninstall(place: &Place, kind: Kind) -> Result<Option<Found>, ServiceError> {
    let found = look(place, kind)?;
    if !matches!(found.state, HookState::Ours(_)) {
        return Ok(None);
    }
    let done = match &found.kept {
        Some(kept) => std::fs::rename(kept, &found.path),
        None => std::fs::remove_file(&found.path),
    };
    done.map_err(ServiceError::at("remove the hook", &found.path))?;
    Ok(Some(found))
}

fn kept_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(KEPT);
    PathBuf::from(name)
}

/// Writes a program, whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{:016x}", random_bits()?));
    let temporary = PathBuf::from(temporary);
    let written = create_new(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.set_permissions(Permissions::from_mode(0o755))?;
        drop(file);
        std::fs::rename(&temporary, path)
    });
    written.inspect_err(|_| drop(std::fs::remove_file(&temporary)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(folder: &Path) -> Place {
        let common = folder.join(".git");
        Place { top: folder.to_owned(), hooks: common.join("hooks"), common, prefix: "".into() }
    }

    fn hook(program: &str) -> Hook {
        Hook { kind: Kind::PostCommit, program: program.into(), arguments: vec!["hook".into()] }
    }

    #[test]
    fn comes_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path());
        let path = place.hooks.join("post-commit");
        assert_eq!(install(&place, &hook("/one"), false).unwrap(), None);
        install(&place, &hook("/two"), false).unwrap();
        assert_eq!(look(&place, Kind::PostCommit).unwrap().state, HookState::Ours("/two hook".to_owned()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
        assert!(uninstall(&place, Kind::PostCommit).unwrap().is_some());
        assert!(uninstall(&place, Kind::PostCommit).unwrap().is_none());
        assert_eq!(std::fs::read_dir(&place.hooks).unwrap().count(), 0);
    }

    #[test]
    fn what_was_there_is_kept_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path());
        std::fs::create_dir_all(&place.hooks).unwrap();
        let path = place.hooks.join("post-commit");
        std::os::unix::fs::symlink("../their hook", &path).unwrap();
        let error = install(&place, &hook("/one"), false).unwrap_err();
        assert!(error.hint().unwrap().contains("--force"), "{error}");
        let kept = install(&place, &hook("/one"), true).unwrap().unwrap();
        assert_eq!(std::fs::read_link(&kept).unwrap(), Path::new("../their hook"));
        // Again: ours is replaced, theirs stays what it was.
        assert_eq!(install(&place, &hook("/two"), false).unwrap(), Some(kept.clone()));
        uninstall(&place, Kind::PostCommit).unwrap().unwrap();
        assert_eq!(std::fs::read_link(&path).unwrap(), Path::new("../their hook"));
        assert!(uninstall(&place, Kind::PostCommit).unwrap().is_none() && !kept.exists());
    }

    #[test]
    fn hooks_of_all_repositories_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut place = place(folder.path());
        place.hooks = folder.path().parent().unwrap().join("somewhere/hooks");
        let error = install(&place, &hook("/one"), false).unwrap_err();
        assert!(error.to_string().contains("core.hooksPath") && !place.hooks.exists(), "{error}");
    }
}
