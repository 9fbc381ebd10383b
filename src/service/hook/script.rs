//! The text of a hook: a few lines of shell that end well whatever happens. Pure.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The hooks that mean a new commit: githooks(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    PostCommit,
    PostMerge,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 2] = [Kind::PostCommit, Kind::PostMerge];

    /// Returns the file's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::PostCommit => "post-commit",
            Kind::PostMerge => "post-merge",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a hook of somebody else's is called once ours stands in its place, behind its own name.
pub const KEPT: &str = ".before-rbuild";

const MARK: &str = "# Written by `rbuild hook install`; `rbuild hook uninstall` takes it away.";

/// A hook.
#[derive(Debug, Clone)]
pub struct Hook {
    pub kind: Kind,
    /// The program, by its absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

impl Hook {
    /// Returns the whole file.
    pub fn text(&self) -> Vec<u8> {
        let kind = self.kind;
        let program = quote(self.program.as_os_str());
        let mut command = program.clone();
        for argument in &self.arguments {
            command.push(b' ');
            command.extend(quote(argument));
        }
        let before = format!("\"${{0%/*}}/{kind}{KEPT}\"");
        [
            b"#!/bin/sh\n".as_slice(),
            MARK.as_bytes(),
            b"\n# It builds an image of each commit, in the background, and never stops one.\n",
            format!("if [ -x {before} ]; then\n    {before} \"$@\"\nfi\n").as_bytes(),
            b"if [ -x ",
            &program,
            b" ]; then\n    ",
            &command,
            b" </dev/null || :\nelse\n    echo 'rbuild: no image is built, since this is not there:' ",
            &program,
            b" >&2\nfi\nexit 0\n",
        ]
        .concat()
    }
}

/// Tells whether a file is one that [`Hook::text`] made.
pub fn is_ours(bytes: &[u8]) -> bool {
    bytes.split(|byte| *byte == b'\n').nth(1) == Some(MARK.as_bytes())
}

/// Returns the command of one of our files, as it stands there.
pub fn command_in(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let line = text.split("\n    ").skip(1).find(|part| part.contains(" </dev/null || :\n"))?;
    Some(line.split(" </dev/null || :\n").next().unwrap_or(line).to_owned())
}

/// Makes a text one word of a shell (sh(1), Single-Quotes).
fn quote(text: &OsStr) -> Vec<u8> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(byte);
    if !text.is_empty() && text.as_bytes().iter().all(plain) {
        return text.as_bytes().to_vec();
    }
    let mut quoted = vec![b'\''];
    for byte in text.as_bytes() {
        match byte {
            b'\'' => quoted.extend(b"'\\''"),
            byte => quoted.push(*byte),
        }
    }
    quoted.push(b'\'');
    quoted
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_gets_every_word_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("a 'b' $(touch x) \"c\\");
        let script = "#!/bin/sh\nprintf '%s\\n' \"$@\" > \"${0%/*}/got\"\ncat >> \"${0%/*}/got\"\nexit 7\n";
        std::fs::write(&program, script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        let words = ["-t", "x y", "it's", "$HOME", "`id`", "a\"b\\c", "", "*", "#", "-- "];
        let arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
        let hook = Hook { kind: Kind::PostCommit, program, arguments };
        let text = hook.text();
        assert!(is_ours(&text));
        let path = folder.path().join("hook");
        std::fs::write(&path, &text).unwrap();
        let output = Command::new("sh").arg(&path).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let got = std::fs::read_to_string(folder.path().join("got")).unwrap();
        assert_eq!(got, words.map(|word| format!("{word}\n")).concat());
        assert!(command_in(&text).unwrap().contains("-t 'x y'"), "{:?}", command_in(&text));
    }

    #[test]
    fn a_program_that_is_gone_is_told_and_ends_well() {
        let hook = Hook { kind: Kind::PostMerge, program: "/nowhere/rb".into(), arguments: Vec::new() };
        let output = Command::new("sh").arg("-c").arg(OsStr::from_bytes(&hook.text())).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && said.contains("/nowhere/rb"), "{said}");
    }

    #[test]
    fn other_hooks_are_not_ours() {
        let check = |text: &str| assert!(!is_ours(text.as_bytes()), "{text}");
        check("");
        check("#!/bin/sh\nmake\n");
        check(&format!("#!/bin/sh\nmake # {MARK}\n"));
    }
}
