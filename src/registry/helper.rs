//! Programs that keep credentials: `docker-credential-NAME get|store|erase`.
//!
//! The protocol is that of docker-credential-helpers: a server's name or JSON on standard input, JSON
//! on standard output. Not here: which program is for which registry (`config_file`).

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::answer::show;
use super::error::RegistryError;
use super::secret::{Secret, TOKEN_USER};

/// The most that a program's answer may be.
const MOST: u64 = 1024 * 1024;

/// A program that keeps credentials.
#[derive(Debug)]
pub struct Helper {
    /// `docker-credential-NAME`.
    name: String,
    program: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    #[serde(rename = "ServerURL", default)]
    server: String,
    username: String,
    secret: String,
}

impl Helper {
    /// Finds the program in the folders of `path` (the form of PATH).
    ///
    /// An error where it is not there: going on without it could show the credentials of one
    /// registry to another, or none where there are some (CVE-2021-41092).
    pub fn find(suffix: &str, path: &OsStr, key: &str) -> Result<Helper, RegistryError> {
        let name = format!("docker-credential-{suffix}");
        let fail = |why: &str| failed(&name, key, why);
        if suffix.contains('/') || suffix.contains('\0') {
            return Err(fail("that is not the name of a program"));
        }
        let found = std::env::split_paths(path)
            // A program in the current folder is nobody's choice.
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(&name))
            .find(|file| file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0));
        let program = found.ok_or_else(|| {
            fail("it is not in PATH; install it, or remove it from `credHelpers` and `credsStore`")
        })?;
        Ok(Helper { name, program })
    }

    /// Asks for credentials; `None` where it has none.
    pub fn get(&self, key: &str) -> Result<Option<Secret>, RegistryError> {
        let (good, out) = self.run("get", key, key.as_bytes())?;
        let text = String::from_utf8_lossy(&out);
        if !good {
            // The protocol's words for it.
            return match text.contains("credentials not found") {
                true => Ok(None),
                false => Err(failed(&self.name, key, &format!("it says: {}", show(&text)))),
            };
        }
        // What it answered may hold a secret, so that no word of it is repeated.
        let kept: Kept = serde_json::from_slice(&out)
            .map_err(|_| failed(&self.name, key, "its answer is not of the form it should have"))?;
        if kept.username.is_empty() && kept.secret.is_empty() {
            return Ok(None);
        }
        Ok(Some(Secret::of(kept.username, kept.secret)))
    }

    /// Hands credentials over.
    pub fn store(&self, key: &str, secret: &Secret) -> Result<(), RegistryError> {
        let (username, secret) = match secret {
            Secret::Password { user, password } => (user.clone(), password.clone()),
            Secret::Identity(token) | Secret::Registry(token) => (TOKEN_USER.to_owned(), token.clone()),
        };
        let kept = Kept { server: key.to_owned(), username, secret };
        let input = serde_json::to_vec(&kept).map_err(|_| failed(&self.name, key, "no JSON"))?;
        self.run("store", key, &input).and_then(|run| self.well(key, run))
    }

    /// Makes it forget credentials.
    pub fn erase(&self, key: &str) -> Result<(), RegistryError> {
        self.run("erase", key, key.as_bytes()).and_then(|run| self.well(key, run))
    }

    fn well(&self, key: &str, (good, out): (bool, Vec<u8>)) -> Result<(), RegistryError> {
        match good {
            true => Ok(()),
            false => {
                let said = show(&String::from_utf8_lossy(&out));
                Err(failed(&self.name, key, &format!("it says: {said}")))
            }
        }
    }

    /// Runs it; tells whether it ended well, and what it printed.
    fn run(&self, action: &str, key: &str, input: &[u8]) -> Result<(bool, Vec<u8>), RegistryError> {
        let fail = |e: std::io::Error| failed(&self.name, key, &e.to_string());
        let mut child = Command::new(&self.program)
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(fail)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let mut out = Vec::new();
        let read = std::thread::scope(|scope| {
            scope.spawn(move || {
                // One that does not read its input need not get it.
                let _ = stdin.map(|mut stdin| stdin.write_all(input));
            });
            stdout.map_or(Ok(0), |stdout| stdout.take(MOST).read_to_end(&mut out))
        });
        let status = child.wait().map_err(fail)?;
        read.map_err(fail)?;
        Ok((status.success(), out))
    }
}

fn failed(name: &str, key: &str, why: &str) -> RegistryError {
    RegistryError::Helper { name: name.to_owned(), key: key.to_owned(), why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that answers by its first argument.
    fn helper(script: &str) -> (tempfile::TempDir, Result<Helper, RegistryError>) {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("docker-credential-fake");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let found = Helper::find("fake", folder.path().as_os_str(), "r.example.com");
        (folder, found)
    }

    #[test]
    fn gets_what_it_keeps() {
        let check = |script: &str, expect: Result<Option<Secret>, &str>| {
            let (_folder, helper) = helper(script);
            match (helper.unwrap().get("r.example.com"), expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found, expect, "{script}"),
                (Err(error), Err(expect)) => {
                    let text = error.to_string();
                    assert!(text.contains(expect) && text.contains("docker-credential-fake"), "{text}");
                    assert!(!text.contains("hunter2"), "{text}");
                }
                (found, _) => panic!("{script}: {found:?}"),
            }
        };
        let password = Secret::Password { user: "me".into(), password: "p".into() };
        let print = |user: &str, secret: &str| {
            format!(r#"read key; echo '{{"ServerURL":"'$key'","Username":"{user}","Secret":"{secret}"}}'"#)
        };
        check(&print("me", "p"), Ok(Some(password)));
        check(&print("<token>", "t"), Ok(Some(Secret::Identity("t".into()))));
        check("echo 'credentials not found in native keychain'; exit 1", Ok(None));
        check("echo 'no \x1b[31mway'; exit 1", Err("no way"));
        check("echo hunter2", Err("not of the form"));
        check("exit 0", Err("not of the form"));
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let check = |suffix: &str, path: &str, expect: &str| {
            let error = Helper::find(suffix, path.as_ref(), "r.example.com").unwrap_err().to_string();
            assert!(error.contains(expect) && error.contains("r.example.com"), "{error}");
        };
        check("missing", "/nonexistent:/usr/bin", "not in PATH");
        check("../../bin/sh", "/usr/bin", "not the name of a program");
        check("missing", ".::", "not in PATH");
    }

    #[test]
    fn stores_and_erases() {
        let (folder, helper) = helper(r#"d=$(dirname "$0"); echo "$1 $(cat)" >>"$d/log""#);
        let helper = helper.unwrap();
        let secret = Secret::Password { user: "me".into(), password: "p\"q".into() };
        helper.store("r.example.com", &secret).unwrap();
        helper.erase("r.example.com").unwrap();
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
        let expect = r#"store {"ServerURL":"r.example.com","Username":"me","Secret":"p\"q"}"#;
        assert_eq!(log, format!("{expect}\nerase r.example.com\n"));
        let (_folder, refuses) = self::helper("echo no room; exit 3");
        assert!(refuses.unwrap().store("r", &secret).unwrap_err().to_string().contains("no room"));
    }
}
