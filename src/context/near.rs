//! "Did you mean": the file of a tree that a path which is not there may stand for.
//!
//! Not here: telling what `.dockerignore` leaves out (`filter`).

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use super::error::show;
use crate::remote;
use crate::sys::RootDir;

/// So many entries are looked at: an error must not take long.
const MOST_ENTRIES: usize = 4096;

/// Where a file of the same name is looked for.
const DEEPEST: usize = 6;

/// Returns what `written` may stand for, as a hint; `visible` tells what can be copied at all.
pub fn hint(root: &RootDir, written: &Path, visible: &dyn Fn(&Path) -> bool) -> Option<String> {
    let parts: Vec<&OsStr> = written
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect();
    let found = misspelt(root, &parts, visible).or_else(|| elsewhere(root, parts.last()?, visible))?;
    if found.iter().eq(parts.iter().copied()) {
        return None;
    }
    Some(format!("did you mean `{}`?", show(&found)))
}

/// Replaces each name that is not there by the one nearest to it.
fn misspelt(root: &RootDir, parts: &[&OsStr], visible: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    let (mut path, mut is_other) = (PathBuf::new(), false);
    for part in parts {
        let exact = path.join(part);
        if root.stat(&exact, false).is_ok() && visible(&exact) {
            path = exact;
            continue;
        }
        let entries = root.entries(&path).ok()?;
        let names = entries.iter().take(MOST_ENTRIES).filter_map(|(name, _)| name.to_str());
        let names = names.filter(|name| visible(&path.join(name)));
        let near = remote::nearest(part.to_str()?, names)?.to_owned();
        path.push(near);
        is_other = true;
    }
    is_other.then_some(path)
}

/// Finds the only file of that name in the tree.
fn elsewhere(root: &RootDir, name: &OsStr, visible: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    let mut waiting = VecDeque::from([PathBuf::new()]);
    let (mut found, mut looked_at) = (None, 0);
    while let Some(directory) = waiting.pop_front() {
        let Ok(entries) = root.entries(&directory) else { continue };
        for (entry, kind) in entries {
            looked_at += 1;
            // What was not looked at may have one, too.
            if looked_at > MOST_ENTRIES {
                return None;
            }
            let path = directory.join(&entry);
            if !visible(&path) {
                continue;
            }
            if entry == name && found.replace(path.clone()).is_some() {
                return None;
            }
            if kind.is_dir() && path.components().count() < DEEPEST {
                waiting.push_back(path);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_meant_is_found() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["src/app.py", "src/one/x.c", "src/two/x.c", "requirements.txt", "hidden.log"] {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let root = RootDir::open(directory.path()).unwrap();
        let visible = |path: &Path| path != Path::new("hidden.log");
        let check = |written: &str, expect: Option<&str>| {
            let expect = expect.map(|path| format!("did you mean `{path}`?"));
            assert_eq!(hint(&root, Path::new(written), &visible), expect, "{written}");
        };
        check("src/ap.py", Some("src/app.py"));
        check("/Src/app.py", Some("src/app.py"));
        check("srcs/apq.py", Some("src/app.py"));
        check("app.py", Some("src/app.py"));
        check("requirement.txt", Some("requirements.txt"));
        // It is there, and cannot be copied for another reason.
        check("requirements.txt", None);
        check("x.c", None);
        check("hiden.log", None);
        check("nothing-like-it", None);
        check("/", None);
    }
}
