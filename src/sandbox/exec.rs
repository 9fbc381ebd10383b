//! Finding the program and becoming it, and telling precisely why that failed.
//!
//! Runs in the child, inside the root, as the step's user: what is found and
//! what is permitted is what the step itself would find.

use std::ffi::{CStr, CString, OsString};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use rustix::fs::{Access, FileType};

use super::child::c_strings;
use super::error::{ExecError, ExecFailure};

/// The PATH of an environment that has none, as container engines set it.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Becomes the program; returns only why not.
pub(super) fn exec(args: Vec<OsString>, env: Vec<OsString>) -> ExecError {
    let program = args.first().map(|arg| arg.to_string_lossy().into_owned()).unwrap_or_default();
    let error = |failure| ExecError { program: program.clone(), failure };
    let path = env.iter().find_map(|entry| entry.as_bytes().strip_prefix(b"PATH=").map(<[u8]>::to_vec));
    let (args, env) = match (c_strings(args, &program), c_strings(env, &program)) {
        (Ok(args), Ok(env)) => (args, env),
        (Err(error), _) | (_, Err(error)) => return error,
    };
    let Some(name) = args.first() else { return error(ExecFailure::NotInPath) };
    let found = find(name, path.as_deref().unwrap_or(DEFAULT_PATH));
    let file = match found {
        Ok(file) => file,
        Err(failure) => return error(failure),
    };
    match nix::unistd::execve(&file, &args, &env) {
        Ok(never) => match never {},
        Err(errno) => error(failure(errno, &file)),
    }
}

/// Finds the file of a program: as it is with a `/` in it, else in the directories of a PATH.
fn find(name: &CStr, path: &[u8]) -> Result<CString, ExecFailure> {
    if name.to_bytes().contains(&b'/') {
        check(name)?;
        return Ok(name.to_owned());
    }
    if name.is_empty() {
        return Err(ExecFailure::NotInPath);
    }
    let mut refused = None;
    for directory in path.split(|&byte| byte == b':') {
        // An empty entry is the working directory, as execvp(3) has it.
        let mut file = if directory.is_empty() { b".".to_vec() } else { directory.to_vec() };
        file.push(b'/');
        file.extend_from_slice(name.to_bytes());
        let Ok(file) = CString::new(file) else { continue };
        match check(&file) {
            Ok(()) => return Ok(file),
            Err(ExecFailure::PermissionDenied) => refused = Some(ExecFailure::PermissionDenied),
            Err(_) => {}
        }
    }
    Err(refused.unwrap_or(ExecFailure::NotInPath))
}

fn check(file: &CStr) -> Result<(), ExecFailure> {
    let name = || file.to_string_lossy().into_owned();
    let stat = rustix::fs::stat(file).map_err(|errno| match errno {
        rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => ExecFailure::NotFound(name()),
        rustix::io::Errno::ACCESS => ExecFailure::PermissionDenied,
        errno => ExecFailure::Other(errno.into()),
    })?;
    if FileType::from_raw_mode(stat.st_mode).is_dir() {
        return Err(ExecFailure::IsDirectory);
    }
    rustix::fs::access(file, Access::EXEC_OK).map_err(|_| ExecFailure::PermissionDenied)
}

fn failure(errno: Errno, file: &CStr) -> ExecFailure {
    match errno {
        Errno::EACCES | Errno::EPERM => ExecFailure::PermissionDenied,
        Errno::ENOEXEC | Errno::EINVAL => ExecFailure::NotExecutable,
        Errno::E2BIG => ExecFailure::TooLong,
        // The file was there a moment ago: what is missing is what it asks to be run by.
        Errno::ENOENT => ExecFailure::MissingInterpreter(interpreter(file)),
        errno => ExecFailure::Other(errno.into()),
    }
}

/// Finds the name of the interpreter a file asks for, for the message; the file's own when it is unclear.
fn interpreter(file: &CStr) -> String {
    let name = file.to_string_lossy().into_owned();
    let Ok(flags) = rustix::fs::open(file, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()) else {
        return name;
    };
    let mut start = vec![0; 4096];
    let Ok(length) = rustix::io::read(&flags, &mut start) else { return name };
    interpreter_in(&start[..length]).unwrap_or(name)
}

/// Reads `#!` lines, and the interpreter of an ELF file when its path is near the start.
fn interpreter_in(start: &[u8]) -> Option<String> {
    if let Some(line) = start.strip_prefix(b"#!") {
        let line = line.split(|&byte| byte == b'\n').next()?;
        // A CR is no blank to the kernel: it looks for a program of that name.
        let word = line.split(|&byte| byte == b' ' || byte == b'\t').find(|word| !word.is_empty())?;
        return Some(String::from_utf8_lossy(word).replace('\r', "\\r"));
    }
    start.strip_prefix(b"\x7fELF")?;
    // The path stands as text, ended by NUL, right behind the program headers.
    let word = start.split(|&byte| byte == 0).find(|word| word.len() > 4 && word.starts_with(b"/"))?;
    word.is_ascii().then(|| String::from_utf8_lossy(word).into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        let directory = tempfile::tempdir().unwrap();
        for (name, mode) in [("one/tool", 0o644), ("two/tool", 0o755), ("one/plain", 0o644)] {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let root = directory.path().to_str().unwrap();
        let path = format!("{root}/one:{root}/two:/no/such");
        let check = |name: &str, expect: Result<String, ExecFailure>| {
            let found = find(&CString::new(name).unwrap(), path.as_bytes());
            assert_eq!(found.map(|file| file.into_string().unwrap()), expect, "{name}");
        };
        check("tool", Ok(format!("{root}/two/tool")));
        check("plain", Err(ExecFailure::PermissionDenied));
        check("missing", Err(ExecFailure::NotInPath));
        check("", Err(ExecFailure::NotInPath));
        check(&format!("{root}/two/tool"), Ok(format!("{root}/two/tool")));
        check(&format!("{root}/one"), Err(ExecFailure::IsDirectory));
        check("/no/such", Err(ExecFailure::NotFound("/no/such".into())));
    }

    #[test]
    fn interpreters_are_named() {
        let check = |start: &[u8], expect: Option<&str>| {
            assert_eq!(interpreter_in(start).as_deref(), expect);
        };
        check(b"#!/bin/bash -e\nx", Some("/bin/bash"));
        check(b"#! /usr/bin/env python\n", Some("/usr/bin/env"));
        check(b"#!/bin/sh\r\necho\r\n", Some("/bin/sh\\r"));
        check(b"#!", None);
        check(b"\x7fELF\x02\0\0\0/lib64/ld-linux-x86-64.so.2\0", Some("/lib64/ld-linux-x86-64.so.2"));
        check(b"text", None);
        check(b"", None);
    }
}
