//! Repositories of this machine: one run of the program git in one of them.
//!
//! The user's own settings count, since it is the user's own repository (git itself refuses those of
//! others: `safe.directory` in git-config(1)). Not here: repositories elsewhere (`context`).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::ServiceError;

/// How git is run.
#[derive(Debug, Clone, Default)]
pub struct LocalGit {
    /// The repository; without one git looks for it, from the folder it is run in.
    pub git_dir: Option<PathBuf>,
    /// Variables that it is not to see: those that git sets for its hooks.
    pub hidden: Vec<OsString>,
    /// Variables of its own.
    pub variables: Vec<(&'static str, OsString)>,
}

impl LocalGit {
    /// Runs git in a folder and returns what it prints, without the line's end.
    ///
    /// `doing` is for the error, which holds git's own words.
    pub fn run<S: AsRef<OsStr>>(
        &self,
        folder: &Path,
        doing: &'static str,
        arguments: &[S],
    ) -> Result<Vec<u8>, ServiceError> {
        let mut command = Command::new("git");
        for name in &self.hidden {
            command.env_remove(name);
        }
        command.env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0").env("GIT_OPTIONAL_LOCKS", "0");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        if let Some(git_dir) = &self.git_dir {
            let mut option = OsString::from("--git-dir=");
            option.push(git_dir);
            command.arg(option);
        }
        command.args(arguments).current_dir(folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = command.output().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound if !folder.is_dir() => {
                ServiceError::Files { doing: "open", path: folder.to_owned(), source: error }
            }
            _ => ServiceError::NoGit(error),
        })?;
        if !output.status.success() {
            return Err(ServiceError::Git { doing, said: said(&output.stderr) });
        }
        let mut bytes = output.stdout;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        Ok(bytes)
    }

    /// Runs git where one path is the answer.
    pub fn path<S: AsRef<OsStr>>(
        &self,
        folder: &Path,
        doing: &'static str,
        arguments: &[S],
    ) -> Result<PathBuf, ServiceError> {
        Ok(PathBuf::from(OsString::from_vec(self.run(folder, doing, arguments)?)))
    }
}

/// Returns the last lines that git said, as one short text.
fn said(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(4)..].join(" / ");
    match last.is_empty() {
        true => "it failed and said nothing".to_owned(),
        false => last.chars().take(600).collect(),
    }
}
