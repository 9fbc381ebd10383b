//! Which repository a folder belongs to, and where its hooks are.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::service::ServiceError;
use crate::service::git::LocalGit;

/// A repository with files, as a hook is installed into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The folder of the files.
    pub top: PathBuf,
    /// What all work trees of the repository share.
    pub common: PathBuf,
    /// Where git looks for hooks.
    pub hooks: PathBuf,
    /// The folder that was asked about, from `top`.
    pub prefix: PathBuf,
}

/// What a hook finds when git calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    pub git_dir: PathBuf,
    pub common: PathBuf,
    pub top: PathBuf,
    /// The newest commit, and how people shorten it.
    pub commit: String,
    pub short: String,
}

impl Place {
    /// Finds the repository of a folder.
    pub fn find(folder: &Path, hidden: &[OsString]) -> Result<Place, ServiceError> {
        let git = LocalGit { hidden: hidden.to_vec(), ..LocalGit::default() };
        let nothing = "finds no repository here";
        if git.run(folder, nothing, &["rev-parse", "--is-bare-repository"])? == b"true" {
            let what = format!("`{}` is a bare repository: it has no files to build", folder.display());
            return Err(ServiceError::refused(what)
                .with_hint("install the hook where commits are made; `rbuild serve` builds what is pushed"));
        }
        let ask = |what: &[&str]| {
            git.path(folder, nothing, &[&["rev-parse", "--path-format=absolute"], what].concat())
        };
        Ok(Place {
            top: ask(&["--show-toplevel"])?,
            common: ask(&["--git-common-dir"])?,
            hooks: ask(&["--git-path", "hooks"])?,
            prefix: git.path(folder, nothing, &["rev-parse", "--show-prefix"])?,
        })
    }

    /// Tells whether the hooks are this repository's own: `core.hooksPath` may name a folder for many.
    pub fn hooks_are_its_own(&self) -> bool {
        self.hooks.starts_with(&self.common) || self.hooks.starts_with(&self.top)
    }

    /// Returns a name for its images: that of its folder, made one that a reference may have.
    pub fn image_name(&self) -> String {
        let folder = match self.common.file_name() == Some(OsStr::new(".git")) {
            true => self.common.parent(),
            false => Some(self.top.as_path()),
        };
        name_of_folder(folder.and_then(Path::file_name).unwrap_or_default())
    }
}

/// Makes a folder's name one that a reference may have: lower case, words joined by single signs.
pub fn name_of_folder(name: &OsStr) -> String {
    let mut word = String::new();
    for c in name.to_string_lossy().to_lowercase().chars() {
        match c {
            'a'..='z' | '0'..='9' => word.push(c),
            '.' | '_' if !word.is_empty() && !word.ends_with(['.', '_', '-']) => word.push(c),
            _ if word.is_empty() || word.ends_with(['.', '_', '-']) => {}
            _ => word.push('-'),
        }
    }
    word.truncate(100);
    let word = word.trim_end_matches(['.', '_', '-']);
    // Digits alone, 64 of them, would be an id.
    if word.is_empty() { "image".to_owned() } else { word.to_owned() }
}

impl Moment {
    /// Asks git, with the variables that it set for its hook.
    pub fn find() -> Result<Moment, ServiceError> {
        let git = LocalGit::default();
        let words = ["rev-parse", "--path-format=absolute", "--git-dir", "--git-common-dir"];
        let words = [&words[..], &["--show-toplevel", "HEAD", "--short", "HEAD"]].concat();
        let said = git.run(Path::new("."), "does not tell what was committed", &words)?;
        let lines: Vec<&[u8]> = said.split(|byte| *byte == b'\n').collect();
        let path = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_vec()));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match lines[..] {
            [git_dir, common, top, commit, short] if !top.is_empty() => Ok(Moment {
                git_dir: path(git_dir),
                common: path(common),
                top: path(top),
                commit: text(commit),
                short: text(short),
            }),
            _ => Err(ServiceError::refused("a folder of the repository has a line end in its name")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_folder_gives_a_name() {
        let check = |folder: &str, expect: &str| {
            let name = name_of_folder(OsStr::new(folder));
            assert_eq!(name, expect);
            assert!(format!("{name}:0123abc").parse::<crate::image::Reference>().is_ok(), "{name}");
        };
        check("flask", "flask");
        check("My App", "my-app");
        check("a__b--c..d", "a_b-c.d");
        check("-x-", "x");
        check("日本", "image");
        check("", "image");
        check("'; rm -rf $HOME #", "rm-rf-home");
        check(&"x".repeat(300), &"x".repeat(100));
    }
}
