//! `rbuild builds open`: the page about a build in the user's browser.
//!
//! The browser is the user's own program: it is started before this process enters a user namespace, and waits
//! for the page.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use clap::Args;

use super::super::error::CommandError;
use super::super::{report, ui};
use crate::store::Store;

/// Show the page about a build in a browser: $BROWSER, or what xdg-open has.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rbuild builds open\n  rbuild builds open ^1\n\n\
    See also: rbuild report, rbuild builds show")]
pub struct OpenArgs {
    /// Which build; the last one where none is named
    #[arg(value_name = "BUILD")]
    pub build: Option<String>,
}

/// A browser that waits for a page. Dropped without one it ends.
#[derive(Debug)]
pub struct Viewer {
    child: Child,
}

/// Waits for the path of a page and becomes the program of its arguments; on a terminal it may be one that
/// reads keys.
const WAIT: &str = "IFS= read -r page && [ -n \"$page\" ] || exit 0\n\
    if [ -t 1 ]; then exec \"$@\" \"$page\" < /dev/tty; else exec \"$@\" \"$page\" < /dev/null; fi";

impl Viewer {
    /// Starts the browser of the environment.
    pub fn start() -> Result<Viewer, CommandError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let wanted = std::env::var_os("BROWSER").filter(|program| !program.is_empty());
        let Some(program) = choose(wanted, &path) else {
            return Err(CommandError::new("there is no program here that shows pages")
                .hint("name one in BROWSER, or write the page with `rbuild report -o report.html`"));
        };
        let child = Command::new("/bin/sh")
            .args(["-c", WAIT, "sh"])
            .arg(&program)
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|e| CommandError::new(format!("cannot start `{}`: {e}", program.display())))?;
        Ok(Viewer { child })
    }

    /// Gives it the page, and waits until it has ended or handed it on.
    fn show(mut self, page: &Path) -> Result<(), CommandError> {
        let mut pipe = self.child.stdin.take().expect("piped");
        let mut line = page.as_os_str().as_bytes().to_vec();
        line.push(b'\n');
        pipe.write_all(&line)?;
        drop(pipe);
        let ended = self.child.wait()?;
        match ended.success() {
            true => Ok(()),
            false => Err(CommandError::new(format!("the browser failed ({ended})"))
                .hint(format!("the page is `{}`", page.display()))),
        }
    }
}

/// Runs the command.
pub fn open(store: &Store, args: &OpenArgs, viewer: Viewer) -> Result<(), CommandError> {
    let build = super::find(store, args.build.as_deref())?;
    let page = report::page(&build)?;
    let path = store.build_page(&build);
    report::write(&path, &page, 0o600)?;
    ui::line(&path.display().to_string());
    viewer.show(&path)
}

/// Chooses the program: the first of the user's own that is there (a list with colons, as xdg-open(1) has
/// it), or xdg-open.
fn choose(wanted: Option<OsString>, path: &std::ffi::OsStr) -> Option<PathBuf> {
    let wanted = wanted.unwrap_or_default();
    let own = wanted.as_bytes().split(|b| *b == b':').filter(|name| !name.is_empty());
    let names =
        own.map(|name| PathBuf::from(std::ffi::OsStr::from_bytes(name))).chain([PathBuf::from("xdg-open")]);
    let is_program =
        |file: &PathBuf| file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok();
    names.into_iter().find_map(|name| match name.is_absolute() {
        true => Some(name).filter(is_program),
        false => std::env::split_paths(path)
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(&name))
            .find(is_program),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_own_program_comes_first() {
        let check = |wanted: Option<&str>, path: &str, expect: Option<&str>| {
            assert_eq!(
                choose(wanted.map(OsString::from), path.as_ref()),
                expect.map(PathBuf::from),
                "{wanted:?}"
            );
        };
        check(Some("/bin/sh"), "/usr/bin", Some("/bin/sh"));
        check(Some("no-such-browser:sh"), "/nowhere:/bin", Some("/bin/sh"));
        check(Some("/etc/passwd"), "/nowhere", None);
        check(None, "/nowhere", None);
        check(Some("sh"), "relative", None);
    }
}
